//! What a unit probably costs that was never built.
//!
//! If its crate is well known, what it took in [recorded builds](super::prior). For nine in ten, another build
//! takes at most 2.2 times that or a part as small, as it has other features; half of them are within 1.24.
//!
//! All others are guessed by their signs. How much each is worth was tried on libraries of the recordings to learn
//! from, on crates that the fit had not seen. The error is the root mean square of its natural logarithm, where
//! long phases count more:
//!
//! | | frontend | codegen |
//! | --- | --- | --- |
//! | size of the source alone | 0.79 | 1.39 |
//! | and the number of dependencies, direct or not | 0.68 | 1.23 |
//! | and whether it is optimized | 0.68 | 1.22 |
//! | and `impl`s, or the share of generic functions, which have to be read | 0.65 | 1.11 |
//!
//! The last is not worth reading all sources before anything starts. Nothing is gained by the number of derives,
//! functions, types, macros or files, by leaving out comments and tests, by debug information, or by how many
//! units depend on it. The build itself [corrects](super::estimate::Correction) how far guesses are off.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::estimate::{Work, scaled};
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
}

/// What kind of unit it is. `source` is what [`source_size`] returns, `native_source` what
/// [`native_source_size`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the documentation of the type has the fields")]
pub enum Kind {
    /// A library.
    Library { source: u64 },
    /// A library, program or test that is only checked.
    Checked { source: u64 },
    /// A procedural macro.
    ProcMacro { source: u64 },
    /// A program, a test, or a library that is linked.
    Linked { source: u64 },
    /// The compilation of a build script.
    BuildScript,
    /// The run of a build script.
    Run { native_source: u64 },
    /// Anything else that takes a moment.
    Other,
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
    let work = |frontend, codegen, link| Work {
        frontend,
        codegen,
        link,
    };
    let known = |kind| {
        let (name, version) = subject.package?;
        table.find(name, version, kind)
    };
    let optimized = if subject.is_optimized { 2 } else { 1 };
    let known_work = match subject.kind {
        Kind::Library { .. } | Kind::Checked { .. } => {
            let kinds = [prior::Kind::Library, prior::Kind::OptimizedLibrary];
            let [this, other] = if subject.is_optimized {
                [kinds[1], kinds[0]]
            } else {
                kinds
            };
            known(this).or_else(|| {
                let mut work = known(other)?;
                work.codegen = if subject.is_optimized {
                    work.codegen.saturating_mul(2)
                } else {
                    work.codegen / 2
                };
                Some(work)
            })
        }
        Kind::ProcMacro { .. } => known(prior::Kind::ProcMacro).map(|it| Work {
            link: MACRO_LINK,
            ..it
        }),
        Kind::Run { .. } => known(prior::Kind::Run),
        Kind::Linked { .. } | Kind::BuildScript | Kind::Other => None,
    };
    let by_signs = || match subject.kind {
        Kind::Library { source } | Kind::Checked { source } => {
            let root = source.isqrt();
            (Basis::Library, work(450 * root, 220 * optimized * root, 0))
        }
        // A linked unit writes no metadata for others: all of its compilation is frontend.
        Kind::ProcMacro { source } => {
            let compiled = 2_800 * source.isqrt();
            (Basis::ProcMacro, work(compiled, 0, MACRO_LINK))
        }
        Kind::Linked { source } => {
            let compiled = 1_500 * optimized * source.isqrt();
            (Basis::Linked, work(compiled, 0, 20 * MILLISECOND))
        }
        Kind::BuildScript => (
            Basis::BuildScript,
            work(100 * MILLISECOND, 0, 40 * MILLISECOND),
        ),
        Kind::Run { native_source } => {
            let run = 50 * MILLISECOND + 8_000 * native_source.isqrt();
            (Basis::Run, work(run, 0, 0))
        }
        Kind::Other => (Basis::Other, work(100 * MILLISECOND, 0, 0)),
    };
    let known = known_work.map(|work| (Basis::Prior, work));
    let (basis, mut work) = known.unwrap_or_else(by_signs);
    if let Kind::Checked { .. } = subject.kind {
        work.codegen = 0;
    }
    Guess { basis, work }
}

/// How many directory entries are read at most: their size says enough.
const MAX_ENTRIES: usize = 4_000;

/// Estimates the size, in bytes, of the source files of the crate with this root: of all `.rs` files in the
/// directory of `lib.rs`, or `main.rs` of a package without a library; otherwise of the root and the
/// directory beside it that has its name, for its modules.
///
/// Files that cannot be read count 0. Blocks as long as it takes to list the directories.
pub fn source_size(root: &Path) -> u64 {
    let stem = root.file_stem().unwrap_or_default();
    let claims_directory =
        stem == "lib" || (stem == "main" && !root.with_file_name("lib.rs").exists());
    let size_below = |dir: &Path| size_below(dir, |_| true, |extension| extension == "rs");
    let root_size = || fs::metadata(root).map_or(0, |metadata| metadata.len());
    if claims_directory {
        root.parent().map_or(0, size_below)
    } else if stem == "main" {
        root_size()
    } else {
        root_size() + size_below(&root.with_extension(""))
    }
}

/// Returns the size, in bytes, of all C, C++, Objective-C and assembly in the package with this root, which
/// may be much more than its build script compiles.
///
/// Packages within it, a directory `target`, hidden directories and files that cannot be read count 0. Blocks
/// as long as it takes to list the directories.
pub fn native_source_size(package: &Path) -> u64 {
    const NATIVE: [&str; 8] = ["asm", "c", "cc", "cpp", "cxx", "m", "mm", "s"];
    let is_own = |dir: &Path| {
        let name = dir.file_name().unwrap_or_default();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        !is_hidden && name != "target" && !dir.join("Cargo.toml").exists()
    };
    let is_native = |extension: &OsStr| NATIVE.iter().any(|it| extension.eq_ignore_ascii_case(it));
    size_below(package, is_own, is_native)
}

/// Returns the size of the files below a directory whose extension `counts`.
fn size_below(dir: &Path, enters: impl Fn(&Path) -> bool, counts: impl Fn(&OsStr) -> bool) -> u64 {
    let mut unvisited = vec![dir.to_path_buf()];
    let mut size = 0;
    let mut entries = 0;
    while let Some(dir) = unvisited.pop() {
        let Ok(listed) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in listed.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return size;
            }
            let path = entry.path();
            // Links are not followed, so this ends.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && enters(&path) => unvisited.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(&counts) => {
                    size += entry.metadata().map_or(0, |metadata| metadata.len());
                }
                _ => {}
            }
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess_of(kind: Kind) -> Work {
        let subject = Subject {
            kind,
            package: None,
            is_optimized: false,
        };
        guess(&subject, Table::SHIPPED).work
    }

    #[test]
    fn more_source_is_more_work() {
        let library = |source| guess_of(Kind::Library { source });
        assert!(library(100_000).frontend > library(1_000).frontend);
        assert!(library(100_000).codegen > library(1_000).codegen);
        assert_eq!(library(0), Work::default());
        assert!(library(u64::MAX).frontend > library(u64::MAX / 2).frontend);
        let run = |native_source| guess_of(Kind::Run { native_source }).frontend;
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
        let of = |kind, is_optimized, version| {
            let subject = Subject {
                kind,
                package: Some(("syn", version)),
                is_optimized,
            };
            guess(&subject, Table::SHIPPED)
        };
        let kind = Kind::Library { source: 1 };
        let known = of(kind, false, [2, 0, 0]);
        assert_eq!(known.basis, Basis::Prior);
        assert!(known.work.frontend > 500 * MILLISECOND && known.work.codegen > 0);
        let optimized = of(kind, true, [2, 0, 0]);
        assert!(optimized.work.codegen > known.work.codegen);
        assert_eq!(
            of(Kind::BuildScript, false, [2, 0, 0]).basis,
            Basis::BuildScript
        );
    }

    #[test]
    fn linked_units_have_no_codegen() {
        for kind in [
            Kind::ProcMacro { source: 1 },
            Kind::Linked { source: 1 },
            Kind::BuildScript,
        ] {
            assert_eq!(guess_of(kind).codegen, 0);
            assert!(guess_of(kind).link > 0);
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
        let size = |root: &str| source_size(&dir.path().join(root));
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
            ("target/debug/build/copy.c", 10_000),
            (".git/hidden.c", 20_000),
            ("member/Cargo.toml", 4),
            ("member/native.c", 30_000),
            ("c", 5),
        ]);
        assert_eq!(native_source_size(dir.path()), 1_110);
        assert_eq!(native_source_size(&dir.path().join("member")), 30_000);
        assert_eq!(native_source_size(&dir.path().join("gone")), 0);
    }
}
