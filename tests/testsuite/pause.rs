//! Compilers that are paused, and what goes wrong meanwhile. Nothing stays stopped, whatever happens to
//! cargo, and the messages are those of a build in which nothing is paused.

use std::os::unix::fs::PermissionsExt;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};
use rustix::process::Signal;

use crate::support::control_group::ControlGroup;
use crate::support::gated::assert_tidy;
use crate::support::pausing::{Build, run_foo, set_doors, slow_busy_and_urgent};
use crate::support::running::{await_no_process, for_each_kill, process_in, wait_until};
use crate::support::{BuildTrace, ProjectExt, replacement};

const NONE: [&str; 0] = [];

#[cargo_test]
fn codegen_leaves_slot_to_higher_priority() {
    let trace = Build::paused("build -j2").succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
    let (slow, urgent) = (trace.lib("slow"), trace.lib("urgent"));
    assert!(slow.paused().unwrap() < urgent.began);
    assert!(urgent.began < slow.continued().unwrap());
    let (frontend, codegen) = (Phase::Frontend, Phase::Codegen);
    assert_eq!(slow.phases, [frontend, codegen, Phase::Paused, codegen]);
}

#[cargo_test]
fn paused_job_takes_a_free_slot() {
    let mut build = Build::paused("build -j2");
    build.doors.pass("busy");
    // Its own is still taken.
    build.await_nothing_stopped();
    let trace = build.succeed(2);
    let (slow, urgent) = (trace.lib("slow"), trace.lib("urgent"));
    assert!(slow.continued().unwrap() < urgent.all.unwrap());
}

/// Kills cargo, and asserts that nothing stays stopped and that the next build succeeds.
#[track_caller]
fn killed(is_for_group: bool, signal: Signal) {
    let mut build = Build::paused("build -j2");
    build.cargo.kill(is_for_group, signal);
    // Before any compiler can end by itself.
    let status = build.cargo.wait();
    assert!(!status.success());
    build.await_nothing_stopped();
    build.doors.pass_all();
    await_no_process(&build.p.root());
    let Build { p, doors, .. } = build;
    assert!(!p.bin("foo").exists());
    drop(doors);

    set_doors(&p, &mut p.cargo("build -j2")).run();
    p.trace().assert_sound(2);
    assert_tidy(&p.root());
    run_foo(&p);
}

#[cargo_test]
fn killed_builds_leave_nothing_stopped() {
    for_each_kill(killed);
}

#[cargo_test]
fn paused_compiler_is_killed() {
    let build = Build::paused("build -j2");
    process_in(&build.p.root(), |it| it.is_of("slow")).kill();
    wait_until("cargo reports it", || {
        build.cargo.stderr().contains("signal: 9, SIGKILL")
    });
    build.doors.pass_all();
    build
        .cargo
        .assert_fails("error: could not compile `slow` (lib)");
    let trace = build.p.trace();
    let slow = trace.lib("slow");
    assert_eq!(slow.outcome, Some(Outcome::Failed));
    assert_eq!(slow.continued(), None);
}

/// `urgent` fails while `slow` is paused.
#[track_caller]
fn another_unit_fails(line: &str) -> BuildTrace {
    let build = Build::paused(line);
    build.doors.fail("urgent");
    let message = "error: could not compile `urgent` (lib)";
    wait_until("cargo reports it", || {
        build.cargo.stderr().contains(message)
    });
    // Not by ending.
    build.await_nothing_stopped();
    build.doors.pass_all();
    build.cargo.assert_fails(message);
    let trace = build.p.trace();
    let slow = trace.lib("slow");
    assert!(slow.continued().is_some());
    assert_eq!(slow.outcome, Some(Outcome::Done));
    trace
}

#[cargo_test]
fn another_unit_fails_while_one_is_paused() {
    let trace = another_unit_fails("build -j2");
    assert_eq!(trace.lib("busy").outcome, Some(Outcome::Done));
    another_unit_fails("build -j2 --keep-going");
}

#[cargo_test]
fn continued_compiler_fails() {
    let build = Build::paused("build -j2");
    build.doors.pass("busy");
    build.await_nothing_stopped();
    build.doors.fail("slow-codegen");
    build.doors.pass("urgent");
    build
        .cargo
        .assert_fails("error: could not compile `slow` (lib)");
}

/// Ctrl-Z stops all of it, and `fg` continues all of it, also what was paused before.
#[cargo_test(requires = "script")]
fn stopped_and_continued_at_the_terminal() {
    let mut build = Build::paused_in_terminal("build -j2");
    build.doors.press("\x1a");
    wait_until("all is stopped", || {
        build.stopped() == ["slow", "busy", "urgent"]
    });
    build.doors.press("fg\n");
    build.await_nothing_stopped();
    build.doors.pass_all();
    build.doors.press("exit $?\n");
    assert!(build.cargo.wait().success());
    await_no_process(&build.p.root());
    assert_tidy(&build.p.root());
    run_foo(&build.p);
}

/// When the shell ends, the kernel would send SIGHUP to it.
#[cargo_test]
fn in_the_background_of_a_terminal() {
    let build = Build::in_terminal("\"$CARGO\" build -j2 & wait $!; exit $?");
    build.doors.await_at("busy");
    build.doors.pass("slow");
    assert_nothing_is_paused_in(build);
}

/// A cargo that make runs, with this many jobs.
fn make(p: &Project, jobs: &str) -> Execs {
    p.change_file("Makefile", "all:\n\t+$(CARGO) build\n");
    let mut make = p.process("make");
    make.arg(jobs)
        .env("CARGO", replacement())
        .env("CARGO_BUILD_JOBS", "4");
    make
}

#[cargo_test]
fn under_make() {
    let p = slow_busy_and_urgent();
    let make = make(&p, "-j2");
    // Not more than make has given.
    let trace = Build::paused_by(p, make).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
}

/// Cargo asks for tokens only when something is ready, so make may have more.
#[cargo_test]
fn spare_slots_and_tokens_prevent_pauses() {
    for (jobs, is_make) in [(4, true), (3, false)] {
        let p = slow_busy_and_urgent();
        let cargo = if is_make {
            make(&p, &format!("-j{jobs}"))
        } else {
            p.cargo(&format!("build -j{jobs}"))
        };
        let mut build = Build::start(p, cargo);
        build.doors.await_at("urgent");
        assert_eq!(build.succeed(jobs).paused(), NONE);
    }
}

/// Asserts that nothing is paused in a build with two jobs with such a setting.
#[track_caller]
fn assert_nothing_is_paused(set: impl FnOnce(&Project, &mut Execs)) {
    let p = slow_busy_and_urgent();
    let mut cargo = p.cargo("build -j2");
    set(&p, &mut cargo);
    assert_nothing_is_paused_by(p, cargo);
}

/// Asserts that nothing is paused by this cargo where something else would be.
#[track_caller]
fn assert_nothing_is_paused_by(p: Project, cargo: Execs) {
    assert_nothing_is_paused_in(Build::start(p, cargo));
}

#[track_caller]
fn assert_nothing_is_paused_in(mut build: Build) {
    build.await_metadata();
    build.doors.pass("busy");
    build.doors.await_at("urgent");
    assert_eq!(build.stopped(), NONE);
    let trace = build.succeed(2);
    assert_eq!(trace.paused(), NONE);
    assert!(trace.lib("busy").all < Some(trace.lib("urgent").began));
}

#[cargo_test]
fn settings_prevent_pauses() {
    for (key, value) in [
        ("CARGO_BUILD_PAUSE_MEMORY", "0"),
        ("CARGO_BUILD_PAUSE_MEMORY", "0%"),
        ("CARGO_BUILD_PAUSE_MEMORY", "1KiB"),
        ("CARGO_BUILD_SCHEDULE", "stock"),
    ] {
        assert_nothing_is_paused(|_, cargo| {
            cargo.env(key, value);
        });
    }
}

/// How much may be paused is a share of what is available to cargo, not to the machine.
#[cargo_test]
fn control_group_with_little_memory() {
    // Enough to build in, but not to pause in: the compiler has more than a twentieth of it.
    let Some(group) = ControlGroup::of_memory(512 << 20) else {
        eprintln!("skipped: only root may make control groups, where memory is controlled");
        return;
    };
    let set = |cargo: &mut Execs| {
        cargo
            .env("CARGO_BUILD_PAUSE_MEMORY", "5%")
            .env("MEMORY", (40 << 20).to_string());
    };
    let p = slow_busy_and_urgent();
    let mut cargo = p.cargo("build -j2");
    set(&mut cargo);
    let trace = Build::paused_by(p, cargo).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);

    let procs = group.procs();
    let join = format!("echo $$ >{} && exec \"$CARGO\" build -j2", procs.display());
    let p = slow_busy_and_urgent();
    let mut shell = p.process("sh");
    shell.args(&["-c", &join]).env("CARGO", replacement());
    set(&mut shell);
    assert_nothing_is_paused_by(p, shell);
}

/// To Cargo, a wrapper without a name is none.
#[cargo_test]
fn empty_wrapper_is_none() {
    let p = slow_busy_and_urgent();
    let mut cargo = p.cargo("build -j2");
    cargo.env("RUSTC_WRAPPER", "");
    let trace = Build::paused_by(p, cargo).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
}

/// Cargo would stop the wrapper.
#[cargo_test]
fn wrapped_compiler_is_not_paused() {
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        assert_nothing_is_paused(|p, cargo| {
            p.change_file("plain", "#!/bin/sh\nexec \"$@\"\n");
            let wrapper = p.root().join("plain");
            let executable = PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&wrapper, executable).unwrap();
            cargo.env(variable, wrapper);
        });
    }
}

/// Cargo would stop the script, and rustc, its child, would run on.
#[cargo_test]
fn script_as_rustc_is_not_paused() {
    assert_nothing_is_paused(|p, _| p.root().join("rustc.sysroot").rm_rf());
}

#[cargo_test]
fn one_job_pauses_nothing() {
    let p = slow_busy_and_urgent();
    let cargo = p.cargo("build -j1");
    let mut build = Build::new(p, cargo);
    build.doors.pass("slow");
    build.await_metadata();
    assert_eq!(build.succeed(1).paused(), NONE);
}
