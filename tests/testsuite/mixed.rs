//! Libraries that are also a `cdylib` or `staticlib`: their dependents start on the metadata that goes into the
//! rlib.

use std::fs;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, project};

use crate::support::cutoff::CutoffExt;
use crate::support::gated::{NONE, artifacts, assert_tidy, hollow_rlibs};
use crate::support::running::Running;
use crate::support::{BuildTrace, BuilderExt, ProjectExt, manifest};

/// Links `mixed` when `$PARKED` other jobs have parked, after `$BEFORE_LINKING`.
const LINKER: &str = r#"#!/bin/sh
parked() {
    others=$(grep '"name":"parked".*"ph":"B"' "$CARGO_BUILD_TRACE" | grep -vc "\"job\":$job,")
    [ "$others" -ge "$PARKED" ]
}
case "$*" in *libmixed.so*)
    if [ -n "$PARKED" ]; then
        # It may itself have parked, if `base` was slow.
        job=$(sed -n 's/.*"name":"mixed v.*"job":\([0-9]*\),.*/\1/p' "$CARGO_BUILD_TRACE" | head -n 1)
        for i in $(seq 1200); do parked && break; sleep 0.05; done
        parked || { echo "the linker waited in vain" >&2; exit 1; }
        eval "$BEFORE_LINKING"
    fi
esac
exec cc "$@"
"#;

/// `app`, a binary, on `over` on `user` on `mixed` on `base`, all libraries.
fn app_on_mixed(crate_types: &str) -> ProjectBuilder {
    let mixed = "pub fn generic<T: Default>() -> T { T::default() }
        #[unsafe(no_mangle)] pub extern \"C\" fn mixed() -> u32 { base::base() + 1 }";
    project()
        .file(
            "Cargo.toml",
            &manifest("app", "[dependencies]\nover.path = 'over'\n[workspace]"),
        )
        .file(
            "src/main.rs",
            "fn main() { println!(\"{}\", over::over()); }",
        )
        .lib(
            "over",
            "[dependencies]\nuser.path = '../user'",
            "pub fn over() -> u32 { user::user() * 10 }",
        )
        .lib(
            "user",
            "[dependencies]\nmixed.path = '../mixed'",
            "pub fn user() -> u32 { mixed::mixed() + mixed::generic::<u32>() }",
        )
        .lib(
            "mixed",
            &format!("[lib]\ncrate-type = {crate_types}\n[dependencies]\nbase.path = '../base'"),
            mixed,
        )
        .lib("base", "", "pub fn base() -> u32 { 3 }")
        .executable("linker", LINKER)
}

trait MixedExt: ProjectExt {
    /// `cargo LINE` with four jobs, where `mixed` is linked when this many jobs have parked.
    fn until_parked(&self, count: usize, line: &str) -> Execs {
        let p = self.project();
        let mut execs = self.with_linker(self.cargo(line));
        execs
            .env("CARGO_BUILD_JOBS", "4")
            .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
            .env("PARKED", count.to_string());
        execs
    }

    /// With that linker, so that nothing is rebuilt because of another.
    fn with_linker(&self, mut execs: Execs) -> Execs {
        let host = cargo_test_support::rustc_host()
            .to_uppercase()
            .replace('-', "_");
        let linker = self.project().root().join("linker");
        execs.env(&format!("CARGO_TARGET_{host}_LINKER"), linker);
        execs.env("CARGO_INCREMENTAL", "0");
        execs
    }

    fn prints(&self, expected: &str) {
        let p = self.project();
        p.process(p.bin("app"))
            .with_stdout_data(format!("{expected}\n"))
            .run();
    }
}

impl MixedExt for Project {}

/// Returns the packages of the units that a package's library waited for to end, and to start.
fn waited_for(trace: &BuildTrace, package: &str) -> [Vec<String>; 2] {
    let unit = trace.lib(package);
    let waited = &unit.waited_for;
    [&waited.all_to_link, &waited.all].map(|units| {
        let names = units.iter().map(|id| trace.unit(*id).package.clone());
        names.collect()
    })
}

/// `app`, `over` and `user` have compiled when `mixed` has not.
#[cargo_test]
fn dependents_start_on_its_metadata() {
    for crate_types in ["['rlib', 'cdylib']", "['cdylib', 'lib']"] {
        let p = app_on_mixed(crate_types).build();
        p.until_parked(3, "build").run();
        assert_tidy(&p.root());
        let trace = p.trace();
        trace.assert_sound(4);
        let mixed = trace.lib("mixed");
        let all = mixed.all.unwrap();
        for unit in [trace.lib("user"), trace.lib("over"), trace.bin("app")] {
            assert!(mixed.metadata.unwrap() < unit.began, "{unit:#?}");
            assert!(unit.parked().unwrap() < all, "{unit:#?}");
            assert!(all < unit.linking().unwrap(), "{unit:#?}");
            assert_eq!(unit.outcome, Some(Outcome::Done));
        }
        assert_eq!(waited_for(&trace, "user"), [vec!["mixed"], vec![]]);
        p.prints("40");
        // What is newer than what it depends on is fresh to both cargos.
        let line = "build";
        let mut released = p.with_linker(p.released("build -v"));
        released
            .with_stderr_does_not_contain("[RUNNING][..]")
            .with_stderr_does_not_contain("[DIRTY][..]")
            .run();
        let mut ours = p.with_linker(p.cargo(line));
        ours.env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
            .run();
        for unit in p.trace().units() {
            assert_eq!(unit.phases, [Phase::Replay], "{unit:#?}");
        }
        ours.env("CARGO_BUILD_FINGERPRINT", "mtime").run();
        for unit in p.trace().units() {
            assert_eq!(unit.phases, [Phase::Replay], "{unit:#?}");
        }
    }
}

#[cargo_test]
fn outputs_are_the_same() {
    for crate_types in [
        "['rlib', 'cdylib']",
        "['lib', 'staticlib']",
        "['rlib', 'cdylib', 'staticlib']",
        "['rlib', 'dylib']",
    ] {
        for profile in ["dev", "release"] {
            let p = app_on_mixed(crate_types).build();
            let line = format!("build --profile {profile}");
            let built = |execs: Execs| {
                p.build_dir().rm_rf();
                p.with_linker(execs).run();
                assert_tidy(&p.root());
                artifacts(&p.build_dir())
            };
            let expected = built(p.released(&line));
            let actual = built(p.incremental(&line));
            assert!(actual.keys().eq(expected.keys()), "{:?}", actual.keys());
            for (path, content) in expected {
                assert!(actual[&path] == content, "{} differs", path.display());
            }
        }
    }
}

#[cargo_test]
fn who_waits_to_start() {
    for (crate_types, expected) in [
        ("['rlib', 'staticlib']", [vec!["mixed"], vec![]]),
        // It may be loaded.
        ("['rlib', 'dylib']", [vec![], vec!["mixed"]]),
    ] {
        let p = app_on_mixed(crate_types).build();
        let trace = p.traced("build");
        assert_eq!(waited_for(&trace, "user"), expected, "{crate_types}");
        p.prints("40");
    }
    let p = app_on_mixed("['rlib', 'cdylib']").build();
    for (variable, value) in [
        ("CARGO_BUILD_PIPELINING", "metadata"),
        ("RUSTC_WRAPPER", "/usr/bin/env"),
    ] {
        p.build_dir().rm_rf();
        let mut execs = p.cargo("build");
        execs
            .env(variable, value)
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        assert_eq!(waited_for(&p.trace(), "user"), [vec![], vec!["mixed"]]);
    }
}

/// A script in the place of rustc, whose child's metadata is not found.
#[cargo_test]
fn compiler_that_is_a_script() {
    let p = app_on_mixed("['rlib', 'cdylib']")
        .executable("rustc", "#!/bin/sh\nrustc \"$@\"\nexit $?\n")
        .build();
    let mut execs = p.cargo("build");
    execs
        .env("RUSTC", p.root().join("rustc"))
        .env("CARGO_BUILD_TRACE", "trace.json")
        .run();
    let trace = p.trace();
    assert_eq!(trace.lib("mixed").metadata, None);
    assert!(trace.lib("mixed").all.unwrap() < trace.lib("user").began);
    p.prints("40");
}

#[cargo_test]
fn it_cannot_be_linked() {
    let p = app_on_mixed("['rlib', 'cdylib']").build();
    let mut execs = p.until_parked(3, "build");
    let output = execs.env("BEFORE_LINKING", "exit 1").without_status().run();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr.matches("error: could not compile").count(),
        1,
        "{stderr}"
    );
    assert!(
        stderr.contains("error: could not compile `mixed` (lib)"),
        "{stderr}"
    );
    assert_tidy(&p.root());
    for unit in ["user", "over"] {
        assert_eq!(p.trace().lib(unit).outcome, Some(Outcome::Aborted));
    }
    // Everything but `base` is made again.
    let mut again = p.with_linker(p.cargo("build"));
    again.env("CARGO_BUILD_TRACE", "trace.json").run();
    for unit in ["mixed", "user", "over"] {
        assert_eq!(p.trace().lib(unit).outcome, Some(Outcome::Done));
    }
    p.prints("40");
}

#[cargo_test]
fn dependent_has_an_error() {
    let p = app_on_mixed("['rlib', 'cdylib']").build();
    let right = p.read_file("user/src/lib.rs");
    p.change_file(
        "user/src/lib.rs",
        "pub fn user() -> u32 { mixed::missing() }",
    );
    let mut execs = p.with_linker(p.cargo("build"));
    execs
        .with_status(101)
        .with_stderr_contains("[..]could not compile `user`[..]")
        .run();
    assert_tidy(&p.root());
    p.change_file("user/src/lib.rs", &right);
    p.with_linker(p.cargo("build")).run();
    p.prints("40");
}

/// All that was hollow is made again after cargo was killed, by either cargo.
#[cargo_test]
fn killed_cargo() {
    for by_released in [true, false] {
        let p = app_on_mixed("['cdylib', 'rlib']").build();
        // More than there are: it never links.
        let mut execs = p.until_parked(100, "build");
        let mut running = Running::start(&p, &mut execs);
        running.await_parked(3);
        assert_ne!(hollow_rlibs(&p.root()), NONE);
        running.kill(true, rustix::process::Signal::KILL);
        running.wait();
        let next = if by_released {
            p.released("build")
        } else {
            p.incremental("build")
        };
        p.with_linker(next).run();
        assert_eq!(hollow_rlibs(&p.root()), NONE);
        p.prints("40");
    }
}

/// What it prints after an edit is what the released cargo's prints, whatever is left as it is.
#[cargo_test]
fn edits_reach_the_program() {
    let p = app_on_mixed("['rlib', 'cdylib']").build();
    let build = || p.with_linker(p.incremental("build")).run();
    build();
    p.prints("40");
    for (file, from, to, expected) in [
        ("base/src/lib.rs", "{ 3 }", "{ 4 }", "50"),
        ("mixed/src/lib.rs", "+ 1", "+ 2", "60"),
        (
            "mixed/src/lib.rs",
            "T::default()",
            "{ let it = T::default(); it }",
            "60",
        ),
        (
            "user/src/lib.rs",
            "mixed::mixed()",
            "1 + mixed::mixed()",
            "70",
        ),
        ("base/src/lib.rs", "{ 4 }", "{ 3 }", "60"),
    ] {
        let text = p.read_file(file);
        assert!(text.contains(from));
        fs::write(p.root().join(file), text.replace(from, to)).unwrap();
        build();
        p.prints(expected);
        assert_tidy(&p.root());
        let mut released = p.with_linker(p.released("build -v"));
        released.with_stderr_does_not_contain("[RUNNING][..]").run();
    }
}

/// As a dependency and as a build-dependency it has one file name for two units: the released cargo only warns.
#[cargo_test]
fn two_units_with_one_file() {
    let p = app_on_mixed("['rlib', 'cdylib']")
        .file(
            "Cargo.toml",
            &manifest(
                "app",
                "[dependencies]\nover.path = 'over'\n[build-dependencies]\nmixed.path = 'mixed'\n[workspace]",
            ),
        )
        .file("build.rs", "fn main() { mixed::mixed(); }")
        .build();
    p.cargo("build --release")
        .env("CARGO_BUILD_TRACE", "trace.json")
        .without_status()
        .run();
    // Not early: not on what another unit may replace.
    assert_eq!(waited_for(&p.trace(), "user"), [vec![], vec!["mixed"]]);
}
