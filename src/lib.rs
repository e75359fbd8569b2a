//! The engine of pipelined-cargo.
//!
//! Cargo's job queue knows units, packages, a terminal and a jobserver. What it has to decide needs none of
//! them: which job runs next, what a running job has produced so far, and which of their messages goes
//! first. That part is here, generic over the unit, so that the same code runs under unit tests, under
//! property tests, in simulations and inside the replacement `cargo`, whose patches (`patches/`) only
//! call it.
//!
//! ```text
//!  rustc's stderr                 one JobChannel per job            the queue's thread
//! ┌──────────────┐  Notification  ┌──────────────────┐   Event    ┌─────────┐          ┌───────────┐
//! │ {"artifact"… ├───────────────▶│ metadata, once,  ├───────────▶│ Mailbox ├─────────▶│ Scheduler │
//! └──────────────┘                │ before finished  │            └─────────┘          └─────┬─────┘
//!                                 └──────────────────┘                                       │
//!                                          ▲                       Action                    │
//!                                          └─────────────────────────────────────────────────┘
//! ```
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`config`] | the values of the configuration keys |
//! | [`graph`] | what the units of a build need of each other |
//! | [`job`] | the states of a job, its channel to the queue |
//! | [`scheduler`] | which job runs next |
//! | [`link_gate`] | how a compiler is held just before its linker, and what stands in for the rlibs |
//! | [`pause`] | how a compiler is stopped and continued |
//! | [`freshness`] | whether the inputs of a unit have changed |
//! | [`trace`] | writes what ran when |
//! | [`permit`], [`process`] | how a parked job gets its permit, how a compiler is run |
//! | [`descriptors`], [`memory`] | how many files this process may open, how much memory is available |

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
