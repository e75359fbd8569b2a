//! What `--timings` shows of a build.

use cargo_test_support::Project;
use cargo_test_support::prelude::*;
use serde_json::Value;
use snapbox::str;

use crate::support::ProjectExt;
use crate::support::gated::{GatedExt, bin_on_slow};
use crate::support::pausing::Build;

/// Some of the times are rounded to 10 ms, and some are not.
const ROUNDED: f64 = 0.01;

/// The page of the last build.
struct Page(String);

impl Page {
    fn of(p: &Project) -> Self {
        let path = p.build_dir().join("cargo-timings/cargo-timing.html");
        Page(std::fs::read_to_string(path).unwrap())
    }

    /// Some of what the page draws.
    fn data(&self, name: &str) -> Value {
        let (_, data) = self.0.split_once(&format!("const {name} = ")).unwrap();
        let (data, _) = data.split_once(";\n").unwrap();
        serde_json::from_str(data).unwrap()
    }

    /// The names of the sections of a unit, which follow each other without a gap.
    fn sections(&self, unit: &str) -> Vec<String> {
        let units = self.data("UNIT_DATA");
        let mut units = units.as_array().unwrap().iter();
        let unit = units.find(|it| it["name"] == unit).unwrap();
        let mut end = 0.0;
        let sections = unit["sections"].as_array().unwrap();
        sections
            .iter()
            .map(|section| {
                let start = section[1]["start"].as_f64().unwrap();
                assert!((start - end).abs() < ROUNDED, "{sections:?}");
                end = section[1]["end"].as_f64().unwrap();
                section[0].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// The rows of the summary that have these names.
    fn summary(&self, names: &[&str]) -> String {
        let rows = self.0.split("<tr>\n").filter(|row| {
            let is_of = |name: &&str| row.starts_with(&format!("<td>{name}:</td>"));
            names.iter().any(is_of)
        });
        rows.map(|row| row.replace("<br>", "\n<br>")).collect()
    }

    fn most_active(&self) -> Option<u64> {
        let records = self.data("CONCURRENCY_DATA");
        let active = records.as_array().unwrap().iter();
        active.filter_map(|record| record["active"].as_u64()).max()
    }
}

#[cargo_test]
fn what_is_parked() {
    let p = bin_on_slow().build();
    let trace = p.built("build --timings");
    assert_eq!(trace.parked(), 1);
    let page = Page::of(&p);
    assert_eq!(
        page.sections("foo"),
        ["frontend", "parked", "link", "other"]
    );
    snapbox::assert_data_eq!(
        page.summary(&["Links"]),
        str![[r#"
<td>Links:</td><td>1 gated, compiled [..]s ahead</td>
</tr>

"#]]
    );
    assert!(page.0.contains("name: \"Parked\""));
}

#[cargo_test]
fn what_is_paused_and_the_way_to_the_end() {
    let mut build = Build::paused("build -j2 --timings");
    build.succeeds(2);
    let page = Page::of(&build.p);
    let expected = ["frontend", "codegen", "paused", "codegen"];
    assert_eq!(page.sections("slow"), expected);
    // What is paused or parked has no slot.
    assert_eq!(page.most_active(), Some(2));
    snapbox::assert_data_eq!(
        page.summary(&["Limit", "Critical path"]),
        str![[r#"
<td>Limit:</td><td>[..]s (jobs=2); it took [..]s to build, [..] times as long</td>
</tr>
<td>Critical path:</td><td>[..]s, 3 units
<br>[..]s slow v0.5.0
<br>[..]s urgent v0.5.0
<br>[..]s foo v0.1.0 foo "bin"</td>
</tr>

"#]]
    );
    assert!(page.0.contains("name: \"Paused\""));
}

/// Nothing was compiled, so there is no path.
#[cargo_test]
fn a_build_that_had_nothing_to_do() {
    let p = bin_on_slow().build();
    p.built("build");
    p.cargo("build --timings").run();
    let page = Page::of(&p);
    assert_eq!(page.summary(&["Limit", "Critical path", "Links"]), "");
}
