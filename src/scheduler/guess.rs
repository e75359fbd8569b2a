//! What a unit probably costs that nobody has built yet.
//!
//! The figures come from recorded builds of some hundred crates. What a crate costs grows with the
//! square root of its source, roughly: larger crates have more that nobody uses. For libraries nine in
//! ten are within a factor of three of their frontend, and of six of their codegen. What matters most is
//! to know which build scripts compile a large library in C: often they take longer than any crate, and
//! all that needs them waits. Of ten such, seven are within a factor of four; the others find the library
//! on the system, or have much source that is only for other systems.
//!
//! That is no more than an order of magnitude, but it is known before anything was compiled, and the
//! build itself [corrects](super::estimate::Correction) how far guesses are off as a whole.

use super::Work;

/// What is to be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A library, with this much source.
    Library {
        /// As [`source_size`](super::source_size()) has it, in bytes.
        source: u64,
    },
    /// A procedural macro, with this much source.
    ProcMacro {
        /// As for a library.
        source: u64,
    },
    /// A program, a test, or a library that is linked, with this much source.
    Linked {
        /// As for a library.
        source: u64,
    },
    /// The compilation of a build script.
    BuildScript,
    /// The run of a build script.
    Run {
        /// As [`native_source_size`](super::native_source_size()) has it, in bytes.
        native_source: u64,
    },
    /// Anything else that takes a moment.
    Other,
}

const MILLISECOND: u64 = 1_000;

/// Guesses the work of a unit.
pub fn guess(kind: Kind) -> Work {
    let work = |frontend, codegen, link| Work {
        frontend,
        codegen,
        link,
    };
    match kind {
        Kind::Library { source } => work(700 * source.isqrt(), 400 * source.isqrt(), 0),
        // What links has no metadata that anybody waits for: all of its compilation is frontend.
        Kind::ProcMacro { source } => work(4_500 * source.isqrt(), 0, 100 * MILLISECOND),
        Kind::Linked { source } => work(9_500 * source.isqrt(), 0, 100 * MILLISECOND),
        Kind::BuildScript => work(140 * MILLISECOND, 0, 60 * MILLISECOND),
        Kind::Run { native_source } => work(50 * MILLISECOND + 8_000 * native_source.isqrt(), 0, 0),
        Kind::Other => work(100 * MILLISECOND, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_source_is_more_work() {
        let library = |source| guess(Kind::Library { source });
        assert!(library(100_000).frontend > library(1_000).frontend);
        assert!(library(100_000).codegen > library(1_000).codegen);
        assert_eq!(library(0), Work::default());
        assert!(library(u64::MAX).frontend > library(u64::MAX / 2).frontend);
        let run = |native_source| guess(Kind::Run { native_source }).frontend;
        assert!(run(1_000_000) > run(1_000) && run(1_000) > run(0));
        assert!(run(u64::MAX) > run(u64::MAX / 2));
    }

    #[test]
    fn what_links_has_no_codegen_that_others_need_not_wait_for() {
        for kind in [
            Kind::ProcMacro { source: 1 },
            Kind::Linked { source: 1 },
            Kind::BuildScript,
        ] {
            assert_eq!(guess(kind).codegen, 0);
            assert!(guess(kind).link > 0);
        }
    }
}
