//! A byte that a unit reads of a library changes the verdict, as does any program that runs again, and
//! nothing else does.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cargo_util::paths;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Digest, Edge, Entry, Inputs, UnitFiles, UnitKind, UnitOutputs, Verdict};

const FINGERPRINT: u64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A library with metadata.
    Library,
    /// Linked, and dependents read what is below it, too.
    Dylib,
    Macro,
    Script,
}

impl Unit {
    fn is_program(self) -> bool {
        matches!(self, Unit::Macro | Unit::Script)
    }

    fn is_linked(self) -> bool {
        matches!(self, Unit::Dylib | Unit::Macro)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum File {
    Metadata,
    Rest,
}

/// Each unit with its kind, and the earlier units that it depends on. The last one is compared.
#[derive(Clone, Debug)]
struct Graph(Vec<(Unit, Vec<usize>)>);

fn graphs() -> impl Strategy<Value = Graph> {
    let kind = prop_oneof![
        6 => Just(Unit::Library),
        1 => Just(Unit::Dylib),
        1 => Just(Unit::Macro),
        1 => Just(Unit::Script),
    ];
    let last = prop_oneof![Just(Unit::Library), Just(Unit::Dylib), Just(Unit::Macro)];
    let units = proptest::collection::vec((kind, any::<u16>()), 1..8);
    (units, (last, any::<u16>())).prop_map(|(mut units, last)| {
        units.push(last);
        let edges = |(id, (kind, bits)): (usize, (Unit, u16))| {
            let below = (0..id).filter(|dep| bits >> dep & 1 == 1);
            (kind, below.collect())
        };
        Graph(units.into_iter().enumerate().map(edges).collect())
    })
}

impl Graph {
    fn last(&self) -> usize {
        self.0.len() - 1
    }

    /// What of this unit and below is read by a unit that reads only metadata below.
    fn metadata_of(&self, unit: usize, read: &mut BTreeSet<(usize, File)>) {
        let (kind, deps) = &self.0[unit];
        read.insert((unit, File::Metadata));
        if *kind != Unit::Library {
            read.insert((unit, File::Rest));
        }
        if !kind.is_program() {
            for &dep in deps {
                if self.0[dep].0 != Unit::Script {
                    self.metadata_of(dep, read);
                }
            }
        }
    }

    fn all_of(&self, unit: usize, read: &mut BTreeSet<(usize, File)>) {
        let (kind, deps) = &self.0[unit];
        read.extend([(unit, File::Metadata), (unit, File::Rest)]);
        if !kind.is_program() {
            for &dep in deps {
                self.all_of(dep, read);
            }
        }
    }

    /// What the last unit reads when it is compiled, and when it is linked.
    fn read_by_last(&self) -> [BTreeSet<(usize, File)>; 2] {
        let mut read = [BTreeSet::new(), BTreeSet::new()];
        let (kind, deps) = self.0.last().unwrap();
        for &dep in deps {
            self.metadata_of(dep, &mut read[0]);
            if kind.is_linked() {
                self.all_of(dep, &mut read[1]);
            }
        }
        read
    }

    fn expected(&self, unit: usize, files: &[File]) -> [Verdict; 2] {
        let [compiled, linked] = self.read_by_last();
        let reads = |read: &BTreeSet<_>| files.iter().any(|&file| read.contains(&(unit, file)));
        if reads(&compiled) {
            return [Verdict::Changed; 2];
        }
        if !self.0[self.last()].0.is_linked() {
            return [Verdict::Unchanged; 2];
        }
        let in_the_end = if reads(&linked) {
            Verdict::Changed
        } else {
            Verdict::Unchanged
        };
        [Verdict::SameMetadata, in_the_end]
    }
}

/// A graph as it is on disk.
struct World {
    dir: TempDir,
    graph: Graph,
}

impl World {
    fn new(graph: Graph) -> Self {
        let world = World {
            dir: tempfile::tempdir().unwrap(),
            graph,
        };
        for unit in 0..world.graph.0.len() {
            fs::create_dir(world.path(unit, "")).unwrap();
            world.write(unit, File::Metadata, "at first");
            world.write(unit, File::Rest, "at first");
        }
        world
    }

    fn path(&self, unit: usize, name: &str) -> PathBuf {
        self.dir.path().join(unit.to_string()).join(name)
    }

    fn file(&self, unit: usize, file: File) -> PathBuf {
        self.path(
            unit,
            match file {
                File::Metadata => "it.rmeta",
                File::Rest => "it.rlib",
            },
        )
    }

    fn write(&self, unit: usize, file: File, text: &str) {
        fs::write(self.file(unit, file), format!("{text}: {file:?} of {unit}")).unwrap();
    }

    /// The units of a build. The dependencies of each are in the order that `order` makes.
    fn products(&self, order: impl Fn(&mut Vec<Edge>)) -> Vec<Arc<UnitOutputs>> {
        let mut products: Vec<Arc<UnitOutputs>> = Vec::new();
        for (unit, (kind, deps)) in self.graph.0.iter().enumerate() {
            let edge = |&dep: &usize| Edge {
                name: Digest::of_value(&dep),
                only_metadata: *kind == Unit::Library && self.graph.0[dep].0 == Unit::Library,
                outputs: Arc::clone(&products[dep]),
            };
            let mut edges: Vec<Edge> = deps.iter().map(edge).collect();
            order(&mut edges);
            products.push(UnitOutputs::new(UnitFiles {
                kind: match kind {
                    Unit::Library | Unit::Dylib => UnitKind::Library,
                    Unit::Macro => UnitKind::ProcMacro,
                    Unit::Script => UnitKind::BuildScriptRun,
                },
                outputs: vec![self.file(unit, File::Rest), self.file(unit, File::Metadata)],
                metadata: (*kind == Unit::Library).then_some(1),
                is_linked: kind.is_linked(),
                edges,
                compiler: 1,
                invoked: self.path(unit, "invoked.timestamp"),
                package_root: None,
                place: Digest::of_value("place"),
            }));
        }
        products
    }

    fn make_one(&self, outputs: &UnitOutputs, unit: usize) {
        paths::set_invocation_time(&self.path(unit, "")).unwrap();
        let inputs = Inputs::default();
        outputs
            .made(FINGERPRINT, Some(&inputs), |_, _| None)
            .unwrap();
    }

    /// A build that makes `units`.
    fn make(&self, units: impl Iterator<Item = usize> + Clone) -> Vec<Arc<UnitOutputs>> {
        let products = self.products(|_| {});
        for unit in units.clone() {
            products[unit].expect_rebuild();
        }
        for unit in units {
            self.make_one(&products[unit], unit);
        }
        products
    }

    fn make_all(&self) -> Entry {
        let made = self.make(0..self.graph.0.len());
        made.last().unwrap().recorded(FINGERPRINT).unwrap()
    }

    fn verdicts(&self, products: &[Arc<UnitOutputs>], recorded: &Entry) -> [Verdict; 2] {
        let last = products.last().unwrap();
        [false, true].map(|is_all_ready| last.compare(recorded, &Inputs::default(), is_all_ready))
    }
}

/// One of the units below the last one.
fn below(world: &World, unit: prop::sample::Index) -> usize {
    unit.index(world.graph.last())
}

const BOTH: [File; 2] = [File::Metadata, File::Rest];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn verdict_follows_what_is_read(
        graph in graphs(),
        unit in any::<prop::sample::Index>(),
        is_rest in any::<bool>(),
    ) {
        let world = World::new(graph);
        let known = world.make_all();
        let unit = below(&world, unit);
        let is_program = world.graph.0[unit].0.is_program();
        let file = if is_rest { File::Rest } else { File::Metadata };
        world.write(unit, file, "then");
        let products = world.make(unit..unit + 1);
        let expected = if is_program {
            world.graph.expected(unit, &BOTH)
        } else {
            world.graph.expected(unit, &[file])
        };
        prop_assert_eq!(world.verdicts(&products, &known), expected);

        // And back again: libraries are the same, programs are others.
        world.write(unit, file, "at first");
        let products = world.make(unit..unit + 1);
        let expected = if is_program {
            world.graph.expected(unit, &BOTH)
        } else {
            world.graph.expected(unit, &[])
        };
        prop_assert_eq!(world.verdicts(&products, &known), expected);
    }

    #[test]
    fn order_of_dependencies_does_not_matter(graph in graphs()) {
        let world = World::new(graph);
        let known = world.make_all();
        let products = world.products(|edges| edges.reverse());
        let expected = world.graph.expected(0, &[]);
        prop_assert_eq!(world.verdicts(&products, &known), expected);
    }

    #[test]
    fn outputs_of_another_cargo_are_read(
        graph in graphs(),
        unit in any::<prop::sample::Index>(),
    ) {
        let world = World::new(graph);
        let known = world.make_all();
        let unit = below(&world, unit);
        // To the same bytes.
        paths::set_invocation_time(&world.path(unit, "")).unwrap();
        let expected = if world.graph.0[unit].0.is_program() {
            world.graph.expected(unit, &BOTH)
        } else {
            world.graph.expected(unit, &[])
        };
        // The second time there is an entry, but it does not say what the unit was made of.
        for _ in 0..2 {
            let products = world.products(|_| {});
            prop_assert_eq!(world.verdicts(&products, &known), expected);
            prop_assert!(products[unit].recorded(FINGERPRINT).is_none());
        }
    }
}

/// A library below a library, both made.
fn two() -> (World, Entry) {
    let world = World::new(Graph(vec![
        (Unit::Library, vec![]),
        (Unit::Library, vec![0]),
    ]));
    let known = world.make_all();
    (world, known)
}

fn compare(outputs: &UnitOutputs, recorded: &Entry) -> Verdict {
    outputs.compare(recorded, &Inputs::default(), true)
}

#[test]
fn running_unit_shows_nothing() {
    let (world, known) = two();
    let products = world.products(|_| {});
    products[0].expect_rebuild();
    assert_eq!(compare(&products[1], &known), Verdict::Changed);
    products[0].metadata_written();
    assert_eq!(compare(&products[1], &known), Verdict::Unchanged);
}

#[test]
fn announced_metadata_must_not_change() {
    let (world, _) = two();
    let products = world.products(|_| {});
    products[0].expect_rebuild();
    products[0].metadata_written();
    world.write(0, File::Metadata, "then");
    paths::set_invocation_time(&world.path(0, "")).unwrap();
    assert!(
        products[0]
            .made(FINGERPRINT, Some(&Inputs::default()), |_, _| None)
            .is_err()
    );
    assert!(Entry::read(&world.path(0, "invoked.timestamp")).is_none());
}

#[test]
fn entry_is_about_one_invocation() {
    let (world, _) = two();
    let last = || world.products(|_| {}).pop().unwrap();
    assert!(last().recorded(FINGERPRINT).is_some());
    assert!(last().recorded(FINGERPRINT + 1).is_none());
    let path = world.path(1, "invoked.timestamp");
    let entry = Entry::read(&path).unwrap();
    let compiler = entry.compiler + 1;
    Entry::write(&path, |_| Ok(Entry { compiler, ..entry })).unwrap();
    assert!(last().recorded(FINGERPRINT).is_none());
    world.make(1..2);
    assert!(last().recorded(FINGERPRINT).is_some());
    paths::set_invocation_time(&world.path(1, "")).unwrap();
    assert!(last().recorded(FINGERPRINT).is_none());
}

#[test]
fn changed_outputs_are_noticed() {
    let (world, known) = two();
    let verdict = || compare(&world.products(|_| {})[1], &known);
    assert_eq!(verdict(), Verdict::Unchanged);
    world.write(1, File::Rest, "by hand");
    assert_eq!(verdict(), Verdict::Changed);
    world.write(1, File::Rest, "at first");
    assert_eq!(verdict(), Verdict::Unchanged);
    fs::remove_file(world.file(1, File::Metadata)).unwrap();
    assert_eq!(verdict(), Verdict::Changed);
}

#[test]
fn fresh_unit_has_the_new_fingerprint() {
    let (world, known) = two();
    let outputs = world.products(|_| {}).pop().unwrap();
    outputs.expect_rebuild();
    outputs.mark_fresh(&known, FINGERPRINT + 1).unwrap();
    assert!(outputs.recorded(FINGERPRINT).is_none());
    let known = outputs.recorded(FINGERPRINT + 1).unwrap();
    assert_eq!(compare(&outputs, &known), Verdict::Unchanged);
}

#[test]
fn fresh_macro_is_the_same_program() {
    let world = World::new(Graph(vec![
        (Unit::Library, vec![]),
        (Unit::Macro, vec![0]),
        (Unit::Library, vec![1]),
    ]));
    let known = world.make_all();
    let products = world.make(0..1);
    let macro_known = products[1].recorded(FINGERPRINT).unwrap();
    assert_eq!(compare(&products[1], &macro_known), Verdict::Unchanged);
    products[1].mark_fresh(&macro_known, FINGERPRINT).unwrap();
    assert_eq!(compare(&products[2], &known), Verdict::Unchanged);
    world.make_one(&world.products(|_| {})[1], 1);
    assert_eq!(
        compare(&world.products(|_| {})[2], &known),
        Verdict::Changed
    );
}

#[test]
fn replaced_macro_is_another_program() {
    let world = World::new(Graph(vec![(Unit::Macro, vec![]), (Unit::Library, vec![0])]));
    let known = world.make_all();
    world.write(0, File::Rest, "by hand");
    assert_eq!(
        compare(&world.products(|_| {})[1], &known),
        Verdict::Changed
    );
}

#[test]
fn times_stay_out_of_the_future() {
    let (world, _) = two();
    let set = |unit, file, seconds: i64| {
        let offset = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        let time = if seconds < 0 {
            now - offset
        } else {
            now + offset
        };
        let file = fs::File::options()
            .append(true)
            .open(world.file(unit, file));
        file.unwrap().set_modified(time).unwrap();
    };
    let is_raised = |seconds: i64| {
        for file in BOTH {
            set(1, file, -100);
        }
        set(0, File::Metadata, seconds);
        set(0, File::Rest, -200);
        let old = paths::mtime(&world.file(0, File::Rest)).unwrap();
        paths::set_file_time_no_err(world.path(0, "invoked.timestamp"), old);
        world.products(|_| {})[1].raise_modified();
        let of = |unit, file| paths::mtime(&world.file(unit, file)).unwrap();
        BOTH.map(|file| of(1, file) == of(0, File::Metadata)) == [true; 2]
    };
    assert!(is_raised(-50));
    assert!(!is_raised(-150));
    assert!(!is_raised(50));
}
