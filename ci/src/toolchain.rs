//! What has to be installed before anything can be built, and what to say where it is not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::{cargo, shell};

/// The oldest compiler that builds all of this.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Says what is missing for a build, if anything is.
pub fn check() -> Result<()> {
    check_rustc()?;
    check_c_compiler()
}

/// The compiler that a build uses.
pub fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// The directory of the active toolchain.
pub fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(
        ask_rustc(&["--print", "sysroot"])?.trim_end(),
    ))
}

/// What a compiler says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RustcInfo {
    /// Its version.
    pub release: String,
    /// The platform that it runs on.
    pub host: String,
}

/// The release and the platform of the compiler.
pub fn rustc_info() -> Result<RustcInfo> {
    let text = ask_rustc(&["--version", "--verbose"])?;
    parse_info(&text).with_context(|| format!("rustc says of itself `{}`", text.trim()))
}

fn parse_info(text: &str) -> Option<RustcInfo> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    Some(RustcInfo {
        release: field("release: ")?.to_owned(),
        host: field("host: ")?.to_owned(),
    })
}

/// The compiler itself, where rustup has put a proxy in its place: that would look in each directory
/// that it is run in for a `rust-toolchain.toml`, and packages of dependencies have such files.
pub fn rustc_itself() -> Result<PathBuf> {
    let rustc = format!("rustc{}", std::env::consts::EXE_SUFFIX);
    Ok(sysroot()?.join("bin").join(rustc))
}

/// The channel of the compiler: `stable`, `beta`, `nightly`, or `dev` for one that was built by hand.
pub fn channel() -> Result<String> {
    Ok(channel_of(&rustc_info()?.release).to_owned())
}

/// `1.97.0-beta.2` → `beta`.
fn channel_of(release: &str) -> &str {
    match release.split_once('-') {
        Some((_, channel)) => channel.split('.').next().unwrap_or(channel),
        None => "stable",
    }
}

/// Whether the compiler is a nightly.
pub fn is_nightly() -> Result<bool> {
    Ok(channel()? == "nightly")
}

fn check_rustc() -> Result<()> {
    let text = ask_rustc(&["--version"])?;
    let text = text.trim();
    match version(text) {
        Some(found) if Some(found) >= numbers(OLDEST) => Ok(()),
        Some(_) => bail!(
            "`{text}` is too old: pipelined-cargo needs Rust {OLDEST} or newer; run `rustup update stable`"
        ),
        None => bail!(
            "`{} --version` printed `{text}`, which is no version of rustc",
            rustc().display()
        ),
    }
}

fn ask_rustc(args: &[&str]) -> Result<String> {
    let rustc = rustc();
    let mut command = Command::new(&rustc);
    cargo::isolate(&mut command);
    let output = command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!(
                "`{}` could not be run; install Rust from https://rustup.rs",
                rustc.display()
            )
        })?;
    if !output.status.success() {
        bail!(
            "`{} {}` failed: {}",
            rustc.display(),
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("rustc printed something that is not UTF-8")
}

/// `rustc 1.95.0 (59807616e 2026-04-14)` → `(1, 95)`.
fn version(text: &str) -> Option<(u32, u32)> {
    numbers(text.strip_prefix("rustc ")?)
}

/// `1.97` → `(1, 97)`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the compiler is of this version or newer.
pub fn is_at_least(wanted: (u32, u32)) -> Result<bool> {
    let text = ask_rustc(&["--version"])?;
    Ok(version(text.trim()) >= Some(wanted))
}

/// Says so if the compiler is older than the manifest in `tree` asks for.
pub fn note_if_older(tree: &Path) -> Result<()> {
    if let Some(asked) = newer_rust_asked_for(tree)? {
        shell::note(format_args!(
            "cargo asks for Rust {asked}; built with {} and --ignore-rust-version",
            rustc_info()?.release
        ));
    }
    Ok(())
}

/// The Rust version that the manifest in `tree` asks for, if the compiler is older.
pub fn newer_rust_asked_for(tree: &Path) -> Result<Option<String>> {
    let manifest = fs::read_to_string(tree.join("Cargo.toml"))?;
    let asked = rust_version(&manifest);
    Ok(match asked.and_then(numbers) {
        Some(numbers) if !is_at_least(numbers)? => asked.map(str::to_owned),
        _ => None,
    })
}

/// `rust-version` in a manifest as Cargo publishes it.
fn rust_version(manifest: &str) -> Option<&str> {
    let value = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))?;
    Some(value.trim_matches('"'))
}

/// Parts of Cargo (libgit2, SQLite, curl) are C.
fn check_c_compiler() -> Result<()> {
    // The C compiler of MSVC is found through the registry, not on `PATH`.
    if cfg!(windows) {
        return Ok(());
    }
    // `CC_<target>` and its kin are a deliberate setup; what they name is not second-guessed.
    if std::env::vars_os().any(|(key, _)| key.to_string_lossy().starts_with("CC_"))
        || std::env::var_os("HOST_CC").is_some()
    {
        return Ok(());
    }
    let configured = std::env::var("CC").ok().filter(|cc| !cc.trim().is_empty());
    let command = configured.as_deref().unwrap_or("cc");
    // `CC="ccache gcc"` is usual.
    let program = command.split_whitespace().next().unwrap_or(command);
    if which::which(program).is_ok() {
        return Ok(());
    }
    let origin = match configured {
        Some(_) => " (from the environment variable CC)",
        None => "",
    };
    bail!(
        "no C compiler: `{program}`{origin} was not found; parts of Cargo are C, so install one (`apt install build-essential`, `dnf install gcc`, `xcode-select --install`) and run this again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels() {
        for (release, channel) in [
            ("1.95.0", "stable"),
            ("1.97.0-beta.2", "beta"),
            ("1.97.0-nightly", "nightly"),
            ("1.97.0-dev", "dev"),
        ] {
            assert_eq!(channel_of(release), channel);
        }
    }

    #[test]
    fn rust_version_of_a_manifest() {
        let manifest = "[package]\nname = \"cargo\"\nrust-version = \"1.97\"\n";
        assert_eq!(rust_version(manifest), Some("1.97"));
        assert_eq!(rust_version("[package]\n"), None);
    }

    #[test]
    fn release_and_host() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
            host: aarch64-apple-darwin\nrelease: 1.95.0\nLLVM version: 22.1.0\n";
        let info = RustcInfo {
            release: "1.95.0".to_owned(),
            host: "aarch64-apple-darwin".to_owned(),
        };
        assert_eq!(parse_info(text), Some(info));
        assert_eq!(parse_info("rustc 1.95.0"), None);
    }

    #[test]
    fn versions() {
        assert_eq!(
            version("rustc 1.95.0 (59807616e 2026-04-14)"),
            Some((1, 95))
        );
        assert_eq!(
            version("rustc 1.97.0-nightly (0123456 2026-05-15)"),
            Some((1, 97))
        );
        assert_eq!(version("rustc 2.0.0"), Some((2, 0)));
        assert_eq!(version("clang version 17"), None);
        assert!(version("rustc 1.100.0") >= numbers(OLDEST));
    }
}
