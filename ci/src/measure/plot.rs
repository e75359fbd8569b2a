//! The picture of a benchmark, which the README shows.
//!
//! The colours are those of Okabe and Ito, which also readers can tell apart who see fewer colours.

use anyhow::Result;
use plotters::prelude::*;

use super::bench::Side;
use super::report::Report;
use super::sources::Set;

const GREEN: RGBColor = RGBColor(0, 158, 115);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const PALE: RGBColor = RGBColor(200, 200, 200);

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";

/// Draws how many times as quick as the released cargo builds are with each number of jobs.
pub fn overview(report: &Report) -> Result<String> {
    // The first line is wide enough to be seen below another one.
    let curves = [
        (Side::Stock, PALE.stroke_width(7)),
        (Side::Metadata, BLUE.stroke_width(2)),
        (Side::Link, VERMILLION.stroke_width(2)),
        (Side::StockOrder, GREEN.stroke_width(2)),
    ];
    let curves = curves.map(|(side, style)| {
        let means = report
            .means(&Set::ALL, |row| row.to_stock(side))
            .into_iter();
        let points = means.map(|(jobs, mean)| (jobs as f64, 1.0 / mean));
        (side, style.filled(), points.collect::<Vec<_>>())
    });
    let points = || curves.iter().flat_map(|(_, _, points)| points);
    let most_jobs = points().map(|(jobs, _)| *jobs).fold(2.0, f64::max);
    let least = points().map(|(_, times)| *times).fold(1.0, f64::min);
    let most = points().map(|(_, times)| *times).fold(1.0, f64::max);
    let margin = (most - least).max(0.02) * 0.08;
    let title = match report.cases.len() {
        1 => "Speed-up over the released cargo".to_owned(),
        cases => {
            format!("Speed-up over the released cargo: geometric mean of {cases} builds")
        }
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 20))
            .margin(10)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (0.94..most_jobs * 1.06).log_scale().base(2.0),
                least - margin..most + margin,
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(most_jobs.log2().ceil() as usize + 1)
            .x_label_formatter(&|jobs| format!("{jobs:.0}"))
            .x_desc("jobs (-j)")
            .y_desc("times as quick as stock")
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 17))
            .draw()?;
        for (side, style, points) in curves {
            let series = LineSeries::new(points, style).point_size(3);
            let mark = move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style);
            chart
                .draw_series(series)?
                .label(side.to_string())
                .legend(mark);
        }
        chart
            .configure_series_labels()
            .legend_area_size(30)
            .label_font((FONT, 16))
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::MiddleRight)
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::measure::report::tests::case;

    #[test]
    fn sides_are_drawn() {
        let report = Report {
            cases: vec![case("a", [10.0, 15.0, 10.0, 8.0, 8.0, 7.0])],
            ..Report::default()
        };
        let drawn = overview(&report).unwrap();
        for label in ["stock", "metadata", "link", "stock-order", "</svg>"] {
            assert!(drawn.contains(label), "{label}: {drawn}");
        }
    }
}
