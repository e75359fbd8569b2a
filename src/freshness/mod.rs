//! What is up to date: whether source files have the same [content], and early cutoff, whether a unit whose
//! dependencies were rebuilt has to be rebuilt itself.
//!
//! A unit that was built leaves a [ledger entry](ledger) behind: digests of its outputs and of all
//! inputs. When a dependency is rebuilt, they are computed again. If they are the same, the unit is fresh.
//!
//! # The rule
//!
//! Early cutoff is about what rustc reads of *libraries*: their metadata when it compiles, their objects
//! when it links. It never judges a *program* that runs during the build, because nothing tells what that
//! reads:
//!
//! * The run of a build script is never skipped.
//! * Where a build script has run, its package is compiled again, and what links the package is linked
//!   again: an rlib need not contain what its script has built (`static:-bundle`, `dylib`, linker
//!   arguments). Units that only compile against the package go by its metadata.
//! * A procedural macro that was rebuilt is another macro, whatever its bytes: all crates above it that
//!   could expand it are compiled again.
//!
//! # What reads what
//!
//! ```text
//!             libc      sys       net       app
//!   .rmeta     ●◀────────●◀────────●◀────── compiled       Entry::compiled: the rmeta of net, sys, libc
//!   .rlib      ■◀────────■◀────────■◀────── linked         Entry::linked: all of them, whole
//!   run                  ▲                                 and the run of the script of sys
//! ```
//!
//! As in a Merkle tree, the digest of a unit combines those of its own outputs and of its dependencies.
//! A macro, and the run of a build script, has its [invocation](ledger::Entry::invocation) in place of outputs.
//!
//! What is read beside libraries ([`Inputs`]) has to be untouched, which [stamps](stamp) prove, or the same:
//!
//! * The files of dep-info: by content, or where that is not recorded untouched, as well as by Cargo's own rule.
//! * Files that flags name; rustc itself and its libraries. It must not be a script, and may have no wrappers but
//!   well-known ones, as others may read anything. With a wrapper, the environment.
//! * What Cargo tells rustc beside flags and features: [`UnitFiles::place`].
//! * For a unit that links, or a library of a package that names native libraries: a configured linker, a
//!   well-known one; the environment; and the files in the directories where build scripts, flags and
//!   `LIBRARY_PATH` have native libraries searched, and in those of the system.
//! * For a unit that can expand procedural macros: all files of its package and of the macros', which may also
//!   be touched and have the same content, and the environment. Cargo has a build script that names no inputs depend on its package in the same way.
//!
//! The rest of the toolchain counts as part of the compiler, as in Cargo.
//!
//! # Doubt means rebuild
//!
//! An entry is about one invocation of a compiler, one fingerprint and one version of rustc and cargo. If
//! it is missing or damaged, or a file cannot be read or was touched after the compiler had started, the
//! unit is rebuilt.

pub mod content;
pub mod digest;
pub mod inputs;
pub mod ledger;
pub mod outputs;
mod repository;
mod rlib;
pub mod stamp;
pub mod untracked;
pub mod watched;

pub use content::{Change, Check, Files, Reader, Record, Touched};
pub use digest::Digest;
pub use inputs::Inputs;
pub use ledger::Entry;
pub use outputs::{Edge, UnitFiles, UnitKind, UnitOutputs, Verdict};
pub use watched::{Watched, WatchedCheck};

#[cfg(test)]
mod properties;
