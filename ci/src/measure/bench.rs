//! `cargo xtask bench`: measures what more overlap is worth, and what the queue costs.
//!
//! ```text
//!   recordings ──> simulations: each side × jobs, by the scheduler ──> wall time, limit
//!   generated  ──> the two queues alone                            ──> CPU time and memory
//! ```
//!
//! The documentation of the `replay` package lists what a simulation leaves out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ::replay::simulate::{Outcome, Pipelining, Schedule, Settings, guessed, measured, simulate};
use ::replay::{Recording, limit};
use anyhow::{Result, bail};
use fs_err as fs;
use serde::Serialize;

use super::report::{Case, Report, Row};
use super::{plot, queue};
use crate::lock::Lock;
use crate::project::Project;

const JOBS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
const QUICK_JOBS: [u64; 4] = [1, 2, 8, 64];

const ENDING: &str = ".json.gz";

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Fewer numbers of jobs, and no graph of 10,000 units
    #[arg(long)]
    quick: bool,
    /// Only recordings whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// A mode, an order, and what is known of the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Mode `metadata` in stock order, as the released cargo builds.
    Stock,
    /// Mode `off`, with measured costs.
    Off,
    /// Mode `metadata`, with measured costs.
    Metadata,
    /// Mode `link`, with measured costs.
    Link,
    /// Mode `link`, where the units were never built before: costs are guessed.
    Cold,
    /// Mode `link` in stock order.
    StockOrder,
}

impl Side {
    pub const ALL: [Side; 6] = [
        Side::Stock,
        Side::Off,
        Side::Metadata,
        Side::Link,
        Side::Cold,
        Side::StockOrder,
    ];

    fn simulate(self, recording: &Recording, jobs: u64) -> Result<Outcome> {
        let (pipelining, schedule) = match self {
            Side::Stock => (Pipelining::Metadata, Schedule::Stock),
            Side::Off => (Pipelining::Off, Schedule::CriticalPath),
            Side::Metadata => (Pipelining::Metadata, Schedule::CriticalPath),
            Side::Link | Side::Cold => (Pipelining::Link, Schedule::CriticalPath),
            Side::StockOrder => (Pipelining::Link, Schedule::Stock),
        };
        let settings = Settings::new(jobs, pipelining, schedule);
        let costs = if self == Side::Cold {
            guessed
        } else {
            measured
        };
        simulate(recording, &settings, costs)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Simulates all builds, prints the tables, and writes them and the picture.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let sources = sources(project, args)?;
    let dir = project.root.join("target/bench");
    fs::create_dir_all(&dir)?;
    let _lock = Lock::command(project, "bench")?;
    let jobs = if args.quick { &QUICK_JOBS[..] } else { &JOBS };
    let cases = sources
        .iter()
        .map(|(name, recording)| case(name, recording, jobs));
    let report = Report {
        quick: args.quick,
        cases: cases.collect::<Result<_>>()?,
        queues: queue::measure(project, args.quick)?,
    };
    print!("{}", report.plain());
    for note in report.notes() {
        note!("{note}");
    }
    fs::write(dir.join("bench.md"), report.markdown())?;
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(dir.join("bench.json"), json + "\n")?;
    fs::write(dir.join("overview.svg"), plot::overview(&report)?)?;
    let dir = project.shown(&dir);
    status!("Wrote", "bench.md, bench.json and overview.svg to {dir}");
    Ok(())
}

/// Simulates a recording with these numbers of jobs, by all sides.
fn case(name: &str, recording: &Recording, jobs: &[u64]) -> Result<Case> {
    let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
    let mut rows = Vec::new();
    for &jobs in jobs {
        let mut row = Row {
            jobs,
            limit: seconds(limit::limit(recording, jobs)),
            ..Row::default()
        };
        for side in Side::ALL {
            let outcome = side.simulate(recording, jobs)?;
            row.walls.insert(side, seconds(outcome.wall));
            if side == Side::Link {
                row.most_paused = outcome.most_paused;
            }
        }
        rows.push(row);
    }
    Ok(Case {
        name: name.to_owned(),
        title: recording.name.clone(),
        units: recording.units.len(),
        work: seconds(recording.work()),
        rows,
    })
}

/// Reads the recordings that are asked for, in the order of their names.
fn sources(project: &Project, args: &Args) -> Result<BTreeMap<String, Recording>> {
    let dir = project.recordings();
    let mut files = BTreeMap::new();
    for file in dir.read_dir().into_iter().flatten() {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(ENDING) {
            files.insert(name.to_owned(), path);
        }
    }
    if files.is_empty() {
        bail!(
            "there is no recording of a build in {}",
            project.shown(&dir)
        );
    }
    if let Some(part) = &args.filter {
        let names = files.keys().cloned().collect::<Vec<_>>().join(", ");
        files.retain(|name, _| name.contains(part));
        if files.is_empty() {
            bail!("no recording has a name that contains `{part}`; there are: {names}");
        }
    }
    let files = files.into_iter();
    let sources = files.map(|(name, path)| Ok((name, Recording::read(&path)?)));
    sources.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::replay::recording::Unit;

    fn project(names: &[&str]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            root: dir.path().to_path_buf(),
            ..Project::default()
        };
        fs::create_dir_all(project.recordings()).unwrap();
        for name in names {
            let path = project.recordings().join(format!("{name}{ENDING}"));
            let mut recording = Recording::new(*name, "none", "anywhere");
            recording.units.push(Unit::default());
            recording.write(&path).unwrap();
        }
        (dir, project)
    }

    fn names(project: &Project, filter: &str) -> Result<Vec<String>> {
        let args = Args {
            quick: false,
            filter: Some(filter.to_owned()),
        };
        Ok(sources(project, &args)?.into_keys().collect())
    }

    #[test]
    fn recordings_are_chosen_by_name() {
        let (_dir, project) = project(&["ripgrep", "cargo-dev", "cargo-release", "bat"]);
        fs::write(project.recordings().join("README.md"), "").unwrap();
        let all = ["bat", "cargo-dev", "cargo-release", "ripgrep"];
        assert_eq!(names(&project, "").unwrap(), all);
        let cargo = ["cargo-dev", "cargo-release"];
        assert_eq!(names(&project, "cargo").unwrap(), cargo);
        let error = names(&project, "fd").unwrap_err().to_string();
        assert_eq!(
            error,
            "no recording has a name that contains `fd`; there are: bat, cargo-dev, cargo-release, ripgrep"
        );
    }
}
