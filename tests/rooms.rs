//! The rooms of the library: imports run downwards, and no two files import each other, directly or
//! through others. The program is the room above all: it reaches the library by its name alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// Each room with the rooms that it may import, from the ground up. A room never imports one that
/// follows it in this table.
const ROOMS: &[(&str, &[&str])] = &[
    ("guide", &[]),
    ("sync", &[]),
    ("fork", &["sync"]),
    ("vocabulary", &[]),
    ("clock", &[]),
    ("limits", &[]),
    ("own_threads", &[]),
    ("report", &["own_threads"]),
    ("database", &[]),
    ("error", &["database"]),
    ("config", &["database", "error", "limits", "vocabulary"]),
    ("record", &["clock", "limits", "vocabulary"]),
    ("queue", &["fork", "record", "sync"]),
    ("stats", &["queue", "sync", "vocabulary"]),
    (
        "delivery",
        &["config", "error", "fork", "record", "stats", "vocabulary"],
    ),
    (
        "capture",
        &[
            "clock",
            "fork",
            "limits",
            "record",
            "stats",
            "sync",
            "vocabulary",
        ],
    ),
    (
        "intake",
        &[
            "capture",
            "clock",
            "config",
            "delivery",
            "error",
            "fork",
            "limits",
            "own_threads",
            "queue",
            "record",
            "report",
            "stats",
            "vocabulary",
        ],
    ),
    (
        "layer",
        &["capture", "intake", "own_threads", "record", "vocabulary"],
    ),
    ("spool", &["clock", "record"]),
    (
        "sink",
        &[
            "clock",
            "config",
            "database",
            "delivery",
            "error",
            "record",
            "report",
            "spool",
            "stats",
            "vocabulary",
        ],
    ),
    (
        "pipeline",
        &[
            "clock",
            "config",
            "delivery",
            "error",
            "fork",
            "intake",
            "own_threads",
            "record",
            "report",
            "sink",
            "spool",
            "stats",
            "vocabulary",
        ],
    ),
    (
        "audit",
        &[
            "config", "error", "intake", "layer", "pipeline", "record", "stats",
        ],
    ),
    (
        "local_log",
        &[
            "config",
            "delivery",
            "error",
            "pipeline",
            "record",
            "report",
            "sink",
            "spool",
            "stats",
            "vocabulary",
        ],
    ),
    ("__program", &["database", "sink", "vocabulary"]),
];

/// A module, by the names on its path from the crate's root.
type Module = Vec<String>;

/// The modules of a crate, without those compiled only for tests or fuzzing.
#[derive(Default)]
struct House {
    /// Each module with a file of its own, and what its code names, as paths from the root.
    files: BTreeMap<Module, BTreeSet<Module>>,
    /// What a module re-exports, by its name there.
    handed_on: BTreeMap<Module, Module>,
}

/// Whether an item is compiled only for tests or fuzzing.
fn is_left_out(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .any(|attribute| {
            let condition = attribute.parse_args::<syn::Meta>().unwrap();
            let is_of = |path: &syn::Path| path.is_ident("test") || path.is_ident("fuzzing");
            match &condition {
                syn::Meta::Path(path) => is_of(path),
                syn::Meta::List(list) if list.path.is_ident("any") => {
                    let text = list.tokens.to_string();
                    text.split(',')
                        .all(|one| matches!(one.trim(), "test" | "fuzzing"))
                }
                _ => false,
            }
        })
}

impl House {
    fn of(src: &Path) -> Self {
        let mut house = Self::default();
        house.read(&src.join("lib.rs"), src, Vec::new());
        house
    }

    /// Reads a file and its modules' files, which are in `folder`.
    fn read(&mut self, file: &Path, folder: &Path, module: Module) {
        let code = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
        for item in &code.items {
            if let syn::Item::Mod(inner) = item
                && inner.content.is_none()
                && !is_left_out(&inner.attrs)
            {
                let name = inner.ident.to_string();
                let mut path = module.clone();
                path.push(name.clone());
                let flat = folder.join(format!("{name}.rs"));
                let inner_folder = folder.join(&name);
                let file = if flat.exists() {
                    flat
                } else {
                    inner_folder.join("mod.rs")
                };
                self.read(&file, &inner_folder, path);
            }
        }
        let mut names = Names {
            module: &module,
            depth: 0,
            paths: BTreeSet::new(),
            handed_on: Vec::new(),
        };
        names.visit_file(&code);
        let Names {
            paths, handed_on, ..
        } = names;
        for (name, target) in handed_on {
            let mut path = module.clone();
            path.push(name);
            self.handed_on.insert(path, target);
        }
        self.files.insert(module, paths);
    }

    /// Returns the file that a path leads to, following re-exports to the definition.
    fn file_of(&self, path: &Module) -> Module {
        let mut path = path.clone();
        // At most this many re-exports in a row.
        for _ in 0..8 {
            let next = (1..=path.len()).rev().find_map(|len| {
                let target = self.handed_on.get(&path[..len])?;
                Some([target.as_slice(), &path[len..]].concat())
            });
            match next {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        (0..=path.len())
            .rev()
            .map(|len| path[..len].to_vec())
            .find(|prefix| self.files.contains_key(prefix))
            .expect("the root is a file")
    }

    /// Returns which other files each file names. What the root re-exports is defined elsewhere.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        self.files
            .iter()
            .map(|(module, paths)| {
                let mut files: BTreeSet<_> = paths.iter().map(|path| self.file_of(path)).collect();
                files.remove(module);
                (module.clone(), files)
            })
            .collect()
    }
}

/// The paths that a file's code names, from the root.
struct Names<'a> {
    module: &'a Module,
    /// How many inline modules deep the visitor is.
    depth: usize,
    paths: BTreeSet<Module>,
    handed_on: Vec<(String, Module)>,
}

impl Names<'_> {
    /// Returns the path from the root; `None` if it leads out of the crate, or to a local name.
    fn absolute(&self, names: &[String]) -> Option<Module> {
        let mut inner = self.depth;
        let mut module = self.module.clone();
        let mut rest = names;
        match rest.first()?.as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    rest = &rest[1..];
                    if inner > 0 {
                        inner -= 1;
                    } else {
                        module.pop()?;
                    }
                }
            }
            _ => return None,
        }
        module.extend(rest.iter().cloned());
        Some(module)
    }

    fn names(&mut self, names: &[String]) {
        // A lone `super` occurs in `pub(super)`.
        if names.len() > 1
            && let Some(path) = self.absolute(names)
        {
            self.paths.insert(path);
        }
    }

    fn tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree, is_handed_on: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree, is_handed_on);
                before.pop();
            }
            syn::UseTree::Name(name) => {
                self.leaf(before, &name.ident.to_string(), None, is_handed_on);
            }
            syn::UseTree::Rename(rename) => {
                let new = rename.rename.to_string();
                self.leaf(before, &rename.ident.to_string(), Some(new), is_handed_on);
            }
            syn::UseTree::Glob(_) => self.names(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree, is_handed_on);
                }
            }
        }
    }

    fn leaf(&mut self, before: &[String], name: &str, new: Option<String>, is_handed_on: bool) {
        let mut names = before.to_vec();
        if name != "self" {
            names.push(name.to_owned());
        }
        // In `pub use child::Item`, `child` is a module of this one.
        let is_relative = !matches!(names[0].as_str(), "crate" | "self" | "super");
        if is_handed_on {
            if is_relative {
                names.insert(0, String::from("self"));
            }
            if let Some(target) = self.absolute(&names) {
                // What is handed on from another room is imported as well.
                if !self.module.is_empty() && target.first() != self.module.first() {
                    self.paths.insert(target.clone());
                }
                let name = new.unwrap_or_else(|| name.to_owned());
                self.handed_on.push((name, target));
            }
            return;
        }
        self.names(&names);
    }

    /// Collects paths in a macro's tokens, which are not a syntax tree.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.names(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.names(&path);
                    path.clear();
                    self.tokens(group.stream());
                }
                _ => {
                    self.names(&path);
                    path.clear();
                }
            }
        }
        self.names(&path);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_left_out(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if let syn::ImplItem::Fn(function) = item
            && is_left_out(&function.attrs)
        {
            return;
        }
        syn::visit::visit_impl_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.depth += 1;
        syn::visit::visit_item_mod(self, item);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_handed_on = self.depth == 0 && !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&mut Vec::new(), &item.tree, is_handed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.names(&names);
        syn::visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(in crate::room)` limits visibility, and imports nothing.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

fn written(module: &Module) -> String {
    if module.is_empty() {
        String::from("lib")
    } else {
        module.join("::")
    }
}

/// Returns the imports that run upwards, or that the table does not allow.
fn imports_that_are_not_allowed(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (module, imports) in house.imports() {
        // The root re-exports what is public, and imports nothing for itself.
        let Some(room) = module.first() else { continue };
        let allowed = ROOMS.iter().find(|(name, _)| name == room);
        for import in imports {
            let is_allowed = match import.first() {
                Some(imported) if imported == room => true,
                Some(imported) => {
                    allowed.is_some_and(|(_, rooms)| rooms.contains(&imported.as_str()))
                }
                None => false,
            };
            if !is_allowed {
                found.push(format!("{} imports {}", written(&module), written(&import)));
            }
        }
    }
    found
}

/// Returns a chain of imports from a file back to itself, if there is one.
fn circle(house: &House) -> Option<Vec<String>> {
    fn walk(
        module: &Module,
        imports: &BTreeMap<Module, BTreeSet<Module>>,
        way: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|passed| passed == module) {
            let mut circle: Vec<_> = way[at..].iter().map(written).collect();
            circle.push(written(module));
            return Some(circle);
        }
        if done.contains(module) {
            return None;
        }
        way.push(module.clone());
        let found = imports[module]
            .iter()
            .find_map(|import| walk(import, imports, way, done));
        way.pop();
        done.insert(module.clone());
        found
    }
    let imports = house.imports();
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|module| walk(module, &imports, &mut Vec::new(), &mut done))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The folder of the program's package.
fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cli")
}

/// Returns the files below a folder that are Rust.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Returns the files outside a folder that the code in it compiles in, by `#[path]` or `include_str!`.
fn compiled_in_from_elsewhere(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files(folder) {
        let code = fs::read_to_string(&file).unwrap();
        let written = [
            "#[path = \"",
            "include_str!(\"",
            "include_bytes!(\"",
            "include!(\"",
        ];
        let names = written
            .iter()
            .flat_map(|before| code.split(before).skip(1))
            .map(|rest| rest.split('"').next().unwrap());
        for name in names {
            let path = file.parent().unwrap().join(name);
            let path = path.canonicalize();
            if !path.is_ok_and(|path| path.starts_with(folder.canonicalize().unwrap())) {
                found.push(String::from(name));
            }
        }
    }
    found
}

/// Returns the packages of this repository that a manifest's section names.
fn own_packages<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| *line != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains("path = "))
        .map(|line| line.split(' ').next().unwrap())
        .collect()
}

#[test]
fn program_reaches_the_library_by_its_name_alone() {
    assert!(rust_files(&program().join("src")).len() > 30);
    assert_eq!(
        compiled_in_from_elsewhere(&program().join("src")),
        [""; 0],
        "it is compiled a second time"
    );
    let manifest = fs::read_to_string(program().join("Cargo.toml")).unwrap();
    assert_eq!(own_packages(&manifest, "[dependencies]"), ["tracing-audit"]);
    // What a host compiles is the library and nothing else of this repository.
    let manifest = fs::read_to_string(src().join("../Cargo.toml")).unwrap();
    assert_eq!(own_packages(&manifest, "[dependencies]"), [""; 0]);
}

#[test]
fn planted_file_of_the_library_is_named() {
    let line = "#[path = \"../../../src/database/mod.rs\"] mod planted;";
    let planted = Planted::new(&program().join("src"), "row.rs", line);
    let found = compiled_in_from_elsewhere(&planted.0);
    assert_eq!(found, ["../../../src/database/mod.rs"]);
}

#[test]
fn imports_go_only_downwards_as_listed_in_the_table() {
    let house = House::of(&src());
    assert!(house.files.len() > 80, "{} files", house.files.len());
    assert_eq!(imports_that_are_not_allowed(&house), [""; 0]);
    for (at, (room, imports)) in ROOMS.iter().enumerate() {
        let below: BTreeSet<_> = ROOMS[..at].iter().map(|(name, _)| *name).collect();
        for import in *imports {
            assert!(below.contains(import), "{room} may import {import}");
        }
    }
}

#[test]
fn table_lists_every_room_and_exactly_its_imports() {
    let house = House::of(&src());
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, imports) in house.imports() {
        let Some(room) = module.first() else { continue };
        let rooms = there.entry(room.clone()).or_default();
        rooms.extend(imports.iter().filter_map(|import| import.first().cloned()));
        rooms.remove(room);
    }
    let table: BTreeMap<String, BTreeSet<String>> = ROOMS
        .iter()
        .map(|(room, imports)| {
            let imports = imports.iter().map(|&import| import.to_owned());
            ((*room).to_owned(), imports.collect())
        })
        .collect();
    assert_eq!(table, there);
}

#[test]
fn no_file_imports_itself_through_other_files() {
    assert_eq!(circle(&House::of(&src())), None);
}

/// A copy of the sources in which one file has an additional line.
struct Planted(PathBuf);

impl Planted {
    fn new(of: &Path, file: &str, line: &str) -> Self {
        let copy = std::env::temp_dir().join(format!("rooms-{}", uuid::Uuid::new_v4()));
        copy_folder(of, &copy);
        let file = copy.join(file);
        let code = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{code}\n{line}\n")).unwrap();
        Self(copy)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &copy);
        } else {
            fs::copy(entry.path(), copy).unwrap();
        }
    }
}

#[test]
fn planted_upward_import_is_named() {
    for line in [
        "use crate::pipeline::patience;",
        "pub(crate) use crate::pipeline::patience;",
        "#[planted(crate::pipeline::patience)] fn planted() {}",
        "fn planted() { crate::pipeline::patience(std::time::Duration::ZERO); }",
        "fn planted() { println!(\"{:?}\", crate::pipeline::patience); }",
    ] {
        let planted = Planted::new(&src(), "clock.rs", line);
        let found = imports_that_are_not_allowed(&House::of(&planted.0));
        assert_eq!(found, ["clock imports pipeline"], "{line}");
    }
    // By the name under which the crate re-exports it.
    let planted = Planted::new(&src(), "limits.rs", "type Planted = crate::Audit;");
    let found = imports_that_are_not_allowed(&House::of(&planted.0));
    assert_eq!(found, ["limits imports audit"]);
}

#[test]
fn planted_cycle_within_a_room_is_named() {
    let planted = Planted::new(&src(), "spool/chunk.rs", "type Planted = super::log::Runs;");
    let house = House::of(&planted.0);
    assert_eq!(imports_that_are_not_allowed(&house), [""; 0]);
    let circle = circle(&house).expect("a circle");
    assert!(
        circle.contains(&String::from("spool::chunk"))
            && circle.contains(&String::from("spool::log")),
        "{circle:?}"
    );
}

#[test]
fn files_over_600_lines_state_a_reason() {
    let files = [src(), program().join("src")].map(|folder| rust_files(&folder));
    for path in files.concat() {
        let code = fs::read_to_string(&path).unwrap();
        let lines = code.lines().count();
        let says_why = code
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| line.contains("One file"));
        assert!(
            lines <= 600 || says_why,
            "{}: {lines} lines",
            path.display()
        );
    }
}
