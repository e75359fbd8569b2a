//! `cargo xtask bench`: measures what more overlap is worth, and what the queue costs.
//!
//! ```text
//!   recordings ──> simulations: each side × jobs       ──> wall time, limit
//!   generated  ──> the two queues alone, by the clock  ──> CPU time and memory
//! ```
//!
//! The sides, [`Side::ALL`], differ in how early a unit may start, and in which goes first: by known
//! costs, by guessed ones (cold), or in the order of the released cargo.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::replay::simulate::simulate;
use ::replay::{Recording, limit};
use anyhow::{Result, bail};
use fs_err as fs;

use super::report::{Case, Report, Row, Side};
use super::{plot, queue, seconds};
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

/// Simulates and measures, prints the tables, and writes them and the picture.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let sources = sources(project, args)?;
    let jobs = if args.quick { &QUICK_JOBS[..] } else { &JOBS };
    let cases = sources.iter().map(|source| case(source, jobs));
    let report = Report {
        quick: args.quick,
        cases: cases.collect::<Result<_>>()?,
        queues: queue::measure(project, args.quick)?,
    };
    print!("{}", report.plain());
    for note in report.notes() {
        note!("{note}");
    }
    let dir = project.root.join("target/bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("bench.md"), report.markdown())?;
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(dir.join("bench.json"), json + "\n")?;
    fs::write(dir.join("overview.svg"), plot::overview(&report)?)?;
    let dir = project.shown(&dir);
    status!("Wrote", "bench.md, bench.json and overview.svg to {dir}");
    Ok(())
}

/// A recording of a build.
struct Source {
    name: String,
    recording: Recording,
}

/// Reads the recordings that are asked for, in the order of their names.
fn sources(project: &Project, args: &Args) -> Result<Vec<Source>> {
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
    let read = |(name, path): (String, PathBuf)| {
        let recording = Recording::read(&path)?;
        Ok(Source { name, recording })
    };
    files.into_iter().map(read).collect()
}

/// Builds a recording with each number of jobs in turn.
fn case(source: &Source, jobs: &[u64]) -> Result<Case> {
    let Source { name, recording } = source;
    status!("Simulating", "{}", recording.name);
    let mut rows = Vec::new();
    for &jobs in jobs {
        let mut row = Row {
            jobs,
            limit: seconds(limit::limit(recording, jobs)),
            ..Row::default()
        };
        for side in Side::ALL {
            let outcome = simulate(recording, &side.settings(jobs), side.costs())?;
            row.walls.insert(side, seconds(outcome.wall));
            if side == Side::Link {
                row.most_paused = outcome.most_paused;
            }
        }
        rows.push(row);
    }
    Ok(Case {
        name: name.clone(),
        title: recording.name.clone(),
        units: recording.units.len(),
        work: seconds(recording.work()),
        rows,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::replay::generate::{Shape, generate};

    fn project(names: &[&str]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            root: dir.path().to_path_buf(),
            ..Project::default()
        };
        fs::create_dir_all(project.recordings()).unwrap();
        for name in names {
            let path = project.recordings().join(format!("{name}{ENDING}"));
            generate(Shape::Chain, 1).write(&path).unwrap();
        }
        (dir, project)
    }

    fn names(project: &Project, filter: &str) -> Result<Vec<String>> {
        let args = Args {
            filter: Some(filter.to_owned()),
            ..Args::default()
        };
        let sources = sources(project, &args)?;
        Ok(sources.into_iter().map(|source| source.name).collect())
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

    #[test]
    fn sides_that_overlap_more_are_quicker() {
        let mut recording = generate(Shape::Chain, 3);
        for unit in &mut recording.units {
            (unit.frontend, unit.codegen) = (2_000_000, 3_000_000);
        }
        recording.units[2].kind = vec!["bin".to_owned()];
        let name = "chain".to_owned();
        let case = case(&Source { name, recording }, &[1, 8]).unwrap();
        let walls = |row: &Row| Side::ALL.map(|side| row.walls[&side]);
        assert_eq!(walls(&case.rows[0]), [15.0; 6]);
        assert_eq!(walls(&case.rows[1]), [12.0, 15.0, 12.0, 9.0, 9.0, 9.0]);
        assert_eq!(case.rows[1].limit, 9.0);
    }
}
