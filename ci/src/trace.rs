//! What a build trace says, as a table.
//!
//! A trace is a JSON array of Chrome trace events. The units of one build are slices of category
//! `unit`; each names the units whose metadata, or whose everything, it waited for. A unit that waits
//! before its linker is in another lane meanwhile, with a slice of its own, and in a third when it
//! links. What became ready when is in the instants of category `artifact`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Event {
    name: String,
    #[serde(default)]
    cat: String,
    ph: String,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
struct Args {
    #[serde(default)]
    unit: u64,
    #[serde(default)]
    package: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    kind: Vec<String>,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    waited_for: WaitedFor,
}

#[derive(Debug, Default, Deserialize)]
struct WaitedFor {
    #[serde(default)]
    metadata: Vec<u64>,
    #[serde(default)]
    all_to_link: Vec<u64>,
    #[serde(default)]
    all: Vec<u64>,
}

impl WaitedFor {
    /// All of them, whatever was enough.
    fn units(self) -> Vec<u64> {
        [self.metadata, self.all_to_link, self.all].concat()
    }
}

/// One unit of a build; times in microseconds.
#[derive(Debug)]
struct Unit {
    label: String,
    start: u64,
    end: Option<u64>,
    metadata: Option<u64>,
    /// When it began to wait before its linker.
    parked: Option<u64>,
    /// When that was over.
    linked: Option<u64>,
    /// When its compiler was stopped, and when it went on.
    paused: Vec<(u64, Option<u64>)>,
    fresh: bool,
    waited_for: Vec<u64>,
    /// How long the first unit that waited for this one ran before this one's end.
    ahead: u64,
}

impl Unit {
    /// From when until when it waited, before its linker or because it was paused.
    fn waits(&self) -> impl Iterator<Item = (u64, Option<u64>)> {
        let parked = self.parked.map(|parked| (parked, self.linked));
        parked.into_iter().chain(self.paused.iter().copied())
    }

    /// How long it waited.
    fn waited(&self) -> u64 {
        let waits = self.waits();
        waits
            .filter_map(|(from, until)| Some(until?.saturating_sub(from)))
            .sum()
    }
}

/// A unit that was not fresh, of a build that went well.
#[derive(Debug, PartialEq)]
pub struct UnitThatRan {
    /// Its number in the trace.
    pub unit: u64,
    /// The name of the package.
    pub package: String,
    /// The version of the package.
    pub version: String,
    /// The name of the target.
    pub target: String,
    /// The kinds of the target.
    pub kind: Vec<String>,
    /// What was done with the target.
    pub mode: String,
    /// The numbers of the units that it waited for.
    pub waited_for: Vec<u64>,
    /// From its beginning to its end, in microseconds.
    pub took: u64,
}

impl UnitThatRan {
    /// Whether it is the run of a build script.
    pub fn is_run(&self) -> bool {
        self.mode == "run-custom-build"
    }
}

/// The units that ran, in the order in which they ended.
pub fn units_that_ran(text: &str) -> Result<Vec<UnitThatRan>> {
    let events: Vec<Event> = serde_json::from_str(text).context("not a trace")?;
    let mut begun = BTreeMap::new();
    let mut ran = Vec::new();
    for event in events {
        let args = event.args;
        match (event.cat.as_str(), event.ph.as_str()) {
            ("unit", "B") if !args.package.is_empty() => {
                let began = event.ts;
                let unit = UnitThatRan {
                    unit: args.unit,
                    package: args.package,
                    version: args.version,
                    target: args.target,
                    kind: args.kind,
                    mode: args.mode,
                    waited_for: args.waited_for.units(),
                    took: 0,
                };
                begun.insert(args.unit, (began, unit));
            }
            ("unit", "E") if args.outcome == "done" => {
                if let Some((began, mut unit)) = begun.remove(&args.unit) {
                    unit.took = event.ts.saturating_sub(began);
                    ran.push(unit);
                }
            }
            _ => {}
        }
    }
    Ok(ran)
}

/// A build, as its trace shows it.
#[derive(Debug)]
pub struct Build {
    units: Vec<Unit>,
}

impl Build {
    /// Reads a trace.
    pub fn parse(text: &str) -> Result<Self> {
        let events: Vec<Event> = serde_json::from_str(text).context("not a trace")?;
        let mut units: BTreeMap<u64, Unit> = BTreeMap::new();
        for event in events {
            let args = event.args;
            match (event.cat.as_str(), event.ph.as_str()) {
                // It was in another lane before.
                ("unit", "B") if units.contains_key(&args.unit) => {}
                ("unit", "B") => {
                    let waited_for = args.waited_for.units();
                    units.insert(
                        args.unit,
                        Unit {
                            label: label(&event.name, &args.kind.join("+"), &args.mode),
                            start: event.ts,
                            end: None,
                            metadata: None,
                            parked: None,
                            linked: None,
                            paused: Vec::new(),
                            fresh: false,
                            waited_for,
                            ahead: 0,
                        },
                    );
                }
                ("unit", "E") => {
                    if let Some(unit) = units.get_mut(&args.unit) {
                        unit.end = Some(event.ts);
                        unit.fresh = args.outcome == "fresh";
                    }
                }
                ("phase", ph) if event.name == "parked" => {
                    if let Some(unit) = units.get_mut(&args.unit) {
                        match ph {
                            "B" => unit.parked = Some(event.ts),
                            _ => unit.linked = Some(event.ts),
                        }
                    }
                }
                ("phase", ph) if event.name == "paused" => {
                    if let Some(unit) = units.get_mut(&args.unit) {
                        match (ph, unit.paused.last_mut()) {
                            ("B", _) => unit.paused.push((event.ts, None)),
                            (_, Some((_, until))) => *until = Some(event.ts),
                            (_, None) => {}
                        }
                    }
                }
                ("artifact", _) if event.name == "metadata" => {
                    if let Some(unit) = units.get_mut(&args.unit) {
                        unit.metadata = Some(event.ts);
                    }
                }
                _ => {}
            }
        }
        let starts: Vec<(u64, u64)> = units
            .values()
            .flat_map(|unit| unit.waited_for.iter().map(|id| (*id, unit.start)))
            .collect();
        for (id, start) in starts {
            if let Some(unit) = units.get_mut(&id)
                && let Some(end) = unit.end
            {
                unit.ahead = unit.ahead.max(end.saturating_sub(start));
            }
        }
        let mut units: Vec<Unit> = units.into_values().filter(|unit| !unit.fresh).collect();
        units.sort_by_key(|unit| unit.start);
        Ok(Build { units })
    }

    /// One line for each unit that was not fresh, and a line that sums them up.
    pub fn table(&self) -> String {
        let zero = self.units.iter().map(|unit| unit.start).min().unwrap_or(0);
        let seconds = |time: u64| format!("{:.2}", time as f64 / 1e6);
        let at = |time: Option<u64>| time.map_or("-".to_string(), |time| seconds(time - zero));
        let width = self
            .units
            .iter()
            .map(|unit| unit.label.chars().count())
            .max()
            .unwrap_or(0)
            .max("unit".len());
        let mut text = String::new();
        let mut row = |cells: [&str; 7]| {
            let [label, start, metadata, parked, linked, end, ahead] = cells;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{label:<width$}  {start:>7}  {metadata:>8}  {parked:>7}  {linked:>7}  {end:>7}  {ahead:>6}"
            );
        };
        row([
            "unit", "start", "metadata", "parked", "linking", "end", "ahead",
        ]);
        for unit in &self.units {
            let ahead = match unit.ahead {
                0 => String::new(),
                ahead => seconds(ahead),
            };
            row([
                &unit.label,
                &at(Some(unit.start)),
                &at(unit.metadata),
                &at(unit.parked),
                &at(unit.linked),
                &at(unit.end),
                &ahead,
            ]);
        }
        text.push('\n');
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    fn summary(&self) -> String {
        let zero = self.units.iter().map(|unit| unit.start).min().unwrap_or(0);
        let end = self
            .units
            .iter()
            .filter_map(|unit| unit.end)
            .max()
            .unwrap_or(zero);
        let work: u64 = self
            .units
            .iter()
            .filter_map(|unit| Some(unit.end?.saturating_sub(unit.start)))
            .sum::<u64>()
            - self.units.iter().map(Unit::waited).sum::<u64>();
        let ahead: u64 = self.units.iter().map(|unit| unit.ahead).sum();
        format!(
            "{} units in {:.1} s, {:.1} s of work, at most {} at once; dependents started {:.1} s ahead in total",
            self.units.len(),
            (end - zero) as f64 / 1e6,
            work as f64 / 1e6,
            self.most_at_once(),
            ahead as f64 / 1e6,
        )
    }

    fn most_at_once(&self) -> usize {
        let mut changes: Vec<(u64, i64)> = Vec::new();
        for unit in &self.units {
            changes.push((unit.start, 1));
            changes.push((unit.end.unwrap_or(u64::MAX), -1));
            for (from, until) in unit.waits() {
                changes.push((from, -1));
                changes.push((until.unwrap_or(u64::MAX), 1));
            }
        }
        // At the same instant, the end of one comes before the start of the next.
        changes.sort_unstable();
        let (mut now, mut most) = (0_i64, 0_i64);
        for (_, change) in changes {
            now += change;
            most = most.max(now);
        }
        usize::try_from(most).unwrap_or(0)
    }
}

/// What to call a unit: a package has several.
fn label(name: &str, kind: &str, mode: &str) -> String {
    let mut label = name.to_string();
    match (kind, mode) {
        (_, "run-custom-build") => label.push_str(" (run build script)"),
        ("custom-build", _) => label.push_str(" (build script)"),
        ("lib" | "rlib" | "", _) => {}
        (kind, _) => {
            let _ = write!(label, " ({kind})");
        }
    }
    label
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAMPLE: &str = r#"[
{"name":"thread_name","ph":"M","pid":1,"tid":1,"args":{"name":"slot 1"}},
{"name":"base v0.1.0","cat":"unit","ph":"B","pid":1,"tid":1,"ts":1000000,"args":{"job":1,"unit":4,"package":"base","version":"0.1.0","target":"base","kind":["lib"],"mode":"build","waited_for":{"metadata":[],"all":[]}}},
{"name":"frontend","cat":"phase","ph":"B","pid":1,"tid":1,"ts":1000000,"args":{"job":1,"unit":4}},
{"name":"metadata","cat":"artifact","ph":"i","s":"t","pid":1,"tid":1,"ts":1500000,"args":{"job":1,"unit":4}},
{"name":"frontend","cat":"phase","ph":"E","pid":1,"tid":1,"ts":1500000,"args":{"job":1,"unit":4}},
{"name":"tokens in use","ph":"C","pid":1,"tid":0,"ts":1500000,"args":{"tokens":2}},
{"name":"app v0.1.0","cat":"unit","ph":"B","pid":1,"tid":2,"ts":1600000,"args":{"job":2,"unit":5,"package":"app","version":"0.1.0","target":"app","kind":["lib"],"mode":"build","waited_for":{"metadata":[],"all_to_link":[4],"all":[7]}}},
{"name":"app v0.1.0","cat":"unit","ph":"E","pid":1,"tid":2,"ts":2000000,"args":{"job":2,"unit":5,"outcome":"parked"}},
{"name":"app v0.1.0","cat":"unit","ph":"B","pid":1,"tid":1001,"ts":2000000,"args":{"job":2,"unit":5}},
{"name":"parked","cat":"phase","ph":"B","pid":1,"tid":1001,"ts":2000000,"args":{"job":2,"unit":5}},
{"name":"base v0.1.0","cat":"unit","ph":"E","pid":1,"tid":1,"ts":3000000,"args":{"job":1,"unit":4,"outcome":"done"}},
{"name":"old v0.1.0","cat":"unit","ph":"B","pid":1,"tid":1,"ts":1000000,"args":{"job":3,"unit":7,"kind":["proc-macro"],"mode":"build"}},
{"name":"old v0.1.0","cat":"unit","ph":"E","pid":1,"tid":1,"ts":1000100,"args":{"job":3,"unit":7,"outcome":"fresh"}},
{"name":"parked","cat":"phase","ph":"E","pid":1,"tid":1001,"ts":3100000,"args":{"job":2,"unit":5}},
{"name":"app v0.1.0","cat":"unit","ph":"B","pid":1,"tid":1,"ts":3100000,"args":{"job":2,"unit":5}},
{"name":"app v0.1.0","cat":"unit","ph":"E","pid":1,"tid":1,"ts":3500000,"args":{"job":2,"unit":5,"outcome":"done"}}
]"#;

    #[test]
    fn a_table_of_what_was_built() {
        let table = Build::parse(SAMPLE).unwrap().table();
        let expected = "\
unit           start  metadata   parked  linking      end   ahead
base v0.1.0     0.00      0.50        -        -     2.00    1.40
app v0.1.0      0.60         -     1.00     2.10     2.50        

2 units in 2.5 s, 2.8 s of work, at most 2 at once; dependents started 1.4 s ahead in total
";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_is_paused_does_not_work() {
        let text = r#"[
{"name":"a v1.0.0","cat":"unit","ph":"B","ts":0,"args":{"unit":1}},
{"name":"paused","cat":"phase","ph":"B","ts":1000000,"args":{"unit":1}},
{"name":"b v1.0.0","cat":"unit","ph":"B","ts":1000000,"args":{"unit":2}},
{"name":"b v1.0.0","cat":"unit","ph":"E","ts":3000000,"args":{"unit":2,"outcome":"done"}},
{"name":"paused","cat":"phase","ph":"E","ts":3000000,"args":{"unit":1}},
{"name":"a v1.0.0","cat":"unit","ph":"E","ts":4000000,"args":{"unit":1,"outcome":"done"}}
]"#;
        let table = Build::parse(text).unwrap().table();
        let expected = "2 units in 4.0 s, 4.0 s of work, at most 1 at once";
        assert!(table.contains(expected), "{table}");
    }

    #[test]
    fn a_build_that_was_cut_short_still_has_a_table() {
        let text = r#"[{"name":"a v1.0.0","cat":"unit","ph":"B","ts":5,"args":{"unit":1}}]"#;
        let build = Build::parse(text).unwrap();
        assert_eq!(build.most_at_once(), 1);
        assert!(build.table().contains("1 units in 0.0 s"));
        assert!(Build::parse("[]").unwrap().table().contains("0 units"));
        assert!(Build::parse("nonsense").is_err());
    }
}
