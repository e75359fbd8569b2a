//! The time in a build.

use std::fmt;
use std::time::Instant;

/// Tells the time since some moment, in µs.
pub struct Clock(Box<dyn FnMut() -> u64 + Send>);

impl Clock {
    /// The clock of the machine, since this moment.
    pub fn since(moment: Instant) -> Self {
        Clock::new(move || u64::try_from(moment.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A clock that tells what `now` returns.
    pub fn new(now: impl FnMut() -> u64 + Send + 'static) -> Self {
        Clock(Box::new(now))
    }

    /// Returns the time.
    pub fn now(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
