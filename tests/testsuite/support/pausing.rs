//! A build with two jobs in which a compiler is paused, for as long as the test wants.
//!
//! ```text
//!   slot 1    [ slow: frontend ][ urgent            ] …
//!   slot 2    [ busy                                  …
//!   paused                      [ slow: codegen     ] …
//! ```
//!
//! `foo`, a binary, links all three. `urgent` needs the metadata of `slow`, has much more source, and so
//! is on the longest path; `busy` holds the other slot. In the place of rustc is a script that says how
//! far each of them has come, and goes on when it is told to. So everything happens in the order that a
//! test wants, and what does not happen keeps nobody waiting for more than a minute.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cargo_test_support::{Execs, Project, basic_lib_manifest, project};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::gated::{Process, Running, await_that, processes_in};
use super::{BuildTrace, ProjectExt, replacement};

/// No test waits so long for a word.
const DEADLINE: Duration = Duration::from_secs(60);

/// What stands in for rustc. At each door it says where it is, and reads whether to go on; where there
/// is no door, it is rustc. Cargo pauses nothing but the rustc of the sysroot, so in the sysroot that this
/// one says to have, the shell is it.
const RUSTC: &str = r#"#!/bin/sh
before= name= out= extra=
for arg; do
    case $before in
        --crate-name) name=$arg ;;
        --out-dir) out=$arg ;;
        -C) case $arg in extra-filename=*) extra=${arg#*=} ;; esac ;;
    esac
    before=$arg
done
door() {
    [ -p "$DOORS/$1" ] || return 0
    echo "$1" >"$DOORS/said"
    read -r word <"$DOORS/$1"
    [ "$word" = go ] && return 0
    echo "error: \`$1\` was told to $word" >&2
    exit 1
}
case " $* " in
*" --print=sysroot "*)
    said=$(rustc "$@") || exit
    echo "$said" | sed "s|^$(rustc --print sysroot)\$|$0.sysroot|"
    exit ;;
esac
door "$name"
[ -p "$DOORS/$name-codegen" ] || exec rustc "$@"
rustc "$@" 2>"$DOORS/$name-says" || exit 1
rlib="$out/lib$name$extra.rlib"
mv "$rlib" "$rlib.real"
sed '/"emit":"metadata"/q' "$DOORS/$name-says" >&2
door "$name-codegen"
mv "$rlib.real" "$rlib"
sed '1,/"emit":"metadata"/d' "$DOORS/$name-says" >&2
"#;

/// The doors that there are: where a compiler begins, and where its metadata is written.
const DOORS: [&str; 4] = ["slow", "slow-codegen", "busy", "urgent"];

/// The doors of a build, as named pipes, and what is heard through them. Dropping it removes them, and
/// kills who is still there.
pub struct Doors {
    dir: PathBuf,
    root: PathBuf,
    /// Both ends of each in one hand, so that nobody waits for the other to come.
    open: Vec<(String, File)>,
    said: File,
    /// What is typed at the terminal, where there is one.
    keys: File,
    heard: Vec<String>,
}

impl Doors {
    fn make(p: &Project) -> Self {
        let dir = p.root().join("doors");
        std::fs::create_dir(&dir).unwrap();
        let make = |name: &str| {
            let path = dir.join(name);
            let made = Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.unwrap()
        };
        Doors {
            open: DOORS.map(|name| (name.to_owned(), make(name))).into(),
            said: make("said"),
            keys: make("keys"),
            heard: Vec::new(),
            root: p.root(),
            dir,
        }
    }

    /// Lets through who comes to this door.
    pub fn pass(&self, door: &str) {
        self.tell(door, "go");
    }

    /// Has fail who comes to this door.
    pub fn fail(&self, door: &str) {
        self.tell(door, "fail");
    }

    fn tell(&self, door: &str, word: &str) {
        let (_, pipe) = self.open.iter().find(|(name, _)| name == door).unwrap();
        let mut pipe: &File = pipe;
        writeln!(pipe, "{word}").unwrap();
    }

    /// Lets through who comes to any door.
    pub fn pass_all(&self) {
        for (door, _) in &self.open {
            self.pass(door);
        }
    }

    /// Types that at the terminal of a build that [runs in one](Build::paused_in_terminal).
    pub fn press(&self, keys: &str) {
        (&self.keys).write_all(keys.as_bytes()).unwrap();
    }

    /// Blocks until somebody has come to this door.
    #[track_caller]
    pub fn await_at(&mut self, door: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.heard.iter().any(|heard| heard == door) {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap();
            let mut fds = [PollFd::from_borrowed_fd(self.said.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => panic!("waited in vain for {door}, heard {:?}", self.heard),
                Ok(_) => self.hear(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A line is written at once, so all of it is there.
    fn hear(&mut self) {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.said.read_exact(&mut byte).unwrap();
            if byte == *b"\n" {
                break;
            }
            line.extend(byte);
        }
        self.heard.push(String::from_utf8(line).unwrap());
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
        for process in processes_in(&self.root) {
            let _ = kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL);
        }
    }
}

/// The packages.
pub fn slow_busy_and_urgent() -> Project {
    // How urgent a unit is that was never built is guessed from the size of its source. These are so far
    // apart that it makes no difference how long this rustc takes.
    let padded = |code: &str, size: usize| format!("{code}\n//{}\n", " ".repeat(size));
    let p = project()
        .file(
            "Cargo.toml",
            r#"
                [package]
                name = "foo"
                version = "0.1.0"
                edition = "2021"

                [dependencies]
                slow = { path = "slow" }
                busy = { path = "busy" }
                urgent = { path = "urgent" }

                [workspace]
            "#,
        )
        .file(
            "src/main.rs",
            r#"fn main() { println!("{}", busy::busy() + urgent::urgent()); }"#,
        )
        .file("slow/Cargo.toml", &basic_lib_manifest("slow"))
        .file(
            "slow/src/lib.rs",
            &padded("pub fn slow() -> u32 { 1 }", 1_000_000),
        )
        .file("busy/Cargo.toml", &basic_lib_manifest("busy"))
        .file("busy/src/lib.rs", "pub fn busy() -> u32 { 1 }")
        .file(
            "urgent/Cargo.toml",
            &format!(
                "{}\n[dependencies]\nslow = {{ path = '../slow' }}",
                basic_lib_manifest("urgent")
            ),
        )
        .file(
            "urgent/src/lib.rs",
            &padded("pub fn urgent() -> u32 { slow::slow() }", 9_000_000),
        )
        .executable("rustc", RUSTC)
        .build();
    let bin = p.root().join("rustc.sysroot/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("rustc")).unwrap();
    p
}

pub trait PausingExt {
    /// `cargo LINE`, in which the script stands in for rustc, with a trace.
    fn with_doors(&self, line: &str) -> Execs;
}

impl PausingExt for Project {
    fn with_doors(&self, line: &str) -> Execs {
        let mut execs = self.cargo(line);
        execs.with_doors_of(self);
        execs
    }
}

/// Sets what the script needs to know.
pub trait DoorsExt {
    fn with_doors_of(&mut self, p: &Project) -> &mut Self;
}

impl DoorsExt for Execs {
    fn with_doors_of(&mut self, p: &Project) -> &mut Self {
        self.env("RUSTC", p.root().join("rustc"))
            .env("DOORS", p.root().join("doors"))
            .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
    }
}

/// A build that runs.
pub struct Build {
    pub p: Project,
    pub cargo: Running,
    pub doors: Doors,
}

impl Build {
    /// Starts this cargo, and lets `slow` go on to its codegen when `busy` has the other slot.
    pub fn start(p: Project, cargo: Execs) -> Self {
        let mut build = Build::unwatched(p, cargo);
        build.doors.await_at("busy");
        build.doors.pass("slow");
        build
    }

    /// Starts this cargo, which has one slot, and lets `slow` go on to its codegen.
    pub fn start_with_one_slot(p: Project, cargo: Execs) -> Self {
        let build = Build::unwatched(p, cargo);
        build.doors.pass("slow");
        build
    }

    /// Starts `cargo LINE` from a shell with a terminal of its own, and waits until `slow` is paused.
    pub fn paused_in_terminal(line: &str) -> Self {
        let p = slow_busy_and_urgent();
        let mut terminal = p.process("sh");
        terminal
            .args(&["-c", "exec script -qec 'exec sh -i' /dev/null <doors/keys"])
            .env("SHELL", "/bin/sh")
            .env("CARGO", replacement())
            .with_doors_of(&p);
        let doors = Doors::make(&p);
        let cargo = Running::start(&p, &mut terminal);
        doors.press(&format!("\"$CARGO\" {line}\n"));
        Build { p, cargo, doors }.watched()
    }

    fn unwatched(p: Project, mut cargo: Execs) -> Self {
        let doors = Doors::make(&p);
        let cargo = Running::start(&p, &mut cargo);
        Build { p, cargo, doors }
    }

    /// Starts `cargo LINE`, and waits until `slow` is paused and `urgent` has its slot.
    pub fn paused(line: &str) -> Self {
        let p = slow_busy_and_urgent();
        let cargo = p.with_doors(line);
        Build::paused_by(p, cargo)
    }

    /// The same with this cargo.
    pub fn paused_by(p: Project, cargo: Execs) -> Self {
        Build::unwatched(p, cargo).watched()
    }

    fn watched(mut self) -> Self {
        self.doors.await_at("busy");
        self.doors.pass("slow");
        self.doors.await_at("urgent");
        // Processes stop one thread after the other.
        await_that("slow is stopped", || self.stopped() == ["slow"]);
        self
    }

    /// The crates whose compilers are stopped.
    pub fn stopped(&self) -> Vec<&'static str> {
        let stopped = stopped_in(&self.p.root());
        let is_stopped = |name: &&str| stopped.iter().any(|it| it.is_of(name));
        ["slow", "busy", "urgent", "foo"]
            .into_iter()
            .filter(is_stopped)
            .collect()
    }

    /// Waits until cargo has heard that the metadata of `slow` is written, and so has decided whether to
    /// pause it.
    #[track_caller]
    pub fn await_metadata(&self) {
        let trace = self.p.root().join("trace.json");
        await_that("cargo knows of the metadata", || {
            let text = std::fs::read_to_string(&trace).unwrap_or_default();
            text.contains(r#""name":"metadata""#)
        });
    }

    /// The process that compiles `slow`.
    pub fn compiler_of_slow(&self) -> Pid {
        let processes = processes_in(&self.p.root());
        let mut compilers = processes.iter().filter(|it| it.is_of("slow"));
        let compiler = compilers.next().unwrap_or_else(|| panic!("{processes:#?}"));
        Pid::from_raw(compiler.pid).unwrap()
    }

    /// Waits until nothing is stopped any more.
    #[track_caller]
    pub fn await_nothing_stopped(&self) {
        await_that("nothing is stopped", || {
            stopped_in(&self.p.root()).is_empty()
        });
    }

    /// Waits until the build is over, and nothing of it is left.
    #[track_caller]
    pub fn await_nobody(&self) {
        super::gated::await_nobody_in(&self.p.root());
    }

    /// Lets everything go, and returns the trace of the build, which must succeed.
    #[track_caller]
    pub fn succeed(mut self, jobs: u64) -> BuildTrace {
        self.succeeds(jobs)
    }

    /// The same, where more is to be asked of the project.
    #[track_caller]
    pub fn succeeds(&mut self, jobs: u64) -> BuildTrace {
        self.doors.pass_all();
        let status = self.cargo.wait();
        assert!(status.success(), "{status}: {}", self.cargo.stderr());
        self.await_nobody();
        run_foo(&self.p);
        let trace = self.p.trace();
        trace.assert_sound(jobs);
        trace
    }
}

/// Runs the binary.
pub fn run_foo(p: &Project) {
    p.process(p.bin("foo")).with_stdout_data("2\n").run();
}

/// The processes in a directory that are stopped (proc_pid_stat(5)).
pub fn stopped_in(root: &Path) -> Vec<Process> {
    let mut processes = processes_in(root);
    processes.retain(|process| stat(process.pid).is_some_and(|stat| stat.starts_with('T')));
    processes
}

/// What `/proc/PID/stat` says, from the state on.
fn stat(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.trim_start().to_owned())
}
