//! What is built: a generated graph, as the job queues get to see it.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use replay::Recording;

/// A key that costs what Cargo's `Unit` does: it counts references, and its address is what is compared
/// and hashed.
#[derive(Clone, Debug)]
pub struct Unit(Rc<usize>);

impl Unit {
    /// Its place in the graph.
    pub fn place(&self) -> usize {
        *self.0
    }
}

impl PartialEq for Unit {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Unit {}

impl Hash for Unit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(&*self.0, state);
    }
}

/// What a queue keeps for a unit until it starts, about as large as Cargo's `Job`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Job(#[expect(dead_code, reason = "it has only to be moved")] [u64; 12]);

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes metadata first. It needs the metadata of other libraries.
    Library,
    /// Links all that it needs, directly or not.
    Binary,
}

/// A unit, and what it needs.
#[derive(Debug)]
pub struct Node {
    /// The unit.
    pub unit: Unit,
    /// What it is.
    pub kind: Kind,
    /// The places of what it needs; for a binary also of what those need.
    pub needs: Vec<usize>,
}

/// The units of a build, each behind all that it needs.
#[derive(Debug)]
pub struct Graph {
    /// The units.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The units of a recording, all of them libraries but for the last one, which is a binary.
    pub fn new(recording: &Recording) -> Self {
        let last = recording.units.len().saturating_sub(1);
        let nodes = recording.units.iter().enumerate().map(|(place, unit)| {
            let (kind, needs) = match place == last {
                true => (Kind::Binary, all_below(recording, place)),
                false => (Kind::Library, unit.needs.clone()),
            };
            Node {
                unit: Unit(Rc::new(place)),
                kind,
                needs,
            }
        });
        Graph {
            nodes: nodes.collect(),
        }
    }

    /// A unit, and what is known of it.
    pub fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }
}

/// What the unit needs, directly or not, in the order of the recording.
fn all_below(recording: &Recording, place: usize) -> Vec<usize> {
    let mut is_below = vec![false; recording.units.len()];
    let mut unvisited = vec![place];
    while let Some(place) = unvisited.pop() {
        for &need in &recording.units[place].needs {
            if !std::mem::replace(&mut is_below[need], true) {
                unvisited.push(need);
            }
        }
    }
    (0..is_below.len())
        .filter(|&place| is_below[place])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use replay::generate::{Shape, generate};

    #[test]
    fn the_last_one_links_all_below() {
        let graph = Graph::new(&generate(Shape::Chain, 4));
        let needs: Vec<_> = graph.nodes.iter().map(|node| &node.needs[..]).collect();
        assert_eq!(needs, [&[][..], &[0], &[1], &[0, 1, 2]]);
        let kinds: Vec<_> = graph.nodes.iter().map(|node| node.kind).collect();
        use Kind::{Binary, Library};
        assert_eq!(kinds, [Library, Library, Library, Binary]);
    }
}
