//! `ebbtide demo`: the difference between a logical shrink and a physical release, on real input.
//!
//! An index of words fills up, loses its oldest entries one by one, is shrunk, gives its memory back and fills up
//! again. Modules, from the bottom: [`arguments`], [`paths`], [`corpus`], [`source`] (words), [`index`], [`record`] (measurements),
//! [`phases`], and what shows them: [`summary`], [`table`], [`json`], [`chart`], [`report_html`]. One thread, no locks.

mod arguments;
mod chart;
mod corpus;
mod index;
mod json;
mod paths;
mod phases;
mod progress;
mod record;
mod report_html;
mod source;
mod summary;
mod table;

pub(crate) use arguments::Arguments;

use crate::command::Failure;
use crate::command::output::{check_writable, print};
use corpus::Corpus;
use phases::Outcome;
use source::Source;
use std::fs;

/// Runs the demo as `arguments` say.
///
/// # Errors
/// [`Failure`] says what was wrong with the command line, or what could not be written.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.report {
        check_writable(path)?;
    }
    let source = match arguments.entries {
        Some(entries) => Source::Synthetic(entries),
        None if arguments.input.is_empty() => Source::Files(Corpus::default_sources()?),
        None => Source::Files(Corpus::named(&arguments.input)?),
    };
    ebbtide::set_policy(arguments.policy);
    let outcome = phases::run(&source, arguments.keep);
    if let Some(path) = &arguments.report {
        fs::write(path, report_html::page(&outcome)?)
            .map_err(|error| Failure::ReportWrite { path: path.clone(), error })?;
    }
    print(&if arguments.json { json::text(&outcome) } else { text(&outcome) })
}

/// What people get to read.
fn text(outcome: &Outcome) -> String {
    let lines = [
        summary::setting(outcome),
        table::text(outcome),
        summary::sentence(outcome),
        summary::bound(outcome),
    ];
    let release = format!("Release: {}", outcome.release);
    format!("{}\n{release}\n", lines.join("\n"))
}
