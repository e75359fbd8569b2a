//! Target directories of all kinds, and the limit of descriptors.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};

use crate::link_faults::assert_fails;
use crate::support::gated::{
    GatedExt, MAIN, Output, UNDEFINED, assert_same_output, assert_tidy, bin_on_slow, foo_on_slow,
    wrapper,
};
use crate::support::{BuilderExt, ProjectExt, replacement};

/// Names that a shell or a linker might take apart.
const NAMES: [&str; 4] = ["a target", "it's \"quoted\"", "back\\slash", "ünïcode"];

/// Builds into that directory, early.
#[track_caller]
fn build_into(p: &Project, target: PathBuf) {
    let trace = p.built_by(p.held("build").env("CARGO_TARGET_DIR", &target));
    assert_eq!(trace.parked(), 1);
    let mut program = p.process(target.join("debug/foo"));
    program.with_stdout_data("slow says 1\n").run();
    assert_tidy(&target);
}

#[cargo_test]
fn quoted_deep_and_symlinked_target_directories() {
    let p = bin_on_slow().build();
    for name in NAMES {
        build_into(&p, p.root().join(name));
    }
    let name = "a-name-of-fifty-bytes-and-there-are-a-lot-of-them-";
    let deep = p.root().join([name; 20].join("/"));
    assert!(deep.as_os_str().len() > 1000);
    build_into(&p, deep);
    fs::create_dir(p.root().join("elsewhere")).unwrap();
    p.symlink("elsewhere", "link");
    build_into(&p, p.root().join("link"));
}

#[cargo_test]
fn link_error_in_quoted_target_directory() {
    let p = bin_on_slow().file("src/main.rs", UNDEFINED).build();
    for name in NAMES {
        let target = p.root().join(name);
        let output = assert_fails(&p, "build", 1, |cargo| {
            target.rm_rf();
            cargo.env("CARGO_TARGET_DIR", &target)
        });
        assert_eq!(output.count("error: linking with `cc` failed"), 1);
    }
}

#[cargo_test]
fn target_directory_that_is_not_utf8() {
    let p = bin_on_slow().build();
    // Whether anything parks is not the question.
    p.change_file("wrapper", &wrapper("true", ""));
    let mut name = p.root().into_os_string().into_vec();
    name.extend(b"/t\xff");
    let target = PathBuf::from(std::ffi::OsString::from_vec(name));
    assert_same_output(&p, "build", |cargo| {
        let _ = fs::remove_dir_all(&target);
        cargo.env("CARGO_TARGET_DIR", &target)
    });
    assert_tidy(&target);
}

/// Root can write anywhere, unless it gives that up.
fn without_privileges(p: &Project, line: &str) -> Execs {
    let mut execs = if rustix::process::geteuid().is_root() {
        let mut execs = p.process("setpriv");
        execs
            .arg("--bounding-set=-dac_override,-dac_read_search,-fowner")
            .arg(replacement());
        execs
    } else {
        p.process(replacement())
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
fn target_directory_without_place_for_gate() {
    let test = "#[test] fn one() { assert_eq!(slow::slow(), 1); }";
    let p = foo_on_slow("").file("src/lib.rs", test).build();
    let line = "test --lib --no-run";
    p.cargo(line).run();
    p.change_file("slow/src/lib.rs", "pub fn slow() -> u32 { 0 + 1 }");
    let dir = p.build_dir().join("debug");
    let set = |mode| fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    set(0o555);
    let output = Output::of(&without_privileges(&p, line).run());
    set(0o755);
    for word in ["warning", "error", "link gate"] {
        assert_eq!(output.count(word), 0, "{output:#?}");
    }
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.units().count(), 2);
    assert_eq!(trace.parked(), 0);
    p.cargo("test --lib").run();
}

#[cargo_test]
fn read_only_target_directory() {
    let p = bin_on_slow().build();
    for dir in ["", "debug", "debug/deps"] {
        let outputs = ["metadata", "link"].map(|mode| {
            p.build_dir().rm_rf();
            p.cargo("build").run();
            p.change_file("src/main.rs", &format!("{MAIN} // {mode} {dir:?}"));
            let lib = format!("pub fn slow() -> u32 {{ 1 }} // {mode}");
            p.change_file("slow/src/lib.rs", &lib);
            let read_only = p.build_dir().join(dir);
            let set = |mode| fs::set_permissions(&read_only, PermissionsExt::from_mode(mode));
            set(0o555).unwrap();
            let mut cargo = without_privileges(&p, "build");
            cargo.env("CARGO_BUILD_PIPELINING", mode).without_status();
            let mut output = Output::of(&cargo.run());
            set(0o755).unwrap();
            let is_about_jobs = |line: &String| line.contains("waiting for other jobs to finish");
            output.stderr.retain(|line| !is_about_jobs(line));
            output
        });
        let [metadata, link] = outputs;
        link.assert_equals(&metadata);
        if dir == "debug/deps" {
            assert_eq!(link.status, Some(101));
        }
        assert_tidy(&p.root());
    }
}

#[cargo_test]
fn few_descriptors() {
    let bins = 40;
    let mut p = foo_on_slow("").wrapper("sleep 1", "");
    for number in 0..bins {
        p = p.file(format!("src/bin/b{number}.rs"), MAIN);
    }
    let p = p.build();
    let limited = "ulimit -n $((112 + $(ls /proc/self/fd | wc -l))); exec \"$0\" \"$@\"";
    let cargo = p.held("build").build_command();
    let mut shell = p.process("sh");
    shell.args(&["-c", limited]).arg(replacement());
    for (name, value) in cargo.get_envs() {
        value.map(|value| shell.env(name.to_str().unwrap(), value));
    }
    shell
        .arg_line("build -j8")
        .env("CARGO_BUILD_JOBS", "8")
        .run();
    let trace = p.trace();
    trace.assert_sound(8);
    assert_eq!(trace.units().count(), bins + 1);
}
