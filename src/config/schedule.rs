//! The order of jobs: the value of `build.schedule`.

use std::fmt;

use serde::de;

/// Which job goes first, the value of Cargo's `build.schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// The job with the most dependents, as Cargo has always done it. No compiler is paused.
    Stock,
    /// The job on the critical path through what is left of the build, in seconds.
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
