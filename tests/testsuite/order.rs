//! In which order things happen, with a real rustc: read off traces.

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Project, basic_lib_manifest, project};

use crate::support::{BuildTrace, ProjectExt};

/// A bit of everything: libraries on libraries, a proc macro with a dependency, a build script
/// with one, a library of two crate types, two binaries and a test.
fn bit_of_everything() -> Project {
    let manifest = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
    };
    project()
        .file(
            "Cargo.toml",
            &manifest(
                "app",
                r#"
                    [dependencies]
                    middle = { path = "middle" }
                    derive = { path = "derive" }
                    both = { path = "both" }
                "#,
            ),
        )
        .file("src/lib.rs", "pub fn app() -> u32 { middle::middle() }")
        .file("src/bin/one.rs", "fn main() { app::app(); }")
        .file("src/bin/two.rs", "fn main() { app::app(); }")
        .file(
            "tests/it.rs",
            "#[test] fn it() { assert_eq!(app::app(), 3); }",
        )
        .file(
            "middle/Cargo.toml",
            &manifest(
                "middle",
                r#"
                    [dependencies]
                    base = { path = "../base" }

                    [build-dependencies]
                    helper = { path = "../helper" }
                "#,
            ),
        )
        .file(
            "middle/build.rs",
            "fn main() { println!(\"cargo::rustc-env=N={}\", helper::n()); }",
        )
        .file(
            "middle/src/lib.rs",
            "pub fn middle() -> u32 { base::base() + env!(\"N\").len() as u32 }",
        )
        .file("base/Cargo.toml", &basic_lib_manifest("base"))
        .file("base/src/lib.rs", "pub fn base() -> u32 { 2 }")
        .file("helper/Cargo.toml", &basic_lib_manifest("helper"))
        .file("helper/src/lib.rs", "pub fn n() -> u32 { 1 }")
        .file(
            "derive/Cargo.toml",
            &manifest(
                "derive",
                r#"
                    [lib]
                    proc-macro = true

                    [dependencies]
                    helper = { path = "../helper" }
                "#,
            ),
        )
        .file(
            "derive/src/lib.rs",
            r#"
                #[proc_macro]
                pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                    helper::n();
                    proc_macro::TokenStream::new()
                }
            "#,
        )
        .file(
            "both/Cargo.toml",
            &manifest(
                "both",
                r#"
                    [lib]
                    crate-type = ["rlib", "cdylib"]

                    [dependencies]
                    base = { path = "../base" }
                "#,
            ),
        )
        .file("both/src/lib.rs", "pub fn both() -> u32 { base::base() }")
        .build()
}

/// The names of the packages whose units a unit waited for.
fn names(trace: &BuildTrace, waited_for: &[usize]) -> Vec<String> {
    let mut names: Vec<String> = waited_for
        .iter()
        .map(|id| trace.unit(*id).package.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cargo_test]
fn metadata_is_enough_for_libraries_and_for_nothing_else() {
    let p = bit_of_everything();
    p.cargo("build --all-targets -j4")
        .env("CARGO_BUILD_PIPELINING", "metadata")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .run();
    let trace = p.trace();
    trace.assert_sound(4);

    let middle = trace.lib("middle");
    assert_eq!(names(&trace, &middle.waited_for.metadata), ["base"]);
    assert_eq!(names(&trace, &middle.waited_for.all), ["middle"]);
    let run = trace.build_script_run("middle");
    assert_eq!(names(&trace, &run.waited_for.all), ["helper", "middle"]);

    // A proc macro is loaded by the compiler, and what it is made of is linked into it.
    let derive = trace.lib("derive");
    assert_eq!(names(&trace, &derive.waited_for.metadata), [""; 0]);
    assert_eq!(names(&trace, &derive.waited_for.all), ["helper"]);
    // A library that is a cdylib, too, is linked.
    let both = trace.lib("both");
    assert_eq!(names(&trace, &both.waited_for.metadata), [""; 0]);
    assert_eq!(names(&trace, &both.waited_for.all), ["base"]);

    // Everything that is linked waits for all that it is linked with, however far away.
    for unit in trace
        .units()
        .filter(|unit| unit.kind == ["bin"] && unit.mode == "build")
    {
        assert!(unit.waited_for.metadata.is_empty(), "{unit:#?}");
        let needed = names(&trace, &unit.waited_for.all);
        assert_eq!(
            needed,
            ["app", "base", "both", "derive", "helper", "middle"]
        );
    }
}

#[cargo_test]
fn what_links_needs_metadata_to_start_and_all_to_link() {
    let p = bit_of_everything();
    let trace = p.traced("build --all-targets -j4");
    trace.assert_sound(4);

    // A library, and the run of a build script, as ever.
    let middle = trace.lib("middle");
    assert_eq!(names(&trace, &middle.waited_for.metadata), ["base"]);
    assert_eq!(names(&trace, &middle.waited_for.all), ["middle"]);
    let run = trace.build_script_run("middle");
    assert_eq!(names(&trace, &run.waited_for.all), ["helper", "middle"]);

    for (package, needed) in [("derive", "helper"), ("both", "base")] {
        let links = trace.lib(package);
        assert_eq!(names(&trace, &links.waited_for.all_to_link), [needed]);
        assert!(links.waited_for.all.is_empty(), "{links:#?}");
    }
    for unit in trace
        .units()
        .filter(|unit| unit.kind == ["bin"] && unit.mode == "build")
    {
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
    p.cargo("build --all-targets -j4")
        .env("CARGO_BUILD_PIPELINING", "off")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .run();
    let trace = p.trace();
    trace.assert_sound(4);
    trace.assert_off();
    let middle = trace.lib("middle");
    assert_eq!(names(&trace, &middle.waited_for.all), ["base", "middle"]);
}

#[cargo_test]
fn one_job_is_one_at_a_time() {
    for mode in ["off", "metadata", "link"] {
        let p = bit_of_everything();
        p.cargo("build --all-targets -j1")
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        let trace = p.trace();
        trace.assert_sound(1);
        let lanes = trace.events.iter().filter(|event| event["ph"] == "M");
        assert_eq!(lanes.count(), 1);
    }
}

#[cargo_test]
fn a_check_starts_on_whole_dependencies_as_ever() {
    let p = bit_of_everything();
    let trace = p.traced("check -j4");
    trace.assert_sound(4);
    let middle = trace
        .units()
        .find(|unit| unit.package == "middle" && unit.mode == "check");
    assert!(middle.unwrap().waited_for.metadata.is_empty());
}

#[cargo_test]
fn nothing_to_do_is_all_fresh() {
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
fn keep_going_builds_what_does_not_need_the_failure() {
    let p = bit_of_everything();
    p.change_file(
        "both/src/lib.rs",
        "pub fn both() -> u32 { base::missing() }",
    );
    p.cargo("build --keep-going -j2")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .with_status(101)
        .with_stderr_data(cargo_test_support::str![[r#"
...
[ERROR] could not compile `both` (lib) due to 1 previous error
...
"#]])
        .run();
    let trace = p.trace();
    assert_eq!(trace.lib("both").outcome, Some(Outcome::Failed));
    assert_eq!(trace.lib("both").all, None);
    for package in ["middle", "derive"] {
        assert_eq!(trace.lib(package).outcome, Some(Outcome::Done));
    }
    assert!(trace.units().all(|unit| unit.package != "app"));
}
