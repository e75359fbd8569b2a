//! The outputs of one unit, and whether it has to be rebuilt.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Once, OnceLock};
use std::time::SystemTime;

use cargo_util::paths;

use super::Digest;
use super::inputs::Inputs;
use super::ledger::{Entry, Output};
use super::stamp::{Stamp, Time};

/// A unit and its files, as known before the build.
#[derive(Debug)]
pub struct UnitFiles {
    /// What dependents do with it.
    pub kind: UnitKind,
    /// The files that dependents, users or Cargo read.
    pub outputs: Vec<PathBuf>,
    /// The index of the metadata in `outputs`.
    pub metadata: Option<usize>,
    /// Whether it is linked, or reads the objects of its dependencies in another way.
    pub is_linked: bool,
    /// The direct dependencies.
    pub edges: Vec<Edge>,
    /// A hash of the versions of rustc and cargo.
    pub compiler: u64,
    /// The timestamp of the last invocation, which holds the [ledger entry](super::ledger).
    pub invoked: PathBuf,
    /// The root of its package, if files in it may change.
    pub package_root: Option<PathBuf>,
}

/// What dependents do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// Compilers read it and its dependencies.
    Library,
    /// Nothing below it is read.
    Executable,
    /// rustc runs it. It may read anything.
    ProcMacro,
    /// Cargo has run it. It may read and write anything.
    BuildScriptRun,
}

/// A dependency of a unit.
#[derive(Clone, Debug)]
pub struct Edge {
    /// How the unit names it.
    pub name: Digest,
    /// Whether nothing but the metadata is read.
    pub only_metadata: bool,
    /// The dependency.
    pub outputs: Arc<UnitOutputs>,
}

/// Whether a unit has to be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An input may have changed.
    Changed,
    /// What rustc reads is the same. What is linked has to be compared when it is ready.
    SameMetadata,
    /// No input has changed.
    Unchanged,
}

/// A unit, and digests of its inputs and outputs as soon as they are known in this build.
#[derive(Debug)]
pub struct UnitOutputs {
    files: UnitFiles,
    /// The [package roots](UnitFiles::package_root) of procedural macros that it may expand.
    macro_packages: BTreeSet<Option<PathBuf>>,
    /// Completed when outputs of an earlier build were read, or will not be because they are rebuilt.
    earlier_read: Once,
    /// Of its own metadata, or of all its outputs if it has none.
    metadata: OnceLock<Digest>,
    /// Of all its own outputs.
    all: OnceLock<Digest>,
    linked: OnceLock<Digest>,
    metadata_below: OnceLock<Digest>,
}

impl UnitOutputs {
    /// Creates a unit that an earlier build may have made.
    pub fn new(files: UnitFiles) -> Arc<Self> {
        // It may expand those that libraries below re-export.
        let macros = |Edge { outputs, .. }: &Edge| match outputs.files.kind {
            UnitKind::ProcMacro => BTreeSet::from([outputs.files.package_root.clone()]),
            UnitKind::Library => outputs.macro_packages.clone(),
            UnitKind::Executable | UnitKind::BuildScriptRun => BTreeSet::new(),
        };
        Arc::new(UnitOutputs {
            macro_packages: files.edges.iter().flat_map(macros).collect(),
            files,
            earlier_read: Once::new(),
            metadata: OnceLock::new(),
            all: OnceLock::new(),
            linked: OnceLock::new(),
            metadata_below: OnceLock::new(),
        })
    }

    /// Returns the paths of its own outputs.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files.outputs
    }

    /// Keeps dependents from reading outputs of an earlier build: this one will rebuild the unit or
    /// [mark it fresh](Self::mark_fresh). To be called before any dependent is compared.
    pub fn expect_rebuild(&self) {
        self.earlier_read.call_once(|| {});
    }

    /// Reads the metadata, which is complete. To be called before any dependent starts.
    pub fn metadata_written(&self) {
        if let Some(at) = self.files.metadata
            && let Ok(digest) = Digest::of_file(&self.files.outputs[at])
        {
            self.metadata.get_or_init(|| digest);
        }
    }

    /// Digests the outputs, which are complete, for dependents and the ledger entry. Without `inputs` the
    /// unit is rebuilt whenever it is dirty. After an error dependents are rebuilt, and there is no entry.
    pub fn made(&self, fingerprint: u64, inputs: Option<&Inputs>) -> io::Result<Entry> {
        let invoked = Stamp::of(&self.files.invoked)?.modified;
        Entry::write(&self.files.invoked, || {
            let mut entry = self.entry_of_outputs()?;
            entry.fingerprint = fingerprint;
            if let Some(inputs) = inputs {
                entry.compiled = self.compiled();
                entry.linked = self.files.is_linked.then(|| self.linked()).flatten();
                // A file that was changed after the start may not be what the compiler has read.
                entry.inputs = self.inputs(inputs, &entry.outputs, invoked);
            }
            if !self.publish(&entry) {
                return Err(io::Error::other("announced metadata has changed"));
            }
            Ok(entry)
        })
    }

    /// Returns the entry of the last invocation, if its inputs are known and it is about this compiler and
    /// this fingerprint.
    pub fn recorded(&self, fingerprint: u64) -> Option<Entry> {
        let entry = Entry::read(&self.files.invoked)?;
        let is_about = (entry.compiler, entry.fingerprint) == (self.files.compiler, fingerprint);
        (is_about && entry.inputs.is_some()).then_some(entry)
    }

    /// Compares inputs and outputs with the ledger entry. `is_all_ready` if all that is linked is ready.
    pub fn compare(&self, recorded: &Entry, inputs: &Inputs, is_all_ready: bool) -> Verdict {
        let is_same = |now: Option<Digest>, then: Option<Digest>| now.is_some() && now == then;
        let inputs = || self.inputs(inputs, &recorded.outputs, Time::MAX);
        if !is_same(self.compiled(), recorded.compiled) || !is_same(inputs(), recorded.inputs) {
            return Verdict::Changed;
        }
        if self.files.is_linked && !is_all_ready {
            return Verdict::SameMetadata;
        }
        if self.files.is_linked && !is_same(self.linked(), recorded.linked) {
            return Verdict::Changed;
        }
        match recorded.clone().refreshed(&self.files.outputs, true) {
            Some(_) => Verdict::Unchanged,
            None => Verdict::Changed,
        }
    }

    /// Raises the time of the newest output to that of the newest file that the unit read, because the
    /// released cargo compares nothing else. Not to a time in the future: the unit stays dirty. The metadata
    /// keeps its time if there is another output, so units that read only metadata stay fresh.
    pub fn raise_modified(&self) {
        let modified = |path: &PathBuf| paths::mtime(path).ok();
        let Some(newest) = self.files.outputs.iter().max_by_key(|it| modified(it)) else {
            return;
        };
        let read = self.files.edges.iter().flat_map(|edge| {
            let dep = &edge.outputs.files;
            match dep.metadata {
                Some(at) if edge.only_metadata => &dep.outputs[at..=at],
                _ => &dep.outputs,
            }
        });
        if let (Some(own), Some(read)) = (modified(newest), read.filter_map(modified).max())
            && own < read
            && read <= SystemTime::now().into()
        {
            paths::set_file_time_no_err(newest, read);
        }
    }

    /// Makes the digests of an [unchanged](Verdict::Unchanged) unit available to dependents, and writes its
    /// entry for the next build, after `fingerprint` was written and times were raised. After an error there
    /// is no entry about this fingerprint.
    pub fn mark_fresh(&self, recorded: &Entry, fingerprint: u64) -> io::Result<Entry> {
        self.publish(recorded);
        Entry::write(&self.files.invoked, || {
            let mut entry = recorded.clone();
            entry.fingerprint = fingerprint;
            for (path, output) in std::iter::zip(&self.files.outputs, &mut entry.outputs) {
                output.stamp = Stamp::of(path)?;
            }
            Ok(entry)
        })
    }

    /// Returns an entry about the outputs as they are, whichever cargo has made them.
    fn entry_of_outputs(&self) -> io::Result<Entry> {
        let files = &self.files;
        Entry::new(&files.invoked, files.compiler, &files.outputs)
    }

    /// Makes the digests of an entry available to dependents. Returns false if others have been.
    fn publish(&self, entry: &Entry) -> bool {
        let digests: Vec<_> = entry.outputs.iter().map(|output| output.digest).collect();
        let metadata = self.files.metadata.and_then(|at| digests.get(at).copied());
        let all = match self.files.kind {
            UnitKind::ProcMacro | UnitKind::BuildScriptRun => entry.invocation,
            UnitKind::Library | UnitKind::Executable => Digest::of_value(&digests),
        };
        let metadata = metadata.unwrap_or(all);
        *self.metadata.get_or_init(|| metadata) == metadata && *self.all.get_or_init(|| all) == all
    }

    /// Returns what rustc reads of dependencies when it compiles.
    fn compiled(&self) -> Option<Digest> {
        self.sum(&OnceLock::new(), |edge| {
            let has_metadata = edge.outputs.files.metadata.is_some();
            let only_metadata = edge.only_metadata || self.files.is_linked && has_metadata;
            edge.outputs.shown(only_metadata, Self::metadata_below)
        })
    }

    /// Returns what the linker reads of dependencies.
    fn linked(&self) -> Option<Digest> {
        self.sum(&self.linked, |edge| edge.outputs.shown(false, Self::linked))
    }

    /// Returns what rustc reads of dependencies when it compiles a dependent.
    fn metadata_below(&self) -> Option<Digest> {
        self.sum(&self.metadata_below, |edge| match edge.outputs.files.kind {
            // A script's run shows in what its own package is compiled to.
            UnitKind::BuildScriptRun => Some(edge.name),
            _ => edge.outputs.shown(true, Self::metadata_below),
        })
    }

    /// Returns what the unit reads beside dependencies. Macros may read any file of their packages or its own.
    fn inputs(&self, inputs: &Inputs, outputs: &[Output], before: Time) -> Option<Digest> {
        let packages = self.macro_packages.iter().chain([&self.files.package_root]);
        let packages = (!self.macro_packages.is_empty()).then(|| packages.flatten());
        let has_native_code = outputs.iter().any(|output| output.has_native_code);
        inputs.digest(packages, self.files.is_linked || has_native_code, before)
    }

    /// Combines what dependencies show, whatever their order, and keeps the result in `known`.
    fn sum(
        &self,
        known: &OnceLock<Digest>,
        shown: impl Fn(&Edge) -> Option<Digest>,
    ) -> Option<Digest> {
        if let Some(digest) = known.get() {
            return Some(*digest);
        }
        let links = self.files.edges.iter();
        let links = links.map(|edge| Some((edge.name, shown(edge)?)));
        let mut links = links.collect::<Option<Vec<_>>>()?;
        links.sort_unstable_by_key(|(name, digest)| (*name.0.as_bytes(), *digest.0.as_bytes()));
        Some(*known.get_or_init(|| Digest::of_value(&links)))
    }

    /// Returns what a dependent reads of the unit and, if it is a library, of what is `below`.
    fn shown(&self, only_metadata: bool, below: fn(&Self) -> Option<Digest>) -> Option<Digest> {
        let own = if only_metadata {
            &self.metadata
        } else {
            &self.all
        };
        if own.get().is_none() {
            self.earlier_read.call_once(|| self.read_earlier());
        }
        let own = own.get()?;
        let below = if self.files.kind == UnitKind::Library {
            Some(below(self)?)
        } else {
            None
        };
        Some(Digest::of_value(&(own, below)))
    }

    /// Digests outputs of an earlier build. Writes an entry if there is none, so that they need not be read
    /// the next time.
    fn read_earlier(&self) {
        let invoked = &self.files.invoked;
        let is_program = self.files.kind != UnitKind::Library;
        let entry = Entry::read(invoked)
            .and_then(|it| it.refreshed(&self.files.outputs, is_program))
            .or_else(|| Entry::write(invoked, || self.entry_of_outputs()).ok());
        if let Some(entry) = entry {
            self.publish(&entry);
        }
    }
}
