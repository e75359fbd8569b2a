//! Files that a compiler or a build script may read and Cargo does not track.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Digest;
use super::content::{Content, Files, Reader, Record};
use super::stamp::{self, Stamps};

/// Above these nothing is recorded.
const MAX_BYTES: u64 = 32 << 20;

/// Files that a compiler may have read and Cargo does not track: what flags name, directories in which native
/// libraries are searched, the packages of procedural macros and of what expands them; and its programs. For a
/// build script, its package.
///
/// Cargo makes a unit if it or a dependency was touched, and that takes such files up. A unit that is not made
/// because all of these are the same has to have the same untracked files, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untracked {
    pub(super) paths: Vec<PathBuf>,
    pub(super) packages: Vec<PathBuf>,
    /// The compiler, its wrappers and the linker. They are large, and only programs that install them set times:
    /// compared by size and time.
    programs: Vec<PathBuf>,
    digest: Digest,
}

impl Untracked {
    /// Records files, what is directly in directories, what is in `packages`, and `programs`. `None` if what
    /// `compiler` has read is not known, or if it is too much.
    pub(super) fn of_compiler(
        paths: Vec<PathBuf>,
        packages: Vec<PathBuf>,
        programs: Vec<PathBuf>,
        compiler: &Reader,
    ) -> Option<Self> {
        Untracked::of(paths, packages, programs, |path| {
            match Record::of(path, compiler).ok()?? {
                Record::Read(content) => Some(content.digest),
                Record::Changed => None,
            }
        })
    }

    /// Records the package of a build script as it is at its end, because the script may write to it.
    pub(super) fn of_script(package: Option<PathBuf>, script: &Reader) -> Option<Self> {
        let packages = package.into_iter().collect();
        Untracked::of(Vec::new(), packages, Vec::new(), |path| {
            Some(Content::of(path, script.now).ok()?.0.digest)
        })
    }

    fn of(
        paths: Vec<PathBuf>,
        packages: Vec<PathBuf>,
        programs: Vec<PathBuf>,
        content: impl FnMut(&Path) -> Option<Digest>,
    ) -> Option<Self> {
        let mut untracked = Untracked {
            paths,
            packages,
            programs,
            digest: Digest::of_value(&()),
        };
        untracked.digest = untracked.digest(content)?;
        Some(untracked)
    }

    /// Returns whether all have the same content.
    pub fn is_same(&self, files: &mut Files) -> bool {
        self.digest(|path| Some(files.content(path).ok()?.0.digest)) == Some(self.digest)
    }

    fn digest(&self, mut content: impl FnMut(&Path) -> Option<Digest>) -> Option<Digest> {
        let mut stamps = Stamps::new();
        for root in &self.packages {
            stamps.extend(stamp::of_package(root)?);
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
        let programs = programs.iter().map(|(path, stamp)| {
            let stamp = stamp.map(|it| (it.size, it.modified));
            (path, stamp)
        });
        Some(Digest::of_value(&(digests, programs.collect::<Vec<_>>())))
    }
}
