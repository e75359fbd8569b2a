//! The report of a benchmark: tables for people, and `bench.json` for programs.
//!
//! In `bench.json`, which is a [`Report`], times are in seconds if nothing else is said. What the
//! platform does not tell is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bench::Side;
use super::geometric_mean;
use super::queue::{Graph, Spent};
use super::sources::Set;
use crate::table::Table;

/// From this number of jobs on, more overlap must not make a build slower.
const MANY_JOBS: u64 = 8;

/// The factor by which it may, nevertheless: the order of the jobs changes, too. The same is granted to
/// mode `link` against the released cargo, with any number of jobs.
const TOLERANCE: f64 = 1.01;

/// From this number of jobs on, the distance to the limit is that of a scheduler: with one job, any
/// order is as good.
const FEWEST_SCHEDULED: u64 = 2;

/// The ratio to the limit that a side may have: the geometric mean of all cases, and the worst.
const MOST_TO_LIMIT: [(Side, f64, f64); 2] = [(Side::Link, 1.06, 1.15), (Side::Cold, 1.09, 1.20)];

/// The ratio of the queue's time to that for a tenth of the units: it is linear, but for the sizes of
/// caches and for the logarithm in a heap.
const MOST_GROWTH: f64 = 12.0;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// True for a quick run: fewer cases, fewer numbers of jobs.
    pub quick: bool,
    pub cases: Vec<Case>,
    /// What the queues alone cost, on generated graphs. Of two graphs of one shape the smaller one
    /// comes first.
    pub queues: Vec<Graph>,
}

#[derive(Debug, Default, Serialize)]
pub struct Case {
    pub name: String,
    pub set: Set,
    pub title: String,
    pub units: usize,
    /// The time of all units, one after another.
    pub work: f64,
    pub rows: Vec<Row>,
}

/// A recorded build with one number of jobs.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub jobs: u64,
    /// What the work and the critical path leave to any scheduler.
    pub limit: f64,
    pub walls: BTreeMap<Side, f64>,
    /// The most compilers that were paused at the same time in [`Side::Link`].
    pub most_paused: usize,
}

impl Row {
    fn ratio(&self, side: Side, to: Side) -> f64 {
        self.walls[&side] / self.walls[&to]
    }

    pub fn to_stock(&self, side: Side) -> f64 {
        self.ratio(side, Side::Stock)
    }

    fn to_limit(&self, side: Side) -> f64 {
        self.walls[&side] / self.limit
    }
}

const EXPLANATION: &str = "\
Recorded builds, simulated on the scheduler. Wall times are in seconds; a ratio below 1 is quicker. `stock` is
mode `metadata` in the order of the released cargo, which is how that builds. `off`, `metadata` and `link` are
the modes of the replacement with measured costs; `link` is the default. `cold` is the same with guessed
costs, and `stock-order` in the order of the released cargo: what is left is that units that link start
early. Set `first` is what the rules were made on, `learning` what the table of well-known crates and the signs of
others were learned from, and `reporting` only judges. In a first build, a program of `learning` is guessed by the
table without its own crates. The limit is what the work and the critical path leave to any scheduler. Paused is
the most compilers that were paused at the same time in `link`. Overlap gained is the part of the time of `off` that
the mode `link` saves.

On generated graphs the two queues are measured alone, without the rest of cargo: the time that they take,
and the most memory that they have. Growth is the ratio of that time to the time for a tenth of the units:
10 is linear.

![Speed-up](overview.svg)
";

impl Report {
    pub fn plain(&self) -> String {
        let sections = self.sections().into_iter();
        sections
            .map(|(heading, table)| format!("{heading}\n{}\n\n", table.plain()))
            .collect()
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("# Benchmark\n\n{EXPLANATION}");
        for (heading, table) in self.sections() {
            text += &format!("\n## {heading}\n\n{}\n", table.markdown());
        }
        let notes = self.notes();
        if !notes.is_empty() {
            let notes = notes.join("\n- ");
            text += &format!("\n## What should not be so\n\n- {notes}\n");
        }
        text
    }

    fn sections(&self) -> Vec<(String, Table)> {
        let mut sections: Vec<_> = self.cases.iter().map(Case::section).collect();
        for set in self.sets() {
            let heading = format!("Set `{set}`: geometric means");
            sections.push((heading, self.means_of(set)));
            let jobs = format!("-j{FEWEST_SCHEDULED} and more");
            let heading = format!("Set `{set}` with {jobs}: wall time to the limit");
            sections.push((heading, self.to_limit(set)));
        }
        sections.push((
            "What the queue alone costs: graphs in which nothing takes any time, -j8".to_owned(),
            self.queues(),
        ));
        sections
    }

    /// Returns the sets that the cases are of.
    fn sets(&self) -> impl Iterator<Item = Set> {
        let has = |set: &Set| self.cases.iter().any(|case| case.set == *set);
        Set::ALL.into_iter().filter(has)
    }

    /// Returns the numbers of jobs, with the geometric means of the ratios of all cases in these sets.
    pub fn means(&self, sets: &[Set], ratio: impl Fn(&Row) -> f64) -> Vec<(u64, f64)> {
        let rows = self.cases.first().map_or(&[][..], |case| &case.rows);
        let mean = |place: usize| {
            let cases = self.cases.iter().filter(|case| sets.contains(&case.set));
            let rows = cases.map(|case| &case.rows[place]);
            geometric_mean(&rows.map(&ratio).collect::<Vec<_>>())
        };
        let rows = rows.iter().enumerate();
        rows.map(|(place, row)| (row.jobs, mean(place))).collect()
    }

    fn means_of(&self, set: Set) -> Table {
        let sides = [Side::Metadata, Side::Link, Side::Cold, Side::StockOrder];
        let to_stock = sides.map(|side| self.means(&[set], |row| row.to_stock(side)));
        let to_limit = sides.map(|side| self.means(&[set], |row| row.to_limit(side)));
        let names = |to| sides.map(|side| format!("|{side}/{to}")).concat();
        let mut table = Table::new(&(names("stock") + &names("limit")));
        for (place, (jobs, _)) in to_stock[0].iter().enumerate() {
            let means = to_stock.iter().chain(&to_limit);
            let means = means.map(|means| format!("|{:.3}", means[place].1));
            table.row(&format!("-j{jobs}{}", means.collect::<String>()));
        }
        table
    }

    /// Returns the geometric mean and the greatest of a side's ratios to the limit in a set.
    fn distance(&self, set: Set, side: Side) -> (f64, f64) {
        let is_in = |case: &Case, row: &Row| case.set == set && row.jobs >= FEWEST_SCHEDULED;
        let rows = self.rows().filter(|(case, row)| is_in(case, row));
        let ratios: Vec<f64> = rows.map(|(_, row)| row.to_limit(side)).collect();
        let worst = ratios.iter().copied().fold(f64::NAN, f64::max);
        (geometric_mean(&ratios), worst)
    }

    fn to_limit(&self, set: Set) -> Table {
        let mut table = Table::new("|geometric mean|worst");
        for side in Side::ALL {
            let (mean, worst) = self.distance(set, side);
            table.row(&format!("{side}|{mean:.3}|{worst:.3}"));
        }
        table
    }

    /// Returns the ratio of a queue's time to that for a tenth of the units.
    fn growth(&self, graph: &Graph, of: fn(&Graph) -> Spent) -> Option<f64> {
        let mut graphs = self.queues.iter();
        let tenth =
            graphs.find(|tenth| tenth.shape == graph.shape && tenth.units * 10 == graph.units)?;
        Some(of(graph).nanos as f64 / of(tenth).nanos as f64)
    }

    fn queues(&self) -> Table {
        let mut table = Table::new(
            "|units|stock, µs/unit|ours|ours/stock|stock, growth|ours|stock, bytes/unit|ours|ours/stock",
        );
        for graph in &self.queues {
            let (shape, units) = (&graph.shape, graph.units as f64);
            let times = [graph.stock, graph.ours].map(|spent| spent.nanos as f64);
            let bytes = [graph.stock, graph.ours].map(|spent| spent.peak_bytes as f64);
            let columns = |[stock, ours]: [f64; 2], digits| {
                let (stock, ours, ratio) = (stock / units, ours / units, ours / stock);
                (
                    format!("{stock:.digits$}|{ours:.digits$}"),
                    format!("{ratio:.3}"),
                )
            };
            let (times, time_ratio) = columns(times.map(|nanos| nanos / 1e3), 2);
            let (bytes, memory_ratio) = columns(bytes, 0);
            let growth = |of| match self.growth(graph, of) {
                Some(growth) => format!("{growth:.1}"),
                None => "-".to_owned(),
            };
            let (stock, ours) = (growth(|graph| graph.stock), growth(|graph| graph.ours));
            table.row(&format!(
                "{shape}|{units}|{times}|{time_ratio}|{stock}|{ours}|{bytes}|{memory_ratio}"
            ));
        }
        table
    }

    /// Lists where more overlap or another order has made a build slower, where builds stay too far
    /// from the limit, and where the queue costs too much.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |is_bad: bool, text: String| notes.extend(is_bad.then_some(text));
        let mut slower = |least_jobs, pairs: [(Side, Side); 2]| {
            for (case, row) in self.rows().filter(|(_, row)| row.jobs >= least_jobs) {
                for (side, to) in pairs {
                    let (name, jobs, ratio) = (&case.name, row.jobs, row.ratio(side, to));
                    let text = format!(
                        "{name}, -j{jobs}: `{side}` takes {ratio:.3} times as long as `{to}`"
                    );
                    note(ratio > TOLERANCE, text);
                }
            }
        };
        let (link, metadata) = (Side::Link, Side::Metadata);
        slower(MANY_JOBS, [(link, metadata), (metadata, Side::Off)]);
        slower(0, [(link, Side::Stock), (Side::Cold, Side::Stock)]);
        let sets = self
            .sets()
            .flat_map(|set| MOST_TO_LIMIT.map(|most| (set, most)));
        for (set, (side, most_mean, most_worst)) in sets {
            let (mean, worst) = self.distance(set, side);
            let pairs = [
                (mean, most_mean, "on average"),
                (worst, most_worst, "at worst"),
            ];
            for (ratio, most, what) in pairs {
                let text = format!(
                    "`{side}` takes {ratio:.3} times the limit {what} in set `{set}`, more than {most:.2}"
                );
                note(ratio > most, text);
            }
        }
        for graph in &self.queues {
            let name = format!("the queue, {} of {}: ours takes", graph.shape, graph.units);
            let ratio = graph.ours.nanos as f64 / graph.stock.nanos as f64;
            let text = format!("{name} {ratio:.3} times as long as the released one");
            note(ratio > 1.0, text);
            let growth = self.growth(graph, |graph| graph.ours).unwrap_or(1.0);
            let text = format!("{name} {growth:.1} times as long as for a tenth of the units");
            note(growth > MOST_GROWTH, text);
        }
        notes
    }

    fn rows(&self) -> impl Iterator<Item = (&Case, &Row)> {
        let cases = self.cases.iter();
        cases.flat_map(|case| case.rows.iter().map(move |row| (case, row)))
    }
}

impl Case {
    fn section(&self) -> (String, Table) {
        let sides = Side::ALL.map(|side| format!("|{side}")).concat();
        let ratios = "|link/stock|link/limit|cold/limit|paused|overlap gained";
        let mut table = Table::new(&(sides + ratios));
        for row in &self.rows {
            let walls = row.walls.values().map(|wall| format!("|{wall:.2}"));
            table.row(&format!(
                "-j{}{}|{:.3}|{:.3}|{:.3}|{}|{:.1}%",
                row.jobs,
                walls.collect::<String>(),
                row.to_stock(Side::Link),
                row.to_limit(Side::Link),
                row.to_limit(Side::Cold),
                row.most_paused,
                (1.0 - row.ratio(Side::Link, Side::Off)) * 100.0
            ));
        }
        let (title, name, units) = (&self.title, &self.name, self.units);
        let work = self.work;
        let heading = format!("{title} ({name}): {units} units, {work:.1} s of work");
        (heading, table)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A build with one and eight jobs, and a limit of five seconds.
    pub fn case(name: &str, seconds: [f64; 6]) -> Case {
        let row = |jobs| Row {
            jobs,
            limit: 5.0,
            walls: std::iter::zip(Side::ALL, seconds).collect(),
            most_paused: 3,
        };
        Case {
            name: name.to_owned(),
            title: format!("{name} 1.0.0"),
            rows: vec![row(1), row(8)],
            ..Case::default()
        }
    }

    fn report(cases: Vec<Case>) -> Report {
        Report {
            cases,
            ..Report::default()
        }
    }

    #[test]
    fn tables_have_ratios() {
        let first = case("a", [20.0, 40.0, 20.0, 10.0, 10.0, 5.0]);
        let report = report(vec![first, case("b", [20.0; 6])]);
        let plain = report.plain();
        let row = "-j8  20.00  40.00     20.00  10.00  10.00         5.00       0.500       2.000       2.000       3           75.0%";
        assert!(plain.contains(row), "{plain}");
        let (jobs, mean) = report.means(&Set::ALL, |row| row.to_stock(Side::Off))[1];
        assert_eq!(jobs, 8);
        assert!((mean - 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn slower_with_more_overlap() {
        let report = report(vec![case("a", [20.0, 40.0, 41.0, 5.0, 5.0, 5.0])]);
        let note = "a, -j8: `metadata` takes 1.025 times as long as `off`";
        assert_eq!(report.notes(), [note]);
        assert!(report.markdown().contains(&format!("\n- {note}")));
    }

    #[test]
    fn slower_than_the_released_cargo_or_far_from_the_limit() {
        let first = case("a", [5.0, 6.0, 6.0, 6.0, 5.0, 5.0]);
        let report = report(vec![first, case("b", [6.0, 6.0, 6.0, 5.0, 6.0, 6.0])]);
        assert_eq!(
            report.notes(),
            [
                "a, -j1: `link` takes 1.200 times as long as `stock`",
                "a, -j8: `link` takes 1.200 times as long as `stock`",
                "`link` takes 1.095 times the limit on average in set `first`, more than 1.06",
                "`link` takes 1.200 times the limit at worst in set `first`, more than 1.15",
                "`cold` takes 1.095 times the limit on average in set `first`, more than 1.09",
            ]
        );
    }

    #[test]
    fn queue_that_costs_too_much() {
        let graph = |units, stock, ours| {
            let spent = |nanos| Spent {
                nanos,
                peak_bytes: 100 * units as u64,
            };
            Graph {
                shape: "fan".to_owned(),
                units,
                stock: spent(stock),
                ours: spent(ours),
            }
        };
        let report = Report {
            queues: vec![graph(100, 100_000, 50_000), graph(1000, 500_000, 1_000_000)],
            ..Report::default()
        };
        assert_eq!(
            report.notes(),
            [
                "the queue, fan of 1000: ours takes 2.000 times as long as the released one",
                "the queue, fan of 1000: ours takes 20.0 times as long as for a tenth of the units"
            ]
        );
        let plain = report.plain();
        assert!(plain.contains("100            1.00  0.50"), "{plain}");
    }
}
