//! [`Failure`]: why the command ends early, in one line each, and the exit code of each.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why the command could not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An input that the command line names cannot be read.
    Input { path: PathBuf, error: io::Error },
    /// No input was named and the default found none.
    NoInput,
    /// The report cannot be written where the command line says.
    Report { path: PathBuf, error: io::Error },
    /// The report was promising, but writing it failed.
    ReportWrite { path: PathBuf, error: io::Error },
    /// The chart could not be drawn.
    Chart(String),
    /// Standard output is there but does not take what is written.
    Output(io::Error),
}

impl Failure {
    /// The exit code that `--help` promises.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input { .. } | Self::NoInput | Self::Report { .. } => ExitCode::from(2),
            Self::ReportWrite { .. } | Self::Chart(_) | Self::Output(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { path, error } => write!(f, "cannot read --input {}: {error}", path.display()),
            Self::NoInput => f.write_str(
                "found no Rust sources to index, neither in this folder nor of cargo's dependencies; \
                 name some text with --input, or use --entries",
            ),
            Self::Report { path, error } => write!(f, "cannot write --report {}: {error}", path.display()),
            Self::ReportWrite { path, error } => write!(f, "writing the report {}: {error}", path.display()),
            Self::Chart(error) => write!(f, "drawing the chart: {error}"),
            Self::Output(error) => write!(f, "writing to standard output: {error}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Input { error, .. } | Self::Report { error, .. } | Self::ReportWrite { error, .. } => {
                Some(error)
            }
            Self::Output(error) => Some(error),
            Self::NoInput | Self::Chart(_) => None,
        }
    }
}
