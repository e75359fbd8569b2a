//! The replacement cargo, `xtask`, and what they leave behind.

pub mod build_trace;
#[cfg(target_os = "linux")]
pub mod control_group;
#[cfg(target_os = "linux")]
pub mod cutoff;
#[cfg(target_os = "linux")]
pub mod gated;
#[cfg(target_os = "linux")]
pub mod pausing;
#[cfg(target_os = "linux")]
pub mod programs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};

pub use build_trace::BuildTrace;

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The replacement cargo. Builds it unless the environment names one.
pub fn replacement() -> &'static Path {
    static REPLACEMENT: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = std::env::var_os("PIPELINED_CARGO") {
            return path.into();
        }
        eprintln!("building the replacement cargo, once: `cargo xtask build`");
        let output = Command::new(xtask())
            .arg("build")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "`cargo xtask build` failed");
        let stdout = String::from_utf8(output.stdout).unwrap();
        stdout.lines().last().unwrap().into()
    });
    &REPLACEMENT
}

/// The binary behind `cargo xtask`.
pub fn xtask() -> &'static Path {
    static XTASK: LazyLock<PathBuf> = LazyLock::new(|| executable_of(&["--package", "xtask"]));
    &XTASK
}

/// An executable of this workspace, which is built first.
pub fn executable_of(selection: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
        ])
        .args(selection)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{selection:?} does not build");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let executable = stdout.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.expect("cargo says where it is")
}

/// Runs the replacement in a project.
pub trait ProjectExt {
    /// `cargo LINE` with the replacement. Arguments are separated by spaces.
    fn cargo(&self, line: &str) -> Execs;

    /// `cargo LINE`, which must succeed, and its trace.
    fn traced(&self, line: &str) -> BuildTrace;

    /// The trace that a `cargo` with `CARGO_BUILD_TRACE=trace.json` has left.
    fn trace(&self) -> BuildTrace;
}

impl ProjectExt for Project {
    fn cargo(&self, line: &str) -> Execs {
        let mut execs = self.process(replacement());
        execs.env("CARGO", replacement()).arg_line(line);
        execs
    }

    fn traced(&self, line: &str) -> BuildTrace {
        self.cargo(line)
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        self.trace()
    }

    fn trace(&self) -> BuildTrace {
        BuildTrace::read(&self.root().join("trace.json"))
    }
}
