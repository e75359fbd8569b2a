//! `cargo xtask test`: every test of this project, on a replacement that is built first.

use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::build;
use crate::cargo;
use crate::project::{Project, Variant};

/// Tells the integration tests which cargo to test.
const VARIABLE: &str = "PIPELINED_CARGO";

/// Runs `cargo test --workspace` with further arguments, and returns its exit code.
pub fn run(project: &Project, args: &[OsString]) -> Result<ExitCode> {
    status!("Building", "the replacement cargo, which the tests run");
    let built = build::cargo(project, Variant::Patched, false)?;
    let shown = project.shown(&built.path);
    status!("Testing", "with {shown}");
    let mut command = cargo::command(project, "test");
    let status = command
        .current_dir(&project.root)
        .arg("--workspace")
        .args(args)
        .env(VARIABLE, &built.path)
        .stdin(Stdio::inherit())
        .status()
        .with_context(|| cargo::could_not_run(&command))?;
    // Without a code a signal has ended it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(101)))
}
