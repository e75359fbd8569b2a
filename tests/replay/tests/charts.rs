//! What runs when, exactly: small graphs, whose units take as long as a test says, on the scheduler.
//!
//! A row is a unit, a column is a moment:
//!
//! ```text
//!   ---    a compiler's frontend, until its metadata is written
//!   ===    its codegen (with two threads `22`, with three `33`, …)
//!   ___    it is paused
//!   ...    it has compiled, and waits before its linker
//!   ###    the linker
//!   >>>    the run of a build script
//! ```
//!
//! All charts are as real cargos have drawn them, whose compilers only took time by a virtual clock.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use replay::Recording;
use replay::recording::{Role, Unit};
use replay::simulate::{
    Estimate, Outcome, Phase, Pipelining, Schedule, Settings, guessed, measured, simulate,
};
use snapbox::{IntoData, assert_data_eq, str};

/// How many µs of the recording are a column: so many that one more makes something more urgent.
const MOMENT: u64 = 1_000_000;

/// How much source each unit has, by which its cost is guessed. Bytes.
const SOURCE: u64 = 300;

/// A graph, unit by unit. Each is named by its place, for those that need it.
#[derive(Debug)]
struct Graph(Recording);

/// How many columns the phases of a unit take: frontend, codegen, link.
type Times = [u64; 3];

impl Graph {
    fn new() -> Self {
        Graph(Recording::new("a graph", "none", "anywhere"))
    }

    /// Adds a unit, whose times are in columns.
    fn add(&mut self, package: &str, kind: &str, needs: &[usize], unit: Unit) -> usize {
        let target = match kind {
            "custom-build" => "build-script-build".to_owned(),
            _ if unit.target.is_empty() => package.replace('-', "_"),
            _ => unit.target.clone(),
        };
        let mode = match unit.mode.as_str() {
            "" => "build",
            mode => mode,
        };
        self.0.units.push(Unit {
            package: package.to_owned(),
            version: "1.0.0".to_owned(),
            target,
            kind: kind.split(' ').map(str::to_owned).collect(),
            mode: mode.to_owned(),
            needs: needs.to_vec(),
            frontend: unit.frontend * MOMENT,
            codegen: unit.codegen * MOMENT,
            link: unit.link * MOMENT,
            run: unit.run * MOMENT,
            source_size: SOURCE,
            ..unit
        });
        self.0.units.len() - 1
    }

    fn compile(&mut self, package: &str, kind: &str, needs: &[usize], times: Times) -> usize {
        let [frontend, codegen, link] = times;
        let unit = Unit {
            frontend,
            codegen,
            link,
            codegen_units: 1,
            ..Unit::default()
        };
        self.add(package, kind, needs, unit)
    }

    fn lib(&mut self, package: &str, needs: &[usize], frontend: u64, codegen: u64) -> usize {
        self.compile(package, "lib", needs, [frontend, codegen, 0])
    }

    fn bin(&mut self, package: &str, needs: &[usize], times: Times) -> usize {
        self.compile(package, "bin", needs, times)
    }

    /// The run of a build script.
    fn run(&mut self, package: &str, needs: &[usize], run: u64) -> usize {
        let unit = Unit {
            mode: "run-custom-build".to_owned(),
            run,
            ..Unit::default()
        };
        self.add(package, "custom-build", needs, unit)
    }

    /// What is linked for the target is optimized at link time.
    fn optimize_at_link_time(&mut self) {
        self.0.lto = true;
    }

    /// Draws what runs when.
    fn chart(&self, settings: &Settings, estimate: fn(&Unit) -> Estimate) -> String {
        let outcome = simulate(&self.0, settings, estimate).unwrap();
        let rows = rows(&self.0.units, &outcome);
        let names: Vec<String> = self.0.units.iter().map(name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let mut chart = String::new();
        for (name, row) in names.iter().zip(rows) {
            writeln!(chart, "  {name:width$} |{row}").unwrap();
        }
        chart
    }
}

fn name(unit: &Unit) -> String {
    let Unit { package, .. } = unit;
    match unit.role() {
        Role::BuildScript => format!("{package} build script"),
        Role::Run => format!("{package} build script run"),
        _ if unit.mode == "test" => format!("{package} {} test", unit.target),
        Role::Linked => format!("{package} {}", unit.kind.join("+")),
        Role::Library | Role::ProcMacro => package.clone(),
    }
}

fn rows(units: &[Unit], outcome: &Outcome) -> Vec<String> {
    let mut rows = vec![String::new(); units.len()];
    for span in &outcome.spans {
        let row = &mut rows[span.unit];
        let [start, end] = [span.start, span.end].map(|at| (at / MOMENT) as usize);
        let idle = match (span.phase, row.is_empty()) {
            (_, true) => ' ',
            (Phase::Link, _) => '.',
            _ => '_',
        };
        let busy = match (span.phase, span.threads) {
            (Phase::Frontend, _) => '-',
            (Phase::Codegen, 1) => '=',
            (Phase::Codegen, threads) => char::from_digit(threads as u32, 10).unwrap(),
            (Phase::Link, _) => '#',
            (Phase::Run, _) => '>',
        };
        row.push_str(&String::from(idle).repeat(start - row.len()));
        row.push_str(&String::from(busy).repeat(end - start));
    }
    rows
}

/// Each mode, in the order in which Cargo has always started jobs.
#[track_caller]
fn check(graph: &Graph, jobs: u64, expected: impl IntoData) {
    let mut charts = String::new();
    for mode in [Pipelining::Off, Pipelining::Metadata, Pipelining::Link] {
        let chart = graph.chart(&Settings::new(jobs, mode, Schedule::Stock), measured);
        write!(charts, "{}\n{chart}", mode.name()).unwrap();
    }
    assert_data_eq!(charts, expected.raw());
}

/// The order in which Cargo has always started jobs, and by the critical path, with costs that are
/// guessed and that are known.
#[track_caller]
fn check_order(graph: &Graph, jobs: u64, expected: impl IntoData) {
    let by = |schedule| Settings::new(jobs, Pipelining::Link, schedule);
    let charts = format!(
        "stock\n{}guessed\n{}known\n{}",
        graph.chart(&by(Schedule::Stock), measured),
        graph.chart(&by(Schedule::CriticalPath), guessed),
        graph.chart(&by(Schedule::CriticalPath), measured),
    );
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

#[test]
fn one_job_in_order() {
    let mut graph = Graph::new();
    let first = graph.lib("first", &[], 2, 2);
    let second = graph.lib("second", &[], 5, 3);
    let mut chain = graph.lib("chain-1", &[], 1, 1);
    for name in ["chain-2", "chain-3"] {
        chain = graph.lib(name, &[chain], 4, 1);
    }
    graph.bin("app", &[first, second, chain], [1, 1, 1]);
    check_order(
        &graph,
        1,
        str![[r#"
stock
  first   |            --==
  second  |                -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |       ----=
  app bin |                        -=#
guessed
  first   |            --==
  second  |                -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |       ----=
  app bin |                        -=#
known
  first   |                    --==
  second  |       -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |               ----=
  app bin |                        -=#

"#]],
    );
}

#[test]
fn a_diamond_in_order() {
    let mut graph = Graph::new();
    let bottom = graph.lib("bottom", &[], 2, 2);
    let left = graph.lib("left", &[bottom], 3, 1);
    let right = graph.lib("right", &[bottom], 8, 4);
    let other = graph.lib("other", &[bottom], 3, 1);
    graph.bin("app", &[left, right, other], [2, 2, 2]);
    check_order(
        &graph,
        2,
        str![[r#"
stock
  bottom  |--==
  left    |  ---=
  right   |      --------====
  other   |    ---=
  app bin |              --==##
guessed
  bottom  |--==
  left    |  ---=
  right   |      --------====
  other   |    ---=
  app bin |              --==##
known
  bottom  |--==
  left    |    ---_______=
  right   |  --------====
  other   |       ---____=
  app bin |          --==.##

"#]],
    );
}

#[test]
fn a_long_chain_beside_many_short_ones() {
    let mut graph = Graph::new();
    let mut needs: Vec<_> = ["k", "l", "m", "n"]
        .into_iter()
        .map(|name| {
            let base = graph.lib(&format!("{name}-base"), &[], 2, 0);
            graph.lib(name, &[base], 2, 0)
        })
        .collect();
    let base = graph.lib("long-base", &[], 6, 2);
    needs.push(graph.lib("long", &[base], 6, 2));
    graph.bin("app", &needs, [2, 0, 2]);
    check_order(
        &graph,
        2,
        str![[r#"
stock
  k-base    |--
  k         |            --
  l-base    |--
  l         |          --
  m-base    |  --
  m         |        --
  n-base    |    --
  n         |      --
  long-base |  ------==
  long      |          ------==
  app bin   |                --##
guessed
  k-base    |--
  k         |            --
  l-base    |--
  l         |          --
  m-base    |  --
  m         |        --
  n-base    |    --
  n         |      --
  long-base |  ------==
  long      |          ------==
  app bin   |                --##
known
  k-base    |--
  k         |            --
  l-base    |  --
  l         |            --
  m-base    |    --
  m         |          --
  n-base    |      --
  n         |        --
  long-base |------________==
  long      |      ------__==
  app bin   |                --##

"#]],
    );
}

#[test]
fn a_macro_in_the_middle_in_order() {
    let mut graph = Graph::new();
    let others = ["k", "l", "m"].map(|name| {
        let base = graph.lib(&format!("{name}-base"), &[], 3, 3);
        let middle = graph.lib(&format!("{name}-middle"), &[base], 1, 1);
        graph.lib(name, &[middle], 1, 1)
    });
    let syntax = graph.lib("syntax", &[], 4, 4);
    let derive = graph.compile("derive", "proc-macro", &[syntax], [2, 0, 2]);
    let user = graph.lib("user", &[derive], 8, 4);
    graph.bin("app", &[&[user], &others[..]].concat(), [2, 0, 2]);
    check_order(
        &graph,
        2,
        str![[r#"
stock
  k-base   |---===
  k-middle |                -=
  k        |                  -=
  l-base   |---===
  l-middle |                -=
  l        |                  -=
  m-base   |      ---===
  m-middle |              -=
  m        |                    -=
  syntax   |      ----====
  derive   |            --##
  user     |                    --------====
  app bin  |                            --..##
guessed
  k-base   |---===
  k-middle |                -=
  k        |                  -___=
  l-base   |---===
  l-middle |                -=
  l        |                  -=
  m-base   |      ---===
  m-middle |              -=
  m        |                    -=
  syntax   |      ----====
  derive   |            --##
  user     |                   --------====
  app bin  |                           --..##
known
  k-base   |---___________________===
  k-middle |              -=
  k        |                      -____=
  l-base   |   ---_____________===
  l-middle |            -=
  l        |                       -___=
  m-base   |        ---_____===
  m-middle |           -_____________=
  m        |                        -_=
  syntax   |----====
  derive   |      --##
  user     |          --------====
  app bin  |                         --.##

"#]],
    );
}

#[test]
fn two_binaries_on_one_library_in_order() {
    let mut graph = Graph::new();
    let lib = graph.lib("lib", &[], 2, 6);
    graph.bin("short", &[lib], [2, 1, 1]);
    graph.bin("also-short", &[lib], [2, 1, 1]);
    graph.bin("long", &[lib], [8, 4, 2]);
    check_order(
        &graph,
        2,
        str![[r#"
stock
  lib            |--======
  short bin      |         --=#
  also-short bin |  --=...#
  long bin       |     --------====##
guessed
  lib            |--======
  short bin      |         --=#
  also-short bin |  --=...#
  long bin       |     --------====##
known
  lib            |--======
  short bin      |            --=#
  also-short bin |        --=#
  long bin       |  --------====##

"#]],
    );
}

#[test]
fn codegen_that_is_paused() {
    let mut graph = Graph::new();
    let big = graph.lib("big", &[], 2, 8);
    let beside = graph.lib("beside", &[], 6, 4);
    let middle = graph.lib("middle", &[big], 6, 2);
    let top = graph.lib("top", &[middle, beside], 6, 2);
    graph.bin("app", &[top], [2, 2, 2]);
    check_order(
        &graph,
        2,
        str![[r#"
stock
  big     |--========
  beside  |------====
  middle  |          ------==
  top     |                ------==
  app bin |                      --==##
guessed
  big     |--========
  beside  |------====
  middle  |          ------==
  top     |                ------==
  app bin |                      --==##
known
  big     |--____========
  beside  |------________====
  middle  |  ------__________==
  top     |        ------____==
  app bin |              --==..##

"#]],
    );
}
