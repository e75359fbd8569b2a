//! The compilers of a build that can be paused, and those that are.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::path::PathBuf;

use super::pausing;
use crate::descriptors;
use crate::memory;
use crate::pause::{self, Handle, PauseMemory};

/// What the queue pauses and continues, within the memory that may be held meanwhile. It knows each job
/// by its unit, and returns `I`, the number of the job. Dropping it continues those that are paused.
pub struct Pauses<U, I> {
    /// The executable of a process that may be paused.
    rustc: PathBuf,
    slots: usize,
    places: usize,
    /// How many bytes all that is paused may hold together.
    most_memory: u64,
    held: u64,
    jobs: HashMap<U, Pausable<I>>,
}

struct Pausable<I> {
    id: I,
    handle: Handle,
    /// Bytes, while it is paused.
    holds: Option<u64>,
}

impl<U: Clone + Eq + Hash, I: Copy> Pauses<U, I> {
    /// For a build in which nothing is paused.
    pub fn none() -> Self {
        Pauses {
            rustc: PathBuf::new(),
            slots: 0,
            places: 0,
            most_memory: 0,
            held: 0,
            jobs: HashMap::new(),
        }
    }

    /// For a build with so many job slots, of which `share` says how much memory may be held. With one
    /// slot there is nothing to gain, and nothing is paused; nor is where no memory may be held, or this
    /// system cannot do it. `rustc` is the executable of the compiler itself.
    pub fn new(slots: usize, share: PauseMemory, rustc: PathBuf) -> Self {
        let most_memory = share.bytes(memory::available());
        if slots < 2 || most_memory == 0 || !pause::IS_SUPPORTED {
            return Pauses::none();
        }
        Pauses {
            rustc,
            slots,
            places: pausing::places(slots),
            most_memory,
            held: 0,
            jobs: HashMap::new(),
        }
    }

    /// A handle for the compiler of a job that starts. `None` if nothing is paused in this build.
    pub fn handle(&mut self, unit: &U, id: I) -> Option<Handle> {
        if self.places == 0 {
            return None;
        }
        let handle = Handle::default();
        let job = Pausable {
            id,
            handle: handle.clone(),
            holds: None,
        };
        self.jobs.insert(unit.clone(), job);
        Some(handle)
    }

    /// How many may be paused at the same time, if memory permits.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Stops the compiler of this job, if that is possible, and returns whether it has. It is not if it
    /// would hold too much memory together with the others, or if that is not known, if file
    /// descriptors are short, or if it is not rustc itself.
    pub fn pause(&mut self, unit: &U) -> bool {
        let Some(job) = self.jobs.get_mut(unit) else {
            return false;
        };
        let Some(holds) = job.handle.memory() else {
            return false;
        };
        if self.held.saturating_add(holds) > self.most_memory
            || !job.handle.runs(&self.rustc)
            || !descriptors::allow_one_more(self.slots)
            || !job.handle.pause()
        {
            return false;
        }
        job.holds = Some(holds);
        self.held += holds;
        true
    }

    /// Continues the compiler of this job.
    pub fn resume(&mut self, unit: &U) -> Option<I> {
        let job = self.jobs.get_mut(unit)?;
        self.held -= job.holds.take().unwrap_or(0);
        job.handle.resume();
        Some(job.id)
    }

    /// The job has ended.
    pub fn ended(&mut self, unit: &U) {
        if let Some(job) = self.jobs.remove(unit) {
            self.held -= job.holds.unwrap_or(0);
        }
    }
}

impl<U, I> Drop for Pauses<U, I> {
    fn drop(&mut self) {
        for job in self.jobs.values() {
            job.handle.resume();
        }
    }
}

impl<U, I> fmt::Debug for Pauses<U, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pauses")
            .field("places", &self.places)
            .field("most_memory", &self.most_memory)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
