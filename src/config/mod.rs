//! The values of the configuration keys.

mod pause_memory;
mod pipelining;
mod schedule;

pub use pause_memory::PauseMemory;
pub use pipelining::{Pipelining, Usage};
pub use schedule::Schedule;
