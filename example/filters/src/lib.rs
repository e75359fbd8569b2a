//! Moving averages of every length up to five hundred hours.
//!
//! One generic function is checked once and compiled five hundred times: the metadata of this
//! crate is there long before its code is.

use signal::Signal;

/// Smooths a signal with a window of a fixed length.
pub type Filter = fn(&Signal) -> Signal;

/// The moving average over a window of `LENGTH` samples, weighted towards its middle.
fn average<const LENGTH: usize>(signal: &Signal) -> Signal {
    let length = LENGTH.max(1);
    let weight = |index: usize| (index + 1).min(length - index) as f64;
    let total: f64 = (0..length).map(weight).sum();
    let windows = signal.samples().windows(length);
    windows
        .map(|window| {
            let sum: f64 = window
                .iter()
                .enumerate()
                .map(|(index, sample)| sample * weight(index))
                .sum();
            sum / total
        })
        .collect()
}

macro_rules! hundred {
    ($hundreds:literal) => {
        hundred!($hundreds: 0 1 2 3 4 5 6 7 8 9)
    };
    ($hundreds:literal: $($tens:literal)*) => {
        [$(ten!($hundreds * 100 + $tens * 10)),*]
    };
}

macro_rules! ten {
    ($base:expr) => {
        [
            average::<{ $base }>,
            average::<{ $base + 1 }>,
            average::<{ $base + 2 }>,
            average::<{ $base + 3 }>,
            average::<{ $base + 4 }>,
            average::<{ $base + 5 }>,
            average::<{ $base + 6 }>,
            average::<{ $base + 7 }>,
            average::<{ $base + 8 }>,
            average::<{ $base + 9 }>,
        ]
    };
}

static FILTERS: [[[Filter; 10]; 10]; 5] = [
    hundred!(0),
    hundred!(1),
    hundred!(2),
    hundred!(3),
    hundred!(4),
];

/// The filter with a window of that many hours, if there is one.
pub fn hours(length: usize) -> Option<Filter> {
    FILTERS.as_flattened().as_flattened().get(length).copied()
}
