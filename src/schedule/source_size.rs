//! How much source a crate has, where nothing better is known of what it costs.

use std::path::{Path, PathBuf};

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
    let mut unvisited: Vec<PathBuf> = Vec::new();
    let mut size = 0;
    if claims_directory {
        unvisited.extend(root.parent().map(Path::to_path_buf));
    } else {
        size = file_size(root);
        if stem != "main" {
            unvisited.push(root.with_extension(""));
        }
    }
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
            // Links are not followed, so this ends.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => unvisited.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.path().extension() == Some("rs".as_ref()) => {
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

    #[test]
    fn each_root_has_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, size) in [
            ("build.rs", 1),
            ("src/lib.rs", 10),
            ("src/a/b.rs", 100),
            ("src/a/notes.txt", 5),
            ("src/main.rs", 1_000),
            ("src/bin/tool.rs", 10_000),
            ("src/bin/tool/args.rs", 100_000),
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![b' '; size]).unwrap();
        }
        let size = |root: &str| source_size(&dir.path().join(root));
        assert_eq!(size("build.rs"), 1);
        assert_eq!(size("src/lib.rs"), 111_110);
        assert_eq!(size("src/main.rs"), 1_000);
        assert_eq!(size("src/bin/tool.rs"), 110_000);
        assert_eq!(size("src/gone.rs"), 0);
        std::fs::remove_file(dir.path().join("src/lib.rs")).unwrap();
        assert_eq!(size("src/main.rs"), 111_100);
    }
}
