//! `cargo xtask bench`: measures what more overlap is worth, and what the queue costs.
//!
//! ```text
//!   recordings ──> replays: each side × jobs, with real cargos ──> wall time, limit
//!   generated  ──> the two queues alone, without a cargo       ──> CPU time and memory
//! ```
//!
//! The sides, [`Side::ALL`], differ in how early a unit may start, and in which goes first: by measured
//! costs, by guessed ones (cold), or in the order of the released cargo.
//!
//! Where time is virtual, replays do not disturb each other, and one more runs at once than the machine
//! has processors, as each waits now and then. They take long, so [`results`](super::results) keeps
//! what is known. The queues are measured by the clock, after the replays and each time anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::replay::stage::Scene;
use ::replay::{BuildTrace, Recording, Stage, Time, limit};
use anyhow::{Context, Result, anyhow, bail};
use fs_err as fs;

use super::report::{Case, Report, Row};
use super::results::{Measured, Results, Side};
use super::{plot, queue, stage};
use crate::build::{self, Built, Profile};
use crate::lock::Lock;
use crate::project::{Project, Variant, remove_dir};
use crate::series::sha256;
use crate::shell::{Progress, count};

const JOBS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
const QUICK_JOBS: [u64; 4] = [1, 2, 8, 64];

/// The number of units that the cases of a quick run have together.
const QUICK_UNITS: usize = 300;

/// How many builds pass between two lines of progress where there is no terminal.
const STRIDE: u64 = 12;

const ENDING: &str = ".json.gz";

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Fewer numbers of jobs, the smallest recordings and no graph of 10,000 units
    #[arg(long)]
    quick: bool,
    /// Only recordings whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Measures what is not known yet, prints the tables, and writes them and the picture.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let sources = sources(project, args)?;
    let dir = project.root.join("target/bench");
    fs::create_dir_all(&dir)?;
    let _lock = Lock::bench(project)?;
    let mut results = Results::open(&dir.join("results.jsonl"))?;
    let stage = stage(project)?;
    let tools = Tools {
        replacement: Cargo::build(project, Variant::Patched)?,
        stock: Cargo::build(project, Variant::Stock)?,
        stand_in: digest(&stage.stand_in)?,
        stage,
        time: Time::best(),
        scenes: dir.join("scenes"),
    };
    let jobs = if args.quick { &QUICK_JOBS[..] } else { &JOBS };
    let mut plays = Vec::new();
    for source in &sources {
        for &jobs in jobs {
            plays.extend(Side::SEQUENCES.map(|sides| Play {
                source,
                sides,
                jobs,
            }));
        }
    }
    tools.play_all(&plays, &mut results)?;
    let mut cases = Vec::new();
    for source in &sources {
        cases.push(tools.case(source, jobs, &results)?);
    }
    let report = Report {
        quick: args.quick,
        cases,
        queues: queue::measure(project, args.quick)?,
    };
    print!("{}", report.plain());
    for note in report.notes() {
        note!("{note}");
    }
    fs::write(dir.join("bench.md"), report.markdown())?;
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(dir.join("bench.json"), json + "\n")?;
    fs::write(dir.join("overview.svg"), plot::overview(&report)?)?;
    let dir = project.shown(&dir);
    status!("Wrote", "bench.md, bench.json and overview.svg to {dir}");
    Ok(())
}

/// A recording that can be played.
struct Source {
    name: String,
    digest: String,
    recording: Recording,
}

/// Reads the recordings that are asked for, in the order of their names.
fn sources(project: &Project, args: &Args) -> Result<Vec<Source>> {
    let dir = project.recordings();
    let mut files = BTreeMap::new();
    for file in dir.read_dir().into_iter().flatten() {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(ENDING) {
            files.insert(name.to_owned(), path);
        }
    }
    if files.is_empty() {
        bail!(
            "there is no recording of a build in {}",
            project.shown(&dir)
        );
    }
    if let Some(part) = &args.filter {
        let names = files.keys().cloned().collect::<Vec<_>>().join(", ");
        files.retain(|name, _| name.contains(part));
        if files.is_empty() {
            bail!("no recording has a name that contains `{part}`; there are: {names}");
        }
    }
    let mut sources = Vec::new();
    for (name, path) in files {
        sources.push(Source {
            name,
            digest: digest(&path)?,
            recording: Recording::read(&path)?,
        });
    }
    if args.quick {
        // The smallest ones, and at least one.
        sources.sort_by_key(|source| source.recording.units.len());
        let mut units = 0;
        let number = sources.iter().take_while(|source| {
            units += source.recording.units.len();
            units <= QUICK_UNITS
        });
        sources.truncate(number.count().max(1));
        sources.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(sources)
}

fn digest(path: &Path) -> Result<String> {
    Ok(sha256(&fs::read(path)?))
}

/// A recording, to be played by some sides in a row.
#[derive(Clone, Copy)]
struct Play<'s> {
    source: &'s Source,
    /// One of [`Side::SEQUENCES`].
    sides: &'static [Side],
    jobs: u64,
}

impl Play<'_> {
    fn name(&self) -> String {
        let sides: Vec<_> = self.sides.iter().map(Side::to_string).collect();
        let (name, sides) = (&self.source.recording.name, sides.join(", "));
        format!("{name}, {sides}, -j{}", self.jobs)
    }

    fn builds(&self) -> usize {
        let sides = self.sides.iter();
        sides.map(|side| side.rounds(self.jobs)).sum()
    }
}

struct Cargo {
    built: Built,
    digest: String,
}

impl Cargo {
    fn build(project: &Project, variant: Variant) -> Result<Self> {
        let built = build::cargo(project, variant, Profile::Release)?;
        Ok(Cargo {
            digest: digest(&built.path)?,
            built,
        })
    }
}

/// What all replays share.
struct Tools {
    stage: Stage,
    stand_in: String,
    stock: Cargo,
    replacement: Cargo,
    time: Time,
    scenes: PathBuf,
}

impl Tools {
    fn cargo(&self, side: Side) -> &Cargo {
        if side == Side::Stock {
            &self.stock
        } else {
            &self.replacement
        }
    }

    /// Returns a digest of all that a measurement depends on but for the side's settings.
    fn digest(&self, source: &Source, side: Side) -> String {
        let cargo = &self.cargo(side).digest;
        sha256(format!("{} {} {cargo}", source.digest, self.stand_in).as_bytes())
    }

    /// Plays what was not played before, several at once, and writes down the results.
    fn play_all(&self, plays: &[Play<'_>], results: &mut Results) -> Result<()> {
        let is_new = |play: &&Play<'_>| {
            let mut sides = play.sides.iter();
            sides.any(|side| {
                let digest = self.digest(play.source, *side);
                results.get(&digest, *side, play.jobs).is_none()
            })
        };
        let new: Vec<Play<'_>> = plays.iter().filter(is_new).copied().collect();
        let builds = |plays: &[Play<'_>]| plays.iter().map(Play::builds).sum::<usize>();
        if new.len() < plays.len() {
            let known = builds(plays) - builds(&new);
            let all = count(builds(plays), "build", "builds");
            status!("Known", "{known} of {all} from earlier runs");
        }
        let at_once = match self.time {
            Time::Virtual => std::thread::available_parallelism()?.get() + 1,
            Time::Wall { .. } => {
                note!("there is no virtual clock on this system: replays take as long as builds");
                1
            }
        };
        // Removes what a run that was stopped has left.
        remove_dir(&self.scenes)?;
        let progress = Progress::new("Replaying", builds(&new), STRIDE);
        let next = AtomicUsize::new(0);
        let results = Mutex::new(results);
        let work = |dir: PathBuf| -> Result<()> {
            let mut scene = None;
            while let Some(&play) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                let measured = self
                    .play(play, &dir, &mut scene)
                    .with_context(|| format!("could not measure {}", play.name()))
                    // The others need not go on.
                    .inspect_err(|_| next.store(new.len(), Ordering::Relaxed))?;
                let mut results = results.lock().map_err(|_| anyhow!("a replay panicked"))?;
                measured.into_iter().try_for_each(|it| results.add(it))?;
                progress.advance(play.builds(), format_args!("last {}", play.name()));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let dirs = (0..at_once).map(|number| self.scenes.join(number.to_string()));
            let workers: Vec<_> = dirs.map(|dir| scope.spawn(|| work(dir))).collect();
            let mut workers = workers.into_iter();
            workers.try_for_each(|it| it.join().map_err(|_| anyhow!("a replay panicked"))?)
        })?;
        remove_dir(&self.scenes)
    }

    /// Plays in the scene of the play before, if that was of the same recording.
    fn play<'t, 's: 't>(
        &'t self,
        play: Play<'s>,
        dir: &Path,
        scene: &mut Option<(&'s str, Scene<'t>)>,
    ) -> Result<Vec<Measured>> {
        let digest = play.source.digest.as_str();
        let scene = match scene {
            Some((of, scene)) if *of == digest => scene,
            _ => {
                remove_dir(dir)?;
                let prepared = self.stage.prepare(&play.source.recording, dir)?;
                &mut scene.insert((digest, prepared)).1
            }
        };
        // Whatever was played here before must make no difference.
        scene.forget_costs()?;
        let mut measured = Vec::new();
        for &side in play.sides {
            let cargo = &self.cargo(side).built.path;
            let mut rounds = Vec::new();
            for _ in 0..side.rounds(play.jobs) {
                let played = scene.play(cargo, play.jobs, side.settings(), self.time)?;
                let trace = played.trace.as_deref().map(BuildTrace::read).transpose()?;
                rounds.push(Measured {
                    digest: self.digest(play.source, side),
                    side,
                    jobs: play.jobs,
                    wall: played.log.wall().as_secs_f64(),
                    most_paused: trace.map(|trace| trace.most_paused()),
                });
            }
            rounds.sort_by(|a, b| a.wall.total_cmp(&b.wall));
            measured.push(rounds.swap_remove(rounds.len() / 2));
        }
        Ok(measured)
    }

    /// Collects the results of a recording.
    fn case(&self, source: &Source, jobs: &[u64], results: &Results) -> Result<Case> {
        let recording = &source.recording;
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        let mut rows = Vec::new();
        for &jobs in jobs {
            let mut row = Row {
                jobs,
                limit: seconds(limit::limit(recording, jobs)),
                ..Row::default()
            };
            for side in Side::ALL {
                let measured = results.get(&self.digest(source, side), side, jobs);
                let measured = measured.context("a replay was not measured")?;
                row.walls.insert(side, measured.wall);
                if side == Side::Link {
                    row.most_paused = measured.most_paused;
                }
            }
            rows.push(row);
        }
        Ok(Case {
            name: source.name.clone(),
            title: recording.name.clone(),
            units: recording.units.len(),
            work: seconds(recording.work()),
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::replay::generate::{Shape, generate};

    /// Recordings of 100, 200, … units.
    fn project(names: &[&str]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            root: dir.path().to_path_buf(),
            ..Project::default()
        };
        fs::create_dir_all(project.recordings()).unwrap();
        for (size, name) in names.iter().enumerate() {
            let path = project.recordings().join(format!("{name}{ENDING}"));
            let recording = generate(Shape::Chain, (size + 1) * 100);
            recording.write(&path).unwrap();
        }
        (dir, project)
    }

    fn names(project: &Project, filter: &str, quick: bool) -> Result<Vec<String>> {
        let args = Args {
            quick,
            filter: Some(filter.to_owned()),
        };
        let sources = sources(project, &args)?;
        Ok(sources.into_iter().map(|source| source.name).collect())
    }

    #[test]
    fn recordings_are_chosen_by_name_and_size() {
        let (_dir, project) = project(&["ripgrep", "cargo-dev", "cargo-release", "bat"]);
        fs::write(project.recordings().join("README.md"), "").unwrap();
        let all = ["bat", "cargo-dev", "cargo-release", "ripgrep"];
        assert_eq!(names(&project, "", false).unwrap(), all);
        let cargo = ["cargo-dev", "cargo-release"];
        assert_eq!(names(&project, "cargo", false).unwrap(), cargo);
        let smallest = ["cargo-dev", "ripgrep"];
        assert_eq!(names(&project, "", true).unwrap(), smallest);
        assert_eq!(names(&project, "bat", true).unwrap(), ["bat"]);
        let error = names(&project, "fd", false).unwrap_err().to_string();
        assert_eq!(
            error,
            "no recording has a name that contains `fd`; there are: bat, cargo-dev, cargo-release, ripgrep"
        );
    }
}
