//! Where everything is: one place for the paths below the root of the checkout.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::Base;

const PATCHES: &str = "patches";

/// The checkout, and the paths in it that the commands share.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    base: Base,
}

impl Layout {
    /// The checkout at `root`; without one, that in which this binary was compiled.
    ///
    /// # Errors
    ///
    /// If the checkout does not say what its series applies to.
    pub fn read(root: Option<PathBuf>) -> Result<Self> {
        // Not `CARGO_MANIFEST_DIR` at run time: the tests run this binary from the environment of
        // another package.
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.unwrap_or_else(|| package.parent().unwrap_or(package).to_path_buf());
        let base = Base::read(&root.join(PATCHES))?;
        Ok(Layout { root, base })
    }

    /// The checkout at `root`, whose series applies to `base`.
    pub fn new(root: PathBuf, base: Base) -> Self {
        Layout { root, base }
    }

    /// What the series applies to.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The root of the checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The patch files, `series` and `base`.
    pub fn patches(&self) -> PathBuf {
        self.root.join(PATCHES)
    }

    /// The workspace that `run` builds when it is given nothing else.
    pub fn example(&self) -> PathBuf {
        self.root.join("example")
    }

    /// What a run of the example leaves behind.
    pub fn example_output(&self) -> PathBuf {
        self.root.join("target").join("example")
    }

    /// Recordings of builds.
    pub fn recordings(&self) -> PathBuf {
        self.root.join("tests").join("replay").join("traces")
    }

    /// Where builds are recorded and replayed.
    pub fn replay(&self) -> PathBuf {
        self.root.join("target").join("replay")
    }

    /// What a benchmark leaves behind.
    pub fn bench(&self) -> PathBuf {
        self.root.join("target").join("bench")
    }

    /// The lists of tests that are expected to fail.
    pub fn expectations(&self) -> PathBuf {
        self.root.join("tests").join("upstream")
    }

    /// Everything that is made from the released crate.
    ///
    /// Fixed, whatever `CARGO_TARGET_DIR` says: the patched manifest refers to the engine by a
    /// path relative to its own place.
    pub fn upstream(&self) -> PathBuf {
        self.root.join("target").join("upstream")
    }

    /// The tree of one variant of Cargo's source.
    pub fn tree(&self, variant: Variant) -> PathBuf {
        let prefix = match variant {
            Variant::Patched => "cargo",
            Variant::Stock => "stock",
            Variant::Prefix => "prefix",
        };
        self.upstream()
            .join(format!("{prefix}-{}", self.base.version))
    }

    /// The target directory in which a variant is built.
    pub fn build(&self, variant: Variant) -> PathBuf {
        self.upstream().join(match variant {
            Variant::Patched => "build",
            Variant::Stock => "build-stock",
            Variant::Prefix => "build-prefix",
        })
    }

    /// `path` as one reads it from the root of the checkout.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

/// Which source is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Upstream with the series on it.
    Patched,
    /// Upstream as released.
    Stock,
    /// Upstream with a part of the series on it, as `prefixes` steps through it.
    Prefix,
}
