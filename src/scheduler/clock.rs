//! What time it is in a build.

use std::fmt;
use std::time::Instant;

/// Returns the time since some moment, in µs.
pub struct Clock(Box<dyn FnMut() -> u64 + Send>);

impl Clock {
    /// The clock of the machine, which begins now.
    pub fn of_this_process() -> Self {
        let began = Instant::now();
        Clock::new(move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A clock that returns what `now` does.
    pub fn new(now: impl FnMut() -> u64 + Send + 'static) -> Self {
        Clock(Box::new(now))
    }

    /// Returns what time it is.
    pub fn now(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
