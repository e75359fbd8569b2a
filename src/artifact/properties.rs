//! What holds for every graph and every order of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// `graph[unit]` is what `unit` needs; a unit needs only units below it.
type Graph = Vec<BTreeMap<usize, Need>>;

fn graphs() -> impl Strategy<Value = Graph> {
    (1..40usize)
        .prop_flat_map(|len| {
            let edge = (0..len, 0..len, any::<bool>());
            (Just(len), prop::collection::vec(edge, 0..len * 3))
        })
        .prop_map(|(len, edges)| {
            let mut graph = vec![BTreeMap::new(); len];
            for (one, other, metadata) in edges {
                if one != other {
                    let need = match metadata {
                        true => Need::MetadataToStart,
                        false => Need::AllToStart,
                    };
                    graph[one.max(other)].insert(one.min(other), need);
                }
            }
            graph
        })
}

/// What happens next to one of the running jobs.
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
    failed: BTreeSet<usize>,
    lost: BTreeSet<usize>,
}

impl Seen {
    fn could_start(&self, graph: &Graph, unit: usize) -> bool {
        graph[unit]
            .iter()
            .all(|(dependency, need)| self.produced.get(dependency) >= Some(&need.artifact()))
    }

    /// Which units can never start, given that no running job is left.
    fn can_never_start(&self, graph: &Graph) -> BTreeSet<usize> {
        let mut never = BTreeSet::new();
        for (unit, needs) in graph.iter().enumerate() {
            let lacks = needs.iter().any(|(dependency, need)| {
                never.contains(dependency)
                    || self.failed.contains(dependency)
                        && self.produced.get(dependency) < Some(&need.artifact())
            });
            if lacks {
                never.insert(unit);
            }
        }
        never
    }
}

/// Runs a build of `graph` in `slots` slots, in which `steps` happen over and over.
fn run(
    graph: &Graph,
    slots: usize,
    steps: &[(prop::sample::Index, Step)],
) -> Result<(Tracker<usize, usize>, Seen), TestCaseError> {
    let mut plan = Plan::default();
    for (unit, needs) in graph.iter().enumerate().rev() {
        plan.add(unit, unit, needs.iter().map(|(&unit, &need)| (unit, need)));
    }
    let mut tracker = plan.seal().unwrap();
    let mut seen = Seen::default();
    let mut running: Vec<usize> = Vec::new();
    let mut newly_ready = 0;

    for (which, step) in steps.iter().cycle() {
        while running.len() < slots
            && let Some((unit, job)) = tracker.start_next()
        {
            prop_assert_eq!(unit, job);
            prop_assert!(seen.could_start(graph, unit), "{} started early", unit);
            prop_assert!(seen.started.insert(unit), "{} started twice", unit);
            running.push(unit);
        }
        if running.is_empty() {
            break;
        }

        let at = which.index(running.len());
        let unit = running[at];
        let expected_ready: BTreeSet<usize> = match step {
            Step::Metadata if tracker.state(&unit) == Some(State::Frontend) => {
                seen.produced.insert(unit, Artifact::Metadata);
                tracker
                    .produced(&unit, Artifact::Metadata)
                    .into_iter()
                    .copied()
                    .collect()
            }
            Step::Fresh if tracker.state(&unit) == Some(State::Frontend) => {
                tracker.found_fresh(&unit);
                BTreeSet::new()
            }
            Step::Metadata | Step::Fresh | Step::Finish => {
                running.swap_remove(at);
                seen.produced.insert(unit, Artifact::All);
                tracker
                    .produced(&unit, Artifact::All)
                    .into_iter()
                    .copied()
                    .collect()
            }
            Step::Fail => {
                running.swap_remove(at);
                seen.failed.insert(unit);
                for lost in tracker.failed(&unit) {
                    prop_assert!(seen.lost.insert(*lost), "{} lost twice", lost);
                }
                BTreeSet::new()
            }
        };
        for ready in &expected_ready {
            prop_assert_eq!(tracker.state(ready), Some(State::Ready));
        }

        // Nothing that could start is held back, and nothing else is on offer.
        let could_start = (0..graph.len())
            .filter(|unit| !seen.started.contains(unit) && seen.could_start(graph, *unit))
            .count();
        prop_assert_eq!(tracker.ready_len(), could_start);
        newly_ready += tracker.take_newly_ready();
    }
    prop_assert!(tracker.is_drained());
    prop_assert_eq!(newly_ready + tracker.take_newly_ready(), seen.started.len());
    Ok((tracker, seen))
}

proptest! {
    /// Every graph drains, and every job of it runs exactly once and never too early.
    #[test]
    fn without_failures_everything_runs_once(
        graph in graphs(),
        slots in 1..9usize,
        steps in steps(0),
    ) {
        let (tracker, seen) = run(&graph, slots, &steps)?;
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
        steps in steps(4),
    ) {
        let (tracker, seen) = run(&graph, slots, &steps)?;
        prop_assert_eq!(&seen.lost, &seen.can_never_start(&graph));
        for unit in 0..graph.len() {
            let expected = if seen.failed.contains(&unit) {
                State::Failed(Cause::ItsOwn)
            } else if seen.lost.contains(&unit) {
                State::Failed(Cause::Dependency)
            } else {
                State::Done
            };
            prop_assert_eq!(tracker.state(&unit), Some(expected));
            prop_assert_eq!(seen.started.contains(&unit), !seen.lost.contains(&unit));
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
            std::iter::from_fn(|| tracker.start_next().map(|(unit, ())| unit)).collect();
        prop_assert_eq!(order, startable);
    }
}
