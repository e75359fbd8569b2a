//! `build.pipelining = "link"`: what starts before the libraries that it links are finished, and what
//! waits for them.

use cargo_pipelining::trace::{Outcome, Phase};
use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder};

use crate::support::gated::{
    GatedExt, MAIN, PROC_MACRO, assert_same_output, assert_tidy, bin_on_slow, foo, foo_on_slow,
    wrapper,
};
use crate::support::{BuildTrace, BuilderExt, ProjectExt};
use replay::trace::UnitRun;

/// Asserts that the unit began when `slow` was not finished, and was linked when it was.
#[track_caller]
pub fn assert_early(trace: &BuildTrace, is: impl Fn(&UnitRun) -> bool) {
    let slow = trace.one(|unit| unit.package == "slow" && unit.kind == ["lib"]);
    let unit = trace.one(|unit| is(unit) && unit.mode != "run-custom-build");
    let all = slow.all.unwrap();
    assert!(slow.metadata.unwrap() < unit.began, "{unit:#?} {slow:#?}");
    assert!(unit.began < unit.parked().unwrap(), "{unit:#?}");
    assert!(unit.parked().unwrap() < all, "{unit:#?} {slow:#?}");
    assert!(all < unit.linking().unwrap(), "{unit:#?} {slow:#?}");
    assert!(unit.linking().unwrap() < unit.all.unwrap(), "{unit:#?}");
    let last = &unit.phases[unit.phases.len() - 2..];
    assert_eq!(last, [Phase::Parked, Phase::Link]);
    assert_eq!(unit.outcome, Some(Outcome::Done));
    let mut waited_for = unit.waited_for.all_to_link.iter();
    let is_slow = |id: &usize| trace.unit(*id).package == "slow";
    assert!(waited_for.any(is_slow), "{unit:#?}");
}

pub fn is_bin(unit: &UnitRun) -> bool {
    unit.kind == ["bin"]
}

#[cargo_test]
fn binary_starts_early() {
    let p = bin_on_slow().build();
    let trace = p.built("build");
    assert_early(&trace, is_bin);
    assert_eq!(trace.parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn test_bench_and_example_start_early() {
    let unit_test = "#[test] fn one() { assert_eq!(slow::slow(), 1); }
        pub fn foo() -> u32 { slow::slow() }";
    let p = foo_on_slow("[[bench]]\nname = \"speed\"\nharness = false")
        .file("src/lib.rs", unit_test)
        .file(
            "tests/it.rs",
            "#[test] fn one() { assert_eq!(foo::foo(), 1); }",
        )
        .file("benches/speed.rs", MAIN)
        .file("examples/shown.rs", MAIN)
        .build();
    for (build, target, run) in [
        ("test --lib --no-run", "foo", "test --lib"),
        ("test --test it --no-run", "it", "test --test it"),
        (
            "bench --bench speed --no-run",
            "speed",
            "bench --bench speed",
        ),
        ("build --example shown", "shown", "run --example shown"),
    ] {
        p.build_dir().rm_rf();
        let trace = p.built(build);
        let is_library = |unit: &UnitRun| unit.kind == ["lib"] && unit.mode == "build";
        assert_early(&trace, |unit| unit.target == target && !is_library(unit));
        let output = p.cargo(run).run();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout == "slow says 1\n" || run.starts_with("test"));
    }
}

#[cargo_test]
fn build_script_starts_early() {
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
    // All outputs were ready.
    assert_eq!(trace.bin("foo").parked(), None);
    p.run_foo();
}

#[cargo_test]
fn proc_macro_starts_early() {
    let p = foo_on_slow("[lib]\nproc-macro = true")
        .file("src/lib.rs", PROC_MACRO)
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
fn cdylib_starts_early() {
    let code = "#[unsafe(no_mangle)] pub extern \"C\" fn foo() -> u32 { slow::slow() }";
    let p = foo_on_slow("[lib]\ncrate-type = [\"cdylib\"]")
        .file("src/lib.rs", code)
        .build();
    assert_early(&p.built("build"), |unit| unit.kind == ["cdylib"]);
    assert!(p.dylib("foo").is_file());
}

#[cargo_test]
fn integration_tests_overlap_their_library() {
    let p = foo_on_slow("")
        .file("slow/tests/a.rs", "#[test] fn a() { slow::slow(); }")
        .file("slow/tests/b.rs", "#[test] fn b() { slow::slow(); }")
        .file("slow/tests/c.rs", "#[test] fn c() { slow::slow(); }")
        .file("src/lib.rs", "")
        .wrapper("parked 3", "")
        .build();
    let trace = p.built("test --package slow --no-run");
    let library = trace.one(|unit| unit.package == "slow" && unit.mode == "build");
    let early = trace.units().filter(|unit| {
        unit.kind == ["test"]
            && library.metadata.unwrap() < unit.began
            && unit.parked() < library.all
    });
    assert_eq!(early.count(), 3, "{trace:#?}");
    assert_eq!(trace.parked(), 3);
    p.cargo("test --package slow").run();
}

#[cargo_test]
fn indirect_dependency_delays_link() {
    let p = foo_on_slow("middle.path = 'middle'")
        .lib(
            "middle",
            "[dependencies]\nslow.path = '../slow'",
            "pub fn says() -> u32 { slow::slow() }",
        )
        .file(
            "src/main.rs",
            r#"fn main() { println!("slow says {}", middle::says()); }"#,
        )
        .build();
    let manifest = p.read_file("Cargo.toml");
    let indirect = manifest.replace("slow.path = 'slow'\n", "");
    assert_ne!(manifest, indirect);
    p.change_file("Cargo.toml", &indirect);
    assert_early(&p.built("build"), is_bin);
    p.run_foo();
}

#[cargo_test]
fn finished_libraries_need_no_gate() {
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
        let mut units = trace.units();
        let are_fresh = units.all(|unit| unit.outcome == Some(Outcome::Fresh));
        assert!(are_fresh, "{mode}: {trace:#?}");
    }
}

/// The binary `foo`, and a library that reads no more than the metadata of `slow`, which is held until
/// that library has been compiled. So what can start as early has started.
fn bin_that_waits(rest: &str) -> ProjectBuilder {
    let body = r#"if [ "$name" = control ]; then "$@"; status=$?; mark control; exit $status; fi"#;
    foo_on_slow(&format!("{rest}\n[workspace]\nmembers = ['control']"))
        .file("src/main.rs", MAIN)
        .lib(
            "control",
            "[dependencies]\nslow.path = '../slow'",
            "pub use slow::slow;",
        )
        .wrapper("compiled control", body)
}

/// Asserts that `foo` waits for the whole of `slow`, and that the log, but no message, says why.
#[track_caller]
fn assert_waits(
    p: Project,
    line: &str,
    reason: &str,
    kind: &str,
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
    let unit = trace.one(|unit| unit.kind == [kind] && unit.package == "foo");
    assert!(slow.all.unwrap() < unit.began, "{unit:#?} {slow:#?}");
    assert_eq!(unit.parked(), None);
    assert_tidy(&p.root());

    let log = String::from_utf8(output.stderr).unwrap();
    let lines = log.lines().filter(|line| line.contains("link gate: "));
    let about_foo: Vec<_> = lines.filter(|line| line.contains("foo")).collect();
    let gives_reason = |line: &&str| line.contains(" waited: ") && line.contains(reason);
    assert!(
        about_foo.iter().any(gives_reason),
        "no line that says {reason:?}: {about_foo:#?}"
    );
    assert_same_output(&p, line, set);
}

#[cargo_test]
fn control_starts_early_where_nothing_waits() {
    let p = bin_that_waits("").build();
    let trace = p.built("build --workspace");
    assert!(trace.bin("foo").began < trace.lib("slow").all.unwrap());
}

#[cargo_test]
fn crate_types_that_wait() {
    for kind in ["staticlib", "dylib"] {
        let p = bin_that_waits(&format!("[lib]\ncrate-type = [\"{kind}\"]"))
            .file("src/lib.rs", "pub fn foo() -> u32 { slow::slow() }")
            .build();
        let reason = "rustc itself reads the rlibs for this crate type";
        assert_waits(p, "build --workspace --lib", reason, kind, |cargo| cargo);
    }
}

#[cargo_test]
fn lto_across_crates_waits() {
    for lto in ["thin", "fat"] {
        let p = bin_that_waits(&format!("[profile.dev]\nlto = \"{lto}\"")).build();
        let reason = "cross-crate LTO reads rlibs before the linker runs";
        assert_waits(p, "build --workspace", reason, "bin", |cargo| cargo);
    }
}

#[cargo_test]
fn flags_and_arguments_that_wait() {
    let build = "build --workspace";
    let print = "rustc --bin foo -- --print link-args";
    // rustc picks a linker that goes with the flavor.
    for (line, flags, reason) in [
        (
            build,
            "-Clinker-plugin-lto",
            "rustc prepares rlibs for LTO in the linker",
        ),
        (
            build,
            "-Clinker-flavor=gcc",
            "only the flavor of the linker is known",
        ),
        (
            "build --workspace -j1",
            "",
            "all that it links was ready when it started",
        ),
        (print, "", "`--print` may show the linker's arguments"),
    ] {
        let p = bin_that_waits("").build();
        assert_waits(p, line, reason, "bin", |cargo| {
            cargo.env("RUSTFLAGS", flags)
        });
    }
}

#[cargo_test]
fn mode_metadata_waits() {
    let p = bin_that_waits("").build();
    let mut cargo = p.held("build --workspace");
    let trace = p.built_by(cargo.env("CARGO_BUILD_PIPELINING", "metadata"));
    let bin = trace.bin("foo");
    assert!(trace.lib("slow").all.unwrap() < bin.began);
    assert!(bin.waited_for.all_to_link.is_empty());
    assert_eq!(trace.parked(), 0);
}
