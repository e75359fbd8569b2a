//! Which compilers are paused at their metadata, and the memory that they hold meanwhile.
//!
//! A compiler that has written its metadata goes on to codegen, which holds up nothing but links. If
//! all slots are taken and a job of higher priority could run, it can be stopped and its slot given away:
//!
//! ```text
//!   going on    [ a: frontend ][ a: codegen ············ ][ b: frontend ][ b: codegen ]
//!   pausing     [ a: frontend ][ b: frontend ][ b: codegen ][ a: codegen ············ ]
//!                              └ c, d and e, which read the metadata of b, need not wait for a
//! ```
//!
//! The price is memory: a stopped compiler keeps everything that it knows about its crate.
//!
//! # The rule
//!
//! A compiler is stopped if a job of higher priority could have its slot and its codegen is worth a place
//! among those that may be stopped: at least a sixth of what each of the places would hold if all codegen
//! that is left were divided among them.
//!
//! `tests/replay/RESULTS.md` compares it with others that were tried.

use std::collections::HashMap;
use std::path::PathBuf;

use super::node::Tally;
use crate::config::PauseMemory;
use crate::descriptors;
use crate::memory;
use crate::pause::{self, Handle};

/// The divisor of a place's share.
const WORTH_A_PLACE: u128 = 6;
/// The least number of compilers that may be paused at the same time, memory permitting.
const LEAST_PLACES: usize = 4;

/// Pauses and resumes compilers, within the memory that they may hold meanwhile. Dropping it resumes
/// those that are paused.
#[derive(Debug, Default)]
pub struct Pauses {
    places: usize,
    slots: usize,
    /// How many bytes all that is paused may hold together.
    most_memory: u64,
    /// The executable of a process that may be paused. `None` where no compiler runs.
    rustc: Option<PathBuf>,
    /// The compiler of each job that runs, and how many bytes it holds while it is paused.
    compilers: HashMap<usize, (Handle, u64)>,
}

impl Pauses {
    /// For a build in which nothing is paused.
    pub fn none() -> Self {
        Pauses::default()
    }

    /// For a build that is only simulated, in which this many compilers may be paused at the same time.
    pub fn simulated(places: usize) -> Self {
        let mut pauses = Pauses::none();
        pauses.places = places;
        pauses
    }

    /// For a build with this many job slots, whose paused compilers may hold `share` of the memory. `rustc`
    /// is the executable of the compiler itself. With one slot there is nothing to gain, so nothing is paused.
    pub fn new(slots: usize, share: PauseMemory, rustc: PathBuf) -> Self {
        let most_memory = share.bytes(memory::available());
        if slots < 2 || most_memory == 0 || !pause::IS_SUPPORTED {
            return Pauses::none();
        }
        Pauses {
            places: places(slots),
            slots,
            most_memory,
            rustc: Some(rustc),
            compilers: HashMap::new(),
        }
    }

    /// Returns a handle for the compiler of a job that starts. `None` if nothing is paused in this build.
    pub(super) fn handle(&mut self, job: usize) -> Option<Handle> {
        self.rustc.as_ref()?;
        let handle = Handle::default();
        self.compilers.insert(job, (handle.clone(), 0));
        Some(handle)
    }

    /// Whether one more compiler, whose codegen takes this many µs, is worth a place that is free.
    pub(super) fn have_place(&self, tally: &Tally, codegen: u64) -> bool {
        tally.paused < self.places && is_worth_a_place(codegen, tally.codegen_left, self.places)
    }

    /// Tries to stop the compiler of this job. Returns false if it would hold too much memory together with
    /// the others, or an unknown amount, if file descriptors are short, or if it is not rustc itself.
    pub(super) fn pause(&mut self, job: usize) -> bool {
        let Some(rustc) = &self.rustc else {
            return true;
        };
        let held: u64 = self.compilers.values().map(|(_, held)| held).sum();
        let Some((handle, holds)) = self.compilers.get_mut(&job) else {
            return false;
        };
        match handle.memory() {
            Some(memory)
                if held.saturating_add(memory) <= self.most_memory
                    && handle.runs(rustc)
                    && descriptors::allow_one_more(self.slots)
                    && handle.pause() =>
            {
                *holds = memory;
                true
            }
            _ => false,
        }
    }

    /// Continues the compiler of this job.
    pub(super) fn resume(&mut self, job: usize) {
        if let Some((handle, holds)) = self.compilers.get_mut(&job) {
            handle.resume();
            *holds = 0;
        }
    }

    /// The job has ended.
    pub(super) fn ended(&mut self, job: usize) {
        self.compilers.remove(&job);
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        for (handle, _) in self.compilers.values() {
            handle.resume();
        }
    }
}

/// Returns how many compilers may be paused at the same time with this many job slots, memory permitting.
pub fn places(slots: usize) -> usize {
    slots.max(LEAST_PLACES)
}

/// Whether a codegen is worth one of the places, when all that is left takes `codegen_left`. In µs.
fn is_worth_a_place(codegen: u64, codegen_left: u128, places: usize) -> bool {
    let places = u128::try_from(places).unwrap_or(u128::MAX);
    (u128::from(codegen).saturating_mul(places)).saturating_mul(WORTH_A_PLACE) >= codegen_left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixth_of_the_share() {
        assert!(is_worth_a_place(50, 1_200, 4));
        assert!(!is_worth_a_place(49, 1_200, 4));
        assert!(is_worth_a_place(49, 1_200, 8));
        assert!(!is_worth_a_place(0, 1, usize::MAX));
        assert!(is_worth_a_place(u64::MAX, u128::MAX, usize::MAX));
    }

    #[test]
    fn few_slots_still_have_places() {
        assert_eq!([1, 4, 64].map(places), [4, 4, 64]);
    }
}
