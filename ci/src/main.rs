//! `cargo xtask`: everything one does in this project beyond `cargo build` and `cargo test`.
//!
//! The replacement cargo is the released `cargo` crate with the patches of `patches/` applied. The
//! commands here fetch the crate, apply the patches, and build, run, test, measure and install the
//! result.

#[macro_use]
mod shell;

mod assemble;
mod build;
mod cargo;
mod expectations;
mod export;
mod fetch;
mod git;
mod install;
mod libtest;
mod lock;
mod machine;
mod measure;
mod overlap;
mod port;
mod prefixes;
mod project;
mod run;
mod series;
mod table;
mod test;
mod toolchain;
mod tree;
mod upstream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::measure::{bench, compare, prior, record, replay};
use crate::project::Project;

/// Assembles, builds, runs, tests and installs the replacement cargo.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Use nothing but what was downloaded before
    #[arg(long, global = true)]
    offline: bool,
    /// Work in this directory as if it were the root of the checkout
    #[arg(long, global = true, hide = true)]
    root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Unpack the released cargo under target/upstream and apply the series to it
    ///
    /// The result is a git repository with a commit for the release and one for each patch. Work
    /// on patches there: commit, amend, rebase, and then run `cargo xtask export`.
    Assemble(assemble::Args),
    /// Write patches/ back from the commits of the assembled tree
    ///
    /// A tree that was assembled with --upto replaces that part of the series; the rest stays.
    Export,
    /// Build the replacement; the last line on stdout is the path of the binary
    Build(build::Args),
    /// Build the replacement and run it
    ///
    /// With arguments it runs where you are: `cargo xtask run -- build` builds your project.
    /// Without, it builds the bundled example from nothing and shows what overlapped.
    Run(run::Args),
    /// Run all tests of this project, on a replacement that is built first
    Test {
        /// Arguments for `cargo test --workspace`; a further `--` leads to those for the tests
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run Cargo's own testsuite on the replacement
    ///
    /// What is expected to fail is listed, with reasons, in tests/upstream/not-runnable.txt and
    /// tests/upstream/deviations.txt. The whole log is in target/upstream/testsuite.log.
    #[command(after_long_help = expectations::FORMAT)]
    Upstream(upstream::Args),
    /// Time the replacement against the released cargo, and compare what they build
    ///
    /// Both build the project in the current directory in turn, in release builds of their own.
    /// Fails if the final artifacts are not the same, byte for byte.
    Compare(compare::Args),
    /// Record a build, so that it can be simulated without its sources
    ///
    /// Builds the project in the current directory with one job, in a directory of its own, and
    /// writes down what was built and how long it took: `cargo xtask record -- build --release`.
    Record(record::Args),
    /// Simulate a recorded build: the real scheduler, and compilers that only take time
    Replay(replay::Args),
    /// Simulate all recorded builds: a report with tables and a picture
    ///
    /// Each build is simulated with 1 to 64 jobs: in the released cargo's order and mode (stock), and in
    /// each mode of the replacement with measured costs; in its default mode also with guessed costs
    /// (cold), and in the order of the released cargo (stock-order). Then generated graphs of up to
    /// 10,000 units show what the two job queues cost: leave the machine alone meanwhile.
    Bench(bench::Args),
    /// Make the table of what well-known crates cost, from the recordings to learn from
    Prior,
    /// Check that each patch of the series is formatted, and compiles on those before it
    Prefixes,
    /// Move the series to another release of the `cargo` crate
    ///
    /// Rebases the series on it, following renamed files, and writes patches/. Where two changes
    /// conflict it stops, as `git rebase` does. CONTRIBUTING.md says what is left to do then.
    Port {
        /// The release, such as 0.100.0
        version: String,
    },
    /// Install the replacement as a rustup toolchain: `cargo +pipelined build`
    ///
    /// The toolchain is made of links to the active one and has our cargo.
    Install(install::Args),
    /// Remove a toolchain that `install` has made
    Uninstall(install::NameArgs),
}

fn main() -> ExitCode {
    // While a build is recorded, this is in the place of rustc and the linker.
    let outcome = ::replay::wrapper::run().unwrap_or_else(|| execute(Cli::parse()));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            shell::error(&error);
            ExitCode::from(101)
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode> {
    let project = &Project::read(cli.root, cli.offline)?;
    match cli.command {
        Command::Assemble(args) => assemble::run(project, &args)?,
        Command::Export => export::run(project)?,
        Command::Build(args) => build::run(project, &args)?,
        Command::Run(args) => run::run(project, &args)?,
        Command::Test { args } => return test::run(project, &args),
        Command::Upstream(args) => upstream::run(project, &args)?,
        Command::Compare(args) => compare::run(project, &args)?,
        Command::Record(args) => record::run(project, &args)?,
        Command::Replay(args) => replay::run(&args)?,
        Command::Prior => prior::run(project)?,
        Command::Bench(args) => bench::run(project, &args)?,
        Command::Port { version } => port::run(project, &version)?,
        Command::Prefixes => prefixes::run(project)?,
        Command::Install(args) => install::install(project, &args)?,
        Command::Uninstall(args) => install::uninstall(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a value of Cargo's configuration on the command line, as the engine parses it there.
fn setting<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_value(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
