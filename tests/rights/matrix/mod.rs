//! Role × verb × object: everything in the list `ALLOWED` is allowed, everything else is refused.

mod calls;
mod tables;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{RECORDS, sqlstate};
use testkit::{ADMINISTRATOR, Postgres, Session};

/// Who tries: a name, the login, and the role it sets.
const WHO: [(&str, &str, Option<&str>); 13] = [
    ("writer", "as_writer", None),
    ("reader", "as_reader", None),
    ("auditor", "as_auditor", None),
    ("operator", "as_operator", None),
    ("sealer", "as_sealer", None),
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
    CREATE ROLE as_sealer LOGIN IN ROLE audit_sealer;
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
    INSERT INTO audit.settings (least_age, reason, changed_by) VALUES ('30 days', 'as before', '');
    INSERT INTO audit.archives (place, parent, day, number, sha256, rows, archived_at, archived_by, event)
        VALUES ('/before', 'events', '2020-01-15', 1, sha256(''), 1, now(), '', gen_random_uuid());
    INSERT INTO audit.subject_keys (key_id, month, tenant_id, subject, key, made_at) VALUES (gen_random_uuid(), '2019-01-01', NULL, '', sha256(''), now());";

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
        if matches!(
            self.kind,
            "parent" | "ledger" | "hold" | "keys" | "legal hold"
        ) {
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
                format!("ALTER TABLE {t} DROP CONSTRAINT {bare}_time"),
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
            "audit.archives",
            "hold",
            "place",
            (
                "place, parent, day, number",
                "place text, parent text, day date, number integer",
            ),
            "place, parent, day, number, sha256, rows, archived_at, archived_by, event",
            "'/archive', 'events', '2020-01-15', 1, sha256(''), 1, now(), '', gen_random_uuid()",
        ),
        Table::other(
            "audit.subject_keys",
            "keys",
            "subject",
            ("key_id", "key_id uuid"),
            "key_id, month, tenant_id, subject, key, made_at",
            "gen_random_uuid(), '2020-01-01', NULL, '', sha256(''), now()",
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
