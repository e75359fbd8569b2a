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
//! | `growth` | the generated graphs |
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
//! | `limit` | the least time in which so many threads could build it |
//! | `stock`, `off`, `metadata`, `link` | the released cargo, and the modes of the replacement |
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
//! | `off_to_stock`, `metadata_to_stock`, `link_to_stock`, `link_to_limit` | of the ratios of all cases |
//!
//! | field of a graph | |
//! | --- | --- |
//! | `shape`, `units` | what was generated |
//! | `stock`, `replacement` | what each cargo spends on it, with 8 jobs; the medians of some rounds |
//! | `cpu_ratio`, `memory_ratio` | the replacement to the released cargo |
//!
//! | field of one of these | |
//! | --- | --- |
//! | `wall` | how long cargo ran |
//! | `cpu`, `peak_memory` | the CPU time of cargo alone, and the most memory that it had, in bytes |
//! | `cpu_per_unit`, `memory_per_unit` | in µs, and in KiB |
//! | `cpu_growth` | how many times the CPU time of a tenth of the units it is: 10 is linear |

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::results::Side;

/// From how many jobs on more overlap must not make a build slower.
const MANY_JOBS: u64 = 8;

/// By what factor it may, nevertheless: the order of the jobs changes, too.
const TOLERANCE: f64 = 1.01;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether it was a quick run.
    pub quick: bool,
    /// The recorded builds.
    pub cases: Vec<Case>,
    /// What they have in common, for each number of jobs.
    pub means: Vec<Mean>,
    /// The generated graphs.
    pub growth: Vec<Growth>,
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
    /// The least time in which they could build it, in seconds.
    pub limit: f64,
    stock: Build,
    off: Build,
    metadata: Build,
    link: Build,
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
    /// [`Side::Link`] to the limit.
    pub link_to_limit: f64,
}

/// What the two cargos spend on a generated graph.
#[derive(Debug, Serialize)]
pub struct Growth {
    /// The shape of the graph.
    pub shape: String,
    /// How many units it has.
    pub units: usize,
    stock: Cost,
    replacement: Cost,
    cpu_ratio: Option<f64>,
    memory_ratio: Option<f64>,
}

/// What one cargo spends on a generated graph: time in seconds, memory in bytes. What the system
/// does not tell is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// How long it ran.
    pub wall: Option<f64>,
    /// How long it ran on a processor.
    pub cpu: Option<f64>,
    /// The most memory that it had.
    pub peak_memory: Option<f64>,
}

/// The same, in proportion.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    wall: Option<f64>,
    cpu: Option<f64>,
    peak_memory: Option<f64>,
    cpu_per_unit: Option<f64>,
    memory_per_unit: Option<f64>,
    cpu_growth: Option<f64>,
}

impl Report {
    /// Puts together what was found.
    pub fn new(quick: bool, cases: Vec<Case>, growth: Vec<Growth>) -> Self {
        let rows = cases.first().map_or(&[][..], |case| &case.rows);
        Report {
            quick,
            means: rows.iter().map(|row| Mean::of(&cases, row.jobs)).collect(),
            cases,
            growth,
        }
    }

    /// Where more overlap has made a build slower, which it should not.
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
            text.push_str("\n## Where more overlap is slower\n\n");
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
            heading: "What cargo itself costs: graphs in which nothing takes any time, -j8"
                .to_owned(),
            table: growth(&self.growth),
            case: None,
        });
        sections
    }
}

const EXPLANATION: &str = "\
Recorded builds, replayed: the real cargos, and compilers that only wait as long as the recorded ones
took. Wall times are in seconds; a ratio below 1 is quicker. `stock` is the released cargo; `off`,
`metadata` and `link` are the modes of the replacement, whose default is `link`. The limit is the least
time in which so many threads could do the same work. Overlap gained is what part of the time of `off`
the mode `link` saves.

Generated graphs, built by the clock: CPU time and peak memory are those of cargo's own process. The last
columns say by how much the CPU time has grown from a tenth of the units: 10 is linear.
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
            "link/stock",
            "link/limit",
            "overlap gained",
        ]);
        for row in &self.rows {
            let mut cells = vec![format!("-j{}", row.jobs)];
            cells.extend(Side::ALL.map(|side| format!("{:.2}", row.side(side).wall)));
            cells.push(ratio(row.link.to_stock));
            cells.push(ratio(row.link.to_limit));
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
}

impl Row {
    /// Puts together what the four builds took, in the order of [`Side::ALL`].
    pub fn new(jobs: u64, limit: Duration, walls: [Duration; 4]) -> Self {
        let limit = limit.as_secs_f64();
        let walls @ [stock, off, ..] = walls.map(|wall| wall.as_secs_f64());
        let [stock, off, metadata, link] = walls.map(|wall| Build {
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
        }
    }

    /// One of the four builds.
    pub fn side(&self, side: Side) -> &Build {
        match side {
            Side::Stock => &self.stock,
            Side::Off => &self.off,
            Side::Metadata => &self.metadata,
            Side::Link => &self.link,
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
            link_to_limit: mean(|row| row.link.to_limit),
        }
    }
}

fn means(means: &[Mean]) -> Table {
    let mut table = Table::new(&["", "metadata/stock", "link/stock", "link/limit"]);
    for mean in means {
        let ratios = [
            mean.metadata_to_stock,
            mean.link_to_stock,
            mean.link_to_limit,
        ];
        let mut cells = vec![format!("-j{}", mean.jobs)];
        cells.extend(ratios.map(ratio));
        table.rows.push(cells);
    }
    table
}

impl Growth {
    /// Puts together what the released cargo and the replacement have spent on a graph; `tenth` is
    /// the graph with a tenth of the units.
    pub fn new(
        shape: &str,
        units: usize,
        [stock, replacement]: [&Spent; 2],
        tenth: Option<&Growth>,
    ) -> Self {
        Growth {
            shape: shape.to_owned(),
            units,
            stock: Cost::new(units, stock, tenth.map(|tenth| &tenth.stock)),
            replacement: Cost::new(units, replacement, tenth.map(|tenth| &tenth.replacement)),
            cpu_ratio: quotient(replacement.cpu, stock.cpu),
            memory_ratio: quotient(replacement.peak_memory, stock.peak_memory),
        }
    }
}

impl Cost {
    fn new(units: usize, spent: &Spent, tenth: Option<&Cost>) -> Self {
        let Spent {
            wall,
            cpu,
            peak_memory,
        } = *spent;
        let per_unit = |figure: f64| figure / units.max(1) as f64;
        Cost {
            wall,
            cpu,
            peak_memory,
            cpu_per_unit: cpu.map(|seconds| per_unit(seconds * 1e6)),
            memory_per_unit: peak_memory.map(|bytes| per_unit(bytes / 1024.0)),
            cpu_growth: quotient(cpu, tenth.and_then(|tenth| tenth.cpu)),
        }
    }
}

fn quotient(dividend: Option<f64>, divisor: Option<f64>) -> Option<f64> {
    Some(dividend? / divisor?)
}

fn growth(graphs: &[Growth]) -> Table {
    let mut table = Table::new(&[
        "",
        "units",
        "stock, CPU µs/unit",
        "ours",
        "ours/stock",
        "stock, KiB/unit",
        "ours",
        "ours/stock",
        "stock, ×10 units costs",
        "ours",
    ]);
    let known = |figure: Option<f64>, decimals: usize| {
        figure.map_or("-".to_owned(), |figure| format!("{figure:.decimals$}"))
    };
    for graph in graphs {
        let (stock, ours) = (&graph.stock, &graph.replacement);
        table.rows.push(vec![
            graph.shape.to_owned(),
            graph.units.to_string(),
            known(stock.cpu_per_unit, 0),
            known(ours.cpu_per_unit, 0),
            known(graph.cpu_ratio, 3),
            known(stock.memory_per_unit, 1),
            known(ours.memory_per_unit, 1),
            known(graph.memory_ratio, 3),
            known(stock.cpu_growth, 1),
            known(ours.cpu_growth, 1),
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

    fn case(name: &str, seconds: [u64; 4]) -> Case {
        let row = |jobs| {
            Row::new(
                jobs,
                Duration::from_secs(5),
                seconds.map(Duration::from_secs),
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
            vec![case("a", [20, 40, 20, 10]), case("b", [20; 4])],
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
        let report = Report::new(false, vec![case("a", [20, 40, 41, 20])], vec![]);
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
    fn growth_is_to_a_tenth_of_the_units() {
        let spent = |cpu, peak_memory| Spent {
            cpu: Some(cpu),
            peak_memory,
            ..Spent::default()
        };
        let stock = spent(0.5, Some(1024.0 * 100.0));
        let tenth = Growth::new("fan", 100, [&stock, &spent(0.75, None)], None);
        assert_eq!(tenth.stock.cpu_per_unit, Some(5000.0));
        assert_eq!(tenth.stock.memory_per_unit, Some(1.0));
        assert_eq!(tenth.stock.cpu_growth, None);
        assert_eq!((tenth.cpu_ratio, tenth.memory_ratio), (Some(1.5), None));
        let stock = spent(6.0, None);
        let whole = Growth::new("fan", 1000, [&stock, &stock], Some(&tenth));
        assert_eq!(whole.stock.cpu_growth, Some(12.0));
        assert_eq!(whole.replacement.cpu_growth, Some(8.0));
        assert!(growth(&[tenth]).plain().contains("1.500"));
    }
}
