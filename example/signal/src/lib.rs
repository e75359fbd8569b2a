//! A series of measurements, one per hour.

/// Measurements at even distances in time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signal {
    samples: Vec<f64>,
}

impl Signal {
    /// The mean of the samples, or zero without any.
    pub fn mean(&self) -> f64 {
        if self.samples.is_empty() {
            return 0.0;
        }
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    /// The least and the greatest sample.
    pub fn range(&self) -> Option<(f64, f64)> {
        let first = *self.samples.first()?;
        let range = (first, first);
        Some(self.samples.iter().fold(range, |(low, high), sample| {
            (low.min(*sample), high.max(*sample))
        }))
    }

    /// The samples in order.
    pub fn samples(&self) -> &[f64] {
        &self.samples
    }
}

impl FromIterator<f64> for Signal {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Signal {
            samples: samples.into_iter().collect(),
        }
    }
}
