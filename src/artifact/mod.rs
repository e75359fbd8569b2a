//! What a job produces and when, and what may start because of it.
//!
//! One job is one unit's work. A compiler's job produces its [`Artifact`]s one after the other, and
//! a dependent says with each edge which of them it [needs](Need), and for what. The [`Tracker`] is
//! told what happened and answers what may start now, and what may link.
//!
//! # The life of a job
//!
//! ```text
//!            all that it                                      paused ┌─────────▶ Paused
//!            needs is there         next           Metadata          │    next      │
//!   Waiting ───────────────▶ Ready ───────▶ Frontend ──────────▶ Codegen ◀──────────┤
//!      │                                     │ │ │ │                │   All        │ All
//!      │                         found_fresh │ │ │ │      All       ├──────────▶ Done ◀─┐
//!      │                                     ▼ │ │ └────────────────┼──────────────┘ ▲  │
//!      │                                  Fresh│ └───────────────┐  │          All   │  │
//!      │                                     │ │          parked ▼  │   next         │  │ All
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
//! come as far as the linker. It can [link](Next::Link) once everything it links is there. A job that is not started early is Ready all the same, and once everything is there it
//! is like any other.
//!
//! ```text
//!   lib   [ frontend ][ codegen ··············· ]
//!   bin               [ compile ]   parked      [ link ]
//! ```
//!
//! A parked job does nothing but hold memory, so it counts as no [working](Tracker::working) job.
//!
//! # Jobs that are paused
//!
//! Once its metadata is written, the rest of a job holds up only links. If there is no slot for
//! something more urgent, its compiler [is stopped](Tracker::should_pause) and goes on when nothing more
//! urgent is left. It, too, only holds memory meanwhile.
//!
//! # Jobs that depend on a condition
//!
//! A job that was planned because something below it is made anew need not run if that comes out as
//! it was. Such a [conditional](Plan::add_conditional) job is Ready like any other, but before it can
//! be [next](Tracker::next) the caller [compares](Tracker::next_to_compare) what it reads, which takes
//! no slot. What it compiles against is compared as soon as it could start. If that is the same, what
//! it links is compared when it is there.
//!
//! # Why a job that never announces its metadata needs no special case
//!
//! A job that ends well has produced everything, so [`Artifact::All`] satisfies edges on the metadata
//! as well as on the rest. Whether a metadata event came before it decides only
//! *when* the edges on the metadata were satisfied. A compiler that never announces its metadata
//! (a check, an old wrapper, a job that is fresh) therefore holds up its dependents until it ends,
//! and cannot strand them.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use crate::freshness::Verdict;
use crate::schedule::work::{Correction, Estimate, Measured, Phase, Work, scaled};
use crate::schedule::{Clock, Schedule, Urgency, pausing, rank};

use edges::{Edges, small};

pub use retrospect::{Ahead, Retrospect};

/// Where costs are guessed, the jobs are ranked again when so many phases have ended, or one for so many
/// jobs if that is more, and each time that the number has doubled.
const FIRST_RANKED_ANEW: usize = 16;

/// Differences in urgency that are smaller than this, in µs, are none: they are not worth an order that
/// differs from one build of the same small project to the next.
const NOTICEABLE: u64 = 1_000_000;

/// In builds with more jobs than this, jobs that are equally urgent are ordered by those that need them
/// directly: to count all that wait for them takes a bit for each pair of jobs.
const MOST_COUNTED: usize = 4_096;

/// By what factor an estimate of codegen is corrected at most when the frontend has ended.
const MOST_WRONG: u64 = 4;

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
    /// Its metadata is written and its compiler is stopped, because something more urgent runs in its
    /// place.
    Paused,
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
                | (Codegen, Paused)
                | (Paused, Codegen)
                // Somebody else than the queue has continued it.
                | (Paused, Done)
                | (Codegen | Fresh | Linking, Done)
                | (Waiting | Ready | Parked, Failed(Cause::Dependency))
                | (Parked, Failed(Cause::Stopped))
                | (
                    Frontend | Codegen | Paused | Fresh | Parked | Linking,
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
            State::Codegen | State::Paused => Some(Artifact::Metadata),
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
    estimate: Estimate,
    condition: Condition,
}

impl<U, J> Default for Plan<U, J> {
    fn default() -> Self {
        Plan { jobs: Vec::new() }
    }
}

impl<U: Clone + Eq + Hash, J> Plan<U, J> {
    /// For so many jobs, more or less.
    pub fn with_capacity(jobs: usize) -> Self {
        Plan {
            jobs: Vec::with_capacity(jobs),
        }
    }

    /// Adds the job of `unit`, what it needs and what it probably has to do. The units that it needs may
    /// be added later.
    ///
    /// Where the same dependency is named twice, the greater [`Need`] counts.
    pub fn add(
        &mut self,
        unit: U,
        job: J,
        needs: impl IntoIterator<Item = (U, Need)>,
        estimate: Estimate,
    ) {
        self.jobs.push(Planned {
            unit,
            job,
            needs: needs.into_iter().collect(),
            estimate,
            condition: Condition::None,
        });
    }

    /// The same as [`add`](Self::add) of a job that may turn out to have nothing to do: before it
    /// starts, what it reads has to be [compared](Tracker::next_to_compare).
    pub fn add_conditional(
        &mut self,
        unit: U,
        job: J,
        needs: impl IntoIterator<Item = (U, Need)>,
        estimate: Estimate,
    ) {
        self.add(unit, job, needs, estimate);
        if let Some(planned) = self.jobs.last_mut() {
            planned.condition = Condition::ToStart;
        }
    }

    /// The units and their jobs, in the order in which they were added.
    pub fn jobs(&self) -> impl Iterator<Item = (&U, &J)> {
        (self.jobs.iter()).map(|planned| (&planned.unit, &planned.job))
    }

    /// Estimates anew what each unit has to do, when all are known.
    pub fn estimate(&mut self, mut estimate: impl FnMut(&U, &J) -> Estimate) {
        for planned in &mut self.jobs {
            planned.estimate = estimate(&planned.unit, &planned.job);
        }
    }

    /// The number of jobs added so far.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job was added so far.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Ends the collecting and works out what can start at once, and what is how urgent. How long things
    /// take is measured by `clock`.
    ///
    /// # Errors
    ///
    /// Where an edge has no other end, a unit was added twice, or no order satisfies all needs.
    pub fn seal(self, schedule: Schedule, mut clock: Clock) -> Result<Tracker<U, J>, PlanError<U>> {
        let mut ids = HashMap::with_capacity(self.jobs.len());
        for (id, planned) in self.jobs.iter().enumerate() {
            if ids.insert(planned.unit.clone(), id).is_some() {
                return Err(PlanError::Duplicate(planned.unit.clone()));
            }
        }

        let mut nodes = Vec::with_capacity(self.jobs.len());
        let mut jobs = Vec::with_capacity(self.jobs.len());
        let mut works = Vec::with_capacity(self.jobs.len());
        let mut all_needs = Edges::with_capacity(self.jobs.len());
        let mut strongest = Vec::new();
        for Planned {
            unit,
            job,
            needs,
            estimate,
            condition,
        } in self.jobs
        {
            for (dependency, need) in needs {
                let Some(&id) = ids.get(&dependency) else {
                    return Err(PlanError::Unknown {
                        dependent: unit,
                        dependency,
                    });
                };
                strongest.push((id, need));
            }
            strongest.sort_unstable_by(|one, other| other.cmp(one));
            strongest.dedup_by_key(|(id, _)| *id);
            nodes.push(Node {
                unit,
                state: State::Waiting,
                is_all_there: strongest.is_empty(),
                started_early: false,
                is_linked: false,
                lets_others_start: false,
                condition,
                estimate,
                waited_for_by: 0,
                since: 0,
                worked: Work::default(),
                ran_ahead: None,
                measured: Measured::default(),
            });
            jobs.push(Some(job));
            works.push(estimate.work());
            all_needs.push(strongest.drain(..));
        }
        // In the order of adding, so that what becomes ready at the same moment is reported in the
        // same order every time.
        let dependents = all_needs.reversed();
        for (id, node) in nodes.iter_mut().enumerate() {
            let mut needs = dependents.of(id).map(|(_, need)| need);
            node.is_linked = needs.clone().any(|need| need == Need::AllToLink);
            node.lets_others_start = needs.any(|need| need.to_start() == Artifact::Metadata);
        }

        let order = dependencies_first(&nodes, &all_needs, &dependents)?;
        let has_guesses = (nodes.iter()).any(|node| matches!(node.estimate, Estimate::Guessed(_)));
        let mut tracker = Tracker {
            waiting_or_ready: nodes.len(),
            urgencies: vec![Urgency::default(); nodes.len()],
            missing: (0..nodes.len())
                .map(|id| Missing::all(small(all_needs.of(id).len())))
                .collect(),
            nodes,
            jobs,
            works,
            ids,
            needs: all_needs,
            dependents,
            dependencies_first: order,
            schedule,
            began: clock.now(),
            clock,
            correction: Correction::default(),
            has_guesses,
            phases_ended: 0,
            codegen_left: 0,
            runnable: BinaryHeap::new(),
            runnable_len: 0,
            ready_early: BinaryHeap::new(),
            ready_early_len: 0,
            to_compare: VecDeque::new(),
            working: 0,
            early: 0,
            paused: 0,
            is_stopping: false,
            reports: 0,
        };
        tracker.codegen_left = std::iter::zip(&tracker.nodes, &tracker.works)
            .map(|(node, work)| u128::from(node.codegen_left(*work)))
            .sum();
        tracker.count_dependents();
        tracker.rank();
        for id in 0..tracker.nodes.len() {
            if tracker.nodes[id].is_all_there {
                tracker.set(id, State::Ready);
            }
        }
        Ok(tracker)
    }
}

/// The ids of all nodes, each behind everything that it needs.
fn dependencies_first<U: Clone>(
    nodes: &[Node<U>],
    needs: &Edges,
    dependents: &Edges,
) -> Result<Vec<usize>, PlanError<U>> {
    let mut missing: Vec<usize> = (0..nodes.len()).map(|id| needs.of(id).len()).collect();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&id| missing[id] == 0).collect();
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        next += 1;
        for (dependent, _) in dependents.of(id) {
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

/// For each job the number of jobs that wait for it, directly or not, and the job itself: the order
/// in which Cargo has always started jobs.
///
/// One bit per pair of jobs, 12 MB for 10,000 of them, held only while this runs.
fn count_all(dependents: &Edges, dependencies_first: &[usize]) -> Vec<u32> {
    let words = dependents.len().div_ceil(64);
    let mut reached = vec![0u64; words * dependents.len()];
    let mut counts = vec![0; dependents.len()];
    for &id in dependencies_first.iter().rev() {
        let mut row = vec![0u64; words];
        row[id / 64] |= 1 << (id % 64);
        for (dependent, _) in dependents.of(id) {
            let of_dependent = &reached[dependent * words..][..words];
            for (word, more) in row.iter_mut().zip(of_dependent) {
                *word |= more;
            }
        }
        counts[id] = row.iter().map(|word| word.count_ones()).sum();
        reached[id * words..][..words].copy_from_slice(&row);
    }
    counts
}

/// What is to be compared before a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Nothing, or nothing any more.
    None,
    /// What it reads, when all that it needs to start is there.
    ToStart,
    /// What it links, when everything is there. What it needs to start is the same as it was.
    ToLink,
}

/// How many of a job's needs are not satisfied. Apart from the rest of the job: most often one of them
/// is, others are missing, and nothing else has to be looked at.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// So that it cannot start.
    to_start: u32,
    altogether: u32,
}

impl Missing {
    fn all(needs: u32) -> Self {
        Missing {
            to_start: needs,
            altogether: needs,
        }
    }
}

#[derive(Debug)]
struct Node<U> {
    unit: U,
    state: State,
    /// All its needs are satisfied altogether.
    is_all_there: bool,
    /// It was started while some of what it links was missing.
    started_early: bool,
    /// Somebody needs all of it only to link.
    is_linked: bool,
    /// Somebody can start on its metadata.
    lets_others_start: bool,
    condition: Condition,
    estimate: Estimate,
    /// How many jobs wait for it, directly or not, and itself; in large builds only the direct ones.
    waited_for_by: u32,
    /// When its state was last changed. µs.
    since: u64,
    /// What it has done in this build so far.
    worked: Work,
    /// How long it ran before all that it links was there, if it was started early. µs.
    ran_ahead: Option<u64>,
    measured: Measured,
}

impl<U> Node<U> {
    /// Whether it could go on at once, if it had a slot: start, continue, or link.
    fn is_runnable(&self) -> bool {
        match self.state {
            State::Ready => self.is_all_there && self.condition == Condition::None,
            State::Parked => self.is_all_there,
            State::Paused => true,
            _ => false,
        }
    }

    /// How much of its work, in µs, is codegen that is left and that somebody need not wait for.
    fn codegen_left(&self, work: Work) -> u64 {
        use State::*;
        match self.state {
            Waiting | Ready | Frontend | Codegen | Paused if self.lets_others_start => work.codegen,
            _ => 0,
        }
    }

    /// Whether it can start, but only early.
    fn is_ready_early(&self) -> bool {
        self.state == State::Ready && !self.is_all_there && self.condition == Condition::None
    }

    /// Whether something has to be compared, and can be.
    fn is_comparable(&self) -> bool {
        self.state == State::Ready
            && match self.condition {
                Condition::None => false,
                Condition::ToStart => true,
                Condition::ToLink => self.is_all_there,
            }
    }

    /// Whether it was started early and has not come to linking yet.
    fn is_early(&self) -> bool {
        self.started_early && matches!(self.state, State::Frontend | State::Parked)
    }
}

/// A job that may start, continue or link. The greatest goes first: the most urgent one, among equals
/// the one that most others wait for, then the one that was let go last, as Cargo has always done it,
/// and among those the one that was added first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    urgency: u32,
    waited_for_by: u32,
    let_go: u32,
    added_last: std::cmp::Reverse<u32>,
}

impl Candidate {
    fn id(&self) -> usize {
        self.added_last.0 as usize
    }
}

/// What is to be done [next](Tracker::next).
#[derive(Debug)]
pub enum Next<U, J> {
    /// Start a job.
    Start(Started<U, J>),
    /// Continue the compiler of a [paused](State::Paused) job.
    Continue(U),
    /// Let a [parked](State::Parked) job link.
    Link(U),
}

/// A job that [starts](Next::Start).
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

/// A job whose condition has to be [compared](Tracker::next_to_compare).
#[derive(Debug)]
pub struct ToCompare<'a, U, J> {
    /// The unit whose job it is.
    pub unit: &'a U,
    /// The job.
    pub job: &'a mut J,
    /// Whether what it links is there, too.
    pub is_all_there: bool,
}

/// Knows of every job of a build where it is in its life, and so which may start or link.
///
/// The caller reports what happened, in the order in which it happened; each report costs time in
/// proportion to the edges that it satisfies. Reports that no run of a job could lead to, such as
/// metadata of a job that never started, are mistakes of the caller and panic.
#[derive(Debug)]
pub struct Tracker<U, J> {
    nodes: Vec<Node<U>>,
    /// Each is handed out when it starts.
    jobs: Vec<Option<J>>,
    missing: Vec<Missing>,
    /// What each has to do: the estimates, as far as this build has not shown them wrong.
    works: Vec<Work>,
    urgencies: Vec<Urgency>,
    ids: HashMap<U, usize>,
    /// What each job needs of whom, no dependency twice.
    needs: Edges,
    /// Who needs what of each job, no dependent twice.
    dependents: Edges,
    dependencies_first: Vec<usize>,
    schedule: Schedule,
    /// When the plan was sealed. µs.
    began: u64,
    clock: Clock,
    correction: Correction,
    has_guesses: bool,
    phases_ended: usize,
    /// How much codegen is left, in µs, of jobs whose dependents need not wait for it.
    codegen_left: u128,
    /// Jobs that could start, continue or link, and some that no longer are what they were when they
    /// came here: those are skipped when they come to the top.
    runnable: BinaryHeap<Candidate>,
    runnable_len: usize,
    /// Likewise, jobs that can start early.
    ready_early: BinaryHeap<Candidate>,
    ready_early_len: usize,
    /// Jobs whose condition can be compared, and some that are lost by now.
    to_compare: VecDeque<usize>,
    waiting_or_ready: usize,
    working: usize,
    early: usize,
    paused: usize,
    is_stopping: bool,
    /// How often something was reported that can let others go.
    reports: u32,
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
        match self.is_stopping {
            true => 0,
            false => self.ready_early_len,
        }
    }

    /// How many jobs are paused.
    pub fn paused_len(&self) -> usize {
        self.paused
    }

    /// How many jobs could start, continue or link now, not counting those that would
    /// [start early](Self::ready_early_len).
    pub fn ready_len(&self) -> usize {
        match self.is_stopping {
            true => self.paused,
            false => self.runnable_len,
        }
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
        self.needs
            .of(self.ids[unit])
            .map(|(dependency, need)| (&self.nodes[dependency].unit, need))
    }

    /// Whether somebody needs all of the job of `unit` only to link, and so may start on its
    /// metadata.
    ///
    /// # Panics
    ///
    /// If `unit` was never added.
    pub fn is_linked(&self, unit: &U) -> bool {
        self.nodes[self.ids[unit]].is_linked
    }

    /// Decides what to do next, and notes it as done. `None` if nothing could run.
    ///
    /// Of all that could start, continue or link, the most urgent goes first. A job that would start
    /// early does so only if `allow_early` says yes, which is asked only then, with the number of jobs
    /// that are [early](Self::early) already.
    pub fn next(&mut self, allow_early: impl FnOnce(usize) -> bool) -> Option<Next<U, J>> {
        let id = self.most_urgent(allow_early).pop()?.id();
        let unit = self.nodes[id].unit.clone();
        Some(match self.nodes[id].state {
            State::Paused => {
                self.set(id, State::Codegen);
                Next::Continue(unit)
            }
            State::Parked => {
                self.set(id, State::Linking);
                Next::Link(unit)
            }
            _ => {
                let is_early = !self.nodes[id].is_all_there;
                self.nodes[id].started_early = is_early;
                self.set(id, State::Frontend);
                let job = self.jobs[id].take();
                Next::Start(Started {
                    unit,
                    job: job.expect("a job starts only once"),
                    is_early,
                })
            }
        })
    }

    /// A job whose condition can be compared now. `None` if there is none, or the build stops. The same
    /// job is answered until the result is [reported](Self::compared).
    pub fn next_to_compare(&mut self) -> Option<ToCompare<'_, U, J>> {
        if self.is_stopping {
            return None;
        }
        while let Some(&id) = self.to_compare.front()
            && !self.nodes[id].is_comparable()
        {
            self.to_compare.pop_front();
        }
        let id = *self.to_compare.front()?;
        let node = &self.nodes[id];
        Some(ToCompare {
            unit: &node.unit,
            job: self.jobs[id].as_mut()?,
            is_all_there: node.is_all_there,
        })
    }

    /// What the comparison of a job that was [to be compared](Self::next_to_compare) has shown. One
    /// that is changed, and one that is unchanged and has only to say so, can start when it is
    /// [next](Self::next).
    pub fn compared(&mut self, unit: &U, verdict: Verdict) {
        let id = self.ids[unit];
        self.to_compare.retain(|&other| other != id);
        let condition = match verdict {
            Verdict::SameMetadata => Condition::ToLink,
            Verdict::Changed | Verdict::Unchanged => Condition::None,
        };
        self.change(id, |node| node.condition = condition);
        self.enter(id);
    }

    /// The heap that has the most urgent job of all that could run at its top, or nothing.
    fn most_urgent(
        &mut self,
        allow_early: impl FnOnce(usize) -> bool,
    ) -> &mut BinaryHeap<Candidate> {
        let goes_on = |node: &Node<U>| !self.is_stopping || node.state == State::Paused;
        while let Some(candidate) = self.runnable.peek()
            && let node = &self.nodes[candidate.id()]
            && !(node.is_runnable() && goes_on(node))
        {
            self.runnable.pop();
        }
        while let Some(candidate) = self.ready_early.peek()
            && let node = &self.nodes[candidate.id()]
            && !(node.is_ready_early() && goes_on(node))
        {
            self.ready_early.pop();
        }
        let is_early = self.ready_early.peek() > self.runnable.peek() && allow_early(self.early);
        match is_early {
            true => &mut self.ready_early,
            false => &mut self.runnable,
        }
    }

    /// Whether the build ends sooner if the compiler of this job, which has just written its metadata,
    /// is stopped and something else has its slot. To be asked if there is no other slot.
    ///
    /// At most `places` are to be paused at the same time; `allow_early` as for [`next`](Self::next).
    /// See [`pausing`](crate::schedule::pausing) for the rule.
    pub fn should_pause(
        &mut self,
        unit: &U,
        places: usize,
        allow_early: impl FnOnce(usize) -> bool,
    ) -> bool {
        let id = self.ids[unit];
        let node = &self.nodes[id];
        if node.state != State::Codegen
            || self.paused >= places
            || !pausing::is_worth_a_place(self.works[id].codegen, self.codegen_left, places)
        {
            return false;
        }
        let own = self.urgency(id);
        let other = self.most_urgent(allow_early).peek();
        other.is_some_and(|other| other.urgency > own)
    }

    /// The compiler of this job has been stopped. The job goes on when it is [next](Self::next).
    pub fn paused(&mut self, unit: &U) {
        self.set(self.ids[unit], State::Paused);
    }

    /// What was measured of the jobs that are done, in the order in which they were added. What was
    /// [fresh](State::Fresh), and what was paused and continued by somebody else, tells nothing.
    pub fn measured(&self) -> impl Iterator<Item = (&U, Measured)> {
        let done = self.nodes.iter().filter(|node| node.state == State::Done);
        done.map(|node| (&node.unit, node.measured))
    }

    /// Measures what ends with this change of state.
    fn measure(&mut self, id: usize, last: State, next: State) {
        use State::*;
        let now = self.clock.now();
        let node = &mut self.nodes[id];
        let passed = now.saturating_sub(node.since);
        node.since = now;
        match last {
            Frontend if next != Fresh => node.worked.frontend = passed,
            Codegen => node.worked.codegen = node.worked.codegen.saturating_add(passed),
            Linking => node.worked.link = passed,
            _ => {}
        }
        if next == Parked {
            node.ran_ahead.get_or_insert(passed);
        }
        match (last, next) {
            (Frontend, Codegen | Parked) => self.took(id, Phase::Frontend, passed),
            // It linked as well, if it does.
            (Frontend, Done) => {
                let link = self.works[id].link;
                self.took(id, Phase::Frontend, passed.saturating_sub(link));
            }
            (Codegen, Done) => {
                let all = node.worked.codegen;
                self.took(id, Phase::Codegen, all);
            }
            (Linking, Done) => self.took(id, Phase::Link, passed),
            _ => {}
        }
    }

    /// A phase of a job has ended, and has taken so many µs.
    ///
    /// What is guessed of other units is corrected by it, and now and then all jobs are ranked again.
    fn took(&mut self, id: usize, phase: Phase, took: u64) {
        self.nodes[id].measured.note(phase, took);
        if let Estimate::Guessed(guess) = self.nodes[id].estimate {
            self.correction.note(phase, guess.of(phase), took);
        }
        if phase == Phase::Frontend {
            self.expect_codegen_like(id, took);
        }
        self.phases_ended += 1;
        let first = FIRST_RANKED_ANEW.max(self.nodes.len() / FIRST_RANKED_ANEW);
        if self.has_guesses && self.phases_ended >= first && self.phases_ended.is_power_of_two() {
            self.rank_anew();
        }
    }

    /// Who was wrong about the frontend is wrong about codegen in the same way.
    fn expect_codegen_like(&mut self, id: usize, frontend: u64) {
        let work = self.works[id];
        if work.frontend == 0 || frontend == 0 {
            return;
        }
        let least = work.codegen / MOST_WRONG;
        let most = work.codegen.saturating_mul(MOST_WRONG);
        let codegen = scaled(work.codegen, frontend, work.frontend).clamp(least, most);
        let expected = Work { codegen, ..work };
        self.works[id] = expected;
        let urgency = &mut self.urgencies[id];
        if self.schedule == Schedule::CriticalPath {
            urgency.codegen = codegen.saturating_add(urgency.link);
        }
        let node = &self.nodes[id];
        self.codegen_left += u128::from(node.codegen_left(expected));
        self.codegen_left -= u128::from(node.codegen_left(work));
    }

    /// Ranks all jobs by what is known by now.
    fn rank_anew(&mut self) {
        self.codegen_left = 0;
        for (node, work) in std::iter::zip(&self.nodes, &mut self.works) {
            if let (Estimate::Guessed(guess), State::Waiting | State::Ready) =
                (node.estimate, node.state)
            {
                *work = self.correction.apply(guess);
            }
            self.codegen_left += u128::from(node.codegen_left(*work));
        }
        self.rank();
        let runnable = std::mem::take(&mut self.runnable);
        self.runnable = self.ranked_anew(runnable);
        let ready_early = std::mem::take(&mut self.ready_early);
        self.ready_early = self.ranked_anew(ready_early);
    }

    fn ranked_anew(&self, heap: BinaryHeap<Candidate>) -> BinaryHeap<Candidate> {
        let mut candidates = heap.into_vec();
        for candidate in &mut candidates {
            candidate.urgency = self.urgency(candidate.id());
        }
        candidates.into()
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
        self.reports = self.reports.saturating_add(1);
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
        for edge in self.dependents.range(id) {
            let (dependent, need) = self.dependents.get(edge);
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
        let missing = &mut self.missing[id].altogether;
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let node = &mut self.nodes[id];
        let could_only_start_early = node.is_ready_early();
        node.is_all_there = true;
        match node.state {
            State::Ready if could_only_start_early => self.ready_early_len -= 1,
            State::Frontend if node.started_early => {
                let ahead = self.clock.now().saturating_sub(node.since);
                node.ran_ahead = Some(ahead);
                return;
            }
            State::Ready if node.condition == Condition::ToLink => {
                self.to_compare.push_back(id);
                return;
            }
            State::Parked => {}
            _ => return,
        }
        self.runnable_len += 1;
        self.runnable.push(self.candidate(id));
    }

    /// One need of the job no longer keeps it from starting. Whether that makes it ready.
    fn satisfied_to_start(&mut self, id: usize) -> bool {
        let missing = &mut self.missing[id].to_start;
        *missing -= 1;
        // One that can start, but never link, is lost and stays so.
        let is_ready = *missing == 0 && self.nodes[id].state == State::Waiting;
        if is_ready {
            self.set(id, State::Ready);
        }
        is_ready
    }

    /// The job, started early, has compiled and waits until it may [link](Next::Link). Answers who
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
        let is_hopeless = self.needs.of(id).any(|(dependency, need)| {
            matches!(self.nodes[dependency].state, State::Failed(_)) && need == Need::AllToLink
        });
        match is_hopeless {
            true => self.lose(vec![id]),
            false => Vec::new(),
        }
    }

    /// The build stops: nothing starts any more, and no parked job will link. What is paused is
    /// [continued](Self::next), as what runs runs on. Answers which were parked.
    pub fn stop(&mut self) -> Vec<&U> {
        self.is_stopping = true;
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
        self.dependents
            .of(id)
            .filter(|&(id, need)| Some(need.artifact()) > produced && is_waiting(id))
            .map(|(id, _)| id)
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
            urgency: self.urgency(id),
            waited_for_by: self.nodes[id].waited_for_by,
            let_go: self.reports,
            added_last: std::cmp::Reverse(small(id)),
        }
    }

    /// How urgent it is what the job would do next, as far as that makes a difference.
    fn urgency(&self, id: usize) -> u32 {
        let urgency = self.urgencies[id];
        let urgency = match self.nodes[id].state {
            State::Codegen | State::Paused => urgency.codegen,
            State::Parked => urgency.link,
            _ => urgency.start,
        };
        let noticeable = match self.schedule {
            Schedule::Stock => urgency,
            Schedule::CriticalPath => urgency / NOTICEABLE,
        };
        u32::try_from(noticeable).unwrap_or(u32::MAX)
    }

    /// The one place where a state changes.
    fn set(&mut self, id: usize, next: State) {
        let last = self.nodes[id].state;
        assert!(
            last.may_become(next),
            "job {id} cannot go from {last:?} to {next:?}"
        );
        self.change(id, |node| node.state = next);
        self.enter(id);
        self.measure(id, last, next);
    }

    /// Changes a job and keeps the counters in step.
    fn change(&mut self, id: usize, change: impl FnOnce(&mut Node<U>)) {
        let node = &mut self.nodes[id];
        let was_early = node.is_early();
        let was_ready_early = node.is_ready_early();
        let was_runnable = node.is_runnable();
        let work = self.works[id];
        let codegen_left = node.codegen_left(work);
        let last = node.state;
        change(node);
        let next = node.state;
        self.early = self.early + usize::from(node.is_early()) - usize::from(was_early);
        self.ready_early_len = self.ready_early_len + usize::from(node.is_ready_early())
            - usize::from(was_ready_early);
        self.working =
            self.working + usize::from(next.is_working()) - usize::from(last.is_working());
        self.paused =
            self.paused + usize::from(next == State::Paused) - usize::from(last == State::Paused);
        self.runnable_len =
            self.runnable_len + usize::from(node.is_runnable()) - usize::from(was_runnable);
        self.codegen_left += u128::from(node.codegen_left(work));
        self.codegen_left -= u128::from(codegen_left);
        let waits = |state| matches!(state, State::Waiting | State::Ready);
        self.waiting_or_ready -= usize::from(waits(last) && !waits(next));
    }

    /// Puts a job where it is found when it is its turn, if it can do something now.
    fn enter(&mut self, id: usize) {
        let node = &self.nodes[id];
        if node.is_runnable() {
            self.runnable.push(self.candidate(id));
        } else if node.is_ready_early() {
            self.ready_early.push(self.candidate(id));
        } else if node.is_comparable() {
            self.to_compare.push_back(id);
        }
    }

    fn count_dependents(&mut self) {
        let is_exact = self.schedule == Schedule::Stock || self.nodes.len() <= MOST_COUNTED;
        let counts = match is_exact {
            true => count_all(&self.dependents, &self.dependencies_first),
            false => (0..self.nodes.len())
                .map(|id| small(self.dependents.of(id).len()))
                .collect(),
        };
        for (node, count) in std::iter::zip(&mut self.nodes, counts) {
            node.waited_for_by = count;
        }
    }

    /// Works out how urgent everything is.
    fn rank(&mut self) {
        match self.schedule {
            Schedule::Stock => {
                for (urgency, node) in std::iter::zip(&mut self.urgencies, &self.nodes) {
                    *urgency = Urgency {
                        start: node.waited_for_by.into(),
                        codegen: node.waited_for_by.into(),
                        // What is parked has done its work, and holds memory until it has linked.
                        link: u64::MAX,
                    };
                }
            }
            Schedule::CriticalPath => rank(
                &mut self.urgencies,
                |id| self.works[id],
                |id| self.dependents.of(id),
                &self.dependencies_first,
            ),
        }
    }
}

mod edges;
mod retrospect;

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    const SECOND: u64 = 1_000_000;

    /// A clock that stands still.
    fn still() -> Clock {
        Clock::new(|| 0)
    }

    fn tracker(jobs: &[(&'static str, &[(&'static str, Need)])]) -> Tracker<&'static str, ()> {
        let mut plan = Plan::default();
        for (unit, needs) in jobs {
            plan.add(*unit, (), needs.iter().copied(), Estimate::default());
        }
        plan.seal(Schedule::Stock, still()).unwrap()
    }

    fn start(tracker: &mut Tracker<&'static str, ()>) -> Option<&'static str> {
        start_if(tracker, true).map(|(unit, _)| unit)
    }

    fn start_if(
        tracker: &mut Tracker<&'static str, ()>,
        allow_early: bool,
    ) -> Option<(&'static str, bool)> {
        match tracker.next(|_| allow_early)? {
            Next::Start(started) => Some((started.unit, started.is_early)),
            other => panic!("{other:?} instead of a start"),
        }
    }

    fn next_link(tracker: &mut Tracker<&'static str, ()>) -> Option<&'static str> {
        match tracker.next(|_| true)? {
            Next::Link(unit) => Some(unit),
            other => panic!("{other:?} instead of a link"),
        }
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

    /// A tracker in which `bin`, which links `lib`, is conditional.
    fn conditional() -> Tracker<&'static str, ()> {
        let mut plan = Plan::default();
        let needs = [("lib", AllToLink)];
        plan.add_conditional("bin", (), needs, Estimate::default());
        plan.add("lib", (), [], Estimate::default());
        plan.seal(Schedule::Stock, still()).unwrap()
    }

    fn to_compare(tracker: &mut Tracker<&'static str, ()>) -> Option<(&'static str, bool)> {
        let to_compare = tracker.next_to_compare()?;
        Some((*to_compare.unit, to_compare.is_all_there))
    }

    #[test]
    fn nothing_conditional_starts_before_it_was_compared() {
        let mut queue = conditional();
        assert_eq!(to_compare(&mut queue), None);
        assert_eq!(start(&mut queue), Some("lib"));
        queue.produced(&"lib", Artifact::Metadata);
        assert_eq!((queue.ready_len(), queue.ready_early_len()), (0, 0));
        assert_eq!(start(&mut queue), None);
        assert_eq!(to_compare(&mut queue), Some(("bin", false)));

        queue.compared(&"bin", Verdict::Changed);
        assert_eq!(to_compare(&mut queue), None);
        assert_eq!((queue.ready_len(), queue.ready_early_len()), (0, 1));
        assert_eq!(start_if(&mut queue, true), Some(("bin", true)));
    }

    #[test]
    fn what_is_linked_is_compared_when_it_is_there() {
        let mut queue = conditional();
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        queue.compared(&"bin", Verdict::SameMetadata);
        assert_eq!(to_compare(&mut queue), None);
        assert_eq!(start(&mut queue), None);
        queue.produced(&"lib", Artifact::All);
        assert_eq!(start(&mut queue), None);
        assert_eq!(to_compare(&mut queue), Some(("bin", true)));
        queue.compared(&"bin", Verdict::Unchanged);
        assert_eq!(queue.ready_len(), 1);
        assert_eq!(start_if(&mut queue, true), Some(("bin", false)));
        queue.found_fresh(&"bin");
        queue.produced(&"bin", Artifact::All);
        assert!(queue.is_drained());
    }

    #[test]
    fn what_was_not_asked_for_in_time_is_compared_once() {
        let mut queue = conditional();
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        queue.produced(&"lib", Artifact::All);
        assert_eq!(to_compare(&mut queue), Some(("bin", true)));
        queue.compared(&"bin", Verdict::Changed);
        assert_eq!(to_compare(&mut queue), None);
        assert_eq!(start_if(&mut queue, false), Some(("bin", false)));
    }

    #[test]
    fn nothing_is_compared_that_is_lost_or_in_a_build_that_stops() {
        let mut queue = conditional();
        start(&mut queue);
        queue.produced(&"lib", Artifact::Metadata);
        assert_eq!(queue.failed(&"lib"), [&"bin"]);
        assert_eq!(to_compare(&mut queue), None);
        assert!(queue.is_drained());

        let mut queue = conditional();
        start(&mut queue);
        queue.produced(&"lib", Artifact::All);
        queue.stop();
        assert_eq!(to_compare(&mut queue), None);
        assert_eq!(start(&mut queue), None);
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
        assert_eq!(next_link(&mut queue), None);
        assert_eq!(queue.produced(&"lib", Artifact::All), [] as [&&str; 0]);
        assert_eq!((queue.ready_len(), queue.working()), (1, 0));
        assert_eq!(next_link(&mut queue), Some("bin"));
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
            assert_eq!(next_link(&mut queue), None);
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
                    assert_eq!(queue.stop(), [&"bin"]);
                    Cause::Stopped
                }
                false => {
                    assert_eq!(queue.failed(&"bin"), [&"test"]);
                    Cause::ItsOwn
                }
            };
            assert_eq!(queue.state(&"bin"), Some(State::Failed(cause)));
            assert_eq!((next_link(&mut queue), queue.early()), (None, 0));
        }
    }

    /// In seconds.
    fn work(frontend: u64, codegen: u64) -> Estimate {
        Estimate::Measured(Work {
            frontend: frontend * SECOND,
            codegen: codegen * SECOND,
            ..Work::default()
        })
    }

    /// `core` is the metadata that `lib` reads; `other` has nothing to do with them. On one slot.
    fn core_lib_and_other(schedule: Schedule) -> Tracker<&'static str, ()> {
        let mut plan = Plan::default();
        plan.add("other", (), [], work(20, 0));
        plan.add("core", (), [], work(10, 50));
        plan.add("lib", (), [("core", MetadataToStart)], work(100, 30));
        plan.seal(schedule, still()).unwrap()
    }

    #[test]
    fn the_longest_path_goes_first() {
        let mut queue = core_lib_and_other(Schedule::CriticalPath);
        assert_eq!(start(&mut queue), Some("core"));
        assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
        assert_eq!(start(&mut queue), Some("lib"));
        assert_eq!(start(&mut queue), Some("other"));
    }

    #[test]
    fn codegen_waits_for_what_is_more_urgent() {
        let mut queue = core_lib_and_other(Schedule::CriticalPath);
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        assert!(!queue.should_pause(&"core", 0, |_| true));
        assert!(queue.should_pause(&"core", 4, |_| true));
        queue.paused(&"core");
        assert_eq!((queue.working(), queue.paused_len()), (0, 1));
        assert_eq!(start(&mut queue), Some("lib"));
        queue.produced(&"lib", Artifact::Metadata);
        assert!(!queue.should_pause(&"lib", 1, |_| true), "no place is left");
        assert!(
            queue.should_pause(&"lib", 4, |_| true),
            "core is more urgent"
        );
        queue.produced(&"lib", Artifact::All);
        assert!(matches!(queue.next(|_| true), Some(Next::Continue("core"))));
        assert_eq!((queue.working(), queue.paused_len()), (1, 0));
        queue.produced(&"core", Artifact::All);
        assert_eq!(start(&mut queue), Some("other"));
    }

    #[test]
    fn codegen_goes_on_where_nothing_is_more_urgent() {
        let mut plan = Plan::default();
        plan.add("other", (), [], work(20, 0));
        plan.add("core", (), [], work(10, 50));
        plan.add("lib", (), [("core", MetadataToStart)], work(1, 1));
        let mut queue = plan.seal(Schedule::CriticalPath, still()).unwrap();
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        assert!(!queue.should_pause(&"core", 4, |_| true));
    }

    #[test]
    fn who_is_paused_can_be_done_and_can_fail() {
        for fails in [true, false] {
            let mut queue = core_lib_and_other(Schedule::CriticalPath);
            start(&mut queue);
            queue.produced(&"core", Artifact::Metadata);
            queue.paused(&"core");
            match fails {
                true => assert_eq!(queue.failed(&"core"), [] as [&&str; 0]),
                false => assert_eq!(queue.produced(&"core", Artifact::All), [] as [&&str; 0]),
            }
            assert_eq!(
                (queue.working(), queue.paused_len(), queue.ready_len()),
                (0, 0, 2)
            );
            assert_eq!(start(&mut queue), Some("lib"));
        }
    }

    /// A clock, and what sets it.
    fn clock() -> (Clock, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        (Clock::new(move || shown.load(Relaxed)), now)
    }

    #[test]
    fn a_frontend_that_takes_longer_makes_its_codegen_more_urgent() {
        for (took, pauses) in [(10, true), (30, false)] {
            let (clock, now) = clock();
            let mut plan = Plan::default();
            plan.add("core", (), [], work(10, 50));
            plan.add("lib", (), [("core", MetadataToStart)], work(100, 30));
            let mut queue = plan.seal(Schedule::CriticalPath, clock).unwrap();
            start(&mut queue);
            now.store(took * SECOND, Relaxed);
            queue.produced(&"core", Artifact::Metadata);
            assert_eq!(queue.should_pause(&"core", 4, |_| true), pauses, "{took}");
        }
    }

    #[test]
    fn guesses_are_corrected_by_what_was_seen() {
        let guess = |frontend| {
            Estimate::Guessed(Work {
                frontend: frontend * SECOND,
                ..Work::default()
            })
        };
        let names = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
        ];
        let (clock, now) = clock();
        let mut plan = Plan::default();
        for name in names {
            plan.add(name, (), [], guess(1_000));
        }
        plan.add("guessed", (), [], guess(100));
        plan.add("known", (), [], work(500, 0));
        let mut queue = plan.seal(Schedule::CriticalPath, clock).unwrap();
        for name in names {
            assert_eq!(start(&mut queue), Some(name));
            now.fetch_add(10_000 * SECOND, Relaxed);
            queue.produced(&name, Artifact::All);
        }
        assert_eq!(
            start(&mut queue),
            Some("guessed"),
            "ten times as much as guessed"
        );
    }

    #[test]
    fn pauses_are_no_codegen() {
        let (clock, now) = clock();
        let mut plan = Plan::default();
        plan.add("core", (), [], work(10, 50));
        plan.add("lib", (), [("core", MetadataToStart)], work(100, 30));
        plan.add(
            "bin",
            (),
            [("core", AllToLink), ("lib", AllToLink)],
            work(100, 0),
        );
        let mut queue = plan.seal(Schedule::CriticalPath, clock).unwrap();
        let pass = |time| now.fetch_add(time * SECOND, Relaxed);
        start(&mut queue);
        pass(3);
        queue.produced(&"core", Artifact::Metadata);
        pass(2);
        queue.paused(&"core");
        start(&mut queue);
        pass(100);
        queue.produced(&"lib", Artifact::All);
        start(&mut queue);
        pass(5);
        queue.parked(&"bin");
        assert!(matches!(queue.next(|_| true), Some(Next::Continue("core"))));
        pass(7);
        queue.produced(&"core", Artifact::All);
        pass(1_000);
        assert_eq!(next_link(&mut queue), Some("bin"));
        pass(4);
        queue.produced(&"bin", Artifact::All);
        let seconds = |time: Option<u64>| time.map(|time| time * SECOND);
        let measured = |frontend, codegen, link| Measured {
            frontend: seconds(Some(frontend)),
            codegen: seconds(codegen),
            link: seconds(link),
        };
        let expected = [
            (&"core", measured(3, Some(9), None)),
            (&"lib", measured(100, None, None)),
            (&"bin", measured(5, None, Some(4))),
        ];
        assert_eq!(queue.measured().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_build_that_stops_continues_what_is_paused_and_starts_nothing() {
        let mut queue = core_lib_and_other(Schedule::CriticalPath);
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        queue.paused(&"core");
        assert_eq!(queue.stop(), [] as [&&str; 0]);
        assert_eq!(queue.ready_len(), 1);
        assert!(matches!(queue.next(|_| true), Some(Next::Continue("core"))));
        assert!(queue.next(|_| true).is_none());
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
    fn no_state_comes_back_but_codegen_from_a_pause() {
        use State::*;
        let onwards = [
            Waiting,
            Ready,
            Frontend,
            Codegen,
            Paused,
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
                let may = (*state, *earlier) == (Paused, Codegen);
                assert_eq!(state.may_become(*earlier), may, "{state:?} to {earlier:?}");
            }
        }
    }

    #[test]
    fn plans_that_cannot_run() {
        let mut twice = Plan::default();
        twice.add("a", (), [], Estimate::default());
        twice.add("a", (), [], Estimate::default());
        assert_eq!(
            twice.seal(Schedule::Stock, still()).unwrap_err(),
            PlanError::Duplicate("a")
        );

        let mut unknown = Plan::default();
        unknown.add("a", (), [("b", AllToStart)], Estimate::default());
        assert_eq!(
            unknown.seal(Schedule::Stock, still()).unwrap_err(),
            PlanError::Unknown {
                dependent: "a",
                dependency: "b"
            }
        );

        let mut cycle = Plan::default();
        cycle.add("a", (), [("b", MetadataToStart)], Estimate::default());
        cycle.add("b", (), [("a", AllToStart)], Estimate::default());
        cycle.add("c", (), [], Estimate::default());
        assert_eq!(
            cycle.seal(Schedule::Stock, still()).unwrap_err(),
            PlanError::Cycle(vec!["a", "b"])
        );
    }
}
