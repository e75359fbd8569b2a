//! Recordings of builds that never were: graphs of any size, in which nothing takes any time.
//!
//! What takes time when such a recording is replayed is the queue.

use crate::recording::{Recording, Unit};

/// The form of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each library needs the one before it.
    Chain,
    /// Many libraries need one, and one needs them all.
    Fan,
    /// Layers of libraries, each of which needs some of the layer before it.
    Layers,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 3] = [Shape::Chain, Shape::Fan, Shape::Layers];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Chain => "chain",
            Shape::Fan => "fan",
            Shape::Layers => "layers",
        }
    }
}

/// How many libraries of the layer before each one needs.
const FAN_IN: usize = 4;

/// A graph of so many libraries.
pub fn generate(shape: Shape, units: usize) -> Recording {
    let name = format!("{} of {units}", shape.name());
    let mut recording = Recording::new(name, "none", "anywhere");
    // As many layers as there are units in each.
    let width = units.isqrt().max(1);
    let mut random = fastrand::Rng::with_seed(7);
    for place in 0..units {
        let needs = match shape {
            Shape::Chain => place.checked_sub(1).into_iter().collect(),
            Shape::Fan if place == 0 => Vec::new(),
            Shape::Fan if place + 1 == units => (1..place).collect(),
            Shape::Fan => vec![0],
            Shape::Layers => match (place / width * width).checked_sub(width) {
                None => Vec::new(),
                Some(layer) => {
                    let mut needs: Vec<_> =
                        (0..FAN_IN).map(|_| layer + random.usize(..width)).collect();
                    needs.sort_unstable();
                    needs.dedup();
                    needs
                }
            },
        };
        recording.units.push(Unit {
            package: format!("unit-{place}"),
            version: "1.0.0".to_owned(),
            target: format!("unit_{place}"),
            kind: vec!["lib".to_owned()],
            mode: "build".to_owned(),
            needs,
            codegen_units: 1,
            ..Unit::default()
        });
    }
    recording
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let needs = |shape, units| -> Vec<Vec<usize>> {
            let units = generate(shape, units).units;
            units.into_iter().map(|unit| unit.needs).collect()
        };
        assert_eq!(needs(Shape::Chain, 3), [vec![], vec![0], vec![1]]);
        assert_eq!(needs(Shape::Fan, 4), [vec![], vec![0], vec![0], vec![1, 2]]);
        let layers = needs(Shape::Layers, 100);
        assert!(layers[..10].iter().all(Vec::is_empty));
        for (place, needs) in layers.iter().enumerate().skip(10) {
            let layer = place / 10 - 1;
            assert!(!needs.is_empty() && needs.iter().all(|need| need / 10 == layer));
        }
        assert_eq!(layers, needs(Shape::Layers, 100));
    }
}
