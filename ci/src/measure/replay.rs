//! `cargo xtask replay`: a recorded build, simulated on the scheduler.

use std::path::PathBuf;
use std::time::Duration;

use ::replay::simulate::{Pipelining, Schedule, Settings, measured, simulate};
use ::replay::{Recording, limit};
use anyhow::{Result, bail};

use crate::setting;
use crate::shell::count;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recording, as `cargo xtask record` makes them
    #[arg(value_name = "TRACE")]
    recording: PathBuf,
    /// How many jobs; otherwise as many as the machine has processors
    #[arg(long, short)]
    jobs: Option<u64>,
    /// `build.pipelining`: `off`, `metadata` or `link`
    #[arg(long, value_parser = setting::<Pipelining>, default_value = "link")]
    mode: Pipelining,
    /// `build.schedule`: `critical-path` or `stock`
    #[arg(long, value_parser = setting::<Schedule>, default_value = "critical-path")]
    schedule: Schedule,
}

/// Simulates a build with measured costs, and prints what ran when and how long it took.
pub fn run(args: &Args) -> Result<()> {
    let recording = Recording::read(&args.recording)?;
    let jobs = match args.jobs {
        Some(0) => bail!("`--jobs` must be at least 1"),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?.get() as u64,
    };
    let settings = Settings::new(jobs, args.mode, args.schedule);
    let outcome = simulate(&recording, &settings, measured)?;
    let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
    let mut table = Table::new("|phase|start|end");
    for span in &outcome.spans {
        let unit = &recording.units[span.unit];
        let phase = format!("{:?}", span.phase).to_lowercase();
        let [start, end] = [span.start, span.end].map(seconds);
        let (package, target) = (&unit.package, &unit.target);
        table.row(&format!("{package} {target}|{phase}|{start:.2}|{end:.2}"));
    }
    println!("{}", table.plain());
    let wall = seconds(outcome.wall);
    let work = seconds(recording.work());
    let limit = seconds(limit::limit(&recording, jobs));
    println!("{}", count(recording.units.len(), "unit", "units"));
    println!("wall time          {wall:8.2} s");
    for (name, figure) in [("work ", work), ("limit", limit)] {
        let ratio = wall / figure;
        println!("{name}              {figure:8.2} s  (wall is {ratio:.3} of it)");
    }
    Ok(())
}
