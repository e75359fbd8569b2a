//! The queue of the released cargo, called as its `JobQueue` does.
//!
//! That moves all runnable jobs to a list, sorted by priority, which is a part of the queue.

use crate::build::{Phase, Queue, Running};
use crate::graph::{Graph, Job, Kind, Node, Unit};

include!(concat!(env!("OUT_DIR"), "/dependency_queue.rs"));
use dependency_queue::DependencyQueue;

/// The cost of each job.
const COST: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Artifact {
    Metadata,
    All,
}

/// `DependencyQueue`, and the list of pending jobs of `DrainState`.
#[derive(Debug)]
pub struct Released {
    queue: DependencyQueue<Unit, Artifact, Job>,
    pending: Vec<(Unit, Job, usize)>,
}

impl Queue for Released {
    fn plan(graph: &Graph) -> Self {
        let mut queue = DependencyQueue::new();
        for node in &graph.nodes {
            let artifact = match node.kind {
                Kind::Library => Artifact::Metadata,
                Kind::Binary => Artifact::All,
            };
            let needs = node.needs.iter();
            let needs = needs.map(|&place| (graph.node(place).unit.clone(), artifact));
            queue.queue(node.unit.clone(), Job::default(), needs, COST);
        }
        queue.queue_finished();
        Released {
            queue,
            pending: Vec::new(),
        }
    }

    fn start(&mut self, free: usize, mut begin: impl FnMut(Running)) {
        while let Some((unit, job, priority)) = self.queue.dequeue() {
            let place = self.pending.partition_point(|&(_, _, p)| p <= priority);
            self.pending.insert(place, (unit, job, priority));
        }
        for _ in 0..free {
            let Some((unit, job, _)) = self.pending.pop() else {
                return;
            };
            std::hint::black_box(&job);
            let phase = Phase::Frontend;
            begin(Running { unit, phase });
        }
    }

    fn metadata(&mut self, node: &Node, _: bool) -> bool {
        std::hint::black_box(self.queue.finish(&node.unit, &Artifact::Metadata));
        true
    }

    fn parked(&mut self, _: &Node) {
        unreachable!("the released cargo starts nothing early");
    }

    fn finished(&mut self, node: &Node) {
        std::hint::black_box(self.queue.finish(&node.unit, &Artifact::All));
    }
}
