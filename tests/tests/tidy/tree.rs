//! Files that lie in a package but that no `mod` declaration reaches are compiled by nobody and tested by nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// Names declared as `mod name;` in blanked code, with the folders of inline modules around them, and the file that a
/// `#[path]` before it names, if there is one.
fn declared(source: &Source) -> Vec<(Vec<String>, String, Option<String>)> {
    let mut found = Vec::new();
    let (mut depth, mut inline): (usize, Vec<(String, usize)>) = (0, Vec::new());
    let mut path = None;
    let mut offset = 0;
    for line in source.code.split_inclusive('\n') {
        let text = &source.text.get(offset..offset + line.len()).unwrap_or("");
        offset += line.len();
        if line.trim_start().starts_with("#[path") {
            path = text.split('"').nth(1).map(str::to_owned);
        }
        let mut words = line.trim().trim_end_matches(['{', ' ']).split_ascii_whitespace();
        let name = words.find(|word| *word == "mod").and_then(|_| words.next());
        match name {
            Some(name) if name.ends_with(';') => {
                let folders = inline.iter().map(|(name, _)| name.clone()).collect();
                found.push((folders, name.trim_end_matches(';').to_owned(), path.take()));
            }
            Some(name) if line.contains('{') => inline.push((name.to_owned(), depth)),
            _ => {}
        }
        for byte in line.bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.saturating_sub(1);
                    inline.retain(|(_, at)| *at < depth);
                }
                _ => {}
            }
        }
    }
    found
}

/// Is this the first file of a library, binary, test, bench or example?
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let [.., folder, file] = parts.as_slice() else { return false };
    let target = |folder: &str| ["tests", "benches", "examples", "bin"].contains(&folder);
    let above = parts.len().checked_sub(3).map_or("", |at| parts[at]);
    (*folder == "src" && ["lib.rs", "main.rs"].contains(file))
        || target(folder)
        || (target(above) && *file == "main.rs" && parts.len() > 3)
}

pub(crate) fn unreached(sources: &[Source]) -> Vec<String> {
    let by_path: BTreeMap<&str, &Source> =
        sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let mut queue: Vec<&str> = by_path.keys().copied().filter(|path| is_root(path)).collect();
    let mut reached: BTreeSet<&str> = queue.iter().copied().collect();
    while let Some(path) = queue.pop() {
        let (folder, file) = path.rsplit_once('/').expect("paths have folders");
        let own = ["lib.rs", "main.rs", "mod.rs"].contains(&file) || is_root(path);
        let base = if own { folder.to_owned() } else { format!("{folder}/{}", file.trim_end_matches(".rs")) };
        for (folders, name, explicit) in declared(by_path[path]) {
            let base = std::iter::once(base.clone()).chain(folders).collect::<Vec<_>>().join("/");
            let candidates = match explicit {
                Some(file) => vec![format!("{folder}/{file}")],
                None => vec![format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")],
            };
            for candidate in candidates {
                if let Some((key, _)) = by_path.get_key_value(candidate.as_str())
                    && reached.insert(key)
                {
                    queue.push(key);
                }
            }
        }
    }
    by_path.keys().filter(|path| !reached.contains(*path)).map(|path| (*path).to_owned()).collect()
}

#[test]
fn finds_the_orphan() {
    let file = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let sources = [
        file("map/src/lib.rs", "//! x\npub mod a;\nmod b {\n    mod c;\n}\n#[path = \"odd.rs\"]\nmod d;\n"),
        file("map/src/a.rs", "mod inner;"),
        file("map/src/a/inner.rs", ""),
        file("map/src/b/c.rs", ""),
        file("map/src/odd.rs", ""),
        file("map/src/orphan.rs", "// mod a;"),
        file("map/tests/it.rs", ""),
    ];
    assert_eq!(unreached(&sources), ["map/src/orphan.rs"]);
}
