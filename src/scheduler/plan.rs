//! The jobs of a build, while they are being collected.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::estimate::Correction;
use super::node::{Node, Tally};
use super::ready::Queue;
use super::{Scheduler, Settings};
use crate::graph::{Artifact, Edges, Graph, Need, small};
use crate::job::State;

/// All jobs of a build and their needs. [`seal`](Plan::seal) makes the [`Scheduler`] that runs them.
#[derive(Debug)]
pub struct Plan<U, J> {
    pub(super) nodes: Vec<Node<U>>,
    pub(super) jobs: Vec<J>,
    needs: Vec<Vec<(U, Need)>>,
}

impl<U, J> Default for Plan<U, J> {
    fn default() -> Self {
        Plan {
            nodes: Vec::new(),
            jobs: Vec::new(),
            needs: Vec::new(),
        }
    }
}

impl<U, J> Plan<U, J> {
    /// Adds the job of `unit` and what it needs, which may be added later. Where the same dependency is named
    /// twice, the greater [`Need`] counts.
    pub fn add(
        &mut self,
        unit: U,
        job: J,
        needs: impl IntoIterator<Item = (U, Need)>,
    ) -> &mut Node<U> {
        let index = self.nodes.len();
        self.nodes.push(Node::new(unit));
        self.jobs.push(job);
        self.needs.push(needs.into_iter().collect());
        &mut self.nodes[index]
    }

    /// Returns the units and their jobs, in the order in which they were added.
    pub fn jobs(&self) -> impl Iterator<Item = (&U, &J)> {
        std::iter::zip(&self.nodes, &self.jobs).map(|(node, job)| (&node.unit, job))
    }

    /// Returns the number of jobs added so far.
    #[expect(clippy::len_without_is_empty, reason = "a plan is not a collection")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl<U: Clone + Debug + Eq + Hash, J> Plan<U, J> {
    /// Freezes the plan, ranks the jobs and marks those without dependencies ready.
    ///
    /// Mistakes of the caller are errors: a unit that was added twice, the need of one that was not added,
    /// and a cycle.
    pub fn seal(self, mut settings: Settings<U>) -> anyhow::Result<Scheduler<U, J>> {
        let Plan {
            mut nodes, jobs, ..
        } = self;
        let mut ids = HashMap::with_capacity(nodes.len());
        for (id, Node { unit, .. }) in nodes.iter().enumerate() {
            if ids.insert(unit.clone(), id).is_some() {
                bail!("{unit:?} was queued twice");
            }
        }
        let mut all_needs = Edges::default();
        let mut strongest = Vec::new();
        for (Node { unit, hold, .. }, needs) in std::iter::zip(&nodes, self.needs) {
            for (dependency, need) in needs {
                let Some(&id) = ids.get(&dependency) else {
                    bail!("{unit:?} needs {dependency:?}, which was never queued");
                };
                let need = match need {
                    Need::AllToLink if hold.is_none() => Need::AllToStart,
                    need => need,
                };
                strongest.push((id, need));
            }
            strongest.sort_unstable_by(|one, other| other.cmp(one));
            strongest.dedup_by_key(|(id, _)| *id);
            all_needs.push(strongest.drain(..));
        }
        let graph = Graph::new(all_needs).map_err(|cycle| {
            let units: Vec<&U> = cycle.iter().map(|id| &nodes[*id].unit).collect();
            anyhow!("a cycle in the job graph among {units:?}")
        })?;
        let mut missing = Vec::with_capacity(nodes.len());
        let mut tally = Tally::default();
        for (id, node) in nodes.iter_mut().enumerate() {
            missing.push(small(graph.needs.of(id).len()));
            node.all_ready = missing[id] == 0;
            let mut dependents = graph.dependents.of(id);
            node.lets_others_start =
                dependents.any(|(_, need)| need.to_start() == Artifact::Metadata);
            tally.replace(&Tally::default(), &node.tally());
        }
        let mut scheduler = Scheduler {
            began: settings.clock.now(),
            settings,
            nodes,
            jobs: jobs.into_iter().map(Some).collect(),
            ids,
            graph: Arc::new(graph),
            missing_to_start: missing.clone(),
            missing,
            tally,
            runnable: Queue::default(),
            ready_early: Queue::default(),
            to_compare: VecDeque::new(),
            metadata_written: Vec::new(),
            unblocked: 0,
            is_stopping: false,
            correction: Correction::default(),
            phases_ended: 0,
            transitions: Vec::new(),
        };
        scheduler.count_dependents();
        scheduler.count_dependencies();
        scheduler.rank();
        // In the order of adding, so that jobs that become ready together are ordered the same each time.
        for id in 0..scheduler.nodes.len() {
            if scheduler.nodes[id].all_ready {
                scheduler.set(id, State::Ready);
            }
        }
        Ok(scheduler)
    }
}
