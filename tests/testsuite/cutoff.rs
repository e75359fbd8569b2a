//! What is not made again although something below it was.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cargo_pipelining::freshness::ledger::Entry;
use cargo_test_support::prelude::*;
use cargo_test_support::{Project, str};

use crate::support::ProjectExt;
use crate::support::cutoff::{CutoffExt, made, workspace};

const ALL: &str = "build --workspace --all-targets";

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const NOTHING: &[&str] = &[];

#[cargo_test]
fn a_touch_a_comment_and_a_revert_build_one_crate() {
    let p = workspace().build();
    p.incremental(ALL).run();
    p.touch("low/src/lib.rs");
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}// A comment.\n"));
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    p.change_file("low/src/lib.rs", "an edit");
    p.change_file("low/src/lib.rs", &text);
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    assert_eq!(p.made(ALL), set(NOTHING));
    // Nor does the released cargo find anything to do.
    p.released(&format!("{ALL} -v"))
        .with_stderr_does_not_contain("[..]Running[..]")
        .with_stderr_does_not_contain("[..]Dirty[..]")
        .run();
}

#[cargo_test]
fn metadata_that_changes_rebuilds_everything() {
    let p = workspace().build();
    p.incremental("build --workspace").run();
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}pub fn more() {{}}\n"));
    assert_eq!(
        p.made("build --workspace"),
        set(&[
            "low lib",
            "middle lib",
            "top lib",
            "top bin",
            "top bin second"
        ])
    );
}

#[cargo_test]
fn an_edit_and_back_with_a_build_in_between() {
    let p = workspace().build();
    p.incremental("build --workspace").run();
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &text.replace("{ 1 }", "{ 2 }"));
    p.incremental("build --workspace").run();
    p.process(p.bin("top")).with_stdout_data("1112\n").run();
    p.change_file("low/src/lib.rs", &text);
    p.incremental("build --workspace").run();
    p.process(p.bin("top")).with_stdout_data("1111\n").run();

    // The same, but nobody above has seen the edit.
    p.change_file("low/src/lib.rs", &text.replace("{ 1 }", "{ 2 }"));
    p.incremental("build -p low").run();
    p.change_file("low/src/lib.rs", &text);
    let made = p.made("build --workspace");
    assert!(
        made.contains("low lib") && !made.contains("middle lib"),
        "{made:?}"
    );
    p.process(p.bin("top")).with_stdout_data("1111\n").run();
}

/// What is compiled or linked when the script of `sys` has run.
fn after_a_run() -> BTreeSet<String> {
    set(&["sys run", "sys lib", "top bin", "top bin second"])
}

#[cargo_test]
fn build_script_runs_again() {
    let p = workspace().build();
    p.incremental("build --workspace").run();
    p.touch("sys/again");
    assert_eq!(p.made("build --workspace"), after_a_run());
    assert_eq!(p.made("build --workspace"), set(NOTHING));
    // The script is compiled again, to the same bytes.
    p.touch("sys/build.rs");
    let mut expected = after_a_run();
    expected.insert("sys custom-build build-script-build".to_owned());
    assert_eq!(p.made("build --workspace"), expected);
    p.released("build --workspace -v")
        .with_stderr_does_not_contain("[..]Running[..]")
        .run();
    // What is generated differs.
    let script = p.read_file("sys/build.rs");
    p.change_file("sys/build.rs", &script.replace("= 100", "= 200"));
    p.incremental("build --workspace").run();
    p.process(p.bin("top")).with_stdout_data("1211\n").run();
}

#[cargo_test]
fn c_source_is_for_its_own_package_and_for_linkers() {
    let p = workspace().build();
    p.incremental("build --workspace").run();
    p.change_file("sys/native.c", "int native(void) { return 20; }\n");
    assert_eq!(p.made("build --workspace"), after_a_run());
    p.process(p.bin("top")).with_stdout_data("1121\n").run();
    p.process(p.bin("second"))
        .with_stdout_data("second: 1121\n")
        .run();
    p.released("build --workspace -v")
        .with_stderr_does_not_contain("[..]Running[..]")
        .run();
}

#[cargo_test]
fn remade_macro_is_expanded_again() {
    let p = workspace().build();
    p.incremental("build --workspace").run();
    p.touch("derive/src/lib.rs");
    let above = set(&["middle lib", "top lib", "top bin", "top bin second"]);
    let mut expected = above.clone();
    expected.insert("derive proc-macro".to_owned());
    assert_eq!(p.made("build --workspace"), expected);
    // It is made by another cargo, and only later is something above it built.
    p.touch("derive/src/lib.rs");
    p.released("build -p derive").run();
    assert_eq!(p.made("build --workspace"), above);
    let text = p.read_file("derive/src/lib.rs");
    p.change_file("derive/src/lib.rs", &text.replace("1000", "2000"));
    p.incremental("build --workspace").run();
    p.process(p.bin("top")).with_stdout_data("2111\n").run();
}

#[cargo_test]
fn checks() {
    let p = workspace().build();
    let check = "check --workspace --all-targets";
    p.incremental(check).run();
    p.touch("low/src/lib.rs");
    let made = p.made(check);
    assert!(made.iter().all(|unit| unit.starts_with("low ")), "{made:?}");
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}pub fn more() {{}}\n"));
    let made = p.made(check);
    assert!(made.iter().any(|unit| unit.starts_with("top ")), "{made:?}");
}

#[cargo_test(requires = "clippy-driver")]
fn clippy() {
    let p = workspace().build();
    // A lint of Clippy's own, so that one sees it at work.
    let text = p.read_file("middle/src/lib.rs");
    p.change_file(
        "middle/src/lib.rs",
        &format!("{text}\npub fn needless() -> i32 {{ return 1; }}\n"),
    );
    let clippy = || {
        let mut execs = p.incremental("clippy --workspace");
        execs.env("CARGO_BUILD_TRACE", "trace.json");
        execs.with_stderr_contains("[WARNING] unneeded `return` statement");
        execs
    };
    clippy().run();
    p.touch("low/src/lib.rs");
    clippy()
        .with_stderr_does_not_contain("[CHECKING] middle[..]")
        .run();
    assert_eq!(made(&p.trace()), set(&["low check"]));
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}pub fn more() {{}}\n"));
    clippy().with_stderr_contains("[CHECKING] top[..]").run();
}

#[cargo_test]
fn tests_that_are_fresh_run() {
    let p = workspace().build();
    p.incremental("test --workspace").run();
    p.touch("low/src/lib.rs");
    p.incremental("test --workspace")
        .with_stdout_contains("test it ... ok")
        .with_stderr_does_not_contain("[..]Compiling top[..]")
        .run();
}

#[cargo_test]
fn off_is_as_it_was() {
    let p = workspace().build();
    let off = "build --workspace --config build.early-cutoff=false";
    p.incremental(off).run();
    assert!(entries(&p).is_empty());
    p.touch("low/src/lib.rs");
    assert_eq!(
        p.made(off),
        set(&[
            "low lib",
            "middle lib",
            "top lib",
            "top bin",
            "top bin second"
        ])
    );
    p.incremental("build")
        .env("CARGO_BUILD_EARLY_CUTOFF", "perhaps")
        .with_status(101)
        .with_stderr_data(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_EARLY_CUTOFF`: provided string was not `true` or `false`

"#]])
        .run();
}

#[cargo_test]
fn what_is_said() {
    let p = workspace().build();
    p.incremental("build").cwd("top").run();
    p.touch("low/src/lib.rs");
    p.incremental("build -v")
        .cwd("top")
        .with_stderr_contains("[DIRTY] low v0.1.0 ([ROOT]/foo/low): the file `[..]` has changed ([..])")
        .with_stderr_contains("[COMPILING] low v0.1.0 ([ROOT]/foo/low)")
        .with_stderr_contains("[WARNING] `low` (lib) generated 1 warning")
        .with_stderr_contains("[UNCHANGED] middle v0.1.0 ([ROOT]/foo/middle): the dependency `low` was rebuilt, and nothing that it reads has changed")
        .with_stderr_contains("[FRESH] middle v0.1.0 ([ROOT]/foo/middle)")
        .with_stderr_contains("[FRESH] top v0.1.0 ([ROOT]/foo/top)")
        .with_stderr_does_not_contain("[DIRTY] middle[..]")
        .with_stderr_does_not_contain("[DIRTY] top[..]")
        .run();

    p.touch("low/src/lib.rs");
    p.incremental("build")
        .cwd("top")
        .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
        .run();
    let trace = p.trace();
    let reasons: BTreeSet<_> = trace
        .units()
        .filter(|unit| unit.reason.as_deref() == Some("cutoff"))
        .map(|unit| unit.package.as_str())
        .collect();
    assert_eq!(reasons, BTreeSet::from(["middle", "top"]));
    p.touch("low/src/lib.rs");
    let output = p
        .incremental("build --message-format=json")
        .cwd("top")
        .run();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        if message["reason"] == "compiler-artifact" {
            let is_low = message["target"]["name"] == "low";
            assert_eq!(message["fresh"], !is_low, "{line}");
        }
    }
}

#[cargo_test]
fn warnings_are_replayed_and_uplifted_files_come_back() {
    let p = workspace().build();
    p.change_file(
        "middle/src/lib.rs",
        "pub fn middle() -> i32 { low::low() + sys::sys() + derive::number!() }\nfn never() {}\n",
    );
    p.incremental("build --workspace").run();
    std::fs::remove_file(p.bin("second")).unwrap();
    p.touch("low/src/lib.rs");
    p.incremental("build --workspace")
        .with_stderr_contains("[WARNING] function `never` is never used")
        .with_stderr_contains("[WARNING] `middle` (lib) generated 1 warning")
        .with_stderr_does_not_contain("[COMPILING] middle[..]")
        .run();
    p.process(p.bin("second"))
        .with_stdout_data("second: 1111\n")
        .run();
}

#[cargo_test]
fn entries_are_small() {
    let p = workspace().build();
    p.incremental(ALL).run();
    let entries = entries(&p);
    assert!(entries.len() > 10);
    for entry in entries {
        let len = std::fs::metadata(&entry).unwrap().len();
        assert!(len < 1500, "{} has {len} bytes", entry.display());
    }
}

/// The timestamps with an entry in them.
fn entries(p: &Project) -> Vec<PathBuf> {
    let mut found = p.in_target("invoked.timestamp");
    found.retain(|path| Entry::read(path).is_some());
    found
}
