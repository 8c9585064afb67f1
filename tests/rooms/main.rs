//! The rooms of the library: imports run downwards, and no two files import each other, directly or
//! through others. The program is the room above all: it reaches the library by its name alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod files;
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

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

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
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
