//! Which cargo this is: its channel is that of the toolchain, its version names the series.

use std::path::Path;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};

use crate::support::{ProjectExt, empty_bin, replacement};

/// `cargo LINE` with the cargo of the toolchain on which the replacement was built.
fn released(p: &Project, line: &str) -> Execs {
    let mut execs = p.process(Path::new(env!("CARGO")));
    execs.env("CARGO", env!("CARGO")).arg_line(line);
    execs
}

/// What both cargos print, and whether both succeed, for the same command.
fn assert_alike(p: &Project, line: &str) {
    let outcome = |mut execs: Execs| {
        let output = execs.build_command().output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let is_time = |line: &&str| line.trim_start().starts_with("Finished");
        let lines: Vec<_> = stderr.lines().filter(|line| !is_time(line)).collect();
        (output.status.code(), lines.join("\n"))
    };
    assert_eq!(
        outcome(p.cargo(line)),
        outcome(released(p, line)),
        "cargo {line}"
    );
}

#[cargo_test]
fn unstable_flags() {
    let p = empty_bin("foo").build();
    for line in [
        "check -Zunstable-options",
        "check -Zno-embed-metadata",
        "check -Zchecksum-freshness",
        "check --artifact-dir out",
        "tree -Zno-such-flag",
    ] {
        assert_alike(&p, line);
    }
}

#[cargo_test]
fn unstable_table_of_a_configuration() {
    let p = empty_bin("foo")
        .file(".cargo/config.toml", "[unstable]\nmtime-on-use = true\n")
        .build();
    assert_alike(&p, "check");
}

#[cargo_test]
fn features_of_a_manifest() {
    let p = empty_bin("foo").build();
    let manifest = p.read_file("Cargo.toml");
    let unstable = format!("cargo-features = ['test-dummy-unstable']\n{manifest}");
    p.change_file("Cargo.toml", &unstable);
    assert_alike(&p, "check");
}

#[cargo_test]
fn version_names_the_series() {
    let version = |flag| {
        let output = std::process::Command::new(replacement()).arg(flag).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let short = version("-V");
    assert!(short.starts_with("cargo 1."), "{short}");
    let ours = concat!("(pipelined-cargo ", env!("CARGO_PKG_VERSION"), ": ");
    assert!(short.contains(ours), "{short}");
    assert!(version("-Vv").starts_with(short.trim_end()));
}
