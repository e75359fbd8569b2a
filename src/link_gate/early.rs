//! Which jobs of a build may start early.
//!
//! A compiler that waits at its linker holds memory and pipes. So their number is bounded, and no more are
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
#[derive(Debug)]
pub struct EarlyStarts {
    jobs: usize,
    memory: Bounds,
    /// Without it no compiler runs.
    gate: Option<Arc<Gate>>,
    /// The caller knows that the gate was given up.
    is_reported: bool,
}

impl EarlyStarts {
    /// For a build with this many job slots, whose gate is opened in `dir`; see [`Gate::open`] for that
    /// and `shim`. If it cannot be opened, no job starts early.
    pub fn new(jobs: u32, dir: PathBuf, shim: PathBuf) -> Self {
        match Gate::open(dir, shim) {
            Ok(gate) => EarlyStarts {
                gate: Some(Arc::new(gate)),
                ..EarlyStarts::simulated(jobs)
            },
            Err(_) => EarlyStarts::none(),
        }
    }

    /// For a build in which no job starts early.
    pub fn none() -> Self {
        EarlyStarts::simulated(0)
    }

    /// For a build with this many job slots that is only simulated: only the number counts.
    pub fn simulated(jobs: u32) -> Self {
        EarlyStarts {
            jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            memory: Bounds::of_this_process(),
            gate: None,
            is_reported: false,
        }
    }

    /// Returns the gate, if there is one.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// Whether one more job may start early while `early` jobs have and do not link yet.
    ///
    /// They must be fewer than two for each job slot, there must be file descriptors for a full set of
    /// jobs beside it, and a quarter of all memory must be available: of the machine's, and of what each control
    /// group of this process may use. What is not known does not count.
    pub fn allow(&self, early: usize) -> bool {
        early < self.jobs.saturating_mul(EARLY_PER_JOB)
            && self.gate.as_ref().is_none_or(|gate| {
                gate.given_up.get().is_none()
                    && descriptors::allow_one_more(self.jobs)
                    && has_room(&self.memory)
            })
    }

    /// Returns why no more jobs start early, once, after one could not be held at its linker.
    pub fn newly_given_up(&mut self) -> Option<&'static str> {
        let reason = self.gate()?.given_up.get().copied()?;
        (!std::mem::replace(&mut self.is_reported, true)).then_some(reason)
    }
}

fn has_room(memory: &Bounds) -> bool {
    let is_enough = |it: Bound| it.available.saturating_mul(AVAILABLE_SHARE) >= it.all;
    memory.now().all(is_enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::bounds_in;

    const MEMINFO: &str = "MemTotal:       16000000 kB\nMemFree:          100000 kB\n\
        MemAvailable:    4000000 kB\n";

    fn has_room(files: &[(&str, &str)]) -> bool {
        super::has_room(&bounds_in(files))
    }

    #[test]
    fn two_per_slot() {
        let early = EarlyStarts::simulated(3);
        assert!(early.allow(0) && early.allow(5));
        assert!(!early.allow(6) && !early.allow(usize::MAX));
        assert!(!EarlyStarts::none().allow(0));
    }

    #[cfg(unix)]
    #[test]
    fn gate_must_be_open() {
        let temp = tempfile::tempdir().unwrap();
        let shim = std::env::current_exe().unwrap();
        let open = |dir| EarlyStarts::new(3, temp.path().join(dir), shim.clone());
        let mut early = open("gate");
        early.memory = bounds_in(&[]);
        assert!(early.allow(5) && !early.allow(6));
        early.memory = bounds_in(&[("/proc/meminfo", &MEMINFO.replace("4000000", "1"))]);
        assert!(!early.allow(0));
        early.memory = bounds_in(&[]);
        early.gate().unwrap().given_up.set("for a reason").unwrap();
        assert!(!early.allow(0));
        assert_eq!(early.newly_given_up(), Some("for a reason"));
        assert_eq!(early.newly_given_up(), None);

        let closed = open("no/parent");
        assert!(closed.gate().is_none() && !closed.allow(0));
    }

    #[test]
    fn quarter_of_the_machine() {
        assert!(has_room(&[]));
        assert!(has_room(&[("/proc/meminfo", MEMINFO)]));
        let less = MEMINFO.replace("4000000", "3999999");
        assert!(!has_room(&[("/proc/meminfo", &less)]));
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
            let has_room = has_room(&files(max, current, stat));
            assert_eq!(has_room, expected, "{max} {current} {stat}");
        }
    }
}
