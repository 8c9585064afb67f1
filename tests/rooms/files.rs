//! What the program compiles in, and how long a file is.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Planted, rust_files, src};

/// The folder of the program's package.
fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cli")
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
