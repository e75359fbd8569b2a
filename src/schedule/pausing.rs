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
//! off is worth a place among those that may be stopped: at least a fifth of what each of the places
//! would hold if all codegen that is left were divided among them.
//!
//! # What else was tried
//!
//! On recorded builds of five programs, dev and release, as they are and with one codegen unit for
//! each crate, with 2 to 64 jobs. The figures are wall time to the limit, as a geometric mean and at
//! worst, for builds with one codegen unit, where pausing matters; `most` is the greater of 4 and the
//! number of jobs, but for the second line.
//!
//! | rule | mean | worst | |
//! | --- | --- | --- | --- |
//! | never | 1.057 | 1.413 | |
//! | whatever is less urgent, without bound | 1.003 | 1.053 | up to 145 stopped, 19 GB |
//! | whatever is less urgent | 1.040 | 1.303 | tiny codegens take the places |
//! | only while what waits bounds the build | 1.042 | 1.219 | it waits until it does |
//! | codegens of at least 1/10 of a place's share | 1.027 | 1.219 | |
//! | of at least 1/5 | 1.022 | 1.196 | |
//! | of at least 1/2 | 1.027 | 1.162 | |
//! | of at least a full share | 1.037 | 1.280 | |
//!
//! Continuing what is stopped before anything else starts, unless that bounds the build, made no
//! difference; nor did stopping compilers in the middle of their codegen.

/// The divisor of a place's share. See the [module's documentation](self).
const WORTH_A_PLACE: u128 = 5;

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
    fn a_fifth_of_the_share() {
        assert!(is_worth_a_place(50, 1_000, 4));
        assert!(!is_worth_a_place(49, 1_000, 4));
        assert!(is_worth_a_place(49, 1_000, 8));
        assert!(!is_worth_a_place(0, 1, usize::MAX));
        assert!(is_worth_a_place(u64::MAX, u128::MAX, usize::MAX));
    }

    #[test]
    fn few_slots_still_have_places() {
        assert_eq!([1, 4, 64].map(places), [4, 4, 64]);
    }
}
