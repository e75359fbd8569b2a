//! The outputs of one unit, and whether it has to be rebuilt.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use cargo_util::paths;

use super::Digest;
use super::inputs::Inputs;
use super::ledger::{Entry, Output, Read};
use super::stamp::{Stamp, Time};

/// A unit and its files, as the caller knows them before the build.
#[derive(Debug)]
pub struct UnitFiles {
    /// What the unit is to its dependents.
    pub kind: UnitKind,
    /// The files that dependents, users or Cargo look for.
    pub outputs: Vec<PathBuf>,
    /// Which of them is the metadata, if one is.
    pub metadata: Option<usize>,
    /// Whether it is linked, or reads the objects of its dependencies in another way.
    pub is_linked: bool,
    /// The direct dependencies.
    pub edges: Vec<Edge>,
    /// A hash of the versions of rustc and cargo.
    pub compiler: u64,
    /// The file whose time is that of the last invocation of its compiler. It holds the
    /// [ledger entry](super::ledger).
    pub invoked: PathBuf,
    /// The root of its package, if files in it may change.
    pub package_root: Option<PathBuf>,
}

/// What a unit is to its dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A compiler that reads it reads its dependencies, too.
    Library,
    /// Dependents read nothing below it.
    Executable,
    /// A program that rustc runs. It may read anything.
    ProcMacro,
    /// A program that Cargo runs. It may read and write anything.
    BuildScriptRun,
}

/// A dependency of a unit.
#[derive(Clone, Debug)]
pub struct Edge {
    /// By what name, and as what, the unit knows it.
    pub name: Digest,
    /// Whether it reads only the metadata, neither objects to link nor anything else.
    pub only_metadata: bool,
    /// The dependency.
    pub outputs: Arc<UnitOutputs>,
}

/// Whether a unit has to be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An input has changed, or may have.
    Changed,
    /// The metadata that it reads is the same. What it links is to be compared when it is ready.
    SameMetadata,
    /// No input has changed.
    Unchanged,
}

/// A unit, its outputs, and what is known of them in this build.
#[derive(Debug)]
pub struct UnitOutputs {
    is: UnitFiles,
    /// The packages of the procedural macros that it may expand; `None` if there are no such macros.
    macro_packages: Option<Vec<PathBuf>>,
    /// It is rebuilt in this build unless it turns out to be unchanged: dependents will not read outputs
    /// of an earlier build.
    is_rebuilt: AtomicBool,
    own: Mutex<OwnDigests>,
    /// Held while outputs of an earlier build are read, so that they are read once.
    reading: Mutex<()>,
    /// Digests of what dependents read of it, by [`Reads`], once they are known.
    digests: [OnceLock<Digest>; 3],
}

/// Digests of a unit's own outputs.
#[derive(Clone, Debug, Default)]
struct OwnDigests {
    metadata: Option<Digest>,
    all: Option<Digest>,
}

/// What a dependent reads of a unit and of all below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Its metadata, and the metadata below.
    Metadata,
    /// All of it, and the metadata below.
    All,
    /// All of it and all below.
    AllBelow,
}

/// The ledger entry of the last invocation, if it is about this unit.
#[derive(Debug)]
pub struct Recorded {
    entry: Entry,
    read: Read,
}

impl UnitOutputs {
    /// A unit that an earlier build may have made.
    pub fn new(description: UnitFiles) -> Arc<Self> {
        Arc::new(UnitOutputs {
            macro_packages: macro_packages(&description),
            is: description,
            is_rebuilt: AtomicBool::new(false),
            own: Mutex::default(),
            reading: Mutex::default(),
            digests: Default::default(),
        })
    }

    /// Notes that it is rebuilt in this build, unless it is [settled](Self::settle). To be called before
    /// any dependent is compared.
    pub fn expect_rebuild(&self) {
        self.is_rebuilt.store(true, SeqCst);
    }

    /// Reads the metadata, which is complete. To be called before any dependent starts.
    pub fn metadata_written(&self) {
        if let Some(metadata) = self.is.metadata {
            self.own().metadata = Digest::of_file(&self.is.outputs[metadata]).ok();
        }
    }

    /// Digests the outputs, which are complete, writes the ledger entry, and makes the digests available
    /// to dependents. Without `inputs` the unit is rebuilt whenever it is dirty.
    ///
    /// # Errors
    ///
    /// If something cannot be read or written. Then dependents count it as changed, and there is no
    /// entry.
    pub fn made(&self, fingerprint: u64, inputs: Option<&Inputs>) -> io::Result<()> {
        let invoked = Stamp::of(&self.is.invoked)?.modified;
        Entry::write(&self.is.invoked, || {
            let mut entry = self.entry_of_outputs()?;
            entry.fingerprint = fingerprint;
            entry.read = inputs.and_then(|inputs| self.read(&entry.outputs, inputs, invoked));
            if !self.publish(&entry) {
                return Err(io::Error::other("announced metadata has changed"));
            }
            Ok(entry)
        })?;
        Ok(())
    }

    /// Returns an entry about the outputs as they are, whichever cargo has made them.
    fn entry_of_outputs(&self) -> io::Result<Entry> {
        let outputs = self.is.outputs.iter().map(|path| Output::of(path));
        Ok(Entry {
            compiler: self.is.compiler,
            outputs: outputs.collect::<io::Result<_>>()?,
            ..Entry::new(&self.is.invoked)
        })
    }

    /// Makes the digests of an entry available to dependents. Returns false if other metadata was
    /// available before.
    fn publish(&self, entry: &Entry) -> bool {
        let digests = entry.outputs.iter().map(|output| output.digest);
        let all = match self.is.kind {
            UnitKind::ProcMacro | UnitKind::BuildScriptRun => entry.invocation,
            UnitKind::Library | UnitKind::Executable => Digest::chain("outputs", digests),
        };
        let metadata = match self.is.metadata.and_then(|at| entry.outputs.get(at)) {
            Some(output) => output.digest,
            None => all,
        };
        let mut own = self.own();
        let is_as_announced = *own.metadata.get_or_insert(metadata) == metadata;
        if is_as_announced {
            own.all = Some(all);
        }
        is_as_announced
    }

    /// Returns the entry of the last invocation, if it is about outputs of this compiler that were given
    /// the fingerprint `fingerprint`.
    pub fn recorded(&self, fingerprint: u64) -> Option<Recorded> {
        let entry = Entry::read(&self.is.invoked)?;
        let is_about = entry.compiler == self.is.compiler
            && entry.fingerprint == fingerprint
            && entry.outputs.len() == self.is.outputs.len();
        let read = entry.read.filter(|_| is_about)?;
        Some(Recorded { entry, read })
    }

    /// Compares the inputs of the unit and its own outputs with the ledger entry. `is_all_ready` tells
    /// that all outputs that it links are ready.
    pub fn compare(&self, recorded: &Recorded, inputs: &Inputs, is_all_ready: bool) -> Verdict {
        let Recorded { entry, read } = recorded;
        let is_same = |now: Option<Digest>, then: Option<Digest>| now.is_some() && now == then;
        if self.compiled() != Some(read.compiled)
            || !is_same(self.inputs(inputs, Time::MAX), read.inputs)
            || self.reads_native(&entry.outputs, inputs)
                && !is_same(inputs.native(Time::MAX), read.native)
        {
            return Verdict::Changed;
        }
        if self.is.is_linked {
            if !is_all_ready {
                return Verdict::SameMetadata;
            }
            if !is_same(self.linked(), read.linked) {
                return Verdict::Changed;
            }
        }
        let is_there = |(path, output): (&PathBuf, &Output)| {
            let now = output.refreshed(path, entry.hashed_at);
            now.is_ok_and(|now| now.digest == output.digest)
        };
        if std::iter::zip(&self.is.outputs, &entry.outputs).all(is_there) {
            Verdict::Unchanged
        } else {
            Verdict::Changed
        }
    }

    /// Raises the time of an output so that nothing that the unit read is newer: that is all that the
    /// released cargo looks at. Times in the future stay, and the unit dirty.
    ///
    /// The metadata keeps its time if there is another output, so that units that read only metadata
    /// need not be looked at.
    pub fn raise_modified(&self) {
        let modified = |path: &Path| paths::mtime(path).ok();
        let Some(newest) = self.is.outputs.iter().max_by_key(|path| modified(path)) else {
            return;
        };
        let read = self.is.edges.iter().flat_map(|edge| {
            let below = &edge.outputs.is;
            let metadata = below.metadata.filter(|_| edge.only_metadata);
            let outputs = below.outputs.iter().enumerate();
            outputs.filter(move |(at, _)| metadata.is_none_or(|it| it == *at))
        });
        let read = read.filter_map(|(_, path)| modified(path)).max();
        if let (Some(own), Some(read)) = (modified(newest), read)
            && own < read
            && read <= SystemTime::now().into()
        {
            paths::set_file_time_no_err(newest, read);
        }
    }

    /// Makes the digests of a unit available to dependents that was found [unchanged](Verdict::Unchanged), and writes its entry
    /// for the next time. `fingerprint` was written, and times were raised.
    ///
    /// # Errors
    ///
    /// If something cannot be read or written. Then there is no entry about this fingerprint.
    pub fn settle(&self, recorded: &Recorded, fingerprint: u64) -> io::Result<()> {
        self.publish(&recorded.entry);
        Entry::write(&self.is.invoked, || {
            let mut entry = Entry {
                fingerprint,
                ..recorded.entry.clone()
            };
            for (path, output) in std::iter::zip(&self.is.outputs, &mut entry.outputs) {
                output.stamp = Stamp::of(path)?;
            }
            Ok(entry)
        })?;
        Ok(())
    }

    /// What the unit reads, now that everything below it is ready. Files that were changed after its
    /// compiler was `invoked` may not be what it has read.
    fn read(&self, outputs: &[Output], inputs: &Inputs, invoked: Time) -> Option<Read> {
        let linked = if self.is.is_linked {
            Some(self.linked()?)
        } else {
            None
        };
        Some(Read {
            compiled: self.compiled()?,
            linked,
            inputs: self.inputs(inputs, invoked),
            native: if self.reads_native(outputs, inputs) {
                inputs.native(invoked)
            } else {
                None
            },
        })
    }

    /// Whether the search path for native libraries was read when these outputs were made.
    fn reads_native(&self, outputs: &[Output], inputs: &Inputs) -> bool {
        let bundles = outputs.iter().any(|output| output.has_native_code);
        self.is.is_linked || bundles || inputs.has_crate_dirs()
    }

    /// What rustc reads of dependencies when it compiles.
    fn compiled(&self) -> Option<Digest> {
        self.sum("compiled", |edge| {
            let has_metadata = edge.outputs.is.metadata.is_some();
            let only_metadata = edge.only_metadata || self.is.is_linked && has_metadata;
            Some(if only_metadata {
                Reads::Metadata
            } else {
                Reads::All
            })
        })
    }

    /// What the linker reads of dependencies.
    fn linked(&self) -> Option<Digest> {
        self.sum("linked", |_| Some(Reads::AllBelow))
    }

    /// What rustc and the macros that it expands read beside dependencies. Nothing tells what a macro
    /// reads, so all files of the package and of the macro's count, and the environment.
    fn inputs(&self, inputs: &Inputs, before: Time) -> Option<Digest> {
        let packages = self.macro_packages.as_ref();
        let packages = packages.map(|packages| packages.iter().chain(&self.is.package_root));
        inputs.compiled(packages, before)
    }

    /// What dependencies show, whatever their order; those that are not read are `None`.
    fn sum(&self, purpose: &str, reads: impl Fn(&Edge) -> Option<Reads>) -> Option<Digest> {
        let mut digests = Vec::with_capacity(self.is.edges.len());
        for edge in &self.is.edges {
            if let Some(reads) = reads(edge) {
                digests.push((edge.name, edge.outputs.digest_for(reads)?));
            }
        }
        digests.sort_unstable();
        let links = digests
            .into_iter()
            .flat_map(|(name, digests)| [name, digests]);
        Some(Digest::chain(purpose, links))
    }

    /// Returns the digest of what a dependent reads of it. `None` if that is not known.
    fn digest_for(&self, reads: Reads) -> Option<Digest> {
        let place = &self.digests[reads as usize];
        if let Some(digests) = place.get() {
            return Some(*digests);
        }
        let own = self.own_outputs(reads)?;
        let below = match (self.is.kind, reads) {
            (UnitKind::Executable | UnitKind::ProcMacro | UnitKind::BuildScriptRun, _) => None,
            (UnitKind::Library, Reads::AllBelow) => Some(self.linked()?),
            (UnitKind::Library, Reads::Metadata | Reads::All) => Some(
                // A script's run shows in what its own package is compiled to.
                self.sum("metadata", |edge| {
                    (edge.outputs.is.kind != UnitKind::BuildScriptRun).then_some(Reads::Metadata)
                })?,
            ),
        };
        let digests = Digest::chain("shown", [own].into_iter().chain(below));
        Some(*place.get_or_init(|| digests))
    }

    fn own_outputs(&self, reads: Reads) -> Option<Digest> {
        let known = |own: MutexGuard<'_, OwnDigests>| match reads {
            Reads::Metadata => own.metadata,
            Reads::All | Reads::AllBelow => own.all,
        };
        let own = known(self.own());
        own.or_else(|| {
            self.read_earlier_outputs();
            known(self.own())
        })
    }

    /// Digests outputs of an earlier build. If no entry is about them, one is written, so that they need
    /// not be read the next time.
    fn read_earlier_outputs(&self) {
        if self.is_rebuilt.load(SeqCst) {
            return;
        }
        let _guard = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.own().all.is_some() {
            return;
        }
        let entry = match self.earlier_entry() {
            Some(entry) => Some(entry),
            None => self.write_unknown().ok(),
        };
        if let Some(entry) = entry {
            self.publish(&entry);
        }
    }

    /// The entry of outputs that an earlier build has made, as they are now. `None` if there is none,
    /// or a program is not the one that was made.
    fn earlier_entry(&self) -> Option<Entry> {
        let mut entry = Entry::read(&self.is.invoked)?;
        if entry.outputs.len() != self.is.outputs.len() {
            return None;
        }
        for (path, output) in std::iter::zip(&self.is.outputs, &mut entry.outputs) {
            let now = output.refreshed(path, entry.hashed_at).ok()?;
            if self.is.kind != UnitKind::Library && now.digest != output.digest {
                return None;
            }
            *output = now;
        }
        Some(entry)
    }

    fn write_unknown(&self) -> io::Result<Entry> {
        Entry::write(&self.is.invoked, || self.entry_of_outputs())
    }

    fn own(&self) -> MutexGuard<'_, OwnDigests> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the paths of the unit's own outputs.
    pub fn paths(&self) -> &[PathBuf] {
        &self.is.outputs
    }
}

/// The packages of all procedural macros that a unit may expand: its own dependencies, and those that
/// libraries below re-export.
fn macro_packages(unit: &UnitFiles) -> Option<Vec<PathBuf>> {
    let mut packages = Vec::new();
    let mut has_macros = false;
    for Edge { outputs, .. } in &unit.edges {
        match (outputs.is.kind, &outputs.macro_packages) {
            (UnitKind::ProcMacro, _) => {
                has_macros = true;
                packages.extend(outputs.is.package_root.clone());
            }
            (UnitKind::Library, Some(below)) => {
                has_macros = true;
                packages.extend(below.iter().cloned());
            }
            _ => {}
        }
    }
    packages.sort_unstable();
    packages.dedup();
    has_macros.then_some(packages)
}
