//! What the units of a recording need of each other, as cargo's queue sees it.

use std::collections::BTreeSet;

use cargo_pipelining::config::{Pipelining, Usage};
use cargo_pipelining::graph::Need;

use crate::recording::{Recording, Role, Unit};

/// For each unit, which units it needs, and what for.
///
/// A recording has no need that follows from another one. Here, what links needs all that is below
/// it, as it does in cargo.
pub fn edges(recording: &Recording, pipelining: Pipelining) -> Vec<Vec<(usize, Need)>> {
    let units = &recording.units;
    let mut below: Vec<BTreeSet<usize>> = Vec::with_capacity(units.len());
    let mut edges = Vec::with_capacity(units.len());
    for unit in units {
        let mut all: BTreeSet<usize> = unit.needs.iter().copied().collect();
        all.extend(unit.needs.iter().flat_map(|need| &below[*need]));
        let need = |dependency: &usize| {
            let usage = usage(recording, unit, &units[*dependency]);
            (*dependency, pipelining.need(usage))
        };
        edges.push(if links(unit) {
            all.iter().map(need).collect()
        } else {
            unit.needs.iter().map(need).collect()
        });
        below.push(all);
    }
    edges
}

/// Whether making the unit ends in a linker.
fn links(unit: &Unit) -> bool {
    matches!(
        unit.role(),
        Role::Linked | Role::ProcMacro | Role::BuildScript
    )
}

fn usage(recording: &Recording, unit: &Unit, dependency: &Unit) -> Usage {
    match (unit.role(), dependency.role()) {
        (Role::Library, Role::Library) => Usage::Reads,
        (Role::Linked, Role::Library) if recording.lto || reads_rlibs(unit) => Usage::Whole,
        (_, Role::Library) if links(unit) => Usage::Links,
        _ => Usage::Whole,
    }
}

/// True if the compiler itself puts libraries into its output.
fn reads_rlibs(unit: &Unit) -> bool {
    (unit.kind.iter()).any(|kind| kind == "staticlib" || kind == "dylib")
}
