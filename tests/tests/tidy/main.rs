//! The style rules that a machine can check: file heads, lengths, layers, module trees, licences, leftovers.
//!
//! Each check collects all of its findings and fails with the list, so that one run shows everything.

mod imports;
mod layers;
mod lengths;
mod licences;
mod published;
mod rooms;
mod source;
mod tree;

use source::{Source, sources};

/// Fails with the findings, if there are any.
#[track_caller]
fn report(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

fn find(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(check).collect()
}

#[test]
fn every_file_says_what_it_is() {
    let bad = |source: &Source| match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![source.path.clone()],
    };
    report("files that do not open with `//!`", &find(bad));
}

#[test]
fn files_and_functions_are_short() {
    report("files of more than 500 lines before their tests", &find(lengths::long_file));
    report("functions of more than 70 lines", &find(lengths::long_functions));
}

#[test]
fn imports_point_down_the_layers() {
    report("names of a higher layer", &find(layers::upward_names));
}

#[test]
fn system_calls_stay_in_their_place() {
    report("libc outside the files that may call it", &find(layers::system_calls));
}

#[test]
fn unsafe_code_has_a_reason() {
    report("files that allow unsafe code without saying why", &find(layers::unsafe_without_reason));
}

#[test]
fn nothing_is_left_over() {
    report("leftovers", &find(lengths::leftovers));
}

#[test]
fn every_file_is_in_a_module_tree() {
    report("files that no `mod` reaches", &tree::unreached(&sources()));
}

#[test]
fn licences_are_known() {
    report("licences", &licences::findings());
}

#[test]
fn archives_are_whole() {
    report("published packages", &published::findings());
}

#[test]
fn readme_starts_with_two_commands() {
    let path = source::root().join("README.md");
    let text = std::fs::read_to_string(&path).expect("the workspace has a README.md");
    let block = text.split("```").nth(1).expect("the README has a code block");
    let commands: Vec<&str> = block.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
    let commands: Vec<&str> =
        commands.iter().map(|line| line.split('#').next().unwrap_or("").trim()).collect();
    assert_eq!(commands, ["cargo run --release", "cargo test --workspace"], "the README's first code block");
}

#[test]
fn rooms_use_those_below() {
    let sources = sources();
    let findings: Vec<String> =
        rooms::PACKAGES.iter().flat_map(|package| rooms::findings(&sources, *package)).collect();
    report("between rooms, and circles", &findings);
}

/// What the checks above see, to plan a change with.
#[test]
#[ignore = "prints, and checks nothing"]
fn print_graph() {
    let sources = sources();
    for package in source::PACKAGES {
        let graph = imports::Graph::new(&sources, &format!("{package}/src"));
        let edges = graph.edges();
        println!("== {package}");
        for edge in &edges {
            println!("{} -> {}", graph.file(&edge.from), graph.file(&edge.to));
        }
        for circle in imports::circles(&edges) {
            println!("circle: {:?}", circle.iter().map(|path| graph.file(path)).collect::<Vec<_>>());
        }
        for edge in graph.methods_elsewhere() {
            println!("methods in {} of {}", graph.file(&edge.from), graph.file(&edge.to));
        }
    }
}
