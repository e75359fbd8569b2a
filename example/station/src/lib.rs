//! A weather station, and what can be said of its measurements.

use calendar::Day;
use describe::Describe;
use signal::Signal;

/// A station that makes up its weather: cold winters, cool nights, and a front now and then.
#[derive(Clone, Debug, Describe)]
pub struct Station {
    /// What it is called.
    pub name: String,
    /// The mean temperature over the year.
    pub mean: f64,
    /// How far summer and winter are from the mean.
    pub seasons: f64,
}

/// What a year at a station was like.
#[derive(Clone, Debug, Describe)]
pub struct Year {
    /// The mean temperature.
    pub mean: f64,
    /// The least and the greatest of the smoothed temperatures.
    pub range: (f64, f64),
    /// The period, in hours, in which the temperature repeats itself most.
    pub rhythm: usize,
}

impl Station {
    /// The temperature of each hour of a day.
    pub fn day(&self, day: Day) -> Signal {
        let year = f64::from(day.0) / 365.0 * std::f64::consts::TAU;
        let front = (f64::from(day.0) / 6.3).sin() * 2.0;
        (0..24)
            .map(|hour| {
                let time = f64::from(hour) / 24.0 * std::f64::consts::TAU;
                self.mean - self.seasons * year.cos() - 4.0 * time.cos() + front
            })
            .collect()
    }

    /// The temperature of each hour of a year.
    pub fn hours(&self) -> Signal {
        Day::all()
            .flat_map(|day| self.day(day).samples().to_vec())
            .collect()
    }

    /// What the year was like, looked at through a window of that many hours.
    pub fn year(&self, window: usize) -> Option<Year> {
        let hours = self.hours();
        let smooth = filters::hours(window)?(&hours);
        Some(Year {
            mean: hours.mean(),
            range: smooth.range()?,
            rhythm: spectra::strongest(&hours, 12..100)?,
        })
    }
}
