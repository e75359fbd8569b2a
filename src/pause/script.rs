//! Processes for tests, which wait for a word.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cargo_util::ProcessBuilder;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::{Handle, exec};

/// No test waits so long.
pub const LONG: Duration = Duration::from_secs(60);

/// Says its id, waits for a word, and repeats it.
pub const REPEAT: &str = "echo $$; read word < go; echo $word";

/// A shell script. In its directory there are two named pipes: `go`, from which it can read what it is
/// [told](Script::tell), and `done`.
pub struct Script {
    dir: TempDir,
    go: File,
    text: String,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [go, done] = ["go", "done"].map(|name| dir.path().join(name));
        let made = Command::new("mkfifo").arg(&go).arg(done).status().unwrap();
        assert!(made.success());
        // With both ends in one hand, nobody waits for the other to come.
        let go = OpenOptions::new().read(true).write(true).open(go).unwrap();
        Script {
            dir,
            go,
            text: text.to_owned(),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn process(&self) -> ProcessBuilder {
        let mut process = ProcessBuilder::new("sh");
        process
            .args(&["-c", self.text.as_str()])
            .cwd(self.dir.path());
        process
    }

    pub fn tell(&self, word: &str) {
        writeln!(&self.go, "{word}").unwrap();
    }

    /// Runs it in a thread of its own, until it has said its id.
    pub fn run(&self, handle: Handle) -> Running {
        let process = self.process();
        let (sender, stdout) = channel();
        let result = thread::spawn(move || {
            exec(
                &process,
                &handle,
                &mut |line| Ok(sender.send(line.to_owned())?),
                &mut |_| Ok(()),
            )
        });
        let pid = stdout.recv_timeout(LONG).unwrap().parse().unwrap();
        Running {
            pid: Pid::from_raw(pid).unwrap(),
            stdout,
            result: Some(result),
        }
    }
}

/// A script that runs. Dropping it before its end kills it.
pub struct Running {
    pub pid: Pid,
    /// The lines after that with its id.
    pub stdout: Receiver<String>,
    result: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// All that it says from here on, and what came of it.
    pub fn end(mut self) -> (Vec<String>, anyhow::Result<()>) {
        let mut lines = Vec::new();
        loop {
            match self.stdout.recv_timeout(LONG) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {lines:?}"),
            }
        }
        let result = self.result.take().unwrap();
        (lines, result.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.result.as_ref().is_some_and(|it| !it.is_finished()) {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// Blocks until a child is stopped, which it must not have been already when it was looked at last.
pub fn await_stop(pid: Pid) {
    let status = wait(pid, WaitIdOptions::STOPPED | WaitIdOptions::EXITED);
    assert!(status.stopped(), "{status:?}");
}

/// Blocks until a child has ended, and does not take that from who is to hear of it.
pub fn await_exit(pid: Pid) {
    wait(pid, WaitIdOptions::EXITED);
}

fn wait(pid: Pid, options: WaitIdOptions) -> rustix::process::WaitIdStatus {
    waitid(WaitId::Pid(pid), options | WaitIdOptions::NOWAIT)
        .unwrap()
        .unwrap()
}

/// Whether a process is stopped, as Linux shows it.
#[cfg(target_os = "linux")]
pub fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
    let (_, state) = stat.rsplit_once(')').unwrap();
    state.trim_start().starts_with('T')
}
