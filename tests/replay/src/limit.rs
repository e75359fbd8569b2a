//! How soon a recorded build could be done at all.
//!
//! See [`cargo_pipelining::scheduler::limit`]. Here what a unit takes at best is known, as each phase was
//! recorded on one thread.

use cargo_pipelining::config::Pipelining;
use cargo_pipelining::graph::{Edges, Graph};
use cargo_pipelining::scheduler::{Work, limit};

use crate::edges::edges;
use crate::recording::Recording;
use crate::simulate::recorded_work;

/// The least time, in µs, in which `jobs` threads could build it.
pub fn limit(recording: &Recording, jobs: u64) -> u64 {
    let works: Vec<Work> = recording.units.iter().map(recorded_work).collect();
    limit::limit(&graph(recording), &works, &at_best(recording, jobs), jobs)
}

/// How long the longest chain of phases takes, in µs, if a phase never waits for a free job.
pub fn longest_path(recording: &Recording, jobs: u64) -> u64 {
    let path = limit::longest_path(&graph(recording), &at_best(recording, jobs));
    path.iter().map(|(_, took)| took).sum()
}

fn graph(recording: &Recording) -> Graph {
    let mut needs = Edges::default();
    for needs_of_unit in edges(recording, Pipelining::Link) {
        needs.push(needs_of_unit);
    }
    Graph::new(needs).expect("a unit of a recording needs only units before it")
}

/// What the phases take with as many threads as they can use.
fn at_best(recording: &Recording, jobs: u64) -> Vec<Work> {
    let at_best = recording.units.iter().map(|unit| {
        let threads = unit.codegen_units.clamp(1, jobs.max(1));
        Work {
            codegen: unit.codegen.div_ceil(threads),
            ..recorded_work(unit)
        }
    });
    at_best.collect()
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
    fn link_waits_for_all_libraries() {
        let recording = recording(&[
            ("lib", "build", &[], [10, 100, 0], 1),
            ("lib", "build", &[0], [10, 10, 0], 1),
            ("bin", "build", &[1], [0, 20, 5], 1),
        ]);
        assert_eq!(longest_path(&recording, 64), 10 + 100 + 5);
        assert_eq!(limit(&recording, 1), 155);
    }

    #[test]
    fn codegen_is_divided_by_its_units() {
        let recording = recording(&[("lib", "build", &[], [10, 100, 0], 4)]);
        assert_eq!(longest_path(&recording, 1), 110);
        assert_eq!(longest_path(&recording, 2), 60);
        assert_eq!(longest_path(&recording, 64), 35);
    }

    #[test]
    fn lto_follows_all_other_work() {
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
