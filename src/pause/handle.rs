//! The process of one job, as the thread of the job and that of the queue see it.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// Stops and continues the process of one job, which the thread of the job
/// [runs](crate::process::exec()) under it. Clones are of the same job.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Mutex<State>>);

/// Where the process of a job is in its life.
///
/// ```text
///             attach             pause
///  NoProcess ────────▶ Running ────────▶ Stopped
///      ▲ ▲                │ ◀──────────── │
///      │ └────────────────┘     resume     │
///      └───────────────────────────────────┘ detach, which resumes
/// ```
///
/// In `Running` and `Stopped` it has not been waited for, so its id belongs to no other process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    NoProcess,
    Running(Pid),
    Stopped(Pid),
}

impl Handle {
    /// Stops the process until it is [resumed](Handle::resume) or cargo dies. Returns false if there is
    /// none, or if it could not be signalled.
    ///
    /// A process that is about to end may do so before it is stopped, and this still returns true: the
    /// job ends as ever, and there is nothing to resume.
    pub fn pause(&self) -> bool {
        let mut state = self.lock();
        if let State::Running(pid) = *state
            && kill_process(pid, Signal::STOP).is_ok()
        {
            *state = State::Stopped(pid);
        }
        matches!(*state, State::Stopped(_))
    }

    /// Continues the process if it is stopped.
    pub fn resume(&self) {
        resume(&mut self.lock());
    }

    /// How many bytes would be free if the process were not there: its anonymous pages, in memory or
    /// swapped out. `None` if there is none.
    ///
    /// Of what else is resident, rustc's libraries and the crates that it has mapped, nearly all is
    /// shared with the next rustc. Linux counts them apart since 4.5, in `/proc/PID/status`
    /// (proc_pid_status(5)).
    pub fn memory(&self) -> Option<u64> {
        let status = self.read("status", |path| fs::read(path))?;
        // The name of the process, on the first line, may be anything.
        anonymous(&String::from_utf8_lossy(&status))
    }

    /// Whether the process runs this executable now, as `/proc/PID/exe` has it (proc_pid_exe(5)), which
    /// is a shell for a script.
    pub fn runs(&self, executable: &Path) -> bool {
        let file = |path: &Path| fs::metadata(path).map(|it| (it.st_dev(), it.st_ino()));
        let running = self.read("exe", file);
        running.is_some() && running == file(executable).ok()
    }

    /// Reads a file that the kernel has about the process, while its id is its own.
    fn read<T>(&self, name: &str, read: impl Fn(&Path) -> std::io::Result<T>) -> Option<T> {
        let state = self.lock();
        let (State::Running(pid) | State::Stopped(pid)) = *state else {
            return None;
        };
        read(format!("/proc/{}/{name}", pid.as_raw_pid()).as_ref()).ok()
    }

    /// Makes `child` the process of the job until the guard is dropped, which has to happen before it is
    /// waited for. Dropping it continues the process.
    pub(crate) fn attach(&self, child: &Child) -> Attached<'_> {
        let mut state = self.lock();
        assert_eq!(*state, State::NoProcess, "a job has one process at a time");
        *state = State::Running(Pid::from_child(child));
        Attached(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resume(state: &mut State) {
    if let State::Stopped(pid) = *state {
        // A process that could be stopped can be continued, and it has not been waited for.
        let _ = kill_process(pid, Signal::CONT);
        *state = State::Running(pid);
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

fn anonymous(status: &str) -> Option<u64> {
    let [resident, swapped] =
        ["RssAnon:", "VmSwap:"].map(|name| crate::memory::kib_field(status, name));
    // A kernel without swap does not count it.
    resident?.checked_add(swapped.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory() {
        let status =
            "Name:\tRssAnon: 7\nVmRSS:\t  300 kB\nRssAnon:\t  100 kB\nRssFile:\t  200 kB\n";
        assert_eq!(anonymous(status), Some(100 * 1024));
        let swapped = format!("{status}VmSwap:\t 50 kB\n");
        assert_eq!(anonymous(&swapped), Some(150 * 1024));
        // A process that has ended has no memory.
        assert_eq!(anonymous("Name:\trustc\nState:\tZ (zombie)\n"), None);
    }
}
