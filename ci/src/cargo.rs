//! Runs Cargo from within a command that Cargo itself has started.
//!
//! `cargo run` and `cargo test` describe a package in the environment of their child. A further cargo would
//! take that for settings of the user, and build scripts that watch such a variable would run again.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::{Project, Variant};
use crate::shell::count;
use crate::tree::Tree;
use crate::{install, toolchain};

/// Settings of the user for *projects*, which would change the replacement or its place. Configuration files
/// are still read: proxies, mirrors and linkers are there.
const PROJECT_SETTINGS: &[&str] = &[
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET",
    // `-Dwarnings` or `-Ctarget-cpu=native`, set for one command and not for the next, would
    // build everything again each time.
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    // Meant for the replacement. The cargo that builds it may be an installed replacement.
    "CARGO_BUILD_PIPELINING",
    "CARGO_BUILD_TRACE",
];

/// Removes from the environment what an outer cargo has put there.
pub fn isolate(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(describes_outer_package) {
            command.env_remove(key);
        }
    }
}

fn describes_outer_package(key: &str) -> bool {
    const EXACT: &[&str] = &[
        // A child that asks for `CARGO` must find the inner one.
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    const PREFIXES: &[&str] = &["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"];
    EXACT.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Returns the cargo that runs this, or the one on `PATH`.
///
/// If that is an installed replacement, returns the cargo of the toolchain that it was made from: a broken
/// replacement could not build its successor, and two versions of Cargo build again what the other one built.
pub fn program() -> OsString {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return "cargo".into();
    };
    let toolchain = Path::new(&cargo).parent().and_then(Path::parent);
    match toolchain.and_then(install::original) {
        Some(original) => original.join("bin/cargo").into_os_string(),
        None => cargo,
    }
}

/// Returns `cargo SUBCOMMAND`.
pub fn command(project: &Project, subcommand: &str) -> Command {
    let mut command = Command::new(program());
    isolate(&mut command);
    if project.offline {
        command.env("CARGO_NET_OFFLINE", "true");
    }
    command.arg(subcommand).stdin(Stdio::null());
    command
}

/// Returns `cargo SUBCOMMAND` in one of the trees, with the settings that all builds share.
pub fn in_tree(
    project: &Project,
    variant: Variant,
    subcommand: &str,
    tree: &Tree,
) -> Result<Command> {
    let mut command = self::command(project, subcommand);
    if toolchain::newer_rust_asked_for(tree.dir())?.is_some() {
        command.arg("--ignore-rust-version");
    }
    for key in PROJECT_SETTINGS {
        command.env_remove(key);
    }
    let (hash, date, patches) = tree.version()?;
    command
        .current_dir(tree.dir())
        // Debug information is a fifth of a build. Only Cargo itself keeps line numbers.
        .args(["--config", "profile.dev.debug='line-tables-only'"])
        .args(["--config", "profile.dev.package.'*'.debug=false"])
        .arg("--locked")
        .arg("--target-dir")
        .arg(project.build(variant))
        // Cargo's build script would take the commit from git only once. These are tracked.
        .env("CFG_OMIT_GIT_HASH", "1")
        .env("CARGO_COMMIT_HASH", &hash)
        .env("CARGO_COMMIT_SHORT_HASH", &hash[..9])
        .env("CARGO_COMMIT_DATE", date)
        // Without a channel it would be a development build, which accepts what a stable one refuses.
        .env("CFG_RELEASE_CHANNEL", toolchain::channel()?);
    match variant {
        Variant::Stock => command.env_remove("CFG_VER_DESCRIPTION"),
        Variant::Patched | Variant::Prefix => command.env(
            "CFG_VER_DESCRIPTION",
            format!(
                "pipelined-cargo {}: {} on cargo {}",
                env!("CARGO_PKG_VERSION"),
                count(patches, "patch", "patches"),
                project.base.version
            ),
        ),
    };
    Ok(command)
}

pub fn could_not_run(command: &Command) -> String {
    format!("could not run `{}`", command.get_program().display())
}

/// Runs `command` to its end and passes each line of its stdout to `on_line`.
pub fn run(mut command: Command, purpose: &str, mut on_line: impl FnMut(&str)) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| could_not_run(&command))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        on_line(&line.context("the output of cargo is not UTF-8")?);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{purpose} failed ({status})");
    }
    Ok(())
}

/// Runs a build with `--message-format=json` and returns the executable of kind `kind` that it made.
///
/// Cargo is asked, because the user's configuration may name a target, and with it a directory.
pub fn executable(mut command: Command, purpose: &str, kind: &str) -> Result<PathBuf> {
    command.arg("--message-format=json-render-diagnostics");
    let mut executable = None;
    run(command, purpose, |line| {
        executable = executable_in(line, kind).or(executable.take());
    })?;
    executable.with_context(|| format!("{purpose} made no executable"))
}

fn executable_in(line: &str, kind: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_kind = message["target"]["kind"][0] == kind;
    let executable = message["executable"].as_str().filter(|_| is_kind);
    executable.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_description_of_a_package_is_removed() {
        for key in ["CARGO", "CARGO_PKG_NAME", "CARGO_BIN_EXE_x", "OUT_DIR"] {
            assert!(describes_outer_package(key), "{key}");
        }
        for key in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"] {
            assert!(!describes_outer_package(key), "{key}");
        }
    }

    #[test]
    fn executables_are_found_by_kind() {
        let line = r#"{"target":{"kind":["bin"]},"executable":"/t/cargo"}"#;
        assert_eq!(executable_in(line, "bin"), Some(PathBuf::from("/t/cargo")));
        assert_eq!(executable_in(line, "test"), None);
        assert_eq!(executable_in("not json", "bin"), None);
    }
}
