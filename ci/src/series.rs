//! `patches/`: the patch files and the order in which they apply.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use cargo_util::Sha256;
use fs_err as fs;
use serde::{Deserialize, Serialize};

const FILE: &str = "series";

const HEADER: &str = "\
# The patches on the `cargo` crate, in the order in which they apply: one file name per line.
# Written by `cargo xtask export`, which keeps this comment.

";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    pub name: String,
    pub text: String,
}

/// Reads the patches in `dir` in the order in which they apply. `series` must list all of them.
pub fn read(dir: &Path) -> Result<Vec<Patch>> {
    let text = fs::read_to_string(dir.join(FILE))?;
    let mut files = files(dir)?;
    let mut patches = Vec::new();
    for line in text.lines().filter(|line| !is_comment(line)) {
        let name = line.trim().to_owned();
        if !files.remove(&name) {
            bail!(
                "patches/series lists `{name}`, which does not exist in patches/; add the file or remove the line"
            );
        }
        let text = fs::read_to_string(dir.join(&name))?;
        patches.push(Patch { name, text });
    }
    if let Some(name) = files.first() {
        bail!(
            "patches/{name} is not listed in patches/series; add a line for it or remove the file"
        );
    }
    Ok(patches)
}

/// Makes `dir` hold these patches and no others. Returns what has happened to each file.
pub fn write(dir: &Path, patches: &[Patch]) -> Result<Vec<(Change, String)>> {
    let mut changes = Vec::new();
    for name in files(dir)? {
        if patches.iter().all(|patch| patch.name != name) {
            fs::remove_file(dir.join(&name))?;
            changes.push((Change::Removed, name));
        }
    }
    let series = dir.join(FILE);
    let mut list = match fs::read_to_string(&series) {
        Ok(text) => header(&text).to_owned(),
        Err(_) => HEADER.to_owned(),
    };
    for patch in patches {
        let change = write_if_changed(&dir.join(&patch.name), &patch.text)?;
        changes.push((change, patch.name.clone()));
        list += &format!("{}\n", patch.name);
    }
    write_if_changed(&series, &list)?;
    Ok(changes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Changed,
    Removed,
    Unchanged,
}

fn write_if_changed(path: &Path, text: &str) -> Result<Change> {
    let change = match fs::read_to_string(path) {
        Ok(old) if old == text => return Ok(Change::Unchanged),
        Ok(_) => Change::Changed,
        Err(_) => Change::Added,
    };
    fs::write(path, text)?;
    Ok(change)
}

fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".patch") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Returns the comment and blank lines that `text` begins with.
fn header(text: &str) -> &str {
    let lines = text.split_inclusive('\n');
    let header = lines.take_while(|line| is_comment(line));
    &text[..header.map(str::len).sum()]
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::new().update(bytes).finish_hex()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patches(patches: &[(&str, &str)]) -> Vec<Patch> {
        let patches = patches.iter().map(|(name, text)| Patch {
            name: name.to_string(),
            text: text.to_string(),
        });
        patches.collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let old = patches(&[("a.patch", "1"), ("b.patch", "2")]);
        let changes = write(dir, &old).unwrap();
        assert!(changes.iter().all(|(change, _)| *change == Change::Added));
        assert_eq!(read(dir).unwrap(), old);

        let new = patches(&[("c.patch", "3"), ("b.patch", "22")]);
        let changes = write(dir, &new).unwrap();
        let changes: Vec<_> = changes.iter().map(|(it, name)| (*it, &**name)).collect();
        assert_eq!(
            changes,
            [
                (Change::Removed, "a.patch"),
                (Change::Added, "c.patch"),
                (Change::Changed, "b.patch"),
            ]
        );
        assert_eq!(read(dir).unwrap(), new);
        let list = fs::read_to_string(dir.join(FILE)).unwrap();
        assert_eq!(list, format!("{HEADER}c.patch\nb.patch\n"));

        // Each is listed once, and none is elsewhere.
        for line in ["b.patch", "../b.patch", "README.md"] {
            fs::write(dir.join(FILE), format!("# why\n{list}  {line}\n")).unwrap();
            let error = read(dir).unwrap_err().to_string();
            assert!(error.contains(&format!("lists `{line}`")), "{error}");
        }
    }
}
