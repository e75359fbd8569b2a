//! File stamps: whether a file is still the one that was read, without reading it.
//!
//! A change within one tick of the file system's clock, a few milliseconds or even seconds, can leave the
//! stamp as it was. As in git's index, a stamp therefore proves something only if it is older than the
//! moment at which the file was read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

use super::Digest;

/// The limit of files in a package: a compilation that can expand procedural macros looks at all of them.
const MAX_FILES: usize = 10_000;

/// Nanoseconds since 1970.
pub type Time = i64;

/// The size, the times and the identity of a file. No device: its number can change when the system boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// The time of the content, which programs can set.
    pub modified: Time,
    /// The time of the last change to the file, which no program can set. `modified` where the system
    /// does not have it.
    pub changed: Time,
    /// Zero where the system does not have it.
    pub inode: u64,
}

impl Stamp {
    /// Returns the stamp of a file, following symbolic links.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Stamp::from(&metadata))
    }

    /// Returns the later of the two times.
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

/// Files and their stamps. A file that is missing counts, too.
pub type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Returns the stamps of these files, following symbolic links.
pub fn of_files(paths: impl IntoIterator<Item = PathBuf>) -> Stamps {
    let with_stamp = |path: PathBuf| {
        let stamp = Stamp::of(&path).ok();
        (path, stamp)
    };
    paths.into_iter().map(with_stamp).collect()
}

/// Returns the stamps of what is directly in a directory.
pub fn of_entries(dir: &Path) -> Stamps {
    match fs::read_dir(dir) {
        Ok(entries) => of_files(entries.flatten().map(|entry| entry.path())),
        // Missing, or a file, which may be an input by itself.
        Err(_) => of_files([dir.to_owned()]),
    }
}

/// Returns the directories in which linkers look without being told, as far as they have the same names on all
/// machines. Links are followed.
pub fn system_library_dirs() -> BTreeSet<PathBuf> {
    if !cfg!(unix) {
        return BTreeSet::new();
    }
    let multiarch = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let roots = ["/", "/usr", "/usr/local"].map(Path::new);
    let dirs = roots.map(|root| ["lib", "lib64", &multiarch].map(|dir| root.join(dir)));
    let dirs = dirs.as_flattened().iter();
    dirs.filter_map(|dir| dir.canonicalize().ok()).collect()
}

/// Returns a digest of the sizes and times of the libraries that are directly in a directory, to which only programs
/// that install them write: these set times.
pub fn installed_libraries(dir: &Path) -> Digest {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_shared = || name.contains(".so") || name.ends_with(".dylib");
        is_shared() || [".a", ".o", ".rlib"].iter().any(|end| name.ends_with(end))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let libraries: BTreeMap<_, _> = (entries.map(|entry| entry.path()).filter(is_library))
        .filter_map(|path| {
            let stamp = Stamp::of(&path).ok()?;
            Some((path, (stamp.size, stamp.modified)))
        })
        .collect();
    Digest::of_value(&libraries)
}

/// Returns the stamps of all files of a package, without packages below and build directories. Follows
/// symbolic links. `None` if the package has too many files.
pub fn of_package(root: &Path) -> Option<Stamps> {
    of_files_below(root, |dir| dir.join("Cargo.toml").exists())
}

/// Like [`of_package`], with the packages below.
pub fn of_packages_below(root: &Path) -> Option<Stamps> {
    of_files_below(root, |_| false)
}

fn of_files_below(root: &Path, is_other: impl Fn(&Path) -> bool) -> Option<Stamps> {
    let counts = |entry: &DirEntry| {
        let (is_dir, path) = (entry.file_type().is_dir(), entry.path());
        // A build directory that existed before Cargo has no tag.
        let is_build = || {
            ["CACHEDIR.TAG", ".rustc_info.json"]
                .iter()
                .any(|name| path.join(name).exists())
        };
        let is_excluded =
            || entry.file_name() == ".git" || is_dir && (is_other(path) || is_build());
        entry.depth() == 0 || !is_excluded()
    };
    let mut stamps = Stamps::new();
    let files = WalkDir::new(root).follow_links(true);
    for entry in files.into_iter().filter_entry(counts) {
        if stamps.len() == MAX_FILES {
            return None;
        }
        let (path, stamp) = match &entry {
            // Its times change when files come and go that do not count.
            Ok(entry) if entry.file_type().is_dir() => (entry.path(), None),
            Ok(entry) => (entry.path(), Stamp::of(entry.path()).ok()),
            // A link that leads nowhere or in a circle, or a file that a macro cannot read either.
            Err(e) => (e.path()?, None),
        };
        stamps.insert(path.to_owned(), stamp);
    }
    Some(stamps)
}

/// Combines all names and stamps. `None` if a file was changed at `before` or later.
pub fn digest(stamps: &Stamps, before: Time) -> Option<Digest> {
    let are_older = stamps.values().flatten().all(|it| it.last() < before);
    are_older.then(|| Digest::of_value(stamps))
}

/// Returns a digest of the environment that procedural macros and linkers can read: that of this process,
/// and variables that are `set` beside it. Variables that differ between two commands of one shell do not
/// count, nor do those with which users configure what Cargo prints and how it schedules a build.
pub fn environment(set: &BTreeMap<String, OsString>) -> Digest {
    Digest::of_value(&(variables(|_| true), set))
}

/// Returns a digest of the environment of this process, without variables that continuous integration sets to
/// something else in each run.
pub fn environment_of_runs() -> Digest {
    let is_of_run = |name: &str| OF_RUN.iter().any(|begin| name.starts_with(begin));
    Digest::of_value(&variables(|name| !is_of_run(name)))
}

/// Returns the absolute paths that variables of this process have as their values. Cargo itself has a use for those
/// that begin with `CARGO_`.
pub fn paths_in_environment() -> impl Iterator<Item = PathBuf> {
    let values = variables(|name| !name.starts_with("CARGO_")).into_iter();
    values
        .map(|(_, value)| PathBuf::from(value))
        .filter(|path| path.is_absolute())
}

fn variables(counts: impl Fn(&str) -> bool) -> BTreeSet<(OsString, OsString)> {
    let counts = |(name, _): &(OsString, OsString)| {
        let name = name.to_string_lossy();
        let cargo = name.strip_prefix("CARGO_");
        let is_setting = cargo.is_some_and(|name| OF_CARGO.contains(&name));
        !is_setting && !OF_SHELL.contains(&&*name) && counts(&name)
    };
    std::env::vars_os().filter(counts).collect()
}

/// How the names of these begin: of GitHub, GitLab, Buildkite, CircleCI, Jenkins and systemd.
const OF_RUN: [&str; 12] = [
    "ACTIONS_",
    "BUILDKITE_",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_TAG",
    "BUILD_URL",
    "CIRCLE_",
    "CI_",
    "GITHUB_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "RUNNER_",
];

const OF_SHELL: [&str; 7] = [
    "_",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "MAKEFLAGS",
    "MFLAGS",
    "RUST_RECURSION_COUNT",
];

/// After `CARGO_`.
const OF_CARGO: [&str; 16] = [
    "LOG",
    "MAKEFLAGS",
    "BUILD_EARLY_CUTOFF",
    "BUILD_FINGERPRINT",
    "BUILD_JOBS",
    "BUILD_PAUSE_MEMORY",
    "BUILD_PIPELINING",
    "BUILD_SCHEDULE",
    "BUILD_TRACE",
    "BUILD_WARNINGS",
    "TERM_COLOR",
    "TERM_HYPERLINKS",
    "TERM_PROGRESS_WHEN",
    "TERM_PROGRESS_WIDTH",
    "TERM_QUIET",
    "TERM_VERBOSE",
];

pub(super) fn nanoseconds(time: SystemTime) -> Time {
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

    #[test]
    fn installed_libraries_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = vec![installed_libraries(dir.path())];
        for (file, text, is_new) in [
            ("README", "", false),
            ("libz.so.1", "", true),
            ("libz.so.1", "other", true),
            ("liba.a", "", true),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
            seen.push(installed_libraries(dir.path()));
            let [.., before, after] = &seen[..] else {
                unreachable!()
            };
            assert_eq!(before != after, is_new, "{file}");
        }
        assert_eq!(installed_libraries(&dir.path().join("missing")), seen[0]);
    }

    fn package(dir: &Path) -> Digest {
        digest(&of_package(dir).unwrap(), Time::MAX).unwrap()
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
    fn nested_packages_and_builds_are_ignored() {
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
        for number in 0..MAX_FILES {
            write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(of_package(dir.path()), None);
    }

    #[cfg(unix)]
    #[test]
    fn broken_links_count_as_missing() {
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
        let as_file = || digest(&of_files([path.clone()]), Time::MAX);
        let as_entry = || digest(&of_entries(dir.path()), Time::MAX);
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
    fn replaced_file_has_another_stamp() {
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
