//! Lets a compiler start before its rlibs are ready, and holds it just before its linker.
//!
//! When rustc compiles a crate that links (a binary, a test, a procedural macro, a build script, a
//! `cdylib`), it reads only the metadata of dependencies. Only the linker, at the very end, reads their code.
//! So cargo may start such a compiler as soon as all metadata is written, provided that rustc finds an rlib
//! where it looks for one, and that its linker waits:
//!
//! ```text
//!            -C linker=<gate>/3f…/cc                        ┌──────────── cargo ─────────────┐
//!  ┌───────┐        starts         ┌───────────────┐ P      │ ┌──────┐ Parking ┌───────────┐ │
//!  │ rustc ├──────────────────────▶│ shim, as `cc` ├────────┼▶│ Held ├────────▶│ job queue │ │
//!  └───┬───┘                       │               │◀───────┼─┤      │◀────────┤           │ │
//!      │ reads                     └───────┬───────┘ end    │ └──────┘ Permit  └───────────┘ │
//!      ▼                                   │ exec           └────────────────────────────────┘
//!  liba.rlib, hollow,                      ▼
//!  then the real one ──────────────▶  the real `cc`, same arguments, same environment
//! ```
//!
//! * A [hollow rlib](hollow) stands where the rlib will be: an archive with the metadata and no code.
//! * The linker for rustc is cargo itself, through a symlink that is named as the real linker is, because
//!   rustc infers the flavor from the stem of the file name (`linker_and_flavor` in rustc's
//!   `compiler/rustc_codegen_ssa/src/back/link.rs`). Under that name cargo is a *shim*
//!   ([`run_if_invoked_as_linker`]): it asks for a permit and becomes the real linker.
//! * A library that reads a hollow rlib, of a dependency that is a `cdylib` as well, is [held](Hold::AtEnd) when it is
//!   compiled.
//! * [`run()`] puts it together for one compiler, [`linker`] tells whether its linker is known well enough
//!   to stand in for it, and [`EarlyStarts`] how many compilers may wait at once.
//!
//! # The socket
//!
//! Each compiler inherits one end of a socket pair of its own, as it inherits make's jobserver, and
//! passes it on to its linker. Cargo has the other end; no other process can connect. The shim writes
//! one byte (*parked*) and waits for the end of the stream. A file beside it, *permit*, tells whether that
//! is a permit or an abort: what can be read from a socket, another child of rustc could read away. A
//! shim whose cargo was killed finds no permit and ends. Before it becomes the linker it writes a second
//! byte (*linking*), and if it could not, a third (*failed*). rustc may call its linker more than once: after
//! the permit a shim does not wait.
//!
//! Other children of rustc inherit the socket, too, and may outlive it. So the end of a job is the end
//! of its process, never that of the stream.
//!
//! A wrapper that closes the descriptor, or passes the compiler to a daemon, cannot park. The shim finds
//! no such socket and fails; the compiler runs again, and nothing else starts early in the build.
//!
//! # What is left on disk
//!
//! Nothing, unless cargo is killed: then the directory of the gate stays, which the next [`Gate::open`]
//! removes, and hollow rlibs. These belong to units whose fingerprints were emptied before they were
//! started, so they are rebuilt.
//!
//! # What rustc reads of an rlib
//!
//! In `compiler/rustc_metadata` the member `lib.rmeta`, which it keeps mapped: so a hollow rlib may be
//! replaced, but never be written to. After that, and before the linker, in
//! `compiler/rustc_codegen_ssa/src/back`:
//!
//! | what | when | what becomes of it |
//! | --- | --- | --- |
//! | objects, for LTO across crates (`lto.rs`, and `add_static_crate` in `link.rs`) | `-C lto`, a target that requires it | [not gated](linker::from_args) |
//! | everything (`link_staticlib` in `link.rs`) | `--crate-type staticlib` | not gated |
//! | bundled native libraries that rustc keeps packed (`extract_bundled_libs`, from `add_native_libs_from_crate` in `link.rs`): with `+whole-archive`, with a `cfg` on the link attribute, with `-Z packed-bundled-libs` | any | rustc does not unpack what is not in a hollow rlib, without an error; the shim sees that the file is missing, fails, and the compiler is run again |
//! | objects, for LTO that a wrapper adds | any | rustc copies the rlib without the objects that it has used; the shim sees that the copy is of a hollow one, and fails as above |
//!
//! Packed split debuginfo (`link_dwarf_object`) reads rlibs *after* the linker: they are complete then.

mod early;
mod gate;
#[cfg(unix)]
mod held;
pub mod hollow;
pub mod linker;
#[cfg(unix)]
mod output;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod shim;

#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use cargo_util::ProcessBuilder;

pub use early::EarlyStarts;
pub use gate::Gate;
#[cfg(unix)]
pub use shim::run_if_invoked_as_linker;

use crate::pause::Handle;
use crate::permit::{Parking, Permit};
use crate::process::{Control, OnLine};

/// A job that starts before the rlibs of its dependencies are ready.
#[derive(Debug)]
pub struct EarlyStart {
    /// Where its shim is.
    pub gate: Arc<Gate>,
    /// Where it is held.
    pub hold: Hold,
}

/// Where a job that starts early waits for what it does not need to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Its compiler before its linker.
    BeforeLinker(HeldLinker),
    /// The job, when its compiler has ended. It reads only metadata, but is stale if what it depends on is newer: so
    /// this rlib of its own gets the time of the permit.
    AtEnd(PathBuf),
}

/// How a compiler can be held before its linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLinker {
    /// Tells the compiler from others. The same in each build of the same unit, so that a wrapper that
    /// caches by command line sees the same command.
    pub name: String,
    /// The real linker, as it is spelled: a path, or a name to be looked up as rustc does.
    pub linker: String,
}

/// Runs a process under this control, with these for the lines of its stdout and stderr.
pub type Exec<'a> =
    &'a mut dyn FnMut(&ProcessBuilder, Control, OnLine<'_>, OnLine<'_>) -> anyhow::Result<()>;

/// Runs `rustc`, the compiler of a unit. With `early` `None`, that is one call of `exec`.
///
/// With [`Hold::AtEnd`], it [parks](Parking) when the compiler has ended well.
///
/// With [`Hold::BeforeLinker`], the compiler parks before its linker, which waits for a permit. The result stands
/// only if the linker ran with a permit, or if the compiler failed for a reason that has nothing to do
/// with the gate. Otherwise the compiler runs again, without the gate, once there is a permit, and no line is
/// passed on twice. Lines and errors name the real linker, and the command without the shim. Lines of stderr
/// that may be about a failed link are held back, up to a megabyte, until it is known whether the run stands.
///
/// Blocks as long as the compiler runs and there is no permit.
///
/// # Errors
///
/// Those of `exec` in the run that stands, `on_stdout` and `on_stderr`. If the permit is
/// [`Permit::Abort`](crate::permit::Permit::Abort), one that is not to be reported.
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
    let Some((EarlyStart { gate, hold }, parking)) = early else {
        return exec(rustc, control(), on_stdout, on_stderr);
    };
    match hold {
        #[cfg(unix)]
        Hold::BeforeLinker(linker) => {
            let early = run::BeforeLinker {
                gate: &gate,
                linker: &linker,
                parking: &parking,
            };
            run::run_held(rustc, &early, &control, exec, on_stdout, on_stderr)
        }
        #[cfg(not(unix))]
        Hold::BeforeLinker(_) => unreachable!("no gate opens here: {gate:?}"),
        Hold::AtEnd(rlib) => {
            exec(rustc, control(), on_stdout, on_stderr)?;
            wait_for_permit(&parking)?;
            // Otherwise the next build compiles it again.
            #[cfg(unix)]
            let _ = set_modified_now(&rlib);
            Ok(())
        }
    }
}

/// Parks a job and blocks until there is a permit. It is an error if that is an abort.
fn wait_for_permit(parking: &Parking) -> anyhow::Result<()> {
    match parking.park_and_wait() {
        Permit::Link => Ok(()),
        Permit::Abort => Err(aborted()),
    }
}

/// Sets the time of a file to that of the file system's clock, which may be behind the system's.
#[cfg(unix)]
fn set_modified_now(path: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: time(UTIME_OMIT),
        last_modification: time(UTIME_NOW),
    };
    utimensat(CWD, path, &times, AtFlags::empty())
}

fn aborted() -> anyhow::Error {
    anyhow!("not linked, because of another error")
}

/// Returns: on this system cargo is no shim.
#[cfg(not(unix))]
pub fn run_if_invoked_as_linker() {}
