//! The process of the watchdog: what cargo does when it is run under that name.
//!
//! Nothing here may panic, or wait for anything but cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::process;

use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use nix::sys::signal::{SigHandler, signal};
use rustix::process::{Pid, Signal, kill_process};

/// What the process is called. Not after cargo, so that `pkill -9 cargo` does not kill it together with
/// the one that it watches. At most 15 bytes, which is what Linux has room for.
pub const NAME: &str = "rustc-watchdog";
/// Its only argument, which nobody gives by accident.
pub const PURPOSE: &str = "--continue-what-is-stopped-at-the-end-of-stdin";
/// What it says once it watches.
pub const READY: u8 = b'R';

/// What cargo tells the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is about to be stopped.
    Stopped(Pid),
    /// It is continued.
    Continued(Pid),
}

/// One byte that says which it is, and the id.
pub const MESSAGE_LEN: usize = 1 + size_of::<i32>();

impl Message {
    pub fn encode(self) -> [u8; MESSAGE_LEN] {
        let (kind, pid) = match self {
            Message::Stopped(pid) => (b'+', pid),
            Message::Continued(pid) => (b'-', pid),
        };
        let [a, b, c, d] = pid.as_raw_pid().to_ne_bytes();
        [kind, a, b, c, d]
    }

    /// `None` for what cargo never says. Ids below 2 would be init, or groups of processes.
    pub fn decode([kind, pid @ ..]: [u8; MESSAGE_LEN]) -> Option<Self> {
        let pid = i32::from_ne_bytes(pid);
        let pid = Pid::from_raw(pid.max(0)).filter(|pid| !pid.is_init())?;
        match kind {
            b'+' => Some(Message::Stopped(pid)),
            b'-' => Some(Message::Continued(pid)),
            _ => None,
        }
    }
}

/// Watches, if this process was started by a [`Watchdog`](super::Watchdog). Else, which costs a look at
/// the arguments, returns.
///
/// To be called first thing in `main`, before anything looks at the arguments or starts a thread. If it
/// does not return, the process ends when the other one has died or dropped its `Watchdog`.
pub fn run_if_invoked_as_watchdog() {
    if !is_invocation(env::args_os()) {
        return;
    }
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else {
        return;
    };
    let stdin = File::from(stdin);
    if !(stdin.metadata()).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return;
    }
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let code = match watch(UnixStream::from(OwnedFd::from(stdin))) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    process::exit(code)
}

pub fn is_invocation(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().eq([NAME, PURPOSE].map(OsStr::new))
}

/// Hears which processes are stopped, and continues them when there is nothing more to hear.
///
/// # Errors
///
/// If it cannot be made sure that only SIGKILL ends this process, or if there is nobody to be heard.
/// In both cases nothing is stopped: that waits until this process is ready.
pub fn watch(mut cargo: UnixStream) -> io::Result<()> {
    // What is sent to a whole build, to end or to stop it.
    for ignored in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2] {
        // SAFETY: to ignore a signal is no handler that could do anything unsafe.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    cargo.write_all(&[READY])?;
    let mut stopped: Vec<Pid> = Vec::new();
    let mut message = [0; MESSAGE_LEN];
    while cargo.read_exact(&mut message).is_ok() {
        match Message::decode(message) {
            Some(Message::Stopped(pid)) => stopped.push(pid),
            Some(Message::Continued(pid)) => stopped.retain(|it| *it != pid),
            None => {}
        }
    }
    for pid in stopped {
        let _ = kill_process(pid, Signal::CONT);
    }
    Ok(())
}
