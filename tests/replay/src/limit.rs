//! How soon a build could be done at all.
//!
//! Two things bound it: all work, divided among the jobs; and the longest path through the units,
//! where each starts as soon as what it reads is there and links as soon as what it links is:
//!
//! ```text
//!   a  [ frontend |   codegen    ]
//!   b             [ frontend | codegen ]
//!   bin                      [ codegen ]      [ link ]   the last of a, b and its own codegen
//! ```

use crate::recording::{Recording, Role};

/// The least time, in µs, in which `jobs` threads could build it.
pub fn limit(recording: &Recording, jobs: u64) -> u64 {
    let jobs = jobs.max(1);
    recording
        .work()
        .div_ceil(jobs)
        .max(longest_path(recording, jobs))
}

/// When the outputs of a unit are there at the soonest. µs since the build began.
#[derive(Clone, Copy)]
struct Soonest {
    /// What dependents need to start.
    readable: u64,
    /// What dependents need to link: this unit and all libraries below it.
    linkable: u64,
}

/// How long the longest chain of phases takes, in µs, if a phase never waits for a free job.
pub fn longest_path(recording: &Recording, jobs: u64) -> u64 {
    let jobs = jobs.max(1);
    let mut soonest: Vec<Soonest> = Vec::with_capacity(recording.units.len());
    let mut end = 0;
    for unit in &recording.units {
        let needs = || unit.needs.iter().map(|need| soonest[*need]);
        let start = needs().map(|need| need.readable).max().unwrap_or(0);
        let libraries = needs().map(|need| need.linkable).max().unwrap_or(0);
        let metadata = start + unit.frontend;
        let threads = unit.codegen_units.clamp(1, jobs);
        let compiled = metadata + unit.codegen.div_ceil(threads);
        let finished = match unit.role() {
            Role::Run => start + unit.run,
            Role::Library => compiled,
            Role::Linked | Role::ProcMacro | Role::BuildScript => {
                compiled.max(libraries) + unit.link
            }
        };
        let done = match unit.role() {
            Role::Library => Soonest {
                readable: metadata,
                linkable: finished.max(libraries),
            },
            // Whoever uses it needs it whole, and links nothing of it.
            _ => Soonest {
                readable: finished,
                linkable: 0,
            },
        };
        // A library may come with something that is linked, a cdylib for example.
        end = end.max(finished).max(match unit.link {
            0 => 0,
            link => compiled.max(libraries) + link,
        });
        soonest.push(done);
    }
    end
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
