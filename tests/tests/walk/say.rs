//! Lines on stderr that take no lock and no heap memory: for signal handlers, for a process whose heap is stuck, and for the
//! child of a fork, in which a lock of std's stderr may be held for ever.
#![allow(unsafe_code, reason = "write is a libc function")]

use std::fmt::{self, Write};

/// Longer lines are cut.
const LONGEST: usize = 1000;

struct Line {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte is kept for the end of the line.
        let room = LONGEST - 1 - self.len;
        let taken = text.len().min(room);
        self.bytes[self.len..self.len + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Writes one line in one call.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LONGEST], len: 0 };
    let _ = line.write_fmt(format_args!("walk {}: {text}", std::process::id()));
    line.bytes[line.len] = b'\n';
    // SAFETY: the buffer holds `len + 1` initialized bytes.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len + 1) };
}
