//! How many compilers may be waiting at their linkers.
//!
//! A compiler that waits holds no slot and burns no time, but it has everything in memory that it
//! has learned about its crate, and pipes to cargo. So the number is bounded, and no more are started
//! while memory or file descriptors are short.

use crate::descriptors;
use crate::memory::{Bound, Bounds};

/// How many compilers may be started early for each job slot.
const EARLY_PER_JOB: usize = 2;
/// One part in so many of all memory must be available.
const AVAILABLE_SHARE: u64 = 4;

/// Says whether one more compiler may be started before its rlibs are there.
#[derive(Debug)]
pub struct Budget {
    jobs: usize,
    memory: Bounds,
}

impl Budget {
    /// A budget for a build with so many job slots.
    pub fn new(jobs: u32) -> Self {
        Budget::within(jobs, Bounds::of_this_process())
    }

    fn within(jobs: u32, memory: Bounds) -> Self {
        Budget {
            jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            memory,
        }
    }

    /// Whether one more may be started while `early` are that were started early and do not link
    /// yet.
    ///
    /// They must be fewer than two for each job slot, there must be file descriptors for a full set of
    /// jobs beside it, and a quarter of all memory must be available: of the machine's, as
    /// `/proc/meminfo` has it, and of what each control group of this process may use. Where that is
    /// not known, on other systems than Linux for example, only the number counts.
    ///
    /// Reads a handful of files that the kernel makes up; it does not block.
    pub fn allows(&self, early: usize) -> bool {
        early < self.jobs.saturating_mul(EARLY_PER_JOB)
            && descriptors::allow_one_more(self.jobs)
            && self.memory.now().all(is_enough)
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

    fn budget(jobs: u32, files: &[(&str, &str)]) -> Budget {
        Budget::within(jobs, bounds_in(files))
    }

    #[test]
    fn where_nothing_is_known_the_number_counts() {
        let budget = budget(3, &[]);
        assert!(budget.allows(0) && budget.allows(5));
        assert!(!budget.allows(6) && !budget.allows(usize::MAX));
        assert!(!self::budget(0, &[]).allows(0));
    }

    #[test]
    fn a_quarter_of_the_machine() {
        assert!(budget(1, &[("/proc/meminfo", MEMINFO)]).allows(1));
        let less = MEMINFO.replace("4000000", "3999999");
        assert!(!budget(1, &[("/proc/meminfo", &less)]).allows(1));
        for unknown in [
            "",
            "MemTotal: 1 kB",
            "MemTotal: x kB\nMemAvailable: 0 kB",
            "\0",
        ] {
            assert!(
                budget(1, &[("/proc/meminfo", unknown)]).allows(1),
                "{unknown}"
            );
        }
    }

    #[test]
    fn a_quarter_of_every_group_above() {
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
        for (max, current, stat, allowed) in [
            ("1000\n", "750\n", "anon 750\ninactive_file 0\n", true),
            ("1000\n", "751\n", "anon 750\ninactive_file 0\n", false),
            ("1000\n", "951\n", "anon 750\ninactive_file 201\n", true),
            ("1000\n", "1951\n", "inactive_file 201\n", false),
            ("max\n", "951\n", "inactive_file 0\n", true),
            ("1000\n", "951\n", "", true),
            ("0\n", "0\n", "inactive_file 7\n", true),
        ] {
            let budget = budget(1, &files(max, current, stat));
            assert_eq!(budget.allows(0), allowed, "{max} {current} {stat}");
        }
    }

    #[test]
    fn a_container_is_a_group_at_the_root() {
        let files = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "1000"),
            ("/sys/fs/cgroup/memory.current", "900"),
            ("/sys/fs/cgroup/memory.stat", "inactive_file 0"),
        ];
        assert!(!budget(1, &files).allows(0));
    }

    #[test]
    fn this_machine_can_be_read() {
        let _ = Budget::new(1).allows(0);
    }
}
