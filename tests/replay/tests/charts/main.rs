//! What runs when, exactly, in builds of small graphs: the engine's scheduler, simulated.
//!
//! The charts were first drawn of real builds, by the patched Cargo among stand-ins for rustc.

#![allow(clippy::unwrap_used)]

mod critical_path;
mod graph;
mod stock_order;
