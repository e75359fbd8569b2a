//! What users see of the replacement cargo and of `cargo xtask`, with a real rustc and linker.
//!
//! The tests run on the cargo that `PIPELINED_CARGO` names. Without it, the first test that needs
//! one builds it.

#![allow(clippy::print_stderr)]

mod support;

mod channel;
#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod cutoff;
#[cfg(target_os = "linux")]
mod cutoff_doubts;
#[cfg(target_os = "linux")]
mod cutoff_histories;
#[cfg(target_os = "linux")]
mod cutoff_programs;
mod faults;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod link_faults;
#[cfg(target_os = "linux")]
mod link_kills;
#[cfg(target_os = "linux")]
mod link_output;
#[cfg(target_os = "linux")]
mod link_places;
#[cfg(target_os = "linux")]
mod link_safety;
#[cfg(target_os = "linux")]
mod link_wrappers;
#[cfg(target_os = "linux")]
mod mixed;
mod modes;
#[cfg(target_os = "linux")]
mod nightly;
mod order;
#[cfg(target_os = "linux")]
mod pause;
mod schedule;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod timings;
mod trace;
mod xtask;
