//! Fetches the released crate through Cargo and checks it against the checksum in `patches/base`.
//!
//! `cargo info` downloads one `.crate` and nothing else, over the mirror and proxy of the user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::GzDecoder;
use fs_err as fs;

use crate::cargo;
use crate::project::{Base, Project, crate_file};
use crate::series::sha256;

/// Packages that Cargo's tests need and the crate lacks: `cargo package` leaves out empty directories and those
/// with a manifest of their own. Their content does not matter.
const LEFT_OUT: [&str; 3] = [
    "tests/testsuite/cargo_bench/no_keep_going/in",
    "tests/testsuite/cargo_test/no_keep_going/in",
    "tests/testsuite/cargo_update/toolchain_pkgname/in",
];

/// Finds the release `version`, and downloads it where it is missing.
///
/// Cargo has compared the file with the registry's index when it downloaded it.
pub fn find(project: &Project, version: &str) -> Result<Base> {
    let (_, bytes) = released(project, version, None)?;
    Ok(Base {
        version: version.to_owned(),
        checksum: sha256(&bytes),
    })
}

/// Unpacks the released crate into `dir`, adds [what it lacks](LEFT_OUT) and returns the directory of the source.
pub fn unpack(project: &Project, dir: &Path) -> Result<PathBuf> {
    let Base { version, checksum } = &project.base;
    let (file, bytes) = released(project, version, Some(checksum))?;
    let sum = sha256(&bytes);
    if sum != *checksum {
        bail!(
            "{} is not the released crate: its SHA-256 is {sum}, and should be {checksum}; delete the file and run this again",
            file.display()
        );
    }
    status!("Unpacking", "cargo {version}");
    let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
    // The files of a crate are from 2006. To Cargo a tree that is unpacked again must look newer.
    archive.set_preserve_mtime(false);
    archive
        .unpack(dir)
        .with_context(|| format!("could not unpack {}", file.display()))?;
    let source = dir.join(format!("cargo-{version}"));
    for left_by_cargo in [".cargo_vcs_info.json", ".cargo-ok"] {
        let file = source.join(left_by_cargo);
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    for package in LEFT_OUT.map(|package| source.join(package)) {
        let manifest = "[package]\nname = \"test\"\nversion = \"0.1.0\"\n";
        fs::create_dir_all(package.join("src"))?;
        fs::write(package.join("src/lib.rs"), "")?;
        fs::write(package.join("Cargo.toml"), manifest)?;
    }
    Ok(source)
}

/// Returns the released crate's file and content, downloaded if it is missing. There may be several
/// files, one for each registry or mirror: prefers the one with this checksum.
fn released(
    project: &Project,
    version: &str,
    checksum: Option<&str>,
) -> Result<(PathBuf, Vec<u8>)> {
    let caches = home::cargo_home()?.join("registry/cache");
    let cached = || -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut found = Vec::new();
        for registry in caches.read_dir().into_iter().flatten() {
            let file = registry?.path().join(crate_file(version));
            // An empty file is a download that was interrupted.
            if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                let bytes = fs::read(&file)?;
                found.push((file, bytes));
            }
        }
        found.sort_by_key(|(_, bytes)| checksum == Some(&sha256(bytes)));
        Ok(found)
    };
    if let Some(found) = cached()?.pop() {
        return Ok(found);
    }
    status!("Fetching", "cargo {version}");
    download(project, version)?;
    cached()?.pop().with_context(|| {
        format!(
            "cargo fetched cargo {version}, but there is no {} in {}; a registry replaced by a local directory cannot be used",
            crate_file(version),
            caches.display()
        )
    })
}

fn download(project: &Project, version: &str) -> Result<()> {
    // Away from every manifest: `cargo info` would look at the workspace it is run in.
    let nowhere = tempfile::tempdir().context("could not create a temporary directory")?;
    let mut command = cargo::command(project, "info");
    command
        .arg(format!("cargo@{version}"))
        .args(["--registry", "crates-io"])
        .current_dir(nowhere.path());
    let output = command.output();
    let output = output.with_context(|| cargo::could_not_run(&command))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(anyhow!(stderr).context(format!(
        "cargo {version} could not be downloaded: check the network connection (or the proxy and registry settings in Cargo's configuration) and run this again"
    )))
}
