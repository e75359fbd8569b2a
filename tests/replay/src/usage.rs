//! What processes have used.

use std::time::Duration;

/// CPU time of all children of this process that have ended, and of theirs. `None` where the system
/// does not tell.
#[cfg(unix)]
pub fn cpu_of_children() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let time = usage.user_time() + usage.system_time();
    u64::try_from(time.num_microseconds())
        .ok()
        .map(Duration::from_micros)
}

/// As above.
#[cfg(not(unix))]
pub fn cpu_of_children() -> Option<Duration> {
    None
}
