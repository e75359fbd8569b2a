//! Builds that never run: the engine's scheduler, and a loop in the place of Cargo and compilers.
//!
//! A build takes milliseconds, so that rules can be compared by the thousand. What the model of a build
//! leaves out is in the [crate's documentation](crate).

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use cargo_pipelining::graph::Artifact;
use cargo_pipelining::job::{Kind, State};
use cargo_pipelining::link_gate::{EarlyStarts, HeldLinker};
use cargo_pipelining::permit::PermitSender;
use cargo_pipelining::scheduler::guess::{self, guess};
use cargo_pipelining::scheduler::{Action, Clock, Pauses, Plan, Scheduler, pausing};
use cargo_pipelining::trace::{Description, Trace};

pub use cargo_pipelining::config::{Pipelining, Schedule};
pub use cargo_pipelining::scheduler::{Estimate, Work};

use crate::edges::edges;
use crate::recording::{Recording, Role, Unit};

/// How to build.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `-j`
    pub jobs: u64,
    /// `build.pipelining`
    pub pipelining: Pipelining,
    /// `build.schedule`
    pub schedule: Schedule,
    /// How many compilers may be paused at the same time.
    pub places: usize,
    /// `build.trace`
    pub trace: Option<PathBuf>,
}

impl Settings {
    /// As the replacement builds, where there is memory enough for all that it would pause.
    pub fn new(jobs: u64, pipelining: Pipelining, schedule: Schedule) -> Self {
        let pauses = jobs > 1 && schedule == Schedule::CriticalPath;
        let slots = usize::try_from(jobs).unwrap_or(usize::MAX);
        Settings {
            jobs,
            pipelining,
            schedule,
            places: if pauses { pausing::places(slots) } else { 0 },
            trace: None,
        }
    }
}

/// What a build came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How long it took. µs.
    pub wall: u64,
    /// The most compilers that were paused at the same time.
    pub most_paused: usize,
    /// The most memory that compilers had at the same time, as far as it was recorded. Bytes.
    pub peak_memory: u64,
    /// How many compilers were paused.
    pub pauses: usize,
    /// What ran when, in the order in which it ended.
    pub log: Vec<Span>,
}

/// One phase of one unit. Times are in µs since the build began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The place of the unit in the recording.
    pub place: usize,
    /// Which phase.
    pub phase: Phase,
    /// When it began.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// How many threads it had, at most.
    pub threads: u64,
}

/// What takes time in a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A build script.
    Run,
    /// A compiler, until its metadata is written.
    Frontend,
    /// A compiler, from there until its last object file is.
    Codegen,
    /// The linker.
    Link,
}

/// What a unit costs, if an earlier build has measured it.
pub fn known(unit: &Unit) -> Estimate {
    Estimate::Measured(recorded_work(unit))
}

/// What a unit probably costs, if it was never built before.
pub fn guessed(unit: &Unit) -> Estimate {
    let source = unit.source_size;
    Estimate::Guessed(guess(match unit.role() {
        Role::Library => guess::Kind::Library { source },
        Role::ProcMacro => guess::Kind::ProcMacro { source },
        Role::Linked => guess::Kind::Linked { source },
        Role::BuildScript => guess::Kind::BuildScript,
        Role::Run => guess::Kind::Run {
            native_source: source,
        },
    }))
}

pub(crate) fn recorded_work(unit: &Unit) -> Work {
    Work {
        frontend: unit.frontend + unit.run,
        codegen: unit.codegen,
        link: unit.link,
    }
}

/// Builds what was recorded, by `estimate` of what each unit costs.
///
/// # Errors
///
/// If the recording has a cycle, or the trace cannot be written.
pub fn simulate(
    recording: &Recording,
    settings: &Settings,
    estimate: impl Fn(&Unit) -> Estimate,
) -> Result<Outcome> {
    let now = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&now);
    let clock = Clock::new(move || shown.load(Ordering::Relaxed));
    let mut build = Build {
        settings,
        scheduler: plan(recording, settings, estimate, clock)?,
        running: Vec::new(),
        parked: Vec::new(),
        paused: Vec::new(),
        now,
        outcome: Outcome::default(),
    };
    build.run();
    build.scheduler.finish_trace()?;
    Ok(build.outcome)
}

/// A unit of a recording, told from others by its place.
#[derive(Clone, Copy, Debug)]
struct Placed<'r> {
    place: usize,
    unit: &'r Unit,
}

impl PartialEq for Placed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Placed<'_> {}

impl Hash for Placed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
    }
}

fn plan<'r>(
    recording: &'r Recording,
    settings: &Settings,
    estimate: impl Fn(&Unit) -> Estimate,
    clock: Clock,
) -> Result<Scheduler<Placed<'r>, ()>> {
    let units = &recording.units;
    let placed = |place: usize| Placed {
        place,
        unit: &units[place],
    };
    let edges = edges(recording, settings.pipelining);
    let mut plan = Plan::with_capacity(units.len());
    for place in order_of_adding(units) {
        let unit = &units[place];
        let needs = edges[place].iter();
        plan.add(
            placed(place),
            (),
            needs.map(|(it, need)| (placed(*it), *need)),
        )
        .kind(match unit.role() {
            Role::Library => Kind::Library,
            Role::Run => Kind::ScriptRun,
            Role::ProcMacro | Role::Linked | Role::BuildScript => Kind::Other,
        })
        .estimate(estimate(unit))
        .linker(Some(HeldLinker {
            name: place.to_string(),
            linker: "cc".to_owned(),
        }));
    }
    let trace = settings.trace.as_deref();
    let settings = cargo_pipelining::scheduler::Settings {
        schedule: settings.schedule,
        clock,
        early: EarlyStarts::simulated(settings.jobs.try_into()?),
        pauses: Pauses::simulated(settings.places),
        costs: None,
        trace: trace.map_or(Ok(None), |path| Trace::create(path, describe))?,
    };
    plan.seal(settings).map_err(|error| anyhow!("{error}"))
}

/// Cargo adds each unit before those that it needs, and of those the first by name first.
fn order_of_adding(units: &[Unit]) -> Vec<usize> {
    let sorted = |mut places: Vec<usize>| {
        places.sort_by_key(|place| (&units[*place].package, &units[*place].version, *place));
        places.reverse();
        places
    };
    let mut is_root = vec![true; units.len()];
    for need in units.iter().flat_map(|unit| &unit.needs) {
        is_root[*need] = false;
    }
    let mut unvisited = sorted((0..units.len()).filter(|place| is_root[*place]).collect());
    let mut is_added = vec![false; units.len()];
    let mut order = Vec::with_capacity(units.len());
    while let Some(place) = unvisited.pop() {
        if !std::mem::replace(&mut is_added[place], true) {
            order.push(place);
            unvisited.extend(sorted(units[place].needs.clone()));
        }
    }
    order
}

fn describe(placed: &Placed<'_>) -> Description {
    let unit = placed.unit;
    Description {
        package: unit.package.clone(),
        version: unit.version.clone(),
        target: unit.target.clone(),
        kind: unit.kind.clone().into(),
        mode: unit.mode.clone().into(),
    }
}

#[derive(Clone, Debug)]
struct Running<'r> {
    unit: Placed<'r>,
    phase: Phase,
    /// µs.
    began: u64,
    /// On one thread. µs.
    left: u64,
    threads: u64,
    is_early: bool,
}

struct Build<'r> {
    settings: &'r Settings,
    scheduler: Scheduler<Placed<'r>, ()>,
    running: Vec<Running<'r>>,
    parked: Vec<Placed<'r>>,
    paused: Vec<Placed<'r>>,
    /// µs.
    now: Arc<AtomicU64>,
    outcome: Outcome,
}

impl<'r> Build<'r> {
    /// Of two phases that end at the same moment, that of the unit that comes first in the recording
    /// ends first: the scheduler sees one event at a time.
    fn run(&mut self) {
        loop {
            self.start();
            self.hand_out_tokens();
            self.note_memory();
            let left = |it: &Running<'_>| it.left.div_ceil(it.threads);
            let running = self.running.iter().enumerate();
            let next = running.min_by_key(|(_, it)| (left(it), it.unit.place));
            let Some((index, next)) = next else {
                break;
            };
            let step = left(next);
            self.outcome.wall += step;
            self.now.store(self.outcome.wall, Ordering::Relaxed);
            for running in &mut self.running {
                running.left = running.left.saturating_sub(step * running.threads);
            }
            let ended = self.running.swap_remove(index);
            self.ended(ended);
        }
    }

    fn free(&self) -> u64 {
        let extra: u64 = self.running.iter().map(|it| it.threads - 1).sum();
        let used = self.scheduler.slots_in_use() as u64 + extra;
        self.settings.jobs.saturating_sub(used)
    }

    /// The slots that jobs may use: those that codegen has taken for its threads are in use.
    fn slots(&self) -> usize {
        self.scheduler.slots_in_use() + usize::try_from(self.free()).unwrap_or(usize::MAX)
    }

    fn start(&mut self) {
        while let Some(action) = self.scheduler.next(self.slots()) {
            match action {
                Action::Start(started) => {
                    let unit = started.unit;
                    let phase = match unit.unit.role() {
                        Role::Run => Phase::Run,
                        _ => Phase::Frontend,
                    };
                    self.begin(unit, phase, started.is_early);
                }
                Action::Resume(unit) => {
                    self.paused.retain(|it| *it != unit);
                    self.begin(unit, Phase::Codegen, false);
                }
                Action::Link(unit) => {
                    self.parked.retain(|it| *it != unit);
                    self.begin(unit, Phase::Link, false);
                }
            }
        }
    }

    fn begin(&mut self, unit: Placed<'r>, phase: Phase, is_early: bool) {
        let left = match phase {
            Phase::Run => unit.unit.run,
            Phase::Frontend => unit.unit.frontend,
            Phase::Codegen => unit.unit.codegen,
            Phase::Link => unit.unit.link,
        };
        let running = Running {
            unit,
            phase,
            began: self.outcome.wall,
            left,
            threads: 1,
            is_early,
        };
        if left > 0 {
            self.running.push(running);
        } else {
            self.ended(running);
        }
    }

    /// Codegen takes what nobody else wants, the one with the fewest threads first.
    fn hand_out_tokens(&mut self) {
        for _ in 0..self.free() {
            let wanting = self
                .running
                .iter_mut()
                .filter(|it| it.phase == Phase::Codegen && it.threads < it.unit.unit.codegen_units);
            match wanting.min_by_key(|it| (it.threads, it.unit.place)) {
                Some(running) => running.threads += 1,
                None => break,
            }
        }
    }

    fn ended(&mut self, ended: Running<'r>) {
        let Running {
            unit,
            phase,
            is_early,
            ..
        } = ended;
        self.outcome.log.push(Span {
            place: unit.place,
            phase,
            began: ended.began,
            ended: self.outcome.wall,
            threads: ended.threads,
        });
        match phase {
            Phase::Frontend if unit.unit.role() == Role::Library => {
                self.scheduler.produced(&unit, Artifact::Metadata);
                // It is still running as far as slots are concerned.
                let slots = self.slots();
                self.scheduler.pause_codegen(slots, || false);
                if self.scheduler.state(&unit) == Some(State::Paused) {
                    self.paused.push(unit);
                    self.outcome.pauses += 1;
                    self.outcome.most_paused = self.outcome.most_paused.max(self.paused.len());
                    return;
                }
                self.begin(unit, Phase::Codegen, is_early);
            }
            Phase::Frontend => self.begin(unit, Phase::Codegen, is_early),
            Phase::Codegen if is_early => {
                self.scheduler.parked(&unit, PermitSender::new(|_| {}));
                self.parked.push(unit);
            }
            Phase::Codegen if unit.unit.link > 0 => self.begin(unit, Phase::Link, false),
            Phase::Codegen | Phase::Link | Phase::Run => {
                self.scheduler.produced(&unit, Artifact::All);
            }
        }
    }

    fn note_memory(&mut self) {
        let running = self.running.iter().map(|running| &running.unit);
        let units = running.chain(&self.parked).chain(&self.paused);
        let memory: u64 = units.map(|it| it.unit.memory).sum();
        self.outcome.peak_memory = self.outcome.peak_memory.max(memory);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::limit::longest_path;

    fn build(recording: &Recording, jobs: u64, schedule: Schedule, places: usize) -> Outcome {
        let settings = Settings {
            places,
            ..Settings::new(jobs, Pipelining::Link, schedule)
        };
        simulate(recording, &settings, known).unwrap()
    }

    /// A graph of up to 40 units, with one codegen unit each.
    ///
    /// At most two of them link: so many may start early with any number of jobs, and what may not
    /// is held back while a slot is free.
    fn random_recording(random: &mut fastrand::Rng) -> Recording {
        let mut recording = Recording::new("random", "none", "anywhere");
        let mut linking = 0;
        for place in 0..random.usize(1..40) {
            let mut needs: Vec<usize> = match place {
                0 => Vec::new(),
                _ => (0..random.usize(0..4))
                    .map(|_| random.usize(0..place))
                    .collect(),
            };
            needs.sort_unstable();
            needs.dedup();
            let kind = match random.u8(0..8) {
                0 if linking < 2 => "bin",
                1 if linking < 2 => "proc-macro",
                _ => "lib",
            };
            let links = kind != "lib";
            linking += usize::from(links);
            recording.units.push(Unit {
                kind: vec![kind.to_owned()],
                mode: "build".to_owned(),
                needs,
                frontend: random.u64(1..100),
                codegen: random.u64(0..200),
                link: if links { random.u64(1..100) } else { 0 },
                codegen_units: 1,
                ..Unit::default()
            });
        }
        recording
    }

    /// Graham, Bounds on Multiprocessing Timing Anomalies (1969): while a slot is free, some phase of
    /// a longest path runs.
    #[test]
    fn no_slot_is_free_while_something_could_run() {
        let mut pauses = 0;
        for seed in 0..500 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let recording = random_recording(random);
            let jobs = random.u64(1..6);
            let places = random.usize(0..8);
            for schedule in [Schedule::CriticalPath, Schedule::Stock] {
                let outcome = build(&recording, jobs, schedule, places);
                let wall = outcome.wall;
                pauses += outcome.pauses;
                let bound = recording.work().div_ceil(jobs) + longest_path(&recording, jobs);
                assert!(
                    wall <= bound,
                    "{wall} > {bound} with seed {seed}, {schedule:?}, -j{jobs}, {places} places"
                );
                assert!(jobs > 1 || wall == recording.work(), "seed {seed}");
            }
        }
        assert!(pauses > 100, "hardly anything was paused: {pauses}");
    }

    #[test]
    fn a_paused_compiler_lets_the_critical_path_go_on() {
        let path = "traces/ripgrep-release.json.gz";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut recording = Recording::read(&path).unwrap();
        for unit in &mut recording.units {
            unit.codegen_units = unit.codegen_units.min(1);
        }
        let [never, paused] =
            [0, 4].map(|places| build(&recording, 2, Schedule::default(), places));
        assert_eq!((never.pauses, never.most_paused), (0, 0));
        assert!((1..=4).contains(&paused.most_paused), "{paused:?}");
        assert!(paused.wall < never.wall, "{paused:?} {never:?}");
    }
}
