//! Replays rustc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use jobserver::Client;

use super::clock::Clock;
use super::{become_it, exit_code, linker, sysroot, variable};
use crate::log::{Phase, now};
use crate::plan::{Plan, RUSTC, Side};
use crate::recording;

/// A library without members.
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// What cargo wants of rustc, as far as it matters here.
#[derive(Debug, Default)]
pub struct Invocation {
    /// The file in the place of the source.
    plan: Option<PathBuf>,
    /// The root of the crate.
    pub source: Option<PathBuf>,
    /// The name of the crate.
    pub crate_name: String,
    crate_types: Vec<String>,
    emit: Vec<String>,
    out_dir: PathBuf,
    extra_filename: String,
    linker: Option<String>,
    codegen_units: String,
    features: Vec<String>,
    externs: Vec<PathBuf>,
    /// Whether it is compiled as a test.
    pub is_test: bool,
    /// Whether rustc is to say what it has written.
    pub says_artifacts: bool,
}

impl Invocation {
    /// Reads the arguments as cargo spells them.
    pub fn parse(args: &[String]) -> Self {
        let mut found = Invocation::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut value = || {
                value
                    .clone()
                    .or_else(|| args.next().cloned())
                    .unwrap_or_default()
            };
            match name {
                "--crate-name" => found.crate_name = value(),
                "--crate-type" => found.crate_types.push(value()),
                "--emit" => found.emit = value().split(',').map(str::to_owned).collect(),
                "--out-dir" => found.out_dir = value().into(),
                "--json" => found.says_artifacts = value().contains("artifacts"),
                "--test" => found.is_test = true,
                "--cfg" => {
                    let value = value();
                    if let Some(feature) = value.strip_prefix("feature=\"") {
                        found
                            .features
                            .push(feature.trim_end_matches('"').to_owned());
                    }
                }
                "--extern" => {
                    if let Some((_, path)) = value().split_once('=') {
                        found.externs.push(path.into());
                    }
                }
                "-C" => {
                    let value = value();
                    found.codegen_option(&value);
                }
                // Whatever it is, it is not the source.
                "-L" | "-l" | "--check-cfg" | "--cap-lints" | "--error-format" | "--target"
                | "--edition" => {
                    value();
                }
                _ => {
                    if let Some(value) = arg.strip_prefix("-C") {
                        found.codegen_option(value);
                    } else if !arg.starts_with('-') && arg.ends_with(".json") {
                        found.plan = Some(arg.into());
                    } else if !arg.starts_with('-') && arg.ends_with(".rs") {
                        found.source = Some(arg.into());
                    }
                }
            }
        }
        found
    }

    fn codegen_option(&mut self, option: &str) {
        match option.split_once('=') {
            Some(("extra-filename", value)) => self.extra_filename = value.to_owned(),
            Some(("linker", value)) => self.linker = Some(value.to_owned()),
            Some(("codegen-units", value)) => self.codegen_units = value.to_owned(),
            _ => {}
        }
    }

    fn side(&self, unit_is_build_script: bool) -> Side {
        if unit_is_build_script {
            // All of them are for the host.
            let is_targets = |feature: &String| feature == Side::Target.feature();
            return match self.features.iter().any(is_targets) {
                true => Side::Target,
                false => Side::Host,
            };
        }
        Side::of_codegen_units(&self.codegen_units)
    }

    /// Whether cargo wants this output of it.
    pub fn emits(&self, what: &str) -> bool {
        self.emit.iter().any(|emit| emit == what)
    }

    /// Where rustc puts an output.
    pub fn output(&self, prefix: &str, suffix: &str) -> PathBuf {
        let Invocation {
            crate_name,
            extra_filename,
            ..
        } = self;
        let name = format!("{prefix}{crate_name}{extra_filename}{suffix}");
        self.out_dir.join(name)
    }

    /// Says that a file is written, as rustc does.
    fn say(&self, path: &Path, emit: &str) {
        if self.says_artifacts {
            let notification = serde_json::json!({
                "$message_type": "artifact",
                "artifact": path.to_string_lossy(),
                "emit": emit,
            });
            eprintln!("{notification}");
        }
    }
}

/// Does what rustc would, and no more of it than cargo could notice.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let began = now();
    let texts = expand(&args)?;
    let invocation = Invocation::parse(&texts);
    let Some(plan_path) = &invocation.plan else {
        let mut command = Command::new(variable(RUSTC)?);
        command.args(&args);
        if args.iter().any(|arg| arg == "--print=sysroot") {
            return describe(command);
        }
        return become_it(command);
    };
    let plan = Plan::read(plan_path)?;
    let is_build_script = plan
        .units
        .iter()
        .all(|planned| planned.unit.role() == recording::Role::BuildScript);
    let planned = plan
        .choose(invocation.is_test, invocation.side(is_build_script))
        .with_context(|| plan_path.display().to_string())?;
    let unit = planned.unit;
    let mut clock = Clock::start(began, planned.place)?;

    if invocation.emits("dep-info") {
        let path = invocation.output("", ".d");
        let source = plan_path.display();
        fs::write(
            &path,
            format!("{}: {source}\n\n{source}:\n", path.display()),
        )?;
        invocation.say(&path, "dep-info");
    }
    clock.pass(Phase::Frontend, unit.frontend)?;
    if invocation.emits("metadata") {
        let path = invocation.output("lib", ".rmeta");
        fs::write(&path, format!("metadata of unit {}\n", planned.place))?;
        invocation.say(&path, "metadata");
    }
    if !invocation.emits("link") {
        return Ok(ExitCode::SUCCESS);
    }
    // SAFETY: nothing has opened a file that could be taken for the jobserver's: this is the only
    // use of it in the process, and what was opened before is closed.
    let jobserver = unsafe { Client::from_env_ext(true) }.client.ok();
    if unit.codegen > 0 {
        clock.pass_in_parallel(Phase::Codegen, unit.codegen, unit.codegen_units, jobserver)?;
    } else {
        // The linker has a clock of its own.
        drop(clock);
    }
    let crate_types = match invocation.is_test {
        // A program, whatever it is a test of.
        true => vec!["bin"],
        false => invocation.crate_types.iter().map(String::as_str).collect(),
    };
    for crate_type in crate_types {
        let (path, is_linked) = match crate_type {
            "lib" | "rlib" => (invocation.output("lib", ".rlib"), false),
            "staticlib" => (invocation.output("lib", ".a"), false),
            "bin" => (invocation.output("", std::env::consts::EXE_SUFFIX), true),
            "proc-macro" | "dylib" | "cdylib" => {
                let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
                (invocation.output(prefix, suffix), true)
            }
            other => bail!("there is no stand-in for crates of type {other}"),
        };
        if !is_linked {
            fs::write(&path, EMPTY_ARCHIVE)?;
        } else {
            let Some(linker) = &invocation.linker else {
                bail!("rustc was told of no linker");
            };
            let mut command = Command::new(linker);
            command.arg("-o").arg(&path).args(&invocation.externs);
            linker::tell(&mut command, planned.place, &unit)?;
            let status = command
                .status()
                .with_context(|| format!("could not run `{linker}`"))?;
            if !status.success() {
                return Ok(exit_code(status));
            }
        }
        invocation.say(&path, "link");
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments, with those from files in the place of `@file`, as rustc reads them: one a line.
pub fn expand(args: &[OsString]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for arg in args {
        let Some(arg) = arg.to_str() else {
            bail!("{arg:?} is not UTF-8");
        };
        match arg.strip_prefix('@') {
            Some(file) => texts.extend(fs::read_to_string(file)?.lines().map(str::to_owned)),
            None => texts.push(arg.to_owned()),
        }
    }
    Ok(texts)
}

/// Prints what rustc says of itself, but for its sysroot: cargo compares the compilers that it runs with
/// the one in there.
fn describe(mut command: Command) -> Result<ExitCode> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let own = sysroot(&std::env::current_exe()?);
    for line in String::from_utf8(output.stdout)?.lines() {
        if Path::new(line).join("lib/rustlib").is_dir() {
            println!("{}", own.display());
        } else {
            println!("{line}");
        }
    }
    Ok(exit_code(output.status))
}
