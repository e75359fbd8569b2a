//! `cargo xtask install`: a rustup toolchain that is the active one with another cargo.
//!
//! It is a directory of links, so it costs nothing and follows the updates of the toolchain it
//! was made from; only `bin/cargo` is a file. Through rustup it is chosen like any other, and
//! cargo then calls the rustc of that toolchain itself. A bare binary on `PATH` would call
//! rustup's proxy instead, which obeys a `rust-toolchain.toml` in whatever dependency is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::build::{self, Request};
use crate::layout::Layout;
use crate::{shell, toolchain};

/// Tells a toolchain made here from all others, and names the one it was made from.
const MARKER: &str = "made-by-cargo-pipelining";

/// Builds the replacement and installs it as the toolchain `name`.
pub fn install(layout: &Layout, request: Request, name: &str) -> Result<()> {
    check_name(name)?;
    let place = place(name)?;
    // Before the build, which takes minutes.
    let has_rustup = which::which("rustup").is_ok();
    if has_rustup {
        check_ours(&place, name)?;
    }
    let built = build::cargo(layout, request)?;
    if !has_rustup {
        let dir = built.path.parent().unwrap_or(&built.path);
        shell::note("rustup was not found, so there is no toolchain to add");
        println!(
            "To use the replacement as `cargo`, put this directory first on PATH:\n    {}",
            dir.display()
        );
        return Ok(());
    }
    let sysroot = toolchain::sysroot()?;
    let original = original(&sysroot)?.unwrap_or(sysroot);
    make(&place, &original, &built.path)?;
    shell::status(
        "Installed",
        format_args!(
            "toolchain `{name}` in {}, of {}",
            place.display(),
            original.display()
        ),
    );
    println!("Use it in any project: cargo +{name} build");
    Ok(())
}

/// Removes the toolchain `name`, if it was made here.
pub fn uninstall(name: &str) -> Result<()> {
    check_name(name)?;
    let place = place(name)?;
    if fs::symlink_metadata(&place).is_err() {
        bail!(
            "toolchain `{name}` is not installed: {} does not exist",
            place.display()
        );
    }
    check_ours(&place, name)?;
    // Links are removed, not what they lead to.
    fs::remove_dir_all(&place)?;
    shell::status("Uninstalled", format_args!("toolchain `{name}`"));
    Ok(())
}

fn place(name: &str) -> Result<PathBuf> {
    let home = home::rustup_home().context("there is no RUSTUP_HOME")?;
    Ok(home.join("toolchains").join(name))
}

/// rustup takes names that look like a release for releases.
fn check_name(name: &str) -> Result<()> {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || !plain || name.starts_with(['.', '-']) {
        bail!("`{name}` cannot be the name of a toolchain: use letters, digits, `-`, `_` and `.`");
    }
    let channel = ["stable", "beta", "nightly", "none"].iter().any(|channel| {
        name.strip_prefix(channel)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    if channel || name.starts_with(|c: char| c.is_ascii_digit()) {
        bail!("`{name}` is the name of an official toolchain: choose another one");
    }
    Ok(())
}

/// A toolchain that somebody else has made is not touched.
fn check_ours(place: &Path, name: &str) -> Result<()> {
    let exists = fs::symlink_metadata(place).is_ok();
    if exists && !place.join(MARKER).is_file() {
        bail!(
            "toolchain `{name}` was not made by `cargo xtask install` and is left alone; choose another --name, or remove it with `rustup toolchain uninstall {name}`"
        );
    }
    Ok(())
}

/// The toolchain that the one at `toolchain` was made from, if it was made here.
///
/// Never one that was made here in its turn: links to links would end with the first of them.
pub fn original(toolchain: &Path) -> Result<Option<PathBuf>> {
    let mut seen = vec![toolchain.to_path_buf()];
    let mut last = toolchain;
    while let Ok(text) = fs::read_to_string(last.join(MARKER)) {
        let line = text.lines().find(|line| !line.starts_with('#'));
        let next =
            PathBuf::from(line.with_context(|| {
                format!("{} does not say what it was made from", last.display())
            })?);
        if seen.contains(&next) {
            bail!("{} was made from itself", last.display());
        }
        seen.push(next);
        last = &seen[seen.len() - 1];
    }
    let found = seen.pop().filter(|_| !seen.is_empty());
    Ok(found)
}

/// Makes the toolchain beside its place and then puts it there.
fn make(place: &Path, original: &Path, cargo: &Path) -> Result<()> {
    let toolchains = place.parent().context("the toolchain has no place")?;
    fs::create_dir_all(toolchains)?;
    // On the same file system, and not where rustup looks for toolchains.
    let home = toolchains.parent().unwrap_or(toolchains);
    let beside = tempfile::Builder::new()
        .prefix("cargo-pipelining-")
        .tempdir_in(home)
        .with_context(|| format!("could not write to {}", home.display()))?;
    if !original.join("bin").is_dir() {
        bail!(
            "{} is no toolchain: it has no `bin` directory",
            original.display()
        );
    }
    let fresh = beside.path().join("fresh");
    let bin = fresh.join("bin");
    fs::create_dir_all(&bin)?;
    for entry in fs::read_dir(original)? {
        let entry = entry?;
        if entry.file_name() != "bin" {
            link(&entry.path(), &fresh.join(entry.file_name()))?;
        }
    }
    let cargo_name = format!("cargo{}", std::env::consts::EXE_SUFFIX);
    for entry in fs::read_dir(original.join("bin"))? {
        let entry = entry?;
        if entry.file_name() != cargo_name.as_str() {
            link(&entry.path(), &bin.join(entry.file_name()))?;
        }
    }
    fs::copy(cargo, bin.join(&cargo_name))?;
    let path = original
        .to_str()
        .with_context(|| format!("{} is not UTF-8", original.display()))?;
    fs::write(
        fresh.join(MARKER),
        format!(
            "# Links to the toolchain below, with another cargo. `cargo xtask uninstall` removes it.\n{path}\n"
        ),
    )?;
    if fs::symlink_metadata(place).is_ok() {
        fs::rename(place, beside.path().join("old"))?;
    }
    fs::rename(&fresh, place)?;
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to)
        .with_context(|| format!("could not link {} to {}", to.display(), from.display()))
}

/// Symbolic links need a privilege on Windows; junctions and hard links do not.
#[cfg(windows)]
fn link(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        return junction::create(from, to)
            .with_context(|| format!("could not link {} to {}", to.display(), from.display()));
    }
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names() {
        for name in ["pipelined", "my-cargo_2", "stablest", "x1.95"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "a/b",
            "..",
            "-x",
            "stable",
            "nightly-2026-01-01",
            "1.95.0",
            "none",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_toolchain_of_links() {
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
        assert_eq!(super::original(&place).unwrap(), Some(original.clone()));
        assert_eq!(super::original(&original).unwrap(), None);

        fs::remove_dir_all(&place).unwrap();
        assert!(original.join("lib/std").exists(), "the original stays");
    }
}
