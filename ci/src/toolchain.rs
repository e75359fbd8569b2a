//! What must be installed before anything can be built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use rustc_version::VersionMeta;
use semver::{Version, VersionReq};
use xshell::{Shell, cmd};

/// The oldest compiler that builds all of this.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Fails if something is missing for a build.
pub fn check() -> Result<()> {
    if !is_at_least(OLDEST)? {
        bail!(
            "`{}` is too old: pipelined-cargo needs Rust {OLDEST} or newer; run `rustup update stable`",
            rustc()?.short_version_string
        );
    }
    check_c_compiler()
}

fn rustc_program() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Returns the version of the compiler, which is asked once.
pub fn rustc() -> Result<&'static VersionMeta> {
    static RUSTC: OnceLock<VersionMeta> = OnceLock::new();
    if let Some(rustc) = RUSTC.get() {
        return Ok(rustc);
    }
    let program = rustc_program();
    let rustc = VersionMeta::for_command(Command::new(&program)).with_context(|| {
        let program = program.display();
        format!("`{program} -vV` failed; install Rust from https://rustup.rs")
    })?;
    Ok(RUSTC.get_or_init(|| rustc))
}

/// Returns the directory of the active toolchain.
pub fn sysroot() -> Result<PathBuf> {
    let (shell, rustc) = (Shell::new()?, rustc_program());
    Ok(PathBuf::from(
        cmd!(shell, "{rustc} --print sysroot").read()?,
    ))
}

/// Returns the compiler itself where rustup has a proxy in its place: the proxy looks for a
/// `rust-toolchain.toml` where it is run, and packages of dependencies have such files.
pub fn rustc_itself() -> Result<PathBuf> {
    let rustc = format!("rustc{}", std::env::consts::EXE_SUFFIX);
    Ok(sysroot()?.join("bin").join(rustc))
}

/// Returns the channel of the compiler; `dev` is one that was built by hand.
pub fn channel() -> Result<String> {
    Ok(format!("{:?}", rustc()?.channel).to_lowercase())
}

/// Checks that the compiler is of this version (`1.97`) or newer. A nightly counts as its release.
pub fn is_at_least(version: &str) -> Result<bool> {
    let wanted = VersionReq::parse(&format!(">={version}"))?;
    let rustc = &rustc()?.semver;
    Ok(wanted.matches(&Version::new(rustc.major, rustc.minor, rustc.patch)))
}

/// Prints a note if the compiler is older than the manifest in `tree` asks for.
pub fn note_if_older(tree: &Path) -> Result<()> {
    if let Some(wanted) = newer_rust_asked_for(tree)? {
        note!(
            "cargo asks for Rust {wanted}; built with {} and --ignore-rust-version",
            rustc()?.semver
        );
    }
    Ok(())
}

/// Returns the `rust-version` of the manifest in `tree` if the compiler is older.
pub fn newer_rust_asked_for(tree: &Path) -> Result<Option<String>> {
    let manifest = fs::read_to_string(tree.join("Cargo.toml"))?;
    let mut lines = manifest.lines();
    let version = lines.find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.unwrap_or(OLDEST).trim_matches('"');
    Ok((!is_at_least(version)?).then(|| version.to_owned()))
}

/// Parts of Cargo (libgit2, SQLite, curl) are C.
fn check_c_compiler() -> Result<()> {
    let is_set_up = std::env::vars_os().any(|(key, _)| {
        let key = key.to_string_lossy();
        key.starts_with("CC_") || key == "HOST_CC"
    });
    // The C compiler of MSVC is found through the registry, not on `PATH`.
    if cfg!(windows) || is_set_up {
        return Ok(());
    }
    let configured = std::env::var("CC").unwrap_or_default();
    // `CC="ccache gcc"` is usual.
    let program = configured.split_whitespace().next().unwrap_or("cc");
    if which::which(program).is_ok() {
        return Ok(());
    }
    bail!(
        "no C compiler: `{program}` was not found; parts of Cargo are C, so install one (`apt install build-essential`, `dnf install gcc`, `xcode-select --install`) and run this again"
    )
}
