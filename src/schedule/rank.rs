//! How urgent each phase of each unit is.
//!
//! Whatever is on the longest path through what is left of a build decides when it ends. So a phase
//! is as urgent as the longest path from its beginning to the end of the build takes, if nothing on
//! that path ever waits for a slot:
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

use super::work::Work;
use crate::artifact::Need;

/// How long the longest path from the beginning of each phase to the end of the build takes, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// From when the job starts.
    pub start: u64,
    /// From when the metadata is written.
    pub codegen: u64,
    /// From when the linker runs, for a job that has compiled and waits for what it links.
    pub link: u64,
}

/// Answers the urgency of each unit, in the order of their numbers. See [`rank`].
pub fn urgencies<E: IntoIterator<Item = (usize, Need)>>(
    works: impl Fn(usize) -> Work,
    dependents: impl Fn(usize) -> E,
    dependencies_first: &[usize],
) -> Vec<Urgency> {
    let mut urgencies = vec![Urgency::default(); dependencies_first.len()];
    rank(&mut urgencies, works, dependents, dependencies_first);
    urgencies
}

/// Works out the urgency of each unit, where `urgencies` are in the order of their numbers.
///
/// `dependents` lists for each unit who needs what of it; `dependencies_first` has all units, each
/// behind what it needs. Takes time in proportion to units and edges.
pub fn rank<E: IntoIterator<Item = (usize, Need)>>(
    urgencies: &mut [Urgency],
    works: impl Fn(usize) -> Work,
    dependents: impl Fn(usize) -> E,
    dependencies_first: &[usize],
) {
    for &unit in dependencies_first.iter().rev() {
        let (mut after_metadata, mut after_all) = (0, 0);
        for (dependent, need) in dependents(unit) {
            let Urgency { start, link, .. } = urgencies[dependent];
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
        urgencies[unit] = Urgency {
            start: work.frontend.saturating_add(codegen.max(after_metadata)),
            codegen,
            link,
        };
    }
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
        urgencies(
            |unit| units[unit].0,
            |unit| units[unit].1.iter().copied(),
            &order,
        )
        .into_iter()
        .map(|urgency| (urgency.start, urgency.codegen, urgency.link))
        .collect()
    }

    #[test]
    fn codegen_holds_up_only_links() {
        let urgencies = of(&[
            (work(10, 100, 0), &[(1, MetadataToStart), (2, AllToLink)]),
            (work(20, 30, 0), &[(2, AllToLink)]),
            (work(7, 8, 5), &[]),
        ]);
        assert_eq!(
            urgencies,
            [(10 + 100 + 5, 105, 5), (20 + 30 + 5, 35, 5), (20, 13, 5)]
        );
    }

    #[test]
    fn what_is_needed_whole_is_as_urgent_as_what_needs_it() {
        let urgencies = of(&[
            (work(1, 2, 4), &[(1, AllToStart)]),
            (work(50, 0, 0), &[(2, AllToStart)]),
            (work(10, 20, 0), &[]),
        ]);
        assert_eq!(urgencies[0], (1 + 2 + 4 + 50 + 30, 86, 84));
    }

    #[test]
    fn absurd_work_do_not_overflow() {
        let all = work(u64::MAX, u64::MAX, u64::MAX);
        let urgencies = of(&[(all, &[(1, AllToStart)]), (all, &[])]);
        assert_eq!(urgencies[0], (u64::MAX, u64::MAX, u64::MAX));
    }
}
