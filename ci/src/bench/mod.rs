//! `cargo xtask bench`: what more overlap is worth, and what the queue costs.
//!
//! Two questions, and builds of two kinds to answer them:
//!
//! ```text
//!   recordings ──> replays: each side × jobs, with real cargos    ──> wall time, limit
//!              ──> simulate: places × jobs, with decisions alone  ──> what pauses are worth
//!   generated  ──> the two queues alone, without a cargo          ──> CPU time and memory
//! ```
//!
//! The sides, [`Side::ALL`], differ in how early a unit may start, and in which goes first: by measured
//! costs, by guessed ones (cold), or in the order of the released cargo.
//!
//! Where time is virtual, replays do not disturb each other, and one more runs at once than the machine
//! has processors, as each waits now and then. They take long, so [`results`] keeps what is known. The
//! queues are measured by the clock, after the replays and each time anew: see [`queue`].

mod pauses;
mod plot;
mod queue;
mod report;
mod results;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use indicatif::ProgressBar;
use replay::recording::Role;
use replay::stage::{Scene, Settings};
use replay::{Recording, Stage, Time, limit};

use self::pauses::most_paused;
use self::report::{Case, Report, Row};
use self::results::{Key, Measured, Results, Side};
use crate::build::{self, Built, Profile};
use crate::cargo::Network;
use crate::layout::{Layout, Variant};
use crate::player::{self, Schedule};
use crate::series::sha256;
use crate::shell::{self, count};
use crate::upstream::Mode;

/// How many jobs the replays have.
const JOBS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
const QUICK_JOBS: [u64; 4] = [1, 2, 8, 64];

/// How many units the cases of a quick run have, all together.
const QUICK_UNITS: usize = 300;

/// The replay of each recording that is drawn.
const DRAWN: (Side, u64) = (Side::Link, 8);

/// What it says it does.
const VERB: &str = "Replaying";

/// How many builds pass between two lines of progress where there is no terminal.
const STRIDE: usize = 12;

/// The ending of a recording's file name.
const ENDING: &str = ".json.gz";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request {
    /// Fewer cases, fewer numbers of jobs, smaller graphs.
    pub quick: bool,
    /// Only cases whose names contain this.
    pub filter: Option<String>,
    /// Whether to download what is missing.
    pub network: Network,
}

/// Measures what is not known yet, prints the tables, and writes them and the pictures.
pub fn run(layout: &Layout, request: &Request) -> Result<()> {
    let sources = sources(layout, request)?;
    fs::create_dir_all(layout.bench())?;
    let mut bench = Bench::set_up(layout, request.network)?;

    let jobs = match request.quick {
        true => &QUICK_JOBS[..],
        false => &JOBS,
    };
    let time = Time::best();
    let at_once = match time {
        Time::Virtual => std::thread::available_parallelism()?.get() + 1,
        Time::Wall { .. } => {
            shell::note("there is no virtual clock on this system: replays take as long as builds");
            1
        }
    };
    bench.play(&plays(&sources, jobs), time, at_once)?;
    let queues = queue::measure(layout, request.network, request.quick)?;

    let cases = sources.iter().map(|source| bench.case(source, jobs));
    let cases = cases.collect::<Result<_>>()?;
    let report = Report::new(request.quick, cases, queues);
    print!("{}", report.plain());
    for note in report.notes() {
        shell::note(note);
    }
    bench.write(layout, &sources, &report)
}

/// A build that can be played.
struct Source {
    /// Of the file.
    name: String,
    /// The SHA-256 of the recording.
    digest: String,
    recording: Recording,
}

/// The recordings that are asked for, in the order of their names.
fn sources(layout: &Layout, request: &Request) -> Result<Vec<Source>> {
    let dir = layout.recordings();
    let files = files(&dir)?;
    if files.is_empty() {
        bail!("there is no recording of a build in {}", layout.shown(&dir));
    }
    let files = match &request.filter {
        Some(part) => containing(part, files)?,
        None => files,
    };
    let sources = files
        .into_iter()
        .map(|(name, path)| {
            Ok(Source {
                name,
                digest: digest(&path)?,
                recording: Recording::read(&path)?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(match request.quick {
        true => smallest(sources, QUICK_UNITS),
        false => sources,
    })
}

/// The recordings in a directory, by their names.
fn files(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    if !dir.is_dir() {
        return Ok(files);
    }
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(ENDING) {
            files.insert(name.to_owned(), path);
        }
    }
    Ok(files)
}

/// Those that have `part` in their names.
fn containing(part: &str, files: BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    if !names.iter().any(|name| name.contains(part)) {
        bail!(
            "no recording has a name that contains `{part}`; there are: {}",
            names.join(", ")
        );
    }
    let named = |(name, _): &(String, PathBuf)| name.contains(part);
    Ok(files.into_iter().filter(named).collect())
}

/// The smallest ones, as long as they have no more than so many units together; at least one.
fn smallest(sources: Vec<Source>, units: usize) -> Vec<Source> {
    let mut by_size: Vec<_> = sources.into_iter().collect();
    by_size.sort_by_key(|source| source.recording.units.len());
    let mut sum = 0;
    let mut small: Vec<_> = (by_size.into_iter().enumerate())
        .take_while(|(place, source)| {
            sum += source.recording.units.len();
            *place == 0 || sum <= units
        })
        .map(|(_, source)| source)
        .collect();
    small.sort_by(|a, b| a.name.cmp(&b.name));
    small
}

fn digest(path: &Path) -> Result<String> {
    Ok(sha256(&fs::read(path)?))
}

/// What is to be played, and how.
#[derive(Clone, Copy)]
struct Play<'s> {
    source: &'s Source,
    /// One of [`Side::SEQUENCES`].
    sides: &'static [Side],
    jobs: u64,
}

impl fmt::Display for Play<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.source.recording.name)?;
        for side in self.sides {
            write!(f, "{}, ", side.name())?;
        }
        write!(f, "-j{}", self.jobs)
    }
}

/// Each recording, with each number of jobs and by each side.
fn plays<'s>(sources: &'s [Source], jobs: &[u64]) -> Vec<Play<'s>> {
    let mut plays = Vec::new();
    for source in sources {
        for &jobs in jobs {
            plays.extend(Side::SEQUENCES.map(|sides| Play {
                source,
                sides,
                jobs,
            }));
        }
    }
    plays
}

/// How many builds that are.
fn builds(plays: &[Play<'_>]) -> usize {
    plays.iter().map(Play::builds).sum()
}

impl Play<'_> {
    /// How many builds it is.
    fn builds(&self) -> usize {
        (self.sides.iter()).map(|side| side.rounds(self.jobs)).sum()
    }
}

/// One of the two cargos.
struct Cargo {
    built: Built,
    digest: String,
}

impl Cargo {
    fn build(layout: &Layout, variant: Variant, network: Network) -> Result<Self> {
        let request = build::Request {
            variant,
            profile: Profile::Release,
            network,
        };
        let built = build::cargo(layout, request)?;
        Ok(Cargo {
            digest: digest(&built.path)?,
            built,
        })
    }
}

/// What plays.
struct Tools {
    stage: Stage,
    /// The SHA-256 of the stand-in.
    stand_in: String,
    stock: Cargo,
    replacement: Cargo,
}

impl Tools {
    fn build(layout: &Layout, network: Network) -> Result<Self> {
        let stage = player::stage(layout, network)?;
        Ok(Tools {
            replacement: Cargo::build(layout, Variant::Patched, network)?,
            stock: Cargo::build(layout, Variant::Stock, network)?,
            stand_in: digest(&stage.stand_in)?,
            stage,
        })
    }

    fn cargo(&self, side: Side) -> &Cargo {
        match side {
            Side::Stock => &self.stock,
            Side::Off | Side::Metadata | Side::Link | Side::Cold | Side::StockOrder => {
                &self.replacement
            }
        }
    }

    fn key(&self, source: &Source, side: Side, jobs: u64) -> Key {
        Key {
            recording: source.digest.clone(),
            stand_in: self.stand_in.clone(),
            cargo: self.cargo(side).digest.clone(),
            side,
            jobs,
        }
    }
}

/// One of those that play at the same time.
struct Player<'t> {
    tools: &'t Tools,
    time: Time,
    /// Its own directory.
    dir: PathBuf,
}

/// What was played, and what came of each of its sides.
type Outcome<'s> = (Play<'s>, Result<Vec<(Side, Measured)>>);

impl Player<'_> {
    /// Plays what comes next, until nothing does or nobody listens.
    fn work<'s>(&self, plays: &[Play<'s>], next: &AtomicUsize, outcomes: &Sender<Outcome<'s>>) {
        let mut scene = None;
        while let Some(&play) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self
                .play(play, &mut scene)
                .with_context(|| format!("could not measure {play}"));
            if outcomes.send((play, outcome)).is_err() {
                return;
            }
        }
    }

    /// Plays in the scene of the one before, if that was of the same recording.
    fn play<'t, 's: 't>(
        &'t self,
        play: Play<'s>,
        scene: &mut Option<(&'s str, Scene<'t>)>,
    ) -> Result<Vec<(Side, Measured)>> {
        let digest = play.source.digest.as_str();
        let scene = match scene {
            Some((of, scene)) if *of == digest => scene,
            _ => {
                remove(&self.dir)?;
                let prepared = self
                    .tools
                    .stage
                    .prepare(&play.source.recording, &self.dir)?;
                &mut scene.insert((digest, prepared)).1
            }
        };
        // Whatever was played here before must make no difference.
        scene.forget_costs()?;
        let mut measured = Vec::with_capacity(play.sides.len());
        for &side in play.sides {
            let cargo = &self.tools.cargo(side).built.path;
            let settings = Settings {
                pipelining: side.mode().map(Mode::name),
                schedule: side.schedule().map(Schedule::name),
            };
            let mut rounds = Vec::new();
            for _ in 0..side.rounds(play.jobs) {
                let played = scene.play(cargo, play.jobs, settings, self.time)?;
                rounds.push(Measured {
                    wall: played.log.wall(),
                    most_paused: played.trace.as_deref().map(most_paused).transpose()?,
                    entries: if (side, play.jobs) == DRAWN {
                        played.log.entries
                    } else {
                        Vec::new()
                    },
                });
            }
            rounds.sort_by_key(|round| round.wall);
            measured.push((side, rounds.swap_remove(rounds.len() / 2)));
        }
        Ok(measured)
    }
}

/// What plays, and what came of it.
struct Bench {
    tools: Tools,
    results: Results,
    /// Where recordings are laid out.
    scenes: PathBuf,
}

impl Bench {
    fn set_up(layout: &Layout, network: Network) -> Result<Self> {
        Ok(Bench {
            results: Results::open(&layout.bench().join("results.jsonl"))?,
            tools: Tools::build(layout, network)?,
            scenes: layout.bench().join("scenes"),
        })
    }

    /// What came of something that was played.
    fn measured(&self, source: &Source, side: Side, jobs: u64) -> Result<&Measured> {
        let measured = self.results.get(&self.tools.key(source, side, jobs));
        measured.with_context(|| {
            let (name, side) = (&source.recording.name, side.name());
            format!("{name}, {side}, -j{jobs} was not measured")
        })
    }

    /// Plays all that was not played before, so many at once, and writes down what comes of it.
    fn play(&mut self, plays: &[Play<'_>], time: Time, at_once: usize) -> Result<()> {
        let Bench {
            tools,
            results,
            scenes,
        } = self;
        let tools = &*tools;
        let is_new = |play: &&Play<'_>| {
            let mut keys = (play.sides.iter()).map(|side| tools.key(play.source, *side, play.jobs));
            keys.any(|key| results.get(&key).is_none())
        };
        let new: Vec<Play<'_>> = plays.iter().filter(is_new).copied().collect();
        if new.len() < plays.len() {
            let all = builds(plays);
            shell::status(
                "Known",
                format_args!(
                    "{} of {} from earlier runs",
                    all - builds(&new),
                    count(all, "build", "builds")
                ),
            );
        }
        // What a run that was stopped has left.
        remove(scenes)?;
        let mut progress = Progress::new(builds(&new));
        let next = AtomicUsize::new(0);
        let (sender, outcomes) = mpsc::channel();
        std::thread::scope(|scope| -> Result<()> {
            for number in 0..at_once.min(new.len()) {
                let player = Player {
                    tools,
                    time,
                    dir: scenes.join(number.to_string()),
                };
                let (sender, next, new) = (sender.clone(), &next, &new);
                scope.spawn(move || player.work(new, next, &sender));
            }
            drop(sender);
            // If this ends early, nobody listens to the players any more, and they end, too.
            for (play, outcome) in outcomes {
                for (side, measured) in outcome? {
                    results.add(tools.key(play.source, side, play.jobs), measured)?;
                }
                progress.ended(play);
            }
            Ok(())
        })?;
        progress.finish();
        remove(scenes)
    }

    fn case(&self, source: &Source, jobs: &[u64]) -> Result<Case> {
        let recording = &source.recording;
        let rows = jobs.iter().map(|&jobs| {
            let measured = |side| self.measured(source, side, jobs);
            let mut walls = [Duration::ZERO; Side::ALL.len()];
            for (wall, side) in std::iter::zip(&mut walls, Side::ALL) {
                *wall = measured(side)?.wall;
            }
            let limit = Duration::from_micros(limit::limit(recording, jobs));
            let most_paused = measured(Side::Link)?.most_paused;
            Ok(Row::new(jobs, limit, walls, most_paused))
        });
        Ok(Case {
            name: source.name.clone(),
            title: recording.name.clone(),
            units: recording.units.len(),
            work: Duration::from_micros(recording.work()).as_secs_f64(),
            rows: rows.collect::<Result<_>>()?,
        })
    }

    /// Writes the tables and draws the pictures.
    fn write(&self, layout: &Layout, sources: &[Source], report: &Report) -> Result<()> {
        let dir = layout.bench();
        fs::write(dir.join("bench.md"), report.markdown())?;
        let mut json = serde_json::to_string_pretty(report)?;
        json.push('\n');
        fs::write(dir.join("bench.json"), json)?;
        let overview = plot::overview(&report.means, report.cases.len())?;
        fs::write(dir.join("overview.svg"), overview)?;
        let pauses = plot::pauses(&pauses::simulated(sources)?)?;
        fs::write(dir.join("pauses.svg"), pauses)?;
        for (case, source) in std::iter::zip(&report.cases, sources) {
            let name = &case.name;
            fs::write(
                dir.join(format!("{name}-speedup.svg")),
                plot::speed_up(case)?,
            )?;
            let (side, jobs) = DRAWN;
            let drawn = self.measured(source, side, jobs)?;
            let title = format!(
                "{}: {}, -j{jobs}, {:.1} s",
                case.title,
                side.name(),
                drawn.wall.as_secs_f64()
            );
            let gantt = plot::gantt(&title, &drawn.entries, |place| label(source, place))?;
            fs::write(dir.join(format!("{name}-gantt.svg")), gantt)?;
        }
        shell::status(
            "Wrote",
            format_args!(
                "bench.md, bench.json and {} to {}",
                count(2 + 2 * report.cases.len(), "picture", "pictures"),
                layout.shown(&dir)
            ),
        );
        Ok(())
    }
}

/// What a unit is called in a picture.
fn label(source: &Source, place: usize) -> String {
    let Some(unit) = source.recording.units.get(place) else {
        return String::new();
    };
    match unit.role() {
        Role::BuildScript | Role::Run => format!("{} build script", unit.package),
        Role::Library | Role::ProcMacro | Role::Linked => unit.target.clone(),
    }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// How far it is: a bar on a terminal, now and then a line elsewhere.
struct Progress {
    bar: ProgressBar,
    total: usize,
    ended: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        Progress {
            bar: shell::bar(VERB, total),
            total,
            ended: 0,
        }
    }

    fn ended(&mut self, play: Play<'_>) {
        let before = self.ended;
        self.ended += play.builds();
        self.bar.set_message(format!("last {play}"));
        self.bar.set_position(self.ended as u64);
        if self.bar.is_hidden() && self.ended / STRIDE > before / STRIDE {
            shell::waiting(
                VERB,
                format_args!("{}/{}, last {play}", self.ended, self.total),
            );
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::Base;
    use replay::generate::{Shape, generate};

    fn layout(names: &[&str]) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_path_buf(), Base::default());
        for (size, name) in names.iter().enumerate() {
            fs::create_dir_all(layout.recordings()).unwrap();
            let path = layout.recordings().join(format!("{name}{ENDING}"));
            let recording = generate(Shape::Chain, (size + 1) * 100);
            recording.write(&path).unwrap();
        }
        (dir, layout)
    }

    fn names(layout: &Layout, filter: Option<&str>, quick: bool) -> Result<Vec<String>> {
        let request = Request {
            quick,
            filter: filter.map(str::to_owned),
            network: Network::Offline,
        };
        let sources = sources(layout, &request)?;
        Ok(sources.into_iter().map(|source| source.name).collect())
    }

    #[test]
    fn cases_are_chosen_by_name_and_size() {
        // Of 100, 200, 300 and 400 units.
        let (_dir, layout) = layout(&["ripgrep", "cargo-dev", "cargo-release", "bat"]);
        fs::write(layout.recordings().join("README.md"), "").unwrap();
        let all = ["bat", "cargo-dev", "cargo-release", "ripgrep"];
        assert_eq!(names(&layout, None, false).unwrap(), all);
        let cargo = ["cargo-dev", "cargo-release"];
        assert_eq!(names(&layout, Some("cargo"), false).unwrap(), cargo);
        assert_eq!(
            names(&layout, None, true).unwrap(),
            ["cargo-dev", "ripgrep"]
        );
        assert_eq!(names(&layout, Some("bat"), true).unwrap(), ["bat"]);
    }

    #[test]
    fn a_filter_that_fits_nothing_is_an_error() {
        let (_dir, layout) = layout(&["ripgrep", "bat"]);
        assert_eq!(
            names(&layout, Some("fd"), false).unwrap_err().to_string(),
            "no recording has a name that contains `fd`; there are: bat, ripgrep"
        );
    }

    #[test]
    fn no_recordings_at_all_are_an_error() {
        let (_dir, layout) = layout(&[]);
        let error = names(&layout, None, false).unwrap_err().to_string();
        assert!(error.contains("traces"), "{error}");
    }
}
