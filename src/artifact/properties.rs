//! What holds for every graph and every order of events.

use std::collections::{BTreeMap, BTreeSet};

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

/// Runs a build of `graph` in `slots` slots, with at most `most_early` early jobs, in which `steps`
/// happen over and over.
fn run(
    graph: &Graph,
    slots: usize,
    most_early: usize,
    steps: &[(prop::sample::Index, Step)],
) -> Result<(Tracker<usize, usize>, Seen), TestCaseError> {
    let mut plan = Plan::default();
    for (unit, needs) in graph.iter().enumerate().rev() {
        plan.add(unit, unit, needs.iter().map(|(&unit, &need)| (unit, need)));
    }
    let mut tracker = plan.seal().unwrap();
    let mut seen = Seen::default();
    let mut working: Vec<usize> = Vec::new();

    for (which, step) in steps.iter().cycle() {
        while working.len() < slots
            && let Some(unit) = tracker.next_link()
        {
            prop_assert!(seen.could_link(graph, unit), "{} linked early", unit);
            prop_assert!(seen.parked.remove(&unit), "{} was not parked", unit);
            seen.early.remove(&unit);
            working.push(unit);
        }
        while working.len() < slots
            && let Some(started) = tracker.start_next(|early| early < most_early)
        {
            let Started {
                unit,
                job,
                is_early,
            } = started;
            prop_assert_eq!(unit, job);
            prop_assert!(seen.could_start(graph, unit), "{} started early", unit);
            prop_assert_eq!(is_early, !seen.could_link(graph, unit));
            prop_assert!(seen.started.insert(unit), "{} started twice", unit);
            if is_early {
                seen.early.insert(unit);
            }
            working.push(unit);
        }
        prop_assert_eq!(tracker.working(), working.len());
        prop_assert_eq!(tracker.early(), seen.early.len());
        prop_assert!(seen.early.len() <= most_early);

        if working.is_empty() {
            prop_assert!(seen.parked.is_empty(), "only parked jobs are left");
            break;
        }
        // A job that is parked can only fail.
        let parked = seen.parked.iter().filter(|_| matches!(step, Step::Fail));
        let candidates: Vec<usize> = working.iter().chain(parked).copied().collect();
        let unit = candidates[which.index(candidates.len())];
        let ends_work = |working: &mut Vec<usize>| working.retain(|&other| other != unit);
        let let_go: Vec<usize> = match step {
            Step::Fail => {
                ends_work(&mut working);
                seen.early.remove(&unit);
                seen.parked.remove(&unit);
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
                let_go.into_iter().copied().collect()
            }
            Step::Fresh if tracker.state(&unit) == Some(State::Frontend) => {
                tracker.found_fresh(&unit);
                Vec::new()
            }
            Step::Metadata | Step::Fresh | Step::Finish => {
                ends_work(&mut working);
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
        prop_assert_eq!(tracker.ready_len(), ready.len() + linkable.count());
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
        slots in 1..9usize,
        most_early in 0..9usize,
        steps in steps(0),
    ) {
        let (tracker, seen) = run(&graph, slots, most_early, &steps)?;
        prop_assert_eq!(seen.started.len(), graph.len());
        for unit in 0..graph.len() {
            prop_assert_eq!(tracker.state(&unit), Some(State::Done));
        }
    }

    /// A failure takes with it exactly those who need what will never be produced.
    #[test]
    fn a_failure_reaches_exactly_the_dependents(
        graph in graphs(),
        slots in 1..9usize,
        most_early in 0..9usize,
        steps in steps(4),
    ) {
        let (tracker, seen) = run(&graph, slots, most_early, &steps)?;
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
            plan.add(unit, (), needs.iter().map(|(&unit, &need)| (unit, need)));
        }
        let mut tracker = plan.seal().unwrap();
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
            std::iter::from_fn(|| tracker.start_next(|_| true).map(|it| it.unit)).collect();
        prop_assert_eq!(order, startable);
    }
}
