//! The priority of each phase of each unit.
//!
//! The critical path through what is left of a build decides when it ends. So the priority of a phase is
//! the length of the longest path from its beginning to the end of the build, if nothing on that path
//! ever waits for a slot:
//!
//! ```text
//!   a    [ frontend ][ codegen           ]
//!   b               [ frontend ][ codegen ]              b reads the metadata of a
//!   bin                        [ compile  ]     [ link ] bin links both
//!        └───────────── start of a ────────────────────┘
//!                    └─ codegen of a ───┘+[ link ]
//! ```
//!
//! One pass over the units, dependents before their dependencies, looks at each edge once.

use super::estimate::Work;
use crate::graph::Need;

/// How long the longest path from the beginning of each phase to the end of the build takes, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// From when the job starts.
    pub start: u64,
    /// From when the metadata is written.
    pub codegen: u64,
    /// From when the linker runs, for a job that has compiled and waits for what it links.
    pub link: u64,
}

/// Returns the priority of each unit, in the order of their numbers.
///
/// `dependents` lists the dependents of each unit and what they need of it; `dependencies_first` has all
/// units, each behind its dependencies. Takes time in proportion to units and edges.
pub fn priorities<E: IntoIterator<Item = (usize, Need)>>(
    works: impl Fn(usize) -> Work,
    dependents: impl Fn(usize) -> E,
    dependencies_first: &[usize],
) -> Vec<Priority> {
    let mut priorities = vec![Priority::default(); dependencies_first.len()];
    for &unit in dependencies_first.iter().rev() {
        let (mut after_metadata, mut after_all) = (0, 0);
        for (dependent, need) in dependents(unit) {
            let Priority { start, link, .. } = priorities[dependent];
            match need {
                Need::MetadataToStart => after_metadata = start.max(after_metadata),
                Need::AllToStart => after_all = start.max(after_all),
                Need::AllToLink => {
                    after_metadata = start.max(after_metadata);
                    after_all = link.max(after_all);
                }
            }
        }
        let work = works(unit);
        let link = work.link.saturating_add(after_all);
        let codegen = work.codegen.saturating_add(link);
        priorities[unit] = Priority {
            start: work.frontend.saturating_add(codegen.max(after_metadata)),
            codegen,
            link,
        };
    }
    priorities
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    fn work(frontend: u64, codegen: u64, link: u64) -> Work {
        Work {
            frontend,
            codegen,
            link,
        }
    }

    /// Each unit: its work, and who needs what of it.
    fn of(units: &[(Work, &[(usize, Need)])]) -> Vec<(u64, u64, u64)> {
        let order: Vec<usize> = (0..units.len()).collect();
        priorities(
            |unit| units[unit].0,
            |unit| units[unit].1.iter().copied(),
            &order,
        )
        .into_iter()
        .map(|priority| (priority.start, priority.codegen, priority.link))
        .collect()
    }

    #[test]
    fn codegen_holds_up_only_links() {
        let priorities = of(&[
            (work(10, 100, 0), &[(1, MetadataToStart), (2, AllToLink)]),
            (work(20, 30, 0), &[(2, AllToLink)]),
            (work(7, 8, 5), &[]),
        ]);
        assert_eq!(
            priorities,
            [(10 + 100 + 5, 105, 5), (20 + 30 + 5, 35, 5), (20, 13, 5)]
        );
    }

    #[test]
    fn unit_that_is_needed_whole() {
        let priorities = of(&[
            (work(1, 2, 4), &[(1, AllToStart)]),
            (work(50, 0, 0), &[(2, AllToStart)]),
            (work(10, 20, 0), &[]),
        ]);
        assert_eq!(priorities[0], (1 + 2 + 4 + 50 + 30, 86, 84));
    }

    #[test]
    fn absurd_work_does_not_overflow() {
        let all = work(u64::MAX, u64::MAX, u64::MAX);
        let priorities = of(&[(all, &[(1, AllToStart)]), (all, &[])]);
        assert_eq!(priorities[0], (u64::MAX, u64::MAX, u64::MAX));
    }
}
