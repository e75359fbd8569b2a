//! What the units of a recording need of each other, as cargo's queue sees it.

use std::collections::BTreeSet;

use cargo_pipelining::config::{Pipelining, Usage};
use cargo_pipelining::graph::Need;
use cargo_pipelining::scheduler::guess::Kind;

use crate::recording::{Recording, Unit};

/// Returns for each unit the units that it needs, and what for.
///
/// A recording has no need that follows from another one. Here, what links needs all that is below it, and a
/// library all below it that is mixed, as in cargo.
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
        edges.push(if needs_objects(unit) {
            all.iter().map(need).collect()
        } else {
            let is_mixed_below = |need: &&usize| is_mixed(&units[**need]);
            let direct: BTreeSet<usize> = unit.needs.iter().copied().collect();
            let mixed = all.iter().filter(is_mixed_below).copied().collect();
            direct.union(&mixed).map(need).collect()
        });
        below.push(all);
    }
    edges
}

/// True if building the unit takes the objects of its dependencies, as Cargo's
/// `Unit::requires_upstream_objects` has it.
fn needs_objects(unit: &Unit) -> bool {
    let is_linked = match unit.estimated_kind() {
        Kind::Linked | Kind::ProcMacro | Kind::BuildScript => true,
        Kind::Library | Kind::Checked | Kind::Run | Kind::Other => false,
    };
    is_linked || has_type(unit, &["cdylib", "staticlib", "dylib"])
}

/// True if its metadata is enough for the libraries that use it.
pub(crate) fn is_library(unit: &Unit) -> bool {
    matches!(unit.estimated_kind(), Kind::Library) && !needs_objects(unit)
}

/// True for a library that is linked as well, and whose dependents start on the metadata that goes into the rlib.
fn is_mixed(unit: &Unit) -> bool {
    matches!(unit.estimated_kind(), Kind::Library)
        && has_type(unit, &["cdylib", "staticlib"])
        && !has_type(unit, &["dylib"])
}

/// True if others can start when its frontend has ended.
pub(crate) fn announces_metadata(unit: &Unit) -> bool {
    is_library(unit) || is_mixed(unit)
}

fn has_type(unit: &Unit, types: &[&str]) -> bool {
    unit.kind.iter().any(|kind| types.contains(&kind.as_str()))
}

fn usage(recording: &Recording, unit: &Unit, dependency: &Unit) -> Usage {
    let reads_rlibs = has_type(unit, &["staticlib", "dylib"]) || unit.is_linked() && recording.lto;
    match needs_objects(unit) {
        _ if !announces_metadata(dependency) => Usage::Whole,
        true if reads_rlibs => Usage::Whole,
        true => Usage::Links,
        false if unit.is_run() => Usage::Whole,
        false if is_mixed(dependency) => Usage::Links,
        false => Usage::Reads,
    }
}
