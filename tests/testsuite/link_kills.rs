//! Builds that are killed, in part or whole, while something is parked, and builds beside each other.

use std::fs;

use cargo_pipelining::trace::Outcome;
use cargo_test_support::Project;
use cargo_test_support::prelude::*;
use rustix::process::Signal;

use crate::support::gated::{
    GatedExt, MAIN, NONE, assert_tidy, bin_on_slow, gates, hollow_rlibs, reset, wrapper,
};
use crate::support::running::{
    Process, Running, await_no_process, for_each_kill, process_in, processes_in, wait_until,
};
use crate::support::{BuilderExt, ProjectExt, replacement};

fn held_until_released() -> Project {
    bin_on_slow().wrapper("released", "").build()
}

/// Kills a build in which a link is parked, and builds again.
#[track_caller]
fn killed(is_for_group: bool, signal: Signal) {
    let p = held_until_released();
    let mut running = Running::parked(&p, "build", 1);
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    assert_eq!(gates(&p.root()).len(), 1);
    assert!(processes_in(&p.root()).iter().any(Process::is_shim));
    running.kill(is_for_group, signal);
    assert!(!running.wait().success());
    // Before what it waits for is ready.
    wait_until("the link ends", || {
        processes_in(&p.root()).iter().all(|it| !it.is_of("foo"))
    });
    running.release();
    await_no_process(&p.root());
    assert!(!p.bin("foo").exists());

    fs::remove_file(p.root().join("go")).unwrap();
    p.change_file("wrapper", &wrapper("parked 1", ""));
    let trace = p.built("build");
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Done));
    p.run_foo();
}

#[cargo_test]
fn killed_builds_leave_no_linker() {
    for_each_kill(killed);
}

#[cargo_test]
fn hollow_rlib_of_killed_build_is_ignored() {
    let p = held_until_released();
    let mut running = Running::parked(&p, "build", 1);
    running.kill(true, Signal::KILL);
    assert!(!running.wait().success());
    await_no_process(&p.root());
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    assert_eq!(gates(&p.root()).len(), 1);

    for mode in ["metadata", "link"] {
        p.wrapped("build").env("CARGO_BUILD_PIPELINING", mode).run();
        assert_eq!(hollow_rlibs(&p.root()), NONE, "{mode}");
        p.run_foo();
    }
    // Nothing was left to be linked; the next build that links, cleans up.
    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 0 + 1 }");
    p.change_file("wrapper", &wrapper("parked 1", ""));
    p.built("build");
    p.run_foo();
}

#[cargo_test]
fn parked_rustc_is_killed() {
    let p = held_until_released();
    let running = Running::parked(&p, "build", 1);
    process_in(&p.root(), |it| it.is_of("foo") && it.is_rustc()).kill();
    // Cargo notices while `slow` still runs, and the shim ends.
    wait_until("cargo reports it", || {
        running.stderr().contains("signal: 9")
    });
    wait_until("the shim ends", || {
        processes_in(&p.root()).iter().all(|it| !it.is_of("foo"))
    });
    running.release();
    running.assert_fails("error: could not compile `foo`");
    assert_eq!(p.trace().bin("foo").outcome, Some(Outcome::Failed));
    p.cargo("build").run();
    p.run_foo();
}

/// As when the linker is killed.
#[cargo_test]
fn shim_is_killed() {
    let p = held_until_released();
    let running = Running::parked(&p, "build", 1);
    process_in(&p.root(), Process::is_shim).kill();
    wait_until("cargo reports it", || {
        running.stderr().contains("signal: 9")
    });
    running.release();
    running.assert_fails("error: linking with `cc` failed: signal: 9");
}

/// Its compiler may go on, but the linker that waited is dead; then a wrapper reports success.
#[cargo_test]
fn job_parks_after_its_permit() {
    let body = r#"if [ "$name/$type" = foo/bin ]; then
        linking() { grep -q '"name":"link".*"ph":"B"' "$CARGO_BUILD_TRACE"; }
        "$@" && exit
        await linking
        exit 0
    fi"#;
    let p = bin_on_slow().wrapper("released", body).build();
    let running = Running::parked(&p, "build", 1);
    process_in(&p.root(), Process::is_shim).kill();
    running.finish();
    assert_tidy(&p.root());
    p.run_foo();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Done));
}

#[cargo_test]
fn under_make() {
    let p = bin_on_slow()
        .file("src/bin/second.rs", MAIN)
        .file("src/bin/third.rs", MAIN)
        .file("Makefile", "all:\n\t+$(CARGO) build\n")
        .wrapper("parked 3", "")
        .build();
    for jobs in ["-j2", "-j3"] {
        reset(&p);
        let mut make = p.process("make");
        make.arg(jobs)
            .env("CARGO", replacement())
            .env("RUSTC_WRAPPER", p.root().join("wrapper"))
            .env("CARGO_BUILD_JOBS", "4")
            .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
            .env("HOLD", "1");
        let trace = p.built_by(&mut make);
        // Not more than make has given.
        trace.assert_sound(jobs[2..].parse().unwrap());
        assert_eq!(trace.parked(), 3);
        p.run_foo();
    }
}

#[cargo_test]
fn second_cargo_waits_for_target_directory() {
    let p = held_until_released();
    let first = Running::parked(&p, "build", 1);
    let trace = p.root().join("second.json");
    let second = Running::start(&p, p.held("build").env("CARGO_BUILD_TRACE", trace));
    wait_until("the second one waits", || {
        second.stderr().contains("Blocking waiting for file lock")
    });
    // And leaves the gate of the first one alone.
    assert!(processes_in(&p.root()).iter().any(Process::is_shim));
    assert_eq!(gates(&p.root()).len(), 1);
    first.finish();
    second.finish();
    assert_tidy(&p.root());
    p.run_foo();
}

#[cargo_test]
fn two_profiles_in_one_target_directory() {
    let p = held_until_released();
    let dev = Running::parked(&p, "build", 1);
    // With a trace of its own, so that it is seen to park.
    let trace = p.root().join("release.json");
    let mut cargo = p.held("build --release");
    let release = Running::start(&p, cargo.env("CARGO_BUILD_TRACE", trace));
    wait_until("both are parked", || {
        let processes = processes_in(&p.root());
        processes.iter().filter(|it| it.is_shim()).count() == 2
    });
    assert_eq!(gates(&p.root()).len(), 2);
    dev.finish();
    release.finish();
    assert_tidy(&p.root());
    p.run_foo();
    let mut program = p.process(p.release_bin("foo"));
    program.with_stdout_data("slow says 1\n").run();
}
