//! Locks on the assembled trees.
//!
//! A command that reads a tree shares its lock; one that changes it holds the lock alone. Each tree has its own.
//! The operating system releases the locks of a process that ends.

use std::fs::{File, TryLockError};
use std::io;

use anyhow::{Context, Result};
use fs_err as fs;

use crate::project::{Project, Variant};
use crate::shell;

#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a tree against changes.
    pub fn shared(project: &Project, variant: Variant) -> Result<Self> {
        Self::tree(project, variant, false)
    }

    /// Locks a tree against all other use.
    pub fn exclusive(project: &Project, variant: Variant) -> Result<Self> {
        Self::tree(project, variant, true)
    }

    /// Locks what one command alone writes: the directories of Cargo's testsuite, or the benchmark's results.
    pub fn command(project: &Project, command: &str) -> Result<Self> {
        let purpose = format!("another `cargo xtask {command}` to finish");
        Self::acquire(project, &format!(".{command}-lock"), true, &purpose)
    }

    fn tree(project: &Project, variant: Variant, exclusive: bool) -> Result<Self> {
        let use_ = if exclusive { "using" } else { "changing" };
        let tree = project.shown(&project.tree(variant));
        let purpose = format!("another `cargo xtask` to finish {use_} {tree}");
        let name = format!(".{}-lock", variant.name());
        Self::acquire(project, &name, exclusive, &purpose)
    }

    fn acquire(project: &Project, name: &str, exclusive: bool, purpose: &str) -> Result<Self> {
        fs::create_dir_all(project.upstream())?;
        let path = project.upstream().join(name);
        let file = File::create(&path);
        let file = file.with_context(|| format!("could not open {}", path.display()))?;
        let attempt = if exclusive {
            file.try_lock()
        } else {
            file.try_lock_shared()
        };
        let locked = match attempt {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                shell::waiting("Blocking", format_args!("waiting for {purpose}"));
                if exclusive {
                    file.lock()
                } else {
                    file.lock_shared()
                }
            }
            // Some network file systems have no locks. Cargo goes on without them, too.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        };
        locked.with_context(|| format!("could not lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }
}
