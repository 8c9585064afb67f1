//! What each role may do with each table.

use super::{LOGINS, Table, WHO, Wrong, as_who, attempt, tables};
use crate::{migrated, refused};
use testkit::ADMINISTRATOR;

/// The statements to try on the view.
const VIEW: [(&str, &str); 17] = [
    ("SELECT", "SELECT * FROM audit.trail"),
    ("COPY QUERY", "COPY (SELECT * FROM audit.trail) TO STDOUT"),
    ("CHANGE", "INSERT INTO audit.trail (user_id) VALUES ('x')"),
    ("CHANGE", "UPDATE audit.trail SET user_id = 'x'"),
    ("CHANGE", "DELETE FROM audit.trail"),
    ("GRANT", "GRANT SELECT ON audit.trail TO PUBLIC"),
    ("LOCK", "LOCK TABLE audit.trail IN ACCESS EXCLUSIVE MODE"),
    (
        "ALTER",
        "ALTER VIEW audit.trail SET (security_invoker = false)",
    ),
    ("ALTER", "ALTER VIEW audit.trail RESET (security_invoker)"),
    ("GIVE AWAY", "ALTER VIEW audit.trail OWNER TO SESSION_USER"),
    ("ALTER", "ALTER VIEW audit.trail RENAME TO other"),
    ("ALTER", "ALTER VIEW audit.trail SET SCHEMA theirs"),
    (
        "ALTER",
        "CREATE OR REPLACE VIEW audit.trail AS SELECT * FROM audit.trail",
    ),
    (
        "CREATE ON",
        "CREATE TRIGGER theirs INSTEAD OF INSERT ON audit.trail FOR EACH ROW EXECUTE FUNCTION theirs.trap()",
    ),
    (
        "CREATE ON",
        "CREATE RULE theirs AS ON INSERT TO audit.trail DO INSTEAD NOTHING",
    ),
    ("DROP", "DROP VIEW audit.trail"),
    ("DROP", "DROP VIEW audit.trail CASCADE"),
];

const LEAVES: &[&str] = &["leaf", "default leaf"];

const ALL_BUT_NOTES: &[&str] = &[
    "parent",
    "leaf",
    "default leaf",
    "ledger",
    "hold",
    "keys",
    "legal hold",
    "view",
];

const ALL: &[&str] = &[
    "parent",
    "leaf",
    "default leaf",
    "ledger",
    "hold",
    "keys",
    "legal hold",
    "view",
    "notes",
];

const OWNERS: &[&str] = &["maintainer", "member of maintainer"];

const READ: &[&str] = &["SELECT", "COPY", "COPY QUERY"];

const INSERT: &[&str] = &[
    "INSERT",
    "INSERT INTO SELECT",
    "INSERT RETURNING",
    "INSERT ON CONFLICT (key)",
    "MERGE INSERT",
];

/// Who may do what with which kind of table. Everything else is refused.
const ALLOWED: &[(&[&str], &[&str], &[&str])] = &[
    // Adds, and sees no existing rows.
    (
        &["writer"],
        &["INSERT", "COPY FROM", "MERGE INSERT"],
        LEAVES,
    ),
    // Row-level security decides which rows.
    (&["reader", "granted"], READ, &["parent", "view"]),
    (&["reader"], READ, &["keys"]),
    (
        &["granted"],
        READ,
        &["ledger", "hold", "keys", "legal hold", "notes"],
    ),
    (
        &["auditor"],
        READ,
        &["parent", "view", "ledger", "hold", "keys", "legal hold"],
    ),
    (&["operator"], READ, &["hold", "legal hold"]),
    // What no trigger and no policy takes from an owner: reading the leaves, adding to them,
    // referring to them, locking them and granting rights. No login should be an owner.
    (OWNERS, READ, ALL_BUT_NOTES),
    (
        OWNERS,
        &["SELECT FOR UPDATE", "LOCK", "GRANT"],
        ALL_BUT_NOTES,
    ),
    (OWNERS, INSERT, LEAVES),
    // Changes of tracked tables, whose plans are kept while months pass.
    (OWNERS, &["INSERT", "MERGE INSERT"], &["parent"]),
    (OWNERS, &["COPY FROM"], LEAVES),
    (
        OWNERS,
        &["INSERT INTO SELECT"],
        &["parent", "ledger", "hold", "keys", "legal hold"],
    ),
    // An owner may see the ids that foreign keys refer to, and nothing else; and may grant rights,
    // but not as the role itself.
    (
        &["owner", "member of owner"],
        &["SELECT FOR UPDATE"],
        &["parent", "legal hold"],
    ),
    (&["member of owner"], &["GRANT"], ALL),
    // The referring table is the member's own; one of the owner's is refused.
    (OWNERS, &["REFERENCES"], ALL_BUT_NOTES),
    // What the functions of the trail do.
    (OWNERS, INSERT, &["ledger", "hold", "keys", "legal hold"]),
    (
        &["maintainer"],
        &["ALTER", "CREATE ON", "DROP", "INHERIT"],
        ALL_BUT_NOTES,
    ),
    // The role that creates the tables records the migrations.
    (&["maintainer"], &["ALTER", "CREATE ON", "DROP"], &["notes"]),
    (OWNERS, READ, &["notes"]),
    (OWNERS, INSERT, &["notes"]),
    (
        OWNERS,
        &[
            "CHANGE",
            "COPY FROM",
            "GRANT",
            "INSERT INTO SELECT",
            "LOCK",
            "SELECT FOR UPDATE",
        ],
        &["notes"],
    ),
    (OWNERS, &["REFERENCES"], &["notes"]),
    // The stated limit. Even here, no row can be changed.
    (&["superuser"], READ, ALL),
    (&["superuser"], INSERT, ALL),
    (
        &["superuser"],
        &[
            "SELECT FOR UPDATE",
            "LOCK",
            "COPY FROM",
            "REFERENCES",
            "GRANT",
            "GIVE AWAY",
            "ALTER",
            "CREATE ON",
            "DROP",
            "INHERIT",
        ],
        ALL,
    ),
    (&["superuser"], &["CHANGE"], &["notes"]),
];

/// Refusals for other reasons than a missing right: the SQLSTATE.
const OTHERWISE: &[(&str, &[&str], &str)] = &[
    // "no privileges were granted", a warning.
    ("GRANT", ALL, "01007"),
    // COPY FROM is not supported with row-level security.
    (
        "COPY FROM",
        &["parent", "ledger", "hold", "keys", "legal hold"],
        "0A000",
    ),
    // What is not NULL there has 32 bytes, or none.
    ("ALTER", &["keys"], "23514"),
    // The type of a column stays, since the views of the families read it.
    ("ALTER", &["parent"], "0A000"),
    // A view of several tables accepts no rows.
    ("CHANGE", &["view"], "55000"),
    // Without row-level security, which turns it into a query, COPY of a partitioned table is not
    // supported.
    ("COPY", &["parent"], "42809"),
];

#[test]
fn every_role_has_exactly_the_listed_rights_on_every_table() {
    let postgres = migrated();
    postgres.psql(LOGINS);
    let cells: Vec<(&str, &str, String)> = tables(&postgres)
        .iter()
        .flat_map(|table| {
            let of_kind = |(verb, sql)| (table.kind, verb, sql);
            table.statements().into_iter().map(of_kind)
        })
        .chain(VIEW.map(|(verb, sql)| ("view", verb, sql.to_owned())))
        .collect();
    let mut wrong = Wrong::default();
    for (who, login, role) in WHO {
        let mut session = as_who(&postgres, login, role);
        for (kind, verb, sql) in &cells {
            let is_allowed = ALLOWED.iter().any(|(whos, verbs, kinds)| {
                whos.contains(&who) && verbs.contains(verb) && kinds.contains(kind)
            });
            let is_otherwise = |state: &str| {
                OTHERWISE.iter().any(|(other, kinds, expected)| {
                    other == verb && kinds.contains(kind) && *expected == state
                })
            };
            match attempt(&mut session, sql) {
                Ok(()) if is_allowed => {}
                Err(state) if is_otherwise(&state) => {}
                Err(state) if !is_allowed && state == "42501" => {}
                Ok(()) => wrong.note(format!("{who}: {verb} on a {kind} is allowed"), sql),
                Err(state) => wrong.note(
                    format!("{who}: {verb} on a {kind} is refused by {state}"),
                    sql,
                ),
            }
        }
    }
    wrong.assert_nothing();
}

#[test]
fn rows_cannot_be_changed_by_a_superuser_or_a_replica_or_with_only_row_triggers() {
    let postgres = migrated();
    postgres.psql(LOGINS);
    let tables = tables(&postgres);
    let mut session = postgres.session(ADMINISTRATOR);
    for role in ["origin", "replica", "local"] {
        let setting = format!("SET session_replication_role = {role}");
        session.run(&setting).unwrap();
        let mut tried = 0;
        for table in tables.iter().filter(|table| table.kind != "notes") {
            for (_, sql) in table
                .statements()
                .iter()
                .filter(|(verb, _)| *verb == "CHANGE")
            {
                let error = refused(&mut session, "42501", sql);
                assert!(error.contains("is refused, it is append-only"), "{error}");
                tried += 1;
            }
        }
        assert!(tried > 150, "{tried}");
    }
    // Rows from logical replication fire only the row triggers.
    session
        .run("SET session_replication_role = replica")
        .unwrap();
    for table in tables
        .iter()
        .filter(|table| !matches!(table.kind, "notes" | "parent"))
    {
        let Table { name: t, text, .. } = table;
        for change in [
            format!("UPDATE {t} SET {text} = 'x'"),
            format!("DELETE FROM {t}"),
        ] {
            let sql = format!("ALTER TABLE {t} DISABLE TRIGGER append_only; {change}");
            let error = refused(&mut session, "42501", &sql);
            assert!(error.contains("is refused, it is append-only"), "{error}");
        }
    }
}
