//! What some of Cargo's tests need and the released crate lacks.
//!
//! `cargo package` leaves out empty directories and those with a manifest of their own. Where it
//! does not matter what is in them, they are laid down beside the tests. The tree's git does not
//! see them: they are nobody's work, and no patch is to hold them.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;

use crate::tree::Tree;

/// Directories that may be empty.
const DIRECTORIES: &[&str] = &[
    "tests/testsuite/cargo_bench/no_keep_going/in",
    "tests/testsuite/cargo_test/no_keep_going/in",
];

/// A package, whichever: its directory and its files.
const PACKAGE: (&str, &[(&str, &str)]) = (
    "tests/testsuite/cargo_update/toolchain_pkgname/in",
    &[
        (
            "Cargo.toml",
            "[package]\nname = \"test\"\nversion = \"0.1.0\"\n",
        ),
        ("src/lib.rs", ""),
    ],
);

/// Lays down what is not there.
pub fn lay_down(tree: &Tree) -> Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.dir().join(directory))?;
    }
    let (directory, files) = PACKAGE;
    // First of all: others may look at the tree at the same time.
    hide(tree, directory)?;
    for (file, content) in files {
        let path = tree.dir().join(directory).join(file);
        // A patch may have brought one.
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap_or(tree.dir()))?;
            fs::write(path, content)?;
        }
    }
    Ok(())
}

/// Makes git overlook a directory of the tree, without a `.gitignore` that git would see.
fn hide(tree: &Tree, directory: &str) -> Result<()> {
    let path = tree
        .git()
        .run(["rev-parse", "--git-path", "info/exclude"])?;
    let path = tree.dir().join(path);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    if let Some(text) = with_line(&text, &format!("/{directory}/")) {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// `text` with `line` at its end, unless it is there already.
fn with_line(text: &str, line: &str) -> Option<String> {
    if text.lines().any(|other| other == line) {
        return None;
    }
    let separator = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{separator}{line}\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::State;

    #[test]
    fn a_line_is_added_once() {
        assert_eq!(with_line("", "/in/").as_deref(), Some("/in/\n"));
        assert_eq!(with_line("*.swp", "/in/").as_deref(), Some("*.swp\n/in/\n"));
        assert_eq!(with_line("/in/\n*.swp\n", "/in/"), None);
    }

    #[test]
    fn nobody_takes_them_for_work() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("Cargo.toml"), "").unwrap();
        let tree = Tree::new(&dir.path().join("tree")).unwrap();
        tree.found(&source, "cargo").unwrap();

        lay_down(&tree).unwrap();
        lay_down(&tree).unwrap();
        assert!(tree.dir().join(DIRECTORIES[0]).is_dir());
        let manifest = tree.dir().join(PACKAGE.0).join("Cargo.toml");
        assert!(manifest.is_file());
        assert!(matches!(tree.state().unwrap(), State::Clean(_)));

        fs::write(&manifest, "# by a patch").unwrap();
        lay_down(&tree).unwrap();
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "# by a patch");
    }
}
