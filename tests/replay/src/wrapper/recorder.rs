//! Records what rustc does, and how long it takes.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cargo_pipelining::job::notification::Notification;
use cargo_pipelining::link_gate::linker;
use cargo_pipelining::memory::anonymous;
use cargo_pipelining::scheduler::guess::SourceSize;
use fs_err as fs;
use object::read::archive::ArchiveFile;
use serde::{Deserialize, Serialize};

use super::invocation::{Invocation, expand};
use super::{RECORDING_LINKER, append_line, exit_code, install, variable};
use crate::usage::cpu_of_children;

/// In the environment of cargo: the file to which each compilation is appended, as [`Compiled`].
pub const RECORDS: &str = "REPLAY_RECORDS";
/// In the environment of cargo: a file that each linker writes for the rustc that ran it. There is one
/// rustc at a time.
pub const LINKED: &str = "REPLAY_LINKED";
/// In the environment of the linker: the real one.
const LINKER: &str = "REPLAY_LINKER";

/// A compilation. Times are in µs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    pub crate_name: String,
    pub is_test: bool,
    /// Until the metadata was written; all of it, if none was.
    pub frontend: u64,
    /// From there until the end, but for the linker.
    pub codegen: u64,
    pub link: u64,
    pub codegen_units: u64,
    pub is_optimized: bool,
    pub has_debuginfo: bool,
    /// How many bytes rustc held when the metadata was written.
    pub memory: u64,
    /// The size of the source files, in bytes.
    pub source_size: u64,
    /// How many traits macros derive there.
    pub derives: u64,
    /// How often macros are called there, but for assertions.
    pub macro_calls: u64,
    /// Why the linker could not be told from the rest.
    pub link_unknown: Option<String>,
    /// True if that is link-time optimization across crates.
    pub lto: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Linked {
    /// µs.
    took: u64,
    objects: u64,
}

/// Measures what a process and those below it take: CPU time where it can be had, which does not count
/// what else the machine does, and else time on the clock. With one job they work one at a time.
struct Meter {
    /// Of all children that had ended.
    before: Option<Duration>,
    began: Instant,
}

impl Meter {
    fn begin() -> Self {
        Meter {
            // Elsewhere the system does not tell it of a process that runs.
            before: cpu_of_children().filter(|_| cfg!(target_os = "linux")),
            began: Instant::now(),
        }
    }

    /// What a child that still runs has taken so far, without those below it, in µs.
    fn of_running(&self, child: u32) -> u64 {
        micros(match self.before {
            Some(_) => cpu_of(child).unwrap_or_default(),
            None => self.began.elapsed(),
        })
    }

    /// What the child has taken that has ended, with those below it, in µs.
    fn of_ended(&self) -> u64 {
        micros(match (self.before, cpu_of_children()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => self.began.elapsed(),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
fn cpu_of(process: u32) -> Option<Duration> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process).ok()?);
    let clock = nix::time::clock_getcpuclockid(pid).ok()?;
    nix::time::clock_gettime(clock).ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn cpu_of(_: u32) -> Option<Duration> {
    None
}

/// Returns how many bytes a process holds, 0 if that cannot be had.
fn memory_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    anonymous(&status).unwrap_or(0)
}

/// Runs rustc, whose path is the first argument, with a linker that records how long it takes.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let mut args = args.into_iter();
    let mut command = Command::new(args.next().context("no rustc to record")?);
    let args: Vec<OsString> = args.collect();
    command.args(&args);
    let invocation = Invocation(expand(&args)?);
    // Build scripts, too, run rustc through the wrapper, and cargo asks it about itself. Only what cargo
    // compiles reports artifacts.
    if !invocation.reports_artifacts() {
        let status = command.status().context("could not run rustc")?;
        return Ok(exit_code(status));
    }
    let linked = PathBuf::from(variable(LINKED)?);
    fs::write(&linked, "")?;
    let mut rmeta = invocation.output("lib", ".rmeta");
    if invocation.emits("link") && !invocation.emits("metadata") {
        // It is not read. It tells where the frontend ends.
        rmeta = linked.with_extension("rmeta");
        let mut emit = OsString::from("metadata=");
        emit.push(&rmeta);
        command.arg("--emit").arg(emit);
    }
    let linker = linker::from_args(&args);
    let lto = linker == Err(linker::LTO);
    let link_unknown = record_linker(&mut command, linker)?;

    let meter = Meter::begin();
    command.stderr(Stdio::piped());
    let mut child = command.spawn().context("could not run rustc")?;
    let stderr = child.stderr.take().context("rustc has no stderr")?;
    let mut frontend = None;
    let mut memory = 0;
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line)? > 0 {
        if let Ok(text) = std::str::from_utf8(&line)
            && Notification::parse(text).is_some_and(|it| it.is_metadata(&rmeta))
        {
            frontend = Some(meter.of_running(child.id()));
            memory = memory_of(child.id());
        }
        std::io::stderr().write_all(&line)?;
        line.clear();
    }
    let status = child.wait()?;
    let all = meter.of_ended();
    if !status.success() {
        return Ok(exit_code(status));
    }

    let links = fs::read_to_string(&linked)?;
    let links: Vec<Linked> = links
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let link = links.iter().map(|linked| linked.took).sum::<u64>().min(all);
    let mut codegen_units = links.iter().map(|linked| linked.objects).max().unwrap_or(0);
    let rlib = invocation.output("lib", ".rlib");
    if invocation.emits("link") && rlib.exists() {
        codegen_units = codegen_units.max(objects(&rlib)?);
    }
    let compiled = all - link;
    let frontend = match frontend {
        Some(frontend) => frontend.min(compiled),
        None => compiled,
    };
    let source = invocation.source();
    let source = source.map_or_else(SourceSize::default, SourceSize::read);
    let record = Compiled {
        crate_name: invocation.crate_name().to_owned(),
        is_test: invocation.is_test(),
        frontend,
        codegen: compiled - frontend,
        link,
        codegen_units,
        is_optimized: invocation.has_codegen_option("opt-level"),
        has_debuginfo: invocation.has_codegen_option("debuginfo"),
        memory,
        source_size: source.bytes,
        derives: source.derives,
        macro_calls: source.macro_calls,
        link_unknown,
        lto,
    };
    append_line(Path::new(&variable(RECORDS)?), &record)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes rustc run the recording linker instead of its own. If that is not known, returns why.
fn record_linker(
    command: &mut Command,
    linker: Result<Option<String>, &'static str>,
) -> Result<Option<String>> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let real = match linker {
        Ok(Some(linker)) => linker,
        Ok(None) => match linker::default_linker(true, os, "", arch) {
            Some(linker) => linker.into(),
            None => return Ok(Some(format!("the default linker on {os} is not known"))),
        },
        Err(reason) => return Ok(Some(reason.to_string())),
    };
    let this = std::env::current_exe()?;
    let roles = this.parent().and_then(Path::parent);
    let roles = roles.context("the recorder has no directory")?;
    let name = Path::new(&real).file_name().and_then(OsStr::to_str);
    let name = name.context("the linker's name is not UTF-8")?;
    let recording = install(RECORDING_LINKER, roles, name)?;
    let mut option = OsString::from("linker=");
    option.push(recording);
    command.arg("-C").arg(option).env(LINKER, real);
    Ok(None)
}

/// Runs the real linker.
pub fn link(args: Vec<OsString>) -> Result<ExitCode> {
    let real = variable(LINKER)?;
    let meter = Meter::begin();
    let status = Command::new(&real)
        .args(&args)
        .status()
        .with_context(|| format!("could not run {}", real.display()))?;
    let took = meter.of_ended();
    let expanded = expand(&args).unwrap_or_default();
    let is_object = |arg: &&String| arg.contains(".rcgu.o");
    let linked = Linked {
        took,
        objects: expanded.iter().filter(is_object).count() as u64,
    };
    append_line(Path::new(&variable(LINKED)?), &linked)?;
    Ok(exit_code(status))
}

/// Returns how many members of a library are objects of rustc's codegen.
fn objects(rlib: &Path) -> Result<u64> {
    let bytes = fs::read(rlib)?;
    let archive = ArchiveFile::parse(bytes.as_slice())?;
    let mut count = 0;
    for member in archive.members() {
        count += u64::from(member?.name().ends_with(b".rcgu.o"));
    }
    Ok(count)
}
