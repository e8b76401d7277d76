//! The rooms of each package: folders of `src`, highest first. A room may use only those below it, and no files go round
//! in a circle. Files beside the rooms are composition: they stand above all of them.

use crate::imports::{Edge, Graph, circles};
use crate::source::Source;

/// A package's sources, and its rooms.
pub(crate) type Package = (&'static str, &'static [&'static str]);

/// Every package with a library or a program of more than one file.
pub(crate) const PACKAGES: &[Package] = &[
    ("alloc/src", &["release", "inspect", "cache", "spans", "pages", "space", "os", "base"]),
    ("map/src", &["impls", "set", "map", "table", "generation", "stats"]),
    ("runtime/src", &["start", "testing", "governor", "events", "kernel", "policy"]),
    ("runtime/cli/src", &["demo", "command"]),
    ("tests/src", &[]),
    ("benches/src", &["parent", "scenarios", "workloads", "show", "measure"]),
];

/// The place of a file's room among the package's, from the top; None for a folder that is not listed.
fn level(path: &[String], rooms: &[&str], has_rooms: impl Fn(&str) -> bool) -> Option<usize> {
    match path.first() {
        Some(first) if has_rooms(first) => rooms.iter().position(|room| room == first).map(|at| at + 1),
        _ => Some(0),
    }
}

pub(crate) fn findings(sources: &[Source], (folder, rooms): Package) -> Vec<String> {
    let graph = Graph::new(sources, folder);
    let edges = graph.edges();
    let is_folder =
        |name: &str| sources.iter().any(|source| source.path.starts_with(&format!("{folder}/{name}/")));
    let mut found = Vec::new();
    let mut check = |edge: &Edge, what: &str, fits: fn(usize, usize) -> bool| {
        let [from, to] = [&edge.from, &edge.to].map(|path| level(path, rooms, is_folder));
        if !matches!((from, to), (Some(from), Some(to)) if fits(from, to)) {
            found.push(format!("{}:{}: {what} {}", graph.file(&edge.from), edge.line, graph.file(&edge.to)));
        }
    };
    edges.iter().for_each(|edge| check(edge, "uses", |from, to| from <= to));
    graph
        .methods_elsewhere()
        .iter()
        .for_each(|edge| check(edge, "has methods of a type of", |from, to| from == to));
    for circle in circles(&edges) {
        let files: Vec<&str> = circle.iter().map(|path| graph.file(path)).collect();
        found.push(format!("a circle: {}", files.join(", ")));
    }
    found
}

#[test]
fn finds_upward_uses_and_unlisted_rooms() {
    let file = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let sources = [
        file("x/src/lib.rs", "mod low; mod high; use high::a::A;"),
        file("x/src/low/mod.rs", "use crate::high::a::A; impl A { fn f() {} }"),
        file("x/src/high/mod.rs", "pub mod a;"),
        file("x/src/high/a.rs", "pub struct A;"),
    ];
    let of = |rooms| findings(&sources, ("x/src", rooms)).len();
    assert_eq!(of(&["high", "low"]), 2, "an import, and methods");
    assert_eq!(of(&["low", "high"]), 1, "methods");
    assert_eq!(of(&["low"]), 3, "two that use a room that is not listed, and methods");
}
