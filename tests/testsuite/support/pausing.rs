//! A build with two jobs in which a compiler is paused, for as long as the test wants.
//!
//! ```text
//!   slot 1    [ slow: frontend ][ urgent            ] …
//!   slot 2    [ busy                                  …
//!   paused                      [ slow: codegen     ] …
//! ```
//!
//! `foo`, a binary, links all three. `urgent` needs the metadata of `slow`, has much more source, and so
//! is on the critical path; `busy` holds the other slot. In the place of rustc is a script that waits at
//! *doors*, where each compiler begins and where `slow` has written its metadata, until the test lets it
//! pass. So everything happens in the order that a test wants.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cargo_test_support::{Execs, Project, basic_lib_manifest, paths, project};

use super::gated::ARGUMENTS;
use super::running::{Process, Running, await_no_process, processes_in, wait_until};
use super::{BuildTrace, BuilderExt, ProjectExt, manifest, mkfifo, replacement};

/// Stands in for rustc. At each door it reports its arrival, and reads whether to go on; where there is no
/// door, it is rustc. It holds `MEMORY` bytes before its metadata is announced. Cargo pauses only the rustc
/// of the sysroot, so the sysroot that this one reports has the shell for rustc.
const RUSTC: &str = r#"
door() {
    [ -p "$DOORS/$1" ] || return 0
    : >"$DOORS/at-$1"
    read -r word <"$DOORS/$1"
    [ "$word" = go ] && return 0
    echo "error: \`$1\` was told to $word" >&2
    exit 1
}
case " $* " in
*" --print=sysroot "*)
    output=$(rustc "$@") || exit
    echo "$output" | sed "s|^$(rustc --print sysroot)\$|$0.sysroot|"
    exit ;;
esac
door "$name"
[ -p "$DOORS/$name-codegen" ] || exec rustc "$@"
rustc "$@" 2>"$DOORS/$name-stderr" || exit 1
memory=$(head -c "${MEMORY:-0}" /dev/zero | tr '\0' x)
rlib="$out/lib$name$extra.rlib"
mv "$rlib" "$rlib.real"
sed '/"emit":"metadata"/q' "$DOORS/$name-stderr" >&2
door "$name-codegen"
mv "$rlib.real" "$rlib"
sed '1,/"emit":"metadata"/d' "$DOORS/$name-stderr" >&2
"#;

const DOORS: [&str; 4] = ["slow", "slow-codegen", "busy", "urgent"];

/// The doors of a build, as named pipes. Dropping them kills what still waits there.
pub struct Doors {
    dir: PathBuf,
    root: PathBuf,
    /// Both ends of each pipe, so that opening one does not block.
    open: Vec<(&'static str, File)>,
    /// The input of the terminal, where there is one.
    keys: File,
}

impl Doors {
    fn make(p: &Project) -> Self {
        let dir = p.root().join("doors");
        std::fs::create_dir(&dir).unwrap();
        let make = |name: &str| {
            let path = mkfifo(p, &format!("doors/{name}"));
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.unwrap()
        };
        Doors {
            open: DOORS.map(|name| (name, make(name))).into(),
            keys: make("keys"),
            root: p.root(),
            dir,
        }
    }

    /// Lets the compiler at this door pass.
    pub fn pass(&self, door: &str) {
        self.write(door, "go");
    }

    /// Makes the compiler at this door fail.
    pub fn fail(&self, door: &str) {
        self.write(door, "fail");
    }

    fn write(&self, door: &str, word: &str) {
        let (_, pipe) = self.open.iter().find(|(name, _)| *name == door).unwrap();
        let mut pipe: &File = pipe;
        writeln!(pipe, "{word}").unwrap();
    }

    pub fn pass_all(&self) {
        for (door, _) in &self.open {
            self.pass(door);
        }
    }

    /// Types at the terminal of a build that [runs in one](Build::paused_in_terminal).
    pub fn press(&self, keys: &str) {
        (&self.keys).write_all(keys.as_bytes()).unwrap();
    }

    /// Blocks until a compiler has arrived at this door.
    #[track_caller]
    pub fn await_at(&self, door: &str) {
        let arrived = self.dir.join(format!("at-{door}"));
        wait_until(door, || arrived.exists());
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
        for process in processes_in(&self.root) {
            process.kill();
        }
    }
}

pub fn slow_busy_and_urgent() -> Project {
    // The cost of a unit that was never built is guessed from the size of its source. These are so far
    // apart that it makes no difference how long this rustc takes.
    // What an earlier build of the same test has measured would be known.
    let _ = std::fs::remove_file(paths::home().join(".cargo/.build-costs"));
    let padded = |code: &str, size: usize| format!("{code}\n//{}\n", " ".repeat(size));
    let on_all = "[dependencies]\nslow.path = 'slow'\nbusy.path = 'busy'\nurgent.path = 'urgent'
        [workspace]";
    let on_slow = "[dependencies]\nslow.path = '../slow'";
    let p = project()
        .file("Cargo.toml", &manifest("foo", on_all))
        .file(
            "src/main.rs",
            r#"fn main() { println!("{}", busy::busy() + urgent::urgent()); }"#,
        )
        .file("slow/Cargo.toml", &basic_lib_manifest("slow"))
        .file(
            "slow/src/lib.rs",
            &padded("pub fn slow() -> u32 { 1 }", 1_000_000),
        )
        .lib("busy", "", "pub fn busy() -> u32 { 1 }")
        .file(
            "urgent/Cargo.toml",
            &format!("{}\n{on_slow}", basic_lib_manifest("urgent")),
        )
        .file(
            "urgent/src/lib.rs",
            &padded("pub fn urgent() -> u32 { slow::slow() }", 9_000_000),
        )
        .executable("rustc", &format!("{ARGUMENTS}{RUSTC}"))
        .build();
    let bin = p.root().join("rustc.sysroot/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("rustc")).unwrap();
    p
}

/// Puts the script in the place of rustc, and has cargo write a trace.
pub fn set_doors<'e>(p: &Project, cargo: &'e mut Execs) -> &'e mut Execs {
    cargo
        .env("RUSTC", p.root().join("rustc"))
        .env("DOORS", p.root().join("doors"))
        .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
}

/// A build that runs.
pub struct Build {
    pub p: Project,
    pub cargo: Running,
    pub doors: Doors,
}

impl Build {
    pub fn new(p: Project, mut cargo: Execs) -> Self {
        let doors = Doors::make(&p);
        let cargo = Running::start(&p, set_doors(&p, &mut cargo));
        Build { p, cargo, doors }
    }

    /// Starts this cargo, and lets `slow` go on to its codegen when `busy` has the other slot.
    pub fn start(p: Project, cargo: Execs) -> Self {
        let build = Build::new(p, cargo);
        build.doors.await_at("busy");
        build.doors.pass("slow");
        build
    }

    /// Starts `cargo LINE`, and waits until `slow` is paused and `urgent` has its slot.
    pub fn paused(line: &str) -> Self {
        let p = slow_busy_and_urgent();
        let cargo = p.cargo(line);
        Build::paused_by(p, cargo)
    }

    /// The same with this cargo.
    pub fn paused_by(p: Project, cargo: Execs) -> Self {
        Build::new(p, cargo).await_pause()
    }

    /// The same in a shell with a terminal of its own.
    pub fn paused_in_terminal(line: &str) -> Self {
        Build::in_terminal(&format!("\"$CARGO\" {line}")).await_pause()
    }

    /// Types a line into a shell with a terminal of its own.
    pub fn in_terminal(line: &str) -> Self {
        let p = slow_busy_and_urgent();
        let mut terminal = p.process("sh");
        terminal
            .args(&["-c", "exec script -qec 'exec sh -i' /dev/null <doors/keys"])
            .env("SHELL", "/bin/sh")
            .env("CARGO", replacement());
        let build = Build::new(p, terminal);
        build.doors.press(&format!("{line}\n"));
        build
    }

    fn await_pause(self) -> Self {
        self.doors.await_at("busy");
        self.doors.pass("slow");
        self.doors.await_at("urgent");
        // Processes stop one thread after the other.
        wait_until("slow is stopped", || self.stopped() == ["slow"]);
        self
    }

    /// Returns the crates whose compilers are stopped.
    pub fn stopped(&self) -> Vec<&'static str> {
        let stopped = stopped_in(&self.p.root());
        let mut crates = vec!["slow", "busy", "urgent", "foo"];
        crates.retain(|name| stopped.iter().any(|it| it.is_of(name)));
        crates
    }

    /// Waits until cargo has received the metadata of `slow`, and so has decided whether to pause it.
    #[track_caller]
    pub fn await_metadata(&self) {
        let trace = self.p.root().join("trace.json");
        wait_until("cargo has received the metadata", || {
            let text = std::fs::read_to_string(&trace).unwrap_or_default();
            text.contains(r#""name":"metadata""#)
        });
    }

    #[track_caller]
    pub fn await_nothing_stopped(&self) {
        let root = self.p.root();
        wait_until("nothing is stopped", || stopped_in(&root).is_empty());
    }

    /// Lets everything pass, and returns the trace of the build, which must succeed.
    #[track_caller]
    pub fn succeed(&mut self, jobs: u64) -> BuildTrace {
        self.doors.pass_all();
        let status = self.cargo.wait();
        assert!(status.success(), "{status}: {}", self.cargo.stderr());
        await_no_process(&self.p.root());
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

/// Returns the processes in a directory that are stopped (proc_pid_stat(5)).
fn stopped_in(root: &Path) -> Vec<Process> {
    let mut processes = processes_in(root);
    processes.retain(|process| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid));
        // The state follows the name.
        stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
    });
    processes
}
