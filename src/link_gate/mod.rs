//! Lets a compiler start before its rlibs are ready, and holds it just before its linker.
//!
//! Most of what rustc does for a crate that links (a binary, a test, a procedural macro, a build
//! script, a `cdylib`) is what it does for any crate: it reads the metadata of the dependencies and
//! nothing else of them. Only the linker, at the very end, reads their code. So cargo may start such a
//! compiler as soon as all metadata is written, provided that rustc finds an rlib where it looks for
//! one, and that its linker waits:
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
//! * A [hollow rlib](hollow) stands where the rlib will be: an archive with the metadata and no
//!   code. rustc reads it while it resolves crates. What it reads of an upstream rlib later is
//!   listed under [what rustc reads](#what-rustc-reads-of-an-rlib).
//! * The linker that rustc is given is cargo itself, through a symlink that is named as the real
//!   linker is, because rustc infers the flavor of a linker from the stem of its file name
//!   (`linker_and_flavor` in rustc's `compiler/rustc_codegen_ssa/src/back/link.rs`). Under that name
//!   cargo is a *shim* ([`run_if_invoked_as_linker`]): it asks for a permit and becomes the real linker.
//! * [`run()`] puts it together for one compiler, and decides afterwards whether its result stands. It
//!   never takes for linked what had no permit: then it runs the compiler once more, without the gate,
//!   when the rlibs are ready.
//! * [`linker`] tells whether the linker of a compiler is known well enough to stand in for it, and
//!   [`EarlyStarts`] how many compilers may be waiting at once.
//!
//! # The socket
//!
//! Each compiler inherits one end of a socket pair of its own, as it inherits make's jobserver, and
//! passes it on to its linker. Cargo has the other end; no other process has a way in. The shim writes
//! one byte (*parked*) and waits for the end of the stream. A file beside it, *permit*, tells whether that
//! is a permit or an abort: what can be read from a socket, another child of rustc could read away. A
//! shim whose cargo was killed finds no permit and ends. Before it becomes the linker it writes a second
//! byte (*linking*), and if it could not, a third (*failed*). rustc may call its linker more than once: after
//! the permit a shim does not wait.
//!
//! Other children of rustc inherit the socket, too, and may outlive it. So the end of a job is the end
//! of its process, never that of the stream; then cargo closes the stream.
//!
//! What closes the descriptor or passes the compiler to a daemon cannot park. The shim sees it, because
//! the socket that it was told of is not there, and fails; [`run()`] runs the compiler again and nothing
//! else starts early in the build.
//!
//! # What is left on disk
//!
//! A compiler has a directory with the symlink and a file that tells the shim the real linker and the
//! number of the descriptor. It is removed with the compiler's end, the directory of all with the
//! [`Gate`], a hollow rlib when the real one replaces it, or with the gate if its compiler fails. If
//! cargo is killed, they stay. The next [`Gate::open`] removes the directory; a hollow rlib belongs to a
//! unit whose fingerprint was emptied before it was started, so it is rebuilt.
//!
//! # What rustc reads of an rlib
//!
//! In `compiler/rustc_metadata` the member `lib.rmeta`, which it maps and keeps mapped: so a hollow
//! rlib may be replaced, but never be written to. After that, and before the linker runs, in
//! `compiler/rustc_codegen_ssa/src/back`:
//!
//! | what | when | what becomes of it |
//! | --- | --- | --- |
//! | objects, for LTO across crates (`lto.rs`, and `add_static_crate` in `link.rs`) | `-C lto`, a target that requires it | [not gated](linker::from_args) |
//! | everything (`link_staticlib` in `link.rs`) | `--crate-type staticlib` | not gated |
//! | bundled native libraries that rustc keeps packed (`extract_bundled_libs`, from `add_native_libs_from_crate` in `link.rs`): with `+whole-archive`, with a `cfg` on the link attribute, with `-Z packed-bundled-libs` | any | rustc does not unpack what is not in a hollow rlib, without an error; the shim sees that the file is missing, fails, and the compiler is run again |
//! | objects, for LTO that a wrapper adds | any | rustc copies the rlib without the objects that it has used; the shim sees that the copy is of a hollow one, and fails as above |
//!
//! Packed split debuginfo (`link_dwarf_object`) reads rlibs *after* the linker: they are complete
//! then.

mod early;
mod gate;
#[cfg(unix)]
mod held;
pub mod hollow;
pub mod linker;
mod output;
mod run;
#[cfg(unix)]
mod shim;

pub use early::EarlyStarts;
pub use gate::Gate;
pub use run::{Aborted, EarlyStart, Exec, HeldLinker, run};
#[cfg(unix)]
pub use shim::run_if_invoked_as_linker;

/// Returns: on this system cargo is no shim.
#[cfg(not(unix))]
pub fn run_if_invoked_as_linker() {}
