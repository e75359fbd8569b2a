//! The process of one job, as the thread of the job and that of the queue see it.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};

use super::Paused;
use super::footprint;
use super::watchdog::Watch;

/// What the queue stops and continues a job's process by, and the thread of the job
/// [runs](super::exec()) it under. Cloning it is cheap; all clones are of the same job.
#[derive(Clone)]
pub struct Handle(Arc<Job>);

struct Job {
    state: Mutex<State>,
    watch: Arc<Watch>,
}

/// Where the process of a job is in its life.
///
/// ```text
///              attach             pause
///  NotStarted ────────▶ Running ────────▶ Stopped
///                        │  ▲ ◀──────────   │
///                    end │  │     resume    │ end, which resumes
///                        ▼  │ attach        │
///                       Ended ◀─────────────┘
/// ```
///
/// In `Running` and `Stopped` it has not been waited for, so its id is nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotStarted,
    Running { pid: Pid },
    Stopped { pid: Pid },
    Ended,
}

impl Handle {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Handle(Arc::new(Job {
            state: Mutex::new(State::NotStarted),
            watch,
        }))
    }

    /// Stops the process, if there is one. It stays so until it is [resumed](Handle::resume), which
    /// also happens when the [`Watchdog`](super::Watchdog) is dropped and when cargo dies.
    ///
    /// A process that is about to end may do so before it is stopped, and nobody can tell. That is
    /// harmless: the answer is [`Paused::Stopped`], the job ends as ever, and there is nothing to
    /// resume.
    ///
    /// The first call in a build starts the watchdog's process, and blocks until it is there, which
    /// takes some milliseconds. The others do not block.
    ///
    /// # Errors
    ///
    /// If there is no watchdog, because it could not be started or is gone: then nothing can be paused
    /// for the rest of the build, and all later calls say the same. If this process may not be
    /// signalled. In any case it runs on.
    pub fn pause(&self) -> io::Result<Paused> {
        let mut state = self.0.lock();
        match *state {
            State::NotStarted => Ok(Paused::NotStarted),
            State::Ended => Ok(Paused::Ended),
            State::Stopped { .. } => Ok(Paused::Stopped),
            State::Running { pid } => {
                // Before it is stopped: there is no instant at which cargo could die and leave it so.
                self.0.watch.add(pid, self)?;
                if let Err(e) = self.0.watch.signal(pid, Signal::STOP) {
                    self.0.watch.remove(pid, self);
                    return Err(e);
                }
                *state = State::Stopped { pid };
                Ok(Paused::Stopped)
            }
        }
    }

    /// Continues the process, if it is stopped. Does not block.
    pub fn resume(&self) {
        self.resume_locked(&mut self.0.lock());
    }

    fn resume_locked(&self, state: &mut State) {
        if let State::Stopped { pid } = *state {
            // Whom one may stop, one may continue; and it is there, as it has not been waited for.
            let _ = self.0.watch.signal(pid, Signal::CONT);
            self.0.watch.remove(pid, self);
            *state = State::Running { pid };
        }
    }

    /// How many bytes of memory would be free if the process were not there. `None` if there is none,
    /// and if that cannot be known.
    ///
    /// On Linux it is what the process has allocated, elsewhere all that is resident. Elsewhere it
    /// blocks until ps(1) has run.
    pub fn memory(&self) -> Option<u64> {
        let state = self.0.lock();
        match *state {
            State::NotStarted | State::Ended => None,
            State::Running { pid } | State::Stopped { pid } => footprint::of(pid),
        }
    }

    /// Whether the process runs this executable now. False if there is none, and if that cannot be
    /// known.
    pub fn runs(&self, executable: &Path) -> bool {
        let state = self.0.lock();
        match *state {
            State::NotStarted | State::Ended => false,
            State::Running { pid } | State::Stopped { pid } => runs(pid, executable),
        }
    }

    /// Makes `child` the process of the job until the answer is dropped, which is to happen before it is
    /// waited for. One at a time: a second one is never stopped.
    pub(super) fn attach(&self, child: &Child) -> Attached<'_> {
        self.attach_pid(Pid::from_child(child))
    }

    fn attach_pid(&self, pid: Pid) -> Attached<'_> {
        let mut state = self.0.lock();
        match *state {
            State::NotStarted | State::Ended => {
                *state = State::Running { pid };
                Attached(Some(self))
            }
            State::Running { .. } | State::Stopped { .. } => Attached(None),
        }
    }

    fn end(&self) {
        let mut state = self.0.lock();
        self.resume_locked(&mut state);
        *state = State::Ended;
    }

    /// Whether both are of the same job.
    pub(super) fn is(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Whether a process runs an executable: only Linux tells, in `/proc/PID/exe` (proc_pid_exe(5)), which
/// is a shell for a script.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn runs(pid: Pid, executable: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let running = file(format!("/proc/{}/exe", pid.as_raw_pid()).as_ref());
    let executable = file(executable);
    matches!((running, executable), (Ok(running), Ok(executable)) if running == executable)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn runs(_: Pid, _: &Path) -> bool {
    false
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&*self.0.lock()).finish()
    }
}

/// While it exists, its process may be stopped. Dropping it continues the process.
#[must_use]
pub(super) struct Attached<'a>(Option<&'a Handle>);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.0 {
            handle.end();
        }
    }
}

#[cfg(test)]
mod tests;
