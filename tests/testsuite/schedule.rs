//! `build.schedule`: what goes first when costs are guessed and when they are known, where they are
//! kept, and the values and errors of it and of `build.pause-memory`.

use std::fs;
use std::path::PathBuf;

use cargo_test_support::prelude::*;
use cargo_test_support::registry::Package;
use cargo_test_support::{Execs, Project, paths, project, str};

use crate::support::{BuilderExt, ExecsExt, ProjectExt, assert_everywhere, empty_bin, manifest};

/// A package whose name is in no file by accident.
fn foo() -> Project {
    empty_bin("unmistakable").build()
}

/// The file of costs.
fn store() -> PathBuf {
    paths::home().join(".cargo/.build-costs")
}

/// The messages of a build that finds no fault with the costs.
const QUIET: &str = "\
[COMPILING] unmistakable v0.5.0 ([ROOT]/foo)
[FINISHED] `dev` profile [unoptimized + debuginfo] target(s) in [ELAPSED]s
";

/// The same with `-v`.
const VERBOSE: &str = "\
[COMPILING] unmistakable v0.5.0 ([ROOT]/foo)
[RUNNING] `rustc [..]`
[FINISHED] `dev` profile [unoptimized + debuginfo] target(s) in [ELAPSED]s
";

/// Asserts the messages of `cargo LINE`, which builds everything.
#[track_caller]
fn assert_messages(p: &Project, line: &str, expected: impl IntoData) {
    p.build_dir().rm_rf();
    p.cargo(line).with_stderr_data(expected).run();
}

/// Asserts that a build with `-v` says why costs could not be read.
#[track_caller]
fn assert_warns(p: &Project, reason: &str) {
    let file = "[ROOT]/home/.cargo/.build-costs";
    let warning = format!("[WARNING] failed to read build costs from `{file}`: {reason}\n");
    assert_messages(p, "build -v", warning + VERBOSE);
}

/// Returns true if costs are recorded with the given setting.
fn records(p: &Project, set: &dyn Fn(&mut Execs)) -> bool {
    p.build_dir().rm_rf();
    let _ = fs::remove_file(store());
    let mut cargo = p.cargo("build");
    set(&mut cargo);
    cargo.run();
    store().exists()
}

#[cargo_test]
fn every_value_everywhere() {
    let p = foo();
    assert!(records(&p, &|_| {}));
    let key = ("build.schedule", "CARGO_BUILD_SCHEDULE");
    for value in [("critical-path", true), ("stock", false)] {
        assert_everywhere(&p, key, value, |set| records(&p, set));
    }
}

#[cargo_test]
fn unknown_schedule_is_an_error() {
    let p = foo();
    p.cargo("build")
        .env("CARGO_BUILD_SCHEDULE", "fifo")
        .fails(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_SCHEDULE`: could not load config key `build.schedule`

Caused by:
  invalid value: string "fifo", expected "critical-path" or "stock"

"#]]);
    p.change_file(".cargo/config.toml", "build.schedule = 1");
    p.cargo("build").fails(str![[r#"
[ERROR] error in [ROOT]/foo/.cargo/config.toml: could not load config key `build.schedule`

Caused by:
  invalid type: integer `1`, expected "critical-path" or "stock"

"#]]);
}

#[cargo_test]
fn unknown_size_is_an_error() {
    let p = foo();
    p.cargo("build")
        .env("CARGO_BUILD_PAUSE_MEMORY", "lots")
        .fails(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_PAUSE_MEMORY`: could not load config key `build.pause-memory`

Caused by:
  invalid value: string "lots", expected a size (a number of bytes, or one with B, kB, MB, GB, kiB, MiB or GiB, as in "2GiB"), or a percentage of the available memory, "0%" to "100%"

"#]]);
    p.change_file(".cargo/config.toml", "build.pause-memory = \"101%\"");
    p.cargo("build")
        .fails(str![[r#"
[ERROR] error in [ROOT]/foo/.cargo/config.toml: could not load config key `build.pause-memory`

Caused by:
  invalid value: string "101%", expected a size (a number of bytes, or one with B, kB, MB, GB, kiB, MiB or GiB, as in "2GiB"), or a percentage of the available memory, "0%" to "100%"

"#]]);
    for right in ["0", "1024", "2GiB", "100%"] {
        p.cargo("build")
            .env("CARGO_BUILD_PAUSE_MEMORY", right)
            .run();
    }
}

#[cargo_test]
fn switching_rebuilds_nothing() {
    let p = foo();
    p.cargo("build").run();
    for (key, value) in [
        ("CARGO_BUILD_SCHEDULE", "stock"),
        ("CARGO_BUILD_PAUSE_MEMORY", "0"),
    ] {
        p.cargo("build")
            .env(key, value)
            .with_stderr_data(str![[r#"
[FINISHED] `dev` profile [unoptimized + debuginfo] target(s) in [ELAPSED]s

"#]])
            .run();
    }
}

#[cargo_test]
fn fresh_build_leaves_costs_alone() {
    let p = foo();
    p.cargo("build").run();
    fs::write(store(), "no costs").unwrap();
    p.cargo("build -v")
        .with_stderr_data(str![[r#"
[FRESH] unmistakable v0.5.0 ([ROOT]/foo)
[FINISHED] `dev` profile [unoptimized + debuginfo] target(s) in [ELAPSED]s

"#]])
        .run();
    assert_eq!(fs::read(store()).unwrap(), b"no costs");
}

#[cargo_test]
fn damaged_costs_are_replaced() {
    let p = foo();
    assert_messages(&p, "build -v", VERBOSE);
    fs::write(store(), "no costs at all").unwrap();
    assert_messages(&p, "build", QUIET);
    assert!(
        fs::read(store())
            .unwrap()
            .starts_with(b"cargo build costs, version 1\n")
    );

    fs::write(store(), "no costs at all").unwrap();
    assert_warns(
        &p,
        "it is damaged or of another format, and will be replaced",
    );
    assert_messages(&p, "build -v", VERBOSE);
}

#[cargo_test]
fn unreadable_costs_are_mentioned_once() {
    let p = foo();
    fs::create_dir_all(store()).unwrap();
    assert_messages(&p, "build", QUIET);
    assert_warns(&p, "it is not a regular file");
    assert!(store().is_dir());
}

#[cargo_test]
fn costs_do_not_name_packages() {
    let p = foo();
    assert_messages(&p, "build", QUIET);
    let costs = fs::read(store()).unwrap();
    let root = p.root().to_string_lossy().into_owned();
    for text in ["unmistakable", "main", "0.5.0", "file://", &root] {
        let found = (costs.windows(text.len())).any(|it| it == text.as_bytes());
        assert!(!found, "{text}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(store()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// A build script may take long if there is much that it may compile, which is known before.
#[cargo_test]
fn build_script_with_most_c_starts_first() {
    let on_both = "[dependencies]\none-sys.path = 'one-sys'\ntwo-sys.path = 'two-sys'";
    let packages = ["one-sys", "two-sys"];
    let p = project()
        .file("Cargo.toml", &manifest("foo", on_both))
        .file("src/main.rs", "fn main() {}");
    let p = packages.into_iter().fold(p, |p, package| {
        p.lib(package, "", "")
            .file(format!("{package}/build.rs"), "fn main() {}")
    });
    let p = p.build();
    for package in packages {
        p.build_dir().rm_rf();
        let _ = fs::remove_file(store());
        let library = p.root().join(package).join("vendored/library.c");
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        let file = fs::File::create(&library).unwrap();
        file.set_len(4_000_000).unwrap();
        let output = p.cargo("build -j1").run();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let compiled = stderr.lines().filter(|line| line.contains("Compiling"));
        let first = compiled.map(str::trim_start).next().unwrap();
        assert!(
            first.starts_with(&format!("Compiling {package}")),
            "{stderr}"
        );
        fs::remove_file(library).unwrap();
    }
}

/// A program that needs a tiny `syn`, and a crate that is larger and comes first by name.
fn with_syn(syn: &str) -> Project {
    Package::new("aaa", "1.0.0")
        .file("src/lib.rs", &"// Much.\n".repeat(4_000))
        .publish();
    Package::new("syn", "2.0.0").publish();
    let dependencies = format!("[dependencies]\naaa = \"1\"\nsyn = {syn}\n");
    project()
        .file("Cargo.toml", &manifest("unmistakable", &dependencies))
        .file("src/main.rs", "fn main() {}")
        .file("syn/Cargo.toml", &manifest("syn", ""))
        .file("syn/src/lib.rs", "")
        .build()
}

/// Returns which of the two the first build ever starts first.
fn first_of_first_build(p: &Project) -> String {
    let _ = fs::remove_file(store());
    let output = p.cargo("build -j1").run();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut compiled = stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Compiling "));
    let first = compiled.next().expect("nothing was compiled");
    first.split(' ').next().unwrap_or_default().to_owned()
}

/// `syn` takes seconds, as its source here does not tell.
#[cargo_test]
fn well_known_crate_goes_first_in_a_first_build() {
    assert_eq!(first_of_first_build(&with_syn("\"2\"")), "syn");
}

#[cargo_test]
fn package_of_ones_own_is_not_well_known() {
    assert_eq!(first_of_first_build(&with_syn("{ path = \"syn\" }")), "aaa");
}

/// The compiler reads what macros add, which may be much more than the source.
#[cargo_test]
fn crate_that_calls_most_macros_goes_first_in_a_first_build() {
    let calls = "nothing!();\n".repeat(10_000);
    let dependencies = "[dependencies]\naaa.path = 'aaa'\nzzz.path = 'zzz'";
    let p = project()
        .file("Cargo.toml", &manifest("unmistakable", dependencies))
        .file("src/main.rs", "fn main() {}")
        .lib("aaa", "", &"// Much.\n".repeat(40_000))
        .lib(
            "zzz",
            "",
            &format!("macro_rules! nothing {{ () => {{}} }}\n{calls}"),
        )
        .build();
    assert_eq!(first_of_first_build(&p), "zzz");
}
