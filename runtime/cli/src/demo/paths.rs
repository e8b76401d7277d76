//! [`Paths`]: a list of paths in one block of memory. It stays alive through the whole demo, so it is kept small: a
//! `PathBuf` for each of thousands of files would take more than the entries that the demo keeps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Paths, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`, and the next begins.
    ends: Vec<usize>,
}

impl Paths {
    pub(crate) fn push(&mut self, path: &Path) {
        self.bytes.extend_from_slice(path.as_os_str().as_bytes());
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let pieces = begins.zip(&self.ends).filter_map(|(begin, &end)| self.bytes.get(begin..end));
        pieces.map(|piece| Path::new(OsStr::from_bytes(piece)))
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_in_order_whatever_their_bytes() {
        let given =
            [Path::new("/a/b"), Path::new(""), Path::new(OsStr::from_bytes(b"\xff/c")), Path::new("/a/b")];
        let mut paths = Paths::default();
        given.iter().for_each(|path| paths.push(path));
        paths.shrink_to_fit();
        assert_eq!(paths.iter().collect::<Vec<_>>(), given);
        assert_eq!(paths.len(), 4);
    }
}
