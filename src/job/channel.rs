//! The messages of running jobs, and which of them the queue receives first.
//!
//! Each running job has a [`JobChannel`] to the [`Mailbox`] of the queue's thread, for two kinds of
//! messages:
//!
//! * **Signals** ([`push`](JobChannel::push), and each [`Event`]), on which the queue can act. Sending one
//!   never blocks, and the queue receives them ahead of any other job's output.
//! * **Output** ([`push_bounded`](JobChannel::push_bounded)), lines for the terminal. A job that has
//!   [`bound`](Mailbox::new) of them unread blocks until one is taken.
//!
//! ```text
//!   job 1   ▸ out  out  out  out  out  out … (blocks)      received in this order:
//!   job 2   ▸ out  out  METADATA  out                      job 2: out, out, METADATA
//!   notices ▸ TOKEN                                        TOKEN
//!                                                          job 1: out; job 2: out; …
//! ```
//!
//! The messages of one job stay in order: a signal takes along the output before it, so a warning comes
//! before the line that names the job which started because of it. All else is received in the order of
//! arrival. The queue receives [`Event::Finished`] of each channel exactly once and last, also when the job
//! panics or is dropped before it ran; and [`Event::Metadata`] at most once.
//!
//! Only [`push_bounded`](JobChannel::push_bounded), [`run_compiler`](JobChannel::run_compiler) and
//! [`Mailbox::pop_urgent`] block. A job that runs on the thread of the queue must not call the first two.
//! Dropping the mailbox unblocks all jobs; what they send from then on is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use cargo_util::ProcessBuilder;

use super::MetadataWatch;
use super::announcer::{Announced, Announcer, Seen};
use crate::link_gate::{self, EarlyStart, Exec, Gate};
use crate::pause::Handle;
use crate::permit::{Parking, PermitSender};
use crate::process::OnLine;

/// What happens to a job.
#[derive(Debug)]
pub enum Event {
    /// The metadata of the job is written.
    Metadata,
    /// The job, started early, has compiled, and waits for this permit.
    Parked(PermitSender),
    /// The job has ended. This is its last message.
    Finished(anyhow::Result<()>),
}

/// Receiving from it makes room for a message of output.
type Room = Arc<Mutex<Receiver<()>>>;

/// The queue's end of all channels.
pub struct Mailbox<M> {
    sender: Sender<Message<M>>,
    arrived: Receiver<Message<M>>,
    /// In the order of arrival.
    unread: RefCell<VecDeque<Message<M>>>,
    lanes: Cell<usize>,
    bound: usize,
}

/// Sends the messages of one job, or of none, in order.
pub struct Lane<M> {
    id: usize,
    /// `None` after the last message.
    sender: Arc<Mutex<Option<Sender<Message<M>>>>>,
}

/// A job's end of its channel.
pub struct JobChannel<M> {
    lane: Lane<M>,
    /// Has an item for each message of output that is unread.
    output: SyncSender<()>,
    room: Room,
    to_message: Arc<dyn Fn(Event) -> M + Send + Sync>,
    compiler: RefCell<Compiler>,
    announced: Arc<Mutex<Announced>>,
}

/// How the compiler of a job is run.
#[derive(Debug, Default)]
pub struct Compiler {
    /// Set if it starts before the rlibs that it links are ready.
    pub early: Option<EarlyStart>,
    /// Pauses and resumes it, if it may be paused.
    pub handle: Option<Handle>,
    /// Set if a job may start early on a hollow rlib in the place of the one that it makes.
    pub gate: Option<Arc<Gate>>,
    /// Set if it may not notify that its metadata is written.
    pub watch: Option<Arc<MetadataWatch>>,
}

struct Message<M> {
    lane: usize,
    content: Option<M>,
    /// Output makes room when it is dropped. `None` for signals.
    room: Option<Room>,
}

impl<M> Drop for Message<M> {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            let _ = lock(room).try_recv();
        }
    }
}

impl<M> Mailbox<M> {
    /// Creates a mailbox in which each job may have `bound` messages of output unread, at least one.
    pub fn new(bound: usize) -> Self {
        let (sender, arrived) = channel();
        Mailbox {
            sender,
            arrived,
            unread: RefCell::default(),
            lanes: Cell::default(),
            bound: bound.max(1),
        }
    }

    /// Opens a lane, by itself for signals of no job: that a token was acquired, for example.
    pub fn notices(&self) -> Lane<M> {
        let id = self.lanes.get();
        self.lanes.set(id + 1);
        let sender = Arc::new(Mutex::new(Some(self.sender.clone())));
        Lane { id, sender }
    }

    /// Opens the channel of a job. `to_message` makes of an event what the queue receives.
    pub fn channel(
        &self,
        to_message: impl Fn(Event) -> M + Send + Sync + 'static,
    ) -> JobChannel<M> {
        let (output, room) = sync_channel(self.bound);
        JobChannel {
            lane: self.notices(),
            output,
            room: Arc::new(Mutex::new(room)),
            to_message: Arc::new(to_message),
            compiler: RefCell::default(),
            announced: Arc::default(),
        }
    }

    /// Receives all signals, each with the output of the same job before it, or, if there is none, one
    /// message of output. Does not block. Empty if nothing has arrived.
    pub fn try_pop_urgent(&self) -> Vec<M> {
        self.take(None)
    }

    /// Like [`try_pop_urgent`](Self::try_pop_urgent), but blocks until something arrives or `timeout` has
    /// passed.
    pub fn pop_urgent(&self, timeout: Duration) -> Vec<M> {
        let taken = self.take(None);
        if taken.is_empty() {
            return self.take(self.arrived.recv_timeout(timeout).ok());
        }
        taken
    }

    fn take(&self, first_arrived: Option<Message<M>>) -> Vec<M> {
        let mut unread = self.unread.borrow_mut();
        let before = unread.len();
        unread.extend(first_arrived.into_iter().chain(self.arrived.try_iter()));
        let mut taken = VecDeque::new();
        // No signal stays unread.
        if unread.range(before..).all(|message| message.room.is_some()) {
            taken.extend(unread.pop_front());
        } else {
            let mut signalled = HashSet::new();
            for message in std::mem::take(&mut *unread).into_iter().rev() {
                if message.room.is_none() {
                    signalled.insert(message.lane);
                }
                if signalled.contains(&message.lane) {
                    taken.push_front(message);
                } else {
                    unread.push_front(message);
                }
            }
        }
        (taken.into_iter())
            .filter_map(|mut message| message.content.take())
            .collect()
    }
}

impl<M> Clone for Lane<M> {
    fn clone(&self) -> Self {
        Lane {
            id: self.id,
            sender: Arc::clone(&self.sender),
        }
    }
}

impl<M> Lane<M> {
    /// Sends a message that the queue can act on. Never blocks.
    pub fn push(&self, message: M) {
        self.send(message, None, false);
    }

    fn send(&self, content: M, room: Option<Room>, is_last: bool) {
        let message = Message {
            lane: self.id,
            content: Some(content),
            room,
        };
        let mut sender = lock(&self.sender);
        let unsent = match &*sender {
            Some(sender) => sender.send(message).err(),
            None => Some(SendError(message)),
        };
        if is_last {
            *sender = None;
        }
        // In this order: the message may hold a `PermitSender`.
        drop(sender);
        drop(unsent);
    }
}

impl<M> JobChannel<M> {
    /// Sets how the compiler of the job is run.
    pub fn set_compiler(&mut self, compiler: Compiler) {
        self.compiler = RefCell::new(compiler);
    }

    /// Sends a message that the queue can act on. Never blocks.
    pub fn push(&self, message: M) {
        self.lane.push(message);
    }

    /// Sends a message for the terminal. Blocks while too much output of this job is unread.
    pub fn push_bounded(&self, message: M) {
        let _ = self.output.send(());
        let room = Some(Arc::clone(&self.room));
        self.lane.send(message, room, false);
    }

    /// Sends that the metadata of the job is written, once. Later calls do nothing.
    pub fn metadata_written(&self) {
        // No file is read or written, so nothing fails.
        let _ = self.announcer().announce(None, || Ok(None));
    }

    /// Sends that the metadata of the job is written, once, to the file `rmeta`. If dependents may start early on
    /// it, a hollow rlib is in the place of the one that the job makes from then on, until it ends. After an
    /// error, of [`Hollow::write`], they have to wait for the end of the job.
    ///
    /// [`Hollow::write`]: link_gate::hollow::Hollow::write
    pub fn metadata_written_to(&self, rmeta: &Path) -> io::Result<()> {
        let rlib = rmeta.with_extension("rlib");
        let files = Some((rmeta, &*rlib));
        self.announcer().announce(files, || Ok(None))
    }

    fn announcer(&self) -> Announcer<M> {
        Announcer {
            lane: self.lane.clone(),
            to_message: Arc::clone(&self.to_message),
            announced: Arc::clone(&self.announced),
            gate: self.compiler.borrow().gate.clone(),
        }
    }

    /// Does the work of the job and sends its result. Passes a panic on when it has sent it as an error.
    pub fn finish_with(&self, work: impl FnOnce() -> anyhow::Result<()>) {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => self.finish(result),
            Err(panic) => {
                self.finish(Err(anyhow!("worker panicked")));
                resume_unwind(panic);
            }
        }
    }

    fn finish(&self, result: anyhow::Result<()>) {
        let hollow = lock(&self.announced).end();
        // After a success no hollow rlib is left when dependents may link.
        if let (Some(hollow), Some(gate)) = (hollow, &self.compiler.borrow().gate)
            && result.is_err()
        {
            gate.keep(hollow);
        }
        let message = (self.to_message)(Event::Finished(result));
        self.lane.send(message, None, true);
    }
}

impl<M: Send + 'static> JobChannel<M> {
    /// Sends that the metadata is [written](Self::metadata_written_to) to `rmeta` when the compiler, which is run
    /// afterwards, renames it into place, if its notification may be [held back](Compiler::watch). Before
    /// that, calls `on_written` on another thread.
    pub fn expect_metadata(
        &self,
        rmeta: &Path,
        on_written: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let Some(watch) = &self.compiler.borrow().watch else {
            return Ok(());
        };
        let announcer = self.announcer();
        let (metadata, rlib) = (rmeta.to_owned(), rmeta.with_extension("rlib"));
        watch.expect_renamed(rmeta, move || {
            // After an error the notification or the end of the job counts.
            let _ = announcer.announce(Some((&metadata, &rlib)), || {
                let seen = Seen::renamed(&metadata)?;
                on_written();
                Ok(Some(seen))
            });
        })
    }

    /// Removes an older `rlib`, and sends that metadata is written when the compiler of the job, which is run
    /// afterwards and is not asked for metadata, has written what it will put into that rlib. A hollow one is in its
    /// place from then on. If this is an error, or nothing can be [watched](Compiler::watch), dependents wait for the
    /// end of the job.
    pub fn expect_embedded_metadata(&self, rlib: &Path) -> io::Result<()> {
        let Compiler { watch, handle, .. } = &*self.compiler.borrow();
        let (Some(watch), Some(handle), Some(dir)) = (watch, handle, rlib.parent()) else {
            return Ok(());
        };
        match fs::remove_file(rlib) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (announcer, rlib) = (self.announcer(), rlib.to_owned());
        watch.expect_mapped(dir, handle.clone(), move |metadata| {
            let _ = announcer.announce(Some((metadata, &rlib)), || {
                let metadata = File::open(metadata)?;
                let rlib = rlib.clone();
                Ok(Some(Seen::Mapped { metadata, rlib }))
            });
        })
    }

    /// [Runs](link_gate::run) `rustc`, the compiler of the job, with the errors of that, or if the metadata that
    /// dependents have read was replaced by another.
    pub fn run_compiler(
        &self,
        rustc: &ProcessBuilder,
        exec: Exec<'_>,
        on_stdout: OnLine<'_>,
        on_stderr: OnLine<'_>,
    ) -> anyhow::Result<()> {
        let early = self.compiler.borrow_mut().early.take();
        let early = early.map(|early| (early, self.parking()));
        let handle = self.compiler.borrow().handle.clone();
        link_gate::run(rustc, early, handle.as_ref(), exec, on_stdout, on_stderr)?;
        lock(&self.announced).check()
    }

    /// Returns what parks this job. After its end the permit is [`Abort`](crate::permit::Permit::Abort).
    fn parking(&self) -> Parking {
        let (to_message, lane) = (Arc::clone(&self.to_message), self.lane.clone());
        Parking::new(move |permit| lane.push(to_message(Event::Parked(permit))))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M> Drop for JobChannel<M> {
    fn drop(&mut self) {
        let is_open = lock(&self.lane.sender).is_some();
        if is_open {
            self.finish(Err(anyhow!("the job was dropped before it ran")));
        }
    }
}

#[cfg(test)]
mod tests;
