//! A cargo that runs, and the processes below it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cargo_test_support::{Execs, Project};
use nix::sys::signal::{SIGINT, SigHandler, signal};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::gated::{GatedExt, assert_tidy};

/// No step of a test takes longer, whatever else the machine does.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_within(DEADLINE, what, holds);
}

#[track_caller]
fn wait_within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tries all ways in which a build is killed: whether by a signal to its process group, and by which.
pub fn for_each_kill(killed: impl Fn(bool, Signal)) {
    for (is_for_group, signal) in [
        (false, Signal::KILL),
        (true, Signal::INT),
        (false, Signal::INT),
        (false, Signal::TERM),
        (true, Signal::TERM),
        (true, Signal::HUP),
    ] {
        eprintln!("{signal:?}, to the group: {is_for_group}");
        killed(is_for_group, signal);
    }
}

/// A cargo that runs, in a process group of its own. Dropping it kills the group.
pub struct Running {
    child: Child,
    root: PathBuf,
    stderr: PathBuf,
    has_ended: bool,
}

impl Running {
    pub fn start(p: &Project, execs: &mut Execs) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stderr = p.root().join(format!("stderr-{number}"));
        let mut command = execs.build_command();
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&stderr).unwrap());
        // A script that runs the tests in the background ignores it, and so would the build.
        // SAFETY: the default action is no handler that could do anything unsafe.
        unsafe { signal(SIGINT, SigHandler::SigDfl) }.unwrap();
        Running {
            child: command.spawn().unwrap(),
            root: p.root(),
            stderr,
            has_ended: false,
        }
    }

    /// Starts `cargo LINE` with `slow` held until it is [released](Self::release), and waits until
    /// `count` jobs have parked.
    #[track_caller]
    pub fn parked(p: &Project, line: &str, count: usize) -> Self {
        let running = Running::start(p, &mut p.held(line));
        running.await_parked(count);
        running
    }

    #[track_caller]
    pub fn await_parked(&self, count: usize) {
        wait_until("parked", || {
            let text = fs::read_to_string(self.root.join("trace.json")).unwrap_or_default();
            let is_parked =
                |line: &&str| line.contains(r#""name":"parked""#) && line.contains(r#""ph":"B""#);
            text.lines().filter(is_parked).count() >= count
        });
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to cargo, or to all of its group.
    pub fn kill(&self, is_for_group: bool, signal: Signal) {
        let pid = self.pid();
        let sent = if is_for_group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        };
        sent.unwrap();
    }

    /// Releases `slow`.
    pub fn release(&self) {
        fs::write(self.root.join("go"), "").unwrap();
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(DEADLINE)
    }

    #[track_caller]
    pub fn wait_within(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        wait_within(deadline, "cargo ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.has_ended = true;
        status.unwrap()
    }

    /// Returns what it has written so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Releases `slow`, and asserts that the build succeeds.
    #[track_caller]
    pub fn finish(mut self) {
        self.release();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.stderr());
    }

    /// Asserts that one unit fails with this message, that none mentions the gate, and that nothing of the
    /// build is left.
    #[track_caller]
    pub fn assert_fails(mut self, message: &str) {
        let status = self.wait();
        let stderr = self.stderr();
        assert_eq!(status.code(), Some(101), "{stderr}");
        let count = |text: &str| stderr.matches(text).count();
        assert_eq!(count("error: could not compile"), 1, "{stderr}");
        assert_eq!(count(message), 1, "{stderr}");
        assert_eq!(count("link-gate") + count("link gate"), 0, "{stderr}");
        await_no_process(&self.root);
        assert_tidy(&self.root);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
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
    /// True if it compiles the crate, or links it.
    pub fn is_of(&self, name: &str) -> bool {
        let mut pairs = self.args.windows(2);
        let object = format!("/{name}-");
        pairs.any(|pair| pair[0] == "--crate-name" && pair[1] == name)
            || self.is_shim() && self.args.iter().any(|arg| arg.contains(&object))
    }

    /// True if it is a linker that waits.
    pub fn is_shim(&self) -> bool {
        self.args[0].contains("/.link-gate/")
    }

    /// True if it is rustc, not a wrapper of it.
    pub fn is_rustc(&self) -> bool {
        Path::new(&self.args[0]).file_name().unwrap() == "rustc"
    }

    pub fn kill(&self) {
        // It may have ended.
        let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
    }
}

/// Returns the processes whose working directory is `root` or in it.
pub fn processes_in(root: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (Ok(pid), Ok(cwd)) = (name.parse(), fs::read_link(path.join("cwd"))) else {
            continue;
        };
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        // One that has ended has none.
        if cwd.starts_with(root) && !command.is_empty() {
            let args = command.split(|byte| *byte == 0);
            let args = args.map(|arg| String::from_utf8_lossy(arg).into_owned());
            let args = args.collect();
            found.push(Process { pid, args });
        }
    }
    found
}

/// Returns one such process of a build.
#[track_caller]
pub fn process_in(root: &Path, is: impl Fn(&Process) -> bool) -> Process {
    let mut processes = processes_in(root);
    let found = processes.iter().position(is);
    processes.remove(found.unwrap_or_else(|| panic!("{processes:#?}")))
}

/// Waits until no process of a build is left.
#[track_caller]
pub fn await_no_process(root: &Path) {
    wait_until("no process is left", || processes_in(root).is_empty());
}
