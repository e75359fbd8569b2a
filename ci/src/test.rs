//! `cargo xtask test`: every test of this project, on a replacement that is built first.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::build::{self, Request};
use crate::cargo;
use crate::layout::Layout;
use crate::shell;

/// What tells the integration tests which cargo to test.
const VARIABLE: &str = "PIPELINED_CARGO";

/// Runs `cargo test --workspace` with further arguments; its exit code is passed on.
pub fn run(layout: &Layout, request: Request, args: &[OsString]) -> Result<i32> {
    shell::status(
        "Building",
        "the replacement cargo, which the tests are run on",
    );
    let built = build::cargo(layout, request)?;
    shell::status(
        "Testing",
        format_args!("with {}", layout.shown(&built.path)),
    );
    let mut command = cargo::command("test", request.network);
    let status = command
        .current_dir(layout.root())
        .arg("--workspace")
        .args(args)
        .env(VARIABLE, &built.path)
        .stdin(Stdio::inherit())
        .status()
        .with_context(|| format!("could not run `{}`", command.get_program().display()))?;
    // Without a code a signal has ended it.
    Ok(status.code().unwrap_or(101))
}
