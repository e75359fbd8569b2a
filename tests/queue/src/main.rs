//! `queue 100 1000 10000`: what the job queue alone costs for generated graphs of so many units.
//!
//! The CPU time of a whole cargo says little about its queue: resolving, fingerprints and the layout
//! of the target directory cost more, and grow faster. So the queue is taken out, and with it that of
//! the released cargo, and both are led through the same build:
//!
//! ```text
//!   Graph ──▶ Queue::plan                        8 slots, first in first out
//!               │                           ┌───────────────────────────────────┐
//!               └─▶ Queue::start ─────────▶ │ … │ library │ binary │ library │ … │
//!                      ▲                    └───────────────────────────────────┘
//!                      └─ metadata, finished, parked ◀── what has been there longest goes on
//! ```
//!
//! [`build`] has that order, [`graph`] has what is built, [`ours`] and [`released`] call the queues as
//! the two cargos do. Measured is all that [`build::build`] does, from the first unit added to the
//! queue's end; its own share, a list of eight, is the same for both. On unix that is CPU time, so a
//! busy machine disturbs it little.
//!
//! A cargo leads its queue through one build, in memory that it has just got, and so does each process
//! here: `queue --measure TASK`. In the same process a second round of a small graph would find
//! in the caches, and in the hands of the allocator, what the first has left there.
//!
//! One line of JSON for each graph goes to stdout: see [`Line`].

mod build;
mod graph;
mod meter;
mod ours;
#[cfg(released)]
mod released;
/// What the released queue uses of Cargo.
#[cfg(released)]
mod util {
    pub(crate) mod data_structures {
        pub(crate) use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
    }
}

use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::build::{Queue, build};
use crate::graph::{Graph, Shape};
use crate::ours::Ours;

#[global_allocator]
static METER: meter::Meter = meter::Meter::new();

/// The released cargo walks down the graph recursively.
const STACK: usize = 512 << 20;

/// Each graph is built at least and at most so often by each side, and in between as often as fits
/// into the time. A round of a large graph takes the released queue seconds, and ours so little that
/// few rounds would say nothing.
const STOCK_ROUNDS: usize = 3;
const ROUNDS: RangeInclusive<usize> = 21..=101;
const TIME: Duration = Duration::from_millis(1500);

/// Makes a process measure one [`Task`].
const MEASURE: &str = "--measure";

/// What is printed for a graph.
#[derive(Debug, Serialize)]
struct Line {
    shape: Shape,
    units: usize,
    /// Absent if this was compiled without the released cargo.
    stock: Option<Cost>,
    ours: Cost,
}

/// What one of the queues costs.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    /// How long it took, the median of all rounds, in ns: CPU time where the system tells it of a
    /// thread, else by the clock.
    nanos: u64,
    /// The most memory that it had, in bytes.
    peak_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Side {
    Stock,
    Ours,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Figure {
    /// How long it takes.
    Nanos,
    /// The most memory. To count it takes time.
    PeakBytes,
}

/// What a process of its own measures of one build.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Task {
    shape: Shape,
    units: usize,
    side: Side,
    figure: Figure,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, task] = &args[..]
        && flag == MEASURE
    {
        println!("{}", serde_json::from_str::<Task>(task)?.measure()?);
        return Ok(());
    }
    let sizes = args.iter().map(|units| match units.parse() {
        Ok(0) | Err(_) => bail!("`{units}` is no number of units"),
        Ok(units) => Ok(units),
    });
    let sizes: Vec<usize> = sizes.collect::<Result<_>>()?;
    if sizes.is_empty() {
        bail!("say how many units to build, such as `queue 100 1000`");
    }
    for shape in Shape::ALL {
        for &units in &sizes {
            println!("{}", serde_json::to_string(&measure(shape, units)?)?);
        }
    }
    Ok(())
}

fn measure(shape: Shape, units: usize) -> Result<Line> {
    let ask = |figure, side| {
        let task = Task {
            shape,
            units,
            side,
            figure,
        };
        task.measure_in_another_process()
    };
    let (mut stock, mut ours) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let is_time_left = || began.elapsed() < TIME;
    while ours.len() < *ROUNDS.start() || ours.len() < *ROUNDS.end() && is_time_left() {
        // In turn, because machines drift.
        if cfg!(released) && (stock.len() < STOCK_ROUNDS || is_time_left()) {
            stock.push(ask(Figure::Nanos, Side::Stock)?);
        }
        ours.push(ask(Figure::Nanos, Side::Ours)?);
    }
    let cost = |mut nanos: Vec<u64>, side| -> Result<Option<Cost>> {
        nanos.sort_unstable();
        let Some(&nanos) = nanos.get(nanos.len() / 2) else {
            return Ok(None);
        };
        let peak_bytes = ask(Figure::PeakBytes, side)?;
        Ok(Some(Cost { nanos, peak_bytes }))
    };
    Ok(Line {
        shape,
        units,
        stock: cost(stock, Side::Stock)?,
        ours: cost(ours, Side::Ours)?.context("our queue was not measured")?,
    })
}

impl Task {
    fn measure_in_another_process(self) -> Result<u64> {
        let output = Command::new(std::env::current_exe()?)
            .args([MEASURE, &serde_json::to_string(&self)?])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("a queue did not get through a build: {self:?}");
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let figure = printed.trim().parse();
        figure.with_context(|| format!("{self:?} has printed `{printed}`"))
    }

    fn measure(self) -> Result<u64> {
        let measuring = thread::Builder::new().stack_size(STACK);
        measuring
            .spawn(move || {
                let graph = Graph::new(self.shape, self.units);
                match self.side {
                    #[cfg(released)]
                    Side::Stock => Ok(self.figure.of::<released::Released>(&graph)),
                    #[cfg(not(released))]
                    Side::Stock => bail!("this was compiled without the released cargo"),
                    Side::Ours => Ok(self.figure.of::<Ours>(&graph)),
                }
            })?
            .join()
            .map_err(|_| anyhow!("a queue did not get through a build"))?
    }
}

impl Figure {
    fn of<Q: Queue>(self, graph: &Graph) -> u64 {
        match self {
            Figure::Nanos => {
                let began = now();
                std::hint::black_box(build::<Q>(graph));
                let took = now().saturating_sub(began);
                u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
            }
            Figure::PeakBytes => METER.peak(|| build::<Q>(graph)).1 as u64,
        }
    }
}

/// How long this thread has been on a processor.
#[cfg(unix)]
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// How long this process has been running, where nobody knows more.
#[cfg(not(unix))]
fn now() -> Duration {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGAN.elapsed()
}
