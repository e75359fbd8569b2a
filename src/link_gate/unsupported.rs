//! The gate where there is none: systems that have no Unix sockets, or do not let a file be
//! replaced that is in use.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::Report;
use crate::channel::Parking;

/// A gate. On this system there is none.
pub struct Gate(Infallible);

/// A job at a gate. On this system there is none.
pub struct Ticket(Infallible);

impl Gate {
    /// Fails on this system.
    ///
    /// # Errors
    ///
    /// Always, with [`io::ErrorKind::Unsupported`].
    pub fn open(_dir: &Path, _shim: &Path) -> io::Result<Gate> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called on this system.
    pub fn dir(&self) -> &Path {
        match self.0 {}
    }

    /// Cannot be called on this system.
    pub fn give_up(&self, _reason: &'static str) {
        match self.0 {}
    }

    /// Cannot be called on this system.
    pub fn given_up(&self) -> Option<&'static str> {
        match self.0 {}
    }

    /// Cannot be called on this system.
    ///
    /// # Errors
    ///
    /// None.
    pub fn admit(&self, _linker: &OsStr, _parking: Parking) -> io::Result<Ticket> {
        match self.0 {}
    }
}

impl Ticket {
    /// Cannot be called on this system.
    pub fn linker(&self) -> &Path {
        match self.0 {}
    }

    /// Cannot be called on this system.
    pub fn close(self) -> Report {
        match self.0 {}
    }
}

/// Returns at once on this system.
pub fn run_if_invoked_as_linker() {}
