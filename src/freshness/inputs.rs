//! What rustc and the linker read beside the outputs of dependencies.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cargo_util::paths;

use super::Digest;
use super::stamp::{self, Stamps, Time};
use super::untracked::{Environment, UntrackedFiles};

/// The inputs of one compiler, as its dep-info, its flags and the build scripts below it name them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: Vec<PathBuf>,
    compilers: Vec<PathBuf>,
    /// Named by flags.
    flag_files: Vec<PathBuf>,
    linkers: Vec<PathBuf>,
    /// Where rustc and the linker look for native libraries, in this order.
    search_path: Vec<SearchDir>,
    /// Whether rustc may find Rust libraries in one of these directories.
    has_crate_dirs: bool,
    /// Whether its package names native libraries, which may be empty.
    names_native_libraries: bool,
    /// Whether the linker may read files whose names are not known here.
    linker_is_unknown: bool,
    /// The same of the compiler.
    compiler_is_unknown: bool,
    /// Whether rustc has a wrapper, which may read the environment.
    has_wrapper: bool,
    /// Set for the compiler beside the environment of this process.
    variables: BTreeMap<String, OsString>,
    /// Where the compiler runs: the root of the workspace.
    root: PathBuf,
}

#[derive(Clone, Debug, Hash)]
struct SearchDir {
    kind: String,
    path: PathBuf,
    /// The output directory of a build script.
    is_generated: bool,
}

impl Inputs {
    /// Creates inputs of a compiler that runs in `root`, from the files that dep-info lists without a
    /// [record](super::Record).
    pub fn new(root: &Path, files: impl IntoIterator<Item = PathBuf>) -> Self {
        Inputs {
            root: root.to_owned(),
            files: files.into_iter().collect(),
            ..Inputs::default()
        }
    }

    /// Adds a variable that is set for the compiler beside the environment of this process.
    pub fn add_variable(&mut self, name: &str, value: &OsStr) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Adds the wrappers of the compiler and then the compiler itself, as paths or names. An empty one is none.
    /// A script, and a wrapper that is not well known, may read any file, every wrapper the environment.
    pub fn add_compilers(&mut self, programs: &[PathBuf], cwd: &Path) {
        let programs = programs.iter().filter(|it| !it.as_os_str().is_empty());
        let programs: Vec<PathBuf> = programs.map(|it| executable(it, cwd)).collect();
        if let Some((_, wrappers)) = programs.split_last() {
            let is_known = |it: &PathBuf| WRAPPERS.contains(&&*program_name(it));
            self.has_wrapper = !wrappers.is_empty();
            self.compiler_is_unknown |= !wrappers.iter().all(is_known);
        }
        self.compiler_is_unknown |= programs.iter().any(|it| begins_with(it, SCRIPT));
        self.compilers.extend(programs);
    }

    /// Adds the linker that is configured, a path or a name. A script, and a program that is not well known, may
    /// read any file.
    pub fn add_linker(&mut self, program: &Path, cwd: &Path) {
        let program = executable(program, cwd);
        self.linker_is_unknown |=
            !is_linker(&program_name(&program)) || begins_with(&program, SCRIPT);
        self.linkers.push(program);
    }

    /// Adds the value of `-L`, `KIND=PATH` or `PATH`, relative to `cwd`. See `SearchPath` in rustc's
    /// `compiler/rustc_session/src/search_paths.rs`. With the build directory, without links in its path, if it is
    /// in the output directory of a build script: nothing else writes to it, unless it is a link that leads elsewhere.
    pub fn add_search_path(&mut self, value: &str, cwd: &Path, build_dir: Option<&Path>) {
        let kinds = ["native", "framework", "dependency", "crate", "all"];
        let (kind, path) = (value.split_once('='))
            .filter(|(kind, _)| kinds.contains(kind))
            .unwrap_or(("all", value));
        // A framework is a directory of its own.
        self.linker_is_unknown |= kind == "framework";
        self.has_crate_dirs |= !kinds[..2].contains(&kind);
        let path = cwd.join(path);
        let is_in = |dir| path.canonicalize().is_ok_and(|path| path.starts_with(dir));
        let is_generated = build_dir.is_some_and(is_in);
        self.search_path.push(SearchDir {
            kind: kind.to_owned(),
            path,
            is_generated,
        });
    }

    /// Notes that its package names native libraries. They may be bundled into it.
    pub fn set_names_native_libraries(&mut self) {
        self.names_native_libraries = true;
    }

    /// Adds the value of `-l`. A name stands for files in the search path.
    pub fn add_native_library(&mut self, value: &str) {
        // A verbatim name may be that of a script of the linker.
        self.linker_is_unknown |= value.contains(['/', '\\']) || value.contains("verbatim");
    }

    /// Adds an argument of the linker, which may name a file or a script.
    pub fn add_linker_argument(&mut self, argument: &str) {
        self.linker_is_unknown |= !argument.starts_with("-fuse-ld=");
    }

    /// Adds flags of rustc.
    pub fn add_flags(&mut self, flags: impl IntoIterator<Item = impl AsRef<str>>, cwd: &Path) {
        let flags: Vec<_> = flags.into_iter().collect();
        let mut flags = flags.iter().map(AsRef::as_ref);
        for flag in flags.clone() {
            // It may hold any flag.
            self.compiler_is_unknown |= flag.starts_with('@');
            // `--extern name=PATH`, `-Cprofile-use=PATH` and whatever else there is.
            let path = cwd.join(flag.rsplit('=').next().unwrap_or(flag));
            if path.is_file() {
                self.flag_files.push(path);
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
            let (option, argument) = match value.split_once('=') {
                // rustc takes both.
                Some((option, argument)) => (option.replace('_', "-"), argument),
                None => (String::new(), ""),
            };
            match (name, option.as_str()) {
                ("-L", _) => self.add_search_path(value, cwd, None),
                ("-l", _) => self.add_native_library(value),
                ("-C", "link-arg") => self.add_linker_argument(argument),
                ("-C", "link-args") => self.linker_is_unknown = true,
                ("-C", "linker") => self.add_linker(argument.as_ref(), cwd),
                ("-Z", option) => self.linker_is_unknown |= option.contains("link-arg"),
                _ => {}
            }
        }
    }

    /// Returns a digest of the stamps of what rustc reads. If it links or `reads_native` libraries also of
    /// the linker and the files in the search path, and with a wrapper, these, or procedural macros also of the
    /// environment. `None` if not all files are known, or one was changed at `before` or later.
    pub(super) fn digest(
        &self,
        expands_macros: bool,
        reads_native: bool,
        before: Time,
    ) -> Option<Digest> {
        let reads_native = self.reads_native(reads_native);
        if self.is_unknown(reads_native) {
            return None;
        }
        let reads_environment = expands_macros || reads_native || self.has_wrapper;
        let environment = reads_environment.then(|| stamp::environment(&self.variables));
        let installed = reads_native.then(|| {
            let dirs = stamp::system_library_dirs();
            Vec::from_iter(dirs.iter().map(|dir| stamp::installed_libraries(dir)))
        });
        let mut stamps = stamp::of_files(
            (self
                .files
                .iter()
                .chain(&self.compilers)
                .chain(&self.flag_files))
            .cloned(),
        );
        let search_path = reads_native.then_some(&self.search_path);
        if let Some(search_path) = search_path {
            stamps.extend(stamp::of_files(self.linkers.iter().cloned()));
            let dirs = search_path.iter().map(|dir| dir.path.clone());
            for dir in dirs.chain(self.library_path()) {
                stamps.extend(native_libraries(&dir)?);
            }
        }
        let files = stamp::digest(&stamps, before)?;
        let read = (files, search_path, environment, installed);
        Some(Digest::of_value(&read))
    }

    /// Returns what Cargo does not track. `packages` if macros are expanded. `None` if not all of it is known.
    pub(super) fn untracked(
        &self,
        packages: Vec<PathBuf>,
        reads_native: bool,
    ) -> Option<UntrackedFiles> {
        let reads_native = self.reads_native(reads_native);
        if self.is_unknown(reads_native) {
            return None;
        }
        let environment = match (packages.is_empty(), reads_native) {
            (false, _) => Environment::OfAnyProgram,
            (true, true) => Environment::OfLinkers,
            (true, false) => Environment::Ignored,
        };
        let mut untracked = UntrackedFiles {
            paths: self.flag_files.clone(),
            packages,
            programs: self.compilers.clone(),
            reads_native,
            environment,
            ..UntrackedFiles::default()
        };
        if environment == Environment::OfAnyProgram {
            // Such as `.sqlx`, in which macros of sqlx even write files.
            let named = stamp::paths_in_environment().filter(|path| path.starts_with(&self.root));
            untracked.paths.extend(named);
        }
        if reads_native {
            untracked.programs.extend(self.linkers.iter().cloned());
            for dir in self.library_path() {
                native_libraries(&dir)?;
                untracked.paths.push(dir);
            }
            for dir in &self.search_path {
                let libraries = native_libraries(&dir.path)?.into_keys();
                if dir.is_generated {
                    // Something else writes to what a link leads to.
                    untracked
                        .paths
                        .extend(libraries.filter(|it| it.is_symlink()));
                } else {
                    untracked.paths.push(dir.path.clone());
                }
            }
        }
        Some(untracked)
    }

    fn reads_native(&self, has_native_code: bool) -> bool {
        has_native_code || self.has_crate_dirs || self.names_native_libraries
    }

    fn is_unknown(&self, reads_native: bool) -> bool {
        self.compiler_is_unknown || reads_native && self.linker_is_unknown
    }

    /// Returns the directories in which compilers for C, as linkers, look for libraries.
    fn library_path(&self) -> Vec<PathBuf> {
        const NAME: &str = "LIBRARY_PATH";
        let values = [self.variables.get(NAME).cloned(), std::env::var_os(NAME)];
        let split = |value| std::env::split_paths(&value).collect::<Vec<_>>();
        values.into_iter().flatten().flat_map(split).collect()
    }
}

/// Returns the stamps of what is in a search path. `None` if there is an archive with the names of objects, or a
/// script of the linker in place of a library: these may be anywhere.
fn native_libraries(dir: &Path) -> Option<Stamps> {
    let entries = stamp::of_entries(dir);
    let names_others = |path: &PathBuf| {
        let begin = match path.extension().and_then(OsStr::to_str) {
            Some("a") => ARCHIVE,
            Some("so") => ELF,
            _ => return false,
        };
        path.is_file() && !begins_with(path, begin)
    };
    (!entries.keys().any(names_others)).then_some(entries)
}

/// Wrappers that read nothing but what they tell rustc or hash.
const WRAPPERS: [&str; 2] = ["clippy-driver", "sccache"];

/// Returns whether this is the name of a linker or of a compiler that links, such as `x86_64-linux-gnu-gcc-12`.
fn is_linker(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "c++", "cc", "clang", "clang++", "g++", "gcc", "ld", "ld.bfd", "ld.gold", "ld.lld",
        "ld64.lld", "link", "lld", "mold",
    ];
    let name = name.trim_end_matches(|c: char| c == '-' || c == '.' || c.is_ascii_digit());
    NAMES.contains(&name.rsplit('-').next().unwrap_or(name))
}

/// Returns the name of a program without `.exe`.
fn program_name(program: &Path) -> Cow<'_, str> {
    let is_exe = program.extension().is_some_and(|it| it == "exe");
    let name = if is_exe {
        program.file_stem()
    } else {
        program.file_name()
    };
    name.unwrap_or_default().to_string_lossy()
}

const SCRIPT: &[u8] = b"#!";
const ARCHIVE: &[u8] = b"!<arch>\n";
const ELF: &[u8] = b"\x7fELF";

fn begins_with(path: &Path, begin: &[u8]) -> bool {
    let mut bytes = vec![0; begin.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.is_ok() && bytes == begin
}

/// Returns the path of a program. One that is not found counts as missing.
fn executable(program: &Path, cwd: &Path) -> PathBuf {
    let found = paths::resolve_executable(program);
    cwd.join(found.as_deref().unwrap_or(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[&str]) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.add_flags(flags, Path::new("/cwd"));
        inputs
    }

    fn dirs(inputs: &Inputs) -> Vec<&str> {
        let dirs = inputs.search_path.iter();
        dirs.map(|dir| dir.path.to_str().unwrap()).collect()
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
                assert_eq!(inputs.linker_is_unknown, is_unknown, "{spelled:?}");
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
            (&["-Clink_args=-Tmemory.x"], true),
            (&["-Zpre_link_args=x"], true),
            (&["-C", "linker=clang"], false),
            (
                &["-lz", "-C", "target-cpu=native", "--cfg", "x", "-"],
                false,
            ),
            (&["-C"], false),
        ] {
            assert_eq!(
                self::flags(flags).linker_is_unknown,
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
        std::fs::write(dir.path().join("file"), "").unwrap();
        let file = file.to_str().unwrap();
        for (flags, is_file) in [
            (&["--extern", &format!("name={file}")][..], true),
            (&[&format!("-Cprofile-use={file}")], true),
            (&["--extern", "name=file"], true),
            (&["--cfg", "x=\"dir/file\""], false),
            (&["--remap-path-prefix=/=dir/"], false),
            (&["-Cprofile-use=dir/file"], true),
        ] {
            let mut inputs = Inputs::default();
            inputs.add_flags(flags, dir.path());
            assert_eq!(inputs.flag_files.len(), usize::from(is_file), "{flags:?}");
        }
    }

    #[test]
    fn young_files_prove_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libfoo.a");
        std::fs::write(&path, ARCHIVE).unwrap();
        let written = super::super::stamp::Stamp::of(&path).unwrap().last();
        let mut inputs = Inputs::new(dir.path(), [path]);
        inputs.add_search_path("native=.", dir.path(), None);
        for (before, is_known) in [(written - 1, false), (written, false), (written + 1, true)] {
            assert_eq!(inputs.digest(false, true, before).is_some(), is_known);
            assert_eq!(inputs.digest(false, false, before).is_some(), is_known);
        }
        inputs.add_linker_argument("-Tmemory.x");
        assert_eq!(inputs.digest(false, true, Time::MAX), None);
    }

    #[test]
    fn file_as_search_path_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libfoo.rlib");
        let digest = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let mut inputs = Inputs::new(dir.path(), [file.clone()]);
            inputs.add_search_path("libfoo.rlib", dir.path(), None);
            inputs.digest(false, true, Time::MAX)
        };
        assert_ne!(digest("one"), digest("other"));
    }

    #[test]
    fn programs_count() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("cc");
        let digests = |text: &str| {
            std::fs::write(&program, text).unwrap();
            let mut compiler = Inputs::default();
            compiler.add_compilers(std::slice::from_ref(&program), dir.path());
            let mut linker = Inputs::default();
            linker.add_flags(["-Clinker=./cc"], dir.path());
            (
                compiler.digest(false, false, Time::MAX),
                linker.digest(false, true, Time::MAX),
            )
        };
        let before = digests("one");
        let after = digests("other");
        assert_ne!(after.0, before.0);
        assert_ne!(after.1, before.1);
    }

    #[test]
    fn anything_may_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("script"), "#!/bin/sh\n").unwrap();
        let libraries = [
            ("thin/libfoo.a", "!<thin>\n"),
            ("named/libfoo.a", "INPUT(/libfoo.a)"),
            ("named/libfoo.so", "INPUT(/libfoo.a)"),
            ("real/libfoo.a", "!<arch>\n"),
            ("real/libfoo.so", "\x7fELF"),
        ];
        for (library, text) in libraries {
            std::fs::create_dir_all(path(library).parent().unwrap()).unwrap();
            std::fs::write(path(library), text).unwrap();
        }
        for program in ["program", "sccache", "clang-12"] {
            std::fs::write(path(program), "\x7fELF").unwrap();
        }
        let known = |add: &dyn Fn(&mut Inputs)| {
            let mut inputs = Inputs::default();
            add(&mut inputs);
            [false, true]
                .map(|reads_native| inputs.digest(false, reads_native, Time::MAX).is_some())
        };
        for (program, compiler, linker) in [
            ("script", [false, false, false], [true, false]),
            ("program", [true, false, false], [true, false]),
            ("sccache", [true, true, true], [true, false]),
            ("clang-12", [true, false, false], [true, true]),
        ] {
            let compilers = [
                vec![path(program)],
                vec![path(program), path("program")],
                vec![path(program), path(program), path("program")],
            ];
            for (compilers, is_known) in std::iter::zip(compilers, compiler) {
                let known = known(&|it| it.add_compilers(&compilers, dir.path()));
                assert_eq!(known, [is_known; 2], "{compilers:?}");
            }
            let known = known(&|it| it.add_linker(&path(program), dir.path()));
            assert_eq!(known, linker, "{program}");
        }
        let flags = known(&|it| it.add_flags(["@flags"], dir.path()));
        assert_eq!(flags, [false, false]);
        for (name, is_known) in [("thin", false), ("named", false), ("real", true)] {
            let path = format!("native={name}");
            let known = known(&|it| it.add_search_path(&path, dir.path(), None));
            assert_eq!(known, [true, is_known], "{name}");
        }
        let verbatim = known(&|it| it.add_native_library("static:+verbatim=foo.lib"));
        assert_eq!(verbatim, [true, false]);
    }

    #[test]
    fn names_of_linkers() {
        for name in [
            "cc",
            "ld.lld",
            "clang++-19",
            "x86_64-linux-gnu-gcc-12.2",
            "rust-lld",
        ] {
            assert!(is_linker(name), "{name}");
        }
        for name in ["cc-wrap", "mycc", "12", "", "zigcc", "gcc-12-wrapper"] {
            assert!(!is_linker(name), "{name}");
        }
        for (path, name) in [
            ("/bin/link.exe", "link"),
            ("/bin/ld.lld", "ld.lld"),
            ("/", ""),
        ] {
            assert_eq!(program_name(Path::new(path)), name);
        }
    }

    #[test]
    fn empty_libraries_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = Inputs::default();
        inputs.add_search_path("native=.", dir.path(), None);
        let digest = |inputs: &Inputs, text: &str| {
            std::fs::write(dir.path().join("libfoo.a"), text).unwrap();
            inputs.digest(false, false, Time::MAX)
        };
        let other = format!("{}other", "!<arch>\n");
        assert_eq!(digest(&inputs, "!<arch>\n"), digest(&inputs, &other));
        inputs.set_names_native_libraries();
        assert_ne!(digest(&inputs, "!<arch>\n"), digest(&inputs, &other));
    }

    #[test]
    fn order_of_search_path_counts() {
        let digest = |dirs: [&str; 2]| {
            let mut inputs = Inputs::default();
            for dir in dirs {
                inputs.add_search_path(dir, "/nowhere".as_ref(), None);
            }
            inputs.digest(false, true, Time::MAX)
        };
        assert_ne!(
            digest(["native=a", "native=b"]),
            digest(["native=b", "native=a"])
        );
        assert_ne!(
            digest(["native=a", "native=b"]),
            digest(["native=a", "all=b"])
        );
    }

    #[test]
    fn libraries_in_library_path_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = Inputs::default();
        inputs.add_variable("LIBRARY_PATH", dir.path().as_os_str());
        let digest = || inputs.digest(false, true, Time::MAX);
        let before = digest();
        std::fs::write(dir.path().join("libfoo.so"), "").unwrap();
        assert_ne!(digest(), before);
    }

    #[test]
    fn macros_read_variables() {
        let mut inputs = Inputs::default();
        let digests = |inputs: &Inputs| {
            let with_macros = inputs.digest(true, false, Time::MAX);
            (with_macros, inputs.digest(false, false, Time::MAX))
        };
        let before = digests(&inputs);
        inputs.add_variable("NAME", "value".as_ref());
        let after = digests(&inputs);
        assert_ne!(after.0, before.0);
        assert_eq!(after.1, before.1);
        let compilers = ["", "sccache", "rustc"].map(PathBuf::from);
        inputs.add_compilers(&compilers, Path::new("/nowhere"));
        let with_wrapper = digests(&inputs).1;
        inputs.add_variable("OTHER", "value".as_ref());
        assert_ne!(digests(&inputs).1, with_wrapper);
    }
}
