//! Fifty libraries in a chain of diamonds, with ten binaries on top: how much of it is made after an
//! edit at the bottom.

use std::process::Command;

use cargo_test_support::prelude::*;
use cargo_test_support::{Project, project};

use crate::support::cutoff::{CutoffExt, set};
use crate::support::root;

const BUILD: &str = "build --workspace";

fn diamonds() -> Project {
    let p = project().no_manifest().build();
    let script = root().join("tests/diamonds.sh");
    let status = Command::new("sh")
        .arg(script)
        .arg(p.root())
        .status()
        .unwrap();
    assert!(status.success());
    p
}

#[cargo_test]
fn edits_at_the_bottom() {
    let p = diamonds();
    p.incremental(BUILD).run();
    let units = 1 + 1 + 1 + 50 + 10;
    let base = "base/src/lib.rs";

    let text = p.read_file(base) + "// A comment.\n";
    p.change_file(base, &text);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "a comment");
    p.touch(base);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "a touch");
    p.change_file(base, "an edit");
    p.change_file(base, &text);
    assert_eq!(p.made(BUILD), set(&["base lib"]), "an edit and its revert");
    let mut after_a_run = set(&["native-sys run", "native-sys lib native_sys"]);
    after_a_run.extend((0..10).map(|bin| format!("bin{bin} bin")));
    p.touch("native-sys/again");
    assert_eq!(p.made(BUILD), after_a_run, "a build script");

    p.change_file(
        "native-sys/native.c",
        "unsigned long native(void) { return 2; }\n",
    );
    assert_eq!(p.made(BUILD), after_a_run, "C source");

    p.change_file(base, &(text + "pub fn more() {}\n"));
    // All but the -sys crate, its script and the run of that.
    assert_eq!(p.made(BUILD).len(), units - 3, "a new function");

    assert!(p.made(BUILD).is_empty());
    p.assert_fresh_to_released(BUILD);
}
