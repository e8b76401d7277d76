//! The chart of the report: memory over time, as SVG to be put into a page.
//!
//! Each thing has a colour of its own, so that the page's style sheet can select it and give it another one in a dark
//! theme. Phases that would be too short to see are drawn wider; the axis says when each ended.

use super::phases::{Name, Outcome};
use super::record::Sample;
use crate::command::Failure;
use crate::command::output::mib;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::time::Duration;

pub(crate) const IN_USE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
pub(crate) const FREE: RGBColor = RGBColor(0xf0, 0xa8, 0x3c);
pub(crate) const RELEASED: RGBColor = RGBColor(0xdf, 0xe4, 0xea);
pub(crate) const RSS: RGBColor = RGBColor(0xb8, 0x1e, 0x3a);
pub(crate) const INK: RGBColor = RGBColor(0x1f, 0x24, 0x2b);
pub(crate) const GRID: RGBColor = RGBColor(0xc9, 0xcf, 0xd6);

const SIZE: (u32, u32) = (1040, 460);
const FONT: &str = "system-ui, sans-serif";
/// No phase but the first is drawn narrower than this part of the axis.
const NARROWEST: f64 = 0.11;

/// The time axis, from 0 to 1: the edge of each phase, and when that was.
struct Axis {
    edges: Vec<(f64, Duration)>,
}

impl Axis {
    fn new(ends: impl Iterator<Item = Duration>) -> Self {
        let ends: Vec<Duration> = ends.collect();
        let total = ends.last().map_or(1.0, |end| end.as_secs_f64().max(f64::MIN_POSITIVE));
        let mut edges = Vec::with_capacity(ends.len());
        let (mut before, mut edge) = (Duration::ZERO, 0.0);
        for (nth, &end) in ends.iter().enumerate() {
            let share = end.saturating_sub(before).as_secs_f64() / total;
            // The first phase is the moment before anything happens.
            edge += if nth == 0 { 0.0 } else { share.max(NARROWEST) };
            edges.push((edge, end));
            before = end;
        }
        let scale = if edge > 0.0 { 1.0 / edge } else { 1.0 };
        edges.iter_mut().for_each(|(edge, _)| *edge *= scale);
        Self { edges }
    }

    /// Where the moment `at` lies.
    fn position(&self, at: Duration) -> f64 {
        let next = self.edges.partition_point(|&(_, end)| end < at);
        let Some(&(right, end)) = self.edges.get(next) else { return 1.0 };
        let Some(&(left, begin)) = next.checked_sub(1).and_then(|before| self.edges.get(before)) else {
            return 0.0;
        };
        let length = end.saturating_sub(begin).as_secs_f64();
        let done = if length > 0.0 { at.saturating_sub(begin).as_secs_f64() / length } else { 1.0 };
        left + (right - left) * done
    }
}

/// Draws the chart.
///
/// # Errors
/// [`Failure::Chart`] with what the drawing library says.
pub(crate) fn svg(outcome: &Outcome) -> Result<String, Failure> {
    let mut svg = String::new();
    draw(outcome, &mut svg).map_err(|error| Failure::Chart(error.to_string()))?;
    Ok(svg)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a> = ChartContext<
    'a,
    SVGBackend<'a>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn draw(outcome: &Outcome, svg: &mut String) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let axis = Axis::new(outcome.phases.iter().map(|phase| phase.end));
    let top = outcome.samples.iter().map(|sample| sample.rss.max(resident(sample) + sample.released));
    let top = mib(top.max().unwrap_or(0)).max(1.0) * 1.12;
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .margin_right(34)
        .x_label_area_size(60)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..1.0, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(10)
        .y_label_formatter(&|mib| format!("{mib:.0}"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_desc_style((FONT, 17).into_font().color(&INK))
        .x_desc("time since the start, in seconds (short phases are drawn wider)")
        .y_desc("memory, in MiB")
        .draw()?;
    draw_memory(&mut chart, outcome, &axis)?;
    draw_phases(&mut chart, &root, outcome, &axis, top)?;
    root.present()?;
    Ok(())
}

/// What a sample says about one thing, in bytes.
type Size = fn(&Sample) -> u64;

/// In use or free.
fn resident(sample: &Sample) -> u64 {
    sample.in_use + sample.free
}

/// The heap as areas that lie on each other, highest first, and the resident set as a line over them.
fn draw_memory(chart: &mut Chart<'_>, outcome: &Outcome, axis: &Axis) -> Drawn {
    let curve =
        |size: Size| outcome.samples.iter().map(move |sample| (axis.position(sample.at), mib(size(sample))));
    let areas: [(RGBColor, Size); 3] = [
        (RELEASED, |sample| resident(sample) + sample.released),
        (FREE, resident),
        (IN_USE, |sample| sample.in_use),
    ];
    for (colour, size) in areas {
        chart.draw_series(AreaSeries::new(curve(size), 0.0, colour.filled()))?;
    }
    chart.draw_series(LineSeries::new(curve(|sample| sample.rss), RSS.stroke_width(3)))?;
    Ok(())
}

/// A line where each phase ends, its name above the phase, and the time below the line.
fn draw_phases(chart: &mut Chart<'_>, root: &Area<'_>, outcome: &Outcome, axis: &Axis, top: f64) -> Drawn {
    let centred = |font: TextStyle<'static>| font.pos(Pos::new(HPos::Center, VPos::Top));
    let name_style = centred((FONT, 18).into_font().color(&INK));
    let time_style = centred((FONT, 16).into_font().color(&INK));
    let mut left = 0.0;
    for (phase, &(edge, end)) in outcome.phases.iter().zip(&axis.edges) {
        chart.draw_series(DashedLineSeries::new([(edge, 0.0), (edge, top)], 4, 4, INK.stroke_width(1)))?;
        let (x, y) = chart.backend_coord(&(edge, 0.0));
        root.draw(&Text::new(format!("{:.3}", end.as_secs_f64()), (x, y + 8), time_style.clone()))?;
        if phase.name != Name::Start {
            let (x, y) = chart.backend_coord(&(f64::midpoint(left, edge), top));
            root.draw(&Text::new(phase.name.as_str(), (x, y + 6), name_style.clone()))?;
        }
        left = edge;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_phases_stay_visible_and_order_is_kept() {
        let at = Duration::from_millis;
        let axis = Axis::new([0, 1000, 1001, 1002, 1003, 2003].into_iter().map(at));
        let widths: Vec<f64> = axis.edges.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(widths.iter().all(|&width| width > 0.08), "{widths:?}");
        assert_eq!((axis.position(at(0)), axis.position(at(2003))), (0.0, 1.0));
        assert_eq!(axis.position(at(9999)), 1.0);
        let positions: Vec<f64> = (0..=2003).map(|time| axis.position(at(time))).collect();
        assert!(positions.is_sorted());
    }

    #[test]
    fn a_run_without_length_has_an_axis() {
        let axis = Axis::new([Duration::ZERO; 6].into_iter());
        assert!(axis.position(Duration::ZERO).is_finite());
    }
}
