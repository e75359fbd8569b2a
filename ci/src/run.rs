//! `cargo xtask run`: the replacement, built and then run.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::build::{self, Request};
use crate::cargo;
use crate::layout::Layout;
use crate::shell;
use crate::trace::Build;

/// Runs the replacement with `args` where the user is, or else on the example.
pub fn run(layout: &Layout, request: Request, args: &[OsString]) -> Result<()> {
    let built = build::cargo(layout, request)?;
    let mut command = Command::new(&built.path);
    cargo::isolate(&mut command);
    if args.is_empty() {
        return example(layout, command);
    }
    command.args(args);
    // From here on the tree is not needed.
    drop(built);
    become_it(command)
}

/// Puts the command in the place of this process, so that signals and the exit code are its own.
#[cfg(unix)]
fn become_it(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("could not run {}", command.get_program().display()))
}

#[cfg(not(unix))]
fn become_it(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not run {}", command.get_program().display()))?;
    std::process::exit(status.code().unwrap_or(101));
}

/// Builds the bundled workspace from nothing and shows what overlapped.
fn example(layout: &Layout, mut command: Command) -> Result<()> {
    let manifest = layout.example().join("Cargo.toml");
    if !manifest.is_file() {
        bail!("there is no example at {}", manifest.display());
    }
    let output = layout.example_output();
    let target = output.join("build");
    let trace = output.join("trace.json");
    match fs::remove_dir_all(&output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&output)?,
    }
    shell::status("Running", "the replacement cargo on the example");
    command
        .args(["build", "--locked", "--offline", "--timings"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_BUILD_TRACE", &trace)
        .env_remove("CARGO_TARGET_DIR");
    let status = command
        .status()
        .with_context(|| format!("could not run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("building the example failed ({status})");
    }
    let text = fs::read_to_string(&trace).context("the build left no trace")?;
    let build =
        Build::parse(&text).with_context(|| format!("{} cannot be read", trace.display()))?;
    print!("\n{}", build.table());
    println!(
        "\ntrace:   {} (open it in https://ui.perfetto.dev)",
        trace.display()
    );
    let timings = target.join("cargo-timings").join("cargo-timing.html");
    println!("timings: {} (open it in a browser)", timings.display());
    Ok(())
}
