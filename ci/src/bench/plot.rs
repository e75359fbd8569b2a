//! What a benchmark has found, as pictures.
//!
//! The colours are those of Okabe and Ito, which also those can tell apart who see fewer. Where lines
//! lie on each other, the lower one is the wider one.

use std::collections::BTreeMap;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use replay::log::{Entry, Phase};

use super::pauses::{Line, PLACES};
use super::report::{Case, Mean};
use super::results::Side;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const SKY_BLUE: RGBColor = RGBColor(86, 180, 233);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const YELLOW: RGBColor = RGBColor(240, 228, 66);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(200, 200, 200);

const FONT: &str = "sans-serif";

/// How wide all pictures are, in pixels.
const WIDTH: u32 = 960;
/// How high those with curves are.
const HEIGHT: u32 = 540;
/// How high a lane is, what is above all lanes, and what is below.
const LANE: u32 = 24;
const HEADER: u32 = 44;
const FOOTER: u32 = 56;

/// A line through some points, and what it is called.
struct Curve {
    label: String,
    style: CurveStyle,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
enum CurveStyle {
    /// What was measured, in a colour.
    Line(RGBColor),
    /// What it is compared with, wide enough to be seen below another line.
    Below,
    /// What was computed.
    Dashed,
}

/// How many times quicker a build is than with one job of the released cargo.
pub fn speed_up(case: &Case) -> Result<String> {
    let alone = case
        .rows
        .first()
        .map_or(1.0, |row| row.side(Side::Stock).wall);
    let curve = |label: &str, style, wall: &dyn Fn(usize) -> f64| Curve {
        label: label.to_owned(),
        style,
        points: (case.rows.iter().enumerate())
            .map(|(place, row)| (row.jobs as f64, alone / wall(place)))
            .collect(),
    };
    let mut curves = vec![curve("limit", CurveStyle::Dashed, &|place| {
        case.rows[place].limit
    })];
    // A seventh line could not be told from the others; the tables have it.
    for side in Side::ALL.into_iter().filter(|side| *side != Side::Cold) {
        let wall = |place: usize| case.rows[place].side(side).wall;
        curves.push(curve(side.name(), style(side), &wall));
    }
    draw(
        &format!("{}: speed-up", case.title),
        &JOBS,
        "times as quick as stock with -j1",
        &curves,
    )
}

/// How many times quicker builds are than those of the released cargo with as many jobs, on average.
pub fn overview(means: &[Mean], cases: usize) -> Result<String> {
    let curve = |side: Side, ratio: fn(&Mean) -> f64| Curve {
        label: side.name().to_owned(),
        style: style(side),
        points: (means
            .iter()
            .map(|mean| (mean.jobs as f64, 1.0 / ratio(mean))))
        .collect(),
    };
    let curves = [
        curve(Side::Stock, |_| 1.0),
        curve(Side::Metadata, |mean| mean.metadata_to_stock),
        curve(Side::Link, |mean| mean.link_to_stock),
        curve(Side::StockOrder, |mean| mean.stock_order_to_stock),
    ];
    let title = match cases {
        1 => "Speed-up over the released cargo".to_owned(),
        _ => format!("Speed-up over the released cargo: geometric mean of {cases} builds"),
    };
    draw(&title, &JOBS, "times as quick as stock", &curves)
}

/// How close simulated builds come to their limits, by how many compilers may be paused at once.
pub fn pauses(lines: &[Line]) -> Result<String> {
    let colors = [ORANGE, BLUE, VERMILLION];
    let curves = std::iter::zip(lines, colors).map(|(line, color)| Curve {
        label: format!("-j{}", line.jobs),
        style: CurveStyle::Line(color),
        points: (line.to_limit.iter().enumerate())
            .map(|(step, ratio)| (step_to_x(step), *ratio))
            .collect(),
    });
    draw(
        "Wall time to the limit: geometric mean of simulated builds",
        &PAUSED,
        "wall time / limit",
        &curves.collect::<Vec<_>>(),
    )
}

/// What is on the logarithmic axis.
struct Axis {
    name: &'static str,
    /// What a value is called.
    label: fn(f64) -> String,
}

const JOBS: Axis = Axis {
    name: "jobs (-j)",
    label: |jobs| format!("{jobs:.0}"),
};

/// The steps of [`PLACES`], with the same distance between all of them: neither no place nor as many as
/// one likes has a logarithm.
const PAUSED: Axis = Axis {
    name: "compilers that may be paused at once",
    label: |x| match PLACES.get(x.log2().round() as usize) {
        Some(Some(places)) => places.to_string(),
        Some(None) => "unbounded".to_owned(),
        None => String::new(),
    },
};

/// Where a step of [`PLACES`] is on the axis.
fn step_to_x(step: usize) -> f64 {
    (step as f64).exp2()
}

fn style(side: Side) -> CurveStyle {
    match side {
        Side::Stock => CurveStyle::Below,
        Side::Off => CurveStyle::Line(ORANGE),
        Side::Metadata => CurveStyle::Line(BLUE),
        Side::Link => CurveStyle::Line(VERMILLION),
        Side::Cold => CurveStyle::Line(SKY_BLUE),
        Side::StockOrder => CurveStyle::Line(GREEN),
    }
}

impl CurveStyle {
    fn shape(self) -> ShapeStyle {
        match self {
            CurveStyle::Line(color) => color.filled().stroke_width(2),
            CurveStyle::Below => PALE.filled().stroke_width(7),
            CurveStyle::Dashed => GREY.filled().stroke_width(2),
        }
    }
}

/// Curves over a logarithmic axis.
fn draw(title: &str, x_axis: &Axis, y_label: &str, curves: &[Curve]) -> Result<String> {
    let points = || {
        let points = curves.iter().flat_map(|curve| &curve.points);
        points.filter(|(_, times)| times.is_finite())
    };
    let most_x = points().map(|(x, _)| *x).fold(2.0, f64::max);
    let least = points().map(|(_, times)| *times).fold(1.0, f64::min);
    let most = points().map(|(_, times)| *times).fold(1.0, f64::max);
    // Where all is close to 1, an axis from 0 would show nothing.
    let margin = (most - least).max(0.02) * 0.08;
    let bottom = if least < most / 2.0 {
        0.0
    } else {
        least - margin
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (header, body) = root.split_vertically(HEADER);
        let legend = curves
            .iter()
            .map(|curve| (curve.label.as_str(), Mark::Line(curve.style)));
        draw_header(&header, title, &legend.collect::<Vec<_>>())?;
        let mut chart = ChartBuilder::on(&body)
            .margin_left(10)
            .margin_right(24)
            .margin_bottom(8)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (0.94..most_x * 1.06).log_scale().base(2.0),
                bottom..most + margin,
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(most_x.log2().ceil() as usize + 1)
            .x_label_formatter(&|x| (x_axis.label)(*x))
            .x_desc(x_axis.name)
            .y_desc(y_label)
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 17))
            .draw()?;
        for curve in curves {
            let shape = curve.style.shape();
            let points = curve.points.iter().copied();
            match curve.style {
                CurveStyle::Dashed => {
                    chart.draw_series(DashedLineSeries::new(points, 8, 5, shape))?;
                }
                CurveStyle::Below => {
                    chart.draw_series(LineSeries::new(points, shape))?;
                }
                CurveStyle::Line(_) => {
                    chart.draw_series(LineSeries::new(points, shape).point_size(4))?;
                }
            }
        }
        root.present()?;
    }
    Ok(svg)
}

/// When which unit ran: a lane for each that ran at the same time as others, cut into its phases.
///
/// `name` says what a unit is called, by its place in the recording.
pub fn gantt(title: &str, entries: &[Entry], name: impl Fn(usize) -> String) -> Result<String> {
    let began = entries.iter().map(|entry| entry.began).min().unwrap_or(0);
    let ended = entries.iter().map(|entry| entry.ended).max().unwrap_or(0);
    let seconds = |time: u64| time.saturating_sub(began) as f64 / 1e9;
    let end = seconds(ended).max(1e-9);
    let stretches = stretches(entries, (ended - began) / u64::from(WIDTH));
    let lanes = lanes(&stretches);
    let count = lanes.iter().max().map_or(1, |lane| lane + 1);
    let height = HEADER + count as u32 * LANE + FOOTER;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (header, body) = root.split_vertically(HEADER);
        let legend = PHASES.map(|(phase, name)| (name, Mark::Square(color(phase))));
        draw_header(&header, title, &legend)?;
        let mut chart = ChartBuilder::on(&body)
            .margin_left(10)
            .margin_right(24)
            .margin_bottom(8)
            .x_label_area_size(FOOTER - 8)
            .y_label_area_size(24)
            .build_cartesian_2d(0.0..end, count as f64..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(12)
            .y_label_formatter(&|_| String::new())
            .set_tick_mark_size(LabelAreaPosition::Left, 0)
            .x_desc("seconds")
            .y_desc("units at work")
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 17))
            .draw()?;
        let width = f64::from(chart.plotting_area().dim_in_pixel().0) / end;
        let text = (FONT, 13)
            .into_text_style(&body)
            .pos(Pos::new(HPos::Left, VPos::Center));
        for (stretch, lane) in std::iter::zip(&stretches, lanes) {
            let lane = lane as f64;
            chart.draw_series(stretch.phases.iter().map(|phase| {
                let corners = [
                    (seconds(phase.began), lane + 0.06),
                    (seconds(phase.ended), lane + 0.94),
                ];
                Rectangle::new(corners, color(phase.phase).filled())
            }))?;
            let name = name(stretch.place);
            let (from, to) = (seconds(stretch.began), seconds(stretch.ended));
            if (to - from) * width > f64::from(text_width(&name, 13) + 6) {
                let place = (from + 3.0 / width, lane + 0.5);
                chart.draw_series([Text::new(name, place, text.clone())])?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

/// How something looks in the legend.
#[derive(Clone, Copy)]
enum Mark {
    Line(CurveStyle),
    Square(RGBColor),
}

/// The title, and on the right the legend: there it is never in the way of what is drawn.
fn draw_header(
    header: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    legend: &[(&str, Mark)],
) -> Result<()> {
    let middle = HEADER as i32 / 2;
    let text = |size: i32| {
        let style = (FONT, size).into_text_style(header);
        style.pos(Pos::new(HPos::Left, VPos::Center))
    };
    header.draw_text(title, &text(20), (14, middle))?;
    let widths = legend
        .iter()
        .map(|(name, _)| MARK + GAP + text_width(name, 16));
    let mut left = WIDTH as i32 - 24 - widths.sum::<i32>();
    for (name, mark) in legend {
        left += GAP;
        match mark {
            Mark::Square(color) => {
                let corners = [(left + 10, middle - 7), (left + 24, middle + 7)];
                header.draw(&Rectangle::new(corners, color.filled()))?;
            }
            Mark::Line(style) => {
                let gap = match style {
                    CurveStyle::Dashed => 6,
                    CurveStyle::Below | CurveStyle::Line(_) => 0,
                };
                for (from, to) in [(0, 9), (9 + gap, 24)] {
                    let points = vec![(left + from, middle), (left + to, middle)];
                    header.draw(&PathElement::new(points, style.shape()))?;
                }
            }
        }
        left += MARK;
        header.draw_text(name, &text(16), (left, middle))?;
        left += text_width(name, 16);
    }
    Ok(())
}

/// How wide a mark of the legend is with the space after it, and the space before it.
const MARK: i32 = 30;
const GAP: i32 = 14;

/// How wide a text is, about: who draws it chooses the letters.
fn text_width(text: &str, size: i32) -> i32 {
    let letters = i32::try_from(text.chars().count()).unwrap_or(i32::MAX);
    letters.saturating_mul(size) / 2
}

const PHASES: [(Phase, &str); 4] = [
    (Phase::Frontend, "frontend"),
    (Phase::Codegen, "codegen"),
    (Phase::Link, "link"),
    (Phase::Run, "build script"),
];

fn color(phase: Phase) -> RGBColor {
    match phase {
        Phase::Frontend => SKY_BLUE,
        Phase::Codegen => ORANGE,
        Phase::Link => GREEN,
        Phase::Run => YELLOW,
    }
}

/// A time in which a unit was at work without a pause.
#[derive(Debug, PartialEq)]
struct Stretch {
    place: usize,
    began: u64,
    ended: u64,
    phases: Vec<Entry>,
}

/// The stretches of all units, in the order in which they began.
///
/// A unit that waits before its linker is not at work; a pause of no more than `unseen` is none.
fn stretches(entries: &[Entry], unseen: u64) -> Vec<Stretch> {
    let mut units: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        units.entry(entry.place).or_default().push(*entry);
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    for (place, mut phases) in units {
        phases.sort_by_key(|entry| (entry.began, entry.phase));
        let first = stretches.len();
        for phase in phases {
            match stretches[first..].last_mut() {
                Some(last) if phase.began <= last.ended + unseen => {
                    last.ended = last.ended.max(phase.ended);
                    last.phases.push(phase);
                }
                _ => stretches.push(Stretch {
                    place,
                    began: phase.began,
                    ended: phase.ended,
                    phases: vec![phase],
                }),
            }
        }
    }
    stretches.sort_by_key(|stretch| (stretch.began, stretch.place));
    stretches
}

/// The lane of each stretch: the first one that is free when it begins.
fn lanes(stretches: &[Stretch]) -> Vec<usize> {
    let mut free_from: Vec<u64> = Vec::new();
    let lane_of = |stretch: &Stretch| {
        let free = free_from.iter().position(|time| *time <= stretch.began);
        let lane = free.unwrap_or(free_from.len());
        match free_from.get_mut(lane) {
            Some(time) => *time = stretch.ended,
            None => free_from.push(stretch.ended),
        }
        lane
    };
    stretches.iter().map(lane_of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::report::{Report, Row};
    use std::time::Duration;

    fn entry(place: usize, phase: Phase, began: u64, ended: u64) -> Entry {
        Entry {
            place,
            phase,
            began,
            ended,
            threads: 1,
        }
    }

    #[test]
    fn a_unit_that_waits_for_its_linker_leaves_its_lane() {
        let entries = [
            entry(0, Phase::Frontend, 0, 10),
            entry(0, Phase::Codegen, 10, 50),
            entry(1, Phase::Frontend, 10, 20),
            entry(1, Phase::Codegen, 21, 30),
            entry(2, Phase::Run, 30, 45),
            entry(1, Phase::Link, 50, 60),
        ];
        let stretches = stretches(&entries, 1);
        let units: Vec<_> = stretches
            .iter()
            .map(|stretch| (stretch.place, stretch.began, stretch.ended))
            .collect();
        assert_eq!(units, [(0, 0, 50), (1, 10, 30), (2, 30, 45), (1, 50, 60)]);
        assert_eq!(stretches[1].phases.len(), 2);
        assert_eq!(lanes(&stretches), [0, 1, 1, 0]);
    }

    #[test]
    fn nothing_in_a_lane_overlaps() {
        let entries: Vec<_> = (0..40)
            .map(|place| {
                let began = place as u64 * 7 % 50;
                entry(place, Phase::Frontend, began, began + place as u64 % 9)
            })
            .collect();
        let stretches = stretches(&entries, 0);
        let lanes = lanes(&stretches);
        for (lane, stretch) in std::iter::zip(&lanes, &stretches) {
            let others = std::iter::zip(&lanes, &stretches)
                .filter(|(other_lane, other)| *other_lane == lane && other.place != stretch.place);
            for (_, other) in others {
                assert!(
                    other.ended <= stretch.began || stretch.ended <= other.began,
                    "{other:?} {stretch:?}"
                );
            }
        }
    }

    #[test]
    fn places_that_have_no_logarithm_are_on_the_axis() {
        let line = Line {
            jobs: 4,
            to_limit: [1.3, 1.2, 1.1, 1.1, 1.1, 1.0, 1.0, 1.0],
        };
        let drawn = pauses(&[line]).unwrap();
        for label in ["-j4", "unbounded"] {
            assert!(drawn.contains(label), "{label}: {drawn}");
        }
        let labels: Vec<_> = (0..PLACES.len())
            .map(|step| (PAUSED.label)(step_to_x(step)))
            .collect();
        let expected = ["0", "1", "2", "4", "8", "16", "32", "unbounded"];
        assert_eq!(labels, expected);
    }

    #[test]
    fn pictures_are_drawn() {
        let row = |jobs, seconds: [u64; 6]| {
            Row::new(
                jobs,
                Duration::from_secs(4),
                seconds.map(Duration::from_secs),
                None,
            )
        };
        let case = Case {
            name: "a".to_owned(),
            title: "a & b".to_owned(),
            units: 3,
            work: 40.0,
            rows: vec![row(1, [40; 6]), row(8, [10, 15, 10, 8, 8, 7])],
        };
        let curves = speed_up(&case).unwrap();
        assert!(curves.contains("a &amp; b: speed-up"), "{curves}");
        for label in ["limit", "stock", "off", "metadata", "link", "stock-order"] {
            assert!(curves.contains(label), "{label}: {curves}");
        }
        let report = Report::new(false, vec![case], vec![]);
        assert!(overview(&report.means, 1).unwrap().contains("</svg>"));
        let entries = [entry(0, Phase::Frontend, 1_000, 2_000_001_000)];
        let drawn = gantt("one", &entries, |place| format!("unit {place}")).unwrap();
        assert!(drawn.contains("unit 0"), "{drawn}");
        assert!(gantt("none", &[], |_| String::new()).is_ok());
    }
}
