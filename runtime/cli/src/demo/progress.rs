//! [`Progress`]: a bar on stderr, where stderr is a terminal; else nothing. indicatif draws it a few times a second
//! from the thread that advances it, under a lock of its own.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// A bar, or nothing.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for this much work.
    pub(crate) fn new(work: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(work), ProgressDrawTarget::stderr_with_hz(8));
        let style = ProgressStyle::with_template("indexing {wide_bar} {percent:>3} %");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// So much more is done.
    pub(crate) fn advance(&self, work: u64) {
        self.0.inc(work);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
