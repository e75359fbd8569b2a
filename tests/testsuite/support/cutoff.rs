//! A workspace in which much depends on little, and which of its units a build has made.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_pipelining::trace::Outcome;
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, project};

use super::{BuildTrace, ProjectExt};

/// The manifest of a package.
pub fn package(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}

/// Two libraries below a third, one of them with C source and a generated constant, the other with a
/// procedural macro; and on top a library, two binaries and a test.
pub fn workspace() -> ProjectBuilder {
    project()
        .file(
            "Cargo.toml",
            r#"
                [workspace]
                members = ["low", "sys", "derive", "middle", "top"]
                resolver = "2"
            "#,
        )
        .file("low/Cargo.toml", &package("low", ""))
        .file(
            "low/src/lib.rs",
            "pub fn low() -> i32 { private() }\nfn private() -> i32 { 1 }\nfn unused() {}\n",
        )
        .file("sys/Cargo.toml", &package("sys", "links = \"native\""))
        .file("sys/native.c", "int native(void) { return 10; }\n")
        .file("sys/again", "")
        .file("sys/build.rs", SYS_SCRIPT)
        .file(
            "sys/src/lib.rs",
            r#"
                extern "C" { fn native() -> i32; }
                include!(concat!(env!("OUT_DIR"), "/generated.rs"));
                pub fn sys() -> i32 { unsafe { native() + GENERATED } }
            "#,
        )
        .file(
            "derive/Cargo.toml",
            &package("derive", "[lib]\nproc-macro = true"),
        )
        .file(
            "derive/src/lib.rs",
            r#"
                #[proc_macro]
                pub fn number(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                    "1000".parse().unwrap()
                }
            "#,
        )
        .file(
            "middle/Cargo.toml",
            &package(
                "middle",
                "[dependencies]\nlow.path = \"../low\"\nsys.path = \"../sys\"\nderive.path = \"../derive\"",
            ),
        )
        .file(
            "middle/src/lib.rs",
            "pub fn middle() -> i32 { low::low() + sys::sys() + derive::number!() }",
        )
        .file(
            "top/Cargo.toml",
            &package("top", "[dependencies]\nmiddle.path = \"../middle\""),
        )
        .file("top/src/lib.rs", "pub fn top() -> i32 { middle::middle() }")
        .file("top/src/main.rs", "fn main() { println!(\"{}\", top::top()) }")
        .file(
            "top/src/bin/second.rs",
            "fn main() { println!(\"second: {}\", top::top()) }",
        )
        .file(
            "top/tests/it.rs",
            "#[test] fn it() { assert_ne!(top::top(), 0) }",
        )
}

const SYS_SCRIPT: &str = r#"
    use std::path::Path;
    use std::process::Command;

    fn run(command: &mut Command) {
        assert!(command.status().unwrap().success());
    }

    fn main() {
        let out_dir = std::env::var("OUT_DIR").unwrap();
        let (object, library) = (format!("{out_dir}/native.o"), format!("{out_dir}/libnative.a"));
        run(Command::new("cc").args(["-c", "native.c", "-o", &object]));
        let _ = std::fs::remove_file(&library);
        run(Command::new("ar").args(["crsD", &library, &object]));
        let generated = Path::new(&out_dir).join("generated.rs");
        std::fs::write(generated, "pub const GENERATED: i32 = 100;").unwrap();
        println!("cargo::rustc-link-search=native={out_dir}");
        println!("cargo::rustc-link-lib=static=native");
        println!("cargo::rerun-if-changed=native.c");
        println!("cargo::rerun-if-changed=again");
    }
"#;

/// What builds do in a project.
pub trait CutoffExt {
    /// `cargo LINE` with the replacement, and incremental compilation, which tests of Cargo are
    /// without.
    fn incremental(&self, line: &str) -> Execs;

    /// Builds, and says which units were made: not those that an earlier build had made.
    fn made(&self, line: &str) -> BTreeSet<String>;

    /// `cargo LINE` with the cargo that `RELEASED_CARGO` names. Without it, with everything turned off
    /// that the released cargo does not have.
    fn released(&self, line: &str) -> Execs;

    /// Sets the time of a file to now.
    fn touch(&self, path: &str);

    /// Files in the target directory whose name begins so, sorted.
    fn in_target(&self, prefix: &str) -> Vec<PathBuf>;
}

impl CutoffExt for Project {
    fn incremental(&self, line: &str) -> Execs {
        let mut execs = self.cargo(line);
        execs.env("CARGO_INCREMENTAL", "1");
        execs
    }

    fn made(&self, line: &str) -> BTreeSet<String> {
        self.incremental(line)
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        made(&self.trace())
    }

    fn released(&self, line: &str) -> Execs {
        if let Some(released) = std::env::var_os("RELEASED_CARGO") {
            let mut execs = self.process(&released);
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

    fn touch(&self, path: &str) {
        touch(&self.root().join(path));
    }

    fn in_target(&self, prefix: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = walkdir(&self.root().join("target"))
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(prefix)
            })
            .collect();
        found.sort();
        found
    }
}

/// What happens to a copy of the project, at the same place. The original keeps its inodes and the times
/// at which its files were changed.
pub fn copied<T>(p: &Project, what: impl FnOnce(&Project) -> T) -> T {
    let aside = p.root().with_file_name("aside");
    fs::rename(p.root(), &aside).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([&aside, &p.root()])
        .status();
    assert!(copied.unwrap().success());
    let result = what(p);
    fs::remove_dir_all(p.root()).unwrap();
    fs::rename(&aside, p.root()).unwrap();
    result
}

/// Sets the time of a file to now, by the clock of the file system: others run ahead of it.
pub fn touch(path: &Path) {
    fs::write(path, fs::read(path).unwrap()).unwrap();
}

/// Which units a build has made: package, kind of the target, and what was done with it.
pub fn made(trace: &BuildTrace) -> BTreeSet<String> {
    let made = trace
        .units()
        .filter(|unit| unit.outcome == Some(Outcome::Done));
    made.map(|unit| {
        let what = match unit.mode.as_str() {
            "run-custom-build" => "run",
            "build" => unit.kind[0].as_str(),
            mode => mode,
        };
        match unit.target == unit.package || what == "run" {
            true => format!("{} {what}", unit.package),
            false => format!("{} {what} {}", unit.package, unit.target),
        }
    })
    .collect()
}

fn walkdir(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut unvisited = vec![dir.to_owned()];
    unvisited.retain(|dir| dir.exists());
    while let Some(dir) = unvisited.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => unvisited.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files
}
