//! Where a command writes, and numbers as it prints them.

use super::failure::Failure;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

/// Finds out before the work starts whether `path` can be written. It leaves an existing file as it is.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| Failure::Report { path: path.to_path_buf(), error })
}

/// Prints to standard output. That nobody reads it any more is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Bytes as MiB, to print.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
