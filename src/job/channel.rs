//! The messages of running jobs, and which of them the queue receives first.
//!
//! Each running job has a [`JobChannel`], which ends in the [`Mailbox`] of the thread that runs the queue.
//! It sends two kinds of messages:
//!
//! * **Signals** ([`push`](JobChannel::push), and each [`Event`]). The queue can act on them, so sending
//!   one never blocks the job, and the queue receives them ahead of any other job's output.
//! * **Output** ([`push_bounded`](JobChannel::push_bounded)): lines for the terminal. A job that has
//!   [`bound`](Mailbox::new) of them unread blocks until one is taken, which bounds memory and holds up no
//!   other job.
//!
//! ```text
//!   job 1   ▸ out  out  out  out  out  out … (blocks)      received in this order:
//!   job 2   ▸ out  out  METADATA  out                      job 2: out, out, METADATA
//!   notices ▸ TOKEN                                        TOKEN
//!                                                          job 1: out; job 2: out; …
//! ```
//!
//! The messages of one job stay in order: a signal takes along the output before it, so a warning still
//! comes before the line that names the job which started because of it. A signal waits for no other job's
//! output, so a job that floods the terminal delays no other job's dependents. All else is received in the
//! order of arrival.
//!
//! # What a channel guarantees
//!
//! The queue receives [`Event::Finished`] of each channel exactly once and last, also when the job panics
//! or is dropped before it ran; and [`Event::Metadata`] at most once.
//!
//! # Blocking
//!
//! Only [`push_bounded`](JobChannel::push_bounded), [`run_compiler`](JobChannel::run_compiler) and
//! [`Mailbox::pop_urgent`] block. A job that runs on the thread of the queue must not call the first two.
//! Dropping the mailbox unblocks all jobs; what they send from then on is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// The queue's end of all channels.
pub struct Mailbox<M> {
    notices: Sender<M>,
    bound: usize,
}

/// Sends messages on one lane. Those of no job, a token for example, have a lane of their own.
pub struct Sender<M> {
    unread: Arc<Mutex<Unread<M>>>,
    arrived: Arc<Condvar>,
    lane: usize,
}

/// A job's end of its channel. See the [module's documentation](self).
pub struct JobChannel<M> {
    sender: Sender<M>,
    /// Holds an item for each unread message of output, and blocks when it is full.
    output: SyncSender<()>,
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

struct Unread<M> {
    /// In the order of arrival.
    messages: VecDeque<Message<M>>,
    has_signal: bool,
    /// The lanes that accept messages. Receiving from one makes room for output.
    open: HashMap<usize, Receiver<()>>,
    lanes: usize,
}

struct Message<M> {
    lane: usize,
    is_output: bool,
    content: M,
}

impl<M> Unread<M> {
    /// Takes what is received next: every signal, with what its lane sent before it, or the oldest output.
    fn take(&mut self) -> Vec<M> {
        let mut taken = VecDeque::new();
        if std::mem::take(&mut self.has_signal) {
            let mut signalled = HashSet::new();
            for message in std::mem::take(&mut self.messages).into_iter().rev() {
                if !message.is_output {
                    signalled.insert(message.lane);
                }
                if signalled.contains(&message.lane) {
                    taken.push_front(message);
                } else {
                    self.messages.push_front(message);
                }
            }
        } else {
            taken.extend(self.messages.pop_front());
        }
        for message in taken.iter().filter(|message| message.is_output) {
            if let Some(room) = self.open.get(&message.lane) {
                let _ = room.try_recv();
            }
        }
        taken.into_iter().map(|message| message.content).collect()
    }
}

impl<M> Mailbox<M> {
    /// Creates a mailbox in which each job may have `bound` messages of output unread, at least one.
    pub fn new(bound: usize) -> Self {
        let unread = Unread {
            messages: VecDeque::new(),
            has_signal: false,
            open: HashMap::new(),
            lanes: 0,
        };
        let sender = Sender {
            unread: Arc::new(Mutex::new(unread)),
            arrived: Arc::default(),
            lane: 0,
        };
        let bound = bound.max(1);
        let (notices, _) = sender.open_lane(bound);
        Mailbox { notices, bound }
    }

    /// Returns what sends messages of no job to this mailbox: that a token was acquired, for example.
    pub fn notices(&self) -> Sender<M> {
        self.notices.clone()
    }

    /// Opens the channel of a job. `to_message` makes of an event what the queue receives.
    pub fn channel(
        &self,
        to_message: impl Fn(Event) -> M + Send + Sync + 'static,
    ) -> JobChannel<M> {
        let (sender, output) = self.notices.open_lane(self.bound);
        JobChannel {
            sender,
            output,
            to_message: Arc::new(to_message),
            has_metadata: Cell::new(false),
            compiler: RefCell::default(),
            hollow: Cell::default(),
        }
    }

    /// Receives without blocking: all signals, each with the output of the same job before it, or, where
    /// there is no signal, one message of output. Empty if nothing has arrived.
    pub fn try_pop_urgent(&self) -> Vec<M> {
        self.notices.unread().take()
    }

    /// Like [`try_pop_urgent`](Self::try_pop_urgent), but blocks until something arrives or
    /// `timeout` has passed; empty only in the latter case.
    pub fn pop_urgent(&self, timeout: Duration) -> Vec<M> {
        let is_empty = |unread: &mut Unread<M>| unread.messages.is_empty();
        let (mut unread, _) = (self.notices.arrived)
            .wait_timeout_while(self.notices.unread(), timeout, is_empty)
            .unwrap_or_else(PoisonError::into_inner);
        unread.take()
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let mut unread = self.notices.unread();
        let undelivered = std::mem::take(&mut unread.messages);
        unread.open.clear();
        drop(unread);
        drop(undelivered);
    }
}

impl<M> Sender<M> {
    /// Sends a message that the queue can act on. Never blocks.
    pub fn push(&self, message: M) {
        self.send(message, false, false);
    }

    fn send(&self, content: M, is_output: bool, is_last: bool) {
        let lane = self.lane;
        let mut unread = self.unread();
        if !unread.open.contains_key(&lane) {
            // Release the lock before the message is dropped: it may hold a `PermitSender`.
            drop(unread);
            return;
        }
        if is_last {
            unread.open.remove(&lane);
        }
        unread.has_signal |= !is_output;
        unread.messages.push_back(Message {
            lane,
            is_output,
            content,
        });
        drop(unread);
        self.arrived.notify_one();
    }

    fn open_lane(&self, bound: usize) -> (Self, SyncSender<()>) {
        let (output, room) = sync_channel(bound);
        let mut unread = self.unread();
        let lane = unread.lanes;
        unread.lanes += 1;
        unread.open.insert(lane, room);
        let sender = Sender {
            lane,
            ..self.clone()
        };
        (sender, output)
    }

    /// A panic while the lock is held leaves at worst one message out, so go on: the job that
    /// panicked must still be able to send its end.
    fn unread(&self) -> MutexGuard<'_, Unread<M>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender {
            unread: Arc::clone(&self.unread),
            arrived: Arc::clone(&self.arrived),
            lane: self.lane,
        }
    }
}

impl<M> JobChannel<M> {
    /// Sets how the compiler of the job is run.
    pub fn set_compiler(&mut self, compiler: Compiler) {
        self.compiler = RefCell::new(compiler);
    }

    /// Puts a hollow rlib in the place of the one that the job makes, if a job may start early on it, until
    /// the job ends. `rmeta` is the metadata, which has just been written. To be called before
    /// [`metadata_written`](Self::metadata_written).
    ///
    /// # Errors
    ///
    /// Those of [`Hollow::write`]. Then dependents have to wait for the end of the job.
    pub fn write_hollow_rlib(&self, rmeta: &Path) -> io::Result<()> {
        if let Some(gate) = &self.compiler.borrow().gate {
            let hollow = Hollow::write(rmeta, &rmeta.with_extension("rlib"), gate.dir())?;
            self.hollow.set(Some(hollow));
        }
        Ok(())
    }

    /// Runs `rustc`, the compiler of the job, with `exec`. If the job was started early, this blocks
    /// before the linker until the rlibs are ready. See [`link_gate::run`].
    ///
    /// # Errors
    ///
    /// Those of [`link_gate::run`].
    pub fn run_compiler(
        &self,
        rustc: &ProcessBuilder,
        exec: Exec<'_>,
        on_stdout: OnLine<'_>,
        on_stderr: OnLine<'_>,
    ) -> anyhow::Result<()>
    where
        M: Send + 'static,
    {
        let early = self.compiler.borrow_mut().early.take();
        let early = early.map(|early| (early, self.parking()));
        let handle = self.compiler.borrow().handle.clone();
        link_gate::run(rustc, early, handle.as_ref(), exec, on_stdout, on_stderr)
    }

    /// Sends a message that the queue can act on. Never blocks.
    pub fn push(&self, message: M) {
        self.sender.push(message);
    }

    /// Sends a message for the terminal. Blocks while too much output of this job is unread.
    pub fn push_bounded(&self, message: M) {
        // An error says that the lane is closed: then the message is dropped, too.
        let _ = self.output.send(());
        self.sender.send(message, true, false);
    }

    /// Sends that the metadata of the job is written, once. Later calls do nothing.
    pub fn metadata_written(&self) {
        if !self.has_metadata.replace(true) {
            self.push((self.to_message)(Event::Metadata));
        }
    }

    /// Returns what parks this job. After its end it no longer does, and the permit is
    /// [`Permit::Abort`](crate::permit::Permit::Abort).
    fn parking(&self) -> Parking
    where
        M: Send + 'static,
    {
        let (sender, to_message) = (self.sender.clone(), Arc::clone(&self.to_message));
        Parking::new(move |permit| sender.push(to_message(Event::Parked(permit))))
    }

    /// Does the work of the job and sends its result, also if it panics.
    ///
    /// The panic is passed on to the caller.
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
        self.sender.send(message, false, true);
    }
}

impl<M> Drop for JobChannel<M> {
    fn drop(&mut self) {
        let is_open = self.sender.unread().open.contains_key(&self.sender.lane);
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
        assert_eq!(mailbox.notices.unread().open.len(), 1);
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
