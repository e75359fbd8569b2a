//! Recorded builds, simulated.
//!
//! What a job queue does can be seen only where much runs at once, and measured only where the same work
//! takes the same time twice. So a build is recorded once, and then led through the engine's scheduler, with
//! a loop in the place of cargo and compilers:
//!
//! ```text
//!   a project ── cargo, -j1 ──> Recording ── Scheduler, -jN ──> Outcome
//!                 recorder      units, times                    what ran when
//! ```
//!
//! - [`recording`]: the units of a build, what each needs, and how long each phase of it took.
//! - [`stand_in`]: what runs between cargo, rustc and the linker while a build is recorded.
//! - [`simulate`]: builds a recording.
//! - [`limit`]: how soon the build could be done at all.
//! - [`trace`]: reads what `build.trace` has written.
//!
//! # What the model leaves out
//!
//! Simulated compilers share no cache, no memory bus and no disk, so a build with many jobs scales better
//! than the machine would. Metadata takes one thread; codegen is divided evenly, without loss and at any
//! moment, among as many threads as the unit has codegen units and as there are jobserver tokens; a real
//! codegen unit is not divided, and rustc's main thread feeds the others. Links and build scripts take one
//! thread, also those that would use more. Each phase takes as long as it took alone, with one token, on
//! the machine of the recording. Cargo itself takes no time.
//!
//! Real cargos, whose compilers only took time by a virtual clock, came to the same figures within 0.6 % on
//! all recordings: what Cargo and its jobserver add is no more than that.

mod edges;
pub mod limit;
pub mod recording;
pub mod simulate;
pub mod stand_in;
pub mod trace;
pub mod usage;

pub use recording::Recording;
pub use trace::BuildTrace;
