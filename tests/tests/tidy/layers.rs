//! Which layer may name which, and who may talk to the kernel.

use crate::source::{Source, is_word};

/// Crates that the files under a folder must not name. Tests stand above the product, and benches above tests.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("alloc/src/", &["ebbtide_map", "ebbtide", "ebbtide_tests", "ebbtide_benches"]),
    ("map/src/", &["ebbtide", "ebbtide_tests", "ebbtide_benches"]),
    ("runtime/src/", &["ebbtide_cli", "ebbtide_tests", "ebbtide_benches"]),
    ("runtime/cli/", &["ebbtide_tests", "ebbtide_benches"]),
    ("tests/", &["ebbtide_benches"]),
];

/// Files outside `alloc/src/os/` that may use libc, and what for.
const SYSTEM_CALLS: [(&str, &str); 1] = [(
    "runtime/src/kernel/",
    "the layer's one room of system calls: stderr, environment, clocks, threads, files",
)];

/// Positions at which `name` stands as a whole word.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(name).map(|(at, _)| at).filter(move |&at| {
        let end = at + name.len();
        (at == 0 || !is_word(bytes[at - 1])) && (end == bytes.len() || !is_word(bytes[end]))
    })
}

/// Positions at which the crate `name` is used: `name::`, `use name;`, or `use name as`.
fn crate_uses<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, name).filter(move |&at| {
        let before = code[..at].trim_end();
        let after = &code[at + name.len()..];
        // The end of a longer path such as `crate::ebbtide::`, or a field, is not the crate; `::ebbtide::` is.
        let path = before.strip_suffix("::");
        let inner =
            before.ends_with('.') || path.is_some_and(|path| path.bytes().last().is_some_and(is_word));
        !inner && (after.starts_with("::") || before.ends_with("use"))
    })
}

pub(crate) fn upward_names(source: &Source) -> Vec<String> {
    let Some((_, forbidden)) = FORBIDDEN.iter().find(|(folder, _)| source.path.starts_with(folder)) else {
        return Vec::new();
    };
    let found = |name: &'static str| {
        crate_uses(&source.code, name).map(move |at| format!("{}:{}: {name}", source.path, source.line(at)))
    };
    forbidden.iter().flat_map(|name| found(name)).collect()
}

pub(crate) fn system_calls(source: &Source) -> Vec<String> {
    let product = ["alloc/", "map/", "runtime/"].iter().any(|folder| source.path.starts_with(folder));
    let tests = source.path.contains("/tests/")
        || source.path.contains("/benches/")
        || source.path.contains("/examples/");
    let allowed = source.path.starts_with("alloc/src/os/")
        || SYSTEM_CALLS.iter().any(|(path, _)| source.path.starts_with(path));
    if !product || tests || allowed {
        return Vec::new();
    }
    // Unit tests may ask the kernel what happened.
    let end = source.code.find("#[cfg(test)]\nmod ").unwrap_or(source.code.len());
    let uses = crate_uses(&source.code[..end], "libc");
    uses.map(|at| format!("{}:{}", source.path, source.line(at))).collect()
}

pub(crate) fn unsafe_without_reason(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, _) in source.code.match_indices("unsafe_code") {
        let attribute = &source.code[..at];
        let Some(start) = attribute.rfind("#") else { continue };
        let end = source.code[at..].find(']').map_or(source.code.len(), |len| at + len);
        if !source.code[start..end].contains("reason") {
            findings.push(format!("{}:{}", source.path, source.line(at)));
        }
    }
    findings
}

#[test]
fn sees_uses_and_only_uses() {
    let uses = |code, name| crate_uses(code, name).count();
    assert_eq!(uses("use ebbtide::Policy; ebbtide_map::X; let ebbtide = 1;", "ebbtide"), 1);
    assert_eq!(uses("crate::ebbtide::x(); self.ebbtide::<u8>();", "ebbtide"), 0);
    assert_eq!(uses("unsafe { libc::mmap() }; use libc;", "libc"), 2);
    let bad = Source::new("map/src/x.rs".to_owned(), "use ebbtide::Policy;".to_owned());
    assert_eq!(upward_names(&bad), ["map/src/x.rs:1: ebbtide"]);
    let bad = Source::new("alloc/src/x.rs".to_owned(), "\nfn f() { libc::mmap() }".to_owned());
    assert_eq!(system_calls(&bad), ["alloc/src/x.rs:2"]);
    let bad = Source::new("map/src/x.rs".to_owned(), "#![allow(unsafe_code)]".to_owned());
    assert_eq!(unsafe_without_reason(&bad).len(), 1);
}
