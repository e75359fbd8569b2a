//! Files that some of Cargo's tests need and the released crate lacks.
//!
//! `cargo package` leaves out empty directories and those with a manifest of their own. They are created where
//! the content does not matter. The tree's git ignores them, as they belong to no patch.

use anyhow::Result;
use fs_err as fs;

use crate::tree::Tree;

/// Directories that may be empty.
const DIRECTORIES: [&str; 2] = [
    "tests/testsuite/cargo_bench/no_keep_going/in",
    "tests/testsuite/cargo_test/no_keep_going/in",
];

/// The directory of any package.
const PACKAGE: &str = "tests/testsuite/cargo_update/toolchain_pkgname/in";

pub fn create(tree: &Tree) -> Result<()> {
    // First of all: other processes may look at the tree at the same time.
    let info = tree.dir().join(".git/info");
    let exclude = info.join("exclude");
    let line = format!("/{PACKAGE}/\n");
    let text = fs::read_to_string(&exclude).unwrap_or_default();
    if !text.contains(&line) {
        fs::create_dir_all(info)?;
        fs::write(exclude, format!("{text}\n{line}"))?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.dir().join(directory))?;
    }
    let package = tree.dir().join(PACKAGE);
    let manifest = package.join("Cargo.toml");
    // A patch may have brought one.
    if !manifest.exists() {
        fs::create_dir_all(package.join("src"))?;
        fs::write(package.join("src/lib.rs"), "")?;
        fs::write(
            manifest,
            "[package]\nname = \"test\"\nversion = \"0.1.0\"\n",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::State;

    #[test]
    fn fixtures_are_no_work() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("Cargo.toml"), "").unwrap();
        let tree = Tree::new(&dir.path().join("tree")).unwrap();
        tree.create(&source, "cargo").unwrap();

        create(&tree).unwrap();
        create(&tree).unwrap();
        let manifest = tree.dir().join(PACKAGE).join("Cargo.toml");
        assert!(manifest.is_file() && tree.dir().join(DIRECTORIES[0]).is_dir());
        assert!(matches!(tree.state().unwrap(), State::Clean(_)));

        fs::write(&manifest, "# by a patch").unwrap();
        create(&tree).unwrap();
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "# by a patch");
    }
}
