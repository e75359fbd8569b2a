//! What a unit probably costs that was never built.
//!
//! The figures come from recorded builds of some hundred crates. The cost of a crate grows roughly with the
//! square root of its source. For nine in ten libraries the frontend is within a factor of three, the codegen
//! of six. Build scripts that compile a large library in C matter most: seven in ten are within a factor of
//! four; the others find the library on the system, or have much source for other systems. The build itself
//! [corrects](super::estimate::Correction) how far guesses are off as a whole.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::Work;

/// What is to be guessed. `source` is what [`source_size`] returns, `native_source` what
/// [`native_source_size`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the documentation of the type has the fields")]
pub enum Kind {
    /// A library.
    Library { source: u64 },
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

const MILLISECOND: u64 = 1_000;

/// Guesses the work of a unit.
pub fn guess(kind: Kind) -> Work {
    let work = |frontend, codegen, link| Work {
        frontend,
        codegen,
        link,
    };
    match kind {
        Kind::Library { source } => work(700 * source.isqrt(), 400 * source.isqrt(), 0),
        // A linked unit writes no metadata for others: all of its compilation is frontend.
        Kind::ProcMacro { source } => work(4_500 * source.isqrt(), 0, 100 * MILLISECOND),
        Kind::Linked { source } => work(9_500 * source.isqrt(), 0, 100 * MILLISECOND),
        Kind::BuildScript => work(140 * MILLISECOND, 0, 60 * MILLISECOND),
        Kind::Run { native_source } => work(50 * MILLISECOND + 8_000 * native_source.isqrt(), 0, 0),
        Kind::Other => work(100 * MILLISECOND, 0, 0),
    }
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

    #[test]
    fn more_source_is_more_work() {
        let library = |source| guess(Kind::Library { source });
        assert!(library(100_000).frontend > library(1_000).frontend);
        assert!(library(100_000).codegen > library(1_000).codegen);
        assert_eq!(library(0), Work::default());
        assert!(library(u64::MAX).frontend > library(u64::MAX / 2).frontend);
        let run = |native_source| guess(Kind::Run { native_source }).frontend;
        assert!(run(1_000_000) > run(1_000) && run(1_000) > run(0));
        assert!(run(u64::MAX) > run(u64::MAX / 2));
    }

    #[test]
    fn linked_units_have_no_codegen() {
        for kind in [
            Kind::ProcMacro { source: 1 },
            Kind::Linked { source: 1 },
            Kind::BuildScript,
        ] {
            assert_eq!(guess(kind).codegen, 0);
            assert!(guess(kind).link > 0);
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
