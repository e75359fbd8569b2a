//! The engine of pipelined-cargo.
//!
//! It decides which job runs next and what is up to date. It is generic over the unit, so the same code runs
//! under unit tests, property tests, in simulations and in the replacement `cargo`, whose patches
//! (`patches/`) only call it. `ARCHITECTURE.md` has the picture.

mod archive;
pub mod config;
pub mod descriptors;
pub mod freshness;
pub mod graph;
pub mod job;
pub mod link_gate;
pub mod memory;
pub mod pause;
pub mod permit;
pub mod process;
pub mod scheduler;
pub mod trace;
