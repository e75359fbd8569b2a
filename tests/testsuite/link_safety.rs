//! Which processes have the socket of the link gate, what of it can be seen, and how many wait.

use std::collections::BTreeSet;
use std::fs;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder};
use replay::trace::most_at_once;
use serde_json::Value;

use crate::support::ProjectExt;
use crate::support::gated::{
    GatedExt, MAIN, Process, Running, assert_tidy, bin_on_slow, foo, forget, gate, hollow_rlibs,
    processes_in, recording_linker, walk, wrapper,
};
use crate::support::replacement;

fn held_until_released() -> Project {
    bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .executable("own-cc", recording_linker())
        .build()
}

/// Who has a file open, of the processes of the build.
fn holders(p: &Project, file: &str) -> Vec<Process> {
    let mut processes = processes_in(&p.root());
    processes.retain(|process| {
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
            return false;
        };
        open.flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|it| it.as_os_str() == file))
    });
    processes
}

#[cargo_test]
fn only_the_compiler_inherits_the_socket() {
    let p = held_until_released();
    let running = Running::parked(&p, "build", 1);
    let gate = gate(&p.root());
    // A name for the shim and a file: nothing to connect to.
    let kinds = walk(&gate).into_iter().map(|path| {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        (kind.is_dir(), kind.is_file(), kind.is_symlink())
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            (false, false, true),
            (false, true, false),
            (true, false, false)
        ]
    );
    let job = walk(&gate)
        .into_iter()
        .find(|it| it.ends_with("link-gate-job"));
    let job: Value = serde_json::from_slice(&fs::read(job.unwrap()).unwrap()).unwrap();
    let holders = holders(&p, &format!("socket:[{}]", job["inode"]));
    let cargo = running.pid().as_raw_pid();
    assert!(holders.iter().any(Process::is_shim), "{holders:#?}");
    for process in &holders {
        assert!(process.pid == cargo || process.is_of("foo"), "{process:?}");
    }
    assert!(processes_in(&p.root()).iter().any(|it| it.is_of("slow")));
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    running.finish();
    assert_tidy(&p.root());
}

/// The names of the variables in what `env` has written, if nothing in it is about the gate.
#[track_caller]
fn names(environment: &str) -> BTreeSet<String> {
    assert!(!environment.contains("link-gate"), "{environment}");
    assert!(!environment.contains("LINK_GATE"), "{environment}");
    environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !["HOLD", "_", "OLDPWD"].contains(&&**name))
        .collect()
}

#[cargo_test]
fn nothing_about_the_gate_is_in_the_environment() {
    let p = foo(
        "build-dependencies",
        r#"
            [dependencies]
            derive = { path = "derive" }
        "#,
    )
    .file(
        "build.rs",
        r#"fn main() {
            slow::slow();
            let vars = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
            std::fs::write("environment-of-build-script", vars.collect::<String>()).unwrap();
        }"#,
    )
    .file("src/main.rs", "derive::nothing!(); fn main() {}")
    .file(
        "derive/Cargo.toml",
        r#"
            [package]
            name = "derive"
            version = "0.1.0"
            edition = "2021"

            [lib]
            proc-macro = true

            [dependencies]
            slow = { path = "../slow" }
        "#,
    )
    .file(
        "derive/src/lib.rs",
        r#"
            #[proc_macro]
            pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                slow::slow();
                let vars = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
                std::fs::write("environment-of-proc-macro", vars.collect::<String>()).unwrap();
                proc_macro::TokenStream::new()
            }
        "#,
    )
    .executable(
        "wrapper",
        &wrapper("parked 1", "env >\"environment-of-rustc-$name\""),
    )
    .executable(
        "own-cc",
        "#!/bin/sh\nenv >environment-of-linker\nexec cc \"$@\"\n",
    )
    .build();
    let seen = |mode| {
        forget(&p);
        let mut cargo = p.held("build");
        cargo
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("RUSTFLAGS", "-Clinker=./own-cc")
            .env("HOLD", if mode == "link" { "1" } else { "" })
            .run();
        [
            "build-script",
            "proc-macro",
            "rustc-foo",
            "rustc-derive",
            "rustc-build_script_build",
            "linker",
        ]
        .map(|whose| {
            (
                whose,
                names(&p.read_file(format!("environment-of-{whose}"))),
            )
        })
    };
    let metadata = seen("metadata");
    let link = seen("link");
    assert_ne!(p.trace().parked(), 0);
    assert_eq!(metadata, link);
}

/// What the linker has of the process that it was: open files, signals, and where it is.
#[cargo_test]
fn the_linker_inherits_what_it_would_otherwise() {
    let p = bin_on_slow()
        .executable(
            "own-cc",
            r#"#!/bin/sh
pwd >inherited
umask >>inherited
ulimit -a >>inherited
grep -E '^(SigIgn|NoNewPrivs)' /proc/self/status >>inherited
for file in /proc/$$/fd/*; do readlink $file; done | sed 's/:.*//' | grep -v -e inherited -e own-cc | sort >>inherited
exec cc "$@"
"#,
        )
        .build();
    let inherited = |mode| {
        forget(&p);
        p.held("build")
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("RUSTFLAGS", "-Clinker=./own-cc")
            .env("HOLD", if mode == "link" { "1" } else { "" })
            .run();
        p.read_file("inherited")
    };
    let metadata = inherited("metadata");
    assert!(metadata.contains("SigIgn") && metadata.contains("pipe"));
    assert_eq!(inherited("link"), metadata);
    assert_eq!(p.trace().parked(), 1);
}

fn eight_binaries() -> ProjectBuilder {
    (1..=8).fold(foo("dependencies", ""), |p, number| {
        p.file(format!("src/bin/b{number}.rs"), MAIN)
    })
}

/// The greatest number of units that are early at a time: begun, not all that they link there.
fn most_early(p: &Project) -> usize {
    let trace = p.trace();
    let early = trace.units().filter(|unit| unit.parked.is_some());
    most_at_once(early.map(|unit| (unit.began, unit.linking)))
}

#[cargo_test]
fn two_for_each_job_and_no_more() {
    let p = eight_binaries()
        .executable("wrapper", &wrapper("parked 4", ""))
        .build();
    p.held("build -j2").run();
    let trace = p.trace();
    trace.assert_sound(2);
    assert_eq!(trace.units().count(), 9);
    assert_eq!(most_early(&p), 4);
    let all = trace.lib("slow").all.unwrap();
    let began = trace
        .units()
        .filter(|unit| unit.kind == ["bin"] && unit.began < all);
    assert_eq!(began.count(), 4);
    assert_tidy(&p.root());
}

#[cargo_test]
fn the_bound_grows_with_the_jobs() {
    let p = eight_binaries()
        .executable("wrapper", &wrapper("parked 6", ""))
        .build();
    p.held("build -j3").run();
    p.trace().assert_sound(3);
    assert_eq!(most_early(&p), 6);
    forget(&p);
    p.change_file("wrapper", &wrapper("parked 8", ""));
    p.held("build -j4").run();
    p.trace().assert_sound(4);
    assert_eq!(most_early(&p), 8);
}

#[cargo_test]
fn a_cargo_that_is_a_symlink_is_no_shim() {
    let p = bin_on_slow().build();
    p.symlink(replacement(), "own-cargo");
    let version = |execs: &mut Execs| execs.arg("--version").run().stdout;
    let own = version(&mut p.process(p.root().join("own-cargo")));
    assert_eq!(own, version(&mut p.process(replacement())));
}
