//! What ran when, as a picture: the file that `build.trace` names.
//!
//! The format is Chrome's Trace Event Format in its array form, one event a line, which Perfetto
//! (<https://ui.perfetto.dev>) and speedscope open. Each event overwrites the bracket that closes
//! the array and writes a new one, so the file is complete JSON at every moment, whatever becomes
//! of cargo.
//!
//! # Fields
//!
//! Times (`ts`) are in µs since the build began. `pid` is always 1. `tid` is the job slot, counted
//! from 1: each slot is a lane, and a job stays in its lane. The lanes are named by
//! `thread_name` events.
//!
//! | `cat` | `ph` | `name` | `args` |
//! | --- | --- | --- | --- |
//! | `unit` | `B` | package and version | [`UnitInfo`]: `job`, `unit`, `package`, `version`, `target`, `kind`, `mode`, `waited_for` |
//! | `unit` | `E` | the same | `job`, `unit`, `outcome`: `done`, `fresh` or `failed` |
//! | `phase` | `B`, `E` | a [`Phase`]: `frontend`, `codegen`, `compile`, `run` or `replay` | `job`, `unit` |
//! | `artifact` | `i` | an [`Artifact`]: `metadata` or `all` | `job`, `unit` |
//! | `tokens` | `C` | `tokens in use` | `tokens`: how many jobs run, each on one jobserver token or on cargo's own |
//!
//! `job` numbers the jobs of one build in the order in which they start; `unit` is the number of
//! the unit in the build's unit graph, the same from build to build as long as the graph is.
//! `waited_for` lists the units whose `metadata` was enough and those that had to be finished
//! (`all`). Each `unit` slice holds its phases, one after the other without a gap. What still ran
//! when cargo was killed has a `B` and no `E`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use crate::artifact::{Artifact, Need};

/// What a job does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A compiler that has yet to announce the metadata of a library.
    Frontend,
    /// A compiler that has.
    Codegen,
    /// A compiler, or rustdoc, that announces no metadata.
    Compile,
    /// A build script.
    Run,
    /// Nothing but repeating what an earlier build said.
    Replay,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It made what it produces.
    Done,
    /// An earlier build had made it.
    Fresh,
    /// It ended with an error.
    Failed,
}

/// What a trace says of a job when it starts.
#[derive(Debug, Serialize)]
pub struct UnitInfo<'a, Kind, Mode> {
    /// The number of the job in this build.
    pub job: u32,
    /// The number of the unit in the unit graph.
    pub unit: u64,
    /// The name of the package.
    pub package: &'a str,
    /// The version of the package.
    pub version: String,
    /// The name of the target.
    pub target: &'a str,
    /// The kind of the target, as `cargo metadata` spells it.
    pub kind: Kind,
    /// What is done with the target, as `cargo build --unit-graph` spells it.
    pub mode: Mode,
    /// What had to be produced before the job could start.
    pub waited_for: WaitedFor,
}

/// The units that a job waited for, by which of their artifacts.
#[derive(Debug, Default, Serialize)]
pub struct WaitedFor {
    /// Their metadata was enough.
    pub metadata: Vec<u64>,
    /// They had to be finished.
    pub all: Vec<u64>,
}

impl FromIterator<(u64, Need)> for WaitedFor {
    fn from_iter<I: IntoIterator<Item = (u64, Need)>>(needs: I) -> Self {
        let mut waited_for = WaitedFor::default();
        for (unit, need) in needs {
            match need.artifact() {
                Artifact::Metadata => waited_for.metadata.push(unit),
                Artifact::All => waited_for.all.push(unit),
            }
        }
        waited_for.metadata.sort_unstable();
        waited_for.all.sort_unstable();
        waited_for
    }
}

/// The trace of one build, or nothing at all where none was asked for.
///
/// A trace is worth no build: once the file cannot be written, nothing more is, and
/// [`finish`](Trace::finish) says why.
#[derive(Debug, Default)]
pub struct Trace {
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    began: Instant,
    lanes: Vec<Option<Running>>,
    output: Output,
}

#[derive(Debug)]
struct Running {
    job: u32,
    unit: u64,
    name: String,
    phase: Phase,
}

/// The file, and where in it the next event goes: over the bracket at its end.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: File,
    next_event: u64,
    error: Option<io::Error>,
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
struct JobArgs {
    job: u32,
    unit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

impl Trace {
    /// Begins the trace of a build that begins now. Replaces a file at `path` and makes the
    /// directories above it.
    ///
    /// While another cargo is writing to the file, it is left alone and this trace is one that
    /// [`finish`](Trace::finish) fails for: a build script that runs cargo hands its environment
    /// on, and must neither destroy the trace of the build that it is part of nor fail over it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made. The error names the file and `build.trace`.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let output = Output::create(path).with_context(|| {
            format!(
                "failed to create `{}`, set by `build.trace`",
                path.display()
            )
        })?;
        Ok(Trace {
            recording: Some(Recording {
                began: Instant::now(),
                lanes: Vec::new(),
                output,
            }),
        })
    }

    /// A job starts with `phase`, in the first free lane.
    pub fn started<'a, Kind: Serialize, Mode: Serialize>(
        &mut self,
        phase: Phase,
        info: impl FnOnce() -> UnitInfo<'a, Kind, Mode>,
    ) {
        if let Some(recording) = &mut self.recording {
            recording.started(phase, &info());
        }
    }

    /// A job has written its metadata. If it was in its frontend, code generation follows.
    pub fn metadata_written(&mut self, job: u32) {
        if let Some(recording) = &mut self.recording {
            recording.metadata_written(job);
        }
    }

    /// A job has ended, well or not.
    pub fn finished(&mut self, job: u32, ended_well: bool) {
        if let Some(recording) = &mut self.recording {
            recording.finished(job, ended_well);
        }
    }

    /// Ends the trace.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong in writing it. What was written until then stands.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let Some(Output {
            path,
            error: Some(error),
            ..
        }) = self.recording.take().map(|recording| recording.output)
        else {
            return Ok(());
        };
        Err(error).with_context(|| format!("failed to write the trace `{}`", path.display()))
    }
}

impl Recording {
    fn started<Kind: Serialize, Mode: Serialize>(
        &mut self,
        phase: Phase,
        info: &UnitInfo<'_, Kind, Mode>,
    ) {
        let free = self.lanes.iter().position(Option::is_none);
        let lane = free.unwrap_or_else(|| self.add_lane());
        let running = Running {
            job: info.job,
            unit: info.unit,
            name: format!("{} v{}", info.package, info.version),
            phase,
        };
        self.emit(&running.name, Some("unit"), 'B', lane, info);
        self.emit_phase(&running, 'B', lane);
        self.lanes[lane] = Some(running);
        self.emit_tokens();
    }

    fn metadata_written(&mut self, job: u32) {
        let Some((lane, mut running)) = self.take(job) else {
            return;
        };
        self.emit_artifact(&running, lane, Artifact::Metadata);
        if running.phase == Phase::Frontend {
            self.emit_phase(&running, 'E', lane);
            running.phase = Phase::Codegen;
            self.emit_phase(&running, 'B', lane);
        }
        self.lanes[lane] = Some(running);
    }

    fn finished(&mut self, job: u32, ended_well: bool) {
        let Some((lane, running)) = self.take(job) else {
            return;
        };
        let outcome = match (ended_well, running.phase) {
            (true, Phase::Replay) => Outcome::Fresh,
            (true, _) => Outcome::Done,
            (false, _) => Outcome::Failed,
        };
        self.emit_phase(&running, 'E', lane);
        if ended_well {
            self.emit_artifact(&running, lane, Artifact::All);
        }
        let args = JobArgs {
            outcome: Some(outcome),
            ..running.args()
        };
        self.emit(&running.name, Some("unit"), 'E', lane, args);
        self.emit_tokens();
    }

    fn take(&mut self, job: u32) -> Option<(usize, Running)> {
        self.lanes.iter_mut().enumerate().find_map(|(lane, slot)| {
            let running = slot.take_if(|running| running.job == job)?;
            Some((lane, running))
        })
    }

    fn add_lane(&mut self) -> usize {
        let lane = self.lanes.len();
        self.lanes.push(None);
        let args = serde_json::json!({ "name": format!("slot {}", lane + 1) });
        self.emit("thread_name", None, 'M', lane, args);
        lane
    }

    fn emit_phase(&mut self, running: &Running, ph: char, lane: usize) {
        let name = match running.phase {
            Phase::Frontend => "frontend",
            Phase::Codegen => "codegen",
            Phase::Compile => "compile",
            Phase::Run => "run",
            Phase::Replay => "replay",
        };
        self.emit(name, Some("phase"), ph, lane, running.args());
    }

    fn emit_artifact(&mut self, running: &Running, lane: usize, artifact: Artifact) {
        let name = match artifact {
            Artifact::Metadata => "metadata",
            Artifact::All => "all",
        };
        self.emit(name, Some("artifact"), 'i', lane, running.args());
    }

    fn emit_tokens(&mut self) {
        let tokens = self.lanes.iter().flatten().count();
        let args = serde_json::json!({ "tokens": tokens });
        self.emit("tokens in use", Some("tokens"), 'C', 0, args);
    }

    fn emit(&mut self, name: &str, cat: Option<&str>, ph: char, lane: usize, args: impl Serialize) {
        let ts = self.began.elapsed().as_micros();
        self.output.append(&Event {
            name,
            cat,
            ph,
            ts: u64::try_from(ts).unwrap_or(u64::MAX),
            pid: 1,
            tid: lane + 1,
            s: (ph == 'i').then_some('t'),
            args,
        });
    }
}

impl Running {
    fn args(&self) -> JobArgs {
        JobArgs {
            job: self.job,
            unit: self.unit,
            outcome: None,
        }
    }
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut output = Output {
            path: path.to_owned(),
            file,
            next_event: 0,
            error: None,
        };
        match output.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                output.error = Some(io::Error::other("another cargo is writing to it"));
                return Ok(output);
            }
            // A file system without locks: then there is nobody to be asked.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        output.file.set_len(0)?;
        output.write(b"[\n]\n", 1)?;
        Ok(output)
    }

    fn append(&mut self, event: &impl Serialize) {
        if self.error.is_some() {
            return;
        }
        let separator: &[u8] = match self.next_event {
            1 => b"\n",
            _ => b",\n",
        };
        let mut text = separator.to_vec();
        let written = serde_json::to_writer(&mut text, event)
            .map_err(io::Error::from)
            .and_then(|()| {
                let event_len = text.len();
                text.extend_from_slice(b"\n]\n");
                self.write(&text, event_len as u64)
            });
        self.error = written.err();
    }

    /// Writes `text` over the end of the file. Its first `event_len` bytes stay.
    fn write(&mut self, text: &[u8], event_len: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.next_event))?;
        self.file.write_all(text)?;
        self.next_event += event_len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(path: &Path) -> Vec<Value> {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn unit(job: u32, package: &str) -> UnitInfo<'_, [&'static str; 1], &'static str> {
        UnitInfo {
            job,
            unit: u64::from(job) + 10,
            package,
            version: "1.2.3".to_owned(),
            target: package,
            kind: ["lib"],
            mode: "build",
            waited_for: [(7, Need::AllToStart), (4, Need::MetadataToStart)]
                .into_iter()
                .collect(),
        }
    }

    /// `ph`, lane, category and name of each event, for a look at the order.
    fn outline(events: &[Value]) -> Vec<String> {
        events
            .iter()
            .filter(|event| event["ph"] != "M" && event["ph"] != "C")
            .map(|event| {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let (ph, cat, name) = (text("ph"), text("cat"), text("name"));
                format!("{ph} {} {cat} {name}", event["tid"])
            })
            .collect()
    }

    #[test]
    fn complete_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/trace.json");
        let mut trace = Trace::create(&path).unwrap();
        assert!(read(&path).is_empty());
        trace.started(Phase::Frontend, || unit(0, "core"));
        assert_eq!(
            outline(&read(&path)),
            ["B 1 unit core v1.2.3", "B 1 phase frontend"]
        );
        trace.metadata_written(0);
        trace.started(Phase::Compile, || unit(1, "lib"));
        trace.finished(0, true);
        trace.started(Phase::Replay, || unit(2, "fresh"));
        trace.finished(2, true);
        trace.finished(1, false);
        trace.finish().unwrap();

        let events = read(&path);
        assert_eq!(
            outline(&events),
            [
                "B 1 unit core v1.2.3",
                "B 1 phase frontend",
                "i 1 artifact metadata",
                "E 1 phase frontend",
                "B 1 phase codegen",
                "B 2 unit lib v1.2.3",
                "B 2 phase compile",
                "E 1 phase codegen",
                "i 1 artifact all",
                "E 1 unit core v1.2.3",
                "B 1 unit fresh v1.2.3",
                "B 1 phase replay",
                "E 1 phase replay",
                "i 1 artifact all",
                "E 1 unit fresh v1.2.3",
                "E 2 phase compile",
                "E 2 unit lib v1.2.3",
            ]
        );
        let outcomes: Vec<_> = events
            .iter()
            .filter(|event| event["cat"] == "unit" && event["ph"] == "E")
            .map(|event| event["args"]["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, ["done", "fresh", "failed"]);
        let tokens: Vec<_> = events
            .iter()
            .filter(|event| event["ph"] == "C")
            .map(|event| event["args"]["tokens"].as_u64().unwrap())
            .collect();
        assert_eq!(tokens, [1, 2, 1, 2, 1, 0]);
        let begin = events.iter().find(|event| event["cat"] == "unit").unwrap();
        assert_eq!(
            begin["args"],
            serde_json::json!({
                "job": 0, "unit": 10, "package": "core", "version": "1.2.3", "target": "core",
                "kind": ["lib"], "mode": "build", "waited_for": {"metadata": [4], "all": [7]},
            })
        );
    }

    #[test]
    fn replaces_an_older_trace_but_not_one_that_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        std::fs::write(
            &path,
            "an older trace, longer than the beginning of a new one",
        )
        .unwrap();
        let mut trace = Trace::create(&path).unwrap();
        let mut second = Trace::create(&path).unwrap();
        second.started(Phase::Run, || unit(0, "core"));
        assert!(read(&path).is_empty());
        assert_eq!(
            format!("{:#}", second.finish().unwrap_err()),
            format!(
                "failed to write the trace `{}`: another cargo is writing to it",
                path.display()
            )
        );
        trace.finish().unwrap();
        Trace::create(&path).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = Trace::create(dir.path()).unwrap_err();
        let expected = format!(
            "failed to create `{}`, set by `build.trace`",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn no_trace_is_no_work() {
        let mut trace = Trace::default();
        trace.started::<(), ()>(Phase::Run, || unreachable!());
        trace.metadata_written(0);
        trace.finished(0, true);
        trace.finish().unwrap();
    }
}
