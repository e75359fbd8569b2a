//! What a unit has to do, and what a build teaches about it.

/// A part of a job that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Until the metadata is written, or until the last object if none is; of a build script, all of
    /// its run.
    Frontend,
    /// A compiler from there until its last object.
    Codegen,
    /// The linker.
    Link,
}

impl Phase {
    pub(super) const ALL: [Phase; 3] = [Phase::Frontend, Phase::Codegen, Phase::Link];
}

/// How long the phases of a unit take, or probably take, in µs. One that it does not have takes 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Of [`Phase::Frontend`].
    pub frontend: u64,
    /// Of [`Phase::Codegen`].
    pub codegen: u64,
    /// Of [`Phase::Link`].
    pub link: u64,
}

impl Work {
    /// How long one phase takes, in µs.
    pub fn of(self, phase: Phase) -> u64 {
        match phase {
            Phase::Frontend => self.frontend,
            Phase::Codegen => self.codegen,
            Phase::Link => self.link,
        }
    }

    fn of_mut(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Frontend => &mut self.frontend,
            Phase::Codegen => &mut self.codegen,
            Phase::Link => &mut self.link,
        }
    }
}

/// What a unit probably has to do, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// Units like this one were built before.
    Measured(Work),
    /// It was guessed from what is known without compiling. Right in proportion to other guesses, at
    /// best.
    Guessed(Work),
}

impl Default for Estimate {
    fn default() -> Self {
        Estimate::Measured(Work::default())
    }
}

impl Estimate {
    /// The work, as far as it is known.
    pub fn work(self) -> Work {
        match self {
            Estimate::Measured(work) | Estimate::Guessed(work) => work,
        }
    }
}

/// How long the phases of a unit took, in µs, as far as that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Of [`Phase::Frontend`].
    pub frontend: Option<u64>,
    /// Of [`Phase::Codegen`].
    pub codegen: Option<u64>,
    /// Of [`Phase::Link`].
    pub link: Option<u64>,
}

impl Measured {
    /// Notes how long a phase took.
    pub fn note(&mut self, phase: Phase, took: u64) {
        let measured = match phase {
            Phase::Frontend => &mut self.frontend,
            Phase::Codegen => &mut self.codegen,
            Phase::Link => &mut self.link,
        };
        *measured = Some(took);
    }

    /// The work, with what was not measured taken from `guess`.
    pub fn or(self, guess: Work) -> Work {
        Work {
            frontend: self.frontend.unwrap_or(guess.frontend),
            codegen: self.codegen.unwrap_or(guess.codegen),
            link: self.link.unwrap_or(guess.link),
        }
    }

    pub(super) fn to_array(self) -> [Option<u64>; Phase::ALL.len()] {
        [self.frontend, self.codegen, self.link]
    }

    pub(super) fn from_array([frontend, codegen, link]: [Option<u64>; Phase::ALL.len()]) -> Self {
        Measured {
            frontend,
            codegen,
            link,
        }
    }
}

/// A ratio is believed when so many phases were seen; before, it may be an accident.
const ENOUGH: u32 = 4;

/// How far guesses are off, phase by phase, as this build has shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Correction {
    seen: [Seen; Phase::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u32,
    guessed: u64,
    took: u64,
}

impl Correction {
    /// A phase that was guessed to take `guessed` µs has taken `took` µs.
    pub fn note(&mut self, phase: Phase, guessed: u64, took: u64) {
        let seen = &mut self.seen[phase as usize];
        seen.count = seen.count.saturating_add(1);
        seen.guessed = seen.guessed.saturating_add(guessed);
        seen.took = seen.took.saturating_add(took);
    }

    /// A guess, corrected in the proportion in which the others were wrong.
    pub fn apply(&self, guess: Work) -> Work {
        let mut corrected = guess;
        for phase in Phase::ALL {
            let seen = self.seen[phase as usize];
            if seen.count >= ENOUGH && seen.guessed > 0 {
                *corrected.of_mut(phase) = scaled(guess.of(phase), seen.took, seen.guessed);
            }
        }
        corrected
    }
}

/// `figure × numerator ÷ denominator`, which must not be 0, as far as it fits.
pub(crate) fn scaled(figure: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(figure) * u128::from(numerator);
    u64::try_from(product / u128::from(denominator)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_guessed() {
        let guess = Work {
            frontend: 1,
            codegen: 2,
            link: 3,
        };
        let mut measured = Measured::default();
        assert_eq!(measured.or(guess), guess);
        measured.note(Phase::Frontend, 10);
        let expected = Work {
            frontend: 10,
            ..guess
        };
        assert_eq!(measured.or(guess), expected);
    }

    #[test]
    fn guesses_are_corrected_in_proportion_once_enough_was_seen() {
        let guess = Work {
            frontend: 100,
            codegen: 1_000,
            link: 7,
        };
        let mut correction = Correction::default();
        for count in 0..ENOUGH {
            let expected = Work { ..guess };
            assert_eq!(correction.apply(guess), expected, "after {count}");
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
    fn absurd_figures_do_not_overflow() {
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
