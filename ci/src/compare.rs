//! `cargo xtask compare`: the replacement against the released cargo, on the project in the current
//! directory.
//!
//! The two take turns (A B, B A, …) in one target directory, because machines drift and what is
//! built depends on the path. Each pair gives one ratio; the median of the ratios is what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::build::{self, Built, Profile};
use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::series::sha256;
use crate::upstream::Mode;
use crate::{shell, toolchain, usage};

/// What to compare.
#[derive(Clone, Debug)]
pub struct Request {
    /// How many times each of the two builds.
    pub pairs: usize,
    /// Build what is built already, instead of from nothing.
    pub fresh: bool,
    /// A file to touch in the finished build, so that what depends on it is built again.
    pub touch: Option<PathBuf>,
    /// Compare with the replacement in this mode instead of with the released cargo.
    pub against: Option<Mode>,
    /// Build the tests, too.
    pub tests: bool,
    /// Measure the memory, too.
    pub memory: bool,
    /// `build.pipelining` for the replacement.
    pub mode: Option<Mode>,
    /// Whether to download what is missing.
    pub network: Network,
    /// Further arguments of `cargo build`.
    pub args: Vec<OsString>,
}

/// One of the two cargos.
struct Side {
    name: &'static str,
    built: Built,
    rustc: PathBuf,
    mode: Option<Mode>,
    costs: Vec<Cost>,
    artifacts: Option<BTreeMap<PathBuf, String>>,
}

/// What a build took.
struct Cost {
    seconds: f64,
    /// The CPU time of all processes, in seconds.
    cpu: Option<f64>,
    /// How many times as long as if all cores had worked at it all the time.
    to_busy: Option<f64>,
    /// The most that all processes held together, in MiB.
    memory: Option<f64>,
}

/// Builds with both in turn, prints the times, and compares what they made.
pub fn run(layout: &Layout, request: &Request) -> Result<()> {
    let rustc = toolchain::rustc_itself()?;
    let side = |name, variant, mode| -> Result<Side> {
        let built = build::cargo(
            layout,
            build::Request {
                variant,
                profile: Profile::Release,
                network: request.network,
            },
        )?;
        Ok(Side {
            name,
            built,
            rustc: rustc.clone(),
            mode,
            costs: Vec::new(),
            artifacts: None,
        })
    };
    let mut sides = [
        match request.against {
            Some(mode) => side(mode.name(), Variant::Patched, Some(mode))?,
            None => side("released", Variant::Stock, None)?,
        },
        side("replacement", Variant::Patched, request.mode)?,
    ];
    let target = tempfile::Builder::new()
        .prefix("compare-")
        .tempdir_in(layout.upstream())?;
    for pair in 0..request.pairs {
        shell::status("Pair", format_args!("{} of {}", pair + 1, request.pairs));
        for turn in 0..2 {
            let side = &mut sides[(pair + turn) % 2];
            let dir = target.path().join("target");
            if request.fresh || request.touch.is_some() {
                // Each finds what it has built itself, also of what depends on the file: that is what
                // early cutoff goes by.
                if let Some(file) = &request.touch {
                    touch(file)?;
                }
                side.build(&dir, request)?;
                if let Some(file) = &request.touch {
                    touch(file)?;
                }
            } else if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            let cost = side.build(&dir, request)?;
            side.costs.push(cost);
            // To read them all takes longer than to find that there is nothing to do.
            if !request.fresh || pair + 1 == request.pairs {
                side.check_artifacts(&dir)?;
            }
        }
    }

    let [released, replacement] = &sides;
    for side in [released, replacement] {
        let figures = |of: fn(&Cost) -> Option<f64>| -> Vec<f64> {
            side.costs.iter().filter_map(of).collect()
        };
        let seconds = figures(|cost| Some(cost.seconds));
        println!("{:12} {}", side.name, Spread::of(&seconds, " s"));
        let to_busy = figures(|cost| cost.to_busy);
        if !to_busy.is_empty() {
            let spread = Spread::of(&to_busy, "");
            println!("{:12} {spread} of its CPU time on all cores", "");
        }
        let memory = figures(|cost| cost.memory);
        if !memory.is_empty() {
            println!("{:12} {} held at most", "", Spread::of(&memory, " MiB"));
        }
    }
    let ratios = |of: fn(&Cost) -> Option<f64>| -> Vec<f64> {
        std::iter::zip(&replacement.costs, &released.costs)
            .filter_map(|(replacement, released)| Some(of(replacement)? / of(released)?))
            .collect()
    };
    let times = ratios(|cost| Some(cost.seconds));
    println!("{:12} {}", "ratio", Spread::of(&times, ""));
    let cpu = ratios(|cost| cost.cpu);
    if !cpu.is_empty() {
        println!("{:12} {}", "CPU time", Spread::of(&cpu, ""));
    }
    let memory = ratios(|cost| cost.memory);
    if !memory.is_empty() {
        println!("{:12} {}", "memory", Spread::of(&memory, ""));
    }
    let [released, replacement] = sides.map(|side| side.artifacts.unwrap_or_default());
    if released != replacement {
        bail!(
            "these artifacts differ: {}",
            differing(&released, &replacement)
        );
    }
    println!("{} artifacts, byte-identical", released.len());
    Ok(())
}

impl Side {
    fn build(&self, target: &Path, request: &Request) -> Result<Cost> {
        let mut command = Command::new(&self.built.path);
        cargo::isolate(&mut command);
        command
            .args(match request.tests {
                true => ["test", "--no-run"].as_slice(),
                false => &["build"],
            })
            .args(&request.args)
            .arg("--target-dir")
            .arg(target)
            .env("RUSTC", &self.rustc)
            .env_remove("CARGO_BUILD_PIPELINING")
            .stdin(Stdio::null());
        if let Some(mode) = self.mode {
            command.env("CARGO_BUILD_PIPELINING", mode.name());
        }
        let sampler = request
            .memory
            .then(usage::Sampler::of_children)
            .transpose()?;
        let cpu_before = usage::cpu_of_children();
        let began = Instant::now();
        let output = command
            .output()
            .with_context(|| format!("could not run {}", self.built.path.display()))?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu = usage::cpu_of_children()
            .zip(cpu_before)
            .map(|(after, before)| (after - before).as_secs_f64());
        let memory = sampler.map(|sampler| sampler.peak() as f64 / f64::from(1 << 20));
        if !output.status.success() {
            bail!(
                "the {} cargo could not build the project:\n{}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        let cores = std::thread::available_parallelism()?.get() as f64;
        Ok(Cost {
            seconds,
            cpu,
            to_busy: cpu.map(|cpu| seconds * cores / cpu),
            memory,
        })
    }

    /// What this side makes must also be the same each time.
    fn check_artifacts(&mut self, target: &Path) -> Result<()> {
        let artifacts = final_artifacts(target)?;
        match &self.artifacts {
            Some(before) if *before != artifacts => bail!(
                "two builds with the {} cargo differ, the project does not build reproducibly: {}",
                self.name,
                differing(before, &artifacts)
            ),
            _ => self.artifacts = Some(artifacts),
        }
        Ok(())
    }
}

fn touch(file: &Path) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    Ok(file.set_modified(SystemTime::now())?)
}

/// The paths of which only one has an artifact, or another one.
fn differing(some: &BTreeMap<PathBuf, String>, others: &BTreeMap<PathBuf, String>) -> String {
    let paths: BTreeSet<&PathBuf> = some.keys().chain(others.keys()).collect();
    let differing = paths
        .into_iter()
        .filter(|path| some.get(*path) != others.get(*path))
        .map(|path| path.display().to_string());
    differing.collect::<Vec<_>>().join(", ")
}

/// The files at the top of each profile's directory, where users find them, and everything that can
/// be executed or loaded (tests, procedural macros, build scripts), with their SHA-256.
fn final_artifacts(target: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut artifacts = BTreeMap::new();
    for profile in fs::read_dir(target)? {
        let profile = profile?.path();
        let mut unvisited = match profile.is_dir() {
            true => vec![profile.clone()],
            false => Vec::new(),
        };
        while let Some(dir) = unvisited.pop() {
            for file in fs::read_dir(&dir)? {
                let file = file?.path();
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with('.') || name == "incremental" || name == "out" {
                    continue;
                }
                let metadata = fs::symlink_metadata(&file)?;
                if metadata.is_dir() {
                    unvisited.push(file);
                } else if metadata.is_file() && (dir == profile || is_executable(&metadata)) {
                    let digest = sha256(&fs::read(&file)?);
                    let path = file.strip_prefix(target).unwrap_or(&file).to_path_buf();
                    artifacts.insert(path, digest);
                }
            }
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

/// The figure in the middle, or the mean of the two; of none it is not a number.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    match figures.get(half) {
        None => f64::NAN,
        Some(middle) if figures.len() % 2 == 1 => *middle,
        Some(middle) => f64::midpoint(figures[half - 1], *middle),
    }
}

/// The median of some figures, and between what they lie.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
    unit: &'static str,
}

impl Spread {
    fn of(figures: &[f64], unit: &'static str) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Spread {
            median: median(figures.to_vec()),
            least: at(0),
            greatest: at(sorted.len().saturating_sub(1)),
            unit,
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = self.unit;
        write!(
            f,
            "median {:.3}{unit} ({:.3} to {:.3})",
            self.median, self.least, self.greatest
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_figure_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn medians() {
        let odd = Spread::of(&[3.0, 1.0, 2.0], " s").to_string();
        assert_eq!(odd, "median 2.000 s (1.000 to 3.000)");
        let even = Spread::of(&[1.0, 2.0, 4.0, 3.0], "").to_string();
        assert_eq!(even, "median 2.500 (1.000 to 4.000)");
    }

    #[test]
    fn only_what_users_look_for_is_final() {
        let target = tempfile::tempdir().unwrap();
        let debug = target.path().join("debug");
        fs::create_dir_all(debug.join("deps")).unwrap();
        fs::write(debug.join("deps/app-0123"), "deps").unwrap();
        fs::write(debug.join(".cargo-lock"), "").unwrap();
        fs::write(debug.join("app"), "app").unwrap();
        fs::write(target.path().join("CACHEDIR.TAG"), "").unwrap();
        let artifacts = final_artifacts(target.path()).unwrap();
        let paths: Vec<_> = artifacts.keys().collect();
        assert_eq!(paths, [Path::new("debug/app")]);
    }
}
