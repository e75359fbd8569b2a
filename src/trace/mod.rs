//! Writes what ran when: the file that `build.trace` names.
//!
//! The format is Chrome's Trace Event Format in its array form, one event a line, which Perfetto
//! (<https://ui.perfetto.dev>) and speedscope open. Each event overwrites the bracket that closes
//! the array and writes a new one, so the file is complete JSON at every moment, whatever becomes
//! of cargo.
//!
//! # Fields
//!
//! Times (`ts`) are in µs since the build began. `pid` is always 1. `tid` is the lane, which a
//! `thread_name` event names: each job slot is one, counted from 1, and parked jobs, which hold no
//! slot, are in lanes of their own, counted from 1001, as are paused ones, counted from 2001. A job that
//! parks or is paused leaves its slot for such a lane, and that for any free slot when it goes on, so it
//! has up to three `unit` slices; every other job has one. The first has all fields, the last
//! the outcome of the job.
//!
//! ```text
//!   slot 1     [ serde_derive: compile ][ syn: codegen      ]
//!   slot 2     [ syn: frontend ][ …    ]                     [ serde_derive: link ]
//!   parked 1                            [ serde_derive      ]
//!   paused 1             [ libc         ]
//! ```
//!
//! | `cat` | `ph` | `name` | `args` |
//! | --- | --- | --- | --- |
//! | `unit` | `B` | package and version | `job`, `unit`, `package`, `version`, `target`, `kind`, `mode`, `waited_for` |
//! | `unit` | `B` | the same, of a job that leaves its lane for this one | `job`, `unit` |
//! | `unit` | `E` | the same | `job`, `unit`, `outcome`: an [`Outcome`], and a [`Reason`] as `reason` if there is one; `parked`, `linking`, `paused` and `continued` go on in another lane |
//! | `phase` | `B`, `E` | a [`Phase`]: `frontend`, `codegen`, `compile`, `paused`, `parked`, `link`, `run` or `replay` | `job`, `unit` |
//! | `artifact` | `i` | an [`Artifact`]: `metadata` or `all` | `job`, `unit` |
//! | `tokens` | `C` | `tokens in use` | `tokens`: how many jobs run, each on one jobserver token or on cargo's own |
//!
//! `job` numbers the jobs of one build in the order in which they start; `unit` is the number of
//! the unit in the order in which the build's plan has them, the same from build to build as long as the
//! plan is.
//! `waited_for` lists the units whose `metadata` was enough, those that had to be finished before the
//! job linked (`all_to_link`; before it started, if it never parked), and those that had to be
//! finished before it started (`all`). Each `unit` slice holds its phases, one after the other without a gap. What still ran
//! when cargo was killed has a `B` and no `E`.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// A compiler that waits before its linker.
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

/// Why a job does something else than was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A dependency was rebuilt and came out so that no input of the unit has changed: early cutoff.
    Cutoff,
}

/// How a unit is called in a trace.
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
        let mut waited_for = WaitedFor::default();
        for (unit, need) in needs {
            match need {
                Need::MetadataToStart => waited_for.metadata.push(unit),
                Need::AllToLink => waited_for.all_to_link.push(unit),
                Need::AllToStart => waited_for.all.push(unit),
            }
        }
        waited_for.metadata.sort_unstable();
        waited_for.all_to_link.sort_unstable();
        waited_for.all.sort_unstable();
        waited_for
    }
}

/// The trace of one build: an observer of the transitions of its jobs.
///
/// Once the file cannot be written, nothing more is, and [`finish`](Trace::finish) returns the error: no
/// build fails over its trace.
#[derive(Debug)]
pub struct Trace<U> {
    describe: fn(&U) -> Description,
    /// When the first transition was. µs of the build's clock.
    began: Option<u64>,
    started: u32,
    slots: Lanes,
    parked: Lanes,
    paused: Lanes,
    output: Output,
}

/// What an observer is told of a job besides its transition.
pub(crate) struct Observed<'a, U, N> {
    pub unit: &'a U,
    pub kind: Kind,
    /// Its inputs were compared, because it was not known whether it is up to date.
    pub is_conditional: bool,
    /// What it needs of which jobs.
    pub needs: N,
}

/// Lanes of one sort, and the job in each.
#[derive(Debug)]
struct Lanes {
    name: &'static str,
    first_tid: usize,
    jobs: Vec<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// In the order in which jobs start.
    job: u32,
    unit: usize,
    name: String,
    phase: Phase,
    tid: usize,
    reason: Option<Reason>,
}

#[derive(Serialize)]
struct Event<'a, Args> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'a str>,
    ph: char,
    ts: u64,
    pid: u32,
    tid: usize,
    /// The scope of an instant: its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<char>,
    args: Args,
}

#[derive(Serialize)]
struct StartArgs {
    job: u32,
    unit: usize,
    #[serde(flatten)]
    description: Description,
    waited_for: WaitedFor,
}

#[derive(Serialize)]
struct JobArgs {
    job: u32,
    unit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl<U> Trace<U> {
    /// Begins a trace. Replaces a file at `path` and makes the directories above it. `describe` names a
    /// unit. `None` if `path` is `/dev/null`.
    ///
    /// While another cargo is writing to the file, it is left alone, and [`finish`](Trace::finish) returns
    /// an error: a build script that runs cargo passes its environment on, and must neither destroy the
    /// trace of the build that it is part of nor fail over it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made, or is not a regular file. The error names the file and `build.trace`.
    pub fn create(path: &Path, describe: fn(&U) -> Description) -> anyhow::Result<Option<Self>> {
        if cfg!(unix) && path == Path::new("/dev/null") {
            return Ok(None);
        }
        let output = Output::create(path).with_context(|| {
            format!(
                "failed to create `{}`, set by `build.trace`",
                path.display()
            )
        })?;
        let lanes = |name, first_tid| Lanes {
            name,
            first_tid,
            jobs: Vec::new(),
        };
        Ok(Some(Trace {
            describe,
            began: None,
            started: 0,
            slots: lanes("slot", 1),
            parked: lanes("parked", 1001),
            paused: lanes("paused", 2001),
            output,
        }))
    }

    /// Writes what a transition begins and ends.
    pub(crate) fn observe<N: FnOnce() -> WaitedFor>(
        &mut self,
        transition: Transition,
        job: Observed<'_, U, N>,
    ) {
        use State::*;
        let Transition { job: id, at, .. } = transition;
        let at = at.saturating_sub(*self.began.get_or_insert(at));
        match (transition.from, transition.to) {
            (Ready, Frontend | Fresh) => self.start(at, id, transition.to == Fresh, job),
            (Frontend, Codegen) => self.metadata_written(at, id),
            (Frontend, Parked) => self.move_lane(at, id, Outcome::Parked, Phase::Parked),
            (Parked, Linking) => self.move_lane(at, id, Outcome::Linking, Phase::Link),
            (Codegen, Paused) => self.move_lane(at, id, Outcome::Paused, Phase::Paused),
            (Paused, Codegen) => self.move_lane(at, id, Outcome::Continued, Phase::Codegen),
            (Fresh, Done) => self.end(at, id, Outcome::Fresh),
            (_, Done) => self.end(at, id, Outcome::Done),
            (_, Failed(Cause::Own)) => self.end(at, id, Outcome::Failed),
            (Parked, Failed(_)) => self.end(at, id, Outcome::Aborted),
            _ => {}
        }
    }

    /// Ends the trace.
    ///
    /// # Errors
    ///
    /// The first error in writing it. What was written until then stands.
    pub fn finish(self) -> anyhow::Result<()> {
        let Output { path, error, .. } = self.output;
        error.map_or(Ok(()), |error| {
            Err(error).with_context(|| format!("failed to write the trace `{}`", path.display()))
        })
    }

    fn start<N: FnOnce() -> WaitedFor>(
        &mut self,
        at: u64,
        unit: usize,
        is_fresh: bool,
        job: Observed<'_, U, N>,
    ) {
        let phase = match job.kind {
            _ if is_fresh => Phase::Replay,
            Kind::ScriptRun => Phase::Run,
            Kind::Library => Phase::Frontend,
            Kind::Other => Phase::Compile,
        };
        let description = (self.describe)(job.unit);
        let running = Running {
            job: self.started,
            unit,
            name: format!("{} v{}", description.package, description.version),
            phase,
            tid: 0,
            reason: (is_fresh && job.is_conditional).then_some(Reason::Cutoff),
        };
        self.started += 1;
        let args = StartArgs {
            job: running.job,
            unit,
            description,
            waited_for: (job.needs)(),
        };
        self.enter_lane(at, running, args);
    }

    fn metadata_written(&mut self, at: u64, unit: usize) {
        let Some(mut running) = self.slots.take(unit) else {
            return;
        };
        self.emit_artifact(at, &running, Artifact::Metadata);
        if running.phase == Phase::Frontend {
            self.emit_phase(at, &running, 'E');
            running.phase = Phase::Codegen;
            self.emit_phase(at, &running, 'B');
        }
        let lane = running.tid - self.slots.first_tid;
        self.slots.jobs[lane] = Some(running);
    }

    /// The job goes on in a lane of another sort, with `phase`.
    fn move_lane(&mut self, at: u64, unit: usize, outcome: Outcome, phase: Phase) {
        let Some(running) = self.leave_lane(unit) else {
            return;
        };
        self.emit_end(at, &running, outcome);
        let args = running.args();
        self.enter_lane(at, Running { phase, ..running }, args);
    }

    fn end(&mut self, at: u64, unit: usize, outcome: Outcome) {
        let Some(running) = self.leave_lane(unit) else {
            return;
        };
        self.emit_end(at, &running, outcome);
        self.emit_tokens(at);
    }

    fn leave_lane(&mut self, unit: usize) -> Option<Running> {
        let mut lanes = [&mut self.slots, &mut self.parked, &mut self.paused].into_iter();
        lanes.find_map(|lanes| lanes.take(unit))
    }

    fn enter_lane(&mut self, at: u64, mut running: Running, args: impl Serialize) {
        let lanes = self.lanes_of(running.phase);
        let free = lanes.jobs.iter().position(Option::is_none);
        let lane = free.unwrap_or(lanes.jobs.len());
        running.tid = lanes.first_tid + lane;
        if free.is_none() {
            lanes.jobs.push(None);
            let args = serde_json::json!({ "name": format!("{} {}", lanes.name, lane + 1) });
            self.emit(at, "thread_name", None, 'M', running.tid, args);
        }
        self.emit(at, &running.name, Some("unit"), 'B', running.tid, args);
        self.emit_phase(at, &running, 'B');
        let lanes = self.lanes_of(running.phase);
        lanes.jobs[lane] = Some(running);
        self.emit_tokens(at);
    }

    fn lanes_of(&mut self, phase: Phase) -> &mut Lanes {
        match phase {
            Phase::Parked => &mut self.parked,
            Phase::Paused => &mut self.paused,
            _ => &mut self.slots,
        }
    }

    fn emit_end(&mut self, at: u64, running: &Running, outcome: Outcome) {
        self.emit_phase(at, running, 'E');
        if matches!(outcome, Outcome::Done | Outcome::Fresh) {
            self.emit_artifact(at, running, Artifact::All);
        }
        let args = JobArgs {
            outcome: Some(outcome),
            reason: running.reason,
            ..running.args()
        };
        self.emit(at, &running.name, Some("unit"), 'E', running.tid, args);
    }

    fn emit_phase(&mut self, at: u64, running: &Running, ph: char) {
        let name = match running.phase {
            Phase::Frontend => "frontend",
            Phase::Codegen => "codegen",
            Phase::Compile => "compile",
            Phase::Paused => "paused",
            Phase::Parked => "parked",
            Phase::Link => "link",
            Phase::Run => "run",
            Phase::Replay => "replay",
        };
        self.emit(at, name, Some("phase"), ph, running.tid, running.args());
    }

    fn emit_artifact(&mut self, at: u64, running: &Running, artifact: Artifact) {
        let name = match artifact {
            Artifact::Metadata => "metadata",
            Artifact::All => "all",
        };
        self.emit(at, name, Some("artifact"), 'i', running.tid, running.args());
    }

    fn emit_tokens(&mut self, at: u64) {
        let tokens = self.slots.jobs.iter().flatten().count();
        let args = serde_json::json!({ "tokens": tokens });
        self.emit(at, "tokens in use", Some("tokens"), 'C', 1, args);
    }

    fn emit(
        &mut self,
        ts: u64,
        name: &str,
        cat: Option<&str>,
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

impl Lanes {
    fn take(&mut self, unit: usize) -> Option<Running> {
        self.jobs
            .iter_mut()
            .find_map(|lane| lane.take_if(|running| running.unit == unit))
    }
}

impl Running {
    fn args(&self) -> JobArgs {
        JobArgs {
            job: self.job,
            unit: self.unit,
            outcome: None,
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests;
