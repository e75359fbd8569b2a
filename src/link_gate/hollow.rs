//! Hollow rlibs: archives that hold the metadata of a crate and none of its code.
//!
//! rustc looks for the member `lib.rmeta` of an rlib (`get_rlib_metadata` in
//! `compiler/rustc_codegen_ssa/src/back/metadata.rs`). In a real rlib that is an object file with the
//! metadata in a section. rustc takes any other file as the metadata itself (`search_for_section`), so the
//! `.rmeta` file will do.
//!
//! A second, empty member tells a hollow rlib from a real one. A linker that is handed one nevertheless
//! finds nothing in it that it could link.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::archive;

const METADATA: &str = "lib.rmeta";
const MARK: &str = "hollow";

/// A hollow rlib in the place of a real one. It is removed when dropped, if it is still hollow: to be
/// dropped when nothing writes the real one any more, for example when rustc has failed.
#[derive(Debug)]
pub struct Hollow(Option<PathBuf>);

impl Hollow {
    /// Puts a hollow rlib with the metadata of the file `rmeta` at `rlib`, all of it at once. A file that is
    /// there is taken for the real one and stays, so the caller removes an older one *before* it starts rustc,
    /// as cargo does. `scratch` is a directory on the same file system; nothing stays in it.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written; if the file system can neither rename without replacing nor
    /// has hard links; if the metadata has 10 GB or more, or changes while it is read.
    pub fn write(rmeta: &Path, rlib: &Path, scratch: &Path) -> io::Result<Hollow> {
        let mut metadata = File::open(rmeta)?;
        let size = metadata.metadata()?.len();
        // Other users may read it, unlike a `NamedTempFile`.
        let mut file = tempfile::Builder::new().make_in(scratch, |path| File::create_new(path))?;
        let archive = file.as_file_mut();
        archive.write_all(archive::MAGIC)?;
        archive::write_member(archive, METADATA, &mut metadata, size)?;
        archive::write_member(archive, MARK, &mut io::empty(), 0)?;
        match file.persist_noclobber(rlib) {
            Ok(_) => Ok(Hollow(Some(rlib.to_owned()))),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(Hollow(None)),
            Err(e) => Err(e.error),
        }
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        if let Some(rlib) = self.0.take()
            && is_hollow(&rlib)
        {
            let _ = fs::remove_file(rlib);
        }
    }
}

/// Returns whether the file at `path` is what [`Hollow::write`] makes.
fn is_hollow(path: &Path) -> bool {
    let members = File::open(path).and_then(|mut file| archive::members(&mut file));
    members.is_ok_and(|members| match &*members {
        [(metadata, _), (mark, content)] => {
            metadata == METADATA && mark == MARK && content.is_empty()
        }
        _ => false,
    })
}

/// Returns whether an archive has the member that marks hollow rlibs, for example because rustc has copied
/// it from one. It is an error if it is no archive.
pub(super) fn has_mark(path: &Path) -> io::Result<bool> {
    let members = archive::members(&mut File::open(path)?)?;
    Ok(members.iter().any(|(name, _)| name == MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_only_the_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let [rmeta, rlib, scratch] =
            ["a.rmeta", "liba.rlib", "scratch"].map(|it| dir.path().join(it));
        fs::create_dir(&scratch).unwrap();
        for content in ["", "o", "ev", "metadata"] {
            fs::write(&rmeta, content).unwrap();
            let hollow = Hollow::write(&rmeta, &rlib, &scratch).unwrap();
            assert!(is_hollow(&rlib));
            let archive = fs::read(&rlib).unwrap();
            let (len, pad) = (content.len(), &"\n"[..content.len() % 2]);
            let owner = "0           0     0     644     ";
            let expected = format!(
                "!<arch>\nlib.rmeta/      {owner}{len:<10}`\n{content}{pad}\
                 hollow/         {owner}0         `\n"
            );
            assert_eq!(str::from_utf8(&archive).unwrap(), expected);
            assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
            drop(hollow);
            assert!(!rlib.exists());
            for cut in [1, 59, 60, 61, archive.len() - 1] {
                fs::write(&rlib, &archive[..archive.len() - cut]).unwrap();
                assert!(!is_hollow(&rlib), "{content:?} cut by {cut}");
            }
            fs::write(&rlib, [&archive[..], b"\n"].concat()).unwrap();
            assert!(!is_hollow(&rlib));
            fs::remove_file(&rlib).unwrap();
        }
    }

    #[test]
    fn real_rlib_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [rmeta, rlib] = ["a.rmeta", "liba.rlib"].map(|it| dir.path().join(it));
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        fs::write(&rmeta, "metadata").unwrap();
        fs::write(&rlib, "real").unwrap();
        drop(Hollow::write(&rmeta, &rlib, scratch.path()).unwrap());
        assert_eq!(fs::read(&rlib).unwrap(), b"real");
        fs::remove_file(&rlib).unwrap();

        // Written into the hollow one, by a wrapper that does not care for maps.
        let hollow = Hollow::write(&rmeta, &rlib, scratch.path()).unwrap();
        fs::write(&rlib, "real").unwrap();
        drop(hollow);
        assert_eq!(fs::read(&rlib).unwrap(), b"real");

        // What a killed cargo has left in between.
        fs::remove_file(&rlib).unwrap();
        let left = scratch.path().join("liba.rlib");
        fs::write(&left, "left over").unwrap();
        fs::hard_link(&left, dir.path().join("mapped")).unwrap();
        let _hollow = Hollow::write(&rmeta, &rlib, scratch.path()).unwrap();
        assert!(is_hollow(&rlib));
        assert_eq!(fs::read(dir.path().join("mapped")).unwrap(), b"left over");
    }

    #[test]
    fn mark_is_found_in_any_format() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let member = |name: &str, content: &str| {
            let size = content.len();
            format!("{name:<16}{:<32}{size:<10}`\n{content}", 0)
        };
        for (mark, expected) in [("hollow/", true), ("hollow", true), ("holler/", false)] {
            for first in [
                member("lib.rmeta/", "meta"),
                member("#1/9", "lib.rmetameta\0"),
            ] {
                let archive = ["!<arch>\n", &first, &member(mark, "")].concat();
                fs::write(&file, &archive).unwrap();
                assert_eq!(has_mark(file.path()).unwrap(), expected, "{archive}");
            }
        }
        fs::write(&file, "no archive").unwrap();
        assert!(has_mark(file.path()).is_err());
    }

    #[test]
    fn unreadable_metadata_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = Hollow::write(&missing, &dir.path().join("rlib"), dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);

        let huge = dir.path().join("huge");
        File::create(&huge)
            .unwrap()
            .set_len(10_000_000_000)
            .unwrap();
        let error = Hollow::write(&huge, &dir.path().join("rlib"), dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    /// rustc gets as far as its linker, which is all that a hollow rlib is for.
    #[cfg(unix)]
    #[test]
    fn rustc_resolves_crates_from_it() {
        use std::os::unix::fs::PermissionsExt;
        use std::process::Command;

        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.rs"), "pub fn f<T>(t: T) -> T { t }").unwrap();
        fs::write(path("main.rs"), "fn main() { a::f(7); }").unwrap();
        fs::write(path("cc"), "#!/bin/sh\necho \"$@\" >linked\nexit 1\n").unwrap();
        fs::set_permissions(path("cc"), fs::Permissions::from_mode(0o700)).unwrap();
        let rustc = |args: &[&str]| {
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let mut command = Command::new(rustc);
            command.args(args).current_dir(&dir).output().unwrap()
        };

        // With code: rustc leaves out of the metadata alone what only code generation needs.
        let lib = rustc(&["a.rs", "--crate-type=lib", "--emit=metadata,link"]);
        assert!(lib.status.success(), "{lib:?}");
        fs::remove_file(path("liba.rlib")).unwrap();
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        let _hollow =
            Hollow::write(&path("liba.rmeta"), &path("liba.rlib"), scratch.path()).unwrap();
        fs::remove_file(path("liba.rmeta")).unwrap();
        let bin = rustc(&["main.rs", "--extern=a=liba.rlib", "-Clinker=./cc"]);
        assert!(path("linked").exists(), "{bin:?}");
        let linked = fs::read_to_string(path("linked")).unwrap();
        assert!(linked.contains("liba.rlib"), "{linked}");
    }
}
