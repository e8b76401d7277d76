//! The `ebbtide` command. It runs on the allocator that it shows.
//!
//! No locks of its own. A reader who closes the pipe ends it quietly.

mod cli;
mod command;
mod demo;

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() -> ExitCode {
    let arguments = cli::Cli::parse().into_demo();
    match demo::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // When stderr is closed too, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "ebbtide: {failure}");
            failure.exit_code()
        }
    }
}
