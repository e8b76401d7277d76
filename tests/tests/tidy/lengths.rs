//! Lengths of files and functions, and leftovers.

use crate::source::{Source, is_word};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Where the unit tests of a file begin: they do not count.
fn tests_start(code: &str) -> usize {
    code.find("#[cfg(test)]\nmod ").unwrap_or(code.len())
}

pub(crate) fn long_file(source: &Source) -> Vec<String> {
    let lines = source.code[..tests_start(&source.code)].lines().count();
    if lines > FILE_LINES { vec![format!("{}: {lines} lines", source.path)] } else { Vec::new() }
}

/// Every `fn` with a body: its name, where it starts and where its body ends.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(bytes[at - 1]) {
            continue;
        }
        let name = code[at + 3..].trim_start();
        let name = &name[..name.bytes().position(|byte| !is_word(byte)).unwrap_or(name.len())];
        if let (false, Some(end)) = (name.is_empty(), body_end(bytes, at)) {
            found.push((name, at, end));
        }
    }
    found
}

/// The end of the first block at depth 0 after `at`; None where a semicolon comes first, as in a trait.
fn body_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (index, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.checked_sub(1)?,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

pub(crate) fn long_functions(source: &Source) -> Vec<String> {
    let code = &source.code[..tests_start(&source.code)];
    let mut findings = Vec::new();
    for (name, start, end) in functions(code) {
        let lines = code[start..=end].matches('\n').count() + 1;
        if lines > FUNCTION_LINES {
            findings.push(format!("{}:{}: fn {name} has {lines} lines", source.path, source.line(start)));
        }
    }
    findings
}

/// Words that say that something is unfinished. Put together here so that this file does not find itself.
fn leftover_words() -> [String; 4] {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|parts| parts.concat())
}

pub(crate) fn leftovers(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        if words.any(|word| leftover_words().iter().any(|leftover| word == leftover)) {
            findings.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
        }
        for call in ["todo!(", "unimplemented!(", "dbg!("] {
            if source.code.lines().nth(number).is_some_and(|code| code.contains(call)) {
                findings.push(format!("{}:{}: {call})", source.path, number + 1));
            }
        }
    }
    findings
}

#[test]
fn finds_what_is_too_long() {
    let body = "    let x = [1; 2];\n".repeat(80);
    let text = format!("//! x\ntrait T {{ fn a(x: [u8; 3]); }}\nfn short() {{}}\nfn long() {{\n{body}}}\n");
    let source = Source::new("x.rs".to_owned(), text);
    assert_eq!(long_functions(&source), ["x.rs:4: fn long has 82 lines"]);
    assert!(long_file(&source).is_empty());
    let source = Source::new("x.rs".to_owned(), "//\n".repeat(501));
    assert_eq!(long_file(&source), ["x.rs: 501 lines"]);
    let source = Source::new("x.rs".to_owned(), format!("// {}: later\n", leftover_words()[0]));
    assert_eq!(leftovers(&source).len(), 1);
}
