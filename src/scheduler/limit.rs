//! How soon a build could be done at all.
//!
//! Nothing can be done before what must be done first, and nothing ends before what must come after
//! it. So at any point of the build, whatever the schedule, it takes at least
//!
//! ```text
//!   all work that must be done before this point, divided among the slots
//!     + the longest path from here to the end
//!
//!   the longest path from the beginning to this point
//!     + all work that cannot be done before it, divided among the slots
//! ```
//!
//! and the greatest of these bounds counts. Before the beginning there is nothing, which leaves the
//! longest path through the build; at its end there is all work, divided among the slots. Other points
//! matter where the build is narrow: if one program is linked from everything and takes long to
//! optimize, this comes on top of whatever is done before, in however many slots; and if everything
//! waits for the metadata of one library, the slots that have nothing to do meanwhile are lost.
//!
//! On a path each unit starts as soon as what it reads is there and links as soon as what it links
//! is:
//!
//! ```text
//!   a  [ frontend |   codegen    ]
//!   b             [ frontend | codegen ]
//!   bin                      [ codegen ]      [ link ]   the last of a, b and its own codegen
//! ```

use crate::graph::{Artifact, Need};

use super::estimate::{Phase, Work};
use super::priority::priorities;

/// What was done in a build, and in what order it had to be.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// What each unit had to do, in µs on one thread.
    pub works: &'a [Work],
    /// What each unit needed of which others.
    pub needs: &'a [Vec<(usize, Need)>],
    /// All units, each behind what it needs.
    pub dependencies_first: &'a [usize],
}

/// A unit on the longest path through a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub unit: usize,
    /// How long the path leads through it, in µs.
    pub took: u64,
}

impl Done<'_> {
    /// The least time, in µs, in which so many slots could have done it, where `at_best` is what a unit
    /// takes with as many threads as it could use.
    ///
    /// Takes a few bits for each pair of units, and time in proportion to that.
    pub fn limit(&self, slots: u64, at_best: impl Fn(usize) -> Work) -> u64 {
        let slots = slots.max(1);
        let dependents = self.dependents();
        let heads = self.heads(&at_best);
        let tails = priorities(
            &at_best,
            |unit| dependents[unit].iter().copied(),
            self.dependencies_first,
        );
        let before = self.work_before();
        let after = self.work_after(&dependents);
        let all = self.works.iter().copied().fold(0, plus_all);
        let bound = |work: u64, path: u64| work.div_ceil(slots).saturating_add(path);
        let mut limit = bound(all, 0);
        for unit in 0..self.works.len() {
            let (head, tail) = (heads[unit], tails[unit]);
            let (before, after) = (before[unit], after[unit]);
            for (work, path) in [
                (before.start, tail.start),
                (before.link, tail.link),
                (after.start, head.start),
                (after.metadata, head.metadata),
                (after.link, head.link),
            ] {
                limit = limit.max(bound(work, path));
            }
        }
        limit
    }

    /// The longest chain of phases, first to last, if a phase never waits for a slot.
    pub fn longest_path(&self, at_best: impl Fn(usize) -> Work) -> Vec<Step> {
        let dependents = self.dependents();
        let paths = priorities(
            &at_best,
            |unit| dependents[unit].iter().copied(),
            self.dependencies_first,
        );
        let left = |point: &Point| match *point {
            Point::Start(unit) => paths[unit].start,
            Point::Link(unit) => paths[unit].link,
        };
        let mut path = Vec::new();
        let all = self.dependencies_first.iter().copied();
        let mut next = all.map(Point::Start).max_by_key(left);
        while let Some(point) = next {
            let (unit, took, artifact) = match point {
                Point::Start(unit) => {
                    let work = at_best(unit);
                    let to_metadata = work.frontend;
                    match paths[unit].start > to_metadata.saturating_add(paths[unit].codegen) {
                        true => (unit, to_metadata, Artifact::Metadata),
                        false => (unit, plus_all(0, work), Artifact::All),
                    }
                }
                Point::Link(unit) => (unit, at_best(unit).link, Artifact::All),
            };
            path.push(Step { unit, took });
            next = (dependents[unit].iter())
                .filter_map(|&(dependent, need)| Point::after(artifact, dependent, need))
                .max_by_key(left);
        }
        path
    }

    fn dependents(&self) -> Vec<Vec<(usize, Need)>> {
        let mut dependents = vec![Vec::new(); self.needs.len()];
        for (unit, needs) in self.needs.iter().enumerate() {
            for &(dependency, need) in needs {
                dependents[dependency].push((unit, need));
            }
        }
        dependents
    }

    /// The longest path from the beginning to each point of each unit, in µs.
    fn heads(&self, at_best: impl Fn(usize) -> Work) -> Vec<Points> {
        let mut heads = vec![Points::default(); self.works.len()];
        let mut ends = vec![0; self.works.len()];
        for &unit in self.dependencies_first {
            let (mut start, mut link) = (0, 0);
            for &(dependency, need) in &self.needs[unit] {
                let (metadata, end) = (heads[dependency].metadata, ends[dependency]);
                match need {
                    Need::MetadataToStart => start = metadata.max(start),
                    Need::AllToStart => start = end.max(start),
                    Need::AllToLink => {
                        start = metadata.max(start);
                        link = end.max(link);
                    }
                }
            }
            let work = at_best(unit);
            let metadata = start.saturating_add(work.frontend);
            let link = metadata.saturating_add(work.codegen).max(link);
            heads[unit] = Points {
                start,
                metadata,
                link,
            };
            ends[unit] = link.saturating_add(work.link);
        }
        heads
    }

    /// The work that must be done before a unit starts, and before it links. µs.
    fn work_before(&self) -> Vec<Points> {
        let units = self.works.len();
        let mut before_start: Vec<Phases> = vec![Phases::default(); units];
        let mut befores = vec![Points::default(); units];
        for &unit in self.dependencies_first {
            let needs = &self.needs[unit];
            let mut start = Phases::none(units);
            let mut link = Phases::none(units);
            for &(dependency, need) in needs {
                start.include(&before_start[dependency]);
                start.insert(Phase::Frontend, dependency);
                match need {
                    Need::MetadataToStart => {}
                    Need::AllToLink => link.insert_rest(dependency),
                    Need::AllToStart => start.insert_rest(dependency),
                }
            }
            // What is needed whole has linked, so what it links is done as well.
            let whole = needs.iter().filter(|(_, need)| *need == Need::AllToStart);
            for (linked, need) in whole.flat_map(|(dependency, _)| &self.needs[*dependency]) {
                if *need == Need::AllToLink {
                    start.insert_rest(*linked);
                }
            }
            link.include(&start);
            link.insert(Phase::Frontend, unit);
            link.insert(Phase::Codegen, unit);
            befores[unit] = Points {
                start: start.work(self.works),
                link: link.work(self.works),
                metadata: 0,
            };
            before_start[unit] = start;
        }
        befores
    }

    /// The work that cannot be done before a unit has come to a point. µs.
    fn work_after(&self, dependents: &[Vec<(usize, Need)>]) -> Vec<Points> {
        let units = self.works.len();
        let mut after_start: Vec<Phases> = vec![Phases::default(); units];
        let mut after_link = after_start.clone();
        let mut afters = vec![Points::default(); units];
        for &unit in self.dependencies_first.iter().rev() {
            let mut link = Phases::none(units);
            link.insert(Phase::Link, unit);
            let mut metadata = Phases::none(units);
            for &(dependent, need) in &dependents[unit] {
                match need {
                    Need::MetadataToStart => metadata.include(&after_start[dependent]),
                    Need::AllToStart => link.include(&after_start[dependent]),
                    Need::AllToLink => {
                        metadata.include(&after_start[dependent]);
                        link.include(&after_link[dependent]);
                    }
                }
            }
            metadata.include(&link);
            metadata.insert(Phase::Codegen, unit);
            let mut start = metadata.clone();
            start.insert(Phase::Frontend, unit);
            afters[unit] = Points {
                start: start.work(self.works),
                metadata: metadata.work(self.works),
                link: link.work(self.works),
            };
            (after_start[unit], after_link[unit]) = (start, link);
        }
        afters
    }
}

/// Something for each point in the life of a unit: where it starts, has written its metadata, and
/// starts to link.
#[derive(Clone, Copy, Default)]
struct Points {
    start: u64,
    metadata: u64,
    link: u64,
}

/// Where a path can come to a unit.
#[derive(Clone, Copy)]
enum Point {
    Start(usize),
    Link(usize),
}

impl Point {
    /// Where a path that comes from this artifact goes on in a dependent.
    fn after(artifact: Artifact, dependent: usize, need: Need) -> Option<Self> {
        if artifact == need.to_start() {
            Some(Point::Start(dependent))
        } else if artifact == need.artifact() {
            Some(Point::Link(dependent))
        } else {
            None
        }
    }
}

fn plus_all(sum: u64, work: Work) -> u64 {
    sum.saturating_add(work.frontend)
        .saturating_add(work.codegen)
        .saturating_add(work.link)
}

/// A set of phases of units.
#[derive(Clone, Default)]
struct Phases {
    units: usize,
    words: Vec<u64>,
}

impl Phases {
    fn none(units: usize) -> Self {
        Phases {
            units,
            words: vec![0; (Phase::ALL.len() * units).div_ceil(64)],
        }
    }

    fn bit(&self, phase: Phase, unit: usize) -> usize {
        phase as usize * self.units + unit
    }

    fn insert(&mut self, phase: Phase, unit: usize) {
        let bit = self.bit(phase, unit);
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    /// What comes after the metadata.
    fn insert_rest(&mut self, unit: usize) {
        self.insert(Phase::Codegen, unit);
        self.insert(Phase::Link, unit);
    }

    fn include(&mut self, others: &Phases) {
        for (word, more) in std::iter::zip(&mut self.words, &others.words) {
            *word |= more;
        }
    }

    /// On one thread. µs.
    fn work(&self, works: &[Work]) -> u64 {
        let has = |phase, unit| {
            let bit = self.bit(phase, unit);
            self.words[bit / 64] & (1 << (bit % 64)) != 0
        };
        let mut sum = 0u64;
        for (unit, work) in works.iter().enumerate() {
            for phase in Phase::ALL.into_iter().filter(|phase| has(*phase, unit)) {
                sum = sum.saturating_add(work.of(phase));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    type Unit<'a> = ([u64; 3], &'a [(usize, Need)]);

    /// Checks the limit in so many slots, and the longest path.
    fn check(units: &[Unit<'_>], slots: u64, limit: u64, path: &[(usize, u64)]) {
        let works: Vec<Work> = (units.iter())
            .map(|&([frontend, codegen, link], _)| Work {
                frontend,
                codegen,
                link,
            })
            .collect();
        let needs: Vec<_> = units.iter().map(|(_, needs)| needs.to_vec()).collect();
        let order: Vec<usize> = (0..units.len()).collect();
        let done = Done {
            works: &works,
            needs: &needs,
            dependencies_first: &order,
        };
        assert_eq!(done.limit(slots, |unit| works[unit]), limit);
        let found = done.longest_path(|unit| works[unit]);
        let found: Vec<_> = found.iter().map(|step| (step.unit, step.took)).collect();
        assert_eq!(found, path);
        let length: u64 = found.iter().map(|(_, took)| took).sum();
        assert_eq!(done.limit(u64::MAX, |unit| works[unit]).max(length), length);
    }

    #[test]
    fn a_path_leaves_a_library_at_its_metadata() {
        let units: [Unit<'_>; 3] = [
            ([10, 5, 0], &[]),
            ([20, 50, 0], &[(0, MetadataToStart)]),
            ([30, 0, 5], &[(0, AllToLink), (1, AllToLink)]),
        ];
        check(&units, 64, 85, &[(0, 10), (1, 70), (2, 5)]);
        check(&units, 1, 120, &[(0, 10), (1, 70), (2, 5)]);
    }

    #[test]
    fn a_path_comes_to_a_program_at_its_start_or_at_its_link() {
        let units: [Unit<'_>; 2] = [([10, 5, 0], &[]), ([30, 0, 5], &[(0, AllToLink)])];
        check(&units, 64, 45, &[(0, 10), (1, 35)]);
        let units: [Unit<'_>; 2] = [([10, 50, 0], &[]), ([30, 0, 5], &[(0, AllToLink)])];
        check(&units, 64, 65, &[(0, 60), (1, 5)]);
    }

    #[test]
    fn what_is_needed_whole_has_linked() {
        let units: [Unit<'_>; 3] = [
            ([10, 50, 0], &[]),
            ([30, 0, 5], &[(0, AllToLink)]),
            ([100, 0, 0], &[(1, AllToStart)]),
        ];
        check(&units, 64, 165, &[(0, 60), (1, 5), (2, 100)]);
        check(&units, 1, 195, &[(0, 60), (1, 5), (2, 100)]);
    }

    /// One slot after the other is idle until the metadata of `narrow` is written.
    #[test]
    fn what_cannot_be_done_earlier_comes_on_top_of_the_path_to_it() {
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
    fn of_nothing() {
        check(&[], 4, 0, &[]);
    }

    #[test]
    fn absurd_figures_do_not_overflow() {
        let all = [u64::MAX; 3];
        let units: [Unit<'_>; 2] = [(all, &[]), (all, &[(0, AllToStart)])];
        let works = [Work {
            frontend: u64::MAX,
            codegen: u64::MAX,
            link: u64::MAX,
        }; 2];
        let needs: Vec<_> = units.iter().map(|(_, needs)| needs.to_vec()).collect();
        let done = Done {
            works: &works,
            needs: &needs,
            dependencies_first: &[0, 1],
        };
        assert_eq!(done.limit(2, |unit| works[unit]), u64::MAX);
        assert!(!done.longest_path(|unit| works[unit]).is_empty());
    }
}
