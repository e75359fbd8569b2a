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
//! A compiler is stopped if a job of higher priority could have its slot, if its memory is within the
//! [budget](Budget) together with that of the others, and if its codegen is worth it: at least a tenth of what it
//! would be if all codegen that is left were divided among the memory that may be held.
//!
//! `tests/replay/RESULTS.md` compares it with others that were tried.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::PauseMemory;
use crate::descriptors;
use crate::memory;
use crate::pause::{self, Handle};

/// The divisor of a share of the memory.
const WORTH_ITS_MEMORY: u128 = 10;

/// How many bytes a large compiler holds, until a larger one was seen.
const LARGE: u64 = 256 << 20;

/// The share of the available memory, in percent, that paused compilers hold at most, unless the user says
/// otherwise.
const SHARE: PauseMemory = PauseMemory::Percent(25);

/// How much memory paused compilers may hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// A number of bytes.
    Bytes(u64),
    /// `largest` for each of the `slots`, at most `most` bytes: what those that run hold if each is as large as
    /// the largest that was considered.
    AsRunning {
        /// Bytes, when its metadata was written.
        largest: u64,
        /// The number of job slots.
        slots: u64,
        /// Bytes.
        most: u64,
    },
}

impl Budget {
    /// For a build of this many job slots, at most `most` bytes.
    pub fn as_running(slots: u64, most: u64) -> Self {
        Budget::AsRunning {
            largest: LARGE,
            slots,
            most,
        }
    }

    /// Notes what a compiler holds, in bytes.
    fn see(&mut self, memory: u64) {
        if let Budget::AsRunning { largest, .. } = self {
            *largest = memory.max(*largest);
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::AsRunning {
                largest,
                slots,
                most,
            } => largest.saturating_mul(slots).min(most),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::Bytes(0)
    }
}

/// Pauses and resumes compilers, within the memory that they may hold meanwhile. Dropping it resumes
/// those that are paused.
#[derive(Debug, Default)]
pub struct Pauses {
    budget: Budget,
    slots: usize,
    compilers: Compilers,
    /// How many bytes each compiler holds that is paused.
    held: HashMap<usize, u64>,
}

#[derive(Debug)]
enum Compilers {
    /// The executable of a process that may be paused, and the compiler of each job that runs.
    Real(PathBuf, HashMap<usize, Handle>),
    /// How many bytes the compiler of each job holds, one if there is no figure.
    Simulated(Vec<u64>),
}

impl Default for Compilers {
    fn default() -> Self {
        Compilers::Simulated(Vec::new())
    }
}

impl Pauses {
    /// For a build in which nothing is paused.
    pub fn none() -> Self {
        Pauses::default()
    }

    /// For a build that is only simulated. Each compiler holds as many bytes as `memory` has for its job, in the
    /// order in which they were added, or else one.
    pub fn simulated(budget: Budget, memory: Vec<u64>) -> Self {
        Pauses {
            budget,
            slots: 0,
            compilers: Compilers::Simulated(memory),
            held: HashMap::new(),
        }
    }

    /// For a build with this many job slots, whose paused compilers may hold as much memory as the user says.
    /// `rustc` is the executable of the compiler itself. With one slot there is nothing to gain, so nothing is
    /// paused.
    pub fn new(slots: usize, said: Option<PauseMemory>, rustc: PathBuf) -> Self {
        let available = memory::available();
        let budget = match said {
            Some(memory) => Budget::Bytes(memory.bytes(available)),
            None => {
                let slots = u64::try_from(slots).unwrap_or(u64::MAX);
                Budget::as_running(slots, SHARE.bytes(available))
            }
        };
        if slots < 2 || budget.bytes() == 0 || !pause::IS_SUPPORTED {
            return Pauses::none();
        }
        Pauses {
            budget,
            slots,
            compilers: Compilers::Real(rustc, HashMap::new()),
            held: HashMap::new(),
        }
    }

    /// Returns a handle for the compiler of a job that starts. `None` if nothing is paused in this build.
    pub(super) fn handle(&mut self, job: usize) -> Option<Handle> {
        let Compilers::Real(_, handles) = &mut self.compilers else {
            return None;
        };
        Some(handles.entry(job).or_default().clone())
    }

    /// Tries to stop the compiler of this job, whose codegen takes this many µs of `codegen_left`. Returns
    /// false if it is not worth the memory that it holds, if that is too much together with the others, or
    /// unknown, if file descriptors are short, or if it is not rustc itself.
    pub(super) fn pause(&mut self, job: usize, codegen: u64, codegen_left: u128) -> bool {
        let memory = match &self.compilers {
            Compilers::Real(_, handles) => handles.get(&job).and_then(Handle::memory),
            Compilers::Simulated(memory) => Some(memory.get(job).copied().unwrap_or(1)),
        };
        let Some(memory) = memory else {
            return false;
        };
        self.budget.see(memory);
        let most = self.budget.bytes();
        let all: u64 = self.held.values().sum();
        let fits =
            all.saturating_add(memory) <= most && is_worth(codegen, codegen_left, memory, most);
        if fits && self.stop(job) {
            self.held.insert(job, memory);
            return true;
        }
        false
    }

    fn stop(&self, job: usize) -> bool {
        let Compilers::Real(rustc, handles) = &self.compilers else {
            return true;
        };
        handles.get(&job).is_some_and(|handle| {
            handle.runs(rustc) && descriptors::allow_one_more(self.slots) && handle.pause()
        })
    }

    /// Continues the compiler of this job.
    pub(super) fn resume(&mut self, job: usize) {
        self.held.remove(&job);
        if let Compilers::Real(_, handles) = &self.compilers
            && let Some(handle) = handles.get(&job)
        {
            handle.resume();
        }
    }

    /// The job has ended.
    pub(super) fn ended(&mut self, job: usize) {
        self.held.remove(&job);
        if let Compilers::Real(_, handles) = &mut self.compilers {
            handles.remove(&job);
        }
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        if let Compilers::Real(_, handles) = &self.compilers {
            for handle in handles.values() {
                handle.resume();
            }
        }
    }
}

/// Whether a codegen of this many µs is worth the memory that its compiler holds meanwhile, in bytes, when
/// all that is left takes `codegen_left` µs.
fn is_worth(codegen: u64, codegen_left: u128, memory: u64, most_memory: u64) -> bool {
    let [codegen, memory, most_memory] = [codegen, memory, most_memory].map(u128::from);
    let share = codegen.saturating_mul(most_memory);
    share.saturating_mul(WORTH_ITS_MEMORY) >= codegen_left.saturating_mul(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_share() {
        assert!(is_worth(30, 1_200, 1, 4));
        assert!(!is_worth(29, 1_200, 1, 4));
        assert!(is_worth(29, 1_200, 1, 8));
        assert!(!is_worth(29, 1_200, 2, 8));
        assert!(!is_worth(0, 1, 1, u64::MAX));
        assert!(is_worth(u64::MAX, u128::MAX, 1, u64::MAX));
    }

    #[test]
    fn budget_grows_with_the_largest() {
        let mut budget = Budget::AsRunning {
            largest: 100,
            slots: 4,
            most: 1_000,
        };
        for (memory, expected) in [(50, 400), (200, 800), (100, 800), (300, 1_000)] {
            budget.see(memory);
            assert_eq!(budget.bytes(), expected);
        }
        let mut fixed = Budget::Bytes(7);
        fixed.see(u64::MAX);
        assert_eq!(fixed.bytes(), 7);
    }
}
