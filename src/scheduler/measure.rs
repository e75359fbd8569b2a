//! What jobs have done so far, from their transitions.

use super::estimate::{Measured, Phase, Work};
use crate::job::{State, Transition};

/// Observes transitions and measures what is between them.
#[derive(Debug)]
pub(super) struct Measurements {
    /// When the plan was sealed. µs.
    pub began: u64,
    pub jobs: Vec<Times>,
    pub transitions: Vec<Transition>,
}

/// The times of one job, in µs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// When its state changed last.
    since: u64,
    /// What it has done so far.
    pub worked: Work,
    /// What is known of the phases that have ended.
    pub measured: Measured,
    /// How long it compiled before all that it links was ready, if it started early.
    pub ran_ahead: Option<u64>,
}

impl Measurements {
    pub fn new(jobs: usize, began: u64) -> Self {
        let times = Times {
            since: began,
            worked: Work::default(),
            measured: Measured::default(),
            ran_ahead: None,
        };
        Measurements {
            began,
            jobs: vec![times; jobs],
            transitions: Vec::new(),
        }
    }

    /// Notes a transition and returns the phase that it ends, with what it took. `link` is the estimate for
    /// a compiler that links without having parked.
    pub fn observe(&mut self, transition: Transition, link: u64) -> Option<(Phase, u64)> {
        use State::*;
        let Transition { job, from, to, at } = transition;
        self.transitions.push(transition);
        let times = &mut self.jobs[job];
        let passed = at.saturating_sub(times.since);
        times.since = at;
        match from {
            Frontend => times.worked.frontend = passed,
            Codegen => times.worked.codegen = times.worked.codegen.saturating_add(passed),
            Linking => times.worked.link = passed,
            _ => {}
        }
        if to == Parked {
            times.ran_ahead.get_or_insert(passed);
        }
        let ended = match (from, to) {
            (Frontend, Codegen | Parked) => (Phase::Frontend, passed),
            (Frontend, Done) => (Phase::Frontend, passed.saturating_sub(link)),
            (Codegen, Done) => (Phase::Codegen, times.worked.codegen),
            (Linking, Done) => (Phase::Link, passed),
            _ => return None,
        };
        times.measured.note(ended.0, ended.1);
        Some(ended)
    }

    /// All outputs that a job links have become ready while it compiles.
    pub fn all_ready(&mut self, job: usize, at: u64) {
        let times = &mut self.jobs[job];
        times.ran_ahead = Some(at.saturating_sub(times.since));
    }
}
