//! What a unit has to do, and what a build teaches about it.

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
    /// Guessed without compiling. At best, it is right in proportion to other guesses.
    Guessed(Work),
}

impl Estimate {
    /// Returns the work.
    pub fn work(self) -> Work {
        match self {
            Estimate::Measured(work) | Estimate::Guessed(work) => work,
        }
    }
}

/// After how many phases their ratio is believed; before, it may be an accident.
const ENOUGH: u32 = 4;

/// How far guesses are off, phase by phase, as this build has shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Correction {
    count: Phases<u32>,
    guessed: Work,
    took: Work,
}

impl Correction {
    /// Notes that a phase which was guessed to take `guessed` µs has taken `took` µs.
    pub fn note(&mut self, phase: Phase, guessed: u64, took: u64) {
        *self.count.of_mut(phase) += 1;
        for (sum, more) in [(&mut self.guessed, guessed), (&mut self.took, took)] {
            let sum = sum.of_mut(phase);
            *sum = sum.saturating_add(more);
        }
    }

    /// Corrects a guess in the proportion in which the others were wrong.
    pub fn apply(&self, mut guess: Work) -> Work {
        for phase in [Phase::Frontend, Phase::Codegen, Phase::Link] {
            let guessed = self.guessed.of(phase);
            if self.count.of(phase) >= ENOUGH && guessed > 0 {
                let figure = guess.of_mut(phase);
                *figure = scaled(*figure, self.took.of(phase), guessed);
            }
        }
        guess
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

    #[test]
    fn guesses_are_corrected_in_proportion() {
        let guess = Work {
            frontend: 100,
            codegen: 1_000,
            link: 7,
        };
        let mut correction = Correction::default();
        for count in 0..ENOUGH {
            assert_eq!(correction.apply(guess), guess, "after {count}");
            correction.note(Phase::Frontend, 10, 30);
            correction.note(Phase::Codegen, 10, 5);
            correction.note(Phase::Link, 0, 5);
        }
        let expected = Work {
            frontend: 300,
            codegen: 500,
            link: 7,
        };
        assert_eq!(correction.apply(guess), expected);
    }

    #[test]
    fn huge_figures_do_not_overflow() {
        let mut correction = Correction::default();
        for _ in 0..2 * ENOUGH {
            correction.note(Phase::Link, 1, u64::MAX);
        }
        let guess = Work {
            link: u64::MAX,
            ..Work::default()
        };
        assert_eq!(correction.apply(guess).link, u64::MAX);
    }
}
