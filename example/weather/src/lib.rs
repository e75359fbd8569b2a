//! The stations that both programs know.

use station::Station;

/// All stations.
pub fn stations() -> Vec<Station> {
    [
        ("Harbour", 10.5, 7.0),
        ("Ridge", 3.0, 9.5),
        ("Valley", 9.0, 11.0),
    ]
    .map(|(name, mean, seasons)| Station {
        name: name.to_string(),
        mean,
        seasons,
    })
    .into()
}
