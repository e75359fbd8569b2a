//! `build.trace`.

use cargo_test_support::prelude::*;
use cargo_test_support::{Project, str};
use serde_json::Value;

use crate::support::{BuilderExt, ExecsExt, ProjectExt, empty_bin};

fn foo() -> Project {
    empty_bin("foo").build()
}

#[cargo_test]
fn fields_of_a_trace() {
    let p = foo();
    p.traced("build");
    let mut events: Vec<Value> = serde_json::from_str(&p.read_file("trace.json")).unwrap();
    let mut last = 0;
    for event in &mut events {
        let ts = event["ts"].as_u64().unwrap();
        assert!(ts >= last, "time goes back: {event}");
        last = ts;
        event["ts"] = 0.into();
    }
    let lines: Vec<String> = events.iter().map(|event| event.to_string()).collect();
    snapbox::assert_data_eq!(
        lines.join("\n"),
        str![[r#"
{"args":{"name":"slot 1"},"name":"thread_name","ph":"M","pid":1,"tid":1,"ts":0}
{"args":{"job":0,"kind":["bin"],"mode":"build","package":"foo","target":"foo","unit":0,"version":"0.5.0","waited_for":{"all":[],"all_to_link":[],"metadata":[]}},"cat":"unit","name":"foo v0.5.0","ph":"B","pid":1,"tid":1,"ts":0}
{"args":{"job":0,"unit":0},"cat":"phase","name":"compile","ph":"B","pid":1,"tid":1,"ts":0}
{"args":{"tokens":1},"cat":"tokens","name":"tokens in use","ph":"C","pid":1,"tid":1,"ts":0}
{"args":{"job":0,"unit":0},"cat":"phase","name":"compile","ph":"E","pid":1,"tid":1,"ts":0}
{"args":{"job":0,"unit":0},"cat":"artifact","name":"all","ph":"i","pid":1,"s":"t","tid":1,"ts":0}
{"args":{"job":0,"outcome":"done","unit":0},"cat":"unit","name":"foo v0.5.0","ph":"E","pid":1,"tid":1,"ts":0}
{"args":{"tokens":0},"cat":"tokens","name":"tokens in use","ph":"C","pid":1,"tid":1,"ts":0}
"#]]
    );
}

#[cargo_test]
fn relative_path_is_resolved() {
    let p = foo();
    p.change_file(".cargo/config.toml", "build.trace = 'made/by/file.json'");
    p.cargo("build").cwd(p.root().join("src")).run();
    assert!(p.root().join("made/by/file.json").exists());
    p.cargo("build")
        .cwd(p.root().join("src"))
        .env("CARGO_BUILD_TRACE", "by-environment.json")
        .run();
    assert!(p.root().join("src/by-environment.json").exists());
}

#[cargo_test]
fn path_that_cannot_be_written() {
    let p = foo();
    p.cargo("build")
        .env("CARGO_BUILD_TRACE", "src")
        .fails(str![[r#"
[ERROR] failed to create `[ROOT]/foo/src`, set by `build.trace`

Caused by:
  Is a directory (os error 21)

"#]]);
    assert!(!p.bin("foo").exists());
}

#[cargo_test]
fn no_trace_by_default() {
    let p = foo();
    p.cargo("build").run();
    let mut entries: Vec<_> = std::fs::read_dir(p.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    assert_eq!(entries, ["Cargo.lock", "Cargo.toml", "src", "target"]);
}

#[cargo_test]
fn inner_cargo_leaves_the_trace_alone() {
    let p = empty_bin("foo")
        .file(
            "build.rs",
            r#"
                fn main() {
                    let cargo = std::env::var_os("CARGO").unwrap();
                    let inner = std::process::Command::new(cargo)
                        .args(["build", "--target-dir", "target/inner"])
                        .current_dir("inner")
                        .env("CARGO_BUILD_TRACE", std::env::var_os("OUTER_TRACE").unwrap())
                        .output()
                        .unwrap();
                    assert!(inner.status.success(), "{inner:?}");
                    let stderr = String::from_utf8(inner.stderr).unwrap();
                    let warning = "another cargo is writing to it";
                    assert!(stderr.contains(warning), "{stderr}");
                }
            "#,
        )
        .bin("inner", "[workspace]", "fn main() {}")
        .build();
    let trace = p.root().join("trace.json");
    p.cargo("build")
        .env("CARGO_BUILD_TRACE", &trace)
        .env("OUTER_TRACE", &trace)
        .run();
    let trace = p.trace();
    trace.assert_sound(u64::MAX);
    assert!(trace.units().all(|unit| unit.package == "foo"));
}

#[cargo_test]
fn empty_path() {
    let p = foo();
    p.cargo("build")
        .env("CARGO_BUILD_TRACE", "")
        .fails(str![[r#"
[ERROR] the path of the trace is set to an empty string in environment variable `CARGO_BUILD_TRACE`

"#]]);
}

#[cfg(unix)]
#[cargo_test]
fn named_pipe_and_null_device() {
    let p = foo();
    crate::support::mkfifo(&p, "pipe");
    p.cargo("build")
        .env("CARGO_BUILD_TRACE", "pipe")
        .fails(str![[r#"
[ERROR] failed to create `[ROOT]/foo/pipe`, set by `build.trace`

Caused by:
  not a regular file

"#]]);
    p.cargo("build").env("CARGO_BUILD_TRACE", "/dev/null").run();
    assert!(p.bin("foo").exists());
}
