//! How strongly a signal repeats itself, for every period up to five hundred hours.
//!
//! Like `filters` quick to check and slow to compile.

use signal::Signal;

/// Measures how much of a signal repeats with a fixed period.
pub type Probe = fn(&Signal) -> f64;

/// The amplitude of the wave with a period of `PERIOD` samples in a signal.
fn amplitude<const PERIOD: usize>(signal: &Signal) -> f64 {
    let step = std::f64::consts::TAU / PERIOD.max(1) as f64;
    let mean = signal.mean();
    let (real, imaginary) = signal
        .samples()
        .iter()
        .enumerate()
        .map(|(index, sample)| ((step * index as f64).sin_cos(), sample - mean))
        .fold((0.0, 0.0), |(real, imaginary), ((sin, cos), sample)| {
            (real + sample * cos, imaginary + sample * sin)
        });
    let count = signal.samples().len().max(1) as f64;
    2.0 * f64::hypot(real, imaginary) / count
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
            amplitude::<{ $base }>,
            amplitude::<{ $base + 1 }>,
            amplitude::<{ $base + 2 }>,
            amplitude::<{ $base + 3 }>,
            amplitude::<{ $base + 4 }>,
            amplitude::<{ $base + 5 }>,
            amplitude::<{ $base + 6 }>,
            amplitude::<{ $base + 7 }>,
            amplitude::<{ $base + 8 }>,
            amplitude::<{ $base + 9 }>,
        ]
    };
}

static PROBES: [[[Probe; 10]; 10]; 5] = [
    hundred!(0),
    hundred!(1),
    hundred!(2),
    hundred!(3),
    hundred!(4),
];

/// The period in hours, of `periods`, with the greatest amplitude.
pub fn strongest(signal: &Signal, periods: std::ops::Range<usize>) -> Option<usize> {
    let probes = PROBES.as_flattened().as_flattened();
    let amplitude = |period: &usize| probes.get(*period).map_or(0.0, |probe| probe(signal));
    periods.max_by(|a, b| amplitude(a).total_cmp(&amplitude(b)))
}
