//! Decides which job runs next.
//!
//! A [`Plan`] collects jobs and their needs. The [`Scheduler`] receives events and returns actions:
//!
//! ```text
//!   events                                              actions
//!   produced (metadata, all)  ┐  ┌─────────────────┐  ┌ Start (early, or with all outputs ready)
//!   parked                    ├─▶│    Scheduler    ├─▶│ Link    the permit is sent
//!   failed                    │  └────────┬────────┘  │ Resume  the compiler is continued
//!   stop                      ┘           │           └ compare, pause
//!                                         ▼ transitions
//!                              measurements, trace, costs
//! ```
//!
//! The caller drives it in one loop: it carries out the actions that [`next`](Scheduler::next) returns until
//! there is none, then waits for an event. A compiler that never announces its metadata (a check, an old
//! wrapper) produces it by ending.
//!
//! # Early starts
//!
//! A job whose missing outputs are all [`AllToLink`](Need::AllToLink) can start *early*, if there is room for
//! it ([`EarlyStarts`]): it compiles, parks before its linker, and gets its permit once all outputs are ready
//! and a slot is free.
//!
//! # Early cutoff
//!
//! A job that is dirty only because a dependency is rebuilt is *conditional*. Its inputs are
//! [compared](Scheduler::next_to_compare) when they are ready, without a slot: first what it compiles
//! against, then, if that came out the same, what it links.
//!
//! # Priorities and pauses
//!
//! The priority of a job is the longest path from it to the end of the build, by costs that were measured in
//! earlier builds ([`costs`]) or are guessed ([`guess`]). If a job of higher priority has no slot, a compiler
//! that has written its metadata is [paused](Scheduler::pause_codegen), by the rule of [`pauses`].

mod clock;
pub mod costs;
pub mod estimate;
pub mod guess;
pub mod limit;
mod node;
pub mod pauses;
mod plan;
pub mod prior;
mod priority;
mod ready;
mod summary;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

pub use clock::Clock;
pub use costs::KnownCosts;
pub use estimate::{Estimate, Measured, Work};
pub use node::Node;
pub use pauses::Pauses;
pub use plan::Plan;
pub use summary::{Section, Summary};

use crate::config::Schedule;
use crate::freshness::Verdict;
use crate::graph::{Artifact, Graph, Need};
use crate::job::{Cause, Compiler, MetadataWatch, State, Transition};
use crate::link_gate::EarlyStarts;
use crate::permit::{Permit, PermitSender};
use crate::trace::Trace;
use estimate::Correction;
use node::{Tally, Turn};
use ready::Queue;

/// What a build is scheduled with. By default nothing starts early, is paused or is recorded.
#[derive(Debug)]
pub struct Settings<U> {
    /// Which job goes first.
    pub schedule: Schedule,
    /// Measures what jobs take.
    pub clock: Clock,
    /// How many jobs may start early.
    pub early: EarlyStarts,
    /// How many [local](node::Node::local) jobs may run at once.
    pub local_slots: usize,
    /// Which compilers may be paused, by the memory that they hold.
    pub pauses: Pauses,
    /// Set if compilers may not notify that their metadata is written.
    pub watch: Option<Arc<MetadataWatch>>,
    /// Where to record what jobs took.
    pub costs: Option<KnownCosts<U>>,
    /// Where to write what ran when.
    pub trace: Option<Trace<U>>,
}

impl<U> Default for Settings<U> {
    fn default() -> Self {
        Settings {
            schedule: Schedule::default(),
            clock: Clock::since(std::time::Instant::now()),
            early: EarlyStarts::none(),
            local_slots: usize::MAX,
            pauses: Pauses::none(),
            watch: None,
            costs: None,
            trace: None,
        }
    }
}

/// The work of a unit, as the caller has it.
pub trait Task {
    /// Whether the unit is up to date, so that the job only replays the messages of an earlier build.
    fn is_fresh(&self) -> bool {
        false
    }
}

impl Task for () {}

/// What the caller has to do [next](Scheduler::next).
#[derive(Debug)]
pub enum Action<U, J> {
    /// Start a job.
    Start(Start<U, J>),
    /// Nothing: the compiler of a [paused](State::Paused) job was continued.
    Resume(U),
    /// Nothing: a [parked](State::Parked) job was let link.
    Link(U),
}

/// A job that starts.
#[derive(Debug)]
#[expect(missing_docs, reason = "the unit and its job need none")]
pub struct Start<U, J> {
    pub unit: U,
    pub job: J,
    /// Whether outputs that it links are not ready. It then [parks](Scheduler::parked) before it links.
    pub is_early: bool,
    /// How its compiler is run.
    pub compiler: Compiler,
}

/// A job whose inputs have to be [compared](Scheduler::next_to_compare).
#[derive(Debug)]
#[expect(missing_docs, reason = "the unit and its job need none")]
pub struct ToCompare<'a, U, J> {
    pub unit: &'a U,
    pub job: &'a mut J,
    /// Whether the outputs that it links are ready, too.
    pub all_ready: bool,
}

/// Keeps the state of every job of a build, and decides which job runs next.
///
/// The caller reports events in the order in which they happened; each report takes time in proportion to
/// the edges that it satisfies. Impossible events, such as the metadata of a job that never started, panic.
#[derive(Debug)]
pub struct Scheduler<U, J> {
    settings: Settings<U>,
    nodes: Vec<Node<U>>,
    /// Each is taken when it starts.
    jobs: Vec<Option<J>>,
    ids: HashMap<U, usize>,
    /// Shared only so that it can be read while jobs change.
    graph: Arc<Graph>,
    /// How many needs of each job are not satisfied, and how many of them keep it from starting. Not in the
    /// nodes, as most often nothing else of a job has to be read.
    missing: Vec<u32>,
    missing_to_start: Vec<u32>,
    /// Sums over all nodes, kept by `change`.
    tally: Tally,
    /// Jobs whose [`Turn`] it is. Those whose turn has changed since they came here are skipped.
    runnable: Queue,
    ready_early: Queue,
    to_compare: VecDeque<usize>,
    /// Jobs that have written their metadata since pausing them was considered.
    metadata_written: Vec<usize>,
    /// How often a report came that can unblock jobs.
    unblocked: u32,
    is_stopping: bool,
    correction: Correction,
    phases_ended: usize,
    /// When the plan was sealed, in µs.
    began: u64,
    transitions: Vec<Transition>,
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    /// Whether every job has started, or never will.
    pub fn is_drained(&self) -> bool {
        self.tally.unstarted == 0
    }

    /// Returns how many slots are in use.
    pub fn slots_in_use(&self) -> usize {
        self.tally.all.running
    }

    /// Returns how many slots could be used when the caller has `slots`.
    pub fn wanted_slots(&self, slots: usize) -> usize {
        if self.is_stopping {
            return self.tally.all.running + self.tally.paused;
        }
        let Tally { all, local, .. } = &self.tally;
        let local_slots = self.settings.local_slots;
        let wanted = all.wanted(local, local_slots, false);
        let with_early = all.wanted(local, local_slots, true);
        if slots < with_early && self.settings.early.allow(self.tally.early) {
            with_early
        } else {
            wanted
        }
    }

    /// Returns the state of the job of `unit`, or `None` for a unit that was never added.
    pub fn state(&self, unit: &U) -> Option<State> {
        self.ids.get(unit).map(|&id| self.nodes[id].state)
    }

    /// Returns why no more jobs start early, once, after one could not be held at its linker.
    pub fn newly_given_up(&mut self) -> Option<&'static str> {
        self.settings.early.newly_given_up()
    }

    /// The job has written its metadata and goes on, or has ended well and so produced everything.
    /// Returns the units that this makes ready, if only to start early.
    pub fn produced(&mut self, unit: &U, artifact: Artifact) -> Vec<&U> {
        let id = self.ids[unit];
        let before = self.nodes[id].produced;
        self.unblocked = self.unblocked.saturating_add(1);
        match artifact {
            // It was seen late, by another thread than the linker.
            Artifact::Metadata
                if matches!(
                    self.nodes[id].state,
                    State::Parked | State::Linking | State::Failed(_)
                ) =>
            {
                return Vec::new();
            }
            Artifact::Metadata => {
                self.set(id, State::Codegen);
                self.metadata_written.push(id);
            }
            Artifact::All => {
                assert!(
                    self.nodes[id].tally().early == 0,
                    "job {id} ended before it could link"
                );
                self.set(id, State::Done);
                self.settings.pauses.ended(id);
            }
        }
        let is_new = |wanted| Some(wanted) > before && wanted <= artifact;
        let mut unblocked = Vec::new();
        let graph = Arc::clone(&self.graph);
        for (dependent, need) in graph.dependents.of(id) {
            if is_new(need.artifact()) {
                self.satisfied(dependent);
            }
            if is_new(need.to_start()) {
                let missing = &mut self.missing_to_start[dependent];
                *missing -= 1;
                // A job that can start, but never link, has failed and stays so.
                if *missing == 0 && self.nodes[dependent].state == State::Waiting {
                    self.set(dependent, State::Ready);
                    unblocked.push(dependent);
                }
            }
        }
        unblocked.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    /// One need of the job is satisfied altogether.
    fn satisfied(&mut self, id: usize) {
        self.missing[id] -= 1;
        if self.missing[id] == 0 {
            self.change(id, |node| node.all_ready = true);
            let node = &mut self.nodes[id];
            if node.started_early && matches!(node.state, State::Frontend | State::Codegen) {
                let passed = self.settings.clock.now().saturating_sub(node.since);
                node.ran_ahead = Some(node.compiled().saturating_add(passed));
            }
        }
    }

    /// The job, started early, has compiled and waits for `permit`. It is aborted if an output that it links
    /// will never be ready, or if the build stops. A job whose compiler has ended without linking parks again;
    /// if it had a permit, it gets one at once.
    pub fn parked(&mut self, unit: &U, permit: PermitSender) {
        let id = self.ids[unit];
        match self.nodes[id].state {
            State::Linking => return permit.send(Permit::Link),
            State::Parked => {}
            State::Frontend | State::Codegen | State::Paused => {
                self.set(id, State::Parked);
                self.settings.pauses.ended(id);
            }
            // Dropping the permit aborts the job.
            _ => return,
        }
        self.nodes[id].permit = Some(permit);
        let has_failed_dependency = self.graph.needs.of(id).any(|(dependency, need)| {
            matches!(self.nodes[dependency].state, State::Failed(_)) && need == Need::AllToLink
        });
        if has_failed_dependency {
            self.lose(vec![id]);
        } else if self.is_stopping {
            self.set(id, State::Failed(Cause::Stopped));
        }
    }

    /// The job has ended with an error. Dependents that wait for an output that it has not produced fail with
    /// it, and so on. Dependents that run go on, and fail if they [park](Self::parked).
    pub fn failed(&mut self, unit: &U) {
        let id = self.ids[unit];
        self.set(id, State::Failed(Cause::Own));
        self.settings.pauses.ended(id);
        self.lose(self.waiting_dependents(id));
    }

    /// The build stops: no job starts any more, and no parked job will link. Paused jobs are resumed.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        for id in 0..self.nodes.len() {
            if self.nodes[id].state == State::Parked {
                self.set(id, State::Failed(Cause::Stopped));
            }
        }
    }

    /// Returns the jobs that wait for what this one has not produced.
    fn waiting_dependents(&self, id: usize) -> Vec<usize> {
        use State::{Parked, Ready, Waiting};
        let produced = self.nodes[id].produced;
        let is_waiting = |id: usize| matches!(self.nodes[id].state, Waiting | Ready | Parked);
        (self.graph.dependents.of(id))
            .filter(|&(id, need)| Some(need.artifact()) > produced && is_waiting(id))
            .map(|(id, _)| id)
            .collect()
    }

    /// These jobs, and all that wait for them, fail.
    fn lose(&mut self, mut unvisited: Vec<usize>) {
        while let Some(id) = unvisited.pop() {
            // Two paths lead to it.
            if self.nodes[id].state == State::Failed(Cause::Dependency) {
                continue;
            }
            self.set(id, State::Failed(Cause::Dependency));
            unvisited.extend(self.waiting_dependents(id));
        }
    }

    /// Returns a job whose inputs can be compared now, the same until the result is
    /// [reported](Self::compared). `None` if there is none, or the build stops.
    pub fn next_to_compare(&mut self) -> Option<ToCompare<'_, U, J>> {
        if self.is_stopping {
            return None;
        }
        while let Some(&id) = self.to_compare.front()
            && self.nodes[id].turn() != Turn::Comparable
        {
            self.to_compare.pop_front();
        }
        let id = *self.to_compare.front()?;
        Some(ToCompare {
            unit: &self.nodes[id].unit,
            job: self.jobs[id].as_mut()?,
            all_ready: self.nodes[id].all_ready,
        })
    }

    /// Reports the result of a comparison. A changed job can start, and an unchanged one, which only replays
    /// messages.
    pub fn compared(&mut self, unit: &U, verdict: Verdict) {
        let id = self.ids[unit];
        self.to_compare.retain(|&other| other != id);
        let to_compare = match verdict {
            Verdict::SameMetadata => Some(Artifact::All),
            Verdict::Changed | Verdict::Unchanged => None,
        };
        self.change(id, |node| node.to_compare = to_compare);
    }

    /// The one place where a state changes.
    fn set(&mut self, id: usize, next: State) {
        let last = self.nodes[id].state;
        assert!(
            last.may_become(next),
            "job {id} cannot go from {last:?} to {next:?}"
        );
        self.change(id, |node| {
            node.state = next;
            node.produced = node.produced.max(next.produced());
            if matches!(next, State::Failed(_)) {
                node.permit = None;
            }
        });
        let transition = Transition {
            job: id,
            from: last,
            to: next,
            at: self.settings.clock.now(),
        };
        self.transitions.push(transition);
        let ended = self.nodes[id].observe(transition);
        if let Some(trace) = &mut self.settings.trace {
            let node = &self.nodes[id];
            let (unit, kind) = (&node.unit, node.kind);
            let needs = || self.graph.needs.of(id).collect();
            trace.observe(transition, unit, kind, node.is_conditional, needs);
        }
        if let Some((phase, took)) = ended {
            self.learn(id, phase, took);
        }
    }

    /// Changes a job, keeps the sums over all jobs, and puts it into the queue in which it waits.
    fn change(&mut self, id: usize, change: impl FnOnce(&mut Node<U>)) {
        let node = &mut self.nodes[id];
        let (turn, tally) = (node.turn(), node.tally());
        change(node);
        self.tally.replace(&tally, &node.tally());
        if node.turn() != turn {
            self.enqueue(id);
        }
    }

    /// Records what the jobs have taken, for later builds. Blocks while the file is read and written. It is an
    /// error if that fails, unless an error about the file was returned before.
    pub fn record_costs(&mut self) -> anyhow::Result<()> {
        let costs = self.settings.costs.as_ref();
        costs.map_or(Ok(()), |costs| costs.record(self))
    }

    /// Ends the trace. Returns the first error in writing it.
    pub fn finish_trace(&mut self) -> anyhow::Result<()> {
        self.settings.trace.take().map_or(Ok(()), Trace::finish)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
