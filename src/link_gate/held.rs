//! One compiler that is held, as cargo sees it.

use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::HeldLinker;
use super::run::BeforeLinker;
use super::shim::{FAILED, Job, LINKING, PARKED, PERMIT};
use crate::permit::{Parking, Permit};

/// How far a compiler has come.
///
/// ```text
///  Compiling ──▶ Parked ──▶ Permitted ──▶ Linking ──▶ NotLinked
///                   │           │                         ▲
///                   ▼           └─────────────────────────┘
///                Aborted
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its shim has not parked. If it has ended well, something else has linked, or nothing.
    Compiling,
    /// Its shim waits for a permit, or was killed while it waited.
    Parked,
    /// It has the permit, and no shim has taken it: the one that waited was killed.
    Permitted,
    /// A shim has taken the permit. The real linker is in charge from here on.
    Linking,
    /// It had the permit, but no shim could become the real linker.
    NotLinked,
    /// Its permit was an abort.
    Aborted,
}

/// A compiler that parks before it links. Dropping it ends the conversation with its shims.
pub(super) struct Held {
    dir: PathBuf,
    /// The linker for rustc: an absolute path, whose file name is that of the real one.
    pub(super) linker: PathBuf,
    socket: Arc<Socket>,
    /// The end that the compiler inherits.
    theirs: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Cargo's end.
struct Socket {
    stream: UnixStream,
    permit: PathBuf,
    progress: Mutex<Progress>,
}

impl Held {
    /// Prepares for a compiler, which has to inherit the descriptor. When its shim has come, it is parked,
    /// at most once and from another thread.
    pub(super) fn new(early: &BeforeLinker<'_>) -> io::Result<(Held, OwnedFd)> {
        let HeldLinker { name, linker } = early.linker;
        let file_name = (Path::new(linker).file_name())
            .filter(|name| *name != Job::FILE && *name != PERMIT)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let (stream, theirs) = UnixStream::pair()?;
        let inherited = OwnedFd::from(theirs.try_clone()?);
        let dir = early.gate.dir.join(name);
        let socket = Arc::new(Socket {
            stream,
            permit: dir.join(PERMIT),
            progress: Mutex::new(Progress::Compiling),
        });
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
            theirs,
            thread: None,
        };
        fs::create_dir(&held.dir)?;
        symlink(&early.gate.shim, &held.linker)?;
        fs::write(held.dir.join(Job::FILE), serde_json::to_vec(&job)?)?;
        let (socket, parking) = (Arc::clone(&held.socket), early.parking.clone());
        let thread = thread::Builder::new().name("link-gate".to_owned());
        held.thread = Some(thread.spawn(move || socket.listen(&parking))?);
        Ok((held, inherited))
    }

    /// Ends the conversation, because the compiler has ended, and returns how far it has come. A shim
    /// that still waits ends; nothing parks any more.
    pub(super) fn end(self) -> Progress {
        let socket = Arc::clone(&self.socket);
        drop(self);
        *socket.lock()
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
        let _ = self.theirs.shutdown(Shutdown::Both);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives what shims send, until [`Held`] is dropped.
    fn listen(self: &Arc<Self>, parking: &Parking) {
        let mut byte = [0];
        while (&self.stream).read_exact(&mut byte).is_ok() {
            let mut progress = self.lock();
            match (byte, *progress) {
                ([PARKED], Progress::Compiling) => {
                    *progress = Progress::Parked;
                    drop(progress);
                    let socket = Arc::clone(self);
                    parking.park(move |permit| socket.permit(permit));
                }
                ([LINKING], Progress::Permitted | Progress::NotLinked) => {
                    *progress = Progress::Linking;
                }
                ([FAILED], Progress::Linking) => *progress = Progress::NotLinked,
                _ => {}
            }
        }
    }

    /// Does not block but for the creation of an empty file.
    fn permit(&self, permit: Permit) {
        let mut progress = self.lock();
        if *progress != Progress::Parked {
            return;
        }
        *progress = match permit {
            Permit::Abort => Progress::Aborted,
            Permit::Link if fs::write(&self.permit, "").is_ok() => Progress::Permitted,
            Permit::Link => Progress::NotLinked,
        };
        // All shims see the end of the stream, now and later, and no other process can take it away.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
