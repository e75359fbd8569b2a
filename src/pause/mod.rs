//! Stops a compiler that runs, and continues it.
//!
//! Once a rustc has written its metadata, what is left of it may be less urgent than what waits for a
//! slot. So the queue stops it (SIGSTOP), gives its slot to somebody else, and continues it (SIGCONT)
//! when its turn has come:
//!
//! ```text
//!  rustc                    thread of the job            thread of the queue            watchdog
//!    │ ◀──── spawn ───────── exec()                          │                             │
//!    │ metadata is written     │                             │                             │
//!    ├────────────────────────▶├─── Event::Metadata ────────▶│ Handle::pause               │
//!    │ codegen                 │                             ├── pid is stopped ──────────▶│
//!    ■ ◀─────────────────────────────────── SIGSTOP ─────────┤                             │
//!    ■                         │                             │ Handle::memory              │
//!    ■                         │ reads the pipes             │ …                           │
//!    │ ◀─────────────────────────────────── SIGCONT ─────────┤ Handle::resume              │
//!    │                         │                             ├── pid is continued ────────▶│
//!    │ exits                   │                             │                             │
//!    └────────────────────────▶│ both have ended: no signals from here on                  │
//!                              │ wait                        │                             │
//! ```
//!
//! [`exec()`] runs the process of one job as Cargo always has. What may happen to it goes through a
//! [`Handle`], which both threads have, and the [`Watchdog`] of the build.
//!
//! # Who is signalled
//!
//! The process that the job has started, and only if that is rustc itself ([`Handle::runs`]): a script
//! or another program in its place has rustc as a child, which would run on. Only Linux tells, so
//! nothing is paused elsewhere. The process is signalled only as long as it has not been waited for, because its id is its own until
//! then; so the thread of the job gives it up ([`Handle`] has the states) before it waits.
//!
//! To stop a process is a request. Its threads stop one after the other, at the end of what they ask of
//! the kernel just then; one that is about to end may end. None of it matters to the queue: the job is
//! over when its thread says so.
//!
//! # Nothing stays stopped
//!
//! | what happens | who continues what is stopped |
//! | --- | --- |
//! | the queue ends, well or with an error or a panic | dropping the [`Watchdog`] |
//! | a job fails in its own thread | [`exec()`], before it returns |
//! | Ctrl-C, a signal that kills cargo, SIGKILL, `panic = "abort"`, the OOM killer | the watchdog's process |
//!
//! The kernel cannot be relied on for the last one: it continues stopped processes only if their group
//! has become an orphan (POSIX, `_exit`), which depends on who started cargo. A stopped process also
//! keeps any other signal for later, SIGINT and SIGTERM as well.
//!
//! The process of the watchdog is cargo itself under another name ([`run_if_invoked_as_watchdog`]). It
//! reads from a socket which processes are stopped. Nobody but cargo has the other end, so when there is
//! nothing more to read, cargo is gone; it continues those that are left, and exits. Cargo tells it of a
//! process *before* it stops that, and only once the watchdog has said that it watches. No process, no
//! pausing. It is in a group of its own, ignores what the signals of a terminal or a shutdown would do,
//! has no terminal, no pipe and no directory of the user's, and lives no longer than cargo. Only
//! somebody who kills both with SIGKILL, and not the compilers, has to `pkill -CONT rustc`.
//!
//! # Ctrl-Z
//!
//! It stops all that is in cargo's group, and `fg` continues all of it, what was paused included. Such a
//! compiler just runs early; that it is continued once more does no harm.
//!
//! # Tokens
//!
//! A compiler that is stopped keeps the jobserver tokens that its codegen threads have taken by then. So
//! the time to stop it is when it has written its metadata, before it has asked for any.

use cargo_util::ProcessBuilder;

use crate::link_gate::OnLine;

#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod footprint;
#[cfg(unix)]
mod handle;
mod limit;
#[cfg(all(test, unix))]
mod script;
#[cfg(not(unix))]
mod unsupported;
#[cfg(unix)]
mod watchdog;

#[cfg(unix)]
pub use exec::exec;
#[cfg(unix)]
pub use handle::Handle;
pub use limit::PauseMemory;
#[cfg(not(unix))]
pub use unsupported::{Handle, Watchdog, exec, run_if_invoked_as_watchdog};
#[cfg(unix)]
pub use watchdog::{Watchdog, run_if_invoked_as_watchdog};

/// Whether anything can be paused on this system. If not, [`Handle::pause`] always fails.
pub const IS_SUPPORTED: bool = cfg!(target_os = "linux");

/// What [`Handle::pause`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Paused {
    /// The process is stopped, or it had nearly ended and does so.
    Stopped,
    /// The job has started no process yet, or none that can be paused.
    NotStarted,
    /// The process has ended, as far as its output tells.
    Ended,
}

/// Runs a process as Cargo does where nothing is ever paused.
fn exec_unpaused(
    process: &ProcessBuilder,
    on_stdout: OnLine<'_>,
    on_stderr: OnLine<'_>,
) -> anyhow::Result<()> {
    process
        .exec_with_streaming(on_stdout, on_stderr, false)
        .map(drop)
}
