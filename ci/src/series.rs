//! `patches/`: the patch files and the order in which they apply.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use sha2::{Digest, Sha256};

/// The file that lists the patches.
pub const FILE: &str = "series";

/// One patch file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its file name.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// SHA-256 of what it holds.
    pub digest: String,
}

impl Patch {
    /// A patch of that name and content.
    pub fn new(name: String, bytes: Vec<u8>) -> Self {
        let digest = sha256(&bytes);
        Patch {
            name,
            bytes,
            digest,
        }
    }
}

/// All patches, in order.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The comment that `series` begins with, line ends included.
    pub header: String,
    /// The patches.
    pub patches: Vec<Patch>,
}

impl Series {
    /// Reads `dir`. Nothing there at all is a series of no patches.
    pub fn read(dir: &Path) -> Result<Self> {
        let files = patch_files(dir)?;
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && files.is_empty() => {
                String::new()
            }
            Err(error) => return Err(error).context("could not read the series of patches"),
        };
        let mut patches = Vec::new();
        for name in names(&text)? {
            if !files.contains(&name) {
                bail!(
                    "patches/series lists `{name}`, which does not exist in patches/; add the file or remove the line"
                );
            }
            let bytes = fs::read(dir.join(&name))?;
            patches.push(Patch::new(name, bytes));
        }
        if let Some(name) = files
            .iter()
            .find(|file| !patches.iter().any(|patch| patch.name == **file))
        {
            bail!(
                "patches/{name} is not listed in patches/series; add a line for it or remove the file"
            );
        }
        Ok(Series {
            header: header(&text).to_string(),
            patches,
        })
    }

    /// The text of `series`.
    pub fn text(&self) -> String {
        let mut text = self.header.clone();
        for patch in &self.patches {
            text.push_str(&patch.name);
            text.push('\n');
        }
        text
    }
}

/// The names of the patch files in `dir`, which need not exist.
pub fn patch_files(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(".patch")
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The comment and blank lines that `text` begins with.
pub fn header(text: &str) -> &str {
    let length = text
        .split_inclusive('\n')
        .take_while(|line| is_comment(line))
        .map(str::len)
        .sum();
    &text[..length]
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The names that `text` lists.
fn names(text: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if is_comment(line) {
            continue;
        }
        let number = number + 1;
        let name = line.trim();
        if !name.ends_with(".patch") || name.contains(['/', '\\']) {
            bail!(
                "patches/series, line {number}: `{name}` is not the name of a file in patches/ that ends in `.patch`"
            );
        }
        if names.iter().any(|seen| seen == name) {
            bail!("patches/series, line {number}: `{name}` is listed twice");
        }
        names.push(name.to_string());
    }
    Ok(names)
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_names() {
        let text = "# order matters\n\none.patch\n  # between\n two.patch \n\n";
        assert_eq!(names(text).unwrap(), ["one.patch", "two.patch"]);
        assert_eq!(header(text), "# order matters\n\n");
        assert_eq!(header("one.patch\n# later\n"), "");
        assert_eq!(header(""), "");
    }

    #[test]
    fn a_name_must_be_a_patch_file_and_appear_once() {
        let error = names("one.patch\none.patch\n").unwrap_err().to_string();
        assert_eq!(error, "patches/series, line 2: `one.patch` is listed twice");
        assert!(names("../one.patch").is_err());
        assert!(names("README.md").is_err());
    }

    #[test]
    fn files_and_lines_must_agree() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Series::read(dir.path()).unwrap().patches.is_empty());

        fs::write(dir.path().join("one.patch"), "1").unwrap();
        assert!(Series::read(dir.path()).is_err(), "no series at all");

        fs::write(dir.path().join(FILE), "").unwrap();
        let error = Series::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("patches/one.patch is not listed"),
            "{error}"
        );

        fs::write(dir.path().join(FILE), "# why\none.patch\ntwo.patch\n").unwrap();
        let error = Series::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("lists `two.patch`, which does not exist"),
            "{error}"
        );

        fs::write(dir.path().join("two.patch"), "2").unwrap();
        let series = Series::read(dir.path()).unwrap();
        assert_eq!(series.text(), "# why\none.patch\ntwo.patch\n");
    }
}
