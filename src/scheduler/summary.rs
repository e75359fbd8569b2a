//! What a build was like, when it is over.

use std::hash::Hash;

use super::estimate::Work;
use super::limit::Done;
use super::{Measured, Scheduler};
use crate::job::{State, Transition};

/// What a build took, what it could have taken, and what its jobs waited for. Times are in µs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary<U> {
    /// How long it took from when its plan was sealed.
    pub took: u64,
    /// The least that any schedule could have made of what was [done](Done), if each phase had taken
    /// what it took.
    pub limit: u64,
    /// The longest path through it, first to last, and for how long it led through each unit.
    pub critical_path: Vec<(U, u64)>,
    /// How many jobs were parked before they linked.
    pub gated_links: usize,
    /// For how long these compiled, all together, before all outputs that they link were ready.
    pub ran_ahead: u64,
    /// What jobs did besides compiling.
    pub sections: Vec<Section<U>>,
    /// Units that were conditional and turned out to be up to date.
    pub unchanged: Vec<U>,
}

/// A part of the life of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<U> {
    /// The unit.
    pub unit: U,
    /// What the job did.
    pub kind: SectionKind,
    /// When it began, by the build's [`Clock`](super::Clock).
    pub start: u64,
    /// When it ended, by the same clock.
    pub end: u64,
}

/// What a job does besides compiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// It waits before its linker.
    Parked,
    /// Its compiler is stopped.
    Paused,
    /// It was parked and links.
    Link,
}

impl SectionKind {
    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            SectionKind::Parked => "parked",
            SectionKind::Paused => "paused",
            SectionKind::Link => "link",
        }
    }

    fn of(state: State) -> Option<Self> {
        match state {
            State::Parked => Some(SectionKind::Parked),
            State::Paused => Some(SectionKind::Paused),
            State::Linking => Some(SectionKind::Link),
            _ => None,
        }
    }
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    /// Looks back on the build, which had this many slots. Jobs that have not ended count for nothing.
    ///
    /// Takes two bits for each pair of jobs, and time in proportion to that.
    pub fn summary(&mut self, slots: u64) -> Summary<U> {
        let times = &self.measurements.jobs;
        let works: Vec<Work> = times.iter().map(|times| times.worked).collect();
        let needs: Vec<_> = (0..works.len())
            .map(|id| self.graph.needs.of(id).collect())
            .collect();
        let done = Done {
            works: &works,
            needs: &needs,
            dependencies_first: &self.graph.dependencies_first,
        };
        let unit = |id: usize| self.nodes[id].unit.clone();
        let path = done.longest_path(|id| works[id]);
        let ran_ahead: Vec<u64> = std::iter::zip(&self.nodes, times)
            .filter(|(node, _)| node.state == State::Done)
            .filter_map(|(_, times)| times.ran_ahead)
            .collect();
        let sections =
            sections(&self.measurements.transitions).map(|(id, kind, start, end)| Section {
                unit: unit(id),
                kind,
                start,
                end,
            });
        Summary {
            limit: done.limit(slots, |id| works[id]),
            critical_path: (path.iter().filter(|step| step.took > 0))
                .map(|step| (unit(step.unit), step.took))
                .collect(),
            gated_links: ran_ahead.len(),
            ran_ahead: ran_ahead.into_iter().fold(0, u64::saturating_add),
            sections: sections.collect(),
            unchanged: (self.measurements.transitions.iter())
                .filter(|it| it.to == State::Fresh && self.nodes[it.job].is_conditional)
                .map(|it| unit(it.job))
                .collect(),
            took: (self.clock.now()).saturating_sub(self.measurements.began),
        }
    }

    /// Returns what was measured of the jobs that are done, in the order in which they were added.
    /// Nothing of those that were [fresh](State::Fresh).
    pub fn measured(&self) -> impl Iterator<Item = (&U, Measured)> {
        std::iter::zip(&self.nodes, &self.measurements.jobs)
            .filter(|(node, _)| node.state == State::Done)
            .map(|(node, times)| (&node.unit, times.measured))
    }
}

/// The sections that have ended, in the order of their ends: job, kind, start and end.
fn sections(
    transitions: &[Transition],
) -> impl Iterator<Item = (usize, SectionKind, u64, u64)> + '_ {
    let mut begun = std::collections::HashMap::new();
    transitions.iter().filter_map(move |transition| {
        let start = begun.insert(transition.job, transition.at);
        Some((
            transition.job,
            SectionKind::of(transition.from)?,
            start?,
            transition.at,
        ))
    })
}
