//! The build that each queue is led through.
//!
//! Nothing takes any time, so an order has to be chosen: of the jobs that run, the one that has waited
//! longest goes on. A library writes its metadata, waits another turn and ends, unless it is paused
//! between; a binary ends, or, if it was started early, parks and ends once it may link.

use std::collections::VecDeque;

use crate::graph::{Graph, Kind, Node, Unit};

/// How many jobs run at once.
pub const SLOTS: usize = 8;

/// A job queue.
pub trait Queue {
    /// Adds all units of a build.
    fn plan(graph: &Graph) -> Self;
    /// Starts jobs, or continues those that wait, on `free` slots at most.
    fn start(&mut self, free: usize, begin: impl FnMut(Running));
    /// The unit has written its metadata. Returns true if it keeps its slot; `is_full` if no other slot is
    /// free.
    fn metadata(&mut self, node: &Node, is_full: bool) -> bool;
    /// The unit was started early and has come to its linker.
    fn parked(&mut self, node: &Node);
    /// The unit has ended.
    fn finished(&mut self, node: &Node);
}

/// A job on a slot.
#[derive(Debug)]
pub struct Running {
    pub unit: Unit,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It compiles.
    Frontend,
    /// It compiles, and something that it links is missing.
    Early,
    /// It does what is left: it generates code, or links.
    Rest,
}

/// Builds the graph. Returns the places of the units in the order in which they ended.
///
/// # Panics
///
/// If the queue starts nothing while something is left to do.
pub fn build<Q: Queue>(graph: &Graph) -> Vec<usize> {
    let mut queue = Q::plan(graph);
    let mut running = VecDeque::with_capacity(SLOTS);
    let mut ended = Vec::with_capacity(graph.nodes.len());
    loop {
        queue.start(SLOTS - running.len(), |job| running.push_back(job));
        let Some(Running { unit, phase }) = running.pop_front() else {
            break;
        };
        let node = graph.node(unit.place());
        match (phase, node.kind) {
            (Phase::Frontend, Kind::Library) => {
                let is_full = running.len() + 1 == SLOTS;
                if queue.metadata(node, is_full) {
                    let phase = Phase::Rest;
                    running.push_back(Running { unit, phase });
                }
            }
            (Phase::Early, _) => queue.parked(node),
            (Phase::Frontend, Kind::Binary) | (Phase::Rest, _) => {
                queue.finished(node);
                ended.push(unit.place());
            }
        }
    }
    assert_eq!(ended.len(), graph.nodes.len(), "the queue is stuck");
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;

    fn assert_binary_ends_after_what_it_links<Q: Queue>() {
        for shape in Shape::ALL {
            let graph = Graph::new(shape, 100);
            let mut ended = build::<Q>(&graph);
            let binary = graph.node(99);
            let last_linked = ended.iter().rposition(|place| binary.needs.contains(place));
            assert!(last_linked < ended.iter().position(|&place| place == 99));
            ended.sort_unstable();
            assert_eq!(ended, Vec::from_iter(0..100));
        }
    }

    #[test]
    fn each_unit_ends_once() {
        assert_binary_ends_after_what_it_links::<crate::ours::Ours>();
        #[cfg(released)]
        assert_binary_ends_after_what_it_links::<crate::released::Released>();
    }
}
