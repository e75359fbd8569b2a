//! How much source there is, where nothing better is known of what it costs.

use std::ffi::OsStr;
use std::path::Path;

/// Beyond so many directory entries nothing more is looked at: what is known by then says enough.
const MAX_ENTRIES: usize = 4_000;

/// The size, in bytes, of the source files that probably belong to the crate with this root.
///
/// Those are the root and, where its name is one that claims a directory (`lib.rs`, or `main.rs` of
/// a package without a library), all `.rs` files below its directory; otherwise the directory
/// beside it that has its name, for its modules. Which files rustc reads is known only when it has
/// read them, so this is an estimate.
///
/// What cannot be read counts nothing. Blocks as long as it takes to list the directories.
pub fn source_size(root: &Path) -> u64 {
    let stem = root.file_stem().unwrap_or_default();
    let claims_directory =
        stem == "lib" || (stem == "main" && !root.with_file_name("lib.rs").exists());
    let size_below = |dir: &Path| size_below(dir, |_| true, |extension| extension == "rs");
    if claims_directory {
        root.parent().map_or(0, size_below)
    } else if stem == "main" {
        file_size(root)
    } else {
        file_size(root) + size_below(&root.with_extension(""))
    }
}

/// What files are called that C compilers and assemblers make object files of.
const NATIVE: [&str; 8] = ["asm", "c", "cc", "cpp", "cxx", "m", "mm", "s"];

/// The size, in bytes, of all that a build script could have compiled by a C compiler: C, C++,
/// Objective-C and assembly in the package with this root, which may be much more than it compiles.
///
/// Packages within the package, a directory `target`, and what is hidden do not count; nor does what
/// cannot be read. Blocks as long as it takes to list the directories.
pub fn native_source_size(package: &Path) -> u64 {
    let is_own = |dir: &Path| {
        let name = dir.file_name().unwrap_or_default();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        !is_hidden && name != "target" && !dir.join("Cargo.toml").exists()
    };
    let is_native = |extension: &OsStr| NATIVE.iter().any(|it| extension.eq_ignore_ascii_case(it));
    size_below(package, is_own, is_native)
}

/// The size of all files below a directory that have such an extension, but for some directories.
fn size_below(dir: &Path, enters: impl Fn(&Path) -> bool, counts: impl Fn(&OsStr) -> bool) -> u64 {
    let mut unvisited = vec![dir.to_path_buf()];
    let mut size = 0;
    let mut entries = 0;
    while let Some(dir) = unvisited.pop() {
        let Ok(listed) = std::fs::read_dir(&dir) else {
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

fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of files of such sizes.
    fn dir_of(files: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, size) in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![b' '; *size]).unwrap();
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
        std::fs::remove_file(dir.path().join("src/lib.rs")).unwrap();
        assert_eq!(size("src/main.rs"), 111_100);
    }

    #[test]
    fn what_a_c_compiler_takes_is_all_that_is_in_the_package_itself() {
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
