//! One panel: lines over an axis of powers.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Failure;

pub(crate) const RED: RGBColor = RGBColor(0xb5, 0x3a, 0x2e);
pub(crate) const YELLOW: RGBColor = RGBColor(0xe0, 0xa8, 0x20);
pub(crate) const BLUE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
pub(crate) const GREEN: RGBColor = RGBColor(0x3f, 0x8f, 0x4f);

/// A line of a chart: its name, its colour, and its points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) color: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a chart says of itself.
pub(crate) struct Chart<'a> {
    pub(crate) about: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) xs: &'a [f64],
    pub(crate) range: Range<f64>,
    /// Whether the upright axis is one of powers, too.
    pub(crate) is_log: bool,
}

macro_rules! drawn {
    ($chart:expr, $about:expr, $lines:expr) => {{
        let mut chart = $chart;
        chart
            .configure_mesh()
            .x_desc($about.x)
            .y_desc($about.y)
            .x_label_formatter(&|x| format!("{x}"))
            .y_label_formatter(&|y| format!("{y}"))
            .max_light_lines(1)
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
            .draw()?;
        for Line { name, color, points } in $lines {
            let style = color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(RGBColor(0xbb, 0xbb, 0xbb))
            .draw()?;
    }};
}

/// Draws a panel.
pub(crate) fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    about: &Chart<'_>,
    lines: &[Line],
) -> Result<(), Failure> {
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(about.about, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(56);
    let (least, most) = (about.xs[0], about.xs[about.xs.len() - 1]);
    let xs = || (least / 1.2..most * 1.2).log_scale().with_key_points(about.xs.to_vec());
    if about.is_log {
        drawn!(builder.build_cartesian_2d(xs(), about.range.clone().log_scale())?, about, lines);
    } else {
        drawn!(builder.build_cartesian_2d(xs(), about.range.clone())?, about, lines);
    }
    Ok(())
}
