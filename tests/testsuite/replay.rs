//! What runs when, exactly: real builds of small graphs in each mode, in the order in which Cargo has
//! always started jobs. See [`graph`](crate::support::graph) for how to read the charts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cargo_test_support::prelude::*;
use cargo_test_support::{paths, str};
use replay::recording::Unit;
use replay::stage::Settings;
use replay::{Recording, Time};
use snapbox::assert_data_eq;

use crate::support::graph::{Graph, stage};
use crate::support::replacement;

/// A mode in the order in which Cargo has always started jobs.
fn stock_order(mode: &str) -> Settings<'_> {
    Settings {
        pipelining: Some(mode),
        schedule: Some("stock"),
    }
}

/// What is built in each mode, with so many jobs.
#[track_caller]
fn check(graph: &Graph, jobs: u64, expected: impl IntoData) {
    let mut charts = String::new();
    for mode in ["off", "metadata", "link"] {
        let scene = graph.prepare(&paths::root().join(mode));
        let chart = graph.played(&scene, jobs, stock_order(mode));
        write!(charts, "{mode}\n{chart}").unwrap();
    }
    assert_data_eq!(charts, expected.raw());
}

#[cargo_test]
fn a_chain() {
    let mut graph = Graph::new();
    let a = graph.lib("a", &[], 2, 6);
    let b = graph.lib("b", &[a], 2, 6);
    let c = graph.lib("c", &[b], 2, 6);
    graph.bin("app", &[c], [3, 3, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  a       |--======
  b       |        --======
  c       |                --======
  app bin |                        ---===##
metadata
  a       |--======
  b       |  --======
  c       |    --======
  app bin |            ---===##
link
  a       |--======
  b       |  --======
  c       |    --======
  app bin |      ---===##

"#]],
    );
}

#[cargo_test]
fn a_diamond() {
    let mut graph = Graph::new();
    let bottom = graph.lib("bottom", &[], 2, 12);
    let left = graph.lib("left", &[bottom], 4, 2);
    let right = graph.lib("right", &[bottom], 2, 4);
    graph.bin("app", &[left, right], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  bottom  |--============
  left    |              ----==
  right   |              --====
  app bin |                    --==##
metadata
  bottom  |--============
  left    |  ----==
  right   |  --====
  app bin |              --==##
link
  bottom  |--============
  left    |  ----==
  right   |  --====
  app bin |      --==....##

"#]],
    );
}

#[cargo_test]
fn a_diamond_with_two_jobs() {
    let mut graph = Graph::new();
    let bottom = graph.lib("bottom", &[], 2, 12);
    let left = graph.lib("left", &[bottom], 4, 2);
    let right = graph.lib("right", &[bottom], 2, 4);
    graph.bin("app", &[left, right], [2, 2, 2]);
    check(
        &graph,
        2,
        str![[r#"
off
  bottom  |--============
  left    |              ----==
  right   |              --====
  app bin |                    --==##
metadata
  bottom  |--============
  left    |  ----==
  right   |        --====
  app bin |              --==##
link
  bottom  |--============
  left    |  ----==
  right   |        --====
  app bin |              --==##

"#]],
    );
}

#[cargo_test]
fn a_macro_in_the_middle() {
    let mut graph = Graph::new();
    let syntax = graph.lib("syntax", &[], 4, 8);
    let derive = graph.compile("derive", "proc-macro", &[syntax], [3, 2, 2]);
    let user = graph.lib("user", &[derive], 2, 4);
    graph.bin("app", &[user], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  syntax  |----========
  derive  |            ---==##
  user    |                   --====
  app bin |                         --==##
metadata
  syntax  |----========
  derive  |            ---==##
  user    |                   --====
  app bin |                         --==##
link
  syntax  |----========
  derive  |    ---==...##
  user    |              --====
  app bin |                --==##

"#]],
    );
}

#[cargo_test]
fn a_build_script_with_a_dependency() {
    let mut graph = Graph::new();
    let helper = graph.lib("helper", &[], 2, 8);
    let script = graph.compile("sys", "custom-build", &[helper], [2, 2, 2]);
    let run = graph.run("sys", &[script], 4);
    let sys = graph.lib("sys", &[run], 2, 2);
    graph.bin("app", &[sys], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  helper               |--========
  sys build script     |          --==##
  sys build script run |                >>>>
  sys                  |                    --==
  app bin              |                        --==##
metadata
  helper               |--========
  sys build script     |          --==##
  sys build script run |                >>>>
  sys                  |                    --==
  app bin              |                        --==##
link
  helper               |--========
  sys build script     |  --==....##
  sys build script run |            >>>>
  sys                  |                --==
  app bin              |                  --==##

"#]],
    );
}

#[cargo_test]
fn build_scripts_that_tell_each_other() {
    let mut graph = Graph::new();
    let script = graph.compile("sys", "custom-build", &[], [1, 1, 1]);
    let run = graph.run("sys", &[script], 6);
    let sys = graph.lib("sys", &[run], 2, 4);
    let user_script = graph.compile("user", "custom-build", &[], [1, 1, 1]);
    let user_run = graph.run("user", &[user_script, run], 2);
    let user = graph.lib("user", &[user_run, sys], 2, 4);
    graph.bin("app", &[user], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  sys build script      |-=#
  sys build script run  |   >>>>>>
  sys                   |         --====
  user build script     |-=#
  user build script run |         >>
  user                  |               --====
  app bin               |                     --==##
metadata
  sys build script      |-=#
  sys build script run  |   >>>>>>
  sys                   |         --====
  user build script     |-=#
  user build script run |         >>
  user                  |           --====
  app bin               |                 --==##
link
  sys build script      |-=#
  sys build script run  |   >>>>>>
  sys                   |         --====
  user build script     |-=#
  user build script run |         >>
  user                  |           --====
  app bin               |             --==##

"#]],
    );
}

#[cargo_test]
fn two_binaries_on_one_library() {
    let mut graph = Graph::new();
    let lib = graph.lib("lib", &[], 2, 12);
    graph.bin("one", &[lib], [2, 4, 2]);
    graph.bin("two", &[lib], [6, 8, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  lib     |--============
  one bin |              --====##
  two bin |              ------========##
metadata
  lib     |--============
  one bin |              --====##
  two bin |              ------========##
link
  lib     |--============
  one bin |  --====......##
  two bin |  ------========##

"#]],
    );
}

#[cargo_test]
fn parked_jobs_leave_their_slots() {
    let mut graph = Graph::new();
    let lib = graph.lib("lib", &[], 2, 20);
    graph.bin("one", &[lib], [4, 0, 3]);
    graph.bin("two", &[lib], [4, 0, 3]);
    graph.bin("three", &[lib], [4, 0, 3]);
    check(
        &graph,
        2,
        str![[r#"
off
  lib       |--====================
  one bin   |                      ----###
  two bin   |                             ----###
  three bin |                      ----###
metadata
  lib       |--====================
  one bin   |                      ----###
  two bin   |                             ----###
  three bin |                      ----###
link
  lib       |--====================
  one bin   |  ----................###
  two bin   |          ----...........###
  three bin |      ----............###

"#]],
    );
}

#[cargo_test]
fn no_more_than_two_for_each_job_run_ahead() {
    let mut graph = Graph::new();
    let lib = graph.lib("lib", &[], 2, 30);
    for bin in ["one", "two", "three", "four", "five"] {
        graph.bin(bin, &[lib], [3, 0, 2]);
    }
    check(
        &graph,
        2,
        str![[r#"
off
  lib       |--==============================
  one bin   |                                     ---##
  two bin   |                                          ---##
  three bin |                                     ---##
  four bin  |                                ---##
  five bin  |                                ---##
metadata
  lib       |--==============================
  one bin   |                                     ---##
  two bin   |                                          ---##
  three bin |                                     ---##
  four bin  |                                ---##
  five bin  |                                ---##
link
  lib       |--==============================
  one bin   |        ---.......................##
  two bin   |                                    ---##
  three bin |           ---....................##
  four bin  |     ---........................##
  five bin  |  ---...........................##

"#]],
    );
}

#[cargo_test]
fn links_go_before_compilers() {
    let mut graph = Graph::new();
    let early = graph.lib("early", &[], 1, 8);
    graph.bin("app", &[early], [2, 0, 4]);
    for other in ["k", "l", "m", "n"] {
        graph.lib(other, &[], 6, 0);
    }
    check(
        &graph,
        2,
        str![[r#"
off
  early   |-========
  app bin |         --####
  k       |------
  l       |      ------
  m       |            ------
  n       |               ------
metadata
  early   |-========
  app bin |         --####
  k       |------
  l       |      ------
  m       |            ------
  n       |               ------
link
  early   |-========
  app bin |      --.####
  k       |------
  l       |        ------
  m       |             ------
  n       |              ------

"#]],
    );
}

#[cargo_test]
fn one_job() {
    let mut graph = Graph::new();
    let a = graph.lib("a", &[], 2, 4);
    let b = graph.lib("b", &[a], 2, 4);
    graph.bin("app", &[b], [2, 2, 2]);
    check(
        &graph,
        1,
        str![[r#"
off
  a       |--====
  b       |      --====
  app bin |            --==##
metadata
  a       |--====
  b       |      --====
  app bin |            --==##
link
  a       |--====
  b       |      --====
  app bin |            --==##

"#]],
    );
}

#[cargo_test]
fn a_library_of_several_types() {
    let mut graph = Graph::new();
    let base = graph.lib("base", &[], 2, 8);
    let mixed = graph.compile("mixed", "lib cdylib", &[base], [2, 4, 3]);
    graph.bin("app", &[mixed], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  base    |--========
  mixed   |          --====###
  app bin |                   --==##
metadata
  base    |--========
  mixed   |          --====###
  app bin |                   --==##
link
  base    |--========
  mixed   |  --====..###
  app bin |             --==##

"#]],
    );
}

#[cargo_test]
fn a_cdylib_and_a_staticlib() {
    let mut graph = Graph::new();
    let base = graph.lib("base", &[], 2, 10);
    graph.compile("shared", "cdylib", &[base], [2, 3, 2]);
    graph.compile("static", "staticlib", &[base], [2, 3, 0]);
    check(
        &graph,
        8,
        str![[r#"
off
  base             |--==========
  shared cdylib    |            --===##
  static staticlib |            --===
metadata
  base             |--==========
  shared cdylib    |            --===##
  static staticlib |            --===
link
  base             |--==========
  shared cdylib    |  --===.....##
  static staticlib |            --===

"#]],
    );
}

#[cargo_test]
fn a_dynamic_library() {
    let mut graph = Graph::new();
    let base = graph.lib("base", &[], 2, 6);
    let dynamic = graph.compile("dynamic", "dylib", &[base], [2, 2, 3]);
    graph.bin("app", &[dynamic], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  base          |--======
  dynamic dylib |        --==###
  app bin       |               --==##
metadata
  base          |--======
  dynamic dylib |        --==###
  app bin       |               --==##
link
  base          |--======
  dynamic dylib |        --==###
  app bin       |               --==##

"#]],
    );
}

#[cargo_test]
fn tests_of_a_library() {
    let mut graph = Graph::new();
    let dependency = graph.lib("dependency", &[], 1, 10);
    let lib = graph.lib("lib", &[dependency], 3, 8);
    let test = |target: &str, frontend, codegen| Unit {
        target: target.to_owned(),
        mode: "test".to_owned(),
        frontend,
        codegen,
        link: 2,
        codegen_units: 1,
        ..Unit::default()
    };
    graph.add("lib", "lib", &[dependency], test("lib", 4, 10));
    graph.add("lib", "test", &[dependency, lib], test("first", 2, 2));
    graph.add("lib", "test", &[dependency, lib], test("second", 3, 3));
    check(
        &graph,
        8,
        str![[r#"
off
  dependency      |-==========
  lib             |           ---========
  lib lib test    |           ----==========##
  lib first test  |                      --==##
  lib second test |                      ---===##
metadata
  dependency      |-==========
  lib             | ---========
  lib lib test    |           ----==========##
  lib first test  |            --==##
  lib second test |            ---===##
link
  dependency      |-==========
  lib             | ---========
  lib lib test    | ----==========##
  lib first test  |    --==....##
  lib second test |    ---===..##

"#]],
    );
}

#[cargo_test]
fn a_library_for_the_host_and_for_the_target() {
    let mut graph = Graph::new();
    let host = graph.lib("both", &[], 2, 4);
    let target = graph.lib("both", &[], 2, 10);
    let script = graph.compile("sys", "custom-build", &[host], [2, 0, 2]);
    let run = graph.run("sys", &[script], 2);
    let sys = graph.lib("sys", &[run, target], 2, 4);
    graph.bin("app", &[sys], [2, 2, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  both                 |--====
  both                 |--==========
  sys build script     |      --##
  sys build script run |          >>
  sys                  |            --====
  app bin              |                  --==##
metadata
  both                 |--====
  both                 |--==========
  sys build script     |      --##
  sys build script run |          >>
  sys                  |            --====
  app bin              |                  --==##
link
  both                 |--====
  both                 |--==========
  sys build script     |  --..##
  sys build script run |        >>
  sys                  |          --====
  app bin              |            --==##

"#]],
    );
}

#[cargo_test]
fn link_time_optimization_reads_libraries_before_the_linker() {
    let mut graph = Graph::new();
    graph.optimize_at_link_time();
    let base = graph.lib("base", &[], 2, 6);
    let derive = graph.compile("derive", "proc-macro", &[base], [2, 2, 2]);
    let lib = graph.lib("lib", &[derive], 2, 6);
    graph.bin("app", &[lib], [2, 8, 2]);
    check(
        &graph,
        8,
        str![[r#"
off
  base    |--======
  derive  |        --==##
  lib     |              --======
  app bin |                      --========##
metadata
  base    |--======
  derive  |        --==##
  lib     |              --======
  app bin |                      --========##
link
  base    |--======
  derive  |  --==..##
  lib     |          --======
  app bin |                  --========##

"#]],
    );
}

#[cargo_test]
fn codegen_takes_the_threads_that_nobody_else_needs() {
    let mut graph = Graph::new();
    let mut big = |package: &str, needs: &[usize]| {
        let unit = Unit {
            frontend: 2,
            codegen: 12,
            codegen_units: 16,
            ..Unit::default()
        };
        graph.add(package, "lib", needs, unit)
    };
    let lib = big("big", &[]);
    graph.bin("app", &[lib], [2, 2, 2]);
    check(
        &graph,
        4,
        str![[r#"
off
  big     |--444
  app bin |     --==##
metadata
  big     |--444
  app bin |     --==##
link
  big     |--3333
  app bin |  --==##

"#]],
    );
}

/// Each unit, and what it needs of what nothing else that it needs does: enough to tell whether two
/// graphs are the same.
fn described(recording: &Recording) -> Vec<(String, Vec<String>)> {
    let mut reduced = recording.clone();
    reduced.reduce();
    // Not the package: those of a skeleton may have other names.
    let name = |unit: &Unit| {
        let Unit {
            version,
            target,
            kind,
            mode,
            ..
        } = unit;
        // Nor the file of a build script, after which its target is named.
        let target = match kind.first().map(String::as_str) {
            Some("custom-build") => "build script",
            _ => target,
        };
        format!("{target} {version} {kind:?} {mode}")
    };
    let needs = |unit: &Unit| {
        let needs = unit.needs.iter().map(|need| name(&reduced.units[*need]));
        let mut needs: Vec<_> = needs.collect();
        needs.sort();
        needs
    };
    let mut described: Vec<_> = reduced
        .units
        .iter()
        .map(|unit| (name(unit), needs(unit)))
        .collect();
    described.sort();
    described
}

/// What a trace tells of the graph, as a recording.
fn graph_of_trace(path: &Path) -> Recording {
    #[derive(serde::Deserialize)]
    struct Args {
        unit: u64,
        version: String,
        target: String,
        kind: Vec<String>,
        mode: String,
        waited_for: BTreeMap<String, Vec<u64>>,
    }
    let trace = std::fs::read_to_string(path).unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_str(&trace).unwrap();
    let is_unit = |event: &&serde_json::Value| event["args"].get("package").is_some();
    let mut units: BTreeMap<u64, Args> = events
        .iter()
        .filter(is_unit)
        .map(|event| serde_json::from_value::<Args>(event["args"].clone()).unwrap())
        .map(|args| (args.unit, args))
        .collect();
    let mut places = BTreeMap::new();
    let mut graph = Recording::new("a trace", "none", "anywhere");
    while !units.is_empty() {
        let (id, args) = units
            .iter()
            .find(|(_, args)| {
                args.waited_for
                    .values()
                    .flatten()
                    .all(|id| places.contains_key(id))
            })
            .unwrap();
        let needs = args.waited_for.values().flatten().map(|id| places[id]);
        graph.units.push(Unit {
            version: args.version.clone(),
            target: args.target.clone(),
            kind: args.kind.clone(),
            mode: args.mode.clone(),
            needs: needs.collect(),
            ..Unit::default()
        });
        places.insert(*id, places.len());
        let id = *id;
        units.remove(&id);
    }
    graph
}

#[cargo_test]
fn a_skeleton_has_the_graph_of_its_recording() {
    let traces = crate::support::root().join("tests/replay/traces");
    let mut count = 0;
    for entry in traces.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let recording = Recording::read(&path).unwrap();
        let scene = stage().prepare(&recording, &paths::root().join(count.to_string()));
        let played = scene
            .unwrap()
            .play(replacement(), 8, stock_order("link"), Time::Virtual)
            .unwrap();
        let replayed = graph_of_trace(&played.trace.unwrap());
        let (recorded, replayed) = (described(&recording), described(&replayed));
        for (recorded, replayed) in recorded.iter().zip(&replayed) {
            assert_eq!(recorded, replayed, "{}", recording.name);
        }
        assert_eq!(recorded.len(), replayed.len(), "{}", recording.name);
        count += 1;
    }
    assert!(count > 0);
}

/// What the same build takes does not depend on the machine.
#[cargo_test]
fn a_replay_is_repeatable() {
    let path = crate::support::root().join("tests/replay/traces/hyperfine-dev.json.gz");
    let recording = Recording::read(&path).unwrap();
    let scene = stage()
        .prepare(&recording, &paths::root().join("replay"))
        .unwrap();
    let play = |jobs| {
        let played = scene.play(replacement(), jobs, stock_order("link"), Time::Virtual);
        played.unwrap().log.wall().as_secs_f64()
    };
    let (once, again) = (play(8), play(8));
    assert!((once / again - 1.0).abs() <= 0.01, "{once} {again}");
    let (serial, work) = (play(1), recording.work() as f64 / 1e6);
    assert!((serial / work - 1.0).abs() <= 0.02, "{serial} {work}");
}
