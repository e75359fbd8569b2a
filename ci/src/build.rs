//! `cargo xtask build`: the replacement, or the released cargo built in the same way.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use tempfile::TempDir;

use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::{assemble, cargo, toolchain};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build with optimizations
    #[arg(long)]
    release: bool,
    /// Build the released cargo instead, in the same way, for comparison
    #[arg(long)]
    stock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub fn new(release: bool) -> Self {
        if release {
            Profile::Release
        } else {
            Profile::Dev
        }
    }
}

#[derive(Debug)]
pub struct Built {
    /// Its absolute path; the only file in its directory.
    pub path: PathBuf,
    /// Keeps the tree as it was built.
    pub _lock: Lock,
}

/// Builds, and prints the path of the binary.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let (variant, profile) = (Variant::new(args.stock), Profile::new(args.release));
    let built = cargo(project, variant, profile)?;
    println!("{}", built.path.display());
    Ok(())
}

/// Builds a cargo. Assembles its tree where needed.
pub fn cargo(project: &Project, variant: Variant, profile: Profile) -> Result<Built> {
    toolchain::check()?;
    let (tree, lock) = assemble::ensure(project, variant)?;
    let mut command = cargo::in_tree(project, variant, "build", &tree)?;
    command.args(["--bin", "cargo"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    let purpose = match variant {
        Variant::Patched | Variant::Prefix => "building the replacement cargo",
        Variant::Stock => "building the released cargo",
    };
    let executable = cargo::executable(command, purpose, "bin")?;
    Ok(Built {
        path: place(project, variant, profile, &executable)?,
        _lock: lock,
    })
}

/// Puts the binary into a directory of its own.
///
/// Where cargo links it, a build of the testsuite puts one with the features of the tests, and on `PATH` that
/// directory would bring along whatever else is in it.
fn place(
    project: &Project,
    variant: Variant,
    profile: Profile,
    executable: &Path,
) -> Result<PathBuf> {
    let profile = format!("{profile:?}").to_lowercase();
    let dir = project.upstream().join("bin").join(match variant {
        Variant::Patched => profile,
        Variant::Stock | Variant::Prefix => format!("{}-{profile}", variant.name()),
    });
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("cargo{}", std::env::consts::EXE_SUFFIX));
    // Linked elsewhere and then renamed: the old one may be running.
    let temporary = TempDir::with_prefix_in(".cargo-", project.upstream())?;
    let new = temporary.path().join("cargo");
    if fs::hard_link(executable, &new).is_err() {
        fs::copy(executable, &new)?;
    }
    fs::rename(&new, &path)
        .with_context(|| format!("could not replace {}; is it running?", path.display()))?;
    Ok(path)
}
