//! Lets a compiler start before there is anything to link, and holds it back at its linker.
//!
//! Most of what rustc does for a crate that links (a binary, a test, a procedural macro, a build
//! script, a `cdylib`) is what it does for any crate: it needs the metadata of the dependencies and
//! nothing else of them. Only the linker, at the very end, reads their code. So cargo may start
//! such a compiler as soon as all metadata is there, provided that rustc finds an rlib where it
//! looks for one, and that its linker waits:
//!
//! ```text
//!            -C linker=<gate>/3f…/cc                          ┌──────────────── cargo ────────────────┐
//!  ┌───────┐        starts         ┌───────────────┐  hello   │ ┌──────┐  Parking  ┌───────────────┐ │
//!  │ rustc ├──────────────────────▶│ shim, as `cc` ├──────────┼▶│ Gate ├──────────▶│ the job queue │ │
//!  └───┬───┘                       │               │◀─────────┼─┤      │◀──────────┤               │ │
//!      │ reads                     └───────┬───────┘ A, then L│ └──────┘  Permit   └───────────────┘ │
//!      ▼                                   │ exec             └───────────────────────────────────────┘
//!  liba.rlib, hollow,                      ▼
//!  then the real one ──────────────▶  the real `cc`, same arguments, same environment
//! ```
//!
//! * A [hollow rlib](hollow) stands where the rlib will be: an archive with the metadata and no
//!   code. rustc reads it while it resolves crates. What it reads of an upstream rlib later is
//!   listed under [what rustc reads](#what-rustc-reads-of-an-rlib).
//! * The linker that rustc is given is cargo itself, through a symlink that is named as the real
//!   linker is, because rustc infers the flavor of a linker from the stem of its file name
//!   (`linker_and_flavor` in rustc's `compiler/rustc_codegen_ssa/src/back/link.rs`). Under that
//!   name cargo is a *shim* ([`run_if_invoked_as_linker`]): it asks the [`Gate`] and, on the
//!   permit, becomes the real linker.
//! * [`run()`] puts it together for one compiler, and decides afterwards whether what came out
//!   stands. It never takes for linked what the gate has not let through: then it runs the compiler
//!   once more, without the gate, when the rlibs are there.
//! * [`linker`] says whether the linker of a compiler is known well enough to stand in for it, and
//!   [`budget`] how many compilers may be waiting at once.
//!
//! # Protocol
//!
//! The shim sends one *hello* of fixed size: magic and version, the number of the job, the secret
//! of the job, and what it has to say. It hears single bytes.
//!
//! | the shim says | when | it hears |
//! | --- | --- | --- |
//! | `P`, parked | it would link now | `A`, and then `L`, or the end of the stream, which is an abort |
//! | `I`, incomplete | rustc could not unpack from a hollow rlib what the linker is to read | `A` |
//! | `N`, not executed | the real linker could not be executed | `A` |
//!
//! `A` is *acknowledged*, `L` is *link*, `R` is *refused*. The end of the stream before any of them
//! means that the hello was not heard, for example because the gate was flooded: the shim connects
//! again.
//!
//! # Who can connect
//!
//! The gate is a socket in a directory that only the user can enter, and each job has a directory
//! of its own in it with a file that only the user can read. In it are the number and the secret of
//! the job and the linker. Nothing is in the environment or in arguments, where procedural macros
//! and build scripts would find it. What runs as the same user can read all that, and can do more
//! harm elsewhere; the secret is there so that a shim that outlives its job, or belongs to another
//! build, cannot speak for a job that it does not belong to. Whatever else connects is ignored, is
//! held for a few seconds at most, and cannot keep a shim out.
//!
//! # What is left on disk
//!
//! The directory of a job goes when its [`Ticket`] does, that of the gate when the [`Gate`] does, a
//! hollow rlib when the real one replaces it or its [`Hollow`](hollow::Hollow) is dropped. If cargo
//! is killed, everything stays, the connections close, and the shims that wait exit with an error,
//! and so do their rustcs. The next [`Gate::open`] removes the directory; a hollow rlib belongs to
//! a unit whose fingerprint was emptied before it was started, so it is rebuilt.
//!
//! # What rustc reads of an rlib
//!
//! In `compiler/rustc_metadata` the member `lib.rmeta`, which it maps and keeps mapped: so a hollow
//! rlib may be replaced, but never be written to. After that, and before the linker runs, in
//! `compiler/rustc_codegen_ssa/src/back`:
//!
//! | what | when | what becomes of it |
//! | --- | --- | --- |
//! | objects, for LTO across crates (`lto.rs`, and `add_static_crate` in `link.rs`) | `-C lto`, a target that requires it | [not gated](linker::NotGated) |
//! | everything (`link_staticlib` in `link.rs`) | `--crate-type staticlib` | not gated |
//! | bundled native libraries that rustc keeps packed (`extract_bundled_libs`, from `add_native_libs_from_crate` in `link.rs`): with `+whole-archive`, with a `cfg` on the link attribute, with `-Z packed-bundled-libs` | any | what is not in a hollow rlib is not unpacked, without an error; the shim sees that the file is missing, says `I`, and the compiler is run again |
//!
//! Packed split debuginfo (`link_dwarf_object`) reads rlibs *after* the linker: they are complete
//! then.

pub mod budget;
mod early;
pub mod hollow;
pub mod linker;
#[cfg(unix)]
mod protocol;
mod report;
mod run;
#[cfg_attr(not(unix), path = "unsupported.rs")]
mod server;
#[cfg(unix)]
mod shim;

pub use early::EarlyStarts;
pub use report::Report;
pub use run::{Aborted, EarlyStart, Exec, OnLine, run};
#[cfg(not(unix))]
pub use server::run_if_invoked_as_linker;
pub use server::{Gate, Ticket};
#[cfg(unix)]
pub use shim::run_if_invoked_as_linker;
