//! The checkout: its paths, the release that the series applies to, and whether to use the network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

/// What every command works on.
#[derive(Clone, Debug, Default)]
pub struct Project {
    pub root: PathBuf,
    pub base: Base,
    /// Use only what was downloaded before.
    pub offline: bool,
}

impl Project {
    /// Reads the checkout at `root`, or else the one in which this binary was compiled.
    pub fn read(root: Option<PathBuf>, offline: bool) -> Result<Self> {
        // Not `CARGO_MANIFEST_DIR` at run time: the tests run this binary from the environment of
        // another package.
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.unwrap_or_else(|| package.parent().unwrap_or(package).to_path_buf());
        let base = Base::read(&root.join("patches"))?;
        Ok(Project {
            root,
            base,
            offline,
        })
    }

    /// Returns the directory of the patch files, `series` and `base`.
    pub fn patches(&self) -> PathBuf {
        self.root.join("patches")
    }

    /// Returns the directory of the recorded builds.
    pub fn recordings(&self) -> PathBuf {
        self.root.join("tests/replay/traces")
    }

    /// Returns the directory of everything that is made from the released crate.
    ///
    /// It does not depend on `CARGO_TARGET_DIR`: the patched manifest refers to the engine by a
    /// relative path.
    pub fn upstream(&self) -> PathBuf {
        self.root.join("target/upstream")
    }

    pub fn tree(&self, variant: Variant) -> PathBuf {
        let name = format!("{}-{}", variant.name(), self.base.version);
        self.upstream().join(name)
    }

    /// Returns the target directory in which a variant is built.
    pub fn build(&self, variant: Variant) -> PathBuf {
        self.upstream().join(match variant {
            Variant::Patched => "build",
            Variant::Stock => "build-stock",
            Variant::Prefix => "build-prefix",
        })
    }

    /// Returns `path` relative to the root of the checkout, for messages.
    pub fn shown(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.display().to_string()
    }
}

/// A variant of Cargo's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The release with the series applied.
    Patched,
    Stock,
    /// The release with a part of the series applied, as `prefixes` checks it.
    Prefix,
}

impl Variant {
    pub fn new(stock: bool) -> Self {
        if stock {
            Variant::Stock
        } else {
            Variant::Patched
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Variant::Patched => "cargo",
            Variant::Stock => "stock",
            Variant::Prefix => "prefix",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    pub version: String,
    /// SHA-256 of the `.crate`, in hexadecimal, as the registry's index has it.
    pub checksum: String,
}

impl Base {
    /// Reads `base` in the directory of the patches: one line, as `sha256sum` prints it.
    fn read(patches: &Path) -> Result<Self> {
        let path = patches.join("base");
        let text = fs::read_to_string(&path)?;
        let base = || {
            let (checksum, name) = text.trim_end().split_once("  ")?;
            let version = name.strip_prefix("cargo-")?.strip_suffix(".crate")?;
            let is_hex = checksum.bytes().all(|b| b.is_ascii_hexdigit());
            let is_valid = checksum.len() == 64 && is_hex && is_version(version);
            is_valid.then(|| Base {
                version: version.to_owned(),
                checksum: checksum.to_owned(),
            })
        };
        let (path, form) = (path.display(), "`SHA256  cargo-VERSION.crate`");
        base().with_context(|| format!("{path} has to be one line, {form}"))
    }

    /// Writes `base` in the directory of the patches.
    pub fn write(&self, patches: &Path) -> Result<()> {
        let text = format!("{}  {}\n", self.checksum, crate_file(&self.version));
        Ok(fs::write(patches.join("base"), text)?)
    }
}

pub fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Returns the name of a release's file in the registry's cache.
pub fn crate_file(version: &str) -> String {
    format!("cargo-{version}.crate")
}

/// Checks that `text` is the version of a release, and so can be a part of a path.
pub fn is_version(text: &str) -> bool {
    semver::Version::parse(text).is_ok_and(|version| version.pre.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base_is_one_line_with_checksum_and_version() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Base::read(dir.path()).is_err());
        let base = Base {
            version: "0.100.0".into(),
            checksum: "7b".repeat(32),
        };
        base.write(dir.path()).unwrap();
        assert_eq!(Base::read(dir.path()).unwrap(), base);
        for name in ["cargo-../1.0.crate", "cargo-0.100.crate"] {
            fs::write(
                dir.path().join("base"),
                format!("{}  {name}", base.checksum),
            )
            .unwrap();
            let error = Base::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("SHA256  cargo-VERSION.crate"), "{error}");
        }
    }
}
