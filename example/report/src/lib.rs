//! Weather in words.

use std::fmt::Write as _;

use calendar::Day;
use station::{Station, Year};

/// A line for each month.
pub fn months(station: &Station) -> String {
    let mut text = String::new();
    let mut last = None;
    for day in Day::all() {
        if last.replace(day.month()) != Some(day.month()) {
            let mean = station.day(day).mean();
            writeln!(
                text,
                "{:<10} begins with {mean:.1} degrees",
                day.month_name()
            )
            .expect("a string can be written to");
        }
    }
    text
}

/// A sentence about a year.
pub fn year(name: &str, year: &Year) -> String {
    let (low, high) = year.range;
    format!(
        "{name}: {:.1} degrees, from {low:.1} to {high:.1}, again every {} hours",
        year.mean, year.rhythm
    )
}

/// What is known of a year, by name.
pub fn columns() -> String {
    Year::fields().join(", ")
}
