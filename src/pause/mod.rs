//! Stops a compiler that runs, and continues it. Linux only.
//!
//! Once a rustc has written its metadata, what is left of it may have a lower priority than what waits
//! for a slot. The queue then stops it (SIGSTOP), gives its slot to another job, and continues it
//! (SIGCONT) when its turn has come:
//!
//! ```text
//!  rustc                    thread of the job            thread of the queue
//!    │ ◀──── spawn ───────── exec()                          │
//!    │ metadata is written     │                             │
//!    ├────────────────────────▶├─── Event::Metadata ────────▶│ Handle::pause
//!    ■ ◀─────────────────────────────────── SIGSTOP ─────────┤
//!    ■                         │ reads the pipes             │ …
//!    │ ◀─────────────────────────────────── SIGCONT ─────────┤ Handle::resume
//!    │ exits                   │                             │
//!    └────────────────────────▶│ both have ended: no signals from here on
//!                              │ wait
//! ```
//!
//! # Who is signalled
//!
//! Only the process that the job has started, and only if that is rustc itself ([`Handle::runs`]): a
//! script or another program in its place has rustc as a child, which would run on. The process is
//! signalled only while it has not been waited for, because its id is its own until then.
//!
//! To stop a process is a request: its threads stop at the end of their current system call, and a
//! process that is about to end may end. Neither matters to the queue: the job is over when its thread
//! says so.
//!
//! # Nothing stays stopped
//!
//! | what happens | who continues what is stopped |
//! | --- | --- |
//! | the queue ends, well or with an error or a panic | dropping [`Pauses`](crate::scheduler::Pauses) |
//! | a job fails in its own thread | [`exec`](crate::process::exec), before it returns |
//! | Ctrl-C, a signal that kills cargo, SIGKILL, `panic = "abort"`, the OOM killer | the kernel |
//!
//! For the last one each compiler has asked, before it was executed, to be sent SIGCONT when the thread
//! of its job ends (`PR_SET_PDEATHSIG`; it survives execve(2) unless the program is set-user-ID). The
//! rule for orphaned process groups (POSIX, `_exit`) is not enough: it depends on who started cargo. A
//! process that is stopped also keeps SIGINT and SIGTERM for later.
//!
//! # Ctrl-Z
//!
//! It stops all processes of cargo's group, and `fg` continues all of them, what was paused included.
//! Such a compiler just runs early; continuing it once more does no harm.
//!
//! # Tokens
//!
//! A stopped compiler keeps the jobserver tokens that its codegen threads have taken by then. So the time
//! to stop it is when it has written its metadata, before it has asked for any.

#[cfg(target_os = "linux")]
mod handle;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod handle;

pub use handle::Handle;

/// Whether anything can be paused on this system.
pub const IS_SUPPORTED: bool = cfg!(target_os = "linux");
