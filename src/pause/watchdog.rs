//! Sees to it that nothing stays stopped.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Handle;
use process::{Message, NAME, PURPOSE, READY};

pub use process::run_if_invoked_as_watchdog;

pub(super) mod process;

/// How long the process may take to start, and to take what it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// Continues every process that is paused when it is dropped, and when cargo dies in whatever way.
/// See the [module's documentation](super).
///
/// There is one for a build, and it belongs to the queue. Its process is started when something is
/// paused for the first time.
pub struct Watchdog(Arc<Watch>);

/// What the handles of a build share.
pub(super) struct Watch {
    inner: Mutex<Inner>,
    send: SendSignal,
}

pub(super) type SendSignal = Box<dyn Fn(Pid, Signal) -> io::Result<()> + Send + Sync>;
type Start = Box<dyn FnOnce(UnixStream) -> io::Result<Option<Child>> + Send>;

struct Inner {
    process: Process,
    stopped: Vec<Handle>,
}

/// Where the process of the watchdog is in its life.
enum Process {
    /// The two ends are made before any job runs, see [`Watchdog::new`].
    NotStarted {
        ours: UnixStream,
        theirs: UnixStream,
        start: Start,
    },
    Started {
        ours: UnixStream,
        /// There is none in some tests.
        child: Option<Child>,
    },
    /// It could not be started, or died. It is not tried again.
    Unavailable(io::Error),
    /// The watchdog is dropped.
    Closed,
}

impl Watchdog {
    /// `exe` is the absolute path of the executable whose `main` calls
    /// [`run_if_invoked_as_watchdog`]. It is not looked at yet.
    ///
    /// To be called while no other thread starts processes. macOS cannot make a socket that no new
    /// process inherits, only make it so afterwards (rust-lang/rust#95584); and a process that holds
    /// cargo's end, and is stopped, would keep the watchdog from seeing that cargo has died.
    pub fn new(exe: PathBuf) -> Self {
        Watchdog::with(
            Box::new(move |theirs| start(&exe, theirs)),
            Box::new(|pid, signal| Ok(kill_process(pid, signal)?)),
        )
    }

    fn with(start: Start, send: SendSignal) -> Self {
        let process = match UnixStream::pair() {
            Ok((ours, theirs)) => Process::NotStarted {
                ours,
                theirs,
                start,
            },
            Err(e) => Process::Unavailable(e),
        };
        Watchdog(Arc::new(Watch {
            inner: Mutex::new(Inner {
                process,
                stopped: Vec::new(),
            }),
            send,
        }))
    }

    /// A handle for one more job.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.0))
    }
}

impl Drop for Watchdog {
    /// Continues what is stopped. From then on nothing can be paused.
    fn drop(&mut self) {
        let (process, stopped) = {
            let mut inner = self.0.lock();
            (
                std::mem::replace(&mut inner.process, Process::Closed),
                std::mem::take(&mut inner.stopped),
            )
        };
        // Each under its own lock, so that one that is just being stopped is continued after that.
        for handle in stopped {
            handle.resume();
        }
        if let Process::Started { child, .. } = process {
            end(child);
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("stopped", &self.0.lock().stopped.len())
            .finish_non_exhaustive()
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signal(&self, pid: Pid, signal: Signal) -> io::Result<()> {
        (self.send)(pid, signal)
    }

    /// Notes that `pid`, the process of `handle`, is about to be stopped. Starts the watchdog's process
    /// if there is none, and blocks until it is there.
    pub(super) fn add(&self, pid: Pid, handle: &Handle) -> io::Result<()> {
        let mut inner = self.lock();
        inner.process.tell(Message::Stopped(pid))?;
        inner.stopped.push(handle.clone());
        Ok(())
    }

    /// Notes that `pid` is continued, and may be waited for.
    pub(super) fn remove(&self, pid: Pid, handle: &Handle) {
        let mut inner = self.lock();
        inner.stopped.retain(|stopped| !stopped.is(handle));
        if let Process::Started { .. } = inner.process {
            // If it is gone, the next stop will tell.
            let _ = inner.process.tell(Message::Continued(pid));
        }
    }
}

impl Process {
    fn tell(&mut self, message: Message) -> io::Result<()> {
        if let Process::NotStarted { .. } = self
            && let Process::NotStarted {
                ours,
                theirs,
                start,
            } = std::mem::replace(self, Process::Closed)
        {
            *self = Process::start(ours, theirs, start);
        }
        if let Process::Started { ours, child } = self {
            let Err(e) = ours.write_all(&message.encode()) else {
                return Ok(());
            };
            end(child.take());
            let message = format!("the watchdog is gone: {e}");
            *self = Process::Unavailable(io::Error::new(e.kind(), message));
        }
        Err(match self {
            Process::Unavailable(e) => io::Error::new(e.kind(), e.to_string()),
            _ => io::Error::other("the build has ended"),
        })
    }

    fn start(mut ours: UnixStream, theirs: UnixStream, start: Start) -> Self {
        let child = match start(theirs) {
            Ok(child) => child,
            Err(e) => return Process::Unavailable(e),
        };
        let mut answer = [0];
        let started = ours
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| ours.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| ours.read_exact(&mut answer));
        match started {
            Ok(()) if answer == [READY] => Process::Started { ours, child },
            started => {
                end(child);
                let e = started.err().unwrap_or(io::ErrorKind::InvalidData.into());
                Process::Unavailable(io::Error::new(
                    e.kind(),
                    format!("the watchdog did not start: {e}"),
                ))
            }
        }
    }
}

fn start(exe: &Path, theirs: UnixStream) -> io::Result<Option<Child>> {
    if !exe.is_absolute() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the watchdog `{}` is not an absolute path", exe.display()),
        ));
    }
    let mut command = Command::new(exe);
    command.arg0(NAME).arg(PURPOSE);
    spawn(command, theirs).map(Some).map_err(|e| {
        let exe = exe.display();
        io::Error::new(
            e.kind(),
            format!("could not execute the watchdog `{exe}`: {e}"),
        )
    })
}

/// It takes nothing along that anybody could miss: no terminal, no pipe of the user's, no directory.
/// What cargo inherited to be passed on, such as make's jobserver, it does hold, as a rustc does, and it
/// lives no longer than cargo.
fn spawn(mut command: Command, theirs: UnixStream) -> io::Result<Child> {
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // What the terminal sends to cargo's group is not for it.
        .process_group(0)
        .spawn()
    // Here the command goes, and with it our copy of its end.
}

/// Ends the process of the watchdog when there is nothing left for it to do.
///
/// It would end by itself, unless somebody has stopped it; cargo must not wait for that.
fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
pub(super) mod tests;
