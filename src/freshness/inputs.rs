//! What rustc and the linker read beside the outputs of dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use cargo_util::paths;

use super::Digest;
use super::stamp::{self, Time};

/// The inputs of one compiler, as its dep-info, its flags and the build scripts below it name them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: Vec<PathBuf>,
    linkers: Vec<PathBuf>,
    /// Where rustc and the linker look for native libraries.
    native_dirs: BTreeSet<PathBuf>,
    /// Whether rustc may find Rust libraries in one of these directories.
    has_crate_dirs: bool,
    /// Whether the linker is given files whose names are not known here.
    has_unknown_files: bool,
    /// Set for the compiler beside the environment of this process.
    variables: BTreeMap<String, OsString>,
}

impl Inputs {
    /// Creates inputs from the files that dep-info lists.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Inputs {
            files: files.into_iter().collect(),
            ..Inputs::default()
        }
    }

    /// Adds a variable that is set for the compiler beside the environment of this process.
    pub fn add_variable(&mut self, name: &str, value: &OsStr) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Adds the compiler or a wrapper, a path or a name. An empty one is none.
    pub fn add_compiler(&mut self, program: &Path, cwd: &Path) {
        if !program.as_os_str().is_empty() {
            self.files.push(executable(program, cwd));
        }
    }

    /// Adds the linker that is configured, a path or a name.
    pub fn add_linker(&mut self, program: &Path, cwd: &Path) {
        self.linkers.push(executable(program, cwd));
    }

    /// Adds the value of `-L`, `KIND=PATH` or `PATH`, relative to `cwd`. See `SearchPath` in rustc's
    /// `compiler/rustc_session/src/search_paths.rs`.
    pub fn add_search_path(&mut self, value: &str, cwd: &Path) {
        let kinds = ["native", "framework", "dependency", "crate", "all"];
        let (kind, path) = (value.split_once('='))
            .filter(|(kind, _)| kinds.contains(kind))
            .unwrap_or(("all", value));
        // A framework is a directory of its own.
        self.has_unknown_files |= kind == "framework";
        self.has_crate_dirs |= !kinds[..2].contains(&kind);
        self.native_dirs.insert(cwd.join(path));
    }

    /// Adds the value of `-l`. A name stands for files in the search path.
    pub fn add_native_library(&mut self, value: &str) {
        self.has_unknown_files |= value.contains(['/', '\\']);
    }

    /// Adds an argument of the linker, which may name a file or a script.
    pub fn add_linker_argument(&mut self, argument: &str) {
        self.has_unknown_files |= !argument.starts_with("-fuse-ld=");
    }

    /// Adds flags of rustc.
    pub fn add_flags(&mut self, flags: impl IntoIterator<Item = impl AsRef<str>>, cwd: &Path) {
        let flags: Vec<_> = flags.into_iter().collect();
        let mut flags = flags.iter().map(AsRef::as_ref);
        for flag in flags.clone() {
            // `--extern name=PATH`, `-Cprofile-use=PATH`, `@PATH` and whatever else there is.
            let value = flag.rsplit(['=', '@']).next().unwrap_or(flag);
            let path = cwd.join(value);
            if value.contains(['/', '\\']) && path.is_file() {
                self.files.push(path);
            }
        }
        while let Some(flag) = flags.next() {
            let (name, value) = match flag.strip_prefix("--codegen") {
                Some(value) => ("-C", value.strip_prefix('=').unwrap_or(value)),
                None => flag.split_at_checked(2).unwrap_or_default(),
            };
            let value = match (name, value) {
                ("-L" | "-l" | "-C" | "-Z", "") => flags.next().unwrap_or_default(),
                _ => value,
            };
            match (name, value.split_once('=')) {
                ("-L", _) => self.add_search_path(value, cwd),
                ("-l", _) => self.add_native_library(value),
                ("-C", Some(("link-arg", argument))) => self.add_linker_argument(argument),
                ("-C", Some(("link-args", _))) => self.has_unknown_files = true,
                ("-C", Some(("linker", program))) => self.add_linker(program.as_ref(), cwd),
                ("-Z", _) => self.has_unknown_files |= value.contains("link-arg"),
                _ => {}
            }
        }
    }

    /// Returns a digest of the files that rustc reads. With procedural macros also of those of `packages`,
    /// with native libraries also of the linker and the files in the search path, and with either also of
    /// the environment. `None` if not all files are known, or one was changed at `before` or later.
    pub(super) fn digest<'a>(
        &self,
        packages: Option<impl IntoIterator<Item = &'a PathBuf>>,
        reads_native: bool,
        before: Time,
    ) -> Option<Digest> {
        let reads_native = reads_native || self.has_crate_dirs;
        let environment =
            (packages.is_some() || reads_native).then(|| stamp::environment(&self.variables));
        let mut stamps = stamp::of_files(self.files.iter().cloned());
        for root in packages.into_iter().flatten() {
            stamps.extend(stamp::of_package(root)?);
        }
        if reads_native {
            if self.has_unknown_files {
                return None;
            }
            stamps.extend(stamp::of_files(self.linkers.iter().cloned()));
            for dir in &self.native_dirs {
                stamps.extend(stamp::of_entries(dir));
            }
        }
        let files = stamp::digest(&stamps, before)?;
        Some(Digest::of_value(&(files, environment)))
    }
}

/// Returns the path of a program. One that is not found counts as missing.
fn executable(program: &Path, cwd: &Path) -> PathBuf {
    let found = paths::resolve_executable(program);
    cwd.join(found.as_deref().unwrap_or(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_MACROS: Option<[&PathBuf; 0]> = None;

    fn flags(flags: &[&str]) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.add_flags(flags, Path::new("/cwd"));
        inputs
    }

    fn dirs(inputs: &Inputs) -> Vec<&str> {
        let dirs = inputs.native_dirs.iter();
        dirs.map(|dir| dir.to_str().unwrap()).collect()
    }

    #[test]
    fn search_paths() {
        for (value, dir, has_crates, is_unknown) in [
            ("native=libs", "/cwd/libs", false, false),
            ("native=/libs", "/libs", false, false),
            ("libs", "/cwd/libs", true, false),
            ("all=libs", "/cwd/libs", true, false),
            ("a=b", "/cwd/a=b", true, false),
            ("dependency=libs/", "/cwd/libs/", true, false),
            ("framework=/F", "/F", false, true),
        ] {
            for spelled in [&["-L", value][..], &[&format!("-L{value}")]] {
                let inputs = flags(spelled);
                assert_eq!(dirs(&inputs), [dir], "{spelled:?}");
                assert_eq!(inputs.has_crate_dirs, has_crates, "{spelled:?}");
                assert_eq!(inputs.has_unknown_files, is_unknown, "{spelled:?}");
            }
        }
    }

    #[test]
    fn flags_with_files_for_the_linker() {
        for (flags, is_unknown) in [
            (&["-C", "link-arg=-Tmemory.x"][..], true),
            (&["-Clink-arg=foo.o"], true),
            (&["--codegen=link-args=a b"], true),
            (&["--codegen", "link-arg=a"], true),
            (&["-l", "static:+verbatim=/lib/a.a"], true),
            (&["-Zpre-link-args=x"], true),
            (&["-Z", "pre-link-arg=x"], true),
            (&["-C", "link-arg=-fuse-ld=lld"], false),
            (&["-C", "linker=clang"], false),
            (
                &["-lz", "-C", "target-cpu=native", "--cfg", "x", "-"],
                false,
            ),
            (&["-C"], false),
        ] {
            assert_eq!(
                self::flags(flags).has_unknown_files,
                is_unknown,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn files_that_flags_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        let file = dir.path().join("dir/file");
        std::fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        for (flags, is_file) in [
            (&["--extern", &format!("name={file}")][..], true),
            (&[&format!("-Cprofile-use={file}")], true),
            (&[&format!("@{file}")], true),
            (&["--cfg", "x=\"dir/file\""], false),
            (&["--remap-path-prefix=/=dir/"], false),
            (&["-Cprofile-use=dir/file"], true),
        ] {
            let mut inputs = Inputs::default();
            inputs.add_flags(flags, dir.path());
            assert_eq!(inputs.files.len(), usize::from(is_file), "{flags:?}");
        }
    }

    #[test]
    fn young_files_prove_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libfoo.a");
        std::fs::write(&path, "").unwrap();
        let written = super::super::stamp::Stamp::of(&path).unwrap().last();
        let mut inputs = Inputs::new([path]);
        inputs.add_search_path("native=.", dir.path());
        for (before, is_known) in [(written - 1, false), (written, false), (written + 1, true)] {
            assert_eq!(inputs.digest(NO_MACROS, true, before).is_some(), is_known);
            assert_eq!(inputs.digest(NO_MACROS, false, before).is_some(), is_known);
        }
        inputs.add_linker_argument("-Tmemory.x");
        assert_eq!(inputs.digest(NO_MACROS, true, Time::MAX), None);
    }

    #[test]
    fn file_as_search_path_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libfoo.rlib");
        let digest = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let mut inputs = Inputs::new([file.clone()]);
            inputs.add_search_path("libfoo.rlib", dir.path());
            inputs.digest(NO_MACROS, true, Time::MAX)
        };
        assert_ne!(digest("one"), digest("other"));
    }

    #[test]
    fn programs_count() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        let digests = |text: &str| {
            std::fs::write(&program, text).unwrap();
            let mut compiler = Inputs::default();
            compiler.add_compiler(&program, dir.path());
            compiler.add_compiler("".as_ref(), dir.path());
            let mut linker = Inputs::default();
            linker.add_flags(["-Clinker=./program"], dir.path());
            (
                compiler.digest(NO_MACROS, false, Time::MAX),
                linker.digest(NO_MACROS, true, Time::MAX),
            )
        };
        let before = digests("one");
        let after = digests("other");
        assert_ne!(after.0, before.0);
        assert_ne!(after.1, before.1);
    }

    #[test]
    fn macros_read_variables() {
        let mut inputs = Inputs::default();
        let digests = |inputs: &Inputs| {
            let with_macros = inputs.digest(Some([]), false, Time::MAX);
            (with_macros, inputs.digest(NO_MACROS, false, Time::MAX))
        };
        let before = digests(&inputs);
        inputs.add_variable("NAME", "value".as_ref());
        let after = digests(&inputs);
        assert_ne!(after.0, before.0);
        assert_eq!(after.1, before.1);
    }
}
