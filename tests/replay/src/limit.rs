//! How soon a build could be done at all.
//!
//! Nothing can be done before what must be done first, and nothing ends before what must come after
//! it. So from any point of the build on, whatever the schedule, it takes at least
//!
//! ```text
//!   all work that must be done before this point, divided among the jobs
//!     + the longest path from here to the end
//! ```
//!
//! and the greatest of these bounds counts. Before the beginning there is nothing, which leaves the
//! longest path through the build; at its end there is all work, divided among the jobs. Another point
//! matters where one program is linked from everything and takes long to optimize: whatever is done
//! before, and on however many jobs, it comes on top.
//!
//! On a path each unit starts as soon as what it reads is there and links as soon as what it links
//! is:
//!
//! ```text
//!   a  [ frontend |   codegen    ]
//!   b             [ frontend | codegen ]
//!   bin                      [ codegen ]      [ link ]   the last of a, b and its own codegen
//! ```

use cargo_pipelining::artifact::Need;
use cargo_pipelining::pipelining::Pipelining;

use cargo_pipelining::schedule::{Urgency, Work, urgencies};

use crate::edges::edges;
use crate::recording::{Recording, Unit};

/// The least time, in µs, in which `jobs` threads could build it.
pub fn limit(recording: &Recording, jobs: u64) -> u64 {
    let jobs = jobs.max(1);
    let edges = edges(recording, Pipelining::Link);
    let bounds = std::iter::zip(
        work_before(recording, &edges),
        paths(recording, jobs, &edges),
    );
    let later = bounds.flat_map(|(before, path)| {
        [
            before.start.div_ceil(jobs) + path.start,
            before.link.div_ceil(jobs) + path.link,
        ]
    });
    later
        .chain([recording.work().div_ceil(jobs)])
        .max()
        .unwrap_or(0)
}

/// How long the longest chain of phases takes, in µs, if a phase never waits for a free job.
pub fn longest_path(recording: &Recording, jobs: u64) -> u64 {
    let edges = edges(recording, Pipelining::Link);
    let paths = paths(recording, jobs.max(1), &edges);
    paths.iter().map(|path| path.start).max().unwrap_or(0)
}

/// The longest path from each phase of each unit to the end, in µs.
fn paths(recording: &Recording, jobs: u64, edges: &[Vec<(usize, Need)>]) -> Vec<Urgency> {
    let mut dependents = vec![Vec::new(); edges.len()];
    for (unit, needs) in edges.iter().enumerate() {
        for &(dependency, need) in needs {
            dependents[dependency].push((unit, need));
        }
    }
    let order: Vec<usize> = (0..edges.len()).collect();
    urgencies(
        |unit| at_best(&recording.units[unit], jobs),
        |unit| &dependents[unit],
        &order,
    )
}

/// What the phases take with as many threads as they can use.
fn at_best(unit: &Unit, jobs: u64) -> Work {
    Work {
        frontend: unit.frontend + unit.run,
        codegen: unit.codegen.div_ceil(unit.codegen_units.clamp(1, jobs)),
        link: unit.link,
    }
}

/// The work that must be done before a unit starts, and before it links. µs.
#[derive(Clone, Copy)]
struct Before {
    start: u64,
    link: u64,
}

fn work_before(recording: &Recording, edges: &[Vec<(usize, Need)>]) -> Vec<Before> {
    let units = &recording.units;
    let mut before_start: Vec<Phases> = Vec::with_capacity(units.len());
    let mut works = Vec::with_capacity(units.len());
    for (unit, needs) in edges.iter().enumerate() {
        let mut start = Phases::none(units.len());
        let mut link = Phases::none(units.len());
        for &(dependency, need) in needs {
            start.include(&before_start[dependency]);
            start.insert(FIRST, dependency);
            let rest = match need {
                Need::MetadataToStart => continue,
                Need::AllToLink => &mut link,
                Need::AllToStart => &mut start,
            };
            rest.insert(LATER, dependency);
        }
        // What is needed whole has linked, so what it links is done as well.
        let whole = needs.iter().filter(|(_, need)| *need == Need::AllToStart);
        for (linked, need) in whole.flat_map(|(dependency, _)| &edges[*dependency]) {
            if *need == Need::AllToLink {
                start.insert(LATER, *linked);
            }
        }
        link.include(&start);
        link.insert(FIRST, unit);
        works.push(Before {
            start: start.work(units),
            link: link.work(units) + units[unit].codegen,
        });
        before_start.push(start);
    }
    works
}

/// A set of phases: of each unit the first (the frontend, or the run), and what comes later.
#[derive(Clone)]
struct Phases {
    units: usize,
    words: Vec<u64>,
}

const FIRST: usize = 0;
const LATER: usize = 1;

impl Phases {
    fn none(units: usize) -> Self {
        Phases {
            units,
            words: vec![0; (2 * units).div_ceil(64)],
        }
    }

    fn insert(&mut self, part: usize, unit: usize) {
        let bit = part * self.units + unit;
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    fn include(&mut self, others: &Phases) {
        for (word, more) in std::iter::zip(&mut self.words, &others.words) {
            *word |= more;
        }
    }

    fn has(&self, part: usize, unit: usize) -> bool {
        let bit = part * self.units + unit;
        self.words[bit / 64] & (1 << (bit % 64)) != 0
    }

    /// On one thread. µs.
    fn work(&self, units: &[Unit]) -> u64 {
        let works = units.iter().enumerate().map(|(place, unit)| {
            let first = match self.has(FIRST, place) {
                true => unit.frontend + unit.run,
                false => 0,
            };
            let later = match self.has(LATER, place) {
                true => unit.codegen + unit.link,
                false => 0,
            };
            first + later
        });
        works.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Unit;

    /// Kind, mode, needs; frontend, codegen, and link or run; codegen units.
    type Described<'a> = (&'a str, &'a str, &'a [usize], [u64; 3], u64);

    fn recording(units: &[Described<'_>]) -> Recording {
        let mut recording = Recording::new("", "", "");
        for &(kind, mode, needs, [frontend, codegen, last], codegen_units) in units {
            let (link, run) = match mode {
                "run-custom-build" => (0, last),
                _ => (last, 0),
            };
            recording.units.push(Unit {
                kind: vec![kind.to_owned()],
                mode: mode.to_owned(),
                needs: needs.to_vec(),
                frontend,
                codegen,
                link,
                codegen_units,
                run,
                ..Unit::default()
            });
        }
        recording
    }

    #[test]
    fn a_link_waits_for_every_library_below() {
        let recording = recording(&[
            ("lib", "build", &[], [10, 100, 0], 1),
            ("lib", "build", &[0], [10, 10, 0], 1),
            ("bin", "build", &[1], [0, 20, 5], 1),
        ]);
        assert_eq!(longest_path(&recording, 64), 10 + 100 + 5);
        assert_eq!(limit(&recording, 1), 155);
    }

    #[test]
    fn codegen_is_divided_as_far_as_there_are_codegen_units_and_jobs() {
        let recording = recording(&[("lib", "build", &[], [10, 100, 0], 4)]);
        assert_eq!(longest_path(&recording, 1), 110);
        assert_eq!(longest_path(&recording, 2), 60);
        assert_eq!(longest_path(&recording, 64), 35);
    }

    #[test]
    fn what_is_optimized_at_link_time_comes_on_top_of_all_other_work() {
        let mut recording = recording(&[
            ("lib", "build", &[], [10, 100, 0], 1),
            ("lib", "build", &[], [10, 100, 0], 1),
            ("bin", "build", &[0, 1], [10, 90, 5], 1),
        ]);
        assert_eq!(limit(&recording, 2), (2 * 110 + 100) / 2 + 5);
        recording.lto = true;
        assert_eq!(limit(&recording, 2), 110 + 10 + 90 + 5);
        assert_eq!(limit(&recording, 1), recording.work());
    }

    #[test]
    fn macros_and_build_scripts_are_needed_whole() {
        let recording = recording(&[
            ("lib", "build", &[], [10, 100, 0], 1),
            ("proc-macro", "build", &[0], [10, 10, 5], 1),
            ("custom-build", "build", &[], [10, 10, 5], 1),
            ("custom-build", "run-custom-build", &[2], [0, 0, 200], 0),
            ("lib", "build", &[1, 3], [10, 50, 0], 1),
        ]);
        assert_eq!(longest_path(&recording, 64), 225 + 60);
    }
}
