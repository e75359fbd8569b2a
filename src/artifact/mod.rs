//! What a job produces and when, and what may start because of it.
//!
//! One job is one unit's work. A compiler's job produces its [`Artifact`]s one after the other, and
//! a dependent says with each edge which of them it [needs](Need), and for what. The [`Tracker`] is
//! told what happened and answers what may start now.
//!
//! # The life of a job
//!
//! ```text
//!            all that it
//!            needs is there      start_next           Metadata                All
//!   Waiting ───────────────▶ Ready ───────▶ Frontend ──────────▶ Codegen ──────────▶ Done
//!      │                                     │  │  │                │                 ▲
//!      │                         found_fresh │  │  │    All         │                 │
//!      │                                     ▼  │  └────────────────┼─────────────────┤
//!      │                                  Fresh ┼───────────────────┼─────────────────┘
//!      │ what it needs will                  │  │ failed            │       All
//!      ▼ never be produced                   ▼  ▼                   ▼
//!   Failed                                   Failed ◀───────────────┘
//! ```
//!
//! [`State`] says what each of them means. There is one function that changes a state,
//! `Tracker::set`, it refuses what the picture does not show, and it is the only place where the
//! counters that follow from states are kept in step.
//!
//! # Why a job that never announces its metadata needs no special case
//!
//! A job that ends well has produced everything, so [`Artifact::All`] satisfies edges on the metadata
//! as well as on the rest. Whether a metadata event came before it decides only
//! *when* the edges on the metadata were satisfied. A compiler that never announces its metadata
//! (a check, an old wrapper, a job that is fresh) therefore holds up its dependents until it ends,
//! and cannot strand them.

use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::hash::Hash;

/// What a job produces, in the order in which it appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Artifact {
    /// The `.rmeta` file: all that compiling a dependent library reads of a library.
    Metadata,
    /// Everything that the job makes: the job has ended well.
    All,
}

/// What an edge asks for: which artifact of the dependency, and what for.
///
/// Of two needs for the same dependency the greater one includes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// The dependent may start once the metadata of the dependency is written.
    MetadataToStart,
    /// The dependent may start once the dependency is finished.
    AllToStart,
}

impl Need {
    /// The first artifact with which the need is satisfied.
    pub fn artifact(self) -> Artifact {
        match self {
            Need::MetadataToStart => Artifact::Metadata,
            Need::AllToStart => Artifact::All,
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Something that it needs in order to start has not been produced yet.
    Waiting,
    /// Everything that it needs is there: it starts as soon as the caller has room for it.
    Ready,
    /// It runs, and nothing of what it produces can be used yet.
    Frontend,
    /// It runs, its metadata is written, and dependents that need no more than that may start.
    Codegen,
    /// Nothing that it reads has changed, so what an earlier build made stands. It has only to
    /// repeat what that build said and to put its outputs where users look for them.
    Fresh,
    /// It has ended well: everything that it produces is there.
    Done,
    /// It will never produce what it has not produced so far.
    Failed(Cause),
}

/// Why a job has [`Failed`](State::Failed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It ran and ended with an error.
    ItsOwn,
    /// It can never start: something that it needs will never be produced.
    Dependency,
}

impl State {
    /// Whether a job in this state may go to `next`: the arrows of the picture in the
    /// [module's documentation](self).
    pub fn may_become(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Waiting, Ready)
                | (Ready, Frontend)
                | (Frontend, Fresh | Codegen | Done)
                | (Codegen | Fresh, Done)
                | (Waiting, Failed(Cause::Dependency))
                | (Frontend | Codegen | Fresh, Failed(Cause::ItsOwn))
        )
    }

    /// Whether the job has started and not ended.
    pub fn is_running(self) -> bool {
        matches!(self, State::Frontend | State::Codegen | State::Fresh)
    }

    /// What a job in this state has produced.
    pub fn produced(self) -> Option<Artifact> {
        match self {
            State::Waiting | State::Ready | State::Frontend | State::Fresh | State::Failed(_) => {
                None
            }
            State::Codegen => Some(Artifact::Metadata),
            State::Done => Some(Artifact::All),
        }
    }
}

/// Why a [`Plan`] is no plan. Both are mistakes of the caller, not of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError<U> {
    /// The same unit was added twice.
    Duplicate(U),
    /// A unit needs another one that was never added.
    Unknown {
        /// The unit that has the edge.
        dependent: U,
        /// The unit at its other end.
        dependency: U,
    },
    /// These units need each other in a circle, or need one that does.
    Cycle(Vec<U>),
}

impl<U: fmt::Debug> fmt::Display for PlanError<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Duplicate(unit) => write!(f, "{unit:?} was queued twice"),
            PlanError::Unknown {
                dependent,
                dependency,
            } => write!(
                f,
                "{dependent:?} needs {dependency:?}, which was never queued"
            ),
            PlanError::Cycle(units) => write!(f, "a cycle in the job graph among {units:?}"),
        }
    }
}

impl<U: fmt::Debug> std::error::Error for PlanError<U> {}

/// All jobs of a build and their edges, while they are being collected.
///
/// [`seal`](Plan::seal) turns it into the [`Tracker`] that runs them.
#[derive(Debug)]
pub struct Plan<U, J> {
    jobs: Vec<Planned<U, J>>,
}

#[derive(Debug)]
struct Planned<U, J> {
    unit: U,
    job: J,
    needs: Vec<(U, Need)>,
}

impl<U, J> Default for Plan<U, J> {
    fn default() -> Self {
        Plan { jobs: Vec::new() }
    }
}

impl<U: Clone + Eq + Hash, J> Plan<U, J> {
    /// Adds the job of `unit` and what it needs. The units that it needs may be added later.
    ///
    /// Where the same dependency is named twice, the greater [`Need`] counts.
    pub fn add(&mut self, unit: U, job: J, needs: impl IntoIterator<Item = (U, Need)>) {
        self.jobs.push(Planned {
            unit,
            job,
            needs: needs.into_iter().collect(),
        });
    }

    /// The number of jobs added so far.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job was added so far.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Ends the collecting and works out what can start at once.
    ///
    /// # Errors
    ///
    /// Where an edge has no other end, a unit was added twice, or no order satisfies all needs.
    pub fn seal(self) -> Result<Tracker<U, J>, PlanError<U>> {
        let mut ids = HashMap::with_capacity(self.jobs.len());
        for (id, planned) in self.jobs.iter().enumerate() {
            if ids.insert(planned.unit.clone(), id).is_some() {
                return Err(PlanError::Duplicate(planned.unit.clone()));
            }
        }

        let mut nodes = Vec::with_capacity(self.jobs.len());
        for Planned { unit, job, needs } in self.jobs {
            let mut strongest = HashMap::with_capacity(needs.len());
            for (dependency, need) in needs {
                let Some(&id) = ids.get(&dependency) else {
                    return Err(PlanError::Unknown {
                        dependent: unit,
                        dependency,
                    });
                };
                let known = strongest.entry(id).or_insert(need);
                *known = need.max(*known);
            }
            nodes.push(Node {
                unit,
                job: Some(job),
                state: State::Waiting,
                missing: strongest.len(),
                needs: strongest.into_iter().collect(),
                dependents: Vec::new(),
                priority: 0,
            });
        }
        // In the order of adding, so that what becomes ready at the same moment is reported in the
        // same order every time.
        for dependent in 0..nodes.len() {
            for need in 0..nodes[dependent].needs.len() {
                let (dependency, need) = nodes[dependent].needs[need];
                nodes[dependency].dependents.push((dependent, need));
            }
        }

        let order = dependencies_first(&nodes)?;
        set_priorities(&mut nodes, &order);

        let mut tracker = Tracker {
            waiting_or_ready: nodes.len(),
            nodes,
            ids,
            ready: BinaryHeap::new(),
            newly_ready: 0,
        };
        for id in 0..tracker.nodes.len() {
            if tracker.nodes[id].missing == 0 {
                tracker.set(id, State::Ready);
            }
        }
        Ok(tracker)
    }
}

/// The ids of all nodes, each behind everything that it needs.
fn dependencies_first<U: Clone, J>(nodes: &[Node<U, J>]) -> Result<Vec<usize>, PlanError<U>> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.missing).collect();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&id| missing[id] == 0).collect();
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        next += 1;
        for &(dependent, _) in &nodes[id].dependents {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                order.push(dependent);
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    Err(PlanError::Cycle(
        (0..nodes.len())
            .filter(|&id| missing[id] > 0)
            .map(|id| nodes[id].unit.clone())
            .collect(),
    ))
}

/// Sets each priority to the number of jobs that wait for the job, directly or not, and the job
/// itself: the order in which Cargo has always started jobs.
///
/// One bit per pair of jobs, 12 MB for 10,000 of them, held only while this runs.
fn set_priorities<U, J>(nodes: &mut [Node<U, J>], dependencies_first: &[usize]) {
    let words = nodes.len().div_ceil(64);
    let mut reached = vec![0u64; words * nodes.len()];
    for &id in dependencies_first.iter().rev() {
        let mut row = vec![0u64; words];
        row[id / 64] |= 1 << (id % 64);
        for &(dependent, _) in &nodes[id].dependents {
            let of_dependent = &reached[dependent * words..][..words];
            for (word, more) in row.iter_mut().zip(of_dependent) {
                *word |= more;
            }
        }
        nodes[id].priority = row.iter().map(|word| word.count_ones()).sum();
        reached[id * words..][..words].copy_from_slice(&row);
    }
}

#[derive(Debug)]
struct Node<U, J> {
    unit: U,
    /// Handed out when the job starts.
    job: Option<J>,
    state: State,
    /// How many of its needs are not satisfied.
    missing: usize,
    /// What it needs of whom, by id, no dependency twice.
    needs: Vec<(usize, Need)>,
    /// Who needs what of this job, by id, no dependent twice.
    dependents: Vec<(usize, Need)>,
    priority: u32,
}

/// A job that may start. The greatest is the most urgent one: the one that most others wait for,
/// and among equals the one that was added first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Startable {
    priority: u32,
    added_last: std::cmp::Reverse<usize>,
}

/// Knows of every job of a build where it is in its life, and so which may start.
///
/// The caller reports what happened, in the order in which it happened; each report costs time in
/// proportion to the edges that it satisfies. Reports that no run of a job could lead to, such as
/// metadata of a job that never started, are mistakes of the caller and panic.
#[derive(Debug)]
pub struct Tracker<U, J> {
    nodes: Vec<Node<U, J>>,
    ids: HashMap<U, usize>,
    ready: BinaryHeap<Startable>,
    /// How many became ready since [`Tracker::take_newly_ready`] was last asked.
    newly_ready: usize,
    waiting_or_ready: usize,
}

impl<U: Clone + Eq + Hash, J> Tracker<U, J> {
    /// Whether nothing is left to start: every job runs or has ended.
    pub fn is_drained(&self) -> bool {
        self.waiting_or_ready == 0
    }

    /// How many jobs could start now.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many jobs became ready since this was last asked.
    pub fn take_newly_ready(&mut self) -> usize {
        std::mem::take(&mut self.newly_ready)
    }

    /// Where the job of `unit` is in its life, or `None` for a unit that was never added.
    pub fn state(&self, unit: &U) -> Option<State> {
        self.ids.get(unit).map(|&id| self.nodes[id].state)
    }

    /// What the job of `unit` needs of whom, in no particular order.
    ///
    /// # Panics
    ///
    /// If `unit` was never added.
    pub fn needs(&self, unit: &U) -> impl Iterator<Item = (&U, Need)> {
        self.nodes[self.ids[unit]]
            .needs
            .iter()
            .map(|&(dependency, need)| (&self.nodes[dependency].unit, need))
    }

    /// Starts the most urgent job that can start, and hands it out.
    pub fn start_next(&mut self) -> Option<(U, J)> {
        let id = self.ready.pop()?.added_last.0;
        self.set(id, State::Frontend);
        let node = &mut self.nodes[id];
        let job = node.job.take().expect("a job starts only once");
        Some((node.unit.clone(), job))
    }

    /// The job that just started has nothing to do but to repeat what an earlier build said.
    pub fn found_fresh(&mut self, unit: &U) {
        self.set(self.ids[unit], State::Fresh);
    }

    /// The job has written its metadata and goes on, or has ended well and so produced everything.
    /// Answers who became ready by it.
    pub fn produced(&mut self, unit: &U, artifact: Artifact) -> Vec<&U> {
        let id = self.ids[unit];
        let before = self.nodes[id].state.produced();
        self.set(
            id,
            match artifact {
                Artifact::Metadata => State::Codegen,
                Artifact::All => State::Done,
            },
        );
        let mut unblocked = Vec::new();
        for edge in 0..self.nodes[id].dependents.len() {
            let (dependent, need) = self.nodes[id].dependents[edge];
            let wanted = need.artifact();
            if Some(wanted) <= before || wanted > artifact {
                continue;
            }
            self.nodes[dependent].missing -= 1;
            if self.nodes[dependent].missing == 0 {
                self.set(dependent, State::Ready);
                unblocked.push(dependent);
            }
        }
        unblocked.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    /// The job has ended with an error. Answers who can never start because of it: its dependents
    /// that still wait for something it had not produced, theirs, and so on. Dependents that
    /// started on its metadata are not among them; they end as they end.
    pub fn failed(&mut self, unit: &U) -> Vec<&U> {
        let failed = self.ids[unit];
        let mut produced = self.nodes[failed].state.produced();
        self.set(failed, State::Failed(Cause::ItsOwn));
        let mut lost = Vec::new();
        let mut unvisited = vec![failed];
        while let Some(id) = unvisited.pop() {
            for edge in 0..self.nodes[id].dependents.len() {
                let (dependent, need) = self.nodes[id].dependents[edge];
                if Some(need.artifact()) > produced && self.nodes[dependent].state == State::Waiting
                {
                    self.set(dependent, State::Failed(Cause::Dependency));
                    lost.push(dependent);
                    unvisited.push(dependent);
                }
            }
            // The others on the stack never started.
            produced = None;
        }
        lost.sort_unstable();
        lost.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    /// The one place where a state changes.
    fn set(&mut self, id: usize, next: State) {
        let node = &mut self.nodes[id];
        let last = std::mem::replace(&mut node.state, next);
        assert!(
            last.may_become(next),
            "job {id} cannot go from {last:?} to {next:?}"
        );
        match next {
            State::Ready => {
                self.newly_ready += 1;
                self.ready.push(Startable {
                    priority: node.priority,
                    added_last: std::cmp::Reverse(id),
                });
            }
            State::Frontend | State::Failed(Cause::Dependency) => self.waiting_or_ready -= 1,
            State::Waiting
            | State::Codegen
            | State::Fresh
            | State::Done
            | State::Failed(Cause::ItsOwn) => {}
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToStart, MetadataToStart};

    fn tracker(jobs: &[(&'static str, &[(&'static str, Need)])]) -> Tracker<&'static str, ()> {
        let mut plan = Plan::default();
        for (unit, needs) in jobs {
            plan.add(*unit, (), needs.iter().copied());
        }
        plan.seal().unwrap()
    }

    fn start(tracker: &mut Tracker<&'static str, ()>) -> Option<&'static str> {
        tracker.start_next().map(|(unit, ())| unit)
    }

    #[test]
    fn a_library_starts_on_metadata_and_a_binary_on_all() {
        let mut queue = tracker(&[
            ("bin", &[("lib", AllToStart), ("core", AllToStart)]),
            ("lib", &[("core", MetadataToStart)]),
            ("core", &[]),
        ]);
        assert_eq!(start(&mut queue), Some("core"));
        assert_eq!(start(&mut queue), None);
        assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
        assert_eq!(start(&mut queue), Some("lib"));
        assert_eq!(queue.produced(&"lib", Artifact::All), [] as [&&str; 0]);
        assert_eq!(start(&mut queue), None);
        assert_eq!(queue.produced(&"core", Artifact::All), [&"bin"]);
        assert_eq!(start(&mut queue), Some("bin"));
        assert!(queue.is_drained());
    }

    #[test]
    fn a_job_that_never_announces_its_metadata_releases_everyone_when_it_ends() {
        let mut queue = tracker(&[("lib", &[("core", MetadataToStart)]), ("core", &[])]);
        start(&mut queue);
        queue.found_fresh(&"core");
        assert_eq!(queue.produced(&"core", Artifact::All), [&"lib"]);
    }

    #[test]
    fn the_greater_need_for_the_same_dependency_counts() {
        let mut queue = tracker(&[
            ("bin", &[("core", AllToStart), ("core", MetadataToStart)]),
            ("core", &[]),
        ]);
        start(&mut queue);
        assert_eq!(
            queue.produced(&"core", Artifact::Metadata),
            [] as [&&str; 0]
        );
        assert_eq!(queue.produced(&"core", Artifact::All), [&"bin"]);
    }

    #[test]
    fn what_most_others_wait_for_goes_first() {
        let mut queue = tracker(&[
            ("first", &[]),
            ("bin", &[("lib", AllToStart)]),
            ("lib", &[("core", AllToStart)]),
            ("second", &[]),
            ("core", &[]),
        ]);
        assert_eq!(queue.take_newly_ready(), 3);
        let order: Vec<_> = std::iter::from_fn(|| start(&mut queue)).collect();
        assert_eq!(order, ["core", "first", "second"]);
    }

    #[test]
    fn a_failure_after_the_metadata_spares_who_started_on_it() {
        let mut queue = tracker(&[
            ("core", &[]),
            ("lib", &[("core", MetadataToStart)]),
            ("bin", &[("core", AllToStart), ("lib", AllToStart)]),
            ("test", &[("bin", AllToStart)]),
        ]);
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        assert_eq!(start(&mut queue), Some("lib"));
        assert_eq!(queue.failed(&"core"), [&"bin", &"test"]);
        assert_eq!(queue.state(&"lib"), Some(State::Frontend));
        queue.produced(&"lib", Artifact::All);
        assert_eq!(queue.state(&"bin"), Some(State::Failed(Cause::Dependency)));
        assert!(queue.is_drained());
    }

    #[test]
    #[should_panic(expected = "cannot go from Waiting to Codegen")]
    fn metadata_of_a_job_that_never_started() {
        let mut queue = tracker(&[("lib", &[("core", AllToStart)]), ("core", &[])]);
        queue.produced(&"lib", Artifact::Metadata);
    }

    #[test]
    fn no_state_comes_back() {
        use State::*;
        let onwards = [
            Waiting,
            Ready,
            Frontend,
            Codegen,
            Fresh,
            Done,
            Failed(Cause::ItsOwn),
            Failed(Cause::Dependency),
        ];
        for (at, state) in onwards.iter().enumerate() {
            for earlier in &onwards[..=at] {
                assert!(!state.may_become(*earlier), "{state:?} to {earlier:?}");
            }
        }
    }

    #[test]
    fn plans_that_cannot_run() {
        let mut twice = Plan::default();
        twice.add("a", (), []);
        twice.add("a", (), []);
        assert_eq!(twice.seal().unwrap_err(), PlanError::Duplicate("a"));

        let mut unknown = Plan::default();
        unknown.add("a", (), [("b", AllToStart)]);
        assert_eq!(
            unknown.seal().unwrap_err(),
            PlanError::Unknown {
                dependent: "a",
                dependency: "b"
            }
        );

        let mut cycle = Plan::default();
        cycle.add("a", (), [("b", MetadataToStart)]);
        cycle.add("b", (), [("a", AllToStart)]);
        cycle.add("c", (), []);
        assert_eq!(cycle.seal().unwrap_err(), PlanError::Cycle(vec!["a", "b"]));
    }
}
