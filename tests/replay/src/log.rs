//! What the stand-ins tell: when each phase of each unit ran.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::recording::{Recording, Role};

/// What a stand-in stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Of a compiler, until its metadata is written.
    Frontend,
    /// Of a compiler, from there until its last object file is.
    Codegen,
    /// The linker.
    Link,
    /// A build script.
    Run,
}

/// One phase of one unit. Times are in ns since the Unix epoch, or since a virtual clock began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The place of the unit in the recording.
    pub place: usize,
    /// Which phase.
    pub phase: Phase,
    /// When it began.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// How many threads it had, at most.
    pub threads: u64,
}

/// Everything that one replay did, in the order in which it began.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The phases.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Appends an entry to the file.
    ///
    /// Every stand-in opens the file for itself, and an entry is one write.
    pub fn append(path: &Path, entry: &Entry) -> Result<()> {
        append_line(path, entry)
    }

    /// Reads what was appended.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut entries = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Entry>, _>>()
            .with_context(|| format!("{} is no log of a replay", path.display()))?;
        entries.sort_by_key(|entry| (entry.began, entry.place, entry.phase));
        Ok(Log { entries })
    }

    /// From the beginning of the first phase to the end of the last.
    pub fn wall(&self) -> Duration {
        let began = self.entries.iter().map(|entry| entry.began).min();
        let ended = self.entries.iter().map(|entry| entry.ended).max();
        match (began, ended) {
            (Some(began), Some(ended)) => Duration::from_nanos(ended.saturating_sub(began)),
            _ => Duration::ZERO,
        }
    }

    /// Whether each unit of the recording ran, and ran once.
    ///
    /// # Errors
    ///
    /// Names those that did not, and those that ran more often: the skeleton has other units than the
    /// recording.
    pub fn check(&self, recording: &Recording) -> Result<()> {
        let mut runs: BTreeMap<usize, usize> =
            (0..recording.units.len()).map(|place| (place, 0)).collect();
        for entry in &self.entries {
            if matches!(entry.phase, Phase::Frontend | Phase::Run) {
                *runs.entry(entry.place).or_default() += 1;
            }
        }
        let mut problems = String::new();
        for (place, times) in runs.into_iter().filter(|(_, times)| *times != 1) {
            let unit = recording.units.get(place).cloned().unwrap_or_default();
            let what = match unit.role() {
                Role::Run => "the build script's run",
                Role::BuildScript => "the build script",
                _ => unit.target.as_str(),
            };
            let _ = write!(
                problems,
                "\n{what} of {} {} ran {times} times",
                unit.package, unit.version
            );
        }
        if !problems.is_empty() {
            bail!("the replay has other units than the recording:{problems}");
        }
        Ok(())
    }
}

/// Appends a line of JSON to a file, in one write.
pub(crate) fn append_line(path: &Path, entry: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?;
    file.write_all(&line)?;
    Ok(())
}

/// Now, as entries have it.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
