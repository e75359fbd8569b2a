//! What a job produces and when, and what may start because of it.
//!
//! One job is one unit's work. A compiler's job produces its [`Artifact`]s one after the other, and
//! a dependent says with each edge which of them it [needs](Need), and for what. The [`Tracker`] is
//! told what happened and answers what may start now, and what may link.
//!
//! # The life of a job
//!
//! ```text
//!            all that it
//!            needs is there      start_next           Metadata                All
//!   Waiting ───────────────▶ Ready ───────▶ Frontend ──────────▶ Codegen ──────────▶ Done
//!      │                                     │ │ │ │                │                ▲ ▲
//!      │                         found_fresh │ │ │ │      All       │                │ │
//!      │                                     ▼ │ │ └────────────────┼────────────────┘ │
//!      │                                  Fresh│ └───────────────┐  │          All     │
//!      │                                     │ │          parked ▼  │   next_link      │ All
//!      │ what it needs will                  │ │              Parked┼─────────────▶ Linking
//!      ▼ never be produced                   ▼ ▼ failed         │   │                  │
//!   Failed                                  Failed ◀────────────┴───┴──────────────────┘
//! ```
//!
//! [`State`] says what each of them means. There is one function that changes a state,
//! `Tracker::set`, it refuses what the picture does not show, and it is the only place where the
//! counters that follow from states are kept in step.
//!
//! # Jobs that link
//!
//! What a job links it needs whole, but not before it links: until then their metadata is enough. An
//! edge [`AllToLink`](Need::AllToLink) says so. A job whose missing needs are all of that kind can
//! start *early*, if the caller has room for it: it compiles, and [parks](State::Parked) when it has
//! come as far as the linker. [`next_link`](Tracker::next_link) lets it go once everything it links
//! is there. A job that is not started early is Ready all the same, and once everything is there it
//! is like any other.
//!
//! ```text
//!   lib   [ frontend ][ codegen ··············· ]
//!   bin               [ compile ]   parked      [ link ]
//! ```
//!
//! A parked job does nothing but hold memory, so it counts as no [working](Tracker::working) job.
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
    /// The dependent may start once the metadata of the dependency is written, and link once the
    /// dependency is finished.
    AllToLink,
    /// The dependent may start once the dependency is finished.
    AllToStart,
}

impl Need {
    /// The first artifact with which the dependent may start.
    pub fn to_start(self) -> Artifact {
        match self {
            Need::MetadataToStart | Need::AllToLink => Artifact::Metadata,
            Need::AllToStart => Artifact::All,
        }
    }

    /// The first artifact with which the need is satisfied altogether.
    pub fn artifact(self) -> Artifact {
        match self {
            Need::MetadataToStart => Artifact::Metadata,
            Need::AllToLink | Need::AllToStart => Artifact::All,
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Something that it needs in order to start has not been produced yet.
    Waiting,
    /// Everything that it needs in order to start is there: it starts as soon as the caller has room
    /// for it.
    Ready,
    /// It runs, and nothing of what it produces can be used yet.
    Frontend,
    /// It runs, its metadata is written, and dependents that need no more than that may start.
    Codegen,
    /// It started early, has compiled, and waits with an idle compiler until it may link.
    Parked,
    /// It was parked and links.
    Linking,
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
    /// It can never start, or never link: something that it needs will never be produced.
    Dependency,
    /// It was parked when the build stopped.
    Stopped,
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
                | (Frontend, Fresh | Codegen | Parked | Done)
                | (Parked, Linking)
                | (Codegen | Fresh | Linking, Done)
                | (Waiting | Ready | Parked, Failed(Cause::Dependency))
                | (Parked, Failed(Cause::Stopped))
                | (
                    Frontend | Codegen | Fresh | Parked | Linking,
                    Failed(Cause::ItsOwn)
                )
        )
    }

    /// Whether a job in this state is at work, on a slot and a token of its own.
    pub fn is_working(self) -> bool {
        matches!(
            self,
            State::Frontend | State::Codegen | State::Fresh | State::Linking
        )
    }

    /// What a job in this state has produced.
    pub fn produced(self) -> Option<Artifact> {
        match self {
            State::Waiting
            | State::Ready
            | State::Frontend
            | State::Fresh
            | State::Parked
            | State::Linking
            | State::Failed(_) => None,
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
                missing_to_start: strongest.len(),
                missing: strongest.len(),
                started_early: false,
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
            ready_early: BinaryHeap::new(),
            ready_early_len: 0,
            linkable: BinaryHeap::new(),
            working: 0,
            early: 0,
            reports: 0,
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
    /// How many of its needs keep it from starting.
    missing_to_start: usize,
    /// How many of its needs are not satisfied altogether.
    missing: usize,
    /// It was started while some of what it links was missing.
    started_early: bool,
    /// What it needs of whom, by id, no dependency twice.
    needs: Vec<(usize, Need)>,
    /// Who needs what of this job, by id, no dependent twice.
    dependents: Vec<(usize, Need)>,
    priority: u32,
}

impl<U, J> Node<U, J> {
    /// Whether it can start, but only early.
    fn is_ready_early(&self) -> bool {
        self.state == State::Ready && self.missing > 0
    }

    /// Whether it was started early and has not come to linking yet.
    fn is_early(&self) -> bool {
        self.started_early && matches!(self.state, State::Frontend | State::Parked)
    }
}

/// A job that may start or link. The greatest is the most urgent one: the one that most others wait
/// for, among equals the one that was let go last, as Cargo has always done it, and among those the
/// one that was added first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u32,
    let_go: u64,
    added_last: std::cmp::Reverse<usize>,
}

impl Candidate {
    fn id(&self) -> usize {
        self.added_last.0
    }
}

/// A job that [starts](Tracker::start_next).
#[derive(Debug)]
pub struct Started<U, J> {
    /// The unit whose job it is.
    pub unit: U,
    /// The job.
    pub job: J,
    /// Whether something that it links is missing. It then has to [park](Tracker::parked) before it
    /// links.
    pub is_early: bool,
}

/// Knows of every job of a build where it is in its life, and so which may start or link.
///
/// The caller reports what happened, in the order in which it happened; each report costs time in
/// proportion to the edges that it satisfies. Reports that no run of a job could lead to, such as
/// metadata of a job that never started, are mistakes of the caller and panic.
#[derive(Debug)]
pub struct Tracker<U, J> {
    nodes: Vec<Node<U, J>>,
    ids: HashMap<U, usize>,
    /// Jobs that are ready and miss nothing.
    ready: BinaryHeap<Candidate>,
    /// Jobs that can start early, and some that no longer are what they were when they came here:
    /// those are skipped when they come to the top.
    ready_early: BinaryHeap<Candidate>,
    ready_early_len: usize,
    /// Parked jobs that miss nothing.
    linkable: BinaryHeap<Candidate>,
    waiting_or_ready: usize,
    working: usize,
    early: usize,
    /// How often something was reported that can let others go.
    reports: u64,
}

impl<U: Clone + Eq + Hash, J> Tracker<U, J> {
    /// Whether nothing is left to start: every job has started, or never will.
    pub fn is_drained(&self) -> bool {
        self.waiting_or_ready == 0
    }

    /// How many jobs are at work, each on a slot and a token: started, not parked, not ended.
    pub fn working(&self) -> usize {
        self.working
    }

    /// How many jobs were started early and have not come to linking yet.
    pub fn early(&self) -> usize {
        self.early
    }

    /// How many jobs could start if they started early.
    pub fn ready_early_len(&self) -> usize {
        self.ready_early_len
    }

    /// How many jobs could start or link now, not counting those that would
    /// [start early](Self::ready_early_len).
    pub fn ready_len(&self) -> usize {
        self.ready.len() + self.linkable.len()
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

    /// Whether somebody needs all of the job of `unit` only to link, and so may start on its
    /// metadata.
    ///
    /// # Panics
    ///
    /// If `unit` was never added.
    pub fn is_linked(&self, unit: &U) -> bool {
        self.nodes[self.ids[unit]]
            .dependents
            .iter()
            .any(|&(_, need)| need == Need::AllToLink)
    }

    /// Lets the most urgent parked job link that can.
    pub fn next_link(&mut self) -> Option<U> {
        let id = self.linkable.pop()?.id();
        self.set(id, State::Linking);
        Some(self.nodes[id].unit.clone())
    }

    /// Starts the most urgent job that can start, and hands it out. A job that would start early does
    /// so only if `allow_early` says yes, which is asked only then, with the number of jobs that are
    /// [early](Self::early) already.
    pub fn start_next(&mut self, allow_early: impl FnOnce(usize) -> bool) -> Option<Started<U, J>> {
        while let Some(candidate) = self.ready_early.peek()
            && !self.nodes[candidate.id()].is_ready_early()
        {
            self.ready_early.pop();
        }
        let is_early = self.ready_early.peek() > self.ready.peek() && allow_early(self.early);
        let id = match is_early {
            true => self.ready_early.pop()?.id(),
            false => self.ready.pop()?.id(),
        };
        self.nodes[id].started_early = is_early;
        self.set(id, State::Frontend);
        let node = &mut self.nodes[id];
        Some(Started {
            unit: node.unit.clone(),
            job: node.job.take().expect("a job starts only once"),
            is_early,
        })
    }

    /// The job that just started has nothing to do but to repeat what an earlier build said.
    pub fn found_fresh(&mut self, unit: &U) {
        self.set(self.ids[unit], State::Fresh);
    }

    /// The job has written its metadata and goes on, or has ended well and so produced everything.
    /// Answers who became ready by it, if only to start early.
    pub fn produced(&mut self, unit: &U, artifact: Artifact) -> Vec<&U> {
        let id = self.ids[unit];
        assert!(
            !self.nodes[id].is_early(),
            "job {id} produced something before it linked"
        );
        self.reports += 1;
        let before = self.nodes[id].state.produced();
        self.set(
            id,
            match artifact {
                Artifact::Metadata => State::Codegen,
                Artifact::All => State::Done,
            },
        );
        let is_new = |wanted| Some(wanted) > before && wanted <= artifact;
        let mut unblocked = Vec::new();
        for edge in 0..self.nodes[id].dependents.len() {
            let (dependent, need) = self.nodes[id].dependents[edge];
            if is_new(need.artifact()) {
                self.satisfied(dependent);
            }
            if is_new(need.to_start()) && self.satisfied_to_start(dependent) {
                unblocked.push(dependent);
            }
        }
        unblocked.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    /// One need of the job is satisfied altogether. If it was the last, a job that could only start
    /// early is ready, and one that is parked can link.
    fn satisfied(&mut self, id: usize) {
        let could_only_start_early = self.nodes[id].is_ready_early();
        let node = &mut self.nodes[id];
        node.missing -= 1;
        if node.missing > 0 {
            return;
        }
        match node.state {
            State::Ready if could_only_start_early => {
                self.ready_early_len -= 1;
                self.ready.push(self.candidate(id));
            }
            State::Parked => self.linkable.push(self.candidate(id)),
            _ => {}
        }
    }

    /// One need of the job no longer keeps it from starting. Whether that makes it ready.
    fn satisfied_to_start(&mut self, id: usize) -> bool {
        let node = &mut self.nodes[id];
        node.missing_to_start -= 1;
        // One that can start, but never link, is lost and stays so.
        let is_ready = node.missing_to_start == 0 && node.state == State::Waiting;
        if is_ready {
            self.set(id, State::Ready);
        }
        is_ready
    }

    /// The job, started early, has compiled and waits for [`next_link`](Self::next_link). Answers who
    /// is lost, itself to begin with, if something that it links will never be there.
    ///
    /// A job that says so again, because its compiler has ended without having linked, is still parked,
    /// or still lost.
    pub fn parked(&mut self, unit: &U) -> Vec<&U> {
        let id = self.ids[unit];
        match self.nodes[id].state {
            State::Parked => return Vec::new(),
            State::Failed(_) => return vec![&self.nodes[id].unit],
            _ => self.set(id, State::Parked),
        }
        let is_hopeless = self.nodes[id].needs.iter().any(|&(dependency, need)| {
            matches!(self.nodes[dependency].state, State::Failed(_)) && need == Need::AllToLink
        });
        match is_hopeless {
            true => self.lose(vec![id]),
            false => Vec::new(),
        }
    }

    /// The build stops: no parked job will link. Answers which were parked.
    pub fn stop_parked(&mut self) -> Vec<&U> {
        let parked: Vec<usize> = (0..self.nodes.len())
            .filter(|&id| self.nodes[id].state == State::Parked)
            .collect();
        for &id in &parked {
            self.set(id, State::Failed(Cause::Stopped));
        }
        parked.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    /// The job has ended with an error. Answers who is lost because of it: its dependents that still
    /// wait for something it had not produced, to start or parked to link, theirs, and so on.
    /// Dependents that are at work are not among them. They end as they end, or are lost when they
    /// [park](Self::parked).
    pub fn failed(&mut self, unit: &U) -> Vec<&U> {
        let id = self.ids[unit];
        let produced = self.nodes[id].state.produced();
        self.set(id, State::Failed(Cause::ItsOwn));
        let dependents = self.waiting_dependents(id, produced);
        self.lose(dependents)
    }

    fn waiting_dependents(&self, id: usize, produced: Option<Artifact>) -> Vec<usize> {
        let is_waiting = |id: usize| {
            matches!(
                self.nodes[id].state,
                State::Waiting | State::Ready | State::Parked
            )
        };
        self.nodes[id]
            .dependents
            .iter()
            .filter(|&&(id, need)| Some(need.artifact()) > produced && is_waiting(id))
            .map(|&(id, _)| id)
            .collect()
    }

    /// These jobs, and whoever waits for them, will never be done.
    fn lose(&mut self, mut unvisited: Vec<usize>) -> Vec<&U> {
        let mut lost = Vec::new();
        while let Some(id) = unvisited.pop() {
            // Two ways lead to it.
            if self.nodes[id].state == State::Failed(Cause::Dependency) {
                continue;
            }
            self.set(id, State::Failed(Cause::Dependency));
            lost.push(id);
            unvisited.extend(self.waiting_dependents(id, None));
        }
        lost.sort_unstable();
        lost.iter().map(|&id| &self.nodes[id].unit).collect()
    }

    fn candidate(&self, id: usize) -> Candidate {
        Candidate {
            priority: self.nodes[id].priority,
            let_go: self.reports,
            added_last: std::cmp::Reverse(id),
        }
    }

    /// The one place where a state changes.
    fn set(&mut self, id: usize, next: State) {
        let was_early = self.nodes[id].is_early();
        let was_ready_early = self.nodes[id].is_ready_early();
        let last = std::mem::replace(&mut self.nodes[id].state, next);
        assert!(
            last.may_become(next),
            "job {id} cannot go from {last:?} to {next:?}"
        );
        let node = &self.nodes[id];
        self.early = self.early + usize::from(node.is_early()) - usize::from(was_early);
        self.ready_early_len = self.ready_early_len + usize::from(node.is_ready_early())
            - usize::from(was_ready_early);
        self.working =
            self.working + usize::from(next.is_working()) - usize::from(last.is_working());
        let waits = |state| matches!(state, State::Waiting | State::Ready);
        self.waiting_or_ready -= usize::from(waits(last) && !waits(next));
        let misses_nothing = node.missing == 0;
        match (last, next) {
            (_, State::Ready) if misses_nothing => self.ready.push(self.candidate(id)),
            (_, State::Ready) => self.ready_early.push(self.candidate(id)),
            (_, State::Parked) if misses_nothing => self.linkable.push(self.candidate(id)),
            (State::Parked, State::Failed(_)) => self.linkable.retain(|other| other.id() != id),
            _ => {}
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    fn tracker(jobs: &[(&'static str, &[(&'static str, Need)])]) -> Tracker<&'static str, ()> {
        let mut plan = Plan::default();
        for (unit, needs) in jobs {
            plan.add(*unit, (), needs.iter().copied());
        }
        plan.seal().unwrap()
    }

    fn start(tracker: &mut Tracker<&'static str, ()>) -> Option<&'static str> {
        start_if(tracker, true).map(|(unit, _)| unit)
    }

    fn start_if(
        tracker: &mut Tracker<&'static str, ()>,
        allow_early: bool,
    ) -> Option<(&'static str, bool)> {
        let started = tracker.start_next(|_| allow_early)?;
        Some((started.unit, started.is_early))
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
        assert_eq!(queue.ready_len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| start(&mut queue)).collect();
        assert_eq!(order, ["core", "first", "second"]);
    }

    #[test]
    fn among_equals_who_was_let_go_last_goes_first() {
        let mut queue = tracker(&[
            ("first", &[]),
            ("of-first", &[("first", AllToStart)]),
            ("second", &[]),
            ("of-second", &[("second", AllToStart)]),
            ("alone", &[]),
        ]);
        assert_eq!(start(&mut queue), Some("first"));
        assert_eq!(start(&mut queue), Some("second"));
        queue.produced(&"second", Artifact::All);
        queue.produced(&"first", Artifact::All);
        let order: Vec<_> = std::iter::from_fn(|| start(&mut queue)).collect();
        assert_eq!(order, ["of-first", "of-second", "alone"]);
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

    /// `bin` links `lib` and `core`; the compiler of `core` is started.
    fn bin_links_lib_and_core() -> Tracker<&'static str, ()> {
        let mut queue = tracker(&[
            ("core", &[]),
            ("lib", &[("core", MetadataToStart)]),
            ("bin", &[("core", AllToLink), ("lib", AllToLink)]),
            ("test", &[("bin", AllToStart)]),
        ]);
        assert!(queue.is_linked(&"core") && !queue.is_linked(&"bin"));
        assert_eq!(start(&mut queue), Some("core"));
        queue
    }

    #[test]
    fn what_links_starts_on_metadata_and_links_when_all_is_there() {
        let mut queue = bin_links_lib_and_core();
        assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
        assert_eq!(start(&mut queue), Some("lib"));
        assert_eq!(queue.produced(&"lib", Artifact::Metadata), [&"bin"]);
        assert_eq!((queue.ready_len(), queue.ready_early_len()), (0, 1));
        assert_eq!(start_if(&mut queue, true), Some(("bin", true)));
        assert_eq!((queue.working(), queue.early()), (3, 1));
        assert_eq!(queue.parked(&"bin"), [] as [&&str; 0]);
        assert_eq!((queue.working(), queue.early()), (2, 1));
        assert_eq!(queue.produced(&"core", Artifact::All), [] as [&&str; 0]);
        assert_eq!(queue.next_link(), None);
        assert_eq!(queue.produced(&"lib", Artifact::All), [] as [&&str; 0]);
        assert_eq!((queue.ready_len(), queue.working()), (1, 0));
        assert_eq!(queue.next_link(), Some("bin"));
        assert_eq!(
            (queue.ready_len(), queue.working(), queue.early()),
            (0, 1, 0)
        );
        assert_eq!(queue.produced(&"bin", Artifact::All), [&"test"]);
    }

    #[test]
    fn what_may_not_start_early_starts_when_all_is_there() {
        let mut queue = bin_links_lib_and_core();
        queue.produced(&"core", Artifact::Metadata);
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        assert_eq!(start_if(&mut queue, false), None);
        queue.produced(&"core", Artifact::All);
        assert_eq!(queue.produced(&"lib", Artifact::All), [] as [&&str; 0]);
        assert_eq!((queue.ready_len(), queue.ready_early_len()), (1, 0));
        assert_eq!(start_if(&mut queue, false), Some(("bin", false)));
        assert_eq!(start_if(&mut queue, true), None);
        assert_eq!(queue.produced(&"bin", Artifact::All), [&"test"]);
    }

    #[test]
    fn a_failure_after_the_metadata_loses_who_is_parked_and_later_who_parks() {
        for parks_before in [true, false] {
            let mut queue = bin_links_lib_and_core();
            queue.produced(&"core", Artifact::Metadata);
            start(&mut queue);
            queue.produced(&"lib", Artifact::Metadata);
            assert_eq!(start(&mut queue), Some("bin"));
            if parks_before {
                assert_eq!(queue.parked(&"bin"), [] as [&&str; 0]);
                assert_eq!(queue.failed(&"core"), [&"bin", &"test"]);
            } else {
                assert_eq!(queue.failed(&"core"), [] as [&&str; 0]);
                assert_eq!(queue.state(&"bin"), Some(State::Frontend));
                assert_eq!(queue.parked(&"bin"), [&"bin", &"test"]);
            }
            assert_eq!(queue.state(&"bin"), Some(State::Failed(Cause::Dependency)));
            assert_eq!(queue.parked(&"bin"), [&"bin"]);
            assert_eq!((queue.working(), queue.early()), (1, 0));
            queue.produced(&"lib", Artifact::All);
            assert_eq!(queue.next_link(), None);
            assert!(queue.is_drained());
        }
    }

    #[test]
    fn what_can_never_link_does_not_become_ready() {
        let mut queue = tracker(&[
            ("core", &[]),
            ("lib", &[]),
            ("bin", &[("core", AllToLink), ("lib", AllToLink)]),
        ]);
        start(&mut queue);
        start(&mut queue);
        assert_eq!(queue.failed(&"core"), [&"bin"]);
        assert_eq!(queue.produced(&"lib", Artifact::All), [] as [&&str; 0]);
        assert_eq!(queue.state(&"bin"), Some(State::Failed(Cause::Dependency)));
    }

    #[test]
    fn what_could_only_start_early_is_lost_before_it_starts() {
        let mut queue = bin_links_lib_and_core();
        queue.produced(&"core", Artifact::Metadata);
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        assert_eq!(queue.failed(&"core"), [&"bin", &"test"]);
        assert_eq!((start(&mut queue), queue.ready_early_len()), (None, 0));
        assert!(queue.is_drained());
    }

    #[test]
    fn who_is_parked_can_fail_and_be_stopped() {
        for stop in [true, false] {
            let mut queue = bin_links_lib_and_core();
            queue.produced(&"core", Artifact::Metadata);
            start(&mut queue);
            queue.produced(&"lib", Artifact::Metadata);
            start(&mut queue);
            queue.parked(&"bin");
            assert_eq!(queue.parked(&"bin"), [] as [&&str; 0]);
            queue.produced(&"core", Artifact::All);
            queue.produced(&"lib", Artifact::All);
            let cause = match stop {
                true => {
                    assert_eq!(queue.stop_parked(), [&"bin"]);
                    Cause::Stopped
                }
                false => {
                    assert_eq!(queue.failed(&"bin"), [&"test"]);
                    Cause::ItsOwn
                }
            };
            assert_eq!(queue.state(&"bin"), Some(State::Failed(cause)));
            assert_eq!((queue.next_link(), queue.early()), (None, 0));
        }
    }

    #[test]
    #[should_panic(expected = "produced something before it linked")]
    fn who_started_early_cannot_be_done_before_it_links() {
        let mut queue = bin_links_lib_and_core();
        queue.produced(&"core", Artifact::Metadata);
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        start(&mut queue);
        queue.produced(&"bin", Artifact::All);
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
            Parked,
            Linking,
            Done,
            Failed(Cause::ItsOwn),
            Failed(Cause::Dependency),
            Failed(Cause::Stopped),
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
