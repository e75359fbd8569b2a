//! What dependents know of the metadata of one job.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::ensure;

use super::channel::{Event, Lane, lock};
use crate::freshness::Digest;
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
}

impl Seen {
    pub(super) fn of(rmeta: &Path) -> io::Result<Self> {
        let (digest, rmeta) = (Digest::of_file(rmeta)?, rmeta.to_owned());
        Ok(Seen { rmeta, digest })
    }

    fn check(&self) -> anyhow::Result<()> {
        let now = Digest::of_file(&self.rmeta);
        ensure!(
            now.is_ok_and(|now| now == self.digest),
            "`{}` was replaced after dependents had started to read it",
            self.rmeta.display()
        );
        Ok(())
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
