//! What was measured before, kept from one run of the benchmark to the next.
//!
//! Each line of the file is a JSON object: what was played, and what was measured. It is written as
//! soon as it is known, so a benchmark that was stopped goes on. What was played is given in digests of
//! all that makes a difference: lines about another cargo or another recording stay and are not found.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use ::replay::stage::Settings;
use anyhow::{Context, Result, bail};
use cargo_pipelining::pipelining::Pipelining;
use cargo_pipelining::schedule::Schedule;
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// A cargo and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The released cargo.
    Stock,
    /// The replacement in mode `off`, where an earlier build with as many jobs has measured the units.
    Off,
    /// The same in mode `metadata`.
    Metadata,
    /// The same in mode `link`.
    Link,
    /// Mode `link`, where nobody has built the units before: costs are guessed.
    Cold,
    /// Mode `link`, in the order of the released cargo.
    StockOrder,
}

impl Side {
    /// All sides.
    pub const ALL: [Side; 6] = [
        Side::Stock,
        Side::Off,
        Side::Metadata,
        Side::Link,
        Side::Cold,
        Side::StockOrder,
    ];

    /// What is played in a row: the first knows no costs, the others what it has measured.
    pub const SEQUENCES: [&[Side]; 3] = [
        &[Side::Stock],
        &[Side::StockOrder],
        &[Side::Cold, Side::Link, Side::Metadata, Side::Off],
    ];

    /// Returns its name in tables.
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

    /// Returns how often each replay is repeated; the median counts. The released cargo starts first
    /// whichever of several units its hash map has first, so two of its builds differ by up to 2 %.
    /// With one job any order takes as long.
    pub fn rounds(self, jobs: u64) -> usize {
        if self == Side::Stock && jobs > 1 {
            3
        } else {
            1
        }
    }

    /// Returns the settings of the replacement.
    pub fn settings(self) -> Settings<'static> {
        let (mode, schedule) = match self {
            Side::Stock => return Settings::default(),
            Side::Off => (Pipelining::Off, Schedule::CriticalPath),
            Side::Metadata => (Pipelining::Metadata, Schedule::CriticalPath),
            Side::Link | Side::Cold => (Pipelining::Link, Schedule::CriticalPath),
            Side::StockOrder => (Pipelining::Link, Schedule::Stock),
        };
        Settings {
            pipelining: Some(mode.name()),
            schedule: Some(schedule.name()),
        }
    }
}

/// What was played.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The SHA-256 of the recording.
    pub recording: String,
    /// The SHA-256 of the stand-in for the compilers.
    pub stand_in: String,
    /// The SHA-256 of the cargo.
    pub cargo: String,
    /// The cargo and its settings.
    pub side: Side,
    /// The number of jobs.
    pub jobs: u64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// From the beginning of the first phase to the end of the last.
    pub wall: Duration,
    /// The most compilers that were paused at the same time, if the cargo writes a trace.
    pub most_paused: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    played: Key,
    measured: Measured,
}

/// The file and its content.
#[derive(Debug)]
pub struct Results {
    file: fs::File,
    measured: BTreeMap<Key, Measured>,
}

impl Results {
    /// Opens the file or creates it. A damaged line counts as not measured.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "another `cargo xtask bench` is running, and writes {}",
                path.display()
            ),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        if !text.is_empty() && !text.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.flat_map(serde_json::from_slice::<Line>);
        let measured = lines.map(|line| (line.played, line.measured)).collect();
        Ok(Results { file, measured })
    }

    /// Returns what was measured.
    pub fn get(&self, key: &Key) -> Option<&Measured> {
        self.measured.get(key)
    }

    /// Writes down what was measured.
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

    fn key(jobs: u64) -> Key {
        Key {
            recording: "r".to_owned(),
            stand_in: "s".to_owned(),
            cargo: "c".to_owned(),
            side: Side::StockOrder,
            jobs,
        }
    }

    fn measured(seconds: u64) -> Measured {
        Measured {
            wall: Duration::from_secs(seconds),
            most_paused: Some(2),
        }
    }

    #[test]
    fn damaged_lines_are_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let mut results = Results::open(&path).unwrap();
        for jobs in 1..=3 {
            results.add(key(jobs), measured(jobs)).unwrap();
        }
        let error = Results::open(&path).unwrap_err().to_string();
        assert!(error.contains("another `cargo xtask bench`"), "{error}");
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
}
