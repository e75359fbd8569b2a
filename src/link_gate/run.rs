//! One compiler, from its early start to a result that stands. See the [module's
//! documentation](super).

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use cargo_util::{ProcessBuilder, ProcessError};

use super::Gate;
use crate::pause::Handle;
use crate::permit::Parking;
#[cfg(unix)]
use crate::permit::Permit;
use crate::process::{Control, OnLine};

/// A compiler that starts before the rlibs of its dependencies are ready.
#[derive(Debug)]
pub struct EarlyStart {
    /// Where its shim is.
    pub gate: Arc<Gate>,
    /// How it is held.
    pub linker: HeldLinker,
}

/// How a compiler can be held before its linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLinker {
    /// Tells the compiler from others. The same in each build of the same unit, so that a wrapper that
    /// caches by command line sees the same command.
    pub name: String,
    /// The real linker, as it is spelled: a path, or a name to be looked up as rustc does. See
    /// [`linker`](super::linker).
    pub linker: String,
}

/// Runs a process under this control, with these for the lines of its stdout and stderr.
pub type Exec<'a> =
    &'a mut dyn FnMut(&ProcessBuilder, Control, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

/// The compiler was told to end, because an output that it links will never be ready.
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

/// Runs `rustc`, the compiler of a unit. With `early` `None`, that is one call of `exec`.
///
/// With [`EarlyStart`] the compiler [parks](Parking) before its linker, which waits for a permit. The result stands only if the linker ran
/// with a permit, or if the compiler failed for a reason that has nothing to do with the gate. In any
/// other case it runs a second time, without the gate, once there is a permit to link; then no line is
/// passed on twice.
///
/// The lines and errors are what they would be without the gate: they name the real linker, and the
/// command without the shim. Lines of stderr that may be about a failed link are held back until it is
/// known whether the run stands, up to a megabyte.
///
/// Blocks as long as the compiler runs and there is no permit.
///
/// # Errors
///
/// [`Aborted`] if the permit is [`Permit::Abort`](crate::permit::Permit::Abort). Otherwise the error of
/// `exec` in the run that stands, or of `on_stdout` and `on_stderr`.
pub fn run(
    rustc: &ProcessBuilder,
    early: Option<(EarlyStart, Parking)>,
    handle: Option<&Handle>,
    exec: Exec<'_>,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    let control = || Control {
        handle: handle.cloned(),
        inherited: None,
    };
    #[cfg(unix)]
    if let Some((early, parking)) = early {
        return run_held(
            rustc, &early, &parking, &control, exec, on_stdout, on_stderr,
        );
    }
    #[cfg(not(unix))]
    drop(early);
    exec(rustc, control(), on_stdout, on_stderr)
}

#[cfg(unix)]
fn run_held(
    rustc: &ProcessBuilder,
    early: &EarlyStart,
    parking: &Parking,
    control: &dyn Fn() -> Control,
    exec: Exec<'_>,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    use super::held::Held;
    use super::output::{ErrorKind, HeldBack, Names, Passed};

    let gate = &early.gate;
    let wait = || match parking.park_and_wait() {
        Permit::Link => Ok(()),
        Permit::Abort => Err(Aborted),
    };
    let Ok(mut held) = Held::new(early, parking.clone()) else {
        wait()?;
        return exec(rustc, control(), on_stdout, on_stderr);
    };

    let mut gated = rustc.clone();
    let mut argument = OsString::from("linker=");
    argument.push(held.linker());
    gated.arg("-C").arg(argument);
    let names = Names::new(held.linker().as_os_str(), early.linker.linker.as_ref());
    let mut stdout = Passed::default();
    let mut stderr = Passed::default();
    let mut held_back = HeldBack::default();
    let mut source_error = false;
    let first = Control {
        inherited: held.inherited(),
        ..control()
    };
    let result = exec(
        &gated,
        first,
        &mut |line| {
            let line = names.real(line);
            stdout.add(&line);
            on_stdout(&line)
        },
        &mut |line| {
            let line = names.real(line);
            let kind = ErrorKind::of(&line);
            source_error |= kind == Some(ErrorKind::OfSource);
            if kind == Some(ErrorKind::OfNoSource) || !held_back.is_empty() {
                return held_back.add(line.into_owned(), on_stderr);
            }
            stderr.add(&line);
            on_stderr(&line)
        },
    );
    let ended = Ended::of(&result, source_error);
    let progress = held.end();
    match Verdict::of(progress, ended) {
        Verdict::Stands => {
            let passed_on = held_back.pass_on(on_stderr);
            return result
                .map_err(|e| without_shim(e, &gated, rustc))
                .and(passed_on);
        }
        Verdict::Aborted => return Err(Aborted.into()),
        Verdict::Again => {
            match ended {
                Ended::OutOfResources => _ = gate.given_up.set("resources are short"),
                Ended::TooLong => {}
                _ if progress == Progress::Compiling => {
                    let _ = gate.given_up.set("a linker was not held back");
                }
                _ => {}
            }
            wait()?;
        }
        Verdict::AgainWithPermit => {}
    }
    exec(
        rustc,
        control(),
        &mut |line| {
            if stdout.take(line) {
                return Ok(());
            }
            on_stdout(line)
        },
        &mut |line| {
            if stderr.take(line) {
                return Ok(());
            }
            on_stderr(line)
        },
    )
}

/// The error with the command that can be run by hand.
#[cfg(unix)]
fn without_shim(
    error: anyhow::Error,
    gated: &ProcessBuilder,
    rustc: &ProcessBuilder,
) -> anyhow::Error {
    match error.downcast::<ProcessError>() {
        Ok(mut e) => {
            e.desc = e.desc.replace(&gated.to_string(), &rustc.to_string());
            e.into()
        }
        Err(e) => e,
    }
}

#[cfg(unix)]
use super::held::Progress;

/// How the first run ended.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Well,
    /// It could not start, for want of descriptors, processes or memory.
    OutOfResources,
    /// It could not start, because its arguments have to be passed in a file.
    TooLong,
    /// rustc exited with 1, which is how it tells that it has found an error, and has not shown one that
    /// is about the source.
    WithoutSourceError,
    /// Any other way: errors in the source, a signal, a panic of rustc, no such program.
    Badly,
}

#[cfg(unix)]
impl Ended {
    fn of(result: &anyhow::Result<()>, source_error: bool) -> Self {
        use std::io;

        use rustix::io::Errno;

        let Err(error) = result else {
            return Ended::Well;
        };
        let causes = || error.chain().filter_map(|it| it.downcast_ref());
        let is_short = causes().any(|cause: &io::Error| {
            matches!(
                Errno::from_io_error(cause),
                Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM)
            )
        });
        let is_too_long =
            causes().any(|cause: &io::Error| cause.kind() == io::ErrorKind::ArgumentListTooLong);
        let code = error.downcast_ref::<ProcessError>().and_then(|e| e.code);
        match code {
            _ if is_short => Ended::OutOfResources,
            _ if is_too_long => Ended::TooLong,
            Some(1) if !source_error => Ended::WithoutSourceError,
            _ => Ended::Badly,
        }
    }
}

/// What becomes of the first run.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Its result is the result.
    Stands,
    /// There is a second one, after a permit.
    Again,
    /// There is a second one, and it has the permit already.
    AgainWithPermit,
    /// It was told to end.
    Aborted,
}

#[cfg(unix)]
impl Verdict {
    fn of(progress: Progress, ended: Ended) -> Self {
        match (progress, ended) {
            (_, Ended::OutOfResources | Ended::TooLong) => Verdict::Again,
            (Progress::Linking, _) => Verdict::Stands,
            (Progress::Aborted, _) => Verdict::Aborted,
            (Progress::NotLinked, _) => Verdict::AgainWithPermit,
            // Something has linked, or nothing has, but not what had to wait. It may be made from
            // hollow rlibs.
            (Progress::Compiling | Progress::Parked | Progress::Permitted, Ended::Well) => {
                Verdict::Again
            }
            // It may have failed over a hollow rlib, or over the shim.
            (Progress::Compiling, Ended::WithoutSourceError) => Verdict::Again,
            (Progress::Compiling, Ended::Badly) => Verdict::Stands,
            // It was killed while it waited: nothing else makes it go on.
            (Progress::Parked | Progress::Permitted, _) => Verdict::Stands,
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
