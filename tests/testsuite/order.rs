//! The order of events with a real rustc, read off traces.

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Project, project};

use crate::support::{BuildTrace, BuilderExt, ExecsExt, ProjectExt, manifest};
use replay::trace::UnitRun;

/// A bit of everything: libraries on libraries, a proc macro with a dependency, a build script
/// with one, a library of two crate types, two binaries and a test.
fn bit_of_everything() -> Project {
    let below_app =
        "[dependencies]\nmiddle.path = 'middle'\nderive.path = 'derive'\nboth.path = 'both'";
    let below_middle =
        "[dependencies]\nbase.path = '../base'\n[build-dependencies]\nhelper.path = '../helper'";
    let derive = "#[proc_macro]
        pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            helper::n();
            proc_macro::TokenStream::new()
        }";
    project()
        .file("Cargo.toml", &manifest("app", below_app))
        .file("src/lib.rs", "pub fn app() -> u32 { middle::middle() }")
        .file("src/bin/one.rs", "fn main() { app::app(); }")
        .file("src/bin/two.rs", "fn main() { app::app(); }")
        .file(
            "tests/it.rs",
            "#[test] fn it() { assert_eq!(app::app(), 3); }",
        )
        .lib(
            "middle",
            below_middle,
            "pub fn middle() -> u32 { base::base() + env!(\"N\").len() as u32 }",
        )
        .file(
            "middle/build.rs",
            "fn main() { println!(\"cargo::rustc-env=N={}\", helper::n()); }",
        )
        .lib("base", "", "pub fn base() -> u32 { 2 }")
        .lib("helper", "", "pub fn n() -> u32 { 1 }")
        .lib(
            "derive",
            "[lib]\nproc-macro = true\n[dependencies]\nhelper.path = '../helper'",
            derive,
        )
        .lib(
            "both",
            "[lib]\ncrate-type = ['rlib', 'cdylib']\n[dependencies]\nbase.path = '../base'",
            "pub fn both() -> u32 { base::base() }",
        )
        .build()
}

/// `cargo LINE` in this mode.
fn traced_in(p: &Project, mode: &str, line: &str) -> BuildTrace {
    let mut cargo = p.cargo(line);
    cargo
        .env("CARGO_BUILD_PIPELINING", mode)
        .env("CARGO_BUILD_TRACE", "trace.json")
        .run();
    p.trace()
}

fn binaries(trace: &BuildTrace) -> impl Iterator<Item = &UnitRun> {
    let units = trace.units();
    units.filter(|unit| unit.kind == ["bin"] && unit.mode == "build")
}

/// Returns the names of the packages whose units a unit waited for.
fn names(trace: &BuildTrace, waited_for: &[usize]) -> Vec<String> {
    let mut names: Vec<String> = waited_for
        .iter()
        .map(|id| trace.unit(*id).package.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A library waits for metadata, the run of a build script for all.
#[track_caller]
fn assert_middle_waits(trace: &BuildTrace) {
    let middle = trace.lib("middle");
    assert_eq!(names(trace, &middle.waited_for.metadata), ["base"]);
    assert_eq!(names(trace, &middle.waited_for.all), ["middle"]);
    let run = trace.one(|unit| unit.package == "middle" && unit.is_run());
    assert_eq!(names(trace, &run.waited_for.all), ["helper", "middle"]);
}

#[cargo_test]
fn only_libraries_wait_for_metadata() {
    let p = bit_of_everything();
    let trace = traced_in(&p, "metadata", "build --all-targets -j4");
    trace.assert_sound(4);

    assert_middle_waits(&trace);

    // A proc macro is loaded by the compiler, and what it is made of is linked into it.
    let derive = trace.lib("derive");
    assert_eq!(names(&trace, &derive.waited_for.metadata), [""; 0]);
    assert_eq!(names(&trace, &derive.waited_for.all), ["helper"]);
    // A library that is a cdylib, too, is linked.
    let both = trace.lib("both");
    assert_eq!(names(&trace, &both.waited_for.metadata), [""; 0]);
    assert_eq!(names(&trace, &both.waited_for.all), ["base"]);

    // Everything that is linked waits for all that it is linked with, however far away.
    for unit in binaries(&trace) {
        assert!(unit.waited_for.metadata.is_empty(), "{unit:#?}");
        let needed = names(&trace, &unit.waited_for.all);
        let all = ["app", "base", "both", "derive", "helper", "middle"];
        assert_eq!(needed, all);
    }
}

#[cargo_test]
fn linked_units_wait_before_their_linker() {
    let p = bit_of_everything();
    let trace = p.traced("build --all-targets -j4");
    trace.assert_sound(4);

    assert_middle_waits(&trace);

    for (package, needed) in [("derive", "helper"), ("both", "base")] {
        let links = trace.lib(package);
        assert_eq!(names(&trace, &links.waited_for.all_to_link), [needed]);
        assert!(links.waited_for.all.is_empty(), "{links:#?}");
    }
    for unit in binaries(&trace) {
        // The compiler loads a proc macro, and `both` is linked itself.
        let needed = names(&trace, &unit.waited_for.all);
        assert!(needed.contains(&"derive".to_owned()), "{unit:#?}");
        let needed = names(&trace, &unit.waited_for.all_to_link);
        assert!(needed.contains(&"middle".to_owned()), "{unit:#?}");
        assert!(unit.waited_for.metadata.is_empty(), "{unit:#?}");
    }
}

#[cargo_test]
fn off_waits_for_everything() {
    let p = bit_of_everything();
    let trace = traced_in(&p, "off", "build --all-targets -j4");
    trace.assert_sound(4);
    for unit in trace.units() {
        assert!(unit.waited_for.metadata.is_empty(), "{unit:#?}");
        assert!(unit.waited_for.all_to_link.is_empty(), "{unit:#?}");
    }
    let middle = trace.lib("middle");
    assert_eq!(names(&trace, &middle.waited_for.all), ["base", "middle"]);
}

#[cargo_test]
fn one_job_runs_at_a_time() {
    for mode in ["off", "metadata", "link"] {
        let p = bit_of_everything();
        let trace = traced_in(&p, mode, "build --all-targets -j1");
        trace.assert_sound(1);
        let lanes = p.read_file("trace.json").matches(r#""ph":"M""#).count();
        assert_eq!(lanes, 1);
    }
}

#[cargo_test]
fn check_waits_for_whole_dependencies() {
    let p = bit_of_everything();
    let trace = p.traced("check -j4");
    trace.assert_sound(4);
    let middle = trace
        .units()
        .find(|unit| unit.package == "middle" && unit.mode == "check");
    assert!(middle.unwrap().waited_for.metadata.is_empty());
}

#[cargo_test]
fn second_build_is_fresh() {
    let p = bit_of_everything();
    let first = p.traced("build");
    let second = p.traced("build");
    second.assert_sound(u64::MAX);
    assert_eq!(first.units().count(), second.units().count());
    for unit in second.units() {
        assert_eq!(unit.phases, [Phase::Replay]);
        assert_eq!(unit.outcome, Some(Outcome::Fresh));
    }
}

#[cargo_test]
fn keep_going_builds_the_rest() {
    let p = bit_of_everything();
    p.change_file(
        "both/src/lib.rs",
        "pub fn both() -> u32 { base::missing() }",
    );
    p.cargo("build --keep-going -j2")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .fails(cargo_test_support::str![[r#"
...
[ERROR] could not compile `both` (lib) due to 1 previous error
...
"#]]);
    let trace = p.trace();
    assert_eq!(trace.lib("both").outcome, Some(Outcome::Failed));
    assert_eq!(trace.lib("both").all, None);
    for package in ["middle", "derive"] {
        assert_eq!(trace.lib(package).outcome, Some(Outcome::Done));
    }
    assert!(trace.units().all(|unit| unit.package != "app"));
}

/// A wrapper may use other machines. Of what runs on this one, there is at most one job for each core.
#[cfg(target_os = "linux")]
#[cargo_test]
fn local_jobs_behind_a_wrapper() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let libraries_have_met = r#"#!/bin/sh
        case "$*" in *"--crate-type lib "*) mkdir "met-$3" ;; esac
        case "$*" in *--crate-name*src/*) until [ -e met-one ] && [ -e met-two ]; do sleep 0.05; done ;; esac
        exec "$@"
    "#;
    let mut p = project()
        .file(
            "Cargo.toml",
            &manifest("app", "[workspace]\nmembers = ['one', 'two']"),
        )
        .lib("one", "", "")
        .lib("two", "", "")
        .executable("wrapper", libraries_have_met);
    for number in 0..cores + 2 {
        p = p.file(format!("src/bin/bin{number}.rs"), "fn main() {}");
    }
    let p = p.build();
    p.cargo(&format!("build --workspace -j{}", cores + 4))
        .env("RUSTC_WRAPPER", p.root().join("wrapper"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .run();
    let trace = p.trace();
    let changes = binaries(&trace).flat_map(|bin| [(bin.began, 1), (bin.ended.unwrap(), -1)]);
    let mut changes: Vec<_> = changes.collect();
    changes.sort();
    let mut running = 0;
    for (_, change) in changes {
        running += change;
        assert!(running <= cores as isize);
    }
}
