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
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, Time};
use super::{Digest, rlib};

/// What `cargo_util::paths::set_invocation_time` writes.
const HEADER: &str = "This file has an mtime of when this was started.";
const VERSION: u32 = 3;

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
    /// Stamps of all other files that were read.
    pub inputs: Option<Digest>,
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
    /// Creates an entry about a new invocation, whose timestamp is at `path`, from the outputs as they are.
    pub(super) fn new(path: &Path, compiler: u64, outputs: &[PathBuf]) -> io::Result<Self> {
        let now = std::time::SystemTime::now();
        let outputs = outputs.iter().map(|path| Output::of(path));
        Ok(Entry {
            invocation: Digest::of_value(&(path, now, std::process::id())),
            compiler,
            fingerprint: 0,
            compiled: None,
            linked: None,
            inputs: None,
            outputs: outputs.collect::<io::Result<_>>()?,
            hashed_at: Time::MIN,
        })
    }

    /// Reads the entry of the last invocation from the timestamp at `path`.
    pub fn read(path: &Path) -> Option<Self> {
        Entry::parse(&fs::read_to_string(path).ok()?)
    }

    /// Returns the entry with its outputs as they are now. Reads a file unless its stamp proves that it is
    /// the same. `None` if one cannot be read or is not the same although it has to be.
    pub(super) fn refreshed(mut self, paths: &[PathBuf], must_be_same: bool) -> Option<Self> {
        if paths.len() != self.outputs.len() {
            return None;
        }
        for (path, output) in std::iter::zip(paths, &mut self.outputs) {
            let is_proof = output.stamp.last() < self.hashed_at;
            if !is_proof || Stamp::of(path).ok()? != output.stamp {
                let then = std::mem::replace(output, Output::of(path).ok()?);
                if must_be_same && output.digest != then.digest {
                    return None;
                }
            }
        }
        Some(self)
    }

    /// Writes the entry that `fill` returns to the timestamp at `path`, which keeps its time. `fill` has to
    /// hash the outputs: [`hashed_at`](Self::hashed_at) is the time just before it.
    ///
    /// # Errors
    ///
    /// What `fill` fails with, or if the file cannot be replaced. Then it stays as it is.
    pub fn write(path: &Path, fill: impl FnOnce() -> io::Result<Self>) -> io::Result<Self> {
        let replaced = fs::metadata(path)?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut file = tempfile::NamedTempFile::with_prefix_in("invoked.timestamp.", dir)?;
        let now = Stamp::from(&file.as_file().metadata()?).last();
        let entry = Entry {
            hashed_at: now,
            ..fill()?
        };
        file.write_all(entry.to_text()?.as_bytes())?;
        file.as_file().set_permissions(replaced.permissions())?;
        file.as_file().set_modified(replaced.modified()?)?;
        file.persist(path)?;
        Ok(entry)
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
            ..Entry::new(Path::new("invoked.timestamp"), u64::MAX, &[]).unwrap()
        }
    }

    #[test]
    fn file_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let invoked = cargo_util::paths::set_invocation_time(dir.path()).unwrap();
        let path = dir.path().join("invoked.timestamp");
        assert_eq!(Entry::read(&path), None);
        let written = Entry::write(&path, || Ok(entry())).unwrap();
        assert_eq!(Entry::read(&path), Some(written));
        assert_eq!(cargo_util::paths::mtime(&path).unwrap(), invoked);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);

        assert!(Entry::write(&path, || Err(io::ErrorKind::Other.into())).is_err());
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
