//! `cargo xtask replay`: a recorded build, simulated.

use std::path::PathBuf;

use ::replay::simulate::{Settings, guessed, known, simulate};
use ::replay::{Recording, limit};
use anyhow::{Result, bail};
use cargo_pipelining::config::{Pipelining, Schedule};
use fs_err as fs;

use super::seconds;
use crate::project::Project;
use crate::setting;
use crate::shell::count;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recording, as `cargo xtask record` makes them
    #[arg(value_name = "TRACE")]
    recording: PathBuf,
    /// How many jobs; otherwise as many as the machine has processors
    #[arg(long, short)]
    jobs: Option<u64>,
    /// `build.pipelining`: `off`, `metadata` or `link`
    #[arg(long, value_parser = setting::<Pipelining>)]
    mode: Option<Pipelining>,
    /// `build.schedule`: `critical-path` or `stock`
    #[arg(long, value_parser = setting::<Schedule>)]
    schedule: Option<Schedule>,
    /// Guess what units cost, as in a first build
    #[arg(long)]
    cold: bool,
}

/// Simulates once, and prints how long it took.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let recording = Recording::read(&args.recording)?;
    let jobs = match args.jobs {
        Some(0) => bail!("`--jobs` must be at least 1"),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?.get() as u64,
    };
    let (mode, schedule) = (
        args.mode.unwrap_or_default(),
        args.schedule.unwrap_or_default(),
    );
    let trace = project.root.join("target/replay/trace.json");
    if let Some(dir) = trace.parent() {
        fs::create_dir_all(dir)?;
    }
    let settings = Settings {
        trace: Some(trace.clone()),
        ..Settings::new(jobs, mode, schedule)
    };
    status!("Simulating", "{}, -j{jobs}", recording.name);
    let costs = if args.cold { guessed } else { known };
    let outcome = simulate(&recording, &settings, costs)?;

    let wall = seconds(outcome.wall);
    let work = seconds(recording.work());
    let limit = seconds(limit::limit(&recording, jobs));
    println!("{}", count(recording.units.len(), "unit", "units"));
    println!("wall time          {wall:8.2} s");
    for (name, figure) in [("work ", work), ("limit", limit)] {
        let ratio = wall / figure;
        println!("{name}              {figure:8.2} s  (wall is {ratio:.3} of it)");
    }
    println!("most paused at once {:4}", outcome.most_paused);
    let trace = trace.display();
    println!("trace: {trace} (open it in https://ui.perfetto.dev)");
    Ok(())
}
