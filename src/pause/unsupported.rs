//! Pausing where there is none: systems without signals that stop and continue a process.

use std::io;
use std::path::{Path, PathBuf};

use cargo_util::ProcessBuilder;

use super::Paused;
use crate::link_gate::OnLine;

/// Keeps nothing from staying stopped, as on this system nothing is.
#[derive(Debug)]
pub struct Watchdog(());

/// What a process would be stopped and continued by. On this system it is not.
#[derive(Clone, Debug)]
pub struct Handle(());

impl Watchdog {
    /// Makes nothing of `exe`.
    pub fn new(_exe: PathBuf) -> Self {
        Watchdog(())
    }

    /// A handle for one more job.
    pub fn handle(&self) -> Handle {
        Handle(())
    }
}

impl Handle {
    /// Fails on this system.
    ///
    /// # Errors
    ///
    /// Always, with [`io::ErrorKind::Unsupported`].
    pub fn pause(&self) -> io::Result<Paused> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Does nothing: nothing is paused.
    pub fn resume(&self) {}

    /// Is not known on this system.
    pub fn runs(&self, _executable: &Path) -> bool {
        false
    }

    /// Is not known on this system.
    pub fn memory(&self) -> Option<u64> {
        None
    }
}

/// Runs `process` as [`exec_with_streaming`](ProcessBuilder::exec_with_streaming) does, without
/// capturing the output.
///
/// # Errors
///
/// What that fails with.
pub fn exec(
    process: &ProcessBuilder,
    _handle: &Handle,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    super::exec_unpaused(process, on_stdout, on_stderr)
}

/// Returns at once on this system.
pub fn run_if_invoked_as_watchdog() {}
