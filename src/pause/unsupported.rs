//! Pausing where there is none.

use std::path::Path;
use std::process::Child;

/// Stops and continues a process. No process can be stopped on this system.
#[derive(Clone, Debug, Default)]
pub struct Handle;

impl Handle {
    /// Returns false.
    pub fn pause(&self) -> bool {
        false
    }

    /// Does nothing.
    pub fn resume(&self) {}

    /// Returns `None`.
    pub fn memory(&self) -> Option<u64> {
        None
    }

    /// Returns false.
    pub fn runs(&self, _executable: &Path) -> bool {
        false
    }

    pub(crate) fn attach(&self, _child: &Child) {}
}
