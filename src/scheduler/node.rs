//! What the scheduler knows of one job.

use std::cmp::Reverse;

use super::estimate::{Estimate, Measured, Phase, Phases, Work};
use crate::graph::Artifact;
use crate::job::{Kind, State, Transition};
use crate::link_gate::Hold;
use crate::permit::PermitSender;

/// What a job waits for, as the scheduler's queues have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A slot, to start, continue or link.
    Runnable,
    /// A slot, and room to start early.
    Early,
    /// Its comparison.
    Comparable,
    /// Something else, or nothing.
    Other,
}

/// What is known of a job besides its needs. The methods set what differs from the default.
#[derive(Debug)]
pub struct Node<U> {
    pub(super) unit: U,
    pub(super) kind: Kind,
    pub(super) hold: Option<Hold>,
    pub(super) is_local: bool,
    pub(super) state: State,
    /// The last artifact that it has produced.
    pub(super) produced: Option<Artifact>,
    /// All outputs that it needs are ready.
    pub(super) all_ready: bool,
    /// It was started before all outputs that it needs were ready.
    pub(super) started_early: bool,
    /// A dependent can start on its metadata.
    pub(super) lets_others_start: bool,
    /// Its inputs have to be compared, or were compared.
    pub(super) is_conditional: bool,
    /// What has to be compared before it may start, when it is ready: the metadata of its dependencies, and
    /// if that came out the same, all outputs.
    pub(super) to_compare: Option<Artifact>,
    pub(super) estimate: Estimate,
    /// The estimate, corrected by what this build has shown.
    pub(super) work: Work,
    /// How long the longest path from the beginning of each phase to the end of the build takes, in µs.
    pub(super) priority: Phases<u64>,
    /// The number of its dependents, direct or not, and itself; in large builds only the direct ones.
    pub(super) dependents: u32,
    /// Lets it link, while it is parked. Dropping it aborts the job.
    pub(super) permit: Option<PermitSender>,
    /// When its state changed last, in µs.
    pub(super) since: u64,
    /// What it has done so far.
    pub(super) took: Measured,
    /// How long it compiled before all that it links was ready, in µs, if it started early.
    pub(super) ran_ahead: Option<u64>,
}

impl<U> Node<U> {
    pub(super) fn new(unit: U) -> Self {
        Node {
            unit,
            kind: Kind::default(),
            hold: None,
            is_local: false,
            state: State::Waiting,
            produced: None,
            all_ready: false,
            started_early: false,
            lets_others_start: false,
            is_conditional: false,
            to_compare: None,
            estimate: Estimate::Measured(Work::default()),
            work: Work::default(),
            priority: Phases::default(),
            dependents: 0,
            permit: None,
            since: 0,
            took: Measured::default(),
            ran_ahead: None,
        }
    }

    /// Sets what kind of work it does.
    pub fn kind(&mut self, kind: Kind) -> &mut Self {
        self.kind = kind;
        self
    }

    /// Sets where it is held if it starts early. Otherwise it needs to start what it needs to link.
    pub fn hold(&mut self, hold: Option<Hold>) -> &mut Self {
        self.hold = hold;
        self
    }

    /// Sets whether it runs on this machine although a wrapper of the compiler may use others.
    pub fn local(&mut self, is_local: bool) -> &mut Self {
        self.is_local = is_local;
        self
    }

    /// Sets what it probably costs.
    pub fn estimate(&mut self, estimate: Estimate) -> &mut Self {
        self.estimate = estimate;
        self.work = estimate.work();
        self
    }

    /// Sets whether it may turn out to be up to date: before it starts, its inputs have to be
    /// [compared](super::Scheduler::next_to_compare).
    pub fn conditional(&mut self, is_conditional: bool) -> &mut Self {
        self.is_conditional = is_conditional;
        self.to_compare = is_conditional.then_some(Artifact::Metadata);
        self
    }

    pub(super) fn turn(&self) -> Turn {
        match (self.state, self.to_compare) {
            (State::Ready, Some(Artifact::Metadata)) => Turn::Comparable,
            (State::Ready, Some(Artifact::All)) if self.all_ready => Turn::Comparable,
            (State::Ready, None) if self.all_ready => Turn::Runnable,
            (State::Ready, None) => Turn::Early,
            (State::Parked, _) if self.all_ready => Turn::Runnable,
            (State::Paused, _) => Turn::Runnable,
            _ => Turn::Other,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        use State::*;
        let turn = self.turn();
        let codegen_left = match self.state {
            Waiting | Ready | Frontend | Codegen | Paused if self.lets_others_start => {
                self.work.codegen
            }
            _ => 0,
        };
        let slots = Slots {
            running: usize::from(self.state.is_running()),
            runnable: usize::from(turn == Turn::Runnable),
            ready_early: usize::from(turn == Turn::Early),
        };
        Tally {
            unstarted: usize::from(matches!(self.state, Waiting | Ready)),
            all: slots,
            local: if self.is_local {
                slots
            } else {
                Slots::default()
            },
            paused: usize::from(self.state == Paused),
            early: usize::from(
                self.started_early && matches!(self.state, Frontend | Codegen | Paused | Parked),
            ),
            codegen_left: codegen_left.into(),
        }
    }

    /// Returns how long it has compiled until its state changed last, in µs.
    pub(super) fn compiled(&self) -> u64 {
        let Work {
            frontend, codegen, ..
        } = self.took.work();
        frontend.saturating_add(codegen)
    }

    /// Subtracts the link, as estimated, from what it took together with the compilation, in µs. It may be
    /// estimated too high, and does not take most.
    pub(super) fn without_link(&self, took: u64) -> u64 {
        took - self.work.link.min(took / 2)
    }

    /// Measures what the job has done until a transition. Returns the phase that it ends and what that took.
    /// The link of a job that did not park is subtracted as estimated.
    pub(super) fn observe(&mut self, transition: Transition) -> Option<(Phase, u64)> {
        use State::*;
        let passed = transition.at.saturating_sub(self.since);
        self.since = transition.at;
        let phase = match transition.from {
            Frontend => Phase::Frontend,
            Codegen => Phase::Codegen,
            Linking => Phase::Link,
            Paused if matches!(transition.to, Parked | Done) => {
                // Another process has resumed it: for how long it ran is not known.
                self.took.codegen = None;
                return None;
            }
            _ => return None,
        };
        let took = self.took.of(phase).unwrap_or(0).saturating_add(passed);
        *self.took.of_mut(phase) = Some(took);
        match (transition.from, transition.to) {
            (Frontend, Done) => Some((phase, self.without_link(took))),
            (Frontend, Codegen) | (Codegen | Linking, Done) => Some((phase, took)),
            (Frontend | Codegen, Parked) => {
                self.ran_ahead.get_or_insert(self.compiled());
                Some((phase, took))
            }
            _ => None,
        }
    }
}

/// Sums over jobs, which follow from their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Jobs that wait or are ready.
    pub unstarted: usize,
    pub all: Slots,
    /// Of [local](Node::local) jobs.
    pub local: Slots,
    pub paused: usize,
    /// Jobs that started early and do not link yet.
    pub early: usize,
    /// Codegen that dependents need not wait for, in µs.
    pub codegen_left: u128,
}

impl Tally {
    /// Counts a job as `new` that was counted as `old`.
    pub fn replace(&mut self, old: &Tally, new: &Tally) {
        self.unstarted = self.unstarted - old.unstarted + new.unstarted;
        self.all.replace(&old.all, &new.all);
        self.local.replace(&old.local, &new.local);
        self.paused = self.paused - old.paused + new.paused;
        self.early = self.early - old.early + new.early;
        self.codegen_left = self.codegen_left - old.codegen_left + new.codegen_left;
    }
}

/// How many jobs have a slot, or could have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    pub running: usize,
    /// Jobs that could start, continue or link.
    pub runnable: usize,
    /// Jobs that could start early.
    pub ready_early: usize,
}

impl Slots {
    fn replace(&mut self, old: &Slots, new: &Slots) {
        self.running = self.running - old.running + new.running;
        self.runnable = self.runnable - old.runnable + new.runnable;
        self.ready_early = self.ready_early - old.ready_early + new.ready_early;
    }

    /// Returns how many slots all could use of whom `local` have only `local_slots`.
    pub fn wanted(&self, local: &Slots, local_slots: usize, with_early: bool) -> usize {
        let waiting = |it: &Slots| it.runnable + if with_early { it.ready_early } else { 0 };
        let left = local_slots.saturating_sub(local.running);
        self.running + waiting(self) - waiting(local).saturating_sub(left)
    }
}

/// A job that may start, continue or link. The greatest goes first. Of those with equal priority and
/// dependents, it is the one that was unblocked last, as Cargo has always done it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub priority: u32,
    pub dependents: u32,
    pub unblocked: u32,
    pub added_last: Reverse<u32>,
}

impl Candidate {
    pub fn id(&self) -> usize {
        self.added_last.0 as usize
    }
}
