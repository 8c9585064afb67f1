//! Role × verb × object: everything in the list `ALLOWED` is allowed, everything else is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{RECORDS, migrated, refused, sqlstate};
use testkit::{ADMINISTRATOR, Postgres, Session};

/// Who tries: a name, the login, and the role it sets.
const WHO: [(&str, &str, Option<&str>); 12] = [
    ("writer", "as_writer", None),
    ("reader", "as_reader", None),
    ("auditor", "as_auditor", None),
    ("operator", "as_operator", None),
    ("owner", "as_owner", Some("audit_owner")),
    ("member of owner", "as_owner", None),
    ("maintainer", "as_maintainer", Some("audit_maintainer")),
    ("member of maintainer", "as_maintainer", None),
    ("nobody", "as_nobody", None),
    ("granted", "as_granted", None),
    ("database owner", "as_dbo", None),
    ("superuser", ADMINISTRATOR, None),
];

const LOGINS: &str = "
    CREATE ROLE as_writer LOGIN IN ROLE audit_writer;
    CREATE ROLE as_reader LOGIN IN ROLE audit_reader;
    CREATE ROLE as_auditor LOGIN IN ROLE audit_auditor;
    CREATE ROLE as_operator LOGIN IN ROLE audit_operator;
    CREATE ROLE as_owner LOGIN IN ROLE audit_owner;
    CREATE ROLE as_maintainer LOGIN IN ROLE audit_maintainer;
    CREATE ROLE as_nobody LOGIN;
    CREATE ROLE as_granted LOGIN;
    GRANT USAGE ON SCHEMA audit TO as_granted;
    GRANT SELECT ON ALL TABLES IN SCHEMA audit TO as_granted;
    CREATE ROLE as_dbo LOGIN;
    ALTER DATABASE audit OWNER TO as_dbo;
    -- Where everybody may make what they need for an attempt.
    CREATE SCHEMA theirs;
    GRANT ALL ON SCHEMA theirs TO PUBLIC;
    CREATE FUNCTION theirs.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';";

/// The id of a legal hold that is in force.
const HOLD: &str = "00000000-0000-4000-8000-000000000001";

/// A row in each table that the pipeline does not fill.
const ROWS: &str = "
    INSERT INTO audit.writers (writer_id, login, secret_sha256, service_name) VALUES ('00000000-0000-4000-8000-000000000008', '', sha256(''), '');
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
        VALUES (gen_random_uuid(), 1, 1, '{\"query_runs\": 1}', 0, '');
    INSERT INTO audit.dead_letters (writer_id, seq, kind, reason, frame, salt) VALUES (gen_random_uuid(), 1, '', '', '', '');
    INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
        VALUES ('events_2019_01', 'events', gen_random_uuid(), 1, 1, 1, '', '');
    INSERT INTO audit.legal_holds (id, reason, from_time, to_time, placed_by)
        SELECT id::uuid, 'case', now() - interval '1 day', 'infinity', ''
        FROM unnest(ARRAY['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002']) AS id;
    INSERT INTO audit.legal_hold_lifts (hold_id, reason, lifted_by) VALUES ('00000000-0000-4000-8000-000000000002', 'done', '');
    INSERT INTO audit.settings (least_age, reason, changed_by) VALUES ('30 days', 'as before', '');";

/// A table, and the parts of statements about it.
struct Table {
    name: String,
    kind: &'static str,
    /// The table it is a partition of.
    parent: Option<&'static str>,
    /// A column of type text that the view does not have.
    text: &'static str,
    /// The primary key, and the columns of a table that refers to it.
    key: &'static str,
    referring: &'static str,
    /// The columns of a new row, and their values.
    columns: String,
    values: String,
}

impl Table {
    /// A table that the pipeline does not fill.
    fn other(
        name: &str,
        kind: &'static str,
        text: &'static str,
        (key, referring): (&'static str, &'static str),
        columns: &str,
        values: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            parent: None,
            text,
            key,
            referring,
            columns: columns.to_owned(),
            values: values.to_owned(),
        }
    }

    /// Returns the statements to try, each with the name of its verb.
    #[allow(clippy::too_many_lines, reason = "a statement for each verb")]
    fn statements(&self) -> Vec<(&'static str, String)> {
        let Self {
            name: t,
            text,
            key,
            referring,
            columns,
            values,
            ..
        } = self;
        let bare = t.split_once('.').map_or("", |(_, bare)| bare);
        let source = format!("USING (SELECT 1) AS one ON {text} IS NULL");
        let mut all = vec![
            ("SELECT", format!("SELECT * FROM {t}")),
            ("COPY", format!("COPY {t} TO STDOUT")),
            ("COPY QUERY", format!("COPY (SELECT * FROM {t}) TO STDOUT")),
            ("SELECT FOR UPDATE", format!("SELECT 1 FROM {t} FOR UPDATE")),
            ("LOCK", format!("LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE")),
            (
                "INSERT",
                format!("INSERT INTO {t} ({columns}) VALUES ({values})"),
            ),
            (
                "INSERT",
                format!("INSERT INTO {t} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"),
            ),
            (
                "INSERT INTO SELECT",
                format!("INSERT INTO {t} SELECT * FROM {t} LIMIT 0"),
            ),
            (
                "INSERT RETURNING",
                format!("INSERT INTO {t} ({columns}) VALUES ({values}) RETURNING {text}"),
            ),
            (
                "INSERT ON CONFLICT (key)",
                format!(
                    "INSERT INTO {t} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO NOTHING"
                ),
            ),
            ("COPY FROM", format!("COPY {t} FROM STDIN")),
            (
                "MERGE INSERT",
                format!(
                    "MERGE INTO {t} USING (SELECT 1) AS one ON false WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
                ),
            ),
            ("CHANGE", format!("UPDATE {t} SET {text} = 'x'")),
            ("CHANGE", format!("UPDATE {t} SET {text} = 'x' WHERE false")),
            ("CHANGE", format!("UPDATE {t} SET {text} = 'x' RETURNING 1")),
            (
                "CHANGE",
                format!(
                    "INSERT INTO {t} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {text} = 'x'"
                ),
            ),
            (
                "CHANGE",
                format!("MERGE INTO {t} {source} WHEN MATCHED THEN UPDATE SET {text} = 'x'"),
            ),
            (
                "CHANGE",
                format!("MERGE INTO {t} {source} WHEN MATCHED THEN DELETE"),
            ),
            (
                "CHANGE",
                format!("WITH gone AS (DELETE FROM {t} RETURNING *) SELECT count(*) FROM gone"),
            ),
            ("CHANGE", format!("DELETE FROM {t}")),
            ("CHANGE", format!("TRUNCATE {t} RESTART IDENTITY CASCADE")),
            (
                "REFERENCES",
                format!(
                    "CREATE TABLE theirs.referring ({referring}, FOREIGN KEY ({key}) REFERENCES {t} ON DELETE CASCADE)"
                ),
            ),
            ("GRANT", format!("GRANT SELECT ON {t} TO PUBLIC")),
            (
                "GRANT",
                format!("GRANT UPDATE, DELETE, TRUNCATE, TRIGGER ON {t} TO as_nobody"),
            ),
            ("ALTER", format!("ALTER TABLE {t} ADD CHECK (true)")),
            ("ALTER", format!("ALTER TABLE {t} RENAME TO other")),
            ("ALTER", format!("ALTER TABLE {t} SET SCHEMA theirs")),
            ("GIVE AWAY", format!("ALTER TABLE {t} OWNER TO as_nobody")),
            (
                "GIVE AWAY",
                format!("ALTER TABLE {t} OWNER TO SESSION_USER"),
            ),
            ("ALTER", format!("ALTER TABLE {t} DISABLE TRIGGER USER")),
            (
                "ALTER",
                format!("ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY"),
            ),
            (
                "ALTER",
                format!("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY"),
            ),
            ("ALTER", format!("ALTER TABLE {t} REPLICA IDENTITY FULL")),
            (
                "ALTER",
                format!("ALTER TABLE {t} ALTER {text} SET STORAGE EXTERNAL"),
            ),
            (
                "ALTER",
                format!("ALTER TABLE {t} ALTER {text} SET DEFAULT 'x'"),
            ),
            (
                "CREATE ON",
                format!(
                    "CREATE TRIGGER theirs BEFORE INSERT ON {t} FOR EACH STATEMENT EXECUTE FUNCTION theirs.trap()"
                ),
            ),
            (
                "CREATE ON",
                format!("CREATE RULE theirs AS ON INSERT TO {t} DO INSTEAD NOTHING"),
            ),
            (
                "CREATE ON",
                format!("CREATE RULE theirs AS ON UPDATE TO {t} DO ALSO SELECT 1"),
            ),
            (
                "CREATE ON",
                format!("CREATE POLICY theirs ON {t} USING (true)"),
            ),
            ("CREATE ON", format!("CREATE INDEX ON {t} ({text})")),
            ("DROP", format!("DROP TABLE {t} CASCADE")),
        ];
        if self.kind != "notes" {
            all.extend([
                (
                    "ALTER",
                    format!("ALTER TABLE {t} DISABLE TRIGGER append_only"),
                ),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} ENABLE REPLICA TRIGGER append_only"),
                ),
                (
                    "ALTER",
                    format!("ALTER TRIGGER append_only ON {t} RENAME TO other"),
                ),
                ("DROP", format!("DROP TRIGGER append_only ON {t}")),
            ]);
        }
        if matches!(self.kind, "parent" | "ledger" | "hold" | "legal hold") {
            all.extend([
                ("ALTER", format!("ALTER POLICY auditor ON {t} TO PUBLIC")),
                ("ALTER", format!("ALTER TABLE {t} ADD COLUMN other text")),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} RENAME COLUMN {text} TO other"),
                ),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} ALTER {text} TYPE text USING 'x'"),
                ),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} DROP COLUMN {text} CASCADE"),
                ),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} DROP CONSTRAINT {bare}_pkey CASCADE"),
                ),
                ("DROP", format!("DROP POLICY auditor ON {t}")),
            ]);
        }
        match self.kind {
            "parent" => all.extend([
                ("INHERIT", format!("CREATE TABLE theirs.heir PARTITION OF {t} FOR VALUES FROM ('f0000000-0000-0000-0000-000000000000') TO (MAXVALUE)")),
                ("DROP", format!("DROP INDEX audit.{bare}_tenant_id_idx")),
            ]),
            "ledger" => all.push(("INHERIT", format!("CREATE TABLE theirs.heir () INHERITS ({t})"))),
            _ => {}
        }
        if let Some(parent) = self.parent {
            all.extend([
                ("ALTER", format!("ALTER TABLE {t} SET UNLOGGED")),
                (
                    "ALTER",
                    format!("ALTER TABLE {t} DISABLE TRIGGER append_only_rows"),
                ),
                (
                    "ALTER",
                    format!("ALTER TABLE audit.{parent} DETACH PARTITION {t}"),
                ),
                ("DROP", format!("DROP TRIGGER append_only_rows ON {t}")),
                ("DROP", format!("DROP TABLE {t}")),
                ("CHANGE", format!("TRUNCATE {t}")),
            ]);
        }
        if self.kind == "leaf" {
            all.push((
                "ALTER",
                format!("ALTER TABLE {t} DROP CONSTRAINT {bare}_month"),
            ));
        }
        all
    }
}

/// Returns all tables of the trail, with a row in each.
#[allow(clippy::too_many_lines, reason = "a row for each table")]
fn tables(postgres: &Postgres) -> Vec<Table> {
    let mut tables = Vec::new();
    postgres.psql(ROWS);
    for (parent, time) in RECORDS {
        let columns = format!("id, status, {time}, writer_id, seq, salt");
        let text = match parent {
            "query_runs" => "sql_summary",
            "prompt_runs" => "rendered_prompt",
            _ => "input_summary",
        };
        let mut record = |name: String, kind, parent, at: &str| {
            let values = format!(
                "overlay(audit.id_at({at})::text PLACING right(gen_random_uuid()::text, 12) FROM 25)::uuid, \
                 'succeeded', {at}, gen_random_uuid(), 1, ''"
            );
            postgres.psql(&format!("INSERT INTO {name} ({columns}) VALUES ({values})"));
            tables.push(Table {
                name,
                kind,
                parent,
                text,
                key: "id",
                referring: "id uuid",
                columns: columns.clone(),
                values,
            });
        };
        let leaf = |at: &str| {
            let made = postgres.psql(&format!("SELECT audit.ensure_partition('{parent}', {at})"));
            format!("audit_parts.{made}")
        };
        let future = "(date_trunc('month', now()) + interval '40 days')";
        let far = "(now() + interval '10 years')";
        record(leaf("now()"), "leaf", Some(parent), "now()");
        record(leaf(future), "leaf", Some(parent), future);
        record(leaf(far), "default leaf", Some(parent), far);
        record(format!("audit.{parent}"), "parent", None, "now()");
    }
    tables.extend([
        Table::other(
            "audit.writers",
            "ledger",
            "service_name",
            ("writer_id", "writer_id uuid"),
            "writer_id, login, secret_sha256",
            "gen_random_uuid(), '', sha256('')",
        ),
        Table::other(
            "audit.batches",
            "ledger",
            "service_name",
            ("writer_id, first_seq", "writer_id uuid, first_seq bigint"),
            "writer_id, first_seq, last_seq, records, dead_letters, library_version",
            "gen_random_uuid(), 1, 1, '{\"query_runs\": 1}', 0, ''",
        ),
        Table::other(
            "audit.dead_letters",
            "ledger",
            "reason",
            ("writer_id, seq", "writer_id uuid, seq bigint"),
            "writer_id, seq, kind, reason, frame, salt",
            "gen_random_uuid(), 1, '', '', '', ''",
        ),
        Table::other(
            "audit.removals",
            "hold",
            "parent",
            (
                "partition, removed_at, writer_id, first_seq",
                "partition text, removed_at timestamptz, writer_id uuid, first_seq bigint",
            ),
            "partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by",
            "'events_2020_01', 'events', gen_random_uuid(), 1, 1, 1, '', ''",
        ),
        Table::other(
            "audit.legal_holds",
            "legal hold",
            "reason",
            ("id", "id uuid"),
            "reason, from_time, to_time, placed_by",
            "'case', '-infinity', 'infinity', ''",
        ),
        Table::other(
            "audit.legal_hold_lifts",
            "hold",
            "reason",
            ("hold_id", "hold_id uuid"),
            "hold_id, reason, lifted_by",
            &format!("'{HOLD}', 'done', ''"),
        ),
        Table::other(
            "audit.settings",
            "hold",
            "reason",
            ("id", "id bigint"),
            "least_age, reason, changed_by",
            "'1 year', 'law', ''",
        ),
        Table::other(
            "audit.schema_migrations",
            "notes",
            "description",
            ("version", "version bigint"),
            "version, description, success, checksum, execution_time",
            "-1, '', false, '', 0",
        ),
    ]);
    tables
}

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
    "legal hold",
    "view",
];
const ALL: &[&str] = &[
    "parent",
    "leaf",
    "default leaf",
    "ledger",
    "hold",
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
    (
        &["granted"],
        READ,
        &["ledger", "hold", "legal hold", "notes"],
    ),
    (
        &["auditor"],
        READ,
        &["parent", "view", "ledger", "hold", "legal hold"],
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
    (OWNERS, &["COPY FROM"], LEAVES),
    (
        OWNERS,
        &["INSERT INTO SELECT"],
        &["parent", "ledger", "hold", "legal hold"],
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
    (OWNERS, INSERT, &["ledger", "hold", "legal hold"]),
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
        &["parent", "ledger", "hold", "legal hold"],
        "0A000",
    ),
    // A view of several tables accepts no rows.
    ("CHANGE", &["view"], "55000"),
    // Without row-level security, which turns it into a query, COPY of a partitioned table is not
    // supported.
    ("COPY", &["parent"], "42809"),
];

/// Returns whether the server accepts the statement, or the SQLSTATE of its refusal; rolls
/// everything back.
fn attempt(session: &mut Session, sql: &str) -> Result<(), String> {
    match session.run(&format!("ROLLBACK; BEGIN; {sql}; ROLLBACK")) {
        Ok(_) if session.told().contains("WARNING: 01007") => Err("01007".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(sqlstate(&error).to_owned()),
    }
}

/// Unexpected results, by who and what, with one of the statements.
#[derive(Default)]
struct Wrong(BTreeMap<String, (usize, String)>);

impl Wrong {
    fn note(&mut self, what: String, sql: &str) {
        let (count, _) = self.0.entry(what).or_insert_with(|| (0, sql.to_owned()));
        *count += 1;
    }

    #[track_caller]
    fn assert_nothing(self) {
        let mut text = String::new();
        for (what, (count, sql)) in self.0 {
            let _ = writeln!(text, "{what} ({count} statements), such as {sql}");
        }
        assert!(text.is_empty(), "\n{text}");
    }
}

fn as_who(postgres: &Postgres, login: &str, role: Option<&str>) -> Session {
    let mut session = postgres.session(login);
    if let Some(role) = role {
        session.run(&format!("SET ROLE {role}")).unwrap();
    }
    session
}

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

/// Each function of the trail, a call of it, and who may call it. Nobody else may.
const CALLS: &[(&str, &str, &[&str])] = &[
    ("tenant_uuid", "audit.tenant_uuid('acme')", USERS),
    ("id_at", "audit.id_at(now())", USERS),
    ("current_tenant", "audit.current_tenant()", USERS),
    (
        "writer_position",
        "audit.writer_position(gen_random_uuid())",
        &["writer"],
    ),
    (
        "add_batch",
        "audit.add_batch(gen_random_uuid(), sha256(''), 1, 1, '{\"events\": 1}', 0, NULL, NULL, 'x', 'x')",
        &["writer"],
    ),
    (
        "add_dead_letter",
        "audit.add_dead_letter('00000000-0000-4000-8000-000000000007', sha256(''), 1, NULL, 'x', NULL, 'x', '', '')
            FROM (SELECT audit.add_batch('00000000-0000-4000-8000-000000000007', sha256(''), 1, 1, '{}', 1, NULL, NULL, 'x', 'x')) AS batch",
        &["writer"],
    ),
    (
        "writer_batches",
        "audit.writer_batches('00000000-0000-4000-8000-000000000008', '', 1)",
        &["writer"],
    ),
    (
        "check_writer",
        "audit.check_writer('00000000-0000-4000-8000-000000000008', '')",
        &[],
    ),
    (
        "ensure_partition",
        "audit.ensure_partition('events', now() - interval '9 years')",
        &["writer", "operator"],
    ),
    (
        "request_trail",
        "audit.request_trail('req-1')",
        &["reader", "auditor"],
    ),
    (
        "give_to_owner",
        "audit.give_to_owner('audit_parts.bare')",
        &[],
    ),
    (
        "tenant_batches",
        "audit.tenant_batches(now(), '{}', '{}')",
        &["reader"],
    ),
    (
        "record_reading",
        "audit.record_reading('because')",
        &["reader", "auditor"],
    ),
    (
        "place_hold",
        "audit.place_hold('case')",
        &["auditor", "operator"],
    ),
    (
        "lift_hold",
        "audit.lift_hold('00000000-0000-4000-8000-000000000001', 'over')",
        &["auditor"],
    ),
    (
        "plan_retention",
        "audit.plan_retention('1 year')",
        &["operator"],
    ),
    (
        "remove_partition",
        "audit.remove_partition('events_2020_01', '1 year')",
        &["operator"],
    ),
    (
        "append_event",
        "audit.append_event('x', NULL, NULL, NULL, NULL, NULL, NULL)",
        &[],
    ),
    (
        "hold_coverage",
        "audit.hold_coverage('00000000-0000-4000-8000-000000000001')",
        &["auditor", "operator"],
    ),
    ("least_age", "audit.least_age()", &["auditor", "operator"]),
    (
        "set_least_age",
        "audit.set_least_age('1 year', 'because')",
        &["auditor"],
    ),
    ("plan_settling", "audit.plan_settling()", &["operator"]),
    (
        "settle_month",
        "audit.settle_month('events', (SELECT NULL::timestamptz))",
        &["operator"],
    ),
    (
        "covered",
        "audit.covered(NULL, '-infinity', 'infinity', NULL)",
        &[],
    ),
    ("by_the_host", "audit.by_the_host('events')", &[]),
    ("record_tables", "audit.record_tables()", &[]),
    ("count_records", "audit.count_records('{}')", &[]),
    ("check_kinds", "audit.check_kinds(NULL)", &[]),
    ("check_text", "audit.check_text('x', 'y', 1)", &[]),
    ("leaves", "audit.leaves('events')", &[]),
    (
        "make_leaf",
        "audit.make_leaf((SELECT NULL), 'x', now(), now())",
        &[],
    ),
    (
        "attach_leaf",
        "audit.attach_leaf((SELECT NULL), 'x', now(), now(), 1)",
        &[],
    ),
    (
        "run_with_short_waits",
        "audit.run_with_short_waits('SELECT 1')",
        &[],
    ),
    ("refuse_old_snapshot", "audit.refuse_old_snapshot()", &[]),
    ("refuse_prepare", "audit.refuse_prepare()", &[]),
    ("time_column", "audit.time_column('events')", &[]),
    ("held", "audit.held('events', '-infinity', 'infinity')", &[]),
    ("referring", "audit.referring('audit.events')", &[]),
    ("depending", "audit.depending('events_2020_01')", &[]),
    (
        "obstacles",
        "audit.obstacles('events', 'events_2020_01', '2020-01-01Z', '2020-02-01Z')",
        &[],
    ),
    (
        "keep_no_statistics",
        "audit.keep_no_statistics('audit_parts.bare')",
        &[],
    ),
    (
        "make_leaf_safe",
        "audit.make_leaf_safe('audit_parts.bare')",
        &[],
    ),
    (
        "make_append_only",
        "audit.make_append_only('audit_parts.bare')",
        &[],
    ),
];

/// Who may name objects in schema `audit`.
const USERS: &[&str] = &[
    "writer",
    "reader",
    "auditor",
    "operator",
    "owner",
    "member of owner",
    "granted",
];

const USERS_AND_MAINTAINERS: &[&str] = &[
    "writer",
    "reader",
    "auditor",
    "operator",
    "owner",
    "member of owner",
    "granted",
    "maintainer",
    "member of maintainer",
];

const MAINTAINER: &[&str] = &["maintainer"];

/// What only a superuser and those listed may do.
const OTHER: &[(&str, &[&str])] = &[
    ("SELECT 'failed'::audit.run_status", USERS_AND_MAINTAINERS),
    ("ALTER TYPE audit.run_status ADD VALUE 'other'", MAINTAINER),
    (
        "ALTER TYPE audit.run_status RENAME VALUE 'failed' TO 'fine'",
        MAINTAINER,
    ),
    ("ALTER TYPE audit.run_status SET SCHEMA theirs", MAINTAINER),
    ("DROP TYPE audit.run_status CASCADE", MAINTAINER),
    (
        "ALTER FUNCTION audit.refuse_change() RENAME TO other",
        MAINTAINER,
    ),
    (
        "ALTER FUNCTION audit.refuse_change() SET search_path = theirs",
        MAINTAINER,
    ),
    (
        "ALTER FUNCTION audit.ensure_partition(text, timestamptz) SECURITY INVOKER",
        MAINTAINER,
    ),
    ("DROP FUNCTION audit.refuse_change() CASCADE", MAINTAINER),
    (
        "GRANT EXECUTE ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb) TO PUBLIC",
        &["maintainer", "member of maintainer"],
    ),
    (
        "CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        MAINTAINER,
    ),
    (
        "CREATE OR REPLACE FUNCTION audit.current_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        MAINTAINER,
    ),
    (
        "CREATE FUNCTION audit.ensure_partition(text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
        MAINTAINER,
    ),
    (
        "CREATE FUNCTION audit.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        MAINTAINER,
    ),
    ("CREATE TABLE audit.theirs ()", MAINTAINER),
    ("CREATE TABLE audit_parts.theirs ()", MAINTAINER),
    ("CREATE VIEW audit.theirs AS SELECT 1", MAINTAINER),
    ("ALTER SCHEMA audit RENAME TO other", &[]),
    ("ALTER SCHEMA audit_parts OWNER TO SESSION_USER", &[]),
    ("DROP SCHEMA audit CASCADE", MAINTAINER),
    ("DROP SCHEMA audit_parts CASCADE", MAINTAINER),
    (
        "GRANT ALL ON SCHEMA audit, audit_parts TO PUBLIC",
        &["member of owner", "maintainer", "member of maintainer"],
    ),
    ("CREATE TABLE audit_guard.theirs ()", &[]),
    ("DROP SCHEMA audit_guard CASCADE", &[]),
    ("DROP FUNCTION audit_guard.refuse_ddl() CASCADE", &[]),
    (
        "CREATE OR REPLACE FUNCTION audit_guard.refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        &[],
    ),
    ("ALTER EVENT TRIGGER audit_refuse_ddl DISABLE", &[]),
    ("DROP EVENT TRIGGER audit_refuse_drop", &[]),
    ("SET LOCAL session_replication_role = replica", &[]),
    ("SET LOCAL session_authorization = postgres", &[]),
    (
        "SET LOCAL ROLE audit_auditor; RESET ROLE; SET LOCAL ROLE postgres",
        &[],
    ),
    (
        "DO $$ BEGIN EXECUTE format('GRANT audit_auditor TO %I', session_user); END $$",
        &[],
    ),
    (
        "DO $$ BEGIN EXECUTE format('GRANT audit_maintainer TO %I', session_user); END $$",
        &[],
    ),
    (
        "DO $$ BEGIN EXECUTE format('REASSIGN OWNED BY audit_owner TO %I', session_user); END $$",
        &[],
    ),
    ("ALTER ROLE audit_owner LOGIN", &[]),
    ("ALTER ROLE audit_auditor RENAME TO other", &[]),
    ("ALTER ROLE audit_reader SET app.current_tenant = ''", &[]),
    ("DROP OWNED BY audit_owner CASCADE", &["maintainer"]),
    ("DROP OWNED BY audit_writer", &[]),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE audit_maintainer GRANT SELECT ON TABLES TO PUBLIC",
        &["maintainer", "member of maintainer"],
    ),
    ("CREATE PUBLICATION theirs FOR TABLE audit.events", &[]),
    ("CREATE PUBLICATION theirs FOR ALL TABLES", &[]),
];

#[test]
fn every_role_calls_and_alters_exactly_the_listed_objects() {
    let postgres = migrated();
    postgres.psql(LOGINS);
    postgres.psql(ROWS);
    postgres.psql("CREATE TABLE audit_parts.bare (bare int); ALTER TABLE audit_parts.bare OWNER TO audit_owner; SELECT audit.ensure_partition('events', '2020-01-15Z')");
    // A new function must be added here.
    let there = postgres.psql("SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'audit'::regnamespace AND prorettype <> 'trigger'::regtype");
    let mut called: Vec<&str> = CALLS.iter().map(|(name, ..)| *name).collect();
    called.sort_unstable();
    assert_eq!(called.join(" "), there);

    let functions = CALLS
        .iter()
        .map(|(_, call, whos)| (format!("SELECT {call}"), *whos, true));
    let other = OTHER
        .iter()
        .map(|(sql, whos)| ((*sql).to_owned(), *whos, false));
    let cells: Vec<_> = functions.chain(other).collect();
    let mut wrong = Wrong::default();
    for (who, login, role) in WHO {
        let mut session = as_who(&postgres, login, role);
        for (sql, whos, is_call) in &cells {
            // They own the functions; those that alter something without running as their owner
            // fail for a member.
            let owns = *is_call
                && (who == "maintainer"
                    || who == "member of maintainer" && !sql.contains("audit_parts.bare"));
            let is_allowed = whos.contains(&who) || owns || who == "superuser";
            match attempt(&mut session, sql) {
                Ok(()) if is_allowed => {}
                Err(state) if !is_allowed && matches!(&*state, "42501" | "01007") => {}
                Ok(()) => wrong.note(format!("{who} may: {sql}"), ""),
                Err(state) => wrong.note(format!("{who} is refused by {state}: {sql}"), ""),
            }
        }
    }
    wrong.assert_nothing();
}
