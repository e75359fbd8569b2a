//! File stamps: whether a file is still the one that was read, without reading it.
//!
//! A file keeps its stamp until it is written to or replaced. A change within one tick of the file
//! system's clock, a few milliseconds or even seconds, can leave the stamp as it was. As in git's
//! index, a stamp therefore proves something only if it is older than the moment at which the file
//! was read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::Digest;

/// How many files of a package are looked at, each time that a crate of it is compiled that can expand
/// procedural macros.
const MOST_FILES: usize = 10_000;

/// Nanoseconds since 1970.
pub type Time = i64;

/// The size, the times and the identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When the content was changed, or what a program has set that to.
    pub modified: Time,
    /// When anything about the file was changed, which no program can set. The same as `modified`
    /// where the system does not have it.
    pub changed: Time,
    /// The inode. Zero where the system does not have it. Numbers of devices change from one boot to the
    /// next on some file systems.
    pub inode: u64,
}

impl Stamp {
    /// Follows symbolic links.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Stamp::from(&metadata))
    }

    /// The later of the two times.
    pub fn last(self) -> Time {
        self.modified.max(self.changed)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map_or(Time::MAX, nanoseconds);
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = metadata.ctime().saturating_mul(1_000_000_000);
            let changed = seconds.saturating_add(metadata.ctime_nsec());
            (changed, metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (modified, 0);
        Stamp {
            size: metadata.len(),
            modified,
            changed,
            inode,
        }
    }
}

/// Files and their stamps, gathered one by one. A file that is missing counts, too.
#[derive(Debug, Default)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

impl Stamps {
    /// Adds a file, following symbolic links.
    pub fn add(&mut self, path: PathBuf) {
        let stamp = Stamp::of(&path).ok();
        self.0.insert(path, stamp);
    }

    /// Adds what is directly in a directory.
    pub fn add_entries(&mut self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else {
            self.0.insert(dir.to_owned(), None);
            return;
        };
        for entry in entries.flatten() {
            self.add(entry.path());
        }
    }

    /// Adds all files of a package, without packages below and build directories. Follows symbolic links.
    /// Returns whether that was possible: a package can have too many files.
    pub fn add_package(&mut self, root: &Path) -> bool {
        let files = WalkDir::new(root)
            .follow_links(true)
            .into_iter()
            .filter_entry(|entry| {
                let is_dir = entry.file_type().is_dir();
                let holds = |name| is_dir && entry.path().join(name).exists();
                entry.depth() == 0
                    || !(entry.file_name() == ".git"
                        || holds("Cargo.toml")
                        || holds("CACHEDIR.TAG"))
            });
        for (number, entry) in files.enumerate() {
            if number == MOST_FILES {
                return false;
            }
            match entry {
                // Its times change when files come and go that do not count.
                Ok(entry) if entry.file_type().is_dir() => {
                    self.0.insert(entry.into_path(), None);
                }
                Ok(entry) => self.add(entry.into_path()),
                // A link that leads nowhere or in a circle, or a file that a macro cannot read either.
                Err(e) => match e.path() {
                    Some(path) => drop(self.0.insert(path.to_owned(), None)),
                    None => return false,
                },
            }
        }
        true
    }

    /// When the last change happened.
    pub fn last(&self) -> Time {
        let stamps = self.0.values().flatten();
        stamps.copied().map(Stamp::last).max().unwrap_or(Time::MIN)
    }

    /// Combines all names and stamps.
    pub fn digest(&self) -> Digest {
        Digest::of_value(&self.0)
    }
}

/// A digest of the environment that procedural macros and linkers can read: that of this process, and variables
/// that are `set` beside it. What differs between two commands of one shell is left out, as are the
/// variables that configure Cargo.
pub fn environment(set: &BTreeMap<String, OsString>) -> Digest {
    let is_left_out = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO")
            || [
                "_",
                "OLDPWD",
                "PWD",
                "SHLVL",
                "MAKEFLAGS",
                "MFLAGS",
                "RUST_RECURSION_COUNT",
            ]
            .contains(&&*name)
    };
    let variables: BTreeSet<_> = std::env::vars_os()
        .filter(|(name, _)| !is_left_out(name))
        .collect();
    Digest::of_value(&(variables, set))
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
mod tests {
    use super::*;
    use std::fs::{create_dir, remove_file, rename, write};

    fn package(dir: &Path) -> Digest {
        let mut stamps = Stamps::default();
        assert!(stamps.add_package(dir));
        stamps.digest()
    }

    #[test]
    fn package_files_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(at("Cargo.toml"), "").unwrap();
        let mut seen = vec![package(dir.path())];
        let mut check = |what: &str, change: &dyn Fn()| {
            change();
            let now = package(dir.path());
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        check("new file", &|| write(at("a"), "").unwrap());
        check("longer file", &|| write(at("a"), "text").unwrap());
        check("renamed file", &|| rename(at("a"), at(".b")).unwrap());
        create_dir(at("d")).unwrap();
        check("moved file", &|| rename(at(".b"), at("d/b")).unwrap());
        check("removed file", &|| remove_file(at("d/b")).unwrap());
    }

    #[test]
    fn packages_below_and_build_directories_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(at("Cargo.toml"), "").unwrap();
        for (name, mark) in [("below", "Cargo.toml"), ("target", "CACHEDIR.TAG")] {
            create_dir(at(name)).unwrap();
            write(at(name).join(mark), "").unwrap();
        }
        create_dir(at(".git")).unwrap();
        let before = package(dir.path());
        for name in ["below", "target", ".git"] {
            write(at(name).join("file"), "").unwrap();
        }
        assert_eq!(package(dir.path()), before);
    }

    #[test]
    fn too_many_files() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MOST_FILES {
            write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert!(!Stamps::default().add_package(dir.path()));
    }

    #[cfg(unix)]
    #[test]
    fn dead_and_circular_links_count_as_missing() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let before = package(dir.path());
        symlink("nowhere", dir.path().join("dead")).unwrap();
        symlink(".", dir.path().join("circle")).unwrap();
        assert_ne!(package(dir.path()), before);
    }

    #[test]
    fn missing_files_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let of = |stamps: &dyn Fn(&mut Stamps)| {
            let mut all = Stamps::default();
            stamps(&mut all);
            all.digest()
        };
        let as_file = || of(&|it| it.add(path.clone()));
        let as_entry = || of(&|it| it.add_entries(dir.path()));
        let before = (as_file(), as_entry());
        write(&path, "").unwrap();
        assert_ne!(as_file(), before.0);
        assert_ne!(as_entry(), before.1);
    }

    #[cfg(unix)]
    #[test]
    fn retargeted_link_counts() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(at("one"), "1").unwrap();
        write(at("two"), "2").unwrap();
        symlink("one", at("link")).unwrap();
        let one = Stamp::of(&at("link")).unwrap();
        remove_file(at("link")).unwrap();
        symlink("two", at("link")).unwrap();
        assert_ne!(Stamp::of(&at("link")).unwrap(), one);
    }

    #[cfg(unix)]
    #[test]
    fn same_size_and_time_is_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "one").unwrap();
        let before = Stamp::of(&path).unwrap();
        let other = dir.path().join("other");
        write(&other, "two").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::File::options().append(true).open(&other).unwrap();
        file.set_modified(modified).unwrap();
        rename(&other, &path).unwrap();
        let after = Stamp::of(&path).unwrap();
        assert_eq!((after.size, after.modified), (before.size, before.modified));
        assert_ne!(after, before);
    }
}
