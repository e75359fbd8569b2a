//! Builds in a row with any number of jobs, half of them interrupted at any moment and finished by a
//! second run. None hangs or fails, nothing is left of them, and all make the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, project};
use rustix::process::Signal;

use crate::support::ProjectExt;
use crate::support::gated::{artifacts, assert_tidy, walk};
use crate::support::running::{Running, await_no_process, wait_until};

/// A build that takes longer hangs, whatever else the machine does.
const HANGS: Duration = Duration::from_secs(600);

/// A copy of the example.
pub fn example() -> Project {
    let p = project().no_manifest().build();
    let example = crate::support::root().join("example");
    for path in walk(&example) {
        let relative = path.strip_prefix(&example).unwrap();
        // It may have been built there.
        if path.is_file() && !relative.starts_with("target") {
            let copy = p.root().join(relative);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&path, copy).unwrap();
        }
    }
    p
}

/// `cargo build` with this cargo, without incremental compilation, which draws names of object files at random.
pub fn build_by(mut cargo: Execs, jobs: u32) -> Execs {
    cargo
        .arg_line(&format!("build --offline --locked -j{jobs}"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_BUILD_TRACE", "trace.json");
    cargo
}

/// Counts the lines of the trace so far.
fn progress(p: &Project) -> usize {
    let trace = fs::read_to_string(p.root().join("trace.json")).unwrap_or_default();
    trace.lines().count()
}

/// Builds everything with this command, and returns what was made.
#[track_caller]
pub fn finish_by(p: &Project, build: &mut Execs, jobs: u32) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut cargo = Running::start(p, build);
    let status = cargo.wait_within(HANGS);
    assert!(status.success(), "-j{jobs}: {status}: {}", cargo.stderr());
    await_no_process(&p.root());
    assert_tidy(&p.root());
    p.trace().assert_sound(jobs.into());
    artifacts(&p.build_dir())
}

/// Interrupts a build when its trace has `at` lines.
pub fn interrupt(p: &Project, build: &mut Execs, at: usize, kill: impl Fn(&Running)) {
    let _ = fs::remove_file(p.root().join("trace.json"));
    let mut cargo = Running::start(p, build);
    // With fewer jobs less happens.
    wait_until("the build has come so far, or ended", || {
        let stderr = cargo.stderr();
        progress(p) >= at || stderr.contains("error") || stderr.contains("Finished")
    });
    kill(&cargo);
    let status = cargo.wait_within(HANGS);
    // Right before its end it may be too late.
    assert!(
        !status.success() || cargo.stderr().contains("Finished"),
        "{status}"
    );
    await_no_process(&p.root());
}

#[track_caller]
fn builds_in_a_row(count: usize, seed: u64) {
    let p = example();
    let mut random = fastrand::Rng::with_seed(seed);
    let build = |jobs| build_by(p.cargo(""), jobs);
    let expected = finish_by(&p, &mut build(2), 2);
    let all = progress(&p);
    for number in 1..count {
        p.build_dir().rm_rf();
        if random.bool() {
            let (jobs, at) = (random.u32(1..=16), random.usize(1..all));
            let how = random.usize(0..4);
            eprintln!("build {number}, -j{jobs}: interrupted at {at} of {all}, {how}");
            interrupt(&p, &mut build(jobs), at, |cargo| match how {
                0 => cargo.kill(true, Signal::INT),
                1 => cargo.kill(false, Signal::INT),
                2 => cargo.kill(false, Signal::TERM),
                _ => cargo.kill(false, Signal::KILL),
            });
        }
        let jobs = random.u32(1..=16);
        eprintln!("build {number}, -j{jobs}");
        let made = finish_by(&p, &mut build(jobs), jobs);
        // What was killed may have left more.
        for (path, bytes) in &expected {
            assert!(made.get(path) == Some(bytes), "{} differs", path.display());
        }
    }
}

#[cargo_test]
fn few_builds_in_a_row() {
    builds_in_a_row(4, 1);
}

#[cargo_test]
#[ignore = "takes half an hour: cargo xtask test -- --test testsuite two_hundred -- --ignored"]
fn two_hundred_builds_in_a_row() {
    builds_in_a_row(200, 2);
}
