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
//! here: `queue --round chain 1000 ours`. In the same process a second round of a small graph would find
//! in the caches, and in the hands of the allocator, what the first has left there.
//!
//! One line of JSON for each graph goes to stdout: see [`Line`].

mod build;
mod graph;
mod meter;
mod ours;
#[cfg(released)]
mod released;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use replay::generate::{Shape, generate};
use serde::{Deserialize, Serialize};

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

/// Tells this program that it is to measure one round.
const ROUND: &str = "--round";

/// One of the queues.
#[derive(Clone, Copy, Debug)]
enum Side {
    Stock,
    Ours,
}

/// What one of the queues costs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Cost {
    /// How long it took, of several rounds the median, in ns: CPU time where the system tells it of a
    /// thread, else by the clock.
    nanos: u64,
    /// The most memory that it had, in bytes.
    peak_bytes: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, shape, units, side] = &args[..]
        && flag == ROUND
    {
        let shape = named(Shape::ALL, Shape::name, shape)?;
        let side = named(Side::ALL, Side::name, side)?;
        let cost = round(shape, size(units)?, side)?;
        println!("{}", serde_json::to_string(&cost)?);
        return Ok(());
    }
    let sizes = args.iter().map(|units| size(units));
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

fn named<T: Copy>(
    all: impl IntoIterator<Item = T>,
    name: fn(T) -> &'static str,
    wanted: &str,
) -> Result<T> {
    all.into_iter()
        .find(|it| name(*it) == wanted)
        .with_context(|| format!("there is no `{wanted}`"))
}

fn size(units: &str) -> Result<usize> {
    match units.parse() {
        Ok(0) | Err(_) => bail!("`{units}` is no number of units"),
        Ok(units) => Ok(units),
    }
}

fn measure(shape: Shape, units: usize) -> Result<Line> {
    let (mut stock, mut ours) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while ours.len() < *ROUNDS.start() || ours.len() < *ROUNDS.end() && began.elapsed() < TIME {
        // In turn, because machines drift.
        if cfg!(released) {
            stock.push(round_of_its_own(shape, units, Side::Stock)?);
        }
        ours.push(round_of_its_own(shape, units, Side::Ours)?);
    }
    Ok(Line {
        shape: shape.name(),
        units,
        stock: Cost::median(stock),
        ours: Cost::median(ours).context("nothing was measured")?,
    })
}

fn round_of_its_own(shape: Shape, units: usize, side: Side) -> Result<Cost> {
    let output = Command::new(std::env::current_exe()?)
        .args([ROUND, shape.name(), &units.to_string(), side.name()])
        .stderr(Stdio::inherit())
        .output()?;
    let (side, shape) = (side.name(), shape.name());
    if !output.status.success() {
        bail!("the queue `{side}` did not get through {shape} of {units}");
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what a round of `{side}` has printed"))
}

/// Leads a queue through a build, and then through another one, to see how much memory it has.
fn round(shape: Shape, units: usize, side: Side) -> Result<Cost> {
    let measuring = thread::Builder::new().stack_size(STACK);
    measuring
        .spawn(move || side.cost(&Graph::new(&generate(shape, units))))?
        .join()
        .map_err(|_| anyhow!("a queue did not get through a build"))?
}

impl Side {
    const ALL: [Side; 2] = [Side::Stock, Side::Ours];

    fn name(self) -> &'static str {
        match self {
            Side::Stock => "stock",
            Side::Ours => "ours",
        }
    }

    fn cost(self, graph: &Graph) -> Result<Cost> {
        match self {
            #[cfg(released)]
            Side::Stock => Ok(cost::<released::Released>(graph)),
            #[cfg(not(released))]
            Side::Stock => bail!("this was compiled without the released cargo"),
            Side::Ours => Ok(cost::<Ours>(graph)),
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

fn cost<Q: Queue>(graph: &Graph) -> Cost {
    let began = now();
    std::hint::black_box(build::<Q>(graph));
    let took = now().saturating_sub(began);
    Cost {
        nanos: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        peak_bytes: METER.peak(|| build::<Q>(graph)).1,
    }
}

impl Cost {
    /// That of the round in the middle.
    fn median(mut rounds: Vec<Cost>) -> Option<Self> {
        rounds.sort_unstable_by_key(|round| round.nanos);
        rounds.get(rounds.len() / 2).copied()
    }
}
