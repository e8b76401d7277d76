//! [`Path`]: a path that needs no heap memory, since it may be made inside an allocation. No locks.

/// The longest path that is followed. A group below a longer one counts as the nearest group above that is not.
const LONGEST: usize = 512;

/// A path, or a part of one. Invariant: what lies behind `len` is 0, and that is one byte at least.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Path {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }

    /// `None` if it is too long, or no path.
    pub(super) fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut path = Self::new();
        for part in parts {
            path.push(part)?;
        }
        Some(path)
    }

    /// `root` and as many whole names of `below` as fit behind it. `None` if `root` itself is too long, or this is no path.
    pub(super) fn nearest(root: &[u8], below: &[u8]) -> Option<Self> {
        let mut path = Self::of(&[root])?;
        let room = LONGEST - 1 - path.len;
        // One byte more than there is room for: a name may end right before it.
        let fits = match below.get(..=room) {
            Some(start) => start.iter().rposition(|byte| *byte == b'/').and_then(|end| start.get(..end)),
            None => Some(below),
        };
        path.push(fits.unwrap_or_default())?;
        Some(path)
    }

    /// A path as `/proc/self/mountinfo` writes it: blanks, line ends and backslashes as three octal digits.
    pub(super) fn unescaped(text: &[u8]) -> Option<Self> {
        let mut path = Self::new();
        let mut rest = text;
        while let Some((first, behind)) = rest.split_first() {
            let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(octal);
            match octal {
                Some(byte) => {
                    path.push(&[byte])?;
                    rest = behind.get(3..).unwrap_or_default();
                }
                None => {
                    path.push(&[*first])?;
                    rest = behind;
                }
            }
        }
        Some(path)
    }

    fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.len.checked_add(part.len()).filter(|end| *end < LONGEST)?;
        if part.contains(&0) {
            return None;
        }
        self.bytes.get_mut(self.len..end)?.copy_from_slice(part);
        self.len = end;
        Some(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// For the kernel: with a 0 at its end.
    pub(crate) fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// A number that stands for the path: FNV-1a of 64 bits, never 0.
    pub(super) fn number(&self) -> u64 {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix).max(1)
    }

    /// The folder above, no shorter than `root` bytes. False if there is none.
    pub(super) fn cut(&mut self, root: usize) -> bool {
        let Some(at) = self.as_bytes().iter().rposition(|byte| *byte == b'/').filter(|at| *at >= root) else {
            return false;
        };
        if let Some(rest) = self.bytes.get_mut(at..self.len) {
            rest.fill(0);
        }
        self.len = at;
        true
    }
}

/// The byte that three octal digits name.
fn octal(digits: &[u8]) -> Option<u8> {
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        (b'0'..=b'7').contains(digit).then(|| number * 8 + u32::from(digit - b'0'))
    })?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(text: &str) -> Option<String> {
        Path::unescaped(text.as_bytes()).map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned())
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescaped(r"/a\040b\134c\011").as_deref(), Some("/a b\\c\t"));
        for text in ["/a", r"\", r"\04", r"\08x", r"\400", r"\999", ""] {
            assert_eq!(unescaped(text).as_deref(), Some(text), "no escape");
        }
        assert_eq!(unescaped(r"/a\000b"), None, "no path has a zero");
        assert_eq!(unescaped(&"/x".repeat(300)), None, "too long");
        assert_eq!(unescaped(&r"\040".repeat(511)), Some(" ".repeat(511)));
    }

    #[test]
    fn a_path_is_cut_to_its_root() {
        let mut path = Path::of(&[b"/mnt", b"/a/b"]).expect("short");
        assert!(path.cut(4) && path.as_bytes() == b"/mnt/a");
        assert!(path.cut(4) && path.as_bytes() == b"/mnt" && !path.cut(4));
        assert_eq!(path.as_c_str(), c"/mnt");
    }

    #[test]
    fn paths_have_numbers_of_their_own() {
        let number = |text: &str| Path::of(&[text.as_bytes()]).expect("short").number();
        assert_eq!(number("/a/memory.max"), number("/a/memory.max"));
        assert_ne!(number("/a/memory.max"), number("/a/memory.high"));
        assert_ne!(number(""), 0);
    }
}
