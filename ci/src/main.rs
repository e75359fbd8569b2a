//! `cargo xtask`: everything one does in this project beyond `cargo build` and `cargo test`.
//!
//! The replacement cargo is the released `cargo` crate with the patches of `patches/` on it. What
//! is here fetches the one, applies the other, builds, runs, tests and installs the outcome.

mod assemble;
mod base;
mod bench;
mod build;
mod cargo;
mod compare;
mod expectations;
mod export;
mod fetch;
mod fixtures;
mod git;
mod install;
mod layout;
mod libtest;
mod lock;
mod machine;
mod player;
mod port;
mod prefixes;
mod record;
mod run;
mod series;
mod shell;
mod test;
mod toolchain;
mod trace;
mod tree;
mod upstream;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use ::replay::Time;
use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::build::{Profile, Request};
use crate::cargo::Network;
use crate::layout::{Layout, Variant};

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
    Assemble {
        /// Stop after the first N patches; 0 is the release itself
        #[arg(long, value_name = "N")]
        upto: Option<usize>,
        /// Throw away local commits and changes in the assembled tree
        #[arg(long)]
        force: bool,
    },
    /// Write patches/ back from the commits of the assembled tree
    ///
    /// A tree that was assembled with --upto replaces that part of the series; the rest stays.
    Export,
    /// Build the replacement; the last line on stdout is the path of the binary
    Build {
        #[command(flatten)]
        profile: ProfileArgs,
        /// Build the released cargo instead, in the same way, for comparison
        #[arg(long)]
        stock: bool,
    },
    /// Build the replacement and run it
    ///
    /// With arguments it runs where you are: `cargo xtask run -- build` builds your project.
    /// Without, it builds the bundled example from nothing and shows what overlapped.
    Run {
        #[command(flatten)]
        profile: ProfileArgs,
        /// Arguments for the replacement
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
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
    Upstream {
        /// Only tests whose names contain one of these
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
        /// Test the released cargo instead
        #[arg(long)]
        stock: bool,
        /// Have every test use this mode of `build.pipelining`
        #[arg(long, value_enum)]
        mode: Option<upstream::Mode>,
        /// Have no test use early cutoff
        #[arg(long, conflicts_with = "stock")]
        no_early_cutoff: bool,
    },
    /// Time the replacement against the released cargo, and compare what they build
    ///
    /// Both build the project in the current directory in turn, in release builds of their own.
    /// Fails if the final artifacts are not the same, byte for byte.
    Compare {
        /// How many times each of them builds
        #[arg(long, default_value_t = 15, value_name = "N")]
        pairs: usize,
        /// Build what is built already, instead of from nothing
        #[arg(long)]
        fresh: bool,
        /// Touch this file in the finished build, and build what depends on it
        #[arg(long, value_name = "FILE", conflicts_with = "fresh")]
        touch: Option<PathBuf>,
        /// `cargo test --no-run` instead of `cargo build`
        #[arg(long)]
        tests: bool,
        /// Measure also how much memory all processes of a build hold together at most; that takes
        /// time, so the times should be those of another run (Linux only)
        #[arg(long)]
        memory: bool,
        /// Compare with the replacement in this mode, not with the released cargo
        #[arg(long, value_enum)]
        against: Option<upstream::Mode>,
        /// `build.pipelining` for the replacement
        #[arg(long, value_enum)]
        mode: Option<upstream::Mode>,
        /// Further arguments of `cargo build`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Record a build, so that it can be replayed without its sources
    ///
    /// Builds the project in the current directory with one job, in a directory of its own, and
    /// writes down what was built and how long it took: `cargo xtask record -- build --release`.
    Record {
        /// The file to write; otherwise target/replay/recording.json.gz
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// What was built, for people; otherwise the package that was built last
        #[arg(long)]
        name: Option<String>,
        /// Build everything, remove this package, and record only the build after that
        #[arg(long, value_name = "PACKAGE")]
        rebuild: Vec<String>,
        /// The build: `build --release`
        #[arg(last = true, required = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Replay a recorded build: the real queue and the real gate, and compilers that only sleep
    Replay {
        /// A recording, as `cargo xtask record` makes them
        #[arg(value_name = "TRACE")]
        recording: PathBuf,
        /// How many jobs; otherwise as many as the machine has processors
        #[arg(long, short)]
        jobs: Option<u64>,
        /// `build.pipelining` for the replacement
        #[arg(long, value_enum)]
        mode: Option<upstream::Mode>,
        /// `build.schedule` for the replacement
        #[arg(long, value_enum)]
        schedule: Option<player::Schedule>,
        /// Another cargo than the replacement, for example the released one
        #[arg(long, value_name = "BIN")]
        cargo: Option<PathBuf>,
        /// Really sleep, by so much less than was recorded
        ///
        /// On Linux nobody sleeps otherwise: time passes as soon as nothing else is left to do. That
        /// leaves out what cargo itself needs.
        #[arg(long, value_parser = player::speed)]
        speed: Option<f64>,
    },
    /// Replay all recorded builds with both cargos: a report with tables and pictures
    ///
    /// Each build is replayed with 1 to 64 jobs: by the released cargo, and by each mode of the
    /// replacement after an earlier build; by its default mode also where nobody has built the units
    /// before (cold), and in the order of the released cargo (stock-order). What was measured is kept in
    /// target/bench/results.jsonl, so that it can be stopped and goes on later; delete that file to
    /// measure all of it again. Then generated graphs of up to 10,000 units show what the two job queues
    /// cost: leave the machine alone meanwhile.
    Bench {
        /// Fewer numbers of jobs, the smallest recordings and no graph of 10,000 units
        #[arg(long)]
        quick: bool,
        /// Only recordings whose names contain this
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
    },
    /// Check that the series compiles after each of its patches
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
    Install {
        #[command(flatten)]
        name: NameArgs,
        /// Install a dev build, which is quicker to build and slower to run
        #[arg(long)]
        debug: bool,
    },
    /// Remove a toolchain that `install` has made
    Uninstall {
        #[command(flatten)]
        name: NameArgs,
    },
}

#[derive(Debug, Args)]
struct ProfileArgs {
    /// Build with optimizations
    #[arg(long)]
    release: bool,
}

impl ProfileArgs {
    fn profile(&self) -> Profile {
        if self.release {
            Profile::Release
        } else {
            Profile::Dev
        }
    }
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The name of the toolchain
    #[arg(long, default_value = "pipelined")]
    name: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            shell::error(&explain(error));
            ExitCode::from(101)
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode> {
    let layout = Layout::read(cli.root)?;
    let network = if cli.offline {
        Network::Offline
    } else {
        Network::Configured
    };
    let variant = |stock| {
        if stock {
            Variant::Stock
        } else {
            Variant::Patched
        }
    };
    let request = |profile| Request {
        variant: Variant::Patched,
        profile,
        network,
    };
    match cli.command {
        Command::Assemble { upto, force } => {
            let work = if force {
                assemble::Work::Discard
            } else {
                assemble::Work::Keep
            };
            assemble::run(&layout, upto, work, network)?;
        }
        Command::Export => export::run(&layout)?,
        Command::Build { profile, stock } => build::run(
            &layout,
            Request {
                variant: variant(stock),
                ..request(profile.profile())
            },
        )?,
        Command::Run { profile, args } => run::run(&layout, request(profile.profile()), &args)?,
        Command::Test { args } => {
            let code = test::run(&layout, request(Profile::Dev), &args)?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(101)));
        }
        Command::Upstream {
            filters,
            stock,
            mode,
            no_early_cutoff,
        } => upstream::run(
            &layout,
            &upstream::Request {
                filters,
                variant: variant(stock),
                mode,
                early_cutoff: !no_early_cutoff,
                network,
            },
        )?,
        Command::Compare {
            pairs,
            fresh,
            touch,
            tests,
            memory,
            against,
            mode,
            args,
        } => compare::run(
            &layout,
            &compare::Request {
                pairs,
                fresh,
                touch,
                tests,
                memory,
                against,
                mode,
                network,
                args,
            },
        )?,
        Command::Record {
            output,
            name,
            rebuild,
            args,
        } => record::run(
            &layout,
            &record::Request::new(&layout, output, name, rebuild, network, args),
        )?,
        Command::Replay {
            recording,
            jobs,
            mode,
            schedule,
            cargo,
            speed,
        } => player::run(
            &layout,
            &player::Request {
                recording,
                jobs,
                mode,
                schedule,
                cargo,
                time: speed.map_or_else(Time::best, |speed| Time::Wall { speed }),
                network,
            },
        )?,
        Command::Bench { quick, filter } => bench::run(
            &layout,
            &bench::Request {
                quick,
                filter,
                network,
            },
        )?,
        Command::Port { version } => port::run(&layout, &version, network)?,
        Command::Prefixes => prefixes::run(&layout, network)?,
        Command::Install { name, debug } => {
            let profile = if debug {
                Profile::Dev
            } else {
                Profile::Release
            };
            install::install(&layout, request(profile), &name.name)?;
        }
        Command::Uninstall { name } => install::uninstall(&name.name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts what to do in front of an error that has one cause wherever it happens: a full disk.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let full = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
            || cause.to_string().contains("No space left on device")
    });
    if full {
        error.context(cargo::DISK_FULL)
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_full_disk_is_explained() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = explain(anyhow::Error::from(full).context("could not unpack"));
        assert_eq!(error.to_string(), cargo::DISK_FULL);
        let other = explain(anyhow::anyhow!("something else"));
        assert_eq!(other.to_string(), "something else");
    }
}
