//! What goes wrong while something waits at its linker. Never a hang, never a wrong build, and the
//! messages of a build in which nothing waits.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, str};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::ProjectExt;
use crate::support::gated::{
    GatedExt, MAIN, NONE, Running, Said, assert_the_same_is_said, assert_tidy, await_nobody_in,
    await_that, bin_on_slow, foo, foo_on_slow, forget, gates, hollow_rlibs, in_both_modes,
    processes_in, recording_linker, wrapper,
};
use crate::support::replacement;

/// A library whose metadata is fine and whose code is not.
const NO_CODE: &str =
    r#"pub fn slow() -> u32 { unsafe { std::arch::asm!("garbage instruction") }; 1 }"#;

/// Asserts that a held build fails as in mode `metadata`, after so many have parked.
#[track_caller]
fn assert_fails(
    p: &Project,
    line: &str,
    parked: usize,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> Said {
    let said = assert_the_same_is_said(p, line, set);
    assert_eq!(said.status, Some(101), "{said:#?}");
    assert_eq!(said.count("error: could not compile"), 1, "{said:#?}");
    assert_eq!(p.trace().parked(), parked);
    assert_tidy(&p.root());
    said
}

#[cargo_test]
fn a_dependency_fails_after_its_metadata() {
    let p = bin_on_slow().file("slow/src/lib.rs", NO_CODE).build();
    // In mode `metadata` the binary is not even mentioned.
    p.held("build")
        .with_status(101)
        .with_stderr_data(str![[r#"
[COMPILING] slow v0.1.0 ([ROOT]/foo/slow)
[COMPILING] foo v0.1.0 ([ROOT]/foo)
[ERROR] invalid instruction mnemonic 'garbage'
 --> slow/src/lib.rs:1:[..]
  |
1 | pub fn slow() -> u32 { unsafe { std::arch::asm!("garbage instruction") }; 1 }
  | [..]
  |
[NOTE] instantiated into assembly here
 --> <inline asm>:2:2
  |
2 |     garbage instruction
  |     ^^^^^^^

[ERROR] could not compile `slow` (lib) due to 1 previous error
[WARNING] build failed, waiting for other jobs to finish...

"#]])
        .run();
    let trace = p.trace();
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(slow.metadata.unwrap() < bin.began);
    assert!(bin.parked.is_some() && bin.linking.is_none());
    assert_eq!(slow.outcome, Some(Outcome::Failed));
    assert_eq!(bin.outcome, Some(Outcome::Aborted));
    assert!(!p.bin("foo").exists());
    assert_tidy(&p.root());
    await_nobody_in(&p.root());

    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 1 }");
    p.built("build");
    p.run_foo();
}

#[cargo_test]
fn a_dependency_fails_and_others_keep_going() {
    let p = foo_on_slow("[workspace]\nmembers = ['apart', 'base']")
        .file("src/main.rs", MAIN)
        .file("slow/src/lib.rs", NO_CODE)
        .file(
            "apart/Cargo.toml",
            r#"
                [package]
                name = "apart"
                version = "0.1.0"
                edition = "2021"

                [dependencies]
                base = { path = "../base" }
            "#,
        )
        .file("apart/src/main.rs", "fn main() { base::base(); }")
        .file(
            "base/Cargo.toml",
            "[package]\nname = 'base'\nversion = '0.1.0'\nedition = '2021'",
        )
        .file("base/src/lib.rs", "pub fn base() {}")
        // It begins when the other one has failed.
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name" = base ]; then
                    await grep -q '"outcome":"failed"' "$CARGO_BUILD_TRACE"
                fi"#,
            ),
        )
        .build();
    let said = p.fails("build --workspace --keep-going");
    assert_eq!(said.count("error: could not compile"), 1, "{said:#?}");
    assert_eq!(said.count("error: could not compile `slow`"), 1);
    let trace = p.trace();
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Aborted));
    assert_eq!(trace.bin("apart").outcome, Some(Outcome::Done));
    assert!(trace.lib("slow").metadata.unwrap() < trace.bin("foo").began);
    assert!(!p.bin("foo").exists());
    p.process(p.bin("apart")).run();
    assert_tidy(&p.root());
}

#[cargo_test]
fn something_else_fails_while_one_is_parked() {
    let p = foo_on_slow("[workspace]\nmembers = ['wrong']")
        .file("src/main.rs", MAIN)
        .file(
            "wrong/Cargo.toml",
            "[package]\nname = 'wrong'\nversion = '0.1.0'\nedition = '2021'",
        )
        .file("wrong/src/lib.rs", "fn wrong() -> u32 { \"\" }")
        .executable(
            "wrapper",
            &wrapper(
                r#"grep -q "outcome.:.failed" trace.json"#,
                r#"if [ "$name" = wrong ]; then await parked 1; fi"#,
            ),
        )
        .build();
    let said = p.fails("build --workspace");
    assert_eq!(said.count("error: could not compile"), 1, "{said:#?}");
    assert_eq!(said.count("error: could not compile `wrong`"), 1);
    let trace = p.trace();
    let bin = trace.bin("foo");
    assert!(bin.parked.is_some());
    // It is told to end, or what it waits for ends first, and it links: as ever.
    let outcome = bin.outcome;
    assert!(
        matches!(outcome, Some(Outcome::Aborted | Outcome::Done)),
        "{bin:#?}"
    );
    assert_tidy(&p.root());
    await_nobody_in(&p.root());

    p.change_file("wrong/src/lib.rs", "");
    p.cargo("build --workspace").run();
    p.run_foo();
}

#[cargo_test]
fn a_test_fails_to_compile_while_others_are_parked() {
    let p = foo_on_slow("")
        .file("src/lib.rs", "")
        .file("tests/right.rs", "#[test] fn one() { slow::slow(); }")
        .file("tests/wrong.rs", "#[test] fn one() { slow::missing(); }")
        .executable(
            "wrapper",
            &wrapper(
                "compiled wrong",
                r#"if [ "$name" = wrong ]; then
                    await parked 1
                    "$@"
                    status=$?
                    mark wrong
                    exit $status
                fi"#,
            ),
        )
        .build();
    let said = p.fails("test --no-run --tests");
    assert_eq!(said.count("error: could not compile"), 1, "{said:#?}");
    assert_eq!(said.count("error[E0425]"), 1, "{said:#?}");
    assert_tidy(&p.root());
    await_nobody_in(&p.root());
}

/// A linker that does what the script says.
fn bin_with_linker(script: &str) -> Project {
    bin_on_slow().executable("own-cc", script).build()
}

#[cargo_test]
fn the_linker_is_missing() {
    let p = bin_on_slow().build();
    // Nothing parks, so nothing is to be held.
    p.change_file("wrapper", &wrapper("true", ""));
    for linker in ["./no-such-cc", "no-such-cc"] {
        let flags = format!("-Clinker={linker}");
        let said = assert_fails(&p, "build", 0, |cargo| cargo.env("RUSTFLAGS", &flags));
        assert_eq!(said.count("not found"), 1, "{said:#?}");
    }
}

#[cargo_test]
fn the_linker_is_not_executable() {
    let p = bin_on_slow().file("own-cc", recording_linker()).build();
    p.change_file("wrapper", &wrapper("true", ""));
    let said = assert_fails(&p, "build", 0, |cargo| {
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
    });
    assert_ne!(said.count("Permission denied"), 0, "{said:#?}");
}

#[cargo_test]
fn the_linker_fails() {
    let p = bin_with_linker("#!/bin/sh\necho I do not link >&2\nexit 1\n");
    let said = assert_fails(&p, "build", 1, |cargo| {
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
    });
    assert_eq!(
        said.count("error: linking with `./own-cc` failed: exit status: 1"),
        1
    );
    assert_ne!(said.count("I do not link"), 0);
}

#[cargo_test]
fn the_linker_fails_with_another_status() {
    for status in [2, 101, 127] {
        let p = bin_with_linker(&format!("#!/bin/sh\nexit {status}\n"));
        let said = assert_fails(&p, "build", 1, |cargo| {
            cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
        });
        let expected = format!("error: linking with `./own-cc` failed: exit status: {status}");
        assert_eq!(said.count(&expected), 1, "{said:#?}");
    }
}

#[cargo_test]
fn the_linker_kills_itself() {
    let p = bin_with_linker("#!/bin/sh\nkill -KILL $$\n");
    let said = assert_fails(&p, "build", 1, |cargo| {
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
    });
    assert_eq!(said.count("failed: signal: 9 (SIGKILL)"), 1, "{said:#?}");
}

/// Whatever is tried to execute it, a shell at worst, it must not look like success.
const GARBAGE: &str = "\u{7f}ELF\u{1}\n)(\n";

#[cargo_test]
fn the_linker_is_no_program() {
    let p = bin_with_linker(GARBAGE);
    let said = assert_fails(&p, "build", 1, |cargo| {
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
    });
    assert_ne!(said.count("Exec format error"), 0, "{said:#?}");
}

/// A script without an interpreter is run by a shell in some ways of executing, and not in others.
#[cargo_test]
fn the_linker_is_a_script_without_an_interpreter() {
    let p = bin_with_linker("echo ran >>ran-without-interpreter\nexec cc \"$@\"\n");
    let said = assert_fails(&p, "build", 1, |cargo| {
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
    });
    assert_ne!(said.count("Exec format error"), 0, "{said:#?}");
    assert!(!p.root().join("ran-without-interpreter").exists());
}

#[cargo_test]
fn the_linker_vanishes_while_it_is_waited_for() {
    let p = bin_on_slow()
        .executable("own-cc", recording_linker())
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let mut running = Running::start(&p, p.held("build").env("RUSTFLAGS", "-Clinker=./own-cc"));
    running.await_parked(1);
    fs::remove_file(p.root().join("own-cc")).unwrap();
    running.release();
    assert_eq!(running.wait().code(), Some(101));
    let stderr = running.stderr();
    assert!(
        stderr.contains("error: linker `./own-cc` not found"),
        "{stderr}"
    );
    assert!(!stderr.contains("link-gate"), "{stderr}");
    assert!(!stderr.contains("link gate"), "{stderr}");
    assert_eq!(stderr.matches("error: could not compile").count(), 1);
    assert_tidy(&p.root());
}

#[cargo_test]
fn the_linker_is_called_twice() {
    let p = bin_with_linker(
        "#!/bin/sh
        echo called >>linked
        case \" $* \" in *' -no-pie '*)
            echo \"own-cc: error: unrecognized command line option '-no-pie'\" >&2
            exit 1
        esac
        exec cc -no-pie \"$@\"\n",
    );
    let linked = |mode| {
        forget(&p);
        p.held("build")
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("RUSTFLAGS", "-Crelocation-model=static -Clinker=./own-cc")
            .env("HOLD", if mode == "link" { "1" } else { "" })
            .run();
        p.run_foo();
        p.read_file("linked").lines().count()
    };
    assert_eq!(linked("metadata"), 2);
    assert_eq!(linked("link"), 2);
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.parked(), 1);
    assert_tidy(&p.root());
}

/// More arguments than a process can have: rustc writes them to a file.
#[cargo_test]
fn the_arguments_of_the_linker_are_in_a_file() {
    let p = bin_on_slow()
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then exec "$@" @arguments; fi"#,
            ),
        )
        .executable(
            "own-cc",
            "#!/bin/sh
            case $* in @*) echo in a file >>linked;; *) echo as ever >>linked;; esac
            # The real one has the same limit.
            grep -v '^-Lno-such' \"${1#@}\" >arguments-left
            exec cc @arguments-left\n",
        )
        .build();
    let dir = "no such directory, and a long name of it".replace(' ', "-");
    let arguments: String = (0..60_000)
        .map(|number| format!("-Clink-arg=-L{dir}/{number}\n"))
        .collect();
    p.change_file("arguments", &arguments);
    p.held("build").env("RUSTFLAGS", "-Clinker=./own-cc").run();
    assert_eq!(p.read_file("linked"), "in a file\n");
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.parked(), 1);
    assert_tidy(&p.root());
    p.run_foo();
}

/// How often `foo` was compiled, and how often `./other-cc` linked it.
#[track_caller]
fn bypassed(variable: &str) -> (usize, usize) {
    let p = bin_on_slow()
        .executable("other-cc", recording_linker())
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then
                    echo foo >>compiled
                    exec "$@" -C linker=./other-cc
                fi"#,
            ),
        )
        .build();
    p.held("build")
        .env_remove("RUSTC_WRAPPER")
        .env(variable, p.root().join("wrapper"))
        .run();
    p.run_foo();
    let trace = p.trace();
    trace.assert_sound(4);
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(bin.began < slow.all.unwrap());
    assert_tidy(&p.root());
    // The next build has nothing to do.
    let mut again = p.wrapped("build");
    again
        .env_remove("RUSTC_WRAPPER")
        .env(variable, p.root().join("wrapper"))
        .run();
    assert!(p.trace().units().all(|unit| unit.phases == [Phase::Replay]));
    p.run_foo();
    let count = |path| p.read_file(path).lines().count();
    (count("compiled"), count("linked"))
}

/// As Python's `subprocess` does: the shim has no socket, and the compiler runs again.
#[cargo_test(requires = "bash")]
fn wrapper_that_closes_descriptors() {
    let close = "for path in /proc/$$/fd/*; do fd=${path##*/}; \
        if [ $fd -gt 2 ]; then eval \"exec $fd>&-\"; fi; done";
    let p = bin_on_slow()
        .executable(
            "wrapper",
            &wrapper(
                "compiled foo",
                &format!("if [ $type = bin ]; then mark foo; echo foo >>compiled; {close}; fi"),
            )
            .replace("#!/bin/sh", "#!/usr/bin/env bash"),
        )
        .build();
    p.held("build -v")
        .with_stderr_contains("[NOTE] a linker was not held back, [..]")
        .run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(p.read_file("compiled").lines().count(), 2);
    assert_tidy(&p.root());
    p.run_foo();
}

/// rustc optimizes across crates although cargo does not know, and gives the linker a copy of the hollow rlib.
#[cargo_test]
fn wrapper_adds_lto() {
    let body = r#"if [ $type = bin ]; then echo foo >>compiled; set -- "$@" -C lto=fat; fi"#;
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("parked 1", body))
        .build();
    p.held("build")
        .env("RUSTFLAGS", "-C embed-bitcode=yes")
        .run();
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    p.trace().assert_sound(4);
    assert_tidy(&p.root());
    p.run_foo();
}

#[cargo_test]
fn wrapper_retries_after_a_linker_that_cannot_be_executed() {
    let body = r#"if [ $type = bin ]; then "$@" || "$@"; exit; fi"#;
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("parked 1", body))
        .executable("own-cc", "# no interpreter\n")
        .build();
    let output = p
        .held("build")
        .env("RUSTFLAGS", "-C linker=./own-cc")
        .with_status(101)
        .with_stderr_contains("[ERROR] could not exec the linker `./own-cc`")
        .run();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let message = "error: could not exec the linker `./own-cc`";
    assert_eq!(stderr.matches(message).count(), 2, "{stderr}");
    assert_tidy(&p.root());
}

/// Children of rustc have the socket, too. This one sends what a shim does, and reads all there is.
#[cargo_test]
fn macro_reads_and_floods_the_socket() {
    let p = foo_on_slow("[dependencies.greedy]\npath = 'greedy'")
        .file("src/main.rs", &format!("greedy::greedy!(); {MAIN}"))
        .file(
            "greedy/Cargo.toml",
            r#"
                [package]
                name = "greedy"
                version = "0.1.0"
                edition = "2021"

                [lib]
                proc-macro = true
            "#,
        )
        .file(
            "greedy/src/lib.rs",
            r#"
                use std::fs::{self, File};
                use std::io::Write;
                use std::os::fd::FromRawFd;
                use std::process::{Command, Stdio};

                #[proc_macro]
                pub fn greedy(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                    for entry in fs::read_dir("/proc/self/fd").unwrap() {
                        let path = entry.unwrap().path();
                        let is_socket = fs::read_link(&path)
                            .is_ok_and(|it| it.to_string_lossy().starts_with("socket:"));
                        if !is_socket {
                            continue;
                        }
                        let fd = path.file_name().unwrap().to_str().unwrap();
                        Command::new("sh")
                            .args(["-c", &format!("cat <&{fd}")])
                            .stdin(Stdio::null())
                            .stdout(Stdio::null())
                            .stderr(Stdio::null())
                            .spawn()
                            .unwrap();
                        let mut socket = unsafe { File::from_raw_fd(fd.parse().unwrap()) };
                        for _ in 0..3_000 {
                            socket.write_all(b"P").unwrap();
                        }
                        std::mem::forget(socket);
                    }
                    proc_macro::TokenStream::new()
                }
            "#,
        )
        .executable("wrapper", &wrapper("parked 1", ""))
        .build();
    p.held("build").run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(
        trace.bin("foo").phases,
        [Phase::Compile, Phase::Parked, Phase::Link]
    );
    assert_tidy(&p.root());
    p.run_foo();
}

/// The compiler of the binary has not read its libraries yet: the hollow rlib stays for it.
#[cargo_test]
fn library_fails_while_its_dependent_starts() {
    let body = r#"
        failed() { grep -q '"outcome":"failed"' "$CARGO_BUILD_TRACE"; }
        if [ $type = bin ]; then mark foo; await failed; fi
    "#;
    let p = bin_on_slow()
        .file("slow/src/lib.rs", NO_CODE)
        .executable("wrapper", &wrapper("compiled foo", body))
        .build();
    p.held("build")
        .with_status(101)
        .with_stderr_contains("[ERROR] could not compile `slow` (lib) due to 1 previous error")
        .with_stderr_does_not_contain("[..]extern location[..]")
        .with_stderr_does_not_contain("[ERROR] could not compile `foo` [..]")
        .run();
    assert_eq!(p.trace().bin("foo").outcome, Some(Outcome::Aborted));
    assert_tidy(&p.root());
}

#[cargo_test]
fn one_bypassed_linker_ends_early_starts() {
    let body = r#"if [ $type = bin ]; then echo "$name" >>compiled; exec "$@" -C linker=cc; fi"#;
    let p = foo_on_slow("")
        .file("src/bin/one.rs", MAIN)
        .file("src/bin/two.rs", MAIN)
        .executable("wrapper", &wrapper("parked 1", body))
        .build();
    // With one slot beside the library's: the second could start early when the first waits for the
    // library, to be compiled again.
    let note = "a linker was not held back, so nothing else starts before what it links is ready";
    let output = p
        .held("build -v -j2")
        .env("CARGO_BUILD_JOBS", "2")
        .with_stderr_contains(format!("[NOTE] {note} in this build"))
        .run();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches(note).count(), 1);
    let trace = p.trace();
    let library = trace.lib("slow").all.unwrap();
    let bins = trace.units().filter(|unit| unit.kind == ["bin"]);
    assert_eq!(bins.filter(|bin| bin.began < library).count(), 1);
    assert_eq!(p.read_file("compiled").lines().count(), 3);
}

#[cargo_test]
fn few_descriptors() {
    let bins = 40;
    let mut p = foo_on_slow("").executable("wrapper", &wrapper("sleep 1", ""));
    for number in 0..bins {
        p = p.file(format!("src/bin/b{number}.rs"), MAIN);
    }
    let p = p.build();
    let mut cargo = p.held("build -j8");
    let build = cargo.env("CARGO_BUILD_JOBS", "8").build_command();
    let mut limited = std::process::Command::new("sh");
    limited
        .args([
            "-c",
            "ulimit -n $((112 + $(ls /proc/self/fd | wc -l))); exec \"$0\" \"$@\"",
        ])
        .arg(build.get_program())
        .args(build.get_args())
        .current_dir(p.root());
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let trace = p.trace();
    trace.assert_sound(8);
    assert_eq!(trace.units().count(), bins + 1);
}

#[cargo_test]
fn a_wrapper_has_its_own_linker() {
    // The first time from a hollow rlib.
    assert_eq!(bypassed("RUSTC_WRAPPER"), (2, 2));
}

#[cargo_test]
fn a_workspace_wrapper_has_its_own_linker() {
    assert_eq!(bypassed("RUSTC_WORKSPACE_WRAPPER"), (2, 2));
}

#[cargo_test]
fn what_is_compiled_twice_is_mentioned_once() {
    let p = bin_on_slow()
        .file("src/main.rs", &format!("{MAIN} fn unused() {{}}"))
        .executable("other-cc", recording_linker())
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then exec "$@" -C linker=./other-cc; fi"#,
            ),
        )
        .build();
    for line in ["build", "build -vv", "build --message-format=json"] {
        let (metadata, mut link) = in_both_modes(&p, line, |cargo| cargo);
        assert_eq!(link.status, Some(0));
        // That it was compiled twice is all that is new.
        let is_note = |line: &String| line.starts_with("note: a linker was not held back");
        let lines = link.stderr.len();
        link.stderr.retain(|line| !is_note(line));
        assert_eq!(lines - link.stderr.len(), usize::from(line == "build -vv"));
        link.assert_equals(&metadata);
        let linked = p.read_file("linked");
        assert_eq!(linked.lines().count(), 2, "{line}");
    }
}

#[cargo_test]
fn an_error_of_the_second_run_is_shown() {
    let p = bin_on_slow()
        .file(
            "src/main.rs",
            "extern \"C\" { fn undefined_symbol() -> u32; }
             fn main() { slow::slow(); unsafe { undefined_symbol() }; }",
        )
        .executable("other-cc", recording_linker())
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then exec "$@" -C linker=./other-cc; fi"#,
            ),
        )
        .build();
    let said = assert_fails(&p, "build", 1, |cargo| cargo);
    assert_eq!(said.count("error: linking with `./other-cc` failed"), 1);
}

/// Nothing of `slow` is needed: the link from the hollow rlib succeeds, and must not count.
#[cargo_test]
fn a_wrapper_links_too_early_and_succeeds() {
    let p = bin_on_slow()
        .file(
            "src/main.rs",
            r#"#[allow(unused_imports)] use slow as _; fn main() { println!("slow says 1"); }"#,
        )
        .executable("other-cc", recording_linker())
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then exec "$@" -C linker=./other-cc; fi"#,
            ),
        )
        .build();
    let trace = p.built("build");
    assert!(trace.bin("foo").began < trace.lib("slow").all.unwrap());
    assert_eq!(p.read_file("linked").lines().count(), 2);
    p.run_foo();
}

#[cargo_test]
fn a_wrapper_that_does_nothing() {
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        let p = bin_on_slow()
            .executable("plain", "#!/bin/sh\nexec \"$@\"\n")
            .build();
        // The compiler itself is what holds `slow`.
        p.change_file(
            "rustc",
            &wrapper("parked 1", "").replace("#!/bin/sh\n", "#!/bin/sh\nset -- rustc \"$@\"\n"),
        );
        let rustc = p.root().join("rustc");
        fs::set_permissions(&rustc, PermissionsExt::from_mode(0o755)).unwrap();
        p.held("build")
            .env_remove("RUSTC_WRAPPER")
            .env("RUSTC", &rustc)
            .env(variable, p.root().join("plain"))
            .run();
        let trace = p.trace();
        trace.assert_sound(4);
        assert_eq!(trace.parked(), 1);
        assert_tidy(&p.root());
        p.run_foo();
    }
}

#[cargo_test]
fn a_wrapper_that_runs_rustc_as_a_child() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("parked 1", "\"$@\"\nexit $?"))
        .build();
    let trace = p.built("build");
    assert_eq!(trace.parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn a_wrapper_that_succeeds_without_linking() {
    let p = bin_on_slow()
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then
                    echo foo >>compiled
                    [ -e compiled-before ] || { : >compiled-before; exit 0; }
                fi"#,
            ),
        )
        .build();
    p.held("build").run();
    p.run_foo();
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    assert_tidy(&p.root());
}

/// Kills a build in which a link is parked, and builds again.
#[track_caller]
fn killed(kill: impl Fn(&Running)) {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let mut running = Running::parked(&p, "build", 1);
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    assert_eq!(gates(&p.root()).len(), 1);
    assert!(processes_in(&p.root()).iter().any(|it| it.is_shim()));
    kill(&running);
    assert!(!running.wait().success());
    // Before what it waits for is there.
    await_that("nobody waits", || {
        processes_in(&p.root()).iter().all(|it| !it.is_of("foo"))
    });
    running.release();
    await_nobody_in(&p.root());
    assert!(!p.bin("foo").exists());

    forget_marks(&p);
    p.change_file("wrapper", &wrapper("parked 1", ""));
    let trace = p.built("build");
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Done));
    p.run_foo();
}

/// As [`forget`], but what was built stays.
fn forget_marks(p: &Project) {
    fs::remove_file(p.root().join("go")).unwrap();
}

#[cargo_test]
fn killed_for_good() {
    killed(|running| kill_process(running.pid(), Signal::KILL).unwrap());
}

#[cargo_test]
fn interrupted() {
    killed(|running| running.signal_group(Signal::INT));
}

#[cargo_test]
fn interrupted_alone() {
    killed(|running| kill_process(running.pid(), Signal::INT).unwrap());
}

#[cargo_test]
fn terminated() {
    killed(|running| kill_process(running.pid(), Signal::TERM).unwrap());
}

#[cargo_test]
fn hung_up() {
    killed(|running| running.signal_group(Signal::HUP));
}

/// What was hollow when cargo was killed stays hollow, and is not taken for the library.
#[cargo_test]
fn killed_and_the_library_never_comes() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let mut running = Running::parked(&p, "build", 1);
    running.signal_group(Signal::KILL);
    assert!(!running.wait().success());
    await_nobody_in(&p.root());
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    assert_eq!(gates(&p.root()).len(), 1);

    for mode in ["metadata", "link"] {
        p.wrapped("build").env("CARGO_BUILD_PIPELINING", mode).run();
        assert_eq!(hollow_rlibs(&p.root()), NONE, "{mode}");
        p.run_foo();
    }
    // There was nothing left to be linked; the next build that does, cleans up.
    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 0 + 1 }");
    p.change_file("wrapper", &wrapper("parked 1", ""));
    p.built("build");
    p.run_foo();
}

#[cargo_test]
fn rustc_is_killed_while_it_is_parked() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let mut running = Running::parked(&p, "build", 1);
    let processes = processes_in(&p.root());
    let rustc = processes
        .iter()
        .find(|it| it.is_of("foo") && it.is_rustc())
        .unwrap_or_else(|| panic!("{processes:#?}"));
    kill_process(Pid::from_raw(rustc.pid).unwrap(), Signal::KILL).unwrap();
    // Cargo hears of it while `slow` still runs, and then the shim has nothing to wait for.
    await_that("cargo says so", || running.stderr().contains("signal: 9"));
    await_that("nobody waits", || {
        processes_in(&p.root()).iter().all(|it| !it.is_of("foo"))
    });
    running.release();
    assert_eq!(running.wait().code(), Some(101));
    let stderr = running.stderr();
    assert!(
        stderr.contains("error: could not compile `foo`"),
        "{stderr}"
    );
    assert!(!stderr.contains("link-gate"), "{stderr}");
    assert_eq!(p.trace().bin("foo").outcome, Some(Outcome::Failed));
    assert_tidy(&p.root());
    await_nobody_in(&p.root());
    p.cargo("build").run();
    p.run_foo();
}

#[cargo_test]
fn the_shim_is_killed() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let mut running = Running::parked(&p, "build", 1);
    let processes = processes_in(&p.root());
    let shim = processes.iter().find(|it| it.is_shim()).unwrap();
    kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    // As when somebody kills the linker.
    await_that("cargo says so", || running.stderr().contains("signal: 9"));
    running.release();
    assert_eq!(running.wait().code(), Some(101));
    let stderr = running.stderr();
    assert!(
        stderr.contains("error: linking with `cc` failed: signal: 9"),
        "{stderr}"
    );
    assert!(!stderr.contains("link-gate"), "{stderr}");
    assert_tidy(&p.root());
    await_nobody_in(&p.root());
}

/// Its compiler is let go on, but the linker that waited is dead; then a wrapper says that all went well.
#[cargo_test]
fn job_parks_after_its_permit() {
    let body = r#"if [ "$name/$type" = foo/bin ]; then
        linking() { grep -q '"name":"link".*"ph":"B"' "$CARGO_BUILD_TRACE"; }
        "$@" && exit
        await linking
        exit 0
    fi"#;
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", body))
        .build();
    let mut running = Running::parked(&p, "build", 1);
    let processes = processes_in(&p.root());
    let shim = processes.iter().find(|it| it.is_shim()).unwrap();
    kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    running.release();
    assert!(running.wait().success(), "{}", running.stderr());
    assert_tidy(&p.root());
    p.run_foo();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Done));
}

#[cargo_test]
fn two_jobs() {
    let p = bin_on_slow().build();
    p.held("build -j2").run();
    let trace = p.trace();
    trace.assert_sound(2);
    assert_eq!(trace.parked(), 1);
    assert_tidy(&p.root());
    p.run_foo();
}

#[cargo_test]
fn under_make() {
    let p = bin_on_slow()
        .file("src/bin/second.rs", MAIN)
        .file("src/bin/third.rs", MAIN)
        .file("Makefile", "all:\n\t+$(CARGO) build\n")
        .executable("wrapper", &wrapper("parked 3", ""))
        .build();
    for jobs in ["-j2", "-j3"] {
        forget(&p);
        p.process("make")
            .arg(jobs)
            .env("CARGO", replacement())
            .env("RUSTC_WRAPPER", p.root().join("wrapper"))
            .env("CARGO_BUILD_JOBS", "4")
            .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
            .env("HOLD", "1")
            .run();
        let trace = p.trace();
        // Not more than make has given.
        trace.assert_sound(jobs[2..].parse().unwrap());
        assert_eq!(trace.parked(), 3);
        assert_tidy(&p.root());
        p.run_foo();
    }
}

#[cargo_test]
fn two_cargos_in_one_target_directory() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let first = Running::parked(&p, "build", 1);
    let mut second = Running::start(
        &p,
        p.held("build")
            .env("CARGO_BUILD_TRACE", p.root().join("second.json")),
    );
    await_that("the second one waits", || {
        second.stderr().contains("Blocking waiting for file lock")
    });
    // And leaves the gate of the first one alone.
    assert!(processes_in(&p.root()).iter().any(|it| it.is_shim()));
    assert_eq!(gates(&p.root()).len(), 1);
    first.finish();
    let status = second.wait();
    assert!(status.success(), "{}", second.stderr());
    assert_tidy(&p.root());
    p.run_foo();
}

#[cargo_test]
fn two_profiles_in_one_target_directory() {
    let p = bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .build();
    let dev = Running::parked(&p, "build", 1);
    // Its own trace, so that it is seen to park.
    let release = Running::start(
        &p,
        p.held("build --release")
            .env("CARGO_BUILD_TRACE", p.root().join("release.json")),
    );
    await_that("both are parked", || {
        processes_in(&p.root())
            .iter()
            .filter(|it| it.is_shim())
            .count()
            == 2
    });
    assert_eq!(gates(&p.root()).len(), 2);
    dev.finish();
    release.finish();
    assert_tidy(&p.root());
    p.run_foo();
    p.process(p.release_bin("foo"))
        .with_stdout_data("slow says 1\n")
        .run();
}

/// Builds into that directory, early.
#[track_caller]
fn build_into(p: &Project, target: PathBuf) {
    p.held("build").env("CARGO_TARGET_DIR", &target).run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.parked(), 1);
    p.process(target.join("debug/foo"))
        .with_stdout_data("slow says 1\n")
        .run();
    assert_tidy(&target);
}

#[cargo_test]
fn a_target_directory_with_spaces_and_quotes() {
    let p = bin_on_slow().build();
    for name in ["a target", "it's \"quoted\"", "back\\slash", "ünïcode"] {
        build_into(&p, p.root().join(name));
    }
}

#[cargo_test]
fn a_link_error_in_a_target_directory_with_spaces_and_quotes() {
    let p = bin_on_slow()
        .file(
            "src/main.rs",
            "extern \"C\" { fn undefined_symbol() -> u32; }
             fn main() { slow::slow(); unsafe { undefined_symbol() }; }",
        )
        .build();
    for name in ["a target", "it's \"quoted\"", "back\\slash", "ünïcode"] {
        let target = p.root().join(name);
        let said = assert_fails(&p, "build", 1, |cargo| {
            target.rm_rf();
            cargo.env("CARGO_TARGET_DIR", &target)
        });
        assert_eq!(said.count("error: linking with `cc` failed"), 1);
    }
}

#[cargo_test]
fn a_target_directory_deep_down() {
    let p = bin_on_slow().build();
    let name = "a-name-of-fifty-bytes-and-there-are-a-lot-of-them-";
    let mut target = p.root();
    for _ in 0..20 {
        target.push(name);
    }
    assert!(target.as_os_str().len() > 1000);
    build_into(&p, target);
}

#[cargo_test]
fn a_target_directory_that_is_a_symlink() {
    let p = bin_on_slow().build();
    fs::create_dir(p.root().join("elsewhere")).unwrap();
    p.symlink("elsewhere", "link");
    build_into(&p, p.root().join("link"));
    assert_tidy(&p.root());
}

#[cargo_test]
fn a_target_directory_whose_name_is_not_utf_8() {
    let p = bin_on_slow().build();
    // Whether anything parks is not the question.
    p.change_file("wrapper", &wrapper("true", ""));
    let mut name = p.root().into_os_string().into_vec();
    name.extend(b"/t\xff");
    let target = PathBuf::from(std::ffi::OsString::from_vec(name));
    assert_the_same_is_said(&p, "build", |cargo| {
        let _ = fs::remove_dir_all(&target);
        cargo.env("CARGO_TARGET_DIR", &target)
    });
    assert_tidy(&target);
}

/// Root can write anywhere, unless it gives that up.
fn without_privileges(p: &Project, line: &str) -> Execs {
    let mut execs = match rustix::process::geteuid().is_root() {
        true => {
            let mut execs = p.process("setpriv");
            execs
                .arg("--bounding-set=-dac_override,-dac_read_search,-fowner")
                .arg(replacement());
            execs
        }
        false => p.process(replacement()),
    };
    execs
        .env("CARGO", replacement())
        .env("CARGO_BUILD_JOBS", "4")
        .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
        .arg_line(line);
    execs
}

/// There is no place for a gate, and none is needed.
#[cargo_test]
fn a_target_directory_in_which_no_gate_can_be_made() {
    let p = foo_on_slow("")
        .file(
            "src/lib.rs",
            "#[test] fn one() { assert_eq!(slow::slow(), 1); }",
        )
        .build();
    let line = "test --lib --no-run";
    p.cargo(line).run();
    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 0 + 1 }");
    let dir = p.build_dir().join("debug");
    let set = |mode| fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    set(0o555);
    let said = Said::of(&without_privileges(&p, line).run());
    set(0o755);
    let loud = said.count("warning") + said.count("error") + said.count("link gate");
    assert_eq!(loud, 0, "{said:#?}");
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.units().count(), 2);
    assert_eq!(trace.parked(), 0);
    p.cargo("test --lib").run();
}

#[cargo_test]
fn a_target_directory_that_cannot_be_written() {
    let p = bin_on_slow().build();
    for dir in ["", "debug", "debug/deps"] {
        let said = ["metadata", "link"].map(|mode| {
            p.build_dir().rm_rf();
            p.cargo("build").run();
            p.change_file("src/main.rs", &format!("{MAIN} // {mode} {dir:?}"));
            p.change_file(
                "slow/src/lib.rs",
                &format!("pub fn slow() -> u32 {{ 1 }} // {mode}"),
            );
            let read_only = p.build_dir().join(dir);
            let set = |mode| fs::set_permissions(&read_only, PermissionsExt::from_mode(mode));
            set(0o555).unwrap();
            let mut cargo = without_privileges(&p, "build");
            cargo.env("CARGO_BUILD_PIPELINING", mode).without_status();
            let said = Said::of(&cargo.run());
            set(0o755).unwrap();
            said
        });
        let [mut metadata, mut link] = said;
        for said in [&mut metadata, &mut link] {
            said.stderr
                .retain(|line| !line.contains("waiting for other jobs to finish"));
        }
        link.assert_equals(&metadata);
        if dir == "debug/deps" {
            assert_eq!(link.status, Some(101));
        }
        assert_tidy(&p.root());
    }
}

/// A binary on a library that bundles a C library, with these modifiers of `static`.
fn bin_on_bundled_c(modifiers: &str) -> ProjectBuilder {
    let build_script = r#"
        use std::process::Command;
        fn main() {
            let out = std::env::var("OUT_DIR").unwrap();
            let run = |command: &mut Command| assert!(command.status().unwrap().success());
            run(Command::new("cc").args(["-c", "slow.c", "-o"]).arg(format!("{out}/slow.o")));
            run(Command::new("ar").arg("crs").arg(format!("{out}/libbundled.a")).arg(format!("{out}/slow.o")));
            println!("cargo::rustc-link-search=native={out}");
            println!("cargo::rustc-link-lib=static{MODIFIERS}=bundled");
        }
    "#;
    bin_on_slow()
        .file(
            "slow/build.rs",
            &build_script.replace("{MODIFIERS}", modifiers),
        )
        .file("slow/slow.c", "int says(void) { return 1; }")
        .file(
            "slow/src/lib.rs",
            r#"
                extern "C" { fn says() -> i32; }
                pub fn slow() -> i32 { unsafe { says() } }
            "#,
        )
}

/// A library that bundles a C library that is linked as a whole: rustc unpacks that from the rlib,
/// and finds nothing in a hollow one.
#[cargo_test]
fn a_c_library_that_is_linked_as_a_whole() {
    let p = bin_on_bundled_c(":+whole-archive")
        .executable(
            "wrapper",
            &wrapper(
                "parked 1",
                r#"if [ "$name/$type" = foo/bin ]; then echo foo >>compiled; fi"#,
            ),
        )
        .build();
    let trace = p.built("build");
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(bin.began < slow.all.unwrap());
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    p.run_foo();
    for line in ["build -v", "build --message-format=json"] {
        let said = assert_the_same_is_said(&p, line, |cargo| cargo);
        assert_eq!(said.status, Some(0));
        assert_eq!(p.trace().parked(), 1);
    }
    let bytes = |p: &Project| fs::read(p.bin("foo")).unwrap();
    let link = bytes(&p);
    forget(&p);
    p.wrapped("build")
        .env("CARGO_BUILD_PIPELINING", "metadata")
        .run();
    assert!(bytes(&p) == link, "the binaries differ");
}

#[cargo_test]
fn a_c_library_that_is_bundled() {
    let p = bin_on_bundled_c("").build();
    let trace = p.built("build");
    assert_eq!(
        trace.bin("foo").phases,
        [Phase::Compile, Phase::Parked, Phase::Link]
    );
    p.run_foo();
}

#[cargo_test]
fn a_build_script_waits_for_a_library_that_fails() {
    let p = foo("build-dependencies", "")
        .file("slow/src/lib.rs", NO_CODE)
        .file("build.rs", "fn main() { slow::slow(); }")
        .file("src/main.rs", "fn main() {}")
        .build();
    let said = p.fails("build");
    assert_eq!(said.count("error: could not compile"), 1, "{said:#?}");
    let trace = p.trace();
    let script = trace.one(|unit| unit.kind == ["custom-build"]);
    assert_eq!(script.outcome, Some(Outcome::Aborted));
    assert_tidy(&p.root());
}
