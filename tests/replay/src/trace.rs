//! Reads the file that `build.trace` names.
//!
//! [`cargo_pipelining::trace`] describes the events. Here they are put together by unit.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_pipelining::trace::{Outcome, Phase, WaitedFor};
use fs_err as fs;
use serde::Deserialize;

#[derive(Debug, Default)]
pub struct BuildTrace {
    /// The units that have started, by their number in the unit graph.
    pub units: BTreeMap<usize, UnitRun>,
    /// The number of running jobs, after each change.
    pub tokens: Vec<u64>,
}

/// One unit of a traced build.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnitRun {
    /// The package and its version, as Cargo shows them.
    pub name: String,
    pub package: String,
    pub version: String,
    pub target: String,
    pub kind: Vec<String>,
    pub mode: String,
    pub waited_for: WaitedFor,
    #[serde(skip)]
    pub began: Moment,
    /// When its last slice ended.
    #[serde(skip)]
    pub ended: Option<Moment>,
    #[serde(skip)]
    pub phases: Vec<PhaseRun>,
    /// When its metadata was written.
    #[serde(skip)]
    pub metadata: Option<Moment>,
    /// When all of its outputs were ready.
    #[serde(skip)]
    pub all: Option<Moment>,
    /// How its last slice ended.
    pub outcome: Option<Outcome>,
    /// Why it did something else than was planned.
    pub reason: Option<String>,
}

#[derive(Debug)]
pub struct PhaseRun {
    pub phase: Phase,
    pub began: Moment,
    /// Absent if cargo was killed before.
    pub ended: Option<Moment>,
}

/// A moment of a build. Of two moments in the same µs, the order of events tells the earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The place of its event in the trace.
    pub event: usize,
    /// The time since the build began. µs.
    pub time: u64,
}

#[derive(Deserialize)]
struct Event {
    name: String,
    #[serde(default)]
    cat: String,
    ph: char,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    unit: Option<usize>,
    tokens: u64,
    #[serde(flatten)]
    run: UnitRun,
}

impl BuildTrace {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        Self::parse(&text).with_context(|| format!("{} is no trace of a build", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut trace = BuildTrace::default();
        let events: Vec<Event> = serde_json::from_str(text)?;
        for (place, event) in events.into_iter().enumerate() {
            trace
                .add(place, event)
                .with_context(|| format!("event {place}"))?;
        }
        Ok(trace)
    }

    fn add(&mut self, place: usize, event: Event) -> Result<()> {
        let args = event.args;
        if event.ph == 'C' {
            self.tokens.push(args.tokens);
        }
        let Some(id) = args.unit else {
            return Ok(());
        };
        let now = Moment {
            event: place,
            time: event.ts,
        };
        if event.cat == "unit" && event.ph == 'B' && !args.run.package.is_empty() {
            let unit = UnitRun {
                name: event.name,
                began: now,
                ..args.run
            };
            if self.units.insert(id, unit).is_some() {
                bail!("unit {id} starts twice");
            }
            return Ok(());
        }
        let unit = self.units.get_mut(&id);
        let unit = unit.with_context(|| format!("unit {id} has not started"))?;
        match (&*event.cat, event.ph, &*event.name) {
            ("unit", 'B', _) => match unit.outcome {
                // It goes on in another lane.
                Some(Outcome::Parked | Outcome::Linking | Outcome::Paused | Outcome::Continued) => {
                }
                outcome => bail!("unit {id} goes on after {outcome:?}"),
            },
            ("unit", 'E', _) => {
                unit.ended = Some(now);
                unit.outcome = args.run.outcome;
                unit.reason = args.run.reason;
            }
            ("phase", 'B', name) => unit.phases.push(PhaseRun {
                phase: phase(name)?,
                began: now,
                ended: None,
            }),
            ("phase", 'E', name) => match unit.phases.last_mut() {
                Some(last) if last.phase == phase(name)? => last.ended = Some(now),
                _ => bail!("`{name}` ends and has not begun"),
            },
            ("artifact", 'i', "metadata") if unit.metadata.is_none() => unit.metadata = Some(now),
            ("artifact", 'i', "all") if unit.all.is_none() => unit.all = Some(now),
            (category, kind, name) => bail!("unexpected event {category} {kind} {name}"),
        }
        Ok(())
    }

    /// Returns the units that ran and ended well, in the order in which they ended.
    pub fn done(&self) -> Vec<(usize, &UnitRun)> {
        let units = self.units.iter().map(|(id, unit)| (*id, unit));
        let mut done: Vec<_> = units
            .filter(|(_, unit)| unit.outcome == Some(Outcome::Done))
            .collect();
        done.sort_by_key(|(_, unit)| unit.ended);
        done
    }

    pub fn unit(&self, id: usize) -> &UnitRun {
        &self.units[&id]
    }

    pub fn units(&self) -> impl Iterator<Item = &UnitRun> {
        self.units.values()
    }

    /// Returns the library or proc macro of a package that has one.
    #[track_caller]
    pub fn lib(&self, package: &str) -> &UnitRun {
        self.one(|unit| {
            let is_other = ["bin", "custom-build"].contains(&unit.kind[0].as_str());
            unit.package == package && unit.mode == "build" && !is_other
        })
    }

    /// Returns the binary of a package that has one.
    #[track_caller]
    pub fn bin(&self, package: &str) -> &UnitRun {
        self.one(|unit| unit.package == package && unit.kind == ["bin"])
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
        self.units().filter(|unit| unit.parked().is_some()).count()
    }

    /// Returns the packages of the units that were paused.
    pub fn paused(&self) -> Vec<&str> {
        let paused = self.units().filter(|unit| unit.paused().is_some());
        paused.map(|unit| unit.package.as_str()).collect()
    }

    /// Asserts that each unit was parked, linked, paused and continued at most once.
    pub fn assert_phases(&self) {
        for unit in self.units() {
            let count = |phase| unit.phases.iter().filter(|run| **run == phase).count();
            let paused = count(Phase::Paused);
            let is_once = paused.max(count(Phase::Parked)).max(count(Phase::Link)) <= 1;
            assert!(is_once && count(Phase::Codegen) <= 1 + paused, "{unit:#?}");
        }
    }

    /// Asserts what holds for every build that ended well, whatever its mode: nothing began
    /// before what it waited for, and no more than `jobs` ran at once.
    #[track_caller]
    pub fn assert_sound(&self, jobs: u64) {
        for unit in self.units() {
            for dependency in &unit.waited_for.metadata {
                let dependency = self.unit(*dependency);
                let moment = dependency.metadata.min(dependency.all).or(dependency.all);
                assert!(moment < Some(unit.began), "{unit:#?} {dependency:#?}");
            }
            let ends_before = |dependencies: &[usize], moment| {
                for dependency in dependencies {
                    let dependency = self.unit(*dependency);
                    let ends_before = dependency.all.is_some_and(|all| all < moment);
                    assert!(ends_before, "{unit:#?} {dependency:#?}");
                }
            };
            let (parked, links, paused) = (unit.parked(), unit.linking(), unit.paused());
            ends_before(&unit.waited_for.all_to_link, links.unwrap_or(unit.began));
            ends_before(&unit.waited_for.all, unit.began);
            assert_eq!(parked.is_some(), links.is_some(), "{unit:#?}");
            assert!(parked <= links, "{unit:#?}");
            // Only links wait for the rest of it.
            assert!(paused.is_none() || unit.metadata < paused, "{unit:#?}");
            assert!(unit.all.is_some(), "{unit:#?}");
            assert!(unit.metadata.is_none_or(|at| Some(at) < unit.all));
        }
        assert!(self.tokens.iter().all(|tokens| *tokens <= jobs));
        assert_eq!(self.tokens.last(), Some(&0));
    }
}

/// Returns how many of these intervals overlap at most; one without an end lasts for ever.
pub fn most_at_once(intervals: impl IntoIterator<Item = (Moment, Option<Moment>)>) -> usize {
    let mut changes = Vec::new();
    for (began, ended) in intervals {
        changes.push((began, 1));
        changes.extend(ended.map(|ended| (ended, -1)));
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0_isize, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    most.unsigned_abs()
}

fn phase(name: &str) -> Result<Phase> {
    Ok(serde_json::from_value(name.into())?)
}

impl UnitRun {
    /// Returns the first of its phases of this kind.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRun> {
        self.phases.iter().find(|run| run.phase == phase)
    }

    /// When it came to its linker, if it had to wait there.
    pub fn parked(&self) -> Option<Moment> {
        self.phase(Phase::Parked).map(|run| run.began)
    }

    /// When it went on.
    pub fn linking(&self) -> Option<Moment> {
        self.phase(Phase::Link).map(|run| run.began)
    }

    /// When its compiler was stopped.
    pub fn paused(&self) -> Option<Moment> {
        self.phase(Phase::Paused).map(|run| run.began)
    }

    /// When the compiler went on; one that had nearly ended when it was stopped only ends.
    pub fn continued(&self) -> Option<Moment> {
        let mut phases = self.phases.iter().skip_while(|run| **run != Phase::Paused);
        phases
            .find(|run| **run == Phase::Codegen)
            .map(|run| run.began)
    }

    /// True if it is the run of a build script.
    pub fn is_run(&self) -> bool {
        self.mode == "run-custom-build"
    }
}

impl PartialEq<Phase> for PhaseRun {
    fn eq(&self, phase: &Phase) -> bool {
        self.phase == *phase
    }
}

impl PhaseRun {
    /// True if the job held no slot.
    pub fn is_wait(&self) -> bool {
        matches!(self.phase, Phase::Parked | Phase::Paused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use cargo_pipelining::graph::{Artifact, Need};
    use cargo_pipelining::job::Kind;
    use cargo_pipelining::scheduler::pauses::Budget;
    use cargo_pipelining::scheduler::{Action, Clock, Estimate, Pauses, Plan, Settings, Work};
    use cargo_pipelining::trace::{Description, Trace};

    fn describe(package: &&str) -> Description {
        Description {
            package: (*package).to_owned(),
            version: "1.0.0".to_owned(),
            target: (*package).to_owned(),
            kind: serde_json::json!(["lib"]),
            mode: "build".into(),
        }
    }

    /// `a` and `b` are paused in favour of `c`, one after the other, and only `b` goes on.
    #[test]
    fn engine_trace_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let work = |frontend: u64, codegen: u64| {
            Estimate::Measured(Work {
                frontend: frontend * 1_000_000,
                codegen: codegen * 1_000_000,
                link: 0,
            })
        };
        let mut plan = Plan::default();
        let mut add = |unit, needs: &[_], estimate| {
            let needs = needs.iter().copied();
            plan.add(unit, (), needs)
                .kind(Kind::Library)
                .estimate(estimate);
        };
        add("a", &[], work(9, 10));
        add("b", &[("a", Need::MetadataToStart)], work(7, 20));
        add("c", &[("b", Need::MetadataToStart)], work(90, 1));
        let mut scheduler = plan
            .seal(Settings {
                clock: Clock::new(move || shown.fetch_add(1, Ordering::Relaxed)),
                pauses: Pauses::simulated(Budget::Bytes(8), Vec::new()),
                trace: Trace::create(&path, describe).unwrap(),
                ..Settings::default()
            })
            .unwrap();
        let mut starts = |unit| match scheduler.next(1) {
            Some(Action::Start(start)) => {
                assert_eq!(start.unit, unit);
                scheduler.produced(&unit, Artifact::Metadata);
                scheduler.pause_codegen(1, || false);
            }
            other => panic!("{other:?}"),
        };
        starts("a");
        starts("b");
        starts("c");
        assert!(matches!(scheduler.next(1), Some(Action::Resume("b"))));
        scheduler.produced(&"b", Artifact::All);
        scheduler.finish_trace().unwrap();

        let trace = BuildTrace::read(&path).unwrap();
        let done = trace.done();
        assert_eq!(done.len(), 1);
        let (id, unit) = done[0];
        assert_eq!((id, &*unit.name, &*unit.package), (1, "b v1.0.0", "b"));
        assert_eq!(unit.waited_for.metadata, [0]);
        let (frontend, codegen) = (Phase::Frontend, Phase::Codegen);
        assert_eq!(unit.phases, [frontend, codegen, Phase::Paused, codegen]);
        assert!(unit.metadata < unit.all && unit.all < unit.ended);
        let stopped = &trace.units[&0];
        assert_eq!(stopped.outcome, Some(Outcome::Paused));
        assert_eq!(stopped.phase(Phase::Paused).unwrap().ended, None);
        assert_eq!(trace.paused(), ["a", "b", "c"]);
    }

    #[test]
    fn other_files_are_refused() {
        for text in [
            "[",
            r#"[{"name":"a","cat":"unit","ph":"E","args":{"unit":1}}]"#,
            r#"[{"name":"a","cat":"unit","ph":"B","args":{"unit":1,"package":"a"}},
                {"name":"paused","cat":"phase","ph":"E","args":{"unit":1}}]"#,
        ] {
            assert!(BuildTrace::parse(text).is_err(), "{text}");
        }
    }
}
