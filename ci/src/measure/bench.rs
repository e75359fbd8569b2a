//! `cargo xtask bench`: measures what more overlap is worth, and what the queue costs.
//!
//! ```text
//!   recordings ──> simulations: each side × jobs, by the scheduler ──> wall time, limit
//!   generated  ──> the two queues alone                            ──> CPU time and memory
//! ```
//!
//! The documentation of the `replay` package lists what a simulation leaves out.

use std::fmt;
use std::time::Duration;

use ::replay::simulate::{
    Outcome, Pipelining, Schedule, Settings, guessed, measured, prior::Table, simulate,
};
use ::replay::{Recording, limit};
use anyhow::Result;
use fs_err as fs;
use serde::Serialize;

use super::report::{Case, Report, Row};
use super::sources::{Source, named, sources};
use super::{plot, prior, queue};
use crate::lock::Lock;
use crate::project::Project;

const JOBS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
const QUICK_JOBS: [u64; 4] = [1, 2, 8, 64];

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

    fn simulate(self, recording: &Recording, jobs: u64, known: Table<'_>) -> Result<Outcome> {
        let (pipelining, schedule) = match self {
            Side::Stock => (Pipelining::Metadata, Schedule::Stock),
            Side::Off => (Pipelining::Off, Schedule::CriticalPath),
            Side::Metadata => (Pipelining::Metadata, Schedule::CriticalPath),
            Side::Link | Side::Cold => (Pipelining::Link, Schedule::CriticalPath),
            Side::StockOrder => (Pipelining::Link, Schedule::Stock),
        };
        let settings = Settings::new(jobs, pipelining, schedule);
        simulate(recording, &settings, |unit| match self {
            Side::Cold => guessed(unit, known),
            _ => measured(unit),
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Simulates all builds, prints the tables, and writes them and the picture.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let sources = sources(project)?;
    let chosen = named(&sources, args.filter.as_deref().unwrap_or_default())?;
    let dir = project.root.join("target/bench");
    fs::create_dir_all(&dir)?;
    let _lock = Lock::command(project, "bench")?;
    let jobs = if args.quick { &QUICK_JOBS[..] } else { &JOBS };
    let cases = chosen.into_iter().map(|source| {
        let without = prior::without(&sources, source);
        let known = without.as_deref().map_or(Table::SHIPPED, Table::new);
        case(source, jobs, known)
    });
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

/// Simulates a recording with these numbers of jobs, by all sides. `known` is what a first build has to guess by.
fn case(source: &Source, jobs: &[u64], known: Table<'_>) -> Result<Case> {
    let recording = &source.recording;
    let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
    let mut rows = Vec::new();
    for &jobs in jobs {
        let mut row = Row {
            jobs,
            limit: seconds(limit::limit(recording, jobs)),
            ..Row::default()
        };
        for side in Side::ALL {
            let outcome = side.simulate(recording, jobs, known)?;
            row.walls.insert(side, seconds(outcome.wall));
            if side == Side::Link {
                row.most_paused = outcome.most_paused;
            }
        }
        rows.push(row);
    }
    Ok(Case {
        name: source.name.clone(),
        set: source.set,
        title: recording.name.clone(),
        units: recording.units.len(),
        work: seconds(recording.work()),
        rows,
    })
}
