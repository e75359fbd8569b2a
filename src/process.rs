//! Runs the compiler of a job so that the queue can pause it and hold its linker.

use std::io;
use std::process::{Command, Stdio};

use anyhow::Context;
use cargo_util::{ProcessBuilder, ProcessError, read2};

use crate::pause::Handle;

/// Receives the lines of a stream, without their line endings.
pub type OnLine<'a> = &'a mut dyn FnMut(&str) -> anyhow::Result<()>;

/// A descriptor that exactly one process inherits.
#[cfg(unix)]
pub type Inherited = std::os::fd::OwnedFd;
/// A descriptor that exactly one process inherits. Nothing is inherited on this system.
#[cfg(not(unix))]
pub type Inherited = std::convert::Infallible;

/// How a process is controlled while it runs. By default it is not.
#[derive(Debug, Default)]
pub struct Control {
    /// Pauses and resumes the process.
    pub handle: Option<Handle>,
    /// The process inherits it under the same number. The copy of this process is closed once it runs.
    pub inherited: Option<Inherited>,
}

/// Runs `process` to its end under `control` and passes on the lines of its stdout and stderr.
///
/// Lines and errors are those of [`exec_with_streaming`](ProcessBuilder::exec_with_streaming) without
/// captured output. A process with too many arguments is left to that one, and is not paused. Blocks until the
/// process has ended and no other process has its stdout and stderr open.
///
/// # Errors
///
/// A [`ProcessError`] if the process cannot be executed or does not exit with 0. The first error of
/// `on_stdout` or `on_stderr`; the lines after it are read and dropped, and the process runs to its end.
/// [`ArgumentListTooLong`](io::ErrorKind::ArgumentListTooLong) for a process that is to inherit something.
pub fn exec(
    process: &ProcessBuilder,
    mut control: Control,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    let could_not_execute = || ProcessError::could_not_execute(process);
    let mut command = process.build_command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepare(&mut command, &control);
    // A debug build of cargo-util passes arguments in a file on demand, for the tests of Cargo.
    let is_forced =
        cfg!(debug_assertions) && std::env::var_os("__CARGO_TEST_FORCE_ARGFILE").is_some();
    let spawned = if is_forced {
        Err(io::ErrorKind::ArgumentListTooLong.into())
    } else {
        command.spawn()
    };
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::ArgumentListTooLong && control.inherited.is_none() => {
            return process
                .exec_with_streaming(on_stdout, on_stderr, false)
                .map(drop);
        }
        Err(e) => return Err(e).with_context(could_not_execute),
    };
    drop(control.inherited.take());
    let pipes = child.stdout.take().zip(child.stderr.take());
    let (stdout, stderr) = pipes.expect("both are pipes");

    let mut failed = None;
    // How much of what is left of each stream has been searched for the end of a line.
    let mut searched = [0, 0];
    let attached = control.handle.as_ref().map(|handle| handle.attach(&child));
    let read = read2(stdout, stderr, &mut |is_out, data, is_end| {
        let searched = &mut searched[usize::from(is_out)];
        let newline = data[*searched..].iter().rposition(|byte| *byte == b'\n');
        let complete = match newline {
            _ if is_end => data.len(),
            Some(newline) => *searched + newline + 1,
            None => {
                *searched = data.len();
                return;
            }
        };
        *searched = 0;
        if failed.is_none() {
            let text = String::from_utf8_lossy(&data[..complete]);
            let on_line = |line| {
                if is_out {
                    on_stdout(line)
                } else {
                    on_stderr(line)
                }
            };
            failed = text.lines().try_for_each(on_line).err();
        }
        data.drain(..complete);
    });
    // Before it is waited for: after that its id may belong to another process.
    drop(attached);
    let status = read
        .and_then(|()| child.wait())
        .with_context(could_not_execute)?;
    let error = |what| ProcessError::new(&format!("{what}: {process}"), Some(status), None);
    if let Some(e) = failed {
        return Err(anyhow::Error::new(error("failed to parse process output")).context(e));
    }
    if !status.success() {
        return Err(error("process didn't exit successfully").into());
    }
    Ok(())
}

/// Has the child keep what it is to inherit, and continue if this *thread* dies while it is stopped
/// (PR_SET_PDEATHSIG(2const)). Each job has a thread that waits for its compiler.
#[cfg(unix)]
fn prepare(command: &mut Command, control: &Control) {
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::os::unix::process::CommandExt;

    let inherited = control.inherited.as_ref().map(AsRawFd::as_raw_fd);
    let is_pausable = cfg!(target_os = "linux") && control.handle.is_some();
    if inherited.is_none() && !is_pausable {
        return;
    }
    let before_exec = move || {
        if let Some(fd) = inherited {
            // SAFETY: `exec` keeps it open until the process runs.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        #[cfg(target_os = "linux")]
        if is_pausable {
            let signal = Some(rustix::process::Signal::CONT);
            rustix::process::set_parent_process_death_signal(signal)?;
        }
        Ok(())
    };
    // SAFETY: it only makes system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(before_exec) };
}

#[cfg(not(unix))]
fn prepare(_: &mut Command, _: &Control) {}

#[cfg(all(test, unix))]
mod tests;
