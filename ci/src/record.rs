//! `cargo xtask record`: a recording of a build, to be replayed.
//!
//! Three things tell what happened: cargo's messages, what the recorder wrote down between cargo and
//! rustc, and the trace of the queue. With `-j1`, and no pipelining, one unit runs at a time, so all
//! three are in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use replay::recording::{self, Recording, Unit, native_source_size};
use replay::stand_in::{Compiled, LINKED, RECORDS, Role};
use serde::Deserialize;

use crate::build::{self, Profile};
use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::player::stand_in;
use crate::shell::{self, count};
use crate::{toolchain, trace};

/// What to record.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file to write.
    pub output: PathBuf,
    /// What the recording says that was built, if not what was built last.
    pub name: Option<String>,
    /// Packages to build again, when everything is built: only that is recorded.
    pub rebuild: Vec<String>,
    /// Whether to download what is missing.
    pub network: Network,
    /// The arguments of cargo, `build` first.
    pub args: Vec<OsString>,
}

impl Request {
    /// What to record, and where to if nobody has said.
    pub fn new(
        layout: &Layout,
        output: Option<PathBuf>,
        name: Option<String>,
        rebuild: Vec<String>,
        network: Network,
        args: Vec<OsString>,
    ) -> Self {
        let output = output.unwrap_or_else(|| layout.replay().join("recording.json.gz"));
        Request {
            output,
            name,
            rebuild,
            network,
            args,
        }
    }
}

/// Builds with one job, in a directory of its own, and writes down what was done.
pub fn run(layout: &Layout, request: &Request) -> Result<()> {
    let built = build::cargo(
        layout,
        build::Request {
            variant: Variant::Patched,
            profile: Profile::Dev,
            network: request.network,
        },
    )?;
    let stand_in = stand_in(layout, request.network)?;
    fs::create_dir_all(layout.replay())?;
    let dir = tempfile::Builder::new()
        .prefix("record-")
        .tempdir_in(layout.replay())?;
    let session = Session {
        rustc: toolchain::rustc_itself()?,
        cargo: built.path.clone(),
        recorder: Role::Recorder.install(&stand_in, dir.path(), "rustc")?,
        dir: dir.path().to_path_buf(),
    };
    shell::status("Recording", "a build with one job");
    let mut recorded = session.build(request)?;
    if !request.rebuild.is_empty() {
        session.clean(request)?;
        recorded = session.build(request)?;
    }
    let (mut recording, unknown) = recorded.into_recording()?;
    for (reason, links) in unknown {
        let links = count(links, "linker was", "linkers were");
        shell::note(format_args!("{links} not timed apart from rustc: {reason}"));
    }
    let Some(last) = recording.units.last() else {
        bail!("nothing was built, so there is nothing to record");
    };
    recording.name = match &request.name {
        Some(name) => name.clone(),
        None => format!("{} {}", last.package, last.version),
    };
    if let Some(parent) = request.output.parent() {
        fs::create_dir_all(parent)?;
    }
    recording.write(&request.output)?;
    shell::status(
        "Recorded",
        format_args!(
            "{}: {}, {:.1} s of work, in {}",
            recording.name,
            count(recording.units.len(), "unit", "units"),
            recording.work() as f64 / 1e6,
            request.output.display()
        ),
    );
    Ok(())
}

/// The cargo and the directory of one recording.
struct Session {
    rustc: PathBuf,
    cargo: PathBuf,
    recorder: PathBuf,
    dir: PathBuf,
}

impl Session {
    fn command(&self, args: &[OsString]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.cargo);
        cargo::isolate(&mut command);
        command
            .args(args)
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_DIR", self.dir.join("target"))
            .env_remove("CARGO_BUILD_TARGET_DIR")
            .env_remove("CARGO_BUILD_BUILD_DIR");
        command
    }

    fn build(&self, request: &Request) -> Result<Recorded> {
        let (trace, records) = (self.dir.join("trace.json"), self.dir.join("records"));
        for file in [&trace, &records] {
            fs::write(file, "")?;
        }
        // Before `--`, which `cargo test` would take for the tests.
        let mut args = request.args.clone();
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
        Ok(Recorded {
            units: trace::units_that_ran(&fs::read_to_string(&trace)?)?,
            compiled: compiled.collect::<Result<_, _>>()?,
            messages,
        })
    }

    /// Removes what was built of the packages, as if they had been edited.
    fn clean(&self, request: &Request) -> Result<()> {
        let mut args = vec![OsString::from("clean")];
        // Where the workspace is and which profile is meant cargo wants to know here, too.
        let mut given = request.args.iter();
        while let Some(arg) = given.next() {
            let text = arg.to_string_lossy();
            match text.as_ref() {
                "--release" | "-r" => args.push(arg.clone()),
                "--manifest-path" | "--profile" => {
                    args.push(arg.clone());
                    args.extend(given.next().cloned());
                }
                _ if text.starts_with("--manifest-path=") || text.starts_with("--profile=") => {
                    args.push(arg.clone());
                }
                _ => {}
            }
        }
        for package in &request.rebuild {
            args.extend(["--package", package].map(OsString::from));
        }
        cargo::run(
            self.command(&args),
            "removing what is to be rebuilt",
            |_| {},
        )
    }
}

/// What the three sources say, each in the order in which it happened.
struct Recorded {
    units: Vec<trace::UnitThatRan>,
    compiled: VecDeque<Compiled>,
    messages: Vec<Message>,
}

/// One of cargo's messages, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        manifest_path: PathBuf,
    },
    BuildScriptExecuted {
        package_id: String,
        out_dir: PathBuf,
    },
    #[serde(other)]
    Other,
}

impl Recorded {
    /// Puts the three together. Also says how many linkers could not be timed, by reason.
    fn into_recording(mut self) -> Result<(Recording, BTreeMap<String, usize>)> {
        let rustc = toolchain::rustc_info()?;
        let mut recording = Recording::new("", rustc.release, rustc.host);
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
                Message::BuildScriptExecuted {
                    package_id,
                    out_dir,
                } => runs.push_back((package_id, out_dir)),
                Message::Other => {}
            }
        }
        // What an earlier build had run is said first, in no order that is known.
        let ran = self.units.iter().filter(|unit| unit.is_run()).count();
        runs.drain(..runs.len().saturating_sub(ran));
        let mut unknown = BTreeMap::new();
        let places: BTreeMap<u64, usize> = (self
            .units
            .iter()
            .enumerate()
            .map(|(place, unit)| (unit.unit, place)))
        .collect();
        for ran in self.units {
            let needs = ran.waited_for.iter();
            let needs = needs.filter_map(|need| places.get(need).copied()).collect();
            let is_run = ran.is_run();
            let mut unit = Unit {
                package: ran.package,
                version: ran.version,
                target: ran.target,
                kind: ran.kind,
                mode: ran.mode,
                needs,
                ..Unit::default()
            };
            let whose = format!("{} {}", unit.package, unit.version);
            if is_run {
                let (id, out_dir) = runs
                    .pop_front()
                    .with_context(|| format!("the build script of {whose} left no message"))?;
                let manifest = packages.get(&id).context("a package without a manifest")?;
                let package = manifest.parent().unwrap_or(manifest);
                unit.run = ran.took;
                unit.source_size = native_source_size(package);
                unit.stdout = stdout(&out_dir, package)
                    .with_context(|| format!("the output of the build script of {whose}"))?;
            } else {
                let compiled = self.compiled.pop_front();
                let compiled = compiled.with_context(|| {
                    format!("rustc was not seen compiling {} of {whose}", unit.target)
                })?;
                if !is_of(&compiled, &unit) {
                    bail!(
                        "rustc was seen compiling {} when it was the turn of {} of {whose}",
                        compiled.crate_name,
                        unit.target
                    );
                }
                unit.frontend = compiled.frontend;
                unit.codegen = compiled.codegen;
                unit.link = compiled.link;
                unit.codegen_units = compiled.codegen_units;
                unit.metadata_size = compiled.metadata_size;
                unit.output_size = compiled.output_size;
                unit.source_size = compiled.source_size;
                unit.memory = compiled.memory;
                // Libraries are told of it, too; it happens where they are linked.
                recording.lto |= compiled.lto && unit.role() == recording::Role::Linked;
                if let Some(reason) = compiled.link_unknown {
                    *unknown.entry(reason).or_default() += 1;
                }
            }
            recording.units.push(unit);
        }
        recording.reduce();
        Ok((recording, unknown))
    }
}

/// Whether this is how the unit was compiled.
fn is_of(compiled: &Compiled, unit: &Unit) -> bool {
    compiled.crate_name == unit.target.replace('-', "_")
        && compiled.is_test == (unit.mode == "test")
}

/// What a build script has told cargo, without the paths of this machine.
fn stdout(out_dir: &Path, package: &Path) -> Result<String> {
    let output = out_dir.with_file_name("output");
    let text = fs::read(&output)?;
    Ok(without_paths(
        &String::from_utf8_lossy(&text),
        out_dir,
        package,
    ))
}

fn without_paths(text: &str, out_dir: &Path, package: &Path) -> String {
    let text = text
        .replace(&*out_dir.to_string_lossy(), recording::OUT_DIR)
        .replace(&*package.to_string_lossy(), recording::PACKAGE_DIR);
    let mut cleaned = String::new();
    // The rest is for people.
    for line in text.lines().filter(|line| line.starts_with("cargo:")) {
        let mut rest = line;
        while let Some(at) = absolute_path(rest) {
            cleaned.push_str(&rest[..at]);
            cleaned.push_str(recording::ELSEWHERE);
            let path = &rest[at..];
            let end = path.find(|c: char| c.is_whitespace() || "\"';,".contains(c));
            rest = &path[end.unwrap_or(path.len())..];
        }
        cleaned.push_str(rest);
        cleaned.push('\n');
    }
    cleaned
}

/// Where an absolute path begins in a line.
fn absolute_path(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    (1..bytes.len()).find(|at| {
        let begins = |at: usize| b"=:\"' ,LI".contains(&bytes[at - 1]);
        let is_url = bytes[at - 1] == b':' && bytes.get(at + 1) == Some(&b'/');
        let is_unix = bytes[*at] == b'/' && begins(*at) && !is_url && bytes.len() > at + 1;
        let is_windows = bytes[*at].is_ascii_alphabetic()
            && begins(*at)
            && bytes.get(at + 1) == Some(&b':')
            && matches!(bytes.get(at + 2), Some(b'\\' | b'/'));
        is_unix || is_windows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_machine_is_kept() {
        let text = "hello /home/me\n\
            cargo:rustc-link-search=native=/t/build/a-1/out/lib\n\
            cargo:rerun-if-changed=/src/a/build.rs\n\
            cargo::rerun-if-changed=build.rs\n\
            cargo:rustc-link-search=/usr/lib/x86_64-linux-gnu\n\
            cargo:rustc-link-arg=-L/usr/local/lib and C:\\lib\n\
            cargo:rustc-env=HOME=/home/me\n\
            cargo:rustc-env=URL=https://example.com/a\n\
            cargo:rustc-cfg=a/b\n";
        let cleaned = without_paths(text, Path::new("/t/build/a-1/out"), Path::new("/src/a"));
        assert_eq!(
            cleaned,
            "cargo:rustc-link-search=native={OUT_DIR}/lib\n\
            cargo:rerun-if-changed={PACKAGE_DIR}/build.rs\n\
            cargo::rerun-if-changed=build.rs\n\
            cargo:rustc-link-search={ELSEWHERE}\n\
            cargo:rustc-link-arg=-L{ELSEWHERE} and {ELSEWHERE}\n\
            cargo:rustc-env=HOME={ELSEWHERE}\n\
            cargo:rustc-env=URL=https://example.com/a\n\
            cargo:rustc-cfg=a/b\n"
        );
    }
}
