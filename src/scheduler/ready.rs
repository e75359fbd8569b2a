//! The queues of jobs that can run, and which job goes first.

use std::collections::BinaryHeap;
use std::hash::Hash;

use super::estimate::{Correction, Estimate, Phase, Work, scaled};
use super::node::{Candidate, Node, Turn};
use super::priority::{Priority, priorities};
use super::{Action, Learned, Scheduler, Start, Task, pausing};
use crate::config::Schedule;
use crate::graph::small;
use crate::job::{Compiler, Kind, State};
use crate::link_gate::EarlyStart;
use crate::permit::Permit;

/// Where costs are guessed, the jobs are ranked again when this many phases have ended, or one for this
/// many jobs if that is more, and each time that the number has doubled.
const FIRST_RANKED_ANEW: usize = 16;

/// Differences in priority smaller than this, in µs, are ignored: they are not worth an order that differs
/// from one build of the same small project to the next.
const NOTICEABLE: u64 = 1_000_000;

/// In builds with more jobs than this, only direct dependents are counted to order jobs of the same
/// priority: to count all takes a bit for each pair of jobs.
const MOST_COUNTED: usize = 4_096;

/// By what factor an estimate of codegen is corrected at most when the frontend has ended.
const MOST_WRONG: u64 = 4;

impl Learned {
    pub(super) fn new(has_guesses: bool, jobs: usize) -> Self {
        Learned {
            correction: Correction::default(),
            has_guesses,
            phases_ended: 0,
            first_ranked_anew: FIRST_RANKED_ANEW.max(jobs / FIRST_RANKED_ANEW),
        }
    }
}

impl<U: Clone + Eq + Hash, J: Task> Scheduler<U, J> {
    /// Picks the next action and carries out the engine's part of it. `None` if no job can run on the
    /// `slots` of the caller.
    ///
    /// Of all that could start, continue or link, the job with the highest priority goes first. A job
    /// starts early only if there is room for it.
    pub fn next(&mut self, slots: usize) -> Option<Action<U, J>> {
        if self.tally.running >= slots {
            return None;
        }
        let id = self.highest().pop()?.id();
        let unit = self.nodes[id].unit.clone();
        Some(match self.nodes[id].state {
            State::Paused => {
                self.pauses.resume(id);
                self.set(id, State::Codegen);
                Action::Resume(unit)
            }
            State::Parked => {
                self.set(id, State::Linking);
                if let Some(permit) = self.nodes[id].permit.take() {
                    permit.send(Permit::Link);
                }
                Action::Link(unit)
            }
            _ => Action::Start(self.start(id, unit)),
        })
    }

    fn start(&mut self, id: usize, unit: U) -> Start<U, J> {
        let job = self.jobs[id].take().expect("a job starts only once");
        if job.is_fresh() {
            self.set(id, State::Fresh);
            return Start {
                unit,
                job,
                is_early: false,
                compiler: Compiler::default(),
            };
        }
        let is_early = !self.nodes[id].all_ready;
        self.nodes[id].started_early = is_early;
        self.set(id, State::Frontend);
        let node = &self.nodes[id];
        let mut compiler = Compiler::default();
        if node.is_linked {
            // Without one, its dependents wait for the end of the job.
            compiler.gate = self.early.gate().cloned();
        }
        if is_early {
            compiler.early =
                (self.early.gate().zip(node.linker.as_ref())).map(|(gate, linker)| EarlyStart {
                    gate: gate.clone(),
                    linker: linker.clone(),
                });
        }
        if node.kind == Kind::Library {
            compiler.handle = self.pauses.handle(id);
        }
        Start {
            unit,
            job,
            is_early,
            compiler,
        }
    }

    /// Stops the compiler of a job that has just written its metadata, if no slot is free and a job of
    /// higher priority can have its slot. `has_token` tells whether another token could be had at once.
    ///
    /// [`pausing`] has the rule.
    pub fn pause_codegen(&mut self, slots: usize, has_token: impl Fn() -> bool) {
        for id in std::mem::take(&mut self.metadata_written) {
            if self.tally.running < slots
                || self.nodes[id].state != State::Codegen
                || self.tally.paused >= self.pauses.places()
                || !pausing::is_worth_a_place(
                    self.nodes[id].work.codegen,
                    self.tally.codegen_left,
                    self.pauses.places(),
                )
            {
                continue;
            }
            let own = self.priority(id);
            let is_higher = self.highest().peek().is_some_and(|it| it.priority > own);
            if is_higher && !has_token() && self.pauses.pause(id) {
                self.set(id, State::Paused);
            }
        }
    }
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    /// Returns the heap whose top is the job of the highest priority, if any job can run.
    fn highest(&mut self) -> &mut BinaryHeap<Candidate> {
        let goes_on = |node: &Node<U>| !self.is_stopping || node.state == State::Paused;
        while let Some(candidate) = self.runnable.peek()
            && let node = &self.nodes[candidate.id()]
            && !(node.turn() == Turn::Runnable && goes_on(node))
        {
            self.runnable.pop();
        }
        while let Some(candidate) = self.ready_early.peek()
            && let node = &self.nodes[candidate.id()]
            && !(node.turn() == Turn::Early && goes_on(node))
        {
            self.ready_early.pop();
        }
        let is_early_higher = self.ready_early.peek() > self.runnable.peek();
        if is_early_higher && self.early.allow(self.tally.early) {
            &mut self.ready_early
        } else {
            &mut self.runnable
        }
    }

    /// Puts a job into the queue in which it waits for its turn, if it does.
    pub(super) fn enqueue(&mut self, id: usize) {
        let candidate = Candidate::new(id, &self.nodes[id], self.priority(id), self.unblocked);
        match self.nodes[id].turn() {
            Turn::Runnable => self.runnable.push(candidate),
            Turn::Early => self.ready_early.push(candidate),
            Turn::Comparable => self.to_compare.push_back(id),
            Turn::Other => {}
        }
    }

    /// Returns the priority of what the job would do next, as far as differences matter.
    fn priority(&self, id: usize) -> u32 {
        let Priority {
            start,
            codegen,
            link,
        } = self.nodes[id].priority;
        let priority = match self.nodes[id].state {
            State::Codegen | State::Paused => codegen,
            State::Parked => link,
            _ => start,
        };
        let noticeable = match self.schedule {
            Schedule::Stock => priority,
            Schedule::CriticalPath => priority / NOTICEABLE,
        };
        u32::try_from(noticeable).unwrap_or(u32::MAX)
    }

    /// Corrects estimates by a phase of a job that has ended, and now and then ranks all jobs again.
    pub(super) fn learn(&mut self, id: usize, phase: Phase, took: u64) {
        if let Estimate::Guessed(guess) = self.nodes[id].estimate {
            self.learned.correction.note(phase, guess.of(phase), took);
        }
        if phase == Phase::Frontend {
            self.correct_codegen(id, took);
        }
        self.learned.phases_ended += 1;
        if self.learned.has_guesses
            && self.learned.phases_ended >= self.learned.first_ranked_anew
            && self.learned.phases_ended.is_power_of_two()
        {
            self.rank_anew();
        }
    }

    /// Expects codegen to differ from its estimate as the frontend did.
    fn correct_codegen(&mut self, id: usize, frontend: u64) {
        let work = self.nodes[id].work;
        if work.frontend == 0 || frontend == 0 {
            return;
        }
        let least = work.codegen / MOST_WRONG;
        let most = work.codegen.saturating_mul(MOST_WRONG);
        let codegen = scaled(work.codegen, frontend, work.frontend).clamp(least, most);
        let is_critical_path = self.schedule == Schedule::CriticalPath;
        self.change(id, |node| {
            node.work = Work { codegen, ..work };
            if is_critical_path {
                node.priority.codegen = codegen.saturating_add(node.priority.link);
            }
        });
    }

    /// Ranks all jobs by what is known by now.
    fn rank_anew(&mut self) {
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            if let (Estimate::Guessed(guess), State::Waiting | State::Ready) =
                (node.estimate, node.state)
            {
                let work = self.learned.correction.apply(guess);
                self.change(id, |node| node.work = work);
            }
        }
        self.rank();
        let runnable = std::mem::take(&mut self.runnable);
        self.runnable = self.ranked_anew(runnable);
        let ready_early = std::mem::take(&mut self.ready_early);
        self.ready_early = self.ranked_anew(ready_early);
    }

    fn ranked_anew(&self, heap: BinaryHeap<Candidate>) -> BinaryHeap<Candidate> {
        let mut candidates = heap.into_vec();
        for candidate in &mut candidates {
            candidate.priority = self.priority(candidate.id());
        }
        candidates.into()
    }

    pub(super) fn count_dependents(&mut self) {
        let is_exact = self.schedule == Schedule::Stock || self.nodes.len() <= MOST_COUNTED;
        let counts = if is_exact {
            self.graph.count_dependents()
        } else {
            let direct = |id| small(self.graph.dependents.of(id).len());
            (0..self.nodes.len()).map(direct).collect()
        };
        for (node, count) in std::iter::zip(&mut self.nodes, counts) {
            node.dependents = count;
        }
    }

    /// Works out the priority of each job.
    pub(super) fn rank(&mut self) {
        let priorities = match self.schedule {
            Schedule::Stock => (self.nodes.iter())
                .map(|node| Priority {
                    start: node.dependents.into(),
                    codegen: node.dependents.into(),
                    // What is parked has done its work, and holds memory until it has linked.
                    link: u64::MAX,
                })
                .collect(),
            Schedule::CriticalPath => priorities(
                |id| self.nodes[id].work,
                |id| self.graph.dependents.of(id),
                &self.graph.dependencies_first,
            ),
        };
        for (node, priority) in std::iter::zip(&mut self.nodes, priorities) {
            node.priority = priority;
        }
    }
}
