//! The units of one build and what they need of each other. It has no state.

use std::iter;

use serde::{Deserialize, Serialize};

/// What a job produces, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Artifact {
    /// The `.rmeta` file: all that compiling a dependent library reads of a library.
    Metadata,
    /// All outputs: the job has ended well.
    All,
}

/// Which artifact of the dependency an edge asks for, and what for. The greater of two needs includes the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// The dependent may start once the metadata of the dependency is written.
    MetadataToStart,
    /// The same, and the dependent may link once the dependency is finished.
    AllToLink,
    /// The dependent may start once the dependency is finished.
    AllToStart,
}

impl Need {
    /// The first artifact with which the dependent may start.
    pub fn to_start(self) -> Artifact {
        match self {
            Need::MetadataToStart | Need::AllToLink => Artifact::Metadata,
            Need::AllToStart => Artifact::All,
        }
    }

    /// The first artifact that satisfies the need altogether.
    pub fn artifact(self) -> Artifact {
        match self {
            Need::MetadataToStart => Artifact::Metadata,
            Need::AllToLink | Need::AllToStart => Artifact::All,
        }
    }
}

/// The needs of all jobs, seen from both ends. A job is known by its number.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// What each job needs, no dependency twice.
    pub needs: Edges,
    /// Which jobs need each job, in the order of their numbers.
    pub dependents: Edges,
    /// All jobs, each behind its dependencies.
    pub dependencies_first: Vec<usize>,
}

impl Graph {
    /// Sorts the jobs of `needs`. The error are the jobs that are in a cycle or depend on one.
    pub fn new(needs: Edges) -> Result<Self, Vec<usize>> {
        let dependents = needs.reversed();
        let mut missing: Vec<usize> = (0..needs.len()).map(|id| needs.of(id).len()).collect();
        let mut order: Vec<usize> = (0..needs.len()).filter(|&id| missing[id] == 0).collect();
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            next += 1;
            for (dependent, _) in dependents.of(id) {
                missing[dependent] -= 1;
                if missing[dependent] == 0 {
                    order.push(dependent);
                }
            }
        }
        if order.len() < needs.len() {
            return Err((0..needs.len()).filter(|&id| missing[id] > 0).collect());
        }
        Ok(Graph {
            needs,
            dependents,
            dependencies_first: order,
        })
    }

    /// Returns for each job the number of its dependents, direct or not, and itself: the priority that
    /// Cargo has always used. Takes one bit for each pair of jobs, 12 MB for 10,000 of them.
    pub(crate) fn count_dependents(&self) -> Vec<u32> {
        let count = |row: &[u64]| row.iter().map(|word| word.count_ones()).sum();
        self.dependents.reachable(&self.dependents_first(), count)
    }

    /// Returns for each job the number of its dependencies, direct or not. Takes as much memory.
    pub(crate) fn count_dependencies(&self) -> Vec<u32> {
        let count = |row: &[u64]| row.iter().map(|word| word.count_ones()).sum::<u32>() - 1;
        self.needs.reachable(&self.dependencies_first, count)
    }

    /// Returns all jobs, each behind its dependents.
    pub(crate) fn dependents_first(&self) -> Vec<usize> {
        self.dependencies_first.iter().copied().rev().collect()
    }
}

/// The edges at one end of all jobs: the job at the other end of each, and the need. They are in one list,
/// and small: in a large build, going through them takes as long as reading them from memory.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    all: Vec<(u32, Need)>,
    /// Where those of each job end.
    ends: Vec<usize>,
}

impl Edges {
    /// Adds the next job and its edges. Panics if there are more than four billion jobs.
    pub fn push(&mut self, edges: impl IntoIterator<Item = (usize, Need)>) {
        let edges = edges.into_iter();
        self.all
            .extend(edges.map(|(other, need)| (small(other), need)));
        self.ends.push(self.all.len());
    }

    /// Returns the number of jobs.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the edges of one job.
    pub fn of(&self, id: usize) -> impl ExactSizeIterator<Item = (usize, Need)> {
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        let edges = &self.all[begin..self.ends[id]];
        edges.iter().map(|&(other, need)| (other as usize, need))
    }

    /// Returns the same edges, seen from their other ends. Those of a job are in the order of the jobs
    /// there.
    pub(crate) fn reversed(&self) -> Self {
        let mut ends = vec![0; self.len()];
        for (other, _) in &self.all {
            ends[*other as usize] += 1;
        }
        let mut before = 0;
        for end in &mut ends {
            // The place of the first one. It moves to their end as they are put in.
            before += std::mem::replace(end, before);
        }
        let mut all = vec![(0, Need::MetadataToStart); self.all.len()];
        for id in 0..self.len() {
            for (other, need) in self.of(id) {
                all[ends[other]] = (small(id), need);
                ends[other] += 1;
            }
        }
        Edges { all, ends }
    }

    /// Returns for each job what `sum` makes of the jobs that its edges lead to, directly or not, and
    /// itself: a set with one bit for each job. `order` has each job behind those.
    pub(crate) fn reachable<T: Clone + Default>(
        &self,
        order: &[usize],
        sum: impl Fn(&[u64]) -> T,
    ) -> Vec<T> {
        let mut rows = vec![Vec::new(); self.len()];
        let mut sums = vec![T::default(); self.len()];
        for &id in order {
            let mut row = vec![0u64; self.len().div_ceil(64)];
            row[id / 64] |= 1 << (id % 64);
            for (other, _) in self.of(id) {
                for (word, more) in iter::zip(&mut row, &rows[other]) {
                    *word |= more;
                }
            }
            sums[id] = sum(&row);
            rows[id] = row;
        }
        sums
    }
}

/// Converts the number of a job to the size in which it is stored. Panics if it is four billion or more.
pub(crate) fn small(id: usize) -> u32 {
    u32::try_from(id).expect("no build has four billion jobs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    #[test]
    fn edges_from_both_ends() {
        let mut needs = Edges::default();
        needs.push([]);
        needs.push([(0, MetadataToStart)]);
        needs.push([]);
        needs.push([(1, AllToStart), (0, AllToLink)]);
        let of = |edges: &Edges, id| edges.of(id).collect::<Vec<_>>();
        let dependents = needs.reversed();
        assert_eq!(dependents.len(), 4);
        assert_eq!(of(&dependents, 0), [(1, MetadataToStart), (3, AllToLink)]);
        assert_eq!(of(&dependents, 1), [(3, AllToStart)]);
        assert_eq!([2, 3].map(|id| dependents.of(id).len()), [0, 0]);
        let needs_again = dependents.reversed();
        assert_eq!(of(&needs_again, 1), of(&needs, 1));
        assert_eq!(of(&needs_again, 3), [(0, AllToLink), (1, AllToStart)]);
    }
}
