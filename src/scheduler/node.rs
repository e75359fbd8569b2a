//! What the scheduler knows of one job.

use std::cmp::Reverse;
use std::ops::{AddAssign, SubAssign};

use super::estimate::{Estimate, Work};
use super::priority::Priority;
use crate::graph::small;
use crate::job::{Kind, State};
use crate::link_gate::HeldLinker;
use crate::permit::PermitSender;

/// What has to be compared before a job may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing, or nothing any more.
    #[default]
    None,
    /// What it compiles against, when that is ready.
    ToStart,
    /// What it links, when that is ready. What it compiles against came out the same.
    ToLink,
}

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

#[derive(Debug)]
pub(super) struct Node<U> {
    pub unit: U,
    pub kind: Kind,
    pub linker: Option<HeldLinker>,
    pub state: State,
    /// All outputs that it needs are ready.
    pub all_ready: bool,
    /// It was started before all outputs that it needs were ready.
    pub started_early: bool,
    /// A dependent needs all of it only to link.
    pub is_linked: bool,
    /// A dependent can start on its metadata.
    pub lets_others_start: bool,
    /// Its inputs have to be compared, or were.
    pub is_conditional: bool,
    pub condition: Condition,
    pub estimate: Estimate,
    /// The estimate, corrected by what this build has shown.
    pub work: Work,
    pub priority: Priority,
    /// The number of its dependents, direct or not, and itself; in large builds only the direct ones.
    pub dependents: u32,
    /// Lets it link, while it is parked. Dropping it aborts the job.
    pub permit: Option<PermitSender>,
}

impl<U> Node<U> {
    pub fn turn(&self) -> Turn {
        match (self.state, self.condition) {
            (State::Ready, Condition::ToStart) => Turn::Comparable,
            (State::Ready, Condition::ToLink) if self.all_ready => Turn::Comparable,
            (State::Ready, Condition::ToLink) => Turn::Other,
            (State::Ready, Condition::None) if self.all_ready => Turn::Runnable,
            (State::Ready, Condition::None) => Turn::Early,
            (State::Parked, _) if self.all_ready => Turn::Runnable,
            (State::Paused, _) => Turn::Runnable,
            _ => Turn::Other,
        }
    }

    pub fn tally(&self) -> Tally {
        use State::*;
        let turn = self.turn();
        let is_codegen_left = matches!(
            self.state,
            Waiting | Ready | Frontend | Codegen | Paused if self.lets_others_start
        );
        Tally {
            unstarted: usize::from(matches!(self.state, Waiting | Ready)),
            running: usize::from(self.state.is_running()),
            paused: usize::from(self.state == Paused),
            early: usize::from(self.started_early && matches!(self.state, Frontend | Parked)),
            runnable: usize::from(turn == Turn::Runnable),
            ready_early: usize::from(turn == Turn::Early),
            codegen_left: if is_codegen_left {
                self.work.codegen.into()
            } else {
                0
            },
        }
    }
}

/// Sums over jobs, which follow from their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Jobs that wait or are ready.
    pub unstarted: usize,
    /// Jobs on a slot.
    pub running: usize,
    pub paused: usize,
    /// Jobs that started early and do not link yet.
    pub early: usize,
    /// Jobs that could start, continue or link.
    pub runnable: usize,
    /// Jobs that could start early.
    pub ready_early: usize,
    /// Codegen that dependents need not wait for, in µs.
    pub codegen_left: u128,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.unstarted += other.unstarted;
        self.running += other.running;
        self.paused += other.paused;
        self.early += other.early;
        self.runnable += other.runnable;
        self.ready_early += other.ready_early;
        self.codegen_left += other.codegen_left;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Tally) {
        self.unstarted -= other.unstarted;
        self.running -= other.running;
        self.paused -= other.paused;
        self.early -= other.early;
        self.runnable -= other.runnable;
        self.ready_early -= other.ready_early;
        self.codegen_left -= other.codegen_left;
    }
}

/// How many needs of a job are not satisfied. Kept apart from the rest: most often others are missing, and
/// nothing else has to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// So that it cannot start.
    pub to_start: u32,
    pub altogether: u32,
}

/// A job that may start, continue or link. The greatest goes first: the one with the highest priority,
/// among equals the one with the most dependents, then the one that was unblocked last, as Cargo has
/// always done it, and among those the one that was added first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub priority: u32,
    pub dependents: u32,
    pub unblocked: u32,
    pub added_last: Reverse<u32>,
}

impl Candidate {
    pub fn new<U>(id: usize, node: &Node<U>, priority: u32, unblocked: u32) -> Self {
        Candidate {
            priority,
            dependents: node.dependents,
            unblocked,
            added_last: Reverse(small(id)),
        }
    }

    pub fn id(&self) -> usize {
        self.added_last.0 as usize
    }
}
