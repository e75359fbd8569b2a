//! Ledger entries: the inputs of a unit, and its outputs.
//!
//! An entry is in the file `invoked.timestamp` that Cargo writes when it starts a compiler or a build
//! script, to have a time of the file system's clock. Cargo reads only that time, which stays. Whichever
//! cargo starts the compiler again overwrites the file, so an entry is always about the last invocation:
//!
//! ```text
//! This file has an mtime of when this was started.
//! 5f0e…               the digest of the format's version and the next line
//! {"invocation":"…}   the entry, some 800 bytes for a library
//! ```
//!
//! A file that differs from this in any way holds no entry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, Time};
use super::untracked::Untracked;
use super::watched::Watched;
use super::{Digest, content, rlib};

/// What `cargo_util::paths::set_invocation_time` writes.
const HEADER: &str = "This file has an mtime of when this was started.";
const VERSION: u32 = 6;

/// What is recorded about one unit. What is not known for sure is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Differs from that of any other invocation.
    pub invocation: Digest,
    /// A hash of the versions of rustc and cargo.
    pub compiler: u64,
    /// The hash of the fingerprint that Cargo wrote with it.
    pub fingerprint: u64,
    /// What rustc read of dependencies when it compiled the unit.
    pub compiled: Option<Digest>,
    /// What the linker read of dependencies. `None` also if the unit is not linked.
    pub linked: Option<Digest>,
    /// Stamps of all other files that were read, but for packages of procedural macros and what expands them.
    pub inputs: Option<Digest>,
    /// Stamps of these packages.
    pub packages: Option<Digest>,
    /// The content of files that Cargo does not track. `None` if it is not known.
    pub untracked: Option<Untracked>,
    /// What the build script watches. `None` if it is not known, or if nothing has run.
    pub watched: Option<Watched>,
    /// The outputs, in Cargo's order.
    pub outputs: Vec<Output>,
    /// The time of the file system's clock before the outputs were hashed.
    pub hashed_at: Time,
}

/// An output when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Of the content.
    pub digest: Digest,
    /// True if native code was bundled into the library.
    pub has_native_code: bool,
    /// From before the file was read.
    pub stamp: Stamp,
}

impl Output {
    fn of(path: &Path) -> io::Result<Self> {
        let stamp = Stamp::of(path)?;
        let (digest, has_native_code) = rlib::digest(path)?;
        Ok(Output {
            digest,
            has_native_code,
            stamp,
        })
    }
}

impl Entry {
    /// Creates an entry about a new invocation, whose timestamp is at `path`, from the outputs as they are. `hashed_at` is
    /// a time of the file system's clock from before the call.
    pub(super) fn new(
        path: &Path,
        compiler: u64,
        outputs: &[PathBuf],
        hashed_at: Time,
    ) -> io::Result<Self> {
        let now = std::time::SystemTime::now();
        let outputs = outputs.iter().map(|path| Output::of(path));
        Ok(Entry {
            invocation: Digest::of_value(&(path, now, std::process::id())),
            compiler,
            fingerprint: 0,
            compiled: None,
            linked: None,
            inputs: None,
            packages: None,
            untracked: None,
            watched: None,
            outputs: outputs.collect::<io::Result<_>>()?,
            hashed_at,
        })
    }

    /// Reads the entry of the last invocation from the timestamp at `path`.
    pub fn read(path: &Path) -> Option<Self> {
        Entry::parse(&fs::read_to_string(path).ok()?)
    }

    /// Returns whether the stamps of the outputs prove that they are as recorded.
    pub(super) fn is_current(&self, paths: &[PathBuf]) -> bool {
        paths.len() == self.outputs.len()
            && std::iter::zip(paths, &self.outputs).all(|it| self.is_proven(it))
    }

    fn is_proven(&self, (path, output): (&PathBuf, &Output)) -> bool {
        output.stamp.last() < self.hashed_at && Stamp::of(path).ok() == Some(output.stamp)
    }

    /// Returns the entry with its outputs as they are at `now`, a time of the file system's clock from before
    /// the call. Reads a file unless its stamp proves that it is the same. `None` if one cannot be read or is
    /// not the same although it has to be.
    pub(super) fn refreshed(
        &self,
        paths: &[PathBuf],
        must_be_same: bool,
        now: Time,
    ) -> Option<Self> {
        if paths.len() != self.outputs.len() {
            return None;
        }
        let mut entry = self.clone();
        for (path, output) in std::iter::zip(paths, &mut entry.outputs) {
            if !self.is_proven((path, output)) {
                let then = std::mem::replace(output, Output::of(path).ok()?);
                if must_be_same && output.digest != then.digest {
                    return None;
                }
            }
        }
        entry.hashed_at = now;
        Some(entry)
    }

    /// Writes the entry that `fill` returns to the timestamp at `path`, which keeps its time. `fill` gets the
    /// time of the file system's clock.
    ///
    /// # Errors
    ///
    /// What `fill` fails with, or if the file cannot be replaced. Then it stays as it is.
    pub fn write(path: &Path, fill: impl FnOnce(Time) -> io::Result<Self>) -> io::Result<Self> {
        let mut written = None;
        content::replace(path, |now| {
            let entry = written.insert(fill(now)?);
            Ok(entry.to_text()?.into_bytes())
        })?;
        written.ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn to_text(&self) -> io::Result<String> {
        let json = serde_json::to_string(self)?;
        let digest = String::from(Digest::of_value(&(VERSION, &json)));
        Ok(format!("{HEADER}\n{digest}\n{json}\n"))
    }

    fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
        let (digest, json) = body.strip_suffix('\n')?.split_once('\n')?;
        if digest != String::from(Digest::of_value(&(VERSION, json))) {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let output = |text: &str| Output {
            digest: Digest::of_value(text),
            has_native_code: false,
            stamp: Stamp {
                size: u64::MAX,
                modified: Time::MIN,
                changed: Time::MAX,
                inode: u64::MAX,
            },
        };
        Entry {
            fingerprint: 7,
            compiled: Some(Digest::of_value("compiled")),
            linked: Some(Digest::of_value("linked")),
            inputs: Some(Digest::of_value("inputs")),
            outputs: vec![output("rmeta"), output("rlib")],
            ..Entry::new(Path::new("invoked.timestamp"), u64::MAX, &[], 0).unwrap()
        }
    }

    #[test]
    fn file_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let invoked = cargo_util::paths::set_invocation_time(dir.path()).unwrap();
        let path = dir.path().join("invoked.timestamp");
        assert_eq!(Entry::read(&path), None);
        let written = Entry::write(&path, |_| Ok(entry())).unwrap();
        assert_eq!(Entry::read(&path), Some(written));
        assert_eq!(cargo_util::paths::mtime(&path).unwrap(), invoked);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);

        assert!(Entry::write(&path, |_| Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        cargo_util::paths::set_invocation_time(dir.path()).unwrap();
        assert_eq!(Entry::read(&path), None, "a new invocation");
    }

    #[test]
    fn entries_are_small() {
        assert!(entry().to_text().unwrap().len() < 1200);
    }

    #[test]
    fn invocations_differ() {
        assert_ne!(entry().invocation, entry().invocation);
    }

    #[test]
    fn damaged_entry_is_none() {
        let text = entry().to_text().unwrap();
        assert!(Entry::parse(&text).is_some());
        for len in 0..text.len() {
            assert_eq!(Entry::parse(&text[..len]), None, "cut after {len} bytes");
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(text) = String::from_utf8(bytes) {
                    assert_eq!(Entry::parse(&text), None, "bit {bit} of byte {at}");
                }
            }
        }
        assert_eq!(Entry::parse(&(text + "more\n")), None);
        assert_eq!(Entry::parse(""), None);
    }

    #[test]
    fn other_version_is_none() {
        let json = serde_json::to_string(&entry()).unwrap();
        for (version, is_known) in [(VERSION, true), (VERSION + 1, false)] {
            let digest = String::from(Digest::of_value(&(version, &json)));
            let text = format!("{HEADER}\n{digest}\n{json}\n");
            assert_eq!(Entry::parse(&text).is_some(), is_known);
        }
    }
}
