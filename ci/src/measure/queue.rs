//! Measures what the job queue alone costs, ours and the released cargo's.
//!
//! The package `queue` leads both through the same build. It compiles the released queue from the tree
//! that has been unpacked, so it is built here and not with everything else.

use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::project::{Project, Variant};
use crate::{assemble, cargo};

/// Tells the build script of the package where the released cargo's source is.
const VARIABLE: &str = "RELEASED_CARGO";

/// The sizes of the graphs, each ten times the one before. A quick run leaves out the last.
const SIZES: [&str; 3] = ["100", "1000", "10000"];

/// What was measured for one graph: a line that the package prints.
#[derive(Debug, Deserialize, Serialize)]
pub struct Graph {
    pub shape: String,
    pub units: usize,
    pub stock: Spent,
    pub ours: Spent,
}

/// What one queue has spent on a build.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Spent {
    /// Time, the median of some rounds, in ns.
    pub nanos: u64,
    /// The most memory that it had, in bytes.
    pub peak_bytes: u64,
}

/// Unpacks the released cargo where needed, builds the package and runs it.
pub fn measure(project: &Project, quick: bool) -> Result<Vec<Graph>> {
    let (tree, _lock) = assemble::ensure(project, Variant::Stock)?;
    let mut command = cargo::command(project, "build");
    command
        .current_dir(&project.root)
        .args(["--package", "queue", "--release", "--locked"])
        .env(VARIABLE, tree.dir());
    let executable = cargo::executable(command, "building the queues", "bin")?;

    status!("Measuring", "the two queues on generated graphs");
    let mut command = Command::new(executable);
    command.args(&SIZES[..SIZES.len() - usize::from(quick)]);
    let mut graphs = Vec::new();
    cargo::run(command, "measuring the queues", |line| {
        let graph = serde_json::from_str(line);
        graphs.push(graph.with_context(|| format!("`queue` printed `{line}`")));
    })?;
    graphs.into_iter().collect()
}
