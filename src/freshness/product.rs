//! What a unit makes, and of what.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Digest;
use super::file::{self, Note, Time, TreeNote};
use super::ledger::Record;

/// What a unit makes and of what, as the caller knows it before the build.
#[derive(Debug)]
pub struct Description {
    /// The files that dependents, users or Cargo look for.
    pub outputs: Vec<PathBuf>,
    /// Which of them is the metadata, if one is.
    pub metadata: Option<usize>,
    /// Of the run of a build script, its `OUT_DIR`.
    pub out_dir: Option<PathBuf>,
    /// Whether it is linked, or reads the objects of what is below it in another way.
    pub is_linked: bool,
    /// Whether those that use it see nothing of what it was made of: a procedural macro, the run of a
    /// build script, an executable.
    pub is_closed: bool,
    /// The direct dependencies.
    pub edges: Vec<Edge>,
    /// A hash of the versions of rustc and cargo.
    pub compiler: u64,
    /// The file whose time says when the compiler was invoked last.
    pub invoked: PathBuf,
    /// Where its ledger is.
    pub ledger: PathBuf,
}

/// A dependency of a unit.
#[derive(Clone, Debug)]
pub struct Edge {
    /// By what name, and as what, the unit knows it.
    pub name: Digest,
    /// Whether it reads nothing of it but metadata, neither to compile nor to link.
    pub only_metadata: bool,
    /// What the dependency makes.
    pub product: Arc<Product>,
}

/// What a build script said, as one digest of all that Cargo understood.
#[derive(Clone, Copy, Debug)]
pub struct Said(Digest);

impl Said {
    /// What a script said that has `out_dir` to itself: `digest` is of all of it, `spoken_of` are the
    /// values that may have paths in them, also after a `KIND=`.
    ///
    /// `None` if it speaks of anything outside of `out_dir`. Then each of its runs has a result of its
    /// own: who knows what it has done there?
    pub fn new<'a>(
        digest: Digest,
        spoken_of: impl IntoIterator<Item = &'a str>,
        out_dir: &Path,
    ) -> Option<Self> {
        let is_below = |text: &str| {
            let path = Path::new(text);
            path.starts_with(out_dir) && !path.components().any(|it| it == Component::ParentDir)
        };
        let is_inside = |text: &str| {
            let after_kind = text.split_once('=').map_or(text, |(_, path)| path);
            is_below(text) || is_below(after_kind) || !text.contains(['/', '\\'])
        };
        (spoken_of.into_iter().all(is_inside)).then_some(Said(digest))
    }
}

/// What a unit has read, one value for each time that it read something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was compiled.
    pub compiled: Digest,
    /// When it was linked, if it was.
    pub linked: Option<Digest>,
}

/// Whether a unit has to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something that it reads has changed, or nobody knows.
    Changed,
    /// The metadata that it reads is the same. What it links is to be compared when it is there.
    SameMetadata,
    /// Nothing has changed.
    Unchanged,
}

/// What a unit makes, and what is known of it in this build.
#[derive(Debug)]
pub struct Product {
    is: Description,
    /// It is made in this build, if it does not turn out to be unchanged: what an earlier build made is
    /// not what others will read.
    is_made_anew: AtomicBool,
    /// Something in this build depends on it.
    is_read: AtomicBool,
    own: Mutex<Own>,
    /// Held while the files of an earlier build are looked at, which is to be done once.
    looking: Mutex<()>,
    /// What it shows, by [`Reads`], once it is known.
    shown: [OnceLock<Digest>; 3],
}

/// What is known of a unit's own files.
#[derive(Clone, Debug, Default)]
struct Own {
    metadata: Option<Digest>,
    all: Option<Digest>,
}

/// What one that depends on a unit reads of it and of all below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Its metadata, and the metadata below.
    Metadata,
    /// All of it, and the metadata below.
    All,
    /// All of it and all below.
    AllBelow,
}

/// A ledger that is about what is there now.
#[derive(Debug)]
pub struct Known {
    record: Record,
    written: Time,
    seen: Seen,
}

impl Product {
    /// A unit that an earlier build may have made.
    pub fn new(description: Description) -> Arc<Self> {
        for edge in &description.edges {
            edge.product.is_read.store(true, SeqCst);
        }
        Arc::new(Product {
            is: description,
            is_made_anew: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
            own: Mutex::default(),
            looking: Mutex::default(),
            shown: Default::default(),
        })
    }

    /// It is going to be made in this build, unless it is [found unchanged](Self::settle). To be said
    /// before anybody asks what it shows.
    pub fn will_be_made(&self) {
        self.is_made_anew.store(true, SeqCst);
    }

    /// Its metadata was written, and no dependent has heard of it yet. Reads the file.
    pub fn metadata_written(&self) {
        if let Some(metadata) = self.is.metadata {
            self.own().metadata = Digest::of_file(&self.is.outputs[metadata]).ok();
        }
    }

    /// It was made, and everything that it read is still there. Reads what it made, writes the ledger,
    /// and lets dependents see it.
    ///
    /// # Errors
    ///
    /// If something cannot be read or written. Then dependents count it as changed, and there is no
    /// ledger.
    pub fn made(&self, fingerprint: u64, said: Option<Said>) -> io::Result<()> {
        let made = self.record(fingerprint, said).and_then(|record| {
            if !self.now_shows(&record) {
                return Err(io::Error::other("metadata that was announced has changed"));
            }
            self.write_ledger(record)
        });
        made.inspect_err(|_| drop(std::fs::remove_file(&self.is.ledger)))
    }

    /// Writes the ledger. What is only looked at, but might be written to in the same tick without
    /// looking different, is read after all.
    fn write_ledger(&self, mut record: Record) -> io::Result<()> {
        let written = record.write(&self.is.ledger)?;
        let mut is_read = false;
        for (path, note) in std::iter::zip(&self.is.outputs, &mut record.outputs) {
            if !note.says_enough(written) {
                *note = Note::take(path)?;
                is_read = true;
            }
        }
        if is_read {
            record.write(&self.is.ledger)?;
        }
        Ok(())
    }

    /// Whether nobody wants to know what is in its outputs. An executable is the largest thing that is
    /// built, and mostly for users alone.
    fn is_only_looked_at(&self) -> bool {
        self.is.is_linked && self.is.is_closed && !self.is_read.load(SeqCst)
    }

    fn record(&self, fingerprint: u64, said: Option<Said>) -> io::Result<Record> {
        Ok(Record {
            fingerprint,
            seen: self.sees(),
            ..self.record_of_files(said)?
        })
    }

    /// What is there, whoever made it, and of whatever.
    fn record_of_files(&self, said: Option<Said>) -> io::Result<Record> {
        let invoked = file::modified(&self.is.invoked)?;
        let note = match self.is_only_looked_at() {
            true => Note::look,
            false => Note::take,
        };
        let outputs = self.is.outputs.iter().map(|path| note(path));
        let outputs = outputs.collect::<io::Result<Vec<_>>>()?;
        let script = match &self.is.out_dir {
            Some(out_dir) => Some(script(invoked, &outputs, TreeNote::take(out_dir)?, said)),
            None => None,
        };
        Ok(Record {
            compiler: self.is.compiler,
            fingerprint: 0,
            invoked,
            seen: None,
            outputs,
            script,
        })
    }

    /// Notes what the record says as what dependents see. Not if they have been told something else.
    fn now_shows(&self, record: &Record) -> bool {
        let digests = record.outputs.iter().map(|note| note.digest);
        let Some(digests) = digests.collect::<Option<Vec<_>>>() else {
            // There are no dependents.
            return true;
        };
        let all = match record.script {
            Some((said, tree)) => {
                let in_tree = tree.digest.unwrap_or(said);
                Digest::chain("script", [said, in_tree])
            }
            None => Digest::chain("outputs", digests.iter().copied()),
        };
        let metadata = match (record.script, self.is.metadata) {
            (Some((said, _)), _) => said,
            (None, Some(metadata)) => digests[metadata],
            (None, None) => all,
        };
        let mut own = self.own();
        let is_as_told = *own.metadata.get_or_insert(metadata) == metadata;
        if is_as_told {
            own.all = Some(all);
        }
        is_as_told
    }

    /// The ledger of what an earlier build made, if it is about what is there now: made by the same
    /// compiler, with the fingerprint `fingerprint`, and not made again by somebody else since.
    pub fn known(&self, fingerprint: u64) -> Option<Known> {
        let (record, written) = Record::read(&self.is.ledger)?;
        let is_about = record.compiler == self.is.compiler
            && record.fingerprint == fingerprint
            && self.is_of_last_invocation(&record, written)
            && record.outputs.len() == self.is.outputs.len()
            && record.script.is_some() == self.is.out_dir.is_some();
        let seen = record.seen.filter(|_| is_about)?;
        Some(Known {
            record,
            written,
            seen,
        })
    }

    /// Whether no compiler was invoked for it since the ledger was written. Where the file system's
    /// clock is so coarse that one might have been, nobody knows.
    fn is_of_last_invocation(&self, record: &Record, written: Time) -> bool {
        record.invoked < written
            && file::modified(&self.is.invoked).is_ok_and(|invoked| invoked == record.invoked)
    }

    /// Whether it has to be made again, as far as that depends on what is below it and on its own
    /// outputs. If `is_all_there`, what it links is there, too.
    pub fn compare(&self, known: &Known, is_all_there: bool) -> Verdict {
        if self.sees_compiling() != Some(known.seen.compiled) {
            return Verdict::Changed;
        }
        if self.is.is_linked {
            if !is_all_there {
                return Verdict::SameMetadata;
            }
            if self.sees_linking() != known.seen.linked || known.seen.linked.is_none() {
                return Verdict::Changed;
            }
        }
        match self.stands(known) {
            true => Verdict::Unchanged,
            false => Verdict::Changed,
        }
    }

    /// Whether what it made is there as it was made.
    fn stands(&self, known: &Known) -> bool {
        let Known {
            record, written, ..
        } = known;
        let stands = |(path, note): (&PathBuf, &Note)| note.stands(path, *written);
        let is_same_tree = match (&self.is.out_dir, record.script) {
            (Some(out_dir), Some((_, tree))) => {
                let now = tree.refreshed(out_dir, *written);
                now.is_ok_and(|now| now.digest.is_some() && now.digest == tree.digest)
            }
            _ => true,
        };
        is_same_tree && std::iter::zip(&self.is.outputs, &record.outputs).all(stands)
    }

    /// Sets times so that nothing that it read is newer, for those who look at nothing else: Cargo
    /// without this.
    ///
    /// Only one of its outputs has to show that, and not the metadata if there is another one: those
    /// that read only metadata need not be looked at then.
    pub fn raise_modified(&self) {
        let modified = |path: &&PathBuf| file::modified(path).ok();
        let Some(newest) = self.is.outputs.iter().max_by_key(modified) else {
            return;
        };
        let read = self.is.edges.iter().flat_map(|edge| {
            let below = &edge.product.is;
            let metadata = below.metadata.filter(|_| edge.only_metadata);
            let outputs = below.outputs.iter().enumerate();
            outputs.filter(move |(at, _)| metadata.is_none_or(|it| it == *at))
        });
        file::raise_modified(newest, read.map(|(_, path)| path.as_path()));
    }

    /// It was found [unchanged](Verdict::Unchanged), `fingerprint` was written, and times were set so
    /// that others find it fresh. Lets dependents see it, and writes the ledger for the next time.
    ///
    /// # Errors
    ///
    /// If something cannot be read or written. Then there is no ledger.
    pub fn settle(&self, known: &Known, fingerprint: u64) -> io::Result<()> {
        let looked = (|| {
            let mut record = Record {
                fingerprint,
                ..known.record.clone()
            };
            for (path, note) in std::iter::zip(&self.is.outputs, &mut record.outputs) {
                match note.digest.is_some() || self.is_only_looked_at() {
                    true => note.look = file::Look::at(path)?,
                    false => *note = Note::take(path)?,
                }
            }
            self.now_shows(&record);
            self.write_ledger(record)
        })();
        looked.inspect_err(|_| drop(std::fs::remove_file(&self.is.ledger)))
    }

    /// What it sees, now that everything below it is there.
    fn sees(&self) -> Option<Seen> {
        let linked = match self.is.is_linked {
            true => Some(self.sees_linking()?),
            false => None,
        };
        Some(Seen {
            compiled: self.sees_compiling()?,
            linked,
        })
    }

    fn sees_compiling(&self) -> Option<Digest> {
        self.sum("compiled", |edge| {
            let has_metadata = edge.product.is.metadata.is_some();
            match edge.only_metadata || self.is.is_linked && has_metadata {
                true => Reads::Metadata,
                false => Reads::All,
            }
        })
    }

    fn sees_linking(&self) -> Option<Digest> {
        self.sum("linked", |_| Reads::AllBelow)
    }

    /// What all dependencies show, whatever their order.
    fn sum(&self, purpose: &str, reads: impl Fn(&Edge) -> Reads) -> Option<Digest> {
        let mut shown = Vec::with_capacity(self.is.edges.len());
        for edge in &self.is.edges {
            shown.push((edge.name, edge.product.shows(reads(edge))?));
        }
        shown.sort_unstable();
        let links = shown.into_iter().flat_map(|(name, shown)| [name, shown]);
        Some(Digest::chain(purpose, links))
    }

    /// What it shows to one that reads so much of it. `None` if nobody knows.
    fn shows(&self, reads: Reads) -> Option<Digest> {
        let place = &self.shown[reads as usize];
        if let Some(shown) = place.get() {
            return Some(*shown);
        }
        let own = match reads {
            Reads::Metadata => self.own_metadata()?,
            Reads::All | Reads::AllBelow => self.own_all()?,
        };
        let shown = match self.is.is_closed {
            true => own,
            false => {
                let below = match reads {
                    Reads::AllBelow => self.sees_linking()?,
                    Reads::Metadata | Reads::All => self.sum("metadata", |_| Reads::Metadata)?,
                };
                Digest::chain("shown", [own, below])
            }
        };
        Some(*place.get_or_init(|| shown))
    }

    fn own_metadata(&self) -> Option<Digest> {
        let known = self.own().metadata;
        known.or_else(|| {
            self.look_at_earlier();
            self.own().metadata
        })
    }

    fn own_all(&self) -> Option<Digest> {
        let known = self.own().all;
        known.or_else(|| {
            self.look_at_earlier();
            self.own().all
        })
    }

    /// Finds out about what an earlier build made. What no ledger tells of is read, and a ledger
    /// written so that it need not be read the next time.
    fn look_at_earlier(&self) {
        if self.is_made_anew.load(SeqCst) {
            return;
        }
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.own().all.is_some() {
            return;
        }
        let found = match self.earlier_record() {
            Some(record) => Some(record),
            None => self.record_of_unknown().ok(),
        };
        if let Some(record) = found {
            self.now_shows(&record);
        }
    }

    fn earlier_record(&self) -> Option<Record> {
        let (mut record, written) = Record::read(&self.is.ledger)?;
        let is_about = record.outputs.len() == self.is.outputs.len()
            && record.script.is_some() == self.is.out_dir.is_some()
            && self.is_of_last_invocation(&record, written);
        if !is_about {
            return None;
        }
        for (path, note) in std::iter::zip(&self.is.outputs, &mut record.outputs) {
            *note = note.refreshed(path, written).ok()?;
        }
        if let (Some(out_dir), Some((_, tree))) = (&self.is.out_dir, &mut record.script) {
            let now = tree.refreshed(out_dir, written).ok()?;
            if now.digest.is_none() && tree.digest.is_some() {
                return None;
            }
            *tree = now;
        }
        Some(record)
    }

    fn record_of_unknown(&self) -> io::Result<Record> {
        let record = self.record_of_files(None)?;
        record.write(&self.is.ledger)?;
        Ok(record)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the unit's own outputs are.
    pub fn outputs(&self) -> &[PathBuf] {
        &self.is.outputs
    }

    /// The `OUT_DIR` of the run of a build script.
    pub fn out_dir(&self) -> Option<&Path> {
        self.is.out_dir.as_deref()
    }

    /// The `OUT_DIR`s of the build scripts that it uses directly. What is in them it has
    /// [seen](Seen), so their times do not matter.
    pub fn out_dirs(&self) -> impl Iterator<Item = &Path> {
        (self.is.edges.iter()).filter_map(|edge| edge.product.out_dir())
    }
}

/// The result of a build script that was started at `invoked`.
///
/// If nobody knows what it said, or it spoke of something elsewhere, the result is that of this run
/// alone.
fn script(
    invoked: Time,
    outputs: &[Note],
    tree: TreeNote,
    said: Option<Said>,
) -> (Digest, TreeNote) {
    let said = match said {
        Some(Said(digest)) if tree.digest.is_some() => digest,
        _ => {
            let outputs = outputs.iter().filter_map(|note| note.digest);
            let run = [Digest::of_value(&invoked)];
            Digest::chain("one run", run.into_iter().chain(outputs))
        }
    };
    (said, tree)
}
