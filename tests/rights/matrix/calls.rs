//! What each role may call and alter.

use super::{LOGINS, ROWS, WHO, Wrong, as_who, attempt};
use crate::migrated;

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
        "lacking_partitions",
        "audit.lacking_partitions()",
        &["writer", "operator"],
    ),
    (
        "partition_interval",
        "audit.partition_interval('events')",
        &["writer", "auditor", "operator"],
    ),
    (
        "set_partition_interval",
        "audit.set_partition_interval('events', 'day', 'because')",
        &["operator"],
    ),
    (
        "leaf_name",
        "audit.leaf_name('events', '2026-11-01Z', '2026-12-01Z')",
        &[],
    ),
    (
        "leaf_span",
        "audit.leaf_span('events', 'events_2026_11')",
        &[],
    ),
    (
        "leaves_over",
        "audit.leaves_over('events', now(), now())",
        &[],
    ),
    ("free_span", "audit.free_span('events', now())", &[]),
    (
        "removed_over",
        "audit.removed_over('events', now(), now())",
        &[],
    ),
    (
        "request_trail",
        "audit.request_trail('req-1')",
        &["reader", "auditor"],
    ),
    (
        "request_story",
        "audit.request_story('req-1')",
        &["reader", "auditor"],
    ),
    ("integer_of", "audit.integer_of('1')", &["reader", "auditor"]),
    ("number_of", "audit.number_of('1')", &["reader", "auditor"]),
    ("boolean_of", "audit.boolean_of('true')", &["reader", "auditor"]),
    ("uuid_of", "audit.uuid_of('1')", &["reader", "auditor"]),
    ("time_of", "audit.time_of(audit.id_at(now()))", &["reader", "auditor"]),
    ("tokens_of", "audit.tokens_of('1')", &["reader", "auditor"]),
    ("counts_of", "audit.counts_of('{}')", &["reader", "auditor"]),
    (
        "row_history",
        "audit.row_history('public.agents', '1')",
        &["reader", "auditor"],
    ),
    (
        "row_at",
        "audit.row_at('public.agents', '1', now())",
        &["reader", "auditor"],
    ),
    (
        "row_after",
        "audit.row_after('{}', 'truncate', '{}')",
        &["reader", "auditor"],
    ),
    ("digests_of", "audit.digests_of('{}')", &["reader", "auditor"]),
    (
        "order_changes",
        "audit.order_changes('{}', '{}', '{}', '{}')",
        &["reader", "auditor"],
    ),
    (
        "set_context",
        "audit.set_context('{}')",
        &["writer", "reader", "auditor", "operator"],
    ),
    (
        "track",
        "audit.track('theirs.untracked')",
        &["writer", "operator"],
    ),
    (
        "untrack",
        "audit.untrack('theirs.tracked')",
        &["writer", "operator"],
    ),
    ("relations_of", "audit.relations_of(0)", &["writer", "operator"]),
    (
        "prepare_tracking",
        "audit.prepare_tracking('theirs.untracked', NULL, NULL, NULL, 64, 'x', '{insert}', 'fail')",
        &["writer", "operator"],
    ),
    (
        "lend",
        "audit.lend('theirs.tracked', false)",
        &["writer", "operator"],
    ),
    (
        "let_in",
        "audit.let_in('theirs')",
        &["writer", "operator"],
    ),
    (
        "make_triggers",
        "audit.make_triggers(2, 'theirs.prepared')",
        &["writer", "operator"],
    ),
    (
        "finish_tracking",
        "audit.finish_tracking('theirs.tracked')",
        &["writer", "operator"],
    ),
    (
        "forget_tracking",
        "audit.forget_tracking('theirs.prepared')",
        &["writer", "operator"],
    ),
    (
        "forget_dropped_tables",
        "audit.forget_dropped_tables()",
        &["writer", "operator"],
    ),
    (
        "drop_trigger",
        "audit.drop_trigger('theirs.tracked', 'none')",
        &["writer", "operator"],
    ),
    ("begin_change", "audit.begin_change('x', NULL)", &[]),
    ("end_change", "audit.end_change(NULL, 0)", &[]),
    ("context_setting", "audit.context_setting('user_id')", &[]),
    ("cut_value", "audit.cut_value('x', 64)", &[]),
    ("layout_of", "audit.layout_of('theirs.tracked'::regclass)", &[]),
    ("columns_alias", "audit.columns_alias('theirs.tracked'::regclass, 'x')", &[]),
    ("names_query", "audit.names_query('new_rows')", &[]),
    ("types_query", "audit.types_query('theirs.tracked'::regclass, 'new_rows')", &[]),
    ("differs_expression", "audit.differs_expression(1::smallint, 25)", &[]),
    ("moved_expression", "audit.moved_expression(1, 'theirs.tracked'::regclass)", &[]),
    ("target_of", "audit.target_of(1, 'theirs.tracked'::regclass)", &[]),
    ("refuse_snapshot", "audit.refuse_snapshot('t', 'x', 'x')", &[]),
    ("is_lent", "audit.is_lent('theirs.tracked')", &[]),
    ("forget_function", "audit.forget_function(99)", &[]),
    ("value_expression", "audit.value_expression('x', 25, 64)", &[]),
    ("join_expressions", "audit.join_expressions('{}')", &[]),
    ("change_statement", "audit.change_statement(1, 'theirs.tracked'::regclass, 'INSERT', 'c')", &[]),
    ("change_function", "audit.change_function(1)", &[]),
    ("record_truncation", "audit.record_truncation(audit.begin_change('x', NULL), 'x', false)", &[]),
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
        "record_refused_login",
        "audit.record_refused_login('somebody')",
        &["reader", "auditor"],
    ),
    (
        "record_verification",
        "audit.record_verification(false, '{}')",
        &["auditor"],
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
        "take_partition",
        "audit.take_partition('events_2020_01', '1 year', NULL)",
        &[],
    ),
    (
        "record_archive",
        "audit.record_archive('/archive', 'events', '2020-01-07', 1, sha256(''), 1)",
        &["auditor", "operator"],
    ),
    (
        "remove_archived_partition",
        "audit.remove_archived_partition('events_2020_01', '1 year', '/archive', '{}', sha256(''))",
        &["operator"],
    ),
    (
        "subject_of",
        "audit.subject_of('somebody')",
        &[],
    ),
    (
        "subject_keys_of",
        "audit.subject_keys_of('2020-02-01', '{NULL}', '{somebody}')",
        &["auditor"],
    ),
    (
        "destroy_subject_keys",
        "audit.destroy_subject_keys(gen_random_uuid(), 'somebody', NULL)",
        &[],
    ),
    (
        "seal",
        "audit.seal()",
        &["sealer"],
    ),
    (
        "ledger_entries",
        "audit.ledger_entries(0, 10)",
        &["sealer"],
    ),
    (
        "note_checkpoint",
        "audit.note_checkpoint('a', 0, 'n', now())",
        &["sealer"],
    ),
    (
        "erase",
        "audit.erase('a reason', 'somebody', of_user => 'nobody')",
        &["operator"],
    ),
    (
        "emptying",
        "audit.emptying('events', NULL)",
        &[],
    ),
    (
        "hash_batches",
        "audit.hash_batches(ARRAY[gen_random_uuid()], ARRAY[1::bigint])",
        &[],
    ),
    (
        "image",
        "audit.image('')",
        &[],
    ),
    (
        "text_image",
        "audit.text_image('')",
        &[],
    ),
    (
        "texts_image",
        "audit.texts_image('{a}')",
        &[],
    ),
    (
        "notes_image",
        "audit.notes_image('{}')",
        &[],
    ),
    (
        "images_expression",
        "audit.images_expression('events', true)",
        &[],
    ),
    (
        "leaf_columns",
        "audit.leaf_columns('events', true)",
        &[],
    ),
    (
        "leaves_query",
        "audit.leaves_query('events', 'events_default', 'true')",
        &[],
    ),
    (
        "leaves_before",
        "audit.leaves_before(1, 1, gen_random_uuid(), 1)",
        &[],
    ),
    (
        "ledger_entry",
        "audit.ledger_entry(gen_random_uuid(), 1, NULL, NULL)",
        &[],
    ),
    (
        "day_of",
        "audit.day_of(audit.id_at(now()))",
        &[],
    ),
    (
        "tree_root",
        "audit.tree_root(sha256(''))",
        &[],
    ),
    (
        "tree_cover",
        "audit.tree_cover(sha256(''), 0)",
        &[],
    ),
    (
        "row_sha256",
        "audit.row_sha256(ROW(1))",
        &[],
    ),
    ("close_functions", "audit.close_functions()", &[]),
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
    (
        "plan_removals",
        "audit.plan_removals('100 days', NULL, NULL)",
        &[],
    ),
    ("plan_settling", "audit.plan_settling()", &["operator"]),
    (
        "settle_partition",
        "audit.settle_partition('events', (SELECT NULL::timestamptz))",
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
    ("check_details", "audit.check_details('{}')", &[]),
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
    "sealer",
    "owner",
    "member of owner",
    "granted",
];

const USERS_AND_MAINTAINERS: &[&str] = &[
    "writer",
    "reader",
    "auditor",
    "operator",
    "sealer",
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
        "GRANT EXECUTE ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb, audit.run_status) TO PUBLIC",
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

/// Tables that everybody who is asked owns.
const TRACKED: &str = "CREATE ROLE tracks;
    DO $$ DECLARE login name; BEGIN
        FOR login IN SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper OR rolname = 'audit_maintainer' LOOP
            EXECUTE format('GRANT tracks TO %I', login);
        END LOOP;
    END $$;
    CREATE TABLE theirs.tracked (id int PRIMARY KEY); CREATE TABLE theirs.untracked (id int PRIMARY KEY); CREATE TABLE theirs.prepared (id int PRIMARY KEY);
    ALTER TABLE theirs.tracked OWNER TO tracks; ALTER TABLE theirs.untracked OWNER TO tracks; ALTER TABLE theirs.prepared OWNER TO tracks;
    SELECT audit.track('theirs.tracked');
    GRANT TRIGGER ON theirs.tracked, theirs.untracked, theirs.prepared TO audit_maintainer WITH GRANT OPTION;
    SELECT audit.prepare_tracking('theirs.prepared', NULL, NULL, NULL, 64, 'x', '{insert}', 'fail')";

#[test]
fn every_role_calls_and_alters_exactly_the_listed_objects() {
    let postgres = migrated();
    postgres.psql(LOGINS);
    postgres.psql(ROWS);
    postgres.psql("CREATE TABLE audit_parts.bare (bare int); ALTER TABLE audit_parts.bare OWNER TO audit_owner; SELECT audit.ensure_partition('events', '2020-01-15Z')");
    postgres.psql(TRACKED);
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
