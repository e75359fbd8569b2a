//! What ran when, as a picture: the file that `build.trace` names.
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
//! has up to three `unit` slices; every other job has one. The first has the whole `UnitInfo`, the last
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
//! | `unit` | `B` | package and version | [`UnitInfo`]: `job`, `unit`, `package`, `version`, `target`, `kind`, `mode`, `waited_for` |
//! | `unit` | `B` | the same, of a job that leaves its lane for this one | `job`, `unit` |
//! | `unit` | `E` | the same | `job`, `unit`, `outcome`: an [`Outcome`], and a [`Reason`] as `reason` if there is one; `parked`, `linking`, `paused` and `continued` go on in another lane |
//! | `phase` | `B`, `E` | a [`Phase`]: `frontend`, `codegen`, `compile`, `paused`, `parked`, `link`, `run` or `replay` | `job`, `unit` |
//! | `artifact` | `i` | an [`Artifact`]: `metadata` or `all` | `job`, `unit` |
//! | `tokens` | `C` | `tokens in use` | `tokens`: how many jobs run, each on one jobserver token or on cargo's own |
//!
//! `job` numbers the jobs of one build in the order in which they start; `unit` is the number of
//! the unit in the build's unit graph, the same from build to build as long as the graph is.
//! `waited_for` lists the units whose `metadata` was enough, those that had to be finished before the
//! job linked (`all_to_link`; before it started, if it never parked), and those that had to be
//! finished before it started (`all`). Each `unit` slice holds its phases, one after the other without a gap. What still ran
//! when cargo was killed has a `B` and no `E`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Need};

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
    /// A compiler that is stopped, because something more urgent has its slot.
    Paused,
    /// A compiler that waits for what it links.
    Parked,
    /// A linker, of a compiler that was parked.
    Link,
    /// A build script.
    Run,
    /// Nothing but repeating what an earlier build said.
    Replay,
}

/// How a job ended, or why it left its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It has compiled and waits for what it links.
    Parked,
    /// It was parked and links.
    Linking,
    /// Its compiler is stopped.
    Paused,
    /// Its compiler was stopped and goes on.
    Continued,
    /// It was parked, and will never link: what it links failed, or the build stops.
    Aborted,
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

/// Why a job does something else than was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Something below it was made anew, and came out so that nothing that the unit reads has changed:
    /// early cutoff.
    Cutoff,
}

/// The units that a job waited for, by which of their artifacts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct WaitedFor {
    /// Their metadata was enough.
    pub metadata: Vec<u64>,
    /// Their metadata was enough to start; they had to be finished to be linked.
    pub all_to_link: Vec<u64>,
    /// They had to be finished.
    pub all: Vec<u64>,
}

impl FromIterator<(u64, Need)> for WaitedFor {
    fn from_iter<I: IntoIterator<Item = (u64, Need)>>(needs: I) -> Self {
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
    slots: Lanes,
    parked: Lanes,
    paused: Lanes,
    output: Output,
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
    job: u32,
    unit: u64,
    name: String,
    phase: Phase,
    tid: usize,
    reason: Option<Reason>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl Trace {
    /// Begins the trace of a build that begins now. Replaces a file at `path` and makes the
    /// directories above it.
    ///
    /// While another cargo is writing to the file, it is left alone and this trace is one that
    /// [`finish`](Trace::finish) fails for: a build script that runs cargo hands its environment
    /// on, and must neither destroy the trace of the build that it is part of nor fail over it.
    ///
    /// `/dev/null` is the same as no trace.
    ///
    /// # Errors
    ///
    /// If the file cannot be made, or is something else than a file, such as a named pipe. The error
    /// names the file and `build.trace`.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if cfg!(unix) && path == Path::new("/dev/null") {
            return Ok(Trace::default());
        }
        let output = Output::create(path).with_context(|| {
            format!(
                "failed to create `{}`, set by `build.trace`",
                path.display()
            )
        })?;
        Ok(Trace {
            recording: Some(Recording {
                began: Instant::now(),
                slots: Lanes {
                    name: "slot",
                    first_tid: 1,
                    jobs: Vec::new(),
                },
                parked: Lanes {
                    name: "parked",
                    first_tid: 1001,
                    jobs: Vec::new(),
                },
                paused: Lanes {
                    name: "paused",
                    first_tid: 2001,
                    jobs: Vec::new(),
                },
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

    /// Why a job that has started does something else than was planned. It is said when the job ends.
    pub fn because(&mut self, job: u32, reason: Reason) {
        let recording = self.recording.as_mut();
        let lanes = recording.map(|recording| recording.slots.jobs.iter_mut());
        let mut running = lanes.into_iter().flatten().flatten();
        if let Some(running) = running.find(|running| running.job == job) {
            running.reason = Some(reason);
        }
    }

    /// A job has compiled and waits for what it links.
    pub fn parked(&mut self, job: u32) {
        if let Some(recording) = &mut self.recording {
            recording.moved(job, Outcome::Parked, Phase::Parked);
        }
    }

    /// A job that was parked links.
    pub fn linking(&mut self, job: u32) {
        if let Some(recording) = &mut self.recording {
            recording.moved(job, Outcome::Linking, Phase::Link);
        }
    }

    /// The compiler of a job is stopped, and leaves its slot to something else.
    pub fn paused(&mut self, job: u32) {
        if let Some(recording) = &mut self.recording {
            recording.moved(job, Outcome::Paused, Phase::Paused);
        }
    }

    /// The compiler of a job was stopped and goes on.
    pub fn continued(&mut self, job: u32) {
        if let Some(recording) = &mut self.recording {
            recording.moved(job, Outcome::Continued, Phase::Codegen);
        }
    }

    /// A job has ended. One that says [`Outcome::Done`] and only replayed is [`Outcome::Fresh`].
    pub fn finished(&mut self, job: u32, outcome: Outcome) {
        if let Some(recording) = &mut self.recording {
            recording.finished(job, outcome);
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
        let running = Running {
            job: info.job,
            unit: info.unit,
            name: format!("{} v{}", info.package, info.version),
            phase,
            tid: 0,
            reason: None,
        };
        self.enter_lane(running, info);
    }

    fn metadata_written(&mut self, job: u32) {
        let Some(mut running) = self.slots.take(job) else {
            return;
        };
        self.emit_artifact(&running, Artifact::Metadata);
        if running.phase == Phase::Frontend {
            self.emit_phase(&running, 'E');
            running.phase = Phase::Codegen;
            self.emit_phase(&running, 'B');
        }
        let lane = running.tid - self.slots.first_tid;
        self.slots.jobs[lane] = Some(running);
    }

    /// The job goes on in a lane of another sort, with `phase`.
    fn moved(&mut self, job: u32, outcome: Outcome, phase: Phase) {
        let Some(running) = self.leave_lane(job) else {
            return;
        };
        self.emit_end(&running, outcome);
        let args = running.args();
        self.enter_lane(Running { phase, ..running }, args);
    }

    fn finished(&mut self, job: u32, outcome: Outcome) {
        let Some(running) = self.leave_lane(job) else {
            return;
        };
        let outcome = match (outcome, running.phase) {
            (Outcome::Done, Phase::Replay) => Outcome::Fresh,
            _ => outcome,
        };
        self.emit_end(&running, outcome);
        self.emit_tokens();
    }

    fn leave_lane(&mut self, job: u32) -> Option<Running> {
        let mut lanes = [&mut self.slots, &mut self.parked, &mut self.paused].into_iter();
        lanes.find_map(|lanes| lanes.take(job))
    }

    fn enter_lane(&mut self, mut running: Running, args: impl Serialize) {
        let lanes = self.lanes_of(running.phase);
        let free = lanes.jobs.iter().position(Option::is_none);
        let lane = free.unwrap_or(lanes.jobs.len());
        running.tid = lanes.first_tid + lane;
        if free.is_none() {
            lanes.jobs.push(None);
            let args = serde_json::json!({ "name": format!("{} {}", lanes.name, lane + 1) });
            self.emit("thread_name", None, 'M', running.tid, args);
        }
        self.emit(&running.name, Some("unit"), 'B', running.tid, args);
        self.emit_phase(&running, 'B');
        let lanes = self.lanes_of(running.phase);
        lanes.jobs[lane] = Some(running);
        self.emit_tokens();
    }

    fn lanes_of(&mut self, phase: Phase) -> &mut Lanes {
        match phase {
            Phase::Parked => &mut self.parked,
            Phase::Paused => &mut self.paused,
            _ => &mut self.slots,
        }
    }

    fn emit_end(&mut self, running: &Running, outcome: Outcome) {
        self.emit_phase(running, 'E');
        if matches!(outcome, Outcome::Done | Outcome::Fresh) {
            self.emit_artifact(running, Artifact::All);
        }
        let args = JobArgs {
            outcome: Some(outcome),
            reason: running.reason,
            ..running.args()
        };
        self.emit(&running.name, Some("unit"), 'E', running.tid, args);
    }

    fn emit_phase(&mut self, running: &Running, ph: char) {
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
        self.emit(name, Some("phase"), ph, running.tid, running.args());
    }

    fn emit_artifact(&mut self, running: &Running, artifact: Artifact) {
        let name = match artifact {
            Artifact::Metadata => "metadata",
            Artifact::All => "all",
        };
        self.emit(name, Some("artifact"), 'i', running.tid, running.args());
    }

    fn emit_tokens(&mut self) {
        let tokens = self.slots.jobs.iter().flatten().count();
        let args = serde_json::json!({ "tokens": tokens });
        self.emit("tokens in use", Some("tokens"), 'C', 1, args);
    }

    fn emit(&mut self, name: &str, cat: Option<&str>, ph: char, tid: usize, args: impl Serialize) {
        let ts = self.began.elapsed().as_micros();
        self.output.append(&Event {
            name,
            cat,
            ph,
            ts: u64::try_from(ts).unwrap_or(u64::MAX),
            pid: 1,
            tid,
            s: (ph == 'i').then_some('t'),
            args,
        });
    }
}

impl Lanes {
    fn take(&mut self, job: u32) -> Option<Running> {
        self.jobs
            .iter_mut()
            .find_map(|lane| lane.take_if(|running| running.job == job))
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

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Opening a named pipe would block, and what is written is written over later.
        if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            return Err(io::Error::other("not a regular file"));
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

    /// Writes the end of the array after the last event again, where a full disk has let only the
    /// beginning of another one be written. It was there, so there is room for it.
    fn close(&mut self) -> io::Result<()> {
        const END: &[u8] = b"\n]\n";
        self.file.seek(SeekFrom::Start(self.next_event))?;
        self.file.write_all(END)?;
        self.file.set_len(self.next_event + END.len() as u64)
    }

    /// Writes `text` over the end of the file. Its first `event_len` bytes stay.
    fn write(&mut self, text: &[u8], event_len: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.next_event))?;
        if let Err(e) = self.file.write_all(text) {
            self.close()?;
            return Err(e);
        }
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
            waited_for: [
                (7, Need::AllToStart),
                (9, Need::AllToLink),
                (4, Need::MetadataToStart),
            ]
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

    fn outcomes(events: &[Value]) -> Vec<&str> {
        events
            .iter()
            .filter(|event| event["cat"] == "unit" && event["ph"] == "E")
            .map(|event| event["args"]["outcome"].as_str().unwrap())
            .collect()
    }

    fn tokens(events: &[Value]) -> Vec<u64> {
        events
            .iter()
            .filter(|event| event["ph"] == "C")
            .map(|event| event["args"]["tokens"].as_u64().unwrap())
            .collect()
    }

    /// Run by [`full_disk_leaves_complete_json`] in a process that may not write large files.
    #[test]
    fn writes_until_the_disk_is_full() {
        let Some(path) = std::env::var_os("TRACE_ON_FULL_DISK") else {
            return;
        };
        let mut trace = Trace::create(Path::new(&path)).unwrap();
        for job in 0..1000 {
            trace.started(Phase::Compile, || unit(job, "a"));
            trace.finished(job, Outcome::Done);
        }
        trace.finish().unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn full_disk_leaves_complete_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let status = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "trace::tests::writes_until_the_disk_is_full"])
            .env("TRACE_ON_FULL_DISK", &path)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let events = read(&path);
        assert!(events.len() > 5 && events.len() < 1000, "{}", events.len());
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            let error = Trace::create(path).unwrap_err();
            let expected = format!(
                "failed to create `{}`, set by `build.trace`",
                path.display()
            );
            assert_eq!(error.to_string(), expected);
        }
        let mut none = Trace::create(Path::new("/dev/null")).unwrap();
        none.started(Phase::Compile, || unreachable!() as UnitInfo<'_, (), ()>);
        none.finish().unwrap();
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
        trace.finished(0, Outcome::Done);
        trace.started(Phase::Replay, || unit(2, "fresh"));
        trace.finished(2, Outcome::Done);
        trace.finished(1, Outcome::Failed);
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
        assert_eq!(outcomes(&events), ["done", "fresh", "failed"]);
        assert_eq!(tokens(&events), [1, 2, 1, 2, 1, 0]);
        let begin = events.iter().find(|event| event["cat"] == "unit").unwrap();
        assert_eq!(
            begin["args"],
            serde_json::json!({
                "job": 0, "unit": 10, "package": "core", "version": "1.2.3", "target": "core",
                "kind": ["lib"], "mode": "build", "waited_for": {"metadata": [4], "all_to_link": [9], "all": [7]},
            })
        );
    }

    #[test]
    fn the_reason_is_said_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let mut trace = Trace::create(&path).unwrap();
        trace.started(Phase::Run, || unit(0, "core"));
        trace.started(Phase::Replay, || unit(1, "lib"));
        trace.because(1, Reason::Cutoff);
        trace.finished(1, Outcome::Done);
        trace.finished(0, Outcome::Done);
        trace.finish().unwrap();
        let events = read(&path);
        assert_eq!(outcomes(&events), ["fresh", "done"]);
        let ends = events
            .iter()
            .filter(|event| event["cat"] == "unit" && event["ph"] == "E");
        let reasons: Vec<_> = ends.map(|event| &event["args"]["reason"]).collect();
        assert_eq!(reasons, [&Value::from("cutoff"), &Value::Null]);
    }

    #[test]
    fn a_parked_job_holds_no_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let mut trace = Trace::create(&path).unwrap();
        trace.started(Phase::Compile, || unit(0, "bin"));
        trace.parked(0);
        trace.started(Phase::Run, || unit(1, "lib"));
        trace.linking(0);
        trace.finished(1, Outcome::Done);
        trace.started(Phase::Compile, || unit(2, "test"));
        trace.parked(2);
        trace.finished(2, Outcome::Aborted);
        trace.finished(0, Outcome::Done);
        trace.finish().unwrap();

        let events = read(&path);
        assert_eq!(
            outline(&events),
            [
                "B 1 unit bin v1.2.3",
                "B 1 phase compile",
                "E 1 phase compile",
                "E 1 unit bin v1.2.3",
                "B 1001 unit bin v1.2.3",
                "B 1001 phase parked",
                "B 1 unit lib v1.2.3",
                "B 1 phase run",
                "E 1001 phase parked",
                "E 1001 unit bin v1.2.3",
                "B 2 unit bin v1.2.3",
                "B 2 phase link",
                "E 1 phase run",
                "i 1 artifact all",
                "E 1 unit lib v1.2.3",
                "B 1 unit test v1.2.3",
                "B 1 phase compile",
                "E 1 phase compile",
                "E 1 unit test v1.2.3",
                "B 1001 unit test v1.2.3",
                "B 1001 phase parked",
                "E 1001 phase parked",
                "E 1001 unit test v1.2.3",
                "E 2 phase link",
                "i 2 artifact all",
                "E 2 unit bin v1.2.3",
            ]
        );
        assert_eq!(tokens(&events), [1, 0, 1, 2, 1, 2, 1, 1, 0]);
        assert_eq!(
            outcomes(&events),
            ["parked", "linking", "done", "parked", "aborted", "done"]
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
        trace.finished(0, Outcome::Done);
        trace.finish().unwrap();
    }
}
