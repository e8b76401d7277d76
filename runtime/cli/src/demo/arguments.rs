//! [`Arguments`]: what the demo takes from the command line.

use clap::Args;
use ebbtide::Policy;
use std::path::PathBuf;

/// What the demo takes.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Files or folders of text to index [default: the Rust sources of this workspace and of the dependencies that
    /// cargo unpacked]
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "entries")]
    pub(crate) input: Vec<PathBuf>,

    /// Index this many made-up keys instead of files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) entries: Option<u32>,

    /// How much of the index survives the deletion: its newest entries
    #[arg(long, value_name = "PERCENT", default_value_t = 5, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) keep: u8,

    /// When memory goes back without being asked: off, percent:N or background:N
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Off)]
    pub(crate) policy: Policy,

    /// Print the phases as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a page with a chart of the run
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}
