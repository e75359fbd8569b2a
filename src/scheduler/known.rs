//! What is known of the units of one build: before it, and after it.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;

use super::Plan;
use super::costs::{Key, Store};
use super::guess::{Kind, guess};
use super::{Estimate, Measured, Work};

/// The costs of the units of a build, from the [store](super::costs) and for it.
#[derive(Debug)]
pub struct KnownCosts<U> {
    store: Store,
    keys: HashMap<U, Key>,
    /// The user has been told that something is wrong with the store.
    has_failed: bool,
}

impl<U: Clone + Eq + Hash> KnownCosts<U> {
    /// With the store at `path`, which need not exist. Reads nothing yet.
    pub fn at(path: PathBuf) -> Self {
        KnownCosts {
            store: Store::at(path),
            keys: HashMap::new(),
            has_failed: false,
        }
    }

    /// Estimates what the jobs of `plan` have to do. One without a `key` has nothing to do; what the
    /// store does not know is guessed from its `kind`, which is asked for only then.
    ///
    /// Blocks as [`Store::estimates`] does.
    ///
    /// # Errors
    ///
    /// If the store cannot be read. Then everything is guessed.
    pub fn estimate<J>(
        &mut self,
        plan: &mut Plan<U, J>,
        key: impl Fn(&U, &J) -> Option<Key>,
        kind: impl Fn(&U) -> Kind,
    ) -> anyhow::Result<()> {
        self.keys = plan
            .jobs()
            .filter_map(|(unit, job)| Some((unit.clone(), key(unit, job)?)))
            .collect();
        let keys: Vec<Key> = self.keys.values().copied().collect();
        let (known, result) = match self.store.estimates(&keys) {
            Ok(known) => (known, Ok(())),
            Err(e) => (Vec::new(), Err(e)),
        };
        self.has_failed = result.is_err();
        let known: HashMap<Key, _> = std::iter::zip(keys, known).collect();
        plan.estimate(|unit, _| {
            let Some(key) = self.keys.get(unit) else {
                return Estimate::Measured(Work::default());
            };
            match known.get(key) {
                Some(Some(known)) => Estimate::Measured(known.measured.or(Work::default())),
                _ => Estimate::Guessed(guess(kind(unit))),
            }
        });
        result
    }

    /// Takes into account what was measured.
    ///
    /// Blocks as [`Store::record`] does.
    ///
    /// # Errors
    ///
    /// If the store cannot be written, and reading it has not failed before: that is said once.
    pub fn record<'a>(
        &self,
        measured: impl IntoIterator<Item = (&'a U, Measured)>,
    ) -> anyhow::Result<()>
    where
        U: 'a,
    {
        let measured: Vec<_> = measured
            .into_iter()
            .filter_map(|(unit, measured)| Some((*self.keys.get(unit)?, measured)))
            .collect();
        match self.store.record(&measured) {
            Err(_) if self.has_failed => Ok(()),
            recorded => recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Artifact;
    use crate::scheduler::costs::Identity;
    use crate::scheduler::{Action, Clock, Settings, Task};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    fn key(package: &str) -> Key {
        Key::of(&Identity {
            package,
            target: package,
            kind: "lib",
            mode: "build",
            profile: "dev",
            source: "registry",
            version: "1.0.0",
            features: &[],
            platform: "host",
        })
    }

    struct Unit {
        is_fresh: bool,
    }

    impl Task for Unit {
        fn is_fresh(&self) -> bool {
            self.is_fresh
        }
    }

    /// Builds one after the other. Returns the order, and the results of reading and recording.
    fn build(path: &Path) -> (Vec<&'static str>, [anyhow::Result<()>; 2]) {
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let mut plan = Plan::default();
        for (unit, is_fresh) in [("fresh", true), ("small", false), ("large", false)] {
            plan.add(unit, Unit { is_fresh }, []);
        }
        let mut costs = KnownCosts::at(path.to_owned());
        let read = costs.estimate(
            &mut plan,
            |unit, job: &Unit| (!job.is_fresh).then(|| key(unit)),
            |_| Kind::Other,
        );
        let settings = Settings {
            clock: Clock::new(move || shown.load(Relaxed)),
            costs: Some(costs),
            ..Settings::default()
        };
        let mut scheduler = plan.seal(settings).unwrap();
        let mut order = Vec::new();
        while let Some(Action::Start(start)) = scheduler.next(1) {
            let took = if start.unit == "large" { 9_000_000 } else { 10 };
            now.fetch_add(took, Relaxed);
            scheduler.produced(&start.unit, Artifact::All);
            order.push(start.unit);
        }
        (order, [read, scheduler.record_costs()])
    }

    #[test]
    fn the_second_build_knows_what_the_first_has_measured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("costs");
        let (order, results) = build(&path);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(order, ["fresh", "small", "large"]);
        let (order, results) = build(&path);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(order, ["large", "fresh", "small"]);
    }

    #[test]
    fn without_a_store_it_goes_on_and_says_so_once() {
        let dir = tempfile::tempdir().unwrap();
        let (order, [read, recorded]) = build(dir.path());
        assert_eq!(order.len(), 3);
        assert!(read.is_err() && recorded.is_ok());
        let nowhere = dir.path().join("not-a-directory/costs");
        let (order, [read, recorded]) = build(&nowhere);
        assert_eq!(order.len(), 3);
        assert!(read.is_ok() && recorded.is_err());
    }
}
