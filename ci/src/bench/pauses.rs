//! How many compilers are paused at once, and how many should be.
//!
//! A paused compiler keeps its memory, so there is a place for only so many. How many are worth having
//! is asked of [`simulate`], which plays a build by the rules of the replacement alone: what each unit
//! costs is known exactly, and nothing but the number of places is different.
//!
//! The builds are all recordings, and the release ones a second time as if each library had one codegen
//! unit: there a compiler that is not paused keeps its slot for longest.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use replay::simulate::{Estimate, Pipelining, Schedule, Settings, recorded_work, simulate};
use replay::{Recording, limit};
use serde_json::Value;

use super::Source;
use super::report::geometric_mean;

/// How many jobs the builds have.
const JOBS: [u64; 3] = [2, 4, 8];

/// How many compilers may be paused at the same time; `None` is as many as there are.
pub const PLACES: [Option<usize>; 8] = [
    Some(0),
    Some(1),
    Some(2),
    Some(4),
    Some(8),
    Some(16),
    Some(32),
    None,
];

/// What builds with so many jobs come to.
#[derive(Clone, Debug)]
pub struct Line {
    /// How many jobs.
    pub jobs: u64,
    /// The geometric mean of the ratios to the limit, for each of [`PLACES`].
    pub to_limit: [f64; PLACES.len()],
}

/// Simulates all builds, with each number of jobs and of places.
pub fn simulated(sources: &[Source]) -> Result<Vec<Line>> {
    let builds = builds(sources);
    let line = |jobs| {
        let mut to_limit = [f64::NAN; PLACES.len()];
        for (mean, places) in std::iter::zip(&mut to_limit, PLACES) {
            let ratios = builds.iter().map(|build| ratio(build, jobs, places));
            *mean = geometric_mean(ratios.collect::<Result<Vec<_>>>()?);
        }
        Ok(Line { jobs, to_limit })
    };
    JOBS.into_iter().map(line).collect()
}

/// The recordings, and those that the module's documentation adds.
fn builds(sources: &[Source]) -> Vec<Recording> {
    let release = sources
        .iter()
        .filter(|source| source.name.contains("release"));
    let undivided = release.map(|source| {
        let mut recording = source.recording.clone();
        for unit in &mut recording.units {
            unit.codegen_units = unit.codegen_units.min(1);
        }
        recording
    });
    let recordings = sources.iter().map(|source| source.recording.clone());
    recordings.chain(undivided).collect()
}

fn ratio(recording: &Recording, jobs: u64, places: Option<usize>) -> Result<f64> {
    let settings = Settings {
        jobs,
        pipelining: Pipelining::Link,
        schedule: Schedule::CriticalPath,
        places: places.unwrap_or(recording.units.len()),
    };
    let estimate = |_, unit: &_| Estimate::Measured(recorded_work(unit));
    let wall = simulate(recording, &settings, estimate)?.wall;
    Ok(wall as f64 / limit::limit(recording, jobs) as f64)
}

/// The most compilers that were paused at the same time, as the replacement's trace has it.
///
/// # Errors
///
/// The file cannot be read, or is no trace.
pub fn most_paused(trace: &Path) -> Result<usize> {
    let text = fs::read_to_string(trace)?;
    most_paused_in(&text).with_context(|| format!("{} is no trace of a build", trace.display()))
}

fn most_paused_in(text: &str) -> Result<usize> {
    let events: Vec<Value> = serde_json::from_str(text)?;
    let (mut paused, mut most) = (0usize, 0);
    for event in events.iter().filter(|event| event["name"] == "paused") {
        match event["ph"].as_str() {
            Some("B") => paused += 1,
            Some("E") => match paused.checked_sub(1) {
                Some(rest) => paused = rest,
                None => bail!("a pause ends that has not begun: {event}"),
            },
            _ => {}
        }
        most = most.max(paused);
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use replay::recording::Unit;

    fn source(name: &str) -> Source {
        let mut recording = Recording::new(name, "none", "anywhere");
        let library = Unit {
            kind: vec!["lib".to_owned()],
            mode: "build".to_owned(),
            frontend: 10,
            codegen: 100,
            codegen_units: 16,
            ..Unit::default()
        };
        recording.units.push(library.clone());
        recording.units.push(Unit {
            needs: vec![0],
            ..library
        });
        Source {
            name: name.to_owned(),
            digest: String::new(),
            recording,
        }
    }

    #[test]
    fn release_builds_count_a_second_time_with_one_codegen_unit() {
        let builds = builds(&[source("a-dev"), source("a-release")]);
        let codegen_units: Vec<_> = builds
            .iter()
            .map(|build| build.units[0].codegen_units)
            .collect();
        assert_eq!(codegen_units, [16, 16, 1]);
    }

    #[test]
    fn no_build_is_quicker_than_its_limit() {
        let lines = simulated(&[source("a-release")]).unwrap();
        assert_eq!(lines.iter().map(|line| line.jobs).collect::<Vec<_>>(), JOBS);
        for line in lines {
            assert!(line.to_limit.iter().all(|ratio| *ratio >= 1.0), "{line:?}");
        }
    }

    #[test]
    fn pauses_that_overlap_are_counted() {
        let event = |name: &str, ph: &str| format!(r#"{{"name": "{name}", "ph": "{ph}"}}"#);
        let trace = |events: &[(&str, &str)]| {
            let events: Vec<_> = events.iter().map(|(name, ph)| event(name, ph)).collect();
            format!("[{}]", events.join(","))
        };
        let (begins, ends) = (("paused", "B"), ("paused", "E"));
        let overlap = trace(&[begins, ("codegen", "B"), begins, ends, begins, ends, ends]);
        assert_eq!(most_paused_in(&overlap).unwrap(), 2);
        assert_eq!(most_paused_in(&trace(&[("codegen", "B")])).unwrap(), 0);
        // The name of a lane.
        assert_eq!(most_paused_in(&trace(&[("paused", "M")])).unwrap(), 0);
        assert!(most_paused_in(&trace(&[ends])).is_err());
        assert!(most_paused_in("[").is_err());
    }
}
