//! Days and months of a year that is no leap year.

/// The number of days before each month; written by the build script.
static BEFORE: [u16; 12] = include!(concat!(env!("OUT_DIR"), "/before.rs"));

static NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A day of the year, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u16);

impl Day {
    /// All days of the year.
    pub fn all() -> impl Iterator<Item = Day> {
        (0..365).map(Day)
    }

    /// The month that the day is in, counted from zero.
    pub fn month(self) -> usize {
        BEFORE.partition_point(|before| *before <= self.0).max(1) - 1
    }

    /// The name of the month that the day is in.
    pub fn month_name(self) -> &'static str {
        NAMES[self.month()]
    }
}
