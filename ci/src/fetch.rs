//! The released crate, fetched through Cargo and checked against the checksum in `patches/base`.
//!
//! `cargo info` downloads one `.crate` and nothing else, over whatever mirror and proxy the user
//! has set up.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::GzDecoder;
use fs_err as fs;

use crate::base::{self, Base};
use crate::cargo::{self, Network};
use crate::series::sha256;
use crate::shell;

/// Says which release `version` is, downloading it where there is none yet.
///
/// Cargo has compared the file with the registry's index when it downloaded it.
pub fn find(version: &str, network: Network) -> Result<Base> {
    let (_, bytes) = released(version, network, |_| true)?;
    Ok(Base {
        version: version.to_owned(),
        checksum: sha256(&bytes),
    })
}

/// Unpacks the released crate into `dir` and returns the directory with the source.
pub fn unpack(base: &Base, dir: &Path, network: Network) -> Result<PathBuf> {
    let Base { version, checksum } = base;
    let (file, bytes) = released(version, network, |bytes| sha256(bytes) == *checksum)?;
    let sum = sha256(&bytes);
    if sum != *checksum {
        bail!(
            "{} is not the released crate: its SHA-256 is {sum}, and should be {checksum}; delete the file and run this again",
            file.display()
        );
    }
    shell::status("Unpacking", format_args!("cargo {version}"));
    let mut tar = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut tar)?;
    let mut archive = tar::Archive::new(tar.as_slice());
    // The files of a crate are from 2006. A build finds what has changed by the time at which a
    // file was written: a tree that is unpacked again must look newer than the last build.
    archive.set_preserve_mtime(false);
    archive
        .unpack(dir)
        .with_context(|| format!("could not unpack {}", file.display()))?;
    let source = dir.join(format!("cargo-{version}"));
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

/// The released crate's file and content, downloaded where there is none yet. One that `is_right`,
/// if there are several.
fn released(
    version: &str,
    network: Network,
    is_right: impl Fn(&[u8]) -> bool,
) -> Result<(PathBuf, Vec<u8>)> {
    if let Some(found) = cached(version, &is_right)? {
        return Ok(found);
    }
    shell::status("Fetching", format_args!("cargo {version}"));
    download(version, network)?;
    cached(version, &is_right)?.with_context(|| {
        format!(
            "cargo fetched cargo {version}, but there is no {} in {}; a registry replaced by a local directory cannot be used",
            base::file_name(version),
            cargo_home().map(|home| home.join("registry").join("cache")).unwrap_or_default().display()
        )
    })
}

/// The downloaded crate. There may be several, one for each registry or mirror: the right one, if
/// it is among them.
fn cached(version: &str, is_right: impl Fn(&[u8]) -> bool) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let caches = cargo_home()?.join("registry").join("cache");
    let registries = match fs::read_dir(&caches) {
        Ok(registries) => registries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut wrong = None;
    for registry in registries {
        let file = registry?.path().join(base::file_name(version));
        match fs::read(&file) {
            // Cargo starts a download over that has left nothing.
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) if is_right(&bytes) => return Ok(Some((file, bytes))),
            Ok(bytes) => wrong = Some((file, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(wrong)
}

fn download(version: &str, network: Network) -> Result<()> {
    // Away from every manifest: `cargo info` would look at the workspace it is run in.
    let nowhere = tempfile::tempdir().context("could not create a temporary directory")?;
    let output = cargo::command("info", network)
        .arg(format!("cargo@{version}"))
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
        "cargo {version} could not be downloaded: check the network connection (or the proxy and registry settings in Cargo's configuration) and run this again"
    )))
}
