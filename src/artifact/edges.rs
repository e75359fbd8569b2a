//! The edges of the graph of jobs.

use std::ops::Range;

use super::Need;

/// For each job who is at the other end of its edges, and what is needed: of it, or by it.
///
/// They are in one list, one job's after the other's, and as small as can be: in a large build, going
/// through them costs what it costs to get them from memory.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    all: Vec<(u32, Need)>,
    /// Where those of each job end.
    ends: Vec<usize>,
}

impl Edges {
    /// For so many jobs, none of which is here yet.
    pub fn with_capacity(jobs: usize) -> Self {
        Edges {
            all: Vec::with_capacity(jobs),
            ends: Vec::with_capacity(jobs),
        }
    }

    /// The next job, and its edges.
    ///
    /// # Panics
    ///
    /// If there are more than four billion jobs.
    pub fn push(&mut self, edges: impl IntoIterator<Item = (usize, Need)>) {
        let edges = edges.into_iter();
        self.all
            .extend(edges.map(|(other, need)| (small(other), need)));
        self.ends.push(self.all.len());
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Those of one job.
    pub fn of(&self, id: usize) -> impl ExactSizeIterator<Item = (usize, Need)> + Clone {
        let edges = &self.all[self.range(id)];
        edges.iter().map(|&(other, need)| (other as usize, need))
    }

    /// Where those of one job are, for who wants to [get](Self::get) one after the other.
    pub fn range(&self, id: usize) -> Range<usize> {
        let begin = match id {
            0 => 0,
            _ => self.ends[id - 1],
        };
        begin..self.ends[id]
    }

    /// The edge at a place of a [range](Self::range).
    pub fn get(&self, place: usize) -> (usize, Need) {
        let (other, need) = self.all[place];
        (other as usize, need)
    }

    /// The same edges, seen from their other ends. Those of a job are in the order of the jobs there.
    pub fn reversed(&self) -> Self {
        let mut ends = vec![0; self.len()];
        for (other, _) in &self.all {
            ends[*other as usize] += 1;
        }
        let mut before = 0;
        for end in &mut ends {
            // Where the first one comes; when all have come, that is where they end.
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
}

/// The number of a job, or of some jobs, as small as it is kept.
///
/// # Panics
///
/// If it is four billion or more.
pub fn small(id: usize) -> u32 {
    u32::try_from(id).expect("no build has four billion jobs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{AllToLink, AllToStart, MetadataToStart};

    #[test]
    fn each_edge_has_two_ends() {
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
        assert_eq!(dependents.range(2), 3..3);
        assert_eq!(dependents.range(3), 3..3);
        assert_eq!(dependents.get(2), (3, AllToStart));
        let needs_again = dependents.reversed();
        assert_eq!(of(&needs_again, 1), of(&needs, 1));
        assert_eq!(of(&needs_again, 3), [(0, AllToLink), (1, AllToStart)]);
    }
}
