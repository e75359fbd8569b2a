//! The table that `cargo xtask run` prints: what overlapped in a traced build.

use std::collections::BTreeMap;

use cargo_pipelining::trace::{Outcome, Phase};
use replay::BuildTrace;
use replay::trace::{Moment, UnitRun, most_at_once};

use crate::table::Table;

/// Returns a line for each unit that was not fresh, and a line that sums them up.
pub fn table(trace: &BuildTrace) -> String {
    // For each unit, the earliest start of a unit that waited for it.
    let mut dependents: BTreeMap<usize, u64> = BTreeMap::new();
    for unit in trace.units.values() {
        let needs = &unit.waited_for;
        for need in [&needs.metadata, &needs.all_to_link, &needs.all]
            .into_iter()
            .flatten()
        {
            let earliest = dependents.entry(*need).or_insert(u64::MAX);
            *earliest = unit.began.time.min(*earliest);
        }
    }
    let mut units: Vec<(&usize, &UnitRun)> = (trace.units.iter())
        .filter(|(_, unit)| unit.outcome != Some(Outcome::Fresh))
        .collect();
    units.sort_by_key(|(_, unit)| unit.began);
    let times = || units.iter().map(|(_, unit)| unit.began.time);
    let zero = times().min().unwrap_or(0);
    let last = units.iter().filter_map(|(_, unit)| unit.ended);
    let end = last.map(|moment| moment.time).max().unwrap_or(zero);

    let mut table = Table::new("unit|start|metadata|parked|linking|end|ahead");
    let at = |moment: Option<Moment>| match moment {
        Some(moment) => format!("{:.2}", (moment.time - zero) as f64 / 1e6),
        None => "-".to_owned(),
    };
    let (mut all_ahead, mut work) = (0, 0);
    for (id, unit) in &units {
        let parked = unit.phase(Phase::Parked);
        let earliest = dependents.get(id).copied().unwrap_or(u64::MAX);
        let ahead = unit
            .ended
            .map_or(0, |end| end.time.saturating_sub(earliest));
        all_ahead += ahead;
        let busy = unit.phases.iter().filter(|run| !run.is_wait());
        let busy = busy.filter_map(|run| Some(run.ended?.time - run.began.time));
        work += busy.sum::<u64>();
        table.row(&format!(
            "{}|{}|{}|{}|{}|{}|{}",
            label(unit),
            at(Some(unit.began)),
            at(unit.metadata),
            at(parked.map(|parked| parked.began)),
            at(parked.and_then(|parked| parked.ended)),
            at(unit.ended),
            match ahead {
                0 => String::new(),
                ahead => format!("{:.2}", ahead as f64 / 1e6),
            }
        ));
    }
    let phases = units.iter().flat_map(|(_, unit)| &unit.phases);
    let busy = phases.filter(|run| !run.is_wait());
    format!(
        "{}\n\n{} units in {:.1} s, {:.1} s of work, at most {} at once; dependents started {:.1} s ahead in total",
        table.plain(),
        units.len(),
        (end - zero) as f64 / 1e6,
        work as f64 / 1e6,
        most_at_once(busy.map(|run| (run.began, run.ended))),
        all_ahead as f64 / 1e6,
    )
}

/// Returns the name of a unit: a package has several.
fn label(unit: &UnitRun) -> String {
    let name = &unit.name;
    if unit.is_run() {
        return format!("{name} (run build script)");
    }
    match &*unit.kind.join("+") {
        "custom-build" => format!("{name} (build script)"),
        "lib" | "rlib" => name.clone(),
        kind => format!("{name} ({kind})"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TRACE: &str = r#"[
{"name":"thread_name","ph":"M","args":{"name":"slot 1"}},
{"name":"base v0.1.0","cat":"unit","ph":"B","ts":1000000,"args":{"unit":4,"package":"base","kind":["lib"],"mode":"build"}},
{"name":"frontend","cat":"phase","ph":"B","ts":1000000,"args":{"unit":4}},
{"name":"metadata","cat":"artifact","ph":"i","ts":1500000,"args":{"unit":4}},
{"name":"app v0.1.0","cat":"unit","ph":"B","ts":1600000,"args":{"unit":5,"package":"app","kind":["bin"],"mode":"build","waited_for":{"metadata":[],"all_to_link":[4],"all":[7]}}},
{"name":"compile","cat":"phase","ph":"B","ts":1600000,"args":{"unit":5}},
{"name":"compile","cat":"phase","ph":"E","ts":2000000,"args":{"unit":5}},
{"name":"app v0.1.0","cat":"unit","ph":"E","ts":2000000,"args":{"unit":5,"outcome":"parked"}},
{"name":"app v0.1.0","cat":"unit","ph":"B","ts":2000000,"args":{"unit":5}},
{"name":"parked","cat":"phase","ph":"B","ts":2000000,"args":{"unit":5}},
{"name":"frontend","cat":"phase","ph":"E","ts":3000000,"args":{"unit":4}},
{"name":"base v0.1.0","cat":"unit","ph":"E","ts":3000000,"args":{"unit":4,"outcome":"done"}},
{"name":"old v0.1.0","cat":"unit","ph":"B","ts":1000000,"args":{"unit":7,"package":"old","kind":["proc-macro"],"mode":"build"}},
{"name":"old v0.1.0","cat":"unit","ph":"E","ts":1000100,"args":{"unit":7,"outcome":"fresh"}},
{"name":"parked","cat":"phase","ph":"E","ts":3100000,"args":{"unit":5}},
{"name":"link","cat":"phase","ph":"B","ts":3100000,"args":{"unit":5}},
{"name":"link","cat":"phase","ph":"E","ts":3500000,"args":{"unit":5}},
{"name":"app v0.1.0","cat":"unit","ph":"E","ts":3500000,"args":{"unit":5,"outcome":"done"}}
]"#;

    #[test]
    fn shows_what_overlapped() {
        let table = table(&BuildTrace::parse(TRACE).unwrap());
        let expected = "
unit              start  metadata  parked  linking   end  ahead
base v0.1.0        0.00      0.50       -        -  2.00   1.40
app v0.1.0 (bin)   0.60         -    1.00     2.10  2.50

2 units in 2.5 s, 2.8 s of work, at most 2 at once; dependents started 1.4 s ahead in total";
        assert_eq!(format!("\n{table}"), expected);
    }

    #[test]
    fn build_that_was_killed_has_a_table() {
        let begin =
            r#"[{"name":"a v1","cat":"unit","ph":"B","ts":5,"args":{"unit":1,"package":"a"}}]"#;
        let killed = table(&BuildTrace::parse(begin).unwrap());
        assert!(killed.contains("1 units in 0.0 s"), "{killed}");
        assert!(table(&BuildTrace::default()).contains("0 units"));
    }
}
