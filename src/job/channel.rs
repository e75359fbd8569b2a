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
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use cargo_util::ProcessBuilder;

use crate::link_gate::hollow::Hollow;
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
    has_metadata: Cell<bool>,
    compiler: RefCell<Compiler>,
    /// Stands in for the rlib while the job runs.
    hollow: Cell<Option<Hollow>>,
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
            let room = room.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = room.try_recv();
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
            has_metadata: Cell::new(false),
            compiler: RefCell::default(),
            hollow: Cell::default(),
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
        let mut sender = self.sender();
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

    fn sender(&self) -> MutexGuard<'_, Option<Sender<Message<M>>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> JobChannel<M> {
    /// Sets how the compiler of the job is run.
    pub fn set_compiler(&mut self, compiler: Compiler) {
        self.compiler = RefCell::new(compiler);
    }

    /// Puts a hollow rlib in the place of the one that the job makes, until it ends, if dependents may start
    /// on it. `rmeta` is the metadata. To be called before [`metadata_written`](Self::metadata_written). After
    /// an error, of [`Hollow::write`], dependents have to wait for the end of the job.
    pub fn write_hollow_rlib(&self, rmeta: &Path) -> io::Result<()> {
        if let Some(gate) = &self.compiler.borrow().gate {
            let hollow = Hollow::write(rmeta, &rmeta.with_extension("rlib"), gate.dir())?;
            self.hollow.set(Some(hollow));
        }
        Ok(())
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
        if !self.has_metadata.replace(true) {
            self.push((self.to_message)(Event::Metadata));
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
        // After a success no hollow rlib is left when dependents may link.
        if let (Some(hollow), Some(gate)) = (self.hollow.take(), &self.compiler.borrow().gate)
            && result.is_err()
        {
            gate.keep(hollow);
        }
        let message = (self.to_message)(Event::Finished(result));
        self.lane.send(message, None, true);
    }
}

impl<M: Send + 'static> JobChannel<M> {
    /// [Runs](link_gate::run) `rustc`, the compiler of the job, with the errors of that.
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
        link_gate::run(rustc, early, handle.as_ref(), exec, on_stdout, on_stderr)
    }

    /// Returns what parks this job. After its end the permit is [`Abort`](crate::permit::Permit::Abort).
    fn parking(&self) -> Parking {
        let to_message = Arc::clone(&self.to_message);
        let lane = Lane {
            id: self.lane.id,
            sender: Arc::clone(&self.lane.sender),
        };
        Parking::new(move |permit| lane.push(to_message(Event::Parked(permit))))
    }
}

impl<M> Drop for JobChannel<M> {
    fn drop(&mut self) {
        let is_open = self.lane.sender().is_some();
        if is_open {
            self.finish(Err(anyhow!("the job was dropped before it ran")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permit::Permit;
    use std::thread;

    #[derive(Debug, PartialEq)]
    enum Received {
        Output(u32, usize),
        Metadata(u32),
        Parked(u32),
        Finished(u32, Result<(), String>),
        Notice,
    }

    fn open(mailbox: &Mailbox<Received>, job: u32) -> JobChannel<Received> {
        mailbox.channel(move |event| match event {
            Event::Metadata => Received::Metadata(job),
            Event::Parked(permit) => {
                permit.send(Permit::Link);
                Received::Parked(job)
            }
            Event::Finished(result) => {
                Received::Finished(job, result.map_err(|error| error.to_string()))
            }
        })
    }

    fn receive_all(mailbox: &Mailbox<Received>) -> Vec<Received> {
        let mut received = Vec::new();
        loop {
            let batch = mailbox.try_pop_urgent();
            if batch.is_empty() {
                return received;
            }
            received.extend(batch);
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn signal_takes_along_its_own_output() {
        let mailbox = Mailbox::new(100);
        let (flood, lib) = (open(&mailbox, 1), open(&mailbox, 2));
        flood.push_bounded(Received::Output(1, 0));
        lib.push_bounded(Received::Output(2, 0));
        flood.push_bounded(Received::Output(1, 1));
        lib.metadata_written();
        lib.push_bounded(Received::Output(2, 1));
        mailbox.notices().push(Received::Notice);
        assert_eq!(
            mailbox.try_pop_urgent(),
            [
                Received::Output(2, 0),
                Received::Metadata(2),
                Received::Notice
            ]
        );
        assert_eq!(
            receive_all(&mailbox),
            [
                Received::Output(1, 0),
                Received::Output(1, 1),
                Received::Output(2, 1)
            ]
        );
    }

    #[test]
    fn metadata_is_sent_once() {
        let mailbox = Mailbox::new(1);
        let job = open(&mailbox, 1);
        job.finish_with(|| {
            job.metadata_written();
            job.metadata_written();
            Ok(())
        });
        job.metadata_written();
        drop(job);
        assert_eq!(
            receive_all(&mailbox),
            [Received::Metadata(1), Received::Finished(1, Ok(()))]
        );
    }

    #[test]
    fn panic_is_an_end() {
        let mailbox = Mailbox::new(1);
        let job = open(&mailbox, 1);
        thread::spawn(move || job.finish_with(|| panic!("expected by this test")))
            .join()
            .unwrap_err();
        assert_eq!(
            receive_all(&mailbox),
            [Received::Finished(1, Err("worker panicked".into()))]
        );
    }

    #[test]
    fn dropped_job_has_ended() {
        let mailbox = Mailbox::new(1);
        drop(open(&mailbox, 1));
        assert_eq!(
            receive_all(&mailbox),
            [Received::Finished(
                1,
                Err("the job was dropped before it ran".into())
            )]
        );
    }

    #[test]
    fn flood_delays_no_other_job() {
        const LINES: usize = 100_000;
        let mailbox = Mailbox::new(100);
        let (flood, lib) = (open(&mailbox, 1), open(&mailbox, 2));
        // Held until the flood fills its lane, so that there is a flood to overtake.
        let flooded = Arc::new(std::sync::Barrier::new(2));
        thread::scope(|scope| {
            let barrier = Arc::clone(&flooded);
            scope.spawn(move || {
                flood.finish_with(|| {
                    for line in 0..LINES {
                        if line == 100 {
                            barrier.wait();
                        }
                        flood.push_bounded(Received::Output(1, line));
                    }
                    Ok(())
                });
            });
            flooded.wait();
            lib.push_bounded(Received::Output(2, 0));
            lib.metadata_written();
            assert_eq!(
                mailbox.pop_urgent(LONG),
                [Received::Output(2, 0), Received::Metadata(2)]
            );
            // Nothing of the flood is lost, and it comes in order.
            let mut next = 0;
            loop {
                for received in mailbox.pop_urgent(LONG) {
                    match received {
                        Received::Output(1, line) => {
                            assert_eq!(line, next);
                            next += 1;
                        }
                        Received::Finished(1, Ok(())) => {
                            assert_eq!(next, LINES);
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    }

    #[test]
    fn dropped_mailbox_unblocks_jobs() {
        let mailbox = Mailbox::new(1);
        let job = open(&mailbox, 1);
        let notices = mailbox.notices();
        job.push_bounded(Received::Output(1, 0));
        thread::scope(|scope| {
            scope.spawn(move || {
                for line in 1..10 {
                    job.push_bounded(Received::Output(1, line));
                }
            });
            drop(mailbox);
        });
        notices.push(Received::Notice);
    }

    #[test]
    fn job_parks_from_another_thread() {
        let mailbox = Mailbox::new(1);
        let job = open(&mailbox, 1);
        job.push_bounded(Received::Output(1, 0));
        let parking = job.parking();
        let permit = thread::spawn(move || parking.park_and_wait());
        assert_eq!(permit.join().unwrap(), Permit::Link);
        assert_eq!(
            receive_all(&mailbox),
            [Received::Output(1, 0), Received::Parked(1)]
        );
    }

    #[test]
    fn dropped_permit_aborts() {
        let mailbox = Mailbox::new(1);
        let job = mailbox.channel(|event| match event {
            Event::Parked(permit) => Some(permit),
            _ => None,
        });
        let parking = job.parking();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| parking.park_and_wait());
            let received = mailbox.pop_urgent(LONG);
            assert!(matches!(received[..], [Some(_)]));
            drop(received);
            assert_eq!(waiting.join().unwrap(), Permit::Abort);

            let parked_again = scope.spawn(|| parking.park_and_wait());
            drop(mailbox);
            assert_eq!(parked_again.join().unwrap(), Permit::Abort);
        });
        assert_eq!(parking.park_and_wait(), Permit::Abort);
    }

    #[test]
    fn job_cannot_park_after_its_end() {
        let mailbox = Mailbox::new(1);
        let job = mailbox.channel(|event| match event {
            Event::Parked(permit) => Some(permit),
            _ => None,
        });
        let parking = job.parking();
        job.finish_with(|| Ok(()));
        assert_eq!(parking.park_and_wait(), Permit::Abort);
        drop(job);
        assert_eq!(parking.park_and_wait(), Permit::Abort);
        assert!(matches!(mailbox.try_pop_urgent()[..], [None]));
    }

    #[test]
    fn empty_mailbox_times_out() {
        let mailbox = Mailbox::<Received>::new(1);
        assert!(mailbox.pop_urgent(Duration::ZERO).is_empty());
    }
}
