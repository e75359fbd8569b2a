//! What dependents know of the metadata of one job.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
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

/// A file, and its content when dependents started to read it.
#[derive(Debug)]
pub(super) struct Seen {
    rmeta: PathBuf,
    digest: Digest,
    stamp: Stamp,
}

impl Seen {
    pub(super) fn of(rmeta: &Path) -> io::Result<Self> {
        Ok(Seen {
            stamp: Stamp::of(rmeta)?,
            digest: Digest::of_file(rmeta)?,
            rmeta: rmeta.to_owned(),
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.is_current().unwrap_or(false),
            "`{}` was replaced after dependents had started to read it; with `build.pipelining = false` they wait \
             until the compiler has ended",
            self.rmeta.display()
        );
        Ok(())
    }

    /// Whether the compiler has written this, and no other metadata since.
    fn is_current(&self) -> io::Result<bool> {
        let now = Stamp::of(&self.rmeta)?;
        let is_same_file = (now.inode, now.modified) == (self.stamp.inode, self.stamp.modified);
        let is_same = Digest::of_file(&self.rmeta)? == self.digest;
        Ok(is_same && (is_same_file || self.is_in_rlib()?))
    }

    /// Whether it is in the rlib beside it, if there is one: wrapped in an object file (`create_wrapper_file` in
    /// rustc's `compiler/rustc_codegen_ssa/src/back/metadata.rs`).
    fn is_in_rlib(&self) -> io::Result<bool> {
        let rlib = self.rmeta.with_extension("rlib");
        if !rlib.exists() {
            return Ok(true);
        }
        let mut rlib = File::open(rlib)?;
        let members = archive::members(&mut rlib)?;
        let Some((_, range)) = members.into_iter().find(|(name, _)| name == "lib.rmeta") else {
            return Ok(false);
        };
        rlib.seek(SeekFrom::Start(range.start))?;
        let mut member = Vec::new();
        rlib.take(range.end - range.start)
            .read_to_end(&mut member)?;
        let metadata = fs::read(&self.rmeta)?;
        Ok(member
            .windows(metadata.len().max(1))
            .any(|it| it == metadata))
    }
}

/// Announces the metadata of one job, once, from any thread and at any time.
pub(super) struct Announcer<M> {
    pub(super) lane: Lane<M>,
    pub(super) to_message: Arc<dyn Fn(Event) -> M + Send + Sync>,
    pub(super) announced: Arc<Mutex<Announced>>,
    pub(super) rmeta: Option<PathBuf>,
    /// Set if a hollow rlib is written beside the metadata.
    pub(super) gate: Option<Arc<Gate>>,
}

impl<M> Announcer<M> {
    /// Calls `see` first, with the metadata. Does nothing after an announcement, or the end of the job.
    pub(super) fn announce(
        &self,
        see: impl FnOnce(&Path) -> io::Result<Option<Seen>>,
    ) -> io::Result<()> {
        let mut announced = lock(&self.announced);
        if !matches!(*announced, Announced::Nothing) {
            return Ok(());
        }
        let (mut hollow, mut seen) = (None, None);
        if let Some(rmeta) = &self.rmeta {
            seen = see(rmeta)?;
            if let Some(gate) = &self.gate {
                let rlib = rmeta.with_extension("rlib");
                hollow = Some(Hollow::write(rmeta, &rlib, gate.dir())?);
            }
        }
        *announced = Announced::Metadata { hollow, seen };
        self.lane.push((self.to_message)(Event::Metadata));
        Ok(())
    }
}
