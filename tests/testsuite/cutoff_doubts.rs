//! What is in doubt is built.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_pipelining::freshness::ledger::Entry;
use cargo_test_support::Project;
use cargo_test_support::prelude::*;

use crate::support::ProjectExt;
use crate::support::cutoff::{CutoffExt, built_workspace, made, set_modified, touch, workspace};

const BUILD: &str = "build --workspace";
const MIDDLE: &str = "lib-middle.json";
const TOP: &str = "bin-top.json";

/// Builds, casts a doubt, and builds again as if the lowest crate had been edited. Returns true if `unit`
/// was made again. In any case the result is right, and then nothing is left to do.
fn is_made_after(unit: &str, doubt: impl FnOnce(&Project)) -> bool {
    let p = built_workspace(BUILD);
    doubt(&p);
    touch(&p.root().join("low/src/lib.rs"));
    let made = p.made(BUILD);
    p.assert_prints(1111);
    assert!(p.made(BUILD).is_empty());
    p.assert_fresh_to_released(BUILD);
    made.contains(unit)
}

fn only(mut found: Vec<PathBuf>) -> PathBuf {
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Returns the file with the ledger entry of the unit that has this fingerprint.
fn entry(p: &Project, fingerprint: &str) -> PathBuf {
    only(p.in_target(fingerprint)).with_file_name("invoked.timestamp")
}

fn change(path: &Path, change: impl FnOnce(&mut Entry)) {
    let mut entry = Entry::read(path).unwrap();
    change(&mut entry);
    Entry::write(path, |_| Ok(entry)).unwrap();
}

fn modified(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[cargo_test]
fn without_doubt_nothing_is_made() {
    assert!(!is_made_after("middle lib", |_| {}));
    assert!(!is_made_after("top bin", |_| {}));
}

#[cargo_test]
fn missing_or_damaged_entry() {
    for (fingerprint, unit) in [(MIDDLE, "middle lib"), (TOP, "top bin")] {
        let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
            assert!(is_made_after(unit, |p| {
                let entry = entry(p, fingerprint);
                let time = modified(&entry);
                let mut bytes = fs::read(&entry).unwrap();
                damage(&mut bytes);
                fs::write(&entry, bytes).unwrap();
                set_modified(&entry, time);
            }));
        };
        damaged(&|bytes| bytes.clear());
        damaged(&|bytes| bytes.truncate(bytes.len() / 2));
        damaged(&|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let remove = |p: &Project| fs::remove_file(entry(p, fingerprint)).unwrap();
        assert!(is_made_after(unit, remove));
    }
}

#[cargo_test]
fn entry_about_something_else() {
    let changed = |change: fn(&mut Entry)| {
        assert!(is_made_after("middle lib", |p| self::change(
            &entry(p, MIDDLE),
            change
        )));
    };
    changed(|entry| entry.compiler += 1);
    changed(|entry| entry.fingerprint += 1);
    changed(|entry| entry.compiled = None);
    changed(|entry| entry.outputs.truncate(1));
    changed(|entry| entry.inputs = None);
}

#[cargo_test]
fn released_cargo_has_built_meanwhile() {
    assert!(is_made_after("middle lib", |p| {
        p.touch("middle/src/lib.rs");
        p.released(BUILD).run();
    }));
    // The released cargo only, from the beginning.
    let p = workspace().build();
    p.released(BUILD).run();
    p.touch("low/src/lib.rs");
    assert!(p.made(BUILD).contains("middle lib"));
    // From then on there is an entry.
    p.touch("low/src/lib.rs");
    assert!(!p.made(BUILD).contains("middle lib"));
}

/// Returns the outputs of a unit.
fn outputs(p: &Project, prefix: &str) -> Vec<PathBuf> {
    let mut found = p.in_target(prefix);
    found.retain(|path| path.parent().unwrap().ends_with("deps"));
    found.retain(|path| path.extension().is_none_or(|it| it != "d"));
    found
}

#[cargo_test]
fn missing_outputs() {
    for extension in ["rmeta", "rlib"] {
        assert!(is_made_after("middle lib", |p| {
            let found = outputs(p, "libmiddle-");
            let with = |path: &&PathBuf| path.extension().unwrap() == extension;
            fs::remove_file(found.iter().find(with).unwrap()).unwrap();
        }));
    }
    assert!(is_made_after("top bin", |p| {
        let bins = outputs(p, "top-");
        assert!(!bins.is_empty());
        bins.iter().for_each(|path| fs::remove_file(path).unwrap());
    }));
}

#[cargo_test]
fn replaced_outputs() {
    for (unit, prefix, is_same_time) in [
        ("middle lib", "libmiddle-", false),
        ("middle lib", "libmiddle-", true),
        ("top bin", "top-", false),
        ("top bin", "top-", true),
    ] {
        assert!(is_made_after(unit, |p| {
            for path in outputs(p, prefix) {
                let before = modified(&path);
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
                if is_same_time {
                    set_modified(&path, before);
                }
            }
        }));
    }
}

#[cargo_test]
fn replaced_dependency() {
    // With an older library, of the same size and time.
    let p = built_workspace(BUILD);
    let mut rlibs = outputs(&p, "libsys-");
    rlibs.retain(|path| path.extension().unwrap() == "rlib");
    let rlib = only(rlibs);
    let bytes = fs::read(&rlib).unwrap();
    p.change_file("sys/native.c", "int native(void) { return 20; }\n");
    p.incremental(BUILD).run();
    p.process(p.bin("top")).with_stdout_data("1121\n").run();
    let before = modified(&rlib);
    let edited = fs::read(&rlib).unwrap();
    assert!(bytes != edited && bytes.len() == edited.len());
    fs::write(&rlib, &bytes).unwrap();
    set_modified(&rlib, before);
    // Something else is made anew, so that what links is compared.
    p.touch("low/src/lib.rs");
    assert!(p.made(BUILD).contains("top bin"));
    p.process(p.bin("top")).with_stdout_data("1111\n").run();
}

#[cargo_test]
fn killed_build() {
    for (crate_name, unit) in [
        ("middle", "middle lib"),
        ("top", "top lib"),
        ("second", "top bin second"),
    ] {
        let p = workspace()
            .executable(
                "wrapper",
                &format!(
                    r#"#!/bin/sh
case "$*" in
*"--crate-name {crate_name} "*" --emit=dep-info,"*) if [ "$KILL" ]; then kill -9 $PPID; exit 1; fi;;
esac
exec "$@"
"#
                ),
            )
            .build();
        let wrapper = p.root().join("wrapper");
        let build = || {
            let mut cargo = p.incremental(BUILD);
            cargo.env("RUSTC_WRAPPER", &wrapper);
            cargo
        };
        build().run();
        let text = p.read_file("low/src/lib.rs");
        let edited = text.replace("{ 1 }", "{ 2 }") + "pub fn more() {}\n";
        p.change_file("low/src/lib.rs", &edited);
        let killed = build().env("KILL", "1").build_command().output().unwrap();
        assert!(!killed.status.success());
        p.change_file("low/src/lib.rs", &text);
        build().env("CARGO_BUILD_TRACE", "trace.json").run();
        let made = made(&p.trace());
        assert!(made.contains(unit), "{unit}: {made:?}");
        p.assert_prints(1111);
    }
}

#[cargo_test]
fn source_changes_while_it_is_compiled() {
    let p = workspace()
        .executable(
            "wrapper",
            r#"#!/bin/sh
"$@" || exit
case "$*" in
*"--crate-name middle "*) if [ "$EDIT" ]; then sed -i 's/ + / - /' middle/src/lib.rs; fi;;
esac
"#,
        )
        .build();
    let wrapper = p.root().join("wrapper");
    let build = |edit: &str| {
        let mut cargo = p.incremental(BUILD);
        cargo
            .env("RUSTC_WRAPPER", &wrapper)
            .env("EDIT", edit)
            .env("CARGO_BUILD_TRACE", "trace.json");
        cargo
    };
    build("1").run();
    p.touch("low/src/lib.rs");
    build("").run();
    p.process(p.bin("top")).with_stdout_data("891\n").run();
}

#[cargo_test]
fn script_writes_sources_of_another_package() {
    let p = workspace().file("sys/number", "1").build();
    let script = p.read_file("sys/build.rs").replace(
        "fn main() {",
        r#"fn main() {
            let number = std::fs::read_to_string("number").unwrap();
            let source = format!("pub const NUMBER: i32 = {number};");
            std::fs::write("../middle/src/number.rs", source).unwrap();
        "#,
    );
    p.change_file("sys/build.rs", &script);
    p.change_file(
        "middle/src/lib.rs",
        "mod number; pub fn middle() -> i32 { number::NUMBER }",
    );
    p.incremental(BUILD).run();
    p.process(p.bin("top")).with_stdout_data("1\n").run();
    p.change_file("sys/number", "2");
    p.touch("sys/again");
    p.incremental(BUILD).run();
    p.process(p.bin("top")).with_stdout_data("2\n").run();
}

#[cargo_test]
fn overridden_build_script() {
    let p = workspace().build();
    let build = |number: u32| {
        let config =
            format!("target.x86_64-unknown-linux-gnu.native.rustc-env.NUMBER=\"{number}\"");
        let mut cargo = p.incremental(BUILD);
        cargo.arg("--config").arg(config);
        cargo
    };
    p.change_file(
        "sys/src/lib.rs",
        "pub fn sys() -> i32 { env!(\"NUMBER\").len() as i32 }",
    );
    build(1).run();
    p.process(p.bin("top")).with_stdout_data("1002\n").run();
    build(22).run();
    p.process(p.bin("top")).with_stdout_data("1003\n").run();
}
