//! Who may use an assembled tree at the moment.
//!
//! Whoever reads a tree (a build, a run of the testsuite) shares its lock; whoever changes it has it
//! alone. The operating system gives it back when a process ends, however it ends.
//!
//! Each tree has its own, for a command that needs two of them holds the first while it assembles the
//! second.

use std::fs::{File, TryLockError};
use std::io;

use anyhow::{Context, Result};
use fs_err as fs;

use crate::layout::{Layout, Variant};
use crate::shell;

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Nobody changes the tree while this is held.
    pub fn shared(layout: &Layout, variant: Variant) -> Result<Self> {
        let tree = layout.tree(variant);
        acquire(
            layout,
            &file_name(variant),
            &format!(
                "another `cargo xtask` to finish changing {}",
                layout.shown(&tree)
            ),
            File::try_lock_shared,
            File::lock_shared,
        )
    }

    /// Nobody else uses the tree while this is held.
    pub fn exclusive(layout: &Layout, variant: Variant) -> Result<Self> {
        let tree = layout.tree(variant);
        acquire(
            layout,
            &file_name(variant),
            &format!(
                "another `cargo xtask` to finish using {}",
                layout.shown(&tree)
            ),
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

fn file_name(variant: Variant) -> String {
    let name = match variant {
        Variant::Patched => "cargo",
        Variant::Stock => "stock",
        Variant::Prefix => "prefix",
    };
    format!(".{name}-lock")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::Base;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn one_tree_can_be_assembled_while_another_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_path_buf(), Base::default());
        let _built = Lock::shared(&layout, Variant::Patched).unwrap();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let _assembled = Lock::exclusive(&layout, Variant::Stock).unwrap();
            say.send(()).unwrap();
        });
        said.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
