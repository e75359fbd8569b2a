use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::super::script::{LONG, REPEAT, Script, await_exit, await_stop};
use super::super::watchdog::tests::{watchdog, watchdog_that};
use super::super::{Paused, Watchdog};
use super::*;

/// What is handed on, in order, and what comes of it.
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
        match line.contains("fail") {
            true => Err(anyhow::anyhow!("cannot read `{line}`")),
            false => Ok(()),
        }
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

fn executed(process: &ProcessBuilder) -> Outcome {
    let watchdog = watchdog();
    outcome(
        &|process, out, err| exec(process, &watchdog.handle(), out, err),
        process,
    )
}

fn sh(script: &str) -> ProcessBuilder {
    let mut process = ProcessBuilder::new("sh");
    process.args(&["-c", script]);
    process
}

#[test]
fn everything_is_as_cargo_has_it() {
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
        // Which stream is read first is nobody's promise once one of them fails.
        if !error.starts_with("cannot read") || ours.stderr.is_empty() {
            assert_eq!(ours, streamed(&sh(script)), "{script}");
            assert_eq!(ours.stdout.len() + ours.stderr.len(), lines, "{script}");
        }
        assert_eq!(ours.error.as_deref().unwrap_or(""), error, "{script}");
    }
}

#[test]
fn what_cannot_be_executed() {
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
fn all_lines_come_across_a_pause() {
    let script = Script::new(&format!("{REPEAT}; printf 'to the end'"));
    let watchdog = watchdog();
    let handle = watchdog.handle();
    assert_eq!(handle.pause().unwrap(), Paused::NotStarted);
    let running = script.run(handle.clone());

    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    await_stop(running.pid);
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    assert!(handle.memory().is_some_and(|bytes| bytes > 0));
    script.tell("word");
    #[cfg(target_os = "linux")]
    assert!(super::super::script::is_stopped(running.pid));
    running.stdout.try_recv().unwrap_err();

    handle.resume();
    handle.resume();
    let (lines, result) = running.end();
    result.unwrap();
    assert_eq!(lines, ["word", "to the end"]);
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
    assert_eq!(handle.memory(), None);
}

#[test]
fn it_ends_before_it_is_stopped() {
    let watchdog = watchdog();
    let handle = watchdog.handle();
    exec(
        &sh("echo $$"),
        &handle,
        &mut |line| {
            await_exit(Pid::from_raw(line.parse()?).unwrap());
            assert_eq!(handle.pause()?, Paused::Stopped);
            Ok(())
        },
        &mut |_| Ok(()),
    )
    .unwrap();
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
}

/// As when the link gate has the compiler run a second time.
#[test]
fn the_next_process_of_the_job_can_be_stopped() {
    let watchdog = watchdog();
    let handle = watchdog.handle();
    for word in ["first", "second"] {
        let script = Script::new(REPEAT);
        let running = script.run(handle.clone());
        assert_eq!(handle.pause().unwrap(), Paused::Stopped);
        await_stop(running.pid);
        handle.resume();
        script.tell(word);
        assert_eq!(running.end().0, [word]);
    }
}

#[test]
fn it_is_killed_while_it_is_stopped() {
    let script = Script::new(REPEAT);
    let watchdog = watchdog();
    let handle = watchdog.handle();
    let running = script.run(handle.clone());
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    await_stop(running.pid);
    kill_process(running.pid, Signal::KILL).unwrap();
    let (lines, result) = running.end();
    assert!(lines.is_empty());
    let error = result.unwrap_err().to_string();
    assert!(error.ends_with("(signal: 9, SIGKILL: kill)"), "{error}");
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
    handle.resume();
}

/// It goes on when the queue says so, and to its end.
#[test]
fn the_job_fails_while_its_process_is_stopped() {
    let script = Script::new(&format!("{REPEAT}; exit 7"));
    let watchdog = watchdog();
    let handle = watchdog.handle();
    let process = script.process();
    let stopped = Mutex::new(None);
    let lines = RefCell::new(0);
    let result = std::thread::scope(|scope| {
        let locked = stopped.lock().unwrap();
        scope.spawn(|| {
            // Until it is stopped.
            let pid = stopped.lock().unwrap().unwrap();
            await_stop(pid);
            script.tell("word");
            handle.resume();
        });
        let mut locked = Some(locked);
        exec(
            &process,
            &handle,
            &mut |line| {
                *lines.borrow_mut() += 1;
                assert_eq!(handle.pause()?, Paused::Stopped);
                *locked.take().unwrap() = Pid::from_raw(line.parse()?);
                anyhow::bail!("the callback fails")
            },
            &mut |_| Ok(()),
        )
    });
    let error = format!("{:#}", result.unwrap_err());
    assert!(
        error.starts_with("the callback fails: failed to parse process output: `sh")
            && error.ends_with("(exit status: 7)"),
        "{error}"
    );
    assert_eq!(lines.into_inner(), 1);
}

#[test]
fn a_panic_leaves_nothing_stopped() {
    let script = Script::new("echo $$; read word < go");
    let watchdog = watchdog();
    let handle = watchdog.handle();
    let mut pid = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        exec(
            &script.process(),
            &handle,
            &mut |line| {
                pid = Pid::from_raw(line.parse()?);
                assert_eq!(handle.pause()?, Paused::Stopped);
                await_stop(pid.unwrap());
                panic!("the callback panics")
            },
            &mut |_| Ok(()),
        )
    }));
    panicked.unwrap_err();
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
    script.tell("word");
    await_exit(pid.unwrap());
}

/// After that, its id could be somebody else's.
#[test]
fn it_is_given_up_before_it_is_waited_for() {
    let (sender, signals) = channel();
    // Its output can end only if it is not really stopped.
    let (watchdog, _told) = watchdog_that(Box::new(move |_, signal| {
        sender.send(signal).map_err(io::Error::other)
    }));
    let script = Script::new("echo $$; read word < go; exec >&- 2>&-; read word < go");
    let handle = watchdog.handle();
    let running = script.run(handle.clone());
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    assert_eq!(signals.recv_timeout(LONG).unwrap(), Signal::STOP);
    script.tell("word");
    assert_eq!(signals.recv_timeout(LONG).unwrap(), Signal::CONT);
    // Yet it is there, until it hears another word.
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
    test_kill_process(running.pid).unwrap();
    script.tell("word");
    running.end().1.unwrap();
}

#[test]
fn the_queue_ends_while_something_is_stopped() {
    let watchdog = watchdog();
    let handles = [watchdog.handle(), watchdog.handle()];
    let scripts = [Script::new(REPEAT), Script::new(REPEAT)];
    let running = [0, 1].map(|of| scripts[of].run(handles[of].clone()));
    for (handle, running) in handles.iter().zip(&running) {
        assert_eq!(handle.pause().unwrap(), Paused::Stopped);
        await_stop(running.pid);
    }
    drop(watchdog);
    let error = handles[0].pause().unwrap_err();
    assert_eq!(error.to_string(), "the build has ended");
    for (running, script) in running.into_iter().zip(&scripts) {
        script.tell("word");
        let (lines, result) = running.end();
        result.unwrap();
        assert_eq!(lines, ["word"]);
    }
}

#[test]
fn without_a_watchdog_nothing_is_stopped() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = nowhere.path().join("no such watchdog");
    let not_executed = format!("could not execute the watchdog `{}`: ", missing.display());
    for (exe, expected) in [
        (missing, not_executed.as_str()),
        (
            "cargo".into(),
            "the watchdog `cargo` is not an absolute path",
        ),
        // Ends at once.
        ("/bin/sh".into(), "the watchdog did not start: "),
    ] {
        let watchdog = Watchdog::new(exe);
        let handle = watchdog.handle();
        let script = Script::new(REPEAT);
        let running = script.run(handle.clone());
        for _ in 0..2 {
            let error = handle.pause().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        script.tell("word");
        assert_eq!(running.end().0, ["word"]);
    }
}
