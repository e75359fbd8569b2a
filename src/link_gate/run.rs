//! One compiler that is held, up to a result that stands.

use std::ffi::OsString;
use std::io;

use cargo_util::{ProcessBuilder, ProcessError};
use rustix::io::Errno;

use super::held::{Held, Progress};
use super::output::{Names, Passed, is_source_error};
use super::{Exec, Gate, HeldLinker, aborted, wait_for_permit};
use crate::permit::Parking;
use crate::process::{Control, OnLine};

/// How many bytes of stderr are held back. What is more is passed on as it comes.
const MOST_HELD_BACK: usize = 1 << 20;

/// A compiler that parks before its linker.
pub(super) struct BeforeLinker<'a> {
    pub gate: &'a Gate,
    pub linker: &'a HeldLinker,
    pub parking: &'a Parking,
}

/// [`run`](super::run()) of a compiler that starts early.
pub(super) fn run_held(
    rustc: &ProcessBuilder,
    early: &BeforeLinker<'_>,
    control: &dyn Fn() -> Control,
    exec: Exec<'_>,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    let Ok((held, inherited)) = Held::new(early) else {
        wait_for_permit(early.parking)?;
        return exec(rustc, control(), on_stdout, on_stderr);
    };

    let mut gated = rustc.clone();
    let mut argument = OsString::from("linker=");
    argument.push(&held.linker);
    gated.arg("-C").arg(argument);
    let names = Names::new(held.linker.as_os_str(), early.linker.linker.as_ref());
    let (mut stdout, mut stderr) = (Passed::default(), Passed::default());
    // Lines that may be about a failed link, and those after them.
    let mut held_back = String::new();
    let pass_on = |lines: &mut String, on_stderr: OnLine<'_>| {
        (std::mem::take(lines).split_terminator('\n')).try_for_each(on_stderr)
    };
    let mut has_source_error = false;
    let mut first = control();
    first.inherited = Some(inherited);
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
            let is_source_error = is_source_error(&line);
            has_source_error |= is_source_error == Some(true);
            if is_source_error != Some(false) && held_back.is_empty() {
                stderr.add(&line);
                return on_stderr(&line);
            }
            held_back.extend([&line, "\n"]);
            if held_back.len() > MOST_HELD_BACK {
                pass_on(&mut held_back, on_stderr)?;
            }
            Ok(())
        },
    );
    let ended = Ended::of(&result, has_source_error);
    let progress = held.end();
    if stands(progress, ended) {
        let passed_on = pass_on(&mut held_back, on_stderr);
        let result = result.map_err(|mut e| {
            if let Some(e) = e.downcast_mut::<ProcessError>() {
                // The command that can be run by hand.
                e.desc = e.desc.replace(&gated.to_string(), &rustc.to_string());
            }
            e
        });
        return result.and(passed_on);
    }
    // Only the first reason counts.
    let give_up = |reason| _ = early.gate.given_up.set(reason);
    match (progress, ended) {
        (Progress::Aborted, _) => return Err(aborted()),
        (_, Ended::OutOfResources) => give_up("resources are short"),
        (Progress::Compiling, Ended::Well | Ended::WithoutSourceError) => {
            give_up("a linker was not held back");
        }
        _ => {}
    }
    // That one has its permit already.
    if progress != Progress::NotLinked {
        wait_for_permit(early.parking)?;
    }
    let unless_passed = |passed: &mut Passed, line: &str, on_line: OnLine<'_>| {
        if passed.take(line) {
            Ok(())
        } else {
            on_line(line)
        }
    };
    exec(
        rustc,
        control(),
        &mut |line| unless_passed(&mut stdout, line, on_stdout),
        &mut |line| unless_passed(&mut stderr, line, on_stderr),
    )
}

/// How the first run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Well,
    /// It could not start, for want of descriptors, processes or memory.
    OutOfResources,
    /// It could not start, because its arguments have to be passed in a file.
    TooLong,
    /// rustc exited with 1, as it does when it has found an error, and has not shown one that is about
    /// the source.
    WithoutSourceError,
    /// Any other way: errors in the source, a signal, a panic of rustc, no such program.
    Badly,
}

impl Ended {
    fn of(result: &anyhow::Result<()>, has_source_error: bool) -> Self {
        let Err(error) = result else {
            return Ended::Well;
        };
        let cause = error.chain().find_map(|it| it.downcast_ref::<io::Error>());
        let is_short = matches!(
            cause.and_then(Errno::from_io_error),
            Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM)
        );
        let is_too_long = cause.is_some_and(|e| e.kind() == io::ErrorKind::ArgumentListTooLong);
        match error.downcast_ref::<ProcessError>().and_then(|e| e.code) {
            _ if is_short => Ended::OutOfResources,
            _ if is_too_long => Ended::TooLong,
            Some(1) if !has_source_error => Ended::WithoutSourceError,
            _ => Ended::Badly,
        }
    }
}

/// Whether the result of the first run is the result. Otherwise there is a second run, unless the first
/// was aborted.
fn stands(progress: Progress, ended: Ended) -> bool {
    match (progress, ended) {
        (_, Ended::OutOfResources | Ended::TooLong) => false,
        (Progress::NotLinked | Progress::Aborted, _) => false,
        (Progress::Linking, _) => true,
        // Something has linked, or nothing has, but not what had to wait. It may be made from hollow
        // rlibs.
        (_, Ended::Well) => false,
        // It may have failed over a hollow rlib, or over the shim.
        (Progress::Compiling, Ended::WithoutSourceError) => false,
        (Progress::Compiling, Ended::Badly) => true,
        // It was killed while it waited: nothing else makes it go on.
        (Progress::Parked | Progress::Permitted, _) => true,
    }
}

#[cfg(test)]
mod tests;
