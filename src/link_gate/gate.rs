//! The directory of a build in which its shims are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::hollow::Hollow;

/// The directory that holds what shims need, and whether compilers can be held at all. See the
/// [module's documentation](super). Dropping it removes the directory.
#[derive(Debug)]
pub struct Gate {
    pub(super) dir: PathBuf,
    pub(super) shim: PathBuf,
    given_up: OnceLock<&'static str>,
    hollow: Mutex<Vec<Hollow>>,
}

impl Gate {
    /// Opens a gate in `dir`, whose parent must exist. What an earlier cargo that was killed has left
    /// there is removed; the caller sees to it that no other cargo uses it. `shim` is the absolute path
    /// of the executable whose `main` calls
    /// [`run_if_invoked_as_linker`](super::run_if_invoked_as_linker).
    ///
    /// # Errors
    ///
    /// If `shim` is not the absolute path of a file; if the directory cannot be replaced; always, where
    /// a file that is in use cannot be replaced.
    pub fn open(dir: &Path, shim: &Path) -> io::Result<Gate> {
        if cfg!(not(unix)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if !shim.is_absolute() || !shim.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the shim is not the absolute path of a file",
            ));
        }
        let dir = std::path::absolute(dir)?;
        remove(&dir)?;
        fs::create_dir(&dir)?;
        Ok(Gate {
            dir,
            shim: shim.to_owned(),
            given_up: OnceLock::new(),
            hollow: Mutex::default(),
        })
    }

    /// Notes why no more jobs should start early. Only the first reason counts.
    pub fn give_up(&self, reason: &'static str) {
        let _ = self.given_up.set(reason);
    }

    /// Returns why no more jobs should start early, if so.
    pub fn given_up(&self) -> Option<&'static str> {
        self.given_up.get().copied()
    }

    /// Keeps a hollow rlib whose real one will never be written until the build ends: compilers that have
    /// started on it still read it, and end by being aborted.
    pub(crate) fn keep(&self, hollow: Hollow) {
        let mut kept = self.hollow.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(hollow);
    }

    /// The directory of the gate, which no other process uses: also for files that are not to be left
    /// behind.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = remove(&self.dir);
    }
}

/// Removes a directory or a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("gate");
        let shim = std::env::current_exe().unwrap();
        for leftover in ["a file", "a directory", "nothing"] {
            match leftover {
                "a file" => fs::write(&dir, "").unwrap(),
                "a directory" => fs::create_dir_all(dir.join("3f/cc")).unwrap(),
                _ => {}
            }
            let gate = Gate::open(&dir, &shim).unwrap();
            assert_eq!(fs::read_dir(gate.dir()).unwrap().count(), 0, "{leftover}");
            drop(gate);
            assert!(!dir.exists());
        }
        Gate::open(&temp.path().join("no/parent"), &shim).unwrap_err();
        for wrong in ["cargo", "/no/such/file"] {
            Gate::open(&dir, Path::new(wrong)).unwrap_err();
        }
    }
}
