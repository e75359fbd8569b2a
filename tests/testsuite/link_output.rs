//! That a build in mode `link` has the same linkers, messages and artifacts as in mode `metadata`.

use std::fs;
use std::process::Command;

use cargo_pipelining::trace::Outcome;
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, rustc_host, rustc_host_env};

use crate::link::{assert_early, is_bin};
use crate::support::gated::{
    GatedExt, MAIN, Output, PROC_MACRO, RECORDING_LINKER, UNDEFINED, artifacts, assert_same_output,
    assert_tidy, bin_on_slow, foo, foo_on_slow, in_both_modes, reset,
};
use crate::support::{BuilderExt, ProjectExt};

/// A binary, and linkers in a directory of their own.
fn with_own_linkers() -> ProjectBuilder {
    bin_on_slow()
        .executable("tools/own-cc", RECORDING_LINKER)
        .executable("tools/other-cc", RECORDING_LINKER)
}

/// Asserts that `foo` is linked early and once, with the linker that links it in mode `metadata`, called by
/// the same name.
#[track_caller]
fn honours(p: &Project, line: &str, linker: &str, set: impl Fn(&mut Execs) -> &mut Execs) {
    let run = |mode| {
        reset(p);
        p.built_by(set(&mut p.held_in(mode, line)));
        p.read_file("linked")
    };
    let expected = run("metadata");
    assert_eq!(expected.lines().count(), 1, "{expected}");
    assert!(expected.starts_with(linker), "not {linker}: {expected}");
    assert_eq!(run("link"), expected);
    assert_early(&p.trace(), is_bin);
    p.run_foo();
}

/// The search path, with the tools of the project before all others.
fn path_with_tools(p: &Project) -> String {
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", p.root().join("tools").display())
}

fn tool(p: &Project, name: &str) -> String {
    let path = p.root().join("tools").join(name);
    path.into_os_string().into_string().unwrap()
}

#[cargo_test]
fn linker_of_configuration_file() {
    let p = with_own_linkers().build();
    let (own, other, host) = (tool(&p, "own-cc"), tool(&p, "other-cc"), rustc_host());
    let target = format!("[target.{host}]\nlinker = \"tools/own-cc\"");
    let build = format!("[build]\nrustflags = [\"-Clinker={own}\"]");
    let both = format!("[target.{host}]\nrustflags = [\"--codegen\", \"linker={other}\"]\n{build}");
    for (toml, linker) in [(target, &own), (build, &own), (both, &other)] {
        p.change_file(".cargo/config.toml", &toml);
        honours(&p, "build", linker, |cargo| cargo);
    }
}

#[cargo_test]
fn linker_of_environment() {
    let p = with_own_linkers().build();
    let (own, other) = (tool(&p, "own-cc"), tool(&p, "other-cc"));
    let key = &*format!("CARGO_TARGET_{}_LINKER", rustc_host_env());
    let rustflags = |flags: String| ("RUSTFLAGS", flags);
    let path = ("PATH", path_with_tools(&p));
    let name = rustflags("-Clinker=own-cc".to_owned());
    let last = rustflags(format!("-Clinker={own} -Clinker={other}"));
    let conflict = rustflags(format!("-Clinker={other}"));
    for (linker, variables) in [
        (&*own, vec![(key, own.clone())]),
        (&own, vec![path, name]),
        (&own, vec![rustflags(format!("-Clinker={own}"))]),
        (&own, vec![rustflags(format!("-C linker={own}"))]),
        (&other, vec![last]),
        // Whichever cargo takes, it is the same.
        ("", vec![(key, own.clone()), conflict]),
    ] {
        honours(&p, "build", linker, |cargo| {
            for (name, value) in &variables {
                cargo.env(name, value);
            }
            cargo
        });
    }
}

#[cargo_test]
fn other_cc_on_search_path() {
    // It must not run itself.
    let which = Command::new("sh").args(["-c", "command -v cc"]).output();
    let real = String::from_utf8(which.unwrap().stdout).unwrap();
    let script = RECORDING_LINKER.replace("exec cc", &format!("exec {}", real.trim()));
    let p = bin_on_slow().executable("tools/cc", &script).build();
    let path = path_with_tools(&p);
    honours(&p, "build", &tool(&p, "cc"), |cargo| {
        cargo.env("PATH", &path)
    });
}

#[cargo_test]
fn linker_in_arguments_of_cargo_rustc() {
    let p = with_own_linkers().build();
    let own = tool(&p, "own-cc");
    let line = format!("rustc --bin foo -- -C linker={own}");
    honours(&p, &line, &own, |cargo| cargo);
}

#[cargo_test]
fn linker_for_a_named_target() {
    let p = with_own_linkers().build();
    let (flags, host) = (format!("-Clinker={}", tool(&p, "own-cc")), rustc_host());
    let mut cargo = p.held("build");
    let trace = p.built_by(cargo.arg("--target").arg(host).env("RUSTFLAGS", &flags));
    assert_early(&trace, is_bin);
    assert_eq!(p.count_lines("linked"), 1);
    let mut program = p.process(p.target_bin(host, "foo"));
    program.with_stdout_data("slow says 1\n").run();
}

#[cargo_test]
fn output_is_compared() {
    // A comparison that always holds would be worth nothing.
    let p = bin_on_slow().build();
    let (metadata, link) = in_both_modes(&p, "build", |cargo| {
        cargo.env("CARGO_LOG", "cargo::compiler::job_queue=debug")
    });
    assert_eq!(metadata.count("link gate: "), 0);
    assert_eq!(link.count("started early"), 1, "{link:#?}");
    assert_ne!(metadata, link);
}

#[cargo_test]
fn commands_and_messages_are_the_same() {
    let p = bin_on_slow().build();
    for line in ["build -v", "build -vv"] {
        let output = assert_same_output(&p, line, |cargo| cargo);
        assert_eq!((output.status, output.count("Running `")), (Some(0), 2));
        assert_eq!(p.trace().parked(), 1);
    }
    p.change_file("src/main.rs", &format!("{MAIN} fn unused() {{}}"));
    let line = "build -v --message-format=json";
    let output = assert_same_output(&p, line, |cargo| cargo);
    assert_eq!(output.status, Some(0));
    let artifacts = output.stdout.iter();
    let artifacts = artifacts.filter(|line| line.contains("compiler-artifact"));
    assert_eq!(artifacts.count(), 2, "{output:#?}");
    assert_eq!(p.trace().parked(), 1);
    let output = assert_same_output(&p, "build", |cargo| cargo);
    assert_eq!(output.count("warning: function `unused` is never used"), 1);
    assert_eq!(p.trace().parked(), 1);
}

/// Returns what cargo prints of `src/main.rs`, which cannot be linked.
#[track_caller]
fn link_error(main: &str, line: &str) -> Output {
    let p = bin_on_slow().file("src/main.rs", main).build();
    let output = assert_same_output(&p, line, |cargo| cargo);
    assert_eq!(output.status, Some(101));
    assert_eq!(p.trace().parked(), 1);
    assert_tidy(&p.root());
    output
}

#[cargo_test]
fn undefined_symbol() {
    let output = link_error(UNDEFINED, "build");
    assert_eq!(output.count("error: linking with `cc` failed"), 1);
    assert_eq!(output.count("  = note:  \"cc\" \""), 1, "{output:#?}");
    assert_ne!(output.count("undefined_symbol"), 0, "{output:#?}");
    assert_eq!(output.count("error: could not compile `foo`"), 1);

    let output = link_error(UNDEFINED, "build -v");
    assert_eq!(output.count("process didn't exit successfully: `"), 1);

    let output = link_error(UNDEFINED, "build --message-format=json");
    let errors = output.stdout.iter();
    let errors = errors.filter(|line| line.contains("linking with `cc` failed"));
    assert_eq!(errors.count(), 1, "{output:#?}");

    let p = with_own_linkers().file("src/main.rs", UNDEFINED).build();
    let own = tool(&p, "own-cc");
    let flags = format!("-Clinker={own}");
    let output = assert_same_output(&p, "build", |cargo| cargo.env("RUSTFLAGS", &flags));
    let message = format!("error: linking with `{own}` failed");
    assert_eq!(output.count(&message), 1);
    assert_eq!(p.trace().parked(), 1);
}

#[cargo_test]
fn missing_native_library() {
    let main = format!("#[link(name = \"nonexistent\")] extern \"C\" {{}} {MAIN}");
    let output = link_error(&main, "build");
    assert_eq!(output.count("error: linking with `cc` failed"), 1);
    assert_ne!(output.count("nonexistent"), 0);
}

#[cargo_test]
fn compile_error_while_the_library_runs() {
    let body = r#"if [ "$name" = foo ]; then "$@"; status=$?; mark foo; exit $status; fi"#;
    let p = bin_on_slow()
        .file("src/main.rs", "fn main() { let one: u8 = slow::slow(); }")
        .wrapper("compiled foo", body)
        .build();
    let output = assert_same_output(&p, "build", |cargo| cargo);
    assert_eq!(output.status, Some(101));
    assert_eq!(output.count("error[E0308]: mismatched types"), 1);
    let trace = p.trace();
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(bin.began < slow.all.unwrap(), "{trace:#?}");
    assert_eq!(bin.outcome, Some(Outcome::Failed));
    assert_eq!(bin.parked(), None);
    assert_tidy(&p.root());

    // `slow` is kept.
    p.change_file("src/main.rs", MAIN);
    let trace = p.traced("build");
    assert_eq!(trace.lib("slow").outcome, Some(Outcome::Fresh));
    p.run_foo();
}

/// A bit of everything that is linked.
fn everything() -> ProjectBuilder {
    let main = r#"fn main() {
        assert_eq!(env!("SAYS"), "1");
        assert_eq!(derive::says!(), 1);
        println!("slow says {}", slow::slow());
    }"#;
    let rest = "derive.path = 'derive'
        [build-dependencies]
        slow.path = 'slow'
        [lib]
        crate-type = ['rlib', 'cdylib']";
    foo("dependencies", rest)
        .file(
            "build.rs",
            "fn main() { println!(\"cargo::rustc-env=SAYS={}\", slow::slow()); }",
        )
        .file(
            "src/lib.rs",
            "#[unsafe(no_mangle)] pub extern \"C\" fn says() -> u32 { slow::slow() }
             #[test] fn one() { assert_eq!(says(), 1); }",
        )
        .file("src/main.rs", main)
        .file(
            "tests/it.rs",
            "#[test] fn one() { assert_eq!(foo::says(), 1); }",
        )
        .file("examples/shown.rs", MAIN)
        .lib(
            "derive",
            "[lib]\nproc-macro = true\n[dependencies]\nslow.path = '../slow'",
            PROC_MACRO,
        )
}

#[cargo_test]
fn artifacts_are_the_same() {
    for profile in ["dev", "release"] {
        let p = everything().build();
        let line = format!("build --all-targets --profile {profile}");
        let built = |mode| {
            reset(&p);
            p.built_by(&mut p.held_in(mode, &line));
            artifacts(&p.build_dir())
        };
        let expected = built("metadata");
        assert!(expected.len() > 10, "{:?}", expected.keys());
        let actual = built("link");
        assert_ne!(p.trace().parked(), 0);
        assert!(actual.keys().eq(expected.keys()), "{:?}", actual.keys());
        for (path, content) in expected {
            assert!(actual[&path] == content, "{} differs", path.display());
        }
    }
}

#[cargo_test]
fn tests_of_everything_pass() {
    let p = everything().build();
    p.held("test --no-run").run();
    assert_ne!(p.trace().parked(), 0);
    p.cargo("test").run();
    assert_tidy(&p.root());
}

/// rustc reads the rlibs once more when they are linked.
#[cargo_test]
fn packed_debuginfo_is_the_same() {
    let p = foo_on_slow("[profile.dev]\nsplit-debuginfo = 'packed'")
        .file("src/main.rs", MAIN)
        .build();
    let packed = |mode| {
        reset(&p);
        p.held_in(mode, "build").run();
        fs::read(p.build_dir().join("debug/foo.dwp")).unwrap()
    };
    let expected = packed("metadata");
    assert!(packed("link") == expected, "the packages differ");
    assert_eq!(p.trace().parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn new_library_replaces_the_old_one() {
    for incremental in ["0", "1"] {
        let p = bin_on_slow().build();
        for says in ["1", "2", "3"] {
            let lib = format!("pub fn slow() -> u32 {{ {says} }}");
            p.change_file("slow/src/lib.rs", &lib);
            let trace = p.built_by(p.held("build").env("CARGO_INCREMENTAL", incremental));
            assert_early(&trace, is_bin);
            let mut program = p.process(p.bin("foo"));
            program
                .with_stdout_data(format!("slow says {says}\n"))
                .run();
        }
    }
}

#[cargo_test]
fn further_emitted_files_are_the_same() {
    let p = bin_on_slow().build();
    let line = "rustc --bin foo -- --emit=asm,llvm-ir";
    let output = assert_same_output(&p, line, |cargo| cargo);
    assert_eq!(output.status, Some(0));
    assert_eq!(p.trace().parked(), 1);
    p.run_foo();
}
