//! Writes what ran when: the file that `build.trace` names.
//!
//! The format is Chrome's Trace Event Format in its array form, one event a line, which Perfetto
//! (<https://ui.perfetto.dev>) and speedscope open. Each event overwrites the bracket that closes
//! the array and writes a new one, so the file is complete JSON at every moment.
//!
//! # Fields
//!
//! Times (`ts`) are in µs since the build began. `pid` is always 1. `tid` is the lane, which a
//! `thread_name` event names: job slots count from 1, parked jobs from 1001, paused ones from 2001. A job
//! that parks or is paused leaves its slot for such a lane, and that for any free slot when it goes on, so
//! it has several `unit` slices. The first has all fields, the last the outcome of the job.
//!
//! | `cat` | `ph` | `name` | `args` |
//! | --- | --- | --- | --- |
//! | `unit` | `B` | package and version | `job`, `unit`, `package`, `version`, `target`, `kind`, `mode`, `waited_for` |
//! | `unit` | `B` | the same, of a job that leaves its lane for this one | `job`, `unit` |
//! | `unit` | `E` | the same | `job`, `unit`, `outcome`: an [`Outcome`]; `reason`: `cutoff` after an early cutoff; `parked`, `linking`, `paused` and `continued` go on in another lane |
//! | `phase` | `B`, `E` | a [`Phase`]: `frontend`, `codegen`, `compile`, `paused`, `parked`, `link`, `run` or `replay` | `job`, `unit` |
//! | `artifact` | `i` | an [`Artifact`]: `metadata` or `all` | `job`, `unit` |
//! | `tokens` | `C` | `tokens in use` | `tokens`: how many jobs run, each on one jobserver token or on cargo's own |
//!
//! `job` numbers the jobs of one build in the order in which they start, `unit` in the order of the
//! build's plan. `waited_for` lists the units whose `metadata` was enough, those that had to be finished
//! before the job linked (`all_to_link`; before it started, if it never parked), and before it started (`all`).
//! Each `unit` slice holds its phases without a gap. What ran when cargo was killed has a `B` and no `E`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::graph::{Artifact, Need};
use crate::job::{Cause, Kind, State, Transition};
use output::Output;

mod output;

/// What a job does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A compiler that has yet to announce the metadata of a library.
    Frontend,
    /// A compiler that has.
    Codegen,
    /// A compiler, or rustdoc, that announces no metadata.
    Compile,
    /// A compiler that is stopped.
    Paused,
    /// A compiler that waits before its linker, or a job whose compiler has ended.
    Parked,
    /// A linker, of a compiler that was parked.
    Link,
    /// A build script.
    Run,
    /// Nothing but replaying the messages of an earlier build.
    Replay,
}

/// How a job ended, or why it left its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It has compiled and waits for a permit to link.
    Parked,
    /// It was parked and links.
    Linking,
    /// Its compiler is stopped.
    Paused,
    /// Its compiler was stopped and goes on.
    Continued,
    /// It was parked, and will never link: a dependency has failed, or the build stops.
    Aborted,
    /// It has produced its outputs.
    Done,
    /// An earlier build had produced them.
    Fresh,
    /// It ended with an error.
    Failed,
}

/// The names of a unit in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name of the package.
    pub package: String,
    /// The version of the package.
    pub version: String,
    /// The name of the target.
    pub target: String,
    /// The kind of the target, as `cargo metadata` spells it.
    pub kind: Value,
    /// What is done with the target, as `cargo build --unit-graph` spells it.
    pub mode: Value,
}

/// The units that a job waited for, by which of their artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitedFor {
    /// Their metadata was enough.
    pub metadata: Vec<usize>,
    /// Their metadata was enough to start; they had to be finished to be linked.
    #[serde(default)]
    pub all_to_link: Vec<usize>,
    /// They had to be finished.
    pub all: Vec<usize>,
}

impl FromIterator<(usize, Need)> for WaitedFor {
    fn from_iter<I: IntoIterator<Item = (usize, Need)>>(needs: I) -> Self {
        let mut needs: Vec<_> = needs.into_iter().collect();
        needs.sort_unstable();
        let of = |need| {
            let units = needs.iter().filter(|(_, other)| *other == need);
            units.map(|(unit, _)| *unit).collect()
        };
        WaitedFor {
            metadata: of(Need::MetadataToStart),
            all_to_link: of(Need::AllToLink),
            all: of(Need::AllToStart),
        }
    }
}

/// The trace of one build: an observer of the transitions of its jobs. After an error in writing it nothing
/// more is written, and [`finish`](Trace::finish) returns the error.
#[derive(Debug)]
pub struct Trace<U> {
    describe: fn(&U) -> Description,
    /// When the first transition was. µs of the build's clock.
    began: Option<u64>,
    started: u32,
    /// By unit.
    running: BTreeMap<usize, Running>,
    named_lanes: BTreeSet<usize>,
    output: Output,
}

/// A job between its start and its end. Serialized, it is the `args` of an event.
#[derive(Debug, Serialize)]
struct Running {
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    phase: Phase,
    #[serde(skip)]
    tid: usize,
    job: u32,
    unit: usize,
    #[serde(flatten)]
    description: Option<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_for: Option<WaitedFor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Event<Name, Args> {
    name: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    ph: char,
    ts: u64,
    pid: u32,
    tid: usize,
    /// The scope of an instant: its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<char>,
    args: Args,
}

impl<U> Trace<U> {
    /// Begins a trace. Replaces a file at `path` and makes the directories above it. `describe` names a
    /// unit. `None` if `path` is `/dev/null`.
    ///
    /// Leaves the file alone while another cargo writes to it, as the cargo does that runs a build script that
    /// runs this one; then [`finish`](Trace::finish) returns an error. It is an error, which names the file and
    /// `build.trace`, if the file cannot be made or is not a regular file.
    pub fn create(path: &Path, describe: fn(&U) -> Description) -> anyhow::Result<Option<Self>> {
        if cfg!(unix) && path == Path::new("/dev/null") {
            return Ok(None);
        }
        let output = Output::create(path).with_context(|| {
            let path = path.display();
            format!("failed to create `{path}`, set by `build.trace`")
        })?;
        Ok(Some(Trace {
            describe,
            began: None,
            started: 0,
            running: BTreeMap::new(),
            named_lanes: BTreeSet::new(),
            output,
        }))
    }

    /// Writes what a transition of the job of `unit` begins and ends. A job `is_conditional` if its inputs
    /// were compared. `needs` lists what it needs of which jobs.
    pub(crate) fn observe(
        &mut self,
        transition: Transition,
        unit: &U,
        kind: Kind,
        is_conditional: bool,
        needs: impl FnOnce() -> WaitedFor,
    ) {
        use State::*;
        let Transition { job: id, at, .. } = transition;
        let at = at.saturating_sub(*self.began.get_or_insert(at));
        let is_cutoff = is_conditional && transition.from == Fresh;
        let reason = is_cutoff.then_some("cutoff");
        let mut leave = |outcome, next| self.leave_lane(at, id, outcome, reason, next);
        match (transition.from, transition.to) {
            (Ready, Frontend | Fresh) => {
                let phase = match kind {
                    _ if transition.to == Fresh => Phase::Replay,
                    Kind::ScriptRun => Phase::Run,
                    Kind::Library => Phase::Frontend,
                    Kind::Other => Phase::Compile,
                };
                self.start(at, id, phase, unit, needs());
            }
            (Frontend, Codegen) => self.metadata_written(at, id),
            (Frontend | Codegen | Paused, Parked) => leave(Outcome::Parked, Some(Phase::Parked)),
            (Parked, Linking) => leave(Outcome::Linking, Some(Phase::Link)),
            (Codegen, Paused) => leave(Outcome::Paused, Some(Phase::Paused)),
            (Paused, Codegen) => leave(Outcome::Continued, Some(Phase::Codegen)),
            (Fresh, Done) => leave(Outcome::Fresh, None),
            (_, Done) => leave(Outcome::Done, None),
            (_, Failed(Cause::Own)) => leave(Outcome::Failed, None),
            (Parked, Failed(_)) => leave(Outcome::Aborted, None),
            _ => {}
        }
    }

    /// Ends the trace. Returns the first error in writing it; what was written until then stands.
    pub fn finish(self) -> anyhow::Result<()> {
        let Output { path, error, .. } = self.output;
        error.map_or(Ok(()), |error| {
            Err(error).with_context(|| format!("failed to write the trace `{}`", path.display()))
        })
    }

    fn start(&mut self, at: u64, id: usize, phase: Phase, unit: &U, waited_for: WaitedFor) {
        let description = (self.describe)(unit);
        let job = Running {
            name: format!("{} v{}", description.package, description.version),
            phase,
            tid: 0,
            job: self.started,
            unit: id,
            description: Some(description),
            waited_for: Some(waited_for),
            outcome: None,
            reason: None,
        };
        self.started += 1;
        self.enter_lane(at, job);
    }

    fn metadata_written(&mut self, at: u64, unit: usize) {
        let Some(mut job) = self.running.remove(&unit) else {
            return;
        };
        self.emit(at, &job, Artifact::Metadata, "artifact", 'i');
        if job.phase == Phase::Frontend {
            self.emit(at, &job, job.phase, "phase", 'E');
            job.phase = Phase::Codegen;
            self.emit(at, &job, job.phase, "phase", 'B');
        }
        self.running.insert(unit, job);
    }

    fn enter_lane(&mut self, at: u64, mut job: Running) {
        let (name, first) = match job.phase {
            Phase::Parked => ("parked", 1001),
            Phase::Paused => ("paused", 2001),
            _ => ("slot", 1),
        };
        job.tid = first;
        while self.running.values().any(|other| other.tid == job.tid) {
            job.tid += 1;
        }
        if self.named_lanes.insert(job.tid) {
            let args = json!({ "name": format!("{name} {}", job.tid - first + 1) });
            self.append(at, "thread_name", None, 'M', job.tid, args);
        }
        self.emit(at, &job, &job.name, "unit", 'B');
        (job.description, job.waited_for) = (None, None);
        self.emit(at, &job, job.phase, "phase", 'B');
        self.running.insert(job.unit, job);
        self.append_tokens(at);
    }

    /// The job goes on in another lane with the phase `next`, if there is one.
    fn leave_lane(
        &mut self,
        at: u64,
        unit: usize,
        outcome: Outcome,
        reason: Option<&'static str>,
        next: Option<Phase>,
    ) {
        let Some(mut job) = self.running.remove(&unit) else {
            return;
        };
        self.emit(at, &job, job.phase, "phase", 'E');
        if matches!(outcome, Outcome::Done | Outcome::Fresh) {
            self.emit(at, &job, Artifact::All, "artifact", 'i');
        }
        (job.outcome, job.reason) = (Some(outcome), reason);
        self.emit(at, &job, &job.name, "unit", 'E');
        if let Some(phase) = next {
            (job.outcome, job.phase) = (None, phase);
            self.enter_lane(at, job);
        } else {
            self.append_tokens(at);
        }
    }

    fn emit(&mut self, at: u64, job: &Running, name: impl Serialize, cat: &'static str, ph: char) {
        self.append(at, name, Some(cat), ph, job.tid, job);
    }

    fn append_tokens(&mut self, at: u64) {
        let holds_slot = |job: &&Running| !matches!(job.phase, Phase::Parked | Phase::Paused);
        let tokens = self.running.values().filter(holds_slot).count();
        let args = json!({ "tokens": tokens });
        self.append(at, "tokens in use", Some("tokens"), 'C', 1, args);
    }

    fn append(
        &mut self,
        ts: u64,
        name: impl Serialize,
        cat: Option<&'static str>,
        ph: char,
        tid: usize,
        args: impl Serialize,
    ) {
        self.output.append(&Event {
            name,
            cat,
            ph,
            ts,
            pid: 1,
            tid,
            s: (ph == 'i').then_some('t'),
            args,
        });
    }
}

#[cfg(test)]
mod tests;
