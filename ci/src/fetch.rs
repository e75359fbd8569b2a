//! The released crate, fetched through Cargo and checked against a checksum that is written here.
//!
//! `cargo info` downloads one `.crate` and nothing else, over whatever mirror and proxy the user
//! has set up.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::GzDecoder;
use fs_err as fs;

use crate::cargo::{self, Network};
use crate::layout::VERSION;
use crate::series::sha256;
use crate::shell;

/// SHA-256 of `cargo-0.98.0.crate`, as the registry's index has it.
const CHECKSUM: &str = "7bcc52d107e10f9695543bbdc9128c7798abafdd36c6ba5adfb35e0abe87bf6e";

/// Unpacks the released crate into `dir` and returns the directory with the source.
pub fn unpack(dir: &Path, network: Network) -> Result<PathBuf> {
    let file = match cached()? {
        Some(file) => file,
        None => {
            shell::status("Fetching", format_args!("cargo {VERSION}"));
            download(network)?;
            cached()?.with_context(|| {
                format!(
                    "cargo fetched cargo {VERSION}, but there is no cargo-{VERSION}.crate in {}; a registry replaced by a local directory cannot be used",
                    cargo_home().map(|home| home.join("registry").join("cache")).unwrap_or_default().display()
                )
            })?
        }
    };
    let bytes = fs::read(&file)?;
    let sum = sha256(&bytes);
    if sum != CHECKSUM {
        bail!(
            "{} is not the released crate: its SHA-256 is {sum}, and should be {CHECKSUM}; delete the file and run this again",
            file.display()
        );
    }
    shell::status("Unpacking", format_args!("cargo {VERSION}"));
    let mut tar = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut tar)?;
    let mut archive = tar::Archive::new(tar.as_slice());
    // The files of a crate are from 2006. A build finds what has changed by the time at which a
    // file was written: a tree that is unpacked again must look newer than the last build.
    archive.set_preserve_mtime(false);
    archive
        .unpack(dir)
        .with_context(|| format!("could not unpack {}", file.display()))?;
    let source = dir.join(format!("cargo-{VERSION}"));
    for left_by_cargo in [".cargo_vcs_info.json", ".cargo-ok"] {
        match fs::remove_file(source.join(left_by_cargo)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(source)
}

fn cargo_home() -> Result<PathBuf> {
    home::cargo_home().context("there is no CARGO_HOME")
}

/// The downloaded crate. There may be several, one for each registry or mirror: the right one, if
/// it is among them.
fn cached() -> Result<Option<PathBuf>> {
    let caches = cargo_home()?.join("registry").join("cache");
    let registries = match fs::read_dir(&caches) {
        Ok(registries) => registries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut wrong = None;
    for registry in registries {
        let file = registry?.path().join(format!("cargo-{VERSION}.crate"));
        match fs::read(&file) {
            Ok(bytes) if sha256(&bytes) == CHECKSUM => return Ok(Some(file)),
            // Cargo starts a download over that has left nothing.
            Ok(bytes) if bytes.is_empty() => {}
            Ok(_) => wrong = Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(wrong)
}

fn download(network: Network) -> Result<()> {
    // Away from every manifest: `cargo info` would look at the workspace it is run in.
    let nowhere = tempfile::tempdir().context("could not create a temporary directory")?;
    let output = cargo::command("info", network)
        .arg(format!("cargo@{VERSION}"))
        .args(["--registry", "crates-io"])
        .current_dir(nowhere.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("could not run `{}`", cargo::program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(anyhow!(said).context(format!(
        "cargo {VERSION} could not be downloaded: check the network connection (or the proxy and registry settings in Cargo's configuration) and run this again"
    )))
}
