//! What Cargo is about to change, with the nightly toolchain: the layout of the build directory, rlibs
//! without metadata, freshness by checksum, locks of single units.
//!
//! Without a nightly toolchain there is nothing to test; `.ci/run` asks for one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use cargo_test_support::Execs;
use cargo_test_support::prelude::*;
use rustix::process::Signal;

use crate::soak::{build_by, example, finish_by, interrupt};
use crate::support::ProjectExt;
use crate::support::cutoff::CutoffExt;
use crate::support::gated::{GatedExt, artifacts, assert_tidy, bin_on_slow};
use crate::support::pausing::{Build, slow_busy_and_urgent};

/// Returns the compiler of the nightly toolchain, if there is one.
fn rustc() -> Option<PathBuf> {
    let output = Command::new("rustup")
        .args(["which", "--toolchain", "nightly", "rustc"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| path.trim_end().into())
}

/// `execs` with the nightly toolchain and this unstable flag.
fn nightly(mut execs: Execs, flag: &str) -> Execs {
    execs
        .env("RUSTC", rustc().unwrap())
        .masquerade_as_nightly_cargo(&["what Cargo is about to change"])
        .arg(flag);
    execs
}

/// Removes the rlibs, which hold names that rustc draws at random since 1.97.
fn without_rlibs(mut artifacts: BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    artifacts.retain(|path, _| path.extension().is_none_or(|extension| extension != "rlib"));
    artifacts
}

/// Builds, interrupted builds, and what the released cargo makes of them.
#[track_caller]
fn assert_as_released(flag: &str) {
    let p = example();
    let ours = |jobs| build_by(nightly(p.cargo(""), flag), jobs);
    let theirs = |jobs| build_by(nightly(p.released(""), flag), jobs);
    let made = without_rlibs(finish_by(&p, &mut ours(4), 4));
    let trace = std::fs::read_to_string(p.root().join("trace.json")).unwrap();
    let lines = trace.lines().count();

    let fresh = theirs(2).arg("-v").run();
    let stderr = String::from_utf8(fresh.stderr).unwrap();
    assert!(stderr.contains("Fresh weather"), "{stderr}");
    assert!(!stderr.contains("Compiling"), "{stderr}");

    if flag == "-Zfine-grain-locking" {
        assert!(!trace.contains("paused") && !trace.contains("parked"));
    }

    p.build_dir().rm_rf();
    theirs(2).run();
    assert!(without_rlibs(artifacts(&p.build_dir())) == made);

    for quarter in 1..4 {
        p.build_dir().rm_rf();
        interrupt(&p, &mut ours(4), lines * quarter / 4, |cargo| {
            cargo.kill(false, Signal::KILL);
        });
        let again = without_rlibs(finish_by(&p, &mut ours(4), 4));
        for (path, bytes) in &made {
            assert!(again.get(path) == Some(bytes), "{}", path.display());
        }
    }
}

/// Asserts that a link starts on the metadata of a library whose rlib is held.
#[track_caller]
fn assert_starts_early(flag: &str) {
    let p = bin_on_slow().build();
    // It succeeds only if something parks.
    nightly(p.held("build -j2"), flag).run();
    assert_tidy(&p.root());
}

/// Asserts that dependents of a touched library stay fresh.
#[track_caller]
fn assert_cuts_off(flag: &str) {
    let p = example();
    let build = || {
        let mut cargo = build_by(nightly(p.cargo(""), flag), 2);
        cargo.env("CARGO_BUILD_FINGERPRINT", "mtime");
        cargo
    };
    build().run();
    p.touch("signal/src/lib.rs");
    let again = build().arg("-v").run();
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert_eq!(stderr.matches("Compiling").count(), 1, "{stderr}");
    assert!(stderr.contains("Unchanged"), "{stderr}");
}

#[cargo_test]
fn build_directory_by_unit() {
    let Some(_) = rustc() else { return };
    assert_cuts_off("-Zbuild-dir-new-layout");
    assert_as_released("-Zbuild-dir-new-layout");
    assert_starts_early("-Zbuild-dir-new-layout");
    let p = slow_busy_and_urgent();
    let mut cargo = p.cargo("build -j2");
    cargo
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .masquerade_as_nightly_cargo(&["what Cargo is about to change"])
        .arg("-Zbuild-dir-new-layout");
    let trace = Build::paused_by(p, cargo).succeed(2);
    assert_eq!(trace.paused(), ["slow"]);
}

/// Since 1.97 a library lists its objects, whose names are others each time.
#[cargo_test]
fn rlibs_that_list_their_objects() {
    let Some(_) = rustc() else { return };
    assert_cuts_off("-Zunstable-options");
}

#[cargo_test]
fn rlibs_without_metadata() {
    let Some(_) = rustc() else { return };
    assert_cuts_off("-Zembed-metadata=no");
    assert_as_released("-Zembed-metadata=no");
    assert_starts_early("-Zembed-metadata=no");
}

#[cargo_test]
fn freshness_by_checksum() {
    let Some(_) = rustc() else { return };
    assert_as_released("-Zchecksum-freshness");
    assert_starts_early("-Zchecksum-freshness");
}

#[cargo_test]
fn locks_of_single_units() {
    let Some(_) = rustc() else { return };
    // Nothing starts early or is paused: another cargo may wait for a lock.
    assert_as_released("-Zfine-grain-locking");
}
