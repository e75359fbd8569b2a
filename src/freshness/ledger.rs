//! Ledger entries: the inputs of a unit, and its outputs.
//!
//! The entry of a unit is in the file `invoked.timestamp` that Cargo writes when it starts a compiler
//! or a build script, to have a time of the file system's clock. Cargo reads only that time, which
//! stays. Whichever cargo starts the compiler again writes the file anew, so an entry is always about
//! the last invocation:
//!
//! ```text
//! This file has an mtime of when this was started.
//! 5f0e…            the digest of the next line
//! {"version":2,…}  the entry
//! ```
//!
//! Some 800 bytes for a library. A file that differs from this in any way holds no entry.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::stamp::{Stamp, Time};

/// What `cargo_util::paths::set_invocation_time` writes.
const HEADER: &str = "This file has an mtime of when this was started.";
const VERSION: u32 = 2;

/// What is recorded about one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub(super) version: u32,
    /// Differs from that of any other invocation.
    pub invocation: Digest,
    /// A hash of the versions of rustc and cargo.
    pub compiler: u64,
    /// The hash of the fingerprint that Cargo wrote with it.
    pub fingerprint: u64,
    /// What the unit read. `None` for what another cargo has made.
    pub read: Option<Read>,
    /// The outputs, in Cargo's order.
    pub outputs: Vec<Output>,
    /// The time of the file system's clock before the outputs were hashed.
    pub hashed_at: Time,
}

/// Digests of what a unit read. See the [module's documentation](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What rustc read of dependencies when it compiled.
    pub compiled: Digest,
    /// What the linker read of dependencies, if the unit is linked.
    pub linked: Option<Digest>,
    /// Stamps of all other files that rustc read. `None` if that is not known for sure.
    pub inputs: Option<Digest>,
    /// Stamps of native libraries. `None` if that is not known for sure, or none are read.
    pub native: Option<Digest>,
}

/// An output when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Of the content.
    pub digest: Digest,
    /// Whether it is a library that native code was bundled into.
    pub has_native_code: bool,
    /// From before it was read.
    pub stamp: Stamp,
}

impl Output {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stamp = Stamp::of(path)?;
        let (digest, has_native_code) = super::archive::digest(path)?;
        Ok(Output {
            digest,
            has_native_code,
            stamp,
        })
    }

    /// The output at `path` now, where this was its state at `hashed_at`. Reads the file unless its
    /// stamp proves that it is still the same.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn refreshed(self, path: &Path, hashed_at: Time) -> io::Result<Self> {
        if self.stamp.last() < hashed_at && Stamp::of(path)? == self.stamp {
            Ok(self)
        } else {
            Output::of(path)
        }
    }
}

impl Entry {
    /// An entry without outputs about a new invocation, whose timestamp is at `path`.
    pub fn new(path: &Path) -> Self {
        let now = std::time::SystemTime::now();
        Entry {
            version: VERSION,
            invocation: Digest::of_value(&(path, now, std::process::id())),
            compiler: 0,
            fingerprint: 0,
            read: None,
            outputs: Vec::new(),
            hashed_at: Time::MIN,
        }
    }

    /// Reads the entry in the timestamp at `path`. `None` if there is none about the last invocation.
    pub fn read(path: &Path) -> Option<Self> {
        Entry::parse(&fs::read_to_string(path).ok()?)
    }

    /// Puts the entry that `fill` makes into the timestamp at `path`, which keeps its time. Outputs are to
    /// be hashed in `fill`: [`hashed_at`](Self::hashed_at) is the time just before it.
    ///
    /// # Errors
    ///
    /// What `fill` fails with, or if the file cannot be replaced. Then it stays as it is.
    pub fn write(path: &Path, fill: impl FnOnce() -> io::Result<Self>) -> io::Result<Self> {
        let invoked = fs::metadata(path)?.modified()?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut file = tempfile::NamedTempFile::with_prefix_in("invoked.timestamp.", dir)?;
        let now = Stamp::from(&file.as_file().metadata()?).last();
        let entry = Entry {
            hashed_at: now,
            ..fill()?
        };
        file.write_all(entry.to_text()?.as_bytes())?;
        #[cfg(unix)]
        {
            let permissions = fs::metadata(path)?.permissions();
            file.as_file().set_permissions(permissions)?;
        }
        file.as_file().set_modified(invoked)?;
        file.persist(path)?;
        Ok(entry)
    }

    fn to_text(&self) -> io::Result<String> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{HEADER}\n{}\n{json}\n", Digest::of_value(&json)))
    }

    fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
        let (digest, json) = body.strip_suffix('\n')?.split_once('\n')?;
        if digest != Digest::of_value(json).to_string() {
            return None;
        }
        let entry: Entry = serde_json::from_str(json).ok()?;
        (entry.version == VERSION).then_some(entry)
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
            compiler: u64::MAX,
            fingerprint: 7,
            read: Some(Read {
                compiled: Digest::of_value("compiled"),
                linked: Some(Digest::of_value("linked")),
                inputs: Some(Digest::of_value("inputs")),
                native: None,
            }),
            outputs: vec![output("rmeta"), output("rlib")],
            ..Entry::new(Path::new("invoked.timestamp"))
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
        let mut entry = entry();
        entry.version += 1;
        assert_eq!(Entry::parse(&entry.to_text().unwrap()), None);
    }
}
