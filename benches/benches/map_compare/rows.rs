//! [`Rows`]: what is printed. One number of each map, measured in turns.

use std::time::Instant;

use ebbtide_benches::parent::args::Args;
use ebbtide_benches::show::summary::median;
use ebbtide_benches::show::table::{Table, number};
use serde_json::{Value, json};

/// One number of each map, in the order of the columns.
pub(crate) type Three<T> = [T; 3];

struct Row {
    name: String,
    unit: &'static str,
    numbers: Three<f64>,
}

/// The rows so far, and which ones are wanted.
pub(crate) struct Rows<'a> {
    pub(crate) args: &'a Args,
    rows: Vec<Row>,
}

impl<'a> Rows<'a> {
    pub(crate) const fn new(args: &'a Args) -> Self {
        Self { args, rows: Vec::new() }
    }

    /// Operations of one measurement: small maps repeat until about this many are done.
    pub(crate) const fn ops(&self) -> usize {
        if self.args.quick { 500_000 } else { 2_000_000 }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.args.wants_row(name)
    }

    pub(crate) fn add(&mut self, name: String, unit: &'static str, numbers: Three<f64>) {
        if self.wants(&name) {
            self.rows.push(Row { name, unit, numbers });
        }
    }

    /// Runs all sides in turns and adds the row of their medians, in nanoseconds.
    pub(crate) fn alternate(&mut self, name: String, mut sides: Three<&mut dyn FnMut() -> f64>) {
        if !self.wants(&name) {
            return;
        }
        eprintln!("{name}");
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..self.args.rounds {
            for (times, side) in times.iter_mut().zip(&mut sides) {
                times.push(side());
            }
        }
        self.add(name, "ns", times.each_ref().map(|times| median(times)));
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new([
            "u64 -> u64",
            "unit",
            "ebbtide",
            "hashbrown",
            "hashbrown on libc",
            "ebbtide/hashbrown",
            "ebbtide/hashbrown on libc",
        ]);
        for Row { name, unit, numbers: [ours, theirs, plain] } in &self.rows {
            let cells = [*ours, *theirs, *plain, ours / theirs, ours / plain].map(number);
            table.row([name.clone(), (*unit).to_owned()].into_iter().chain(cells));
        }
        table
    }

    pub(crate) fn json(&self) -> Value {
        let row = |Row { name, unit, numbers: [ours, theirs, plain] }: &Row| json!({ "row": name, "unit": unit, "ebbtide": ours, "hashbrown": theirs, "hashbrown_on_libc": plain });
        self.rows.iter().map(row).collect()
    }
}

/// The same function for each map: `sides!(insert(len, 0, ops))`.
macro_rules! sides {
    ($function:ident($($argument:expr),*)) => {
        [
            &mut || $function::<ebbtide_benches::workloads::maps::Ebbtide>($($argument),*),
            &mut || $function::<ebbtide_benches::workloads::maps::Hashbrown>($($argument),*),
            &mut || $function::<ebbtide_benches::workloads::maps::Plain>($($argument),*),
        ]
    };
}
pub(crate) use sides;

/// Lengths as people say them: `1k`, `8M`.
pub(crate) fn named(what: &str, len: usize) -> String {
    match len {
        len if len >= 1_000_000 => format!("{what} {}M", len / 1_000_000),
        len if len >= 1000 => format!("{what} {}k", len / 1000),
        len => format!("{what} {len}"),
    }
}

/// Nanoseconds per operation of `work`, which does `ops`.
pub(crate) fn time(ops: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / ops as f64
}
