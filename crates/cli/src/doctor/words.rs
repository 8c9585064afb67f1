//! Describes a difference in words that a database administrator can act on.

use std::collections::BTreeSet;

use super::difference::{Difference, How, Privilege};
use super::finding::Severity;
use super::mend::is_demanded;
use super::snapshot::Fact;

use How::{Changed, Extra, Missing};
use Severity::{Problem, Warning};

/// The severity, the actual state, and the expected one.
pub(crate) type Words = (Severity, String, String);

/// Describes a group of differences with one cause; `found` holds all facts of the database.
pub(crate) fn words(difference: &Difference, group: &[Difference], found: &[Fact]) -> Words {
    let name = &difference.fact().name;
    match difference.kind() {
        "privilege" => privilege(difference, group),
        "default privilege" => problem(name, "no default privileges"),
        "owner" => owner(difference),
        "row security" | "forced row security" => row_security(difference),
        "trigger" => trigger(difference),
        "event trigger" => event_trigger(difference),
        "function" => problem(changed_function(difference), "as in the migrations"),
        kind if kind.starts_with("column") => column(difference, group, found),
        "index" | "constraint" | "policy" => part_of_table(difference),
        _ => other(difference, group),
    }
}

fn problem(found: impl Into<String>, expected: impl Into<String>) -> Words {
    (Problem, found.into(), expected.into())
}

fn warning(found: impl Into<String>, expected: impl Into<String>) -> Words {
    (Warning, found.into(), expected.into())
}

/// Returns the first line of a statement.
fn short(statement: &str) -> String {
    let line = statement.lines().next().unwrap_or_default();
    line.trim_end_matches(';').to_owned()
}

fn names(group: &[Difference]) -> String {
    let names: BTreeSet<&str> = group.iter().map(|d| d.fact().name.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn owner(difference: &Difference) -> Words {
    let owner = |statement: &str| {
        let (_, owner) = statement.rsplit_once(" OWNER TO ").unwrap_or_default();
        owner
            .trim_end_matches(';')
            .replace("CURRENT_USER", "a superuser")
    };
    problem(
        format!("it belongs to {}", owner(difference.found_statement())),
        owner(difference.golden_statement()),
    )
}

fn row_security(difference: &Difference) -> Words {
    let found = difference.found_statement();
    let is_off = found.contains(" DISABLE ") || found.contains(" NO FORCE ");
    let text = match (difference.kind(), is_off) {
        ("row security", true) => "row-level security is off: every reader sees all tenants' rows",
        ("row security", false) => {
            "row-level security is on for a partition: the writer cannot add to it"
        }
        (_, true) => "row-level security is not forced: its owner sees all rows",
        (_, false) => "row-level security is forced for a partition: its owner cannot read it",
    };
    let expected = if is_off {
        "enabled and forced"
    } else {
        "off: rows are read through the table that it is a partition of"
    };
    problem(text, expected)
}

fn trigger(difference: &Difference) -> Words {
    let name = &difference.fact().name;
    let shape = |fact: &Option<Fact>| fact.as_ref().and_then(|fact| fact.shape.clone());
    if difference.how == Changed && shape(&difference.golden) == shape(&difference.found) {
        let state = if difference.found_statement().contains(" DISABLE TRIGGER ") {
            "is disabled"
        } else {
            "is not enabled for every session_replication_role"
        };
        return problem(
            format!("trigger {name} {state}: rows may be changed"),
            "enabled always",
        );
    }
    named(
        difference,
        "trigger",
        "rows may be changed",
        "it may change rows, or keep them from being written",
    )
}

fn event_trigger(difference: &Difference) -> Words {
    let should = short(difference.golden_statement());
    match difference.how {
        Missing => problem(
            "it is missing: the tables may be altered or dropped",
            should,
        ),
        Changed => problem(
            format!("it is another one: {}", short(difference.found_statement())),
            should,
        ),
        Extra => problem("it calls a function of the trail", "no other event trigger"),
    }
}

/// Describes a difference of a named part of a table.
fn named(difference: &Difference, what: &str, missing: &str, extra: &str) -> Words {
    let name = &difference.fact().name;
    let (is, should) = (
        short(difference.found_statement()),
        short(difference.golden_statement()),
    );
    match difference.how {
        Missing => problem(format!("{what} {name} is missing: {missing}"), should),
        Changed => problem(format!("{what} {name} is another one: {is}"), should),
        Extra => problem(
            format!("{what} {name} is none of the trail's: {extra}"),
            format!("no other {what}"),
        ),
    }
}

fn part_of_table(difference: &Difference) -> Words {
    let name = &difference.fact().name;
    let is = short(difference.found_statement());
    match (difference.kind(), difference.how) {
        ("policy", _) => named(
            difference,
            "policy",
            "readers do not see what they must",
            &is,
        ),
        // A partition's check only saves queries by time from reading the partition.
        ("constraint", Missing) if name.ends_with("_time") => warning(
            format!("constraint {name} is missing: a query by time reads this partition as well"),
            short(difference.golden_statement()),
        ),
        ("constraint", _) => named(
            difference,
            "constraint",
            "it let in what it must not",
            &format!("it may refuse records: {is}"),
        ),
        (_, Extra) if difference.fact().shape.as_deref() == Some("long") => warning(
            format!("an index that refuses records with a long value (some 2,700 bytes): {name}"),
            "no such index on values of any length",
        ),
        (_, Extra) => problem(
            format!(
                "an index that may refuse records, or evaluates something of somebody's: {name}"
            ),
            "no such index",
        ),
        _ => warning("an index is missing: reading takes longer", name.as_str()),
    }
}

fn column(difference: &Difference, group: &[Difference], found: &[Fact]) -> Words {
    let (is, should) = (
        short(difference.found_statement()),
        short(difference.golden_statement()),
    );
    match (difference.kind(), difference.how) {
        ("column", Missing) => problem("there is no such column: nothing can be written", should),
        ("column", Changed) => problem(is, should),
        ("column", Extra) if is_demanded(difference.fact(), found) => problem(
            "a column of somebody else's that must be given a value: nothing can be written",
            "no other column, or one that may be NULL",
        ),
        ("column", Extra) => warning("a column of somebody else's", "no other column"),
        ("column not null", Missing) => problem("it may be NULL", "NOT NULL"),
        ("column not null", _) => {
            problem("it is NOT NULL: records may be refused", "it may be NULL")
        }
        ("column statistics", _) => problem(
            format!(
                "ANALYZE notes values of {}, which a reader of another tenant learns of from EXPLAIN",
                names(group)
            ),
            "statistics of the id and the time only",
        ),
        (_, Missing) => problem("its default is missing", should),
        (_, Changed) => problem(format!("its default is another one: {is}"), should),
        (_, Extra) => problem(format!("it has a default: {is}"), "none"),
    }
}

fn other(difference: &Difference, group: &[Difference]) -> Words {
    let name = &difference.fact().name;
    match (difference.kind(), difference.how) {
        ("object", Missing) => problem(
            format!("there is no such {name}"),
            "the one of the migrations",
        ),
        ("object", _) => {
            let meaning = if name == "function" {
                ": it could be called in place of ours"
            } else {
                ""
            };
            problem(
                format!("a {name} that is none of the trail's{meaning}"),
                "nothing else in the schemas of the trail",
            )
        }
        ("outside", _) => problem(
            "it acts with the rights of the trail, and lies outside of it",
            "none",
        ),
        ("table", _) => problem("it is a table of another kind", "as the migrations make it"),
        ("logged", _) => problem("it is UNLOGGED: a crash of the server empties it", "LOGGED"),
        ("storage", _) => warning(
            format!("it, or an index of it, is not stored as Postgres does by default: {name}"),
            "in the tablespace of the database, by heap",
        ),
        ("parent", _) => problem(format!("it inherits from {name}"), "a table of its own"),
        ("child", _) => problem(
            format!("it is none of the trail's, and its rows are seen in {name}"),
            "nothing below the tables of the trail but its own partitions",
        ),
        ("foreign key trigger", _) => warning(
            format!(
                "trigger {name} of a foreign key is not enabled: rows may refer to what is not there"
            ),
            "enabled",
        ),
        ("hidden", _) => problem(
            format!("the catalog says that it has no {name}, or fewer, so that they do nothing"),
            "what it has",
        ),
        ("extension", _) => problem(
            format!(
                "it was made a part of extension {name}: it is dumped no more, and goes with it"
            ),
            "a part of no extension",
        ),
        ("rule", _) => problem(
            format!("rule {name} may swallow rows, or do something else in their place"),
            "no rule",
        ),
        ("view", _) => problem(
            "its definition or its options are others: it may leave rows out, make some up, or \
             read with its owner's rights",
            "the one of the migrations, with security_invoker = true",
        ),
        ("cast", _) => problem(
            format!("a cast of somebody else's shows it as another value: {name}"),
            "no other cast",
        ),
        ("extended statistics", _) => problem(
            format!(
                "ANALYZE notes values for {name}, which a reader of another tenant learns of from EXPLAIN"
            ),
            "no statistics over several columns",
        ),
        ("noted values", _) => problem(
            format!(
                "ANALYZE has noted values of {}, which a reader of another tenant learns of from EXPLAIN",
                names(group)
            ),
            "statistics of the id and the time only",
        ),
        ("invalid index", _) => warning(
            format!("index {name} is not valid, and of no use to queries"),
            "valid",
        ),
        _ => problem(
            format!("it is another one: {}", short(difference.found_statement())),
            short(difference.golden_statement()),
        ),
    }
}

/// Describes a role's extra or missing rights.
fn privilege(difference: &Difference, group: &[Difference]) -> Words {
    let of_group: Vec<Privilege> = group.iter().map(|d| Privilege::of(d.fact())).collect();
    let who = Privilege::of(difference.fact()).grantee().to_owned();
    let names: BTreeSet<&str> = of_group
        .iter()
        .map(|privilege| privilege.what.as_str())
        .collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let objects: BTreeSet<&str> = group.iter().map(|d| d.fact().object.as_str()).collect();
    let on = match objects.len() {
        1 => String::new(),
        _ => format!(" on {}", objects.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let is_for_foreign_keys = difference.how == Extra
        && of_group.iter().any(Privilege::is_for_foreign_keys)
        && of_group
            .iter()
            .all(|privilege| privilege.is_for_foreign_keys() || privilege.what == "USAGE");
    match difference.how {
        // They prevent the removal of partitions, which reports them.
        _ if is_for_foreign_keys => (
            Severity::Ok,
            format!("{who} may make foreign keys that refer to it{on}"),
            String::new(),
        ),
        Extra => problem(format!("{who} has {names}{on}"), "not granted"),
        _ => problem(format!("{who} does not have {names}{on}"), "granted"),
    }
}

/// Describes whether a function's header or its body changed.
fn changed_function(difference: &Difference) -> String {
    let parts = |statement: &str| -> (String, String) {
        let (head, body) = statement.split_once("\nAS $").unwrap_or((statement, ""));
        (head.to_owned(), body.to_owned())
    };
    let ((head, body), (right_head, right_body)) = (
        parts(difference.found_statement()),
        parts(difference.golden_statement()),
    );
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    let mut told = Vec::new();
    if body != right_body {
        told.push("its body is another one".to_owned());
    }
    let (is, should) = (lines(&head), lines(&right_head));
    let other: Vec<&str> = is.difference(&should).map(String::as_str).collect();
    let lacking: Vec<&str> = should.difference(&is).map(String::as_str).collect();
    if !other.is_empty() {
        told.push(format!("it has {}", other.join("; ")));
    }
    if !lacking.is_empty() {
        told.push(format!("it lacks {}", lacking.join("; ")));
    }
    told.join(", ")
}
