//! Tables, their storage and their partitions.

use super::Undone::{AsAdvised, By, Then, Twice};
use super::{
    Case, command, doctor, each_is_found, follow, found, make_partitions, migrate, with_partitions,
};
use testkit::Postgres;

/// Where a table lies, and by which access method.
const STORAGE: &[Case] = &[
    Case {
        done: "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE audit_parts.events_NEXT SET ACCESS METHOD heap2",
        undone: Then("DROP ACCESS METHOD heap2"),
        found: &["warning tables audit_parts.events_NEXT"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_NEXT SET TABLESPACE fast; ALTER INDEX audit_parts.events_NEXT_pkey SET TABLESPACE fast",
        undone: AsAdvised,
        found: &[
            "warning tables audit_parts.events_NEXT",
            "warning tables audit_parts.events_NEXT",
        ],
    },
    Case {
        // Nobody logs in as a group.
        done: "ALTER ROLE team SET search_path = public, pg_catalog; ALTER ROLE audit_writer SET search_path = public, pg_catalog",
        undone: By("ALTER ROLE team RESET ALL; ALTER ROLE audit_writer RESET ALL"),
        found: &[],
    },
];

const TABLES: &[Case] = &[
    Case {
        done: "ALTER TABLE audit.dead_letters SET UNLOGGED; ALTER TABLE audit_parts.events_default SET UNLOGGED",
        undone: AsAdvised,
        found: &[
            "problem tables audit.dead_letters",
            "problem tables audit_parts.events_default",
        ],
    },
    Case {
        done: "CREATE TABLE audit.mine (); CREATE VIEW audit.yours AS SELECT 1 AS one; CREATE SEQUENCE audit.theirs",
        undone: By("DROP TABLE audit.mine; DROP VIEW audit.yours; DROP SEQUENCE audit.theirs"),
        found: &[
            "problem tables audit.mine",
            "problem tables audit.theirs",
            "problem tables audit.yours",
        ],
    },
    Case {
        // Rows that nobody wrote show up in ours.
        done: "CREATE TABLE public.evil (LIKE audit.batches INCLUDING ALL); ALTER TABLE public.evil INHERIT audit.batches",
        undone: By("DROP TABLE public.evil"),
        found: &["problem tables public.evil"],
    },
    Case {
        done: "CREATE TABLE public.evil PARTITION OF audit.events FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('00000000-0001-0000-0000-000000000000')",
        undone: By("DROP TABLE public.evil"),
        found: &["problem tables public.evil"],
    },
    Case {
        done: "ALTER TABLE audit.dead_letters RENAME TO lost",
        undone: AsAdvised,
        found: &["problem tables audit.dead_letters"],
    },
    Case {
        done: "ALTER TABLE audit.settings ADD COLUMN demanded int NOT NULL, ADD COLUMN harmless int",
        // The advice first makes the trail writable, then drops the column.
        undone: Twice,
        found: &[
            "problem columns audit.settings.demanded",
            "warning columns audit.settings.harmless",
        ],
    },
    Case {
        done: "ALTER TABLE audit.batches ALTER COLUMN committed_at DROP DEFAULT, ALTER COLUMN first_id SET NOT NULL;
            ALTER TABLE audit.dead_letters DROP COLUMN record_id, ALTER COLUMN reason TYPE varchar",
        undone: AsAdvised,
        found: &[
            "problem columns audit.batches.committed_at",
            "problem columns audit.batches.first_id",
            "problem columns audit.dead_letters.reason",
            "problem columns audit.dead_letters.record_id",
        ],
    },
    Case {
        done: "ALTER TABLE audit.dead_letters SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem tables audit.dead_letters"],
    },
    Case {
        // Each has the other's values.
        done: "ALTER TABLE audit.events RENAME COLUMN user_id TO x; ALTER TABLE audit.events RENAME COLUMN user_role TO user_id;
            ALTER TABLE audit.events RENAME COLUMN x TO user_role",
        undone: AsAdvised,
        found: &["problem columns audit.events"],
    },
    Case {
        // Another column has taken its place.
        done: "ALTER TABLE audit.writers RENAME COLUMN service_name TO hidden; ALTER TABLE audit.writers ADD COLUMN service_name text",
        undone: Twice,
        found: &["problem columns audit.writers"],
    },
    Case {
        done: "ALTER TABLE audit.legal_hold_lifts ALTER CONSTRAINT legal_hold_lifts_hold_id_fkey DEFERRABLE INITIALLY DEFERRED;
            ALTER TABLE audit.batches ALTER COLUMN service_name TYPE text COLLATE \"C\"",
        undone: AsAdvised,
        found: &["problem columns audit.batches.service_name", "problem constraints audit.legal_hold_lifts"],
    },
    Case {
        done: "CREATE FUNCTION public.lie(audit.run_status) RETURNS text LANGUAGE sql AS $$SELECT 'succeeded'$$;
            CREATE CAST (audit.run_status AS text) WITH FUNCTION public.lie(audit.run_status) AS IMPLICIT",
        undone: Then("DROP FUNCTION public.lie(audit.run_status)"),
        found: &["problem columns audit.run_status"],
    },
    Case {
        done: "CREATE INDEX ON audit_parts.events_default (lower(user_id)); CREATE INDEX ON audit.batches (committed_at) WHERE dead_letters > 0;
            CREATE INDEX mine ON audit.batches (service_name)",
        undone: By("DROP INDEX audit.mine, audit.batches_committed_at_idx1, audit_parts.events_default_lower_idx"),
        found: &["problem indexes audit_parts.events_default", "warning indexes audit.batches"],
    },
    Case {
        // Stored statistics stay.
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 100;
            INSERT INTO audit_parts.events_default (id, created_at, status, writer_id, seq, salt, user_id)
                SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', gen_random_uuid(), 1, '', 'alice';
            ANALYZE audit_parts.events_default; ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 0;
            ALTER TABLE audit_parts.events_default DISABLE TRIGGER USER; TRUNCATE audit_parts.events_default;
            ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only_rows",
        undone: AsAdvised,
        found: &["problem statistics audit_parts.events_default"],
    },
    Case {
        // In one partition only.
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET NOT NULL, ALTER COLUMN problems SET DEFAULT '{forged}'",
        undone: AsAdvised,
        found: &[
            "problem columns audit_parts.events_default.problems",
            "problem columns audit_parts.events_default.user_id",
        ],
    },
    Case {
        done: "ALTER TYPE audit.run_status RENAME VALUE 'failed' TO 'fine'",
        undone: AsAdvised,
        found: &["problem columns audit.run_status", "problem view audit.agent_metrics_daily", "problem view audit.agent_metrics_hourly", "problem view audit.model_usage"],
    },
    Case {
        done: "ALTER TABLE audit.events ADD CONSTRAINT refusing CHECK (user_id <> 'mallory')",
        undone: AsAdvised,
        // Each partition inherits it: one cause.
        found: &["problem constraints audit.events"],
    },
    Case {
        done: "ALTER TABLE audit.legal_holds DROP CONSTRAINT legal_holds_check; ALTER TABLE audit.legal_hold_lifts DROP CONSTRAINT legal_hold_lifts_hold_id_fkey",
        undone: AsAdvised,
        found: &[
            "problem constraints audit.legal_hold_lifts",
            "problem constraints audit.legal_holds",
        ],
    },
    Case {
        done: "CREATE UNIQUE INDEX refusing ON audit_parts.events_default (user_id)",
        undone: AsAdvised,
        found: &["problem indexes audit_parts.events_default"],
    },
    Case {
        done: "DROP INDEX audit.batches_committed_at_idx; ALTER TABLE audit.dead_letters DROP CONSTRAINT dead_letters_pkey",
        undone: AsAdvised,
        found: &[
            "problem constraints audit.dead_letters",
            "warning indexes audit.batches",
        ],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 100;
            CREATE STATISTICS public.pairs ON user_id, tenant_id FROM audit.events",
        undone: AsAdvised,
        found: &[
            "problem statistics audit.events",
            "problem statistics audit_parts.events_default",
        ],
    },
    Case {
        done: "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_parts.events_default_request_id_tenant_id_idx'::regclass",
        undone: AsAdvised,
        found: &["warning indexes audit_parts.events_default"],
    },
    Case {
        // As an interrupted REINDEX CONCURRENTLY leaves it.
        done: "CREATE INDEX events_default_pkey_ccnew1 ON audit_parts.events_default (request_id, tenant_id);
            UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_parts.events_default_pkey_ccnew1'::regclass",
        undone: AsAdvised,
        found: &["warning indexes audit_parts.events_default"],
    },
];

const PARTITIONS: &[Case] = &[
    Case {
        done: "DROP TABLE audit_parts.events_NEXT",
        undone: AsAdvised,
        found: &["warning partitions_ahead audit.events"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_MONTH"],
    },
    Case {
        done: "CREATE TABLE audit_parts.mine ()",
        undone: By("DROP TABLE audit_parts.mine"),
        found: &["problem partitions audit_parts.mine"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH DROP CONSTRAINT events_MONTH_time",
        undone: AsAdvised,
        found: &["warning partitions audit_parts.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH DROP CONSTRAINT events_MONTH_time, ADD CONSTRAINT events_MONTH_time CHECK (created_at < '1999-01-01Z') NOT VALID",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_MONTH"],
    },
    Case {
        // The ids of another month, according to its bound.
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_NEXT;
            ALTER TABLE audit.events ATTACH PARTITION audit_parts.events_NEXT FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('00000000-0001-0000-0000-000000000000')",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_NEXT"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_NEXT RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem partitions public.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH SET SCHEMA public; ALTER TABLE public.events_MONTH RENAME TO \"Odd one\"",
        undone: AsAdvised,
        found: &["problem partitions public.\"Odd one\""],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH; ALTER TABLE audit_parts.events_MONTH SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem partitions public.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH; ALTER TABLE audit_parts.events_MONTH RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        // A table with the columns of events is not one of theirs because of that.
        done: "ALTER TABLE audit.activities DETACH PARTITION audit_parts.activities_MONTH; ALTER TABLE audit_parts.activities_MONTH RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        // Each has the other's name.
        done: "ALTER TABLE audit_parts.events_MONTH RENAME TO x; ALTER TABLE audit_parts.events_NEXT RENAME TO events_MONTH;
            ALTER TABLE audit_parts.x RENAME TO events_NEXT",
        undone: AsAdvised,
        found: &["problem partitions audit.events"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_default RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_default; DROP TABLE audit_parts.events_default",
        undone: AsAdvised,
        found: &["problem default_partition audit_parts.events_default"],
    },
];

#[test]
fn tampering_with_tables_is_found() {
    each_is_found(TABLES);
}

#[test]
fn tampering_with_partitions_is_found() {
    each_is_found(PARTITIONS);
}

#[test]
fn storage_of_another_kind_is_found_and_settings_of_groups_are_not() {
    each_is_found(STORAGE);
}

#[test]
fn a_prepared_transaction_that_holds_a_lock_of_the_trail_is_found() {
    let postgres = Postgres::start_with(&["max_prepared_transactions=4"]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLE public.own ()");
    for (reads, name) in [
        ("audit_parts.events_default", "it''s"),
        ("public.own", "other"),
    ] {
        let mut session = postgres.session("postgres");
        for statement in [
            "BEGIN",
            &format!("SELECT FROM {reads}"),
            &format!("PREPARE TRANSACTION '{name}'"),
        ] {
            session.run(statement).unwrap();
        }
    }
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        ["warning server_settings prepared transaction it's"]
    );
    follow(&postgres, &looked);
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    assert_eq!(postgres.psql("SELECT gid FROM pg_prepared_xacts"), "other");
}

#[test]
fn a_partition_that_is_removed_during_the_look_is_no_problem() {
    let postgres = with_partitions();
    postgres.psql("SELECT audit.ensure_partition('events', '2012-05-04Z')");
    // The look waits for this when it has listed the partitions.
    let mut removing = postgres.session("postgres");
    removing
        .run("BEGIN; LOCK TABLE ONLY audit.query_runs IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let looking = command(&postgres.url(), &["doctor", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    testkit::wait_until("the look waits", std::time::Duration::from_secs(9), || {
        postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'") == "1"
    });
    removing
        .run("ALTER TABLE audit.events DETACH PARTITION audit_parts.events_2012_05; DROP TABLE audit_parts.events_2012_05; COMMIT")
        .unwrap();
    let looked = looking.wait_with_output().unwrap();
    assert_eq!(found(&looked), [""; 0]);
}

/// Tables whose changes are recorded.
const TRACKED: &[Case] = &[
    Case {
        done: "CREATE TABLE public.agents (id int PRIMARY KEY, name text); SELECT audit.track('public.agents', columns_out => '{name}');
            ALTER TABLE public.agents DISABLE TRIGGER audit_change_update",
        undone: AsAdvised,
        found: &["problem tracked_tables public.agents"],
    },
    Case {
        done: "DROP TRIGGER audit_change_truncate ON public.agents",
        undone: AsAdvised,
        found: &["problem tracked_tables public.agents"],
    },
    Case {
        // Of a changed row the old one is told as the new one.
        done: "CREATE OR REPLACE TRIGGER audit_change_update AFTER UPDATE ON public.agents REFERENCING OLD TABLE AS new_rows NEW TABLE AS old_rows
            FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        undone: AsAdvised,
        found: &["problem tracked_tables public.agents"],
    },
    Case {
        done: "CREATE OR REPLACE FUNCTION audit.record_change_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        undone: AsAdvised,
        found: &["problem tracked_tables public.agents"],
    },
    Case {
        done: "GRANT EXECUTE ON FUNCTION audit.record_change_1() TO somebody",
        undone: AsAdvised,
        found: &["problem tracked_tables audit.record_change_1()"],
    },
    Case {
        done: "SET ROLE audit_maintainer; CREATE FUNCTION audit.record_change_99() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; RESET ROLE",
        undone: AsAdvised,
        found: &["problem tracked_tables audit.record_change_99()"],
    },
    Case {
        done: "ALTER TABLE public.agents ADD COLUMN password text",
        undone: AsAdvised,
        found: &["warning tracked_tables public.agents"],
    },
    Case {
        done: "CREATE TABLE public.months (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT audit.track('public.months');
            CREATE TABLE public.first PARTITION OF public.months FOR VALUES FROM (1) TO (2)",
        undone: AsAdvised,
        found: &["problem tracked_tables public.months"],
    },
    Case {
        done: "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
            CREATE TABLE public.wide (id int) PARTITION BY RANGE (id); SELECT audit.track('public.wide');
            CREATE FOREIGN TABLE public.far PARTITION OF public.wide FOR VALUES FROM (3) TO (4) SERVER nowhere",
        undone: By("SELECT audit.untrack('public.wide')"),
        found: &["problem tracked_tables public.wide"],
    },
    Case {
        done: "ALTER TABLE public.agents RENAME TO helpers",
        undone: AsAdvised,
        found: &["warning tracked_tables public.agents"],
    },
    Case {
        done: "ALTER TABLE public.helpers RENAME TO agents",
        undone: AsAdvised,
        found: &["warning tracked_tables public.helpers"],
    },
    Case {
        done: "DROP TABLE public.agents, public.months",
        undone: AsAdvised,
        found: &[
            "warning tracked_tables public.agents",
            "warning tracked_tables public.months",
        ],
    },
    Case {
        done: "SELECT nextval('audit.lost_changes')",
        undone: By("SELECT setval('audit.lost_changes', 1, false)"),
        found: &["warning tracked_tables audit.lost_changes"],
    },
];

#[test]
fn tracked_tables_that_are_not_recorded_are_found() {
    each_is_found(TRACKED);
}

#[test]
fn tables_that_nobody_tracks_are_named_when_asked_for() {
    let postgres = Postgres::start();
    migrate(&postgres.url());
    postgres.psql("CREATE TABLE public.tracked (id int); CREATE TABLE public.\"not tracked\" (id int); SELECT audit.track('public.tracked')");
    make_partitions(&postgres);
    let words = ["doctor", "--json", "--expect-tracked", "public"];
    let asked = command(&postgres.url(), &words).output().unwrap();
    assert_eq!(
        found(&asked),
        ["problem tracked_tables public.\"not tracked\""]
    );
}
