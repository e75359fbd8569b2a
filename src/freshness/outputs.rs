//! The outputs of one unit, and whether it has to be rebuilt.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread;
use std::time::SystemTime;

use cargo_util::paths;

use super::Digest;
use super::content::{Files, Reader};
use super::inputs::Inputs;
use super::ledger::{Entry, Output};
use super::stamp::{self, Stamp, Stamps, Time};
use super::untracked::{Environment, Untracked, UntrackedFiles};
use super::watched::Watched;

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
    /// Of where it is, of what compilers and build scripts are told of its package, and of the compiler's libraries.
    /// What was recorded about another place does not count.
    pub place: Digest,
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
    /// The [package roots](UnitFiles::package_root) of procedural macros that it may expand, and of what is below
    /// them.
    macro_packages: BTreeSet<Option<PathBuf>>,
    /// Completed when outputs of an earlier build were read, or will not be because they are rebuilt.
    earlier_read: Once,
    /// Of its own metadata, or of all its outputs if it has none.
    metadata: OnceLock<Digest>,
    /// Of all its own outputs.
    all: OnceLock<Digest>,
    linked: OnceLock<Digest>,
    metadata_below: OnceLock<Digest>,
    /// What the files of a build script have before it is started, as far as an earlier run has named them.
    before: OnceLock<Before>,
}

#[derive(Debug, Default)]
struct Before {
    watched: BTreeMap<PathBuf, Digest>,
    untracked: Option<Digest>,
}

impl UnitOutputs {
    /// Creates a unit that an earlier build may have made.
    pub fn new(files: UnitFiles) -> Arc<Self> {
        // It may expand those that libraries below re-export.
        let macros = |Edge { outputs, .. }: &Edge| match outputs.files.kind {
            UnitKind::ProcMacro => outputs.packages_from_here(),
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
            before: OnceLock::new(),
        })
    }

    /// Returns the package roots of the unit and of all below it.
    fn packages_from_here(&self) -> BTreeSet<Option<PathBuf>> {
        let below = self.units_below(|_| true).into_iter();
        let units = below.map(|unit| &**unit).chain([self]);
        units.map(|unit| unit.files.package_root.clone()).collect()
    }

    /// Returns the direct dependencies, and all below those that `descends` is true for.
    fn units_below(&self, descends: impl Fn(&Self) -> bool) -> Vec<&Arc<Self>> {
        let mut units = Vec::new();
        let mut seen = HashSet::new();
        let mut edges: Vec<&Edge> = self.files.edges.iter().collect();
        while let Some(Edge { outputs, .. }) = edges.pop() {
            if seen.insert(Arc::as_ptr(outputs)) {
                units.push(outputs);
                if descends(outputs) {
                    edges.extend(&outputs.files.edges);
                }
            }
        }
        units
    }

    /// Returns the paths of its own outputs.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files.outputs
    }

    /// Keeps dependents from reading outputs of an earlier build: this one will rebuild the unit or
    /// [mark it fresh](Self::mark_fresh). To be called before any dependent is compared.
    pub fn expect_rebuild(&self) {
        self.earlier_read.call_once(|| {});
        if self.files.kind == UnitKind::BuildScriptRun {
            self.before.get_or_init(|| self.read_before());
        }
    }

    fn read_before(&self) -> Before {
        let earlier = Entry::read(&self.files.invoked);
        let (Some(earlier), Some(root)) = (earlier, &self.files.package_root) else {
            return Before::default();
        };
        let files = &mut self.uncached();
        let watched = earlier.watched.as_ref();
        Before {
            watched: watched.map_or_else(BTreeMap::new, |it| it.contents(root, files)),
            untracked: self.untracked_by_script().digest_of(files),
        }
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
    /// unit is rebuilt whenever it is dirty. `watched` is called for what a build script watches. After an
    /// error dependents are rebuilt, and there is no entry.
    pub fn made(
        &self,
        fingerprint: u64,
        inputs: Option<&Inputs>,
        watched: impl FnOnce(&Reader, &BTreeMap<PathBuf, Digest>) -> Option<Watched>,
    ) -> io::Result<Entry> {
        let started = Stamp::of(&self.files.invoked)?.modified;
        Entry::write(&self.files.invoked, |now| {
            let mut entry = self.entry_of_outputs(now)?;
            entry.fingerprint = fingerprint;
            let reader = Reader {
                is_compiler: self.files.kind != UnitKind::BuildScriptRun,
                started,
                now,
            };
            let before = self.before.get_or_init(Before::default);
            entry.watched = watched(&reader, &before.watched);
            if let Some(inputs) = inputs {
                entry.compiled = self.compiled();
                entry.linked = self.files.is_linked.then(|| self.linked()).flatten();
                // A file that was changed after the start may not be what the compiler has read.
                entry.inputs = self.inputs(inputs, &entry.outputs, started);
                entry.packages = self.packages_digest(started);
            }
            let untracked = match inputs {
                Some(inputs) => {
                    let reads_native = self.reads_native(&entry.outputs);
                    inputs.untracked(self.packages(), reads_native)
                }
                None if reader.is_compiler => None,
                None => Some(self.untracked_by_script()),
            };
            let place = self.files.place;
            entry.untracked = untracked.and_then(|it| it.record(place, &reader, before.untracked));
            if !self.publish(&entry) {
                return Err(io::Error::other("announced metadata has changed"));
            }
            Ok(entry)
        })
    }

    /// Returns what a build script may have read and Cargo does not track.
    fn untracked_by_script(&self) -> UntrackedFiles {
        UntrackedFiles {
            packages: self.packages_from_here().into_iter().flatten().collect(),
            with_packages_below: true,
            repository: self.files.package_root.clone(),
            environment: Environment::OfAnyProgram,
            ..UntrackedFiles::default()
        }
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
        self.read_earlier_below();
        let inputs = || self.inputs(inputs, &recorded.outputs, Time::MAX);
        if !is_same(self.compiled(), recorded.compiled)
            || !is_same(inputs(), recorded.inputs)
            || !(is_same(self.packages_digest(Time::MAX), recorded.packages)
                || self.has_same_packages(recorded))
        {
            return Verdict::Changed;
        }
        if self.files.is_linked && !is_all_ready {
            return Verdict::SameMetadata;
        }
        if self.files.is_linked && !is_same(self.linked(), recorded.linked) {
            return Verdict::Changed;
        }
        match recorded.refreshed(&self.files.outputs, true, recorded.hashed_at) {
            Some(_) => Verdict::Unchanged,
            None => Verdict::Changed,
        }
    }

    /// Raises the times of the outputs to that of the newest file that the unit may have read, as if it had been
    /// rebuilt: what is above it and no part of this build is compared in the next one, and the released cargo
    /// compares nothing else. Not to a time in the future: the unit stays dirty.
    pub fn raise_modified(&self) {
        let modified = |path: &PathBuf| paths::mtime(path).ok();
        let dependencies = self.files.edges.iter().map(|edge| &edge.outputs.files);
        // Metadata that rustc has left as it was gets the time of its invocation only when rustc ends.
        let read = dependencies.flat_map(|dep| dep.outputs.iter().chain([&dep.invoked]));
        let newest = read.filter_map(modified).max();
        let Some(newest) = newest.filter(|it| *it <= SystemTime::now().into()) else {
            return;
        };
        for output in &self.files.outputs {
            if modified(output).is_some_and(|own| own < newest) {
                paths::set_file_time_no_err(output, newest);
            }
        }
    }

    /// Makes the digests of an [unchanged](Verdict::Unchanged) unit available to dependents, and writes its
    /// entry for the next build, after `fingerprint` was written and times were raised. After an error there
    /// is no entry about this fingerprint.
    pub fn mark_fresh(&self, recorded: &Entry, fingerprint: u64) -> io::Result<Entry> {
        self.publish(recorded);
        Entry::write(&self.files.invoked, |now| {
            let mut entry = recorded.clone();
            entry.fingerprint = fingerprint;
            entry.hashed_at = now;
            for (path, output) in std::iter::zip(&self.files.outputs, &mut entry.outputs) {
                output.stamp = Stamp::of(path)?;
            }
            Ok(entry)
        })
    }

    /// Returns an entry about the outputs as they are, whichever cargo has made them.
    fn entry_of_outputs(&self, now: Time) -> io::Result<Entry> {
        let files = &self.files;
        Entry::new(&files.invoked, files.compiler, &files.outputs, now)
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

    /// Returns what the unit reads beside dependencies and [`packages`](Self::packages).
    fn inputs(&self, inputs: &Inputs, outputs: &[Output], before: Time) -> Option<Digest> {
        let expands_macros = !self.macro_packages.is_empty();
        let digest = inputs.digest(expands_macros, self.reads_native(outputs), before)?;
        Some(Digest::of_value(&(self.files.place, digest)))
    }

    fn reads_native(&self, outputs: &[Output]) -> bool {
        self.files.is_linked || outputs.iter().any(|output| output.has_native_code)
    }

    /// Returns the packages whose files macros that it expands may read: the macros' and its own.
    fn packages(&self) -> Vec<PathBuf> {
        if self.macro_packages.is_empty() {
            return Vec::new();
        }
        let packages = self.macro_packages.iter().chain([&self.files.package_root]);
        packages.flatten().cloned().collect()
    }

    /// Returns a digest of their stamps. `None` if a file was changed at `before` or later.
    fn packages_digest(&self, before: Time) -> Option<Digest> {
        let mut stamps = Stamps::new();
        for root in self.packages() {
            stamps.extend(stamp::of_package(&root)?);
        }
        stamp::digest(&stamps, before)
    }

    /// Returns whether these files have the content that was recorded.
    fn has_same_packages(&self, recorded: &Entry) -> bool {
        let is_same = |it: &Untracked| {
            it.files.packages == self.packages() && it.is_same(&mut self.uncached())
        };
        recorded.untracked.as_ref().is_some_and(is_same)
    }

    /// Returns files of which nothing is known.
    fn uncached(&self) -> Files {
        Files::new(self.files.invoked.parent().unwrap_or(Path::new("")))
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

    /// Digests outputs of an earlier build. Writes what was read, so that it need not be read the next time.
    fn read_earlier(&self) {
        let UnitFiles {
            invoked, outputs, ..
        } = &self.files;
        let is_library = self.files.kind == UnitKind::Library;
        let new = || Entry::write(invoked, |now| self.entry_of_outputs(now)).ok();
        let entry = match Entry::read(invoked) {
            Some(entry) if entry.is_current(outputs) => Some(entry),
            Some(entry) => {
                let same = |now| entry.refreshed(outputs, true, now);
                let other = || entry.refreshed(outputs, false, entry.hashed_at);
                Entry::write(invoked, |now| same(now).ok_or(io::ErrorKind::Other.into()))
                    .ok()
                    // A library that something else has changed is not what was compiled.
                    .or_else(|| is_library.then(other).flatten())
                    .or_else(new)
            }
            None => new(),
        };
        if let Some(entry) = entry {
            self.publish(&entry);
        }
    }

    /// Reads outputs of an earlier build on all processors: many, after they were restored.
    fn read_earlier_below(&self) {
        let mut units = self.units_below(|unit| unit.files.kind == UnitKind::Library);
        units.retain(|unit| !unit.earlier_read.is_completed());
        if units.len() < 2 {
            return;
        }
        let next = AtomicUsize::new(0);
        let read = || {
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                unit.earlier_read.call_once(|| unit.read_earlier());
            }
        };
        let processors = thread::available_parallelism().map_or(1, Into::into);
        thread::scope(|scope| {
            for _ in 0..units.len().min(processors) {
                scope.spawn(read);
            }
        });
    }
}
