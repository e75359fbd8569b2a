//! What a build was like, when it is over.

use std::hash::Hash;

use crate::schedule::{Done, Work};

use super::{State, Tracker};

/// How far jobs that link ran ahead of what they link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many jobs waited before they linked.
    pub links: usize,
    /// For how long they compiled, all together, before all that they link was there, in µs.
    pub time: u64,
}

/// What a build took, and what it could have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrospect<U> {
    /// How long it took from when its plan was [sealed](super::Plan::seal), in µs.
    pub took: u64,
    /// The least that any schedule could have made of what was [done](Done), in µs, if each phase had
    /// taken what it took.
    pub limit: u64,
    /// The longest path through it, first to last, and for how long it led through each unit, in µs.
    pub longest_path: Vec<(U, u64)>,
}

impl<U: Clone + Eq + Hash, J> Tracker<U, J> {
    /// How far the jobs that are done ran ahead of what they linked.
    pub fn ran_ahead(&self) -> Ahead {
        let done = self.nodes.iter().filter(|node| node.state == State::Done);
        done.filter_map(|node| node.ran_ahead)
            .fold(Ahead::default(), |ahead, time| Ahead {
                links: ahead.links + 1,
                time: ahead.time.saturating_add(time),
            })
    }

    /// Looks back on the build, which had so many slots. Jobs that have not ended count for nothing.
    ///
    /// Takes two bits for each pair of jobs, and time in proportion to that.
    pub fn retrospect(&mut self, slots: u64) -> Retrospect<U> {
        let works: Vec<Work> = self.nodes.iter().map(|node| node.worked).collect();
        let needs: Vec<_> = (0..works.len())
            .map(|id| self.needs.of(id).collect())
            .collect();
        let done = Done {
            works: &works,
            needs: &needs,
            dependencies_first: &self.dependencies_first,
        };
        let path = done.longest_path(|id| works[id]);
        Retrospect {
            took: self.clock.now().saturating_sub(self.began),
            limit: done.limit(slots, |id| works[id]),
            longest_path: (path.iter().filter(|step| step.took > 0))
                .map(|step| (self.nodes[step.unit].unit.clone(), step.took))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::{Artifact, Need, Next, Plan};
    use super::*;
    use crate::schedule::{Clock, Estimate, Schedule};

    #[test]
    fn of_a_program_that_links_a_library() {
        let now = Arc::new(AtomicU64::new(7));
        let clock = Clock::new({
            let now = now.clone();
            move || now.load(Ordering::Relaxed)
        });
        let pass = |time| now.fetch_add(time, Ordering::Relaxed);
        let mut plan = Plan::default();
        plan.add("lib", (), [], Estimate::default());
        plan.add("bin", (), [("lib", Need::AllToLink)], Estimate::default());
        plan.add("other", (), [], Estimate::default());
        let mut tracker = plan.seal(Schedule::Stock, clock).unwrap();
        let start = |tracker: &mut Tracker<_, _>| match tracker.next(|_| true) {
            Some(Next::Start(started)) => started.unit,
            other => panic!("{other:?}"),
        };
        pass(3);
        assert_eq!(start(&mut tracker), "lib");
        pass(10);
        tracker.produced(&"lib", Artifact::Metadata);
        assert_eq!(start(&mut tracker), "bin");
        pass(20);
        tracker.parked(&"bin");
        tracker.paused(&"lib");
        pass(100);
        assert!(matches!(
            tracker.next(|_| true),
            Some(Next::Continue("lib"))
        ));
        pass(30);
        tracker.produced(&"lib", Artifact::All);
        assert!(matches!(tracker.next(|_| true), Some(Next::Link("bin"))));
        pass(5);
        tracker.produced(&"bin", Artifact::All);
        assert_eq!(start(&mut tracker), "other");
        pass(1_000);
        tracker.failed(&"other");
        assert_eq!(tracker.ran_ahead(), Ahead { links: 1, time: 20 });
        let expected = Retrospect {
            took: 3 + 10 + 20 + 100 + 30 + 5 + 1_000,
            limit: 1_000,
            longest_path: vec![("other", 1_000)],
        };
        assert_eq!(tracker.retrospect(2), expected);
        assert_eq!(tracker.retrospect(1).limit, 10 + 50 + 20 + 5 + 1_000);
    }
}
