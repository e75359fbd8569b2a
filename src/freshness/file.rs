//! Whether a file is the one that was hashed, without reading it.
//!
//! A file keeps its size and times until somebody writes to it or puts another in its place. That is
//! all that Cargo looks at, too, but it has a hole: what is replaced within one tick of the file
//! system's clock, a few milliseconds or even seconds, has the same times. As git does with its index,
//! a note about a file therefore counts only if it was taken later than the file's own times. A clock
//! that was set back makes notes that do not count. What does not count is read again, so nothing of
//! this can lead to a wrong answer, only to a slower one.

use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cargo_util::paths;

use super::Digest;

/// Nanoseconds since 1970.
pub type Time = i64;

/// How a file looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    /// Bytes.
    pub size: u64,
    /// When its content was changed, or what somebody has set that to.
    pub modified: Time,
    /// When anything about it was changed, which nobody can set. Where the system does not say: the
    /// same as `modified`.
    pub changed: Time,
}

/// The digest of a file and how it looked then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of its content. `None` if it was not read.
    pub digest: Option<Digest>,
    /// How it looked before it was read.
    pub look: Look,
}

impl Look {
    /// Looks at a file.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Look::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map_or(Time::MAX, nanoseconds);
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            let seconds = metadata.ctime().saturating_mul(1_000_000_000);
            seconds.saturating_add(metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = modified;
        Look {
            size: metadata.len(),
            modified,
            changed,
        }
    }

    /// The last of its times.
    fn last(self) -> Time {
        self.modified.max(self.changed)
    }
}

impl Note {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn take(path: &Path) -> io::Result<Self> {
        Ok(Note {
            look: Look::at(path)?,
            digest: Some(Digest::of_output(path)?),
        })
    }

    /// Only looks at a file.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn look(path: &Path) -> io::Result<Self> {
        Ok(Note {
            look: Look::at(path)?,
            digest: None,
        })
    }

    /// The note about the content of what is there now, where this one was taken earlier than `taken`.
    /// Reads the file unless the earlier note says it, and counts.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn refreshed(self, path: &Path, taken: Time) -> io::Result<Self> {
        let counts = self.digest.is_some() && self.look.last() < taken;
        match counts && Look::at(path)? == self.look {
            true => Ok(self),
            false => Note::take(path),
        }
    }

    /// Whether the file is still what it was when this note was taken, earlier than `taken`.
    pub fn stands(self, path: &Path, taken: Time) -> bool {
        match self.digest {
            Some(_) => (self.refreshed(path, taken)).is_ok_and(|now| now.digest == self.digest),
            None => self.says_enough(taken) && Look::at(path).is_ok_and(|now| now == self.look),
        }
    }

    /// Whether a note that was taken earlier than `taken` says enough. Without a digest, it has to be
    /// younger than the last writing: what is linked is written by the linker, and given its second
    /// name by Cargo when rustc has ended, just before the note is taken. That shows in the time of the
    /// last change, but has not changed what is in it.
    pub fn says_enough(self, taken: Time) -> bool {
        self.digest.is_some() || self.look.modified < taken
    }
}

/// The digest of a directory's content and of how all in it looked then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeNote {
    /// Of the content. `None` if some of it is [elsewhere](Digest::of_tree).
    pub digest: Option<Digest>,
    /// Of the names, sizes and times.
    pub looks: Digest,
}

impl TreeNote {
    /// Reads a directory.
    ///
    /// # Errors
    ///
    /// If something in it cannot be read.
    pub fn take(dir: &Path) -> io::Result<Self> {
        Ok(TreeNote {
            looks: looks(dir)?.0,
            digest: Digest::of_tree(dir)?,
        })
    }

    /// As [`Note::refreshed`].
    ///
    /// # Errors
    ///
    /// If something in the directory cannot be read.
    pub fn refreshed(self, dir: &Path, taken: Time) -> io::Result<Self> {
        let (looks, last) = looks(dir)?;
        match looks == self.looks && last < taken {
            true => Ok(self),
            false => TreeNote::take(dir),
        }
    }
}

/// A digest of how all in a directory looks, and the last of all times.
fn looks(dir: &Path) -> io::Result<(Digest, Time)> {
    struct Looks(Vec<(std::ffi::OsString, Look)>);
    impl Hash for Looks {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    let mut found = Vec::new();
    let mut unvisited = vec![dir.to_owned()];
    while let Some(dir) = unvisited.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Not where a link leads: that has to be in the same directory, or the content is nowhere.
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                unvisited.push(entry.path());
            }
            found.push((entry.path().into_os_string(), Look::of(&metadata)));
        }
    }
    found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let last = found.iter().map(|(_, look)| look.last()).max();
    Ok((Digest::of_value(&Looks(found)), last.unwrap_or(Time::MIN)))
}

/// When a file was last written to.
///
/// # Errors
///
/// If there is none.
pub fn modified(path: &Path) -> io::Result<Time> {
    Look::at(path).map(|look| look.modified)
}

/// Makes a file look as if it was last written to when the newest of `others` was, if that is later.
/// What cannot be done stays as it is: whoever then finds that it is older makes it again.
pub fn raise_modified<'a>(path: &Path, others: impl IntoIterator<Item = &'a Path>) {
    let modified = |path: &Path| paths::mtime(path).ok();
    let newest = others.into_iter().filter_map(modified).max();
    if let (Some(own), Some(newest)) = (modified(path), newest)
        && own < newest
    {
        paths::set_file_time_no_err(path, newest);
    }
}

fn nanoseconds(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos().try_into().unwrap_or(Time::MAX),
        Err(before) => (before.duration().as_nanos())
            .try_into()
            .map_or(Time::MIN, |ns: i64| -ns),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs::{File, rename, write};
    use std::time::Duration;

    const LATER: Time = Time::MAX;

    pub fn set_modified(path: &Path, time: SystemTime) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn a_file_that_looks_the_same_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "one").unwrap();
        let note = Note {
            digest: Some(Digest::of_value("not the digest of the file")),
            ..Note::take(&path).unwrap()
        };
        assert_eq!(note.refreshed(&path, LATER).unwrap(), note);
        // The note is no younger than the file: something may have happened in the same tick.
        let same_tick = note.look.last();
        let read = note.refreshed(&path, same_tick).unwrap();
        assert_eq!(read.digest, Digest::of_file(&path).ok());
        // The clock was set back in between.
        let read = note.refreshed(&path, same_tick - 1_000_000_000).unwrap();
        assert_eq!(read.digest, Digest::of_file(&path).ok());
    }

    #[test]
    fn a_file_is_no_older_than_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
        for (name, hours) in [("it", 5), ("older", 6), ("newer", 4), ("newest", 3)] {
            write(path(name), "").unwrap();
            set_modified(&path(name), hours_ago(hours));
        }
        let raise = |others: &[&str]| {
            let others: Vec<_> = others.iter().map(|name| path(name)).collect();
            raise_modified(&path("it"), others.iter().map(|other| other.as_path()));
            modified(&path("it")).unwrap()
        };
        let before = modified(&path("it")).unwrap();
        assert_eq!(raise(&["older", "missing"]), before);
        assert_eq!(raise(&[]), before);
        let newest = modified(&path("newest")).unwrap();
        assert_eq!(raise(&["newer", "newest", "older"]), newest);
    }

    #[test]
    fn a_file_that_was_replaced_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "one").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        set_modified(&path, long_ago);
        let note = Note::take(&path).unwrap();
        write(&path, "three").unwrap();
        assert_ne!(note.refreshed(&path, LATER).unwrap().digest, note.digest);
        std::fs::remove_file(&path).unwrap();
        assert!(note.refreshed(&path, LATER).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_the_same_size_and_time_was_changed_at_another_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        write(&path, "one").unwrap();
        set_modified(&path, long_ago);
        let mut note = Note::take(&path).unwrap();
        // As if that had been some time ago.
        note.look.changed -= 1_000_000_000;
        let other = dir.path().join("other");
        write(&other, "two").unwrap();
        set_modified(&other, long_ago);
        rename(&other, &path).unwrap();
        assert_eq!(Look::at(&path).unwrap().modified, note.look.modified);
        let read = note.refreshed(&path, LATER).unwrap();
        assert_ne!(read.digest, note.digest);
    }

    #[test]
    fn a_file_that_was_not_read_stands_while_it_looks_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "one").unwrap();
        let note = Note::look(&path).unwrap();
        assert!(note.stands(&path, LATER));
        assert!(!note.stands(&path, note.look.modified), "the same tick");
        assert_eq!(
            note.refreshed(&path, LATER).unwrap().digest,
            Digest::of_file(&path).ok()
        );
        write(&path, "three").unwrap();
        assert!(!note.stands(&path, LATER));
        std::fs::remove_file(&path).unwrap();
        assert!(!note.stands(&path, LATER));
    }

    #[test]
    fn a_tree_is_read_if_anything_in_it_looks_different() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let path = dir.path().join("sub/file");
        write(&path, "one").unwrap();
        let note = TreeNote {
            digest: None,
            ..TreeNote::take(dir.path()).unwrap()
        };
        assert_eq!(note.refreshed(dir.path(), LATER).unwrap(), note);
        let last = looks(dir.path()).unwrap().1;
        assert_ne!(note.refreshed(dir.path(), last).unwrap(), note);
        write(&path, "four").unwrap();
        let read = note.refreshed(dir.path(), LATER).unwrap();
        assert_eq!(read.digest, Digest::of_tree(dir.path()).unwrap());
        assert!(read.digest.is_some());
    }
}
