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

#[derive(Debug)]
pub struct Built {
    /// Its absolute path; the only file in its directory.
    pub path: PathBuf,
    /// Keeps the tree as it was built.
    pub _lock: Lock,
}

/// Builds, and prints the path of the binary.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let built = cargo(project, Variant::new(args.stock), args.release)?;
    println!("{}", built.path.display());
    Ok(())
}

/// Builds a cargo, with optimizations if it is for a release. Assembles its tree where needed.
pub fn cargo(project: &Project, variant: Variant, release: bool) -> Result<Built> {
    toolchain::check()?;
    let (tree, lock) = assemble::ensure(project, variant)?;
    let mut command = cargo::in_tree(project, variant, "build", &tree)?;
    command.args(["--bin", "cargo"]);
    if release {
        command.arg("--release");
    }
    let purpose = match variant {
        Variant::Patched | Variant::Prefix => "building the replacement cargo",
        Variant::Stock => "building the released cargo",
    };
    let executable = cargo::executable(command, purpose, "bin")?;
    Ok(Built {
        path: place(project, variant, release, &executable)?,
        _lock: lock,
    })
}

/// Puts the binary into a directory of its own.
///
/// Where cargo links it, a build of the testsuite puts one with the features of the tests, and on `PATH` that
/// directory would bring along whatever else is in it.
fn place(project: &Project, variant: Variant, release: bool, executable: &Path) -> Result<PathBuf> {
    let profile = if release { "release" } else { "dev" };
    let dir = project.upstream().join("bin").join(match variant {
        Variant::Patched => profile.to_owned(),
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
