//! A trace as the tests look at it: who came before whom.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// A trace, by unit.
#[derive(Debug)]
pub struct BuildTrace {
    units: BTreeMap<u64, UnitRun>,
    /// How many jobs ran at a time, after each change.
    pub tokens: Vec<u64>,
    /// Every event, in the order in which the queue saw them.
    pub events: Vec<Value>,
}

/// What one unit did. All moments are positions in the order of events.
#[derive(Clone, Debug, Default)]
pub struct UnitRun {
    pub package: String,
    pub target: String,
    pub kind: Vec<String>,
    pub mode: String,
    pub waited_for_metadata: Vec<u64>,
    pub waited_for_all_to_link: Vec<u64>,
    pub waited_for_all: Vec<u64>,
    pub phases: Vec<String>,
    pub began: usize,
    /// When it came to its linker, if it had to wait there.
    pub parked: Option<usize>,
    /// When it went on.
    pub linking: Option<usize>,
    /// When its compiler was stopped, if it was.
    pub paused: Option<usize>,
    /// When the compiler went on.
    pub continued: Option<usize>,
    pub metadata: Option<usize>,
    pub all: Option<usize>,
    pub outcome: Option<String>,
}

impl BuildTrace {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut units = BTreeMap::<u64, UnitRun>::new();
        let mut tokens = Vec::new();
        for (at, event) in events.iter().enumerate() {
            if event["ph"] == "C" {
                tokens.push(event["args"]["tokens"].as_u64().unwrap());
            }
            let Some(id) = event["args"]["unit"].as_u64() else {
                continue;
            };
            let strings =
                |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
            let numbers =
                |value: &Value| -> Vec<u64> { serde_json::from_value(value.clone()).unwrap() };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (category, args) = (event["cat"].as_str().unwrap(), &event["args"]);
            match (category, event["ph"].as_str().unwrap()) {
                // It goes on in another lane.
                ("unit", "B") if args.get("package").is_none() => {
                    let run = &units[&id];
                    let left = run.outcome.as_deref();
                    let goes_on = ["parked", "linking", "paused", "continued"].map(Some);
                    assert!(goes_on.contains(&left), "{event}");
                }
                ("unit", "B") => {
                    let run = UnitRun {
                        package: text(&args["package"]),
                        target: text(&args["target"]),
                        kind: strings(&args["kind"]),
                        mode: text(&args["mode"]),
                        waited_for_metadata: numbers(&args["waited_for"]["metadata"]),
                        waited_for_all_to_link: numbers(&args["waited_for"]["all_to_link"]),
                        waited_for_all: numbers(&args["waited_for"]["all"]),
                        began: at,
                        ..UnitRun::default()
                    };
                    assert!(units.insert(id, run).is_none(), "unit {id} ran twice");
                }
                ("unit", "E") => {
                    units.get_mut(&id).unwrap().outcome = Some(text(&args["outcome"]));
                }
                ("phase", "B") => {
                    let run = units.get_mut(&id).unwrap();
                    let phase = text(&event["name"]);
                    match &*phase {
                        "parked" => assert!(run.parked.replace(at).is_none(), "{event}"),
                        "link" => assert!(run.linking.replace(at).is_none(), "{event}"),
                        "paused" => assert!(run.paused.replace(at).is_none(), "{event}"),
                        "codegen" if run.paused.is_some() => {
                            assert!(run.continued.replace(at).is_none(), "{event}");
                        }
                        _ => {}
                    }
                    run.phases.push(phase);
                }
                ("artifact", "i") => {
                    let run = units.get_mut(&id).unwrap();
                    let moment = match event["name"].as_str().unwrap() {
                        "metadata" => &mut run.metadata,
                        "all" => &mut run.all,
                        other => panic!("an artifact named {other}"),
                    };
                    assert!(moment.replace(at).is_none(), "announced twice: {event}");
                }
                ("phase", "E") => {}
                other => panic!("an event of kind {other:?}"),
            }
        }
        BuildTrace {
            units,
            tokens,
            events,
        }
    }

    /// The unit of that number.
    pub fn unit(&self, id: u64) -> &UnitRun {
        &self.units[&id]
    }

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = &UnitRun> {
        self.units.values()
    }

    /// The library (or proc macro) of a package that has one such unit.
    pub fn lib(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| {
            unit.mode == "build" && !["bin", "custom-build"].contains(&unit.kind[0].as_str())
        })
    }

    /// The binary of a package that has one.
    pub fn bin(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| unit.kind == ["bin"])
    }

    /// The run of a package's build script.
    pub fn build_script_run(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| unit.mode == "run-custom-build")
    }

    /// The one unit that is like that.
    #[track_caller]
    pub fn one(&self, is: impl Fn(&UnitRun) -> bool) -> &UnitRun {
        let found: Vec<_> = self.units().filter(|unit| is(unit)).collect();
        match found[..] {
            [unit] => unit,
            _ => panic!("not one such unit: {found:#?}"),
        }
    }

    /// How many began before everything that they link was there.
    pub fn parked(&self) -> usize {
        self.units().filter(|unit| unit.parked.is_some()).count()
    }

    /// The packages of those that were paused.
    pub fn paused(&self) -> Vec<&str> {
        let paused = self.units().filter(|unit| unit.paused.is_some());
        paused.map(|unit| unit.package.as_str()).collect()
    }

    fn find(&self, package: &str, is: impl Fn(&UnitRun) -> bool) -> &UnitRun {
        self.one(|unit| unit.package == package && is(unit))
    }

    /// Asserts what holds for every build that ended well, whatever its mode: nothing began
    /// before what it waited for, and no more than `jobs` ran at once.
    #[track_caller]
    pub fn assert_sound(&self, jobs: u64) {
        for unit in self.units() {
            for dependency in &unit.waited_for_metadata {
                let dependency = &self.units[dependency];
                let moment = dependency.metadata.min(dependency.all).or(dependency.all);
                assert!(moment < Some(unit.began), "{unit:#?} {dependency:#?}");
            }
            let links = unit.linking.unwrap_or(unit.began);
            for dependency in &unit.waited_for_all_to_link {
                let dependency = &self.units[dependency];
                assert!(
                    dependency.all.is_some_and(|all| all < links),
                    "{unit:#?} {dependency:#?}"
                );
            }
            assert_eq!(unit.parked.is_some(), unit.linking.is_some(), "{unit:#?}");
            assert!(unit.parked <= unit.linking, "{unit:#?}");
            // One that has nearly ended when it is stopped ends.
            let goes_on = unit.continued.is_none_or(|at| unit.paused < Some(at));
            assert!(goes_on, "{unit:#?}");
            // Nobody waits for what is left of it but those who link.
            assert!(
                unit.paused.is_none() || unit.metadata < unit.paused,
                "{unit:#?}"
            );
            for dependency in &unit.waited_for_all {
                let dependency = &self.units[dependency];
                assert!(
                    dependency.all.is_some_and(|all| all < unit.began),
                    "{unit:#?} {dependency:#?}"
                );
            }
            assert!(unit.all.is_some(), "{unit:#?}");
            assert!(unit.metadata.is_none_or(|at| Some(at) < unit.all));
        }
        assert!(self.tokens.iter().all(|tokens| *tokens <= jobs));
        assert_eq!(self.tokens.last(), Some(&0));
    }

    /// Asserts that no unit began before all its dependencies were finished.
    #[track_caller]
    pub fn assert_off(&self) {
        for unit in self.units() {
            assert!(unit.waited_for_metadata.is_empty(), "{unit:#?}");
            assert!(unit.waited_for_all_to_link.is_empty(), "{unit:#?}");
        }
    }
}
