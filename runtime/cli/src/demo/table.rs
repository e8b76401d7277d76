//! The phases as a table, for the terminal and for the report.

use super::phases::{Outcome, Phase};
use crate::command::output::mib;
use comfy_table::{CellAlignment, Table, presets};
use std::time::Duration;

const COLUMNS: usize = 11;

/// Heads of the columns. Sizes are in MiB.
pub(crate) const HEADS: [&str; COLUMNS] = [
    "phase",
    "entries",
    "capacity",
    "logical",
    "live",
    "in use",
    "free",
    "released",
    "RSS",
    "longest op",
    "took",
];

/// The columns of one phase.
pub(crate) fn row(phase: &Phase) -> [String; COLUMNS] {
    let size = |bytes| format!("{:.1}", mib(bytes));
    [
        phase.name.as_str().to_owned(),
        phase.len.to_string(),
        phase.capacity.to_string(),
        size(phase.logical_bytes),
        size(phase.stats.heap_alloc),
        size(phase.stats.heap_inuse),
        size(phase.stats.heap_free),
        size(phase.stats.heap_released),
        size(phase.stats.rss),
        time(phase.longest),
        time(phase.elapsed),
    ]
}

/// What the columns mean.
pub(crate) const NOTE: &str = "Sizes in MiB. Logical: what the entries need; live: in objects; in use: pages of live \
     objects, which fill after they were allocated; free: idle and resident; released: idle and not resident. \
     Longest op: one insert, remove or shrink of the map, or the release.";

/// The table for a terminal.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADS);
    for phase in &outcome.phases {
        table.add_row(row(phase));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{NOTE}")
}

/// A time with three digits or so and its unit.
fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 {
        format!("{micros:.1} us")
    } else if micros < 1e6 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fitting_units() {
        assert_eq!(time(Duration::from_nanos(400)), "0.4 us");
        assert_eq!(time(Duration::from_micros(1_500)), "1.5 ms");
        assert_eq!(time(Duration::from_millis(2_340)), "2.34 s");
    }
}
