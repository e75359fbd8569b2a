//! The values of the configuration keys.

mod pause_memory;

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected};
use serde_untagged::UntaggedEnumVisitor;
use serde_untagged::de::Error;

pub use pause_memory::PauseMemory;

use crate::graph::Need;

/// How early a job may start, the value of Cargo's `build.pipelining`: the name of a mode, or a boolean as
/// the key once took, `true` for the default and `false` for [`Off`](Self::Off). Compilers have the same
/// arguments in every mode, so switching it rebuilds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pipelining {
    /// Every job waits until all its dependencies are finished, as before Cargo 1.38.
    Off,
    /// A library starts as soon as the metadata of the libraries that it uses is written.
    Metadata,
    /// So does a crate that links, and waits for the rest of its libraries before it links.
    #[default]
    Link,
}

impl Pipelining {
    /// The name of the mode in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Pipelining::Off => "off",
            Pipelining::Metadata => "metadata",
            Pipelining::Link => "link",
        }
    }

    /// What a dependent waits for in this mode, given what it does with the dependency.
    pub fn need(self, usage: Usage) -> Need {
        match (self, usage) {
            (Pipelining::Off, _) | (_, Usage::Whole) => Need::AllToStart,
            (_, Usage::Reads) => Need::MetadataToStart,
            (Pipelining::Metadata, Usage::Links) => Need::AllToStart,
            (Pipelining::Link, Usage::Links) => Need::AllToLink,
        }
    }
}

/// What a dependent does with a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It reads the metadata, and nothing else.
    Reads,
    /// It reads the metadata, and links the rest through a [gate](crate::link_gate).
    Links,
    /// It may read any of it at any time.
    Whole,
}

impl<'de> Deserialize<'de> for Pipelining {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = r#""off", "metadata", "link", true ("link") or false ("off")"#;
        UntaggedEnumVisitor::new()
            .expecting(expected)
            .bool(|on| {
                Ok(if on {
                    Pipelining::Link
                } else {
                    Pipelining::Off
                })
            })
            .string(|name| match name {
                "off" => Ok(Pipelining::Off),
                "metadata" => Ok(Pipelining::Metadata),
                "link" => Ok(Pipelining::Link),
                _ => Err(Error::invalid_value(Unexpected::Str(name), &expected)),
            })
            .deserialize(deserializer)
    }
}

/// Which job goes first, the value of Cargo's `build.schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// The job with the most dependents, as Cargo has always done it. No compiler is paused.
    Stock,
    /// The job on the critical path through what is left of the build, in seconds.
    #[default]
    CriticalPath,
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not derived: Cargo names the key only in errors that come from a visitor.
        let expected = r#""critical-path" or "stock""#;
        UntaggedEnumVisitor::new()
            .expecting(expected)
            .string(|name| match name {
                "critical-path" => Ok(Schedule::CriticalPath),
                "stock" => Ok(Schedule::Stock),
                _ => Err(Error::invalid_value(Unexpected::Str(name), &expected)),
            })
            .deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn modes_and_booleans() {
        for mode in [Pipelining::Off, Pipelining::Metadata, Pipelining::Link] {
            assert_eq!(parse(&format!("{:?}", mode.name())), Ok(mode));
        }
        assert_eq!(parse("true"), Ok(Pipelining::default()));
        assert_eq!(parse("false"), Ok(Pipelining::Off));
    }

    #[test]
    fn errors_name_the_modes() {
        for (wrong, shown) in [
            (r#""fast""#, r#"invalid value: string "fast""#),
            ("3", "invalid type: integer `3`"),
            ("[]", "invalid type: sequence"),
        ] {
            let error = parse::<Pipelining>(wrong).unwrap_err();
            let expected =
                r#"expected "off", "metadata", "link", true ("link") or false ("off") at line"#;
            assert!(
                error.starts_with(&format!("{shown}, {expected}")),
                "{error}"
            );
        }
    }

    #[test]
    fn schedules() {
        assert_eq!(parse(r#""critical-path""#), Ok(Schedule::CriticalPath));
        assert_eq!(parse(r#""stock""#), Ok(Schedule::Stock));
        for (wrong, shown) in [
            (r#""fifo""#, r#"invalid value: string "fifo""#),
            ("1", "invalid type: integer `1`"),
            ("true", "invalid type: boolean `true`"),
        ] {
            let error = parse::<Schedule>(wrong).unwrap_err();
            let expected = r#"expected "critical-path" or "stock" at line"#;
            assert!(
                error.starts_with(&format!("{shown}, {expected}")),
                "{error}"
            );
        }
    }
}
