//! What has become of a job at the gate.

/// What the gate has heard of a job, and said to it.
///
/// ```text
///   Silent ──▶ Parked ──▶ Linked ──▶ NotExecuted
///      │          │
///      ▼          ▼
///  Incomplete  Aborted
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Its shim has not come. If its compiler has ended well, something else has linked, or
    /// nothing.
    Silent,
    /// Its shim came to say that rustc could not unpack from a hollow rlib what the linker is to
    /// read.
    Incomplete,
    /// Its shim came and waits, or has ceased to wait, for a permit that it never got.
    Parked,
    /// It has the permit. From here on the real linker has the word.
    Linked,
    /// It had the permit, but the real linker could not be executed.
    NotExecuted,
    /// It was told to end.
    Aborted,
}

impl Report {
    /// Whether a job of which this is known may come to `next`.
    ///
    /// A job that has its permit can no longer be incomplete: what rustc unpacks for the linker it
    /// unpacks before it runs the linker for the first time.
    pub fn may_become(self, next: Report) -> bool {
        use Report::*;
        matches!(
            (self, next),
            (Silent, Incomplete | Parked) | (Parked, Linked | Aborted) | (Linked, NotExecuted)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Report::{self, *};

    #[test]
    fn only_these_transitions() {
        const ALL: [Report; 6] = [Silent, Incomplete, Parked, Linked, NotExecuted, Aborted];
        let legal: Vec<_> = ALL
            .into_iter()
            .flat_map(|from| ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        assert_eq!(
            legal,
            [
                (Silent, Incomplete),
                (Silent, Parked),
                (Parked, Linked),
                (Parked, Aborted),
                (Linked, NotExecuted),
            ]
        );
    }
}
