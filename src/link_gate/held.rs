//! One compiler that is held, as cargo sees it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::gate::remove;
use super::shim::{FAILED, Job, LINK, PARKED};
use super::{EarlyStart, HeldLinker};
use crate::permit::{Parking, Permit, PermitSender};

/// How far a compiler has come.
///
/// ```text
///  Compiling ──▶ Parked ──▶ Linking ──▶ NotLinked
///                   │
///                   ▼
///                Aborted
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its shim has not parked. If it has ended well, something else has linked, or nothing.
    Compiling,
    /// Its shim waits for a permit, or was killed while it waited.
    Parked,
    /// It has the permit. The real linker is in charge from here on.
    Linking,
    /// It had the permit, but the shim could not become the real linker.
    NotLinked,
    /// It was told to end.
    Aborted,
}

/// A compiler that parks before it links. Dropping it ends the conversation with its shims.
pub(super) struct Held {
    dir: PathBuf,
    linker: PathBuf,
    socket: Arc<Socket>,
    /// The end that the compiler inherits, until it does.
    inherited: Option<OwnedFd>,
    /// The same end.
    theirs: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Cargo's end.
struct Socket {
    stream: UnixStream,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// How many shims have parked before the permit.
    waiting: usize,
    /// How many permits were written.
    written: usize,
    /// How many of them no shim has read, when the compiler has ended.
    unread: usize,
}

impl Held {
    /// Prepares for a compiler. When its shim has come, `parking` is called, at most once and from
    /// another thread.
    ///
    /// # Errors
    ///
    /// If `linker` does not name a file; if the files that the shim needs cannot be made; if there is no
    /// descriptor or thread left.
    pub(super) fn new(early: &EarlyStart, parking: Parking) -> io::Result<Held> {
        let EarlyStart {
            gate,
            linker: HeldLinker { name, linker },
        } = early;
        let file_name = match Path::new(linker).file_name() {
            Some(name) if name != Job::FILE => name,
            _ => {
                let message = "not the name of a linker";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        let (stream, theirs) = UnixStream::pair()?;
        let inherited = OwnedFd::from(theirs.try_clone()?);
        let socket = Arc::new(Socket {
            stream,
            state: Mutex::new(State {
                progress: Progress::Compiling,
                waiting: 0,
                written: 0,
                unread: 0,
            }),
        });
        let dir = gate.dir.join(name);
        let job = Job {
            linker: linker.to_owned(),
            descriptor: inherited.as_raw_fd(),
            inode: rustix::fs::fstat(&theirs)?.st_ino,
        };
        // From here on, dropping it cleans up.
        let mut held = Held {
            linker: dir.join(file_name),
            dir,
            socket,
            inherited: Some(inherited),
            theirs,
            thread: None,
        };
        fs::create_dir(&held.dir)?;
        symlink(&gate.shim, &held.linker)?;
        fs::write(held.dir.join(Job::FILE), serde_json::to_vec(&job)?)?;
        let socket = Arc::clone(&held.socket);
        let thread = thread::Builder::new().name("link-gate".to_owned());
        held.thread = Some(thread.spawn(move || socket.listen(&parking))?);
        Ok(held)
    }

    /// The linker to give to rustc: an absolute path, whose file name is that of the real one.
    pub(super) fn linker(&self) -> &Path {
        &self.linker
    }

    /// The descriptor that the compiler has to inherit.
    pub(super) fn inherited(&mut self) -> Option<OwnedFd> {
        self.inherited.take()
    }

    /// Ends the conversation, because the compiler has ended, and returns how far it has come. A shim
    /// that still waits ends; `parking` is not called any more.
    pub(super) fn end(self) -> Progress {
        let socket = Arc::clone(&self.socket);
        drop(self);
        let state = socket.lock();
        if state.progress == Progress::Linking && state.unread > 0 && state.unread == state.written
        {
            // The shim was killed before it read the permit.
            return Progress::Parked;
        }
        state.progress
    }

    /// Takes the permits back that no shim has read.
    fn take_unread(&self) -> io::Result<()> {
        self.theirs.set_nonblocking(true)?;
        let mut bytes = [0; 64];
        loop {
            match (&self.theirs).read(&mut bytes)? {
                0 => return Ok(()),
                read => self.socket.lock().unread += read,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What shims have written before is still read, then the thread sees the end of the stream.
        let _ = self.theirs.shutdown(Shutdown::Write);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
        // Ends with an error when nothing is left.
        let _ = self.take_unread();
        let _ = self.theirs.shutdown(Shutdown::Both);
        let _ = remove(&self.dir);
    }
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives what shims send, until [`Held`] is dropped.
    fn listen(self: &Arc<Self>, parking: &Parking) {
        let mut byte = [0];
        while (&self.stream).read_exact(&mut byte).is_ok() {
            let mut state = self.lock();
            match (byte, state.progress) {
                ([PARKED], Progress::Compiling) => {
                    state.progress = Progress::Parked;
                    state.waiting = 1;
                    drop(state);
                    let socket = Arc::clone(self);
                    parking.park(PermitSender::new(move |permit| socket.permit(permit)));
                }
                // The one before has been killed, or still waits as well.
                ([PARKED], Progress::Parked) => state.waiting += 1,
                ([PARKED], Progress::Linking) => self.send_link(&mut state),
                ([FAILED], Progress::Linking) => state.progress = Progress::NotLinked,
                _ => {}
            }
        }
    }

    fn permit(&self, permit: Permit) {
        let mut state = self.lock();
        if state.progress != Progress::Parked {
            return;
        }
        match permit {
            Permit::Link => {
                state.progress = Progress::Linking;
                for _ in 0..state.waiting {
                    self.send_link(&mut state);
                }
            }
            Permit::Abort => {
                state.progress = Progress::Aborted;
                let _ = self.stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Does not block: a socket has room for a few bytes.
    fn send_link(&self, state: &mut State) {
        if (&self.stream).write_all(&[LINK]).is_ok() {
            state.written += 1;
        }
    }
}
