//! Generated graphs of any size, in which nothing takes any time, as the job queues get to see them.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// The form of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Each library needs the one before it.
    Chain,
    /// Many libraries need one.
    Fan,
    /// Layers of libraries, each of which needs some of the layer before it.
    Layers,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Chain, Shape::Fan, Shape::Layers];
}

/// A key that costs what Cargo's `Unit` does: it counts references, and its address is what is compared
/// and hashed. It has its place in the graph.
#[derive(Clone, Debug)]
pub struct Unit(Rc<usize>);

impl Unit {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes metadata first. It needs the metadata of other libraries.
    Library,
    /// Links all that it needs, directly or not.
    Binary,
}

#[derive(Debug)]
pub struct Node {
    pub unit: Unit,
    pub kind: Kind,
    /// The places of what it needs; for a binary also of what those need.
    pub needs: Vec<usize>,
}

/// The units of a build, each behind all that it needs: libraries, and at the end a binary.
#[derive(Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// How many libraries of the layer before each one needs.
const FAN_IN: usize = 4;

impl Graph {
    /// Generates a graph. The same arguments make the same one.
    pub fn new(shape: Shape, units: usize) -> Self {
        // As many layers as there are units in each.
        let width = units.isqrt().max(1);
        let mut random = fastrand::Rng::with_seed(7);
        let mut nodes: Vec<Node> = Vec::with_capacity(units);
        for place in 0..units {
            let mut needs = match shape {
                Shape::Chain => place.checked_sub(1).into_iter().collect(),
                Shape::Fan if place == 0 => Vec::new(),
                Shape::Fan if place + 1 == units => (1..place).collect(),
                Shape::Fan => vec![0],
                Shape::Layers => match (place / width * width).checked_sub(width) {
                    None => Vec::new(),
                    Some(layer) => (0..FAN_IN).map(|_| layer + random.usize(..width)).collect(),
                },
            };
            needs.sort_unstable();
            needs.dedup();
            let is_last = place + 1 == units;
            nodes.push(Node {
                unit: Unit(Rc::new(place)),
                kind: if is_last { Kind::Binary } else { Kind::Library },
                needs: if is_last {
                    all_below(&nodes, needs)
                } else {
                    needs
                },
            });
        }
        Graph { nodes }
    }

    pub fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }
}

/// Returns these units and all that they need, directly or not, in the order of the graph.
fn all_below(nodes: &[Node], mut unvisited: Vec<usize>) -> Vec<usize> {
    let mut is_below = vec![false; nodes.len()];
    while let Some(place) = unvisited.pop() {
        if !std::mem::replace(&mut is_below[place], true) {
            unvisited.extend(&nodes[place].needs);
        }
    }
    let places = 0..is_below.len();
    places.filter(|&place| is_below[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_links_all_below() {
        let needs = |shape, units| -> Vec<Vec<usize>> {
            let nodes = Graph::new(shape, units).nodes;
            nodes.into_iter().map(|node| node.needs).collect()
        };
        assert_eq!(needs(Shape::Chain, 3), [vec![], vec![0], vec![0, 1]]);
        let fan = [vec![], vec![0], vec![0], vec![0, 1, 2]];
        assert_eq!(needs(Shape::Fan, 4), fan);
        let layers = needs(Shape::Layers, 100);
        assert!(layers[..10].iter().all(Vec::is_empty));
        for (place, needs) in layers.iter().enumerate().take(99).skip(10) {
            let layer = place / 10 - 1;
            assert!(!needs.is_empty() && needs.iter().all(|need| need / 10 == layer));
        }
        assert!(layers[99].len() > FAN_IN);
        assert_eq!(layers, needs(Shape::Layers, 100));
        use Kind::{Binary, Library};
        let nodes = Graph::new(Shape::Chain, 3).nodes;
        let kinds: Vec<_> = nodes.iter().map(|node| node.kind).collect();
        assert_eq!(kinds, [Library, Library, Binary]);
    }
}
