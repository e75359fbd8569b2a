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
    /// All units of a build.
    fn plan(graph: &Graph) -> Self;
    /// Starts jobs, and lets those go on that wait, on so many free slots at most.
    fn start(&mut self, free: usize, begin: impl FnMut(Running));
    /// The unit has written its metadata. Whether it keeps its slot; `is_full` says that no other one
    /// is free.
    fn metadata(&mut self, node: &Node, is_full: bool) -> bool;
    /// The unit was started early and has come as far as the linker.
    fn parked(&mut self, node: &Node);
    /// The unit has ended.
    fn finished(&mut self, node: &Node);
}

/// A job on a slot.
#[derive(Debug)]
pub struct Running {
    /// Whose job it is.
    pub unit: Unit,
    /// What it does.
    pub phase: Phase,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It compiles.
    Frontend,
    /// It compiles, and something that it links is missing.
    Early,
    /// It does what is left: it generates code, or links.
    Rest,
}

/// Builds the graph. Answers in what order the units have ended, by their places.
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
                    running.push_back(Running {
                        unit,
                        phase: Phase::Rest,
                    });
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
