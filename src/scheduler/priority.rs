//! The priority of each phase of each unit.
//!
//! The critical path through what is left of a build decides when it ends. So the priority of a phase is
//! the length of the longest path from its beginning to the end of the build, if nothing on that path
//! ever waits for a slot.

use super::estimate::{Phases, Work};
use crate::graph::{Graph, Need};

/// Returns the priorities of each unit, in µs, given its work. Takes time in proportion to units and
/// edges.
pub(super) fn priorities(graph: &Graph, works: impl Fn(usize) -> Work) -> Vec<Phases<u64>> {
    let mut priorities: Vec<Phases<u64>> = vec![Phases::default(); graph.dependencies_first.len()];
    for &unit in graph.dependencies_first.iter().rev() {
        let (mut after_metadata, mut after_all) = (0, 0);
        for (dependent, need) in graph.dependents.of(unit) {
            let Phases { frontend, link, .. } = priorities[dependent];
            match need {
                Need::MetadataToStart => after_metadata = frontend.max(after_metadata),
                Need::AllToStart => after_all = frontend.max(after_all),
                Need::AllToLink => {
                    after_metadata = frontend.max(after_metadata);
                    after_all = link.max(after_all);
                }
            }
        }
        let work = works(unit);
        let link = work.link.saturating_add(after_all);
        let codegen = work.codegen.saturating_add(link);
        priorities[unit] = Phases {
            frontend: work.frontend.saturating_add(codegen.max(after_metadata)),
            codegen,
            link,
        };
    }
    priorities
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Edges;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    fn work(frontend: u64, codegen: u64, link: u64) -> Work {
        Work {
            frontend,
            codegen,
            link,
        }
    }

    /// Each unit: its work, and which units need what of it.
    fn of(units: &[(Work, &[(usize, Need)])]) -> Vec<Work> {
        let mut dependents = Edges::default();
        for (_, dependents_of_unit) in units {
            dependents.push(dependents_of_unit.iter().copied());
        }
        let graph = Graph::new(dependents.reversed()).unwrap();
        priorities(&graph, |unit| units[unit].0)
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
            [
                work(10 + 100 + 5, 105, 5),
                work(20 + 30 + 5, 35, 5),
                work(20, 13, 5)
            ]
        );
    }

    #[test]
    fn unit_that_is_needed_whole() {
        let priorities = of(&[
            (work(1, 2, 4), &[(1, AllToStart)]),
            (work(50, 0, 0), &[(2, AllToStart)]),
            (work(10, 20, 0), &[]),
        ]);
        assert_eq!(priorities[0], work(1 + 2 + 4 + 50 + 30, 86, 84));
    }

    #[test]
    fn huge_work_does_not_overflow() {
        let all = work(u64::MAX, u64::MAX, u64::MAX);
        let priorities = of(&[(all, &[(1, AllToStart)]), (all, &[])]);
        assert_eq!(priorities[0], all);
    }
}
