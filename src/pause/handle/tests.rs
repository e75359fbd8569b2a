//! What holds for every order of what both threads do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::super::Watchdog;
use super::super::watchdog::process::{MESSAGE_LEN, Message};
use super::super::watchdog::tests::watchdog_that;
use super::*;

/// What an onlooker sees, who has the other end of the watchdog's socket.
#[derive(Default)]
struct Seen {
    told: Arc<Mutex<Option<UnixStream>>>,
    /// Those that the watchdog would continue.
    watched: BTreeSet<i32>,
    /// Those that have not been waited for.
    alive: BTreeSet<i32>,
    /// What each was sent.
    signals: BTreeMap<i32, Vec<Signal>>,
    wrong: Vec<String>,
}

impl Seen {
    /// Hears what the watchdog was told so far.
    fn hear(&mut self) {
        let mut told = self.told.lock().unwrap();
        let Some(told) = told.as_mut() else {
            return;
        };
        told.set_nonblocking(true).unwrap();
        let mut message = [0; MESSAGE_LEN];
        while told.read_exact(&mut message).is_ok() {
            let as_it_should = match Message::decode(message) {
                Some(Message::Stopped(pid)) => self.watched.insert(pid.as_raw_pid()),
                Some(Message::Continued(pid)) => self.watched.remove(&pid.as_raw_pid()),
                None => false,
            };
            if !as_it_should {
                self.wrong.push(format!("{message:?}"));
            }
        }
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        self.hear();
        let pid = pid.as_raw_pid();
        if !self.alive.contains(&pid) {
            self.wrong.push(format!("{pid} is over: {signal:?}"));
        }
        // It is, from before it is stopped until after it is continued.
        if !self.watched.contains(&pid) {
            self.wrong.push(format!("{pid} is not watched: {signal:?}"));
        }
        self.signals.entry(pid).or_default().push(signal);
    }

    /// To be called when all processes have ended.
    fn assert_sound(&mut self, has_queue_ended: bool) {
        self.hear();
        assert_eq!(self.wrong, [""; 0]);
        // What is continued when the queue ends, the watchdog is not told of.
        assert!(has_queue_ended || self.watched.is_empty());
        for (pid, signals) in &self.signals {
            let alternating = [Signal::STOP, Signal::CONT].into_iter().cycle();
            assert!(signals.iter().copied().eq(alternating.take(signals.len())));
            assert_eq!(signals.len() % 2, 0, "{pid} stays stopped");
        }
    }
}

/// A watchdog that signals nobody.
fn watchdog() -> (Watchdog, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let onlooker = Arc::clone(&seen);
    let (watchdog, told) = watchdog_that(Box::new(move |pid, signal| {
        onlooker.lock().unwrap().signal(pid, signal);
        Ok(())
    }));
    seen.lock().unwrap().told = told;
    (watchdog, seen)
}

/// A process of the job, from its start until it is waited for.
struct Process<'a> {
    seen: &'a Mutex<Seen>,
    pid: Pid,
    attached: Option<Attached<'a>>,
}

impl<'a> Process<'a> {
    fn start(handle: &'a Handle, seen: &'a Mutex<Seen>, pid: i32) -> Self {
        seen.lock().unwrap().alive.insert(pid);
        let pid = Pid::from_raw(pid).unwrap();
        Process {
            seen,
            pid,
            attached: Some(handle.attach_pid(pid)),
        }
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        drop(self.attached.take());
        let pid = self.pid.as_raw_pid();
        self.seen.lock().unwrap().alive.remove(&pid);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    End,
    Pause,
    Resume,
    /// The queue ends.
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Start),
        4 => Just(Step::End),
        8 => Just(Step::Pause),
        8 => Just(Step::Resume),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn any_order_on_one_thread(steps in steps()) {
        let (watchdog, seen) = watchdog();
        let handle = watchdog.handle();
        let mut watchdog = Some(watchdog);
        let mut process = None;
        let mut pid = 100;
        for step in steps {
            match step {
                Step::Start => {
                    if process.is_none() {
                        pid += 1;
                        process = Some(Process::start(&handle, &seen, pid));
                    }
                }
                Step::End => process = None,
                Step::Pause => match handle.pause() {
                    Ok(Paused::Stopped) => {
                        let seen = seen.lock().unwrap();
                        assert!(process.is_some() && watchdog.is_some());
                        assert_eq!(seen.signals[&pid].last(), Some(&Signal::STOP));
                    }
                    Ok(Paused::NotStarted) => assert_eq!(pid, 100),
                    Ok(Paused::Ended) => assert!(pid > 100 && process.is_none()),
                    Err(e) => {
                        assert!(process.is_some() && watchdog.is_none());
                        assert_eq!(e.to_string(), "the build has ended");
                    }
                },
                Step::Resume => {
                    handle.resume();
                    let seen = seen.lock().unwrap();
                    let last = seen.signals.get(&pid).and_then(|signals| signals.last());
                    assert_ne!(last, Some(&Signal::STOP));
                }
                Step::Close => watchdog = None,
            }
        }
        drop(process);
        seen.lock().unwrap().assert_sound(watchdog.is_none());
    }

    #[test]
    fn both_threads_at_once(steps in steps()) {
        let (watchdog, seen) = watchdog();
        let handle = watchdog.handle();
        let mut watchdog = Some(watchdog);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for pid in 101..130 {
                    let _process = Process::start(&handle, &seen, pid);
                    thread::yield_now();
                }
            });
            start.wait();
            for step in steps {
                match step {
                    Step::Pause => drop(handle.pause()),
                    Step::Resume => handle.resume(),
                    Step::Close => watchdog = None,
                    Step::Start | Step::End => thread::yield_now(),
                }
            }
        });
        seen.lock().unwrap().assert_sound(watchdog.is_none());
    }
}

#[test]
fn any_thread_may_have_them() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<Handle>();
    assert_shared::<Watchdog>();
}

#[test]
fn a_second_process_at_once_is_left_alone() {
    let (watchdog, seen) = watchdog();
    let handle = watchdog.handle();
    let first = Process::start(&handle, &seen, 101);
    let second = Process::start(&handle, &seen, 102);
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    drop(second);
    assert_eq!(handle.pause().unwrap(), Paused::Stopped);
    drop(first);
    assert_eq!(handle.pause().unwrap(), Paused::Ended);
    let mut seen = seen.lock().unwrap();
    seen.assert_sound(false);
    assert_eq!(seen.signals.keys().collect::<Vec<_>>(), [&101]);
}

#[test]
fn who_may_not_be_stopped_runs_on() {
    let (watchdog, told) =
        watchdog_that(Box::new(|_, _| Err(io::ErrorKind::PermissionDenied.into())));
    let handle = watchdog.handle();
    let _attached = handle.attach_pid(Pid::from_raw(101).unwrap());
    let error = handle.pause().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    drop(watchdog);
    let mut said = Vec::new();
    let mut told = told.lock().unwrap().take().unwrap();
    told.read_to_end(&mut said).unwrap();
    let pid = Pid::from_raw(101).unwrap();
    let expected = [Message::Stopped(pid), Message::Continued(pid)].map(Message::encode);
    assert_eq!(said, expected.concat());
}
