//! Which processes have the socket of the link gate, what of it can be seen, and how many wait.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cargo_test_support::Project;
use cargo_test_support::prelude::*;
use replay::trace::most_at_once;
use serde_json::Value;

use crate::support::gated::{
    GatedExt, MAIN, assert_tidy, bin_on_slow, foo, foo_on_slow, gates, hollow_rlibs, reset, walk,
    wrapper,
};
use crate::support::running::{Process, Running, processes_in};
use crate::support::{BuilderExt, ProjectExt, replacement};

/// Returns the processes of the build that have a file open.
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
    let p = bin_on_slow().wrapper("released", "").build();
    let running = Running::parked(&p, "build", 1);
    let gates = gates(&p.root());
    assert_eq!(gates.len(), 1);
    // A name for the shim and a file: nothing to connect to.
    let files = walk(&gates[0]);
    let mut kinds: Vec<_> = (files.iter())
        .map(|path| {
            let kind = fs::symlink_metadata(path).unwrap().file_type();
            (kind.is_dir(), kind.is_file(), kind.is_symlink())
        })
        .collect();
    kinds.sort_unstable();
    let (link, file, dir) = (
        (false, false, true),
        (false, true, false),
        (true, false, false),
    );
    assert_eq!(kinds, [link, file, dir]);
    let mut files = files.iter();
    let job = files.find(|it| it.ends_with("link-gate-job")).unwrap();
    let job: Value = serde_json::from_slice(&fs::read(job).unwrap()).unwrap();
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
fn environment_does_not_mention_the_gate() {
    let record = |whose: &str| {
        format!(
            r#"slow::slow();
            let vars = std::env::vars().map(|(name, value)| format!("{{name}}={{value}}\n"));
            std::fs::write("environment-of-{whose}", vars.collect::<String>()).unwrap();"#
        )
    };
    let derive = format!(
        "#[proc_macro] pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{
            {}
            proc_macro::TokenStream::new()
        }}",
        record("proc-macro")
    );
    let p = foo(
        "build-dependencies",
        "[dependencies]\nderive.path = 'derive'",
    )
    .file(
        "build.rs",
        &format!("fn main() {{ {} }}", record("build-script")),
    )
    .file("src/main.rs", "derive::nothing!(); fn main() {}")
    .lib(
        "derive",
        "[lib]\nproc-macro = true\n[dependencies]\nslow.path = '../slow'",
        &derive,
    )
    .wrapper("parked 1", "env >\"environment-of-rustc-$name\"")
    .executable(
        "own-cc",
        "#!/bin/sh\nenv >environment-of-linker\nexec cc \"$@\"\n",
    )
    .build();
    let names_in = |mode| {
        reset(&p);
        let mut cargo = p.held_in(mode, "build");
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc").run();
        [
            "build-script",
            "proc-macro",
            "rustc-foo",
            "rustc-derive",
            "rustc-build_script_build",
            "linker",
        ]
        .map(|whose| names(&p.read_file(format!("environment-of-{whose}"))))
    };
    let metadata = names_in("metadata");
    let link = names_in("link");
    assert_ne!(p.trace().parked(), 0);
    assert_eq!(metadata, link);
}

/// The shim becomes the linker: open files, signals, directory and limits are those of mode `metadata`.
#[cargo_test]
fn linker_inherits_the_same() {
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
        reset(&p);
        let mut cargo = p.held_in(mode, "build");
        cargo.env("RUSTFLAGS", "-Clinker=./own-cc").run();
        p.read_file("inherited")
    };
    let metadata = inherited("metadata");
    assert!(metadata.contains("SigIgn") && metadata.contains("pipe"));
    assert_eq!(inherited("link"), metadata);
    assert_eq!(p.trace().parked(), 1);
}

#[cargo_test]
fn two_early_starts_for_each_job() {
    let binaries = 1..=8;
    let p = binaries.fold(foo_on_slow(""), |p, number| {
        p.file(format!("src/bin/b{number}.rs"), MAIN)
    });
    let p = p.build();
    for (jobs, most) in [(2, 4), (3, 6), (4, 8)] {
        reset(&p);
        p.change_file("wrapper", &wrapper(&format!("parked {most}"), ""));
        let trace = p.built(&format!("build -j{jobs}"));
        trace.assert_sound(jobs);
        assert_eq!(trace.units().count(), 9);
        let early = trace.units().filter(|unit| unit.parked().is_some());
        let early = early.map(|unit| (unit.began, unit.linking()));
        assert_eq!(most_at_once(early), most);
    }
}

#[cargo_test]
fn symlinked_cargo_is_no_shim() {
    let p = bin_on_slow().build();
    p.symlink(replacement(), "own-cargo");
    let version = |cargo: &Path| p.process(cargo).arg("--version").run().stdout;
    assert_eq!(version(&p.root().join("own-cargo")), version(replacement()));
}
