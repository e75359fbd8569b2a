//! What the job queue alone costs, ours and the released cargo's.
//!
//! The package `queue` leads both through the same build. The released queue is compiled into it from
//! the tree that has been unpacked, so it is built here and not with everything else.

use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::build;
use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::shell;

/// Tells the build script of the package where the released cargo's source is.
const VARIABLE: &str = "RELEASED_CARGO";

/// How many units the graphs have; each but the first ten times as many as the one before.
const SIZES: [&str; 3] = ["100", "1000", "10000"];
const QUICK_SIZES: [&str; 2] = ["100", "1000"];

/// What was measured for one graph: a line that the package prints.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// The shape of the graph.
    pub shape: String,
    /// How many units it has.
    pub units: usize,
    /// The released queue.
    pub stock: Spent,
    /// That of the replacement.
    pub ours: Spent,
}

/// What one queue has spent on a build.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Spent {
    /// Time, the median of some rounds, in ns.
    pub nanos: u64,
    /// The most memory that it had, in bytes.
    pub peak_bytes: u64,
}

/// Builds the package and runs it. The tree of the released cargo has been assembled by then, and is
/// not changed meanwhile: the caller holds its lock.
pub fn measure(layout: &Layout, network: Network, quick: bool) -> Result<Vec<Line>> {
    let mut command = cargo::command("build", network);
    command
        .current_dir(layout.root())
        .args(["--package", "queue", "--release", "--locked"])
        .arg("--message-format=json-render-diagnostics")
        .env(VARIABLE, layout.tree(Variant::Stock));
    let mut executable = None;
    cargo::run(command, "building the queues", |line| {
        executable = build::executable_in(line, "bin").or(executable.take());
    })?;
    let executable = executable.context("cargo did not say where `queue` is")?;

    shell::status("Measuring", "the two queues on generated graphs");
    let mut command = Command::new(executable);
    command.args(match quick {
        true => &QUICK_SIZES[..],
        false => &SIZES,
    });
    let mut lines = Vec::new();
    cargo::run(command, "measuring the queues", |line| {
        lines.push(read(line));
    })?;
    lines.into_iter().collect()
}

fn read(line: &str) -> Result<Line> {
    serde_json::from_str(line).with_context(|| format!("`queue` printed `{line}`"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_read() {
        let stock = r#"{"nanos":2000,"peak_bytes":400}"#;
        let line = |stock| {
            format!(
                r#"{{"shape":"fan","units":100,"stock":{stock},"ours":{{"nanos":1000,"peak_bytes":300}}}}"#
            )
        };
        let fan = read(&line(stock)).unwrap();
        assert_eq!((fan.stock.nanos, fan.ours.peak_bytes), (2000, 300));
        // It was compiled without the released cargo.
        let error = read(&line("null")).unwrap_err().to_string();
        assert!(error.contains(r#""stock":null"#), "{error}");
    }
}
