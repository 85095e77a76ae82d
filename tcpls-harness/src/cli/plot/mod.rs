//! Goodput over time as an SVG picture: a curve for each TCP connection, one for the sum, and marks where things happened.

mod layout;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use plotters::prelude::*;

use self::layout::{Labels, cut, place, width, wrap};
use super::Outcome;
use super::files::unwritable;
use super::text::visible;
use crate::view::palette;

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

const WIDTH: u32 = 960;
/// The plot, with its axes.
const HEIGHT: u32 = 420;
const MARGIN: i32 = 12;
/// Left of the plot.
const AXIS: i32 = 64;
const TITLE_HEIGHT: i32 = 36;
const ROW_HEIGHT: i32 = 18;
/// The part of the width that labels may take right of the plot.
const MOST_BESIDE: i32 = 400;
/// The length of the line in a curve's key.
const KEY: i32 = 18;
/// The longest title, in characters.
const LONGEST_TITLE: usize = 70;
/// The first is the sum's; those of the others are the ones of pages.
const COLORS: [RGBColor; 7] = {
    let mut colors = [color(palette::TEXT); 7];
    let mut number = 0;
    while number < palette::TCPS.len() {
        colors[number + 1] = color(palette::TCPS[number]);
        number += 1;
    }
    colors
};
const MARK: RGBColor = color(palette::TROUBLE);
/// The font of pages.
const FONT: &str = "system-ui, sans-serif";

/// The sum's, then those of the others in turn.
fn colors() -> impl Iterator<Item = &'static RGBColor> {
    let (sum, others) = COLORS.split_at(1);
    sum.iter().chain(others.iter().cycle())
}

const fn color([red, green, blue]: [u8; 3]) -> RGBColor {
    RGBColor(red, green, blue)
}

/// A file for a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlotFile(PathBuf);

impl FromStr for PlotFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension() {
            Some(extension) if !extension.eq_ignore_ascii_case("svg") => {
                Err("pictures are SVG; write a name that ends in .svg".to_owned())
            }
            _ => Ok(Self(path)),
        }
    }
}

impl PlotFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes sure that the file can be written, before work is done for it. What is in it stays until [`Picture::write`].
    ///
    /// # Errors
    /// It can't.
    pub(crate) fn create(&self) -> Outcome<OpenPlot> {
        let file = File::options().create(true).write(true).truncate(false).open(&self.0);
        Ok(OpenPlot { path: self.0.clone(), file: file.map_err(|error| unwritable(&self.0, error))? })
    }
}

/// A file that is open for a picture.
#[derive(Debug)]
pub(crate) struct OpenPlot {
    path: PathBuf,
    file: File,
}

impl Picture {
    /// Writes the picture to a file.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, mut plot: OpenPlot) -> Outcome {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| format!("can't draw: {error}"))?;
        // Pipes and devices have no length.
        _ = plot.file.set_len(0);
        Ok(plot.file.write_all(svg.as_bytes()).map_err(|error| unwritable(&plot.path, error))?)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let end = points().map(|point| point.0).fold(0.1, f64::max);
        let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
        let (left, beside) = (MARGIN + AXIS, self.room_beside(end));
        let labels = self.labels(end, beside);
        let names: Vec<String> = self.curves.iter().map(|curve| cut(&visible(&curve.label), LONGEST_TITLE)).collect();
        let room = WIDTH as i32 - left - MARGIN;
        let keys = wrap(names.iter().map(|name| KEY + 6 + width(name)), room);
        let key_rows = keys.last().map_or(0, |(_, row)| *row as i32 + 1);
        let label_rows = labels.rows as i32 + i32::from(labels.dropped > 0);
        let labels_top = TITLE_HEIGHT + key_rows * ROW_HEIGHT + 4;
        let head = labels_top + label_rows * ROW_HEIGHT;

        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT + head as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let title = cut(&visible(&self.title), LONGEST_TITLE);
        root.draw(&Text::new(title, (left, MARGIN), (FONT, 18)))?;
        for (((x, row), name), color) in keys.into_iter().zip(names).zip(colors()) {
            let (x, y) = (left + x, TITLE_HEIGHT + row as i32 * ROW_HEIGHT);
            root.draw(&PathElement::new([(x, y + 7), (x + KEY, y + 7)], color.stroke_width(2)))?;
            root.draw(&Text::new(name, (x + KEY + 6, y), (FONT, 13)))?;
        }
        let text = (FONT, 13).into_font().color(&MARK);
        for label in &labels.labels {
            let y = labels_top + label.row as i32 * ROW_HEIGHT;
            root.draw(&PathElement::new([(label.x, y), (label.x, head + MARGIN)], MARK.stroke_width(1)))?;
            root.draw(&Text::new(label.text.clone(), (label.x + 4, y), text.clone()))?;
        }
        if labels.dropped > 0 {
            let (what, y) = (format!("and {} more", labels.dropped), head - ROW_HEIGHT);
            root.draw(&Text::new(what, (left, y), text))?;
        }

        let (_, plot) = root.split_vertically(head);
        let mut chart = ChartBuilder::on(&plot)
            .margin(MARGIN)
            .margin_right(MARGIN + beside)
            .x_label_area_size(40)
            .y_label_area_size(AXIS)
            .build_cartesian_2d(0.0..end, 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).label_style((FONT, 12)).axis_desc_style((FONT, 12));
        mesh.x_desc("seconds").y_desc("goodput, Mbit/s").draw()?;
        for (at, _) in &self.marks {
            chart.draw_series(LineSeries::new([(*at, 0.0), (*at, top)], MARK.stroke_width(1)))?;
        }
        for (curve, color) in self.curves.iter().zip(colors()) {
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), color.stroke_width(2)))?;
        }
        root.present()?;
        Ok(())
    }

    /// Where the labels of the marks go, with so much room right of the plot, which ends at `end`.
    fn labels(&self, end: f64, beside: i32) -> Labels {
        let (left, right) = (MARGIN + AXIS, WIDTH as i32 - MARGIN - beside);
        let at = |seconds: f64| left + (f64::from(right - left) * (seconds / end).clamp(0.0, 1.0)) as i32;
        let mut marks: Vec<(i32, String)> = self.marks.iter().map(|(when, what)| (at(*when), visible(what))).collect();
        // Several clients do the same at once.
        marks.dedup();
        place(marks)
    }

    /// How much room labels need right of the plot.
    fn room_beside(&self, end: f64) -> i32 {
        let fits = |beside: &i32| {
            let labels = self.labels(end, *beside).labels;
            labels.iter().all(|label| label.x + width(&label.text) <= WIDTH as i32)
        };
        (0..MOST_BESIDE).step_by(20).find(fits).unwrap_or(MOST_BESIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(marks: &[(f64, &str)]) -> String {
        let curve = Curve { label: "sum".to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let marks = marks.iter().map(|(at, what)| (*at, (*what).to_owned())).collect();
        let picture = Picture { title: "t".to_owned(), curves: vec![curve], marks };
        let mut svg = String::new();
        picture.draw(&mut svg).unwrap();
        svg
    }

    /// The place of a text.
    fn place_of(svg: &str, text: &str) -> (i32, i32) {
        let before = svg.split_once(&format!("\n{text}\n")).unwrap_or_else(|| panic!("no {text} in {svg}")).0;
        let element = before.rsplit_once("<text ").unwrap().1;
        let attribute = |name| element.split_once(name).unwrap().1.split('"').next().unwrap().parse().unwrap();
        (attribute("x=\""), attribute("y=\""))
    }

    #[test]
    fn a_picture_names_its_curves_and_marks() {
        let svg = picture(&[(0.5, "reset")]);
        assert!(svg.starts_with("<svg") && svg.contains("sum") && svg.contains("reset"));
    }

    #[test]
    fn labels_of_one_moment_are_below_each_other() {
        let svg =
            picture(&[(0.5, "end of black hole a"), (0.5, "black hole b"), (1.0, "tcp 1 lost: no acknowledgment")]);
        let places = ["end of black hole a", "black hole b"].map(|text| place_of(&svg, text));
        assert!(places[0].0 == places[1].0 && places[0].1 + 15 <= places[1].1, "{places:?}");
        let last = "tcp 1 lost: no acknowledgment";
        assert!(place_of(&svg, last).0 + width(last) <= WIDTH as i32 + 8);
    }

    #[test]
    fn text_is_escaped() {
        let svg = picture(&[(0.5, "<script>&\u{1b}\u{202e}")]);
        assert!(svg.contains("&lt;script&gt;&amp;\\u{1b}\\u{202e}"), "{svg}");
    }

    #[test]
    fn a_picture_of_nothing_can_be_drawn() {
        Picture { title: String::new(), curves: Vec::new(), marks: Vec::new() }.draw(&mut String::new()).unwrap();
    }

    #[test]
    fn pictures_are_svg() {
        assert!("a.svg".parse::<PlotFile>().is_ok() && "a.SVG".parse::<PlotFile>().is_ok());
        assert!("/dev/stdout".parse::<PlotFile>().is_ok());
        assert!("a.png".parse::<PlotFile>().unwrap_err().contains(".svg"));
    }
}
