//! Cargo, called from within a command that Cargo itself has started.
//!
//! `cargo run` and `cargo test` describe one package to their child in its environment. A
//! further cargo must not see that: it would take the description for the user's settings, and
//! build scripts that watch such a variable would run again each time another command is the
//! outer one.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use console::Term;

use crate::install;
use crate::layout::{Layout, Variant};
use crate::shell::count;
use crate::toolchain;

/// Whether the network may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// As Cargo's own configuration says.
    Configured,
    /// Only what was downloaded before.
    Offline,
}

/// Whether `key` is one of the variables with which an outer cargo describes a package, or
/// itself, to its child.
fn describes_outer_package(key: &str) -> bool {
    const EXACT: &[&str] = &[
        // The outer cargo's path; programs that ask for `CARGO` are to get that of the inner one.
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    const PREFIXES: &[&str] = &["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"];
    EXACT.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Settings of the user for *projects*, which would change what the replacement is built of, or
/// where it ends up. Configuration files are still read: proxies, mirrors and linkers are there.
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

/// Removes what an outer cargo has put into the environment.
pub fn isolate(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(describes_outer_package) {
            command.env_remove(key);
        }
    }
}

/// The cargo that runs this, or the one on `PATH`.
///
/// Where that is a replacement which `install` has put there, the cargo it took the place of: a
/// replacement that is broken could not build its own successor, and each of two versions of
/// Cargo builds everything again that the other one has built in the same directory.
pub fn program() -> OsString {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return "cargo".into();
    };
    let bin = Path::new(&cargo).parent();
    match bin.and_then(Path::parent).map(install::original) {
        Some(Ok(Some(toolchain))) => toolchain.join("bin").join("cargo").into_os_string(),
        _ => cargo,
    }
}

/// `cargo SUBCOMMAND` for work of our own.
pub fn command(subcommand: &str, network: Network) -> Command {
    let mut command = Command::new(program());
    isolate(&mut command);
    if network == Network::Offline {
        command.env("CARGO_NET_OFFLINE", "true");
    }
    command.arg(subcommand).stdin(Stdio::null());
    command
}

/// `cargo SUBCOMMAND` in one of the trees, with the settings that all builds share.
pub fn in_tree(
    layout: &Layout,
    variant: Variant,
    subcommand: &str,
    version: &VersionInfo,
    network: Network,
) -> Result<Command> {
    let mut command = self::command(subcommand, network);
    if toolchain::newer_rust_asked_for(&layout.tree(variant))?.is_some() {
        command.arg("--ignore-rust-version");
    }
    for key in PROJECT_SETTINGS {
        command.env_remove(key);
    }
    command
        .current_dir(layout.tree(variant))
        // Debug information is a fifth of a build. Backtraces through Cargo itself keep their
        // line numbers, the 300 crates below it do without.
        .args(["--config", "profile.dev.debug='line-tables-only'"])
        .args(["--config", "profile.dev.package.'*'.debug=false"])
        .arg("--locked")
        .arg("--target-dir")
        .arg(layout.build(variant));
    // Cargo's build script would take the commit from git once and never look again. These are
    // tracked: `--version` always names what was built.
    command
        .env("CFG_OMIT_GIT_HASH", "1")
        .env("CARGO_COMMIT_HASH", &version.hash)
        .env(
            "CARGO_COMMIT_SHORT_HASH",
            version.hash.get(..9).unwrap_or(&version.hash),
        )
        .env("CARGO_COMMIT_DATE", &version.date)
        // Without a channel it would be a development build, which accepts what a stable one refuses.
        .env("CFG_RELEASE_CHANNEL", toolchain::channel()?);
    match variant {
        Variant::Stock => command.env_remove("CFG_VER_DESCRIPTION"),
        Variant::Patched | Variant::Prefix => command.env(
            "CFG_VER_DESCRIPTION",
            format!(
                "pipelined-cargo {}: {} on cargo {}",
                env!("CARGO_PKG_VERSION"),
                count(version.patches, "patch", "patches"),
                layout.base().version
            ),
        ),
    };
    Ok(command)
}

/// What `cargo --version` says of the source.
///
/// The hash is that of the source's content, not of the commit that holds it: exporting a series
/// or rewording a commit changes commits, and is no reason to build again.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// The git tree.
    pub hash: String,
    /// When its last commit was written.
    pub date: String,
    /// How many patches are applied.
    pub patches: usize,
}

/// What to do about a full disk.
pub const DISK_FULL: &str =
    "the disk is full: a build needs about 3 GB under target/; free some space and run this again";

/// Why a cargo failed, as far as one sentence can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    DiskFull,
    Network,
    OpenSsl,
    Linker,
}

impl Trouble {
    fn seen_in(line: &str) -> Option<Self> {
        const SIGNS: &[(&str, Trouble)] = &[
            ("No space left on device", Trouble::DiskFull),
            ("os error 28", Trouble::DiskFull),
            ("not enough space on the disk", Trouble::DiskFull),
            (
                "Could not find directory of OpenSSL installation",
                Trouble::OpenSsl,
            ),
            ("failed to download", Trouble::Network),
            ("failed to get successful HTTP response", Trouble::Network),
            ("spurious network error", Trouble::Network),
            ("Could not resolve host", Trouble::Network),
            ("--offline was specified", Trouble::Network),
            ("linker `", Trouble::Linker),
        ];
        SIGNS
            .iter()
            .find(|(sign, trouble)| {
                // "linker `cc` not found"
                line.contains(sign) && (*trouble != Trouble::Linker || line.contains("not found"))
            })
            .map(|(_, trouble)| *trouble)
    }

    fn advice(self) -> &'static str {
        match self {
            Trouble::DiskFull => DISK_FULL,
            Trouble::Network => {
                "the crates that Cargo depends on could not be downloaded: check the network connection (or the proxy and registry settings in Cargo's configuration) and run this again"
            }
            Trouble::OpenSsl => {
                "OpenSSL's headers are missing: install them together with pkg-config (`apt install libssl-dev pkg-config`, `dnf install openssl-devel pkgconf`) and run this again"
            }
            Trouble::Linker => {
                "the linker is missing: install a C compiler (`apt install build-essential`, `dnf install gcc`, `xcode-select --install`) and run this again"
            }
        }
    }
}

/// Runs `command` to its end. Its stderr is passed on as it comes, and read on the way, so that
/// the error can say what is missing; each line of its stdout goes to `on_line`.
pub fn run(mut command: Command, purpose: &str, mut on_line: impl FnMut(&str)) -> Result<()> {
    keep_progress(&mut command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run `{}`", command.get_program().display()))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    let trouble = std::thread::scope(|scope| -> Result<Option<Trouble>> {
        let watcher = scope.spawn(move || pass_on(stderr));
        for line in BufReader::new(stdout).lines() {
            on_line(&line.context("cargo printed something that is not UTF-8")?);
        }
        Ok(watcher.join().ok().flatten())
    })?;
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let error = anyhow!("{purpose} failed ({status})");
    Err(match trouble {
        Some(trouble) => error.context(trouble.advice()),
        None => error,
    })
}

/// Cargo shows its progress bar and colors on a terminal only, and a pipe is none.
fn keep_progress(command: &mut Command) {
    let term = Term::stderr();
    if !term.is_term() {
        return;
    }
    let mut default = |key: &str, value: &str| {
        if std::env::var_os(key).is_none() {
            command.env(key, value);
        }
    };
    if console::colors_enabled_stderr() {
        default("CARGO_TERM_COLOR", "always");
    }
    // Cargo wants the width where it cannot ask the terminal.
    let (_, width) = term.size();
    default("CARGO_TERM_PROGRESS_WIDTH", &width.to_string());
    default("CARGO_TERM_PROGRESS_WHEN", "always");
}

/// Copies `from` to stderr, and returns the first sign of trouble in it.
fn pass_on(mut from: impl Read) -> Option<Trouble> {
    let mut buffer = [0; 8192];
    let mut line = Vec::new();
    let mut trouble = None;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let bytes = &buffer[..length];
        // The copy is for the reader only; without one (a closed pipe) the build goes on.
        let _ = std::io::stderr().lock().write_all(bytes);
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                trouble = trouble.or_else(|| Trouble::seen_in(&String::from_utf8_lossy(&line)));
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
    trouble.or_else(|| Trouble::seen_in(&String::from_utf8_lossy(&line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_cargo_leaves_nothing_behind() {
        for key in [
            "CARGO",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_BIN_EXE_x",
            "OUT_DIR",
        ] {
            assert!(describes_outer_package(key), "{key}");
        }
        for key in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_INCREMENTAL",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!describes_outer_package(key), "{key}");
        }
    }

    #[test]
    fn signs_of_trouble() {
        let seen = |line| Trouble::seen_in(line);
        assert_eq!(
            seen("error: could not write output: No space left on device (os error 28)"),
            Some(Trouble::DiskFull)
        );
        assert_eq!(
            seen("  Could not find directory of OpenSSL installation, and this `-sys` crate"),
            Some(Trouble::OpenSsl)
        );
        assert_eq!(seen("error: linker `cc` not found"), Some(Trouble::Linker));
        assert_eq!(seen("error: linker `cc` failed"), None);
        assert_eq!(seen("   Compiling serde v1.0.228"), None);
    }
}
