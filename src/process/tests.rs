use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::*;

/// What is passed on, in order, and what comes of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    stdout: Vec<String>,
    stderr: Vec<String>,
    code: Option<Option<i32>>,
    error: Option<String>,
}

type Exec<'a> = &'a dyn Fn(&ProcessBuilder, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

/// Lines with `fail` in them make the callbacks fail.
fn outcome(exec: Exec<'_>, process: &ProcessBuilder) -> Outcome {
    let (stdout, stderr) = (RefCell::default(), RefCell::default());
    let on_line = |lines: &RefCell<Vec<String>>, line: &str| {
        lines.borrow_mut().push(line.to_owned());
        if line.contains("fail") {
            anyhow::bail!("cannot read `{line}`");
        }
        Ok(())
    };
    let result = exec(process, &mut |line| on_line(&stdout, line), &mut |line| {
        on_line(&stderr, line)
    });
    let error = result.err();
    Outcome {
        stdout: stdout.into_inner(),
        stderr: stderr.into_inner(),
        code: (error.as_ref())
            .and_then(|e| e.downcast_ref::<ProcessError>())
            .map(|e| e.code),
        error: error.map(|e| format!("{e:#}")),
    }
}

/// As cargo-util does it.
fn streamed(process: &ProcessBuilder) -> Outcome {
    outcome(
        &|process, out, err| process.exec_with_streaming(out, err, false).map(drop),
        process,
    )
}

fn controlled() -> Control {
    Control {
        handle: Some(Handle::default()),
        inherited: None,
    }
}

fn executed(process: &ProcessBuilder) -> Outcome {
    outcome(
        &|process, out, err| exec(process, controlled(), out, err),
        process,
    )
}

fn sh(script: &str) -> ProcessBuilder {
    let mut process = ProcessBuilder::new("sh");
    process.args(&["-c", script]);
    process
}

#[test]
fn output_and_errors_are_those_of_cargo() {
    for (script, lines, error) in [
        ("", 0, ""),
        ("echo one; echo two; printf three", 3, ""),
        (r"printf 'crlf\r\nempty\n\n\nbare\rcr'", 5, ""),
        (r"printf 'not \377 utf-8\n\377'", 2, ""),
        ("cat; echo stdin is empty", 1, ""),
        ("printf a; exec 1>&-; printf 'b\nc' >&2", 3, ""),
        // More than the pipes and one read of them hold.
        ("seq 100000; seq 100000 >&2", 200_000, ""),
        (
            "echo out; exit 3",
            1,
            "process didn't exit successfully: `sh -c 'echo out; exit 3'` (exit status: 3)",
        ),
        (
            "kill -9 $$",
            0,
            "process didn't exit successfully: `sh -c 'kill -9 $$'` (signal: 9, SIGKILL: kill)",
        ),
        (
            "echo a; echo fail; echo b",
            2,
            "cannot read `fail`: failed to parse process output: \
             `sh -c 'echo a; echo fail; echo b'` (exit status: 0)",
        ),
        (
            "echo fail >&2; seq 100000; echo fail again >&2; exit 1",
            1,
            "cannot read `fail`: failed to parse process output: \
             `sh -c 'echo fail >&2; seq 100000; echo fail again >&2; exit 1'` (exit status: 1)",
        ),
    ] {
        let ours = executed(&sh(script));
        // Which stream is read first is undefined once one of them fails.
        if !error.starts_with("cannot read") || ours.stderr.is_empty() {
            assert_eq!(ours, streamed(&sh(script)), "{script}");
            assert_eq!(ours.stdout.len() + ours.stderr.len(), lines, "{script}");
        }
        assert_eq!(ours.error.as_deref().unwrap_or(""), error, "{script}");
    }
}

#[test]
fn processes_that_cannot_be_executed() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = ProcessBuilder::new(nowhere.path().join("no such program"));
    let mut misplaced = sh("");
    misplaced.cwd(nowhere.path().join("no such directory"));
    let mut too_long = ProcessBuilder::new("echo");
    too_long.arg("x".repeat(8 << 20));
    for process in [missing, misplaced, too_long.clone()] {
        let ours = executed(&process);
        assert_eq!(ours, streamed(&process));
        assert_eq!(ours.code, Some(None));
        let error = ours.error.unwrap();
        assert!(error.starts_with("could not execute process `"));
        assert!(error.contains("(never executed): "));
    }
    let retried = executed(too_long.retry_with_argfile(true));
    assert_eq!(retried.error, None);
    assert!(retried.stdout[0].starts_with('@'), "{:?}", retried.stdout);
}

#[test]
fn only_one_process_inherits() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let number = theirs.as_raw_fd();
    let write = sh(&format!("echo inherited >&{number}"));
    let control = Control {
        handle: None,
        inherited: Some(theirs.into()),
    };
    exec(&write, control, &mut |_| Ok(()), &mut |_| Ok(())).unwrap();
    // It ends, so no copy is left here.
    let mut received = String::new();
    ours.read_to_string(&mut received).unwrap();
    assert_eq!(received, "inherited\n");
    assert!(executed(&write).error.is_some());
}

/// No test waits as long as this.
const LONG: Duration = Duration::from_secs(60);

/// Prints its id, waits for a word, and repeats it.
const REPEAT: &str = "echo $$; read word < go; echo $word";

/// A shell script with a named pipe `go` in its directory, from which it reads.
struct Script {
    dir: TempDir,
    go: File,
    text: String,
}

impl Script {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        let made = Command::new("mkfifo").arg(&go).status().unwrap();
        assert!(made.success());
        // With both ends in one hand, neither waits for the other to be opened.
        let go = OpenOptions::new().read(true).write(true).open(go).unwrap();
        let text = text.to_owned();
        Script { dir, go, text }
    }

    fn process(&self) -> ProcessBuilder {
        let mut process = sh(&self.text);
        process.cwd(self.dir.path());
        process
    }

    fn write(&self, word: &str) {
        writeln!(&self.go, "{word}").unwrap();
    }

    /// Runs it in a thread of its own, until it has printed its id.
    fn run(&self, handle: Handle) -> Running {
        let process = self.process();
        let (sender, stdout) = channel();
        let result = thread::spawn(move || {
            let control = Control {
                handle: Some(handle),
                inherited: None,
            };
            exec(
                &process,
                control,
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
struct Running {
    pid: Pid,
    /// The lines after that with its id.
    stdout: Receiver<String>,
    result: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// All that it prints from here on, and the result.
    fn end(mut self) -> (Vec<String>, anyhow::Result<()>) {
        let mut lines = Vec::new();
        loop {
            match self.stdout.recv_timeout(LONG) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {lines:?}"),
            }
        }
        (lines, self.result.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.result.as_ref().is_some_and(|it| !it.is_finished()) {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// Blocks until a child is stopped.
fn await_stop(pid: Pid) {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid), options).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
}

#[cfg(target_os = "linux")]
mod paused {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn is_stopped(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
        let (_, state) = stat.rsplit_once(')').unwrap();
        state.trim_start().starts_with('T')
    }

    #[test]
    fn output_comes_across_a_pause() {
        let script = Script::new(&format!("{REPEAT}; printf 'to the end'"));
        let handle = Handle::default();
        assert!(!handle.pause());
        let running = script.run(handle.clone());
        assert!(handle.pause());
        await_stop(running.pid);
        assert!(handle.pause());
        assert!(handle.memory().is_some_and(|bytes| bytes > 0));
        script.write("word");
        assert!(is_stopped(running.pid));
        running.stdout.try_recv().unwrap_err();

        handle.resume();
        handle.resume();
        let (lines, result) = running.end();
        result.unwrap();
        assert_eq!(lines, ["word", "to the end"]);
        assert!(!handle.pause());
        assert_eq!(handle.memory(), None);
    }

    /// As when the link gate runs the compiler a second time.
    #[test]
    fn second_process_of_a_job() {
        let handle = Handle::default();
        for word in ["first", "second"] {
            let script = Script::new(REPEAT);
            let running = script.run(handle.clone());
            assert!(handle.pause());
            await_stop(running.pid);
            handle.resume();
            script.write(word);
            assert_eq!(running.end().0, [word]);
        }
    }

    #[test]
    fn killed_while_stopped() {
        let script = Script::new(REPEAT);
        let handle = Handle::default();
        let running = script.run(handle.clone());
        assert!(handle.pause());
        await_stop(running.pid);
        kill_process(running.pid, Signal::KILL).unwrap();
        let (lines, result) = running.end();
        assert!(lines.is_empty());
        let error = result.unwrap_err().to_string();
        assert!(error.ends_with("(signal: 9, SIGKILL: kill)"), "{error}");
        assert!(!handle.pause());
        handle.resume();
    }

    #[test]
    fn panic_leaves_nothing_stopped() {
        let script = Script::new("echo $$; read word < go");
        let handle = Handle::default();
        let mut pid = None;
        let control = Control {
            handle: Some(handle.clone()),
            inherited: None,
        };
        catch_unwind(AssertUnwindSafe(|| {
            exec(
                &script.process(),
                control,
                &mut |line| {
                    pid = Pid::from_raw(line.parse()?);
                    assert!(handle.pause());
                    await_stop(pid.unwrap());
                    panic!("the callback panics")
                },
                &mut |_| Ok(()),
            )
        }))
        .unwrap_err();
        assert!(!handle.pause());
        script.write("word");
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid.unwrap()), options).unwrap();
    }

    /// The thread ends without a chance to continue its child.
    #[test]
    fn thread_dies_while_its_child_is_stopped() {
        let script = Script::new(REPEAT);
        let mut command = script.process().build_command();
        command.stdout(Stdio::piped());
        prepare(&mut command, &controlled());
        let mut child = thread::spawn(move || {
            let child = command.spawn().unwrap();
            let pid = Pid::from_child(&child);
            kill_process(pid, Signal::STOP).unwrap();
            await_stop(pid);
            child
        })
        .join()
        .unwrap();
        script.write("word");
        let mut lines = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut lines)
            .unwrap();
        assert!(child.wait().unwrap().success());
        assert!(lines.ends_with("word\n"), "{lines}");
    }
}
