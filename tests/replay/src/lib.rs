//! Recorded builds, and a simulator that builds them without compiling.
//!
//! What a job queue does can be seen only where much runs at once, and measured only where the same
//! work takes the same time twice. So a build is recorded once, and then simulated: the engine's own
//! scheduler decides what runs, and time passes in the place of compilers:
//!
//! ```text
//!   a project ── cargo, -j1 ──> Recording ── scheduler, -jN ──> Outcome, BuildTrace
//!                 recorder      units, times    simulate        what ran when
//! ```
//!
//! - [`recorder`]: runs between cargo and compilers while a build is recorded.
//! - [`recording`]: the units of a build, what each needs, and how long each phase of it took.
//! - [`generate`]: recordings of builds that never were, for growth.
//! - [`simulate`]: builds a recording.
//! - [`limit`]: how soon the build could be done at all.
//! - [`trace`]: reads what `build.trace` has written.
//! - [`usage`]: what compilers have used.
//!
//! # What the model leaves out
//!
//! Simulated compilers share no cache, no memory bus and no disk, so a simulation with many jobs scales
//! better than the machine would. Cargo itself, starting processes and the jobserver take no time.
//! Metadata takes one thread; codegen is divided evenly, without loss and at any moment, among as many
//! threads as the unit has codegen units and as there are free job slots; a real codegen unit is not
//! divided, and rustc's main thread feeds the others. Links and build scripts take one thread, also those
//! that would use more. Each phase takes as long as it took alone, with one token, on the machine of the
//! recording. Memory is never short. Stock order is that of the engine: the released cargo has the same
//! but for ties, which it breaks by the seeds of its hash maps.

mod edges;
pub mod generate;
pub mod limit;
pub mod recorder;
pub mod recording;
pub mod simulate;
pub mod trace;
pub mod usage;

pub use recording::Recording;
pub use trace::BuildTrace;
