//! The files and directories that a build script watches.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::Digest;
use super::content::{Change, Check, Files, Reader, Record};
use super::stamp::{Stamp, Time};

/// Above these there is no record, and Cargo compares times.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: u64 = 256 << 20;

/// What a build script watches, with all that is below directories, as it was when the script ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// A digest of the paths that the script was told.
    place: Digest,
    /// Cargo's fingerprint of the package, if the script names nothing and so watches all of the package.
    pub package: Option<String>,
    /// In the order in which they are found.
    entries: Vec<(PathBuf, Entry<Record>)>,
}

/// What is watched, with `File` about each file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Entry<File> {
    File(File),
    Directory,
    /// Followed by what is there.
    Link(PathBuf),
}

/// Whether what a build script watches is as it was recorded.
#[derive(Debug)]
pub enum WatchedCheck {
    /// It is.
    Same,
    /// It is not: this file or directory.
    Changed(PathBuf, Change),
}

impl Watched {
    /// Records what is watched: `paths`, relative to `root` or absolute. `None` if there are too many files or
    /// bytes, a name is not UTF-8, a file is missing or cannot be read, or what the script has read is not known.
    /// `before` has what files had before it was started, by their paths.
    pub fn of(
        package: Option<String>,
        root: &Path,
        paths: &[PathBuf],
        output: &Path,
        script: &Reader,
        before: &BTreeMap<PathBuf, Digest>,
    ) -> Option<Self> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (path, found) in list(root, paths).ok()? {
            path.to_str()?;
            let entry = match found {
                Entry::File(()) => {
                    let full_path = root.join(&path);
                    bytes += full_path.metadata().ok()?.len();
                    if bytes > MAX_BYTES {
                        return None;
                    }
                    let before = before.get(&full_path).copied();
                    Entry::File(Record::of(&full_path, script, before).ok()??)
                }
                Entry::Directory => {
                    let modified = Stamp::of(&root.join(&path)).ok()?.modified;
                    // What the script has found there is not known.
                    if modified >= script.started {
                        return None;
                    }
                    Entry::Directory
                }
                Entry::Link(to) => {
                    to.to_str()?;
                    Entry::Link(to)
                }
            };
            entries.push((path, entry));
        }
        Some(Watched {
            place: place(root, output),
            package,
            entries,
        })
    }

    /// Returns whether the script had the same paths: of its package, and where its output is.
    pub fn is_about(&self, root: &Path, output: &Path) -> bool {
        self.place == place(root, output)
    }

    /// Hashes the files that are recorded, as they are, by their paths.
    pub(super) fn contents(&self, root: &Path, files: &mut Files) -> BTreeMap<PathBuf, Digest> {
        let is_file = |entry: &Entry<Record>| matches!(entry, Entry::File(_));
        (self.entries.iter().filter(|(_, entry)| is_file(entry)))
            .filter_map(|(path, _)| {
                let path = root.join(path);
                let digest = files.content(&path).ok()?.0.digest;
                Some((path, digest))
            })
            .collect()
    }

    /// Compares what is there with the record, and calls `read` for each file that has to be read, with the
    /// reason. The script ran at `made`.
    pub fn check(
        &self,
        root: &Path,
        paths: &[PathBuf],
        files: &mut Files,
        made: Time,
        read: &mut dyn FnMut(&Path, &str),
    ) -> WatchedCheck {
        let found = match list(root, paths) {
            Ok(found) => found,
            Err(path) => return WatchedCheck::Changed(path, Change::Missing),
        };
        for ((path, then), (now_path, now)) in iter::zip(&self.entries, &found) {
            let full_path = root.join(path);
            if path != now_path {
                // One of them is only on one side.
                break;
            }
            match (then, now) {
                (Entry::File(record), Entry::File(())) => {
                    match files.check(&full_path, record, made) {
                        Check::SameStamp => {}
                        Check::SameContent(why) => read(&full_path, why),
                        Check::Changed(change) => return WatchedCheck::Changed(full_path, change),
                    }
                }
                (Entry::Directory, Entry::Directory) => match files.stamp(&full_path) {
                    Ok(stamp) if stamp.modified > made => files.touch(&full_path, stamp),
                    _ => {}
                },
                (Entry::Link(then), Entry::Link(now)) if then == now => {}
                (Entry::Link(then), Entry::Link(now)) => {
                    let (then, now) = (Digest::of_value(then), Digest::of_value(now));
                    return WatchedCheck::Changed(full_path, Change::Content { then, now });
                }
                // It is of another type.
                _ => return WatchedCheck::Changed(full_path, Change::New),
            }
        }
        let is_same = |((path, _), (now_path, _)): (&(PathBuf, _), &(PathBuf, _))| path == now_path;
        if self.entries.len() == found.len() && iter::zip(&self.entries, &found).all(is_same) {
            return WatchedCheck::Same;
        }
        let recorded: BTreeSet<_> = self.entries.iter().map(|(path, _)| path).collect();
        let found: BTreeSet<_> = found.iter().map(|(path, _)| path).collect();
        if let Some(path) = found.difference(&recorded).next() {
            return WatchedCheck::Changed(root.join(path), Change::New);
        }
        if let Some(path) = recorded.difference(&found).next() {
            return WatchedCheck::Changed(root.join(path), Change::Missing);
        }
        WatchedCheck::Same
    }
}

fn place(root: &Path, output: &Path) -> Digest {
    Digest::of_value(&(root, output))
}

/// Returns the paths and all that is below them, following symbolic links. The error is what is missing or
/// cannot be read.
fn list(root: &Path, paths: &[PathBuf]) -> Result<Vec<(PathBuf, Entry<()>)>, PathBuf> {
    let mut all = Vec::new();
    for path in paths {
        let walk = WalkDir::new(root.join(path));
        for entry in walk.follow_links(true).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    let full_path = e.path().unwrap_or(path);
                    if e.depth() == 0 {
                        return Err(full_path.to_owned());
                    }
                    // It leads nowhere or in a circle.
                    let to = full_path.read_link().map_err(|_| full_path.to_owned())?;
                    let key = full_path.strip_prefix(root).unwrap_or(full_path);
                    all.push((key.to_owned(), Entry::Link(to)));
                    continue;
                }
            };
            let full_path = entry.path();
            let key = full_path.strip_prefix(root).unwrap_or(full_path).to_owned();
            if all.len() > MAX_ENTRIES {
                return Err(key);
            }
            if entry.path_is_symlink() {
                let to = full_path.read_link();
                all.push((
                    key.clone(),
                    Entry::Link(to.map_err(|_: io::Error| key.clone())?),
                ));
            }
            let found = if entry.file_type().is_dir() {
                Entry::Directory
            } else {
                Entry::File(())
            };
            all.push((key, found));
        }
    }
    Ok(all)
}
