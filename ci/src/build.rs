//! `cargo xtask build`: the replacement, or the released cargo built in the same way.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::lock::Lock;
use crate::{assemble, toolchain};

/// The profile to build with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Which source.
    pub variant: Variant,
    /// Which profile.
    pub profile: Profile,
    /// Whether to download what is missing.
    pub network: Network,
}

/// A binary that has been built.
#[derive(Debug)]
pub struct Built {
    /// Its absolute path; the only file in its directory.
    pub path: PathBuf,
    /// Nothing changes the tree it was built from, while this is held.
    pub _lock: Lock,
}

/// Builds and prints the path of the binary.
pub fn run(layout: &Layout, request: Request) -> Result<()> {
    let built = cargo(layout, request)?;
    println!("{}", built.path.display());
    Ok(())
}

/// Builds what is asked for, assembling the tree where needed.
pub fn cargo(layout: &Layout, request: Request) -> Result<Built> {
    let Request {
        variant,
        profile,
        network,
    } = request;
    toolchain::check()?;
    let (tree, lock) = assemble::ensure(layout, variant, network)?;
    let mut command = cargo::in_tree(layout, variant, "build", &tree.version()?, network)?;
    command
        .args(["--bin", "cargo"])
        .arg("--message-format=json-render-diagnostics");
    if profile == Profile::Release {
        command.arg("--release");
    }
    let mut executable = None;
    let purpose = match variant {
        Variant::Patched | Variant::Prefix => "building the replacement cargo",
        Variant::Stock => "building the released cargo",
    };
    cargo::run(command, purpose, |line| {
        executable = executable_in(line, "bin").or(executable.take());
    })?;
    let executable = executable.context("cargo did not say where the binary is")?;
    Ok(Built {
        path: place(layout, request, &executable)?,
        _lock: lock,
    })
}

/// The path of the executable of kind `kind`, where `line` is cargo's message that it was built.
///
/// Cargo is asked, because the user's configuration may name a target, and with it a directory.
pub fn executable_in(line: &str, kind: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["kind"][0] != kind {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

/// Gives the binary a place of its own, as the only file in a directory.
///
/// The directory that cargo links it into is no good: a build of the testsuite puts a binary with
/// the features of the tests there, and on `PATH` it would bring along whatever else is in it.
fn place(layout: &Layout, request: Request, executable: &Path) -> Result<PathBuf> {
    let profile = match request.profile {
        Profile::Dev => "dev",
        Profile::Release => "release",
    };
    let name = match request.variant {
        Variant::Patched => profile.to_string(),
        Variant::Stock => format!("stock-{profile}"),
        Variant::Prefix => format!("prefix-{profile}"),
    };
    let dir = layout.upstream().join("bin").join(name);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("cargo{}", std::env::consts::EXE_SUFFIX));
    // Beside it and then renamed: somebody may be running it, or doing the same.
    let beside = tempfile::Builder::new()
        .prefix(".cargo-")
        .tempdir_in(layout.upstream())?;
    let fresh = beside.path().join("cargo");
    if fs::hard_link(executable, &fresh).is_err() {
        fs::copy(executable, &fresh)?;
    }
    fs::rename(&fresh, &path)
        .with_context(|| format!("could not replace {}; is it running?", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let artifact = |kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"cargo"}},"executable":{executable}}}"#
            )
        };
        let path = executable_in(&artifact("bin", r#""/t/cargo""#), "bin");
        assert_eq!(path, Some(PathBuf::from("/t/cargo")));
        assert_eq!(executable_in(&artifact("lib", "null"), "bin"), None);
        assert_eq!(executable_in(&artifact("test", r#""/t/x""#), "bin"), None);
        assert_eq!(executable_in("not json", "bin"), None);
    }
}
