//! Which compilers to stop at their metadata.
//!
//! A compiler that has written its metadata goes on to codegen, which holds up nothing but links. If
//! all slots are taken and something more urgent could run, it can be stopped and its slot given
//! away:
//!
//! ```text
//!   going on    [ a: frontend ][ a: codegen ············ ][ b: frontend ][ b: codegen ]
//!   pausing     [ a: frontend ][ b: frontend ][ b: codegen ][ a: codegen ············ ]
//!                              └ c, d and e, which read the metadata of b, need not wait for a
//! ```
//!
//! What this costs is memory: a stopped compiler has everything that it knows about its crate.
//!
//! # The rule
//!
//! A compiler is stopped if something more urgent could have its slot and the codegen that it puts
//! off is worth a place among those that may be stopped: at least a sixth of what each of the places
//! would hold if all codegen that is left were divided among them.
//!
//! # What else was tried
//!
//! On recorded builds of five programs, dev and release, and two edits, with 2 to 32 jobs, as they are
//! and with one codegen unit for each crate, where pausing matters most. The figures are wall time to
//! the limit, as a geometric mean and at worst. As many compilers may be stopped as there are jobs, and
//! four at least, but in the second line.
//!
//! | rule | mean | worst | one codegen unit | worst | |
//! | --- | --- | --- | --- | --- | --- |
//! | never | 1.025 | 1.270 | 1.030 | 1.283 | |
//! | whatever is less urgent, without bound | 1.010 | 1.123 | 1.003 | 1.052 | up to 306 stopped, 42 GB |
//! | whatever is less urgent | 1.022 | 1.264 | 1.021 | 1.152 | tiny codegens take the places |
//! | codegens of at least 1/10 of a place's share | 1.018 | 1.220 | 1.015 | 1.164 | |
//! | of at least 1/6 | 1.018 | 1.208 | 1.014 | 1.137 | |
//! | of at least 1/2 | 1.021 | 1.270 | 1.019 | 1.153 | |
//! | of at least a full share | 1.022 | 1.270 | 1.021 | 1.202 | |
//!
//! Stopping compilers only while what waits bounds the build was no better than the first line: by
//! then it is too late. Continuing what is stopped before anything else starts, unless that bounds the
//! build, made no difference; nor did stopping compilers in the middle of their codegen.
//!
//! Worst is always the same: four jobs, and an edit below many small crates that lead to a large one.
//! Whoever could put off the codegen of all of them would be within 5 % of the limit, with 55 compilers
//! stopped and 9 GB. With four places nobody is known to be within 15 %: of 700,000 schedules that
//! simulated annealing drew, knowing all costs and free to choose what is stopped and how urgent each
//! phase is, the best took 1.187 of the limit, and 1.161 where compilers may also be stopped in the middle
//! of their codegen. A clean build of that program, 1.148, could be 1.119 at best: before its largest
//! crate can start, all but eight codegens below it have to be done.

/// The divisor of a place's share. See the [module's documentation](self).
const WORTH_A_PLACE: u128 = 6;

/// The least number of compilers that may be stopped at the same time, memory permitting.
const LEAST_PLACES: usize = 4;

/// How many compilers may be stopped at the same time in a build with so many job slots, memory
/// permitting.
pub fn places(slots: usize) -> usize {
    slots.max(LEAST_PLACES)
}

/// Whether a codegen of so many µs is worth one of so many places, when all codegen that is left in
/// the build takes `codegen_left` µs.
pub(crate) fn is_worth_a_place(codegen: u64, codegen_left: u128, places: usize) -> bool {
    let places = u128::try_from(places).unwrap_or(u128::MAX);
    (u128::from(codegen).saturating_mul(places)).saturating_mul(WORTH_A_PLACE) >= codegen_left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixth_of_the_share() {
        assert!(is_worth_a_place(50, 1_200, 4));
        assert!(!is_worth_a_place(49, 1_200, 4));
        assert!(is_worth_a_place(49, 1_200, 8));
        assert!(!is_worth_a_place(0, 1, usize::MAX));
        assert!(is_worth_a_place(u64::MAX, u128::MAX, usize::MAX));
    }

    #[test]
    fn few_slots_still_have_places() {
        assert_eq!([1, 4, 64].map(places), [4, 4, 64]);
    }
}
