//! What a benchmark has found: tables for people, and `bench.json` for programs.
//!
//! # `bench.json`
//!
//! One object. Times are in seconds, where nothing else is said; ratios below 1 are in favour of what
//! is named first. What the platform does not tell is `null`.
//!
//! | field | |
//! | --- | --- |
//! | `quick` | whether it was a quick run: fewer cases, fewer numbers of jobs |
//! | `cases` | the recorded builds |
//! | `means` | the geometric means of their ratios, for each number of jobs |
//! | `to_limit` | how close each side comes to the limit with two jobs and more |
//! | `queues` | what the queues alone cost, on generated graphs |
//!
//! | field of a case | |
//! | --- | --- |
//! | `name`, `title` | of the file, and what it says that was built |
//! | `units`, `work` | how many jobs the build has, and how long they take one after another |
//! | `rows` | one for each number of jobs |
//!
//! | field of a row | |
//! | --- | --- |
//! | `jobs` | `-j` |
//! | `limit` | what the work and the longest path through it leave to any scheduler: [`replay::limit`] |
//! | `stock` | the released cargo |
//! | `off`, `metadata`, `link` | the modes of the replacement, after an earlier build of the same |
//! | `cold` | `link` without one |
//! | `stock_order` | `link` in the order of the released cargo |
//! | `most_paused` | the most compilers that were paused at the same time in `link` |
//!
//! | field of one of these | |
//! | --- | --- |
//! | `wall` | how long the build took |
//! | `to_stock`, `to_limit` | the ratio to the released cargo, and to the limit |
//! | `overlap_gained` | what part of the time without pipelining is saved: 1 - `wall` / `wall` of `off` |
//!
//! | field of a mean | |
//! | --- | --- |
//! | `jobs` | `-j` |
//! | `off_to_stock`, `metadata_to_stock`, `link_to_stock`, `cold_to_stock`, `stock_order_to_stock` | of the ratios of all cases |
//! | `link_to_limit`, `cold_to_limit`, `stock_order_to_limit` | the same |
//!
//! | field of `to_limit` | |
//! | --- | --- |
//! | `side` | `stock`, `off`, … |
//! | `mean`, `worst` | the geometric mean of the ratios of all cases with two jobs and more, and the greatest |
//!
//! | field of a queue | |
//! | --- | --- |
//! | `shape`, `units` | what was generated |
//! | `stock`, `ours` | what the released queue and that of the replacement cost |
//! | `time_ratio`, `memory_ratio` | `ours` to `stock` |
//!
//! | field of one of these | |
//! | --- | --- |
//! | `time`, `time_per_unit` | how long it took, the median of some rounds; for each unit, in µs |
//! | `peak_memory`, `memory_per_unit` | the most memory that it had, in bytes; for each unit |
//! | `growth` | how many times the time for a tenth of the units `time` is: 10 is linear |

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::queue::{Line, Spent};
use super::results::Side;

/// From how many jobs on more overlap must not make a build slower.
const MANY_JOBS: u64 = 8;

/// By what factor it may, nevertheless: the order of the jobs changes, too. The same is granted to mode
/// `link` against the released cargo, with any number of jobs.
const TOLERANCE: f64 = 1.01;

/// From how many jobs on the distance to the limit is that of a scheduler: with one, any order is as
/// good.
const FEWEST_SCHEDULED: u64 = 2;

/// How many times the limit a build may take: the geometric mean of all cases, and the worst of them.
const MOST_TO_LIMIT: [(Side, f64, f64); 2] = [(Side::Link, 1.06, 1.15), (Side::Cold, 1.09, 1.20)];

/// How many times as long ten times the units may keep the queue: it is linear, but for the sizes of
/// caches and for the logarithm in a heap.
const MOST_GROWTH: f64 = 12.0;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether it was a quick run.
    pub quick: bool,
    /// The recorded builds.
    pub cases: Vec<Case>,
    /// What they have in common, for each number of jobs.
    pub means: Vec<Mean>,
    /// How close each side comes to the limit.
    pub to_limit: Vec<ToLimit>,
    /// What the queues alone cost, on generated graphs.
    pub queues: Vec<Queues>,
}

/// A recorded build.
#[derive(Debug, Serialize)]
pub struct Case {
    /// Of the file.
    pub name: String,
    /// What was built.
    pub title: String,
    /// How many units.
    pub units: usize,
    /// All of their work, in seconds.
    pub work: f64,
    /// One for each number of jobs.
    pub rows: Vec<Row>,
}

/// A recorded build with so many jobs.
#[derive(Debug, Serialize)]
pub struct Row {
    /// How many jobs.
    pub jobs: u64,
    /// What the work and the longest path through it leave to any scheduler, in seconds.
    pub limit: f64,
    stock: Build,
    off: Build,
    metadata: Build,
    link: Build,
    cold: Build,
    stock_order: Build,
    /// The most compilers that were paused at the same time in [`Side::Link`], if that is known.
    most_paused: Option<usize>,
}

/// One replay.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Build {
    /// How long it took, in seconds.
    pub wall: f64,
    /// The same to the time of the released cargo.
    pub to_stock: f64,
    /// The same to the limit.
    pub to_limit: f64,
    /// What part of the time without pipelining is saved.
    pub overlap_gained: f64,
}

/// The geometric means of the ratios of all cases.
#[derive(Debug, Serialize)]
pub struct Mean {
    /// How many jobs.
    pub jobs: u64,
    /// [`Side::Off`] to [`Side::Stock`].
    pub off_to_stock: f64,
    /// [`Side::Metadata`] to [`Side::Stock`].
    pub metadata_to_stock: f64,
    /// [`Side::Link`] to [`Side::Stock`].
    pub link_to_stock: f64,
    /// [`Side::Cold`] to [`Side::Stock`].
    pub cold_to_stock: f64,
    /// [`Side::StockOrder`] to [`Side::Stock`].
    pub stock_order_to_stock: f64,
    /// [`Side::Link`] to the limit.
    pub link_to_limit: f64,
    /// [`Side::Cold`] to the limit.
    pub cold_to_limit: f64,
    /// [`Side::StockOrder`] to the limit.
    pub stock_order_to_limit: f64,
}

/// How close one side comes to the limit, over all cases with two jobs and more.
#[derive(Debug, Serialize)]
pub struct ToLimit {
    /// Which side.
    pub side: Side,
    /// The geometric mean of the ratios; not a number if there are none.
    pub mean: f64,
    /// The greatest of the ratios; not a number if there are none.
    pub worst: f64,
}

/// What the two queues cost on a generated graph.
#[derive(Debug, Serialize)]
pub struct Queues {
    /// The shape of the graph.
    pub shape: String,
    /// How many units it has.
    pub units: usize,
    stock: Cost,
    ours: Cost,
    time_ratio: f64,
    memory_ratio: f64,
}

/// What one queue costs.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    time: f64,
    time_per_unit: f64,
    peak_memory: u64,
    memory_per_unit: f64,
    growth: Option<f64>,
}

impl Report {
    /// Puts together what was found.
    ///
    /// Of two graphs of one shape the smaller one comes first in `queues`.
    pub fn new(quick: bool, cases: Vec<Case>, queues: Vec<Line>) -> Self {
        let rows = cases.first().map_or(&[][..], |case| &case.rows);
        Report {
            quick,
            means: rows.iter().map(|row| Mean::of(&cases, row.jobs)).collect(),
            to_limit: Side::ALL
                .map(|side| ToLimit::of(&cases, side))
                .into_iter()
                .collect(),
            cases,
            queues: Queues::of(queues),
        }
    }

    /// Where more overlap or another order has made a build slower, where builds stay too far from the
    /// limit, and where the queue costs too much.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for case in &self.cases {
            for row in case.rows.iter().filter(|row| row.jobs >= MANY_JOBS) {
                for (more, less) in [(Side::Link, Side::Metadata), (Side::Metadata, Side::Off)] {
                    let ratio = row.side(more).wall / row.side(less).wall;
                    if ratio > TOLERANCE {
                        let (more, less) = (more.name(), less.name());
                        notes.push(format!(
                            "{}, -j{}: `{more}` takes {ratio:.3} times as long as `{less}`",
                            case.name, row.jobs
                        ));
                    }
                }
            }
        }
        notes.extend(self.cases.iter().flat_map(Case::slower_than_stock));
        notes.extend(self.to_limit.iter().flat_map(ToLimit::notes));
        notes.extend(self.queues.iter().flat_map(Queues::notes));
        notes
    }

    /// All tables, for a terminal.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        for section in self.sections() {
            let _ = writeln!(text, "{}\n{}", section.heading, section.table.plain());
        }
        text
    }

    /// All tables, as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Benchmark\n\n{EXPLANATION}");
        for section in self.sections() {
            let table = section.table.markdown();
            let _ = write!(text, "\n## {}\n\n{table}", section.heading);
            if let Some(name) = section.case {
                let _ = write!(
                    text,
                    "\n![Speed-up]({name}-speedup.svg)\n\n![What ran when]({name}-gantt.svg)\n"
                );
            }
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text.push_str("\n## What should not be so\n\n");
            for note in notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        text
    }

    fn sections(&self) -> Vec<Section<'_>> {
        let mut sections: Vec<_> = self.cases.iter().map(Case::section).collect();
        sections.push(Section {
            heading: "All builds: geometric means".to_owned(),
            table: means(&self.means),
            case: None,
        });
        sections.push(Section {
            heading: format!(
                "All builds with -j{FEWEST_SCHEDULED} and more: wall time to the limit"
            ),
            table: to_limit(&self.to_limit),
            case: None,
        });
        sections.push(Section {
            heading: "What the queue alone costs: graphs in which nothing takes any time, -j8"
                .to_owned(),
            table: queues(&self.queues),
            case: None,
        });
        sections
    }
}

const EXPLANATION: &str = "\
Recorded builds, replayed: the real cargos, and compilers that only wait as long as the recorded ones
took. Wall times are in seconds; a ratio below 1 is quicker. `stock` is the released cargo. `off`,
`metadata` and `link` are the modes of the replacement, where an earlier build with as many jobs has
measured what the units cost; `link` is the default. `cold` is the same where nobody has built the units
before, and `stock-order` with jobs in the order of the released cargo: what is left is that units that
link start early. The limit is what the work and the longest path through it leave to any scheduler.
Paused is the most compilers that were paused at the same time in `link`. Overlap gained is what part of
the time of `off` the mode `link` saves.

What more pauses are worth was simulated, with costs known exactly: all builds, and the release builds
once more with one codegen unit in each library.

![Wall time to the limit, by how many compilers may be paused](pauses.svg)

On generated graphs the two queues are measured alone, without the rest of cargo: the time that they take,
and the most memory that they have. Growth is how many times the time for a tenth of the units that is: 10
is linear.
";

/// A table under a heading.
struct Section<'c> {
    heading: String,
    table: Table,
    /// The name of the case, if it is about one.
    case: Option<&'c str>,
}

impl Case {
    fn section(&self) -> Section<'_> {
        let mut table = Table::new(&[
            "",
            "stock",
            "off",
            "metadata",
            "link",
            "cold",
            "stock-order",
            "link/stock",
            "link/limit",
            "cold/limit",
            "paused",
            "overlap gained",
        ]);
        for row in &self.rows {
            let mut cells = vec![format!("-j{}", row.jobs)];
            cells.extend(Side::ALL.map(|side| format!("{:.2}", row.side(side).wall)));
            cells.push(ratio(row.link.to_stock));
            cells.extend([row.link, row.cold].map(|build| ratio(build.to_limit)));
            let paused = row.most_paused.map(|paused| paused.to_string());
            cells.push(paused.unwrap_or_else(|| "-".to_owned()));
            cells.push(format!("{:.1}%", row.link.overlap_gained * 100.0));
            table.rows.push(cells);
        }
        Section {
            heading: format!(
                "{} ({}): {} units, {:.1} s of work",
                self.title, self.name, self.units, self.work
            ),
            table,
            case: Some(&self.name),
        }
    }

    /// Where the replacement with its defaults is slower than the released cargo, known costs or not.
    fn slower_than_stock(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for row in &self.rows {
            for side in [Side::Link, Side::Cold] {
                let ratio = row.side(side).to_stock;
                if ratio > TOLERANCE {
                    notes.push(format!(
                        "{}, -j{}: `{}` takes {ratio:.3} times as long as `stock`",
                        self.name,
                        row.jobs,
                        side.name()
                    ));
                }
            }
        }
        notes
    }
}

impl Row {
    /// Puts together what the builds took, in the order of [`Side::ALL`], and how many compilers were
    /// paused at most in [`Side::Link`].
    pub fn new(
        jobs: u64,
        limit: Duration,
        walls: [Duration; Side::ALL.len()],
        most_paused: Option<usize>,
    ) -> Self {
        let limit = limit.as_secs_f64();
        let walls @ [stock, off, ..] = walls.map(|wall| wall.as_secs_f64());
        let [stock, off, metadata, link, cold, stock_order] = walls.map(|wall| Build {
            wall,
            to_stock: wall / stock,
            to_limit: wall / limit,
            overlap_gained: 1.0 - wall / off,
        });
        Row {
            jobs,
            limit,
            stock,
            off,
            metadata,
            link,
            cold,
            stock_order,
            most_paused,
        }
    }

    /// One of the builds.
    pub fn side(&self, side: Side) -> &Build {
        match side {
            Side::Stock => &self.stock,
            Side::Off => &self.off,
            Side::Metadata => &self.metadata,
            Side::Link => &self.link,
            Side::Cold => &self.cold,
            Side::StockOrder => &self.stock_order,
        }
    }
}

impl Mean {
    fn of(cases: &[Case], jobs: u64) -> Self {
        let rows = || cases.iter().flat_map(|case| &case.rows);
        let mean = |ratio: fn(&Row) -> f64| {
            geometric_mean(rows().filter(|row| row.jobs == jobs).map(ratio))
        };
        Mean {
            jobs,
            off_to_stock: mean(|row| row.off.to_stock),
            metadata_to_stock: mean(|row| row.metadata.to_stock),
            link_to_stock: mean(|row| row.link.to_stock),
            cold_to_stock: mean(|row| row.cold.to_stock),
            stock_order_to_stock: mean(|row| row.stock_order.to_stock),
            link_to_limit: mean(|row| row.link.to_limit),
            cold_to_limit: mean(|row| row.cold.to_limit),
            stock_order_to_limit: mean(|row| row.stock_order.to_limit),
        }
    }
}

impl ToLimit {
    fn of(cases: &[Case], side: Side) -> Self {
        let rows = cases.iter().flat_map(|case| &case.rows);
        let ratios: Vec<f64> = rows
            .filter(|row| row.jobs >= FEWEST_SCHEDULED)
            .map(|row| row.side(side).to_limit)
            .collect();
        ToLimit {
            side,
            worst: ratios.iter().copied().fold(f64::NAN, f64::max),
            mean: geometric_mean(ratios),
        }
    }

    /// Where it is further from the limit than it should be.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let name = self.side.name();
        for (_, most_mean, most_worst) in
            MOST_TO_LIMIT.iter().filter(|(side, ..)| *side == self.side)
        {
            if self.mean > *most_mean {
                notes.push(format!(
                    "`{name}` takes {:.3} times the limit on average, more than {most_mean:.2}",
                    self.mean
                ));
            }
            if self.worst > *most_worst {
                notes.push(format!(
                    "`{name}` takes {:.3} times the limit at worst, more than {most_worst:.2}",
                    self.worst
                ));
            }
        }
        notes
    }
}

fn to_limit(sides: &[ToLimit]) -> Table {
    let mut table = Table::new(&["", "geometric mean", "worst"]);
    for side in sides {
        table.rows.push(vec![
            side.side.name().to_owned(),
            ratio(side.mean),
            ratio(side.worst),
        ]);
    }
    table
}

fn means(means: &[Mean]) -> Table {
    let mut table = Table::new(&[
        "",
        "metadata/stock",
        "link/stock",
        "cold/stock",
        "stock-order/stock",
        "link/limit",
        "cold/limit",
        "stock-order/limit",
    ]);
    for mean in means {
        let ratios = [
            mean.metadata_to_stock,
            mean.link_to_stock,
            mean.cold_to_stock,
            mean.stock_order_to_stock,
            mean.link_to_limit,
            mean.cold_to_limit,
            mean.stock_order_to_limit,
        ];
        let mut cells = vec![format!("-j{}", mean.jobs)];
        cells.extend(ratios.map(ratio));
        table.rows.push(cells);
    }
    table
}

impl Queues {
    /// Puts each graph into proportion, also to the one with a tenth of its units.
    fn of(lines: Vec<Line>) -> Vec<Self> {
        let mut all: Vec<Queues> = Vec::new();
        for Line {
            shape,
            units,
            stock,
            ours,
        } in lines
        {
            let tenth = all
                .iter()
                .find(|tenth| tenth.shape == shape && tenth.units * 10 == units);
            let stock = Cost::new(units, stock, tenth.map(|tenth| &tenth.stock));
            let ours = Cost::new(units, ours, tenth.map(|tenth| &tenth.ours));
            all.push(Queues {
                shape,
                units,
                stock,
                ours,
                time_ratio: ours.time / stock.time,
                memory_ratio: ours.peak_memory as f64 / stock.peak_memory as f64,
            });
        }
        all
    }

    /// Where ours costs more than the released one, or more than it should with ten times the units.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let graph = format!("the queue, {} of {}", self.shape, self.units);
        if self.time_ratio > 1.0 {
            notes.push(format!(
                "{graph}: ours takes {:.3} times as long as the released one",
                self.time_ratio
            ));
        }
        if let Some(growth) = self.ours.growth
            && growth > MOST_GROWTH
        {
            notes.push(format!(
                "{graph}: ours takes {growth:.1} times as long as for a tenth of the units"
            ));
        }
        notes
    }
}

impl Cost {
    fn new(units: usize, spent: Spent, tenth: Option<&Cost>) -> Self {
        let per_unit = |figure: f64| figure / units.max(1) as f64;
        let micros = spent.nanos as f64 / 1e3;
        let time = micros / 1e6;
        Cost {
            time,
            time_per_unit: per_unit(micros),
            peak_memory: spent.peak_bytes,
            memory_per_unit: per_unit(spent.peak_bytes as f64),
            growth: tenth.map(|tenth| time / tenth.time),
        }
    }
}

fn queues(queues: &[Queues]) -> Table {
    let mut table = Table::new(&[
        "",
        "units",
        "stock, µs/unit",
        "ours",
        "ours/stock",
        "stock, growth",
        "ours",
        "stock, bytes/unit",
        "ours",
        "ours/stock",
    ]);
    let growth = |cost: &Cost| {
        cost.growth
            .map_or("-".to_owned(), |growth| format!("{growth:.1}"))
    };
    for row in queues {
        let (stock, ours) = (&row.stock, &row.ours);
        table.rows.push(vec![
            row.shape.clone(),
            row.units.to_string(),
            format!("{:.2}", stock.time_per_unit),
            format!("{:.2}", ours.time_per_unit),
            ratio(row.time_ratio),
            growth(stock),
            growth(ours),
            format!("{:.0}", stock.memory_per_unit),
            format!("{:.0}", ours.memory_per_unit),
            ratio(row.memory_ratio),
        ]);
    }
    table
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}")
}

/// The mean of ratios; of none it is not a number.
pub fn geometric_mean(ratios: impl IntoIterator<Item = f64>) -> f64 {
    let (mut logarithms, mut count) = (0.0, 0.0);
    for ratio in ratios {
        logarithms += ratio.ln();
        count += 1.0;
    }
    f64::exp(logarithms / count)
}

/// Rows of figures: the first column says what they are about.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(header: &[&str]) -> Self {
        Table {
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    fn plain(&self) -> String {
        let mut text = String::new();
        for row in self.all() {
            let _ = writeln!(text, "{}", self.aligned(row).join("  ").trim_end());
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (place, row) in self.all().enumerate() {
            let _ = writeln!(text, "| {} |", self.aligned(row).join(" | "));
            if place == 0 {
                let rest = " ---: |".repeat(self.header.len().saturating_sub(1));
                let _ = writeln!(text, "| --- |{rest}");
            }
        }
        text
    }

    fn all(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.header).chain(&self.rows)
    }

    /// The cells of a row, as wide as their columns.
    fn aligned(&self, row: &[String]) -> Vec<String> {
        let cells = row.iter().enumerate();
        cells
            .map(|(column, cell)| {
                let cells = self.all().filter_map(|row| row.get(column));
                let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, seconds: [u64; 6]) -> Case {
        let row = |jobs| {
            Row::new(
                jobs,
                Duration::from_secs(5),
                seconds.map(Duration::from_secs),
                Some(3),
            )
        };
        Case {
            name: name.to_owned(),
            title: format!("{name} 1.0.0"),
            units: 12,
            work: 40.0,
            rows: vec![row(1), row(8)],
        }
    }

    #[test]
    fn means_of_ratios() {
        assert!((geometric_mean([0.5, 2.0]) - 1.0).abs() < 1e-12);
        assert!((geometric_mean([0.25, 1.0, 0.25]) - 0.396_850_262_992_05).abs() < 1e-12);
        assert!(geometric_mean([]).is_nan());
    }

    #[test]
    fn tables() {
        let mut table = Table::new(&["", "µs", "ratio"]);
        table
            .rows
            .push(vec!["-j1".to_owned(), "100".to_owned(), "0.9".to_owned()]);
        table
            .rows
            .push(vec!["-j64".to_owned(), "7".to_owned(), "1.0".to_owned()]);
        assert_eq!(
            table.plain(),
            "       µs  ratio\n\
             -j1   100    0.9\n\
             -j64    7    1.0\n"
        );
        assert_eq!(
            table.markdown(),
            "|      |  µs | ratio |\n\
             | --- | ---: | ---: |\n\
             | -j1  | 100 |   0.9 |\n\
             | -j64 |   7 |   1.0 |\n"
        );
    }

    #[test]
    fn ratios() {
        let report = Report::new(
            false,
            vec![case("a", [20, 40, 20, 10, 10, 5]), case("b", [20; 6])],
            vec![],
        );
        let link = report.cases[0].rows[0].side(Side::Link);
        assert_eq!(
            (link.to_stock, link.to_limit, link.overlap_gained),
            (0.5, 2.0, 0.75)
        );
        let mean = &report.means[1];
        assert_eq!(mean.jobs, 8);
        assert!((mean.link_to_stock - 0.5_f64.sqrt()).abs() < 1e-12);
        assert!((mean.off_to_stock - 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn slower_with_more_overlap() {
        let report = Report::new(false, vec![case("a", [20, 40, 41, 5, 5, 5])], vec![]);
        assert_eq!(
            report.notes(),
            ["a, -j8: `metadata` takes 1.025 times as long as `off`"]
        );
        assert!(
            report
                .markdown()
                .contains("\n- a, -j8: `metadata` takes 1.025")
        );
    }

    #[test]
    fn slower_than_the_released_cargo_or_far_from_the_limit() {
        let cases = vec![case("a", [5, 6, 6, 6, 5, 5]), case("b", [6, 6, 6, 5, 6, 6])];
        let report = Report::new(false, cases, vec![]);
        assert_eq!(
            report.notes(),
            [
                "a, -j1: `link` takes 1.200 times as long as `stock`",
                "a, -j8: `link` takes 1.200 times as long as `stock`",
                "`link` takes 1.095 times the limit on average, more than 1.06",
                "`link` takes 1.200 times the limit at worst, more than 1.15",
                "`cold` takes 1.095 times the limit on average, more than 1.09",
            ]
        );
    }

    #[test]
    fn one_job_says_nothing_about_a_scheduler() {
        let mut case = case("a", [5; 6]);
        let walls = [Duration::from_secs(50); Side::ALL.len()];
        case.rows[0] = Row::new(1, Duration::from_secs(5), walls, None);
        let report = Report::new(false, vec![case], vec![]);
        for side in &report.to_limit {
            assert_eq!((side.mean, side.worst), (1.0, 1.0), "{side:?}");
        }
    }

    fn line(units: usize, stock: u64, ours: u64) -> Line {
        let spent = |nanos| Spent {
            nanos,
            peak_bytes: 100 * units as u64,
        };
        Line {
            shape: "fan".to_owned(),
            units,
            stock: spent(stock),
            ours: spent(ours),
        }
    }

    #[test]
    fn growth_is_to_a_tenth_of_the_units() {
        let lines = vec![line(100, 200_000, 100_000), line(1000, 2_400_000, 800_000)];
        let report = Report::new(false, vec![], lines);
        let [tenth, whole] = &report.queues[..] else {
            panic!("{report:?}");
        };
        assert_eq!(tenth.stock.time_per_unit, 2.0);
        assert_eq!(tenth.stock.memory_per_unit, 100.0);
        assert_eq!(tenth.stock.growth, None);
        assert_eq!((tenth.time_ratio, tenth.memory_ratio), (0.5, 1.0));
        let growth = |cost: &Cost| cost.growth.map(f64::round);
        assert_eq!(growth(&whole.stock), Some(12.0));
        assert_eq!(growth(&whole.ours), Some(8.0));
        assert_eq!(report.notes(), [""; 0]);
        assert!(report.plain().contains("0.333"), "{}", report.plain());
    }

    #[test]
    fn a_queue_that_costs_too_much() {
        let lines = vec![line(100, 100_000, 50_000), line(1000, 500_000, 1_000_000)];
        assert_eq!(
            Report::new(false, vec![], lines).notes(),
            [
                "the queue, fan of 1000: ours takes 2.000 times as long as the released one",
                "the queue, fan of 1000: ours takes 20.0 times as long as for a tenth of the units"
            ]
        );
    }
}
