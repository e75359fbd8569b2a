//! Compilers that are paused, and what goes wrong meanwhile. Nothing stays stopped, whatever happens to
//! cargo, and the messages are those of a build in which nothing is paused.

use std::os::unix::fs::PermissionsExt;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};
use rustix::process::{Signal, kill_process};

use crate::support::control_group::ControlGroup;
use crate::support::gated::{assert_tidy, await_that};
use crate::support::pausing::{Build, DoorsExt, PausingExt, run_foo, slow_busy_and_urgent};
use crate::support::{BuildTrace, ProjectExt, replacement};

#[cargo_test]
fn codegen_leaves_its_slot_to_what_is_more_urgent() {
    let build = Build::paused("build -j2");
    let trace = build.succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
    let (slow, urgent) = (trace.lib("slow"), trace.lib("urgent"));
    assert!(slow.paused.unwrap() < urgent.began);
    assert!(urgent.began < slow.continued.unwrap());
    assert_eq!(
        slow.phases,
        [
            Phase::Frontend,
            Phase::Codegen,
            Phase::Paused,
            Phase::Codegen
        ]
    );
}

#[cargo_test]
fn what_is_paused_goes_on_when_a_slot_is_free() {
    let build = Build::paused("build -j2");
    build.doors.pass("busy");
    // Its own is still taken.
    build.await_nothing_stopped();
    let trace = build.succeed(2);
    let (slow, urgent) = (trace.lib("slow"), trace.lib("urgent"));
    assert!(slow.continued.unwrap() < urgent.all.unwrap());
}

/// What follows when cargo is gone, or about to be.
#[track_caller]
fn killed(kill: impl Fn(&Build)) {
    let mut build = Build::paused("build -j2");
    kill(&build);
    // Before anybody can end by himself.
    let status = build.cargo.wait();
    assert!(!status.success());
    build.await_nothing_stopped();
    build.doors.pass_all();
    build.await_nobody();
    let Build { p, doors, .. } = build;
    assert!(!p.bin("foo").exists());
    drop(doors);

    p.with_doors("build -j2").run();
    p.trace().assert_sound(2);
    assert_tidy(&p.root());
    run_foo(&p);
}

#[cargo_test]
fn killed_for_good() {
    killed(|build| kill_process(build.cargo.pid(), Signal::KILL).unwrap());
}

#[cargo_test]
fn interrupted() {
    killed(|build| build.cargo.signal_group(Signal::INT));
}

#[cargo_test]
fn interrupted_alone() {
    killed(|build| kill_process(build.cargo.pid(), Signal::INT).unwrap());
}

#[cargo_test]
fn terminated() {
    killed(|build| kill_process(build.cargo.pid(), Signal::TERM).unwrap());
}

#[cargo_test]
fn terminated_with_all_of_its_group() {
    killed(|build| build.cargo.signal_group(Signal::TERM));
}

#[cargo_test]
fn hung_up() {
    killed(|build| build.cargo.signal_group(Signal::HUP));
}

#[cargo_test]
fn the_compiler_is_killed_while_it_is_paused() {
    let mut build = Build::paused("build -j2");
    kill_process(build.compiler_of_slow(), Signal::KILL).unwrap();
    await_that("cargo says so", || {
        build.cargo.stderr().contains("signal: 9, SIGKILL")
    });
    build.doors.pass_all();
    assert_eq!(build.cargo.wait().code(), Some(101));
    let stderr = build.cargo.stderr();
    let count = |text: &str| stderr.matches(text).count();
    assert_eq!(count("error: could not compile"), 1, "{stderr}");
    assert_eq!(
        count("error: could not compile `slow` (lib)"),
        1,
        "{stderr}"
    );
    let trace = build.p.trace();
    let slow = trace.lib("slow");
    assert_eq!(slow.outcome, Some(Outcome::Failed));
    assert_eq!(slow.continued, None);
    build.await_nobody();
    assert_tidy(&build.p.root());
}

/// What follows when `urgent` fails while `slow` is paused.
#[track_caller]
fn something_else_fails(line: &str) -> BuildTrace {
    let mut build = Build::paused(line);
    build.doors.fail("urgent");
    await_that("cargo says so", || {
        let stderr = build.cargo.stderr();
        stderr.contains("error: could not compile `urgent` (lib)")
    });
    // Not by ending.
    build.await_nothing_stopped();
    build.doors.pass_all();
    assert_eq!(build.cargo.wait().code(), Some(101));
    let stderr = build.cargo.stderr();
    let count = |text: &str| stderr.matches(text).count();
    assert_eq!(count("error: could not compile"), 1, "{stderr}");
    build.await_nobody();
    assert_tidy(&build.p.root());
    build.p.trace()
}

#[cargo_test]
fn something_else_fails_while_one_is_paused() {
    let trace = something_else_fails("build -j2");
    let slow = trace.lib("slow");
    assert!(slow.continued.is_some());
    assert_eq!(slow.outcome, Some(Outcome::Done));
    assert_eq!(trace.lib("busy").outcome, Some(Outcome::Done));
}

#[cargo_test]
fn something_else_fails_and_the_build_keeps_going() {
    let trace = something_else_fails("build -j2 --keep-going");
    let slow = trace.lib("slow");
    assert!(slow.continued.is_some());
    assert_eq!(slow.outcome, Some(Outcome::Done));
}

/// It fails after it was continued.
#[cargo_test]
fn what_was_paused_fails() {
    let mut build = Build::paused("build -j2");
    build.doors.pass("busy");
    build.await_nothing_stopped();
    build.doors.fail("slow-codegen");
    build.doors.pass("urgent");
    assert_eq!(build.cargo.wait().code(), Some(101));
    let stderr = build.cargo.stderr();
    let count = |text: &str| stderr.matches(text).count();
    assert_eq!(count("error: could not compile"), 1, "{stderr}");
    assert_eq!(
        count("error: could not compile `slow` (lib)"),
        1,
        "{stderr}"
    );
    build.await_nobody();
    assert_tidy(&build.p.root());
}

/// Ctrl-Z stops all of it, and `fg` continues all of it, also what was paused before.
#[cargo_test(requires = "script")]
fn stopped_and_continued_at_the_terminal() {
    let mut build = Build::paused_in_terminal("build -j2");
    build.doors.press("\x1a");
    await_that("all is stopped", || {
        build.stopped() == ["slow", "busy", "urgent"]
    });
    build.doors.press("fg\n");
    build.await_nothing_stopped();
    build.doors.pass_all();
    build.doors.press("exit $?\n");
    assert!(build.cargo.wait().success());
    build.await_nobody();
    assert_tidy(&build.p.root());
    run_foo(&build.p);
}

#[cargo_test]
fn under_make() {
    let p = slow_busy_and_urgent();
    p.change_file("Makefile", "all:\n\t+$(CARGO) build\n");
    let mut make = p.process("make");
    make.arg("-j2")
        .env("CARGO", replacement())
        .env("CARGO_BUILD_JOBS", "4")
        .with_doors_of(&p);
    // Not more than make has given.
    let trace = Build::paused_by(p, make).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
}

/// Cargo asks for tokens only when something is ready, so make may have some that nobody has asked for.
#[cargo_test]
fn nothing_is_paused_while_make_has_tokens() {
    let p = slow_busy_and_urgent();
    p.change_file("Makefile", "all:\n\t+$(CARGO) build\n");
    let mut make = p.process("make");
    make.arg("-j4")
        .env("CARGO", replacement())
        .env("CARGO_BUILD_JOBS", "4")
        .with_doors_of(&p);
    let mut build = Build::start(p, make);
    build.doors.await_at("urgent");
    let trace = build.succeed(4);
    assert_eq!(trace.paused(), [] as [&str; 0]);
}

#[cargo_test]
fn nothing_is_paused_while_there_is_another_slot() {
    let p = slow_busy_and_urgent();
    let cargo = p.with_doors("build -j3");
    let mut build = Build::start(p, cargo);
    build.doors.await_at("urgent");
    let trace = build.succeed(3);
    assert_eq!(trace.paused(), [] as [&str; 0]);
}

/// Asserts that nothing is paused in a build with two jobs with such a setting.
#[track_caller]
fn assert_nothing_is_paused(set: impl FnOnce(&Project, &mut Execs)) {
    assert_nothing_is_paused_by(|p| {
        let mut cargo = p.with_doors("build -j2");
        set(p, &mut cargo);
        cargo
    });
}

/// Asserts that nothing is paused by this cargo where something else would be.
#[track_caller]
fn assert_nothing_is_paused_by(cargo: impl FnOnce(&Project) -> Execs) {
    let p = slow_busy_and_urgent();
    let cargo = cargo(&p);
    let mut build = Build::start(p, cargo);
    build.await_metadata();
    build.doors.pass("busy");
    build.doors.await_at("urgent");
    assert_eq!(build.stopped(), [] as [&str; 0]);
    let trace = build.succeed(2);
    assert_eq!(trace.paused(), [] as [&str; 0]);
    assert!(trace.lib("busy").all < Some(trace.lib("urgent").began));
}

#[cargo_test]
fn nothing_is_paused_where_no_memory_may_be_held() {
    for memory in ["0", "0%"] {
        assert_nothing_is_paused(|_, cargo| {
            cargo.env("CARGO_BUILD_PAUSE_MEMORY", memory);
        });
    }
}

#[cargo_test]
fn nothing_is_paused_that_would_hold_too_much_memory() {
    assert_nothing_is_paused(|_, cargo| {
        cargo.env("CARGO_BUILD_PAUSE_MEMORY", "1KiB");
    });
}

/// How much may be paused is a share of what is available to cargo, not to the machine.
#[cargo_test]
fn nothing_is_paused_where_a_control_group_has_little_memory() {
    // Enough to build in, but not to pause in: a rustc has more than a twentieth of it.
    let Some(group) = ControlGroup::of_memory(512 << 20) else {
        eprintln!("skipped: only root may make control groups, where memory is controlled");
        return;
    };
    let share = ("CARGO_BUILD_PAUSE_MEMORY", "5%");
    let p = slow_busy_and_urgent();
    let mut cargo = p.with_doors("build -j2");
    cargo.env(share.0, share.1);
    let trace = Build::paused_by(p, cargo).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);

    let join = format!(
        "echo $$ >{} && exec \"$CARGO\" build -j2",
        group.procs().display()
    );
    assert_nothing_is_paused_by(|p| {
        let mut shell = p.process("sh");
        shell
            .args(&["-c", &join])
            .env("CARGO", replacement())
            .env(share.0, share.1)
            .with_doors_of(p);
        shell
    });
}

#[cargo_test]
fn nothing_is_paused_in_the_order_of_stock() {
    assert_nothing_is_paused(|_, cargo| {
        cargo.env("CARGO_BUILD_SCHEDULE", "stock");
    });
}

/// To Cargo, a wrapper without a name is none.
#[cargo_test]
fn an_empty_wrapper_is_none() {
    let p = slow_busy_and_urgent();
    let mut cargo = p.with_doors("build -j2");
    cargo.env("RUSTC_WRAPPER", "");
    let trace = Build::paused_by(p, cargo).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
}

/// What cargo would stop is the wrapper.
#[cargo_test]
fn nothing_is_paused_that_is_wrapped() {
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

/// What cargo would stop is the script, and rustc, its child, would run on.
#[cargo_test]
fn script_as_rustc_is_not_paused() {
    assert_nothing_is_paused(|p, _| p.root().join("rustc.sysroot").rm_rf());
}

#[cargo_test]
fn nothing_is_paused_with_one_job() {
    let p = slow_busy_and_urgent();
    let cargo = p.with_doors("build -j1");
    let build = Build::start_with_one_slot(p, cargo);
    build.await_metadata();
    let trace = build.succeed(1);
    assert_eq!(trace.paused(), [] as [&str; 0]);
}
