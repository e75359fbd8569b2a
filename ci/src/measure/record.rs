//! `cargo xtask record`: records a build, to be simulated.
//!
//! There are three sources: cargo's messages, the records between cargo and rustc, and the trace of the queue.
//! With `-j1` and no pipelining one unit runs at a time, so all three are in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use ::replay::BuildTrace;
use ::replay::recording::{Recording, SourceSize, Unit};
use ::replay::wrapper::{Compiled, LINKED, RECORDER, RECORDS, install};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Deserialize;
use tempfile::TempDir;

use crate::build;
use crate::project::{Project, Variant};
use crate::shell::count;
use crate::{cargo, toolchain};

#[derive(Debug, clap::Args)]
pub struct Args {
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
}

/// Builds with one job, in a directory of its own, and writes down what was done.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let replay = project.root.join("target/replay");
    let default = replay.join("recording.json.gz");
    let output = args.output.as_ref().unwrap_or(&default);
    let built = build::cargo(project, Variant::Patched, false)?;
    fs::create_dir_all(&replay)?;
    let dir = TempDir::with_prefix_in("record-", replay)?;
    let session = Session {
        args,
        rustc: toolchain::rustc_itself()?,
        cargo: built.path.clone(),
        recorder: install(RECORDER, dir.path(), "rustc")?,
        dir: dir.path().to_path_buf(),
    };
    status!("Recording", "a build with one job");
    let mut sources = session.build()?;
    if !args.rebuild.is_empty() {
        session.clean()?;
        sources = session.build()?;
    }
    let mut recording = sources.combine()?;
    let Some(last) = recording.units.last() else {
        bail!("nothing was built, so there is nothing to record");
    };
    recording.name = match &args.name {
        Some(name) => name.clone(),
        None => format!("{} {}", last.package, last.version),
    };
    if let Some(parent) = output.parent() {
        fs::create_dir_all(parent)?;
    }
    recording.write(output)?;
    let units = count(recording.units.len(), "unit", "units");
    let work = recording.work() as f64 / 1e6;
    let (name, output) = (&recording.name, output.display());
    status!(
        "Recorded",
        "{name}: {units}, {work:.1} s of work, in {output}"
    );
    Ok(())
}

/// The cargo and the directory of one recording.
struct Session<'a> {
    args: &'a Args,
    rustc: PathBuf,
    cargo: PathBuf,
    recorder: PathBuf,
    dir: PathBuf,
}

impl Session<'_> {
    fn command(&self, args: &[OsString]) -> Command {
        let mut command = Command::new(&self.cargo);
        cargo::isolate(&mut command);
        command
            .args(args)
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_DIR", self.dir.join("target"))
            .env_remove("CARGO_BUILD_TARGET_DIR")
            .env_remove("CARGO_BUILD_BUILD_DIR");
        command
    }

    fn build(&self) -> Result<Sources> {
        let (trace, records) = (self.dir.join("trace.json"), self.dir.join("records"));
        for file in [&trace, &records] {
            fs::write(file, "")?;
        }
        // Before `--`, which `cargo test` would take for the tests.
        let mut args = self.args.args.clone();
        let own = ["-j1", "--message-format=json-render-diagnostics"];
        let at = args.len().min(1);
        args.splice(at..at, own.map(OsString::from));
        let mut command = self.command(&args);
        command
            .env("CARGO_BUILD_TRACE", &trace)
            .env("CARGO_BUILD_PIPELINING", "off")
            .env("RUSTC_WRAPPER", &self.recorder)
            .env(RECORDS, &records)
            .env(LINKED, self.dir.join("linked"));
        let mut messages = Vec::new();
        cargo::run(command, "the build to be recorded", |line| {
            messages.extend(serde_json::from_str::<Message>(line));
        })?;
        let compiled = fs::read_to_string(&records)?;
        let compiled = compiled.lines().map(serde_json::from_str);
        Ok(Sources {
            trace: BuildTrace::read(&trace)?,
            compiled: compiled.collect::<Result<_, _>>()?,
            messages,
        })
    }

    /// Removes what was built of the packages to rebuild, as if they had been edited.
    fn clean(&self) -> Result<()> {
        // `cargo clean` needs to know where the workspace is and which profile is meant, too.
        let mut args = vec![OsString::from("clean")];
        let mut given = self.args.args.iter();
        while let Some(arg) = given.next() {
            let text = arg.to_string_lossy();
            match text.split('=').next().unwrap_or_default() {
                "--release" | "-r" => args.push(arg.clone()),
                "--manifest-path" | "--profile" => {
                    args.push(arg.clone());
                    if !text.contains('=') {
                        args.extend(given.next().cloned());
                    }
                }
                _ => {}
            }
        }
        for package in &self.args.rebuild {
            args.extend(["--package", package].map(OsString::from));
        }
        let purpose = "removing what is to be rebuilt";
        cargo::run(self.command(&args), purpose, |_| {})
    }
}

/// The three sources, each in the order in which things happened.
struct Sources {
    trace: BuildTrace,
    compiled: VecDeque<Compiled>,
    messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        manifest_path: PathBuf,
    },
    BuildScriptExecuted {
        package_id: String,
    },
    #[serde(other)]
    Other,
}

impl Sources {
    fn combine(mut self) -> Result<Recording> {
        let rustc = toolchain::rustc()?;
        let mut recording = Recording::new("", rustc.semver.to_string(), &*rustc.host);
        let mut packages = BTreeMap::new();
        let mut runs = VecDeque::new();
        for message in self.messages {
            match message {
                Message::CompilerArtifact {
                    package_id,
                    manifest_path,
                } => {
                    packages.insert(package_id, manifest_path);
                }
                Message::BuildScriptExecuted { package_id } => runs.push_back(package_id),
                Message::Other => {}
            }
        }
        let done = self.trace.done();
        // Build scripts that an earlier build has run come first, in no order that is known.
        let ran = done.iter().filter(|(_, unit)| unit.is_run()).count();
        runs.drain(..runs.len().saturating_sub(ran));
        let places: BTreeMap<usize, usize> =
            std::iter::zip(done.iter().map(|(id, _)| *id), 0..).collect();
        let mut unknown_links: BTreeMap<String, usize> = BTreeMap::new();
        for (_, ran) in done {
            let needs = ran.waited_for.all.iter();
            let mut unit = Unit {
                package: ran.package.clone(),
                version: ran.version.clone(),
                target: ran.target.clone(),
                kind: ran.kind.clone(),
                mode: ran.mode.clone(),
                needs: needs.filter_map(|need| places.get(need).copied()).collect(),
                ..Unit::default()
            };
            let name = &ran.name;
            if ran.is_run() {
                let id = runs
                    .pop_front()
                    .with_context(|| format!("the build script of {name} left no message"))?;
                let manifest = packages.get(&id).context("a package without a manifest")?;
                let package = manifest.parent().unwrap_or(manifest);
                unit.run = ran.ended.map_or(0, |ended| ended.time - ran.began.time);
                unit.source_size = SourceSize::native(package).bytes;
            } else {
                let compiled = self.compiled.pop_front();
                let compiled = compiled.with_context(|| {
                    format!("rustc was not seen compiling {} of {name}", unit.target)
                })?;
                if compiled.crate_name != unit.target.replace('-', "_")
                    || compiled.is_test != (unit.mode == "test")
                {
                    bail!(
                        "rustc was seen compiling {} when it was the turn of {} of {name}",
                        compiled.crate_name,
                        unit.target
                    );
                }
                unit.frontend = compiled.frontend;
                unit.codegen = compiled.codegen;
                unit.link = compiled.link;
                unit.codegen_units = compiled.codegen_units;
                unit.is_optimized = compiled.is_optimized;
                unit.has_debuginfo = compiled.has_debuginfo;
                unit.memory = compiled.memory;
                unit.source_size = compiled.source_size;
                unit.derives = compiled.derives;
                unit.macro_calls = compiled.macro_calls;
                // Libraries get the option, too; it takes effect where they are linked.
                recording.lto |= compiled.lto && unit.is_linked();
                if let Some(reason) = compiled.link_unknown {
                    *unknown_links.entry(reason).or_default() += 1;
                }
            }
            recording.units.push(unit);
        }
        recording.reduce();
        for (reason, links) in unknown_links {
            let links = count(links, "linker was", "linkers were");
            note!("{links} not timed apart from rustc: {reason}");
        }
        Ok(recording)
    }
}
