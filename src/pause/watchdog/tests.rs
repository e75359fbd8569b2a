use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, getpgid, kill_process_group, waitid};

use super::super::Paused;
use super::super::script::{LONG, REPEAT, Script, await_exit, await_stop};
use super::*;
use process::{is_invocation, watch};

/// In the environment of a test that is to be something else.
const ROLE: &str = "PAUSE_TEST_ROLE";

/// This executable, as one of the tests here.
fn this_as(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture"])
        .arg(format!("pause::watchdog::tests::{role}"))
        .env(ROLE, role);
    command
}

fn is_to_be(role: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|it| it == role)
}

/// One with a real process, which is this executable: the one that has `main` is not at hand.
pub(in crate::pause) fn watchdog() -> Watchdog {
    Watchdog::with(
        Box::new(|theirs| spawn(this_as("the_process"), theirs).map(Some)),
        Box::new(|pid, signal| Ok(kill_process(pid, signal)?)),
    )
}

/// One without a process, which signals by `send`, and where what the process would be told ends up.
pub(in crate::pause) fn watchdog_that(
    send: SendSignal,
) -> (Watchdog, Arc<Mutex<Option<UnixStream>>>) {
    let told = Arc::new(Mutex::new(None));
    let process = Arc::clone(&told);
    let start: Start = Box::new(move |mut theirs| {
        theirs.write_all(&[READY])?;
        *process.lock().unwrap() = Some(theirs);
        Ok(None)
    });
    (Watchdog::with(start, send), told)
}

/// Not a test by itself.
#[test]
fn the_process() {
    if is_to_be("the_process") {
        let stdin = io::stdin().as_fd().try_clone_to_owned().unwrap();
        watch(UnixStream::from(stdin)).unwrap();
        std::process::exit(0);
    }
}

/// Takes the process of the watchdog away from it.
fn taken(watchdog: &Watchdog) -> (UnixStream, Child) {
    match std::mem::replace(&mut watchdog.0.lock().process, Process::Closed) {
        Process::Started {
            ours,
            child: Some(child),
        } => (ours, child),
        _ => panic!("it was not started"),
    }
}

fn process_id(watchdog: &Watchdog) -> Pid {
    match &watchdog.0.lock().process {
        Process::Started {
            child: Some(child), ..
        } => Pid::from_child(child),
        _ => panic!("it was not started"),
    }
}

#[test]
fn only_this_is_an_invocation() {
    let is = |args: &[&str]| is_invocation(args.iter().map(Into::into));
    assert!(is(&[NAME, PURPOSE]));
    for args in [
        &[][..],
        &[NAME],
        &[PURPOSE],
        &["cargo", PURPOSE],
        &["/bin/rustc-watchdog", PURPOSE],
        &[NAME, PURPOSE, ""],
        &[NAME, "build"],
    ] {
        assert!(!is(args), "{args:?}");
    }
    // And this test is none.
    run_if_invoked_as_watchdog();
}

#[test]
fn messages() {
    let pid = Pid::from_raw(i32::MAX).unwrap();
    for message in [Message::Stopped(pid), Message::Continued(pid)] {
        assert_eq!(Message::decode(message.encode()), Some(message));
    }
    for harmful in [0, 1, -1, -2, i32::MIN] {
        let [a, b, c, d] = harmful.to_ne_bytes();
        assert_eq!(Message::decode([b'+', a, b, c, d]), None, "{harmful}");
    }
    assert_eq!(Message::decode([b'?', 1, 1, 1, 1]), None);
}

#[test]
fn no_process_without_a_pause_and_none_left_behind() {
    let watchdog = watchdog();
    let handle = watchdog.handle();
    let script = Script::new(REPEAT);
    let running = script.run(handle.clone());
    assert!(matches!(
        watchdog.0.lock().process,
        Process::NotStarted { .. }
    ));
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    let process = process_id(&watchdog);
    // Also not if it is stopped.
    kill_process(process, Signal::STOP).unwrap();
    await_stop(process);
    let (sender, dropped) = channel();
    thread::spawn(move || {
        drop(watchdog);
        sender.send(()).unwrap();
    });
    dropped.recv_timeout(LONG).unwrap();
    let waited = waitid(WaitId::Pid(process), WaitIdOptions::EXITED);
    assert_eq!(waited.unwrap_err(), rustix::io::Errno::CHILD);
    script.tell("word");
    running.end().1.unwrap();
}

#[test]
fn something_else_answers() {
    let watchdog = Watchdog::with(
        Box::new(|mut theirs| {
            theirs.write_all(b"?")?;
            Ok(None)
        }),
        Box::new(|_, _| panic!("nobody is signalled")),
    );
    let script = Script::new(REPEAT);
    let handle = watchdog.handle();
    let running = script.run(handle.clone());
    let error = handle.pause().unwrap_err().to_string();
    assert!(error.starts_with("the watchdog did not start: "), "{error}");
    script.tell("word");
    running.end().1.unwrap();
}

#[test]
fn when_it_is_killed_nothing_more_is_stopped() {
    let watchdog = watchdog();
    let handles = [watchdog.handle(), watchdog.handle()];
    let scripts = [Script::new(REPEAT), Script::new(REPEAT)];
    let running = [0, 1].map(|of| scripts[of].run(handles[of].clone()));
    assert_eq!(handles[0].pause().unwrap(), Paused::Stopped);
    await_stop(running[0].pid);
    let process = process_id(&watchdog);
    kill_process(process, Signal::KILL).unwrap();
    await_exit(process);
    for _ in 0..2 {
        let error = handles[1].pause().unwrap_err().to_string();
        assert!(error.starts_with("the watchdog is gone: "), "{error}");
    }
    handles[0].resume();
    for (running, script) in running.into_iter().zip(&scripts) {
        script.tell("word");
        assert_eq!(running.end().0, ["word"]);
    }
}

/// It is not in the group that the terminal signals, and would survive if it were.
#[test]
fn what_ends_or_stops_a_build_does_not_end_it() {
    let watchdog = watchdog();
    let handles = [watchdog.handle(), watchdog.handle()];
    let scripts = [Script::new(REPEAT), Script::new(REPEAT)];
    let [stopped, continued] = [0, 1].map(|of| scripts[of].run(handles[of].clone()));
    for (handle, running) in handles.iter().zip([&stopped, &continued]) {
        assert_eq!(handle.pause().unwrap(), Paused::Stopped);
        await_stop(running.pid);
    }
    handles[1].resume();

    let (ours, mut child) = taken(&watchdog);
    let process = Pid::from_child(&child);
    assert_eq!(getpgid(Some(process)).unwrap(), process);
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::TSTP,
        Signal::USR1,
        Signal::USR2,
    ] {
        kill_process_group(process, signal).unwrap();
    }
    // As when cargo dies.
    drop(ours);
    scripts[0].tell("word");
    let (lines, result) = stopped.end();
    result.unwrap();
    assert_eq!(lines, ["word"]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    scripts[1].tell("word");
    continued.end().1.unwrap();
}

/// Where the role `as_cargo` finds its script.
const SCRIPT: &str = "PAUSE_TEST_SCRIPT";

/// Not a test by itself: pauses a process, says so, and waits to be killed.
#[test]
fn as_cargo() {
    if !is_to_be("as_cargo") {
        return;
    }
    let mut process = cargo_util::ProcessBuilder::new("sh");
    process.args(&["-c", std::env::var(SCRIPT).unwrap().as_str()]);
    let watchdog = watchdog();
    let handle = watchdog.handle();
    let result = super::super::exec(
        &process,
        &handle,
        &mut |line| {
            assert_eq!(handle.pause()?, Paused::Stopped);
            let pid = Pid::from_raw(line.parse()?).unwrap();
            await_stop(pid);
            writeln!(io::stdout(), "\nstopped {line}")?;
            Ok(())
        },
        &mut |_| Ok(()),
    );
    panic!("it was to be killed: {result:?}");
}

/// Keeps a group of processes from becoming an orphan, whose stopped members the kernel continues
/// itself.
struct Group(Child);

impl Group {
    fn new() -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' INT TERM; echo; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        Group(child)
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // With all that a failed test has left stopped.
        let _ = kill_process_group(self.id(), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Pauses a process in another one, has `kill` kill that, and answers what the process says then
/// before it ends.
fn after(kill: impl Fn(&Group, Pid)) -> String {
    let script = Script::new("exec 3> done; echo $$; read word < go; echo $word >&3");
    let group = Group::new();
    let mut cargo = this_as("as_cargo")
        .env(SCRIPT, script.text())
        .current_dir(script.dir())
        .process_group(group.id().as_raw_pid())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, done) = channel();
    let path = script.dir().join("done");
    thread::spawn(move || sender.send(std::fs::read_to_string(path).unwrap()));
    let stdout = BufReader::new(cargo.stdout.take().unwrap());
    let mut lines = stdout.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("stopped ")));

    kill(&group, Pid::from_child(&cargo));
    assert_eq!(cargo.wait().unwrap().code(), None, "it was killed");
    script.tell("word");
    done.recv_timeout(LONG).unwrap()
}

#[test]
fn cargo_is_killed() {
    for signal in [Signal::KILL, Signal::TERM, Signal::HUP] {
        let said = after(|_, cargo| kill_process(cargo, signal).unwrap());
        assert_eq!(said, "word\n", "{signal:?}");
    }
}

/// The process hears of it only when it is continued.
#[test]
fn cargo_and_what_it_runs_are_interrupted() {
    let said = after(|group, _| kill_process_group(group.id(), Signal::INT).unwrap());
    assert_eq!(said, "");
}
