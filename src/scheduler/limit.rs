//! How soon a build could be done at all.
//!
//! At the beginning and at the end of each phase, any schedule takes at least
//!
//! ```text
//!   all work that must be done before this point, divided among the slots
//!     + the longest path from here to the end
//!
//!   the longest path from the beginning to this point
//!     + all work that cannot be done before it, divided among the slots
//! ```
//!
//! The greatest of these bounds is the limit: of the whole build, its longest path or its work divided among
//! the slots; where it is narrow, another. For example, everything waits for the metadata of one library.
//!
//! On a path, each phase begins as soon as what it reads is ready.

use std::iter;

use super::estimate::{Phase, Work};
use crate::graph::{Artifact, Edges, Graph, Need};

/// Returns the least time, in µs, in which this many slots could have done all of `works`. `at_best` has
/// what each unit takes with as many threads as it could use.
///
/// Takes nine bits for each pair of units, and time in proportion to that.
pub fn limit(graph: &Graph, works: &[Work], at_best: &[Work], slots: u64) -> u64 {
    let graph = phases(graph);
    let (works, times) = (by_phase(works), by_phase(at_best));
    let sum = |row: &[u64]| {
        let is_in = |phase: &usize| row[phase / 64] & (1 << (phase % 64)) != 0;
        let phases = (0..works.len()).filter(is_in);
        phases.fold(0, |sum: u64, phase| sum.saturating_add(works[phase]))
    };
    let bound = |work: u64, path: u64| work.div_ceil(slots.max(1)).saturating_add(path);
    let all = works
        .iter()
        .fold(0, |sum: u64, work| sum.saturating_add(*work));
    let mut limit = bound(all, 0);
    let forwards = (&graph.dependents, &graph.dependents_first());
    let backwards = (&graph.needs, &graph.dependencies_first);
    for (one, other) in [(forwards, backwards), (backwards, forwards)] {
        let reachable = one.0.reachable(one.1, sum);
        let paths = longest_paths(other.0, other.1, &times);
        for (phase, work) in works.iter().enumerate() {
            limit = limit.max(bound(reachable[phase].saturating_sub(*work), paths[phase]));
        }
    }
    limit
}

/// Returns the longest path, first to last, if no phase waits for a slot: units, and the µs in each.
pub fn longest_path(graph: &Graph, at_best: &[Work]) -> Vec<(usize, u64)> {
    let first = graph.dependencies_first.iter();
    let graph = phases(graph);
    let times = by_phase(at_best);
    let left = longest_paths(&graph.dependents, &graph.dependents_first(), &times);
    let mut path: Vec<(usize, u64)> = Vec::new();
    let mut next = first
        .map(|unit| number(*unit, Phase::Frontend))
        .max_by_key(|phase| left[*phase]);
    while let Some(phase) = next {
        let unit = phase / 3;
        match path.last_mut() {
            Some((last, took)) if *last == unit => *took = took.saturating_add(times[phase]),
            _ => path.push((unit, times[phase])),
        }
        let dependents = graph.dependents.of(phase).map(|(phase, _)| phase);
        next = dependents.max_by_key(|phase| (left[*phase], phase / 3 == unit));
    }
    path
}

/// The number of a phase in the graph of [`phases`].
fn number(unit: usize, phase: Phase) -> usize {
    3 * unit + phase as usize
}

/// Returns the times of all phases, by their numbers.
fn by_phase(works: &[Work]) -> Vec<u64> {
    let phases = works
        .iter()
        .flat_map(|it| [it.frontend, it.codegen, it.link]);
    phases.collect()
}

/// Returns the graph whose jobs are the phases of the units of `graph`.
fn phases(graph: &Graph) -> Graph {
    let mut needs = Edges::default();
    for unit in 0..graph.needs.len() {
        let own = |phase| iter::once((number(unit, phase), Need::AllToStart));
        needs.push(graph.needs.of(unit).map(|(dependency, need)| {
            let phase = match need.to_start() {
                Artifact::Metadata => Phase::Frontend,
                Artifact::All => Phase::Link,
            };
            (number(dependency, phase), Need::AllToStart)
        }));
        needs.push(own(Phase::Frontend));
        let linked = (graph.needs.of(unit))
            .filter(|(_, need)| *need == Need::AllToLink)
            .map(|(dependency, _)| (number(dependency, Phase::Link), Need::AllToStart));
        needs.push(own(Phase::Codegen).chain(linked));
    }
    Graph::new(needs).expect("phases are in a cycle only if their units are")
}

/// Returns how long the longest path is that `edges` lead from each phase, itself included. `order` has
/// each phase behind those that its edges lead to.
fn longest_paths(edges: &Edges, order: &[usize], times: &[u64]) -> Vec<u64> {
    let mut paths = vec![0; times.len()];
    for &phase in order {
        let longest = edges.of(phase).map(|(other, _)| paths[other]).max();
        paths[phase] = times[phase].saturating_add(longest.unwrap_or(0));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    type Unit<'a> = ([u64; 3], &'a [(usize, Need)]);

    /// Checks the limit with this many slots, and the longest path.
    fn check(units: &[Unit<'_>], slots: u64, expected: u64, path: &[(usize, u64)]) {
        let work = |&([frontend, codegen, link], _): &Unit<'_>| Work {
            frontend,
            codegen,
            link,
        };
        let works: Vec<Work> = units.iter().map(work).collect();
        let mut needs = Edges::default();
        for (_, needs_of_unit) in units {
            needs.push(needs_of_unit.iter().copied());
        }
        let graph = Graph::new(needs).unwrap();
        assert_eq!(limit(&graph, &works, &works, slots), expected);
        let found = longest_path(&graph, &works);
        assert_eq!(found, path);
        let length = found
            .iter()
            .fold(0, |sum: u64, (_, took)| sum.saturating_add(*took));
        assert_eq!(limit(&graph, &works, &works, u64::MAX).max(length), length);
    }

    #[test]
    fn path_leaves_library_at_metadata() {
        let units: [Unit<'_>; 3] = [
            ([10, 5, 0], &[]),
            ([20, 50, 0], &[(0, MetadataToStart)]),
            ([30, 0, 5], &[(0, AllToLink), (1, AllToLink)]),
        ];
        check(&units, 64, 85, &[(0, 10), (1, 70), (2, 5)]);
        check(&units, 1, 120, &[(0, 10), (1, 70), (2, 5)]);
    }

    #[test]
    fn path_enters_program_at_start_or_link() {
        let units: [Unit<'_>; 2] = [([10, 5, 0], &[]), ([30, 0, 5], &[(0, AllToLink)])];
        check(&units, 64, 45, &[(0, 10), (1, 35)]);
        let units: [Unit<'_>; 2] = [([10, 50, 0], &[]), ([30, 0, 5], &[(0, AllToLink)])];
        check(&units, 64, 65, &[(0, 60), (1, 5)]);
    }

    #[test]
    fn whole_dependency_has_linked() {
        let units: [Unit<'_>; 3] = [
            ([10, 50, 0], &[]),
            ([30, 0, 5], &[(0, AllToLink)]),
            ([100, 0, 0], &[(1, AllToStart)]),
        ];
        check(&units, 64, 165, &[(0, 60), (1, 5), (2, 100)]);
        check(&units, 1, 195, &[(0, 60), (1, 5), (2, 100)]);
    }

    /// All slots but one are idle until the metadata of the first unit is written.
    #[test]
    fn slots_are_idle_where_build_is_narrow() {
        let units: [Unit<'_>; 3] = [
            ([100, 0, 0], &[]),
            ([10, 90, 0], &[(0, MetadataToStart)]),
            ([10, 90, 0], &[(0, MetadataToStart)]),
        ];
        check(&units, 2, 200, &[(0, 100), (2, 100)]);
        check(&units, 1, 300, &[(0, 100), (2, 100)]);
        let needs_all: [Unit<'_>; 4] = [
            ([10, 90, 0], &[]),
            ([10, 0, 50], &[(0, AllToLink)]),
            ([10, 0, 50], &[(0, AllToLink)]),
            ([10, 0, 50], &[(0, AllToLink)]),
        ];
        check(&needs_all, 3, 150, &[(0, 100), (3, 50)]);
        check(&needs_all, 2, 100 + 150 / 2, &[(0, 100), (3, 50)]);
    }

    #[test]
    fn empty_build() {
        check(&[], 4, 0, &[]);
    }

    #[test]
    fn huge_figures_do_not_overflow() {
        let all = [u64::MAX; 3];
        let units: [Unit<'_>; 2] = [(all, &[]), (all, &[(0, AllToStart)])];
        check(&units, 2, u64::MAX, &[(1, u64::MAX)]);
    }
}
