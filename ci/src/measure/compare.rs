//! `cargo xtask compare`: the replacement against the released cargo, on the project in the current
//! directory.
//!
//! The two take turns (A B, B A, …) in one target directory, because machines drift and what is built
//! depends on the path. Each pair gives one ratio; the median of the ratios is the result.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use cargo_pipelining::config::Pipelining;
use fs_err as fs;
use replay::usage::cpu_of_children;
use tempfile::TempDir;
use walkdir::WalkDir;

use super::median;
use crate::build::{self, Built};
use crate::project::{Project, Variant, remove_dir};
use crate::series::sha256;
use crate::{cargo, setting, toolchain};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many times each of them builds
    #[arg(long, default_value_t = 15, value_name = "N")]
    pairs: usize,
    /// Build what is built already, instead of from nothing
    #[arg(long)]
    fresh: bool,
    /// Touch this file in the finished build, and build what depends on it
    #[arg(long, value_name = "FILE", conflicts_with = "fresh")]
    touch: Option<PathBuf>,
    /// `cargo test --no-run` instead of `cargo build`
    #[arg(long)]
    tests: bool,
    /// Measure also how much memory all processes of a build hold together at most; that takes
    /// time, so the times should be those of another run (Linux only)
    #[arg(long)]
    memory: bool,
    /// Compare with the replacement in this mode (`off`, `metadata` or `link`), not with the
    /// released cargo
    #[arg(long, value_parser = setting::<Pipelining>, value_name = "MODE")]
    against: Option<Pipelining>,
    /// `build.pipelining` for the replacement
    #[arg(long, value_parser = setting::<Pipelining>)]
    mode: Option<Pipelining>,
    /// Further arguments of `cargo build`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

struct Side {
    name: &'static str,
    built: Built,
    mode: Option<Pipelining>,
    costs: Vec<Cost>,
    artifacts: Option<Artifacts>,
}

struct Cost {
    seconds: f64,
    /// The CPU time of all processes, in seconds.
    cpu: Option<f64>,
    /// The time to the CPU time divided among the cores.
    to_busy: Option<f64>,
    /// The most memory that all processes held together, in MiB.
    memory: Option<f64>,
}

type Artifacts = BTreeMap<PathBuf, String>;

/// Builds with both in turn, prints the times, and compares what they made.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let rustc = toolchain::rustc_itself()?;
    let side = |name, variant, mode| -> Result<Side> {
        Ok(Side {
            name,
            built: build::cargo(project, variant, true)?,
            mode,
            costs: Vec::new(),
            artifacts: None,
        })
    };
    let mut sides = [
        match args.against {
            Some(mode) => side(mode.name(), Variant::Patched, Some(mode))?,
            None => side("released", Variant::Stock, None)?,
        },
        side("replacement", Variant::Patched, args.mode)?,
    ];
    let dir = TempDir::with_prefix_in("compare-", project.upstream())?;
    let target = dir.path().join("target");
    for pair in 0..args.pairs {
        status!("Pair", "{} of {}", pair + 1, args.pairs);
        for turn in 0..2 {
            let side = &mut sides[(pair + turn) % 2];
            if args.fresh || args.touch.is_some() {
                // Each finds what it has built itself, also of what depends on the file: early cutoff
                // compares with that.
                touch(args)?;
                side.build(args, &target, &rustc)?;
                touch(args)?;
            } else {
                remove_dir(&target)?;
            }
            let cost = side.build(args, &target, &rustc)?;
            side.costs.push(cost);
            // To read them all takes longer than to find that there is nothing to do.
            if !args.fresh || pair + 1 == args.pairs {
                side.check_artifacts(&target)?;
            }
        }
    }

    let [released, replacement] = &sides;
    for side in [released, replacement] {
        print_spread(side.name, &side.figures(|cost| Some(cost.seconds)), " s");
        let after = " of its CPU time on all cores";
        print_spread("", &side.figures(|cost| cost.to_busy), after);
        print_spread("", &side.figures(|cost| cost.memory), " MiB held at most");
    }
    let ratios = |of: fn(&Cost) -> Option<f64>| -> Vec<f64> {
        std::iter::zip(&replacement.costs, &released.costs)
            .filter_map(|(replacement, released)| Some(of(replacement)? / of(released)?))
            .collect()
    };
    print_spread("ratio", &ratios(|cost| Some(cost.seconds)), "");
    print_spread("CPU time", &ratios(|cost| cost.cpu), "");
    print_spread("memory", &ratios(|cost| cost.memory), "");
    let [released, replacement] = sides.map(|side| side.artifacts.unwrap_or_default());
    if released != replacement {
        let differing = differing(&released, &replacement);
        bail!("these artifacts differ: {differing}");
    }
    println!("{} artifacts, byte-identical", released.len());
    Ok(())
}

impl Side {
    fn build(&self, args: &Args, target: &Path, rustc: &Path) -> Result<Cost> {
        let mut command = Command::new(&self.built.path);
        cargo::isolate(&mut command);
        if args.tests {
            command.args(["test", "--no-run"]);
        } else {
            command.arg("build");
        }
        command
            .args(&args.args)
            .arg("--target-dir")
            .arg(target)
            .env("RUSTC", rustc)
            .env_remove("CARGO_BUILD_PIPELINING")
            .stdin(Stdio::null());
        if let Some(mode) = self.mode {
            command.env("CARGO_BUILD_PIPELINING", mode.name());
        }
        let cpu_before = cpu_of_children();
        let began = Instant::now();
        let (output, memory) = run_sampled(&mut command, args.memory)?;
        let output = output.with_context(|| cargo::could_not_run(&command))?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu = cpu_of_children().zip(cpu_before);
        let cpu = cpu.map(|(after, before)| (after - before).as_secs_f64());
        if !output.status.success() {
            let (name, stderr) = (self.name, String::from_utf8_lossy(&output.stderr));
            bail!(
                "the {name} cargo could not build the project:\n{}",
                stderr.trim_end()
            );
        }
        let cores = std::thread::available_parallelism()?.get() as f64;
        Ok(Cost {
            seconds,
            cpu,
            to_busy: cpu.map(|cpu| seconds * cores / cpu),
            memory: memory.map(|bytes| bytes as f64 / f64::from(1 << 20)),
        })
    }

    /// Checks that this side makes the same each time.
    fn check_artifacts(&mut self, target: &Path) -> Result<()> {
        let artifacts = final_artifacts(target)?;
        if let Some(before) = &self.artifacts
            && *before != artifacts
        {
            let (name, differing) = (self.name, differing(before, &artifacts));
            bail!(
                "two builds with the {name} cargo differ, the project does not build reproducibly: {differing}"
            );
        }
        self.artifacts = Some(artifacts);
        Ok(())
    }

    fn figures(&self, of: fn(&Cost) -> Option<f64>) -> Vec<f64> {
        self.costs.iter().filter_map(of).collect()
    }
}

/// Runs a command, and samples the memory of all processes if that is asked for.
fn run_sampled(command: &mut Command, sample: bool) -> Result<(io::Result<Output>, Option<u64>)> {
    if !sample {
        return Ok((command.output(), None));
    }
    #[cfg(target_os = "linux")]
    {
        let (output, peak) = super::memory::peak_during(|| command.output());
        Ok((output, Some(peak)))
    }
    #[cfg(not(target_os = "linux"))]
    bail!("how much memory a build holds can only be measured on Linux")
}

fn touch(args: &Args) -> Result<()> {
    if let Some(file) = &args.touch {
        let file = fs::OpenOptions::new().write(true).open(file)?;
        file.set_modified(SystemTime::now())?;
    }
    Ok(())
}

/// Returns the paths at which the two do not have the same artifact.
fn differing(some: &Artifacts, others: &Artifacts) -> String {
    let mut paths: BTreeSet<&PathBuf> = some.keys().chain(others.keys()).collect();
    paths.retain(|path| some.get(*path) != others.get(*path));
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// Returns the files at the top of each profile's directory, where users find them, and everything
/// that can be executed or loaded (tests, procedural macros, build scripts), with their SHA-256.
fn final_artifacts(target: &Path) -> Result<Artifacts> {
    let mut artifacts = Artifacts::new();
    let files = WalkDir::new(target).min_depth(1).into_iter();
    let files = files.filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        !name.starts_with('.') && name != "incremental" && name != "out"
    });
    for file in files {
        let file = file?;
        let is_file = file.depth() > 1 && file.file_type().is_file();
        if is_file && (file.depth() == 2 || is_executable(&file.metadata()?)) {
            let path = file.path().strip_prefix(target)?;
            artifacts.insert(path.to_path_buf(), sha256(&fs::read(file.path())?));
        }
    }
    Ok(artifacts)
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

fn print_spread(name: &str, figures: &[f64], after: &str) {
    if !figures.is_empty() {
        println!("{name:12} {}{after}", spread(figures));
    }
}

/// Returns the median of some figures, and their least and greatest.
fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::NAN, f64::min);
    let greatest = figures.iter().copied().fold(f64::NAN, f64::max);
    let median = median(figures);
    format!("median {median:.3} ({least:.3} to {greatest:.3})")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spread_of_figures() {
        let spread = spread(&[1.0, 2.0, 4.0, 3.0]);
        assert_eq!(spread, "median 2.500 (1.000 to 4.000)");
    }

    #[test]
    fn only_what_users_look_for_is_final() {
        let target = tempfile::tempdir().unwrap();
        let debug = target.path().join("debug");
        fs::create_dir_all(debug.join("deps")).unwrap();
        for file in ["deps/app-0123", ".cargo-lock", "app", "../CACHEDIR.TAG"] {
            fs::write(debug.join(file), "").unwrap();
        }
        let artifacts = final_artifacts(target.path()).unwrap();
        let paths: Vec<_> = artifacts.keys().collect();
        assert_eq!(paths, [Path::new("debug/app")]);
    }
}
