//! Small graphs of units that take as long as a test says, built by a real cargo among stand-ins, by a
//! clock that stands still while cargo is at work; and charts of what ran when.
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

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use replay::log::Phase;
use replay::recording::{Role, Unit};
use replay::stage::{Played, Scene, Settings};
use replay::{Recording, Stage, Time};

use super::{BuildTrace, executable_of, replacement};

/// How many µs of the recording are a column: so many that one more makes something more urgent.
const MOMENT: u64 = 1_000_000;

/// The stand-ins and the compiler of all replays.
pub fn stage() -> &'static Stage {
    static STAGE: LazyLock<Stage> = LazyLock::new(|| {
        let ask = |args: &[&str]| {
            let output = Command::new("rustc").args(args).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        let rustc = PathBuf::from(ask(&["--print=sysroot"]).trim()).join("bin/rustc");
        let about = ask(&["--version", "--verbose"]);
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        let stand_in = executable_of(&["--package", "replay", "--bin", "stand-in"]);
        Stage::new(stand_in, rustc, host.unwrap().to_owned()).unwrap()
    });
    &STAGE
}

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

    /// Lays it out in a directory, which must not exist.
    pub fn prepare(&self, dir: &Path) -> Scene<'_> {
        stage().prepare(&self.0, dir).unwrap()
    }

    /// What runs when, if it is built so.
    #[track_caller]
    pub fn played(&self, scene: &Scene<'_>, jobs: u64, settings: Settings<'_>) -> String {
        let played = scene.play(replacement(), jobs, settings, Time::Virtual);
        self.chart(&played.unwrap())
    }

    fn chart(&self, played: &Played) -> String {
        let rows = Rows::new(&self.0.units, played);
        let names: Vec<String> = self.0.units.iter().map(name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let mut chart = String::new();
        for (name, row) in names.iter().zip(rows.0) {
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

struct Rows(Vec<String>);

impl Rows {
    fn new(units: &[Unit], played: &Played) -> Self {
        let pauses = pauses(units, played);
        let mut rows = vec![String::new(); units.len()];
        for entry in &played.log.entries {
            let row = &mut rows[entry.place];
            let (mut began, mut ended) = (column(entry.began), column(entry.ended));
            let mut idle = match (entry.phase, row.is_empty()) {
                (Phase::Link, false) => '.',
                _ => ' ',
            };
            if entry.phase == Phase::Codegen
                && let Some(continued) = pauses.get(&entry.place)
            {
                let unit = &units[entry.place];
                assert_eq!(unit.codegen_units, 1, "how long it takes depends on others");
                idle = '_';
                began = *continued;
                ended = began + usize::try_from(unit.codegen / MOMENT).unwrap();
            }
            let busy = match (entry.phase, entry.threads) {
                (Phase::Frontend, _) => '-',
                (Phase::Codegen, 1) => '=',
                (Phase::Codegen, threads) => {
                    char::from_digit(u32::try_from(threads).unwrap(), 10).unwrap()
                }
                (Phase::Link, _) => '#',
                (Phase::Run, _) => '>',
            };
            row.push_str(&String::from(idle).repeat(began - row.len()));
            row.push_str(&String::from(busy).repeat(ended - began));
        }
        Rows(rows)
    }
}

fn column(ns: u64) -> usize {
    usize::try_from(ns / (MOMENT * 1000)).unwrap()
}

/// In which column those units go on that were paused.
///
/// The times in a trace are the machine's. But cargo takes no time here: what it does, it does at the
/// moment at which the last artifact before that was written, which the stand-ins tell.
fn pauses(units: &[Unit], played: &Played) -> BTreeMap<usize, usize> {
    let trace = BuildTrace::read(played.trace.as_ref().unwrap());
    let place = |id: u64| {
        let run = trace.unit(id);
        let is_it = |unit: &Unit| unit.target == run.target && unit.mode == run.mode;
        units.iter().position(is_it).unwrap()
    };
    let ends = |place: usize, phases: &[Phase]| {
        let entries = played.log.entries.iter();
        let entries = entries.filter(|it| it.place == place && phases.contains(&it.phase));
        column(entries.map(|it| it.ended).max().unwrap_or(0))
    };
    let mut continued = BTreeMap::new();
    let mut now = 0;
    for event in &trace.events {
        let Some(id) = event["args"]["unit"].as_u64() else {
            continue;
        };
        let place = place(id);
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        match (text("cat"), text("name"), text("ph")) {
            ("artifact", "metadata", _) => now = now.max(ends(place, &[Phase::Frontend])),
            ("artifact", ..) => {
                let end = match continued.get(&place) {
                    Some(at) => at + usize::try_from(units[place].codegen / MOMENT).unwrap(),
                    None => ends(
                        place,
                        &[Phase::Frontend, Phase::Codegen, Phase::Link, Phase::Run],
                    ),
                };
                now = now.max(end);
            }
            ("phase", "paused", "E") => {
                continued.insert(place, now);
            }
            _ => {}
        }
    }
    continued
}
