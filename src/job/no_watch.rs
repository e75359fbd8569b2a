//! Systems on which metadata is not noticed.

use std::io;
use std::path::Path;

use crate::pause::Handle;

/// Watches the directories into which the compilers of a build write: not on this system.
#[derive(Debug)]
pub enum MetadataWatch {}

impl MetadataWatch {
    /// # Errors
    ///
    /// Always.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// There is nothing to call this on.
    pub fn expect_renamed(&self, _: &Path, _: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match *self {}
    }

    /// There is nothing to call this on.
    pub fn expect_mapped(
        &self,
        _: &Path,
        _: Handle,
        _: impl FnOnce(&Path) + Send + 'static,
    ) -> io::Result<()> {
        match *self {}
    }
}
