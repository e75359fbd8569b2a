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
    /// Whether the caller knows that the gate was given up.
    is_reported: bool,
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
            is_reported: false,
        }
    }

    /// For a build in which no job starts early.
    pub fn none() -> Self {
        EarlyStarts {
            budget: Budget::new(0),
            gate: State::Unavailable(io::Error::other("no job of this build starts early")),
            is_reported: false,
        }
    }

    /// The gate, opened if it was not open yet.
    ///
    /// # Errors
    ///
    /// Why there is none. It is not tried again: jobs wait for all they need, as without a gate.
    pub fn open(&mut self) -> Result<&Arc<Gate>, &io::Error> {
        if let State::NotOpened { dir, shim } = &self.gate {
            let opened = if self.budget.allows(0) {
                Gate::open(dir, shim)
            } else {
                Err(io::Error::other("there is no room for early starts"))
            };
            self.gate = match opened {
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
        let is_open = matches!(&self.gate, State::Open(gate) if gate.given_up().is_none());
        is_open && self.budget.allows(early)
    }

    /// Why no more jobs start early, once, after one could not be held at its linker.
    pub fn newly_given_up(&mut self) -> Option<&'static str> {
        let reason = self.gate()?.given_up().filter(|_| !self.is_reported)?;
        self.is_reported = true;
        Some(reason)
    }
}
