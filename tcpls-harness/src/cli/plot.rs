//! Goodput over time as an SVG picture: a curve for each TCP connection, one for the sum, and marks where things happened.

use std::path::Path;

use plotters::prelude::*;

use super::Outcome;

/// What a picture shows.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) title: String,
    /// The curves; each point is a time in seconds and a rate in Mbit/s.
    pub(crate) curves: Vec<Curve>,
    /// Times in seconds, and what happened then.
    pub(crate) marks: Vec<(f64, String)>,
}

/// One curve.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (960, 480);
/// The first is the sum's; distinguishable in all common kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(60, 60, 60),
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
const MARK: RGBColor = RGBColor(213, 94, 0);

impl Picture {
    /// Writes the picture to `path`.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, path: &Path) -> Outcome {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| format!("can't draw: {error}"))?;
        std::fs::write(path, svg).map_err(|error| format!("can't write {}: {error}", path.display()))?;
        Ok(())
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let end = points().map(|point| point.0).fold(0.1, f64::max);
        let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.45;
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..top)?;
        chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("seconds").y_desc("goodput, Mbit/s").draw()?;
        for (at, what) in &self.marks {
            chart.draw_series(LineSeries::new([(*at, 0.0), (*at, top)], MARK.stroke_width(1)))?;
            let text =
                Text::new(what.clone(), (*at + end * 0.005, top * 0.98), ("sans-serif", 13).into_font().color(&MARK));
            chart.draw_series([text])?;
        }
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
            let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(line)?.label(&curve.label).legend(key);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_its_curves_and_marks() {
        let curve = Curve { label: "sum".to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let picture = Picture { title: "t".to_owned(), curves: vec![curve], marks: vec![(0.5, "reset".to_owned())] };
        let mut svg = String::new();
        picture.draw(&mut svg).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("sum") && svg.contains("reset"));
    }

    #[test]
    fn a_picture_of_nothing_can_be_drawn() {
        Picture { title: String::new(), curves: Vec::new(), marks: Vec::new() }.draw(&mut String::new()).unwrap();
    }
}
