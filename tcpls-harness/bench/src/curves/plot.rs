//! A curve as an SVG picture: what grows is drawn on a logarithmic axis.

use plotters::prelude::*;
use tcpls_harness::view::palette;

use super::{Curve, Drawn, Measured};
use crate::Outcome;

const SIZE: (u32, u32) = (960, 400);
/// The width of the part where the lines are named.
const KEY: u32 = 230;
/// Those of pages, and more.
const COLOURS: [RGBColor; 8] = {
    let [a, b, c, d, e, f] = palette::TCPS;
    [colour(a), colour(b), colour(c), colour(d), colour(e), colour(f), colour(palette::TEXT), colour(palette::TROUBLE)]
};
/// The font of pages.
const FONT: &str = "system-ui, sans-serif";

const fn colour([red, green, blue]: [u8; 3]) -> RGBColor {
    RGBColor(red, green, blue)
}

/// The picture's text.
pub fn svg(curve: &Curve, points: &[Measured]) -> Outcome<String> {
    let mut svg = String::new();
    draw(curve, points, &mut svg).map_err(|error| format!("can't draw {}: {error}", curve.name))?;
    Ok(svg)
}

/// A line's name and its points.
type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// The lines in the order in which they come first.
pub fn lines<'a>(curve: &Curve, points: &'a [Measured]) -> Vec<Line<'a>> {
    match curve.drawn {
        Drawn::First => series(points),
        Drawn::Multiples(columns) => {
            columns.iter().map(|&column| (curve.columns[column].0, multiples(points, column))).collect()
        }
    }
}

fn series(points: &[Measured]) -> Vec<Line<'_>> {
    let mut all: Vec<Line<'_>> = Vec::new();
    for point in points {
        let value = (point.x, point.values[0]);
        match all.iter_mut().find(|(name, _)| *name == point.series) {
            Some((_, values)) => values.push(value),
            None => all.push((&point.series, vec![value])),
        }
    }
    all
}

fn multiples(points: &[Measured], column: usize) -> Vec<(f64, f64)> {
    points.iter().map(|point| (point.x, point.values[column] / points[0].values[column])).collect()
}

fn draw(curve: &Curve, points: &[Measured], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (plane, key) = root.split_horizontally(SIZE.0 - KEY);
    let fold = |f: fn(f64, f64) -> f64| points.iter().map(|point| point.x).reduce(f).unwrap_or(1.0);
    let lines = lines(curve, points);
    let values = lines.iter().flat_map(|(_, values)| values).map(|point| point.1);
    let top = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let what = match curve.drawn {
        Drawn::First => curve.columns[0].0,
        Drawn::Multiples(_) => "multiples of the first",
    };
    let mut chart = ChartBuilder::on(&plane)
        .caption(curve.title, (FONT, 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((fold(f64::min)..fold(f64::max) * 1.1).log_scale(), 0.0..top * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_labels(6).x_label_formatter(&|x| format!("{x}"));
    mesh.x_desc(curve.x).y_desc(what).label_style((FONT, 12)).axis_desc_style((FONT, 12)).draw()?;
    for (number, ((name, values), colour)) in (0..).zip(lines.into_iter().zip(COLOURS.iter().cycle())) {
        chart.draw_series(LineSeries::new(values, colour.stroke_width(2)).point_size(2))?;
        let y = 60 + 22 * number;
        key.draw(&PathElement::new([(0, y), (18, y)], colour.stroke_width(2)))?;
        key.draw(&Text::new(name.to_owned(), (24, y - 6), (FONT, 13)))?;
    }
    root.present()?;
    Ok(())
}
