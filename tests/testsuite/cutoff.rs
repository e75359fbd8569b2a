//! Units that stay fresh although a dependency was rebuilt.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use cargo_pipelining::freshness::ledger::Entry;
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, project, str};

use crate::support::cutoff::{CutoffExt, built_workspace, made, set, workspace};
use crate::support::programs::build_script;
use crate::support::{BuilderExt, ExecsExt, ProjectExt, root};

const BUILD: &str = "build --workspace";
const ALL: &str = "build --workspace --all-targets";

const NOTHING: &[&str] = &[];

#[cargo_test]
fn touch_comment_and_revert_build_one_crate() {
    let p = built_workspace(ALL);
    p.touch("low/src/lib.rs");
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}// A comment.\n"));
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    p.change_file("low/src/lib.rs", "an edit");
    p.change_file("low/src/lib.rs", &text);
    assert_eq!(p.made(ALL), set(&["low lib", "low test"]));
    assert_eq!(p.made(ALL), set(NOTHING));
    p.assert_fresh_to_released(ALL);
}

#[cargo_test]
fn metadata_that_changes_rebuilds_everything() {
    let p = built_workspace(BUILD);
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &format!("{text}pub fn more() {{}}\n"));
    assert_eq!(
        p.made(BUILD),
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
fn edit_build_and_revert() {
    let p = built_workspace(BUILD);
    let text = p.read_file("low/src/lib.rs");
    p.change_file("low/src/lib.rs", &text.replace("{ 1 }", "{ 2 }"));
    p.incremental(BUILD).run();
    p.assert_prints(1112);
    p.change_file("low/src/lib.rs", &text);
    p.incremental(BUILD).run();
    p.assert_prints(1111);

    // The same, but no dependent has read the edit.
    p.change_file("low/src/lib.rs", &text.replace("{ 1 }", "{ 2 }"));
    p.incremental("build -p low").run();
    p.change_file("low/src/lib.rs", &text);
    let made = p.made(BUILD);
    assert!(
        made.contains("low lib") && !made.contains("middle lib"),
        "{made:?}"
    );
    p.assert_prints(1111);
}

/// What is compiled and linked after the script of `sys` has run.
fn after_a_run() -> BTreeSet<String> {
    set(&["sys run", "sys lib", "top bin", "top bin second"])
}

#[cargo_test]
fn build_script_runs_again() {
    let p = built_workspace(BUILD);
    p.touch("sys/again");
    assert_eq!(p.made(BUILD), after_a_run());
    assert_eq!(p.made(BUILD), set(NOTHING));
    // The script is compiled again, to the same bytes.
    p.touch("sys/build.rs");
    let mut expected = after_a_run();
    expected.insert("sys custom-build build-script-build".to_owned());
    assert_eq!(p.made(BUILD), expected);
    p.assert_fresh_to_released(BUILD);
    // What is generated differs.
    let script = p.read_file("sys/build.rs");
    p.change_file("sys/build.rs", &script.replace("= 100", "= 200"));
    p.incremental(BUILD).run();
    p.assert_prints(1211);
}

#[cargo_test]
fn changed_c_source_links_again() {
    let p = built_workspace(BUILD);
    p.change_file("sys/native.c", "int native(void) { return 20; }\n");
    assert_eq!(p.made(BUILD), after_a_run());
    p.assert_prints(1121);
    p.assert_fresh_to_released(BUILD);
}

/// A program on two libraries in a row above one with C source.
fn native_below_two() -> Project {
    let script = r#"
        library(&out(), "native");
        println!("cargo::rustc-link-search=native={}", out());
        println!("cargo::rerun-if-changed=native.c");
    "#;
    let sys = r#"
        #[link(name = "native", kind = "static")] extern "C" { fn native() -> i32; }
        pub fn number() -> i32 { unsafe { native() } }
    "#;
    let members = "members = ['sys', 'one', 'two', 'program']";
    project()
        .file("Cargo.toml", &format!("[workspace]\n{members}\n"))
        .lib("sys", "", sys)
        .file("sys/build.rs", &build_script(script))
        .file("sys/native.c", "")
        .lib(
            "one",
            "[dependencies]\nsys.path = '../sys'",
            "pub fn number() -> i32 { sys::number() }",
        )
        .lib(
            "two",
            "[dependencies]\none.path = '../one'",
            "pub fn number() -> i32 { one::number() }",
        )
        .package("program", "[dependencies]\ntwo.path = '../two'")
        .file(
            "program/src/main.rs",
            "fn main() { println!(\"{}\", two::number()) }",
        )
        .build()
}

#[cargo_test]
fn changed_c_source_links_again_after_partial_build() {
    let p = native_below_two();
    let edit = |number: u32| {
        let source = format!("int native(void) {{ return {number}; }}\n");
        p.change_file("sys/native.c", &source);
    };
    for incremental in ["0", "1"] {
        let run = |mut cargo: Execs| {
            cargo.env("CARGO_INCREMENTAL", incremental).run();
        };
        for partial in ["build -p sys", "build -p one", "build -p two"] {
            for ends_with_released in [false, true] {
                p.build_dir().rm_rf();
                edit(1);
                run(p.incremental(BUILD));
                edit(2);
                run(p.incremental(partial));
                run(match ends_with_released {
                    true => p.released(BUILD),
                    false => p.incremental(BUILD),
                });
                p.process(p.bin("program")).with_stdout_data("2\n").run();
            }
        }
    }
}

/// Where rustc has left metadata as it was, and as old.
#[cargo_test]
fn units_on_reused_metadata_stay_fresh() {
    let p = native_below_two();
    let run = |line| {
        let mut cargo = p.incremental(line);
        cargo.env("CARGO_BUILD_PIPELINING", "metadata");
        cargo.env("CARGO_BUILD_TRACE", "trace.json").run();
        made(&p.trace())
    };
    for number in 1..4 {
        let source = format!("int native(void) {{ return {number}; }}\n");
        p.change_file("sys/native.c", &source);
        run(BUILD);
    }
    assert_eq!(run(BUILD), set(NOTHING));
    p.cargo(&format!("{BUILD} -v"))
        .env("CARGO_INCREMENTAL", "1")
        .env("CARGO_BUILD_FINGERPRINT", "mtime")
        .with_stderr_does_not_contain("[UNCHANGED][..]")
        .run();
    p.assert_fresh_to_released(BUILD);
}

#[cargo_test]
fn remade_macro_is_expanded_again() {
    let p = built_workspace(BUILD);
    p.touch("derive/src/lib.rs");
    let above = set(&["middle lib", "top lib", "top bin", "top bin second"]);
    let mut expected = above.clone();
    expected.insert("derive proc-macro".to_owned());
    assert_eq!(p.made(BUILD), expected);
    // It is made by another cargo, and only later is something above it built.
    p.touch("derive/src/lib.rs");
    p.released("build -p derive").run();
    assert_eq!(p.made(BUILD), above);
    let text = p.read_file("derive/src/lib.rs");
    p.change_file("derive/src/lib.rs", &text.replace("1000", "2000"));
    p.incremental(BUILD).run();
    p.assert_prints(2111);
}

#[cargo_test]
fn checks_are_cut_off() {
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
fn clippy_is_cut_off() {
    let p = workspace().build();
    // A lint of Clippy's own shows that it runs.
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
fn fresh_tests_run() {
    let p = built_workspace("test --workspace");
    p.touch("low/src/lib.rs");
    p.incremental("test --workspace")
        .with_stdout_contains("test it ... ok")
        .with_stderr_does_not_contain("[COMPILING] top[..]")
        .run();
}

#[cargo_test]
fn cutoff_can_be_turned_off() {
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
        .fails(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_EARLY_CUTOFF`: provided string was not `true` or `false`

"#]]);
}

#[cargo_test]
fn messages_say_what_is_unchanged() {
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
fn warnings_and_uplifted_files_come_back() {
    let p = workspace().build();
    p.change_file(
        "middle/src/lib.rs",
        "pub fn middle() -> i32 { low::low() + sys::sys() + derive::number!() }\nfn never() {}\n",
    );
    p.incremental(BUILD).run();
    std::fs::remove_file(p.bin("second")).unwrap();
    p.touch("low/src/lib.rs");
    p.incremental(BUILD)
        .with_stderr_contains("[WARNING] function `never` is never used")
        .with_stderr_contains("[WARNING] `middle` (lib) generated 1 warning")
        .with_stderr_does_not_contain("[COMPILING] middle[..]")
        .run();
    p.assert_prints(1111);
}

#[cargo_test]
fn entries_are_small() {
    let p = built_workspace(ALL);
    let entries = entries(&p);
    assert!(entries.len() > 10);
    for entry in entries {
        let len = std::fs::metadata(&entry).unwrap().len();
        assert!(len < 1500, "{} has {len} bytes", entry.display());
    }
}

/// Returns the timestamps with an entry in them.
fn entries(p: &Project) -> Vec<PathBuf> {
    let mut found = p.in_target("invoked.timestamp");
    found.retain(|path| Entry::read(path).is_some());
    found
}

/// Fifty libraries in a chain of diamonds, with ten binaries on top.
fn diamonds() -> Project {
    let p = project().no_manifest().build();
    let script = root().join("tests/diamonds.sh");
    let status = Command::new("sh")
        .arg(script)
        .arg(p.root())
        .status()
        .unwrap();
    assert!(status.success());
    p
}

#[cargo_test]
fn edits_below_diamonds() {
    let p = diamonds();
    p.incremental(BUILD).run();
    let units = 1 + 1 + 1 + 50 + 10;
    let base = "base/src/lib.rs";

    let text = p.read_file(base) + "// A comment.\n";
    p.change_file(base, &text);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "a comment");
    p.touch(base);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "a touch");
    p.change_file(base, "an edit");
    p.change_file(base, &text);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "an edit and its revert");
    let mut after_a_run = set(&["native-sys run", "native-sys lib native_sys"]);
    after_a_run.extend((0..10).map(|bin| format!("bin{bin} bin")));
    p.touch("native-sys/again");
    assert_eq!(p.made(BUILD), after_a_run, "a build script");

    p.change_file(
        "native-sys/native.c",
        "unsigned long native(void) { return 2; }\n",
    );
    assert_eq!(p.made(BUILD), after_a_run, "C source");

    p.change_file(base, &(text + "pub fn more() {}\n"));
    // All but the -sys crate, its script and the run of that.
    assert_eq!(p.made(BUILD).len(), units - 3, "a new function");

    assert!(p.made(BUILD).is_empty());
    p.assert_fresh_to_released(BUILD);
}
