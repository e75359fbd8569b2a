//! Any byte that a unit reads changes what it has seen, and nothing else does.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::file::tests::set_modified;
use super::ledger::Record;
use super::{Description, Digest, Edge, Known, Product, Said, Verdict};

const FINGERPRINT: u64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A library with metadata.
    Library,
    /// Linked, and dependents read what is below it, too.
    Dylib,
    /// Linked, and dependents read nothing else.
    Macro,
    /// The run of a build script.
    Script,
}

/// Which of its files; of a script, what it said and what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum File {
    Metadata,
    Rest,
}

/// Each unit with its kind, and the earlier units that it depends on. The last one is what is asked
/// about.
#[derive(Clone, Debug)]
struct Graph(Vec<(Kind, Vec<usize>)>);

fn graphs() -> impl Strategy<Value = Graph> {
    let kind = prop_oneof![
        6 => Just(Kind::Library),
        1 => Just(Kind::Dylib),
        1 => Just(Kind::Macro),
        1 => Just(Kind::Script),
    ];
    proptest::collection::vec((kind, any::<u16>()), 1..9).prop_map(|units| {
        let edges = |(id, (kind, bits)): (usize, (Kind, u16))| {
            let below = (0..id).filter(|dep| bits >> dep & 1 == 1);
            (kind, below.collect())
        };
        Graph(units.into_iter().enumerate().map(edges).collect())
    })
}

impl Graph {
    /// What of this unit and below is read by one that reads only metadata below.
    fn metadata_of(&self, unit: usize, read: &mut BTreeSet<(usize, File)>) {
        let (kind, deps) = &self.0[unit];
        read.insert((unit, File::Metadata));
        if matches!(kind, Kind::Dylib | Kind::Macro) {
            read.insert((unit, File::Rest));
        }
        if !matches!(kind, Kind::Macro | Kind::Script) {
            for &dep in deps {
                self.metadata_of(dep, read);
            }
        }
    }

    fn all_of(&self, unit: usize, read: &mut BTreeSet<(usize, File)>) {
        let (kind, deps) = &self.0[unit];
        read.extend([(unit, File::Metadata), (unit, File::Rest)]);
        if !matches!(kind, Kind::Macro | Kind::Script) {
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
            // A run uses all of what it depends on, whatever that is.
            if self.0[dep].0 != Kind::Library || *kind == Kind::Script {
                read[0].insert((dep, File::Rest));
            }
            if matches!(kind, Kind::Dylib | Kind::Macro) {
                self.all_of(dep, &mut read[1]);
            }
        }
        read
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
            fs::create_dir_all(world.path(unit, "out")).unwrap();
            world.write(unit, File::Metadata, "at first");
            world.write(unit, File::Rest, "at first");
            fs::write(world.path(unit, "invoked"), "").unwrap();
            // As if that had been a while ago.
            let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
            set_modified(&world.path(unit, "invoked"), long_ago);
        }
        world
    }

    fn path(&self, unit: usize, name: &str) -> PathBuf {
        self.dir.path().join(unit.to_string()).join(name)
    }

    fn file(&self, unit: usize, file: File) -> PathBuf {
        match (self.graph.0[unit].0, file) {
            (Kind::Script, File::Metadata) => self.path(unit, "stdout"),
            (Kind::Script, File::Rest) => self.path(unit, "out/generated"),
            (_, File::Metadata) => self.path(unit, "it.rmeta"),
            (_, File::Rest) => self.path(unit, "it.rlib"),
        }
    }

    fn write(&self, unit: usize, file: File, text: &str) {
        fs::write(self.file(unit, file), format!("{text}: {file:?} of {unit}")).unwrap();
    }

    /// What a build of its own knows of it. The dependencies of each unit are in the order that `order`
    /// makes.
    fn products(&self, order: impl Fn(&mut Vec<Edge>)) -> Vec<Arc<Product>> {
        self.products_of(&self.graph, order)
    }

    /// As [`World::products`], for a build of some of the units.
    fn products_of(&self, graph: &Graph, order: impl Fn(&mut Vec<Edge>)) -> Vec<Arc<Product>> {
        let mut products: Vec<Arc<Product>> = Vec::new();
        for (unit, (kind, deps)) in graph.0.iter().enumerate() {
            let edge = |&dep: &usize| Edge {
                name: Digest::of_value(&dep),
                only_metadata: *kind == Kind::Library && graph.0[dep].0 == Kind::Library,
                product: Arc::clone(&products[dep]),
            };
            let mut edges: Vec<Edge> = deps.iter().map(edge).collect();
            order(&mut edges);
            let (metadata, rest) = (self.file(unit, File::Metadata), self.file(unit, File::Rest));
            products.push(Product::new(Description {
                outputs: match kind {
                    Kind::Library | Kind::Dylib => vec![rest, metadata],
                    Kind::Macro => vec![metadata, rest],
                    Kind::Script => vec![metadata],
                },
                metadata: (*kind == Kind::Library).then_some(1),
                out_dir: (*kind == Kind::Script).then(|| self.path(unit, "out")),
                is_linked: matches!(kind, Kind::Dylib | Kind::Macro),
                is_closed: matches!(kind, Kind::Macro | Kind::Script),
                edges,
                compiler: 1,
                invoked: self.path(unit, "invoked"),
                ledger: self.path(unit, "ledger"),
            }));
        }
        products
    }

    fn said(&self, unit: usize) -> Option<Said> {
        self.said_of(unit, None)
    }

    /// What a script has said if it has spoken of these paths.
    fn said_of<'a>(&self, unit: usize, paths: impl IntoIterator<Item = &'a str>) -> Option<Said> {
        let stdout = fs::read(self.path(unit, "stdout")).ok()?;
        Said::new(Digest::of_value(&stdout), paths, &self.path(unit, "out"))
    }

    /// Makes `units`, and says so in the ledgers.
    fn make(&self, units: impl Iterator<Item = usize> + Clone) -> Vec<Arc<Product>> {
        let products = self.products(|_| {});
        for unit in units.clone() {
            products[unit].will_be_made();
        }
        for unit in units {
            products[unit].made(FINGERPRINT, self.said(unit)).unwrap();
        }
        products
    }

    fn make_all(&self) -> Known {
        let made = self.make(0..self.graph.0.len());
        made.last().unwrap().known(FINGERPRINT).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_changes_is_seen_by_those_that_read_it(
        graph in graphs(),
        unit in any::<prop::sample::Index>(),
        is_rest in any::<bool>(),
    ) {
        let world = World::new(graph);
        let known = world.make_all();
        let last = world.graph.0.len() - 1;
        prop_assume!(last > 0);
        let unit = unit.index(last);
        let file = if is_rest { File::Rest } else { File::Metadata };
        world.write(unit, file, "then");
        let products = world.make(unit..unit + 1);

        let [compiled, linked] = world.graph.read_by_last();
        let is_metadata_same = !compiled.contains(&(unit, file));
        let is_linked = matches!(world.graph.0[last].0, Kind::Dylib | Kind::Macro);
        let expected = [
            match (is_metadata_same, is_linked) {
                (false, _) => Verdict::Changed,
                (true, true) => Verdict::SameMetadata,
                (true, false) => Verdict::Unchanged,
            },
            match is_metadata_same && !linked.contains(&(unit, file)) {
                true => Verdict::Unchanged,
                false => Verdict::Changed,
            },
        ];
        let verdict = |is_all_there| products[last].compare(&known, is_all_there);
        prop_assert_eq!([verdict(false), verdict(true)], expected);

        // And back again: what is read is the same, whoever has made it meanwhile.
        world.write(unit, file, "at first");
        let products = world.make(unit..unit + 1);
        prop_assert_eq!(products[last].compare(&known, true), Verdict::Unchanged);
    }

    #[test]
    fn neither_the_order_nor_the_time_matters(graph in graphs(), unit in any::<prop::sample::Index>()) {
        let world = World::new(graph);
        let known = world.make_all();
        let last = world.graph.0.len() - 1;
        // The same again, at another time.
        let again = unit.index(last + 1);
        if again != last {
            world.write(again, File::Metadata, "at first");
            world.write(again, File::Rest, "at first");
            world.make(again..again + 1);
        }
        let products = world.products(|edges| edges.reverse());
        prop_assert_eq!(products[last].compare(&known, true), Verdict::Unchanged);
    }

    #[test]
    fn what_nobody_has_noted_is_read(graph in graphs(), unit in any::<prop::sample::Index>()) {
        let world = World::new(graph);
        let known = world.make_all();
        let last = world.graph.0.len() - 1;
        prop_assume!(last > 0);
        // As if another cargo had made it, to the same bytes.
        let unit = unit.index(last);
        fs::remove_file(world.path(unit, "ledger")).unwrap();
        let products = world.products(|_| {});
        let is_script = world.graph.0[unit].0 == Kind::Script;
        let [compiled, linked] = world.graph.read_by_last();
        let is_read = compiled.union(&linked).any(|&(read, _)| read == unit);
        let expected = match is_script && is_read {
            // Nobody knows what it said.
            true => Verdict::Changed,
            false => Verdict::Unchanged,
        };
        prop_assert_eq!(products[last].compare(&known, true), expected);
        // Now it is noted, but nobody knows what it was made of.
        prop_assert!(!is_read || world.path(unit, "ledger").exists());
        prop_assert!(products[unit].known(FINGERPRINT).is_none());
    }
}

/// A library below a library, both made.
fn two() -> (World, Known) {
    let world = World::new(Graph(vec![
        (Kind::Library, vec![]),
        (Kind::Library, vec![0]),
    ]));
    let known = world.make_all();
    (world, known)
}

#[test]
fn what_is_being_made_shows_nothing_yet() {
    let (world, known) = two();
    let products = world.products(|_| {});
    products[0].will_be_made();
    assert_eq!(products[1].compare(&known, true), Verdict::Changed);
    products[0].metadata_written();
    assert_eq!(products[1].compare(&known, false), Verdict::Unchanged);
}

#[test]
fn metadata_that_changes_after_it_was_announced() {
    let (world, _) = two();
    let products = world.products(|_| {});
    products[0].will_be_made();
    products[0].metadata_written();
    world.write(0, File::Metadata, "then");
    assert!(products[0].made(FINGERPRINT, None).is_err());
    assert!(!world.path(0, "ledger").exists());
}

#[test]
fn a_ledger_is_about_one_invocation_one_fingerprint_and_one_compiler() {
    let (world, _) = two();
    let last = || world.products(|_| {}).pop().unwrap();
    assert!(last().known(FINGERPRINT).is_some());
    assert!(last().known(FINGERPRINT + 1).is_none());
    let ledger = fs::read(world.path(1, "ledger")).unwrap();

    let mut record = Record::read(&world.path(1, "ledger")).unwrap().0;
    record.compiler += 1;
    record.write(&world.path(1, "ledger")).unwrap();
    assert!(last().known(FINGERPRINT).is_none());
    fs::write(world.path(1, "ledger"), ledger).unwrap();
    assert!(last().known(FINGERPRINT).is_some());

    fs::write(world.path(1, "invoked"), "again").unwrap();
    assert!(last().known(FINGERPRINT).is_none());
}

#[test]
fn an_invocation_that_is_no_older_than_the_ledger() {
    let (world, _) = two();
    let written = fs::metadata(world.path(1, "ledger"))
        .unwrap()
        .modified()
        .unwrap();
    set_modified(&world.path(1, "invoked"), written);
    let product = world.make(1..2).pop().unwrap();
    // The ledger was written at the time of the invocation, or before: the clock is coarse, or was set
    // back.
    let ledger = world.path(1, "ledger");
    set_modified(&ledger, written);
    assert!(product.known(FINGERPRINT).is_none());
    set_modified(&ledger, written - std::time::Duration::from_secs(1));
    assert!(product.known(FINGERPRINT).is_none());
}

#[test]
fn outputs_that_are_not_as_they_were_made() {
    let (world, known) = two();
    let verdict = || world.products(|_| {})[1].compare(&known, true);
    assert_eq!(verdict(), Verdict::Unchanged);
    world.write(1, File::Rest, "by hand");
    assert_eq!(verdict(), Verdict::Changed);
    world.write(1, File::Rest, "at first");
    assert_eq!(verdict(), Verdict::Unchanged);
    fs::remove_file(world.file(1, File::Metadata)).unwrap();
    assert_eq!(verdict(), Verdict::Changed);
}

#[test]
fn what_is_settled_is_known_with_its_new_fingerprint() {
    let (world, known) = two();
    let product = world.products(|_| {}).pop().unwrap();
    product.will_be_made();
    product.settle(&known, FINGERPRINT + 1).unwrap();
    assert!(product.known(FINGERPRINT).is_none());
    let known = product.known(FINGERPRINT + 1).unwrap();
    assert_eq!(product.compare(&known, true), Verdict::Unchanged);
}

#[test]
fn a_script_that_speaks_of_something_elsewhere_has_a_result_for_each_run() {
    let world = World::new(Graph(vec![
        (Kind::Script, vec![]),
        (Kind::Library, vec![0]),
    ]));
    let inside = format!("native={}/a", world.path(0, "out").display());
    let elsewhere = world.path(1, "out");
    let elsewhere = elsewhere.to_str().unwrap();
    let make = |path| {
        let products = world.products(|_| {});
        let said = world.said_of(0, [path]);
        products[0].made(FINGERPRINT, said).unwrap();
        products[1].made(FINGERPRINT, None).unwrap();
        products[1].known(FINGERPRINT).unwrap()
    };
    let run_again = |path| {
        fs::write(world.path(0, "invoked"), "").unwrap();
        let products = world.products(|_| {});
        products[0].will_be_made();
        let said = world.said_of(0, [path]);
        products[0].made(FINGERPRINT, said).unwrap();
        products
    };
    let known = make(&inside);
    assert_eq!(
        run_again(&inside)[1].compare(&known, true),
        Verdict::Unchanged
    );
    let known = make(elsewhere);
    let products = world.products(|_| {});
    assert_eq!(
        products[1].compare(&known, true),
        Verdict::Unchanged,
        "it has not run"
    );
    assert_eq!(
        run_again(elsewhere)[1].compare(&known, true),
        Verdict::Changed
    );
}

#[test]
fn what_nobody_reads_is_only_looked_at() {
    let world = World::new(Graph(vec![
        (Kind::Library, vec![]),
        (Kind::Macro, vec![0]),
        (Kind::Library, vec![1]),
    ]));
    let digests = || {
        let record = Record::read(&world.path(1, "ledger")).unwrap().0;
        record.outputs.into_iter().map(|note| note.digest).collect()
    };
    let is_read: Vec<Option<Digest>> = {
        world.make_all();
        digests()
    };
    assert!(is_read.iter().all(Option::is_some));

    // The same without the library on top, as if linked a while ago.
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    for file in [File::Metadata, File::Rest] {
        set_modified(&world.file(1, file), long_ago);
    }
    let below = || {
        let graph = Graph(world.graph.0[..2].to_vec());
        world.products_of(&graph, |_| {}).pop().unwrap()
    };
    let product = below();
    product.made(FINGERPRINT, None).unwrap();
    assert_eq!(digests(), [None, None]);
    let known = product.known(FINGERPRINT).unwrap();
    assert_eq!(below().compare(&known, true), Verdict::Unchanged);

    // Whoever reads it later sees what is in it, and the time does not matter then.
    let known_on_top = world.make(2..3).pop().unwrap().known(FINGERPRINT).unwrap();
    let compare_on_top = || world.products(|_| {})[2].compare(&known_on_top, true);
    assert_eq!(compare_on_top(), Verdict::Unchanged);
    world.write(1, File::Rest, "at first");
    assert_eq!(compare_on_top(), Verdict::Unchanged);
    assert_eq!(below().compare(&known, true), Verdict::Changed);
}
