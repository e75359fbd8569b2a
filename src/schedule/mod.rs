//! What should run next of all that may.
//!
//! Three questions, each answered where it is best known:
//!
//! ```text
//!   what does a unit cost?     costs ── measured in earlier builds
//!                              guess ── from what is known without compiling
//!                                │
//!   what is how urgent?        rank  ── the longest path to the end of the build
//!                                │
//!   is this codegen to wait?   pausing ── if something more urgent could have its slot
//! ```
//!
//! The [`Tracker`](crate::artifact::Tracker) puts the answers in order: of all that could start,
//! continue or link, the most urgent goes first. Afterwards [`Done`] says how soon it could have been
//! done.

mod clock;
pub mod costs;
pub mod guess;
mod limit;
mod pauses;
pub mod pausing;
mod rank;
mod source_size;
pub mod work;

use std::fmt;

use serde::de;

pub use clock::{CLOCK_FILE, Clock};
pub use costs::KnownCosts;
pub use limit::{Done, Step};
pub use pauses::Pauses;
pub(crate) use rank::rank;
pub use rank::{Urgency, urgencies};
pub use source_size::{native_source_size, source_size};
pub use work::{Estimate, Measured, Phase, Work};

/// Which of the jobs that may run goes first, the value of Cargo's `build.schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// The one that most others wait for, as Cargo has always done it. No compiler is paused.
    Stock,
    /// The one on the longest path through what is left of the build, in seconds.
    #[default]
    CriticalPath,
}

impl Schedule {
    const ALL: [Schedule; 2] = [Schedule::CriticalPath, Schedule::Stock];

    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::CriticalPath => "critical-path",
            Schedule::Stock => "stock",
        }
    }
}

impl<'de> de::Deserialize<'de> for Schedule {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""critical-path" or "stock""#)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Schedule, E> {
                Schedule::ALL
                    .into_iter()
                    .find(|schedule| schedule.name() == value)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }

        // Cargo names the key in errors of a visitor, and not in those that come after it.
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let parse = |json| serde_json::from_str::<Schedule>(json).map_err(|e| e.to_string());
        assert_eq!(parse(r#""critical-path""#), Ok(Schedule::CriticalPath));
        assert_eq!(parse(r#""stock""#), Ok(Schedule::Stock));
        assert_eq!(
            parse(r#""fifo""#).unwrap_err(),
            r#"invalid value: string "fifo", expected "critical-path" or "stock" at line 1 column 6"#
        );
        assert!(
            parse("1")
                .unwrap_err()
                .contains(r#"expected "critical-path" or "stock""#)
        );
    }
}
