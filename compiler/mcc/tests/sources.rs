//! Checks of the sources: files do not depend on one another in cycles, matches on operations name every operation,
//! files and functions are short. Tests and their helpers are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use syn::visit::{self, Visit};

/// The largest number of lines of a file, and of a function.
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 100;

/// Number of matches on `Op` with an arm for all other operations, per file. Passes are left out: they match patterns
/// and leave everything else alone. Elsewhere such an arm is allowed only if it is right for every future operation.
const OPEN_MATCHES: &[(&str, usize)] = &[
    ("ir/src/eval/graph.rs", 1),
    ("ir/src/graph.rs", 1),
    ("ir/src/verify.rs", 1),
    ("kernel/src/fusion.rs", 1),
    ("kernel/src/kernels/mod.rs", 1),
    ("kernel/src/kernels/support/request.rs", 2),
    ("kernel/src/placement.rs", 1),
    ("kernel/src/plan.rs", 1),
    ("kernel/src/symbols.rs", 1),
    ("kernel/src/work.rs", 2),
    ("onnx/src/builder/indices.rs", 1),
    ("onnx/src/ops/branch.rs", 1),
];

/// Longer files, with the largest number of lines they may have.
const LONG_FILES: &[(&str, usize)] = &[];

/// Longer functions.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Functions that take a tuple: the number of such parameters per file. Those left are bounds, the padding before and
/// after an axis, and pairs of a named type.
const TUPLE_PARAMETERS: &[(&str, usize)] = &[
    ("codegen/src/entry/share.rs", 2),
    ("ir/src/bounds.rs", 2),
    ("ir/src/eval/movement.rs", 1),
    ("ir/src/infer/window.rs", 1),
    ("loader/src/peak.rs", 1),
];

/// Folders of crates, below `compiler`.
const CRATES: &[&str] =
    &["build", "cli", "codegen", "data", "eval", "ir", "kernel", "loader", "mcc", "onnx", "passes", "runner"];

type Module = Vec<String>;

/// A source file.
struct Source {
    /// Its path below `compiler`.
    name: String,
    /// Without unit tests.
    lines: Vec<String>,
    syntax: syn::File,
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// All sources of the compiler, by module; the first part of a module's name is its crate's folder.
fn sources() -> BTreeMap<Module, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for krate in CRATES {
        files(&root.join(krate).join("src"), &mut paths);
    }
    let mut sources = BTreeMap::new();
    for path in paths {
        let name = path.strip_prefix(&root).expect("below compiler").display().to_string();
        let test = name.ends_with("tests.rs") || name.contains("/tests/");
        if test || name.ends_with("samples.rs") {
            continue;
        }
        let mut module: Module = name.trim_end_matches(".rs").split('/').map(str::to_string).collect();
        module.remove(1);
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        let text = fs::read_to_string(&path).expect("a source file");
        let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lines = text.lines().take_while(|line| *line != "mod tests {").map(str::to_string).collect();
        sources.insert(module, Source { name, lines, syntax });
    }
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|a| a.path().is_ident("cfg") && a.meta.require_list().is_ok_and(|l| l.tokens.to_string().contains("test")))
}

/// The paths of a use tree, and the name that each one gets.
fn leaves(tree: &syn::UseTree, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), found),
        syn::UseTree::Name(name) if name.ident == "self" => {
            found.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
        }
        syn::UseTree::Name(name) => found.push((with(&name.ident), name.ident.to_string())),
        syn::UseTree::Rename(rename) => found.push((with(&rename.ident), rename.rename.to_string())),
        syn::UseTree::Glob(_) => found.push((before.to_vec(), "*".to_string())),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, before, found)),
    }
}

/// The names in a file.
#[derive(Default)]
struct Names {
    /// Paths in private `use` items and in code.
    used: Vec<Vec<String>>,
    /// Paths in public `use` items, and their names.
    shown: Vec<(Vec<String>, String)>,
    /// Items that it defines.
    defined: Vec<String>,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (attributes, name) = match item {
            syn::Item::Mod(item) => (&item.attrs, &item.ident),
            syn::Item::Fn(item) => (&item.attrs, &item.sig.ident),
            syn::Item::Struct(item) => (&item.attrs, &item.ident),
            syn::Item::Enum(item) => (&item.attrs, &item.ident),
            syn::Item::Trait(item) => (&item.attrs, &item.ident),
            syn::Item::Type(item) => (&item.attrs, &item.ident),
            syn::Item::Const(item) => (&item.attrs, &item.ident),
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            self.defined.push(name.to_string());
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        leaves(&item.tree, &[], &mut found);
        match item.vis {
            _ if is_test(&item.attrs) => {}
            syn::Visibility::Inherited => self.used.extend(found.into_iter().map(|(path, _)| path)),
            _ => self.shown.extend(found),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.used.push(path.segments.iter().map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    // `pub(in path)` is not a dependency.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// The modules, and the modules that their names refer to.
struct Modules {
    names: BTreeMap<Module, Names>,
    shown: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Modules {
    fn new(sources: &BTreeMap<Module, Source>) -> Modules {
        let names = sources.iter().map(|(module, source)| {
            let mut names = Names::default();
            names.visit_file(&source.syntax);
            (module.clone(), names)
        });
        let mut modules = Modules { names: names.collect(), shown: BTreeMap::new() };
        for (module, names) in &modules.names {
            let mut shown = BTreeMap::new();
            for (path, name) in &names.shown {
                let Some((target, _)) = modules.longest(&modules.absolute(module, path)) else { continue };
                if name == "*" {
                    let all = modules.names[&target].defined.iter().map(|name| (name.clone(), target.clone()));
                    shown.extend(all);
                } else {
                    shown.insert(name.clone(), target);
                }
            }
            modules.shown.insert(module.clone(), shown);
        }
        modules
    }

    /// A path, made absolute.
    fn absolute(&self, module: &Module, path: &[String]) -> Module {
        let supers = path.iter().take_while(|s| *s == "super").count();
        match path.first().map(String::as_str) {
            Some("crate") => [&module[..1], &path[1..]].concat(),
            Some("mcc") => [&["mcc".to_string()], &path[1..]].concat(),
            Some(name) if CRATES.iter().any(|krate| name.strip_prefix("mcc_") == Some(krate)) => {
                [&[name["mcc_".len()..].to_string()], &path[1..]].concat()
            }
            Some("self") => [module, &path[1..]].concat(),
            Some("super") => [&module[..module.len().saturating_sub(supers)], &path[supers..]].concat(),
            _ => [module, path].concat(),
        }
    }

    /// The module named by the longest prefix of a path, and the rest.
    fn longest(&self, path: &[String]) -> Option<(Module, Vec<String>)> {
        let ends = (1..=path.len()).rev();
        ends.filter(|&n| self.names.contains_key(&path[..n])).map(|n| (path[..n].to_vec(), path[n..].to_vec())).next()
    }

    /// The file that defines the item of a path in a module.
    fn defines(&self, module: &Module, path: &[String]) -> Option<Module> {
        let (target, rest) = self.longest(&self.absolute(module, path))?;
        let shown = rest.first().and_then(|name| self.shown.get(&target)?.get(name));
        Some(shown.cloned().unwrap_or(target))
    }
}

/// A module and its submodules may depend on one another, as one unit in several files. All other dependencies go one
/// way.
#[test]
fn files_do_not_depend_in_circles() {
    let sources = sources();
    let modules = Modules::new(&sources);
    let all: Vec<&Module> = sources.keys().collect();
    let number = |module: &Module| all.iter().position(|m| *m == module).expect("a module");
    let mut graph: StableDiGraph<&str, ()> = StableDiGraph::new();
    for source in sources.values() {
        graph.add_node(&source.name);
    }
    for (module, names) in &modules.names {
        for target in names.used.iter().filter_map(|path| modules.defines(module, path)) {
            if !module.starts_with(&target) {
                graph.update_edge(NodeIndex::new(number(module)), NodeIndex::new(number(&target)), ());
            }
        }
    }
    assert!(graph.edge_count() > 500, "{} dependencies were found", graph.edge_count());
    let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
    let cycles = circles.map(|circle| circle.iter().map(|&n| graph[n]).collect::<Vec<_>>().join(", "));
    let cycles: Vec<String> = cycles.collect();
    assert!(cycles.is_empty(), "files that depend on one another:\n{}", cycles.join("\n"));
}

/// Counts matches on operations that have an arm for all others.
#[derive(Default)]
struct OpenMatches(usize);

fn names_operations(pattern: &syn::Pat) -> bool {
    struct Finder(bool);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.0 |= path.segments.len() == 2 && path.segments[0].ident == "Op";
        }
    }
    let mut finder = Finder(false);
    finder.visit_pat(pattern);
    finder.0
}

impl<'ast> Visit<'ast> for OpenMatches {
    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        let open = expression.arms.iter().any(|arm| matches!(arm.pat, syn::Pat::Wild(_)));
        if open && expression.arms.iter().any(|arm| names_operations(&arm.pat)) {
            self.0 += 1;
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

/// The lists of exceptions are exact, so that they can only become shorter.
#[test]
fn matches_on_operations_name_all() {
    // The x86 emitter has an `Op` of its own.
    let rooms = ["ir/", "onnx/", "kernel/"];
    let open =
        sources().into_values().filter(|source| rooms.iter().any(|r| source.name.starts_with(r))).map(|source| {
            let mut open = OpenMatches::default();
            open.visit_file(&source.syntax);
            (source.name, open.0)
        });
    let open: BTreeMap<String, usize> = open.filter(|(_, open)| *open > 0).collect();
    let known: BTreeMap<String, usize> = OPEN_MATCHES.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    assert!(open == known, "matches on operations with an arm `_`: {open:#?}");
}

/// Cargo neither compiles nor mentions a file without a `mod` line.
#[test]
fn every_file_is_a_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = Vec::new();
    ["compiler", "proto", "runtime", "targets"].iter().for_each(|folder| files(&root.join(folder), &mut paths));
    assert!(paths.len() > 400, "the sources were not found");
    let mut orphans = Vec::new();
    for path in &paths {
        let mut module = path.with_extension("");
        if module.ends_with("mod") {
            module.pop();
        }
        let (Some(folder), Some(name)) = (module.parent(), module.file_stem().and_then(|n| n.to_str())) else {
            continue;
        };
        // Crates of their own: libraries, programs, build scripts, files of tests and benchmarks.
        let own = ["lib", "main", "build"].contains(&name)
            || folder.parent().is_some_and(|above| above.join("Cargo.toml").exists()) && !folder.ends_with("src");
        let read = |parent: PathBuf| fs::read_to_string(parent).unwrap_or_default();
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| folder.join(parent));
        let parents: String = parents.into_iter().chain([folder.with_extension("rs")]).map(read).collect();
        // Unit tests beside a file: `#[path = "encode_tests.rs"]` in `encode.rs`.
        let tested = name.strip_suffix("_tests").map(|file| read(folder.join(file).with_extension("rs")));
        let beside = tested.is_some_and(|text| text.contains(&format!("#[path = \"{name}.rs\"]")));
        if !own && !beside && !parents.contains(&format!("mod {name};")) {
            orphans.push(path.strip_prefix(&root).expect("below the root").display().to_string());
        }
    }
    assert!(orphans.is_empty(), "no `mod` line names {}", orphans.join(", "));
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources();
    let long = sources.values().filter(|s| s.lines.len() > FILE_LINES).map(|s| (s.name.as_str(), s.lines.len()));
    let long: BTreeMap<&str, usize> = long.collect();
    let known: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let worse = long.iter().any(|(name, lines)| known.get(name).is_none_or(|most| lines > most));
    let better = known.keys().any(|name| !long.contains_key(name));
    assert!(!worse && !better, "files of more than {FILE_LINES} lines: {long:#?}");
    let functions = sources.values().flat_map(|s| long_functions(&s.lines).into_iter().map(|f| (s.name.clone(), f)));
    let functions: BTreeSet<(String, String)> = functions.collect();
    let known: BTreeSet<(String, String)> =
        LONG_FUNCTIONS.iter().map(|(file, function)| (file.to_string(), function.to_string())).collect();
    assert!(functions == known, "functions of more than {FUNCTION_LINES} lines: {functions:#?}");
}

/// Names of functions with too many lines. In formatted code a function ends with the next brace at the indentation of
/// its `fn`.
fn long_functions(lines: &[String]) -> Vec<String> {
    let starts = lines.iter().enumerate().filter_map(|(n, line)| {
        let before = line.split("fn ").next().filter(|before| before.len() < line.len())?;
        let words = ["pub", "pub(super)", "pub(crate)", "const", "unsafe", "extern", "\"C\""];
        let plain = before.split_whitespace().all(|word| words.contains(&word) || word.starts_with("pub("));
        plain.then(|| (n, line.len() - line.trim_start().len(), &line[before.len() + 3..]))
    });
    let long = starts.filter(|&(start, indent, _)| {
        let end = format!("{}}}", " ".repeat(indent));
        lines[start..].iter().position(|line| *line == end).is_some_and(|lines| lines >= FUNCTION_LINES)
    });
    long.map(|(_, _, rest)| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

/// Counts parameters that are tuples, taken apart or not, and those of closures that are parameters.
#[derive(Default)]
struct TupleParameters(usize);

impl TupleParameters {
    fn count<'a>(&mut self, types: impl Iterator<Item = &'a syn::Type>) {
        self.0 += types.filter(|ty| is_tuple(ty)).count();
    }
}

fn is_tuple(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Tuple(tuple) => !tuple.elems.is_empty(),
        syn::Type::Reference(reference) => is_tuple(&reference.elem),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for TupleParameters {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let typed = signature.inputs.iter().filter_map(|input| match input {
            syn::FnArg::Typed(typed) => Some(typed),
            syn::FnArg::Receiver(_) => None,
        });
        let apart = typed.clone().filter(|t| matches!(*t.pat, syn::Pat::Tuple(_)) && !is_tuple(&t.ty));
        self.0 += apart.count();
        self.count(typed.map(|t| &*t.ty));
        visit::visit_signature(self, signature);
    }

    /// `Fn(A, B) -> C` in a bound.
    fn visit_parenthesized_generic_arguments(&mut self, arguments: &'ast syn::ParenthesizedGenericArguments) {
        self.count(arguments.inputs.iter().map(|argument| &argument.ty));
        visit::visit_parenthesized_generic_arguments(self, arguments);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

/// Values that belong together form a struct with named fields; the rest are parameters.
#[test]
fn functions_take_no_tuples() {
    let tuples = sources().into_values().map(|source| {
        let mut tuples = TupleParameters::default();
        tuples.visit_file(&source.syntax);
        (source.name, tuples.0)
    });
    let tuples: BTreeMap<String, usize> = tuples.filter(|(_, tuples)| *tuples > 0).collect();
    let known: BTreeMap<String, usize> = TUPLE_PARAMETERS.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    assert!(tuples == known, "parameters that are tuples: {tuples:#?}");
}
