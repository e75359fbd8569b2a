use serde_json::Value;

use super::*;
use State::*;

fn read(path: &Path) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

type Build = Trace<&'static str>;

fn create(path: &Path) -> anyhow::Result<Option<Build>> {
    Trace::create(path, |package| Description {
        package: (*package).to_owned(),
        version: "1.2.3".to_owned(),
        target: (*package).to_owned(),
        kind: serde_json::json!(["lib"]),
        mode: "build".into(),
    })
}

/// Has `unit`, the `package` of a kind, go from one state to the next.
fn go(trace: &mut Build, (unit, package, kind): (usize, &'static str, Kind), states: &[State]) {
    for pair in states.windows(2) {
        let transition = Transition {
            job: unit,
            from: pair[0],
            to: pair[1],
            at: 7,
        };
        let needs = [
            (7, Need::AllToStart),
            (9, Need::AllToLink),
            (4, Need::MetadataToStart),
        ];
        let is_conditional = package == "conditional";
        trace.observe(transition, &package, kind, is_conditional, || {
            needs.into_iter().collect()
        });
    }
}

/// `ph`, lane, category and name of each event, for a look at the order.
fn outline(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .filter(|event| event["ph"] != "M" && event["ph"] != "C")
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let (ph, cat, name) = (text("ph"), text("cat"), text("name"));
            format!("{ph} {} {cat} {name}", event["tid"])
        })
        .collect()
}

fn outcomes(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter(|event| event["cat"] == "unit" && event["ph"] == "E")
        .map(|event| event["args"]["outcome"].as_str().unwrap())
        .collect()
}

fn tokens(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .filter(|event| event["ph"] == "C")
        .map(|event| event["args"]["tokens"].as_u64().unwrap())
        .collect()
}

#[cfg(unix)]
#[test]
fn full_disk_leaves_complete_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "trace::tests::writes_until_the_disk_is_full"])
        .env("TRACE_ON_FULL_DISK", &path)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let events = read(&path);
    assert!(events.len() > 5 && events.len() < 1000, "{}", events.len());
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
        let error = create(path).unwrap_err();
        let expected = format!(
            "failed to create `{}`, set by `build.trace`",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    assert!(create(Path::new("/dev/null")).unwrap().is_none());
}

#[test]
fn older_trace_is_replaced_unless_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    std::fs::write(
        &path,
        "an older trace, longer than the beginning of a new one",
    )
    .unwrap();
    let trace = create(&path).unwrap().unwrap();
    let mut second = create(&path).unwrap().unwrap();
    go(
        &mut second,
        (0, "core", Kind::ScriptRun),
        &[Ready, Frontend],
    );
    assert!(read(&path).is_empty());
    assert_eq!(
        format!("{:#}", second.finish().unwrap_err()),
        format!(
            "failed to write the trace `{}`: another cargo is writing to it",
            path.display()
        )
    );
    trace.finish().unwrap();
    create(&path).unwrap();
}

#[test]
fn directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = create(dir.path()).unwrap_err();
    let expected = format!(
        "failed to create `{}`, set by `build.trace`",
        dir.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

/// Run by [`full_disk_leaves_complete_json`] in a process that may not write large files.
#[test]
fn writes_until_the_disk_is_full() {
    let Some(path) = std::env::var_os("TRACE_ON_FULL_DISK") else {
        return;
    };
    let mut trace = create(Path::new(&path)).unwrap().unwrap();
    for job in 0..1000 {
        go(
            &mut trace,
            (job, "a", Kind::Other),
            &[Ready, Frontend, Done],
        );
    }
    trace.finish().unwrap_err();
}

const CORE: (usize, &str, Kind) = (10, "core", Kind::Library);
const LIB: (usize, &str, Kind) = (11, "lib", Kind::ScriptRun);
const BIN: (usize, &str, Kind) = (12, "bin", Kind::Other);
const TEST: (usize, &str, Kind) = (13, "test", Kind::Other);
const CONDITIONAL: (usize, &str, Kind) = (14, "conditional", Kind::Library);

#[test]
fn complete_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/trace.json");
    let mut trace = create(&path).unwrap().unwrap();
    assert!(read(&path).is_empty());
    go(&mut trace, CORE, &[Waiting, Ready, Frontend]);
    assert_eq!(
        outline(&read(&path)),
        ["B 1 unit core v1.2.3", "B 1 phase frontend"]
    );
    go(&mut trace, CORE, &[Frontend, Codegen]);
    go(&mut trace, BIN, &[Ready, Frontend]);
    go(&mut trace, CORE, &[Codegen, Done]);
    go(&mut trace, CONDITIONAL, &[Ready, Fresh, Done]);
    go(&mut trace, BIN, &[Frontend, Failed(Cause::Own)]);
    trace.finish().unwrap();

    let events = read(&path);
    assert_eq!(
        outline(&events),
        [
            "B 1 unit core v1.2.3",
            "B 1 phase frontend",
            "i 1 artifact metadata",
            "E 1 phase frontend",
            "B 1 phase codegen",
            "B 2 unit bin v1.2.3",
            "B 2 phase compile",
            "E 1 phase codegen",
            "i 1 artifact all",
            "E 1 unit core v1.2.3",
            "B 1 unit conditional v1.2.3",
            "B 1 phase replay",
            "E 1 phase replay",
            "i 1 artifact all",
            "E 1 unit conditional v1.2.3",
            "E 2 phase compile",
            "E 2 unit bin v1.2.3",
        ]
    );
    assert_eq!(outcomes(&events), ["done", "fresh", "failed"]);
    assert_eq!(tokens(&events), [1, 2, 1, 2, 1, 0]);
    let units = events.iter().filter(|event| event["cat"] == "unit");
    let reasons: Vec<_> = units.map(|event| &event["args"]["reason"]).collect();
    assert_eq!(reasons.iter().filter(|it| **it == "cutoff").count(), 1);
    let begin = events.iter().find(|event| event["cat"] == "unit").unwrap();
    assert_eq!(
        begin["args"],
        serde_json::json!({
            "job": 0, "unit": 10, "package": "core", "version": "1.2.3", "target": "core",
            "kind": ["lib"], "mode": "build", "waited_for": {"metadata": [4], "all_to_link": [9], "all": [7]},
        })
    );
}

#[test]
fn parked_job_holds_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let mut trace = create(&path).unwrap().unwrap();
    go(&mut trace, BIN, &[Ready, Frontend, Parked]);
    go(&mut trace, LIB, &[Ready, Frontend]);
    go(&mut trace, BIN, &[Parked, Linking]);
    go(&mut trace, LIB, &[Frontend, Done]);
    let aborted = [Ready, Frontend, Parked, Failed(Cause::Stopped)];
    go(&mut trace, TEST, &aborted);
    go(&mut trace, BIN, &[Linking, Done]);
    trace.finish().unwrap();

    let events = read(&path);
    assert_eq!(
        outline(&events),
        [
            "B 1 unit bin v1.2.3",
            "B 1 phase compile",
            "E 1 phase compile",
            "E 1 unit bin v1.2.3",
            "B 1001 unit bin v1.2.3",
            "B 1001 phase parked",
            "B 1 unit lib v1.2.3",
            "B 1 phase run",
            "E 1001 phase parked",
            "E 1001 unit bin v1.2.3",
            "B 2 unit bin v1.2.3",
            "B 2 phase link",
            "E 1 phase run",
            "i 1 artifact all",
            "E 1 unit lib v1.2.3",
            "B 1 unit test v1.2.3",
            "B 1 phase compile",
            "E 1 phase compile",
            "E 1 unit test v1.2.3",
            "B 1001 unit test v1.2.3",
            "B 1001 phase parked",
            "E 1001 phase parked",
            "E 1001 unit test v1.2.3",
            "E 2 phase link",
            "i 2 artifact all",
            "E 2 unit bin v1.2.3",
        ]
    );
    assert_eq!(tokens(&events), [1, 0, 1, 2, 1, 2, 1, 1, 0]);
    assert_eq!(
        outcomes(&events),
        ["parked", "linking", "done", "parked", "aborted", "done"]
    );
}
