//! What is up to date is decided by content: what was only touched is fresh, and what was changed is not,
//! whatever its times.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, project, rustc_host, str};

use crate::support::cutoff::{CutoffExt, copied, made, set, set_modified, touch};
use crate::support::gated::walk;
use crate::support::{BuilderExt, ExecsExt, ProjectExt, assert_everywhere, manifest, replacement};

const BUILD: &str = "build --workspace";

/// A program that prints what its dependencies have read: a build script from a directory, another one from
/// wherever it likes, a procedural macro from a file that it does not declare, and rustc from outside of the
/// package and of the workspace.
fn sources() -> Project {
    let watching = r#"
        use std::{env, fs};
        fn main() {
            println!("cargo::rerun-if-changed=list");
            let mut files: Vec<_> = fs::read_dir("list").unwrap().map(|it| it.unwrap().path()).collect();
            files.sort();
            let list: Vec<_> = files.iter().map(|it| fs::read_to_string(it).unwrap()).collect();
            let out = env::var("OUT_DIR").unwrap();
            fs::write(out + "/list.rs", format!("pub const LIST: &str = {list:?}[0];", list = [list.concat()])).unwrap();
        }
    "#;
    let silent = r#"
        fn main() { println!("cargo::rustc-env=TEXT={}", std::fs::read_to_string("text").unwrap()); }
    "#;
    let derive = r#"
        #[proc_macro]
        pub fn untracked(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/untracked";
            format!("{:?}", std::fs::read_to_string(path).unwrap()).parse().unwrap()
        }
    "#;
    let main = r#"
        fn main() {
            let texts = [watching::LIST, silent::TEXT, expands::UNTRACKED, included::TEXT, outside::TEXT];
            println!("{}", texts.join(" "));
        }
    "#;
    let p = project()
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['watching', 'silent', 'derive', 'expands', 'included', 'app']\nresolver = '2'",
        )
        .lib("watching", "", "include!(concat!(env!(\"OUT_DIR\"), \"/list.rs\"));")
        .file("watching/build.rs", watching)
        .file("watching/list/one", "one")
        .lib("silent", "", "pub const TEXT: &str = env!(\"TEXT\");")
        .file("silent/build.rs", silent)
        .file("silent/text", "text")
        .lib("derive", "[lib]\nproc-macro = true", derive)
        .lib(
            "expands",
            "[dependencies]\nderive.path = '../derive'",
            "pub const UNTRACKED: &str = derive::untracked!();",
        )
        .file("expands/untracked", "untracked")
        .lib("included", "", "pub const TEXT: &str = include_str!(\"../../included.txt\");")
        .file("included.txt", "included")
        .package(
            "app",
            "[dependencies]\nwatching.path = '../watching'\nsilent.path = '../silent'\nexpands.path = '../expands'
             included.path = '../included'\noutside.path = '../../outside'",
        )
        .file("app/src/main.rs", main)
        .file(".gitignore", "/target\n/Cargo.lock\n")
        .build();
    let _ = project()
        .at("outside")
        .file(
            "Cargo.toml",
            "[package]\nname = 'outside'\nversion = '0.1.0'\nedition = '2021'",
        )
        .file("src/lib.rs", "pub const TEXT: &str = \"outside\";")
        .build();
    p
}

/// Compiles as [`ProjectExt::cargo`] does.
fn released(p: &Project, line: &str) -> Execs {
    let mut cargo = p.released(line);
    cargo.env("CARGO_INCREMENTAL", "0");
    cargo
}

fn assert_fresh_to_released(p: &Project) {
    released(p, "build --workspace -v")
        .with_stderr_does_not_contain("[RUNNING][..]")
        .with_stderr_does_not_contain("[DIRTY][..]")
        .run();
}

/// The same, and built.
fn built() -> Project {
    let p = sources();
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "one text untracked included outside\n");
    p
}

fn printed(p: &Project) -> String {
    let output = p.process(p.bin("app")).run();
    String::from_utf8(output.stdout).unwrap()
}

/// Builds. Returns the units that were made. The program prints what that of a clean build by the released
/// cargo does, and then there is nothing left to do.
#[track_caller]
fn rebuilt(p: &Project) -> BTreeSet<String> {
    let build = || {
        p.cargo(BUILD).env("CARGO_BUILD_TRACE", "trace.json").run();
        made(&p.trace())
    };
    let made = build();
    let expected = copied(p, |p| {
        fs::remove_dir_all(p.build_dir()).unwrap();
        released(p, BUILD).run();
        printed(p)
    });
    assert_eq!(printed(p), expected);
    assert_eq!(build(), set(&[]));
    made
}

/// Returns the files that are not in the target directory.
fn source_files(p: &Project) -> Vec<std::path::PathBuf> {
    let mut files = walk(&p.root());
    files.retain(|path| !path.starts_with(p.build_dir()) && path.is_file());
    files.extend([p.root().parent().unwrap().join("outside/src/lib.rs")]);
    files
}

fn touch_all(p: &Project) {
    source_files(p).iter().for_each(|path| touch(path));
}

/// Changes a file as programs do that restore times.
fn change_with_old_time(p: &Project, path: &str, text: &str) {
    let path = p.root().join(path);
    fs::write(&path, text).unwrap();
    set_modified(&path, SystemTime::now() - Duration::from_secs(3600));
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn git(p: &Project, args: &[&str]) {
    let user = ["-c", "user.name=n", "-c", "user.email=e@example.org"];
    run("git", &[&user, args].concat(), &p.root());
}

#[cargo_test]
fn touched_files_are_fresh() {
    let p = built();
    touch_all(&p);
    p.cargo("build --workspace -v")
        .with_stderr_data(
            str![[r#"
[FRESH] outside v0.1.0 ([ROOT]/outside)
[FRESH] derive v0.1.0 ([ROOT]/foo/derive)
[FRESH] expands v0.1.0 ([ROOT]/foo/expands)
[FRESH] included v0.1.0 ([ROOT]/foo/included)
[FRESH] silent v0.1.0 ([ROOT]/foo/silent)
[FRESH] watching v0.1.0 ([ROOT]/foo/watching)
[FRESH] app v0.1.0 ([ROOT]/foo/app)
[FINISHED] `dev` profile [unoptimized + debuginfo] target(s) in [ELAPSED]s

"#]]
            .unordered(),
        )
        .run();
}

#[cargo_test]
fn files_are_read_once() {
    let p = built();
    let read = || {
        let output = p
            .cargo(BUILD)
            .env("CARGO_LOG", "cargo::compiler::fingerprint=debug")
            .run();
        let log = String::from_utf8(output.stderr).unwrap();
        let lines = log
            .lines()
            .filter(|it| it.contains("which has not changed"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(read(), [""; 0]);
    touch_all(&p);
    let read_after_touch = read();
    for file in [
        "watching/list/one",
        "silent/text",
        "app/src/main.rs",
        "included.txt",
    ] {
        let is_it = |line: &&String| line.contains(file) && line.contains("modification time");
        assert_eq!(read_after_touch.iter().filter(is_it).count(), 1, "{file}");
    }
    assert_eq!(read(), [""; 0]);
}

/// As on a machine that tests every commit.
#[cargo_test]
fn fresh_checkout_with_restored_target() {
    let p = sources();
    git(&p, &["init", "-q"]);
    git(&p, &["add", "."]);
    git(&p, &["commit", "-q", "-m", "first"]);
    p.cargo(BUILD).run();
    let parent = p.root().parent().unwrap().to_owned();
    run("tar", &["-cf", "../target.tar", "target"], &p.root());
    fs::rename(p.root(), parent.join("origin")).unwrap();
    let checkout = |tar_options: &[&str]| {
        let _ = fs::remove_dir_all(p.root());
        run("git", &["clone", "-q", "origin", "foo"], &parent);
        fs::copy(
            parent.join("origin/Cargo.lock"),
            p.root().join("Cargo.lock"),
        )
        .unwrap();
        run(
            "tar",
            &[tar_options, &["-xf", "../target.tar"]].concat(),
            &p.root(),
        );
    };
    checkout(&[]);
    assert_eq!(rebuilt(&p), set(&[]));
    checkout(&[]);
    fs::write(p.root().join("included.txt"), "changed").unwrap();
    assert_eq!(rebuilt(&p), set(&["included lib", "app bin"]));
    assert_eq!(printed(&p), "one text untracked changed outside\n");

    // A target directory that lost its times.
    checkout(&["-m"]);
    assert_eq!(printed(&p), "one text untracked included outside\n");
    rebuilt(&p);
}

#[cargo_test]
fn change_with_an_older_time() {
    for (path, made) in [
        ("app/src/main.rs", &["app bin"][..]),
        ("included.txt", &["included lib", "app bin"]),
        (
            "watching/list/one",
            &["watching run", "watching lib", "app bin"],
        ),
        ("silent/text", &["silent run", "silent lib", "app bin"]),
        ("../outside/src/lib.rs", &["outside lib", "app bin"]),
    ] {
        let p = built();
        let text = fs::read_to_string(p.root().join(path)).unwrap();
        let changed = match text.split_once("pub const TEXT: &str = \"outside\"") {
            Some(_) => "pub const TEXT: &str = \"outsidf\";".to_owned(),
            None if path.ends_with(".rs") => text.replace("\" \"", "\"-\""),
            None => "other".chars().chain(text.chars().skip(5)).collect(),
        };
        assert_ne!(text, changed);
        change_with_old_time(&p, path, &changed);
        // Which the released cargo does not notice, unless it is the newest file of a package.
        copied(&p, |p| {
            if path == "silent/text" {
                return;
            }
            let before = printed(p);
            released(p, BUILD).run();
            assert_eq!(printed(p), before);
        });
        assert_eq!(rebuilt(&p), set(made), "{path}");
    }
}

#[cargo_test]
fn dirty_reason_names_the_file() {
    let p = built();
    let dirty = |line: &str, contains: &str| {
        p.cargo(line).with_stderr_contains(contains).run();
    };
    change_with_old_time(&p, "included.txt", "includec");
    dirty(
        "build -p included -v",
        "[DIRTY] included v0.1.0 ([ROOT]/foo/included): the file `[..]included.txt` has changed (checksum didn't match, [..] != [..])",
    );
    change_with_old_time(&p, "included.txt", "longer than before");
    dirty(
        "build -p included -v",
        "[DIRTY] included v0.1.0 ([ROOT]/foo/included): file size changed (8 != 18) for `[..]included.txt`",
    );
    p.change_file("included.txt", "newer");
    dirty(
        "build -p included -v",
        "[DIRTY] included v0.1.0 ([ROOT]/foo/included): the file `[..]included.txt` has changed ([TIME_DIFF_AFTER_LAST_BUILD])",
    );
    change_with_old_time(&p, "silent/text", "tex_");
    dirty(
        "build -p silent -v",
        "[DIRTY] silent v0.1.0 ([ROOT]/foo/silent): the file `silent/text` has changed (checksum didn't match, [..] != [..])",
    );
    change_with_old_time(&p, "watching/list/two", "two");
    dirty(
        "build -p watching -v",
        "[DIRTY] watching v0.1.0 ([ROOT]/foo/watching): the checksum for file `watching/list/two` is missing",
    );
    fs::remove_file(p.root().join("watching/list/two")).unwrap();
    dirty(
        "build -p watching -v",
        "[DIRTY] watching v0.1.0 ([ROOT]/foo/watching): the file `watching/list/two` is missing",
    );
}

#[cargo_test]
fn branches() {
    let p = sources();
    git(&p, &["init", "-q", "-b", "main"]);
    git(&p, &["add", "."]);
    git(&p, &["commit", "-q", "-m", "first"]);
    git(&p, &["checkout", "-q", "-b", "other"]);
    p.change_file("included.txt", "other");
    p.change_file("watching/list/two", " two");
    git(&p, &["add", "."]);
    git(&p, &["commit", "-q", "-m", "second"]);
    p.cargo(BUILD).run();
    git(&p, &["switch", "-q", "main"]);
    git(&p, &["switch", "-q", "other"]);
    assert_eq!(rebuilt(&p), set(&[]));
    let differs = set(&["included lib", "watching run", "watching lib", "app bin"]);
    for branch in ["main", "other"] {
        git(&p, &["switch", "-q", branch]);
        assert_eq!(rebuilt(&p), differs);
    }
}

#[cargo_test]
fn what_build_scripts_watch() {
    let p = built();
    let run = set(&["watching run"]);
    let unless_unchanged = set(&["watching run", "watching lib", "app bin"]);
    let path = |name: &str| p.root().join("watching").join(name);
    let check = |what: &str, change: &dyn Fn(), expected: &BTreeSet<String>| {
        change();
        let made = rebuilt(&p);
        assert_eq!(made.is_empty(), expected.is_empty(), "{what}: {made:?}");
        assert!(made.is_superset(expected), "{what}: {made:?}");
    };
    check("touched", &|| touch(&path("list/one")), &set(&[]));
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let change_back = || {
        write("list/one", "other");
        write("list/one", "one");
    };
    check("changed and changed back", &change_back, &set(&[]));
    check("gained", &|| write("list/two", "two"), &unless_unchanged);
    check("gained an empty file", &|| write("list/none", ""), &run);
    let rename = |from: &str, to: &str| fs::rename(path(from), path(to)).unwrap();
    check(
        "renamed",
        &|| rename("list/two", "list/a"),
        &unless_unchanged,
    );
    let remove = |name: &str| fs::remove_file(path(name)).unwrap();
    check("lost", &|| remove("list/a"), &unless_unchanged);
    let swap = || {
        write("list/one", "ONE");
        set_modified(&path("list/one"), SystemTime::UNIX_EPOCH);
    };
    check("older", &swap, &unless_unchanged);
    let link = |to: &str| symlink(to, path("list/link")).unwrap();
    write("first", "first");
    write("second", "first");
    check("gained a link", &|| link("../first"), &unless_unchanged);
    let retarget = || {
        remove("list/link");
        link("../second");
    };
    check("link to another file", &retarget, &run);
    check("behind a link", &|| write("second", "2"), &unless_unchanged);
    check("not behind a link", &|| write("first", "1"), &set(&[]));
}

#[cargo_test]
fn what_a_silent_build_script_watches() {
    let p = built();
    let run = set(&["silent run"]);
    let path = |name: &str| p.root().join("silent").join(name);
    for (what, change, is_run) in [
        ("touched", &(|| touch(&path("text"))) as &dyn Fn(), false),
        ("gained", &|| fs::write(path("more"), "").unwrap(), true),
        ("lost", &|| fs::remove_file(path("more")).unwrap(), true),
        (
            "older",
            &|| change_with_old_time(&p, "silent/text", "old"),
            true,
        ),
    ] {
        change();
        assert_eq!(rebuilt(&p).is_superset(&run), is_run, "{what}");
    }
}

/// The released cargo would compile `expands`, as everything else that was touched.
#[cargo_test]
fn untracked_files() {
    let p = built();
    p.change_file("expands/untracked", "other");
    touch_all(&p);
    assert_eq!(rebuilt(&p), set(&["expands lib", "app bin"]));
}

/// The released cargo would compile everything above what was touched, with what it does not track.
#[cargo_test]
fn untracked_files_above_touched_ones() {
    let p = built();
    p.change_file("expands/untracked", "other");
    touch(&p.root().join("derive/src/lib.rs"));
    assert_eq!(rebuilt(&p), set(&["expands lib", "app bin"]));

    // Of a library below the macro.
    p.change_file(
        "derive/Cargo.toml",
        &with_dependency("derive", "[lib]\nproc-macro = true\n"),
    );
    p.change_file("grammar/Cargo.toml", &manifest("grammar", ""));
    p.change_file("grammar/rules", "one");
    let rules = "pub fn rules(dir: &str) -> String { std::fs::read_to_string(dir.to_owned() + \"/../grammar/rules\").unwrap() }";
    p.change_file("grammar/src/lib.rs", rules);
    let derive = r#"
        #[proc_macro]
        pub fn untracked(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            format!("{:?}", grammar::rules(&std::env::var("CARGO_MANIFEST_DIR").unwrap())).parse().unwrap()
        }
    "#;
    p.change_file("derive/src/lib.rs", derive);
    rebuilt(&p);
    p.change_file("grammar/rules", "two");
    touch(&p.root().join("expands/src/lib.rs"));
    assert_eq!(rebuilt(&p), set(&["expands lib", "app bin"]));
    assert_eq!(printed(&p), "one text two included outside\n");
}

/// A program that prints what a macro makes of variables, and what Cargo tells the compiler.
fn prints_variables() -> Project {
    let derive = r#"
        use std::{env, fs};
        #[proc_macro]
        pub fn variables(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            let written = env::var("WRITTEN").unwrap_or_default();
            if !written.is_empty() { fs::write(written + "/file", "").unwrap(); }
            let values = ["VARIABLE", "GITHUB_SHA"].map(|name| env::var(name).unwrap_or_default());
            format!("{:?}", values.join(" ")).parse().unwrap()
        }
    "#;
    project()
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['derive', 'low', 'expands', 'app']\nresolver = '2'",
        )
        .lib("derive", "[lib]\nproc-macro = true", derive)
        .lib("low", "", "pub fn low() {}\n//1\n")
        .lib(
            "expands",
            "[dependencies]\nderive.path = '../derive'\nlow.path = '../low'",
            r#"pub const TEXT: &str = derive::variables!();
               pub const IS_PRIMARY: bool = option_env!("CARGO_PRIMARY_PACKAGE").is_some();"#,
        )
        .package("app", "[dependencies]\nexpands.path = '../expands'")
        .file(
            "app/src/main.rs",
            r#"fn main() { println!("{} {}", expands::TEXT, expands::IS_PRIMARY) }"#,
        )
        .build()
}

#[cargo_test]
fn variables_that_macros_read() {
    let p = prints_variables();
    let build = |variable: &str, commit: &str| {
        touch(&p.root().join("expands/src/lib.rs"));
        p.cargo(BUILD)
            .env("VARIABLE", variable)
            .env("GITHUB_SHA", commit)
            .run();
        printed(&p)
    };
    assert_eq!(build("one", "1"), "one 1 true\n");
    assert_eq!(build("two", "1"), "two 1 true\n");
    // Otherwise nothing would be fresh in continuous integration.
    assert_eq!(build("two", "2"), "two 1 true\n");
    assert_eq!(build("three", "2"), "three 2 true\n");
}

/// As macros of sqlx do, where `cargo sqlx prepare` removes what they have written and touches sources.
#[cargo_test]
fn files_that_macros_write() {
    let p = prints_variables();
    let dir = p.root().join("written");
    fs::create_dir(&dir).unwrap();
    let checks = |cargo: &dyn Fn(&str) -> Execs| {
        let _ = fs::remove_file(dir.join("file"));
        touch(&p.root().join("expands/src/lib.rs"));
        cargo("check --workspace").env("WRITTEN", &dir).run();
        assert!(dir.join("file").exists());
    };
    p.cargo("check --workspace").run();
    for _ in 0..3 {
        checks(&|line| p.cargo(line));
    }
    for _ in 0..3 {
        checks(&|line| released(&p, line));
    }
}

/// `CARGO_PRIMARY_PACKAGE`: clippy, for one, lints nothing else with `--no-deps`.
#[cargo_test]
fn packages_that_are_asked_for() {
    let touched = |p: &Project| touch(&p.root().join("expands/src/lib.rs"));
    let below = |p: &Project| p.change_file("low/src/lib.rs", "pub fn low() {}\n//2\n");
    for edit in [touched, below] {
        let built = |cargo: &dyn Fn(&Project, &str) -> Execs| {
            let p = prints_variables();
            cargo(&p, "build -p app").run();
            assert_eq!(printed(&p), "  false\n");
            edit(&p);
            cargo(&p, "build -p app -p expands").run();
            printed(&p)
        };
        let incremental = |mut cargo: Execs| {
            cargo.env("CARGO_INCREMENTAL", "1");
            cargo
        };
        let expected = built(&|p, line| incremental(p.released(line)));
        assert_eq!(expected, "  true\n");
        assert_eq!(built(&|p, line| incremental(p.cargo(line))), expected);
    }
}

/// Its tests run programs by their paths.
#[cargo_test]
fn programs_in_another_directory() {
    let p = project()
        .package("app", "")
        .file("app/src/main.rs", "fn main() {}")
        .file(
            "app/tests/it.rs",
            r#"#[test] fn it() { println!("{}", env!("CARGO_BIN_EXE_app")) }"#,
        )
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['app']\nresolver = '2'",
        )
        .file(".cargo/config.toml", "build.build-dir = 'shared'")
        .build();
    for dir in ["first", "second"] {
        touch(&p.root().join("app/tests/it.rs"));
        let line = format!("test --target-dir {dir} -- --nocapture");
        let stdout = format!("...\n[ROOT]/foo/{dir}/debug/app\n...\n");
        p.cargo(&line).with_stdout_data(stdout).run();
    }
}

fn with_dependency(name: &str, rest: &str) -> String {
    manifest(
        name,
        &format!("{rest}[dependencies]\ngrammar.path = '../grammar'"),
    )
}

/// Makes `libnative.a` in a directory of the project, and returns the path of that.
fn native_library(p: &Project, dir: &str, value: u8) -> PathBuf {
    p.change_file(
        format!("{dir}/native.c"),
        &format!("int native(void) {{ return {value}; }}"),
    );
    let dir = p.root().join(dir);
    run("cc", &["-c", "native.c"], &dir);
    run("ar", &["crs", "libnative.a", "native.o"], &dir);
    dir
}

/// A script that watches a header, which was touched, and a library that nothing declares.
#[cargo_test]
fn native_library_above_a_touched_header() {
    let p = project()
        .package("app", "")
        .file("app/build.rs", NATIVE)
        .file(
            "app/src/main.rs",
            "extern \"C\" { fn native() -> i32; } fn main() { println!(\"{}\", unsafe { native() }) }",
        )
        .file("app/native.h", "")
        .file("Cargo.toml", "[workspace]\nmembers = ['app']\nresolver = '2'")
        .build();
    native_library(&p, "libs", 1);
    p.cargo(BUILD).run();
    touch(&p.root().join("app/native.h"));
    assert_eq!(rebuilt(&p), set(&[]));
    native_library(&p, "libs", 2);
    touch(&p.root().join("app/native.h"));
    assert_eq!(rebuilt(&p), set(&["app bin"]));
    assert_eq!(printed(&p), "2\n");
}

/// It has no objects that would tell of it.
#[cargo_test]
fn native_library_that_was_empty() {
    let p = project()
        .lib(
            "sys",
            "",
            "extern \"C\" { fn native() -> i32; } pub fn sys() -> i32 { unsafe { native() } }",
        )
        .file("sys/build.rs", NATIVE)
        .file("sys/native.h", "")
        .package("app", "[dependencies]\nsys.path = '../sys'")
        .file(
            "app/src/main.rs",
            "fn main() { println!(\"{}\", sys::sys()) }",
        )
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['sys', 'app']\nresolver = '2'",
        )
        .file("libs/libnative.a", "!<arch>\n")
        .build();
    p.cargo(BUILD).without_status().run();
    assert!(!p.bin("app").exists());
    native_library(&p, "libs", 1);
    touch(&p.root().join("sys/src/lib.rs"));
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "1\n");
}

const NATIVE: &str = r#"
    fn main() {
        println!("cargo::rerun-if-changed=native.h");
        println!("cargo::rustc-link-search=native={}/../libs", std::env::var("CARGO_MANIFEST_DIR").unwrap());
        println!("cargo::rustc-link-lib=static=native");
    }
"#;

/// The path of a package may be in what is compiled.
#[cargo_test]
fn in_another_place() {
    let p = project()
        .package("app", "")
        .file(
            "app/src/main.rs",
            "fn main() { println!(\"{}\", env!(\"CARGO_MANIFEST_DIR\")) }",
        )
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['app']\nresolver = '2'",
        )
        .build();
    p.cargo(BUILD).run();
    let first = printed(&p);
    let parent = p.root().parent().unwrap().to_owned();
    fs::rename(p.root(), parent.join("bar")).unwrap();
    touch(&parent.join("bar/app/src/main.rs"));
    let mut cargo = p.process(replacement());
    cargo.cwd(parent.join("bar")).arg("build").run();
    let mut program = p.process(parent.join("bar/target/debug/app"));
    let output = program.cwd(parent.join("bar")).run();
    let second = String::from_utf8(output.stdout).unwrap();
    assert_eq!(second, first.replace("/foo/", "/bar/"));
}

#[cargo_test]
fn time_in_the_future() {
    let p = built();
    let path = p.root().join("expands/src/lib.rs");
    set_modified(&path, SystemTime::now() + Duration::from_secs(3600));
    p.cargo(BUILD).run();
    p.change_file("expands/untracked", "other");
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "one text other included outside\n");
}

/// Its dependents have no ledger entry.
#[cargo_test]
fn overridden_build_script() {
    let p = project()
        .package("app", "[dependencies]\nsys.path = '../sys'")
        .file(
            "app/src/main.rs",
            "fn main() { println!(\"{}\", include_str!(\"text\")) }",
        )
        .file("app/src/text", "text")
        .lib("sys", "links = 'native'", "")
        .file("sys/build.rs", "fn main() { panic!() }")
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['app', 'sys']\nresolver = '2'",
        )
        .build();
    let config = format!("[target.{}.native]\nrustc-cfg = ['x']\n", rustc_host());
    p.change_file(".cargo/config.toml", &config);
    p.cargo(BUILD).run();
    change_with_old_time(&p, "app/src/text", "tex_");
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "tex_\n");
}

/// The released cargo would run the script because it was touched, and the script reads what it does not declare.
/// A program that prints the value that its build script has set.
fn prints_value(script: &str) -> ProjectBuilder {
    project()
        .package("app", "[build-dependencies]\nhelper.path = '../helper'")
        .file(
            "app/src/main.rs",
            "fn main() { println!(\"{}\", env!(\"VALUE\")) }",
        )
        .file("app/build.rs", &format!("fn main() {{ {script} }}"))
        .file("app/value", "1")
        .lib(
            "helper",
            "",
            r#"pub fn read() -> String {
                std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/value")).unwrap()
            }"#,
        )
        .file("helper/value", "1")
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = ['app']\nresolver = '2'",
        )
}

const PRINT_VALUE: &str =
    r#"println!("cargo::rustc-env=VALUE={}", std::fs::read_to_string("value").unwrap());"#;

#[cargo_test]
fn undeclared_files_of_a_touched_build_script() {
    let declared = r#"println!("cargo::rerun-if-env-changed=VARIABLE");"#;
    let below = r#"println!("cargo::rustc-env=VALUE={}", helper::read());"#;
    let guest = r#"println!("cargo::rustc-env=VALUE={}", std::fs::read_to_string("guest/value").unwrap());"#;
    for (script, value) in [
        (PRINT_VALUE, "app/value"),
        (below, "helper/value"),
        (guest, "app/guest/value"),
    ] {
        let p = prints_value(&format!("{declared} {script}"))
            .file("app/guest/Cargo.toml", "")
            .file("app/guest/value", "1")
            .build();
        p.cargo(BUILD).run();
        for touched in ["app/build.rs", "helper/src/lib.rs"] {
            touch(&p.root().join(touched));
            assert_eq!(rebuilt(&p), set(&[]), "{touched}");
        }
        p.change_file(value, "2");
        touch(&p.root().join("helper/src/lib.rs"));
        assert_eq!(rebuilt(&p), set(&["app run", "app bin"]), "{value}");
        assert_eq!(printed(&p), "2\n");
    }
}

#[cargo_test]
fn undeclared_file_that_is_changed_while_a_build_script_runs() {
    let change = r#"
        println!("cargo::rerun-if-env-changed=VARIABLE");
        if std::fs::remove_file("../change").is_ok() { std::fs::write("value", "2").unwrap(); }"#;
    let p = prints_value(&format!("{PRINT_VALUE} {change}"))
        .file("change", "")
        .build();
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "1\n");
    touch(&p.root().join("app/build.rs"));
    assert_eq!(rebuilt(&p), set(&["app run", "app bin"]));
    assert_eq!(printed(&p), "2\n");
}

#[cargo_test]
fn file_that_is_removed_while_a_build_script_runs() {
    let count = r#"
        println!("cargo::rerun-if-changed=list");
        println!("cargo::rustc-env=VALUE={}", std::fs::read_dir("list").unwrap().count());
        let modified = |path: &str| std::fs::metadata(path).unwrap().modified().unwrap();
        let [first, last] = ["/first", "/last"].map(|name| std::env::var("OUT_DIR").unwrap() + name);
        std::fs::write(&first, "").unwrap();
        // Not in the tick in which the script was started.
        while {
            std::fs::write(&last, "").unwrap();
            modified(&last) == modified(&first)
        } {}
        let _ = std::fs::remove_file("list/second");"#;
    let p = prints_value(count)
        .file("app/list/first", "")
        .file("app/list/second", "")
        .build();
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "2\n");
    assert_eq!(rebuilt(&p), set(&["app run", "app bin"]));
    assert_eq!(printed(&p), "1\n");
}

/// The times of when a file was changed are new, its content and its own time are not.
#[cargo_test]
fn build_scripts_that_set_permissions() {
    let permit = r#"
        let file = std::fs::File::open("value").unwrap();
        file.set_permissions(file.metadata().unwrap().permissions()).unwrap();"#;
    for declared in [r#"println!("cargo::rerun-if-changed=value");"#, ""] {
        let p = prints_value(&format!("{declared} {PRINT_VALUE} {permit}")).build();
        p.cargo(BUILD).run();
        // The first time it is not known whether the content was changed, too.
        assert_eq!(rebuilt(&p), set(&["app run", "app bin"]), "{declared}");
        change_with_old_time(&p, "app/value", "2");
        assert_eq!(rebuilt(&p), set(&["app run", "app bin"]), "{declared}");
        assert_eq!(printed(&p), "2\n");
    }
}

/// The branch has the same name, and the files of the package the same content.
#[cargo_test]
fn build_scripts_that_read_the_commit() {
    let commit = r#"
        let git = std::process::Command::new("git").args(["log", "-1", "--format=%s"]).output().unwrap();
        println!("cargo::rustc-env=VALUE={}", String::from_utf8(git.stdout).unwrap().trim());"#;
    for declared in [
        "",
        r#"println!("cargo::rerun-if-changed=../.git/HEAD");"#,
        r#"println!("cargo::rerun-if-changed=value");"#,
    ] {
        let p = prints_value(&format!("{declared} {commit}"))
            .file(".gitignore", "/target\n")
            .build();
        git(&p, &["init", "-q"]);
        git(&p, &["add", "."]);
        git(&p, &["commit", "-q", "-m", "first"]);
        p.cargo(BUILD).run();
        let touch_all = || {
            touch(&p.root().join("app/build.rs"));
            touch(&p.root().join("app/value"));
            git(&p, &["pack-refs", "--all"]);
        };
        touch_all();
        assert_eq!(rebuilt(&p), set(&[]), "{declared}");
        git(&p, &["commit", "-q", "--allow-empty", "-m", "second"]);
        touch_all();
        p.cargo(BUILD).run();
        assert_eq!(printed(&p), "second\n", "{declared}");
    }
}

#[cargo_test]
fn documentation_above_touched_files() {
    let p = built();
    let document = || p.cargo("doc --no-deps -p expands").run();
    let page = p.root().join("target/doc/expands/constant.UNTRACKED.html");
    document();
    assert!(fs::read_to_string(&page).unwrap().contains("untracked"));
    p.change_file("expands/untracked", "changed");
    touch(&p.root().join("derive/src/lib.rs"));
    document();
    assert!(!fs::read_to_string(&page).unwrap().contains("\"untracked\""));
}

/// Two checkouts have the same target directory, and a dependency outside of both.
#[cargo_test]
fn checkouts_that_share_a_target_directory() {
    let checkout = |name: &str| {
        project()
            .at(name)
            .package("app", "[dependencies]\nshared.path = '../../shared'")
            .file(
                "app/src/main.rs",
                &format!("fn main() {{ println!(\"{name} {{}}\", shared::TEXT) }}"),
            )
            .file(
                "Cargo.toml",
                "[workspace]\nmembers = ['app']\nresolver = '2'",
            )
            .build()
    };
    let _ = project()
        .at("shared")
        .file(
            "Cargo.toml",
            "[package]\nname = 'shared'\nversion = '0.1.0'\nedition = '2021'",
        )
        .file("src/lib.rs", "pub const TEXT: &str = \"shared\";")
        .build();
    let [second, first] = ["second", "first"].map(checkout);
    let target = first.build_dir();
    let build = |p: &Project| p.cargo(BUILD).env("CARGO_TARGET_DIR", &target).run();
    build(&first);
    assert_eq!(printed(&first), "first shared\n");
    touch(&first.root().parent().unwrap().join("shared/src/lib.rs"));
    build(&second);
    assert_eq!(printed(&first), "second shared\n");
}

#[cargo_test]
fn silent_build_script_that_runs_for_another_reason() {
    let p = built();
    let manifest = p.root().join("silent/Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    p.change_file(
        "silent/Cargo.toml",
        &(text + "\n[build-dependencies]\nincluded.path = '../included'\n"),
    );
    rebuilt(&p);
    p.change_file("included.txt", "other");
    assert!(rebuilt(&p).contains("silent run"));
    touch_all(&p);
    assert_eq!(rebuilt(&p), set(&[]));
    change_with_old_time(&p, "silent/text", "tex_");
    assert!(rebuilt(&p).contains("silent run"));
}

#[cargo_test]
fn untracked_files_of_the_linker() {
    let p = sources();
    let config = "[target.'cfg(all())']\nrustflags = ['-Clink-arg=native.o']\n";
    let native = |text: &str| {
        p.change_file("native.c", text);
        run("cc", &["-c", "native.c", "-o", "app/native.o"], &p.root());
        for dir in ["derive", "silent", "watching", "."] {
            fs::copy(
                p.root().join("app/native.o"),
                p.root().join(dir).join("native.o"),
            )
            .unwrap();
        }
    };
    native("int native(void) { return 1; }");
    p.change_file(".cargo/config.toml", config);
    p.cargo(BUILD).run();
    native("int native(void) { return 2; }");
    touch_all(&p);
    assert!(rebuilt(&p).contains("app bin"));
}

/// A link in the output directory of a build script, and scripts of the linker in place of libraries, that lead to a
/// library.
#[cargo_test]
fn native_library_behind_another_file() {
    let out = r#"let dir = std::env::var("OUT_DIR").unwrap();"#;
    let outside = r#"let dir = root.clone() + "/libs"; let _ = std::fs::create_dir(&dir);"#;
    let link = r#"std::os::unix::fs::symlink(&real, dir.clone() + "/libnamed.a").unwrap();"#;
    let script = |name: &str| {
        format!(r#"std::fs::write(dir.clone() + "/{name}", format!("INPUT({{real}})")).unwrap();"#)
    };
    for (dir, make) in [
        (out, link.to_owned()),
        (out, script("libnamed.so")),
        (outside, script("libnamed.so")),
        (outside, script("libnamed.a")),
    ] {
        let main = r#"
            #[link(name = "named", kind = "dylib")] extern "C" { fn native() -> i32; }
            fn main() { println!("{}", unsafe { native() }) }
        "#;
        let build = format!(
            r#"fn main() {{
                let root = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/..";
                let real = root.clone() + "/real/libnative.a";
                println!("cargo::rerun-if-changed=build.rs");
                {dir} {make}
                println!("cargo::rustc-link-search=native={{dir}}");
            }}"#
        );
        let p = project()
            .file("Cargo.toml", "[workspace]\nmembers = ['app']")
            .package("app", "")
            .file("app/src/main.rs", main)
            .file("app/build.rs", &build)
            .build();
        native_library(&p, "real", 1);
        p.cargo(BUILD).run();
        native_library(&p, "real", 2);
        touch(&p.root().join("app/src/main.rs"));
        p.cargo(BUILD).run();
        assert_eq!(printed(&p), "2\n", "{dir} {make}");
    }
}

#[cargo_test]
fn search_path_of_the_linker() {
    let main = r#"
        #[link(name = "native")] extern "C" { fn native() -> i32; }
        fn main() { println!("{}", unsafe { native() }) }
    "#;
    let p = project()
        .file("Cargo.toml", "[workspace]\nmembers = ['app']")
        .package("app", "")
        .file("app/src/main.rs", main)
        .build();
    let build = |value: u8| {
        let dir = native_library(&p, &format!("libs{value}"), value);
        p.cargo(BUILD).env("LIBRARY_PATH", dir).run();
        assert_eq!(printed(&p), format!("{value}\n"));
    };
    build(1);
    touch(&p.root().join("app/src/main.rs"));
    build(2);
}

/// What a macro and a build script can read of the package is in no file of the package.
#[cargo_test]
fn description_from_the_workspace() {
    let read = r#"std::env::var("CARGO_PKG_DESCRIPTION").unwrap()"#;
    let workspace = |text: &str| {
        let package = format!("[workspace.package]\ndescription = '{text}'");
        format!("[workspace]\nmembers = ['app', 'low', 'derive']\nresolver = '2'\n{package}")
    };
    let derive = format!(
        "#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{
            format!(\"{{:?}}\", {read}).parse().unwrap()
        }}"
    );
    let dependencies = "description.workspace = true\n[dependencies]\nlow.path = '../low'\nderive.path = '../derive'";
    let p = project()
        .file("Cargo.toml", &workspace("one"))
        .lib("low", "", "")
        .lib("derive", "[lib]\nproc-macro = true", &derive)
        .package("app", dependencies)
        .file(
            "app/build.rs",
            &format!("fn main() {{ println!(\"cargo::rustc-env=TEXT={{}}\", {read}) }}"),
        )
        .file(
            "app/src/main.rs",
            "fn main() { let _ = low::MORE; println!(\"{} {}\", derive::text!(), env!(\"TEXT\")) }",
        )
        .file("low/src/lib.rs", "pub const MORE: u8 = 1;")
        .build();
    p.cargo(BUILD).run();
    p.change_file("Cargo.toml", &workspace("two"));
    touch(&p.root().join("app/src/main.rs"));
    assert_eq!(rebuilt(&p), set(&["app run", "app bin"]));
    assert_eq!(printed(&p), "two two\n");

    // The dependency comes out the same.
    let with_comment = |text: &str| {
        let code = format!("pub const MORE: u8 = 1; // {text}");
        p.change_file("low/src/lib.rs", &code);
        p.cargo(BUILD).env("CARGO_INCREMENTAL", "1").run();
    };
    with_comment("one");
    p.change_file("Cargo.toml", &workspace("three"));
    with_comment("two");
    assert_eq!(printed(&p), "three two\n");
}

type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[cargo_test]
fn records_in_doubt() {
    let dep_info = |p: &Project| {
        let found = p.in_target("dep-lib-included");
        assert_eq!(found.len(), 1);
        found[0].clone()
    };
    let damages: [(&str, Damage<'_>); 4] = [
        ("empty", &|bytes| bytes.clear()),
        ("cut", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("another digest", &|bytes| {
            let at = bytes.len() - 100;
            bytes[at] ^= 1;
        }),
        ("of another version", &|bytes| {
            let at = bytes.len() - 1;
            bytes[at] ^= 1;
        }),
    ];
    for (what, damage) in damages {
        let p = built();
        let path = dep_info(&p);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        set_modified(&path, time);
        touch_all(&p);
        assert!(rebuilt(&p).contains("included lib"), "{what}");
    }
    let p = built();
    for entry in p.in_target("invoked.timestamp") {
        let time = fs::metadata(&entry).unwrap().modified().unwrap();
        fs::write(&entry, "damaged").unwrap();
        set_modified(&entry, time);
    }
    touch_all(&p);
    let all = rebuilt(&p);
    assert!(all.is_superset(&set(&["silent run", "watching run", "app bin"])));
}

/// The file has its old time and size again when the compiler or the build script ends.
#[cargo_test]
fn changed_while_it_is_read() {
    let p = sources();
    let wrapper = r#"#!/bin/sh
        "$@" || exit
        case "$*" in *"--crate-name included "*)
            if [ -e change ]; then
                rm change; touch -r included.txt time; printf changed1 > included.txt; touch -r time included.txt
            fi
        esac"#;
    p.change_file("wrapper", wrapper);
    run("chmod", &["+x", "wrapper"], &p.root());
    p.change_file("change", "");
    p.cargo(BUILD)
        .env("RUSTC_WRAPPER", p.root().join("wrapper"))
        .run();
    assert_eq!(printed(&p), "one text untracked included outside\n");
    assert!(rebuilt(&p).contains("included lib"));
    assert_eq!(printed(&p), "one text untracked changed1 outside\n");

    let script = p.root().join("silent/build.rs");
    let text = fs::read_to_string(&script).unwrap();
    let end = r#"
        let set = |text| {
            let time = std::fs::metadata("text").unwrap().modified().unwrap();
            std::fs::write("text", text).unwrap();
            std::fs::File::options().append(true).open("text").unwrap().set_modified(time).unwrap();
        };
        if std::fs::remove_file("../change").is_ok() { set("TEXT"); }
    }"#;
    fs::write(
        &script,
        text.trim_end().strip_suffix('}').unwrap().to_owned() + end,
    )
    .unwrap();
    p.change_file("change", "");
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "one text untracked changed1 outside\n");
    assert!(rebuilt(&p).contains("silent run"));
    assert_eq!(printed(&p), "one TEXT untracked changed1 outside\n");
}

#[cargo_test]
fn replaced_files() {
    let p = built();
    let path = p.root().join("included.txt");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let other = p.root().join("other");
    fs::write(&other, "INCLUDED").unwrap();
    set_modified(&other, time);
    fs::rename(&other, &path).unwrap();
    assert_eq!(rebuilt(&p), set(&["included lib", "app bin"]));

    // A directory that was replaced by one with older files.
    let list = |name: &str| p.root().join("watching").join(name);
    fs::create_dir(list("other")).unwrap();
    fs::write(list("other/one"), "1ne").unwrap();
    let time = fs::metadata(list("list/one")).unwrap().modified().unwrap();
    set_modified(&list("other/one"), time);
    fs::rename(list("list"), list("aside")).unwrap();
    fs::rename(list("other"), list("list")).unwrap();
    assert!(rebuilt(&p).contains("watching run"));

    // What cannot be read.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    p.cargo(BUILD)
        .with_status(101)
        .with_stderr_contains("[ERROR] couldn't read [..]included.txt[..]")
        .run();
}

#[cargo_test]
fn links_between_sources() {
    let p = built();
    let path = |name: &str| p.root().join("included").join(name);
    fs::write(path("first.txt"), "first").unwrap();
    fs::write(path("second.txt"), "second").unwrap();
    symlink("first.txt", path("link.txt")).unwrap();
    let text = "pub const TEXT: &str = include_str!(\"../link.txt\");";
    fs::write(path("src/lib.rs"), text).unwrap();
    assert!(rebuilt(&p).contains("included lib"));
    fs::remove_file(path("link.txt")).unwrap();
    symlink("second.txt", path("link.txt")).unwrap();
    assert!(rebuilt(&p).contains("included lib"));
    assert_eq!(printed(&p), "one text untracked second outside\n");
}

#[cargo_test]
fn generated_sources() {
    let p = sources();
    let script = p.root().join("watching/build.rs");
    let text = fs::read_to_string(&script).unwrap();
    let outside = text.replace(
        "let out = ",
        "fs::create_dir_all(\"generated\").unwrap();\nlet out = \"generated\".to_owned(); let _ = ",
    );
    assert_ne!(text, outside);
    fs::write(&script, outside).unwrap();
    p.change_file("watching/src/lib.rs", "include!(\"../generated/list.rs\");");
    p.cargo(BUILD).run();
    assert_eq!(rebuilt(&p), set(&[]));
    // What the script has found in its package before it wrote there is not known the first time.
    touch_all(&p);
    assert!(rebuilt(&p).contains("watching run"));
    touch_all(&p);
    assert_eq!(rebuilt(&p), set(&[]));
    fs::write(&script, text).unwrap();
    p.change_file(
        "watching/src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/list.rs\"));",
    );
    rebuilt(&p);

    // The program prints what is there, as it does after the released cargo.
    let generated = p.in_target("list.rs");
    change_with_old_time(
        &p,
        generated[0].to_str().unwrap(),
        "pub const LIST: &str = \"1ne\";",
    );
    p.cargo(BUILD).run();
    assert_eq!(printed(&p), "1ne text untracked included outside\n");
}

#[cargo_test]
fn by_modification_time() {
    let p = built();
    let is_by_content = |configure: &dyn Fn(&mut Execs)| {
        touch(&p.root().join("included.txt"));
        let mut cargo = p.cargo(BUILD);
        configure(&mut cargo);
        cargo.env("CARGO_BUILD_TRACE", "trace.json").run();
        made(&p.trace()).is_empty()
    };
    let key = ("build.fingerprint", "CARGO_BUILD_FINGERPRINT");
    assert_everywhere(&p, key, ("mtime", false), is_by_content);
    // Builds by time leave nothing to compare.
    touch(&p.root().join("included.txt"));
    assert_eq!(rebuilt(&p), set(&["included lib"]));
    assert_everywhere(&p, key, ("content", true), is_by_content);

    p.cargo(BUILD)
        .env("CARGO_BUILD_FINGERPRINT", "hash")
        .fails(str![[r#"
[ERROR] error in environment variable `CARGO_BUILD_FINGERPRINT`: could not load config key `build.fingerprint`

Caused by:
  unknown variant `hash`, expected `content` or `mtime`

"#]]);
}

#[cargo_test]
fn without_early_cutoff() {
    let p = sources();
    let build = || {
        let mut cargo = p.cargo(BUILD);
        cargo.env("CARGO_BUILD_EARLY_CUTOFF", "false");
        cargo.env("CARGO_BUILD_TRACE", "trace.json").run();
        made(&p.trace())
    };
    build();
    touch_all(&p);
    assert_eq!(build(), set(&[]));
    p.change_file("included.txt", "other");
    assert_eq!(build(), set(&["included lib", "app bin"]));
}

#[cargo_test]
fn in_turns_with_the_released_cargo() {
    let p = built();
    assert_fresh_to_released(&p);
    p.change_file("watching/list/one", "other");
    released(&p, BUILD).run();
    assert_eq!(rebuilt(&p), set(&[]));
    assert_fresh_to_released(&p);
    // It has made what this would be compared with.
    touch(&p.root().join("watching/list/one"));
    assert!(rebuilt(&p).contains("watching run"));
    touch_all(&p);
    assert_eq!(rebuilt(&p), set(&[]));
    released(&p, BUILD).run();
    assert_eq!(rebuilt(&p), set(&[]));
}
