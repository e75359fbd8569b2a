//! The replacement cargo, `xtask`, and what they leave behind.

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
#[cfg(target_os = "linux")]
pub mod running;

use std::borrow::{Borrow, BorrowMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, basic_bin_manifest, project};

pub use replay::BuildTrace;

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
    static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
        let format = "--message-format=json-render-diagnostics";
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "xtask", format])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "xtask does not build");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let executable = stdout.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        executable.expect("cargo says where it is")
    });
    &XTASK
}

pub trait ExecsExt: BorrowMut<Execs> {
    /// Runs a command that fails with this stderr.
    #[track_caller]
    fn fails(&mut self, stderr: impl IntoData) {
        let execs = self.borrow_mut();
        execs.with_status(101).with_stderr_data(stderr).run();
    }
}

impl ExecsExt for Execs {}

/// The manifest of a package; `rest` follows the table `package`.
pub fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = '{name}'\nversion = '0.1.0'\nedition = '2021'\n{rest}")
}

/// A binary that does nothing.
pub fn empty_bin(name: &str) -> ProjectBuilder {
    project()
        .file("Cargo.toml", &basic_bin_manifest(name))
        .file("src/main.rs", "fn main() {}")
}

/// Asserts that a setting has an effect in the environment, as an argument and in a file.
#[track_caller]
pub fn assert_everywhere(
    p: &Project,
    (key, variable): (&str, &str),
    (value, expected): (&str, bool),
    has_effect: impl Fn(&dyn Fn(&mut Execs)) -> bool,
) {
    let environment = has_effect(&|cargo| {
        cargo.env(variable, value);
    });
    assert_eq!(environment, expected, "{value} in the environment");
    let toml = match value.parse::<bool>() {
        Ok(value) => format!("{key}={value}"),
        Err(_) => format!("{key}={value:?}"),
    };
    let argument = has_effect(&|cargo| {
        cargo.arg("--config").arg(&toml);
    });
    assert_eq!(argument, expected, "{toml} as an argument");
    p.change_file(".cargo/config.toml", &toml);
    let file = has_effect(&|_| {});
    assert_eq!(file, expected, "{toml} in a file");
    p.change_file(".cargo/config.toml", "");
}

/// Makes a named pipe in a project.
#[cfg(unix)]
pub fn mkfifo(p: &Project, name: &str) -> PathBuf {
    let path = p.root().join(name);
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

pub trait BuilderExt: Into<ProjectBuilder> {
    /// Adds the manifest of a package in a directory of its name; `rest` follows in it.
    fn package(self, name: &str, rest: &str) -> ProjectBuilder {
        let path = format!("{name}/Cargo.toml");
        self.into().file(path, &manifest(name, rest))
    }

    /// The same, with a library.
    fn lib(self, name: &str, rest: &str, code: &str) -> ProjectBuilder {
        let path = format!("{name}/src/lib.rs");
        self.package(name, rest).file(path, code)
    }

    /// The same, with a binary.
    fn bin(self, name: &str, rest: &str, code: &str) -> ProjectBuilder {
        let path = format!("{name}/src/main.rs");
        self.package(name, rest).file(path, code)
    }

    /// Adds a [wrapper](gated::wrapper), or replaces it.
    #[cfg(target_os = "linux")]
    fn wrapper(self, until: &str, body: &str) -> ProjectBuilder {
        let script = gated::wrapper(until, body);
        self.into().executable("wrapper", &script)
    }
}

impl BuilderExt for ProjectBuilder {}

/// Runs the replacement in a project.
pub trait ProjectExt: Borrow<Project> {
    fn project(&self) -> &Project {
        self.borrow()
    }

    /// `cargo LINE` with the replacement. Arguments are separated by spaces.
    fn cargo(&self, line: &str) -> Execs {
        let mut execs = self.project().process(replacement());
        execs.env("CARGO", replacement()).arg_line(line);
        execs
    }

    /// `cargo LINE`, which must succeed, and its trace.
    fn traced(&self, line: &str) -> BuildTrace {
        self.cargo(line)
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        self.trace()
    }

    /// The trace that a `cargo` with `CARGO_BUILD_TRACE=trace.json` has left.
    fn trace(&self) -> BuildTrace {
        let trace = BuildTrace::read(&self.project().root().join("trace.json")).unwrap();
        trace.assert_phases();
        trace
    }
}

impl ProjectExt for Project {}
