//! What holds for every graph and every order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

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
    Fresh,
    Finish,
    Fail,
}

fn steps(fail: u32) -> impl Strategy<Value = Vec<(prop::sample::Index, Step)>> {
    let step = prop_oneof![
        10 => Just(Step::Metadata),
        2 => Just(Step::Fresh),
        8 => Just(Step::Finish),
        fail => Just(Step::Fail),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), step), 1..200)
}

/// A build as an onlooker sees it, which knows nothing of states.
#[derive(Default)]
struct Seen {
    produced: BTreeMap<usize, Artifact>,
    started: BTreeSet<usize>,
    /// Started before everything that they link was there, and not linking yet.
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
                never.contains(dependency)
                    || self.failed.contains(dependency)
                        && self.produced.get(dependency) < Some(&need.artifact())
            });
            if lacks && !self.failed.contains(&unit) {
                never.insert(unit);
            }
        }
        never
    }

    fn lose(&mut self, lost: Vec<&usize>) -> Result<(), TestCaseError> {
        for &lost in lost {
            prop_assert!(self.lost.insert(lost), "{} lost twice", lost);
            self.early.remove(&lost);
            self.parked.remove(&lost);
        }
        Ok(())
    }
}

/// How a build is run.
#[derive(Clone, Debug)]
struct Settings {
    schedule: Schedule,
    slots: usize,
    most_early: usize,
    places: usize,
    /// Of each unit, the first for all beyond.
    estimates: Vec<Estimate>,
}

impl Settings {
    fn estimate(&self, unit: usize) -> Estimate {
        *self.estimates.get(unit).unwrap_or(&self.estimates[0])
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let time = || prop_oneof![4 => 0..1_000u64, 1 => Just(u64::MAX), 1 => Just(0)];
    let estimate =
        (time(), time(), time(), any::<bool>()).prop_map(|(frontend, codegen, link, known)| {
            let work = Work {
                frontend,
                codegen,
                link,
            };
            match known {
                true => Estimate::Measured(work),
                false => Estimate::Guessed(work),
            }
        });
    let schedule = prop::sample::select(vec![Schedule::Stock, Schedule::CriticalPath]);
    let estimates = prop::collection::vec(estimate, 1..40);
    (schedule, 1..9usize, 0..9usize, 0..9usize, estimates).prop_map(
        |(schedule, slots, most_early, places, estimates)| Settings {
            schedule,
            slots,
            most_early,
            places,
            estimates,
        },
    )
}

/// Runs a build of `graph` in which `steps` happen over and over.
fn run(
    graph: &Graph,
    settings: &Settings,
    steps: &[(prop::sample::Index, Step)],
) -> Result<(Tracker<usize, usize>, Seen), TestCaseError> {
    let &Settings {
        slots,
        most_early,
        places,
        ..
    } = settings;
    // It may well be turned back.
    let now = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&now);
    let clock = Clock::new(move || shown.load(Ordering::Relaxed));
    let mut plan = Plan::default();
    for (unit, needs) in graph.iter().enumerate().rev() {
        let needs = needs.iter().map(|(&unit, &need)| (unit, need));
        plan.add(unit, unit, needs, settings.estimate(unit));
    }
    let mut tracker = plan.seal(settings.schedule, clock).unwrap();
    let mut seen = Seen::default();
    let mut working: Vec<usize> = Vec::new();

    for (which, step) in steps.iter().cycle() {
        while working.len() < slots
            && let Some(next) = tracker.next(|early| early < most_early)
        {
            let unit = match next {
                Next::Link(unit) => {
                    prop_assert!(seen.could_link(graph, unit), "{} linked early", unit);
                    prop_assert!(seen.parked.remove(&unit), "{} was not parked", unit);
                    seen.early.remove(&unit);
                    unit
                }
                Next::Continue(unit) => {
                    prop_assert!(seen.paused.remove(&unit), "{} was not paused", unit);
                    unit
                }
                Next::Start(Started {
                    unit,
                    job,
                    is_early,
                }) => {
                    prop_assert_eq!(unit, job);
                    prop_assert!(seen.could_start(graph, unit), "{} started early", unit);
                    prop_assert_eq!(is_early, !seen.could_link(graph, unit));
                    prop_assert!(seen.started.insert(unit), "{} started twice", unit);
                    if is_early {
                        seen.early.insert(unit);
                    }
                    unit
                }
            };
            working.push(unit);
        }
        // No slot stays free while something could have it.
        if working.len() < slots {
            prop_assert_eq!(tracker.ready_len(), 0);
            prop_assert!(tracker.ready_early_len() == 0 || seen.early.len() >= most_early);
        }
        prop_assert_eq!(tracker.working(), working.len());
        prop_assert_eq!(tracker.early(), seen.early.len());
        prop_assert_eq!(tracker.paused_len(), seen.paused.len());
        prop_assert!(seen.paused.len() <= places);
        prop_assert!(seen.early.len() <= most_early);

        if working.is_empty() {
            prop_assert!(seen.parked.is_empty(), "only parked jobs are left");
            break;
        }
        // A job that is parked can only fail. One that is paused can end, if somebody else continues it.
        let ends = matches!(step, Step::Fail | Step::Finish);
        let paused = seen.paused.iter().filter(|_| ends);
        let parked = seen.parked.iter().filter(|_| matches!(step, Step::Fail));
        let others = paused.chain(parked);
        let candidates: Vec<usize> = working.iter().chain(others).copied().collect();
        let unit = candidates[which.index(candidates.len())];
        let ends_work = |working: &mut Vec<usize>| working.retain(|&other| other != unit);
        now.store(which.index(1_000_000) as u64, Ordering::Relaxed);
        let let_go: Vec<usize> = match step {
            Step::Fail => {
                ends_work(&mut working);
                seen.early.remove(&unit);
                seen.parked.remove(&unit);
                seen.paused.remove(&unit);
                seen.failed.insert(unit);
                seen.lose(tracker.failed(&unit))?;
                Vec::new()
            }
            _ if seen.early.contains(&unit) => {
                ends_work(&mut working);
                seen.parked.insert(unit);
                seen.lose(tracker.parked(&unit))?;
                Vec::new()
            }
            Step::Metadata if tracker.state(&unit) == Some(State::Frontend) => {
                seen.produced.insert(unit, Artifact::Metadata);
                let let_go = tracker.produced(&unit, Artifact::Metadata);
                let let_go = let_go.into_iter().copied().collect();
                if working.len() == slots
                    && tracker.should_pause(&unit, places, |early| early < most_early)
                {
                    tracker.paused(&unit);
                    ends_work(&mut working);
                    seen.paused.insert(unit);
                }
                let_go
            }
            Step::Fresh if tracker.state(&unit) == Some(State::Frontend) => {
                tracker.found_fresh(&unit);
                Vec::new()
            }
            Step::Metadata | Step::Fresh | Step::Finish => {
                ends_work(&mut working);
                seen.paused.remove(&unit);
                seen.produced.insert(unit, Artifact::All);
                let let_go = tracker.produced(&unit, Artifact::All);
                let_go.into_iter().copied().collect()
            }
        };
        for unit in &let_go {
            prop_assert_eq!(tracker.state(unit), Some(State::Ready));
        }

        // Nothing that could start or link is held back, and nothing else is on offer.
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
        prop_assert_eq!(tracker.ready_len(), could_run);
        prop_assert_eq!(tracker.ready_early_len(), ready_early.len());
    }
    prop_assert!(tracker.is_drained());
    prop_assert_eq!((tracker.working(), tracker.early()), (0, 0));
    Ok((tracker, seen))
}

proptest! {
    /// Every graph drains, and every job of it runs exactly once and never too early.
    #[test]
    fn without_failures_everything_runs_once(
        graph in graphs(),
        settings in settings(),
        steps in steps(0),
    ) {
        let (tracker, seen) = run(&graph, &settings, &steps)?;
        prop_assert_eq!(seen.started.len(), graph.len());
        for unit in 0..graph.len() {
            prop_assert_eq!(tracker.state(&unit), Some(State::Done));
        }
    }

    /// A failure takes with it exactly those who need what will never be produced.
    #[test]
    fn a_failure_reaches_exactly_the_dependents(
        graph in graphs(),
        settings in settings(),
        steps in steps(4),
    ) {
        let (tracker, seen) = run(&graph, &settings, &steps)?;
        prop_assert_eq!(&seen.lost, &seen.can_never_be_done(&graph));
        for unit in 0..graph.len() {
            let expected = if seen.failed.contains(&unit) {
                State::Failed(Cause::ItsOwn)
            } else if seen.lost.contains(&unit) {
                State::Failed(Cause::Dependency)
            } else {
                State::Done
            };
            prop_assert_eq!(tracker.state(&unit), Some(expected));
        }
    }

    /// The priority is the number of jobs that wait for a job, and the job itself.
    #[test]
    fn the_one_that_most_wait_for_goes_first(graph in graphs()) {
        let mut plan = Plan::default();
        for (unit, needs) in graph.iter().enumerate() {
            plan.add(unit, (), needs.iter().map(|(&unit, &need)| (unit, need)), Estimate::default());
        }
        let mut tracker = plan.seal(Schedule::Stock, Clock::new(|| 0)).unwrap();
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
            std::iter::from_fn(|| match tracker.next(|_| true) {
                Some(Next::Start(started)) => Some(started.unit),
                _ => None,
            })
            .collect();
        prop_assert_eq!(order, startable);
    }
}
