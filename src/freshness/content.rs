//! Whether a file has the content that a compiler or a build script has read.
//!
//! A [`Record`] has the digest of that content and the stamp of the file. As in git's index, a file with this
//! stamp is not read again; one with another stamp is, and its digest decides. So a file that was only touched
//! is the same, and one that was changed is not, whatever its times.
//!
//! # What a record proves
//!
//! A file is hashed when the compiler is done. What was hashed is what the compiler has read if the file was
//! not touched since before the compiler started, which its stamp proves. rustc needs longer to start than a
//! tick of the file system's clock lasts, so a file that was written in the tick of the start, as files that a
//! build script generates are, counts as older. Not so if the clock ticks in seconds, or for a build script:
//! then there is no record, and Cargo compares times.
//!
//! A file with a change after the start and an older modification time was given other permissions or a link, or
//! its time was set back. It counts as changed, unless it is known to have had the same content before the start:
//! some build scripts do this each time that they run.
//!
//! A stamp proves that a file is the one that was hashed if it is older than the hashing. One that is not is
//! left out of the record, and the file is read the next time.
//!
//! # What was touched
//!
//! Cargo compiles a unit whose sources are newer than its outputs, and all units above it, or runs their build
//! scripts, and so takes up what it does not track, too. A unit is fresh without that only if what is known to be
//! [untracked](super::untracked) is as it was.
//!
//! # Limits
//!
//! As in git and Cargo, a change goes unnoticed right after the file was hashed if a network file system's clock
//! is behind; or through a memory map that was written to before. So does, as in Cargo, a directory or symbolic link
//! that is replaced by one with older files while a compiler reads it. Where a system has neither change times nor
//! inodes, a change that keeps size and modification time is not noticed. File systems that ignore case are no
//! different: a file has the name by which the compiler has found it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cargo_util::paths;
use serde::{Deserialize, Serialize};

use super::Digest;
use super::stamp::{self, Stamp, Time};
use super::untracked::Untracked;

/// A file as a compiler or a build script has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// It had this content.
    Read(Content),
    /// It was changed after the start, so what was read is not known.
    Changed,
}

/// The content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// Of all bytes.
    pub digest: Digest,
    /// A stamp that only this content has.
    stamp: Option<Stamp>,
}

impl Content {
    /// Hashes a file. `now` is a time of the file system's clock from before the call.
    pub(super) fn of(path: &Path, now: Time) -> io::Result<(Self, Stamp)> {
        if !fs::metadata(path)?.is_file() {
            // To open a pipe or a device has effects.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::open(path)?;
        let before = Stamp::from(&file.metadata()?);
        let digest = if before.size <= MAX_SMALL {
            let mut bytes = vec![0; before.size as usize];
            file.read_exact(&mut bytes)?;
            if bytes.is_empty() && file.read(&mut [0])? > 0 {
                // The size is not known, as in /proc.
                return Err(io::ErrorKind::InvalidData.into());
            }
            Digest(blake3::hash(&bytes))
        } else {
            Digest::of_reader(&mut file)?
        };
        let stamp = Stamp::from(&file.metadata()?);
        let is_proof = stamp == before && end_of_tick(stamp) < now;
        let content = Content {
            size: stamp.size,
            digest,
            stamp: is_proof.then_some(stamp),
        };
        Ok((content, stamp))
    }
}

/// Returns the last time at which a change can have left this stamp. The file may be on another file system
/// than the build directory, with a clock that ticks in seconds, and on FAT in two.
fn end_of_tick(stamp: Stamp) -> Time {
    if stamp.changed % SECOND == 0 {
        stamp.last().saturating_add(2 * SECOND)
    } else {
        stamp.last()
    }
}

const SECOND: Time = 1_000_000_000;

/// The size of a file that is read at once.
const MAX_SMALL: u64 = 1 << 20;

impl Record {
    /// Hashes a file that `reader` has read. `None` if the clock ticks too slowly to tell what was read. `before` is of
    /// what the file had before the start, if that is known.
    ///
    /// # Errors
    ///
    /// If it is no file, or cannot be read.
    pub fn of(path: &Path, reader: &Reader, before: Option<Digest>) -> io::Result<Option<Self>> {
        let (content, stamp) = Content::of(path, reader.now)?;
        Ok(Record::new(content, stamp, reader, before))
    }

    pub(super) fn new(
        content: Content,
        stamp: Stamp,
        reader: &Reader,
        before: Option<Digest>,
    ) -> Option<Self> {
        let end = end_of_tick(stamp);
        let is_same_tick = (stamp.last()..=end).contains(&reader.started);
        // Who sets times back has something to hide.
        let is_set_back = stamp.modified < stamp.changed;
        let is_changed = stamp.last() > reader.started || is_same_tick && is_set_back;
        // It has got other permissions or a link, perhaps each time that the reader runs.
        let is_as_before = stamp.modified <= reader.started && before == Some(content.digest);
        if reader.is_in_doubt() || is_changed && !is_as_before {
            Some(Record::Changed)
        } else if is_same_tick && !is_changed && !(reader.is_compiler && end == stamp.last()) {
            None
        } else {
            Some(Record::Read(content))
        }
    }
}

/// A program that has read files. Times are of the file system's clock.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Whether it is rustc.
    pub is_compiler: bool,
    /// When it was started.
    pub started: Time,
    /// A time after it has ended.
    pub now: Time,
}

impl Reader {
    /// Returns whether the clock was set back meanwhile.
    fn is_in_doubt(&self) -> bool {
        self.now < self.started
    }
}

/// Whether a file is as it was recorded.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// Its stamp is, or its content was found to be by an earlier build.
    SameStamp,
    /// Its content is. It was read for this reason.
    SameContent(&'static str),
    /// It is not.
    Changed(Change),
}

/// What has changed about a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It does not exist.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// It did not exist.
    New,
    /// What was read is not known, because it was changed after the start.
    WhileRead,
    /// Its size in bytes.
    Size {
        /// As recorded.
        then: u64,
        /// As it is.
        now: u64,
    },
    /// Its bytes, or where a link leads.
    Content {
        /// As recorded.
        then: Digest,
        /// As they are.
        now: Digest,
    },
}

/// Files and directories that are newer than what was made of them, but the same.
#[derive(Clone, Debug)]
pub struct Touched {
    /// The path of the newest.
    pub path: Arc<Path>,
    newest: Time,
    /// Of all paths and stamps.
    hash: u64,
}

/// The files that one build looks at before it starts. Each is looked at once, and read only if no earlier build
/// has read it with the same stamp: an index in the build directory has what builds have read.
#[derive(Debug)]
pub struct Files {
    index: PathBuf,
    // A path is hashed by its components, which takes longer than to look at the file.
    known: HashMap<OsString, (Stamp, Option<Content>)>,
    /// The digest of what was touched when a unit was found fresh, by the file with the time of when it was made.
    fresh: HashMap<OsString, Digest>,
    /// By the directory.
    installed: HashMap<PathBuf, Digest>,
    /// From before the first file was read.
    read_after: Option<Time>,
    /// Read when a stamp is not as recorded.
    read_earlier: OnceCell<HashMap<OsString, Content>>,
    has_read: bool,
    /// What was touched of the unit that is looked at, and of those below it.
    touched: Vec<Touched>,
    /// Whether something was touched at a time after `created`. The next build has to look again.
    has_future: bool,
    created: Time,
}

impl Files {
    /// Reads or creates the index in a build directory when it is needed.
    pub fn new(build_root: &Path) -> Self {
        Files {
            index: build_root.join(".source-files"),
            known: HashMap::new(),
            fresh: HashMap::new(),
            installed: HashMap::new(),
            read_after: None,
            read_earlier: OnceCell::new(),
            has_read: false,
            touched: Vec::new(),
            has_future: false,
            created: stamp::nanoseconds(SystemTime::now()),
        }
    }

    /// Begins to look at the files of a unit. `below` is what was touched of its dependencies.
    pub fn begin_unit(&mut self, below: impl IntoIterator<Item = Touched>) {
        self.touched.clear();
        self.touched.extend(below);
    }

    /// Notes that a file or directory of the unit is newer than what was made of it, but the same.
    pub(super) fn touch(&mut self, path: &Path, stamp: Stamp) {
        self.has_future |= self.created < stamp.modified;
        let mut hasher = DefaultHasher::new();
        (path.as_os_str(), stamp).hash(&mut hasher);
        self.touched.push(Touched {
            path: path.into(),
            newest: stamp.modified,
            hash: hasher.finish(),
        });
    }

    /// Returns what was touched of the unit and of its dependencies. `None` if nothing was.
    pub fn touched(&self) -> Option<Touched> {
        let Touched { path, newest, .. } = self.touched.iter().max_by_key(|it| it.newest)?;
        let mut hashes: Vec<_> = self.touched.iter().map(|it| it.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let mut hasher = DefaultHasher::new();
        hashes.hash(&mut hasher);
        Some(Touched {
            path: Arc::clone(path),
            newest: *newest,
            hash: hasher.finish(),
        })
    }

    /// Returns the stamp of a file, following symbolic links.
    pub fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        if let Some((stamp, _)) = self.known.get(path.as_os_str()) {
            return Ok(*stamp);
        }
        let stamp = Stamp::of(path)?;
        self.known.insert(path.into(), (stamp, None));
        Ok(stamp)
    }

    /// Returns the content of a file, and whether it was read.
    pub(super) fn content(&mut self, path: &Path) -> io::Result<(Content, bool)> {
        let stamp = self.stamp(path)?;
        if let Some((_, Some(content))) = self.known.get(path.as_os_str()) {
            return Ok((*content, true));
        }
        let earlier = self.read_earlier.get_or_init(|| read_index(&self.index));
        if let Some(content) = earlier.get(path.as_os_str())
            && content.stamp == Some(stamp)
        {
            return Ok((*content, false));
        }
        let clock = || clock(self.index.parent()?).ok();
        let now = *(self.read_after).get_or_insert_with(|| clock().unwrap_or(Time::MIN));
        let (content, stamp) = Content::of(path, now)?;
        self.known.insert(path.into(), (stamp, Some(content)));
        self.has_read = true;
        Ok((content, true))
    }

    /// Returns a digest of the [installed libraries](stamp::installed_libraries) in a directory.
    pub fn installed(&mut self, dir: &Path) -> Digest {
        let known = self.installed.entry(dir.to_owned());
        *known.or_insert_with(|| stamp::installed_libraries(dir))
    }

    /// Compares a file with its record. Reads it if its stamp is another. If it is the same but newer than
    /// `made`, it was touched.
    pub fn check(&mut self, path: &Path, recorded: &Record, made: Time) -> Check {
        let Ok(stamp) = self.stamp(path) else {
            return Check::Changed(Change::Missing);
        };
        let check = self.compare(path, stamp, recorded);
        if stamp.modified > made && !matches!(check, Check::Changed(_)) {
            self.touch(path, stamp);
        }
        check
    }

    fn compare(&mut self, path: &Path, stamp: Stamp, recorded: &Record) -> Check {
        let then = match recorded {
            Record::Read(content) => content,
            Record::Changed => return Check::Changed(Change::WhileRead),
        };
        if then.stamp == Some(stamp) {
            return Check::SameStamp;
        }
        if stamp.size != then.size {
            return Check::Changed(Change::Size {
                then: then.size,
                now: stamp.size,
            });
        }
        let Ok((now, is_read)) = self.content(path) else {
            return Check::Changed(Change::Unreadable);
        };
        if now.digest != then.digest {
            return Check::Changed(Change::Content {
                then: then.digest,
                now: now.digest,
            });
        }
        if !is_read {
            return Check::SameStamp;
        }
        Check::SameContent(match then.stamp {
            None => "it was too young when it was recorded",
            Some(then) if then.modified != stamp.modified => "its modification time differs",
            Some(then) if then.inode != stamp.inode => "it is another file",
            Some(_) => "its change time differs",
        })
    }

    /// Hashes files of which an earlier invocation has not known what it has read.
    pub fn in_doubt<'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a PathBuf, &'a Record)>,
    ) -> BTreeMap<PathBuf, Digest> {
        (records
            .into_iter()
            .filter(|(_, record)| **record == Record::Changed))
        .filter_map(|(path, _)| Some((path.clone(), self.content(path).ok()?.0.digest)))
        .collect()
    }

    /// Returns what was touched of a unit or of its dependencies since it was made, which `made` has the time of:
    /// its dep-info or the output of its build script. `None` if that makes no difference, as an earlier build has
    /// found, or because what Cargo does not track is as it was.
    pub fn find_touched(
        &mut self,
        made: &Path,
        untracked: impl FnOnce() -> Option<Untracked>,
    ) -> Option<Touched> {
        let touched = self.touched()?;
        let stamp = self.stamp(made).ok();
        if stamp.is_some_and(|it| touched.newest <= it.modified) {
            return None;
        }
        let digest = Digest::of_value(&(stamp, touched.hash));
        let earlier = self.read_earlier.get_or_init(|| read_index(&self.index));
        if earlier
            .get(made.as_os_str())
            .is_some_and(|it| it.digest == digest)
        {
            return None;
        }
        if !untracked().is_some_and(|untracked| untracked.is_same(self)) {
            return Some(touched);
        }
        if !self.has_future {
            self.fresh.insert(made.into(), digest);
        }
        None
    }

    /// Writes what was read to the index.
    ///
    /// # Errors
    ///
    /// If the index cannot be written. Then files are read again.
    pub fn save(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.has_read) && self.fresh.is_empty() {
            return Ok(());
        }
        let mut index = self.read_earlier.take().unwrap_or_default();
        let read = self.known.iter();
        let read = read.filter_map(|(path, (_, content))| Some((path.clone(), (*content)?)));
        index.extend(read.filter(|(_, content)| content.stamp.is_some()));
        index.extend(self.fresh.drain().map(|(path, digest)| {
            let content = Content {
                size: 0,
                digest,
                stamp: None,
            };
            (path, content)
        }));
        index.retain(|path, _| Path::new(path).exists());
        write_index(&self.index, &index)
    }
}

/// What is read is the same wherever the index is.
const INDEX: &str = "index";

fn read_index(path: &Path) -> HashMap<OsString, Content> {
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::read(path).unwrap_or_default(),
        _ => return HashMap::new(),
    };
    let contents = read_records(&bytes, INDEX)
        .into_iter()
        .map(|record| match record {
            Some(Record::Read(content)) => Some(content),
            _ => None,
        });
    let paths = bytes.split(|byte| *byte == 0);
    let paths = paths.map_while(|path| paths::bytes2path(path).ok());
    iter::zip(paths, contents)
        .filter_map(|(path, content)| Some((path.into_os_string(), content?)))
        .collect()
}

fn write_index(path: &Path, files: &HashMap<OsString, Content>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut records = Vec::with_capacity(files.len());
    for (path, content) in files {
        if let Ok(path) = paths::path2bytes(Path::new(path)) {
            bytes.extend(path);
            bytes.push(0);
            records.push(Some(Record::Read(*content)));
        }
    }
    append_records(&mut bytes, &records, INDEX);
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Appends records of the files that `bytes` lists, in that order, for [`read_records`]. `place` is where the
/// compiler ran, which may be in what it made. Who reads only what was in `bytes` may ignore the records:
///
/// ```text
/// bytes | records, each RECORD_LEN bytes | number of records | digest of all before, VERSION and place | MAGIC
/// ```
pub fn append_records(
    bytes: &mut Vec<u8>,
    records: &[Option<Record>],
    place: &(impl Hash + ?Sized),
) {
    for record in records {
        bytes.extend(record.map_or([0; RECORD_LEN], |record| record.to_bytes()));
    }
    bytes.extend((records.len() as u64).to_le_bytes());
    bytes.extend(digest_of_records(bytes, place).as_bytes());
    bytes.extend(MAGIC);
}

/// Returns the records that were appended to what is in `bytes`. Empty if there are none, or they are damaged,
/// of another version or from another place.
pub fn read_records(bytes: &[u8], place: &(impl Hash + ?Sized)) -> Vec<Option<Record>> {
    let read = || {
        let (bytes, digest) = bytes.strip_suffix(MAGIC)?.split_last_chunk::<32>()?;
        if digest_of_records(bytes, place).as_bytes() != digest {
            return None;
        }
        let (bytes, count) = bytes.split_last_chunk()?;
        let len = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let at = bytes.len().checked_sub(len.checked_mul(RECORD_LEN)?)?;
        let (records, _) = bytes[at..].as_chunks();
        Some(records.iter().map(Record::from_bytes).collect())
    };
    read().unwrap_or_default()
}

const MAGIC: &[u8; 8] = b"records\n";
const VERSION: u8 = 1;
/// A tag, a digest, and the size and times and the inode of a stamp.
const RECORD_LEN: usize = 1 + 32 + 4 * 8;

fn digest_of_records(bytes: &[u8], place: &(impl Hash + ?Sized)) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let place = Digest::of_value(&(VERSION, place));
    hasher.update(bytes).update(place.as_bytes());
    Digest(hasher.finalize())
}

const READ: u8 = 1;
const READ_WITH_STAMP: u8 = 2;
const CHANGED: u8 = 3;

impl Record {
    fn to_bytes(self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let Record::Read(content) = self else {
            bytes[0] = CHANGED;
            return bytes;
        };
        bytes[0] = content.stamp.map_or(READ, |_| READ_WITH_STAMP);
        bytes[1..33].copy_from_slice(content.digest.as_bytes());
        let stamp = content.stamp.unwrap_or_default();
        let numbers = [
            content.size.to_le_bytes(),
            stamp.modified.to_le_bytes(),
            stamp.changed.to_le_bytes(),
            stamp.inode.to_le_bytes(),
        ];
        bytes[33..].copy_from_slice(numbers.as_flattened());
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD_LEN]) -> Option<Self> {
        let (tag, bytes) = bytes.split_first()?;
        let (digest, numbers) = bytes.split_first_chunk()?;
        let (numbers, _) = numbers.as_chunks();
        let &[size, modified, changed, inode] = numbers else {
            return None;
        };
        let size = u64::from_le_bytes(size);
        let stamp = Stamp {
            size,
            modified: Time::from_le_bytes(modified),
            changed: Time::from_le_bytes(changed),
            inode: u64::from_le_bytes(inode),
        };
        let read = |stamp| {
            Record::Read(Content {
                size,
                digest: Digest(blake3::Hash::from_bytes(*digest)),
                stamp,
            })
        };
        match *tag {
            READ => Some(read(None)),
            READ_WITH_STAMP => Some(read(Some(stamp))),
            CHANGED => Some(Record::Changed),
            _ => None,
        }
    }
}

/// Returns the time of the file system's clock.
fn clock(dir: &Path) -> io::Result<Time> {
    let file = tempfile::tempfile_in(dir)?;
    Ok(Stamp::from(&file.metadata()?).last())
}

/// Replaces the content of a file by what `fill` returns, at once, and keeps its time. `fill` gets the time of
/// the file system's clock.
///
/// # Errors
///
/// What `fill` fails with, or if the file cannot be replaced. Then it stays as it is.
pub fn replace(path: &Path, fill: impl FnOnce(Time) -> io::Result<Vec<u8>>) -> io::Result<()> {
    let replaced = fs::metadata(path)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut file = tempfile::NamedTempFile::with_prefix_in(".replacement-", dir)?;
    let now = Stamp::from(&file.as_file().metadata()?).last();
    file.write_all(&fill(now)?)?;
    file.as_file().set_permissions(replaced.permissions())?;
    file.as_file().set_modified(replaced.modified()?)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, and the times around which it was written.
    struct Written {
        dir: tempfile::TempDir,
        path: PathBuf,
        stamp: Stamp,
    }

    impl Written {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, text).unwrap();
            let stamp = Stamp::of(&path).unwrap();
            Written { dir, path, stamp }
        }

        fn record(&self, is_compiler: bool, started: Time, now: Time) -> Option<Record> {
            let reader = Reader {
                is_compiler,
                started,
                now,
            };
            Record::of(&self.path, &reader, None).unwrap()
        }

        /// As of a compiler that was started later and has ended.
        fn later(&self) -> Record {
            let later = self.stamp.last() + 1;
            self.record(true, later, later).unwrap()
        }

        fn set_modified(&self, time: Time) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(time as u64);
            let file = File::options().append(true).open(&self.path).unwrap();
            file.set_modified(time).unwrap();
        }

        fn check(&self, record: &Record) -> Check {
            self.files().check(&self.path, record, Time::MAX)
        }

        fn files(&self) -> Files {
            Files::new(self.dir.path())
        }
    }

    #[test]
    fn records_round_trip() {
        let file = Written::new("text");
        let young = file.record(true, file.stamp.last() + 1, file.stamp.last());
        let records = [
            Some(file.later()),
            None,
            Some(Record::Changed),
            file.record(true, file.stamp.last(), file.stamp.last()),
            young,
        ];
        for content in [&b""[..], b"what is before"] {
            let mut bytes = content.to_vec();
            append_records(&mut bytes, &records, "here");
            assert!(bytes.starts_with(content));
            assert_eq!(read_records(&bytes, "here"), records);
            assert_eq!(read_records(&bytes, "elsewhere"), []);
            for len in 0..bytes.len() {
                assert_eq!(
                    read_records(&bytes[..len], "here"),
                    [],
                    "cut after {len} bytes"
                );
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert_eq!(read_records(&damaged, "here"), [], "byte {at}");
            }
        }
    }

    #[test]
    fn what_was_read_is_known() {
        let file = Written::new("text");
        let written = file.stamp.last();
        let is_read = |record| matches!(record, Some(Record::Read(_)));
        assert!(is_read(file.record(true, written + 1, written + 2)));
        assert!(is_changed(file.record(true, written - 1, written + 2)));
        // The clock was set back.
        assert!(is_changed(file.record(true, written + 2, written + 1)));
        // In the tick of the start.
        assert!(is_read(file.record(true, written, written + 1)));
        assert_eq!(file.record(false, written, written + 1), None);
    }

    fn is_changed(record: Option<Record>) -> bool {
        record == Some(Record::Changed)
    }

    #[test]
    fn times_set_back() {
        let file = Written::new("text");
        file.set_modified(0);
        let changed = Stamp::of(&file.path).unwrap().changed;
        let [same, other] = ["text", "TEXT"].map(|text| Digest(blake3::hash(text.as_bytes())));
        for (is_compiler, started) in [(true, changed - 1), (false, changed - 1), (false, changed)]
        {
            let reader = Reader {
                is_compiler,
                started,
                now: changed + 1,
            };
            let record = |before| Record::of(&file.path, &reader, before).unwrap();
            assert!(is_changed(record(None)));
            assert!(matches!(record(Some(same)), Some(Record::Read(_))));
            assert!(is_changed(record(Some(other))));
        }
    }

    #[test]
    fn slow_clock() {
        let file = Written::new("text");
        let (content, stamp) = Content::of(&file.path, Time::MAX).unwrap();
        let whole = stamp.changed / SECOND * SECOND;
        let stamp = Stamp {
            modified: whole,
            changed: whole,
            ..stamp
        };
        let record = |started: Time| {
            let reader = Reader {
                is_compiler: true,
                started,
                now: Time::MAX,
            };
            Record::new(content, stamp, &reader, None)
        };
        assert!(is_changed(record(whole - 1)));
        assert_eq!(record(whole), None);
        assert_eq!(record(whole + SECOND), None);
        assert!(matches!(record(whole + 3 * SECOND), Some(Record::Read(_))));
    }

    #[test]
    fn young_files_are_read_again() {
        let file = Written::new("text");
        let written = file.stamp.last();
        let young = file.record(true, written, written).unwrap();
        assert!(matches!(file.check(&young), Check::SameContent(_)));
        assert_eq!(file.check(&file.later()), Check::SameStamp);
    }

    #[test]
    fn content_decides() {
        let file = Written::new("text");
        let record = file.later();
        file.set_modified(0);
        let touched = Check::SameContent("its modification time differs");
        assert_eq!(file.check(&record), touched);
        fs::write(&file.path, "tex_").unwrap();
        file.set_modified(0);
        let check = file.check(&record);
        assert!(
            matches!(check, Check::Changed(Change::Content { .. })),
            "{check:?}"
        );
        fs::write(&file.path, "longer").unwrap();
        let longer = Change::Size { then: 4, now: 6 };
        assert_eq!(file.check(&record), Check::Changed(longer));
        assert_eq!(
            file.check(&Record::Changed),
            Check::Changed(Change::WhileRead)
        );
        fs::remove_file(&file.path).unwrap();
        assert_eq!(file.check(&record), Check::Changed(Change::Missing));
        fs::create_dir(&file.path).unwrap();
        assert!(matches!(file.check(&record), Check::Changed(_)));
    }

    #[test]
    fn files_are_read_once() {
        let file = Written::new("text");
        let record = file.later();
        file.set_modified(0);
        let wait_for_tick = || {
            let last = Stamp::of(&file.path).unwrap().last();
            while clock(file.dir.path()).unwrap() <= last {}
        };
        wait_for_tick();
        let mut files = file.files();
        assert!(matches!(
            files.check(&file.path, &record, Time::MAX),
            Check::SameContent(_)
        ));
        assert_eq!(
            file.check(&record),
            files.check(&file.path, &record, Time::MAX)
        );
        files.save().unwrap();
        assert_eq!(file.check(&record), Check::SameStamp);

        fs::write(&file.path, "tex_").unwrap();
        file.set_modified(0);
        assert!(matches!(file.check(&record), Check::Changed(_)));

        let index = file.dir.path().join(".source-files");
        let bytes = fs::read(&index).unwrap();
        fs::write(&file.path, "text").unwrap();
        wait_for_tick();
        for damaged in [&bytes[1..], b"", b"\0\0\0"] {
            fs::write(&index, damaged).unwrap();
            assert!(matches!(file.check(&record), Check::SameContent(_)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn pipes_do_not_block() {
        let file = Written::new("text");
        let record = file.later();
        fs::remove_file(&file.path).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(&file.path)
            .status();
        assert!(made.unwrap().success());
        assert!(matches!(file.check(&record), Check::Changed(_)));
    }
}
