//! `cargo xtask replay`: a recorded build, by a real cargo, with compilers that only take time.

use std::path::PathBuf;
use std::time::Duration;

use ::replay::stage::Settings;
use ::replay::{Recording, Time, limit};
use anyhow::{Context, Result, bail};
use cargo_pipelining::config::Pipelining;
use cargo_pipelining::config::Schedule;

use super::stage;
use crate::build::{self, Profile};
use crate::project::{Project, Variant, remove_dir};
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
    /// `build.pipelining` for the replacement: `off`, `metadata` or `link`
    #[arg(long, value_parser = setting::<Pipelining>)]
    mode: Option<Pipelining>,
    /// `build.schedule` for the replacement: `critical-path` or `stock`
    #[arg(long, value_parser = setting::<Schedule>)]
    schedule: Option<Schedule>,
    /// Another cargo than the replacement, for example the released one
    #[arg(long, value_name = "BIN")]
    cargo: Option<PathBuf>,
    /// Really sleep, by so much less than was recorded
    ///
    /// On Linux nobody sleeps otherwise: time passes as soon as nothing else is left to do. That
    /// leaves out what cargo itself needs.
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if f64::is_finite(speed) && speed > 0.0 => Ok(speed),
        _ => Err("a number above 0 is needed, such as 10".to_owned()),
    }
}

/// Replays once, and prints how long it took.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let recording = Recording::read(&args.recording)?;
    let jobs = match args.jobs {
        Some(0) => bail!("`--jobs` must be at least 1"),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?.get() as u64,
    };
    let built;
    let cargo = match &args.cargo {
        Some(cargo) => which::which(cargo)
            .with_context(|| format!("`--cargo {}` is no program", cargo.display()))?,
        None => {
            built = build::cargo(project, Variant::Patched, Profile::Release)?;
            built.path.clone()
        }
    };
    let stage = stage(project)?;
    let dir = project.root.join("target/replay/last");
    remove_dir(&dir)?;
    let scene = stage.prepare(&recording, &dir)?;
    status!("Replaying", "{}, -j{jobs}", recording.name);
    let settings = Settings {
        pipelining: args.mode.map(Pipelining::name),
        schedule: args.schedule.map(Schedule::name),
    };
    let time = args
        .speed
        .map_or_else(Time::best, |speed| Time::Wall { speed });
    let played = scene.play(&cargo, jobs, settings, time)?;

    let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
    let wall = played.log.wall().as_secs_f64() * time.speed();
    let work = seconds(recording.work());
    let limit = seconds(limit::limit(&recording, jobs));
    println!("{}", count(recording.units.len(), "unit", "units"));
    println!("wall time          {wall:8.2} s");
    for (name, figure) in [("work ", work), ("limit", limit)] {
        let ratio = wall / figure;
        println!("{name}              {figure:8.2} s  (wall is {ratio:.3} of it)");
    }
    println!("cargo really took   {:7.2} s", played.cargo.as_secs_f64());
    if let Time::Wall { .. } = time {
        println!(
            "a stand-in that does nothing takes {:.2} ms, which each takes off what it sleeps",
            stage.overhead.as_secs_f64() * 1e3
        );
    }
    if let Some(trace) = &played.trace {
        let trace = trace.display();
        println!("trace: {trace} (open it in https://ui.perfetto.dev)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_above_zero() {
        assert_eq!(speed("10"), Ok(10.0));
        for wrong in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
