//! [`Chart`]: curves over time, as SVG: a part of a page, or a picture of its own for a light or a dark page.

use plotters::prelude::*;

/// Sizes over time: seconds, and MiB.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What the legend says.
    pub name: String,
    /// In the order of time.
    pub points: Vec<(f64, f64)>,
}

/// Curves that share their axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Stands above it.
    pub title: String,
    /// What is drawn.
    pub curves: Vec<Curve>,
}

/// Told apart by people who see few colours, too (Okabe and Ito, 2008), and by page or ink of either theme.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0xa0, 0x60, 0x40),
];
/// The same for a dark page: the two blues change places.
const COLOURS_ON_DARK: [RGBColor; 8] = {
    let [blue, orange, green, pink, yellow, sky, grey, brown] = COLOURS;
    [sky, orange, green, pink, yellow, blue, grey, brown]
};

/// What the curves are drawn on.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Axes and letters.
    ink: RGBColor,
    /// Of the curves, in their order.
    colours: [RGBColor; 8],
    /// Behind everything. None: what the page has.
    ground: Option<RGBColor>,
    /// Whether names and title are part of the drawing.
    legend: bool,
}

/// Readable on a light and on a dark page; the page names the curves.
const PAGE: Theme = Theme { ink: RGBColor(0x70, 0x78, 0x80), colours: COLOURS, ground: None, legend: false };
/// A picture for a light page.
pub const LIGHT: Theme = Theme {
    ink: RGBColor(0x42, 0x4a, 0x53),
    colours: COLOURS,
    ground: Some(RGBColor(0xff, 0xff, 0xff)),
    legend: true,
};
/// A picture for a dark page.
pub const DARK: Theme = Theme {
    ink: RGBColor(0xb1, 0xba, 0xc4),
    colours: COLOURS_ON_DARK,
    ground: Some(RGBColor(0x0d, 0x11, 0x17)),
    legend: true,
};

const SIZE: (u32, u32) = (1000, 380);
/// Height of the title and of each line of names, and how many names stand in one line.
const LINE: i32 = 24;
const NAMES: usize = 3;
const FONT: &str = "system-ui, sans-serif";

/// The colour of the `nth` curve, as in HTML.
#[must_use]
pub fn colour(nth: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[nth % COLOURS.len()];
    format!("#{red:02X}{green:02X}{blue:02X}")
}

impl Chart {
    /// The drawing, for a page that has the title and the names beside it.
    ///
    /// # Errors
    /// What the drawing library says.
    pub fn svg(&self) -> Result<String, String> {
        self.picture(PAGE)
    }

    /// The drawing on `theme`.
    ///
    /// # Errors
    /// What the drawing library says.
    pub fn picture(&self, theme: Theme) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg, theme).map_err(|error| format!("cannot draw {}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, theme: Theme) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        if let Some(ground) = theme.ground {
            root.fill(&ground)?;
        }
        if theme.legend {
            let lines = 1 + self.curves.len().div_ceil(NAMES);
            let (top, bottom) = root.split_vertically(14 + LINE * i32::try_from(lines)?);
            self.draw_names(&top, theme)?;
            self.draw_curves(&bottom, theme)?;
        } else {
            self.draw_curves(&root, theme)?;
        }
        root.present()?;
        Ok(())
    }

    /// The title, and below it a stroke in each curve's colour with its name.
    fn draw_names(&self, area: &Area<'_>, theme: Theme) -> Result<(), Box<dyn std::error::Error>> {
        let left = 86;
        area.draw(&Text::new(self.title.clone(), (left, 14), (FONT, 18).into_font().color(&theme.ink)))?;
        for (nth, curve) in self.curves.iter().enumerate() {
            let x = left + 300 * i32::try_from(nth % NAMES)?;
            let y = 14 + LINE * i32::try_from(1 + nth / NAMES)?;
            let stroke = theme.colours[nth % theme.colours.len()].stroke_width(3);
            area.draw(&PathElement::new(vec![(x, y + 9), (x + 24, y + 9)], stroke))?;
            let name = Text::new(curve.name.clone(), (x + 32, y), (FONT, 15).into_font().color(&theme.ink));
            area.draw(&name)?;
        }
        Ok(())
    }

    fn draw_curves(&self, area: &Area<'_>, theme: Theme) -> Result<(), Box<dyn std::error::Error>> {
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let right = all().map(|point| point.0).fold(0.01, f64::max);
        let top = all().map(|point| point.1).fold(1.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(theme.ink.mix(0.3))
            .axis_style(theme.ink)
            .label_style((FONT, 15).into_font().color(&theme.ink))
            .axis_desc_style((FONT, 15).into_font().color(&theme.ink))
            .x_desc("seconds")
            .y_desc("MiB")
            .y_label_formatter(&|mib| format!("{mib:.0}"))
            .x_label_formatter(&|seconds| format!("{seconds:.1}"))
            .draw()?;
        for (nth, curve) in self.curves.iter().enumerate() {
            let stroke = theme.colours[nth % theme.colours.len()].stroke_width(2);
            chart.draw_series(LineSeries::new(thinned(&curve.points, top / f64::from(SIZE.1)), stroke))?;
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The points without those that lie within `height`, about a pixel, of both neighbours: a level stretch keeps its ends.
fn thinned(points: &[(f64, f64)], height: f64) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (nth, &point) in points.iter().enumerate() {
        let level =
            |other: Option<&(f64, f64)>| other.is_some_and(|other| (other.1 - point.1).abs() < height);
        if !(level(kept.last()) && level(points.get(nth + 1))) {
            kept.push(point);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_drawn_in_its_colour() {
        let curve = |name: &str| Curve { name: name.to_owned(), points: vec![(0.0, 1.0), (1.0, 100.0)] };
        let chart = Chart { title: "x".to_owned(), curves: vec![curve("a"), curve("b")] };
        let svg = chart.svg().expect("drawn");
        assert!(svg.starts_with("<svg") && svg.contains(&colour(0)) && svg.contains(&colour(1)), "{svg}");
        assert!(!svg.contains(&colour(2)));
        let empty = Chart { title: "x".to_owned(), curves: Vec::new() };
        assert!(empty.svg().is_ok());
    }

    #[test]
    fn a_picture_has_names_and_ground() {
        let curve = Curve { name: "peers & us".to_owned(), points: vec![(0.0, 1.0), (1.0, 100.0)] };
        let chart = Chart { title: "Resident".to_owned(), curves: vec![curve] };
        let (light, dark) = (chart.picture(LIGHT).expect("drawn"), chart.picture(DARK).expect("drawn"));
        for svg in [&light, &dark] {
            assert!(svg.contains("peers &amp; us") && svg.contains("Resident"), "{svg}");
        }
        assert!(light.contains("#FFFFFF") && dark.contains("#0D1117") && !dark.contains("#FFFFFF"));
        assert!(!chart.svg().expect("drawn").contains("Resident"));
    }

    #[test]
    fn level_stretches_keep_their_ends() {
        let points =
            [(0.0, 10.0), (1.0, 10.1), (2.0, 10.0), (3.0, 50.0), (4.0, 10.0), (5.0, 10.0), (6.0, 10.0)];
        let kept = [(0.0, 10.0), (2.0, 10.0), (3.0, 50.0), (4.0, 10.0), (6.0, 10.0)];
        assert_eq!(thinned(&points, 1.0), kept);
        assert_eq!(thinned(&points, 0.0), points);
        assert!(thinned(&[], 1.0).is_empty());
    }
}
