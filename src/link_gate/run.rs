//! One compiler, from its early start to a result that stands. See the [module's
//! documentation](super).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Gate, Report};
use crate::channel::{Parking, Permit};

/// A compiler that is started before the rlibs of its dependencies are there.
pub struct EarlyStart {
    /// Where its linker is to wait.
    pub gate: Arc<Gate>,
    /// The real linker, as it is spelled. See [`linker`](super::linker).
    pub linker: OsString,
    /// How the queue hears that the linker waits.
    pub parking: Parking,
}

/// Is given the lines of a stream, without their ends.
pub type OnLine<'a> = &'a mut dyn FnMut(&str) -> anyhow::Result<()>;

/// Runs the compiler: with this linker added, if there is one, and with these for its stdout and
/// its stderr.
pub type Exec<'a> = &'a mut dyn FnMut(Option<&Path>, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

/// The compiler was told to end, because something that it links will never be there.
///
/// Nothing went wrong with the unit itself, so this is not to be reported as its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("told not to link, because of another error")
    }
}

impl std::error::Error for Aborted {}

/// Runs the compiler of a unit. With `early` `None`, that is one call of `exec` and nothing else.
///
/// `exec` runs it to its end, with the linker that it is given added to the arguments, and hands on
/// the lines of its stdout and its stderr. `exit_code` says what the process exited with if that is
/// why `exec` failed.
///
/// With [`EarlyStart`] the compiler's linker waits at the gate. What comes out stands only if the gate
/// knows that the linker ran with a permit, or if it failed for a reason that has nothing to do
/// with the gate. In any other case the compiler runs a second time, without the gate, once there
/// is a permit to link; then nobody hears twice what was said in the first run.
///
/// The lines are what they would be without the gate: they name the real linker. Lines of stderr
/// that may be about a failed link are held back until it is known whether the run stands, up to
/// [`MOST_BYTES`].
///
/// Blocks as long as the compiler runs and there is no permit.
///
/// # Errors
///
/// [`Aborted`] if the permit is [`Permit::Abort`]. Else what `exec` fails with in the run that
/// stands, and whatever `on_stdout` and `on_stderr` fail with.
pub fn run(
    early: Option<EarlyStart>,
    exec: Exec<'_>,
    exit_code: &dyn Fn(&anyhow::Error) -> Option<i32>,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    let Some(EarlyStart {
        gate,
        linker,
        parking,
    }) = early
    else {
        return exec(None, on_stdout, on_stderr);
    };
    // The gate speaks for the job until its ticket is closed, and after that this function does.
    let wait = || match parking.park_and_wait() {
        Permit::Link => Ok(()),
        Permit::Abort => Err(Aborted),
    };
    let Ok(ticket) = gate.admit(&linker, parking.clone()) else {
        wait()?;
        return exec(None, on_stdout, on_stderr);
    };

    let names = Names::new(ticket.linker().as_os_str(), &linker);
    let mut stdout = Passed::default();
    let mut stderr = Passed::default();
    let mut held = Held::default();
    let mut source_error = false;
    let result = exec(
        Some(ticket.linker()),
        &mut |line| {
            let line = names.real(line);
            stdout.add(&line);
            on_stdout(&line)
        },
        &mut |line| {
            let line = names.real(line);
            let kind = ErrorKind::of(&line);
            source_error |= kind == Some(ErrorKind::OfSource);
            if kind == Some(ErrorKind::OfNoSource) || !held.lines.is_empty() {
                return held.add(line.into_owned(), on_stderr);
            }
            stderr.add(&line);
            on_stderr(&line)
        },
    );
    let ended = match &result {
        Ok(()) => Ended::Well,
        Err(e) if is_out_of_resources(e) => Ended::OutOfResources,
        Err(e) => match exit_code(e) {
            Some(1) if !source_error => Ended::WithoutSourceError,
            _ => Ended::Badly,
        },
    };
    let report = ticket.close();
    match Verdict::of(report, ended) {
        Verdict::Stands => {
            let passed = held.pass_on(on_stderr);
            return result.and(passed);
        }
        Verdict::Aborted => return Err(Aborted.into()),
        Verdict::Again => {
            match (report, ended) {
                (_, Ended::OutOfResources) => gate.give_up("resources are short"),
                (Report::Silent, _) => gate.give_up("a linker was not held back"),
                _ => {}
            }
            wait()?;
        }
        Verdict::AgainWithPermit => {}
    }
    exec(
        None,
        &mut |line| match stdout.take(line) {
            true => Ok(()),
            false => on_stdout(line),
        },
        &mut |line| match stderr.take(line) {
            true => Ok(()),
            false => on_stderr(line),
        },
    )
}

/// Whether the compiler could not be started for want of file descriptors, processes or memory.
fn is_out_of_resources(error: &anyhow::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let mut causes = error.chain().filter_map(|it| it.downcast_ref());
        causes.any(|cause| {
            matches!(
                Errno::from_io_error(cause),
                Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM)
            )
        })
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// How the first run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Well,
    /// There was none.
    OutOfResources,
    /// rustc exited with 1, which is how it says that it has found an error, and has not shown one
    /// that is about the source.
    WithoutSourceError,
    /// Any other way: errors in the source, a signal, a panic of rustc, a process that did not
    /// start.
    Badly,
}

/// What becomes of the first run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Its result is the result.
    Stands,
    /// There is to be a second one, with a permit.
    Again,
    /// There is to be a second one, and the permit is there already.
    AgainWithPermit,
    /// It was told to end.
    Aborted,
}

impl Verdict {
    fn of(report: Report, ended: Ended) -> Self {
        match (report, ended) {
            (_, Ended::OutOfResources) => Verdict::Again,
            (Report::Linked, _) => Verdict::Stands,
            (Report::Aborted, _) => Verdict::Aborted,
            (Report::Incomplete, _) => Verdict::Again,
            (Report::NotExecuted, _) => Verdict::AgainWithPermit,
            // Something has linked, or nothing has, but not what was to wait. It may be made from
            // hollow rlibs.
            (Report::Silent | Report::Parked, Ended::Well) => Verdict::Again,
            // It may have failed over a hollow rlib, or over the shim.
            (Report::Silent, Ended::WithoutSourceError) => Verdict::Again,
            (Report::Silent, Ended::Badly) => Verdict::Stands,
            // It was killed while it waited: nothing else makes it go on.
            (Report::Parked, _) => Verdict::Stands,
        }
    }
}

/// What a line that is an error of rustc's is about.
#[derive(Debug, PartialEq)]
enum ErrorKind {
    /// It points at the source, or has a code that explains it.
    OfSource,
    /// It does neither: that the linker has failed is one, that there were other errors is one.
    OfNoSource,
}

impl ErrorKind {
    fn of(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Diagnostic<'a> {
            /// Absent before rust-lang/rust#115691 (2023).
            #[serde(borrow, default, rename = "$message_type")]
            message_type: Option<Cow<'a, str>>,
            #[serde(borrow)]
            level: Cow<'a, str>,
            spans: Vec<IgnoredAny>,
            #[serde(default)]
            code: Option<IgnoredAny>,
        }

        if !line.starts_with('{') {
            return None;
        }
        let diagnostic: Diagnostic<'_> = serde_json::from_str(line).ok()?;
        if diagnostic.level != "error"
            || diagnostic.message_type.is_some_and(|it| it != "diagnostic")
        {
            return None;
        }
        Some(
            match diagnostic.spans.is_empty() && diagnostic.code.is_none() {
                true => ErrorKind::OfNoSource,
                false => ErrorKind::OfSource,
            },
        )
    }
}

/// The names of the shim in what rustc prints, and what to print instead.
struct Names(Vec<(String, String)>);

impl Names {
    fn new(shim: &OsStr, real: &OsStr) -> Self {
        let plain = |name: &OsStr| name.display().to_string();
        let in_json = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        // rustc prints the command line of a link that failed with `Debug`, and the program in it
        // with that of a C string, which escapes single quotes as well.
        let debug = |name: &OsStr| {
            let quoted = format!("{name:?}");
            quoted[1..quoted.len() - 1].to_owned()
        };
        let debug_c = |name: &OsStr| plain(name).escape_debug().to_string();
        let mut names = vec![
            (in_json(&debug_c(shim)), in_json(&debug_c(real))),
            (in_json(&debug(shim)), in_json(&debug(real))),
            (in_json(&plain(shim)), in_json(&plain(real))),
            (plain(shim), plain(real)),
        ];
        // What has to be escaped is in all of them or in none, and the longer ones may hold the
        // others.
        names.dedup_by(|later, earlier| later.0 == earlier.0);
        Names(names)
    }

    fn real<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        for (shim, real) in &self.0 {
            if line.contains(shim) {
                line = Cow::Owned(line.replace(shim, real));
            }
        }
        line
    }
}

/// How many bytes of lines are kept of each stream. Beyond that, lines are passed on as they come, and
/// those of a second run are passed on although the first has printed them.
const MOST_BYTES: usize = 1 << 20;

/// Lines that are not passed on yet.
#[derive(Default)]
struct Held {
    lines: Vec<String>,
    bytes: usize,
}

impl Held {
    fn add(&mut self, line: String, on_line: OnLine<'_>) -> anyhow::Result<()> {
        self.bytes = self.bytes.saturating_add(line.len());
        if self.bytes <= MOST_BYTES {
            self.lines.push(line);
            return Ok(());
        }
        self.pass_on(on_line)?;
        on_line(&line)
    }

    fn pass_on(&mut self, on_line: OnLine<'_>) -> anyhow::Result<()> {
        self.lines.drain(..).try_for_each(|line| on_line(&line))
    }
}

/// The lines of a stream that were passed on.
#[derive(Default)]
struct Passed {
    times: HashMap<String, usize>,
    bytes: usize,
}

impl Passed {
    fn add(&mut self, line: &str) {
        if let Some(times) = self.times.get_mut(line) {
            *times += 1;
        } else if self.bytes.saturating_add(line.len()) <= MOST_BYTES {
            self.bytes += line.len();
            self.times.insert(line.to_owned(), 1);
        }
    }

    /// Whether it was passed on and has not been taken as often.
    fn take(&mut self, line: &str) -> bool {
        match self.times.get_mut(line) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ended::*;
    use super::*;

    #[test]
    fn every_verdict() {
        use Report::*;
        use Verdict::*;
        for (report, well, without_source_error, badly) in [
            (Silent, Again, Again, Stands),
            (Incomplete, Again, Again, Again),
            (Parked, Again, Stands, Stands),
            (Linked, Stands, Stands, Stands),
            (
                NotExecuted,
                AgainWithPermit,
                AgainWithPermit,
                AgainWithPermit,
            ),
            (
                Report::Aborted,
                Verdict::Aborted,
                Verdict::Aborted,
                Verdict::Aborted,
            ),
        ] {
            assert_eq!(Verdict::of(report, Well), well, "{report:?}");
            assert_eq!(
                Verdict::of(report, WithoutSourceError),
                without_source_error,
                "{report:?}"
            );
            assert_eq!(Verdict::of(report, Badly), badly, "{report:?}");
            assert_eq!(Verdict::of(report, OutOfResources), Again, "{report:?}");
        }
    }

    #[test]
    fn which_errors_may_be_of_the_link() {
        use ErrorKind::*;
        for (line, kind) in [
            (
                r#"{"$message_type":"diagnostic","message":"linking with `cc` failed","code":null,"level":"error","spans":[],"children":[],"rendered":"…"}"#,
                Some(OfNoSource),
            ),
            (
                r#"{"message":"m","level":"error","spans":[]}"#,
                Some(OfNoSource),
            ),
            (
                r#"{"message":"m","code":{"code":"E0601"},"level":"error","spans":[]}"#,
                Some(OfSource),
            ),
            (
                r#"{"message":"m","code":null,"level":"error","spans":[{"line_start":1}]}"#,
                Some(OfSource),
            ),
            (
                r#"{"message":"m","code":null,"level":"warning","spans":[]}"#,
                None,
            ),
            (
                r#"{"message":"m","code":null,"level":"error: internal compiler error","spans":[]}"#,
                None,
            ),
            (
                r#"{"$message_type":"artifact","level":"error","spans":[]}"#,
                None,
            ),
            (
                r#"{"$message_type":"artifact","artifact":"a","emit":"link"}"#,
                None,
            ),
            (r#"{"level":"error"}"#, None),
            ("error: linking failed", None),
            ("", None),
        ] {
            assert_eq!(ErrorKind::of(line), kind, "{line}");
        }
    }

    #[test]
    fn the_real_linker_is_named() {
        let names = Names::new(OsStr::new("/a \"dir\"/cc"), OsStr::new("my \\ cc"));
        for (line, expected) in [
            (
                "/a \"dir\"/cc failed, /a \"dir\"/cc!",
                "my \\ cc failed, my \\ cc!",
            ),
            (
                r#"{"m":"`/a \"dir\"/cc` failed"}"#,
                r#"{"m":"`my \\ cc` failed"}"#,
            ),
            (
                r#"{"m":"\"/a \\\"dir\\\"/cc\" \"-m64\""}"#,
                r#"{"m":"\"my \\\\ cc\" \"-m64\""}"#,
            ),
            ("/a dir/cc", "/a dir/cc"),
        ] {
            assert_eq!(names.real(line), expected);
        }
        let names = Names::new(OsStr::new("/it's/cc"), OsStr::new("cc"));
        for line in [
            r#"{"m":"\"/it\\'s/cc\" -m64"}"#,
            r#"{"m":"\"/it's/cc\" -m64"}"#,
        ] {
            assert_eq!(names.real(line), r#"{"m":"\"cc\" -m64"}"#);
        }
        let names = Names::new(OsStr::new("/target/cc"), OsStr::new("cc"));
        assert_eq!(names.0.len(), 1);
        assert!(matches!(names.real("as ever"), Cow::Borrowed("as ever")));
    }

    #[test]
    fn kept_lines_are_bounded() {
        let line = "x".repeat(1000);
        let (mut passed, mut held) = (Passed::default(), Held::default());
        let mut count = 0;
        for number in 0..5000 {
            let line = format!("{number} {line}");
            passed.add(&line);
            let on_line: OnLine<'_> = &mut |_| {
                count += 1;
                Ok(())
            };
            held.add(line, on_line).unwrap();
        }
        assert!(passed.bytes <= MOST_BYTES && passed.times.len() > 1000);
        assert_eq!((count, held.lines.len()), (5000, 0));
    }

    #[test]
    fn resources_are_told_from_other_errors() {
        let error = |code| {
            let cause = std::io::Error::from_raw_os_error(code);
            anyhow::Error::new(cause).context("could not execute process")
        };
        assert!(is_out_of_resources(&error(24)), "EMFILE");
        assert!(!is_out_of_resources(&error(2)), "ENOENT");
    }

    #[test]
    fn a_line_is_dropped_as_often_as_it_was_passed() {
        let mut passed = Passed::default();
        for line in ["a", "b", "a"] {
            passed.add(line);
        }
        assert_eq!(
            ["a", "a", "a", "b", "b", "c"].map(|line| passed.take(line)),
            [true, true, false, true, false, false]
        );
    }

    #[test]
    fn without_the_gate_it_is_one_run_with_its_lines_untouched() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut runs = 0;
        run(
            None,
            &mut |linker, out, err| {
                assert_eq!(linker, None);
                runs += 1;
                out("a")?;
                err(r#"{"level":"error","spans":[]}"#)
            },
            &|_| None,
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
}

#[cfg(all(test, unix))]
mod through_the_gate {
    use super::super::protocol::{ACKNOWLEDGED, Hello, JOB_FILE, JobFile, Kind, LINK, SOCKET};
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LINK_ERROR: &str =
        r#"{"message":"linking with `SHIM` failed","code":null,"level":"error","spans":[]}"#;
    const SOURCE_ERROR: &str =
        r#"{"message":"m","code":null,"level":"error","spans":[{"line_start":1}]}"#;
    const WARNING: &str = r#"{"message":"w","code":null,"level":"warning","spans":[]}"#;

    /// What the fake shim says, in this order, and whether it waits for what it hears.
    fn shim(linker: &Path, kind: Kind) -> Vec<u8> {
        let dir = linker.parent().unwrap();
        let job = JobFile::decode(&fs::read(dir.join(JOB_FILE)).unwrap()).unwrap();
        let mut gate = UnixStream::connect(dir.parent().unwrap().join(SOCKET)).unwrap();
        gate.write_all(&job.hello(kind).encode()).unwrap();
        let mut heard = Vec::new();
        gate.read_to_end(&mut heard).unwrap();
        heard
    }

    /// Says that it is parked and dies.
    fn dying_shim(linker: &Path) {
        let dir = linker.parent().unwrap();
        let job = JobFile::decode(&fs::read(dir.join(JOB_FILE)).unwrap()).unwrap();
        let mut gate = UnixStream::connect(dir.parent().unwrap().join(SOCKET)).unwrap();
        let hello: Hello = job.hello(Kind::Parked);
        gate.write_all(&hello.encode()).unwrap();
        gate.read_exact(&mut [0]).unwrap();
    }

    #[derive(Debug)]
    struct Exited(i32);

    impl fmt::Display for Exited {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "exit code {}", self.0)
        }
    }

    impl std::error::Error for Exited {}

    fn exited(code: i32) -> anyhow::Result<()> {
        Err(Exited(code).into())
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
            self.result.as_ref().is_err_and(|e| e.is::<Aborted>())
        }
    }

    type First<'a> = &'a dyn Fn(&Path, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

    /// Runs `first` at the gate and, if there is a second run, one that warns and ends well. The
    /// queue answers with `permit` whoever parks; with `None`, it answers when all is over.
    fn outcome(linker: &str, permit: Option<Permit>, first: First<'_>) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        let gate = Arc::new(
            Gate::open(&dir.path().join("gate"), &std::env::current_exe().unwrap()).unwrap(),
        );
        let parked = Arc::new(AtomicUsize::new(0));
        let parking = {
            let parked = Arc::clone(&parked);
            let unanswered = std::sync::Mutex::new(Vec::new());
            Parking::new(move |sender| {
                // The second time it is no fake shim that waits.
                let times = parked.fetch_add(1, Ordering::SeqCst);
                match permit {
                    Some(permit) => sender.send(permit),
                    None if times == 1 => sender.send(Permit::Link),
                    None => unanswered.lock().unwrap().push(sender),
                }
            })
        };
        let runs = Cell::new(0);
        let (stdout, stderr) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let result = run(
            Some(EarlyStart {
                gate: Arc::clone(&gate),
                linker: linker.into(),
                parking,
            }),
            &mut |linker, out, err| {
                runs.set(runs.get() + 1);
                out("out")?;
                err(WARNING)?;
                match (linker, runs.get()) {
                    (Some(linker), 1) => first(linker, out, err),
                    (None, _) => {
                        err(WARNING)?;
                        out("second")
                    }
                    (Some(_), _) => panic!("the gate is for the first run"),
                }
            },
            &|e| Some(e.downcast_ref::<Exited>()?.0),
            &mut |line| {
                stdout.borrow_mut().push(line.to_owned());
                Ok(())
            },
            &mut |line| {
                stderr.borrow_mut().push(line.to_owned());
                Ok(())
            },
        );
        assert_eq!(
            fs::read_dir(dir.path().join("gate")).unwrap().count(),
            1,
            "only the socket is left"
        );
        Outcome {
            result,
            runs: runs.get(),
            parked: parked.load(Ordering::SeqCst),
            stdout: stdout.into_inner(),
            stderr: stderr.into_inner(),
        }
    }

    /// It ran twice, and nobody heard anything twice.
    fn assert_again(outcome: &Outcome, parked: usize) {
        outcome.result.as_ref().unwrap();
        assert_eq!((outcome.runs, outcome.parked), (2, parked), "{outcome:?}");
        assert_eq!(outcome.stdout, ["out", "second"]);
        assert_eq!(outcome.stderr, [WARNING, WARNING]);
    }

    #[test]
    fn linked() {
        let outcome = outcome("cc", Some(Permit::Link), &|linker, out, _| {
            assert_eq!(shim(linker, Kind::Parked), [ACKNOWLEDGED, LINK]);
            // Without some flags, this time.
            assert_eq!(shim(linker, Kind::Parked), [ACKNOWLEDGED, LINK]);
            out("linked")
        });
        outcome.result.as_ref().unwrap();
        assert_eq!((outcome.runs, outcome.parked), (1, 1));
        assert_eq!(outcome.stdout, ["out", "linked"]);
    }

    #[test]
    fn linked_and_failed() {
        let real = "/usr/bin/my cc";
        let outcome = outcome(real, Some(Permit::Link), &|linker, _, err| {
            assert_eq!(linker.file_name().unwrap(), "my cc");
            shim(linker, Kind::Parked);
            err(&LINK_ERROR.replace("SHIM", linker.to_str().unwrap()))?;
            err("to the end")?;
            exited(1)
        });
        assert_eq!(
            outcome.result.as_ref().unwrap_err().to_string(),
            "exit code 1"
        );
        assert_eq!(outcome.runs, 1);
        assert_eq!(
            outcome.stderr,
            [WARNING, &LINK_ERROR.replace("SHIM", real), "to the end"]
        );
    }

    #[test]
    fn aborted() {
        let outcome = outcome("cc", Some(Permit::Abort), &|linker, _, err| {
            assert_eq!(shim(linker, Kind::Parked), [ACKNOWLEDGED]);
            err(LINK_ERROR)?;
            exited(1)
        });
        assert!(outcome.is_aborted(), "{outcome:?}");
        assert_eq!((outcome.runs, outcome.stderr.len()), (1, 1));
    }

    #[test]
    fn incomplete() {
        let first: First<'_> = &|linker, _, err| {
            assert_eq!(shim(linker, Kind::Incomplete), [ACKNOWLEDGED]);
            err(LINK_ERROR)?;
            exited(1)
        };
        assert_again(&outcome("cc", Some(Permit::Link), first), 1);
        let aborted = outcome("cc", Some(Permit::Abort), first);
        assert!(aborted.is_aborted(), "{aborted:?}");
        assert_eq!(aborted.runs, 1);
    }

    #[test]
    fn not_executed() {
        let outcome = outcome("cc", Some(Permit::Link), &|linker, _, err| {
            shim(linker, Kind::Parked);
            assert_eq!(shim(linker, Kind::NotExecuted), [ACKNOWLEDGED]);
            err(LINK_ERROR)?;
            exited(1)
        });
        // The permit of the first run is that of the second.
        assert_again(&outcome, 1);
    }

    #[test]
    fn bypassed() {
        assert_again(&outcome("cc", Some(Permit::Link), &|_, _, _| Ok(())), 1);
    }

    #[test]
    fn failed_without_a_word_about_the_source() {
        let outcome = outcome("cc", Some(Permit::Link), &|_, _, err| {
            err(LINK_ERROR)?;
            exited(1)
        });
        assert_again(&outcome, 1);
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
    fn killed_or_never_started() {
        let first: First<'_> = &|_, _, _| exited(101);
        let panicked = outcome("cc", Some(Permit::Link), first);
        assert_eq!((panicked.runs, panicked.parked), (1, 0));
        let never: First<'_> = &|_, _, _| anyhow::bail!("no such program");
        let never = outcome("cc", Some(Permit::Link), never);
        assert_eq!(never.result.unwrap_err().to_string(), "no such program");
    }

    #[test]
    fn killed_while_it_waited() {
        let outcome = outcome("cc", None, &|linker, _, _| {
            dying_shim(linker);
            anyhow::bail!("signal")
        });
        assert_eq!(outcome.result.unwrap_err().to_string(), "signal");
        assert_eq!((outcome.runs, outcome.parked), (1, 1));
    }

    #[test]
    fn waited_and_yet_something_linked() {
        let outcome = outcome("cc", None, &|linker, _, _| {
            dying_shim(linker);
            Ok(())
        });
        assert_again(&outcome, 2);
    }

    #[test]
    fn not_admitted() {
        // The gate has no place for such a linker.
        let first: First<'_> = &|_, _, _| unreachable!();
        let again = outcome(JOB_FILE, Some(Permit::Link), first);
        again.result.unwrap();
        assert_eq!((again.runs, again.parked), (1, 1));
        assert_eq!(again.stderr, [WARNING, WARNING]);
        let aborted = outcome(JOB_FILE, Some(Permit::Abort), first);
        assert!(aborted.is_aborted());
        assert_eq!((aborted.runs, aborted.parked), (0, 1));
    }
}
