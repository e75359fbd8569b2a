//! A rustc that does not say what it should, when it should. Never a hang, never a wrong build;
//! at worst dependents start when the job ends.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, basic_lib_manifest, process, project, str};

use crate::support::{BuildTrace, ExecsExt, ProjectExt, replacement};

/// A binary on the library `foo` on the library `bar`, and a wrapper around rustc.
///
/// In the wrapper, `$name` is the name of the crate and `$@` the command.
fn wrapped(body: &str) -> Project {
    let p = project()
        .file(
            "Cargo.toml",
            r#"
                [package]
                name = "foo"
                version = "0.1.0"
                edition = "2021"

                [workspace]
                members = ["flood"]

                [[bin]]
                name = "app"
                path = "src/main.rs"

                [dependencies]
                bar = { path = "bar" }
            "#,
        )
        .file("src/lib.rs", "pub fn foo() -> u32 { bar::bar() }")
        .file("src/main.rs", "fn main() { assert_eq!(foo::foo(), 1); }")
        .file("bar/Cargo.toml", &basic_lib_manifest("bar"))
        .file("bar/src/lib.rs", "pub fn bar() -> u32 { 1 }")
        .file("flood/Cargo.toml", &basic_lib_manifest("flood"))
        .file("flood/src/lib.rs", "")
        .file(
            "wrapper",
            &format!(
                "#!/bin/sh\n\
                 for arg; do [ \"$before\" = --crate-name ] && name=$arg; before=$arg; done\n\
                 {body}\n\
                 exec \"$@\"\n"
            ),
        )
        .build();
    let wrapper = p.root().join("wrapper");
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    p
}

/// A wrapper that leaves the real notifications of `bar` out and says `instead` to stderr, in the
/// middle of what rustc says.
fn bar_says(instead: &str) -> Project {
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
        .env("RUSTC_WRAPPER", p.root().join("wrapper"))
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
fn the_wrapper_itself_does_no_harm() {
    let p = bar_says("echo \"$notification\" >&2");
    assert!(build_and_run(&p).lib("bar").metadata.is_some());
}

#[cargo_test]
fn never_notifies() {
    let p = bar_says("");
    let trace = build_and_run(&p);
    assert_eq!(trace.lib("bar").metadata, None);
    assert_eq!(trace.lib("bar").phases, [Phase::Frontend]);
}

#[cargo_test]
fn notifies_again_and_again() {
    let p = bar_says("for i in 1 2 3; do echo \"$notification\" >&2; done");
    assert!(build_and_run(&p).lib("bar").metadata.is_some());
}

#[cargo_test]
fn notifies_of_another_file() {
    let p = bar_says(
        "echo \"$notification\" | sed 's/libbar-/libother-/' >&2
         echo \"$notification\" | sed 's/[.]rmeta/.rlib/' >&2
         echo \"$notification\" | sed 's/\"metadata\"/\"hologram\"/' >&2
         echo '{\"artifact\":\"\",\"emit\":\"metadata\"}' >&2",
    );
    assert_eq!(build_and_run(&p).lib("bar").metadata, None);
}

#[cargo_test]
fn malformed_lines_are_shown_as_they_are() {
    let p = bar_says(
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
    // What stays behind holds the pipe and speaks when the wrapper is gone: it reads the end of
    // a pipe that the wrapper holds open to the last.
    let p = bar_says(
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

/// With `foo` held back until `bar` has ended, or the other way round, a mode can be told from
/// the other by whether the build ends.
#[cfg(target_os = "linux")]
#[cargo_test]
fn dependents_start_while_code_is_generated() {
    let p = wrapped(
        r#"
        if [ "$name" = bar ]; then "$@" && timeout 60 cat foo-has-begun; exit $?; fi
        if [ "$name" = foo ]; then echo >foo-has-begun; fi"#,
    );
    Command::new("mkfifo")
        .arg(p.root().join("foo-has-begun"))
        .status()
        .unwrap();
    let trace = build_and_run(&p);
    let (dependent, bar) = (trace.lib("foo"), trace.lib("bar"));
    assert!(bar.metadata.unwrap() < dependent.began && dependent.began < bar.all.unwrap());
    assert_eq!(bar.phases, [Phase::Frontend, Phase::Codegen]);
}

/// One job floods the terminal with 100,000 lines; another one's metadata is heard all the same:
/// the flood ends only after a dependent of the other one has begun.
#[cfg(target_os = "linux")]
#[cargo_test]
fn a_flood_of_warnings_holds_up_nobody() {
    let p = wrapped(
        r#"
        if [ "$name" = flood ]; then
            yes '{"$message_type":"diagnostic","message":"m","code":null,"level":"note","spans":[],"children":[],"rendered":"r"}' | head -n 100000 >&2
            timeout 60 cat foo-has-begun || exit 1
        fi
        if [ "$name" = foo ]; then echo >foo-has-begun; fi"#,
    );
    Command::new("mkfifo")
        .arg(p.root().join("foo-has-begun"))
        .status()
        .unwrap();
    build(&p).arg("--workspace").run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert!(trace.lib("foo").began < trace.lib("flood").all.unwrap());
}

/// Starts a build in which `bar` is compiled and then waits for ever, and waits until it does.
fn build_that_waits(p: &Project) -> (std::process::Child, std::fs::File) {
    let compiled = p.root().join("bar-is-compiled");
    Command::new("mkfifo").arg(&compiled).status().unwrap();
    Command::new("mkfifo")
        .arg(p.root().join("for-ever"))
        .status()
        .unwrap();
    // Held open, so that reading it does not end before this is dropped.
    let for_ever = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(p.root().join("for-ever"))
        .unwrap();
    let child = process(replacement())
        .args(&["build", "-j4"])
        .cwd(p.root())
        .env("RUSTC_WRAPPER", p.root().join("wrapper"))
        .env("CARGO_BUILD_TRACE", "trace.json")
        .build_command()
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::fs::read(compiled).unwrap();
    (child, for_ever)
}

#[cargo_test]
fn the_trace_of_a_build_that_was_killed_can_be_read() {
    let p = wrapped(
        r#"
        if [ "$name" = foo ] && [ ! -e again ]; then
            echo >bar-is-compiled
            exec cat for-ever
        fi"#,
    );
    let (mut child, for_ever) = build_that_waits(&p);
    child.kill().unwrap();
    child.wait().unwrap();
    let trace = p.trace();
    assert!(trace.lib("bar").metadata.is_some());
    assert_eq!(trace.lib("foo").outcome, None);

    drop(for_ever);
    p.change_file("again", "");
    build_and_run(&p);
}
