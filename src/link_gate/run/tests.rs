use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::super::shim::{FAILED, Job, LINKING, PARKED, PERMIT};
use super::super::{EarlyStart, Gate, HeldLinker, Hold, run};
use super::Ended::*;
use super::*;
use crate::permit::Permit;
use anyhow::anyhow;

#[test]
fn results_that_stand() {
    use Progress::*;
    for (progress, expected) in [
        (Compiling, [false, false, true]),
        (Parked, [false, true, true]),
        (Permitted, [false, true, true]),
        (Linking, [true, true, true]),
        (NotLinked, [false, false, false]),
        (Aborted, [false, false, false]),
    ] {
        let ends = [Well, WithoutSourceError, Badly];
        assert_eq!(
            ends.map(|it| stands(progress, it)),
            expected,
            "{progress:?}"
        );
        assert!(!stands(progress, OutOfResources) && !stands(progress, TooLong));
    }
}

#[test]
fn shortage_is_told_from_other_errors() {
    let ended = |code| {
        let cause = std::io::Error::from_raw_os_error(code);
        let error = anyhow::Error::new(cause).context("could not execute process");
        Ended::of(&Err(error), false)
    };
    assert_eq!(ended(24), OutOfResources, "EMFILE");
    assert_eq!(ended(7), TooLong, "E2BIG");
    assert_eq!(ended(2), Badly, "ENOENT");
}

const LINK_ERROR: &str =
    r#"{"message":"linking with `SHIM` failed","code":null,"level":"error","spans":[]}"#;
const SOURCE_ERROR: &str =
    r#"{"message":"m","code":null,"level":"error","spans":[{"line_start":1}]}"#;
const WARNING: &str = r#"{"message":"w","code":null,"level":"warning","spans":[]}"#;

/// A compiler and its shims.
struct Compiler {
    linker: PathBuf,
    socket: UnixStream,
}

impl Compiler {
    /// A shim that waits. Returns whether it may link.
    fn park(&self) -> bool {
        let job: Job = serde_json::from_slice(&fs::read(self.beside(Job::FILE)).unwrap()).unwrap();
        assert_eq!(Path::new(&job.linker).file_name(), self.linker.file_name());
        (&self.socket).write_all(&[PARKED]).unwrap();
        let mut received = Vec::new();
        (&self.socket).read_to_end(&mut received).unwrap();
        assert!(received.is_empty());
        let may_link = self.beside(PERMIT).exists();
        if may_link {
            (&self.socket).write_all(&[LINKING]).unwrap();
        }
        may_link
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.linker.with_file_name(name)
    }
}

fn exited(code: i32) -> anyhow::Result<()> {
    let mut error = ProcessError::new("rustc failed", None, None);
    error.code = Some(code);
    Err(error.into())
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    result: anyhow::Result<()>,
    runs: usize,
    parked: usize,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Outcome {
    fn is_aborted(&self) -> bool {
        let expected = "not linked, because of another error";
        (self.result.as_ref()).is_err_and(|e| e.to_string() == expected)
    }
}

type First<'a> = &'a dyn Fn(&Compiler, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

/// Holds `first` and, if there is a second run, has one that warns and ends well. Each that parks gets
/// `permit`; with `None`, the first gets it when all is over.
fn outcome(linker: &str, permit: Option<Permit>, first: First<'_>) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let shim = std::env::current_exe().unwrap();
    let gate = Arc::new(Gate::open(dir.path().join("gate"), shim).unwrap());
    let parked = Arc::new(AtomicUsize::new(0));
    let parking = {
        let parked = Arc::clone(&parked);
        let waiting = Mutex::new(Vec::new());
        Parking::new(move |sender| {
            // The second time it is the job itself that waits.
            let times = parked.fetch_add(1, Ordering::SeqCst);
            match permit {
                Some(permit) => sender.send(permit),
                None if times == 1 => sender.send(Permit::Link),
                None => waiting.lock().unwrap().push(sender),
            }
        })
    };
    let runs = Cell::new(0);
    let (stdout, stderr) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let rustc = ProcessBuilder::new("rustc");
    let result = run(
        &rustc,
        Some((
            EarlyStart {
                gate: Arc::clone(&gate),
                hold: Hold::BeforeLinker(HeldLinker {
                    name: "job".to_owned(),
                    linker: linker.to_owned(),
                }),
            },
            parking,
        )),
        None,
        &mut |process, control, out, err| {
            runs.set(runs.get() + 1);
            out("out")?;
            err(WARNING)?;
            let argument = process.get_args().last().and_then(|it| it.to_str());
            let linker = argument.and_then(|it| it.strip_prefix("linker="));
            match (linker, control.inherited, runs.get()) {
                (Some(linker), Some(socket), 1) => {
                    let compiler = Compiler {
                        linker: linker.into(),
                        socket: socket.into(),
                    };
                    first(&compiler, out, err)
                }
                (None, None, _) => {
                    err(WARNING)?;
                    out("second")
                }
                _ => panic!("the gate is for the first run"),
            }
        },
        &mut |line| {
            stdout.borrow_mut().push(line.to_owned());
            Ok(())
        },
        &mut |line| {
            stderr.borrow_mut().push(line.to_owned());
            Ok(())
        },
    );
    assert_eq!(fs::read_dir(gate.dir()).unwrap().count(), 0);
    Outcome {
        result,
        runs: runs.get(),
        parked: parked.load(Ordering::SeqCst),
        stdout: stdout.into_inner(),
        stderr: stderr.into_inner(),
    }
}

/// It ran twice, and no line was passed on twice.
fn assert_again(outcome: &Outcome, parked: usize) {
    outcome.result.as_ref().unwrap();
    assert_eq!((outcome.runs, outcome.parked), (2, parked), "{outcome:?}");
    assert_eq!(outcome.stdout, ["out", "second"]);
    assert_eq!(outcome.stderr, [WARNING, WARNING]);
}

#[test]
fn one_untouched_run_if_not_early() {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut runs = 0;
    run(
        &ProcessBuilder::new("rustc"),
        None,
        None,
        &mut |process, control, out, err| {
            assert_eq!(process.get_args().count(), 0);
            assert!(control.inherited.is_none() && control.handle.is_none());
            runs += 1;
            out("a")?;
            err(r#"{"level":"error","spans":[]}"#)
        },
        &mut |line| {
            stdout.push(line.to_owned());
            Ok(())
        },
        &mut |line| {
            stderr.push(line.to_owned());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((runs, stdout.len(), stderr.len()), (1, 1, 1));
}

#[test]
fn linked() {
    let outcome = outcome("cc", Some(Permit::Link), &|compiler, out, _| {
        assert!(compiler.park());
        // Without some flags, this time.
        assert!(compiler.park());
        out("linked")
    });
    outcome.result.as_ref().unwrap();
    assert_eq!((outcome.runs, outcome.parked), (1, 1));
    assert_eq!(outcome.stdout, ["out", "linked"]);
}

#[test]
fn link_error_names_the_real_linker() {
    let real = "/usr/bin/my cc";
    let outcome = outcome(real, Some(Permit::Link), &|compiler, _, err| {
        compiler.park();
        err(&LINK_ERROR.replace("SHIM", compiler.linker.to_str().unwrap()))?;
        err("to the end")?;
        exited(1)
    });
    assert_eq!(
        outcome.result.as_ref().unwrap_err().to_string(),
        "rustc failed (never executed)"
    );
    assert_eq!(outcome.runs, 1);
    assert_eq!(
        outcome.stderr,
        [WARNING, &LINK_ERROR.replace("SHIM", real), "to the end"]
    );
}

#[test]
fn aborted() {
    let outcome = outcome("cc", Some(Permit::Abort), &|compiler, _, err| {
        assert!(!compiler.park());
        err(LINK_ERROR)?;
        exited(1)
    });
    assert!(outcome.is_aborted(), "{outcome:?}");
    assert_eq!((outcome.runs, outcome.stderr.len()), (1, 1));
}

#[test]
fn permit_without_a_link() {
    let outcome = outcome("cc", Some(Permit::Link), &|compiler, _, err| {
        compiler.park();
        (&compiler.socket).write_all(&[FAILED]).unwrap();
        err(LINK_ERROR)?;
        exited(1)
    });
    // The permit of the first run is that of the second.
    assert_again(&outcome, 1);
}

/// A wrapper that runs rustc again.
#[test]
fn permit_without_a_link_twice() {
    let outcome = outcome("cc", Some(Permit::Link), &|compiler, _, _| {
        for _ in 0..2 {
            assert!(compiler.park());
            (&compiler.socket).write_all(&[FAILED]).unwrap();
        }
        exited(1)
    });
    assert_again(&outcome, 1);
}

#[test]
fn flooded() {
    let outcome = outcome("cc", Some(Permit::Link), &|compiler, _, _| {
        for _ in 0..1_000 {
            (&compiler.socket).write_all(&[PARKED; 100]).unwrap();
        }
        assert!(compiler.park());
        Ok(())
    });
    outcome.result.as_ref().unwrap();
    assert_eq!((outcome.runs, outcome.parked), (1, 1));
}

#[test]
fn bypassed() {
    assert_again(&outcome("cc", Some(Permit::Link), &|_, _, _| Ok(())), 1);
}

#[test]
fn failed_without_a_source_error() {
    let outcome = outcome("cc", Some(Permit::Link), &|_, _, err| {
        err(LINK_ERROR)?;
        exited(1)
    });
    assert_again(&outcome, 1);
}

#[test]
fn held_back_lines_are_bounded() {
    let outcome = outcome("cc", Some(Permit::Link), &|_, _, err| {
        err(LINK_ERROR)?;
        for number in 0..2_000 {
            err(&format!("{number:01000}"))?;
        }
        exited(1)
    });
    assert_eq!(outcome.runs, 2);
    // Of a run that does not stand, but more than is held back.
    let passed_on = outcome.stderr.iter().filter(|line| line.len() == 1_000);
    assert_eq!(passed_on.count(), 2_000);
}

#[test]
fn failed_to_compile() {
    let outcome = outcome("cc", Some(Permit::Link), &|_, _, err| {
        err(SOURCE_ERROR)?;
        err(LINK_ERROR)?;
        exited(1)
    });
    assert!(outcome.result.is_err());
    assert_eq!((outcome.runs, outcome.parked), (1, 0));
    assert_eq!(outcome.stderr, [WARNING, SOURCE_ERROR, LINK_ERROR]);
}

#[test]
fn panicked_or_never_started() {
    let first: First<'_> = &|_, _, _| exited(101);
    let panicked = outcome("cc", Some(Permit::Link), first);
    assert_eq!((panicked.runs, panicked.parked), (1, 0));
    let never: First<'_> = &|_, _, _| {
        let error = ProcessError::new("could not execute", None, None);
        Err(anyhow!("no such program").context(error))
    };
    let error = outcome("cc", Some(Permit::Link), never).result.unwrap_err();
    let expected = "could not execute (never executed): no such program";
    assert_eq!(format!("{error:#}"), expected);
}

/// Parks without waiting, as a shim that is killed.
fn park_and_die(compiler: &Compiler) {
    (&compiler.socket).write_all(&[PARKED]).unwrap();
}

#[test]
fn killed_while_it_waited() {
    let outcome = outcome("cc", None, &|compiler, _, _| {
        park_and_die(compiler);
        anyhow::bail!("signal")
    });
    assert_eq!(outcome.result.unwrap_err().to_string(), "signal");
    assert_eq!((outcome.runs, outcome.parked), (1, 1));
}

#[test]
fn waited_and_something_else_linked() {
    let outcome = outcome("cc", None, &|compiler, _, _| {
        park_and_die(compiler);
        Ok(())
    });
    assert_again(&outcome, 2);
}

#[test]
fn permit_that_no_shim_takes() {
    let outcome = outcome("cc", Some(Permit::Link), &|compiler, _, _| {
        park_and_die(compiler);
        Ok(())
    });
    assert_again(&outcome, 2);
}

#[test]
fn linker_that_cannot_be_held() {
    let first: First<'_> = &|_, _, _| unreachable!();
    let again = outcome(Job::FILE, Some(Permit::Link), first);
    again.result.unwrap();
    assert_eq!((again.runs, again.parked), (1, 1));
    assert_eq!(again.stderr, [WARNING, WARNING]);
    let aborted = outcome(Job::FILE, Some(Permit::Abort), first);
    assert!(aborted.is_aborted());
    assert_eq!((aborted.runs, aborted.parked), (0, 1));
}
