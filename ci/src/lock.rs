//! Who may use the assembled trees at the moment.
//!
//! Whoever reads a tree (a build, a run of the testsuite) shares the lock; whoever changes one
//! has it alone. The operating system gives it back when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;

use anyhow::{Context, Result};
use fs_err as fs;

use crate::layout::Layout;
use crate::shell;

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Nobody changes a tree while this is held.
    pub fn shared(layout: &Layout) -> Result<Self> {
        let purpose = "another `cargo xtask` to finish changing the assembled trees";
        acquire(
            layout,
            ".lock",
            purpose,
            File::try_lock_shared,
            File::lock_shared,
        )
    }

    /// Nobody else uses a tree while this is held.
    pub fn exclusive(layout: &Layout) -> Result<Self> {
        let purpose = "another `cargo xtask` to finish using the assembled trees";
        acquire(layout, ".lock", purpose, File::try_lock, File::lock)
    }

    /// Nobody else steps through the series while this is held, in the tree that is for that.
    pub fn prefixes(layout: &Layout) -> Result<Self> {
        let purpose = "another `cargo xtask prefixes` to finish";
        acquire(
            layout,
            ".prefixes-lock",
            purpose,
            File::try_lock,
            File::lock,
        )
    }

    /// Nobody else runs Cargo's testsuite while this is held: its tests share directories.
    pub fn testsuite(layout: &Layout) -> Result<Self> {
        let purpose = "another `cargo xtask upstream` to finish";
        acquire(
            layout,
            ".testsuite-lock",
            purpose,
            File::try_lock,
            File::lock,
        )
    }
}

fn acquire(
    layout: &Layout,
    name: &str,
    purpose: &str,
    attempt: fn(&File) -> std::result::Result<(), TryLockError>,
    wait: fn(&File) -> io::Result<()>,
) -> Result<Lock> {
    let dir = layout.upstream();
    fs::create_dir_all(&dir)?;
    let path = dir.join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))?;
    match attempt(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            shell::waiting("Blocking", format_args!("waiting for {purpose}"));
            wait(&file).with_context(|| format!("could not lock {}", path.display()))?;
        }
        // Some network file systems have no locks. Cargo goes on without them, too.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("could not lock {}", path.display()));
        }
    }
    Ok(Lock { _file: file })
}
