//! Whether anything that a unit reads has changed: what makes early cutoff.
//!
//! A unit whose dependency was rebuilt need not be rebuilt if the dependency came out the same. To
//! know that, each unit that was made leaves a *ledger* behind: digests of what it made, and one
//! value for all that it read. The next time that something below it is rebuilt, the value is worked
//! out again from what is there then. If it is the same, and the unit's own sources and outputs are
//! what they were, what was made stands.
//!
//! # What reads what
//!
//! rustc reads the metadata of all libraries below a crate, the procedural macros and what the build
//! script has made; object code is read by the linker alone. So there are two values:
//!
//! ```text
//!             libc      sys       net       app            what `app` has seen
//!   .rmeta     ●◀────────●◀────────●◀────── compiled       Seen::compiled: the rmeta of net, sys, libc
//!   .rlib      ■◀────────■◀────────■◀────── linked         Seen::linked: all of them, whole
//! ```
//!
//! A value is a chain of digests, as in a Merkle tree: what a unit [shows](product::Product) to those
//! that read it is a digest of its own file and of what the units below show. So one value stands for
//! everything below, and any byte that changes there changes it. The order of dependencies does not
//! matter, and neither do times, sizes or inodes.
//!
//! Procedural macros and build scripts show nothing of what they were made of: rustc loads the
//! dynamic library of a macro and does not look further
//! (`CrateLoader::resolve_crate_deps` in `rustc_metadata`), and of a build script only what it has said
//! and written is used. A metadata reader further up is shown only what a script has said, for that is
//! passed on; the content of its `OUT_DIR` is for its own package, and for linkers.
//!
//! # Doubt means rebuild
//!
//! Each [ledger](ledger) is tied to the fingerprint that Cargo wrote and to the time at which the
//! compiler was invoked, which every cargo notes beside the fingerprint. So it says nothing about
//! outputs that another cargo has made since. It is believed about a file whose size and times are what
//! they were, if the ledger is younger than those; otherwise the file is [hashed again](file). A ledger
//! that is missing or damaged says nothing. Where nothing is said, or a file cannot be read, the answer
//! is "changed".
//!
//! What a build script does outside of its `OUT_DIR` cannot be seen. A script that speaks of anything
//! there counts as having come to a new result each time that it runs ([`Said`]).

mod archive;
pub mod digest;
pub mod file;
pub mod ledger;
pub mod product;

pub use digest::Digest;
pub use file::raise_modified;
pub use product::{Description, Edge, Known, Product, Said, Seen, Verdict};

#[cfg(test)]
mod properties;
