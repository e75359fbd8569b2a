//! The release of the `cargo` crate that the series applies to.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

/// The file beside `series` that says which release, in one line, as `sha256sum` prints it.
pub const FILE: &str = "base";

/// A release, and what its `.crate` must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.crate`, in hexadecimal, as the registry's index has it.
    pub checksum: String,
}

impl Base {
    /// Reads `patches/base`.
    pub fn read(patches: &Path) -> Result<Self> {
        let path = patches.join(FILE);
        let text = fs::read_to_string(&path)?;
        Self::parse(&text).with_context(|| {
            format!(
                "{} has to be one line, `SHA256  cargo-VERSION.crate`",
                path.display()
            )
        })
    }

    /// Writes `patches/base`.
    pub fn write(&self, patches: &Path) -> Result<()> {
        let text = format!("{}  {}\n", self.checksum, file_name(&self.version));
        Ok(fs::write(patches.join(FILE), text)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (checksum, name) = text.trim_end().split_once("  ")?;
        let version = name.strip_prefix("cargo-")?.strip_suffix(".crate")?;
        let is_checksum = checksum.len() == 64 && checksum.bytes().all(|b| b.is_ascii_hexdigit());
        (is_checksum && is_version(version)).then(|| Base {
            version: version.to_owned(),
            checksum: checksum.to_owned(),
        })
    }
}

/// The name of a release's file in the registry's cache.
pub fn file_name(version: &str) -> String {
    format!("cargo-{version}.crate")
}

/// Whether this can be a version, and so a part of a path.
pub fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() == 3 && text.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let base = Base {
            version: "0.100.0".into(),
            checksum: "7b".repeat(32),
        };
        base.write(dir.path()).unwrap();
        assert_eq!(Base::read(dir.path()).unwrap(), base);
    }

    #[test]
    fn anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Base::read(dir.path()).is_err());
        let checksum = "7b".repeat(32);
        for text in [
            String::new(),
            format!("{checksum}  cargo-../1.0.crate\n"),
            format!("{checksum}  cargo-0.100.crate\n"),
            "7b  cargo-0.100.0.crate\n".to_owned(),
        ] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Base::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("SHA256  cargo-VERSION.crate"), "{error}");
        }
    }
}
