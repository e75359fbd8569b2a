//! The ledger: what a unit was made of, and what came out, as a small file beside its fingerprint.
//!
//! ```text
//! cargo-pipelining ledger 1                   format
//! compiler 5f0e…                              hash of the versions of rustc and cargo
//! fingerprint 8a31…                           what Cargo wrote when the unit was made, or last found fresh
//! invoked 1764086400123456789                 when its compiler was started, ns since 1970
//! seen <digest> <digest>                      when compiled and, if it is linked, when linked
//! output <digest> <size> <modified> <changed> one for each, in Cargo's order; `-` if it was not read
//! said <digest>                               of a build script
//! out_dir <digest> <digest>                   the content, and how it looked
//! sum <digest>                                of all above
//! ```
//!
//! Some 600 bytes for a library. It is written beside its place and then renamed, so that it is there
//! whole or not at all; the sum is for what a failing disk makes of it. Whatever is not exactly like
//! this is no ledger.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::Path;

use super::Digest;
use super::file::{self, Look, Note, Time, TreeNote};
use super::product::Seen;

const FORMAT: &str = "cargo-pipelining ledger 1";

/// What a ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which compiler, and which cargo.
    pub compiler: u64,
    /// The hash of the fingerprint that stands beside it.
    pub fingerprint: u64,
    /// When the compiler, or the build script, was started.
    pub invoked: Time,
    /// What it read. `None` of what somebody else has made.
    pub seen: Option<Seen>,
    /// What it made.
    pub outputs: Vec<Note>,
    /// Of a build script, what it said and wrote.
    pub script: Option<(Digest, TreeNote)>,
}

impl Record {
    /// Reads the ledger at `path`, and when it was written. `None` if there is none that can be
    /// believed.
    pub fn read(path: &Path) -> Option<(Self, Time)> {
        let text = fs::read_to_string(path).ok()?;
        let written = file::modified(path).ok()?;
        Some((Record::parse(&text)?, written))
    }

    /// Writes the ledger, and says when that was.
    ///
    /// # Errors
    ///
    /// If that is not possible. Then the old one is gone or, if not even that is possible, stands.
    pub fn write(&self, path: &Path) -> io::Result<Time> {
        let mut beside = path.to_owned().into_os_string();
        beside.push(".new");
        fs::write(&beside, self.to_text())
            .and_then(|()| fs::rename(&beside, path))
            .and_then(|()| file::modified(path))
            .inspect_err(|_| drop(fs::remove_file(path)))
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "{FORMAT}\ncompiler {:x}\nfingerprint {:x}\ninvoked {}\n",
            self.compiler, self.fingerprint, self.invoked
        );
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = text.write_fmt(line);
        };
        match self.seen {
            Some(Seen {
                compiled,
                linked: Some(linked),
            }) => line(format_args!("seen {compiled} {linked}\n")),
            Some(Seen { compiled, .. }) => line(format_args!("seen {compiled}\n")),
            None => {}
        }
        for Note { digest, look } in &self.outputs {
            let Look {
                size,
                modified,
                changed,
            } = look;
            let digest = OrDash(*digest);
            line(format_args!(
                "output {digest} {size} {modified} {changed}\n"
            ));
        }
        if let Some((said, TreeNote { digest, looks })) = self.script {
            line(format_args!("said {said}\n"));
            line(format_args!("out_dir {} {looks}\n", OrDash(digest)));
        }
        let sum = Digest::of_value(&text);
        text + &format!("sum {sum}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once("sum ")?;
        if sum != Digest::of_value(body).to_string() {
            return None;
        }
        let mut lines = body.lines().peekable();
        if lines.next()? != FORMAT {
            return None;
        }
        let compiler = lines.next()?.strip_prefix("compiler ")?;
        let fingerprint = lines.next()?.strip_prefix("fingerprint ")?;
        let invoked = lines.next()?.strip_prefix("invoked ")?;
        let mut record = Record {
            compiler: u64::from_str_radix(compiler, 16).ok()?,
            fingerprint: u64::from_str_radix(fingerprint, 16).ok()?,
            invoked: invoked.parse().ok()?,
            seen: None,
            outputs: Vec::new(),
            script: None,
        };
        let mut said = None;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["seen", compiled] => {
                    record.seen = Some(Seen {
                        compiled: Digest::parse(compiled)?,
                        linked: None,
                    });
                }
                ["seen", compiled, linked] => {
                    record.seen = Some(Seen {
                        compiled: Digest::parse(compiled)?,
                        linked: Some(Digest::parse(linked)?),
                    });
                }
                ["output", digest, size, modified, changed] => record.outputs.push(Note {
                    digest: OrDash::parse(digest)?.0,
                    look: Look {
                        size: size.parse().ok()?,
                        modified: modified.parse().ok()?,
                        changed: changed.parse().ok()?,
                    },
                }),
                ["said", digest] => said = Some(Digest::parse(digest)?),
                ["out_dir", digest, looks] => {
                    let OrDash(digest) = OrDash::parse(digest)?;
                    let looks = Digest::parse(looks)?;
                    record.script = Some((said?, TreeNote { digest, looks }));
                }
                _ => return None,
            }
        }
        Some(record)
    }
}

/// A digest, or that there is none.
struct OrDash(Option<Digest>);

impl OrDash {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "-" => Some(OrDash(None)),
            digest => Some(OrDash(Some(Digest::parse(digest)?))),
        }
    }
}

impl fmt::Display for OrDash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(digest) => digest.fmt(f),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let digest = |text: &str| Digest::of_value(text);
        let note = |text: &str| Note {
            digest: Some(digest(text)),
            look: Look {
                size: u64::MAX,
                modified: Time::MIN,
                changed: Time::MAX,
            },
        };
        Record {
            compiler: u64::MAX,
            fingerprint: 7,
            invoked: -1,
            seen: Some(Seen {
                compiled: digest("compiled"),
                linked: Some(digest("linked")),
            }),
            outputs: vec![note("rmeta"), note("rlib")],
            script: Some((
                digest("said"),
                TreeNote {
                    digest: Some(digest("content")),
                    looks: digest("looks"),
                },
            )),
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger-lib-foo");
        let mut record = record();
        let check = |record: &Record| {
            record.write(&path).unwrap();
            assert_eq!(Record::read(&path).unwrap().0, *record);
        };
        check(&record);
        record.seen.as_mut().unwrap().linked = None;
        record.script.as_mut().unwrap().1.digest = None;
        record.outputs[1].digest = None;
        check(&record);
        record.seen = None;
        record.script = None;
        record.outputs.clear();
        check(&record);
    }

    #[test]
    fn it_is_small() {
        let mut record = record();
        record.script = None;
        assert!(record.to_text().len() < 1024);
    }

    #[test]
    fn whatever_is_different_is_no_ledger() {
        let text = record().to_text();
        assert!(Record::parse(&text).is_some());
        for len in 0..text.len() {
            assert_eq!(Record::parse(&text[..len]), None, "cut after {len} bytes");
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                assert_eq!(Record::parse(&text), None, "bit {bit} of byte {at}");
            }
        }
        assert_eq!(Record::parse(&(text + "more\n")), None);
        assert_eq!(Record::parse(""), None);
    }

    #[test]
    fn another_version_is_no_ledger() {
        let text = record().to_text();
        let (body, _) = text.rsplit_once("sum ").unwrap();
        let body = body.replace("ledger 1", "ledger 2");
        let text = format!("{body}sum {}\n", Digest::of_value(body.as_str()));
        assert_eq!(Record::parse(&text), None);
    }

    #[test]
    fn what_is_not_there_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(&dir.path().join("ledger")).is_none());
        assert!(Record::read(dir.path()).is_none());
    }
}
