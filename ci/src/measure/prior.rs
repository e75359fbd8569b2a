//! `cargo xtask prior`: what well-known crates take, from the recordings to learn from.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ::replay::Recording;
use ::replay::recording::Unit;
use anyhow::Result;
use cargo_pipelining::scheduler::guess::Kind as UnitKind;
use cargo_pipelining::scheduler::prior::{Kind, compatible, line_of};
use fs_err as fs;

use super::geometric_mean;
use super::sources::{Set, Source, sources};
use crate::project::Project;

/// From what factor on a range of versions has a line of its own.
const DIFFERS: f64 = 1.5;

/// Writes the table of the engine anew.
pub fn run(project: &Project) -> Result<()> {
    let sources = sources(project)?;
    let table = table(learning(&sources).map(|source| &source.recording));
    let path = project.root.join("src/scheduler/prior.txt");
    fs::write(&path, &table)?;
    let (lines, path) = (table.lines().count(), project.shown(&path));
    status!("Wrote", "{lines} lines to {path}");
    Ok(())
}

/// Returns the table without what was learned from this program, or `None` if nothing was.
pub fn without(sources: &[Source], program: &Source) -> Option<String> {
    let others = learning(sources).filter(|source| source.program() != program.program());
    (program.set == Set::Learning).then(|| table(others.map(|source| &source.recording)))
}

fn learning(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.set == Set::Learning)
}

/// The version of a crate, and what a build of it took until its metadata and from there, in ms.
type Took = ([u64; 3], [f64; 2]);

fn table<'r>(recordings: impl Iterator<Item = &'r Recording>) -> String {
    let mut crates: BTreeMap<(&str, Kind), Vec<Took>> = BTreeMap::new();
    for unit in recordings.flat_map(units_of_others) {
        let (Some(kind), Some(version)) = (kind(unit), unit.numbers()) else {
            continue;
        };
        let phases = match kind {
            Kind::Run => [unit.run, 0],
            Kind::ProcMacro | Kind::OptimizedProcMacro => {
                [unit.frontend.saturating_add(unit.codegen), 0]
            }
            Kind::Library | Kind::OptimizedLibrary => [unit.frontend, unit.codegen],
        };
        let phases = phases.map(|micros| (micros as f64 / 1e3).max(1.0));
        let builds = crates.entry((&unit.package, kind)).or_default();
        builds.push((version, phases));
    }
    let mut lines = BTreeSet::new();
    for ((name, kind), mut builds) in crates {
        builds.sort_by_key(|(version, _)| Reverse(*version));
        let ranges = builds.chunk_by(|(one, _), (other, _)| compatible(*one) == compatible(*other));
        let mut means = ranges.map(|range| (range[0].0, mean(range)));
        let Some((_, newest)) = means.next() else {
            continue;
        };
        lines.insert(line(name, None, kind, newest));
        let all = |[frontend, codegen]: [f64; 2]| frontend + codegen;
        for (version, older) in means {
            let ratio = all(older) / all(newest);
            if ratio > DIFFERS || ratio < DIFFERS.recip() {
                lines.insert(line(name, Some(&compatible(version)), kind, older));
            }
        }
    }
    lines.into_iter().collect()
}

/// Returns the units of all packages but the program's own, which comes from no registry and is built last.
fn units_of_others(recording: &Recording) -> impl Iterator<Item = &Unit> {
    let own = recording.units.last().map(|last| &last.package);
    let units = recording.units.iter();
    units.filter(move |unit| Some(&unit.package) != own)
}

/// Returns what the table tells apart.
fn kind(unit: &Unit) -> Option<Kind> {
    match unit.estimated_kind() {
        UnitKind::Library if unit.is_optimized => Some(Kind::OptimizedLibrary),
        UnitKind::Library => Some(Kind::Library),
        UnitKind::ProcMacro if unit.is_optimized => Some(Kind::OptimizedProcMacro),
        UnitKind::ProcMacro => Some(Kind::ProcMacro),
        UnitKind::Run => Some(Kind::Run),
        _ => None,
    }
}

/// Returns the means of what builds took, by phase.
fn mean(builds: &[Took]) -> [f64; 2] {
    let of = |phase: usize| {
        builds
            .iter()
            .map(|(_, took)| took[phase])
            .collect::<Vec<_>>()
    };
    [0, 1].map(|phase| geometric_mean(&of(phase)))
}

fn line(name: &str, range: Option<&str>, kind: Kind, [frontend, codegen]: [f64; 2]) -> String {
    let begin = line_of(name, range, kind);
    match kind {
        Kind::Library | Kind::OptimizedLibrary => format!("{begin}{frontend:.0} {codegen:.0}\n"),
        Kind::ProcMacro | Kind::OptimizedProcMacro | Kind::Run => format!("{begin}{frontend:.0}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(version: &str, kind: &str, is_optimized: bool, took: [u64; 2]) -> Unit {
        Unit {
            package: "known".to_owned(),
            version: version.to_owned(),
            kind: vec![kind.to_owned()],
            mode: "build".to_owned(),
            is_optimized,
            frontend: took[0] * 1_000,
            codegen: took[1] * 1_000,
            ..Unit::default()
        }
    }

    #[test]
    fn ranges_that_differ_have_their_own_line() {
        let mut recording = Recording::new("any", "none", "anywhere");
        recording.units = vec![
            unit("0.2.1", "lib", false, [10, 100]),
            unit("0.2.9", "lib", false, [40, 100]),
            unit("0.1.0", "lib", false, [20, 90]),
            unit("1.0.0", "lib", true, [7, 70]),
            unit("0.1.0", "lib", true, [7, 7]),
            unit("0.1.0", "proc-macro", false, [7, 8]),
            unit("0.1.0", "bin", false, [1, 1]),
            Unit {
                package: "program".to_owned(),
                ..unit("1.0.0", "lib", false, [1, 1])
            },
        ];
        assert_eq!(
            table([&recording].into_iter()),
            "known lib 20 100\nknown lib-optimized 7 70\nknown proc-macro 15\nknown@0.1 lib-optimized 7 7\n"
        );
    }

    #[test]
    fn nothing_is_known_from_the_program_itself() {
        let source = |name: &str, set, took| {
            let mut recording = Recording::new(name, "none", "anywhere");
            let program = Unit {
                package: "program".to_owned(),
                ..unit("1.0.0", "bin", false, [1, 1])
            };
            recording.units = vec![unit("1.0.0", "lib", false, [took, took]), program];
            Source {
                name: name.to_owned(),
                set,
                recording,
            }
        };
        let sources = [
            source("a-dev", Set::Learning, 10),
            source("a-release", Set::Learning, 10),
            source("b-dev", Set::Learning, 40),
            source("c-dev", Set::Reporting, 90),
        ];
        let without: Vec<_> = sources.iter().map(|it| without(&sources, it)).collect();
        let known = |took| Some(format!("known lib {took} {took}\n"));
        assert_eq!(without, [known(40), known(40), known(10), None]);
        assert_eq!(
            super::without(&sources[..2], &sources[0]),
            Some(String::new())
        );
    }
}
