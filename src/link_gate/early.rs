//! Which jobs of a build may start early.
//!
//! A compiler that waits at its linker holds no slot and takes no time, but it has everything in memory
//! that it has learned about its crate, and pipes to cargo. So their number is bounded, and no more are
//! started while memory or file descriptors are short.

use std::path::PathBuf;
use std::sync::Arc;

use super::Gate;
use crate::descriptors;
use crate::memory::{Bound, Bounds};

/// How many compilers may be early for each job slot.
const EARLY_PER_JOB: usize = 2;
/// One part in this many of all memory must be available.
const AVAILABLE_SHARE: u64 = 4;

/// Decides in one build which jobs may start early, and keeps the gate that holds them.
///
/// The gate is opened by the first job that writes metadata for a job that could start early, and so
/// not at all where there is nothing to overlap.
#[derive(Debug)]
pub struct EarlyStarts {
    jobs: usize,
    memory: Bounds,
    gate: State,
    /// The caller knows that the gate was given up.
    is_reported: bool,
}

#[derive(Debug)]
enum State {
    NotOpened {
        dir: PathBuf,
        shim: PathBuf,
    },
    Open(Arc<Gate>),
    Unavailable,
    /// No compiler runs: only the number counts.
    Simulated,
}

impl EarlyStarts {
    /// For a build with this many job slots, whose gate is to be in `dir`; see [`Gate::open`] for that
    /// and `shim`.
    pub fn new(jobs: u32, dir: PathBuf, shim: PathBuf) -> Self {
        EarlyStarts::with(
            jobs,
            Bounds::of_this_process(),
            State::NotOpened { dir, shim },
        )
    }

    /// For a build in which no job starts early.
    pub fn none() -> Self {
        EarlyStarts::with(0, Bounds::of_this_process(), State::Unavailable)
    }

    /// For a build with this many job slots that is only simulated.
    pub fn simulated(jobs: u32) -> Self {
        EarlyStarts::with(jobs, Bounds::of_this_process(), State::Simulated)
    }

    fn with(jobs: u32, memory: Bounds, gate: State) -> Self {
        EarlyStarts {
            jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            memory,
            gate,
            is_reported: false,
        }
    }

    /// Returns the gate, opened if it was not open yet. `None` if it cannot be opened, which is not tried
    /// again: jobs wait for all they need, as without a gate.
    pub fn open(&mut self) -> Option<&Arc<Gate>> {
        if let State::NotOpened { dir, shim } = &self.gate {
            let opened = self.have_room(0).then(|| Gate::open(dir, shim).ok());
            self.gate = match opened.flatten() {
                Some(gate) => State::Open(Arc::new(gate)),
                None => State::Unavailable,
            };
        }
        self.gate()
    }

    /// Returns the gate, if it is open.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        match &self.gate {
            State::Open(gate) => Some(gate),
            State::NotOpened { .. } | State::Unavailable | State::Simulated => None,
        }
    }

    /// Whether one more job may start early while `early` jobs have and do not link yet.
    ///
    /// They must be fewer than two for each job slot, there must be file descriptors for a full set of
    /// jobs beside it, and a quarter of all memory must be available: of the machine's, as
    /// `/proc/meminfo` has it, and of what each control group of this process may use. Where that is
    /// not known, on other systems than Linux for example, only the number counts.
    ///
    /// Reads a handful of files of the kernel; it does not block.
    pub fn allow(&self, early: usize) -> bool {
        match &self.gate {
            State::Open(gate) => gate.given_up().is_none() && self.have_room(early),
            State::Simulated => early < self.jobs.saturating_mul(EARLY_PER_JOB),
            State::NotOpened { .. } | State::Unavailable => false,
        }
    }

    fn have_room(&self, early: usize) -> bool {
        early < self.jobs.saturating_mul(EARLY_PER_JOB)
            && descriptors::allow_one_more(self.jobs)
            && self.memory.now().all(is_enough)
    }

    /// Returns why no more jobs start early, once, after one could not be held at its linker.
    pub fn newly_given_up(&mut self) -> Option<&'static str> {
        let reason = self.gate()?.given_up().filter(|_| !self.is_reported)?;
        self.is_reported = true;
        Some(reason)
    }
}

fn is_enough(memory: Bound) -> bool {
    memory.available.saturating_mul(AVAILABLE_SHARE) >= memory.all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::bounds_in;

    const MEMINFO: &str = "MemTotal:       16000000 kB\nMemFree:          100000 kB\n\
        MemAvailable:    4000000 kB\n";

    fn have_room(jobs: u32, early: usize, files: &[(&str, &str)]) -> bool {
        EarlyStarts::with(jobs, bounds_in(files), State::Unavailable).have_room(early)
    }

    #[test]
    fn two_per_slot_where_memory_is_unknown() {
        assert!(have_room(3, 0, &[]) && have_room(3, 5, &[]));
        assert!(!have_room(3, 6, &[]) && !have_room(3, usize::MAX, &[]));
        assert!(!have_room(0, 0, &[]));
    }

    #[test]
    fn quarter_of_the_machine() {
        assert!(have_room(1, 1, &[("/proc/meminfo", MEMINFO)]));
        let less = MEMINFO.replace("4000000", "3999999");
        assert!(!have_room(1, 1, &[("/proc/meminfo", &less)]));
    }

    #[test]
    fn quarter_of_every_control_group() {
        let files = |max, current, stat| {
            [
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/cgroup", "1:name=x:/y\n0::/user.slice/build\n"),
                ("/sys/fs/cgroup/user.slice/build/memory.max", "max\n"),
                ("/sys/fs/cgroup/user.slice/memory.max", max),
                ("/sys/fs/cgroup/user.slice/memory.current", current),
                ("/sys/fs/cgroup/user.slice/memory.stat", stat),
            ]
        };
        for (max, current, stat, expected) in [
            ("1000\n", "750\n", "anon 750\ninactive_file 0\n", true),
            ("1000\n", "751\n", "anon 750\ninactive_file 0\n", false),
            ("1000\n", "951\n", "anon 750\ninactive_file 201\n", true),
            ("1000\n", "1951\n", "inactive_file 201\n", false),
            ("max\n", "951\n", "inactive_file 0\n", true),
            ("1000\n", "951\n", "", true),
            ("0\n", "0\n", "inactive_file 7\n", true),
        ] {
            let has_room = have_room(1, 0, &files(max, current, stat));
            assert_eq!(has_room, expected, "{max} {current} {stat}");
        }
    }
}
