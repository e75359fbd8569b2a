//! Each mode, in the order in which Cargo has always started jobs.

use std::fmt::Write as _;

use replay::recording::Unit;
use replay::simulate::{Pipelining, Schedule, Settings, known};
use snapbox::{IntoData, assert_data_eq, str};

use crate::graph::Graph;

#[track_caller]
fn check(graph: &Graph, jobs: u64, expected: impl IntoData) {
    let mut charts = String::new();
    for mode in [Pipelining::Off, Pipelining::Metadata, Pipelining::Link] {
        let chart = graph.chart(&Settings::new(jobs, mode, Schedule::Stock), known);
        write!(charts, "{mode}\n{chart}").unwrap();
    }
    assert_data_eq!(charts, expected.raw());
}

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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
  base             |--========
  mixed lib+cdylib |          --====###
  app bin          |                   --==##
metadata
  base             |--========
  mixed lib+cdylib |          --====###
  app bin          |                   --==##
link
  base             |--========
  mixed lib+cdylib |  --====..###
  app bin          |             --==##

"#]],
    );
}

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
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
