//! What `--timings` shows of a build.

use cargo_test_support::Project;
use cargo_test_support::prelude::*;
use serde_json::Value;
use snapbox::str;

use crate::support::ProjectExt;
use crate::support::cutoff::{CutoffExt, built_workspace, workspace};
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

    /// The names of the units that took any time.
    fn units(&self) -> Vec<String> {
        let units = self.data("UNIT_DATA");
        let took_time = |unit: &&Value| unit["duration"].as_f64().unwrap() > 0.0;
        let units = units.as_array().unwrap().iter().filter(took_time);
        let names = units.map(|unit| unit["name"].as_str().unwrap().to_owned());
        names.collect()
    }

    fn unit(&self, name: &str) -> Value {
        let units = self.data("UNIT_DATA");
        let mut units = units.as_array().unwrap().iter();
        units.find(|it| it["name"] == name).unwrap().clone()
    }

    /// The names of the sections of a unit, which follow each other without a gap. What comes last is
    /// mostly shorter than what is rounded away.
    fn sections(&self, unit: &str) -> Vec<String> {
        let unit = self.unit(unit);
        let mut end = 0.0;
        let sections = unit["sections"].as_array().unwrap();
        let names = sections.iter().map(|section| {
            let start = section[1]["start"].as_f64().unwrap();
            assert!((start - end).abs() < ROUNDED, "{sections:?}");
            end = section[1]["end"].as_f64().unwrap();
            section[0].as_str().unwrap().to_owned()
        });
        names.filter(|name| name != "other").collect()
    }

    /// The rows of the summary that have these names.
    fn summary(&self, names: &[&str]) -> String {
        let rows = self.0.split("<tr>\n").filter(|row| {
            let is_of = |name: &&str| row.starts_with(&format!("<td>{name}:</td>"));
            names.iter().any(is_of)
        });
        rows.map(|row| row.replace("<br>", "\n<br>")).collect()
    }

    /// How many units were active in the middle of this section of a unit. At its ends, what follows
    /// each other may overlap by what is rounded away.
    fn active_during(&self, unit: &str, section: &str) -> u64 {
        let unit = self.unit(unit);
        let mut sections = unit["sections"].as_array().unwrap().iter();
        let section = &sections.find(|it| it[0] == section).unwrap()[1];
        let [start, end] = ["start", "end"].map(|it| section[it].as_f64().unwrap());
        let middle = unit["start"].as_f64().unwrap() + (start + end) / 2.0;
        let records = self.data("CONCURRENCY_DATA");
        let mut records = records.as_array().unwrap().iter().rev();
        let last = records.find(|record| record["t"].as_f64().unwrap() <= middle);
        last.unwrap()["active"].as_u64().unwrap()
    }
}

#[cargo_test]
fn what_is_parked() {
    let p = bin_on_slow().build();
    let trace = p.built("build --timings");
    assert_eq!(trace.parked(), 1);
    let page = Page::of(&p);
    assert_eq!(page.sections("foo"), ["frontend", "parked", "link"]);
    snapbox::assert_data_eq!(
        page.summary(&["Links"]),
        str![[r#"
<td>Links:</td><td>1 gated, compiled [..]s ahead</td>
</tr>

"#]]
    );
    assert!(page.0.contains("name: \"Parked\""));
}

/// rustc times its sections itself, and is in that of the link when it is parked.
#[cargo_test]
fn parked_with_section_timings() {
    let p = bin_on_slow().build();
    p.held("build --timings -Zsection-timings")
        .masquerade_as_nightly_cargo(&["section-timings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .run();
    let trace = p.trace();
    assert_eq!(trace.parked(), 1);
    let page = Page::of(&p);
    let sections = page.sections("foo");
    assert_eq!(sections, ["frontend", "codegen", "parked", "link"]);
    assert_eq!(page.active_during("foo", "parked"), 1);
}

#[cargo_test]
fn what_is_paused_and_the_way_to_the_end() {
    let mut build = Build::paused("build -j2 --timings");
    // `busy` ends while `urgent` is still held up: the longest path is through `urgent`.
    build.doors.pass("busy");
    build.await_nothing_stopped();
    build.succeed(2);
    let page = Page::of(&build.p);
    let expected = ["frontend", "codegen", "paused", "codegen"];
    assert_eq!(page.sections("slow"), expected);
    // What is paused or parked has no slot.
    assert_eq!(page.active_during("slow", "paused"), 2);
    snapbox::assert_data_eq!(
        page.summary(&["Limit", "Critical path"]),
        str![[r#"
<td>Limit:</td><td>[..]s (jobs=2); it took [..]s to build, [..] times as long</td>
</tr>
<td>Critical path:</td><td>[..]s (units=3)
<br>[..]s slow v0.5.0
<br>[..]s urgent v0.5.0
<br>[..]s foo v0.1.0 foo "bin"</td>
</tr>

"#]]
    );
    assert!(page.0.contains("name: \"Paused\""));
}

/// What turned out to be unchanged is as fresh as what was known to be.
#[cargo_test]
fn what_is_unchanged() {
    let p = built_workspace("build --workspace");
    p.touch("low/src/lib.rs");
    p.incremental("build --workspace --timings").run();
    let page = Page::of(&p);
    assert_eq!(page.units(), ["low"]);
    snapbox::assert_data_eq!(
        page.summary(&["Fresh units", "Dirty units", "Total units", "Critical path"]),
        str![[r#"
<td>Fresh units:</td><td>8</td>
</tr>
<td>Dirty units:</td><td>1</td>
</tr>
<td>Total units:</td><td>9</td>
</tr>
<td>Critical path:</td><td>[..]s (units=1)
<br>[..]s low v0.1.0</td>
</tr>

"#]]
    );
}

#[cargo_test]
fn what_is_unchanged_is_not_reported_as_rebuilt() {
    let p = workspace().build();
    let analysis = |line: &str| {
        let mut execs = p.incremental(line);
        execs
            .arg("-Zbuild-analysis")
            .env("CARGO_BUILD_ANALYSIS_ENABLED", "true")
            .masquerade_as_nightly_cargo(&["build-analysis"]);
        execs
    };
    analysis("build --workspace").run();
    p.touch("low/src/lib.rs");
    analysis("build --workspace").run();
    analysis("report rebuilds")
        .with_stderr_data(str![[r#"
Session: [..]
Status: 1 unit rebuilt, 8 cached, 0 new

Rebuild impact:
  root rebuilds: 1 unit
  cascading:     0 units

Root rebuilds:
  0. low@0.1.0: file modified: low/src/lib.rs
     impact: no cascading rebuilds

"#]])
        .run();
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
