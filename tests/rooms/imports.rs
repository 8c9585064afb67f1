//! The table of the rooms against what the sources import.

use std::collections::{BTreeMap, BTreeSet};

use super::{House, Module, Planted, src};

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
    ("https", &[]),
    ("database", &[]),
    ("record", &["clock", "limits", "vocabulary"]),
    ("ledger", &[]),
    ("sql", &[]),
    ("redact", &["record", "sql", "vocabulary"]),
    ("error", &["database", "redact"]),
    (
        "config",
        &[
            "database",
            "error",
            "https",
            "ledger",
            "limits",
            "redact",
            "vocabulary",
        ],
    ),
    ("queue", &["fork", "record", "sync"]),
    ("stats", &["clock", "queue", "redact", "sync", "vocabulary"]),
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
        "adopt",
        &["capture", "config", "limits", "record", "vocabulary"],
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
        &[
            "adopt",
            "capture",
            "intake",
            "limits",
            "own_threads",
            "record",
            "vocabulary",
        ],
    ),
    ("request", &["capture", "clock", "record", "vocabulary"]),
    ("tower", &["request"]),
    ("actix", &["request", "vocabulary"]),
    ("spool", &["clock", "record", "redact"]),
    (
        "sink",
        &[
            "clock",
            "config",
            "database",
            "delivery",
            "error",
            "https",
            "ledger",
            "own_threads",
            "record",
            "report",
            "spool",
            "sql",
            "stats",
            "vocabulary",
        ],
    ),
    (
        "seal",
        &["config", "database", "error", "https", "ledger", "sink"],
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
            "redact",
            "report",
            "seal",
            "sink",
            "spool",
            "stats",
        ],
    ),
    (
        "audit",
        &[
            "config", "error", "intake", "layer", "pipeline", "record", "stats",
        ],
    ),
    (
        "testing",
        &[
            "config",
            "fork",
            "intake",
            "layer",
            "record",
            "redact",
            "stats",
            "vocabulary",
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
    (
        "__program",
        &[
            "config",
            "database",
            "https",
            "ledger",
            "record",
            "seal",
            "sink",
            "stats",
            "vocabulary",
        ],
    ),
];

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

#[test]
fn planted_upward_import_is_named() {
    for line in [
        "use crate::pipeline::patience;",
        "pub(crate) use crate::pipeline::patience;",
        "#[planted(crate::pipeline::patience)] fn planted() {}",
        "fn planted() { crate::pipeline::patience(std::time::Duration::ZERO); }",
        "fn planted() { println!(\"{:?}\", crate::pipeline::patience); }",
    ] {
        let planted = Planted::new(&src(), "clock/mod.rs", line);
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
