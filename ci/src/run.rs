//! `cargo xtask run`: builds the replacement and runs it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use replay::BuildTrace;

use crate::build;
use crate::cargo;
use crate::overlap;
use crate::project::{Project, Variant, remove_dir};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build with optimizations
    #[arg(long)]
    release: bool,
    /// Arguments for the replacement
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Runs the replacement with arguments in the current directory, or else on the example.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let built = build::cargo(project, Variant::Patched, args.release)?;
    let mut command = Command::new(&built.path);
    cargo::isolate(&mut command);
    if args.args.is_empty() {
        return example(project, command);
    }
    command.args(&args.args);
    // From here on the tree is not needed.
    drop(built);
    replace_process(command)
}

/// Replaces this process by the command, which gets its signals and sets its exit code.
#[cfg(unix)]
fn replace_process(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| cargo::could_not_run(&command))
}

#[cfg(not(unix))]
fn replace_process(mut command: Command) -> Result<()> {
    let status = command.status();
    let status = status.with_context(|| cargo::could_not_run(&command))?;
    std::process::exit(status.code().unwrap_or(101));
}

/// Builds the bundled workspace from nothing and shows what overlapped.
fn example(project: &Project, mut command: Command) -> Result<()> {
    let manifest = project.root.join("example/Cargo.toml");
    if !manifest.is_file() {
        bail!("there is no example at {}", manifest.display());
    }
    let output = project.root.join("target/example");
    let (target, trace) = (output.join("build"), output.join("trace.json"));
    remove_dir(&output)?;
    fs::create_dir_all(&output)?;
    status!("Running", "the replacement cargo on the example");
    let status = command
        .args(["build", "--locked", "--offline", "--timings"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_BUILD_TRACE", &trace)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .with_context(|| cargo::could_not_run(&command))?;
    if !status.success() {
        bail!("building the example failed ({status})");
    }
    println!("\n{}", overlap::table(&BuildTrace::read(&trace)?));
    let timings = target.join("cargo-timings").join("cargo-timing.html");
    let (trace, timings) = (trace.display(), timings.display());
    println!("\ntrace:   {trace} (open it in https://ui.perfetto.dev)");
    println!("timings: {timings} (open it in a browser)");
    Ok(())
}
