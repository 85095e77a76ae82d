//! The curves as an SVG picture.

use plotters::prelude::*;
use tcpls_harness::view::palette;

use super::Run;
use crate::lab::Outcome;

const SIZE: (u32, u32) = (960, 360);
/// The width of the part where the curves are named.
const KEY: u32 = 270;
/// The font of pages.
const FONT: &str = "system-ui, sans-serif";

/// The picture's text.
pub(super) fn svg(runs: &[Run]) -> Outcome<String> {
    let mut svg = String::new();
    draw(runs, &mut svg).map_err(|error| format!("can't draw: {error}"))?;
    Ok(svg)
}

fn draw(runs: &[Run], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (plane, key) = root.split_horizontally(SIZE.0 - KEY);
    let seconds = runs.iter().map(|run| run.rates.len()).max().unwrap_or(1) as f64;
    let top = runs.iter().flat_map(|run| &run.rates).copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&plane)
        .caption("Goodput of a download, by the server's congestion control", (FONT, 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..seconds, 0.0..top * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_label_formatter(&|x| format!("{x}")).y_label_formatter(&|y| format!("{y}"));
    mesh.x_desc("seconds since the first byte").y_desc("Mbit/s");
    mesh.label_style((FONT, 12)).axis_desc_style((FONT, 12)).draw()?;
    for (number, (run, [red, green, blue])) in (0..).zip(runs.iter().zip(palette::TCPS)) {
        let color = RGBColor(red, green, blue);
        let points = run.rates.iter().enumerate().map(|(second, rate)| (second as f64 + 0.5, *rate));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(2))?;
        let y = 60 + 22 * number;
        key.draw(&PathElement::new([(0, y), (18, y)], color.stroke_width(2)))?;
        key.draw(&Text::new(run.name(), (24, y - 6), (FONT, 13)))?;
    }
    root.present()?;
    Ok(())
}
