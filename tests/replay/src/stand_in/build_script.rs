//! Replays a build script.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::clock::Clock;
use super::variable;
use crate::log::{Phase, now};
use crate::plan::{Plan, RUN, Side};
use crate::recording::{ELSEWHERE, OUT_DIR, PACKAGE_DIR};

/// Takes the time, and prints what the real one has printed.
pub fn run() -> Result<ExitCode> {
    let began = now();
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let level = variable("OPT_LEVEL")?;
    let path = package.join(RUN);
    let planned = Plan::read(&path)?
        .choose(false, Side::of_level(&level.to_string_lossy()))
        .with_context(|| path.display().to_string())?;
    let mut clock = Clock::start(began, planned.place)?;
    let stdout = planned
        .unit
        .stdout
        .replace(OUT_DIR, &out_dir.to_string_lossy())
        .replace(PACKAGE_DIR, &package.to_string_lossy())
        .replace(ELSEWHERE, &out_dir.to_string_lossy());
    clock.pass(Phase::Run, planned.unit.run)?;
    print!("{stdout}");
    Ok(ExitCode::SUCCESS)
}
