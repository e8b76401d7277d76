//! The workspace's Rust files, with a copy of each in which comments and literals are blanked.

use std::fs;
use std::path::{Path, PathBuf};

/// The packages' folders, lowest layer first.
pub(crate) const PACKAGES: [&str; 8] =
    ["alloc", "alloc/preload", "map", "runtime", "runtime/cli", "tests", "benches", "fuzz"];

/// One file.
pub(crate) struct Source {
    /// Relative to the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with every comment, string and character literal replaced by blanks; lines stay where they are.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Self {
        let code = blank(&text);
        Self { path, text, code }
    }

    /// The 1-based number of the line that holds byte `at`.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_path_buf()
}

/// All Rust files of all packages, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    for package in PACKAGES {
        for folder in ["src", "tests", "benches", "examples"] {
            walk(&root.join(package).join(folder), &mut paths);
        }
    }
    paths.sort();
    assert!(paths.len() > 20, "the walk finds the workspace");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        let relative = path.strip_prefix(&root).expect("it was found under the root");
        Source::new(relative.to_str().expect("sources have plain names").to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Length of the comment or literal that starts at `at`, if one does.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => Some(rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment(rest)),
        [b'"', ..] => Some(quoted(rest, b'"')),
        [b'r', b'"' | b'#', ..] if at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b' => {
            raw_string(rest)
        }
        [b'\'', b'\\', ..] => Some(quoted(rest, b'\'')),
        // One character, of up to four bytes, and a quote: else it is a lifetime.
        [b'\'', first, ..] => {
            let len = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            (rest.get(1 + len) == Some(&b'\'')).then_some(len + 2)
        }
        _ => None,
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `r"..."` and `r##"..."##`; None for a raw identifier such as `r#type`.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close = |at: &usize| {
        rest[*at] == b'"' && rest[at + 1..].iter().take(hashes).filter(|&&b| b == b'#').count() == hashes
    };
    let end = (hashes + 2..rest.len()).find(close)?;
    Some(end + 1 + hashes)
}

/// The text with comments and literals replaced by blanks.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let len = skip(bytes, at).unwrap_or(0);
        for &byte in &bytes[at..at + len] {
            code.push(if byte == b'\n' { '\n' } else { ' ' });
        }
        at += len;
        if len == 0 {
            // Outside literals and comments Rust is ASCII in this workspace; anything else becomes a blank byte.
            code.push(if bytes[at].is_ascii() { char::from(bytes[at]) } else { ' ' });
            at += 1;
        }
    }
    code
}

#[test]
fn blanks_comments_and_literals_only() {
    let text = "let a = \"fn { \\\" //\"; // }\nlet b = '{'; let c: &'static str = r#\"} \"# ; /* { /* } */ */ fn f() {}";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('\n').count(), 1);
    assert_eq!(code.matches(['{', '}']).count(), 2, "{code}");
    assert!(code.contains("'static str") && code.contains("fn f() {}"));
}
