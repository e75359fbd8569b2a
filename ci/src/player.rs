//! `cargo xtask replay`: a recorded build, by a real cargo, with compilers that only sleep.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use replay::stage::Settings;
use replay::{Recording, Stage, Time, limit};

use crate::build::{self, Profile};
use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::shell::{self, count};
use crate::toolchain;
use crate::upstream::Mode;

/// `build.schedule`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Schedule {
    /// What is on the longest path through the rest of the build goes first.
    CriticalPath,
    /// What most others wait for goes first, as in the released cargo.
    Stock,
}

impl Schedule {
    /// Its name in Cargo's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::CriticalPath => "critical-path",
            Schedule::Stock => "stock",
        }
    }
}

/// What to replay.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file of the recording.
    pub recording: PathBuf,
    /// How many jobs.
    pub jobs: Option<u64>,
    /// `build.pipelining`.
    pub mode: Option<Mode>,
    /// `build.schedule`.
    pub schedule: Option<Schedule>,
    /// Another cargo than the replacement.
    pub cargo: Option<PathBuf>,
    /// By which clock.
    pub time: Time,
    /// Whether to download what is missing.
    pub network: Network,
}

/// Reads `--speed`.
pub fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if f64::is_finite(speed) && speed > 0.0 => Ok(speed),
        _ => Err("a number above 0 is needed, such as 10".to_owned()),
    }
}

/// Replays once and says how long it took.
pub fn run(layout: &Layout, request: &Request) -> Result<()> {
    let recording = Recording::read(&request.recording)?;
    let jobs = match request.jobs {
        Some(0) => bail!("`--jobs` must be at least 1"),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?.get() as u64,
    };
    let built;
    let cargo = match &request.cargo {
        Some(cargo) => which::which(cargo)
            .with_context(|| format!("`--cargo {}` is no program", cargo.display()))?,
        None => {
            built = build::cargo(
                layout,
                build::Request {
                    variant: Variant::Patched,
                    profile: Profile::Release,
                    network: request.network,
                },
            )?;
            built.path.clone()
        }
    };
    let stage = stage(layout, request.network)?;
    let dir = layout.replay().join("last");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let scene = stage.prepare(&recording, &dir)?;
    shell::status("Replaying", format_args!("{}, -j{jobs}", recording.name));
    let settings = Settings {
        pipelining: request.mode.map(Mode::name),
        schedule: request.schedule.map(Schedule::name),
    };
    let played = scene.play(&cargo, jobs, settings, request.time)?;

    let seconds = |time: Duration| time.as_secs_f64() * request.time.speed();
    let recorded = |micros: u64| micros as f64 / 1e6;
    let wall = seconds(played.log.wall());
    let work = recorded(recording.work());
    let limit = recorded(limit::limit(&recording, jobs));
    println!("{}", count(recording.units.len(), "unit", "units"));
    println!("wall time          {wall:8.2} s");
    println!(
        "work               {work:8.2} s  (wall is {:.3} of it)",
        wall / work
    );
    println!(
        "limit              {limit:8.2} s  (wall is {:.3} of it)",
        wall / limit
    );
    println!("cargo really took   {:7.2} s", played.cargo.as_secs_f64());
    if let Time::Wall { .. } = request.time {
        println!(
            "a stand-in that does nothing takes {:.2} ms, which each takes off what it sleeps",
            stage.overhead.as_secs_f64() * 1e3
        );
    }
    if let Some(trace) = &played.trace {
        println!(
            "trace: {} (open it in https://ui.perfetto.dev)",
            trace.display()
        );
    }
    Ok(())
}

/// The stand-in, built for speed.
pub fn stand_in(layout: &Layout, network: Network) -> Result<PathBuf> {
    let mut command = cargo::command("build", network);
    command
        .current_dir(layout.root())
        .args([
            "--package",
            "replay",
            "--bin",
            "stand-in",
            "--release",
            "--locked",
        ])
        .arg("--message-format=json-render-diagnostics");
    let mut executable = None;
    cargo::run(command, "building the stand-in", |line| {
        executable = build::executable_in(line, "bin").or(executable.take());
    })?;
    executable.context("cargo did not say where the stand-in is")
}

/// What all replays share: the stand-in and the compiler.
pub fn stage(layout: &Layout, network: Network) -> Result<Stage> {
    Stage::new(
        stand_in(layout, network)?,
        toolchain::rustc_itself()?,
        toolchain::rustc_info()?.host,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        assert_eq!(speed("10"), Ok(10.0));
        for wrong in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
