//! Recorded builds, replayed without compiling.
//!
//! What a job queue does can be seen only where much runs at once, and measured only where the same
//! work takes the same time twice. So a build is recorded once, and then built again by a real cargo
//! for which nothing but the compilers is a stand-in:
//!
//! ```text
//!   a project ── cargo, -j1 ──> Recording ──> Skeleton ── cargo, -jN ──> Log
//!                 recorder      units, times  packages    stand-ins      what ran when
//! ```
//!
//! - [`recording`]: the units of a build, what each needs, and how long each phase of it took.
//! - [`generate`]: recordings of builds that never were, for growth.
//! - [`skeleton`]: a workspace out of which cargo plans the same units.
//! - [`stand_in`]: what runs in the place of rustc, the linker and build scripts, and, while a build
//!   is recorded, between cargo and them.
//! - [`plan`]: what the skeleton tells the stand-ins; [`log`]: what they tell.
//! - `virtual_clock`, on Linux: has a replay take no time, and the same each time.
//! - [`stage`]: runs a real cargo among them.
//! - [`simulate`]: the same with nothing but the queue's decisions, for comparing rules.
//! - [`limit`]: how soon the build could be done at all.
//! - [`trace`]: reads what `build.trace` has written.
//!
//! # What the model leaves out
//!
//! A stand-in sleeps. Sleepers share no cache, no memory bus and no disk, so a replay with many jobs
//! scales better than the machine would. Metadata takes one thread; codegen is divided evenly, without
//! loss and at any moment, among as many threads as the unit has codegen units and as there are
//! jobserver tokens; a real codegen unit is not divided, and rustc's main thread feeds the others. Links
//! and build scripts take one thread, also those that would use more. Each phase takes as long as it
//! took alone, with one token, on the machine of the recording.

mod edges;
pub mod generate;
pub mod limit;
pub mod log;
pub mod plan;
pub mod recording;
pub mod simulate;
pub mod skeleton;
pub mod stage;
pub mod stand_in;
pub mod trace;
pub mod usage;
#[cfg(target_os = "linux")]
pub mod virtual_clock;

pub use log::Log;
pub use recording::Recording;
pub use skeleton::Skeleton;
pub use stage::{Stage, Time};
pub use trace::BuildTrace;
