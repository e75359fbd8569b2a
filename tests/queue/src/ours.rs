//! The queue of the replacement, called as its `JobQueue` does.

use cargo_pipelining::artifact::{Artifact, Need, Next, Plan, Started, Tracker};
use cargo_pipelining::schedule::{Clock, Estimate, Schedule, Work, pausing};

use crate::build::{Phase, Queue, Running, SLOTS};
use crate::graph::{Graph, Job, Kind, Node, Unit};

/// How many jobs may be started early: the replacement allows two for each slot.
const EARLY: usize = 2 * SLOTS;

/// The engine's tracker, in a first build ever: all costs are guessed, and corrected as it goes on.
#[derive(Debug)]
pub struct Ours(Tracker<Unit, Job>);

impl Queue for Ours {
    fn plan(graph: &Graph) -> Self {
        let mut plan = Plan::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let need = match node.kind {
                Kind::Library => Need::MetadataToStart,
                Kind::Binary => Need::AllToLink,
            };
            let needs = node.needs.iter();
            let needs = needs.map(|&place| (graph.node(place).unit.clone(), need));
            let estimate = Estimate::Guessed(work(node));
            plan.add(node.unit.clone(), Job::default(), needs, estimate);
        }
        let tracker = plan.seal(Schedule::CriticalPath, Clock::new(|| 0));
        Ours(tracker.expect("a generated graph can be built"))
    }

    fn start(&mut self, free: usize, mut begin: impl FnMut(Running)) {
        for _ in 0..free {
            let Some(next) = self.0.next(|early| early < EARLY) else {
                return;
            };
            begin(match next {
                Next::Continue(unit) | Next::Link(unit) => Running {
                    unit,
                    phase: Phase::Rest,
                },
                Next::Start(Started {
                    unit,
                    job,
                    is_early,
                }) => {
                    std::hint::black_box(&job);
                    // Whether to make a hollow rlib of its metadata.
                    std::hint::black_box(self.0.is_linked(&unit));
                    let phase = match is_early {
                        true => Phase::Early,
                        false => Phase::Frontend,
                    };
                    Running { unit, phase }
                }
            });
        }
    }

    fn metadata(&mut self, node: &Node, is_full: bool) -> bool {
        std::hint::black_box(self.0.produced(&node.unit, Artifact::Metadata));
        let pauses = is_full
            && (self.0).should_pause(&node.unit, pausing::places(SLOTS), |early| early < EARLY);
        if pauses {
            self.0.paused(&node.unit);
        }
        !pauses
    }

    fn parked(&mut self, node: &Node) {
        let lost = self.0.parked(&node.unit);
        assert!(lost.is_empty(), "nothing fails in this build");
    }

    fn finished(&mut self, node: &Node) {
        std::hint::black_box(self.0.produced(&node.unit, Artifact::All));
    }
}

/// What a unit is said to cost, in µs: not all the same, so that there is something to put in order.
fn work(node: &Node) -> Work {
    let some = |modulus: usize| 1_000 + 100 * (node.unit.place() % modulus) as u64;
    let (codegen, link) = match node.kind {
        Kind::Library => (some(13), 0),
        Kind::Binary => (0, 1_000),
    };
    Work {
        frontend: some(7),
        codegen,
        link,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use replay::generate::{Shape, generate};

    #[test]
    fn each_unit_ends_once_and_the_binary_last() {
        for shape in Shape::ALL {
            let graph = Graph::new(&generate(shape, 100));
            let mut ended = build::<Ours>(&graph);
            let binary = graph.node(99);
            let last_linked = ended.iter().rposition(|place| binary.needs.contains(place));
            assert!(last_linked < ended.iter().position(|&place| place == 99));
            ended.sort_unstable();
            assert_eq!(ended, Vec::from_iter(0..100));
        }
    }

    #[test]
    fn the_binary_compiles_early() {
        let graph = Graph::new(&generate(Shape::Chain, 2));
        let mut queue = Ours::plan(&graph);
        let mut phases = Vec::new();
        queue.start(1, |running| phases.push(running.phase));
        assert!(queue.metadata(graph.node(0), false));
        queue.start(1, |running| phases.push(running.phase));
        assert_eq!(phases, [Phase::Frontend, Phase::Early]);
    }
}
