//! [`Corpus`]: the text files to index. Files are read one after another into one buffer, so that reading adds a
//! single large block to the heap, and only while it lasts.
//!
//! What the command line names must be readable. What is found inside folders may be anything: files that are not
//! UTF-8 or cannot be read are counted and skipped.

use super::paths::Paths;
use crate::command::Failure;
use crate::command::output::mib;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The default input ends with the file that reaches this size: enough for a clear picture within seconds.
const DEFAULT_BYTES: u64 = 128 << 20;

/// Files in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Corpus {
    files: Paths,
    bytes: u64,
    largest: u64,
    unreadable: u64,
    over_limit: u64,
}

impl Corpus {
    /// The files and folders that the command line names; folders with all that is in them, except repositories and
    /// cargo's build output.
    ///
    /// # Errors
    /// [`Failure::Input`] when one of them cannot be read, or is a file that is not UTF-8.
    pub(crate) fn named(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut corpus = Self::default();
        for path in paths {
            corpus.add_named(path).map_err(|error| Failure::Input { path: path.clone(), error })?;
        }
        corpus.files.shrink_to_fit();
        Ok(corpus)
    }

    fn add_named(&mut self, path: &Path) -> io::Result<()> {
        let kind = fs::metadata(path)?;
        if kind.is_dir() {
            fs::read_dir(path)?;
            self.add_folder(path, |_| true, u64::MAX);
        } else if kind.is_file() {
            let mut buffer = Vec::new();
            read_text(path, &mut buffer)?;
            self.add_file(path, kind.len());
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder"));
        }
        Ok(())
    }

    /// The Rust sources of this workspace, then of the dependencies that cargo unpacked.
    ///
    /// # Errors
    /// [`Failure::NoInput`] when there are none.
    pub(crate) fn default_sources() -> Result<Self, Failure> {
        let mut corpus = Self::default();
        for folder in workspace_root().into_iter().chain(registry_sources()) {
            corpus.add_folder(&folder, is_rust, DEFAULT_BYTES);
        }
        corpus.files.shrink_to_fit();
        if corpus.files.len() == 0 { Err(Failure::NoInput) } else { Ok(corpus) }
    }

    fn add_folder(&mut self, folder: &Path, wanted: fn(&Path) -> bool, limit: u64) {
        let walk = WalkDir::new(folder).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_build_output(entry)) {
            let Ok(entry) = entry else {
                self.unreadable += 1;
                continue;
            };
            if !entry.file_type().is_file() || !wanted(entry.path()) {
                continue;
            }
            match entry.metadata() {
                Ok(_) if self.bytes >= limit => self.over_limit += 1,
                Ok(metadata) => self.add_file(entry.path(), metadata.len()),
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn add_file(&mut self, path: &Path, bytes: u64) {
        self.files.push(path);
        self.bytes += bytes;
        self.largest = self.largest.max(bytes);
    }

    /// The size of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads every file and hands its number and text to `each`. Returns how many could not be read as text.
    pub(crate) fn read(&self, mut each: impl FnMut(u32, &str)) -> u64 {
        // One more than the largest file, so that reading it to its end needs no growth.
        let mut buffer = Vec::with_capacity(usize::try_from(self.largest).unwrap_or(0).saturating_add(1));
        let mut unreadable = 0;
        for (number, path) in self.files.iter().enumerate() {
            match read_text(path, &mut buffer) {
                Ok(text) => each(u32::try_from(number).unwrap_or(u32::MAX), text),
                Err(_) => unreadable += 1,
            }
        }
        unreadable
    }

    /// What was read, for people: `unreadable` files were found so while reading.
    pub(crate) fn describe(&self, unreadable: u64) -> String {
        let skipped = self.unreadable + unreadable;
        let mut text = format!("{} files, {:.1} MiB", self.files.len() as u64 - unreadable, mib(self.bytes));
        if skipped > 0 {
            text += &format!(", {skipped} skipped (not readable as UTF-8 text)");
        }
        if self.over_limit > 0 {
            let limit = mib(DEFAULT_BYTES);
            text +=
                &format!(", {} more left out (the default input ends at {limit:.0} MiB)", self.over_limit);
        }
        text
    }
}

/// Reads `path` into `buffer`, which keeps its capacity from file to file.
fn read_text<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> io::Result<&'a str> {
    buffer.clear();
    File::open(path)?.read_to_end(buffer)?;
    std::str::from_utf8(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Folders whose text nobody wrote: build output and repositories.
fn is_build_output(entry: &DirEntry) -> bool {
    entry.file_type().is_dir() && (entry.file_name() == ".git" || entry.path().join("CACHEDIR.TAG").is_file())
}

/// The nearest folder at or above the current one, else at or above the one this was built in, whose manifest
/// declares a workspace.
fn workspace_root() -> Option<PathBuf> {
    let current = env::current_dir().ok();
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    current.into_iter().chain([built]).find_map(|start| {
        let declares = |folder: &&Path| {
            fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
        };
        start.ancestors().find(declares).map(Path::to_path_buf)
    })
}

/// The folders into which cargo unpacked the registries' packages.
fn registry_sources() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let Some(Ok(folders)) = home.map(|home| fs::read_dir(home.join("registry").join("src"))) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = folders.filter_map(Result::ok).map(|folder| folder.path()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_what_is_not_text_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("b.txt"), "second").expect("written");
        fs::write(folder.path().join("a.txt"), "first").expect("written");
        fs::write(folder.path().join("c.bin"), b"\xff\xfe").expect("written");
        fs::create_dir(folder.path().join(".git")).expect("made");
        fs::write(folder.path().join(".git/d.txt"), "not ours").expect("written");
        let corpus = Corpus::named(&[folder.path().to_path_buf()]).expect("readable");
        let mut seen = Vec::new();
        let unreadable = corpus.read(|number, text| seen.push((number, text.to_owned())));
        assert_eq!(seen, [(0, "first".to_owned()), (1, "second".to_owned())]);
        assert_eq!(unreadable, 1);
        assert!(corpus.describe(unreadable).starts_with("2 files, 0.0 MiB, 1 skipped"));
    }

    #[test]
    fn a_named_input_must_be_readable_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("binary");
        fs::write(&binary, b"\xff").expect("written");
        for wrong in [binary, folder.path().join("missing"), PathBuf::from("/dev/null")] {
            let failure = Corpus::named(std::slice::from_ref(&wrong)).expect_err("unreadable");
            assert!(matches!(&failure, Failure::Input { path, .. } if *path == wrong), "{failure}");
        }
    }

    #[test]
    fn folders_stop_at_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.rs", "b.rs", "c.rs", "d.txt"] {
            fs::write(folder.path().join(name), "0123456789").expect("written");
        }
        let mut corpus = Corpus::default();
        corpus.add_folder(folder.path(), is_rust, 15);
        assert_eq!((corpus.files.len(), corpus.bytes, corpus.over_limit), (2, 20, 1));
        assert!(corpus.describe(0).contains("1 more left out"));
    }
}
