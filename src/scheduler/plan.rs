//! The jobs of a build, while they are being collected.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::Hash;

use super::estimate::Estimate;
use super::measure::Measurements;
use super::node::{Condition, Missing, Node, Tally};
use super::priority::Priority;
use super::{Learned, Scheduler, Settings};
use crate::graph::{Artifact, Edges, Graph, GraphError, Need, small};
use crate::job::{Kind, State};
use crate::link_gate::HeldLinker;

/// All jobs of a build and their needs, while they are being collected. [`seal`](Plan::seal) turns it
/// into the [`Scheduler`] that runs them.
#[derive(Debug)]
pub struct Plan<U, J> {
    jobs: Vec<Planned<U, J>>,
}

/// A job that was added. The methods say what else is known of it.
#[derive(Debug)]
pub struct Planned<U, J> {
    unit: U,
    job: J,
    needs: Vec<(U, Need)>,
    kind: Kind,
    linker: Option<HeldLinker>,
    estimate: Estimate,
    condition: Condition,
}

impl<U, J> Planned<U, J> {
    /// Sets what kind of work it does.
    pub fn kind(&mut self, kind: Kind) -> &mut Self {
        self.kind = kind;
        self
    }

    /// Sets how its compiler is held before its linker. Without it, an output that it needs to link it
    /// needs to start.
    pub fn linker(&mut self, linker: Option<HeldLinker>) -> &mut Self {
        self.linker = linker;
        self
    }

    /// Sets what it probably costs.
    pub fn estimate(&mut self, estimate: Estimate) -> &mut Self {
        self.estimate = estimate;
        self
    }

    /// Sets whether it may turn out to be up to date: before it starts, its inputs have to be
    /// [compared](Scheduler::next_to_compare).
    pub fn conditional(&mut self, is_conditional: bool) -> &mut Self {
        self.condition = if is_conditional {
            Condition::ToStart
        } else {
            Condition::None
        };
        self
    }
}

impl<U, J> Default for Plan<U, J> {
    fn default() -> Self {
        Plan { jobs: Vec::new() }
    }
}

impl<U: Clone + Eq + Hash, J> Plan<U, J> {
    /// Makes room for this many jobs.
    pub fn with_capacity(jobs: usize) -> Self {
        Plan {
            jobs: Vec::with_capacity(jobs),
        }
    }

    /// Adds the job of `unit` and what it needs. The units that it needs may be added later.
    ///
    /// Where the same dependency is named twice, the greater [`Need`] counts.
    pub fn add(
        &mut self,
        unit: U,
        job: J,
        needs: impl IntoIterator<Item = (U, Need)>,
    ) -> &mut Planned<U, J> {
        let index = self.jobs.len();
        self.jobs.push(Planned {
            unit,
            job,
            needs: needs.into_iter().collect(),
            kind: Kind::default(),
            linker: None,
            estimate: Estimate::default(),
            condition: Condition::None,
        });
        &mut self.jobs[index]
    }

    /// Returns the units and their jobs, in the order in which they were added.
    pub fn jobs(&self) -> impl Iterator<Item = (&U, &J)> {
        (self.jobs.iter()).map(|planned| (&planned.unit, &planned.job))
    }

    /// Sets what each unit probably costs.
    pub fn estimate(&mut self, mut estimate: impl FnMut(&U, &J) -> Estimate) {
        for planned in &mut self.jobs {
            planned.estimate = estimate(&planned.unit, &planned.job);
        }
    }

    /// Returns the number of jobs added so far.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job was added so far.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Freezes the plan, ranks the jobs and marks those without dependencies ready.
    ///
    /// # Errors
    ///
    /// If an edge has no other end, a unit was added twice, or no order satisfies all needs.
    pub fn seal(self, settings: Settings<U>) -> Result<Scheduler<U, J>, GraphError<U>> {
        let mut ids = HashMap::with_capacity(self.jobs.len());
        for (id, planned) in self.jobs.iter().enumerate() {
            if ids.insert(planned.unit.clone(), id).is_some() {
                return Err(GraphError::Duplicate(planned.unit.clone()));
            }
        }
        let mut nodes = Vec::with_capacity(self.jobs.len());
        let mut jobs = Vec::with_capacity(self.jobs.len());
        let mut all_needs = Edges::with_capacity(self.jobs.len());
        let mut strongest = Vec::new();
        for planned in self.jobs {
            for (dependency, need) in planned.needs {
                let Some(&id) = ids.get(&dependency) else {
                    return Err(GraphError::Unknown {
                        dependent: planned.unit,
                        dependency,
                    });
                };
                let need = match need {
                    Need::AllToLink if planned.linker.is_none() => Need::AllToStart,
                    need => need,
                };
                strongest.push((id, need));
            }
            strongest.sort_unstable_by(|one, other| other.cmp(one));
            strongest.dedup_by_key(|(id, _)| *id);
            nodes.push(Node {
                unit: planned.unit,
                kind: planned.kind,
                linker: planned.linker,
                state: State::Waiting,
                all_ready: strongest.is_empty(),
                started_early: false,
                is_linked: false,
                lets_others_start: false,
                is_conditional: planned.condition != Condition::None,
                condition: planned.condition,
                estimate: planned.estimate,
                work: planned.estimate.work(),
                priority: Priority::default(),
                dependents: 0,
                permit: None,
            });
            jobs.push(Some(planned.job));
            all_needs.push(strongest.drain(..));
        }
        let unit = |id: usize| nodes[id].unit.clone();
        let graph = Graph::new(all_needs)
            .map_err(|cycle| GraphError::Cycle(cycle.into_iter().map(unit).collect()))?;
        for (id, node) in nodes.iter_mut().enumerate() {
            let mut needs = graph.dependents.of(id).map(|(_, need)| need);
            node.is_linked = needs.clone().any(|need| need == Need::AllToLink);
            node.lets_others_start = needs.any(|need| need.to_start() == Artifact::Metadata);
        }
        Ok(Scheduler::new(nodes, jobs, ids, graph, settings))
    }
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    fn new(
        nodes: Vec<Node<U>>,
        jobs: Vec<Option<J>>,
        ids: HashMap<U, usize>,
        graph: Graph,
        settings: Settings<U>,
    ) -> Self {
        let Settings {
            schedule,
            mut clock,
            early,
            pauses,
            costs,
            trace,
        } = settings;
        let mut tally = Tally::default();
        for node in &nodes {
            tally += node.tally();
        }
        let missing = (0..nodes.len()).map(|id| {
            let needs = small(graph.needs.of(id).len());
            Missing {
                to_start: needs,
                altogether: needs,
            }
        });
        let has_guesses = nodes
            .iter()
            .any(|node| matches!(node.estimate, Estimate::Guessed(_)));
        let mut scheduler = Scheduler {
            tally,
            missing: missing.collect(),
            measurements: Measurements::new(nodes.len(), clock.now()),
            learned: Learned::new(has_guesses, nodes.len()),
            nodes,
            jobs,
            ids,
            graph,
            schedule,
            clock,
            runnable: BinaryHeap::new(),
            ready_early: BinaryHeap::new(),
            to_compare: VecDeque::new(),
            metadata_written: Vec::new(),
            unblocked: 0,
            is_stopping: false,
            early,
            pauses,
            costs,
            trace,
        };
        scheduler.count_dependents();
        scheduler.rank();
        // In the order of adding, so that jobs that become ready together are ordered the same each time.
        for id in 0..scheduler.nodes.len() {
            if scheduler.nodes[id].all_ready {
                scheduler.set(id, State::Ready);
            }
        }
        scheduler
    }
}
