//! The engine of pipelined-cargo.
//!
//! Cargo's job queue knows units, packages, a terminal and a jobserver. What it has to decide can
//! be said without any of them: which job may start now, what a running job has produced so far,
//! and who hears of it first. That part is here, generic over the unit, so that the same code runs
//! under unit tests, under property tests and inside the replacement `cargo`, whose patches
//! (`patches/`) only call it.
//!
//! ```text
//!  rustc's stderr                 one JobChannel per job            the queue's thread
//! ┌──────────────┐  Notification  ┌──────────────────┐   Event    ┌─────────┐  produced   ┌─────────┐
//! │ {"artifact"… ├───────────────▶│ metadata, once,  ├───────────▶│ Mailbox ├────────────▶│ Tracker │
//! └──────────────┘                │ before finished  │            └─────────┘  failed     └────┬────┘
//!                                 └──────────────────┘                                         │
//!                                          ▲                          next                     │
//!                                          └───────────────────────────────────────────────────┘
//! ```
//!
//! | module | answers |
//! | --- | --- |
//! | [`artifact`] | what may start now, given who needs which artifact of whom |
//! | [`channel`] | what a running job has to say, in order, and who is heard first |
//! | [`descriptors`] | how many more files this process may open |
//! | [`freshness`] | whether anything that a unit reads has changed |
//! | [`link_gate`] | how a compiler is held just before its linker, and what stands in for the rlibs |
//! | [`memory`] | how much memory is available |
//! | [`notification`] | whether a line of rustc's stderr says that *this* job's metadata is written |
//! | [`pause`] | how a compiler that runs is stopped and continued, and what sees to it that it is |
//! | [`pipelining`] | how far builds overlap, as the user configured it |
//! | [`process`] | how the compiler of a job runs |
//! | [`schedule`] | what should run next of all that may |
//! | [`trace`] | what ran when, in a picture |

pub mod artifact;
pub mod channel;
pub mod descriptors;
pub mod freshness;
pub mod link_gate;
pub mod memory;
pub mod notification;
pub mod pause;
pub mod pipelining;
pub mod process;
pub mod schedule;
pub mod trace;
