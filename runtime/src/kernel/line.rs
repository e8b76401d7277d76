//! [`Line`]: one line of text on the stack, written to stderr with one `write`.
//!
//! Invariant: `len <= TEXT`, so that the newline always finds room, and the text is whole characters. It neither
//! allocates nor panics, so it may be used inside a free.

use crate::kernel;
use core::fmt;

/// Room for the text. Longer lines are cut.
const TEXT: usize = 511;

/// A line under construction.
pub(crate) struct Line {
    bytes: [u8; TEXT + 1],
    len: usize,
}

impl Line {
    /// The line that `arguments` print, cut at the last whole character that fits.
    pub(crate) fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [b'\n'; TEXT + 1], len: 0 };
        // `write_str` below never fails, and a Display that fails by itself leaves what it wrote so far.
        let _ = fmt::write(&mut line, arguments);
        line
    }

    /// The text with its newline.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..=self.len).unwrap_or_default()
    }

    /// Writes it to stderr.
    pub(crate) fn emit(&self) {
        kernel::write_stderr(self.as_bytes());
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(TEXT - self.len);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        let end = self.len + fits;
        if let (Some(room), Some(part)) = (self.bytes.get_mut(self.len..end), text.as_bytes().get(..fits)) {
            room.copy_from_slice(part);
        }
        self.len = end;
        if let Some(after) = self.bytes.get_mut(self.len) {
            *after = b'\n';
        }
        // A cut ends the line: what comes later would not stand where it belongs.
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_are_whole() {
        assert_eq!(Line::new(format_args!("a {} c", 7)).as_bytes(), b"a 7 c\n");
        assert_eq!(Line::new(format_args!("")).as_bytes(), b"\n");
    }

    #[test]
    fn a_line_that_just_fits_is_whole() {
        let text = "x".repeat(TEXT);
        assert_eq!(Line::new(format_args!("{text}")).as_bytes(), format!("{text}\n").as_bytes());
    }

    #[test]
    fn long_lines_are_cut_and_still_end() {
        let text = "x".repeat(TEXT);
        let line = Line::new(format_args!("{text}y{}", "z"));
        assert_eq!(line.as_bytes(), format!("{text}\n").as_bytes());
    }

    #[test]
    fn cuts_never_split_a_character() {
        for prefix in 0..4 {
            let text = format!("{}{}", "a".repeat(prefix), "\u{1f30a}".repeat(200));
            let line = Line::new(format_args!("{text}{}", "tail"));
            let kept = std::str::from_utf8(line.as_bytes()).expect("whole characters");
            assert!(text.starts_with(kept.trim_end_matches('\n')));
            assert!(kept.len() > TEXT - 4 && kept.ends_with('\n'));
        }
    }
}
