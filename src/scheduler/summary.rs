//! What a build was like, when it is over.

use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::estimate::Work;
use super::{Measured, Scheduler, limit};
use crate::job::State;

/// What a build took, what it could have taken, and what its jobs waited for. Times are in µs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary<U> {
    /// How long it took from when its plan was sealed.
    pub took: u64,
    /// The least that any schedule could have made of it. See [`limit`].
    pub limit: u64,
    /// The longest path through it, first to last, and for how long it led through each unit.
    pub critical_path: Vec<(U, u64)>,
    /// How many jobs were parked before they linked.
    pub gated_links: usize,
    /// For how long these compiled, all together, before all outputs that they link were ready.
    pub ran_ahead: u64,
    /// What jobs did besides compiling, in the order in which it ended.
    pub sections: Vec<Section<U>>,
    /// Units that were conditional and turned out to be up to date.
    pub unchanged: Vec<U>,
}

/// A part of the life of a job. Times are in µs of the build's [`Clock`](super::Clock).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the other fields need none")]
pub struct Section<U> {
    pub unit: U,
    /// `parked` and `paused`, and `link` after the job was parked.
    pub name: String,
    pub start: u64,
    pub end: u64,
}

impl<U: Clone + Eq + Hash, J> Scheduler<U, J> {
    /// Looks back on the build, which had this many slots and in which `index` stands for a unit. `None` if
    /// nothing was dirty. Takes as much memory and time as [`limit`](limit::limit()).
    pub fn summary<I>(&mut self, slots: u64, index: impl Fn(&U) -> I) -> Option<Summary<I>> {
        let works: Vec<Work> = self.nodes.iter().map(|node| node.took.work()).collect();
        let unit = |id: usize| index(&self.nodes[id].unit);
        let path = limit::longest_path(&self.graph, &works);
        let done = self.nodes.iter().filter(|node| node.state == State::Done);
        let ran_ahead: Vec<u64> = done.filter_map(|node| node.ran_ahead).collect();
        let (mut sections, mut unchanged) = (Vec::new(), Vec::new());
        let mut begun = vec![0; self.nodes.len()];
        for transition in &self.transitions {
            let id = transition.job;
            let start = std::mem::replace(&mut begun[id], transition.at);
            if transition.to == State::Fresh && self.nodes[id].is_conditional {
                unchanged.push(unit(id));
            }
            let name = match transition.from {
                State::Parked => "parked",
                State::Paused => "paused",
                State::Linking => "link",
                _ => continue,
            };
            sections.push(Section {
                unit: unit(id),
                name: name.to_owned(),
                start,
                end: transition.at,
            });
        }
        let critical_path: Vec<(I, u64)> = (path.into_iter().filter(|(_, took)| *took > 0))
            .map(|(id, took)| (unit(id), took))
            .collect();
        let is_idle = critical_path.is_empty() && unchanged.is_empty();
        (!is_idle).then(|| Summary {
            limit: limit::limit(&self.graph, &works, &works, slots),
            critical_path,
            gated_links: ran_ahead.len(),
            ran_ahead: ran_ahead.into_iter().fold(0, u64::saturating_add),
            sections,
            unchanged,
            took: self.settings.clock.now().saturating_sub(self.began),
        })
    }

    /// Returns what was measured of the jobs that are done, in the order in which they were added.
    /// Nothing of those that were [fresh](State::Fresh).
    pub fn measured(&self) -> impl Iterator<Item = (&U, Measured)> {
        let done = self.nodes.iter().filter(|node| node.state == State::Done);
        done.map(|node| {
            let mut took = node.took;
            if let (Some(frontend), None, None) = (&mut took.frontend, took.codegen, took.link) {
                // It was one with the link, whose time is only estimated.
                *frontend = node.without_link(*frontend);
            }
            (&node.unit, took)
        })
    }
}
