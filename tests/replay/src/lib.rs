//! Recorded builds, simulated.
//!
//! A build is recorded once, and then led through the engine's scheduler, with a loop in the place of cargo
//! and compilers, so that the same work takes the same time twice:
//!
//! ```text
//!   a project ── cargo, -j1 ──> Recording ── Scheduler, -jN ──> Outcome
//!                 recorder      units, times                    what ran when
//! ```
//!
//! - [`recording`]: the units of a build, what each needs, and how long each phase of it took.
//! - [`wrapper`]: what runs between cargo, rustc and the linker while a build is recorded.
//! - [`simulate`]: builds a recording.
//! - [`limit`]: how soon the build could be done at all.
//! - [`trace`]: reads what `build.trace` has written.
//!
//! # What the model leaves out
//!
//! Simulated compilers share no cache, memory bus or disk, so many jobs scale better than on a machine. Codegen
//! is divided evenly, without loss and at any moment, among as many threads as there are codegen units and
//! tokens; a real codegen unit is not divided. All else takes one thread. Each phase takes as long as it took
//! alone on the machine of the recording. A paused compiler holds what it held when its metadata was written, guessed
//! where older recordings do not have it. Cargo itself takes no time: real cargos, whose compilers took time
//! by a virtual clock, came to the same figures within 0.6 % on all recordings.

mod edges;
pub mod limit;
pub mod recording;
pub mod simulate;
pub mod trace;
pub mod usage;
pub mod wrapper;

pub use recording::Recording;
pub use trace::BuildTrace;
