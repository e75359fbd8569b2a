//! The gate's end of the connections. See the [module's documentation](super).

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Report;
use super::protocol::{
    ACKNOWLEDGED, HELLO_LEN, Hello, JOB_FILE, JobFile, Kind, LINK, REFUSED, SOCKET, Secret,
};
use crate::channel::{Parking, Permit, PermitSender};

/// How many connections may not have said what they are.
const MAX_UNKNOWN: usize = 64;
/// How long a connection may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long no connection is accepted after one could not be, for want of a file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where linkers wait for their permits. See the [module's documentation](super).
///
/// It has one thread, which sleeps as long as nobody connects, and a directory. Both end when the
/// gate is dropped; the linkers that still wait then exit with an error.
pub struct Gate {
    dir: PathBuf,
    shim: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A job at the gate: while it exists, its linker is let in.
///
/// Dropping it does what [`close`](Self::close) does.
pub struct Ticket {
    shared: Arc<Shared>,
    job: u64,
    dir: PathBuf,
    linker: PathBuf,
}

struct Shared {
    jobs: Mutex<Jobs>,
    /// Permits that no job has got yet. Under a lock of its own, because the queue may answer a
    /// parked job at once, on the thread that parks it, which holds the lock on the jobs.
    permits: Mutex<Vec<(u64, Permit)>>,
    /// Wakes the thread; shut down, ends it.
    wake: UnixStream,
    /// Why no more jobs should be let in.
    given_up: OnceLock<&'static str>,
}

#[derive(Default)]
struct Jobs {
    by_number: HashMap<u64, Registration>,
    last_number: u64,
}

struct Registration {
    secret: Secret,
    report: Report,
    /// Taken when the job is parked.
    parking: Option<Parking>,
    /// The shim that waits. There is one while the report is [`Report::Parked`], though it may be
    /// dead.
    waiting: Option<UnixStream>,
    /// It was let go on, but the shim that waited was dead.
    is_permitted: bool,
}

impl Gate {
    /// Opens a gate in `dir`, whose parent must exist. What is there, because an earlier cargo was
    /// killed, is removed; the caller sees to it that no other cargo uses it. `shim` is the
    /// absolute path of the executable whose `main` calls
    /// [`run_if_invoked_as_linker`](super::run_if_invoked_as_linker).
    ///
    /// # Errors
    ///
    /// If `shim` is no absolute path of a file; if the directory cannot be replaced; if no socket
    /// can be made in it, of which the likely causes are a file system without sockets and, on
    /// other systems than Linux, a path longer than about 100 bytes.
    pub fn open(dir: &Path, shim: &Path) -> io::Result<Gate> {
        Gate::with_patience(dir, shim, PATIENCE)
    }

    fn with_patience(dir: &Path, shim: &Path, patience: Duration) -> io::Result<Gate> {
        if !shim.is_absolute() || !shim.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the shim is not the absolute path of a file",
            ));
        }
        let dir = std::path::absolute(dir)?;
        remove(&dir)?;
        create_private_dir(&dir)?;
        let (wake, woken) = UnixStream::pair()?;
        let mut gate = Gate {
            dir,
            shim: shim.to_owned(),
            shared: Arc::new(Shared {
                jobs: Mutex::default(),
                permits: Mutex::default(),
                wake,
                given_up: OnceLock::new(),
            }),
            thread: None,
        };
        gate.shared.wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let listener = bind(&gate.dir)?;
        listener.set_nonblocking(true)?;
        let server = Server {
            shared: Arc::clone(&gate.shared),
            listener,
            woken,
            unknown: VecDeque::new(),
            patience,
            accept_after: None,
        };
        let thread = thread::Builder::new().name("link-gate".to_owned());
        gate.thread = Some(thread.spawn(|| server.run())?);
        Ok(gate)
    }

    /// Notes why no more jobs should be let in. Only the first reason counts.
    pub fn give_up(&self, reason: &'static str) {
        let _ = self.shared.given_up.set(reason);
    }

    /// Why no more jobs should be let in, if so.
    pub fn given_up(&self) -> Option<&'static str> {
        self.shared.given_up.get().copied()
    }

    /// The directory of the gate, which nobody else uses: also a place for what is not to be left behind.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets in the linker of one job, of which `linker` is the name: a path, or a name to be looked
    /// up as rustc does. `parking` is called, at most once and from another thread, when it has
    /// come.
    ///
    /// # Errors
    ///
    /// If `linker` does not name a file, and if the directory of the job cannot be made.
    pub fn admit(&self, linker: &OsStr, parking: Parking) -> io::Result<Ticket> {
        let name = match Path::new(linker).file_name() {
            Some(name) if name != JOB_FILE => name,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not the name of a linker",
                ));
            }
        };
        let secret = Secret::random()?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let dir = self
            .dir
            .join(format!("{:016x}", u64::from_ne_bytes(random)));
        create_private_dir(&dir)?;
        let job = {
            let mut jobs = self.shared.lock();
            jobs.last_number += 1;
            let number = jobs.last_number;
            jobs.by_number.insert(
                number,
                Registration {
                    secret,
                    report: Report::Silent,
                    parking: Some(parking),
                    waiting: None,
                    is_permitted: false,
                },
            );
            number
        };
        // From here on, dropping it cleans up.
        let ticket = Ticket {
            shared: Arc::clone(&self.shared),
            job,
            linker: dir.join(name),
            dir,
        };
        symlink(&self.shim, &ticket.linker)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(ticket.dir.join(JOB_FILE))?;
        // The umask may have taken away what the owner needs.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&JobFile::encode(job, secret, linker)?)?;
        Ok(ticket)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.shared.wake.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing left to be done about it.
            let _ = thread.join();
        }
        let mut jobs = self.shared.lock();
        self.shared.deliver(&mut jobs);
        for registration in jobs.by_number.values_mut() {
            registration.set(Report::Aborted);
            registration.parking = None;
            registration.waiting = None;
        }
        drop(jobs);
        let _ = remove(&self.dir);
    }
}

impl Ticket {
    /// The linker to give to rustc: an absolute path, whose file name is that of the real one.
    pub fn linker(&self) -> &Path {
        &self.linker
    }

    /// Ends what the gate does for the job, and says what that was.
    ///
    /// After it nothing is heard of the job any more: [`Parking`] is not called, and a shim that
    /// waits exits. The directory of the job is removed.
    pub fn close(self) -> Report {
        self.end()
    }

    fn end(&self) -> Report {
        let mut jobs = self.shared.lock();
        self.shared.deliver(&mut jobs);
        let removed = jobs.by_number.remove(&self.job);
        drop(jobs);
        let Some(registration) = removed else {
            // It is being dropped after it was closed.
            return Report::Silent;
        };
        let _ = remove(&self.dir);
        registration.report
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end();
    }
}

impl Registration {
    /// The only place where a report changes.
    fn set(&mut self, next: Report) -> bool {
        let may = self.report.may_become(next);
        if may {
            self.report = next;
        }
        may
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a permit for the thread to deliver. May be called under any lock but its own.
    fn permit(&self, job: u64, permit: Permit) {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        permits.push((job, permit));
        drop(permits);
        // If there is no room for it, the thread has been woken often enough.
        let _ = (&self.wake).write(&[0]);
    }

    /// Hands out the permits. Those of jobs that do not wait any more are dropped.
    fn deliver(&self, jobs: &mut Jobs) {
        let permits = {
            let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *permits)
        };
        for (job, permit) in permits {
            let Some(registration) = jobs.by_number.get_mut(&job) else {
                continue;
            };
            let waiting = registration.waiting.take();
            match permit {
                Permit::Link => {
                    registration.is_permitted = true;
                    if waiting.is_some_and(|shim| answer(&shim, &[LINK])) {
                        registration.set(Report::Linked);
                    }
                }
                Permit::Abort => {
                    registration.set(Report::Aborted);
                }
            }
        }
    }

    /// Answers a shim that has said what it is.
    fn hear(self: &Arc<Self>, shim: UnixStream, hello: &Hello) {
        let mut jobs = self.lock();
        self.deliver(&mut jobs);
        let Some(registration) = jobs.by_number.get_mut(&hello.job) else {
            return;
        };
        if !registration.secret.matches(&hello.secret) {
            return;
        }
        let noted = match (hello.kind, registration.report) {
            (Kind::Parked, Report::Silent) => {
                // Else it is dead already, and nothing has happened.
                if answer(&shim, &[ACKNOWLEDGED]) && registration.set(Report::Parked) {
                    registration.waiting = Some(shim);
                    if let Some(parking) = registration.parking.take() {
                        let (shared, job) = (Arc::clone(self), hello.job);
                        parking.park(PermitSender::new(move |permit| shared.permit(job, permit)));
                    }
                }
                return;
            }
            (Kind::Parked, Report::Parked) if registration.waiting.as_ref().is_none_or(hung_up) => {
                if registration.is_permitted {
                    if answer(&shim, &[ACKNOWLEDGED, LINK]) {
                        registration.set(Report::Linked);
                    }
                } else if answer(&shim, &[ACKNOWLEDGED]) {
                    registration.waiting = Some(shim);
                }
                return;
            }
            (Kind::Parked, Report::Linked) => {
                answer(&shim, &[ACKNOWLEDGED, LINK]);
                return;
            }
            (Kind::Parked, _) => false,
            (Kind::Incomplete, _) => registration.set(Report::Incomplete),
            (Kind::NotExecuted, _) => registration.set(Report::NotExecuted),
        };
        answer(&shim, &[if noted { ACKNOWLEDGED } else { REFUSED }]);
    }
}

/// What the thread has.
struct Server {
    shared: Arc<Shared>,
    listener: UnixListener,
    woken: UnixStream,
    /// In the order in which they came, and so in that of their deadlines.
    unknown: VecDeque<Unknown>,
    patience: Duration,
    accept_after: Option<Instant>,
}

/// A connection that has yet to say what it is.
struct Unknown {
    stream: UnixStream,
    /// One byte longer than what it should say, to see that it says more.
    said: [u8; HELLO_LEN + 1],
    len: usize,
    deadline: Instant,
}

/// What there is to be done.
#[derive(Default)]
struct Ready {
    woken: bool,
    to_accept: bool,
    /// For each of [`Server::unknown`].
    unknown: Vec<bool>,
}

impl Server {
    fn run(mut self) {
        loop {
            let ready = self.wait();
            if ready.woken && !self.take_wake_ups() {
                return;
            }
            let mut jobs = self.shared.lock();
            self.shared.deliver(&mut jobs);
            drop(jobs);
            let unknown = std::mem::take(&mut self.unknown);
            for (connection, is_ready) in unknown.into_iter().zip(ready.unknown) {
                self.unknown.extend(match is_ready {
                    true => connection.hear(&self.shared),
                    false => Some(connection),
                });
            }
            let now = Instant::now();
            while self.unknown.front().is_some_and(|it| it.deadline <= now) {
                self.unknown.pop_front();
            }
            if ready.to_accept {
                self.accept();
            }
        }
    }

    fn wait(&mut self) -> Ready {
        let now = Instant::now();
        self.accept_after = self.accept_after.filter(|after| *after > now);
        let deadlines = self.unknown.front().map(|it| it.deadline);
        let timeout = deadlines
            .into_iter()
            .chain(self.accept_after)
            .min()
            .and_then(|next| Timespec::try_from(next.saturating_duration_since(now)).ok());
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        let connections = self.unknown.iter();
        fds.extend(connections.map(|it| PollFd::new(&it.stream, PollFlags::IN)));
        if self.accept_after.is_none() {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if poll(&mut fds, timeout.as_ref()).is_err() {
            // A signal, or no memory in the kernel: both pass.
            return Ready {
                unknown: vec![false; self.unknown.len()],
                ..Ready::default()
            };
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ready {
            woken: ready.next().unwrap_or_default(),
            unknown: ready.by_ref().take(self.unknown.len()).collect(),
            to_accept: ready.next().unwrap_or_default(),
        }
    }

    /// `false` if the gate is closed.
    fn take_wake_ups(&self) -> bool {
        let mut bytes = [0; 64];
        loop {
            match (&self.woken).read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn accept(&mut self) {
        // Not for ever: there are others to be heard.
        for _ in 0..MAX_UNKNOWN {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    let connection = Unknown {
                        stream,
                        said: [0; HELLO_LEN + 1],
                        len: 0,
                        deadline: Instant::now() + self.patience,
                    };
                    if let Some(connection) = connection.hear(&self.shared) {
                        if self.unknown.len() == MAX_UNKNOWN {
                            self.unknown.pop_front();
                        }
                        self.unknown.push_back(connection);
                    }
                }
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    io::ErrorKind::WouldBlock => return,
                    _ => {
                        if self.unknown.pop_front().is_none() {
                            self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                        }
                        return;
                    }
                },
            }
        }
    }
}

impl Unknown {
    /// Hears what it says, and gives it back if there must be more to come.
    fn hear(mut self, shared: &Arc<Shared>) -> Option<Self> {
        while self.len < HELLO_LEN {
            match self.stream.read(&mut self.said[self.len..]) {
                Ok(0) => return None,
                Ok(read) => self.len += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (e.kind() == io::ErrorKind::WouldBlock).then_some(self),
            }
            if !Hello::may_begin(&self.said[..self.len]) {
                return None;
            }
        }
        if let Some(hello) = Hello::decode(&self.said[..self.len]) {
            shared.hear(self.stream, &hello);
        }
        None
    }
}

/// Says a few bytes, for which a connection has always room, to a peer that may be gone.
fn answer(mut stream: &UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// Whether the other end is gone.
fn hung_up(stream: &UnixStream) -> bool {
    let gone = PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(gone)
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    // The umask may have taken away what the owner needs.
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET);
    let listener = match SocketAddr::from_pathname(&path) {
        Ok(address) => UnixListener::bind_addr(&address)?,
        Err(e) if !cfg!(target_os = "linux") => return Err(e),
        Err(_) => {
            let dir = File::open(dir)?;
            UnixListener::bind(through_fd(&dir))?
        }
    };
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A short name of the socket in a directory whose own name is too long for the address of a socket
/// (108 bytes on Linux, unix(7)).
pub(super) fn through_fd(dir: &File) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(SOCKET)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

#[cfg(test)]
mod tests;
