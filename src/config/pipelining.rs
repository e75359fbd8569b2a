//! How far builds overlap: the value of `build.pipelining`.

use std::fmt;

use serde::de;

use crate::graph::Need;

/// How early a job may start, the value of Cargo's `build.pipelining`.
///
/// The mode changes when jobs start, never what they are: the compiler's arguments are the same in
/// every mode, so switching it rebuilds nothing.
///
/// As a configuration value it is the name of a mode, or a boolean as the key once took: `true`
/// stands for the default mode and `false` for [`Off`](Self::Off).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pipelining {
    /// Every job waits until all its dependencies are finished, as before Cargo 1.38.
    Off,
    /// A library starts as soon as the metadata of the libraries that it uses is written.
    Metadata,
    /// So does what is linked from libraries, and waits for the rest of them before it links.
    #[default]
    Link,
}

impl Pipelining {
    const ALL: [Pipelining; 3] = [Pipelining::Off, Pipelining::Metadata, Pipelining::Link];

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

impl fmt::Display for Pipelining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> de::Deserialize<'de> for Pipelining {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Pipelining;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for mode in Pipelining::ALL {
                    write!(f, "\"{mode}\", ")?;
                }
                write!(f, "true (\"{}\") or false (\"off\")", Pipelining::default())
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Pipelining, E> {
                Pipelining::ALL
                    .into_iter()
                    .find(|mode| mode.name() == value)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Pipelining, E> {
                Ok(match on {
                    true => Pipelining::default(),
                    false => Pipelining::Off,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Pipelining, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_booleans() {
        assert_eq!(parse(r#""off""#), Ok(Pipelining::Off));
        assert_eq!(parse(r#""metadata""#), Ok(Pipelining::Metadata));
        assert_eq!(parse(r#""link""#), Ok(Pipelining::Link));
        assert_eq!(parse("true"), Ok(Pipelining::default()));
        assert_eq!(parse("false"), Ok(Pipelining::Off));
    }

    #[test]
    fn anything_else_names_the_values() {
        for (wrong, shown) in [(r#""fast""#, r#"string "fast""#), ("3", "integer `3`")] {
            let error = parse(wrong).unwrap_err();
            assert!(
                error.contains(&format!(
                    r#"{shown}, expected "off", "metadata", "link", true ("link") or false ("off")"#
                )),
                "{error}"
            );
        }
    }
}
