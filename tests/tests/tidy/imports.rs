//! Who imports whom: the graph of a package's files, its circles, its rooms.
//!
//! A file imports another one if its code names something that is defined there, under whatever name it was passed on:
//! a re-export is not an import of the module that makes it. Test code does not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

use crate::source::Source;

/// Names from the root of a package down.
type Path = Vec<String>;

/// A name that a `use` brings into a module.
#[derive(Debug)]
struct Import {
    /// Empty for a glob.
    alias: String,
    path: Path,
    line: usize,
    passed_on: bool,
}

/// A module with a file of its own; modules inside the file are counted to it.
#[derive(Debug, Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths in the code, as written, and their lines.
    named: Vec<(Path, usize)>,
    /// Types that have methods of their own here.
    inherent: Vec<(Path, usize)>,
}

/// The files of a package's library, and what they name.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    modules: BTreeMap<Path, Module>,
}

/// One file names something of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: Path,
    pub(crate) to: Path,
    pub(crate) line: usize,
}

impl Graph {
    /// Reads the files under `folder`, such as `alloc/src`.
    pub(crate) fn new(sources: &[Source], folder: &str) -> Self {
        let mut graph = Self::default();
        let mut tests = Vec::new();
        for source in sources {
            let Some(place) = source.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            let file =
                syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
            let path = module_path(place);
            let mut reader =
                Reader { module: Module { file: source.path.clone(), ..Module::default() }, tests: vec![] };
            reader.visit_file(&file);
            tests.extend(reader.tests.into_iter().map(|name| [path.clone(), vec![name]].concat()));
            graph.modules.insert(path, reader.module);
        }
        graph.modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        graph
    }

    pub(crate) fn file(&self, path: &Path) -> &str {
        &self.modules[path].file
    }

    /// All edges, each pair of files once.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut edges = BTreeMap::new();
        for (from, module) in &self.modules {
            let uses = module.imports.iter().filter(|import| !import.passed_on);
            let uses = uses.map(|import| (&import.path, import.line));
            for (path, line) in uses.chain(module.named.iter().map(|(path, line)| (path, *line))) {
                let Some(to) = self.definer(from, path) else { continue };
                if to != *from {
                    edges.entry((from.clone(), to)).or_insert(line);
                }
            }
        }
        edges.into_iter().map(|((from, to), line)| Edge { from, to, line }).collect()
    }

    /// Methods that stand in another file than their type: the file with the methods, and the one with the type.
    pub(crate) fn methods_elsewhere(&self) -> Vec<Edge> {
        let mut found = Vec::new();
        for (from, module) in &self.modules {
            for (path, line) in &module.inherent {
                if let Some(to) = self.definer(from, path).filter(|to| to != from) {
                    found.push(Edge { from: from.clone(), to, line: *line });
                }
            }
        }
        found
    }

    /// The module that defines what a path in `module` names.
    fn definer(&self, module: &Path, path: &Path) -> Option<Path> {
        self.resolve(module, path, 0)
    }

    fn resolve(&self, module: &Path, path: &[String], depth: usize) -> Option<Path> {
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(&Vec::new(), rest, depth),
            "self" => self.descend(module, rest, depth),
            "super" => self.descend(&module[..module.len().checked_sub(1)?].to_vec(), rest, depth),
            _ => self.descend_into(module, path, depth),
        }
    }

    /// Follows names from a module on.
    fn descend(&self, module: &Path, rest: &[String], depth: usize) -> Option<Path> {
        match rest.first().map(String::as_str) {
            None | Some("*" | "self") => self.modules.contains_key(module).then(|| module.clone()),
            Some("super") => {
                self.descend(&module[..module.len().checked_sub(1)?].to_vec(), &rest[1..], depth)
            }
            Some(_) => self.descend_into(module, rest, depth).or_else(|| Some(module.clone())),
        }
    }

    /// As above, where the first name must be one that the module has.
    fn descend_into(&self, module: &Path, path: &[String], depth: usize) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let here = self.modules.get(module)?;
        let child = [module.clone(), vec![first.clone()]].concat();
        if self.modules.contains_key(&child) {
            return self.descend(&child, rest, depth);
        }
        if here.defined.contains(first) {
            return Some(module.clone());
        }
        if let Some(import) = here.imports.iter().find(|import| import.alias == *first) {
            return self.resolve(module, &[import.path.clone(), rest.to_vec()].concat(), depth + 1);
        }
        here.imports.iter().filter(|import| import.alias.is_empty()).find_map(|import| {
            let glob = self.resolve(module, &import.path, depth + 1)?;
            (glob != *module).then(|| self.descend_into(&glob, path, depth + 1)).flatten()
        })
    }
}

/// The module of a file, given its place under `src`.
fn module_path(place: &str) -> Path {
    let names = place.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut path: Path = names.collect();
    if path.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        path.pop();
    }
    path
}

/// Groups of files that all reach each other, each of more than one.
pub(crate) fn circles(edges: &[Edge]) -> Vec<BTreeSet<Path>> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reach = |from| {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![from]);
        while let Some(at) = queue.pop() {
            queue.extend(next.get(at).into_iter().flatten().copied().filter(|to| seen.insert(*to)));
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = next.keys().map(|from| (*from, reach(*from))).collect();
    let mut found = BTreeSet::new();
    for (from, seen) in &reached {
        let both = |to: &&&Path| reached.get(**to).is_some_and(|back| back.contains(*from));
        let circle: BTreeSet<Path> = seen.iter().filter(both).map(|path| (*path).clone()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Collects what a file defines and names.
struct Reader {
    module: Module,
    /// Modules of their own files that are compiled for tests or models alone.
    tests: Vec<String>,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        attribute.parse_args::<syn::Meta>().is_ok_and(|condition| holds_in_tests_alone(&condition))
    })
}

/// Whether a condition of `cfg` needs tests or models.
fn holds_in_tests_alone(condition: &syn::Meta) -> bool {
    let syn::Meta::List(list) = condition else {
        return condition.path().is_ident("test") || condition.path().is_ident("loom");
    };
    let parts = syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated;
    let Ok(parts) = syn::parse::Parser::parse2(parts, list.tokens.clone()) else { return false };
    match list.path.get_ident().map(ToString::to_string).as_deref() {
        Some("all") => parts.iter().any(holds_in_tests_alone),
        Some("any") => parts.iter().all(holds_in_tests_alone),
        _ => false,
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

impl Reader {
    fn import(&mut self, tree: &syn::UseTree, before: &Path, passed_on: bool) {
        let line = |ident: &syn::Ident| ident.span().start().line;
        let mut add = |alias: &syn::Ident, path: Path, line| {
            self.module.imports.push(Import { alias: alias.to_string(), path, line, passed_on });
        };
        let with = |ident: &syn::Ident| [before.clone(), vec![ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &with(&path.ident), passed_on),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let alias = before.last().cloned().unwrap_or_default();
                let line = line(&name.ident);
                self.module.imports.push(Import { alias, path: before.clone(), line, passed_on });
            }
            syn::UseTree::Name(name) => add(&name.ident, with(&name.ident), line(&name.ident)),
            syn::UseTree::Rename(rename) => add(&rename.rename, with(&rename.ident), line(&rename.ident)),
            syn::UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                let alias = String::new();
                self.module.imports.push(Import { alias, path: before.clone(), line, passed_on });
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before, passed_on));
            }
        }
    }

    /// Paths among the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Path = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.name(std::mem::take(&mut path), line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => colons = 0,
            }
        }
        self.name(path, line);
    }

    /// Notes a path among tokens. `crate` alone is a visibility.
    fn name(&mut self, path: Path, line: usize) {
        if path != ["crate"] {
            self.module.named.push((path, line));
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            if let syn::Item::Mod(module) = item {
                self.tests.push(module.ident.to_string());
            }
            return;
        }
        self.module.defined.extend(name(item));
        match item {
            syn::Item::Mod(module) if module.content.is_none() => {
                self.module.children.insert(module.ident.to_string());
            }
            syn::Item::Use(item) => {
                let passed_on = !matches!(item.vis, syn::Visibility::Inherited);
                self.import(&item.tree, &Vec::new(), passed_on);
            }
            syn::Item::Impl(block) => {
                if let (None, syn::Type::Path(path)) = (&block.trait_, &*block.self_ty) {
                    let line = block.impl_token.span.start().line;
                    self.module.inherent.push((segments(&path.path), line));
                }
                syn::visit::visit_item(self, item);
            }
            _ => syn::visit::visit_item(self, item),
        }
    }

    /// `pub(crate)` names no file.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.module.named.push((segments(path), line));
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }
}

fn segments(path: &syn::Path) -> Path {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

#[test]
fn follows_names_to_their_file() {
    let file = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let sources = [
        file("x/src/lib.rs", "mod low; mod high; mod tests; pub use low::deep::Thing;"),
        file("x/src/low/mod.rs", "pub(crate) mod deep; pub(crate) use deep::*; fn f() { deep::run(); }"),
        file("x/src/low/deep.rs", "pub struct Thing; pub fn run() {} impl Thing { fn a() {} }"),
        file("x/src/high.rs", "use crate::low::Thing; impl Thing { fn b() { assert!(crate::f()) } }"),
    ];
    let graph = Graph::new(&sources, "x/src");
    let path = |text: &str| module_path(text);
    let edges: Vec<(Path, Path)> = graph.edges().into_iter().map(|edge| (edge.from, edge.to)).collect();
    assert_eq!(
        edges,
        [
            (path("high.rs"), path("lib.rs")),
            (path("high.rs"), path("low/deep.rs")),
            (path("low/mod.rs"), path("low/deep.rs")),
        ]
    );
    assert!(circles(&graph.edges()).is_empty());
    let elsewhere = graph.methods_elsewhere();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!((&elsewhere[0].from, &elsewhere[0].to), (&path("high.rs"), &path("low/deep.rs")));
    let root = file("x/src/lib.rs", "mod a; mod b;");
    let round =
        [root, file("x/src/a.rs", "use crate::b::B;"), file("x/src/b.rs", "pub struct B(super::a::A);")];
    assert_eq!(circles(&Graph::new(&round, "x/src").edges()).len(), 1);
    for (condition, files) in
        [("test", 1), ("all(test, not(loom))", 1), ("not(test)", 2), ("any(test, unix)", 2)]
    {
        let parent = format!("#[cfg({condition})] mod b;");
        let tests = [file("x/src/a.rs", &parent), file("x/src/a/b.rs", "use super::A;")];
        assert_eq!(Graph::new(&tests, "x/src").modules.len(), files, "{condition}");
    }
}
