//! What the experiments in `examples/` share: child processes, curves from what these print, and the report.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::parent::args::Args;
use crate::parent::child::{self, target_dir};
use crate::show::chart::{Chart, Curve, DARK, LIGHT};
use crate::show::page;
use crate::show::table::Table;

/// Runs this program again as `child WORDS..` with these variables, and reads the line of JSON that it prints.
///
/// # Errors
/// If it cannot be run, fails, or prints anything else.
pub fn run_self(words: &[&str], variables: &[(&str, &str)]) -> Result<Value, String> {
    child::run_self(&[&["child"], words].concat(), variables, &words.join(" "))
}

/// The whole of an experiment's `main`: `parent`, or, in a process that [`run_self`] started, `child` with its words. An
/// error is one line under the experiment's `name`.
pub fn run(
    name: &str,
    parent: impl FnOnce() -> Result<(), String>,
    child: impl FnOnce(&[String]) -> Result<(), String>,
) -> ExitCode {
    let mut words = std::env::args().skip(1);
    let result = match words.next() {
        Some(first) if first == "child" => child(&words.collect::<Vec<_>>()),
        _ => parent(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The `column`-th size in the `points` of a child, from 1 on, as a curve.
#[must_use]
pub fn curve(name: &str, outcome: &Value, column: usize) -> Curve {
    let rows = outcome["points"].as_array().map_or(&[][..], Vec::as_slice);
    let mib = |value: &Value| value.as_f64().map(|bytes| bytes / f64::from(1 << 20));
    let points = rows.iter().filter_map(|row| Some((row[0].as_f64()?, mib(&row[column])?)));
    Curve { name: name.to_owned(), points: points.collect() }
}

/// Prints the table and writes the page, to `<target>/NAME.html` unless the options name a file.
///
/// # Errors
/// If the page cannot be drawn or written.
pub fn report(name: &str, args: &Args, lead: &str, charts: &[Chart], table: &Table) -> Result<(), String> {
    println!("{lead}\n\n{table}");
    let path = match &args.html {
        Some(path) => path.clone(),
        None => target_dir()?.join(format!("{name}.html")),
    };
    write(&path, &page::html(&format!("ebbtide: {name}"), lead, charts, table)?)?;
    println!("chart: {}", path.display());
    Ok(())
}

/// Writes `chart` to `NAME-light.svg` and `NAME-dark.svg` in the folder of `--svg`, if there is one.
///
/// # Errors
/// If it cannot be drawn or written.
pub fn pictures(name: &str, args: &Args, chart: &Chart) -> Result<(), String> {
    let Some(folder) = &args.svg else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for (theme, kind) in [(LIGHT, "light"), (DARK, "dark")] {
        let path = folder.join(format!("{name}-{kind}.svg"));
        write(&path, &chart.picture(theme)?)?;
        println!("picture: {}", path.display());
    }
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
