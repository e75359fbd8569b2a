//! Hollow rlibs: archives that hold the metadata of a crate and none of its code.
//!
//! An rlib is an `ar` archive in which rustc looks for the member `lib.rmeta` (`get_rlib_metadata`
//! in rustc's `compiler/rustc_codegen_ssa/src/back/metadata.rs`). In a real rlib that is an object
//! file with the metadata in a section; what is no object file is taken as the metadata itself
//! (`search_for_section`), so the `.rmeta` file, as it is, will do.
//!
//! A second, empty member tells a hollow rlib from a real one, and makes a linker that was handed
//! one nevertheless find nothing in it that it could link.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_LEN: u64 = 60;
/// What the size field of a header, ten decimal digits, can hold.
const MAX_SIZE: u64 = 9_999_999_999;
const METADATA: &str = "lib.rmeta/";
const MARK: &str = "hollow/";

/// A hollow rlib in the place of a real one. Dropping it does what [`discard`](Self::discard) does.
#[derive(Debug)]
pub struct Hollow {
    rlib: Option<PathBuf>,
}

impl Hollow {
    /// Puts a hollow rlib with the metadata of the file `rmeta` at `rlib`. A file that is there
    /// stays: it is taken for the real one, which rustc has been fast to write, so the caller
    /// removes an older one *before* it starts rustc, as cargo does. `scratch` is a directory on
    /// the same file system that nobody else uses; nothing stays in it.
    ///
    /// At `rlib` there is nothing, or all of it, at any time.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written; if the file system has no hard links; if the metadata
    /// has 10 GB or more, or changes while it is read.
    pub fn write(rmeta: &Path, rlib: &Path, scratch: &Path) -> io::Result<Hollow> {
        let name = rlib.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let temporary = scratch.join(name);
        // Never write into it: if an earlier cargo was killed at the right moment, it is linked to
        // a place where a rustc may have mapped it.
        remove(&temporary)?;
        let linked =
            write_archive(rmeta, &temporary).and_then(|()| match fs::hard_link(&temporary, rlib) {
                Ok(()) => Ok(Some(rlib.to_owned())),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(e),
            });
        let hollow = linked.map(|rlib| Hollow { rlib });
        remove(&temporary)?;
        hollow
    }

    /// Removes it if it is still hollow. To be called when nothing writes the real one any more,
    /// for example when rustc has failed.
    pub fn discard(self) {}
}

impl Drop for Hollow {
    fn drop(&mut self) {
        if let Some(rlib) = self.rlib.take()
            && is_hollow(&rlib).unwrap_or_default()
        {
            let _ = fs::remove_file(rlib);
        }
    }
}

/// Whether the file at `path` is what [`Hollow::write`] makes. Reads its head and its tail.
///
/// # Errors
///
/// If it cannot be read; it is not there, for example.
pub fn is_hollow(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let first = MAGIC.len() as u64 + HEADER_LEN;
    if len < first + HEADER_LEN {
        return Ok(false);
    }
    let mut head = [0; MAGIC.len() + HEADER_LEN as usize];
    file.read_exact(&mut head)?;
    let Some(size) = head
        .get(MAGIC.len() + 48..MAGIC.len() + 58)
        .and_then(|digits| str::from_utf8(digits).ok())
        .and_then(|digits| digits.trim_end().parse::<u64>().ok())
    else {
        return Ok(false);
    };
    if !head.starts_with(MAGIC)
        || head[MAGIC.len()..] != *header(METADATA, size)
        || len != first + size + size % 2 + HEADER_LEN
    {
        return Ok(false);
    }
    let mut tail = [0; HEADER_LEN as usize];
    file.seek(SeekFrom::Start(len - HEADER_LEN))?;
    file.read_exact(&mut tail)?;
    Ok(tail == *header(MARK, 0))
}

/// Whether an archive has the member that marks hollow rlibs, for example because rustc has copied it from
/// one. Reads the headers of all members.
///
/// # Errors
///
/// If it cannot be read, or is no archive.
pub(super) fn has_mark(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut at = MAGIC.len() as u64;
    while at < len {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; HEADER_LEN as usize];
        file.read_exact(&mut header)?;
        if header.starts_with(MARK.as_bytes()) {
            return Ok(true);
        }
        let digits = str::from_utf8(&header[48..58]).unwrap_or_default();
        let size: u64 = (digits.trim_end().parse()).map_err(|_| io::ErrorKind::InvalidData)?;
        at += HEADER_LEN + size + size % 2;
    }
    Ok(false)
}

/// An archive of these members.
#[cfg(test)]
pub(super) fn archive_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = MAGIC.to_vec();
    for (name, content) in members {
        archive.extend(header(name, content.len() as u64));
        archive.extend(*content);
        archive.extend(vec![b'\n'; content.len() % 2]);
    }
    archive
}

fn write_archive(rmeta: &Path, path: &Path) -> io::Result<()> {
    let mut metadata = File::open(rmeta)?;
    let size = metadata.metadata()?.len();
    if size > MAX_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the metadata does not fit into an archive",
        ));
    }
    let mut archive = OpenOptions::new().write(true).create_new(true).open(path)?;
    archive.write_all(MAGIC)?;
    archive.write_all(&header(METADATA, size))?;
    // From file to file, without a buffer in between, the kernel can do it.
    if io::copy(&mut metadata, &mut archive)? != size {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the metadata changed while it was read",
        ));
    }
    if size % 2 == 1 {
        archive.write_all(b"\n")?;
    }
    archive.write_all(&header(MARK, 0))
}

/// The header of a member: name, date, owner, group, mode and size, as GNU's `ar` writes them with
/// `D` (deterministic).
fn header(name: &str, size: u64) -> Box<[u8]> {
    let fields = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    fields.into_bytes().into_boxed_slice()
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, contents and header fields of an archive, read by nothing of the above.
    fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut rest = archive.strip_prefix(b"!<arch>\n").unwrap();
        let mut members = Vec::new();
        while !rest.is_empty() {
            let (header, after) = rest.split_at(60);
            let header = str::from_utf8(header).unwrap();
            let mut fields = header.split_whitespace();
            let name = fields.next().unwrap().to_owned();
            assert_eq!(
                [(); 4].map(|()| fields.next().unwrap()),
                ["0", "0", "0", "644"]
            );
            let size: usize = fields.next().unwrap().parse().unwrap();
            assert!(header.ends_with("`\n"));
            let (content, after) = after.split_at(size);
            members.push((name, content.to_vec()));
            rest = match size % 2 {
                1 => after.strip_prefix(b"\n").unwrap(),
                _ => after,
            };
        }
        members
    }

    #[test]
    fn holds_the_metadata_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let [rmeta, rlib, scratch] =
            ["a.rmeta", "liba.rlib", "scratch"].map(|it| dir.path().join(it));
        fs::create_dir(&scratch).unwrap();
        for content in ["", "o", "ev", "metadata"] {
            fs::write(&rmeta, content).unwrap();
            let hollow = Hollow::write(&rmeta, &rlib, &scratch).unwrap();
            assert!(is_hollow(&rlib).unwrap());
            let archive = fs::read(&rlib).unwrap();
            assert_eq!(
                members(&archive),
                [
                    ("lib.rmeta/".to_owned(), content.as_bytes().to_vec()),
                    ("hollow/".to_owned(), vec![])
                ]
            );
            assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
            hollow.discard();
            assert!(!rlib.exists());
            for cut in [1, 59, 60, 61, archive.len() - 1] {
                fs::write(&rlib, &archive[..archive.len() - cut]).unwrap();
                assert!(!is_hollow(&rlib).unwrap(), "{content:?} cut by {cut}");
            }
            fs::write(&rlib, [&archive[..], b"\n"].concat()).unwrap();
            assert!(!is_hollow(&rlib).unwrap());
            fs::remove_file(&rlib).unwrap();
        }
    }

    #[test]
    fn a_real_one_stays() {
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
        hollow.discard();
        assert_eq!(fs::read(&rlib).unwrap(), b"real");

        // What a killed cargo has left in between.
        fs::remove_file(&rlib).unwrap();
        let left = scratch.path().join("liba.rlib");
        fs::write(&left, "left over").unwrap();
        fs::hard_link(&left, dir.path().join("mapped")).unwrap();
        let _hollow = Hollow::write(&rmeta, &rlib, scratch.path()).unwrap();
        assert!(is_hollow(&rlib).unwrap());
        assert_eq!(fs::read(dir.path().join("mapped")).unwrap(), b"left over");
    }

    #[test]
    fn nothing_to_hollow_out() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = Hollow::write(&missing, &dir.path().join("rlib"), dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert_eq!(
            is_hollow(&missing).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );

        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_SIZE + 1).unwrap();
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
