//! What holds for every graph and every order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::guess::{Basis, Guess};
use super::pauses::Budget;
use super::*;
use crate::link_gate::{HeldLinker, Hold};

/// `graph[unit]` is what `unit` needs; a unit needs only units below it.
type Graph = Vec<BTreeMap<usize, Need>>;

fn graphs() -> impl Strategy<Value = Graph> {
    (1..40usize)
        .prop_flat_map(|len| {
            let need = prop::sample::select(vec![
                Need::MetadataToStart,
                Need::AllToLink,
                Need::AllToStart,
            ]);
            let edge = (0..len, 0..len, need);
            (Just(len), prop::collection::vec(edge, 0..len * 3))
        })
        .prop_map(|(len, edges)| {
            let mut graph = vec![BTreeMap::new(); len];
            for (one, other, need) in edges {
                if one != other {
                    graph[one.max(other)].insert(one.min(other), need);
                }
            }
            graph
        })
}

/// What happens next to one of the jobs that have started and not ended.
#[derive(Clone, Copy, Debug)]
enum Step {
    Metadata,
    Finish,
    Fail,
}

/// A unit, which may be up to date.
#[derive(Debug)]
struct Unit {
    number: usize,
    is_fresh: bool,
}

impl Task for Unit {
    fn is_fresh(&self) -> bool {
        self.is_fresh
    }
}

fn steps(fail: u32) -> impl Strategy<Value = Vec<(prop::sample::Index, Step)>> {
    let step = prop_oneof![
        10 => Just(Step::Metadata),
        8 => Just(Step::Finish),
        fail => Just(Step::Fail),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), step), 1..200)
}

/// A build as seen from outside, without states.
#[derive(Default)]
struct Seen {
    produced: BTreeMap<usize, Artifact>,
    started: BTreeSet<usize>,
    /// Started before all that they link was ready, and not linking yet.
    early: BTreeSet<usize>,
    parked: BTreeSet<usize>,
    paused: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    lost: BTreeSet<usize>,
}

impl Seen {
    fn could_start(&self, graph: &Graph, unit: usize) -> bool {
        graph[unit]
            .iter()
            .all(|(dependency, need)| self.produced.get(dependency) >= Some(&need.to_start()))
    }

    fn could_link(&self, graph: &Graph, unit: usize) -> bool {
        graph[unit]
            .iter()
            .all(|(dependency, need)| self.produced.get(dependency) >= Some(&need.artifact()))
    }

    /// Which units can never be done, though nothing of their own failed, given that no running job
    /// is left.
    fn can_never_be_done(&self, graph: &Graph) -> BTreeSet<usize> {
        let mut never = BTreeSet::new();
        for (unit, needs) in graph.iter().enumerate() {
            let lacks = needs.iter().any(|(dependency, need)| {
                let has_failed = never.contains(dependency) || self.failed.contains(dependency);
                has_failed && self.produced.get(dependency) < Some(&need.artifact())
            });
            if lacks && !self.failed.contains(&unit) {
                never.insert(unit);
            }
        }
        never
    }

    /// Notes who has failed because of a dependency.
    fn lose(&mut self, scheduler: &Scheduler<usize, Unit>, units: usize) {
        for unit in 0..units {
            if scheduler.state(&unit) == Some(State::Failed(Cause::Dependency)) {
                self.lost.insert(unit);
                self.early.remove(&unit);
                self.parked.remove(&unit);
            }
        }
    }
}

/// How a build is run.
#[derive(Clone, Debug)]
struct Machine {
    schedule: Schedule,
    slots: usize,
    /// Two early starts for each.
    early_slots: u32,
    budget: Budget,
    /// How many bytes each compiler holds, the first for all beyond.
    memory: Vec<u64>,
    local_slots: usize,
    /// Every n-th unit is local.
    local: usize,
    /// Every n-th unit is up to date.
    fresh: usize,
    /// Of each unit, the first for all beyond.
    estimates: Vec<Estimate>,
}

impl Machine {
    fn estimate(&self, unit: usize) -> Estimate {
        *self.estimates.get(unit).unwrap_or(&self.estimates[0])
    }

    fn memory(&self, unit: usize) -> u64 {
        *self.memory.get(unit).unwrap_or(&self.memory[0])
    }

    /// How many bytes paused compilers may hold together when these have started.
    fn most_memory(&self, started: &BTreeSet<usize>) -> u64 {
        match self.budget {
            Budget::Bytes(bytes) => bytes,
            Budget::AsRunning {
                largest,
                slots,
                most,
            } => {
                let seen = started.iter().map(|unit| self.memory(*unit)).max();
                most.min(slots * largest.max(seen.unwrap_or(0)))
            }
        }
    }

    fn is_local(&self, unit: usize) -> bool {
        unit.is_multiple_of(self.local)
    }
}

fn estimates() -> impl Strategy<Value = Estimate> {
    let time = || prop_oneof![4 => 0..1_000u64, 1 => Just(u64::MAX), 1 => Just(0)];
    (time(), time(), time(), any::<bool>()).prop_map(|(frontend, codegen, link, known)| {
        let work = Work {
            frontend,
            codegen,
            link,
        };
        if known {
            Estimate::Measured(work)
        } else {
            Estimate::Guessed(Guess {
                basis: Basis::Library,
                work,
            })
        }
    })
}

fn budgets() -> impl Strategy<Value = Budget> {
    prop_oneof![
        (0..9u64).prop_map(Budget::Bytes),
        (0..9u64, 0..9u64, 0..30u64).prop_map(|(largest, slots, most)| Budget::AsRunning {
            largest,
            slots,
            most
        }),
    ]
}

prop_compose! {
    fn machines()(
        schedule in prop::sample::select(vec![Schedule::Stock, Schedule::CriticalPath]),
        slots in 1..9usize,
        early_slots in 0..5u32,
        budget in budgets(),
        memory in prop::collection::vec(1..4u64, 1..40),
        local_slots in 1..5usize,
        local in 1..5usize,
        fresh in 2..9usize,
        estimates in prop::collection::vec(estimates(), 1..40),
    ) -> Machine {
        Machine { schedule, slots, early_slots, budget, memory, local_slots, local, fresh, estimates }
    }
}

/// Runs a build of `graph` in which `steps` happen over and over.
fn run(
    graph: &Graph,
    machine: &Machine,
    steps: &[(prop::sample::Index, Step)],
) -> Result<(Scheduler<usize, Unit>, Seen), TestCaseError> {
    let slots = machine.slots;
    let most_early = 2 * machine.early_slots as usize;
    // It may well be turned back.
    let now = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&now);
    let mut plan = Plan::default();
    for (number, needs) in graph.iter().enumerate().rev() {
        let unit = Unit {
            number,
            is_fresh: needs.is_empty() && number % machine.fresh == 0,
        };
        plan.add(
            number,
            unit,
            needs.iter().map(|(&unit, &need)| (unit, need)),
        )
        .estimate(machine.estimate(number))
        .local(machine.is_local(number))
        .hold(Some(Hold::BeforeLinker(HeldLinker {
            name: number.to_string(),
            linker: "cc".to_owned(),
        })));
    }
    let memory = (0..graph.len()).rev().map(|unit| machine.memory(unit));
    let memory = memory.collect();
    let settings = Settings {
        schedule: machine.schedule,
        clock: Clock::new(move || shown.load(Ordering::Relaxed)),
        early: EarlyStarts::simulated(machine.early_slots),
        local_slots: machine.local_slots,
        pauses: Pauses::simulated(machine.budget, memory),
        ..Settings::default()
    };
    let mut scheduler = plan.seal(settings).unwrap();
    let mut seen = Seen::default();
    let mut working: Vec<usize> = Vec::new();

    for (which, step) in steps.iter().cycle() {
        let before = scheduler.wanted_slots(slots);
        scheduler.pause_codegen(slots, || false);
        for unit in working.extract_if(.., |unit| scheduler.state(unit) == Some(State::Paused)) {
            prop_assert!(before > slots, "no job waits for its slot");
            seen.paused.insert(unit);
        }
        while let Some(action) = scheduler.next(slots) {
            let unit = match action {
                Action::Link(unit) => {
                    prop_assert!(seen.could_link(graph, unit), "{} linked early", unit);
                    prop_assert!(seen.parked.remove(&unit), "{} was not parked", unit);
                    seen.early.remove(&unit);
                    unit
                }
                Action::Resume(unit) => {
                    prop_assert!(seen.paused.remove(&unit), "{} was not paused", unit);
                    unit
                }
                Action::Start(start) => {
                    let unit = start.unit;
                    prop_assert_eq!(unit, start.job.number);
                    prop_assert!(seen.could_start(graph, unit), "{} started early", unit);
                    prop_assert_eq!(start.is_early, !seen.could_link(graph, unit));
                    prop_assert!(seen.started.insert(unit), "{} started twice", unit);
                    if start.is_early {
                        seen.early.insert(unit);
                    }
                    unit
                }
            };
            working.push(unit);
        }
        // No slot stays free while a job could have it, and no job has more than one.
        prop_assert!(working.len() <= slots);
        let local = working.iter().filter(|&&unit| machine.is_local(unit));
        prop_assert!(local.count() <= machine.local_slots);
        prop_assert_eq!(scheduler.slots_in_use(), working.len());
        if working.len() < slots {
            prop_assert_eq!(scheduler.wanted_slots(slots), working.len());
        }
        prop_assert_eq!(scheduler.tally.early, seen.early.len());
        prop_assert_eq!(scheduler.tally.paused, seen.paused.len());
        let held = seen.paused.iter().map(|unit| machine.memory(*unit));
        prop_assert!(held.sum::<u64>() <= machine.most_memory(&seen.started));
        prop_assert!(seen.early.len() <= most_early);
        let mut sums = Tally::default();
        for node in &scheduler.nodes {
            sums.replace(&Tally::default(), &node.tally());
        }
        prop_assert_eq!(sums, scheduler.tally);

        if working.is_empty() {
            prop_assert!(seen.parked.is_empty(), "only parked jobs are left");
            break;
        }
        // A job that is parked can only fail. One that is paused can end, if another process resumes it.
        let ends = matches!(step, Step::Fail | Step::Finish);
        let paused = seen.paused.iter().filter(|_| ends);
        let parked = seen.parked.iter().filter(|_| matches!(step, Step::Fail));
        let others = paused.chain(parked);
        let candidates: Vec<usize> = working.iter().chain(others).copied().collect();
        let unit = candidates[which.index(candidates.len())];
        let ends_work = |working: &mut Vec<usize>| working.retain(|&other| other != unit);
        now.store(which.index(1_000_000) as u64, Ordering::Relaxed);
        let unblocked: Vec<usize> = match step {
            Step::Fail => {
                ends_work(&mut working);
                seen.early.remove(&unit);
                seen.parked.remove(&unit);
                seen.paused.remove(&unit);
                seen.failed.insert(unit);
                scheduler.failed(&unit);
                Vec::new()
            }
            Step::Metadata if scheduler.state(&unit) == Some(State::Frontend) => {
                seen.produced.insert(unit, Artifact::Metadata);
                let unblocked = scheduler.produced(&unit, Artifact::Metadata);
                unblocked.into_iter().copied().collect()
            }
            _ if seen.early.contains(&unit) => {
                ends_work(&mut working);
                seen.paused.remove(&unit);
                seen.parked.insert(unit);
                scheduler.parked(&unit, PermitSender::new(|_| {}));
                Vec::new()
            }
            Step::Metadata | Step::Finish => {
                ends_work(&mut working);
                seen.paused.remove(&unit);
                seen.produced.insert(unit, Artifact::All);
                let unblocked = scheduler.produced(&unit, Artifact::All);
                unblocked.into_iter().copied().collect()
            }
        };
        seen.lose(&scheduler, graph.len());
        for unit in &unblocked {
            prop_assert_eq!(scheduler.state(unit), Some(State::Ready));
        }

        // Every job that could start or link is on offer, and no other.
        let could_start: Vec<usize> = (0..graph.len())
            .filter(|unit| !seen.started.contains(unit) && !seen.lost.contains(unit))
            .filter(|&unit| seen.could_start(graph, unit))
            .collect();
        let (ready, ready_early): (Vec<usize>, Vec<usize>) = could_start
            .into_iter()
            .partition(|&unit| seen.could_link(graph, unit));
        let linkable = seen
            .parked
            .iter()
            .filter(|&&unit| seen.could_link(graph, unit));
        let could_run = ready.len() + linkable.count() + seen.paused.len();
        prop_assert_eq!(scheduler.tally.all.runnable, could_run);
        prop_assert_eq!(scheduler.tally.all.ready_early, ready_early.len());
    }
    prop_assert!(scheduler.is_drained());
    prop_assert_eq!((scheduler.slots_in_use(), scheduler.tally.early), (0, 0));
    Ok((scheduler, seen))
}

proptest! {
    /// Every graph drains, and every job of it runs exactly once and never too early.
    #[test]
    fn every_job_runs_once(
        graph in graphs(),
        machine in machines(),
        steps in steps(0),
    ) {
        let (scheduler, seen) = run(&graph, &machine, &steps)?;
        prop_assert_eq!(seen.started.len(), graph.len());
        for unit in 0..graph.len() {
            prop_assert_eq!(scheduler.state(&unit), Some(State::Done));
        }
    }

    /// A failure reaches exactly the jobs that need an output that will never be ready.
    #[test]
    fn failure_reaches_exactly_the_dependents(
        graph in graphs(),
        machine in machines(),
        steps in steps(4),
    ) {
        let (scheduler, seen) = run(&graph, &machine, &steps)?;
        prop_assert_eq!(&seen.lost, &seen.can_never_be_done(&graph));
        for unit in 0..graph.len() {
            let expected = if seen.failed.contains(&unit) {
                State::Failed(Cause::Own)
            } else if seen.lost.contains(&unit) {
                State::Failed(Cause::Dependency)
            } else {
                State::Done
            };
            prop_assert_eq!(scheduler.state(&unit), Some(expected));
        }
    }

    /// The priority is the number of jobs that wait for a job, and the job itself.
    #[test]
    fn most_dependents_go_first(graph in graphs()) {
        let mut plan = Plan::default();
        for (unit, needs) in graph.iter().enumerate() {
            plan.add(unit, (), needs.iter().map(|(&unit, &need)| (unit, need)));
        }
        let settings = Settings {
            schedule: Schedule::Stock,
            ..Settings::default()
        };
        let mut scheduler = plan.seal(settings).unwrap();
        let weight: Vec<usize> = (0..graph.len())
            .map(|unit| {
                let mut above = BTreeSet::from([unit]);
                for (other, needs) in graph.iter().enumerate().skip(unit) {
                    if needs.keys().any(|dependency| above.contains(dependency)) {
                        above.insert(other);
                    }
                }
                above.len()
            })
            .collect();
        let mut startable: Vec<usize> =
            (0..graph.len()).filter(|&unit| graph[unit].is_empty()).collect();
        startable.sort_by_key(|&unit| (std::cmp::Reverse(weight[unit]), unit));
        let order: Vec<usize> =
            std::iter::from_fn(|| match scheduler.next(usize::MAX) {
                Some(Action::Start(start)) => Some(start.unit),
                _ => None,
            })
            .collect();
        prop_assert_eq!(order, startable);
    }
}
