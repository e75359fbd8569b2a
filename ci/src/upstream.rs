//! `cargo xtask upstream`: runs Cargo's own testsuite and compares it with what is expected.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_pipelining::config::Pipelining;
use fs_err as fs;
use xshell::{Shell, cmd};

use crate::expectations::{self, Expectations};
use crate::libtest::{self, Verdict};
use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::shell::{Progress, count};
use crate::tree::Tree;
use crate::{assemble, cargo, machine, setting, toolchain};

/// How long a run may print nothing. The slowest tests take a minute or two; a test that hangs must
/// not hold up a run for ever.
const STALL: Duration = Duration::from_secs(600);

/// How often the log is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often a test that has failed must pass alone to be called flaky.
const AGAIN: usize = 5;

/// How many tests may have failed for them to be run again.
const FEW: usize = 3;

/// How many tests pass between two lines of progress where there is no terminal.
const STRIDE: u64 = 200;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tests whose names contain one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Test the released cargo instead
    #[arg(long)]
    stock: bool,
    /// Have every test use this mode of `build.pipelining`: `off`, `metadata` or `link`
    #[arg(long, value_parser = setting::<Pipelining>)]
    mode: Option<Pipelining>,
    /// Have no test use early cutoff
    #[arg(long, conflicts_with = "stock")]
    no_early_cutoff: bool,
    /// Have every test compare source files by modification time
    #[arg(long, conflicts_with = "stock")]
    mtime: bool,
}

/// Runs the tests and judges the outcome.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    toolchain::check()?;
    let _lock = Lock::command(project, "upstream")?;
    let lacks_stable = machine::lacks_stable()?;
    if lacks_stable {
        note!("rustup has no toolchain `stable`: tests that need it, or a nightly, are skipped");
    }
    let confinement = machine::confinement(&project.upstream())?;
    let lists = [expectations::NOT_RUNNABLE, expectations::DEVIATIONS];
    // The deviations say nothing about the released cargo.
    let lists = if args.stock { &lists[..1] } else { &lists };
    let expectations = Expectations::read(&project.root.join("tests/upstream"), lists, |word| {
        Ok(Some(match word {
            "permissions" => confinement.is_some(),
            "github" => machine::reaches_github(),
            "nightly" => !lacks_stable && toolchain::channel()? == "nightly",
            "rustup" => which::which("rustup").is_ok(),
            "linux" | "macos" | "windows" => word == std::env::consts::OS,
            "stock" => args.stock,
            "off" => args.mode == Some(Pipelining::Off),
            "link" => args.mode.unwrap_or_default() == Pipelining::Link,
            "mode" => args.mode.is_some(),
            "setting" => args.mode.is_some() || args.no_early_cutoff || args.mtime,
            "cutoff" => !args.no_early_cutoff,
            "content" => !args.mtime,
            _ => match word.strip_prefix("rust-") {
                Some(version) => toolchain::is_at_least(version)?,
                None => return Ok(None),
            },
        }))
    })?;
    let variant = Variant::new(args.stock);
    let (tree, _tree_lock) = assemble::ensure(project, variant)?;
    let test_command = || test_command(project, variant, &tree, confinement, lacks_stable);

    status!("Building", "Cargo's testsuite");
    let mut command = test_command()?;
    command.arg("--no-run");
    let executable = cargo::executable(command, "building Cargo's testsuite", "test")?;
    let all = list(&executable, &[])?;
    let never = list(&executable, &["--ignored"])?;
    let filters = &args.filters;
    let is_selected = |test: &&String| {
        filters.is_empty() || filters.iter().any(|filter| test.contains(filter.as_str()))
    };
    let selected: BTreeSet<String> = all.iter().filter(is_selected).cloned().collect();
    if selected.is_empty() {
        bail!(
            "no test of Cargo's testsuite has a name that contains `{}`",
            filters.join("` or `")
        );
    }

    let place = project.build(variant).join("tmp/cit");
    // A test may stumble over what it left when it failed.
    remove(&place).with_context(|| format!("could not remove {}", project.shown(&place)))?;
    write_settings(&place, args)?;
    let log = project.upstream().join("testsuite.log");
    let shown = format!("; the whole log is {}", project.shown(&log));
    let mut command = test_command()?;
    command.arg("--").args(filters);
    let status = watch(command, &selected, &log)?;
    let text = read_lossy(&log)?;
    let mut verdicts = libtest::verdicts(&text, &selected, &never).with_context(|| {
        let ran = text.lines().filter_map(libtest::ended).count();
        let all = count(selected.len(), "test", "tests");
        format!("the testsuite broke off ({status}) after {ran} of {all}{shown}")
    })?;

    let mut judgement = expectations.judge(&all, &verdicts);
    for test in flaky(&judgement.failed, test_command)? {
        println!("{test} failed, and passed {AGAIN} times alone: flaky under load");
        verdicts.insert(test, Verdict::Passed);
        judgement = expectations.judge(&all, &verdicts);
    }
    for test in &judgement.failed {
        let output = libtest::output(&text, test, &verdicts);
        println!("\n---- {test} ----\n{output}");
    }
    let failed = judgement.failed.iter().map(|test| format!("{test} failed"));
    let findings: Vec<String> = failed.chain(judgement.lines).collect();
    for finding in &findings {
        println!("{finding}");
    }
    let number = |wanted| verdicts.values().filter(|it| **it == wanted).count();
    let unexpected = judgement.failed.len();
    println!(
        "{} passed, {unexpected} failed, {} skipped",
        number(Verdict::Passed),
        number(Verdict::Ignored) + number(Verdict::Failed) - unexpected
    );
    if !findings.is_empty() {
        let (one, more) = ("test or line disagrees", "tests or lines disagree");
        let findings = count(findings.len(), one, more);
        bail!("{findings} with what is expected{shown}");
    }
    // Gigabytes, which are of use only to find out why a test has failed.
    if let Err(error) = remove(&place) {
        let place = project.shown(&place);
        note!("could not remove {place}: {error}");
    }
    Ok(())
}

/// Runs each test that failed unexpectedly once more, alone and several times. Returns the tests that
/// passed every time.
///
/// Some of Cargo's tests depend on how fast a server responds. A failure of ours would show in more than one of
/// 4,000 tests, so if more than a few have failed, none is run again.
fn flaky(failed: &[String], command: impl Fn() -> Result<Command>) -> Result<Vec<String>> {
    let mut flaky = Vec::new();
    for test in failed.iter().filter(|_| failed.len() <= FEW) {
        status!("Again", "{test}, {AGAIN} times alone");
        let mut passes = true;
        for _ in 0..AGAIN {
            let alone = ["--", "--exact", test];
            passes = passes && command()?.args(alone).output()?.status.success();
        }
        flaky.extend(passes.then(|| test.clone()));
    }
    Ok(flaky)
}

fn test_command(
    project: &Project,
    variant: Variant,
    tree: &Tree,
    confinement: Option<&[&str]>,
    lacks_stable: bool,
) -> Result<Command> {
    let mut command = cargo::in_tree(project, variant, "test", tree)?;
    command
        .args(["--test", "testsuite"])
        .env("RUST_BACKTRACE", "0")
        .env("CFG_DISABLE_CROSS_TESTS", "1");
    for key in [
        // On what they take for a CI machine the tests insist on tools that others do without.
        "CI",
        "TF_BUILD",
        // These would change libtest's output, or the files that the tests compare with.
        "RUST_TEST_NOCAPTURE",
        "RUST_TEST_THREADS",
        "SNAPSHOTS",
        // These would reach the programs under test, and change what they print.
        "CLICOLOR_FORCE",
        "COLUMNS",
        // These are about the repository of the user, if this runs in a hook of it.
        "GIT_DIR",
        "GIT_INDEX_FILE",
    ] {
        command.env_remove(key);
    }
    if let Some(runner @ [_, ..]) = confinement {
        let host = &toolchain::rustc()?.host;
        command.args(["--config", &format!("target.{host}.runner={runner:?}")]);
    }
    if lacks_stable {
        // The tests' macro looks for that toolchain unless nightlies are out of the question. It
        // is built with this: a command without it would build it again.
        command.env("CARGO_TEST_DISABLE_NIGHTLY", "1");
    }
    Ok(command)
}

fn list(executable: &Path, further: &[&str]) -> Result<BTreeSet<String>> {
    let shell = Shell::new()?;
    let list = cmd!(shell, "{executable} --list --format terse {further...}");
    Ok(libtest::names(&list.read()?))
}

/// Writes the settings with which the tests run Cargo.
///
/// Cargo's tests remove `CARGO_*` from the environment, but read configuration files up to the directory of all
/// tests.
fn write_settings(tests: &Path, args: &Args) -> Result<()> {
    let mut settings = String::new();
    if let Some(mode) = args.mode {
        settings += &format!("pipelining = \"{}\"\n", mode.name());
    }
    if args.no_early_cutoff {
        settings += "early-cutoff = false\n";
    }
    if args.mtime {
        settings += "fingerprint = \"mtime\"\n";
    }
    // Some tests print which files they read.
    if !settings.is_empty() {
        let dir = tests.join(".cargo");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("config.toml"), format!("[build]\n{settings}"))?;
    }
    Ok(())
}

/// Removes a directory of the tests, some of which take away permissions and may have been stopped
/// before they gave them back.
fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if fs::remove_dir_all(dir).is_err() {
        let shell = Shell::new()?;
        cmd!(shell, "chmod -R u+rwX {dir}").quiet().run()?;
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Runs the tests with a log of what they print, and shows their progress.
fn watch(mut command: Command, selected: &BTreeSet<String>, log: &Path) -> Result<ExitStatus> {
    let file = fs::File::create(log)?.into_parts().0;
    // A group of its own: when the tests are stopped, so is everything they have started.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| cargo::could_not_run(&command))?;
    let group = child.id();
    ctrlc::set_handler(move || {
        kill_group(group);
        std::process::exit(130);
    })?;
    let progress = Progress::new("Testing", selected.len(), STRIDE);
    let (mut length, mut shown, mut last_change) = (0, 0, Instant::now());
    loop {
        let status = child.try_wait()?;
        let text = read_lossy(log)?;
        if text.len() > length {
            (length, last_change) = (text.len(), Instant::now());
        }
        let ended: Vec<_> = text.lines().filter_map(libtest::ended).collect();
        let failed = ended.iter().filter(|(_, failed)| *failed).count();
        progress.advance(
            ended.len().saturating_sub(shown),
            format_args!("{failed} failed"),
        );
        shown = ended.len();
        if let Some(status) = status {
            return Ok(status);
        }
        if last_change.elapsed() > STALL {
            kill_group(group);
            let slow = text.lines().filter_map(libtest::slow);
            let running = slow.filter(|test| ended.iter().all(|(other, _)| other != test));
            bail!(
                "nothing has happened for {} minutes; stopped. Still running: {}; the whole log is {}",
                STALL.as_secs() / 60,
                running.collect::<Vec<_>>().join(", "),
                log.display()
            );
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Kills a group of processes, which may have ended by itself.
#[cfg(unix)]
fn kill_group(leader: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let leader = Pid::from_raw(leader.cast_signed());
    let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
}

#[cfg(not(unix))]
fn kill_group(leader: u32) {
    let leader = leader.to_string();
    let _ = Command::new("taskkill")
        .args(["/F", "/T", "/PID", &leader])
        .status();
}

fn read_lossy(log: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(log)?).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(unix)]
    fn whatever_tests_leave_is_removed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cit");
        let inner = place.join("test/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        fs::set_permissions(&inner, PermissionsExt::from_mode(0o000)).unwrap();
        remove(&place).unwrap();
        assert!(!place.exists());
        remove(&place).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn tests_are_watched_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo test a ... ok; echo oh >&2; exit 7"]);
        let status = watch(command, &["a".to_owned()].into(), &log).unwrap();
        assert_eq!(status.code(), Some(7));
        assert_eq!(fs::read_to_string(log).unwrap(), "test a ... ok\noh\n");
    }
}
