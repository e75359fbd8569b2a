//! `build.pipelining`: its values, its errors, and that the mode is no part of what is built.

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, project, str};

use crate::support::{BuilderExt, ExecsExt, ProjectExt, assert_everywhere, manifest};

/// A library and a library that uses it.
fn two_libraries() -> Project {
    project()
        .file(
            "Cargo.toml",
            &manifest("foo", "[dependencies]\nbar.path = 'bar'"),
        )
        .file("src/lib.rs", "pub fn foo() -> u32 { bar::bar() }")
        .lib("bar", "", "pub fn bar() -> u32 { 1 }")
        .build()
}

/// Returns true if `foo` waits only for the metadata of `bar` with the given setting.
fn waits_for_metadata(p: &Project, set: &dyn Fn(&mut Execs)) -> bool {
    p.build_dir().rm_rf();
    let mut execs = p.cargo("build");
    execs.env("CARGO_BUILD_TRACE", "trace.json");
    set(&mut execs);
    execs.run();
    let trace = p.trace();
    trace.assert_sound(u64::MAX);
    let dependent = trace.lib("foo");
    let needs = dependent.waited_for.metadata.len() + dependent.waited_for.all.len();
    assert_eq!(needs, 1);
    dependent.waited_for.metadata.len() == 1
}

#[cargo_test]
fn every_value_everywhere() {
    let p = two_libraries();
    assert!(waits_for_metadata(&p, &|_| {}));
    let key = ("build.pipelining", "CARGO_BUILD_PIPELINING");
    for value in [
        ("off", false),
        ("metadata", true),
        ("link", true),
        ("true", true),
        ("false", false),
    ] {
        assert_everywhere(&p, key, value, |set| waits_for_metadata(&p, set));
    }
}

#[cargo_test]
fn unknown_mode_is_an_error() {
    let p = two_libraries();
    p.cargo("build")
        .env("CARGO_BUILD_PIPELINING", "fast")
        .fails(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_PIPELINING`: could not load config key `build.pipelining`

Caused by:
  invalid value: string "fast", expected "off", "metadata", "link", true ("link") or false ("off")

"#]]);
    p.cargo("build --config build.pipelining=3").fails(str![[r#"
[ERROR] error in --config cli option: could not load config key `build.pipelining`

Caused by:
  invalid type: integer `3`, expected "off", "metadata", "link", true ("link") or false ("off")

"#]]);
    p.change_file(".cargo/config.toml", "build.pipelining = ['off']");
    p.cargo("build").fails(str![[r#"
[ERROR] error in [ROOT]/foo/.cargo/config.toml: could not load config key `build.pipelining`

Caused by:
  invalid type: sequence, expected "off", "metadata", "link", true ("link") or false ("off")

"#]]);
    assert!(!p.build_dir().exists());
}

#[cargo_test]
fn commands_are_the_same() {
    let p = two_libraries();
    let commands = |mode: &str| {
        p.build_dir().rm_rf();
        let mut cargo = p.cargo("build -v -j1");
        let output = cargo.env("CARGO_BUILD_PIPELINING", mode).run();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines = stderr.lines().filter(|line| line.contains("Running"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines.len(), 2);
        lines
    };
    assert_eq!(commands("off"), commands("metadata"));
    assert_eq!(commands("off"), commands("link"));
}
