//! [`Chart`]: curves over time, as SVG to be put into a page.

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
const INK: RGBColor = RGBColor(0x70, 0x78, 0x80);
const SIZE: (u32, u32) = (1000, 380);
const FONT: &str = "system-ui, sans-serif";

/// The colour of the `nth` curve, as in HTML.
#[must_use]
pub fn colour(nth: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[nth % COLOURS.len()];
    format!("#{red:02X}{green:02X}{blue:02X}")
}

impl Chart {
    /// The drawing.
    ///
    /// # Errors
    /// What the drawing library says.
    pub fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| format!("cannot draw {}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let right = all().map(|point| point.0).fold(0.01, f64::max);
        let top = all().map(|point| point.1).fold(1.0, f64::max) * 1.05;
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.3))
            .axis_style(INK)
            .label_style((FONT, 15).into_font().color(&INK))
            .axis_desc_style((FONT, 15).into_font().color(&INK))
            .x_desc("seconds")
            .y_desc("MiB")
            .y_label_formatter(&|mib| format!("{mib:.0}"))
            .x_label_formatter(&|seconds| format!("{seconds:.1}"))
            .draw()?;
        for (nth, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[nth % COLOURS.len()];
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?;
        }
        root.present()?;
        Ok(())
    }
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
}
