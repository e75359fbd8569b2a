//! Builds that never run: the scheduler of the queue, and a loop in the place of cargo and compilers.
//!
//! Here is nothing but the decisions: what starts next, what is paused. A build takes milliseconds, so that
//! rules can be compared by the thousand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use cargo_pipelining::graph::Artifact;
use cargo_pipelining::job::State;
use cargo_pipelining::link_gate::{EarlyStarts, HeldLinker, Hold};
use cargo_pipelining::permit::PermitSender;
use cargo_pipelining::scheduler::guess::guess;
use cargo_pipelining::scheduler::{Action, Clock, Pauses, Plan, Scheduler};

pub use cargo_pipelining::config::{Pipelining, Schedule};
pub use cargo_pipelining::scheduler::pauses::Budget;
pub use cargo_pipelining::scheduler::prior;
pub use cargo_pipelining::scheduler::{Estimate, Work};

use crate::edges::{announces_metadata, edges};
use crate::recording::{Recording, Unit};

#[derive(Clone, Debug)]
pub struct Settings {
    /// `-j`
    pub jobs: u64,
    /// `build.pipelining`
    pub pipelining: Pipelining,
    /// `build.schedule`
    pub schedule: Schedule,
    /// `build.pause-memory`
    pub pause_memory: Budget,
}

impl Settings {
    /// As Cargo builds, where there is memory enough for all that it would pause. With one job, or in
    /// stock order, it pauses nothing.
    pub fn new(jobs: u64, pipelining: Pipelining, schedule: Schedule) -> Self {
        let pauses = jobs > 1 && schedule == Schedule::CriticalPath;
        let pause_memory = if pauses {
            Budget::as_running(jobs, u64::MAX)
        } else {
            Budget::default()
        };
        Settings {
            jobs,
            pipelining,
            schedule,
            pause_memory,
        }
    }
}

/// A phase of a unit that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The place of the unit in the recording.
    pub unit: usize,
    pub phase: Phase,
    /// µs
    pub start: u64,
    /// µs
    pub end: u64,
    /// How many threads it had last.
    pub threads: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In the order in which phases ended.
    pub spans: Vec<Span>,
    /// How long it took. µs.
    pub wall: u64,
    /// The most compilers that were paused at the same time.
    pub most_paused: usize,
    /// How many compilers were paused.
    pub pauses: usize,
}

/// What a unit costs that an earlier build has measured.
pub fn measured(unit: &Unit) -> Estimate {
    Estimate::Measured(recorded_work(unit))
}

/// What a unit probably costs that was never built.
pub fn guessed(unit: &Unit, table: prior::Table<'_>) -> Estimate {
    Estimate::Guessed(guess(&unit.subject(), table))
}

pub(crate) fn recorded_work(unit: &Unit) -> Work {
    Work {
        frontend: unit.frontend + unit.run,
        codegen: unit.codegen,
        link: unit.link,
    }
}

/// Builds what was recorded, by `estimate` of what each unit costs.
pub fn simulate(
    recording: &Recording,
    settings: &Settings,
    estimate: impl Fn(&Unit) -> Estimate,
) -> Result<Outcome> {
    let now = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&now);
    let clock = Clock::new(move || shown.load(Ordering::Relaxed));
    let mut build = Build {
        units: &recording.units,
        settings,
        scheduler: plan(recording, settings, estimate, clock)?,
        running: Vec::new(),
        early: BTreeSet::new(),
        paused: 0,
        now,
        outcome: Outcome::default(),
    };
    build.run();
    Ok(build.outcome)
}

fn plan(
    recording: &Recording,
    settings: &Settings,
    estimate: impl Fn(&Unit) -> Estimate,
    clock: Clock,
) -> Result<Scheduler<usize, ()>> {
    let mut plan = Plan::default();
    let edges = edges(recording, settings.pipelining);
    let order = order_of_adding(&recording.units);
    let memory = order
        .iter()
        .map(|place| recording.units[*place].memory_held());
    let memory = memory.collect();
    for place in order {
        plan.add(place, (), edges[place].iter().copied())
            .estimate(estimate(&recording.units[place]))
            .hold(Some(Hold::BeforeLinker(HeldLinker {
                name: place.to_string(),
                linker: "cc".to_owned(),
            })));
    }
    let settings = cargo_pipelining::scheduler::Settings {
        schedule: settings.schedule,
        clock,
        early: EarlyStarts::simulated(settings.jobs.try_into()?),
        pauses: Pauses::simulated(settings.pause_memory, memory),
        ..Default::default()
    };
    plan.seal(settings).map_err(|e| anyhow!("{e}"))
}

/// Returns the units in the order in which Cargo adds them: each before those that it needs, and of
/// those the first by name first. Of jobs that are equal otherwise, the first that was added starts first.
fn order_of_adding(units: &[Unit]) -> Vec<usize> {
    let last_first = |mut places: Vec<usize>| {
        places.sort_by_key(|place| (&units[*place].package, &units[*place].version, *place));
        places.reverse();
        places
    };
    let mut is_root = vec![true; units.len()];
    for need in units.iter().flat_map(|unit| &unit.needs) {
        is_root[*need] = false;
    }
    let mut unvisited = last_first((0..units.len()).filter(|place| is_root[*place]).collect());
    let mut is_added = vec![false; units.len()];
    let mut order = Vec::with_capacity(units.len());
    while let Some(place) = unvisited.pop() {
        if !std::mem::replace(&mut is_added[place], true) {
            order.push(place);
            unvisited.extend(last_first(units[place].needs.clone()));
        }
    }
    order
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A build script runs.
    Run,
    Frontend,
    Codegen,
    Link,
}

#[derive(Clone, Debug)]
struct Running {
    place: usize,
    phase: Phase,
    /// On one thread. µs.
    left: u64,
    threads: u64,
    /// µs.
    start: u64,
}

struct Build<'r> {
    units: &'r [Unit],
    settings: &'r Settings,
    scheduler: Scheduler<usize, ()>,
    running: Vec<Running>,
    /// Started before all that they link was ready, and not parked yet.
    early: BTreeSet<usize>,
    paused: usize,
    /// µs.
    now: Arc<AtomicU64>,
    outcome: Outcome,
}

impl Build<'_> {
    /// The scheduler sees one event at a time, as in Cargo. Of phases that end at the same moment, that of
    /// the unit that comes first in the recording ends first.
    fn run(&mut self) {
        loop {
            self.start();
            self.hand_out_tokens();
            let left = |it: &Running| it.left.div_ceil(it.threads);
            let running = self.running.iter().enumerate();
            let next = running.min_by_key(|(_, it)| (left(it), it.place));
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
                    let place = started.unit;
                    let is_run = self.units[place].is_run();
                    let phase = if is_run { Phase::Run } else { Phase::Frontend };
                    if started.is_early {
                        self.early.insert(place);
                    }
                    self.begin(place, phase);
                }
                Action::Resume(place) => {
                    self.paused -= 1;
                    self.begin(place, Phase::Codegen);
                }
                Action::Link(place) => self.begin(place, Phase::Link),
            }
        }
    }

    fn begin(&mut self, place: usize, phase: Phase) {
        let unit = &self.units[place];
        let left = match phase {
            Phase::Run => unit.run,
            Phase::Frontend => unit.frontend,
            Phase::Codegen => unit.codegen,
            Phase::Link => unit.link,
        };
        let running = Running {
            place,
            phase,
            left,
            threads: 1,
            start: self.outcome.wall,
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
            let wanting = self.running.iter_mut().filter(|it| {
                it.phase == Phase::Codegen && it.threads < self.units[it.place].codegen_units
            });
            match wanting.min_by_key(|it| (it.threads, it.place)) {
                Some(running) => running.threads += 1,
                None => break,
            }
        }
    }

    fn ended(&mut self, ended: Running) {
        let (place, phase) = (ended.place, ended.phase);
        let unit = &self.units[place];
        self.outcome.spans.push(Span {
            unit: place,
            phase,
            start: ended.start,
            end: self.outcome.wall,
            threads: ended.threads,
        });
        match phase {
            Phase::Frontend if announces_metadata(unit) => {
                self.scheduler.produced(&place, Artifact::Metadata);
                // It is still running as far as slots are concerned.
                let slots = self.slots();
                self.scheduler.pause_codegen(slots, || false);
                if self.scheduler.state(&place) == Some(State::Paused) {
                    self.paused += 1;
                    self.outcome.pauses += 1;
                    self.outcome.most_paused = self.outcome.most_paused.max(self.paused);
                    return;
                }
                self.begin(place, Phase::Codegen);
            }
            Phase::Frontend => self.begin(place, Phase::Codegen),
            Phase::Codegen if self.early.remove(&place) => {
                self.scheduler.parked(&place, PermitSender::new(|_| {}));
            }
            Phase::Codegen if unit.link > 0 => self.begin(place, Phase::Link),
            Phase::Codegen | Phase::Link | Phase::Run => {
                self.scheduler.produced(&place, Artifact::All);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::limit::longest_path;

    fn build(
        recording: &Recording,
        jobs: u64,
        schedule: Schedule,
        pause_memory: Budget,
    ) -> Outcome {
        let settings = Settings {
            pause_memory,
            ..Settings::new(jobs, Pipelining::Link, schedule)
        };
        simulate(recording, &settings, measured).unwrap()
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
                memory: 1,
                ..Unit::default()
            });
        }
        recording
    }

    /// Graham, Bounds on Multiprocessing Timing Anomalies (1969): while a slot is free, some phase of
    /// a longest path runs.
    #[test]
    fn no_slot_is_free_in_vain() {
        let mut pauses = 0;
        for seed in 0..500 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let recording = random_recording(random);
            let jobs = random.u64(1..6);
            let pause_memory = Budget::Bytes(random.u64(0..8));
            for schedule in [Schedule::CriticalPath, Schedule::Stock] {
                let outcome = build(&recording, jobs, schedule, pause_memory);
                let wall = outcome.wall;
                pauses += outcome.pauses;
                let bound = recording.work().div_ceil(jobs) + longest_path(&recording, jobs);
                assert!(
                    wall <= bound,
                    "{wall} > {bound} with seed {seed}, {schedule:?}, -j{jobs}, {pause_memory:?}"
                );
                assert!(jobs > 1 || wall == recording.work(), "seed {seed}");
            }
        }
        assert!(pauses > 100, "hardly anything was paused: {pauses}");
    }

    #[test]
    fn pauses_shorten_the_critical_path() {
        let path = "traces/ripgrep-release.json.gz";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut recording = Recording::read(&path).unwrap();
        for unit in &mut recording.units {
            unit.codegen_units = unit.codegen_units.min(1);
        }
        let [never, paused] = [Budget::Bytes(0), Budget::Bytes(1 << 30)]
            .map(|memory| build(&recording, 2, Schedule::default(), memory));
        assert_eq!((never.pauses, never.most_paused), (0, 0));
        assert!(paused.most_paused > 0, "{paused:?}");
        assert!(paused.wall < never.wall, "{paused:?} {never:?}");
    }
}
