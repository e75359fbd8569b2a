//! Builds in which something links a library that is not finished, for as long as the test wants.
//!
//! The library is always called `slow`. A wrapper around rustc holds it back: its metadata is
//! announced, its rlib is not there. So what links it has to start early, and to wait, or the build
//! comes to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, RawOutput, project, str};
use nix::sys::signal::{SigHandler, signal};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{BuildTrace, ProjectExt};

/// How long anything may take that takes no time, on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn await_that(what: &str, is_so: impl FnMut() -> bool) {
    await_within(DEADLINE, what, is_so);
}

#[track_caller]
fn await_within(deadline: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A wrapper around rustc that holds `slow` until a command succeeds, which may be one of these.
///
/// * `parked N`: so many have parked at their linkers,
/// * `released`: [`Running::release`] has been called,
/// * `compiled NAME`: `body` has called `mark NAME`, or any other command.
///
/// `body` is the rest of it. `$name` is the name of the crate, `$type` its type, `test` for what
/// has a test harness, and `$@` the command.
pub fn wrapper(until: &str, body: &str) -> String {
    format!(
        r#"#!/bin/sh
before= name= type= out= extra=
for arg; do
    case $before in
        --crate-name) name=$arg ;;
        --crate-type) type=$arg ;;
        --out-dir) out=$arg ;;
        -C) case $arg in extra-filename=*) extra=${{arg#*=}} ;; esac ;;
    esac
    [ "$arg" = --test ] && type=test
    before=$arg
done
await() {{
    [ -n "$HOLD" ] || return
    for i in $(seq 1200); do
        "$@" && return
        sleep 0.05
    done
    echo "the wrapper waited in vain for: $*" >&2
    exit 1
}}
parked() {{ [ "$(grep -c '"name":"parked".*"ph":"B"' "$CARGO_BUILD_TRACE")" -ge $1 ]; }}
released() {{ [ -e go ]; }}
mark() {{ : >"marked-$1"; }}
compiled() {{ [ -e "marked-$1" ]; }}
hold() {{
    "$@" 2>"said$extra"
    status=$?
    rlib="$out/lib$name$extra.rlib"
    if [ -e "$rlib" ]; then mv "$rlib" "$rlib.real"; fi
    sed '/"emit":"metadata"/q' "said$extra" >&2
    await {until}
    if [ -e "$rlib.real" ]; then mv "$rlib.real" "$rlib"; fi
    sed '1,/"emit":"metadata"/d' "said$extra" >&2
    rm "said$extra"
    exit $status
}}
if [ "$name/$type" = slow/lib ]; then hold "$@"; fi
{body}
exec "$@"
"#
    )
}

/// The wrapper for most: one has to park.
pub fn until_one_is_parked() -> String {
    wrapper("parked 1", "")
}

/// The package `foo`, on `slow`, without a target. `manifest` goes to the end of its manifest.
pub fn foo_on_slow(manifest: &str) -> ProjectBuilder {
    foo("dependencies", manifest)
}

/// The same, but it is a dependency of another kind.
pub fn foo(kind_of_dependency: &str, manifest: &str) -> ProjectBuilder {
    let workspace = match manifest.contains("[workspace]") {
        true => "",
        false => "[workspace]",
    };
    project()
        .file(
            "Cargo.toml",
            &format!(
                r#"
                    [package]
                    name = "foo"
                    version = "0.1.0"
                    edition = "2021"

                    [{kind_of_dependency}]
                    slow = {{ path = "slow" }}

                    {manifest}

                    {workspace}
                "#
            ),
        )
        .file(
            "slow/Cargo.toml",
            r#"
                [package]
                name = "slow"
                version = "0.1.0"
                edition = "2021"
            "#,
        )
        .file("slow/src/lib.rs", "pub fn slow() -> u32 { 1 }")
        .executable("wrapper", &until_one_is_parked())
}

/// A binary that prints what `slow` says.
pub const MAIN: &str = r#"fn main() { println!("slow says {}", slow::slow()); }"#;

/// The binary `foo` on `slow`, which prints what that says.
pub fn bin_on_slow() -> ProjectBuilder {
    foo_on_slow("").file("src/main.rs", MAIN)
}

/// A linker that is `cc` and writes down how it was called, under the name of the file.
pub fn recording_linker() -> &'static str {
    r#"#!/bin/sh
for arg; do
    [ "$before" = -o ] && output=$arg
    before=$arg
done
echo "$0 made $output" >>linked
exec cc "$@"
"#
}

pub trait GatedExt {
    /// `cargo LINE` with the wrapper and four jobs, and a trace, in the directory of the project.
    fn wrapped(&self, line: &str) -> Execs;

    /// The same, and `slow` is held.
    fn held(&self, line: &str) -> Execs;

    /// What `cargo LINE`, held, says, which must fail.
    fn fails(&self, line: &str) -> Said;

    /// `cargo LINE`, held, which must succeed, leave nothing behind, and be sound.
    fn built(&self, line: &str) -> BuildTrace;

    /// Runs the binary `foo`.
    fn run_foo(&self);
}

impl GatedExt for Project {
    fn wrapped(&self, line: &str) -> Execs {
        let mut execs = self.cargo(line);
        execs
            .env("RUSTC_WRAPPER", self.root().join("wrapper"))
            .env("CARGO_BUILD_JOBS", "4")
            .env("CARGO_BUILD_TRACE", self.root().join("trace.json"));
        execs
    }

    fn held(&self, line: &str) -> Execs {
        let mut execs = self.wrapped(line);
        execs.env("HOLD", "1");
        execs
    }

    fn built(&self, line: &str) -> BuildTrace {
        self.held(line).run();
        assert_tidy(&self.root());
        let trace = self.trace();
        trace.assert_sound(4);
        trace
    }

    fn fails(&self, line: &str) -> Said {
        let output = self
            .held(line)
            .with_status(101)
            .with_stderr_data(str!["..."])
            .run();
        Said::of(&output)
    }

    fn run_foo(&self) {
        self.process(self.bin("foo"))
            .with_stdout_data("slow says 1\n")
            .run();
    }
}

/// What cargo says, as far as it can be compared.
#[derive(Debug, PartialEq)]
pub struct Said {
    pub status: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Said {
    pub fn of(output: &RawOutput) -> Self {
        let sorted = |stream: &[u8]| {
            let text = String::from_utf8_lossy(stream);
            let mut lines: Vec<String> = text.lines().map(redacted).collect();
            lines.sort();
            lines
        };
        Said {
            status: output.code,
            stdout: sorted(&output.stdout),
            stderr: sorted(&output.stderr),
        }
    }

    /// Asserts that it is the same, and shows what is not.
    #[track_caller]
    pub fn assert_equals(&self, expected: &Said) {
        assert_eq!(self.status, expected.status, "{self:#?}");
        for (actual, expected) in [
            (&self.stdout, &expected.stdout),
            (&self.stderr, &expected.stderr),
        ] {
            let only_in = |these: &[String], those: &[String]| -> Vec<String> {
                let only = these.iter().filter(|line| !those.contains(line));
                only.cloned().collect()
            };
            assert!(
                actual == expected,
                "expected, but not said: {:#?}, said, but not expected: {:#?}",
                only_in(expected, actual),
                only_in(actual, expected),
            );
        }
    }

    /// The lines of stderr that hold the text.
    pub fn count(&self, text: &str) -> usize {
        self.stderr
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }
}

/// A line without what differs from one build to the next: times, numbers of threads and rustc's
/// temporary directories (`rustcAb3dE6`).
fn redacted(line: &str) -> String {
    let mut redacted = match line.find("target(s) in ") {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    };
    if let (true, Some(at)) = (
        redacted.starts_with("thread '"),
        redacted.find(" panicked at"),
    ) {
        redacted.replace_range(.."thread".len().max(at), "thread");
    }
    let mut from = 0;
    while let Some(at) = redacted[from..].find("/rustc") {
        from += at + "/rustc".len();
        let name: String = redacted[from..]
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if name.len() == 6 {
            redacted.replace_range(from..from + 6, "[TMP]");
        }
    }
    redacted
}

/// What `cargo LINE` says in the modes `metadata` and `link`, one after the other, each from
/// nothing. In the second, `slow` is held. `set` is called for both.
pub fn in_both_modes(
    p: &Project,
    line: &str,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> (Said, Said) {
    let said = |mode| {
        forget(p);
        let mut execs = match mode {
            "link" => p.held(line),
            _ => p.wrapped(line),
        };
        execs.env("CARGO_BUILD_PIPELINING", mode).without_status();
        Said::of(&set(&mut execs).run())
    };
    let metadata = said("metadata");
    (metadata, said("link"))
}

/// Removes what a build and the wrapper have left behind.
pub fn forget(p: &Project) {
    p.build_dir().rm_rf();
    for entry in fs::read_dir(p.root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "go" || name == "linked" || name.starts_with("marked-") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Asserts that `cargo LINE` says the same in both modes, and nothing about the gate.
#[track_caller]
pub fn assert_the_same_is_said(
    p: &Project,
    line: &str,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> Said {
    let (mut metadata, mut link) = in_both_modes(p, line, set);
    for said in [&mut metadata, &mut link] {
        // Whether other jobs still run is what the modes are about.
        said.stderr
            .retain(|line| !line.contains("waiting for other jobs to finish"));
        for line in said.stdout.iter().chain(&said.stderr) {
            assert!(!line.contains("link-gate"), "{line}");
        }
    }
    link.assert_equals(&metadata);
    link
}

/// A cargo that runs, in a process group of its own. Dropping it kills that.
pub struct Running {
    child: Child,
    root: PathBuf,
    stderr: PathBuf,
    ended: bool,
}

impl Running {
    pub fn start(p: &Project, execs: &mut Execs) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stderr = p.root().join(format!("stderr-{number}"));
        let file = fs::File::create(&stderr).unwrap();
        let mut command = execs.build_command();
        command
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(file);
        // Whoever runs the tests in the background of a script has this ignored, and so would have
        // the build.
        // SAFETY: the default action is no handler that could do anything unsafe.
        unsafe { signal(nix::sys::signal::SIGINT, SigHandler::SigDfl) }.unwrap();
        Running {
            child: command.spawn().unwrap(),
            root: p.root(),
            stderr,
            ended: false,
        }
    }

    /// Starts `cargo LINE`, in which `slow` is held until it is [released](Self::release), and waits
    /// until so many have parked.
    pub fn parked(p: &Project, line: &str, count: usize) -> Self {
        let running = Running::start(p, &mut p.held(line));
        running.await_parked(count);
        running
    }

    /// Waits until so many have parked.
    #[track_caller]
    pub fn await_parked(&self, count: usize) {
        await_that("parked", || self.count_parked() >= count);
    }

    fn count_parked(&self) -> usize {
        let text = fs::read_to_string(self.root.join("trace.json")).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(r#""name":"parked""#) && line.contains(r#""ph":"B""#))
            .count()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// Lets `slow` go.
    pub fn release(&self) {
        fs::write(self.root.join("go"), "").unwrap();
    }

    /// Waits for it.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(DEADLINE)
    }

    /// Waits for it, but no longer than so.
    #[track_caller]
    pub fn wait_within(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        await_within(deadline, "cargo ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.ended = true;
        status.unwrap()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Lets `slow` go, and asserts that the build succeeds.
    #[track_caller]
    pub fn finish(mut self) {
        self.release();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.stderr());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// A process that works in a directory.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub args: Vec<String>,
}

impl Process {
    /// Whether it compiles the crate, or links it.
    pub fn is_of(&self, name: &str) -> bool {
        let pairs = self.args.windows(2);
        let mut compiles = pairs.filter(|pair| pair[0] == "--crate-name");
        let object = format!("/{name}-");
        compiles.any(|pair| pair[1] == name)
            || self.is_shim() && self.args.iter().any(|arg| arg.contains(&object))
    }

    /// Whether it is a linker that waits.
    pub fn is_shim(&self) -> bool {
        self.args[0].contains("/.link-gate/")
    }

    /// Whether it is rustc, and nothing that wraps it.
    pub fn is_rustc(&self) -> bool {
        Path::new(&self.args[0]).file_name().unwrap() == "rustc"
    }
}

/// The processes whose working directory is `root` or in it.
pub fn processes_in(root: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (Ok(pid), Ok(cwd)) = (name.parse(), fs::read_link(path.join("cwd"))) else {
            continue;
        };
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        // One that is no more has none.
        if cwd.starts_with(root) && !command.is_empty() {
            let args = command.split(|byte| *byte == 0);
            let args = args.map(|arg| String::from_utf8_lossy(arg).into_owned());
            found.push(Process {
                pid,
                args: args.collect(),
            });
        }
    }
    found
}

/// Waits until no process of a build is left.
#[track_caller]
pub fn await_nobody_in(root: &Path) {
    await_that("no process is left", || processes_in(root).is_empty());
}

/// All that is below a directory, symlinks not followed. What vanishes meanwhile is left out.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// The directories of gates.
pub fn gates(root: &Path) -> Vec<PathBuf> {
    let mut found = walk(root);
    found.retain(|path| path.file_name().is_some_and(|it| it == ".link-gate"));
    found
}

/// Everything that a gate keeps, of the one gate there is.
pub fn gate(root: &Path) -> PathBuf {
    match &gates(root)[..] {
        [gate] => gate.clone(),
        gates => panic!("not one gate: {gates:?}"),
    }
}

/// The rlibs that have no code.
pub fn hollow_rlibs(root: &Path) -> Vec<PathBuf> {
    let mut found = walk(root);
    found.retain(|path| {
        let is_file = fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
        let content = match is_file {
            true => fs::read(path).unwrap_or_default(),
            false => Vec::new(),
        };
        let header = content.len().saturating_sub(60);
        content.starts_with(b"!<arch>\n") && content[header..].starts_with(b"hollow/ ")
    });
    found
}

/// No paths.
pub const NONE: [PathBuf; 0] = [];

/// Asserts that nothing of a gate is left.
#[track_caller]
pub fn assert_tidy(root: &Path) {
    assert_eq!(gates(root), NONE);
    assert_eq!(hollow_rlibs(root), NONE);
}

/// The files that a build has made for somebody to run or to link, by path.
pub fn artifacts(target: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in walk(target) {
        let is_artifact = match path.extension().map(OsStrExt::as_bytes) {
            Some(extension) => [&b"rlib"[..], b"rmeta", b"so", b"a"].contains(&extension),
            None => is_elf(&path).unwrap_or_default(),
        };
        if is_artifact {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

fn is_elf(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file() && fs::read(path)?.starts_with(b"\x7fELF"))
}
