//! Runs the process of a job, so that it can be paused.

use std::process::Stdio;
use std::{env, io};

use anyhow::Context;
use cargo_util::{ProcessBuilder, ProcessError, read2};

use super::Handle;
use crate::link_gate::OnLine;

/// Runs `process` to its end under `handle`, and hands on the lines of its stdout and its stderr.
///
/// What is handed on, and what the errors say, is what
/// [`exec_with_streaming`](ProcessBuilder::exec_with_streaming) does, without capturing the output. That
/// one runs the process itself, and `handle` with nothing, where arguments have to be passed in a file
/// because there are too many: only it can do that.
///
/// Blocks until the process has ended and nobody has its stdout and stderr any more; so, as long as it
/// is paused. When this returns, or panics in one of the two, the process is not stopped.
///
/// # Errors
///
/// A [`ProcessError`] if the process cannot be executed, or does not exit with 0. If `on_stdout` or
/// `on_stderr` fails, the first such error; then no more lines are handed on, but they are read, and the
/// process ends as it would.
pub fn exec(
    process: &ProcessBuilder,
    handle: &Handle,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    // A debug build of cargo-util does so on demand, for the tests of Cargo.
    if cfg!(debug_assertions) && env::var_os("__CARGO_TEST_FORCE_ARGFILE").is_some() {
        return super::exec_unpaused(process, on_stdout, on_stderr);
    }
    let could_not_execute = || ProcessError::could_not_execute(process);
    let mut command = process.build_command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::ArgumentListTooLong => {
            return super::exec_unpaused(process, on_stdout, on_stderr);
        }
        Err(e) => return Err(e).with_context(could_not_execute),
    };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        unreachable!("both are pipes");
    };

    let mut failed = None;
    let mut out = Lines::new(on_stdout);
    let mut err = Lines::new(on_stderr);
    let attached = handle.attach(&child);
    let read = read2(stdout, stderr, &mut |is_out, data, is_end| {
        let lines = if is_out { &mut out } else { &mut err };
        if let Err(e) = lines.hand_on(data, is_end, failed.is_some()) {
            failed = Some(e);
        }
    });
    // Before it is waited for: after that its id may be somebody else's.
    drop(attached);
    let status = read
        .and_then(|()| child.wait())
        .with_context(could_not_execute)?;
    if let Some(e) = failed {
        let message = format!("failed to parse process output: {process}");
        let source = ProcessError::new(&message, Some(status), None);
        return Err(anyhow::Error::new(source).context(e));
    }
    if !status.success() {
        let message = format!("process didn't exit successfully: {process}");
        return Err(ProcessError::new(&message, Some(status), None).into());
    }
    Ok(())
}

/// The lines of a stream.
struct Lines<'a> {
    on_line: OnLine<'a>,
    /// How much of what is left has been looked through for the end of a line.
    searched: usize,
}

impl<'a> Lines<'a> {
    fn new(on_line: OnLine<'a>) -> Self {
        Lines {
            on_line,
            searched: 0,
        }
    }

    /// Takes the complete lines out of `data`, and at the end what is left, and hands them on, unless
    /// they are to be `dropped`.
    fn hand_on(&mut self, data: &mut Vec<u8>, is_end: bool, dropped: bool) -> anyhow::Result<()> {
        let unsearched = &data[self.searched..];
        let complete = match unsearched.iter().rposition(|byte| *byte == b'\n') {
            _ if is_end => data.len(),
            Some(newline) => self.searched + newline + 1,
            None => {
                self.searched = data.len();
                return Ok(());
            }
        };
        self.searched = 0;
        let handed_on = match dropped {
            true => Ok(()),
            false => String::from_utf8_lossy(&data[..complete])
                .lines()
                .try_for_each(|line| (self.on_line)(line)),
        };
        data.drain(..complete);
        handed_on
    }
}

#[cfg(test)]
mod tests;
