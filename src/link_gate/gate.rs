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
    /// Why no more jobs may start early.
    pub(super) given_up: OnceLock<&'static str>,
    hollow: Mutex<Vec<Hollow>>,
}

impl Gate {
    /// Opens a gate in `dir`, whose parent must exist, and removes the directory that a killed cargo has
    /// left there; the caller sees to it that no other cargo uses it. `shim` is the executable whose `main`
    /// calls [`run_if_invoked_as_linker`](super::run_if_invoked_as_linker).
    ///
    /// # Errors
    ///
    /// If `shim` is not the absolute path of a file; if the directory cannot be replaced; always on Windows.
    pub fn open(dir: PathBuf, shim: PathBuf) -> io::Result<Gate> {
        if cfg!(not(unix)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if !shim.is_absolute() || !shim.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let dir = std::path::absolute(dir)?;
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&dir)?,
        }
        Ok(Gate {
            dir,
            shim,
            given_up: OnceLock::new(),
            hollow: Mutex::default(),
        })
    }

    /// Keeps a hollow rlib whose real one will never be written: compilers that have started on it still
    /// read it.
    pub(crate) fn keep(&self, hollow: Hollow) {
        let mut kept = self.hollow.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(hollow);
    }

    /// The directory of the gate, which no other process uses. No file is left behind in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("gate");
        let shim = std::env::current_exe().unwrap();
        for _ in 0..2 {
            let gate = Gate::open(dir.clone(), shim.clone()).unwrap();
            assert_eq!(fs::read_dir(gate.dir()).unwrap().count(), 0);
            drop(gate);
            assert!(!dir.exists());
            fs::create_dir_all(dir.join("3f/cc")).unwrap();
        }
        Gate::open(temp.path().join("no/parent"), shim).unwrap_err();
        for wrong in ["cargo", "/no/such/file"] {
            Gate::open(dir.clone(), wrong.into()).unwrap_err();
        }
    }
}
