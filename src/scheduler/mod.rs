//! Decides which job runs next.
//!
//! Jobs and their needs are collected in a [`Plan`]. The [`Scheduler`] receives events of the jobs that run,
//! and returns actions:
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
//! A caller, whether Cargo, a simulation or a test, drives it in one loop: while
//! [`next`](Scheduler::next) returns an action it carries that out, then it waits for an event.
//!
//! # Early starts
//!
//! An edge [`AllToLink`](Need::AllToLink) stands for what a job needs only when it links: until then
//! metadata is enough. A job whose missing outputs are all of that kind can start *early*, if there is room
//! for it ([`EarlyStarts`]): it compiles, parks before its linker, and gets its permit once all outputs are
//! ready and a slot is free. Otherwise it starts when all outputs are ready.
//!
//! # Pauses
//!
//! Once its metadata is written, the rest of a job holds up only links. If there is no slot for a job of
//! higher priority, its compiler is [paused](Scheduler::pause_codegen). [`pauses`] has the rule.
//!
//! # Early cutoff
//!
//! A job that is dirty only because a dependency is rebuilt is *conditional*. Its inputs are
//! [compared](Scheduler::next_to_compare) when they are ready, without a slot: first what it compiles
//! against, then, if that came out the same, what it links.
//!
//! # Jobs without metadata
//!
//! A job that ends well has produced everything, so [`Artifact::All`] satisfies edges on the metadata as
//! well. A compiler that never announces its metadata (a check, an old wrapper, a fresh job) holds up its
//! dependents until it ends, and cannot strand them.
//!
//! # Priorities
//!
//! ```text
//!   what does a job cost?   costs    measured in earlier builds
//!                           guess    from what is known without compiling
//!                             │
//!   how long is the rest?   priority the longest path to the end of the build
//!                             │
//!   afterwards              limit    how soon it could have been done
//! ```

mod clock;
pub mod costs;
pub mod estimate;
pub mod guess;
pub mod limit;
mod node;
pub mod pauses;
mod plan;
mod priority;
mod ready;
mod summary;

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::Hash;

pub use clock::Clock;
pub use costs::KnownCosts;
pub use estimate::{Estimate, Measured, Work};
pub use guess::{native_source_size, source_size};
pub use node::Node;
pub use pauses::Pauses;
pub use plan::Plan;
pub use summary::{Section, Summary};

use crate::config::Schedule;
use crate::freshness::Verdict;
use crate::graph::{Artifact, Graph, Need};
use crate::job::{Cause, Compiler, State, Transition};
use crate::link_gate::EarlyStarts;
use crate::permit::{Permit, PermitSender};
use crate::trace::{Observed, Trace};
use estimate::Correction;
use node::{Candidate, Tally, Turn};

/// What a build is scheduled with. By default nothing starts early, is paused or is recorded.
#[derive(Debug)]
pub struct Settings<U> {
    /// Which job goes first.
    pub schedule: Schedule,
    /// Measures what jobs take.
    pub clock: Clock,
    /// How many jobs may start early.
    pub early: EarlyStarts,
    /// How many compilers may be paused.
    pub pauses: Pauses,
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
            pauses: Pauses::none(),
            costs: None,
            trace: None,
        }
    }
}

/// The work of a unit, as the caller has it.
pub trait Task {
    /// Whether the unit is up to date: then the job only replays the messages of an earlier build.
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
pub struct Start<U, J> {
    /// The unit whose job it is.
    pub unit: U,
    /// The job.
    pub job: J,
    /// Whether outputs that it links are not ready. It then [parks](Scheduler::parked) before it links.
    pub is_early: bool,
    /// How its compiler is run.
    pub compiler: Compiler,
}

/// A job whose inputs have to be [compared](Scheduler::next_to_compare).
#[derive(Debug)]
pub struct ToCompare<'a, U, J> {
    /// The unit whose job it is.
    pub unit: &'a U,
    /// The job.
    pub job: &'a mut J,
    /// Whether the outputs that it links are ready, too.
    pub all_ready: bool,
}

/// Knows the state of every job of a build, and decides which job runs next.
///
/// The caller reports what happened in the order in which it happened; each report costs time in
/// proportion to the edges that it satisfies. Reports that no run of a job could lead to, such as the
/// metadata of a job that never started, are mistakes of the caller and panic.
#[derive(Debug)]
pub struct Scheduler<U, J> {
    settings: Settings<U>,
    nodes: Vec<Node<U>>,
    /// Each is taken when it starts.
    jobs: Vec<Option<J>>,
    ids: HashMap<U, usize>,
    graph: Graph,
    /// How many needs of each job are not satisfied, and how many of them keep it from starting. Kept apart
    /// from the nodes: most often others are missing, and nothing else has to be looked at.
    missing: Vec<u32>,
    missing_to_start: Vec<u32>,
    /// Sums over all nodes, kept by `change`.
    tally: Tally,
    /// Jobs whose turn it is. Those that no longer are what they were when they came here are skipped.
    runnable: BinaryHeap<Candidate>,
    ready_early: BinaryHeap<Candidate>,
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
        self.tally.running
    }

    /// Returns how many slots could be used, given that the caller has this many.
    pub fn wanted_slots(&self, slots: usize) -> usize {
        if self.is_stopping {
            return self.tally.running + self.tally.paused;
        }
        let wanted = self.tally.running + self.tally.runnable;
        let early = self.tally.ready_early;
        if slots < wanted + early && self.settings.early.allow(self.tally.early) {
            return wanted + early;
        }
        wanted
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
    /// Returns the units that became ready by it, if only to start early.
    pub fn produced(&mut self, unit: &U, artifact: Artifact) -> Vec<&U> {
        let id = self.ids[unit];
        assert!(
            self.nodes[id].tally().early == 0,
            "job {id} produced something before it linked"
        );
        self.unblocked = self.unblocked.saturating_add(1);
        let before = self.nodes[id].state.produced();
        match artifact {
            Artifact::Metadata => {
                self.set(id, State::Codegen);
                self.metadata_written.push(id);
            }
            Artifact::All => {
                self.set(id, State::Done);
                self.settings.pauses.ended(id);
            }
        }
        let is_new = |wanted| Some(wanted) > before && wanted <= artifact;
        let mut unblocked = Vec::new();
        for edge in self.graph.dependents.range(id) {
            let (dependent, need) = self.graph.dependents.get(edge);
            if is_new(need.artifact()) {
                self.satisfied(dependent);
            }
            if is_new(need.to_start()) && self.satisfied_to_start(dependent) {
                unblocked.push(dependent);
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
            if node.started_early && node.state == State::Frontend {
                node.ran_ahead = Some(self.settings.clock.now().saturating_sub(node.since));
            }
        }
    }

    /// One need of the job no longer keeps it from starting. Returns whether that makes it ready.
    fn satisfied_to_start(&mut self, id: usize) -> bool {
        self.missing_to_start[id] -= 1;
        // A job that can start, but never link, has failed and stays so.
        let is_ready = self.missing_to_start[id] == 0 && self.nodes[id].state == State::Waiting;
        if is_ready {
            self.set(id, State::Ready);
        }
        is_ready
    }

    /// The job, started early, has compiled and waits for `permit`. It is aborted if an output that it
    /// links will never be ready, or if the build stops.
    ///
    /// A job parks a second time if its compiler has ended without having linked. If it has been let link
    /// by then, it has its slot and gets the permit at once.
    pub fn parked(&mut self, unit: &U, permit: PermitSender) {
        let id = self.ids[unit];
        match self.nodes[id].state {
            State::Linking => return permit.send(Permit::Link),
            State::Parked => {}
            State::Frontend => self.set(id, State::Parked),
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

    /// The job has ended with an error. Its dependents that still wait for an output that it has not
    /// produced, to start or parked to link, fail with it, and so on. Dependents that run do not: they
    /// end as they end, or fail when they [park](Self::parked).
    pub fn failed(&mut self, unit: &U) {
        let id = self.ids[unit];
        let produced = self.nodes[id].state.produced();
        self.set(id, State::Failed(Cause::Own));
        self.settings.pauses.ended(id);
        let dependents = self.waiting_dependents(id, produced);
        self.lose(dependents);
    }

    /// The build stops: no job starts any more, and no parked job will link. What is paused is
    /// [continued](Self::next), as what runs runs on.
    pub fn stop(&mut self) {
        if self.is_stopping {
            return;
        }
        self.is_stopping = true;
        for id in 0..self.nodes.len() {
            if self.nodes[id].state == State::Parked {
                self.set(id, State::Failed(Cause::Stopped));
            }
        }
    }

    fn waiting_dependents(&self, id: usize, produced: Option<Artifact>) -> Vec<usize> {
        let is_waiting = |id: usize| {
            matches!(
                self.nodes[id].state,
                State::Waiting | State::Ready | State::Parked
            )
        };
        self.graph
            .dependents
            .of(id)
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
            unvisited.extend(self.waiting_dependents(id, None));
        }
    }

    /// Returns a job whose inputs can be compared now. `None` if there is none, or the build stops. The
    /// same job is returned until the result is [reported](Self::compared).
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

    /// Reports what comparing the inputs of a job has shown. One that is changed, and one that is
    /// unchanged and only replays messages, can start.
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
            let observed = Observed {
                unit: &node.unit,
                kind: node.kind,
                is_conditional: node.is_conditional,
                needs: || self.graph.needs.of(id).collect(),
            };
            trace.observe(transition, observed);
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

    /// Records what the jobs have taken, for later builds.
    ///
    /// Blocks while the file is read and written.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, unless an error about it was returned before.
    pub fn record_costs(&mut self) -> anyhow::Result<()> {
        match &self.settings.costs {
            Some(costs) => costs.record(self.measured()),
            None => Ok(()),
        }
    }

    /// Ends the trace.
    ///
    /// # Errors
    ///
    /// The first error in writing it.
    pub fn finish_trace(&mut self) -> anyhow::Result<()> {
        self.settings.trace.take().map_or(Ok(()), Trace::finish)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
