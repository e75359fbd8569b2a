//! The queue of the replacement, called as its `JobQueue` does.

use cargo_pipelining::config::Schedule;
use cargo_pipelining::graph::{Artifact, Need};
use cargo_pipelining::job::State;
use cargo_pipelining::link_gate::{EarlyStarts, HeldLinker, Hold};
use cargo_pipelining::permit::PermitSender;
use cargo_pipelining::scheduler::guess::{Basis, Guess};
use cargo_pipelining::scheduler::pauses::Budget;
use cargo_pipelining::scheduler::{
    Action, Clock, Estimate, Pauses, Plan, Scheduler, Settings, Task, Work,
};

use crate::build::{Phase, Queue, Running, SLOTS};
use crate::graph::{Graph, Job, Kind, Node, Unit};

/// The engine's scheduler, in a first build ever: all costs are guessed, and corrected as it goes on.
#[derive(Debug)]
pub struct Ours(Scheduler<Unit, Job>);

impl Task for Job {}

impl Queue for Ours {
    fn plan(graph: &Graph) -> Self {
        let mut plan = Plan::default();
        let hold = Hold::BeforeLinker(HeldLinker {
            name: String::new(),
            linker: String::new(),
        });
        for node in &graph.nodes {
            let (need, hold) = match node.kind {
                Kind::Library => (Need::MetadataToStart, None),
                Kind::Binary => (Need::AllToLink, Some(hold.clone())),
            };
            let needs = node.needs.iter();
            let needs = needs.map(|&place| (graph.node(place).unit.clone(), need));
            plan.add(node.unit.clone(), Job::default(), needs)
                .estimate(Estimate::Guessed(Guess {
                    basis: Basis::Library,
                    work: work(node),
                }))
                .hold(hold);
        }
        let settings = Settings {
            schedule: Schedule::CriticalPath,
            clock: Clock::new(|| 0),
            early: EarlyStarts::simulated(SLOTS as u32),
            pauses: Pauses::simulated(Budget::Bytes(SLOTS as u64), Vec::new()),
            ..Settings::default()
        };
        Ours(plan.seal(settings).expect("a generated graph can be built"))
    }

    fn start(&mut self, free: usize, mut begin: impl FnMut(Running)) {
        let slots = self.0.slots_in_use() + free;
        while let Some(action) = self.0.next(slots) {
            let (unit, phase) = match action {
                Action::Resume(unit) | Action::Link(unit) => (unit, Phase::Rest),
                Action::Start(start) => {
                    std::hint::black_box(&start.job);
                    let early = [Phase::Frontend, Phase::Early];
                    (start.unit, early[usize::from(start.is_early)])
                }
            };
            begin(Running { unit, phase });
        }
    }

    fn metadata(&mut self, node: &Node, is_full: bool) -> bool {
        std::hint::black_box(self.0.produced(&node.unit, Artifact::Metadata));
        let slots = self.0.slots_in_use() + usize::from(!is_full);
        self.0.pause_codegen(slots, || false);
        self.0.state(&node.unit) != Some(State::Paused)
    }

    fn parked(&mut self, node: &Node) {
        self.0.parked(&node.unit, PermitSender::new(|_| {}));
    }

    fn finished(&mut self, node: &Node) {
        std::hint::black_box(self.0.produced(&node.unit, Artifact::All));
    }
}

/// The estimate for a unit, in µs: not all the same, so that there is something to put in order.
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
    use crate::graph::Shape;

    #[test]
    fn binary_compiles_early() {
        let graph = Graph::new(Shape::Chain, 2);
        let mut queue = Ours::plan(&graph);
        let mut phases = Vec::new();
        queue.start(1, |running| phases.push(running.phase));
        assert!(queue.metadata(graph.node(0), false));
        queue.start(1, |running| phases.push(running.phase));
        assert_eq!(phases, [Phase::Frontend, Phase::Early]);
    }
}
