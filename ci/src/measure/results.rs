//! What was measured before, kept from one run of the benchmark to the next.
//!
//! Each line of the file is a [`Measured`] in JSON. It is written as soon as it is known, so a benchmark
//! that was stopped goes on. Lines about another cargo or another recording stay and are not found.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;

use ::replay::stage::Settings;
use anyhow::Result;
use cargo_pipelining::config::Pipelining;
use cargo_pipelining::config::Schedule;
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

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What was played, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The digest of the recording, of the stand-in for the compilers and of the cargo.
    pub digest: String,
    pub side: Side,
    pub jobs: u64,
    /// From the beginning of the first phase to the end of the last, in seconds.
    pub wall: f64,
    /// The most compilers that were paused at the same time, if the cargo writes a trace.
    pub most_paused: Option<usize>,
}

#[derive(Debug)]
pub struct Results {
    file: fs::File,
    measured: Vec<Measured>,
}

impl Results {
    /// Opens the file or creates it. A damaged line counts as not measured. The caller holds
    /// [`Lock::bench`](crate::lock::Lock::bench).
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        if !text.is_empty() && !text.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        let lines = text.split(|byte| *byte == b'\n');
        let measured = lines.flat_map(serde_json::from_slice).collect();
        Ok(Results { file, measured })
    }

    pub fn get(&self, digest: &str, side: Side, jobs: u64) -> Option<&Measured> {
        let mut measured = self.measured.iter();
        measured.find(|it| it.digest == digest && it.side == side && it.jobs == jobs)
    }

    pub fn add(&mut self, measured: Measured) -> Result<()> {
        let mut text = serde_json::to_vec(&measured)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.measured.push(measured);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn measured(jobs: u64, wall: f64) -> Measured {
        Measured {
            digest: "d".to_owned(),
            side: Side::StockOrder,
            jobs,
            wall,
            most_paused: Some(2),
        }
    }

    #[test]
    fn damaged_lines_are_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let mut results = Results::open(&path).unwrap();
        for jobs in 1..=3 {
            results.add(measured(jobs, 1.0)).unwrap();
        }
        let mut text = fs::read(&path).unwrap();
        let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        text[second + 5] = 0xff;
        text.truncate(text.len() - 9);
        fs::write(&path, &text).unwrap();

        let mut results = Results::open(&path).unwrap();
        assert_eq!(results.measured, [measured(1, 1.0)]);
        results.add(measured(3, 4.0)).unwrap();
        let results = Results::open(&path).unwrap();
        assert_eq!(results.measured, [measured(1, 1.0), measured(3, 4.0)]);
        assert_eq!(results.get("d", Side::StockOrder, 2), None);
    }
}
