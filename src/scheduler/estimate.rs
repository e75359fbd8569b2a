//! What a unit has to do, and what a build teaches about it.

use std::collections::HashMap;

use super::guess::{Basis, Guess};

/// A part of a job that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Until the metadata is written, or the last object if none is; all of the run of a build script.
    Frontend,
    /// A compiler from there until its last object.
    Codegen,
    /// The linker.
    Link,
}

/// A value for each [`Phase`] of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named like the phases")]
pub struct Phases<T> {
    pub frontend: T,
    pub codegen: T,
    pub link: T,
}

/// How long the phases of a unit take, or probably take, in µs. One that it does not have takes 0.
pub type Work = Phases<u64>;

/// How long the phases of a unit took, in µs, as far as that was measured.
pub type Measured = Phases<Option<u64>>;

impl<T: Copy> Phases<T> {
    /// Returns the value for a phase.
    pub fn of(mut self, phase: Phase) -> T {
        *self.of_mut(phase)
    }

    pub(super) fn of_mut(&mut self, phase: Phase) -> &mut T {
        match phase {
            Phase::Frontend => &mut self.frontend,
            Phase::Codegen => &mut self.codegen,
            Phase::Link => &mut self.link,
        }
    }
}

impl Measured {
    /// Returns the work, where a phase that was not measured takes 0.
    pub fn work(self) -> Work {
        Work {
            frontend: self.frontend.unwrap_or(0),
            codegen: self.codegen.unwrap_or(0),
            link: self.link.unwrap_or(0),
        }
    }
}

/// What a unit probably has to do, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// Measured in an earlier build of such a unit.
    Measured(Work),
    /// Guessed without compiling.
    Guessed(Guess),
}

impl Estimate {
    /// Returns the work.
    pub fn work(self) -> Work {
        match self {
            Estimate::Measured(work) | Estimate::Guessed(Guess { work, .. }) => work,
        }
    }
}

/// After how many phases their ratio is believed; before, it may be an accident.
const ENOUGH: u32 = 4;

/// How far guesses are off, by their basis and phase, as this build has shown so far.
#[derive(Clone, Debug, Default)]
pub struct Correction {
    by_basis: HashMap<Basis, Phases<Ratio>>,
    all: Phases<Ratio>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ratio {
    count: u32,
    guessed: u64,
    took: u64,
}

impl Ratio {
    fn note(&mut self, guessed: u64, took: u64) {
        self.count += 1;
        self.guessed = self.guessed.saturating_add(guessed);
        self.took = self.took.saturating_add(took);
    }

    fn is_believed(&self) -> bool {
        self.count >= ENOUGH && self.guessed > 0
    }
}

impl Correction {
    /// Notes that a phase which was guessed to take `guessed` µs has taken `took` µs.
    pub fn note(&mut self, phase: Phase, basis: Basis, guessed: u64, took: u64) {
        let own = self.by_basis.entry(basis).or_default();
        own.of_mut(phase).note(guessed, took);
        self.all.of_mut(phase).note(guessed, took);
    }

    /// Corrects a guess in the proportion in which others of its basis were wrong, or of any basis as long as
    /// too few have ended.
    pub fn apply(&self, guess: Guess) -> Work {
        let mut work = guess.work;
        let own = self.by_basis.get(&guess.basis);
        for phase in [Phase::Frontend, Phase::Codegen, Phase::Link] {
            let own = own.map(|own| own.of(phase));
            let ratios = own.into_iter().chain([self.all.of(phase)]);
            if let Some(ratio) = ratios.into_iter().find(Ratio::is_believed) {
                let figure = work.of_mut(phase);
                *figure = scaled(*figure, ratio.took, ratio.guessed);
            }
        }
        work
    }
}

/// Returns `figure × numerator ÷ denominator`, which must not be 0, as far as it fits.
pub(crate) fn scaled(figure: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(figure) * u128::from(numerator);
    u64::try_from(product / u128::from(denominator)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(basis: Basis, frontend: u64, codegen: u64, link: u64) -> Guess {
        let work = Work {
            frontend,
            codegen,
            link,
        };
        Guess { basis, work }
    }

    #[test]
    fn guesses_are_corrected_in_proportion() {
        let library = guess(Basis::Library, 100, 1_000, 7);
        let known = guess(Basis::Prior, 100, 1_000, 7);
        let mut correction = Correction::default();
        for count in 0..ENOUGH {
            assert_eq!(correction.apply(library), library.work, "after {count}");
            correction.note(Phase::Frontend, Basis::Library, 10, 30);
            correction.note(Phase::Codegen, Basis::Library, 10, 5);
            correction.note(Phase::Link, Basis::Library, 0, 5);
        }
        let expected = guess(Basis::Library, 300, 500, 7);
        assert_eq!(correction.apply(library), expected.work);
        // No other is known yet.
        assert_eq!(correction.apply(known), expected.work);
        for _ in 0..ENOUGH {
            correction.note(Phase::Frontend, Basis::Prior, 10, 10);
        }
        assert_eq!(correction.apply(library), expected.work);
        assert_eq!(correction.apply(known).frontend, 100);
    }

    #[test]
    fn huge_figures_do_not_overflow() {
        let mut correction = Correction::default();
        for _ in 0..2 * ENOUGH {
            correction.note(Phase::Link, Basis::Linked, 1, u64::MAX);
        }
        let guess = guess(Basis::Linked, 0, 0, u64::MAX);
        assert_eq!(correction.apply(guess).link, u64::MAX);
    }
}
