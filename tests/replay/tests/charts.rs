//! What runs when, exactly: small graphs, whose units take as long as `charts.txt` says, on the scheduler.
//!
//! In that file, a graph has a title with the number of jobs and perhaps `lto`, and a line for each unit:
//! its name, its kind, the columns that its frontend, codegen and link take, or the run of a build script,
//! and the units that it needs. `12x16` is a codegen of 12 columns with 16 codegen units. A name begins with
//! that of the package.
//!
//! The charts follow: the graph in each mode, in the order in which Cargo has always started jobs; or, with
//! `orders`, in that order and by the critical path, with costs that are guessed and that are known. A row
//! is a unit, a column is a moment:
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
//! `SNAPSHOTS=overwrite` draws them anew.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use replay::Recording;
use replay::recording::Unit;
use replay::simulate::{
    Estimate, Outcome, Phase, Pipelining, Schedule, Settings, guessed, measured, prior::Table,
    simulate,
};
use snapbox::{assert_data_eq, file};

/// How many µs of the recording are a column: so many that one more makes something more urgent.
const MOMENT: u64 = 1_000_000;

/// The size of the source of each unit, by which its cost is guessed. Bytes.
const SOURCE: u64 = 300;

#[test]
fn charts_of_all_graphs() {
    let text = include_str!("charts.txt");
    let graphs = text.split("\n\n").filter(|block| block.starts_with("# "));
    let drawn: Vec<String> = graphs
        .map(|graph| format!("{graph}\n\n{}", charts(graph)))
        .collect();
    assert_data_eq!(drawn.join("\n"), file!["charts.txt"].raw());
}

fn charts(graph: &str) -> String {
    let mut lines = graph.lines();
    let (_, words) = lines.next().unwrap().split_once(" -j").unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let jobs = words[0].parse().unwrap();
    let mut recording = Recording::new("a graph", "none", "anywhere");
    recording.lto = words.contains(&"lto");
    let mut names = Vec::new();
    for line in lines {
        let unit = unit(line, &names);
        names.push(line.split(' ').next().unwrap());
        recording.units.push(unit);
    }
    let (stock, critical_path) = (Schedule::Stock, Schedule::CriticalPath);
    type Side = (String, Pipelining, Schedule, fn(&Unit) -> Estimate);
    let sides: [Side; 3] = if words.contains(&"orders") {
        let side = |name: &str, schedule, estimate| -> Side {
            (name.to_owned(), Pipelining::Link, schedule, estimate)
        };
        [
            side("stock", stock, measured),
            side("guessed", critical_path, |unit| {
                guessed(unit, Table::SHIPPED)
            }),
            side("known", critical_path, measured),
        ]
    } else {
        [Pipelining::Off, Pipelining::Metadata, Pipelining::Link]
            .map(|mode| -> Side { (mode.name().to_owned(), mode, stock, measured) })
    };
    let mut charts: Vec<(String, String)> = Vec::new();
    for (name, mode, schedule, estimate) in sides {
        let settings = Settings::new(jobs, mode, schedule);
        let outcome = simulate(&recording, &settings, estimate).unwrap();
        let chart = chart(&names, &outcome);
        match charts.last_mut() {
            Some((sides, same)) if *same == chart => *sides += &format!(", {name}"),
            _ => charts.push((name, chart)),
        }
    }
    let charts = charts
        .iter()
        .map(|(sides, chart)| format!("{sides}\n{chart}"));
    charts.collect()
}

/// Reads the line of a unit; `names` are those of the units before it.
fn unit(line: &str, names: &[&str]) -> Unit {
    let mut words = line.split_whitespace();
    let (name, kind) = (words.next().unwrap(), words.next().unwrap());
    let times = words.next().unwrap();
    let (times, codegen_units) = match times.split_once('x') {
        Some((times, codegen_units)) => (times, codegen_units.parse().unwrap()),
        None => (times, 1),
    };
    let mut times = times.split('+');
    let mut time = || MOMENT * times.next().map_or(0, |time| time.parse().unwrap());
    let mut unit = Unit {
        package: name.split('/').next().unwrap().to_owned(),
        version: "1.0.0".to_owned(),
        target: name.to_owned(),
        kind: kind.split('+').map(str::to_owned).collect(),
        mode: "build".to_owned(),
        codegen_units,
        source_size: SOURCE,
        ..Unit::default()
    };
    match kind {
        "run" => {
            unit.kind = vec!["custom-build".to_owned()];
            unit.mode = "run-custom-build".to_owned();
            unit.run = time();
        }
        _ => (unit.frontend, unit.codegen, unit.link) = (time(), time(), time()),
    }
    if kind == "test" {
        unit.mode = "test".to_owned();
    }
    let place = |need| names.iter().position(|name| *name == need).unwrap();
    unit.needs = words.map(place).collect();
    unit
}

/// Draws what runs when.
fn chart(names: &[&str], outcome: &Outcome) -> String {
    let mut rows = vec![String::new(); names.len()];
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
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut chart = String::new();
    for (name, row) in names.iter().zip(rows) {
        writeln!(chart, "  {name:width$} |{row}").unwrap();
    }
    chart
}
