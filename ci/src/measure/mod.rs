//! Measures the replacement: on real projects, and on recorded builds.
//!
//! ```text
//!   a project ──> compare: both cargos in turn            ──> times, artifacts
//!             ──> record ──> a recording ──> replay: simulated once
//!                                        ├─> bench: all recordings, sides and numbers of jobs
//!                                        └─> prior: what well-known crates cost
//! ```

pub mod bench;
pub mod compare;
#[cfg(target_os = "linux")]
mod memory;
mod plot;
pub mod prior;
mod queue;
pub mod record;
pub mod replay;
mod report;
mod sources;

/// Returns the median; of no figures it is not a number.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.get(half) {
        None => f64::NAN,
        Some(middle) if sorted.len() % 2 == 1 => *middle,
        Some(middle) => f64::midpoint(sorted[half - 1], *middle),
    }
}

/// Returns the geometric mean; of no ratios it is not a number.
fn geometric_mean(ratios: &[f64]) -> f64 {
    let logarithms = ratios.iter().map(|ratio| ratio.ln());
    f64::exp(logarithms.sum::<f64>() / ratios.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!((geometric_mean(&[0.25, 1.0, 0.25]) - 0.396_850_262_992_05).abs() < 1e-12);
        assert!(median(&[]).is_nan() && geometric_mean(&[]).is_nan());
    }
}
