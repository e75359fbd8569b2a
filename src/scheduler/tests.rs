use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};

use super::guess::{Basis, Guess};
use super::pauses::Budget;
use super::*;
use crate::link_gate::{HeldLinker, Hold};
use Need::{AllToLink, AllToStart, MetadataToStart};

const SECOND: u64 = 1_000_000;
const SLOTS: usize = usize::MAX;

type Queue = Scheduler<&'static str, ()>;

fn hold() -> Option<Hold> {
    Some(Hold::BeforeLinker(HeldLinker {
        name: "unit".to_owned(),
        linker: "cc".to_owned(),
    }))
}

/// A clock that stands still, one job may start early, four may be paused.
fn settings(schedule: Schedule) -> Settings<&'static str> {
    Settings {
        schedule,
        clock: Clock::new(|| 0),
        early: EarlyStarts::simulated(1),
        pauses: Pauses::simulated(Budget::Bytes(4), Vec::new()),
        ..Settings::default()
    }
}

fn queue(jobs: &[(&'static str, &[(&'static str, Need)])]) -> Queue {
    let mut plan = Plan::default();
    for (unit, needs) in jobs {
        plan.add(*unit, (), needs.iter().copied()).hold(hold());
    }
    plan.seal(settings(Schedule::Stock)).unwrap()
}

fn start(queue: &mut Queue) -> Option<&'static str> {
    start_early(queue).map(|(unit, _)| unit)
}

/// The unit that starts, and whether it is early.
fn start_early(queue: &mut Queue) -> Option<(&'static str, bool)> {
    match queue.next(SLOTS)? {
        Action::Start(start) => Some((start.unit, start.is_early)),
        other => panic!("{other:?} instead of a start"),
    }
}

fn next_link(queue: &mut Queue) -> Option<&'static str> {
    match queue.next(SLOTS)? {
        Action::Link(unit) => Some(unit),
        other => panic!("{other:?} instead of a link"),
    }
}

/// Parks a unit. Its permit comes through the receiver.
fn park(queue: &mut Queue, unit: &'static str) -> Receiver<Permit> {
    let (sender, permit) = channel();
    let deliver = move |permit| sender.send(permit).unwrap();
    queue.parked(&unit, PermitSender::new(deliver));
    permit
}

const NO_UNITS: [&&str; 0] = [];

#[test]
fn library_starts_on_metadata() {
    let mut queue = queue(&[
        ("bin", &[("lib", AllToStart), ("core", AllToStart)]),
        ("lib", &[("core", MetadataToStart)]),
        ("core", &[]),
    ]);
    assert_eq!(start(&mut queue), Some("core"));
    assert_eq!(start(&mut queue), None);
    assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
    assert_eq!(start(&mut queue), Some("lib"));
    assert_eq!(queue.produced(&"lib", Artifact::All), NO_UNITS);
    assert_eq!(start(&mut queue), None);
    assert_eq!(queue.produced(&"core", Artifact::All), [&"bin"]);
    assert_eq!(start(&mut queue), Some("bin"));
    assert!(queue.is_drained());
}

#[test]
fn slots_are_the_bound() {
    let mut queue = queue(&[("a", &[]), ("b", &[])]);
    assert!(queue.next(0).is_none());
    assert!(queue.next(1).is_some() && queue.next(1).is_none());
    assert_eq!((queue.slots_in_use(), queue.wanted_slots(1)), (1, 2));
}

/// `bin`, which links `lib`, is conditional.
fn conditional() -> Queue {
    let mut plan = Plan::default();
    let bin = plan.add("bin", (), [("lib", AllToLink)]);
    bin.hold(hold()).conditional(true);
    plan.add("lib", (), []);
    plan.seal(settings(Schedule::Stock)).unwrap()
}

fn to_compare(queue: &mut Queue) -> Option<(&'static str, bool)> {
    let to_compare = queue.next_to_compare()?;
    Some((*to_compare.unit, to_compare.all_ready))
}

#[test]
fn comparison_comes_before_start() {
    let mut queue = conditional();
    assert_eq!(to_compare(&mut queue), None);
    assert_eq!(start(&mut queue), Some("lib"));
    queue.produced(&"lib", Artifact::Metadata);
    assert_eq!(queue.wanted_slots(1), 1);
    assert_eq!(start(&mut queue), None);
    assert_eq!(to_compare(&mut queue), Some(("bin", false)));

    queue.compared(&"bin", Verdict::Changed);
    assert_eq!(to_compare(&mut queue), None);
    assert_eq!(queue.wanted_slots(1), 2);
    assert_eq!(start_early(&mut queue), Some(("bin", true)));
}

#[test]
fn linked_outputs_are_compared_when_ready() {
    let mut queue = conditional();
    start(&mut queue);
    queue.produced(&"lib", Artifact::Metadata);
    queue.compared(&"bin", Verdict::SameMetadata);
    assert_eq!(to_compare(&mut queue), None);
    assert_eq!(start(&mut queue), None);
    queue.produced(&"lib", Artifact::All);
    assert_eq!(start(&mut queue), None);
    assert_eq!(to_compare(&mut queue), Some(("bin", true)));
    queue.compared(&"bin", Verdict::Unchanged);
    assert_eq!(start_early(&mut queue), Some(("bin", false)));
    queue.produced(&"bin", Artifact::All);
    assert!(queue.is_drained());
}

#[test]
fn late_comparison_happens_once() {
    let mut queue = conditional();
    start(&mut queue);
    queue.produced(&"lib", Artifact::Metadata);
    queue.produced(&"lib", Artifact::All);
    assert_eq!(to_compare(&mut queue), Some(("bin", true)));
    queue.compared(&"bin", Verdict::Changed);
    assert_eq!(to_compare(&mut queue), None);
    assert_eq!(start_early(&mut queue), Some(("bin", false)));
}

#[test]
fn nothing_is_compared_that_cannot_start() {
    let mut queue = conditional();
    start(&mut queue);
    queue.produced(&"lib", Artifact::Metadata);
    queue.failed(&"lib");
    assert_eq!(to_compare(&mut queue), None);
    assert!(queue.is_drained());

    let mut queue = conditional();
    start(&mut queue);
    queue.produced(&"lib", Artifact::All);
    queue.stop();
    assert_eq!(to_compare(&mut queue), None);
    assert_eq!(start(&mut queue), None);
}

#[test]
fn greater_need_counts() {
    let mut queue = queue(&[
        ("bin", &[("core", AllToStart), ("core", MetadataToStart)]),
        ("core", &[]),
    ]);
    start(&mut queue);
    assert_eq!(queue.produced(&"core", Artifact::Metadata), NO_UNITS);
    assert_eq!(queue.produced(&"core", Artifact::All), [&"bin"]);
}

#[test]
fn last_unblocked_goes_first_among_equals() {
    let mut queue = queue(&[
        ("first", &[]),
        ("of-first", &[("first", AllToStart)]),
        ("second", &[]),
        ("of-second", &[("second", AllToStart)]),
        ("alone", &[]),
    ]);
    assert_eq!(start(&mut queue), Some("first"));
    assert_eq!(start(&mut queue), Some("second"));
    queue.produced(&"second", Artifact::All);
    queue.produced(&"first", Artifact::All);
    let order: Vec<_> = std::iter::from_fn(|| start(&mut queue)).collect();
    assert_eq!(order, ["of-first", "of-second", "alone"]);
}

const LOST: Option<State> = Some(State::Failed(Cause::Dependency));

/// `bin` links `lib` and `core`, which still compile, and has started early.
fn bin_is_early() -> Queue {
    let mut queue = queue(&[
        ("core", &[]),
        ("lib", &[("core", MetadataToStart)]),
        ("bin", &[("core", AllToLink), ("lib", AllToLink)]),
        ("test", &[("bin", AllToStart)]),
    ]);
    assert_eq!(start(&mut queue), Some("core"));
    assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
    assert_eq!(start(&mut queue), Some("lib"));
    assert_eq!(queue.produced(&"lib", Artifact::Metadata), [&"bin"]);
    assert_eq!(start_early(&mut queue), Some(("bin", true)));
    assert_eq!(queue.slots_in_use(), 3);
    queue
}

#[test]
fn early_job_links_when_ready() {
    let mut queue = bin_is_early();
    let permit = park(&mut queue, "bin");
    assert_eq!(queue.slots_in_use(), 2);
    assert_eq!(queue.produced(&"core", Artifact::All), NO_UNITS);
    assert_eq!(next_link(&mut queue), None);
    assert_eq!(queue.produced(&"lib", Artifact::All), NO_UNITS);
    assert_eq!((queue.wanted_slots(0), queue.slots_in_use()), (1, 0));
    permit.try_recv().unwrap_err();
    assert_eq!(next_link(&mut queue), Some("bin"));
    assert_eq!(permit.recv(), Ok(Permit::Link));
    assert_eq!(queue.slots_in_use(), 1);
    // Its compiler has ended without having linked.
    assert_eq!(park(&mut queue, "bin").recv(), Ok(Permit::Link));
    assert_eq!(queue.produced(&"bin", Artifact::All), [&"test"]);
}

#[test]
fn failure_aborts_parked_jobs() {
    for parks_before in [true, false] {
        let mut queue = bin_is_early();
        let permit = if parks_before {
            let permit = park(&mut queue, "bin");
            queue.failed(&"core");
            permit
        } else {
            queue.failed(&"core");
            assert_eq!(queue.state(&"bin"), Some(State::Frontend));
            park(&mut queue, "bin")
        };
        assert_eq!(permit.recv(), Ok(Permit::Abort));
        assert_eq!(["bin", "test"].map(|unit| queue.state(&unit)), [LOST; 2]);
        assert_eq!(park(&mut queue, "bin").recv(), Ok(Permit::Abort));
        assert_eq!(queue.slots_in_use(), 1);
        queue.produced(&"lib", Artifact::All);
        assert_eq!(next_link(&mut queue), None);
        assert!(queue.is_drained());
    }
}

#[test]
fn parked_job_fails_or_is_stopped() {
    for stop in [true, false] {
        let mut queue = bin_is_early();
        let first = park(&mut queue, "bin");
        let permit = park(&mut queue, "bin");
        assert_eq!(first.recv(), Ok(Permit::Abort), "it is replaced");
        queue.produced(&"core", Artifact::All);
        queue.produced(&"lib", Artifact::All);
        let cause = if stop {
            queue.stop();
            Cause::Stopped
        } else {
            queue.failed(&"bin");
            Cause::Own
        };
        assert_eq!(permit.recv(), Ok(Permit::Abort));
        assert_eq!(queue.state(&"bin"), Some(State::Failed(cause)));
        assert_eq!(next_link(&mut queue), None);
    }
}

#[test]
fn stopped_build_aborts_parking_job() {
    let mut queue = bin_is_early();
    queue.stop();
    assert_eq!(park(&mut queue, "bin").recv(), Ok(Permit::Abort));
    let stopped = State::Failed(Cause::Stopped);
    assert_eq!(queue.state(&"bin"), Some(stopped));
}

/// In seconds.
fn work(frontend: u64, codegen: u64) -> Estimate {
    Estimate::Measured(Work {
        frontend: frontend * SECOND,
        codegen: codegen * SECOND,
        ..Work::default()
    })
}

/// `core` is the metadata that `lib` reads; `other` has nothing to do with them. Paused compilers, of one byte each,
/// may hold `memory` bytes.
fn core_lib_and_other(memory: u64) -> Queue {
    let mut plan = Plan::default();
    plan.add("other", (), []).estimate(work(20, 0));
    plan.add("core", (), []).estimate(work(10, 50));
    plan.add("lib", (), [("core", MetadataToStart)])
        .estimate(work(100, 30));
    plan.seal(Settings {
        pauses: Pauses::simulated(Budget::Bytes(memory), Vec::new()),
        ..settings(Schedule::CriticalPath)
    })
    .unwrap()
}

/// Whether the unit, which has just written its metadata, is paused on one slot.
fn pauses(queue: &mut Queue, unit: &'static str) -> bool {
    queue.pause_codegen(1, || false);
    queue.state(&unit) == Some(State::Paused)
}

#[test]
fn critical_path_goes_first() {
    let mut queue = core_lib_and_other(4);
    assert_eq!(start(&mut queue), Some("core"));
    assert_eq!(queue.produced(&"core", Artifact::Metadata), [&"lib"]);
    assert_eq!(start(&mut queue), Some("lib"));
    assert_eq!(start(&mut queue), Some("other"));
}

#[test]
fn codegen_waits_for_a_higher_priority() {
    let mut queue = core_lib_and_other(4);
    start(&mut queue);
    queue.produced(&"core", Artifact::Metadata);
    assert!(pauses(&mut queue, "core"));
    assert_eq!(queue.slots_in_use(), 0);
    assert_eq!(start(&mut queue), Some("lib"));
    queue.produced(&"lib", Artifact::Metadata);
    assert!(pauses(&mut queue, "lib"), "core has a higher priority");
    assert!(matches!(queue.next(1), Some(Action::Resume("core"))));
    assert_eq!(queue.slots_in_use(), 1);
    queue.produced(&"core", Artifact::All);
    assert!(matches!(queue.next(1), Some(Action::Resume("lib"))));
}

#[test]
fn codegen_goes_on() {
    let metadata = |memory| {
        let mut queue = core_lib_and_other(memory);
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        queue
    };
    let paused = Some(State::Paused);
    assert!(!pauses(&mut metadata(0), "core"), "there is no memory");
    let mut queue = metadata(4);
    queue.pause_codegen(2, || false);
    assert_ne!(queue.state(&"core"), paused, "there is another slot");
    let mut queue = metadata(4);
    queue.pause_codegen(1, || true);
    assert_ne!(queue.state(&"core"), paused, "there is another token");
    assert!(!pauses(&mut queue, "core"), "it is considered once");

    let mut plan = Plan::default();
    plan.add("other", (), []).estimate(work(20, 0));
    plan.add("core", (), []).estimate(work(10, 50));
    plan.add("lib", (), [("core", MetadataToStart)])
        .estimate(work(1, 1));
    let mut queue = plan.seal(settings(Schedule::CriticalPath)).unwrap();
    start(&mut queue);
    queue.produced(&"core", Artifact::Metadata);
    assert!(!pauses(&mut queue, "core"), "it has the highest priority");
}

#[test]
fn paused_job_can_end() {
    for fails in [true, false] {
        let mut queue = core_lib_and_other(4);
        start(&mut queue);
        queue.produced(&"core", Artifact::Metadata);
        assert!(pauses(&mut queue, "core"));
        if fails {
            queue.failed(&"core");
        } else {
            queue.produced(&"core", Artifact::All);
            let (_, measured) = queue.measured().next().unwrap();
            assert_eq!(measured.codegen, None, "it ran on for an unknown time");
        }
        assert_eq!((queue.slots_in_use(), queue.wanted_slots(0)), (0, 2));
        assert_eq!(start(&mut queue), Some("lib"));
    }
}

/// A clock, and what sets it.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&now);
    (Clock::new(move || shown.load(Relaxed)), now)
}

#[test]
fn slow_frontend_raises_codegen_priority() {
    for (took, is_paused) in [(10, true), (30, false)] {
        let (clock, now) = clock();
        let mut plan = Plan::default();
        plan.add("core", (), []).estimate(work(10, 50));
        plan.add("lib", (), [("core", MetadataToStart)])
            .estimate(work(100, 30));
        let settings = Settings {
            clock,
            ..settings(Schedule::CriticalPath)
        };
        let mut queue = plan.seal(settings).unwrap();
        start(&mut queue);
        now.store(took * SECOND, Relaxed);
        queue.produced(&"core", Artifact::Metadata);
        assert_eq!(pauses(&mut queue, "core"), is_paused, "{took}");
    }
}

#[test]
fn guesses_are_corrected() {
    let guess = |frontend| {
        let work = Work {
            frontend: frontend * SECOND,
            ..Work::default()
        };
        let basis = Basis::ProcMacro;
        Estimate::Guessed(Guess { basis, work })
    };
    let names = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
    ];
    let (clock, now) = clock();
    let mut plan = Plan::default();
    for name in names {
        plan.add(name, (), []).estimate(guess(1_000));
    }
    plan.add("guessed", (), []).estimate(guess(100));
    plan.add("known", (), []).estimate(work(500, 0));
    let settings = Settings {
        clock,
        ..settings(Schedule::CriticalPath)
    };
    let mut queue = plan.seal(settings).unwrap();
    for name in names {
        assert_eq!(start(&mut queue), Some(name));
        now.fetch_add(10_000 * SECOND, Relaxed);
        queue.produced(&name, Artifact::All);
    }
    // Ten times as much as guessed.
    assert_eq!(start(&mut queue), Some("guessed"));
}

#[test]
fn phases_are_measured_without_pauses() {
    let (clock, now) = clock();
    let mut plan = Plan::default();
    plan.add("core", (), []).estimate(work(10, 50));
    plan.add("lib", (), [("core", MetadataToStart)])
        .estimate(work(100, 30));
    plan.add("bin", (), [("core", AllToLink), ("lib", AllToLink)])
        .hold(hold())
        .estimate(work(100, 0));
    let settings = Settings {
        clock,
        ..settings(Schedule::CriticalPath)
    };
    let mut queue = plan.seal(settings).unwrap();
    let pass = |time| now.fetch_add(time * SECOND, Relaxed);
    start(&mut queue);
    pass(3);
    queue.produced(&"core", Artifact::Metadata);
    pass(2);
    assert!(pauses(&mut queue, "core"));
    start(&mut queue);
    pass(100);
    queue.produced(&"lib", Artifact::All);
    start(&mut queue);
    pass(5);
    let _permit = park(&mut queue, "bin");
    assert!(matches!(queue.next(1), Some(Action::Resume("core"))));
    pass(7);
    queue.produced(&"core", Artifact::All);
    pass(1_000);
    assert_eq!(next_link(&mut queue), Some("bin"));
    pass(4);
    queue.produced(&"bin", Artifact::All);
    let seconds = |time: Option<u64>| time.map(|time| time * SECOND);
    let measured = |frontend, codegen, link| Measured {
        frontend: seconds(Some(frontend)),
        codegen: seconds(codegen),
        link: seconds(link),
    };
    let expected = [
        (&"core", measured(3, Some(9), None)),
        (&"lib", measured(100, None, None)),
        (&"bin", measured(5, None, Some(4))),
    ];
    assert_eq!(queue.measured().collect::<Vec<_>>(), expected);

    let section = |unit, name: &str, start: u64, end: u64| Section {
        unit,
        name: name.to_owned(),
        start: start * SECOND,
        end: end * SECOND,
    };
    let summary = queue.summary(2, |unit| *unit);
    assert_eq!(
        summary,
        Some(Summary {
            took: (3 + 2 + 100 + 5 + 7 + 1_000 + 4) * SECOND,
            limit: (3 + 100 + 5 + 4) * SECOND,
            critical_path: vec![
                ("core", 3 * SECOND),
                ("lib", 100 * SECOND),
                ("bin", 9 * SECOND)
            ],
            gated_links: 1,
            ran_ahead: 5 * SECOND,
            sections: vec![
                section("core", "paused", 5, 110),
                section("bin", "parked", 110, 1_117),
                section("bin", "link", 1_117, 1_121),
            ],
            unchanged: Vec::new(),
        })
    );
}

#[test]
fn stopped_build_only_resumes() {
    let mut queue = core_lib_and_other(4);
    start(&mut queue);
    queue.produced(&"core", Artifact::Metadata);
    assert!(pauses(&mut queue, "core"));
    queue.stop();
    assert_eq!(queue.wanted_slots(0), 1);
    assert!(matches!(queue.next(1), Some(Action::Resume("core"))));
    assert!(queue.next(SLOTS).is_none());
}

#[test]
#[should_panic(expected = "ended before it could link")]
fn early_job_must_link() {
    bin_is_early().produced(&"bin", Artifact::All);
}

#[test]
#[should_panic(expected = "cannot go from Waiting to Codegen")]
fn metadata_before_start() {
    let mut queue = queue(&[("lib", &[("core", AllToStart)]), ("core", &[])]);
    queue.produced(&"lib", Artifact::Metadata);
}

#[test]
fn plans_that_cannot_run() {
    type Jobs<'a> = &'a [(&'static str, &'a [(&'static str, Need)])];
    let error = |jobs: Jobs<'_>| {
        let mut plan = Plan::default();
        for (unit, needs) in jobs {
            plan.add(*unit, (), needs.iter().copied());
        }
        let sealed = plan.seal(settings(Schedule::Stock));
        sealed.unwrap_err().to_string()
    };
    assert_eq!(error(&[("a", &[]), ("a", &[])]), r#""a" was queued twice"#);
    assert_eq!(
        error(&[("a", &[("b", AllToStart)])]),
        r#""a" needs "b", which was never queued"#
    );
    let cycle = error(&[
        ("a", &[("b", MetadataToStart)]),
        ("b", &[("a", AllToStart)]),
        ("c", &[]),
    ]);
    assert_eq!(cycle, r#"a cycle in the job graph among ["a", "b"]"#);
}
