//! What was measured before, kept from one run to the next.
//!
//! Each line of the file is a JSON object: what was played, and what came of it. It is written as
//! soon as it is known, so a benchmark that was stopped goes on where it was. What was played is
//! said in digests of all that makes a difference: lines about another cargo, or about another
//! recording, stay in the file and are not found.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use replay::log::Entry;
use serde::{Deserialize, Serialize};

use crate::player::Schedule;
use crate::upstream::Mode;

/// Which cargo plays, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The released cargo.
    Stock,
    /// The replacement, as [`Mode::Off`], where an earlier build with as many jobs has measured what the
    /// units cost.
    Off,
    /// The replacement, as [`Mode::Metadata`], in the same place.
    Metadata,
    /// The replacement, as [`Mode::Link`], in the same place.
    Link,
    /// The same where nobody has built the units before: what they cost is guessed.
    Cold,
    /// The replacement, as [`Mode::Link`], in the order of the released cargo, [`Schedule::Stock`].
    StockOrder,
}

impl Side {
    /// All of them.
    pub const ALL: [Side; 6] = [
        Side::Stock,
        Side::Off,
        Side::Metadata,
        Side::Link,
        Side::Cold,
        Side::StockOrder,
    ];

    /// What is played in a row: the first knows no costs, and those after it what it has measured.
    pub const SEQUENCES: [&[Side]; 3] = [
        &[Side::Stock],
        &[Side::StockOrder],
        &[Side::Cold, Side::Link, Side::Metadata, Side::Off],
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Side::Stock => "stock",
            Side::Off => "off",
            Side::Metadata => "metadata",
            Side::Link => "link",
            Side::Cold => "cold",
            Side::StockOrder => "stock-order",
        }
    }

    /// How often each replay is repeated; the median counts. Of units that as many others wait for the
    /// released cargo starts the one first that a hash map happens to have first, so two of its builds
    /// differ by up to 2 %. With one job any order takes as long.
    pub fn rounds(self, jobs: u64) -> usize {
        match self {
            Side::Stock if jobs > 1 => 3,
            _ => 1,
        }
    }

    /// `build.pipelining`, where the cargo has it.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Side::Stock => None,
            Side::Off => Some(Mode::Off),
            Side::Metadata => Some(Mode::Metadata),
            Side::Link | Side::Cold | Side::StockOrder => Some(Mode::Link),
        }
    }

    /// `build.schedule`, where the cargo has it.
    pub fn schedule(self) -> Option<Schedule> {
        match self {
            Side::Stock => None,
            Side::Off | Side::Metadata | Side::Link | Side::Cold => Some(Schedule::CriticalPath),
            Side::StockOrder => Some(Schedule::Stock),
        }
    }
}

/// What was played.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The SHA-256 of the recording.
    pub recording: String,
    /// The SHA-256 of what stood in for the compilers.
    pub stand_in: String,
    /// The SHA-256 of the cargo.
    pub cargo: String,
    /// Which cargo it is, and in which mode it ran.
    pub side: Side,
    /// How many jobs it had.
    pub jobs: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// From the beginning of the first phase to the end of the last, in the time of the recording.
    pub wall: Duration,
    /// The most compilers that were paused at the same time, if the cargo writes a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_paused: Option<usize>,
    /// The phases, where they are to be drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    played: Key,
    measured: Measured,
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct Results {
    file: fs::File,
    measured: BTreeMap<Key, Measured>,
}

impl Results {
    /// Reads the file, or begins it. What is damaged in it counts as not measured.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or another benchmark has it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another `cargo xtask bench` is running, and writes {}",
                    path.display()
                )
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        if !text.is_empty() && !text.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        let lines = text.split(|byte| *byte == b'\n');
        let measured = lines
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .map(|line| (line.played, line.measured))
            .collect();
        Ok(Results { file, measured })
    }

    /// What came of it, if it was played.
    pub fn get(&self, key: &Key) -> Option<&Measured> {
        self.measured.get(key)
    }

    /// Writes down what came of it.
    pub fn add(&mut self, played: Key, measured: Measured) -> Result<()> {
        let line = Line { played, measured };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.measured.insert(line.played, line.measured);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use replay::log::Phase;

    fn key(jobs: u64) -> Key {
        Key {
            recording: "r".to_owned(),
            stand_in: "s".to_owned(),
            cargo: "c".to_owned(),
            side: Side::Link,
            jobs,
        }
    }

    fn measured(seconds: u64) -> Measured {
        Measured {
            wall: Duration::from_secs(seconds),
            most_paused: Some(2),
            entries: vec![Entry {
                place: 0,
                phase: Phase::Frontend,
                began: 1,
                ended: 2,
                threads: 1,
            }],
        }
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let mut results = Results::open(&path).unwrap();
        results.add(key(1), measured(1)).unwrap();
        results.add(key(2), measured(2)).unwrap();
        drop(results);
        let results = Results::open(&path).unwrap();
        assert_eq!(results.get(&key(1)), Some(&measured(1)));
        assert_eq!(results.get(&key(2)), Some(&measured(2)));
        assert_eq!(results.get(&key(4)), None);
    }

    #[test]
    fn a_damaged_line_is_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let mut results = Results::open(&path).unwrap();
        for jobs in 1..=3 {
            results.add(key(jobs), measured(jobs)).unwrap();
        }
        drop(results);
        let mut text = fs::read(&path).unwrap();
        let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        text[second + 5] = 0xff;
        text.truncate(text.len() - 9);
        fs::write(&path, &text).unwrap();

        let mut results = Results::open(&path).unwrap();
        assert_eq!(results.get(&key(1)), Some(&measured(1)));
        assert_eq!(results.get(&key(2)), None);
        assert_eq!(results.get(&key(3)), None);
        results.add(key(3), measured(4)).unwrap();
        drop(results);
        let results = Results::open(&path).unwrap();
        assert_eq!(results.get(&key(3)), Some(&measured(4)));
    }

    #[test]
    fn only_one_benchmark_writes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let _first = Results::open(&path).unwrap();
        let error = Results::open(&path).unwrap_err().to_string();
        assert!(error.contains("results.jsonl"), "{error}");
    }
}
