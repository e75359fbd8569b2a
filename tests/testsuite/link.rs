//! `build.pipelining = "link"`: what starts before the libraries that it links are finished, with
//! which linker it is linked, and that nobody can tell.

use std::fs;
use std::process::Command;

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, rustc_host, rustc_host_env};

use crate::support::build_trace::UnitRun;
use crate::support::gated::{
    GatedExt, MAIN, Said, artifacts, assert_the_same_is_said, assert_tidy, bin_on_slow, foo,
    foo_on_slow, forget, in_both_modes, recording_linker, wrapper,
};
use crate::support::{BuildTrace, ProjectExt};

/// Asserts that the unit began when `slow` was not finished, and was linked when it was.
#[track_caller]
fn assert_early(trace: &BuildTrace, is: impl Fn(&UnitRun) -> bool) {
    let slow = trace.one(|unit| unit.package == "slow" && unit.kind == ["lib"]);
    let unit = trace.one(|unit| is(unit) && unit.mode != "run-custom-build");
    let all = slow.all.unwrap();
    assert!(slow.metadata.unwrap() < unit.began, "{unit:#?} {slow:#?}");
    assert!(unit.began < unit.parked.unwrap(), "{unit:#?}");
    assert!(unit.parked.unwrap() < all, "{unit:#?} {slow:#?}");
    assert!(all < unit.linking.unwrap(), "{unit:#?} {slow:#?}");
    assert!(unit.linking.unwrap() < unit.all.unwrap(), "{unit:#?}");
    assert_eq!(
        unit.phases[unit.phases.len() - 2..],
        [Phase::Parked, Phase::Link]
    );
    assert_eq!(unit.outcome, Some(Outcome::Done));
    let waited_for: Vec<_> = unit
        .waited_for
        .all_to_link
        .iter()
        .map(|id| &*trace.unit(*id).package)
        .collect();
    assert!(waited_for.contains(&"slow"), "{unit:#?}");
}

#[cargo_test]
fn a_binary() {
    let p = bin_on_slow().build();
    let trace = p.built("build");
    assert_early(&trace, |unit| unit.kind == ["bin"]);
    assert_eq!(trace.parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn the_test_of_a_library() {
    let p = foo_on_slow("")
        .file(
            "src/lib.rs",
            "#[test] fn one() { assert_eq!(slow::slow(), 1); }",
        )
        .build();
    let trace = p.built("test --lib --no-run");
    assert_early(&trace, |unit| unit.package == "foo" && unit.mode == "test");
    p.cargo("test --lib").run();
}

#[cargo_test]
fn an_integration_test() {
    let p = foo_on_slow("")
        .file("src/lib.rs", "pub fn foo() -> u32 { slow::slow() }")
        .file(
            "tests/it.rs",
            "#[test] fn one() { assert_eq!(foo::foo(), 1); }",
        )
        .build();
    let trace = p.built("test --test it --no-run");
    assert_early(&trace, |unit| unit.target == "it");
    p.cargo("test --test it").run();
}

#[cargo_test]
fn a_bench() {
    let p = foo_on_slow("[[bench]]\nname = \"speed\"\nharness = false")
        .file("src/lib.rs", "")
        .file("benches/speed.rs", MAIN)
        .build();
    let trace = p.built("bench --bench speed --no-run");
    assert_early(&trace, |unit| unit.target == "speed");
    p.cargo("bench --bench speed")
        .with_stdout_data("slow says 1\n")
        .run();
}

#[cargo_test]
fn an_example() {
    let p = foo_on_slow("")
        .file("src/lib.rs", "")
        .file("examples/shown.rs", MAIN)
        .build();
    let trace = p.built("build --example shown");
    assert_early(&trace, |unit| unit.target == "shown");
    p.cargo("run --example shown")
        .with_stdout_data("slow says 1\n")
        .run();
}

#[cargo_test]
fn a_build_script() {
    let p = foo("build-dependencies", "")
        .file(
            "build.rs",
            r#"fn main() { println!("cargo::rustc-env=SAYS={}", slow::slow()); }"#,
        )
        .file(
            "src/main.rs",
            r#"fn main() { println!("slow says {}", env!("SAYS")); }"#,
        )
        .build();
    let trace = p.built("build");
    assert_early(&trace, |unit| unit.kind == ["custom-build"]);
    // It was all there.
    assert_eq!(trace.bin("foo").parked, None);
    p.run_foo();
}

#[cargo_test]
fn a_proc_macro() {
    let p = foo_on_slow("[lib]\nproc-macro = true")
        .file(
            "src/lib.rs",
            r#"
                #[proc_macro]
                pub fn says(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                    slow::slow().to_string().parse().unwrap()
                }
            "#,
        )
        .file(
            "src/main.rs",
            r#"fn main() { println!("slow says {}", foo::says!()); }"#,
        )
        .build();
    let trace = p.built("build");
    assert_early(&trace, |unit| unit.kind == ["proc-macro"]);
    // The compiler that expands it loads it.
    let (proc_macro, bin) = (trace.lib("foo"), trace.bin("foo"));
    assert!(proc_macro.all.unwrap() < bin.began);
    p.run_foo();
}

#[cargo_test]
fn a_cdylib() {
    let p = foo_on_slow("[lib]\ncrate-type = [\"cdylib\"]")
        .file(
            "src/lib.rs",
            "#[unsafe(no_mangle)] pub extern \"C\" fn foo() -> u32 { slow::slow() }",
        )
        .build();
    let trace = p.built("build");
    assert_early(&trace, |unit| unit.kind == ["cdylib"]);
    assert!(p.dylib("foo").is_file());
}

#[cargo_test]
fn tests_while_the_code_of_their_library_is_generated() {
    let p = foo_on_slow("")
        .file("slow/tests/a.rs", "#[test] fn a() { slow::slow(); }")
        .file("slow/tests/b.rs", "#[test] fn b() { slow::slow(); }")
        .file("slow/tests/c.rs", "#[test] fn c() { slow::slow(); }")
        .file("src/lib.rs", "")
        .executable("wrapper", &wrapper("parked 3", ""))
        .build();
    let trace = p.built("test --package slow --no-run");
    let library = trace.one(|unit| unit.package == "slow" && unit.mode == "build");
    let began = trace.units().filter(|unit| {
        unit.kind == ["test"] && library.metadata.unwrap() < unit.began && unit.parked < library.all
    });
    assert_eq!(began.count(), 3, "{trace:#?}");
    assert_eq!(trace.parked(), 3);
    p.cargo("test --package slow").run();
}

#[cargo_test]
fn what_is_far_away_is_waited_for_too() {
    let p = foo_on_slow("middle = { path = 'middle' }")
        .file(
            "middle/Cargo.toml",
            r#"
                [package]
                name = "middle"
                version = "0.1.0"
                edition = "2021"

                [dependencies]
                slow = { path = "../slow" }
            "#,
        )
        .file("middle/src/lib.rs", "pub fn says() -> u32 { slow::slow() }")
        .file(
            "src/main.rs",
            r#"fn main() { println!("slow says {}", middle::says()); }"#,
        )
        .build();
    p.change_file(
        "Cargo.toml",
        &p.read_file("Cargo.toml")
            .replace("slow = { path = \"slow\" }", ""),
    );
    let trace = p.built("build");
    assert_early(&trace, |unit| unit.kind == ["bin"]);
    p.run_foo();
}

#[cargo_test]
fn nothing_is_early_whose_libraries_are_there() {
    let p = bin_on_slow().build();
    p.built("build");
    p.change_file("src/main.rs", "fn main() { slow::slow(); }");
    let trace = p.traced("build");
    trace.assert_sound(u64::MAX);
    assert_eq!(trace.parked(), 0);
    assert_eq!(trace.bin("foo").phases, [Phase::Compile]);
}

#[cargo_test]
fn switching_rebuilds_nothing() {
    let p = bin_on_slow().build();
    p.built("build");
    for mode in ["metadata", "link", "off"] {
        p.wrapped("build").env("CARGO_BUILD_PIPELINING", mode).run();
        let trace = p.trace();
        assert!(
            trace
                .units()
                .all(|unit| unit.outcome == Some(Outcome::Fresh)),
            "{mode}: {trace:#?}"
        );
    }
}

/// Asserts that `foo` waits for the whole of `slow`, and that the log says why, and nobody else a
/// word. What is held is let go when a library that reads only metadata has been compiled, and
/// with it whatever could start as early.
#[track_caller]
fn assert_waits(
    p: Project,
    line: &str,
    reason: &str,
    is: impl Fn(&UnitRun) -> bool,
    set: impl Fn(&mut Execs) -> &mut Execs,
) {
    // One job could not compile that library, and `cargo rustc` compiles one package.
    if line.contains("-j1") || line.contains("rustc") {
        p.change_file("wrapper", &wrapper("true", ""));
    }
    let mut cargo = p.held(line);
    cargo.env("CARGO_LOG", "cargo::compiler::job_queue=debug");
    let output = set(&mut cargo).run();
    let trace = p.trace();
    trace.assert_sound(4);
    let slow = trace.one(|unit| unit.package == "slow" && unit.kind == ["lib"]);
    let unit = trace.one(is);
    assert!(slow.all.unwrap() < unit.began, "{unit:#?} {slow:#?}");
    assert_eq!(unit.parked, None);
    assert_tidy(&p.root());

    let log = String::from_utf8(output.stderr).unwrap();
    let lines = log.lines().filter(|line| line.contains("link gate: "));
    let about_foo: Vec<_> = lines.filter(|line| line.contains("foo")).collect();
    assert!(
        about_foo
            .iter()
            .any(|line| line.contains(" waited: ") && line.contains(reason)),
        "no line that says {reason:?}: {about_foo:#?}"
    );
    assert_the_same_is_said(&p, line, set);
}

/// The binary `foo`, and a library that reads no more than the metadata of `slow`.
fn bin_that_waits(manifest: &str) -> ProjectBuilder {
    foo_on_slow(&format!("{manifest}\n[workspace]\nmembers = ['control']"))
        .file("src/main.rs", MAIN)
        .file(
            "control/Cargo.toml",
            r#"
                [package]
                name = "control"
                version = "0.1.0"
                edition = "2021"

                [dependencies]
                slow = { path = "../slow" }
            "#,
        )
        .file("control/src/lib.rs", "pub use slow::slow;")
        .executable(
            "wrapper",
            &wrapper(
                "compiled control",
                r#"if [ "$name" = control ]; then "$@"; status=$?; mark control; exit $status; fi"#,
            ),
        )
}

fn is_bin(unit: &UnitRun) -> bool {
    unit.kind == ["bin"]
}

#[cargo_test]
fn the_control_is_one() {
    // With nothing in its way, it is early.
    let p = bin_that_waits("").build();
    let trace = p.built("build --workspace");
    let slow = trace.lib("slow");
    assert!(trace.bin("foo").began < slow.all.unwrap());
}

#[cargo_test]
fn a_staticlib_waits() {
    let p = bin_that_waits("[lib]\ncrate-type = [\"staticlib\"]")
        .file("src/lib.rs", "pub fn foo() -> u32 { slow::slow() }")
        .build();
    let is = |unit: &UnitRun| unit.kind == ["staticlib"];
    let reason = "rustc itself reads the rlibs for this crate type";
    assert_waits(p, "build --workspace --lib", reason, is, |cargo| cargo);
}

#[cargo_test]
fn a_dylib_waits() {
    let p = bin_that_waits("[lib]\ncrate-type = [\"dylib\"]")
        .file("src/lib.rs", "pub fn foo() -> u32 { slow::slow() }")
        .build();
    let is = |unit: &UnitRun| unit.kind == ["dylib"];
    let reason = "rustc itself reads the rlibs for this crate type";
    assert_waits(p, "build --workspace --lib", reason, is, |cargo| cargo);
}

#[cargo_test]
fn lto_across_crates_waits() {
    for lto in ["thin", "fat"] {
        let p = bin_that_waits(&format!("[profile.dev]\nlto = \"{lto}\"")).build();
        let reason = "cross-crate LTO reads rlibs before the linker runs";
        assert_waits(p, "build --workspace", reason, is_bin, |cargo| cargo);
    }
}

#[cargo_test]
fn lto_in_the_linker_waits() {
    let reason = "rustc prepares rlibs for LTO in the linker";
    assert_waits(
        bin_that_waits("").build(),
        "build --workspace",
        reason,
        is_bin,
        |cargo| cargo.env("RUSTFLAGS", "-Clinker-plugin-lto"),
    );
}

#[cargo_test]
fn one_job_waits() {
    let reason = "all that it links was ready when it started";
    let p = bin_that_waits("").build();
    assert_waits(p, "build --workspace -j1", reason, is_bin, |cargo| cargo);
}

#[cargo_test]
fn metadata_waits() {
    let p = bin_that_waits("").build();
    p.held("build --workspace")
        .env("CARGO_BUILD_PIPELINING", "metadata")
        .run();
    let trace = p.trace();
    trace.assert_sound(4);
    let bin = trace.bin("foo");
    assert!(trace.lib("slow").all.unwrap() < bin.began);
    assert!(bin.waited_for.all_to_link.is_empty());
    assert_eq!(trace.parked(), 0);
}

#[cargo_test]
fn an_unknown_linker_waits() {
    // rustc picks one that goes with the flavor.
    let reason = "only the flavor of the linker is known";
    assert_waits(
        bin_that_waits("").build(),
        "build --workspace",
        reason,
        is_bin,
        |cargo| cargo.env("RUSTFLAGS", "-Clinker-flavor=gcc"),
    );
}

#[cargo_test]
fn printing_what_the_linker_is_called_with_waits() {
    let reason = "`--print` may show the linker's arguments";
    let p = bin_that_waits("").build();
    let line = "rustc --bin foo -- --print link-args";
    assert_waits(p, line, reason, is_bin, |cargo| cargo);
}

/// A linker for [`honours`]: `own-cc` in a directory of its own.
fn with_own_linker() -> ProjectBuilder {
    bin_on_slow()
        .executable("tools/own-cc", recording_linker())
        .executable("tools/other-cc", recording_linker())
}

/// Asserts that `foo` is linked early and with the linker that it would be linked with otherwise,
/// called by the same name, as often.
#[track_caller]
fn honours(p: &Project, line: &str, linker: &str, set: impl Fn(&mut Execs) -> &mut Execs) {
    let run = |mode| {
        forget(p);
        let mut cargo = match mode {
            "link" => p.held(line),
            _ => p.wrapped(line),
        };
        set(cargo.env("CARGO_BUILD_PIPELINING", mode)).run();
        p.read_file("linked")
    };
    let expected = run("metadata");
    assert_eq!(expected.lines().count(), 1, "{expected}");
    assert!(expected.starts_with(linker), "not {linker}: {expected}");
    assert_eq!(run("link"), expected);
    let trace = p.trace();
    trace.assert_sound(4);
    assert_early(&trace, |unit| unit.kind == ["bin"]);
    p.run_foo();
    assert_tidy(&p.root());
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
fn a_linker_in_a_configuration_file() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let toml = format!("[target.{}]\nlinker = \"tools/own-cc\"", rustc_host());
    p.change_file(".cargo/config.toml", &toml);
    honours(&p, "build", &own, |cargo| cargo);
}

#[cargo_test]
fn a_linker_in_the_environment() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let key = format!("CARGO_TARGET_{}_LINKER", rustc_host_env());
    honours(&p, "build", &own, |cargo| cargo.env(&key, &own));
}

#[cargo_test]
fn a_linker_that_is_searched_for() {
    let p = with_own_linker().build();
    let path = path_with_tools(&p);
    honours(&p, "build", &tool(&p, "own-cc"), |cargo| {
        cargo.env("PATH", &path).env("RUSTFLAGS", "-Clinker=own-cc")
    });
}

#[cargo_test]
fn another_cc_on_the_path() {
    // It must not run itself.
    let which = Command::new("sh")
        .args(["-c", "command -v cc"])
        .output()
        .unwrap();
    let real = String::from_utf8(which.stdout).unwrap();
    let script = recording_linker().replace("exec cc", &format!("exec {}", real.trim()));
    let p = bin_on_slow().executable("tools/cc", &script).build();
    let path = path_with_tools(&p);
    honours(&p, "build", &tool(&p, "cc"), |cargo| {
        cargo.env("PATH", &path)
    });
}

#[cargo_test]
fn a_linker_in_rustflags() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let flags = format!("-Clinker={own}");
    honours(&p, "build", &own, |cargo| cargo.env("RUSTFLAGS", &flags));
}

#[cargo_test]
fn a_linker_in_rustflags_with_a_space() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let flags = format!("-C linker={own}");
    honours(&p, "build", &own, |cargo| cargo.env("RUSTFLAGS", &flags));
}

#[cargo_test]
fn a_linker_in_the_rustflags_of_a_configuration_file() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let other = tool(&p, "other-cc");
    let build = format!("[build]\nrustflags = [\"-Clinker={own}\"]");
    p.change_file(".cargo/config.toml", &build);
    honours(&p, "build", &own, |cargo| cargo);
    let host = rustc_host();
    let target = format!("[target.{host}]\nrustflags = [\"--codegen\", \"linker={other}\"]");
    p.change_file(".cargo/config.toml", &format!("{target}\n{build}"));
    honours(&p, "build", &other, |cargo| cargo);
}

#[cargo_test]
fn a_linker_in_the_arguments_of_cargo_rustc() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let line = format!("rustc --bin foo -- -C linker={own}");
    honours(&p, &line, &own, |cargo| cargo);
}

#[cargo_test]
fn the_last_linker_wins() {
    let p = with_own_linker().build();
    let (own, other) = (tool(&p, "own-cc"), tool(&p, "other-cc"));
    let key = format!("CARGO_TARGET_{}_LINKER", rustc_host_env());
    let flags = format!("-Clinker={other}");
    // Whichever it is, it is the same one.
    forget(&p);
    p.wrapped("build")
        .env("CARGO_BUILD_PIPELINING", "metadata")
        .env(&key, &own)
        .env("RUSTFLAGS", &flags)
        .run();
    let linked = p.read_file("linked");
    let wins = linked.split(' ').next().unwrap().to_owned();
    honours(&p, "build", &wins, |cargo| {
        cargo.env(&key, &own).env("RUSTFLAGS", &flags)
    });

    let flags = format!("-Clinker={own} -Clinker={other}");
    honours(&p, "build", &other, |cargo| cargo.env("RUSTFLAGS", &flags));
}

#[cargo_test]
fn for_a_target_that_is_named() {
    let p = with_own_linker().build();
    let own = tool(&p, "own-cc");
    let flags = format!("-Clinker={own}");
    let host = rustc_host();
    forget(&p);
    p.held("build")
        .arg("--target")
        .arg(host)
        .env("RUSTFLAGS", &flags)
        .run();
    let trace = p.trace();
    trace.assert_sound(4);
    assert_early(&trace, |unit| unit.kind == ["bin"]);
    assert_eq!(p.read_file("linked").lines().count(), 1);
    p.process(p.target_bin(host, "foo"))
        .with_stdout_data("slow says 1\n")
        .run();
    assert_tidy(&p.root());
}

/// The lines that show commands.
fn commands(said: &Said) -> usize {
    said.count("Running `")
}

#[cargo_test]
fn the_commands_are_those_of_mode_metadata() {
    let p = bin_on_slow().build();
    let said = assert_the_same_is_said(&p, "build -v", |cargo| cargo);
    assert_eq!((said.status, commands(&said)), (Some(0), 2));
    assert_eq!(p.trace().parked(), 1);
    let said = assert_the_same_is_said(&p, "build -vv", |cargo| cargo);
    assert_eq!((said.status, commands(&said)), (Some(0), 2));
}

#[cargo_test]
fn messages_are_those_of_mode_metadata() {
    let p = bin_on_slow().build();
    p.change_file("src/main.rs", &format!("{MAIN} fn unused() {{}}"));
    let line = "build -v --message-format=json";
    let said = assert_the_same_is_said(&p, line, |cargo| cargo);
    assert_eq!(said.status, Some(0));
    let artifacts = said.stdout.iter();
    let artifacts = artifacts.filter(|line| line.contains("compiler-artifact"));
    assert_eq!(artifacts.count(), 2, "{said:#?}");
    assert_eq!(p.trace().parked(), 1);
}

/// `src/main.rs`, and what cargo says of it.
#[track_caller]
fn link_error(main: &str, line: &str) -> Said {
    let p = bin_on_slow().file("src/main.rs", main).build();
    let said = assert_the_same_is_said(&p, line, |cargo| cargo);
    assert_eq!(said.status, Some(101));
    assert_eq!(p.trace().parked(), 1);
    assert_tidy(&p.root());
    said
}

const UNDEFINED: &str = r#"
    extern "C" { fn undefined_symbol() -> u32; }
    fn main() { println!("{}", slow::slow() + unsafe { undefined_symbol() }); }
"#;

#[cargo_test]
fn an_undefined_symbol() {
    let said = link_error(UNDEFINED, "build");
    assert_eq!(said.count("error: linking with `cc` failed"), 1);
    assert_eq!(said.count("  = note:  \"cc\" \""), 1, "{said:#?}");
    assert_ne!(said.count("undefined_symbol"), 0, "{said:#?}");
    assert_eq!(said.count("error: could not compile `foo`"), 1);
}

#[cargo_test]
fn an_undefined_symbol_in_verbose() {
    let said = link_error(UNDEFINED, "build -v");
    assert_eq!(said.count("process didn't exit successfully: `"), 1);
}

#[cargo_test]
fn an_undefined_symbol_in_a_message() {
    let said = link_error(UNDEFINED, "build --message-format=json");
    let errors = said.stdout.iter();
    let errors = errors.filter(|line| line.contains("linking with `cc` failed"));
    assert_eq!(errors.count(), 1, "{said:#?}");
}

#[cargo_test]
fn a_library_that_does_not_exist() {
    let main = format!("#[link(name = \"nonexistent\")] extern \"C\" {{}} {MAIN}");
    let said = link_error(&main, "build");
    assert_eq!(said.count("error: linking with `cc` failed"), 1);
    assert_ne!(said.count("nonexistent"), 0);
}

#[cargo_test]
fn an_undefined_symbol_with_another_linker() {
    let p = with_own_linker().file("src/main.rs", UNDEFINED).build();
    let own = tool(&p, "own-cc");
    let flags = format!("-Clinker={own}");
    let said = assert_the_same_is_said(&p, "build", |cargo| cargo.env("RUSTFLAGS", &flags));
    assert_eq!(
        said.count(&format!("error: linking with `{own}` failed")),
        1
    );
    assert_eq!(p.trace().parked(), 1);
}

#[cargo_test]
fn a_compile_error_while_the_library_runs() {
    let p = bin_on_slow()
        .file("src/main.rs", "fn main() { let one: u8 = slow::slow(); }")
        .executable(
            "wrapper",
            &wrapper(
                "compiled foo",
                r#"if [ "$name" = foo ]; then "$@"; status=$?; mark foo; exit $status; fi"#,
            ),
        )
        .build();
    let said = assert_the_same_is_said(&p, "build", |cargo| cargo);
    assert_eq!(said.status, Some(101));
    assert_eq!(said.count("error[E0308]: mismatched types"), 1);
    let trace = p.trace();
    let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
    assert!(bin.began < slow.all.unwrap(), "{trace:#?}");
    assert_eq!(bin.outcome, Some(Outcome::Failed));
    assert_eq!(bin.parked, None);
    assert_tidy(&p.root());

    // `slow` was not in vain.
    p.change_file("src/main.rs", MAIN);
    let trace = p.traced("build");
    assert_eq!(trace.lib("slow").outcome, Some(Outcome::Fresh));
    p.run_foo();
}

#[cargo_test]
fn warnings_are_shown_once() {
    let main = format!("{MAIN} fn unused() {{}}");
    let p = bin_on_slow().file("src/main.rs", &main).build();
    let said = assert_the_same_is_said(&p, "build", |cargo| cargo);
    assert_eq!(said.count("warning: function `unused` is never used"), 1);
    assert_eq!(p.trace().parked(), 1);
}

/// A bit of everything that is linked.
fn everything() -> ProjectBuilder {
    foo(
        "dependencies",
        r#"
            derive = { path = "derive" }

            [build-dependencies]
            slow = { path = "slow" }

            [lib]
            crate-type = ["rlib", "cdylib"]
        "#,
    )
    .file(
        "build.rs",
        "fn main() { println!(\"cargo::rustc-env=SAYS={}\", slow::slow()); }",
    )
    .file(
        "src/lib.rs",
        "#[unsafe(no_mangle)] pub extern \"C\" fn says() -> u32 { slow::slow() }
         #[test] fn one() { assert_eq!(says(), 1); }",
    )
    .file(
        "src/main.rs",
        r#"fn main() {
            assert_eq!(env!("SAYS"), "1");
            assert_eq!(derive::one!(), 1);
            println!("slow says {}", slow::slow());
        }"#,
    )
    .file(
        "tests/it.rs",
        "#[test] fn one() { assert_eq!(foo::says(), 1); }",
    )
    .file("examples/shown.rs", MAIN)
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
            pub fn one(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                slow::slow().to_string().parse().unwrap()
            }
        "#,
    )
}

#[cargo_test]
fn the_same_bytes_come_out() {
    for profile in ["dev", "release"] {
        let p = everything().build();
        let line = format!("build --all-targets --profile {profile}");
        let built = |mode| {
            forget(&p);
            let mut cargo = match mode {
                "link" => p.held(&line),
                _ => p.wrapped(&line),
            };
            cargo.env("CARGO_BUILD_PIPELINING", mode).run();
            assert_tidy(&p.root());
            artifacts(&p.build_dir())
        };
        let expected = built("metadata");
        assert!(expected.len() > 10, "{:?}", expected.keys());
        let actual = built("link");
        let trace = p.trace();
        trace.assert_sound(4);
        assert_ne!(trace.parked(), 0);
        assert!(actual.keys().eq(expected.keys()), "{:?}", actual.keys());
        for (path, content) in expected {
            assert!(actual[&path] == content, "{} differs", path.display());
        }
    }
}

#[cargo_test]
fn the_same_bytes_come_out_of_a_workspace_that_is_tested() {
    let p = everything().build();
    p.held("test --no-run").run();
    assert_ne!(p.trace().parked(), 0);
    p.cargo("test").run();
    assert_tidy(&p.root());
}

#[cargo_test]
fn packed_debuginfo_is_the_same() {
    // rustc reads the rlibs once more when they are linked.
    let p = foo_on_slow("[profile.dev]\nsplit-debuginfo = 'packed'")
        .file("src/main.rs", MAIN)
        .build();
    let packed = |mode| {
        forget(&p);
        let mut cargo = match mode {
            "link" => p.held("build"),
            _ => p.wrapped("build"),
        };
        cargo.env("CARGO_BUILD_PIPELINING", mode).run();
        fs::read(p.build_dir().join("debug/foo.dwp")).unwrap()
    };
    let expected = packed("metadata");
    assert!(packed("link") == expected, "the packages differ");
    assert_eq!(p.trace().parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn the_new_library_is_linked_and_not_the_old_one() {
    for incremental in ["0", "1"] {
        let p = bin_on_slow().build();
        for says in ["1", "2", "3"] {
            p.change_file(
                "slow/src/lib.rs",
                &format!("pub fn slow() -> u32 {{ {says} }}"),
            );
            p.held("build").env("CARGO_INCREMENTAL", incremental).run();
            let trace = p.trace();
            trace.assert_sound(4);
            assert_early(&trace, |unit| unit.kind == ["bin"]);
            p.process(p.bin("foo"))
                .with_stdout_data(format!("slow says {says}\n"))
                .run();
            assert_tidy(&p.root());
        }
    }
}

#[cargo_test]
fn more_than_a_binary_is_emitted() {
    let p = bin_on_slow().build();
    let line = "rustc --bin foo -- --emit=asm,llvm-ir";
    let said = assert_the_same_is_said(&p, line, |cargo| cargo);
    assert_eq!(said.status, Some(0));
    assert_eq!(p.trace().parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn both_modes_can_be_compared() {
    // What says the same in both modes is worth nothing if it does so always.
    let p = bin_on_slow().build();
    let (metadata, link) = in_both_modes(&p, "build", |cargo| {
        cargo.env("CARGO_LOG", "cargo::compiler::job_queue=debug")
    });
    assert_eq!(metadata.count("link gate: "), 0);
    assert_eq!(link.count("started early"), 1, "{link:#?}");
    assert_ne!(metadata, link);
}
