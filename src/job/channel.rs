//! The messages of running jobs, and which of them the queue receives first.
//!
//! Each running job has a [`JobChannel`] of its own, which ends in the [`Mailbox`] of the thread that runs
//! the queue. The job sends two kinds of messages:
//!
//! * **Signals** ([`push`](JobChannel::push), and the [`Event`]s of its life). The queue can act on them,
//!   so sending one never blocks the job, and the queue receives them ahead of any other job's output.
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
//! comes before the line that names the job which started because of it. Among jobs, a signal waits for
//! no output but its own job's; a job that floods the terminal with 100,000 warnings therefore delays no
//! other job's dependents. All else is received in the order of arrival.
//!
//! # What a channel guarantees
//!
//! The queue receives [`Event::Finished`] of each channel exactly once and last, also when the job panics
//! or is dropped before it ran; and [`Event::Metadata`] at most once, and before it.
//!
//! # Blocking
//!
//! Only [`push_bounded`](JobChannel::push_bounded), [`run_compiler`](JobChannel::run_compiler) and
//! [`Mailbox::pop_urgent`] block. A job that runs on the thread of the queue must not call the first two:
//! the queue is what would let it go on. Dropping the mailbox unblocks all jobs; what they send from then
//! on is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    shared: Arc<Shared<M>>,
}

/// Sends messages of no job: that a token was acquired, for example. Never blocks.
pub struct Notices<M> {
    shared: Arc<Shared<M>>,
}

/// A job's end of its channel. See the [module's documentation](self).
pub struct JobChannel<M> {
    shared: Arc<Shared<M>>,
    lane: u64,
    /// Turns an event of this job into what the queue receives.
    to_message: Arc<dyn Fn(Event) -> M + Send + Sync>,
    phase: Cell<Phase>,
    compiler: Compiler,
    early: Cell<Option<EarlyStart>>,
    /// Stands in for the rlib while the job runs.
    hollow: RefCell<Option<Hollow>>,
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

/// What a channel has announced of its job.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Started,
    MetadataWritten,
    Finished,
}

struct Shared<M> {
    lanes: Mutex<Lanes<M>>,
    arrived: Condvar,
    /// How much output of one job may be unread.
    bound: usize,
}

struct Lanes<M> {
    by_job: HashMap<u64, Lane<M>>,
    notices: VecDeque<Arrival<M>>,
    next_lane: u64,
    /// Numbers what arrives, over all lanes.
    next_arrival: u64,
    /// The mailbox is gone.
    closed: bool,
}

struct Arrival<M> {
    number: u64,
    message: M,
    is_output: bool,
}

struct Lane<M> {
    unread: VecDeque<Arrival<M>>,
    unread_output: usize,
    /// How much of `unread`, from its front, a signal at its end takes along.
    urgent: usize,
    /// The end of the job was sent: nothing is accepted after that.
    finished: bool,
    /// The job's end is gone.
    ended: bool,
    room: Arc<Condvar>,
}

impl<M> Shared<M> {
    /// Sends a signal on a lane. One that will never be received is dropped when the lock is released.
    fn signal(&self, lane: u64, message: M) {
        let undelivered = self.lock().push(lane, message, false);
        drop(undelivered);
        self.arrived.notify_one();
    }

    /// A panic while the lock is held leaves at worst one message out, so go on: the job that
    /// panicked must still be able to send its end.
    fn lock(&self) -> MutexGuard<'_, Lanes<M>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Lanes<M> {
    fn number(&mut self) -> u64 {
        self.next_arrival += 1;
        self.next_arrival
    }

    /// Returns the message if it will never be received: the caller drops it when the lock is released,
    /// because it may hold a [`PermitSender`].
    #[must_use]
    fn push(&mut self, lane: u64, message: M, is_output: bool) -> Option<M> {
        let number = self.number();
        let Some(lane) = self.by_job.get_mut(&lane).filter(|lane| !lane.finished) else {
            return Some(message);
        };
        lane.unread.push_back(Arrival {
            number,
            message,
            is_output,
        });
        match is_output {
            true => lane.unread_output += 1,
            false => lane.urgent = lane.unread.len(),
        }
        None
    }

    /// Takes what is received next: every signal and what it takes along or, where there is none, the
    /// oldest output.
    fn take(&mut self, bound: usize) -> Vec<M> {
        let mut taken: Vec<Arrival<M>> = self.notices.drain(..).collect();
        for lane in self.by_job.values_mut() {
            taken.extend(lane.take(lane.urgent, bound));
        }
        if taken.is_empty() {
            let oldest = self
                .by_job
                .values_mut()
                .filter(|lane| !lane.unread.is_empty())
                .min_by_key(|lane| lane.unread[0].number);
            if let Some(lane) = oldest {
                taken.extend(lane.take(1, bound));
            }
        }
        self.by_job
            .retain(|_, lane| !lane.ended || !lane.unread.is_empty());
        taken.sort_unstable_by_key(|arrival| arrival.number);
        taken.into_iter().map(|arrival| arrival.message).collect()
    }
}

impl<M> Lane<M> {
    fn take(&mut self, count: usize, bound: usize) -> Vec<Arrival<M>> {
        let taken: Vec<_> = self.unread.drain(..count).collect();
        self.urgent -= count.min(self.urgent);
        self.unread_output -= taken.iter().filter(|arrival| arrival.is_output).count();
        if self.unread_output < bound {
            self.room.notify_all();
        }
        taken
    }
}

impl<M> Mailbox<M> {
    /// Creates a mailbox in which each job may have `bound` messages of output unread, at least one.
    pub fn new(bound: usize) -> Self {
        Mailbox {
            shared: Arc::new(Shared {
                lanes: Mutex::new(Lanes {
                    by_job: HashMap::new(),
                    notices: VecDeque::new(),
                    next_lane: 0,
                    next_arrival: 0,
                    closed: false,
                }),
                arrived: Condvar::new(),
                bound: bound.max(1),
            }),
        }
    }

    /// Returns what sends messages of no job to this mailbox.
    pub fn notices(&self) -> Notices<M> {
        Notices {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Opens the channel of a job. `to_message` makes of an event what the queue receives.
    pub fn channel(
        &self,
        to_message: impl Fn(Event) -> M + Send + Sync + 'static,
    ) -> JobChannel<M> {
        let mut lanes = self.shared.lock();
        let lane = lanes.next_lane;
        lanes.next_lane += 1;
        lanes.by_job.insert(
            lane,
            Lane {
                unread: VecDeque::new(),
                unread_output: 0,
                urgent: 0,
                finished: false,
                ended: false,
                room: Arc::new(Condvar::new()),
            },
        );
        JobChannel {
            shared: Arc::clone(&self.shared),
            lane,
            to_message: Arc::new(to_message),
            phase: Cell::new(Phase::Started),
            compiler: Compiler::default(),
            early: Cell::new(None),
            hollow: RefCell::new(None),
        }
    }

    /// Receives without blocking: all signals, each with the output of the same job before it, or, where
    /// there is no signal, one message of output. Empty if nothing has arrived.
    pub fn try_pop_urgent(&self) -> Vec<M> {
        self.shared.lock().take(self.shared.bound)
    }

    /// Like [`try_pop_urgent`](Self::try_pop_urgent), but blocks until something arrives or
    /// `timeout` has passed; empty only in the latter case.
    pub fn pop_urgent(&self, timeout: Duration) -> Vec<M> {
        let deadline = Instant::now() + timeout;
        let mut lanes = self.shared.lock();
        loop {
            let taken = lanes.take(self.shared.bound);
            let left = deadline.saturating_duration_since(Instant::now());
            if !taken.is_empty() || left.is_zero() {
                return taken;
            }
            (lanes, _) = self
                .shared
                .arrived
                .wait_timeout(lanes, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let mut lanes = self.shared.lock();
        lanes.closed = true;
        for lane in lanes.by_job.values() {
            lane.room.notify_all();
        }
        let undelivered = (
            std::mem::take(&mut lanes.notices),
            std::mem::take(&mut lanes.by_job),
        );
        drop(lanes);
        drop(undelivered);
    }
}

impl<M> Notices<M> {
    /// Sends `message` to the queue.
    pub fn push(&self, message: M) {
        let mut lanes = self.shared.lock();
        if lanes.closed {
            return;
        }
        let number = lanes.number();
        lanes.notices.push_back(Arrival {
            number,
            message,
            is_output: false,
        });
        self.shared.arrived.notify_one();
    }
}

impl<M> Clone for Notices<M> {
    fn clone(&self) -> Self {
        Notices {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> JobChannel<M> {
    /// Sets how the compiler of the job is run.
    pub fn set_compiler(&mut self, mut compiler: Compiler) {
        self.early = Cell::new(compiler.early.take());
        self.compiler = compiler;
    }

    /// Puts a hollow rlib in the place of the one that the job makes, if a job may start early on it, until
    /// the job ends. `rmeta` is the metadata, which has just been written. To be called before
    /// [`metadata_written`](Self::metadata_written).
    ///
    /// # Errors
    ///
    /// Those of [`Hollow::write`]. Then dependents have to wait for the end of the job.
    pub fn write_hollow_rlib(&self, rmeta: &Path) -> io::Result<()> {
        if let Some(gate) = &self.compiler.gate {
            let hollow = Hollow::write(rmeta, &rmeta.with_extension("rlib"), gate.dir())?;
            *self.hollow.borrow_mut() = Some(hollow);
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
        let early = self.early.take().map(|early| (early, self.parking()));
        let handle = self.compiler.handle.as_ref();
        link_gate::run(rustc, early, handle, exec, on_stdout, on_stderr)
    }

    /// Sends a message that the queue can act on. Never blocks.
    pub fn push(&self, message: M) {
        self.shared.signal(self.lane, message);
    }

    /// Sends a message for the terminal. Blocks while too much output of this job is unread.
    pub fn push_bounded(&self, message: M) {
        let mut lanes = self.shared.lock();
        while let Some(lane) = lanes.by_job.get(&self.lane)
            && lane.unread_output >= self.shared.bound
        {
            let room = Arc::clone(&lane.room);
            lanes = room.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        let undelivered = lanes.push(self.lane, message, true);
        drop(lanes);
        drop(undelivered);
        self.shared.arrived.notify_one();
    }

    /// Sends that the metadata of the job is written, once. Later calls do nothing.
    pub fn metadata_written(&self) {
        if self.phase.get() == Phase::Started {
            self.phase.set(Phase::MetadataWritten);
            self.push((self.to_message)(Event::Metadata));
        }
    }

    /// Returns what parks this job. After its end it no longer does, and the permit is
    /// [`Permit::Abort`](crate::permit::Permit::Abort).
    fn parking(&self) -> Parking
    where
        M: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let to_message = Arc::clone(&self.to_message);
        let lane = self.lane;
        Parking::new(move |permit| shared.signal(lane, to_message(Event::Parked(permit))))
    }

    /// Does the work of the job and sends its result, also if it panics.
    ///
    /// The panic is passed on to the caller.
    pub fn finish_with(&self, work: impl FnOnce() -> anyhow::Result<()>) {
        /// Sends it when dropped, because a panic gives no other chance to.
        struct FinishOnDrop<'a, M> {
            channel: &'a JobChannel<M>,
            result: Option<anyhow::Result<()>>,
        }

        impl<M> Drop for FinishOnDrop<'_, M> {
            fn drop(&mut self) {
                let result = self.result.take();
                // After a success no hollow rlib is left when dependents may link.
                let hollow = self.channel.hollow.take();
                if let (Some(hollow), Some(gate)) = (hollow, &self.channel.compiler.gate)
                    && !matches!(result, Some(Ok(())))
                {
                    gate.keep(hollow);
                }
                self.channel
                    .finish(result.unwrap_or_else(|| Err(anyhow!("worker panicked"))));
            }
        }

        let mut on_drop = FinishOnDrop {
            channel: self,
            result: None,
        };
        on_drop.result = Some(work());
    }

    fn finish(&self, result: anyhow::Result<()>) {
        if self.phase.replace(Phase::Finished) != Phase::Finished {
            let message = (self.to_message)(Event::Finished(result));
            let mut lanes = self.shared.lock();
            let undelivered = lanes.push(self.lane, message, false);
            if let Some(lane) = lanes.by_job.get_mut(&self.lane) {
                lane.finished = true;
            }
            drop(lanes);
            drop(undelivered);
            self.shared.arrived.notify_one();
        }
    }
}

impl<M> Drop for JobChannel<M> {
    fn drop(&mut self) {
        self.finish(Err(anyhow!("the job was dropped before it ran")));
        if let Some(lane) = self.shared.lock().by_job.get_mut(&self.lane) {
            lane.ended = true;
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
        assert!(mailbox.shared.lock().by_job.is_empty());
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
