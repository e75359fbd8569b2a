//! How long units took to compile in earlier builds, kept in one file for all projects of a user. Costs
//! decide the order of a build and nothing else, so the file is simple:
//!
//! ```text
//!   "cargo build costs, version 1\n"   BLAKE3 of the records   record   record   …
//!
//!   record: u64s in little-endian order     key   frontend   codegen   link
//!                                                 └──── Measured, in µs ──┘
//! ```
//!
//! A build that has something to compile reads it, and at its end renames a new one over it, which begins
//! with the units that it has measured. A full file drops those that were measured longest ago. Of two builds
//! that end at the same moment, one may lose what it has measured, but every reader gets a complete file.
//!
//! A missing or empty file holds no costs. Reading one that is damaged or of another format is an error,
//! and recording replaces it. Nothing waits for another process or the disk.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use cargo_util::paths;

use super::estimate::{Estimate, Measured};
use super::guess::{Subject, guess};
use super::prior::Table;
use super::{Plan, Scheduler};

/// Begins the file. The version changes with the format and what is measured.
const MAGIC: &[u8] = b"cargo build costs, version 1\n";

/// The most units that are kept, in 1 MiB.
const MAX_UNITS: usize = 1 << 15;

/// With their checksum.
const MAX_BYTES: u64 = (MAGIC.len() + 32 + 32 * MAX_UNITS) as u64;

/// Stands for a phase that was not measured.
const UNKNOWN: u64 = u64::MAX;

/// The costs of the units of one build: read before it, recorded after it.
///
/// A key stands for a unit in all builds and projects. It is a hash of what tells the unit from others, and
/// of all that changes how long it takes to compile.
#[derive(Debug)]
pub struct KnownCosts<U> {
    path: PathBuf,
    keys: HashMap<U, u64>,
    /// The file could not be read, and the user was told.
    has_failed: bool,
}

impl<U: Clone + Eq + Hash> KnownCosts<U> {
    /// Uses the file at `path`, which need not exist. Reads nothing yet.
    pub fn at(path: PathBuf) -> Self {
        KnownCosts {
            path,
            keys: HashMap::new(),
            has_failed: false,
        }
    }

    /// Estimates the work of all jobs of `plan`. A job without a `key` has no work. The work of a unit
    /// that the file does not have is guessed from what `subject` says, which is called only then. Returns an error
    /// if the file cannot be read; then everything is guessed.
    pub fn estimate<J>(
        &mut self,
        plan: &mut Plan<U, J>,
        key: impl Fn(&U, &J) -> Option<u64>,
        subject: impl Fn(&U) -> Subject<'_>,
    ) -> anyhow::Result<()> {
        let costs = read(&self.path);
        self.has_failed = costs.is_err();
        let (costs, result) = match costs {
            Ok(costs) => (HashMap::from_iter(costs), Ok(())),
            Err(error) => (HashMap::new(), Err(error)),
        };
        for (node, job) in std::iter::zip(&mut plan.nodes, &plan.jobs) {
            let Some(key) = key(&node.unit, job) else {
                continue;
            };
            self.keys.insert(node.unit.clone(), key);
            node.estimate(match costs.get(&key) {
                Some(measured) => Estimate::Measured(measured.work()),
                None => Estimate::Guessed(guess(&subject(&node.unit), Table::SHIPPED)),
            });
        }
        result
    }

    /// Adds what a build has measured to the file. An error is returned once, here or by
    /// [`estimate`](Self::estimate).
    pub(super) fn record<J>(&self, build: &Scheduler<U, J>) -> anyhow::Result<()> {
        let key = |unit| self.keys.get(unit).copied();
        let measured =
            (build.measured()).filter_map(|(unit, measured)| Some((key(unit)?, measured)));
        match record(&self.path, measured.collect()) {
            Err(_) if self.has_failed => Ok(()),
            result => result,
        }
    }
}

/// Reads the costs in the file, those that were measured last first.
fn read(path: &Path) -> anyhow::Result<Vec<(u64, Measured)>> {
    let read = || {
        let bytes = read_bytes(path)?;
        parse(&bytes).context("it is damaged or of another format, and will be replaced")
    };
    read().with_context(|| format!("failed to read build costs from `{}`", path.display()))
}

/// Reads the whole file, or more than it can have if it is not ours. A missing file is empty.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path) {
        // Reading from a pipe would wait for whoever writes to it.
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => {
            let mut bytes = Vec::new();
            fs::File::open(path)?
                .take(MAX_BYTES + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}

/// Returns `None` if the file is not ours or damaged.
fn parse(bytes: &[u8]) -> Option<Vec<(u64, Measured)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (checksum, records) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if blake3::hash(records) != *checksum {
        return None;
    }
    let (words, _) = records.as_chunks();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (records, _) = words.as_chunks();
    let costs = records.iter().map(|&[key, frontend, codegen, link]| {
        let known = |us| (us != UNKNOWN).then_some(us);
        let measured = Measured {
            frontend: known(frontend),
            codegen: known(codegen),
            link: known(link),
        };
        (key, measured)
    });
    Some(costs.collect())
}

fn to_bytes(costs: impl Iterator<Item = (u64, Measured)>) -> Vec<u8> {
    let words = costs.flat_map(|(key, it)| {
        let phases = [it.frontend, it.codegen, it.link].map(|us| us.unwrap_or(UNKNOWN));
        [[key].as_slice(), &phases].concat()
    });
    let records: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    [MAGIC, blake3::hash(&records).as_bytes(), &records].concat()
}

/// Adds what one build has measured to the file.
fn record(path: &Path, mut measured: HashMap<u64, Measured>) -> anyhow::Result<()> {
    measured.retain(|_, measured| *measured != Measured::default());
    if measured.is_empty() {
        return Ok(());
    }
    let write = || {
        let mut others = Vec::new();
        for (key, old) in parse(&read_bytes(path)?).unwrap_or_default() {
            match measured.get_mut(&key) {
                Some(new) => *new = average(old, *new),
                None => others.push((key, old)),
            }
        }
        let costs = measured.into_iter().chain(others).take(MAX_UNITS);
        paths::write_atomic(path, to_bytes(costs))
    };
    write().with_context(|| format!("failed to write build costs to `{}`", path.display()))
}

/// Returns the mean of both, phase by phase: each later build halves the influence of an outlier.
fn average(old: Measured, new: Measured) -> Measured {
    let mean = |old: Option<u64>, new: Option<u64>| match (old, new) {
        (Some(old), Some(new)) => Some(old.midpoint(new)),
        (old, new) => new.or(old),
    };
    Measured {
        frontend: mean(old.frontend, new.frontend),
        codegen: mean(old.codegen, new.codegen),
        link: mean(old.link, new.link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Artifact;
    use crate::scheduler::guess::{Kind, Source, SourceSize};
    use crate::scheduler::{Action, Clock, Settings, Task};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::{iter, thread};

    fn measured(frontend: u64) -> Measured {
        Measured {
            frontend: Some(frontend),
            codegen: None,
            link: Some(0),
        }
    }

    /// Files outlive releases: if this fails, the version in [`MAGIC`] must change.
    #[test]
    fn format_is_stable() {
        let file = to_bytes(iter::once((5, measured(1))));
        assert_eq!(&blake3::hash(&file).to_hex()[..16], "6cf64d03f8495abc");
    }

    #[test]
    fn recorded_costs_are_averaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("costs");
        assert_eq!(read(&path).unwrap(), []);
        let nothing = (3, Measured::default());
        record(&path, [nothing].into()).unwrap();
        assert!(!path.exists(), "nothing was measured");
        record(&path, [(1, measured(100)), nothing].into()).unwrap();
        record(&path, [(2, measured(7))].into()).unwrap();
        let unchanged = [(2, measured(7)), (1, measured(100))];
        assert_eq!(read(&path).unwrap(), unchanged);
        let new = Measured {
            frontend: Some(200),
            codegen: Some(9),
            link: None,
        };
        record(&path, [(1, new)].into()).unwrap();
        let average = Measured {
            codegen: Some(9),
            ..measured(150)
        };
        let averaged = [(1, average), (2, measured(7))];
        assert_eq!(read(&path).unwrap(), averaged);
    }

    #[test]
    fn oldest_costs_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("costs");
        record(&path, [(1, measured(1))].into()).unwrap();
        record(&path, [(2, measured(2))].into()).unwrap();
        let many = (3..=MAX_UNITS as u64 + 1).map(|key| (key, measured(3)));
        record(&path, many.collect()).unwrap();
        let costs = read(&path).unwrap();
        assert_eq!(costs.len(), MAX_UNITS);
        assert_eq!(costs.last(), Some(&(2, measured(2))));
    }

    #[test]
    fn damaged_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("costs");
        let costs = [(1, measured(2))];
        let good = to_bytes(costs.into_iter());
        let truncated = (1..good.len()).map(|len| good[..len].to_vec());
        let flipped = (0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        });
        let foreign = iter::once(b"SQLite format 3\0".to_vec());
        for bytes in foreign.chain(truncated).chain(flipped) {
            fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err());
            record(&path, costs.into()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), good);
        }
    }

    #[test]
    fn concurrent_builds_never_damage_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("costs");
        thread::scope(|scope| {
            for id in 0..4 {
                scope.spawn(move || {
                    let costs: HashMap<_, _> =
                        (0..200).map(|i| (4 * i + id, measured(i))).collect();
                    for _ in 0..50 {
                        record(path, costs.clone()).unwrap();
                        assert!(read(path).unwrap().len() >= costs.len());
                    }
                });
            }
        });
        let costs = read(path).unwrap();
        assert!((costs.iter()).all(|(key, cost)| *cost == measured(key / 4)));
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1, "a temporary file was left behind");
    }

    struct Unit {
        is_fresh: bool,
    }

    fn other<U>(_: &U) -> Subject<'_> {
        Subject {
            kind: Kind::Other,
            package: None,
            is_optimized: false,
            source: Source::Size(SourceSize::default()),
        }
    }

    impl Task for Unit {
        fn is_fresh(&self) -> bool {
            self.is_fresh
        }
    }

    /// Runs the jobs of a build one after the other. Returns their order, and the results of estimating
    /// and of recording.
    fn build(path: &Path) -> (Vec<&'static str>, [anyhow::Result<()>; 2]) {
        let mut plan = Plan::default();
        for (unit, is_fresh) in [("fresh", true), ("small", false), ("large", false)] {
            plan.add(unit, Unit { is_fresh }, []);
        }
        let mut costs = KnownCosts::at(path.to_path_buf());
        let key = |package: &&'static str, unit: &Unit| {
            (!unit.is_fresh).then_some(package.as_bytes()[0].into())
        };
        let estimated = costs.estimate(&mut plan, key, other);
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let settings = Settings {
            clock: Clock::new(move || shown.load(Relaxed)),
            costs: Some(costs),
            ..Settings::default()
        };
        let mut scheduler = plan.seal(settings).unwrap();
        let mut order = Vec::new();
        while let Some(Action::Start(start)) = scheduler.next(1) {
            let is_large = start.unit == "large";
            now.fetch_add(if is_large { 9_000_000 } else { 10 }, Relaxed);
            scheduler.produced(&start.unit, Artifact::All);
            order.push(start.unit);
        }
        (order, [estimated, scheduler.record_costs()])
    }

    #[test]
    fn second_build_uses_measured_costs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("costs");
        for expected in [["fresh", "small", "large"], ["large", "fresh", "small"]] {
            let (order, results) = build(&path);
            assert!(results.iter().all(Result::is_ok));
            assert_eq!(order, expected);
        }
    }

    #[test]
    fn unusable_file_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let (_, [estimated, recorded]) = build(dir.path());
        assert!(estimated.is_err() && recorded.is_ok());
        let (_, [estimated, recorded]) = build(&dir.path().join("missing/costs"));
        assert!(estimated.is_ok() && recorded.is_err());
    }
}
