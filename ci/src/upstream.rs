//! `cargo xtask upstream`: Cargo's own testsuite, and what is expected of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use fs_err as fs;
use indicatif::ProgressBar;

use crate::cargo::{self, Network};
use crate::expectations::{Expectations, Fact, Finding};
use crate::layout::{Layout, Variant};
use crate::libtest::{self, Report, Verdict};
use crate::lock::Lock;
use crate::machine::Permissions;
use crate::shell::{self, count};
use crate::tree::Tree;
use crate::{assemble, build, fixtures, machine, toolchain};

/// How long nothing at all may happen. The slowest tests take a minute or two; a test that hangs
/// must not hold up a run for ever.
const STALL: Duration = Duration::from_secs(600);

/// How often a test that has failed must pass alone to be called flaky.
const AGAIN: usize = 5;

/// How many tests may have failed for them to be run again.
const FEW: usize = 3;

/// How many tests pass between two lines of progress where there is no terminal.
const STRIDE: usize = 200;

/// A mode of `build.pipelining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Dependents wait for the whole dependency.
    Off,
    /// Libraries start at the dependency's metadata.
    Metadata,
    /// So do units that link, and wait before the linker.
    Link,
}

impl Mode {
    /// Its name in Cargo's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Metadata => "metadata",
            Mode::Link => "link",
        }
    }
}

/// Which tests to run, and on what.
#[derive(Clone, Debug)]
pub struct Request {
    /// Only tests whose names contain one of these.
    pub filters: Vec<String>,
    /// The replacement or the released cargo.
    pub variant: Variant,
    /// A mode other than the default.
    pub mode: Option<Mode>,
    /// Whether early cutoff is left on.
    pub early_cutoff: bool,
    /// Whether to download what is missing.
    pub network: Network,
}

/// Runs the tests and judges the outcome.
pub fn run(layout: &Layout, request: &Request) -> Result<()> {
    toolchain::check()?;
    let machine = Machine::find(layout, request)?;
    let expectations =
        Expectations::read(&layout.expectations(), |fact| machine.holds(fact, request))?;
    let _turn = Lock::testsuite(layout)?;
    let (tree, _lock) = assemble::ensure(layout, request.variant, request.network)?;
    fixtures::lay_down(&tree)?;

    shell::status("Building", "Cargo's testsuite");
    let mut command = test_command(layout, request, &machine, &tree)?;
    command.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let mut executable = None;
    cargo::run(command, "building Cargo's testsuite", |line| {
        executable = build::executable_in(line, "test").or(executable.take());
    })?;
    let executable = executable.context("cargo did not say where the testsuite is")?;

    let all = list(&executable, &[])?;
    let never = list(&executable, &["--ignored"])?;
    let selected: BTreeSet<String> = all
        .iter()
        .filter(|test| {
            request.filters.is_empty() || request.filters.iter().any(|part| test.contains(part))
        })
        .cloned()
        .collect();
    if selected.is_empty() {
        bail!(
            "no test of Cargo's testsuite has a name that contains `{}`",
            request.filters.join("` or `")
        );
    }

    let place = layout.build(request.variant).join("tmp").join("cit");
    // A test may stumble over what it left when it failed; as another user, say.
    remove(&place).with_context(|| format!("could not remove {}", layout.shown(&place)))?;
    let _settings = SettingsFile::write(&place, request)?;
    let mut command = test_command(layout, request, &machine, &tree)?;
    command.arg("--").args(&request.filters);
    let command = machine.permissions.apply(command);
    let log = layout.upstream().join("testsuite.log");
    let (text, ended) = watch(command, &selected, &log)?;
    let told = || format!("; the whole log is {}", layout.shown(&log));
    let mut report = match ended {
        Ended::ByItself(status) => Report::read(&text, &selected, &never).with_context(|| {
            let ran = seen(&text, &selected).len();
            format!(
                "the testsuite broke off ({status}) after {ran} of {}{}",
                count(selected.len(), "test", "tests"),
                told()
            )
        })?,
        Ended::Interrupted => bail!(
            "interrupted: nothing is known about the tests that had not ended{}",
            told()
        ),
        Ended::Stalled => bail!(
            "nothing has happened for {} minutes; stopped. Still running: {}{}",
            STALL.as_secs() / 60,
            still_running(&text, &selected, &never),
            told()
        ),
    };

    let mut findings = expectations.judge(&all, &report.verdicts);
    let again = || {
        let command = test_command(layout, request, &machine, &tree)?;
        Ok(machine.permissions.apply(command))
    };
    for test in flaky(&findings, again)? {
        println!("{test} failed, and passed {AGAIN} times alone: flaky under load");
        report.verdicts.insert(test, Verdict::Passed);
        findings = expectations.judge(&all, &report.verdicts);
    }
    tell(&report, &findings, &expectations);
    if findings.is_empty() {
        // Gigabytes, which are of use only to find out why a test has failed.
        if let Err(error) = remove(&place) {
            shell::note(format_args!(
                "could not remove {}: {error}",
                layout.shown(&place)
            ));
        }
        return Ok(());
    }
    bail!(
        "{} with what is expected{}",
        count(
            findings.len(),
            "test or line disagrees",
            "tests or lines disagree"
        ),
        told()
    )
}

/// Runs each test that failed and should not have once more, alone and several times. Answers which
/// of them passed every time.
///
/// Some of Cargo's tests count on how fast a server of theirs answers. A failure of ours that
/// happens now and then would show in more than one of 4,000 tests, so where more than a few have
/// failed, none is run again.
fn flaky(findings: &[Finding], command: impl Fn() -> Result<Command>) -> Result<Vec<String>> {
    let failed: Vec<&str> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Failed { test } => Some(test.as_str()),
            Finding::Passed { .. } | Finding::Unknown { .. } => None,
        })
        .collect();
    let mut flaky = Vec::new();
    if failed.len() > FEW {
        return Ok(flaky);
    }
    for test in failed {
        shell::status("Again", format_args!("{test}, {AGAIN} times alone"));
        let mut passed = 0;
        while passed < AGAIN && passes_alone(command()?, test)? {
            passed += 1;
        }
        if passed == AGAIN {
            flaky.push(test.to_string());
        }
    }
    Ok(flaky)
}

fn passes_alone(mut command: Command, test: &str) -> Result<bool> {
    let output = command
        .args(["--", "--exact", test])
        .output()
        .with_context(|| format!("could not run `{}`", command.get_program().display()))?;
    Ok(output.status.success())
}

/// Prints what was found, and at last the counts.
fn tell(report: &Report, findings: &[Finding], expectations: &Expectations) {
    for finding in findings {
        if let Finding::Failed { test } = finding {
            println!("\n---- {test} ----");
            println!(
                "{}",
                report.output.get(test).map_or("", |text| text.trim_end())
            );
        }
    }
    if !findings.is_empty() {
        println!();
    }
    for finding in findings {
        println!("{finding}");
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (test, verdict) in &report.verdicts {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Ignored => skipped += 1,
            Verdict::Failed if expectations.contains(test) => skipped += 1,
            Verdict::Failed => failed += 1,
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
}

/// What is to be known about this machine.
struct Machine {
    permissions: Permissions,
    lacks_stable: bool,
}

impl Machine {
    fn find(layout: &Layout, request: &Request) -> Result<Self> {
        let machine = Machine {
            permissions: Permissions::find(&layout.build(request.variant))?,
            lacks_stable: machine::lacks_stable(),
        };
        if machine.lacks_stable {
            shell::note(
                "rustup has no toolchain `stable`: tests that need it, or a nightly, are skipped",
            );
        }
        Ok(machine)
    }

    fn holds(&self, fact: Fact, request: &Request) -> Result<bool> {
        Ok(match fact {
            Fact::Permissions => self.permissions.hold(),
            Fact::Github => machine::reaches_github(),
            Fact::Nightly => !self.lacks_stable && toolchain::is_nightly()?,
            Fact::Rustup => which::which("rustup").is_ok(),
            Fact::Linux => cfg!(target_os = "linux"),
            Fact::Macos => cfg!(target_os = "macos"),
            Fact::Windows => cfg!(windows),
            Fact::Stock => request.variant == Variant::Stock,
            Fact::Off => request.mode == Some(Mode::Off),
            Fact::Link => matches!(request.mode, None | Some(Mode::Link)),
            Fact::Mode => request.mode.is_some(),
            Fact::Setting => request.mode.is_some() || !request.early_cutoff,
            Fact::Cutoff => request.early_cutoff,
            Fact::Rust(minor) => toolchain::is_at_least((1, minor))?,
        })
    }
}

fn test_command(
    layout: &Layout,
    request: &Request,
    machine: &Machine,
    tree: &Tree,
) -> Result<Command> {
    let version = tree.version()?;
    let mut command = cargo::in_tree(layout, request.variant, "test", &version, request.network)?;
    command
        .args(["--test", "testsuite"])
        .env("RUST_BACKTRACE", "0")
        .env("CFG_DISABLE_CROSS_TESTS", "1")
        // On what they take for a CI machine the tests insist on tools that others do without.
        .env_remove("CI")
        .env_remove("TF_BUILD")
        // These would change libtest's output, or the files that the tests compare with.
        .env_remove("RUST_TEST_NOCAPTURE")
        .env_remove("RUST_TEST_THREADS")
        .env_remove("SNAPSHOTS")
        // These would reach the programs under test, and change what they print.
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        // These are about the repository of whoever runs this, in a hook of it.
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE");
    if machine.lacks_stable {
        // The tests' macro looks for that toolchain unless nightlies are out of the question. It
        // is built with this: a command without it would build it again.
        command.env("CARGO_TEST_DISABLE_NIGHTLY", "1");
    }
    Ok(command)
}

/// The names of the tests.
fn list(executable: &Path, further: &[&str]) -> Result<BTreeSet<String>> {
    let output = Command::new(executable)
        .args(["--list", "--format", "terse"])
        .args(further)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run {}", executable.display()))?;
    if !output.status.success() {
        bail!(
            "the testsuite could not list its tests: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(libtest::names(&String::from_utf8_lossy(&output.stdout)))
}

/// The settings with which the tests run Cargo.
///
/// The environment would not do: Cargo's tests clear it of everything that begins with `CARGO_`.
/// But they read configuration files up to the directory that holds those of all tests.
struct SettingsFile {
    path: PathBuf,
}

impl SettingsFile {
    fn write(tests: &Path, request: &Request) -> Result<Self> {
        let dir = tests.join(".cargo");
        let file = SettingsFile {
            path: dir.join("config.toml"),
        };
        let mode = request
            .mode
            .map(|mode| format!("pipelining = {:?}", mode.name()));
        let cutoff = (!request.early_cutoff).then(|| "early-cutoff = false".to_owned());
        let settings: Vec<String> = mode.into_iter().chain(cutoff).collect();
        if !settings.is_empty() {
            fs::create_dir_all(dir)?;
            fs::write(&file.path, format!("[build]\n{}\n", settings.join("\n")))?;
        }
        Ok(file)
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a directory of the tests, some of which take away permissions and may have been
/// stopped before they gave them back.
fn remove(dir: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind;
    let outcome = match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(dir)?;
            fs::remove_dir_all(dir)
        }
        outcome => outcome,
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(unix)]
fn open_up(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn open_up(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// How a run of the tests came to its end.
enum Ended {
    ByItself(ExitStatus),
    Interrupted,
    Stalled,
}

enum Event {
    Out(String),
    Err(String),
    /// One of the two streams has ended.
    Closed,
    Interrupted,
}

/// Runs the tests, shows how far they are, and returns what they printed to stdout.
fn watch(mut command: Command, selected: &BTreeSet<String>, log: &Path) -> Result<(String, Ended)> {
    let (sender, events) = mpsc::channel();
    let interrupt = sender.clone();
    ctrlc::set_handler(move || {
        // Nobody listens any more when the tests are over.
        let _ = interrupt.send(Event::Interrupted);
    })
    .context("could not watch for Ctrl-C")?;
    // A group of its own: when the tests are stopped, so is everything they have started.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run `{}`", command.get_program().display()))?;
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, sender.clone(), Event::Out);
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, sender, Event::Err);
    }

    let mut log = std::io::BufWriter::new(fs::File::create(log)?);
    let mut progress = Progress::new(selected.len());
    let mut text = String::new();
    let mut open = 2;
    let mut stopped = None;
    while open > 0 {
        match events.recv_timeout(STALL) {
            Ok(Event::Out(line)) => {
                writeln!(log, "{line}")?;
                if let Some((test, verdict)) = libtest::verdict(&line, selected) {
                    progress.ended(test, verdict);
                }
                text.push_str(&line);
                text.push('\n');
            }
            Ok(Event::Err(line)) => writeln!(log, "{line}")?,
            Ok(Event::Closed) => open -= 1,
            Ok(Event::Interrupted) => {
                stopped = Some(Ended::Interrupted);
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                stopped = Some(Ended::Stalled);
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    log.flush()?;
    progress.finish();
    if stopped.is_some() {
        stop(&mut child)?;
    }
    let status = child.wait()?;
    Ok((text, stopped.unwrap_or(Ended::ByItself(status))))
}

fn forward(from: impl Read + Send + 'static, to: Sender<Event>, wrap: fn(String) -> Event) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        // What the tests' children print need not be text.
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if to
                .send(wrap(text.trim_end_matches(['\n', '\r']).to_string()))
                .is_err()
            {
                return;
            }
            line.clear();
        }
        let _ = to.send(Event::Closed);
    });
}

#[cfg(unix)]
fn stop(child: &mut Child) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process_group};
    // It has not been waited for, so the number is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        match kill_process_group(group, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("could not stop the testsuite"),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn stop(child: &mut Child) -> Result<()> {
    child.kill().context("could not stop the testsuite")
}

/// The tests that have ended, as far as their lines came through whole.
fn seen<'a>(text: &'a str, selected: &BTreeSet<String>) -> BTreeMap<&'a str, Verdict> {
    text.lines()
        .filter_map(|line| libtest::verdict(line, selected))
        .collect()
}

/// The tests that have begun and not ended: those that libtest calls slow, or else all that are
/// left, if they are few.
fn still_running(text: &str, selected: &BTreeSet<String>, never: &BTreeSet<String>) -> String {
    let seen = seen(text, selected);
    let open = |test: &&str| !seen.contains_key(*test);
    let mut tests: Vec<&str> = text
        .lines()
        .filter_map(libtest::slow)
        .filter(open)
        .collect();
    if tests.is_empty() {
        let left = selected.difference(never).map(String::as_str).filter(open);
        tests = left.take(20).collect();
    }
    tests.join(", ")
}

/// How far the tests are: a bar on a terminal, now and then a line elsewhere.
struct Progress {
    bar: ProgressBar,
    total: usize,
    ended: usize,
    failed: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        let bar = shell::bar("Testing", total);
        Progress {
            bar,
            total,
            ended: 0,
            failed: 0,
        }
    }

    fn ended(&mut self, test: &str, verdict: Verdict) {
        self.ended += 1;
        if verdict == Verdict::Failed {
            self.failed += 1;
            self.bar
                .set_message(format!("{} failed, last {test}", self.failed));
        }
        self.bar.set_position(self.ended as u64);
        if self.bar.is_hidden() && self.ended.is_multiple_of(STRIDE) {
            shell::waiting(
                "Testing",
                format_args!("{}/{}, {} failed", self.ended, self.total, self.failed),
            );
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whatever_the_tests_leave_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cit");
        let inner = place.join("test").join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&inner, PermissionsExt::from_mode(0o000)).unwrap();
        }
        remove(&place).unwrap();
        assert!(!place.exists());
        remove(&place).unwrap();
    }
}
