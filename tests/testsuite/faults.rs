//! A rustc that sends wrong notifications, or none. Never a hang, never a wrong build; at worst dependents
//! start when the job ends.

#![cfg(unix)]

use std::process::Stdio;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, project, str};

use crate::support::{BuildTrace, BuilderExt, ExecsExt, ProjectExt, manifest, mkfifo};

/// A binary on the library `foo` on the library `bar`, and a wrapper around rustc.
///
/// In the wrapper, `$name` is the name of the crate and `$@` the command.
fn wrapped(body: &str) -> Project {
    let rest = "[workspace]\nmembers = ['flood']\n[dependencies]\nbar.path = 'bar'
        [[bin]]\nname = 'app'\npath = 'src/main.rs'";
    project()
        .file("Cargo.toml", &manifest("foo", rest))
        .file("src/lib.rs", "pub fn foo() -> u32 { bar::bar() }")
        .file("src/main.rs", "fn main() { assert_eq!(foo::foo(), 1); }")
        .lib("bar", "", "pub fn bar() -> u32 { 1 }")
        .lib("flood", "", "")
        .executable(
            "wrapper",
            &format!(
                "#!/bin/sh\n\
                 for arg; do [ \"$before\" = --crate-name ] && name=$arg; before=$arg; done\n\
                 {body}\n\
                 exec \"$@\"\n"
            ),
        )
        // As `RUSTC_WRAPPER`, metadata would count without a notification.
        .executable(
            "rustc",
            "#!/bin/sh\nexec \"${0%/*}/wrapper\" rustc \"$@\"\n",
        )
        .build()
}

/// A wrapper that runs `instead` of passing on the notifications of `bar`, before its other messages.
fn bar_notifies(instead: &str) -> Project {
    wrapped(&format!(
        r#"
        if [ "$name" = bar ]; then
            "$@" 2>stderr-of-bar
            status=$?
            notification=$(grep '"emit":"metadata"' stderr-of-bar)
            {instead}
            grep -v '"emit":"metadata"' stderr-of-bar >&2
            exit $status
        fi"#
    ))
}

fn build(p: &Project) -> Execs {
    let mut execs = p.cargo("build -j4");
    execs
        .env("RUSTC", p.root().join("rustc"))
        .env("CARGO_BUILD_TRACE", "trace.json");
    execs
}

/// Builds, runs what was built, and returns the trace.
fn build_and_run(p: &Project) -> BuildTrace {
    build(p).run();
    p.process(p.bin("app")).run();
    let trace = p.trace();
    trace.assert_sound(4);
    trace
}

#[cargo_test]
fn notifies_once_or_again_and_again() {
    for times in ["1", "1 2 3"] {
        let notify = format!("for i in {times}; do echo \"$notification\" >&2; done");
        let trace = build_and_run(&bar_notifies(&notify));
        assert!(trace.lib("bar").metadata.is_some());
    }
}

#[cargo_test]
fn never_notifies() {
    let p = bar_notifies("");
    let trace = build_and_run(&p);
    assert_eq!(trace.lib("bar").metadata, None);
    assert_eq!(trace.lib("bar").phases, [Phase::Frontend]);
}

#[cargo_test]
fn notifies_of_another_file() {
    let p = bar_notifies(
        "echo \"$notification\" | sed 's/libbar-/libother-/' >&2
         echo \"$notification\" | sed 's/[.]rmeta/.rlib/' >&2
         echo \"$notification\" | sed 's/\"metadata\"/\"hologram\"/' >&2
         echo '{\"artifact\":\"\",\"emit\":\"metadata\"}' >&2",
    );
    assert_eq!(build_and_run(&p).lib("bar").metadata, None);
}

#[cargo_test]
fn malformed_lines_are_shown_as_they_are() {
    let p = bar_notifies(
        "echo '{\"$message_type\":\"artifact\",\"artifact\":\"' >&2
         printf '{\"artifact\":\"\\377.rmeta\"}\\n' >&2
         echo '{}' >&2",
    );
    build(&p)
        .with_stderr_data(str![[r#"
...
{"$message_type":"artifact","artifact":"
...
"#]])
        .run();
    assert_eq!(p.trace().lib("bar").metadata, None);
}

#[cargo_test]
fn notifies_after_it_has_exited() {
    // A process stays that holds stderr and writes when the wrapper has exited: it reads to the end of a pipe
    // that the wrapper holds open to the last.
    let p = bar_notifies(
        "mkfifo alive
         ( cat alive; echo \"$notification\" >&2 ) >/dev/null &
         exec 9>alive",
    );
    build_and_run(&p);
}

#[cargo_test]
fn notifies_and_then_fails() {
    let p = wrapped(r#"if [ "$name" = bar ] && [ ! -e mended ]; then "$@"; exit 1; fi"#);
    build(&p).arg("--keep-going").fails(str![[r#"
...
[ERROR] could not compile `bar` (lib)
...
"#]]);
    let trace = p.trace();
    assert_eq!(trace.lib("bar").outcome, Some(Outcome::Failed));
    // It may have been compiled, but not linked.
    let mut bins = trace.units().filter(|unit| unit.kind == ["bin"]);
    assert!(bins.all(|unit| unit.outcome == Some(Outcome::Aborted)));
    assert!(!p.bin("app").exists());

    p.change_file("mended", "");
    let trace = build_and_run(&p);
    assert_eq!(trace.lib("bar").outcome, Some(Outcome::Done));
}

/// The build ends only if `foo` begins before `bar` ends.
#[cfg(target_os = "linux")]
#[cargo_test]
fn dependents_start_while_code_is_generated() {
    let p = wrapped(
        r#"
        if [ "$name" = bar ]; then "$@" && timeout 60 cat foo-has-begun; exit $?; fi
        if [ "$name" = foo ]; then echo >foo-has-begun; fi"#,
    );
    mkfifo(&p, "foo-has-begun");
    let trace = build_and_run(&p);
    let (dependent, bar) = (trace.lib("foo"), trace.lib("bar"));
    assert!(bar.metadata.unwrap() < dependent.began && dependent.began < bar.all.unwrap());
    assert_eq!(bar.phases, [Phase::Frontend, Phase::Codegen]);
}

/// One job prints 100,000 lines; the metadata of another one is received all the same: the flood ends only
/// after a dependent of the other one has begun.
#[cfg(target_os = "linux")]
#[cargo_test]
fn flood_of_warnings_delays_nothing() {
    let p = wrapped(
        r#"
        if [ "$name" = flood ]; then
            yes '{"$message_type":"diagnostic","message":"m","code":null,"level":"note","spans":[],"children":[],"rendered":"r"}' | head -n 100000 >&2
            timeout 60 cat foo-has-begun || exit 1
        fi
        if [ "$name" = foo ]; then echo >foo-has-begun; fi"#,
    );
    mkfifo(&p, "foo-has-begun");
    build(&p).arg("--workspace").run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert!(trace.lib("foo").began < trace.lib("flood").all.unwrap());
}

#[cargo_test]
fn trace_of_killed_build_is_read() {
    let p = wrapped(
        r#"
        if [ "$name" = foo ] && [ ! -e again ]; then
            echo >bar-is-compiled
            exec cat for-ever
        fi"#,
    );
    let compiled = mkfifo(&p, "bar-is-compiled");
    let mut options = std::fs::OpenOptions::new();
    // Held open, so that reading it does not end before this is dropped.
    let for_ever = options.read(true).write(true).open(mkfifo(&p, "for-ever"));
    let mut cargo = build(&p).build_command();
    let mut child = cargo.stderr(Stdio::null()).spawn().unwrap();
    std::fs::read(compiled).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let trace = p.trace();
    assert!(trace.lib("bar").metadata.is_some());
    assert_eq!(trace.lib("foo").outcome, None);

    drop(for_ever);
    p.change_file("again", "");
    build_and_run(&p);
}
