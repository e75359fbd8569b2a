//! A workspace in which much depends on little, and which of its units a build has made.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use cargo_pipelining::trace::Outcome;
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, project};

use super::gated::walk;
use super::programs::build_script;
use super::{BuildTrace, BuilderExt, ProjectExt};

/// Two libraries below a third, one of them with C source and a generated constant, the other with a
/// procedural macro; and on top a library, two binaries and a test.
pub fn workspace() -> ProjectBuilder {
    let low = "pub fn low() -> i32 { private() }\nfn private() -> i32 { 1 }\nfn unused() {}\n";
    let sys = r#"
        extern "C" { fn native() -> i32; }
        include!(concat!(env!("OUT_DIR"), "/generated.rs"));
        pub fn sys() -> i32 { unsafe { native() + GENERATED } }
    "#;
    let derive = r#"
        #[proc_macro]
        pub fn number(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            "1000".parse().unwrap()
        }
    "#;
    let below_middle =
        "[dependencies]\nlow.path = '../low'\nsys.path = '../sys'\nderive.path = '../derive'";
    project()
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['low', 'sys', 'derive', 'middle', 'top']\nresolver = '2'",
        )
        .lib("low", "", low)
        .lib("sys", "links = 'native'", sys)
        .file("sys/native.c", "int native(void) { return 10; }\n")
        .file("sys/again", "")
        .file("sys/build.rs", &build_script(SYS_SCRIPT))
        .lib("derive", "[lib]\nproc-macro = true", derive)
        .lib(
            "middle",
            below_middle,
            "pub fn middle() -> i32 { low::low() + sys::sys() + derive::number!() }",
        )
        .lib(
            "top",
            "[dependencies]\nmiddle.path = '../middle'",
            "pub fn top() -> i32 { middle::middle() }",
        )
        .file(
            "top/src/main.rs",
            "fn main() { println!(\"{}\", top::top()) }",
        )
        .file(
            "top/src/bin/second.rs",
            "fn main() { println!(\"second: {}\", top::top()) }",
        )
        .file(
            "top/tests/it.rs",
            "#[test] fn it() { assert_ne!(top::top(), 0) }",
        )
}

/// The same, after `cargo LINE`.
pub fn built_workspace(line: &str) -> Project {
    let p = workspace().build();
    p.incremental(line).run();
    p
}

const SYS_SCRIPT: &str = r#"
    library(&out(), "native");
    std::fs::write(out() + "/generated.rs", "pub const GENERATED: i32 = 100;").unwrap();
    println!("cargo::rustc-link-search=native={}", out());
    println!("cargo::rustc-link-lib=static=native");
    println!("cargo::rerun-if-changed=native.c");
    println!("cargo::rerun-if-changed=again");
"#;

pub trait CutoffExt: ProjectExt {
    /// `cargo LINE` with the replacement, and incremental compilation, which tests of Cargo are without. What
    /// was touched is dirty.
    fn incremental(&self, line: &str) -> Execs {
        let mut execs = self.cargo(line);
        execs.env("CARGO_INCREMENTAL", "1");
        execs.env("CARGO_BUILD_FINGERPRINT", "mtime");
        execs
    }

    /// The same. Returns the units that were made, not those that an earlier build had made.
    fn made(&self, line: &str) -> BTreeSet<String> {
        let mut execs = self.incremental(line);
        execs.env("CARGO_BUILD_TRACE", "trace.json").run();
        made(&self.trace())
    }

    /// `cargo LINE` with the cargo that `RELEASED_CARGO` names. Without it, with everything turned off
    /// that the released cargo does not have.
    fn released(&self, line: &str) -> Execs {
        if let Some(released) = std::env::var_os("RELEASED_CARGO") {
            let mut execs = self.project().process(&released);
            execs.env("CARGO", &released).env("CARGO_INCREMENTAL", "1");
            execs.arg_line(line);
            return execs;
        }
        let mut execs = self.incremental(line);
        execs
            .env("CARGO_BUILD_EARLY_CUTOFF", "false")
            .env("CARGO_BUILD_PIPELINING", "metadata")
            .env("CARGO_BUILD_SCHEDULE", "stock");
        execs
    }

    /// Asserts that the released cargo finds nothing to do.
    fn assert_fresh_to_released(&self, line: &str) {
        self.released(&format!("{line} -v"))
            .with_stderr_does_not_contain("[RUNNING][..]")
            .with_stderr_does_not_contain("[DIRTY][..]")
            .run();
    }

    /// Sets the time of a file to now.
    fn touch(&self, path: &str) {
        touch(&self.project().root().join(path));
    }

    /// Returns the files in the target directory whose name begins with `prefix`.
    fn in_target(&self, prefix: &str) -> Vec<PathBuf> {
        let mut found = walk(&self.project().root().join("target"));
        found.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && !path.is_dir()
        });
        found
    }

    /// Asserts that the binaries of [`workspace`] print this number.
    fn assert_prints(&self, number: u32) {
        let run = |bin, expected: String| {
            self.project()
                .process(self.project().bin(bin))
                .with_stdout_data(expected)
                .run();
        };
        run("top", format!("{number}\n"));
        run("second", format!("second: {number}\n"));
    }
}

impl CutoffExt for Project {}

/// Does something with a copy of the project, at the same place. The original keeps its inodes and the
/// times at which its files were changed.
pub fn copied<T>(p: &Project, act: impl FnOnce(&Project) -> T) -> T {
    let aside = p.root().with_file_name("aside");
    fs::rename(p.root(), &aside).unwrap();
    let mut copy = Command::new("cp");
    let copied = copy.arg("-a").args([&aside, &p.root()]).status();
    assert!(copied.unwrap().success());
    let result = act(p);
    fs::remove_dir_all(p.root()).unwrap();
    fs::rename(&aside, p.root()).unwrap();
    result
}

/// Sets the time of a file to now, by the clock of the file system: others run ahead of it.
pub fn touch(path: &Path) {
    fs::write(path, fs::read(path).unwrap()).unwrap();
}

/// Returns the units that a build has made: package, kind of the target, and its name where it differs.
pub fn made(trace: &BuildTrace) -> BTreeSet<String> {
    let units = trace.units();
    let made = units.filter(|unit| unit.outcome == Some(Outcome::Done));
    made.map(|unit| {
        let package = &unit.package;
        match (unit.mode.as_str(), &unit.kind[0]) {
            ("run-custom-build", _) => format!("{package} run"),
            ("build", kind) if unit.target == *package => format!("{package} {kind}"),
            ("build", kind) => format!("{package} {kind} {}", unit.target),
            (mode, _) if unit.target == *package => format!("{package} {mode}"),
            (mode, _) => format!("{package} {mode} {}", unit.target),
        }
    })
    .collect()
}

pub fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
