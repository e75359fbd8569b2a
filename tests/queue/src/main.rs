//! `queue 100 1000 10000`: what the job queue alone costs for generated graphs of these sizes.
//!
//! In a whole cargo, resolving, fingerprints and the target directory cost more than the queue. So our queue
//! and that of the released cargo are led alone through the same build:
//!
//! ```text
//!   Graph ──▶ Queue::plan                        8 slots, first in first out
//!               │                           ┌───────────────────────────────────┐
//!               └─▶ Queue::start ─────────▶ │ … │ library │ binary │ library │ … │
//!                      ▲                    └───────────────────────────────────┘
//!                      └─ metadata, finished, parked ◀── what has been there longest goes on
//! ```
//!
//! [`ours`] and [`released`] call the queues as the two cargos do. Measured is all that [`build::build`] does;
//! its own share is the same for both. On unix that is CPU time, so a busy machine disturbs it little.
//!
//! As in a cargo, each process leads a queue through one build (`queue --measure TASK`): a second round would
//! find caches and an allocator that the first has warmed. A [`Line`] of JSON for each graph goes to stdout.

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

/// How often our queue builds each graph, as the time allows.
const ROUNDS: RangeInclusive<usize> = 21..=101;
/// How often the released queue does at least, which takes seconds for a large graph.
const STOCK_ROUNDS: usize = 3;
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

/// What a process of its own measures: of a graph with this number of units.
type Task = (Shape, usize, Side, Figure);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, task] = &args[..]
        && flag == MEASURE
    {
        println!("{}", measure_task(serde_json::from_str(task)?)?);
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
    let ask = |figure, side| ask_another_process((shape, units, side, figure));
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

fn ask_another_process(task: Task) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .args([MEASURE, &serde_json::to_string(&task)?])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("a queue did not get through a build: {task:?}");
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let figure = printed.trim().parse();
    figure.with_context(|| format!("{task:?} has printed `{printed}`"))
}

fn measure_task((shape, units, side, figure): Task) -> Result<u64> {
    let measuring = thread::Builder::new().stack_size(STACK).spawn(move || {
        let graph = Graph::new(shape, units);
        match side {
            #[cfg(released)]
            Side::Stock => Ok(figure.of::<released::Released>(&graph)),
            #[cfg(not(released))]
            Side::Stock => bail!("this was compiled without the released cargo"),
            Side::Ours => Ok(figure.of::<Ours>(&graph)),
        }
    });
    let measured = measuring?.join();
    measured.map_err(|_| anyhow!("a queue did not get through a build"))?
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
