//! Replays the linker.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::variable;
use crate::log::{Phase, now};
use crate::recording::{Role, Unit};

/// In the environment of the linker: what the compiler has to say of the unit.
const LINK: &str = "REPLAY_LINK";

#[derive(Serialize, Deserialize)]
struct Job {
    place: usize,
    /// µs.
    link: u64,
    is_build_script: bool,
}

/// Has the linker know what it links.
pub fn tell(command: &mut Command, place: usize, unit: &Unit) -> Result<()> {
    let job = Job {
        place,
        link: unit.link,
        is_build_script: unit.role() == Role::BuildScript,
    };
    command.env(LINK, serde_json::to_string(&job)?);
    Ok(())
}

/// Takes the time, and makes a file of what `-o` says. That of a build script is this very program,
/// which will replay it.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let began = now();
    let job = variable(LINK)?;
    let job: Job = serde_json::from_slice(job.as_encoded_bytes())
        .with_context(|| format!("`{LINK}` is {job:?}"))?;
    let mut clock = Clock::start(began, job.place)?;
    let output = args
        .iter()
        .skip_while(|arg| *arg != "-o")
        .nth(1)
        .context("the linker was not told what to write")?;
    let output = Path::new(output);
    if job.is_build_script {
        let this = std::env::current_exe()?;
        if fs::hard_link(&this, output).is_err() {
            fs::copy(this, output)?;
        }
    } else {
        fs::write(output, "")?;
    }
    clock.pass(Phase::Link, job.link)?;
    Ok(ExitCode::SUCCESS)
}
