//! Small graphs of units that take as long as a test says, and charts of what ran when.
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

use std::fmt::Write as _;

use replay::Recording;
use replay::recording::{Role, Unit};
use replay::simulate::{Estimate, Phase, Settings, Span, simulate};

/// How many µs are a column: a second is the least difference in priority that counts.
const MOMENT: u64 = 1_000_000;

/// How much source each unit has, by which its cost is guessed. Bytes.
const SOURCE: u64 = 300;

/// A graph, unit by unit. Each is named by its place, for those that need it.
#[derive(Debug)]
pub struct Graph(Recording);

/// How many columns the phases of a unit take: frontend, codegen, link.
type Times = [u64; 3];

impl Graph {
    pub fn new() -> Self {
        Graph(Recording::new("a graph", "none", "anywhere"))
    }

    /// Adds a unit, whose times are in columns.
    pub fn add(&mut self, package: &str, kind: &str, needs: &[usize], unit: Unit) -> usize {
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

    pub fn compile(&mut self, package: &str, kind: &str, needs: &[usize], times: Times) -> usize {
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

    pub fn lib(&mut self, package: &str, needs: &[usize], frontend: u64, codegen: u64) -> usize {
        self.compile(package, "lib", needs, [frontend, codegen, 0])
    }

    pub fn bin(&mut self, package: &str, needs: &[usize], times: Times) -> usize {
        self.compile(package, "bin", needs, times)
    }

    /// The run of a build script.
    pub fn run(&mut self, package: &str, needs: &[usize], run: u64) -> usize {
        let unit = Unit {
            mode: "run-custom-build".to_owned(),
            run,
            ..Unit::default()
        };
        self.add(package, "custom-build", needs, unit)
    }

    /// What is linked for the target is optimized at link time.
    pub fn optimize_at_link_time(&mut self) {
        self.0.lto = true;
    }

    /// What runs when, if it is built so.
    pub fn chart(&self, settings: &Settings, estimate: fn(&Unit) -> Estimate) -> String {
        let units = &self.0.units;
        let log = simulate(&self.0, settings, estimate).unwrap().log;
        let names: Vec<String> = units.iter().map(name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let mut chart = String::new();
        for (place, name) in names.iter().enumerate() {
            let row = row(log.iter().filter(|span| span.place == place));
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

/// The phases of one unit, in order.
fn row<'s>(spans: impl Iterator<Item = &'s Span>) -> String {
    let mut row = String::new();
    for span in spans {
        let idle = match span.phase {
            _ if row.is_empty() => ' ',
            Phase::Codegen => '_',
            Phase::Link => '.',
            Phase::Frontend | Phase::Run => panic!("begins twice: {span:?}"),
        };
        let busy = match span.phase {
            Phase::Frontend => '-',
            Phase::Codegen if span.threads == 1 => '=',
            Phase::Codegen => char::from_digit(u32::try_from(span.threads).unwrap(), 10).unwrap(),
            Phase::Link => '#',
            Phase::Run => '>',
        };
        for (until, shown) in [(span.began, idle), (span.ended, busy)] {
            let columns = usize::try_from(until / MOMENT).unwrap() - row.len();
            row.extend(std::iter::repeat_n(shown, columns));
        }
    }
    row
}
