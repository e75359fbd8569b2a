//! The gate of one build, and whether there is room at it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Gate;
use super::budget::Budget;

/// Says in one build which jobs may start early, and keeps the gate that they wait at.
///
/// The gate is opened by the first job that writes metadata for a job that could start early, and so
/// not at all where there is nothing to overlap.
pub struct EarlyStarts {
    budget: Budget,
    gate: State,
}

enum State {
    NotOpened { dir: PathBuf, shim: PathBuf },
    Open(Arc<Gate>),
    Unavailable(io::Error),
}

impl EarlyStarts {
    /// For a build with so many job slots, whose gate is to be in `dir`; see [`Gate::open`] for that and
    /// `shim`.
    pub fn new(jobs: u32, dir: PathBuf, shim: PathBuf) -> Self {
        EarlyStarts {
            budget: Budget::new(jobs),
            gate: State::NotOpened { dir, shim },
        }
    }

    /// For a build in which no job starts early.
    pub fn none() -> Self {
        EarlyStarts {
            budget: Budget::new(0),
            gate: State::Unavailable(io::Error::other("no job of this build starts early")),
        }
    }

    /// The gate, opened if it was not open yet.
    ///
    /// # Errors
    ///
    /// Why there is none. It is not tried again: jobs wait for all they need, as without a gate.
    pub fn open(&mut self) -> Result<&Arc<Gate>, &io::Error> {
        if let State::NotOpened { dir, shim } = &self.gate {
            self.gate = match Gate::open(dir, shim) {
                Ok(gate) => State::Open(Arc::new(gate)),
                Err(e) => State::Unavailable(e),
            };
        }
        match &self.gate {
            State::Open(gate) => Ok(gate),
            State::Unavailable(e) => Err(e),
            State::NotOpened { .. } => unreachable!("it was opened just now"),
        }
    }

    /// The gate, if it is open.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        match &self.gate {
            State::Open(gate) => Some(gate),
            State::NotOpened { .. } | State::Unavailable(_) => None,
        }
    }

    /// Whether one more job may start early while `early` have, and do not link yet.
    pub fn allows(&self, early: usize) -> bool {
        matches!(self.gate, State::Open(_)) && self.budget.allows(early)
    }
}
