//! The compilers of a build that can be paused, and those that are.

use std::collections::HashMap;
use std::path::PathBuf;

use super::pausing;
use crate::config::PauseMemory;
use crate::descriptors;
use crate::memory;
use crate::pause::{self, Handle};

/// Pauses and resumes compilers, within the memory that they may hold meanwhile. Dropping it resumes
/// those that are paused.
#[derive(Debug, Default)]
pub struct Pauses {
    places: usize,
    /// `None` where no compiler runs.
    real: Option<Real>,
}

#[derive(Debug)]
struct Real {
    /// The executable of a process that may be paused.
    rustc: PathBuf,
    slots: usize,
    /// How many bytes all that is paused may hold together.
    most_memory: u64,
    held: u64,
    jobs: HashMap<usize, Pausable>,
}

#[derive(Debug, Default)]
struct Pausable {
    handle: Handle,
    /// Bytes, while it is paused.
    holds: Option<u64>,
}

impl Pauses {
    /// For a build in which nothing is paused.
    pub fn none() -> Self {
        Pauses::default()
    }

    /// For a build that is only simulated, in which this many compilers may be paused at the same time.
    pub fn simulated(places: usize) -> Self {
        Pauses { places, real: None }
    }

    /// For a build with this many job slots, of which `share` tells how much memory may be held. With one
    /// slot there is nothing to gain, and nothing is paused; nor is it where no memory may be held, or
    /// where this system cannot do it. `rustc` is the executable of the compiler itself.
    pub fn new(slots: usize, share: PauseMemory, rustc: PathBuf) -> Self {
        let most_memory = share.bytes(memory::available());
        if slots < 2 || most_memory == 0 || !pause::IS_SUPPORTED {
            return Pauses::none();
        }
        Pauses {
            places: pausing::places(slots),
            real: Some(Real {
                rustc,
                slots,
                most_memory,
                held: 0,
                jobs: HashMap::new(),
            }),
        }
    }

    /// Returns a handle for the compiler of a job that starts. `None` if nothing is paused in this build.
    pub(super) fn handle(&mut self, job: usize) -> Option<Handle> {
        let pausable = Pausable::default();
        let handle = pausable.handle.clone();
        self.real.as_mut()?.jobs.insert(job, pausable);
        Some(handle)
    }

    /// Returns how many may be paused at the same time, if memory permits.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Stops the compiler of this job, if that is possible, and returns whether it has. It is not if it
    /// would hold too much memory together with the others, or if that is not known, if file descriptors
    /// are short, or if it is not rustc itself.
    pub(super) fn pause(&mut self, job: usize) -> bool {
        match &mut self.real {
            Some(real) => real.pause(job),
            None => self.places > 0,
        }
    }

    /// Continues the compiler of this job.
    pub(super) fn resume(&mut self, job: usize) {
        if let Some(real) = &mut self.real
            && let Some(pausable) = real.jobs.get_mut(&job)
        {
            real.held -= pausable.holds.take().unwrap_or(0);
            pausable.handle.resume();
        }
    }

    /// The job has ended.
    pub(super) fn ended(&mut self, job: usize) {
        if let Some(real) = &mut self.real
            && let Some(pausable) = real.jobs.remove(&job)
        {
            real.held -= pausable.holds.unwrap_or(0);
        }
    }
}

impl Real {
    fn pause(&mut self, job: usize) -> bool {
        let Some(pausable) = self.jobs.get_mut(&job) else {
            return false;
        };
        let Some(holds) = pausable.handle.memory() else {
            return false;
        };
        if self.held.saturating_add(holds) > self.most_memory
            || !pausable.handle.runs(&self.rustc)
            || !descriptors::allow_one_more(self.slots)
            || !pausable.handle.pause()
        {
            return false;
        }
        pausable.holds = Some(holds);
        self.held += holds;
        true
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for pausable in self.jobs.values() {
            pausable.handle.resume();
        }
    }
}
