//! Stops a compiler that runs, and continues it. Linux only.
//!
//! Codegen of a rustc that has written its metadata may have a lower priority than what waits for a slot.
//! The queue then stops it (SIGSTOP), gives its slot to another job, and continues it (SIGCONT) later. The
//! thread of its job meanwhile reads its pipes.
//!
//! # Who is signalled
//!
//! Only the process that the job has started, and only if that is rustc itself ([`Handle::runs`]): a
//! script in its place has rustc as a child, which would run on. And only while it has not been waited
//! for, because its id is its own until then.
//!
//! A stop is a request: threads stop at the end of their current system call, and a process that is
//! about to end may end. The queue need not care: a job ends with its thread.
//!
//! # Nothing stays stopped
//!
//! | what happens | who continues what is stopped |
//! | --- | --- |
//! | the queue ends, well or with an error or a panic | dropping [`Pauses`](crate::scheduler::Pauses) |
//! | a job fails in its own thread | [`exec`](crate::process::exec), before it returns |
//! | Ctrl-C, a signal that kills cargo, SIGKILL, `panic = "abort"`, the OOM killer | the kernel |
//!
//! For the last one each compiler has asked, before it was executed, to be sent SIGCONT when the thread
//! of its job ends (`PR_SET_PDEATHSIG`; it survives execve(2) unless the program is set-user-ID). The
//! rule for orphaned process groups (POSIX, `_exit`) is not enough: it depends on who started cargo.
//!
//! Ctrl-Z stops all processes of cargo's group, and `fg` continues all of them, paused ones included.
//! Such a compiler just runs early; continuing it once more does no harm.
//!
//! Nothing is stopped while cargo runs in the background of a terminal. When its shell ends, its process group is
//! orphaned, and the kernel sends SIGHUP to such a group if a process of it is stopped (POSIX, `_exit`): the build
//! would die with the session, which it otherwise survives.
//!
//! A stopped compiler keeps the jobserver tokens that its codegen threads have taken by then. So the time
//! to stop it is when it has written its metadata, before it has asked for any.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::memory;

/// Whether anything can be paused on this system.
pub const IS_SUPPORTED: bool = cfg!(target_os = "linux");

/// Stops and continues the process of one job, which [`exec`](crate::process::exec()) runs. Clones are of
/// the same job.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Mutex<State>>);

/// The process of a job, by its id. In `Running` and `Stopped` it has not been waited for, so its id belongs
/// to no other process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    NoProcess,
    Running(u32),
    Stopped(u32),
}

impl Handle {
    /// Stops the process until it is [resumed](Handle::resume) or cargo dies. Returns false if there is
    /// none, if it could not be signalled, or if cargo runs in the background of a terminal. One that ends before
    /// it stops has been signalled.
    pub fn pause(&self) -> bool {
        let mut state = self.lock();
        if let State::Running(id) = *state
            && !is_in_background()
            && signal(id, true)
        {
            *state = State::Stopped(id);
        }
        matches!(*state, State::Stopped(_))
    }

    /// Continues the process if it is stopped.
    pub fn resume(&self) {
        resume(&mut self.lock());
    }

    /// Returns how many bytes would be free if the process were not there: its anonymous pages, in memory
    /// or swapped out (proc_pid_status(5), Linux 4.5). What else is resident, rustc's libraries and the crates
    /// that it has mapped, is shared with the next rustc. `None` if there is no process.
    pub fn memory(&self) -> Option<u64> {
        let status = self.read("status", |path| fs::read(path))?;
        // The name of the process, on the first line, may be anything.
        memory::anonymous(&String::from_utf8_lossy(&status))
    }

    /// Whether the process runs this executable now, as `/proc/PID/exe` has it (proc_pid_exe(5)), which
    /// is a shell for a script.
    pub fn runs(&self, executable: &Path) -> bool {
        let is_same = |path: &Path| same_file::is_same_file(path, executable);
        self.read("exe", is_same).unwrap_or(false)
    }

    /// Whether the process has the file at `path`, absolute and without links, in its memory (proc_pid_maps(5)) or
    /// open only to be read (proc_pid_fd(5)), as it is before it is mapped.
    #[cfg(target_os = "linux")]
    pub(crate) fn reads(&self, path: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        let is_open = |fd: &Path| -> io::Result<bool> {
            let is_writable = fd.symlink_metadata()?.permissions().mode() & 0o200 != 0;
            Ok(!is_writable && fs::read_link(fd)? == path)
        };
        let is_any_open = |fds: &Path| -> io::Result<bool> {
            // Some may be closed meanwhile.
            Ok(fs::read_dir(fds)?
                .flatten()
                .any(|fd| is_open(&fd.path()).unwrap_or(false)))
        };
        let end = [b" ", path.as_os_str().as_bytes()].concat();
        let is_mapped = |maps: &Path| -> io::Result<bool> {
            let maps = fs::read(maps)?;
            Ok(maps
                .split(|byte| *byte == b'\n')
                .any(|line| line.ends_with(&end)))
        };
        // In this order: it is closed only when it is mapped.
        self.read("fd", is_any_open) == Some(true) || self.read("maps", is_mapped) == Some(true)
    }

    /// Reads a file that the kernel has about the process, while its id is its own.
    fn read<T>(&self, name: &str, read: impl Fn(&Path) -> io::Result<T>) -> Option<T> {
        let state = self.lock();
        let (State::Running(id) | State::Stopped(id)) = *state else {
            return None;
        };
        read(format!("/proc/{id}/{name}").as_ref()).ok()
    }

    /// Makes `child` the process of the job until the guard is dropped, which has to happen before it is
    /// waited for. Dropping it continues the process.
    pub(crate) fn attach(&self, child: &Child) -> Attached<'_> {
        let mut state = self.lock();
        assert_eq!(*state, State::NoProcess, "a job has one process at a time");
        *state = State::Running(child.id());
        Attached(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it exists, the process may be stopped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Attached<'a>(&'a Handle);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        resume(&mut state);
        *state = State::NoProcess;
    }
}

fn resume(state: &mut State) {
    if let State::Stopped(id) = *state {
        // A process that could be stopped can be continued, and it has not been waited for.
        signal(id, false);
        *state = State::Running(id);
    }
}

/// Whether this process belongs to a terminal, but not to its foreground.
#[cfg(target_os = "linux")]
fn is_in_background() -> bool {
    fs::File::open("/dev/tty").is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(terminal)
            .is_ok_and(|foreground| foreground != rustix::process::getpgrp())
    })
}

#[cfg(not(target_os = "linux"))]
fn is_in_background() -> bool {
    false
}

/// Sends SIGSTOP or SIGCONT to a process. Returns false if it was not sent.
#[cfg(target_os = "linux")]
fn signal(id: u32, is_stop: bool) -> bool {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = if is_stop { Signal::STOP } else { Signal::CONT };
    Pid::from_raw(id.cast_signed()).is_some_and(|id| kill_process(id, signal).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn signal(_: u32, _: bool) -> bool {
    false
}
