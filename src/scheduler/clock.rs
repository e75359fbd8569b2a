//! What time it is in a build.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

/// In the environment of cargo, for tests: a file that says what time it is, in ns since some moment,
/// as eight bytes, the least first. A build that is replayed has a time of its own.
pub const CLOCK_FILE: &str = "__CARGO_TEST_CLOCK";

/// Tells the time since some moment, in µs.
pub struct Clock(Box<dyn FnMut() -> u64 + Send>);

impl Clock {
    /// The clock of the machine, or that of a replay that this process is part of.
    pub fn of_this_process() -> Self {
        match std::env::var_os(CLOCK_FILE) {
            Some(file) => Clock::in_file(file.into()),
            None => {
                let began = Instant::now();
                Clock::new(move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
            }
        }
    }

    /// A clock that tells what `now` says.
    pub fn new(now: impl FnMut() -> u64 + Send + 'static) -> Self {
        Clock(Box::new(now))
    }

    /// While the file cannot be read, time stands still.
    fn in_file(path: PathBuf) -> Self {
        let mut last = 0;
        Clock::new(move || {
            let mut bytes = [0; 8];
            let read = File::open(&path).and_then(|mut file| file.read_exact(&mut bytes));
            if read.is_ok() {
                last = u64::from_le_bytes(bytes) / 1_000;
            }
            last
        })
    }

    /// What time it is.
    pub fn now(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("now");
        let mut clock = Clock::in_file(path.clone());
        assert_eq!(clock.now(), 0);
        std::fs::write(&path, 5_000_000u64.to_le_bytes()).unwrap();
        assert_eq!(clock.now(), 5_000);
        std::fs::write(&path, "no").unwrap();
        assert_eq!(clock.now(), 5_000);
    }
}
