//! Files that a compiler or a build script may read and Cargo does not track.

use std::collections::BTreeMap;
use std::ops::Not;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Digest;
use super::content::{Content, Files, Reader, Record};
use super::repository;
use super::stamp::{self, Stamps};

/// Above these nothing is recorded.
const MAX_BYTES: u64 = 32 << 20;

/// Files that a compiler may have read and Cargo does not track: what flags name, directories in which native
/// libraries are searched, the packages of procedural macros and of what expands them; and its programs. For a
/// build script, its package and those of its dependencies.
///
/// Cargo makes a unit if it or a dependency was touched, and that takes such files up. A unit that is not made
/// because all of these are the same has to have the same untracked files, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untracked {
    /// [`UnitFiles::place`](super::UnitFiles::place).
    place: Digest,
    pub(super) files: UntrackedFiles,
    digest: Digest,
}

/// Where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UntrackedFiles {
    /// Files, and directories of which the files count that are directly there.
    pub paths: Vec<PathBuf>,
    pub packages: Vec<PathBuf>,
    /// Whether packages below these packages count.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub with_packages_below: bool,
    /// The compiler, its wrappers and the linker. They are large, and only programs that install them set times:
    /// compared by size and time.
    pub programs: Vec<PathBuf>,
    /// Whether libraries count that are installed where linkers look without being told, in the same way.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub reads_native: bool,
    pub environment: Environment,
    /// A directory of the repository whose checked out commit counts.
    pub repository: Option<PathBuf>,
}

/// Which variables count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Environment {
    #[default]
    Ignored,
    /// By which linkers find programs and libraries.
    OfLinkers,
    /// All that a macro or a build script may read, but those of a single run of continuous integration: otherwise
    /// nothing would be fresh there.
    OfAnyProgram,
}

impl UntrackedFiles {
    /// Records what the unit at `place` has read, as it is at the end. `before` is what was there before the start, if
    /// that is known. `None` if it is too much or cannot be read, or if it is not known what was read.
    pub fn record(
        self,
        place: Digest,
        reader: &Reader,
        before: Option<Digest>,
    ) -> Option<Untracked> {
        let mut was_read = true;
        let content = |path: &Path| {
            let (content, stamp) = Content::of(path, reader.now).ok()?;
            let record = Record::new(content, stamp, reader, None);
            was_read &= matches!(record, Some(Record::Read(_)));
            Some(content.digest)
        };
        let system = self.system_libraries(stamp::installed_libraries);
        let digest = self.digest(system, content)?;
        (was_read || before == Some(digest)).then_some(Untracked {
            place,
            files: self,
            digest,
        })
    }

    /// Returns a digest of what is there.
    pub fn digest_of(&self, files: &mut Files) -> Option<Digest> {
        let system = self.system_libraries(|dir| files.installed(dir));
        self.digest(system, |path| Some(files.content(path).ok()?.0.digest))
    }

    fn system_libraries(&self, digest: impl FnMut(&Path) -> Digest) -> Vec<Digest> {
        let dirs = self.reads_native.then(stamp::system_library_dirs);
        let dirs = dirs.unwrap_or_default();
        dirs.iter().map(PathBuf::as_path).map(digest).collect()
    }

    fn digest(
        &self,
        system: Vec<Digest>,
        mut content: impl FnMut(&Path) -> Option<Digest>,
    ) -> Option<Digest> {
        let mut stamps = Stamps::new();
        for root in &self.packages {
            stamps.extend(match self.with_packages_below {
                true => stamp::of_packages_below(root)?,
                false => stamp::of_package(root)?,
            });
        }
        stamps.extend(self.paths.iter().flat_map(|path| stamp::of_entries(path)));
        let size: u64 = stamps.values().flatten().map(|it| it.size).sum();
        if size > MAX_BYTES {
            return None;
        }
        let mut digests = BTreeMap::new();
        for (path, stamp) in &stamps {
            let digest = match stamp {
                Some(_) if !path.is_dir() => Some(content(path)?),
                _ => None,
            };
            digests.insert(path, digest);
        }
        let programs = stamp::of_files(self.programs.iter().cloned());
        let programs: Vec<_> = programs
            .iter()
            .map(|(path, stamp)| (path, stamp.map(|it| (it.size, it.modified))))
            .collect();
        let environment = match self.environment {
            Environment::Ignored => None,
            Environment::OfLinkers => Some(Digest::of_value(&OF_LINKERS.map(std::env::var_os))),
            Environment::OfAnyProgram => Some(stamp::environment_of_runs()),
        };
        let head = self.repository.as_deref().map(repository::head);
        let read = (digests, programs, system, environment, head);
        Some(Digest::of_value(&read))
    }
}

impl Untracked {
    /// Returns whether this is about the unit at `place`.
    pub fn is_about(&self, place: Digest) -> bool {
        self.place == place
    }

    /// Returns whether all have the same content.
    pub fn is_same(&self, files: &mut Files) -> bool {
        self.files.digest_of(files) == Some(self.digest)
    }
}

/// Where they find programs and libraries: variables of gcc and clang, of ld, and of link.exe.
const OF_LINKERS: [&str; 9] = [
    "PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LD_RUN_PATH",
    "LD_LIBRARY_PATH",
    "LDEMULATION",
    "SDKROOT",
    "LIB",
];
