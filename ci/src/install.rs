//! `cargo xtask install`: a rustup toolchain that is the active one with another cargo.
//!
//! It is a directory of links, so it follows the updates of the original; only `bin/cargo` is a file. Its cargo
//! runs the rustc of that toolchain. A bare binary on `PATH` would run rustup's proxy, which obeys a
//! `rust-toolchain.toml` in whatever dependency is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use tempfile::TempDir;

use crate::build;
use crate::project::{Project, Variant};
use crate::toolchain;

/// The file that marks a toolchain made here, and names the one it was made from.
const MARKER: &str = "made-by-cargo-pipelining";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    name: NameArgs,
    /// Install a dev build, which is quicker to build and slower to run
    #[arg(long)]
    debug: bool,
}

#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// The name of the toolchain
    #[arg(long, default_value = "pipelined")]
    name: String,
}

/// Builds the replacement and installs it as a toolchain.
pub fn install(project: &Project, args: &Args) -> Result<()> {
    let name = &args.name.name;
    let place = place(name)?;
    // Before the build, which takes minutes.
    let has_rustup = which::which("rustup").is_ok();
    if has_rustup {
        check_ours(&place, name)?;
    }
    let built = build::cargo(project, Variant::Patched, !args.debug)?;
    if !has_rustup {
        let dir = built.path.parent().unwrap_or(&built.path);
        note!("rustup was not found, so there is no toolchain to add");
        println!(
            "To use the replacement as `cargo`, put this directory first on PATH:\n    {}",
            dir.display()
        );
        return Ok(());
    }
    let sysroot = toolchain::sysroot()?;
    let original = original(&sysroot).unwrap_or(sysroot);
    make(&place, &original, &built.path)?;
    let (place, original) = (place.display(), original.display());
    status!("Installed", "toolchain `{name}` in {place}, of {original}");
    println!("Use it in any project: cargo +{name} build");
    Ok(())
}

/// Removes a toolchain that was made here.
pub fn uninstall(args: &NameArgs) -> Result<()> {
    let name = &args.name;
    let place = place(name)?;
    if fs::symlink_metadata(&place).is_err() {
        let place = place.display();
        bail!("toolchain `{name}` is not installed: {place} does not exist");
    }
    check_ours(&place, name)?;
    // This removes links, not what they lead to.
    fs::remove_dir_all(&place)?;
    status!("Uninstalled", "toolchain `{name}`");
    Ok(())
}

/// Returns the directory of a toolchain. rustup takes names that look like a release for releases.
fn place(name: &str) -> Result<PathBuf> {
    let channel = name.split('-').next().unwrap_or(name);
    if ["stable", "beta", "nightly", "none"].contains(&channel)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || name.contains(['/', '\\'])
    {
        bail!(
            "`{name}` cannot be the name of a toolchain, or is that of an official one; choose another --name"
        );
    }
    let home = home::rustup_home().context("there is no RUSTUP_HOME")?;
    Ok(home.join("toolchains").join(name))
}

/// Fails if there is a toolchain that was not made here.
fn check_ours(place: &Path, name: &str) -> Result<()> {
    let exists = fs::symlink_metadata(place).is_ok();
    if exists && !place.join(MARKER).is_file() {
        bail!(
            "toolchain `{name}` was not made by `cargo xtask install` and is left alone; choose another --name, or remove it with `rustup toolchain uninstall {name}`"
        );
    }
    Ok(())
}

/// Returns the toolchain that the one at `toolchain` was made from, if it was made here. That one was
/// not made here: links to links would end with the first of them.
pub fn original(toolchain: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(toolchain.join(MARKER)).ok()?;
    let mut lines = text.lines();
    lines.find(|line| !line.starts_with('#')).map(PathBuf::from)
}

/// Makes the toolchain beside its place and then moves it there.
fn make(place: &Path, original: &Path, cargo: &Path) -> Result<()> {
    let toolchains = place.parent().context("the toolchain has no place")?;
    fs::create_dir_all(toolchains)?;
    // On the same file system, and not where rustup looks for toolchains.
    let home = toolchains.parent().unwrap_or(toolchains);
    let temporary = TempDir::with_prefix_in("cargo-pipelining-", home)
        .with_context(|| format!("could not write to {}", home.display()))?;
    let new = temporary.path().join("new");
    let cargo_name = format!("cargo{}", std::env::consts::EXE_SUFFIX);
    fs::create_dir_all(new.join("bin"))?;
    link_all(original, &new, "bin")?;
    link_all(&original.join("bin"), &new.join("bin"), &cargo_name)?;
    fs::copy(cargo, new.join("bin").join(cargo_name))?;
    let comment =
        "# Links to the toolchain below, with another cargo. `cargo xtask uninstall` removes it.";
    let marker = format!("{comment}\n{}\n", original.display());
    fs::write(new.join(MARKER), marker)?;
    if fs::symlink_metadata(place).is_ok() {
        fs::rename(place, temporary.path().join("old"))?;
    }
    Ok(fs::rename(&new, place)?)
}

/// Links everything in `from` but `except`.
fn link_all(from: &Path, to: &Path, except: &str) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != except {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            link(&from, &to).with_context(|| {
                format!("could not link {} to {}", to.display(), from.display())
            })?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Symbolic links need a privilege on Windows; junctions and hard links do not.
#[cfg(windows)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        return junction::create(from, to);
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_releases_are_refused() {
        for name in ["pipelined", "my-cargo_2", "stablest", "x1.95"] {
            assert!(place(name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "..", "-x", "stable", "nightly-2026", "1.95.0"] {
            assert!(place(name).is_err(), "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn toolchain_is_made_of_links() {
        let dir = tempfile::tempdir().unwrap();
        let original = dir.path().join("original");
        fs::create_dir_all(original.join("bin")).unwrap();
        fs::create_dir_all(original.join("lib")).unwrap();
        for file in ["bin/cargo", "bin/rustc", "lib/std"] {
            fs::write(original.join(file), file).unwrap();
        }
        let cargo = dir.path().join("ours");
        fs::write(&cargo, "ours").unwrap();
        let place = dir.path().join("home/toolchains/pipelined");

        // Twice: the second replaces the first.
        for _ in 0..2 {
            make(&place, &original, &cargo).unwrap();
        }
        let read = |file: &str| fs::read_to_string(place.join(file)).unwrap();
        assert_eq!(read("bin/cargo"), "ours");
        assert_eq!(read("bin/rustc"), "bin/rustc");
        assert_eq!(read("lib/std"), "lib/std");
        check_ours(&place, "pipelined").unwrap();
        assert!(check_ours(&original, "original").is_err());
        assert_eq!(super::original(&place), Some(original.clone()));
        assert_eq!(super::original(&original), None);

        fs::remove_dir_all(&place).unwrap();
        assert!(original.join("lib/std").exists(), "the original stays");
    }
}
