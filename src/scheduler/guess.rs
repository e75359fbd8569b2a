//! What a unit probably costs that was never built.
//!
//! If its crate is well known, what it took in [recorded builds](super::prior). For nine in ten, another build
//! takes at most 1.6 times that until its metadata and 2.2 times that in codegen, or a part as small, as it has other
//! features; for half of them, 1.17 and 1.24 times, respectively.
//!
//! All others are guessed by their signs. How much each is worth was tried on libraries of the recordings to learn
//! from, on crates that the fit had not seen. The error is the root mean square of its natural logarithm, where
//! long phases count more:
//!
//! | | frontend | of 2 s and more | codegen |
//! | --- | --- | --- | --- |
//! | size of the source alone | 1.04 | 1.08 | 1.40 |
//! | and the number of dependencies, direct or not | 0.87 | 0.94 | 1.16 |
//! | and whether it is optimized | 0.87 | 0.94 | 1.00 |
//! | and how many traits are derived by macros | 0.81 | 0.87 | 1.00 |
//! | and how often other macros are called | 0.78 | 0.72 | 1.00 |
//!
//! The last two are for what macros add to the source. It has to be read, but only of libraries that are not well known,
//! and the compiler reads it next. Hardly anything is gained by the number of functions,
//! types, `macro_rules!` or files, by leaving out comments and tests, by debug information, or by how many units depend
//! on it. Not seen is what build scripts write. The build itself [corrects](super::estimate::Correction) how far
//! guesses are off.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::estimate::{Phase, Work, scaled};
use super::prior::{self, Table};

/// What is to be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What kind of unit it is.
    pub kind: Kind,
    /// The name of its package and its major, minor and patch version, if it comes from a registry.
    pub package: Option<(&'a str, [u64; 3])>,
    /// Whether its code is optimized at all.
    pub is_optimized: bool,
    /// What it is compiled from.
    pub source: Source<'a>,
}

/// What kind of unit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A library.
    Library,
    /// A library, program or test that is only checked.
    Checked,
    /// A procedural macro.
    ProcMacro,
    /// A program, a test, or a library that is linked.
    Linked,
    /// The compilation of a build script.
    BuildScript,
    /// The run of a build script.
    Run,
    /// Anything else that takes a moment.
    Other,
}

/// What a unit is compiled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The crate with this root.
    Crate(&'a Path),
    /// What a build script may compile in this directory of a package.
    Native(&'a Path),
    /// What is known of it.
    Size(SourceSize),
}

/// How much a unit is compiled from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSize {
    /// The size of its files.
    pub bytes: u64,
    /// How many traits it derives in any case that are not built into the compiler, also in comments.
    pub derives: u64,
    /// How often it calls a macro, also in comments. Assertions do not count, as most of them are in tests.
    pub macro_calls: u64,
}

/// What a guess goes by. Those of one basis are off in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are named like the kinds of units")]
pub enum Basis {
    /// The table of well-known crates.
    Prior,
    Library,
    ProcMacro,
    Linked,
    BuildScript,
    Run,
    Other,
}

/// What a unit probably takes. At best, it is right in proportion to other guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named like their types")]
pub struct Guess {
    pub basis: Basis,
    pub work: Work,
}

const MILLISECOND: u64 = 1_000;

/// How much longer codegen takes if it optimizes.
const OPTIMIZED: u64 = 3;

/// The same for all of a procedural macro. With `opt-level` 2 or 3 it shares no generic functions with the crates that
/// it links, such as `syn` (`Options::share_generics` in `rustc_session`), so it compiles them itself. By seven macros,
/// which took 2 to 29 times as long.
const OPTIMIZED_MACRO: u64 = 10;

/// What the link of a procedural macro takes.
const MACRO_LINK: u64 = 130 * MILLISECOND;

impl Guess {
    /// Corrects the guess for a unit by the number of its dependencies, direct or not.
    pub(super) fn with_dependencies(mut self, dependencies: u32) -> Self {
        let units = u64::from(dependencies) + 1;
        // Times 2⁸.
        let root = (units << 16).isqrt();
        let fourth_root = (root << 8).isqrt();
        let Work {
            frontend,
            codegen,
            link,
        } = &mut self.work;
        let scale = |figure: &mut u64, factor| *figure = scaled(*figure, factor, 1 << 8);
        match self.basis {
            Basis::Library => {
                scale(frontend, fourth_root);
                scale(codegen, root);
            }
            Basis::Linked => {
                scale(frontend, fourth_root);
                scale(link, root);
                scale(link, fourth_root);
            }
            Basis::Prior | Basis::ProcMacro | Basis::BuildScript | Basis::Run | Basis::Other => {}
        }
        self
    }
}

/// Guesses the work of a unit without dependencies.
pub fn guess(subject: &Subject<'_>, table: Table<'_>) -> Guess {
    let mut guess = match known(subject, table) {
        Some(work) => Guess {
            basis: Basis::Prior,
            work,
        },
        None => by_signs(subject),
    };
    if subject.kind == Kind::Checked {
        guess.work.codegen = 0;
    }
    guess
}

/// Returns what a well-known crate takes.
fn known(subject: &Subject<'_>, table: Table<'_>) -> Option<Work> {
    let (name, version) = subject.package?;
    let find = |kind| table.find(name, version, kind);
    let find_either = |plain, optimized, phase, factor| {
        let (this, other) = if subject.is_optimized {
            (optimized, plain)
        } else {
            (plain, optimized)
        };
        find(this).or_else(|| {
            let mut work = find(other)?;
            let figure = work.of_mut(phase);
            *figure = if subject.is_optimized {
                figure.saturating_mul(factor)
            } else {
                *figure / factor
            };
            Some(work)
        })
    };
    match subject.kind {
        Kind::Library | Kind::Checked => {
            let [plain, optimized] = [prior::Kind::Library, prior::Kind::OptimizedLibrary];
            find_either(plain, optimized, Phase::Codegen, OPTIMIZED)
        }
        Kind::ProcMacro => {
            let [plain, optimized] = [prior::Kind::ProcMacro, prior::Kind::OptimizedProcMacro];
            let compiled = find_either(plain, optimized, Phase::Frontend, OPTIMIZED_MACRO)?;
            Some(Work {
                link: MACRO_LINK,
                ..compiled
            })
        }
        Kind::Run => find(prior::Kind::Run),
        Kind::Linked | Kind::BuildScript | Kind::Other => None,
    }
}

/// Guesses what a crate takes that is not well known.
fn by_signs(subject: &Subject<'_>) -> Guess {
    let if_optimized = |factor| if subject.is_optimized { factor } else { 1 };
    let size = |of_crate: fn(&Path) -> SourceSize| match subject.source {
        Source::Crate(root) => of_crate(root),
        Source::Native(package) => SourceSize::native(package),
        Source::Size(size) => size,
    };
    let square_root = || size(SourceSize::listed).bytes.isqrt();
    let (basis, frontend, codegen, link) = match subject.kind {
        Kind::Library | Kind::Checked => {
            let size = size(SourceSize::read);
            let square_root = size.bytes.isqrt();
            let frontend = 380 * square_root + 2_500 * size.derives + 450 * size.macro_calls;
            let codegen = 250 * if_optimized(OPTIMIZED) * square_root;
            (Basis::Library, frontend, codegen, 0)
        }
        // A linked unit writes no metadata for others: all of its compilation is frontend.
        Kind::ProcMacro => {
            let compiled = 2_800 * if_optimized(OPTIMIZED_MACRO) * square_root();
            (Basis::ProcMacro, compiled, 0, MACRO_LINK)
        }
        Kind::Linked => {
            let compiled = 1_500 * if_optimized(OPTIMIZED) * square_root();
            (Basis::Linked, compiled, 0, 20 * MILLISECOND)
        }
        Kind::BuildScript => (Basis::BuildScript, 100 * MILLISECOND, 0, 40 * MILLISECOND),
        Kind::Run => {
            let run = 50 * MILLISECOND + 8_000 * square_root();
            (Basis::Run, run, 0, 0)
        }
        Kind::Other => (Basis::Other, 100 * MILLISECOND, 0, 0),
    };
    let work = Work {
        frontend,
        codegen,
        link,
    };
    Guess { basis, work }
}

/// How many directory entries are listed at most: their size says enough.
const MAX_ENTRIES: usize = 4_000;

/// How many bytes of a crate are read at most.
const MAX_READ: u64 = 4 << 20;

/// What a directory has that is another package, or a target directory.
const NOT_OWN: [&str; 2] = ["Cargo.toml", "CACHEDIR.TAG"];

/// The traits whose derives take next to no time.
const BUILT_IN: [&str; 9] = [
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "Eq",
    "Hash",
    "Ord",
    "PartialEq",
    "PartialOrd",
];

impl SourceSize {
    /// Returns the size of the source files of the crate with this root: of all `.rs` files in the directory of
    /// `lib.rs`, or `main.rs` of a package without a library; otherwise of the root and the directory beside it
    /// that has its name, for its modules.
    ///
    /// Other packages within it, target directories, hidden directories and files that cannot be read count 0.
    /// Blocks as long as it takes to list the directories.
    pub fn listed(root: &Path) -> Self {
        let mut size = SourceSize::default();
        for_each_of_crate(root, |_, bytes| size.add(bytes));
        size
    }

    /// Returns the [size](Self::listed) of the crate with this root, and counts what macros add to it. Blocks also as
    /// long as it takes to read a few MB at most; larger files are left out.
    pub fn read(root: &Path) -> Self {
        let mut size = SourceSize::default();
        let mut left = MAX_READ;
        for_each_of_crate(root, |file, bytes| {
            size.add(bytes);
            if bytes <= left {
                left -= bytes;
                let code = read(file, bytes).unwrap_or_default();
                size.derives += derives(&code);
                size.macro_calls += macro_calls(&code);
            }
        });
        size
    }

    /// Returns the size of all C, C++, Objective-C and assembly in this directory of a package, which may be much
    /// more than its build script compiles.
    ///
    /// Counts the files, and blocks, as [`listed`](Self::listed) does.
    pub fn native(package: &Path) -> Self {
        const NATIVE: [&str; 8] = ["asm", "c", "cc", "cpp", "cxx", "m", "mm", "s"];
        let is_native =
            |extension: &OsStr| NATIVE.iter().any(|it| extension.eq_ignore_ascii_case(it));
        let mut size = SourceSize::default();
        for_each_below(package, is_native, |_, bytes| size.add(bytes));
        size
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Reads a file, or its begin if it has grown.
fn read(file: &Path, bytes: u64) -> io::Result<String> {
    let mut code = String::new();
    fs::File::open(file)?
        .take(bytes)
        .read_to_string(&mut code)?;
    Ok(code)
}

/// Counts the traits that are derived by macros.
fn derives(code: &str) -> u64 {
    let lists = code.split("#[derive(").skip(1);
    let traits = lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
    let names = traits.map(|path| path.rsplit("::").next().unwrap_or_default().trim());
    let is_macro = |name: &&str| !name.is_empty() && !BUILT_IN.contains(name);
    names.filter(is_macro).count() as u64
}

/// Counts calls of macros.
fn macro_calls(code: &str) -> u64 {
    let is_call = |at: &usize| {
        let (before, after) = code.split_at(*at);
        let name = before
            .rsplit(|c: char| c != '_' && !c.is_alphanumeric())
            .next()
            .unwrap_or_default();
        let is_assertion = name.starts_with("assert") || name.starts_with("debug_assert");
        // Not past another mark: this takes time in proportion to the code.
        let arguments = after.strip_prefix('!').unwrap_or(after).trim_start();
        !name.is_empty() && !is_assertion && arguments.starts_with(['(', '[', '{'])
    };
    let marks = code.match_indices('!').map(|(at, _)| at);
    marks.filter(is_call).count() as u64
}

/// Calls `visit` with the source files of the crate with this root, and their bytes.
fn for_each_of_crate(root: &Path, mut visit: impl FnMut(&Path, u64)) {
    let is_source = |extension: &OsStr| extension == "rs";
    let stem = root.file_stem().unwrap_or_default();
    if stem == "lib" || (stem == "main" && !root.with_file_name("lib.rs").exists()) {
        if let Some(dir) = root.parent() {
            for_each_below(dir, is_source, visit);
        }
        return;
    }
    if let Ok(metadata) = fs::metadata(root)
        // A pipe could block for ever, and the compiler would miss what is read from it.
        && metadata.is_file()
    {
        visit(root, metadata.len());
    }
    if stem != "main" {
        for_each_below(&root.with_extension(""), is_source, visit);
    }
}

/// Calls `visit` with the files of a package below a directory whose extension `counts`, and their bytes.
fn for_each_below(dir: &Path, counts: impl Fn(&OsStr) -> bool, mut visit: impl FnMut(&Path, u64)) {
    let is_own = |dir: &DirEntry| {
        let is_hidden = dir.file_name().as_encoded_bytes().starts_with(b".");
        !is_hidden && NOT_OWN.iter().all(|mark| !dir.path().join(mark).exists())
    };
    let enters =
        |entry: &DirEntry| entry.depth() == 0 || !entry.file_type().is_dir() || is_own(entry);
    let entries = WalkDir::new(dir).into_iter().filter_entry(enters);
    for entry in entries.take(MAX_ENTRIES).flatten() {
        if entry.file_type().is_file() && entry.path().extension().is_some_and(&counts) {
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            visit(entry.path(), bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess_of(kind: Kind, bytes: u64) -> Work {
        guess_of_size(
            kind,
            SourceSize {
                bytes,
                ..SourceSize::default()
            },
        )
    }

    fn guess_of_size(kind: Kind, size: SourceSize) -> Work {
        let subject = Subject {
            kind,
            package: None,
            is_optimized: false,
            source: Source::Size(size),
        };
        guess(&subject, Table::SHIPPED).work
    }

    #[test]
    fn more_source_is_more_work() {
        let library = |bytes| guess_of(Kind::Library, bytes);
        assert!(library(100_000).frontend > library(1_000).frontend);
        assert!(library(100_000).codegen > library(1_000).codegen);
        assert_eq!(library(0), Work::default());
        assert!(library(u64::MAX).frontend > library(u64::MAX / 2).frontend);
        let with = |derives, macro_calls| {
            let size = SourceSize {
                bytes: 100_000,
                derives,
                macro_calls,
            };
            guess_of_size(Kind::Library, size)
        };
        let plain = library(100_000);
        assert!(with(10, 0).frontend > plain.frontend && with(0, 10).frontend > plain.frontend);
        assert_eq!(with(10, 10).codegen, plain.codegen);
        let run = |bytes| guess_of(Kind::Run, bytes).frontend;
        assert!(run(1_000_000) > run(1_000) && run(1_000) > run(0));
        assert!(run(u64::MAX) > run(u64::MAX / 2));
    }

    #[test]
    fn more_dependencies_are_more_work() {
        let work = Work {
            frontend: 1_000,
            codegen: 1_000,
            link: 1_000,
        };
        let with = |basis, dependencies| Guess { basis, work }.with_dependencies(dependencies).work;
        let of = |[frontend, codegen, link]: [u64; 3]| Work {
            frontend,
            codegen,
            link,
        };
        assert_eq!(with(Basis::Library, 0), work);
        assert_eq!(with(Basis::Library, 15), of([2_000, 4_000, 1_000]));
        assert_eq!(with(Basis::Linked, 15), of([2_000, 1_000, 8_000]));
        assert_eq!(with(Basis::Prior, 15), work);
        let most = with(Basis::Library, u32::MAX);
        assert!(most.codegen > most.frontend && most.frontend > 1_000);
    }

    #[test]
    fn well_known_crates_are_not_guessed_by_their_size() {
        let of_crate = |name, kind, is_optimized, version| {
            let subject = Subject {
                kind,
                package: Some((name, version)),
                is_optimized,
                source: Source::Size(SourceSize::default()),
            };
            guess(&subject, Table::SHIPPED)
        };
        let of = |kind, is_optimized, version| of_crate("syn", kind, is_optimized, version);
        let kind = Kind::Library;
        let known = of(kind, false, [2, 0, 0]);
        assert_eq!(known.basis, Basis::Prior);
        assert!(known.work.frontend > 500 * MILLISECOND && known.work.codegen > 0);
        let optimized = of(kind, true, [2, 0, 0]);
        assert!(optimized.work.codegen > known.work.codegen);
        let serde_derive =
            |is_optimized| of_crate("serde_derive", Kind::ProcMacro, is_optimized, [1, 0, 0]);
        assert!(serde_derive(true).work.frontend > 3 * serde_derive(false).work.frontend);
        assert_eq!(
            of(Kind::BuildScript, false, [2, 0, 0]).basis,
            Basis::BuildScript
        );
    }

    #[test]
    fn linked_units_have_no_codegen() {
        for kind in [Kind::ProcMacro, Kind::Linked, Kind::BuildScript] {
            let Work { codegen, link, .. } = guess_of(kind, 1);
            assert!(codegen == 0 && link > 0);
        }
    }

    /// Makes a directory of files of these sizes.
    fn dir_of(files: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, size) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b' '; *size]).unwrap();
        }
        dir
    }

    #[test]
    fn each_root_has_its_own_files() {
        let dir = dir_of(&[
            ("build.rs", 1),
            ("src/lib.rs", 10),
            ("src/a/b.rs", 100),
            ("src/a/notes.txt", 5),
            ("src/main.rs", 1_000),
            ("src/bin/tool.rs", 10_000),
            ("src/bin/tool/args.rs", 100_000),
        ]);
        let size = |root: &str| SourceSize::listed(&dir.path().join(root)).bytes;
        assert_eq!(size("build.rs"), 1);
        assert_eq!(size("src/lib.rs"), 111_110);
        assert_eq!(size("src/main.rs"), 1_000);
        assert_eq!(size("src/bin/tool.rs"), 110_000);
        assert_eq!(size("src/gone.rs"), 0);
        fs::remove_file(dir.path().join("src/lib.rs")).unwrap();
        assert_eq!(size("src/main.rs"), 111_100);
    }

    #[test]
    fn native_source_of_the_package_itself() {
        let dir = dir_of(&[
            ("Cargo.toml", 1),
            ("build.rs", 2),
            ("native.c", 10),
            ("vendored/src/deep/x86.S", 100),
            ("vendored/library.CPP", 1_000),
            ("vendored/library.h", 3),
            ("target/CACHEDIR.TAG", 6),
            ("target/debug/build/copy.c", 10_000),
            ("vendored/target/x86.c", 200_000),
            (".git/hidden.c", 20_000),
            ("member/Cargo.toml", 4),
            ("member/native.c", 30_000),
            ("c", 5),
        ]);
        let size = |package: &str| SourceSize::native(&dir.path().join(package)).bytes;
        assert_eq!(size(""), 201_110);
        assert_eq!(size("member"), 30_000);
        assert_eq!(size("gone"), 0);
    }

    #[test]
    fn calls_of_macros() {
        let code = "vec![1]; a::b! {}; if !(c) != [d] {}; e!\n(f!()); assert_eq!(g!(), 1); debug_assert!(true); \
            macro_rules! h { () => {}; } #![warn(i)]; j!";
        assert_eq!(macro_calls(code), 5);
    }

    #[test]
    fn traits_that_macros_derive() {
        let code = "#[derive(Debug, Serialize, serde::Deserialize)]\nstruct A;\n#[derive(Clone)]\nstruct B;\n\
            #[derive(\n    Parser,\n    fmt::Debug,\n)]\nenum C {}\n#[derive()]\nstruct D;\n// #[derive(";
        assert_eq!(derives(code), 3);
    }

    #[test]
    fn sources_are_read() {
        let dir = dir_of(&[("src/large.rs", MAX_READ as usize + 1)]);
        let code = "#[derive(A)]\nstruct É;\né!(); m! {}";
        let crates = ["src/lib.rs", "tests/tool.rs", "tests/tool/args.rs"];
        for file in crates {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, code).unwrap();
        }
        fs::write(dir.path().join("src/other.rs"), b"m!(); \xff").unwrap();
        for (root, files, other) in [("src/lib.rs", 1, MAX_READ + 8), ("tests/tool.rs", 2, 0)] {
            let expected = SourceSize {
                bytes: files * code.len() as u64 + other,
                derives: files,
                macro_calls: 2 * files,
            };
            let root = dir.path().join(root);
            let read = SourceSize::read(&root);
            assert_eq!(read, expected);
            let listed = SourceSize {
                bytes: expected.bytes,
                ..SourceSize::default()
            };
            assert_eq!(SourceSize::listed(&root), listed);
        }
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_not_read() {
        let dir = dir_of(&[("src/lib.rs", 1)]);
        for pipe in ["src/main.rs", "src/other.rs"] {
            let pipe = dir.path().join(pipe);
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
        }
        for (root, bytes) in [("src/main.rs", 0), ("src/lib.rs", 1)] {
            assert_eq!(SourceSize::read(&dir.path().join(root)).bytes, bytes);
        }
    }

    #[test]
    fn many_marks_take_no_time_each() {
        let marks = "!".repeat(1 << 20);
        assert_eq!(macro_calls(&marks), 0);
        assert_eq!(macro_calls(&(marks + "a")), 0);
    }
}
