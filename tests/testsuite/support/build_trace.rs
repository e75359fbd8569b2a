//! A trace as the tests look at it: what came before what.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use cargo_pipelining::trace::Phase;
use replay::trace::Moment;
use serde_json::Value;

#[derive(Debug)]
pub struct BuildTrace {
    units: BTreeMap<usize, UnitRun>,
    /// How many jobs ran at a time, after each change.
    pub tokens: Vec<u64>,
    /// Every event, in the order in which the queue saw them.
    pub events: Vec<Value>,
}

#[derive(Debug)]
pub struct UnitRun {
    run: replay::trace::UnitRun,
    pub phases: Vec<Phase>,
    /// When it came to its linker, if it had to wait there.
    pub parked: Option<Moment>,
    /// When it went on.
    pub linking: Option<Moment>,
    /// When its compiler was stopped, if it was.
    pub paused: Option<Moment>,
    /// When the compiler went on.
    pub continued: Option<Moment>,
}

impl Deref for UnitRun {
    type Target = replay::trace::UnitRun;

    fn deref(&self) -> &Self::Target {
        &self.run
    }
}

impl UnitRun {
    #[track_caller]
    fn new(run: replay::trace::UnitRun) -> Self {
        // The only such phase, if there is one.
        let one = |is: &dyn Fn(Phase, Moment) -> bool| {
            let mut found = run.phases.iter().filter(|it| is(it.phase, it.began));
            let moment = found.next().map(|it| it.began);
            assert!(found.next().is_none(), "{run:#?}");
            moment
        };
        let parked = one(&|phase, _| phase == Phase::Parked);
        let linking = one(&|phase, _| phase == Phase::Link);
        let paused = one(&|phase, _| phase == Phase::Paused);
        let is_after = |at| paused.is_some_and(|paused| paused < at);
        let continued = one(&|phase, at| phase == Phase::Codegen && is_after(at));
        UnitRun {
            phases: run.phases.iter().map(|it| it.phase).collect(),
            parked,
            linking,
            paused,
            continued,
            run,
        }
    }
}

impl BuildTrace {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let trace = replay::BuildTrace::parse(&text).unwrap();
        let units = trace.units.into_iter();
        BuildTrace {
            units: units.map(|(id, run)| (id, UnitRun::new(run))).collect(),
            tokens: trace.tokens,
            events: serde_json::from_str(&text).unwrap(),
        }
    }

    pub fn unit(&self, id: usize) -> &UnitRun {
        &self.units[&id]
    }

    pub fn units(&self) -> impl Iterator<Item = &UnitRun> {
        self.units.values()
    }

    /// Returns the library or proc macro of a package that has one.
    pub fn lib(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| {
            unit.mode == "build" && !["bin", "custom-build"].contains(&unit.kind[0].as_str())
        })
    }

    /// Returns the binary of a package that has one.
    pub fn bin(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| unit.kind == ["bin"])
    }

    pub fn build_script_run(&self, package: &str) -> &UnitRun {
        self.find(package, |unit| unit.mode == "run-custom-build")
    }

    /// Returns the only such unit.
    #[track_caller]
    pub fn one(&self, is: impl Fn(&UnitRun) -> bool) -> &UnitRun {
        let found: Vec<_> = self.units().filter(|unit| is(unit)).collect();
        match found[..] {
            [unit] => unit,
            _ => panic!("not one such unit: {found:#?}"),
        }
    }

    /// Counts the units that began before all that they link was ready.
    pub fn parked(&self) -> usize {
        self.units().filter(|unit| unit.parked.is_some()).count()
    }

    /// Returns the packages of the units that were paused.
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
            for dependency in &unit.waited_for.metadata {
                let dependency = &self.units[dependency];
                let moment = dependency.metadata.min(dependency.all).or(dependency.all);
                assert!(moment < Some(unit.began), "{unit:#?} {dependency:#?}");
            }
            let links = unit.linking.unwrap_or(unit.began);
            let ends_before = |dependencies: &[usize], moment| {
                for dependency in dependencies {
                    let dependency = &self.units[dependency];
                    let ends_before = dependency.all.is_some_and(|all| all < moment);
                    assert!(ends_before, "{unit:#?} {dependency:#?}");
                }
            };
            ends_before(&unit.waited_for.all_to_link, links);
            ends_before(&unit.waited_for.all, unit.began);
            assert_eq!(unit.parked.is_some(), unit.linking.is_some(), "{unit:#?}");
            assert!(unit.parked <= unit.linking, "{unit:#?}");
            // One that has nearly ended when it is stopped ends.
            let goes_on = unit.continued.is_none_or(|at| unit.paused < Some(at));
            assert!(goes_on, "{unit:#?}");
            // Only links wait for the rest of it.
            let has_metadata = unit.paused.is_none() || unit.metadata < unit.paused;
            assert!(has_metadata, "{unit:#?}");
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
            assert!(unit.waited_for.metadata.is_empty(), "{unit:#?}");
            assert!(unit.waited_for.all_to_link.is_empty(), "{unit:#?}");
        }
    }
}
