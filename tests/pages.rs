//! The pages against the sources: tests that are named are there, settings are listed, links lead somewhere.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../README.md");
const GUARANTEES: &str = include_str!("../docs/guarantees.md");
const SETTINGS: &str = include_str!("../docs/settings.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every file below a folder.
fn sources(folder: &Path) -> String {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                fs::read_to_string(path).unwrap_or_default()
            }
        })
        .collect()
}

/// The rows of the table whose first column has this heading.
fn table<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let first = format!("| {heading} |");
    let rows = page.lines().skip_while(|line| !line.starts_with(&first));
    rows.take_while(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_guarantee_names_existing_tests() {
    let folders = ["tests", "src", "crates"].map(|folder| root().join(folder));
    let sources: String = folders.iter().map(|folder| sources(folder)).collect();
    let rows = table(GUARANTEES, "fault");
    assert!(rows.len() > 10, "{}", rows.len());
    for row in rows {
        let cells = cells(row);
        assert_eq!(cells.len(), 5, "{row}");
        let names: Vec<_> = quoted(cells[4]).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            let is_there = if name.starts_with("tests/") {
                root().join(name).exists()
            } else {
                sources.contains(&format!("fn {name}(")) || sources.contains(&format!("\"{name}\""))
            };
            assert!(is_there, "{name} is not there: {row}");
        }
    }
}

#[test]
fn readme_is_short_and_its_faults_are_documented_guarantees() {
    let lines = README.lines().count();
    assert!(lines <= 130, "{lines} lines");
    let known: Vec<_> = table(GUARANTEES, "fault")
        .iter()
        .map(|row| cells(row)[0])
        .collect();
    let faults = table(README, "fault");
    assert!(faults.len() > 5, "{}", faults.len());
    for row in faults {
        assert!(known.contains(&cells(row)[0]), "not a guarantee: {row}");
    }
}

/// The public methods of `impl <name> {` in the sources that return the value itself: its settings.
fn settings(sources: &str, name: &str) -> BTreeSet<String> {
    let block = format!("\nimpl {name} {{\n");
    // A long signature has a line for each parameter.
    let sources = sources.replace("(\n        mut self", "(mut self");
    sources
        .split(&block)
        .skip(1)
        .flat_map(|rest| rest.split("\n}\n").next().unwrap().lines())
        .filter(|line| line.contains("(mut self"))
        .filter_map(|line| line.trim().strip_prefix("pub fn "))
        .map(|line| line.split('(').next().unwrap().to_owned())
        .collect()
}

/// The section of a page below a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n");
    let (_, rest) = page.split_once(&start).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn settings_page_lists_exactly_the_methods_that_configure() {
    let sources = sources(&root().join("src"));
    for (name, at_least) in [
        ("Builder", 12),
        ("Limits", 2),
        ("Otlp", 15),
        ("RequestSettings", 9),
        ("AuditRequestLayer", 4),
        ("AuditRequest", 3),
    ] {
        let methods = settings(&sources, name);
        assert!(methods.len() >= at_least, "{name}: {methods:?}");
        let listed: BTreeSet<_> = table(section(SETTINGS, &format!("`{name}`")), "method")
            .iter()
            .filter_map(|row| quoted(cells(row)[0]).next()?.split_once('('))
            .map(|(method, _)| method.to_owned())
            // What makes one, rather than configures it.
            .filter(|method| !["new", "exporter"].contains(&method.as_str()))
            .collect();
        assert_eq!(listed, methods, "{name}");
    }
}

#[test]
fn settings_page_names_every_environment_variable_in_the_sources() {
    let sources = sources(&root().join("src")) + &sources(&root().join("crates/cli/src"));
    let names: BTreeSet<_> = sources
        .split('"')
        .filter(|text| text.starts_with("AUDIT_") || text.starts_with("OTEL_"))
        .filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        })
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        // Each has a form of its own for spans, of which the page says that it wins.
        let general = name.replace("_TRACES_", "_");
        let is_there = [name, &general]
            .iter()
            .any(|name| SETTINGS.contains(&format!("`{name}`")));
        assert!(is_there, "{name}");
    }
}

/// A heading's anchor, as repository pages and rustdoc make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The lines of a page that are no code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where the links of a page lead, inline ones and definitions.
fn links(page: &str) -> Vec<&str> {
    let inline = prose(page).flat_map(|line| {
        line.split("](")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(')')?.0))
    });
    let defined = prose(page)
        .filter(|line| line.starts_with('['))
        .filter_map(|line| Some(line.split_once("]: ")?.1.trim()));
    inline.chain(defined).collect()
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let named = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "benches/README.md",
        "crates/cli/README.md",
    ];
    docs.map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .chain(named.map(|name| root().join(name)))
        .collect()
}

#[test]
fn every_link_between_pages_resolves_to_a_file_and_a_heading() {
    let mut local = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            local += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let place = format!("{}: {link}", page.display());
            assert!(to.exists(), "{place}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&to).unwrap();
                let is_there = prose(&text)
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line) == heading);
                assert!(is_there, "{place}");
            }
        }
    }
    assert!(local > 10, "{local}");
}
