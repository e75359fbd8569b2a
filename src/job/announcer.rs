//! What dependents know of the metadata of one job.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::ensure;

use super::channel::{Event, Lane, lock};
use crate::archive;
use crate::freshness::Digest;
use crate::freshness::stamp::Stamp;
use crate::link_gate::Gate;
use crate::link_gate::hollow::Hollow;

/// Whether dependents may know of the metadata of a job.
#[derive(Debug, Default)]
pub(super) enum Announced {
    #[default]
    Nothing,
    Metadata {
        /// On which dependents may start, until the job ends.
        hollow: Option<Hollow>,
        /// Set if the compiler has not said itself that this is its metadata.
        seen: Option<Seen>,
    },
    Ended,
}

impl Announced {
    /// Returns the hollow rlib, which nothing needs any more.
    pub(super) fn end(&mut self) -> Option<Hollow> {
        match std::mem::replace(self, Announced::Ended) {
            Announced::Metadata { hollow, .. } => hollow,
            Announced::Nothing | Announced::Ended => None,
        }
    }

    /// # Errors
    ///
    /// If the file that was seen has another content now.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self {
            Announced::Metadata {
                seen: Some(seen), ..
            } => seen.check(),
            Announced::Metadata { seen: None, .. } | Announced::Nothing | Announced::Ended => {
                Ok(())
            }
        }
    }
}

/// The metadata that dependents have started to read.
#[derive(Debug)]
pub(super) enum Seen {
    /// A file that was renamed into place.
    Renamed {
        rmeta: PathBuf,
        digest: Digest,
        stamp: Stamp,
    },
    /// A file that the compiler removes when it has made the rlib.
    Mapped { metadata: File, rlib: PathBuf },
}

impl Seen {
    pub(super) fn renamed(rmeta: &Path) -> io::Result<Self> {
        Ok(Seen::Renamed {
            stamp: Stamp::of(rmeta)?,
            digest: Digest::of_file(rmeta)?,
            rmeta: rmeta.to_owned(),
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        let (Seen::Renamed { rmeta: path, .. } | Seen::Mapped { rlib: path, .. }) = self;
        ensure!(
            self.is_current().unwrap_or(false),
            "`{}` was replaced after dependents had started to read it; with `build.pipelining = false` they wait \
             until the compiler has ended",
            path.display()
        );
        Ok(())
    }

    /// Whether the compiler has written this, and no other metadata since.
    fn is_current(&self) -> io::Result<bool> {
        match self {
            Seen::Renamed {
                rmeta,
                digest,
                stamp,
            } => {
                let now = Stamp::of(rmeta)?;
                let is_same_file = (now.inode, now.modified) == (stamp.inode, stamp.modified);
                let is_in_rlib = || match rmeta.with_extension("rlib") {
                    rlib if rlib.exists() => is_in_rlib(&mut File::open(rmeta)?, &rlib),
                    _ => Ok(true),
                };
                Ok(Digest::of_file(rmeta)? == *digest && (is_same_file || is_in_rlib()?))
            }
            Seen::Mapped { metadata, rlib } => is_in_rlib(&mut { metadata }, rlib),
        }
    }
}

/// Whether the metadata is in the rlib: wrapped in an object file (`create_wrapper_file` in rustc's
/// `compiler/rustc_codegen_ssa/src/back/metadata.rs`).
fn is_in_rlib(metadata: &mut (impl Read + Seek), rlib: &Path) -> io::Result<bool> {
    let mut rlib = File::open(rlib)?;
    let members = archive::members(&mut rlib)?;
    let Some((_, range)) = members.into_iter().find(|(name, _)| name == "lib.rmeta") else {
        return Ok(false);
    };
    rlib.seek(SeekFrom::Start(range.start))?;
    let mut member = Vec::new();
    rlib.take(range.end - range.start)
        .read_to_end(&mut member)?;
    let mut expected = Vec::new();
    metadata.rewind()?;
    metadata.read_to_end(&mut expected)?;
    Ok(member
        .windows(expected.len().max(1))
        .any(|it| it == expected))
}

/// Announces the metadata of one job, once, from any thread and at any time.
pub(super) struct Announcer<M> {
    pub(super) lane: Lane<M>,
    pub(super) to_message: Arc<dyn Fn(Event) -> M + Send + Sync>,
    pub(super) announced: Arc<Mutex<Announced>>,
    /// Set if a hollow rlib is written.
    pub(super) gate: Option<Arc<Gate>>,
}

impl<M> Announcer<M> {
    /// Calls `see` first. With `files`, the metadata and where the rlib will be, dependents may start early on a hollow
    /// one. Does nothing after an announcement, or the end of the job.
    pub(super) fn announce(
        &self,
        files: Option<(&Path, &Path)>,
        see: impl FnOnce() -> io::Result<Option<Seen>>,
    ) -> io::Result<()> {
        let mut announced = lock(&self.announced);
        if !matches!(*announced, Announced::Nothing) {
            return Ok(());
        }
        let seen = see()?;
        let hollow = match (files, &self.gate) {
            (Some((metadata, rlib)), Some(gate)) => {
                Some(Hollow::write(metadata, rlib, gate.dir())?)
            }
            _ => None,
        };
        *announced = Announced::Metadata { hollow, seen };
        self.lane.push((self.to_message)(Event::Metadata));
        Ok(())
    }
}
