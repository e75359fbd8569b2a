//! The queues of jobs that can run, and which job goes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use super::estimate::{Estimate, Phase, Phases, Work, scaled};
use super::node::{Candidate, Node, Turn};
use super::priority::priorities;
use super::{Action, Scheduler, Start, Task};
use crate::config::Schedule;
use crate::graph::{Need, small};
use crate::job::{Compiler, Kind, State};
use crate::link_gate::EarlyStart;
use crate::pause::Handle;
use crate::permit::Permit;

/// Where costs are guessed, jobs are ranked again when this many phases have ended, or one for this many
/// jobs if that is more, and each time that the number has doubled.
const FIRST_RANKED_ANEW: usize = 16;

/// Smaller differences in priority, in µs, are ignored, so that most builds of a small project have the same
/// order.
const NOTICEABLE: u64 = 1_000_000;

/// In builds with more jobs, only direct dependents and dependencies are counted: counting all takes a bit for each pair.
const MOST_COUNTED: usize = 4_096;

/// By what factor an estimate of codegen is corrected at most when the frontend has ended.
const MOST_WRONG: u64 = 4;

/// Jobs that have the same [`Turn`].
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Of all others, and of [local](super::node::Node::local) jobs.
    heaps: [BinaryHeap<Candidate>; 2],
}

impl Queue {
    fn of(&mut self, is_local: bool) -> &mut BinaryHeap<Candidate> {
        &mut self.heaps[usize::from(is_local)]
    }

    /// Returns the heap whose top is the highest candidate. Those that do not wait any more are removed.
    fn highest(
        &mut self,
        has_local_slot: bool,
        waits: impl Fn(usize) -> bool,
    ) -> &mut BinaryHeap<Candidate> {
        for heap in &mut self.heaps {
            while heap.peek().is_some_and(|it| !waits(it.id())) {
                heap.pop();
            }
        }
        let [others, local] = &mut self.heaps;
        if has_local_slot && local.peek() > others.peek() {
            local
        } else {
            others
        }
    }
}

impl<U: Clone + Eq + Hash, J: Task> Scheduler<U, J> {
    /// Picks the next action and carries out the engine's part of it: of all jobs that could start, continue
    /// or link, that of the highest priority. `None` if no job can run on the `slots` of the caller.
    pub fn next(&mut self, slots: usize) -> Option<Action<U, J>> {
        if self.tally.all.running >= slots {
            return None;
        }
        let id = self.highest().pop()?.id();
        let unit = self.nodes[id].unit.clone();
        Some(match self.nodes[id].state {
            State::Paused => {
                self.settings.pauses.resume(id);
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
        let is_fresh = job.is_fresh();
        let is_early = !is_fresh && !self.nodes[id].all_ready;
        self.nodes[id].started_early = is_early;
        let compiler = if is_fresh {
            self.set(id, State::Fresh);
            Compiler::default()
        } else {
            self.set(id, State::Frontend);
            self.compiler(id)
        };
        Start {
            unit,
            job,
            is_early,
            compiler,
        }
    }

    fn compiler(&mut self, id: usize) -> Compiler {
        let (node, early) = (&self.nodes[id], &self.settings.early);
        let mut dependents = self.graph.dependents.of(id);
        let is_linked = dependents.any(|(_, need)| need == Need::AllToLink);
        let hold = node.hold.as_ref().filter(|_| node.started_early);
        Compiler {
            // Without one, its dependents wait for the end of the job.
            gate: is_linked.then(|| early.gate().cloned()).flatten(),
            early: (early.gate().cloned().zip(hold.cloned()))
                .map(|(gate, hold)| EarlyStart { gate, hold }),
            handle: match node.kind {
                Kind::Library => self.settings.pauses.handle(id),
                // Its metadata is looked for in its memory.
                Kind::Other if node.lets_others_start => Some(Handle::default()),
                Kind::Other | Kind::ScriptRun => None,
            },
            watch: self.settings.watch.clone(),
        }
    }

    /// Stops the compiler of a job that has just written its metadata, if no slot is free and a job of
    /// higher priority can have its slot, by the rule of [`pauses`](super::pauses). `has_token` tells whether
    /// another token could be had at once.
    pub fn pause_codegen(&mut self, slots: usize, has_token: impl Fn() -> bool) {
        for id in std::mem::take(&mut self.metadata_written) {
            let node = &self.nodes[id];
            if self.tally.all.running < slots || node.state != State::Codegen {
                continue;
            }
            let (own, codegen) = (self.priority(id), node.work.codegen);
            let is_higher = self.highest().peek().is_some_and(|it| it.priority > own);
            let left = self.tally.codegen_left;
            if is_higher && !has_token() && self.settings.pauses.pause(id, codegen, left) {
                self.set(id, State::Paused);
            }
        }
    }
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    /// Returns the heap whose top is the job of the highest priority, if any job can run.
    fn highest(&mut self) -> &mut BinaryHeap<Candidate> {
        let has_local_slot = self.tally.local.running < self.settings.local_slots;
        let [runnable, ready_early] = [
            (&mut self.runnable, Turn::Runnable),
            (&mut self.ready_early, Turn::Early),
        ]
        .map(|(queue, turn)| {
            queue.highest(has_local_slot, |id| {
                let node = &self.nodes[id];
                node.turn() == turn && (!self.is_stopping || node.state == State::Paused)
            })
        });
        if ready_early.peek() > runnable.peek() && self.settings.early.allow(self.tally.early) {
            ready_early
        } else {
            runnable
        }
    }

    /// Puts a job into the queue in which it waits for its turn, if it does.
    pub(super) fn enqueue(&mut self, id: usize) {
        let candidate = Candidate {
            priority: self.priority(id),
            dependents: self.nodes[id].dependents,
            unblocked: self.unblocked,
            added_last: Reverse(small(id)),
        };
        let is_local = self.nodes[id].is_local;
        match self.nodes[id].turn() {
            Turn::Runnable => self.runnable.of(is_local).push(candidate),
            Turn::Early => self.ready_early.of(is_local).push(candidate),
            Turn::Comparable => self.to_compare.push_back(id),
            Turn::Other => {}
        }
    }

    /// Returns the priority of what the job would do next, as far as differences matter.
    fn priority(&self, id: usize) -> u32 {
        let node = &self.nodes[id];
        let priority = match node.state {
            State::Codegen | State::Paused => node.priority.codegen,
            State::Parked => node.priority.link,
            _ => node.priority.frontend,
        };
        let noticeable = match self.settings.schedule {
            Schedule::Stock => priority,
            Schedule::CriticalPath => priority / NOTICEABLE,
        };
        u32::try_from(noticeable).unwrap_or(u32::MAX)
    }

    /// Corrects estimates by a phase of a job that has ended, and now and then ranks all jobs again.
    pub(super) fn learn(&mut self, id: usize, phase: Phase, took: u64) {
        if let Estimate::Guessed(guess) = self.nodes[id].estimate {
            let guessed = guess.work.of(phase);
            self.correction.note(phase, guess.basis, guessed, took);
        }
        if phase == Phase::Frontend {
            self.correct_codegen(id, took);
        }
        self.phases_ended += 1;
        if self.phases_ended.is_power_of_two()
            && self.phases_ended >= FIRST_RANKED_ANEW.max(self.nodes.len() / FIRST_RANKED_ANEW)
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
        let is_critical_path = self.settings.schedule == Schedule::CriticalPath;
        self.change(id, |node| {
            node.work = Work { codegen, ..work };
            if is_critical_path {
                node.priority.codegen = codegen.saturating_add(node.priority.link);
            }
        });
    }

    /// Ranks all jobs again where costs are guessed, by what is known by now.
    fn rank_anew(&mut self) {
        let is_guessed = |estimate| matches!(estimate, Estimate::Guessed(_));
        if !self.nodes.iter().any(|node| is_guessed(node.estimate)) {
            return;
        }
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            if let (Estimate::Guessed(guess), State::Waiting | State::Ready) =
                (node.estimate, node.state)
            {
                let work = self.correction.apply(guess);
                self.change(id, |node| node.work = work);
            }
        }
        self.rank();
        let [runnable, ready_early] =
            [&mut self.runnable, &mut self.ready_early].map(std::mem::take);
        let ranked = |candidate: Candidate| Candidate {
            priority: self.priority(candidate.id()),
            ..candidate
        };
        let [runnable, ready_early] = [runnable, ready_early].map(|queue| Queue {
            heaps: (queue.heaps).map(|heap| heap.into_iter().map(ranked).collect()),
        });
        (self.runnable, self.ready_early) = (runnable, ready_early);
    }

    pub(super) fn count_dependents(&mut self) {
        let is_stock = self.settings.schedule == Schedule::Stock;
        let counts = if is_stock || self.nodes.len() <= MOST_COUNTED {
            self.graph.count_dependents()
        } else {
            let direct = |id| small(self.graph.dependents.of(id).len());
            (0..self.nodes.len()).map(direct).collect()
        };
        for (node, count) in std::iter::zip(&mut self.nodes, counts) {
            node.dependents = count;
        }
    }

    /// Corrects guesses by the number of dependencies.
    pub(super) fn count_dependencies(&mut self) {
        let is_guessed = |node: &Node<U>| matches!(node.estimate, Estimate::Guessed(_));
        if !self.nodes.iter().any(is_guessed) {
            return;
        }
        let counts = if self.nodes.len() <= MOST_COUNTED {
            self.graph.count_dependencies()
        } else {
            let direct = |id| small(self.graph.needs.of(id).len());
            (0..self.nodes.len()).map(direct).collect()
        };
        for (id, count) in counts.into_iter().enumerate() {
            if let Estimate::Guessed(guess) = self.nodes[id].estimate {
                self.change(id, |node| {
                    node.estimate(Estimate::Guessed(guess.with_dependencies(count)));
                });
            }
        }
    }

    /// Works out the priority of each job.
    pub(super) fn rank(&mut self) {
        if self.settings.schedule == Schedule::Stock {
            for node in &mut self.nodes {
                node.priority = Phases {
                    frontend: node.dependents.into(),
                    codegen: node.dependents.into(),
                    // What is parked has done its work, and holds memory until it has linked.
                    link: u64::MAX,
                };
            }
            return;
        }
        let priorities = priorities(&self.graph, |id| self.nodes[id].work);
        for (node, priority) in std::iter::zip(&mut self.nodes, priorities) {
            node.priority = priority;
        }
    }
}
