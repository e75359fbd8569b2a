//! What was built, and how long each phase took.
//!
//! # The file
//!
//! One JSON object, compressed with gzip: a [`Recording`]. Times are in µs, sizes in bytes; what a unit does
//! not do is absent. Times of compilers and linkers are CPU time where that can be had, on Linux: with one
//! job they work one at a time and wait for nothing, and what else the machine does is not counted.
//!
//! Nothing else is in it: no source, no path and no environment of the machine.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
pub use cargo_pipelining::scheduler::guess::SourceSize;
use cargo_pipelining::scheduler::guess::{Kind, Source, Subject};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// A build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    version: u32,
    /// What was built, for people.
    pub name: String,
    /// The release of the compiler.
    pub rustc: String,
    /// The platform that it ran on.
    pub host: String,
    /// True if the compiler reads all libraries before it runs the linker, as link-time optimization
    /// across crates has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lto: bool,
    /// Each unit comes after those that it needs.
    pub units: Vec<Unit>,
}

/// One job of a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unit {
    pub package: String,
    pub version: String,
    pub target: String,
    /// The kinds of the target, as `cargo metadata` spells them: `lib`, `proc-macro`, …
    pub kind: Vec<String>,
    /// As `cargo build --unit-graph` spells it: `build`, `test`, `check`, `run-custom-build`.
    pub mode: String,
    /// The places of the units that it needs, but for those that one of them needs, too.
    pub needs: Vec<usize>,
    /// Until the metadata is written; all of the compilation, if none is.
    #[serde(skip_serializing_if = "is_zero")]
    pub frontend: u64,
    /// From there until the last object is, on one thread.
    #[serde(skip_serializing_if = "is_zero")]
    pub codegen: u64,
    /// In the linker.
    #[serde(skip_serializing_if = "is_zero")]
    pub link: u64,
    /// How many object files the codegen makes.
    #[serde(skip_serializing_if = "is_zero")]
    pub codegen_units: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_optimized: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_debuginfo: bool,
    /// How many bytes its compiler holds alone when the metadata is written.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory: u64,
    /// The size of the source files: of a crate, or of what a build script may compile.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_size: u64,
    /// How many traits macros derive there.
    #[serde(skip_serializing_if = "is_zero")]
    pub derives: u64,
    /// How often macros are called there, but for assertions.
    #[serde(skip_serializing_if = "is_zero")]
    pub macro_calls: u64,
    /// A build script's run.
    #[serde(skip_serializing_if = "is_zero")]
    pub run: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Unit {
    /// What its costs are guessed by.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            kind: self.estimated_kind(),
            package: self
                .numbers()
                .map(|version| (self.package.as_str(), version)),
            is_optimized: self.is_optimized,
            source: Source::Size(SourceSize {
                bytes: self.source_size,
                derives: self.derives,
                macro_calls: self.macro_calls,
            }),
        }
    }

    /// The numbers of its version.
    pub fn numbers(&self) -> Option<[u64; 3]> {
        let numbers = self.version.split(['-', '+']).next()?.split('.');
        let numbers: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
        numbers.try_into().ok()
    }

    pub fn estimated_kind(&self) -> Kind {
        let is = |kind: &str| self.kind.iter().any(|k| k == kind);
        match self.mode.as_str() {
            "run-custom-build" => Kind::Run,
            _ if is("custom-build") => Kind::BuildScript,
            _ if is("proc-macro") => Kind::ProcMacro,
            "test" => Kind::Linked,
            _ if is("lib") || is("rlib") => Kind::Library,
            _ => Kind::Linked,
        }
    }

    /// How many bytes its compiler holds when the metadata is written. Guessed where it was not recorded: it
    /// grows with what the compiler has done.
    pub fn memory_held(&self) -> u64 {
        match self.memory {
            0 => 15_000_000 + self.frontend.saturating_mul(140).min(1 << 40),
            memory => memory,
        }
    }

    /// True for a program, or a library for other programs.
    pub fn is_linked(&self) -> bool {
        self.estimated_kind() == Kind::Linked
    }

    pub fn is_run(&self) -> bool {
        self.estimated_kind() == Kind::Run
    }

    /// Returns all of its work on one thread, in µs.
    pub fn work(&self) -> u64 {
        self.frontend + self.codegen + self.link + self.run
    }
}

impl Recording {
    /// Makes an empty recording.
    pub fn new(name: impl Into<String>, rustc: impl Into<String>, host: impl Into<String>) -> Self {
        Recording {
            version: VERSION,
            name: name.into(),
            rustc: rustc.into(),
            host: host.into(),
            lto: false,
            units: Vec::new(),
        }
    }

    /// Returns all of the work on one thread, in µs.
    pub fn work(&self) -> u64 {
        self.units.iter().map(Unit::work).sum()
    }

    /// Removes the needs that follow from other needs: a trace lists all that a unit links.
    pub fn reduce(&mut self) {
        let mut below: Vec<BTreeSet<usize>> = Vec::with_capacity(self.units.len());
        for unit in &mut self.units {
            let needs: BTreeSet<usize> = unit.needs.iter().copied().collect();
            let implied: BTreeSet<usize> = needs
                .iter()
                .flat_map(|need| &below[*need])
                .copied()
                .collect();
            unit.needs = needs.difference(&implied).copied().collect();
            below.push(needs.union(&implied).copied().collect());
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let file = fs::File::open(path)?;
        Self::decode(file).with_context(|| format!("{} is no recording of a build", path.display()))
    }

    fn decode(compressed: impl Read) -> Result<Self> {
        let mut text = String::new();
        GzDecoder::new(compressed).read_to_string(&mut text)?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let version = &json["version"];
        if *version != VERSION {
            bail!("it has version {version} of the format, and only {VERSION} can be read");
        }
        let recording: Recording = serde_json::from_value(json)?;
        recording.check()?;
        Ok(recording)
    }

    /// Writes the recording to a file. The same recording makes the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check()?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        serde_json::to_writer(&mut encoder, self)?;
        fs::write(path, encoder.finish()?)?;
        Ok(())
    }

    /// Checks that each unit comes after those that it needs.
    fn check(&self) -> Result<()> {
        for (place, unit) in self.units.iter().enumerate() {
            if let Some(need) = unit.needs.iter().find(|need| **need >= place) {
                bail!("unit {place} needs unit {need}, which does not come before it");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    fn recording() -> Recording {
        let mut recording = Recording::new("two 1.0.0", "1.95.0", "x86_64-unknown-linux-gnu");
        for needs in [vec![], vec![0]] {
            recording.units.push(Unit {
                package: format!("p{}", needs.len()),
                kind: vec!["lib".to_owned()],
                mode: "build".to_owned(),
                needs,
                frontend: 5,
                ..Unit::default()
            });
        }
        recording
    }

    fn compressed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn written_recording_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("two.json.gz");
        recording().write(&path).unwrap();
        assert_eq!(Recording::read(&path).unwrap(), recording());
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no.json.gz");
        for (content, problem) in [
            (b"no".to_vec(), "unexpected end of file"),
            (compressed("no"), "expected ident"),
            (compressed(r#"{"version":2,"other":1}"#), "version 2"),
            (compressed(r#"{"version":1,"other":1}"#), "unknown field"),
        ] {
            fs::write(&path, content).unwrap();
            let error = format!("{:#}", Recording::read(&path).unwrap_err());
            assert!(error.contains("no.json.gz"), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn implied_needs_are_removed() {
        let mut recording = recording();
        for needs in [vec![0, 1], vec![0], vec![0, 1, 2, 3]] {
            recording.units.push(Unit {
                needs,
                ..Unit::default()
            });
        }
        recording.reduce();
        let needs: Vec<_> = recording.units.iter().map(|unit| &unit.needs).collect();
        let (none, first) = (vec![], vec![0]);
        assert_eq!(needs, [&none, &first, &vec![1], &first, &vec![2, 3]]);
    }

    #[test]
    fn needs_come_first() {
        let mut recording = recording();
        recording.units.reverse();
        let dir = tempfile::tempdir().unwrap();
        let error = recording.write(&dir.path().join("r")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unit 0 needs unit 0, which does not come before it"
        );
    }
}
