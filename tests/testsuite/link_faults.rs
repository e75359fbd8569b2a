//! Units and linkers that fail while something is parked. Never a hang, never a wrong build, and the
//! messages of a build in which nothing parks.

use std::fs;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, str};

use crate::support::gated::{
    GatedExt, MAIN, Output, RECORDING_LINKER, assert_same_output, assert_tidy, bin_on_slow, foo,
    foo_on_slow, reset, wrapper,
};
use crate::support::programs::build_script;
use crate::support::running::{Running, await_no_process};
use crate::support::{BuilderExt, ExecsExt, ProjectExt, replacement};

/// A library whose metadata is fine and whose code is not.
pub const NO_CODE: &str =
    r#"pub fn slow() -> u32 { unsafe { std::arch::asm!("garbage instruction") }; 1 }"#;

/// Asserts that a held build fails as in mode `metadata`, after `parked` jobs have parked.
#[track_caller]
pub fn assert_fails(
    p: &Project,
    line: &str,
    parked: usize,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> Output {
    let output = assert_same_output(p, line, set);
    assert_eq!(output.status, Some(101), "{output:#?}");
    assert_eq!(output.count("error: could not compile"), 1, "{output:#?}");
    assert_eq!(p.trace().parked(), parked);
    assert_tidy(&p.root());
    output
}

/// The slots of jobs that could not be announced are free again. The reader goes away when `foo` has parked, before
/// the packages that depend on `gate`, whose build script waits for that. Then `slow` goes on.
#[cargo_test]
fn messages_cannot_be_written() {
    let ended = r#"sh -c '[ "$(grep -c outcome "$CARGO_BUILD_TRACE")" -ge 3 ]'"#;
    let waits = r#"
        let trace = std::env::var("CARGO_BUILD_TRACE").unwrap();
        while !std::fs::read_to_string(&trace).unwrap().contains("\"name\":\"parked\"") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    "#;
    // They go before `foo`.
    let long = "macro_rules! m { () => {} }\n".to_owned() + &"m! {}\n".repeat(10_000);
    let mut p = foo_on_slow("[workspace]\nmembers = ['a', 'b', 'c', 'd', 'e']")
        .file("src/main.rs", MAIN)
        .lib("gate", "", "")
        .file("gate/build.rs", &build_script(waits))
        .executable("wrapper", &wrapper(ended, ""));
    for name in ["a", "b", "c", "d", "e"] {
        p = p.lib(name, "[dependencies]\ngate.path = '../gate'", &long);
    }
    let p = p.build();
    let line = r#""$CARGO" build --workspace --keep-going -j3 2>&1 | sed '/Compiling foo/q'"#;
    let mut execs = p.held("");
    let mut build = p.process("sh");
    for (name, value) in execs.build_command().get_envs() {
        if let Some(value) = value {
            build.env(&name.to_string_lossy(), value);
        }
    }
    build
        .args(&["-c", line])
        .env("CARGO", replacement())
        .env_remove("CARGO_BUILD_JOBS");
    let mut running = Running::start(&p, &mut build);
    running.wait();
    assert_tidy(&p.root());
    assert!(p.bin("foo").exists());
}

#[cargo_test]
fn dependency_fails_after_its_metadata() {
    let p = bin_on_slow().file("slow/src/lib.rs", NO_CODE).build();
    // In mode `metadata` the binary is not even mentioned.
    p.held("build").fails(str![[r#"
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

"#]]);
    let trace = p.trace();
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(slow.metadata.unwrap() < bin.began);
    assert!(bin.parked().is_some() && bin.linking().is_none());
    assert_eq!(slow.outcome, Some(Outcome::Failed));
    assert_eq!(bin.outcome, Some(Outcome::Aborted));
    assert!(!p.bin("foo").exists());
    assert_tidy(&p.root());
    await_no_process(&p.root());

    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 1 }");
    p.built("build");
    p.run_foo();
}

#[cargo_test]
fn others_keep_going_after_a_failure() {
    // `base` begins when `slow` has failed.
    let body = r#"if [ "$name" = base ]; then
        await grep -q '"outcome":"failed"' "$CARGO_BUILD_TRACE"
    fi"#;
    let p = foo_on_slow("[workspace]\nmembers = ['apart', 'base']")
        .file("src/main.rs", MAIN)
        .file("slow/src/lib.rs", NO_CODE)
        .bin(
            "apart",
            "[dependencies]\nbase.path = '../base'",
            "fn main() { base::base(); }",
        )
        .lib("base", "", "pub fn base() {}")
        .wrapper("parked 1", body)
        .build();
    let output = p.fails("build --workspace --keep-going");
    assert_eq!(output.count("error: could not compile `slow`"), 1);
    let trace = p.trace();
    assert_eq!(trace.bin("foo").outcome, Some(Outcome::Aborted));
    assert_eq!(trace.bin("apart").outcome, Some(Outcome::Done));
    assert!(trace.lib("slow").metadata.unwrap() < trace.bin("foo").began);
    assert!(!p.bin("foo").exists());
    p.process(p.bin("apart")).run();
}

#[cargo_test]
fn another_unit_fails_while_one_is_parked() {
    let p = foo_on_slow("[workspace]\nmembers = ['wrong']")
        .file("src/main.rs", MAIN)
        .lib("wrong", "", "fn wrong() -> u32 { \"\" }")
        .wrapper(
            r#"grep -q "outcome.:.failed" trace.json"#,
            r#"if [ "$name" = wrong ]; then await parked 1; fi"#,
        )
        .build();
    let output = p.fails("build --workspace");
    assert_eq!(output.count("error: could not compile `wrong`"), 1);
    let trace = p.trace();
    let bin = trace.bin("foo");
    assert!(bin.parked().is_some());
    // It is aborted, or what it waits for ends first, and it links.
    let is_aborted_or_done = matches!(bin.outcome, Some(Outcome::Aborted | Outcome::Done));
    assert!(is_aborted_or_done, "{bin:#?}");
    await_no_process(&p.root());

    p.change_file("wrong/src/lib.rs", "");
    p.cargo("build --workspace").run();
    p.run_foo();
}

#[cargo_test]
fn test_fails_while_others_are_parked() {
    let body = r#"if [ "$name" = wrong ]; then
        await parked 1
        "$@"
        status=$?
        mark wrong
        exit $status
    fi"#;
    let p = foo_on_slow("")
        .file("src/lib.rs", "")
        .file("tests/right.rs", "#[test] fn one() { slow::slow(); }")
        .file("tests/wrong.rs", "#[test] fn one() { slow::missing(); }")
        .wrapper("compiled wrong", body)
        .build();
    let output = p.fails("test --no-run --tests");
    assert_eq!(output.count("error[E0425]"), 1, "{output:#?}");
    await_no_process(&p.root());
}

#[cargo_test]
fn build_script_waits_for_failing_library() {
    let p = foo("build-dependencies", "")
        .file("slow/src/lib.rs", NO_CODE)
        .file("build.rs", "fn main() { slow::slow(); }")
        .file("src/main.rs", "fn main() {}")
        .build();
    p.fails("build");
    let trace = p.trace();
    let script = trace.one(|unit| unit.kind == ["custom-build"]);
    assert_eq!(script.outcome, Some(Outcome::Aborted));
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
        .wrapper("compiled foo", body)
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

fn own_cc(cargo: &mut Execs) -> &mut Execs {
    cargo.env("RUSTFLAGS", "-Clinker=./own-cc")
}

#[cargo_test]
fn linker_cannot_be_started() {
    let p = bin_on_slow().file("own-cc", RECORDING_LINKER).build();
    // Nothing parks, so nothing is to be held.
    p.change_file("wrapper", &wrapper("true", ""));
    for linker in ["./no-such-cc", "no-such-cc"] {
        let flags = format!("-Clinker={linker}");
        let output = assert_fails(&p, "build", 0, |cargo| cargo.env("RUSTFLAGS", &flags));
        assert_eq!(output.count("not found"), 1, "{output:#?}");
    }
    let output = assert_fails(&p, "build", 0, own_cc);
    assert_ne!(output.count("Permission denied"), 0, "{output:#?}");
}

/// However a linker fails, the message is that of mode `metadata`.
#[cargo_test]
fn linker_fails() {
    let exits = [1, 2, 101, 127].map(|status| {
        let script = format!("#!/bin/sh\necho I do not link >&2\nexit {status}\n");
        let message = format!("error: linking with `./own-cc` failed: exit status: {status}");
        (script, message)
    });
    let not_executable = "Exec format error";
    let others = [
        ("#!/bin/sh\nkill -KILL $$\n", "failed: signal: 9 (SIGKILL)"),
        // Neither a program nor a script: a shell at worst must not make it look like success.
        ("\u{7f}ELF\u{1}\n)(\n", not_executable),
        // A shell runs this in some ways of executing, and not in others.
        (
            "echo ran >>ran-without-interpreter\nexec cc \"$@\"\n",
            not_executable,
        ),
    ];
    let others = others.map(|(script, message)| (script.to_owned(), message.to_owned()));
    for (script, message) in exits.into_iter().chain(others) {
        let p = bin_on_slow().executable("own-cc", &script).build();
        let output = assert_fails(&p, "build", 1, own_cc);
        let count = output.count(&message);
        assert_eq!(
            output.count("I do not link") > 0,
            script.contains("I do not link")
        );
        let is_exact = message.contains("failed: ");
        assert!(count == 1 || count > 1 && !is_exact, "{script} {output:#?}");
        assert!(!p.root().join("ran-without-interpreter").exists());
    }
}

#[cargo_test]
fn linker_vanishes_while_it_waits() {
    let p = bin_on_slow()
        .executable("own-cc", RECORDING_LINKER)
        .wrapper("released", "")
        .build();
    let running = Running::start(&p, own_cc(&mut p.held("build")));
    running.await_parked(1);
    fs::remove_file(p.root().join("own-cc")).unwrap();
    running.release();
    running.assert_fails("error: linker `./own-cc` not found");
}

#[cargo_test]
fn linker_is_called_twice() {
    let script = "#!/bin/sh
        echo called >>linked
        case \" $* \" in *' -no-pie '*)
            echo \"own-cc: error: unrecognized command line option '-no-pie'\" >&2
            exit 1
        esac
        exec cc -no-pie \"$@\"\n";
    let p = bin_on_slow().executable("own-cc", script).build();
    for mode in ["metadata", "link"] {
        reset(&p);
        let flags = "-Crelocation-model=static -Clinker=./own-cc";
        let trace = p.built_by(p.held_in(mode, "build").env("RUSTFLAGS", flags));
        p.run_foo();
        assert_eq!(p.count_lines("linked"), 2);
        assert_eq!(trace.parked(), usize::from(mode == "link"));
    }
}

/// More arguments than a process can have: rustc writes them to a file.
#[cargo_test]
fn linker_reads_arguments_from_file() {
    let body = r#"if [ "$name/$type" = foo/bin ]; then exec "$@" @arguments; fi"#;
    let p = bin_on_slow()
        .wrapper("parked 1", body)
        .executable(
            "own-cc",
            "#!/bin/sh
            case $* in @*) echo in a file >>linked;; *) echo on the command line >>linked;; esac
            # The real one has the same limit.
            grep -v '^-Lno-such' \"${1#@}\" >arguments-left
            exec cc @arguments-left\n",
        )
        .build();
    let dir = "no-such-directory,-and-a-long-name-of-it";
    let arguments = (0..60_000).map(|number| format!("-Clink-arg=-L{dir}/{number}\n"));
    p.change_file("arguments", &arguments.collect::<String>());
    let trace = p.built_by(own_cc(&mut p.held("build")));
    assert_eq!(p.read_file("linked"), "in a file\n");
    assert_eq!(trace.parked(), 1);
    p.run_foo();
}

/// A binary on a library that bundles a C library, with these modifiers of `static`.
fn bin_on_bundled_c(modifiers: &str) -> ProjectBuilder {
    let script = r#"
        library(&out(), "bundled");
        println!("cargo::rustc-link-search=native={}", out());
        println!("cargo::rustc-link-lib=static{MODIFIERS}=bundled");
    "#;
    let lib = r#"
        extern "C" { fn says() -> i32; }
        pub fn slow() -> i32 { unsafe { says() } }
    "#;
    bin_on_slow()
        .file(
            "slow/build.rs",
            &build_script(&script.replace("{MODIFIERS}", modifiers)),
        )
        .file("slow/bundled.c", "int says(void) { return 1; }")
        .file("slow/src/lib.rs", lib)
}

/// rustc unpacks a C library that is linked as a whole from the rlib, and finds nothing in a hollow one.
#[cargo_test]
fn whole_c_library_is_linked() {
    let body = r#"if [ "$name/$type" = foo/bin ]; then echo foo >>compiled; fi"#;
    let p = bin_on_bundled_c(":+whole-archive")
        .wrapper("parked 1", body)
        .build();
    let trace = p.built("build");
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(bin.began < slow.all.unwrap());
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    p.run_foo();
    for line in ["build -v", "build --message-format=json"] {
        let output = assert_same_output(&p, line, |cargo| cargo);
        assert_eq!(output.status, Some(0));
        assert_eq!(p.trace().parked(), 1);
    }
    let bytes = |p: &Project| fs::read(p.bin("foo")).unwrap();
    let link = bytes(&p);
    reset(&p);
    p.held_in("metadata", "build").run();
    assert!(bytes(&p) == link, "the binaries differ");
}

#[cargo_test]
fn bundled_c_library_is_linked() {
    let p = bin_on_bundled_c("").build();
    let trace = p.built("build");
    let expected = [Phase::Compile, Phase::Parked, Phase::Link];
    assert_eq!(trace.bin("foo").phases, expected);
    p.run_foo();
}
