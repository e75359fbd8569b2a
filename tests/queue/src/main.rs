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
//! One line of JSON for each graph goes to stdout: see [`Line`].

mod build;
mod graph;
mod meter;
mod ours;
#[cfg(released)]
mod released;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use replay::generate::{Shape, generate};
use serde::Serialize;

use crate::build::{Queue, build};
use crate::graph::Graph;
use crate::ours::Ours;

#[global_allocator]
static METER: meter::Meter = meter::Meter::new();

/// The released cargo walks down the graph recursively.
const STACK: usize = 512 << 20;

/// Each graph is built at least and at most so often by each side, and in between as often as fits
/// into the time.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=101;
const TIME: Duration = Duration::from_millis(1500);

/// What is printed for a graph.
#[derive(Debug, Serialize)]
struct Line {
    shape: &'static str,
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
    peak_bytes: usize,
}

fn main() -> Result<()> {
    let sizes = std::env::args().skip(1).map(|size| {
        size.parse()
            .with_context(|| format!("`{size}` is no number of units"))
    });
    let sizes: Vec<usize> = sizes.collect::<Result<_>>()?;
    if sizes.contains(&0) || sizes.is_empty() {
        bail!("say how many units to build, such as `queue 100 1000`");
    }
    let measuring = thread::Builder::new().stack_size(STACK).spawn(move || {
        for shape in Shape::ALL {
            for &units in &sizes {
                let line = measure(shape, units);
                println!("{}", serde_json::to_string(&line)?);
            }
        }
        Ok(())
    })?;
    measuring
        .join()
        .map_err(|_| anyhow!("a queue did not get through a build"))?
}

fn measure(shape: Shape, units: usize) -> Line {
    let graph = Graph::new(&generate(shape, units));
    let (mut stock, mut ours) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while ours.len() < *ROUNDS.start() || ours.len() < *ROUNDS.end() && began.elapsed() < TIME {
        // In turn, because machines drift.
        stock.extend(time_stock(&graph));
        ours.push(time::<Ours>(&graph));
    }
    Line {
        shape: shape.name(),
        units,
        stock: peak_of_stock(&graph).map(|peak| Cost::new(stock, peak)),
        ours: Cost::new(ours, METER.peak(|| build::<Ours>(&graph)).1),
    }
}

#[cfg(released)]
fn time_stock(graph: &Graph) -> Option<Duration> {
    Some(time::<released::Released>(graph))
}

#[cfg(not(released))]
fn time_stock(_: &Graph) -> Option<Duration> {
    None
}

#[cfg(released)]
fn peak_of_stock(graph: &Graph) -> Option<usize> {
    Some(METER.peak(|| build::<released::Released>(graph)).1)
}

#[cfg(not(released))]
fn peak_of_stock(_: &Graph) -> Option<usize> {
    None
}

fn time<Q: Queue>(graph: &Graph) -> Duration {
    let began = now();
    std::hint::black_box(build::<Q>(graph));
    now().saturating_sub(began)
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

impl Cost {
    fn new(mut times: Vec<Duration>, peak_bytes: usize) -> Self {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Cost {
            nanos: u64::try_from(median.as_nanos()).unwrap_or(u64::MAX),
            peak_bytes,
        }
    }
}
