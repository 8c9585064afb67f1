//! Hosts and logins that want to make events, or to run as the trail.

use super::{changes, changes_by, login, migrated, owner, refused};
use testkit::Postgres;

/// What each role may call to make an event of a change that did not happen.
const FORGERIES: [&str; 12] = [
    "SELECT audit.begin_change('app.t', NULL)",
    "SELECT audit.end_change(NULL, 1)",
    "SELECT audit.record_truncation(NULL, 'change', false)",
    "SELECT audit.append_event('change', 'app.t', '1', NULL, NULL, NULL, '{\"changes\": {}}')",
    "SELECT audit.change_statement(1, 'app.t'::regclass, 'INSERT', 'c')",
    "SELECT audit.change_function(1)",
    "SELECT audit.record_change_1()",
    "SELECT audit.context_setting('user_id')",
    "SELECT nextval('audit.change_numbers')",
    "SELECT setval('audit.lost_changes', 1)",
    "UPDATE audit.tracked_tables SET name = 'app.other'",
    "INSERT INTO audit.tracked_tables (target, name) VALUES ('app.t', 'x')",
];

#[test]
fn no_function_makes_an_event_of_a_change_that_was_not_made() {
    let postgres = migrated();
    let mut app = owner(&postgres);
    app.psql("CREATE TABLE t (id int PRIMARY KEY); SELECT audit.track('t')");
    postgres.psql("GRANT USAGE ON SCHEMA app TO PUBLIC; GRANT ALL ON app.t TO PUBLIC");
    let mut nobody = login(&postgres, "nobody", None);
    let mut writer = login(&postgres, "writes", Some("audit_writer"));
    let before = postgres.psql("SELECT count(*) FROM audit.events");
    for session in [&mut nobody, &mut writer, &mut app] {
        for forgery in FORGERIES {
            let error = session.run(forgery).expect_err(forgery);
            assert!(
                error.contains("permission denied")
                    || error.contains("trigger functions can only be called as triggers"),
                "{forgery}: {error}"
            );
        }
        let error = refused(
            session,
            "42501",
            "CREATE TEMPORARY TABLE own (id int); CREATE TRIGGER audit_change_insert AFTER INSERT ON own REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        );
        assert!(error.contains("permission denied for"), "{error}");
    }
    // Nor for the one that owns it.
    for trigger in [
        "CREATE TRIGGER again AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        "CREATE OR REPLACE TRIGGER audit_change_update AFTER UPDATE ON t REFERENCING NEW TABLE AS old_rows OLD TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        "CREATE OR REPLACE FUNCTION audit.record_change_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION audit.record_change_1() SECURITY INVOKER",
        "GRANT EXECUTE ON FUNCTION audit.record_change_1() TO PUBLIC",
    ] {
        refused(&mut app, "42501", trigger);
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.events"), before);
}

#[test]
fn trigger_function_is_lent_to_nobody() {
    let postgres = migrated();
    let mut app = owner(&postgres);
    app.psql("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1); SELECT audit.track('t')");
    // As audit.track does it, and stops half-way.
    app.psql("GRANT TRIGGER ON t, other TO audit_maintainer WITH GRANT OPTION; SELECT audit.prepare_tracking('t', NULL, NULL, NULL, 64, 'x', '{insert,update,delete,truncate}', 'fail')");
    for trigger in [
        "CREATE TRIGGER more AFTER INSERT ON other REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        "CREATE OR REPLACE TRIGGER audit_change_update AFTER UPDATE ON t REFERENCING NEW TABLE AS old_rows OLD TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        "CREATE OR REPLACE TRIGGER audit_change_delete AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION audit.record_change_1()",
        "SELECT audit.make_triggers(1, 'other')",
    ] {
        refused(&mut app, "42501", trigger);
    }
    app.psql("REVOKE ALL ON t, other FROM audit_maintainer");
    refused(&mut app, "42501", "SELECT audit.make_triggers(1, 't')");
    let mut stranger = login(&postgres, "stranger", Some("audit_writer"));
    app.psql("GRANT USAGE ON SCHEMA app TO stranger");
    postgres.psql("GRANT TRIGGER ON app.t TO audit_maintainer");
    refused(
        &mut stranger,
        "42501",
        "SELECT audit.make_triggers(1, 'app.t')",
    );
    // Nor does a right that the owner has given to somebody.
    app.psql("GRANT TRIGGER ON t TO stranger WITH GRANT OPTION");
    stranger.psql("GRANT TRIGGER ON app.t TO audit_maintainer WITH GRANT OPTION");
    refused(
        &mut stranger,
        "42501",
        "SELECT audit.forget_tracking('app.t')",
    );
    app.psql("REVOKE TRIGGER ON t FROM stranger CASCADE");
    // A table has its right back after it is tracked.
    app.psql("REVOKE ALL ON t FROM audit_maintainer; REVOKE USAGE ON SCHEMA app FROM audit_maintainer; SELECT audit.track('t')");
    assert_eq!(
        postgres.psql("SELECT has_table_privilege('audit_maintainer', 'app.t', 'TRIGGER'), has_schema_privilege('audit_maintainer', 'app', 'USAGE')"),
        "f|t"
    );
    // Who owns a table and not its schema asks who does.
    postgres.psql("CREATE SCHEMA theirs; GRANT USAGE, CREATE ON SCHEMA theirs TO app");
    app.psql("CREATE TABLE theirs.t (id int PRIMARY KEY)");
    refused(&mut app, "42501", "SELECT audit.track('theirs.t')");
    postgres.psql("GRANT USAGE ON SCHEMA theirs TO audit_maintainer");
    app.psql("SELECT audit.track('theirs.t')");
    // What is left of a child does nothing once it is none.
    app.psql("CREATE TABLE child () INHERITS (t); SELECT audit.track('t')");
    assert_eq!(
        changes_by(
            &postgres,
            &mut app,
            "INSERT INTO child VALUES (8, 8); ALTER TABLE child NO INHERIT t; INSERT INTO child VALUES (9, 9)"
        ),
        "insert app.t 8 {\"n\": {\"new\": 8}, \"id\": {\"new\": 8}} in app.child"
    );
}

#[test]
fn code_of_a_stranger_in_the_session_of_a_superuser_tracks_nothing() {
    let postgres = migrated();
    let mut app = owner(&postgres);
    postgres.psql("CREATE TABLE salaries (id int PRIMARY KEY, amount int, secret text); SELECT audit.track('salaries', columns_out => '{secret}'); CREATE TABLE public.told (what text); GRANT INSERT ON public.told TO app");
    // An index function runs as the owner of the table, whoever analyzes it.
    app.psql(
        "CREATE TABLE lure (id int);
         CREATE FUNCTION act(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; INSERT INTO public.told VALUES ('done: ' || what);
            EXCEPTION WHEN OTHERS THEN INSERT INTO public.told VALUES (SQLSTATE); END $$;
         CREATE FUNCTION lure(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF session_user <> 'app' THEN
                PERFORM app.act($a$SELECT audit.prepare_tracking('public.salaries', NULL, '{}', '{}', 8192, 'change', '{insert}', 'warn')$a$);
                PERFORM app.act($a$SELECT audit.make_triggers(1, 'public.salaries')$a$);
                PERFORM app.act($a$SELECT audit.finish_tracking('public.salaries')$a$);
                PERFORM app.act($a$SELECT audit.forget_tracking('public.salaries')$a$);
                PERFORM app.act($a$SELECT audit.track('public.salaries')$a$);
                PERFORM app.act($a$SELECT audit.untrack('public.salaries')$a$);
            END IF;
            RETURN $1; END $$;
         INSERT INTO lure VALUES (1); CREATE INDEX ON lure (lure(id))",
    );
    let tracked = "SELECT columns_out, on_failure, tracked_at FROM audit.tracked WHERE table_name = 'public.salaries'";
    let before = postgres.psql(tracked);
    postgres.psql("ANALYZE app.lure");
    assert_eq!(
        postgres.psql("SELECT string_agg(DISTINCT what, ' ') FROM told"),
        "42501"
    );
    assert_eq!(postgres.psql(tracked), before);
    assert_eq!(
        changes(&postgres, "INSERT INTO salaries VALUES (1, 5, 'SECRET')"),
        "insert public.salaries 1 {\"id\": {\"new\": 1}, \"amount\": {\"new\": 5}}"
    );
}

#[test]
fn column_of_another_type_runs_nothing_of_the_host() {
    let postgres = with_evil();
    let mut app = postgres.session("app");
    app.psql("CREATE DOMAIN app.word AS text; CREATE TABLE t (id int PRIMARY KEY, v app.word, w text); INSERT INTO t VALUES (1, 'a', 'b'); SELECT audit.track('t')");
    // From one type of the host to another; then from one of Postgres, before a transaction with an older snapshot changes a row.
    app.psql("ALTER TABLE t ALTER v TYPE app.mood USING 'good'; UPDATE t SET v = 'bad'; DELETE FROM t; INSERT INTO t VALUES (1, 'good', 'b')");
    let mut old = postgres.session("app");
    old.psql("SET search_path = app; INSERT INTO t VALUES (2, 'good', 'b')");
    old.psql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    app.psql("ALTER TABLE t ALTER w TYPE app.mood USING 'good'");
    refused(
        &mut old,
        "40001",
        "INSERT INTO t VALUES (3, 'good', 'good')",
    );
    assert_eq!(
        postgres.psql("SELECT string_agg(DISTINCT who || what, ', ') FROM public.ran WHERE who NOT IN ('postgres', 'app')"),
        ""
    );
}

#[test]
fn transaction_with_an_old_snapshot_records_what_is_there() {
    let postgres = migrated();
    postgres.psql("CREATE TABLE t (id int PRIMARY KEY, pub text, secret text)");
    let mut old = postgres.session("postgres");
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    old.psql(begin);
    postgres.psql("SELECT audit.track('t', columns_out => '{secret}')");
    assert_eq!(
        changes_by(
            &postgres,
            &mut old,
            "INSERT INTO t VALUES (1, 'p', 's'); COMMIT"
        ),
        "insert public.t 1 {\"id\": {\"new\": 1}, \"pub\": {\"new\": \"p\"}}"
    );
    old.psql(begin);
    // What is hidden stands where another column was.
    postgres.psql("ALTER TABLE t DROP COLUMN pub, ADD x text");
    refused(
        &mut old,
        "40001",
        "INSERT INTO t (id, secret, x) VALUES (2, 's', 'x')",
    );
    old.psql("ROLLBACK");
    assert_eq!(
        changes_by(
            &postgres,
            &mut old,
            "INSERT INTO t (id, secret, x) VALUES (2, 's', 'x')"
        ),
        "insert public.t 2 {\"x\": {\"new\": \"x\"}, \"id\": {\"new\": 2}}"
    );
    // A partition that came and is tracked since.
    postgres.psql("CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); SELECT audit.track('parted')");
    old.psql(begin);
    postgres.psql("CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10); SELECT audit.track('parted')");
    assert_eq!(
        changes_by(&postgres, &mut old, "INSERT INTO low VALUES (1, 5); COMMIT"),
        "insert public.parted 1 {\"n\": {\"new\": 5}, \"id\": {\"new\": 1}} in public.low"
    );
    // One of another layout, tracked anew by other rules meanwhile.
    postgres.psql("CREATE TABLE high (n int, id int NOT NULL); ALTER TABLE parted ATTACH PARTITION high FOR VALUES FROM (10) TO (20); SELECT audit.track('parted')");
    old.psql(begin);
    postgres.psql("SELECT audit.track('parted', columns_out => '{n}')");
    refused(&mut old, "40001", "INSERT INTO high VALUES (6, 12)");
}

/// A schema in front of all others with look-alikes of what the trail calls, and types whose casts, operators and functions
/// write down who runs them.
const EVIL: &str = "
    CREATE TABLE public.ran (what text, who text, login text); GRANT ALL ON public.ran TO PUBLIC;
    CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO public.ran VALUES (what, current_user, session_user)';
    CREATE TYPE app.pair AS (a int, b text); CREATE TYPE app.mood AS ENUM ('good', 'bad'); CREATE TYPE app.span AS RANGE (subtype = float8);
    CREATE FUNCTION app.pair_json(app.pair) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('pair json'); RETURN '1'; END $$;
    CREATE FUNCTION app.mood_json(app.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('mood json'); RETURN '1'; END $$;
    CREATE FUNCTION app.span_json(app.span) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('span json'); RETURN '1'; END $$;
    CREATE FUNCTION app.pair_text(app.pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('pair text'); RETURN '1'; END $$;
    CREATE FUNCTION app.mood_text(app.mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('mood text'); RETURN '1'; END $$;
    CREATE CAST (app.pair AS json) WITH FUNCTION app.pair_json(app.pair) AS IMPLICIT; CREATE CAST (app.pair AS text) WITH FUNCTION app.pair_text(app.pair) AS IMPLICIT;
    CREATE CAST (app.mood AS json) WITH FUNCTION app.mood_json(app.mood) AS IMPLICIT; CREATE CAST (app.mood AS text) WITH FUNCTION app.mood_text(app.mood) AS IMPLICIT;
    CREATE CAST (app.span AS json) WITH FUNCTION app.span_json(app.span) AS IMPLICIT;
    CREATE FUNCTION app.same(app.pair, app.pair) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('pair ='); RETURN true; END $$;
    CREATE OPERATOR app.= (LEFTARG = app.pair, RIGHTARG = app.pair, FUNCTION = app.same); CREATE OPERATOR app.<> (LEFTARG = app.pair, RIGHTARG = app.pair, FUNCTION = app.same);
    CREATE FUNCTION app.to_json(anyelement) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('to_json'); RETURN '1'; END $$;
    CREATE FUNCTION app.format(text, anyelement) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('format'); RETURN '1'; END $$;
    CREATE FUNCTION app.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('format'); RETURN '1'; END $$;
    CREATE FUNCTION app.octet_length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('octet_length'); RETURN 1; END $$;
    CREATE FUNCTION app.nextval(text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('nextval'); RETURN 1; END $$;
    CREATE FUNCTION app.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('lower'); RETURN 'x'; END $$;
    CREATE FUNCTION app.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('text ='); RETURN true; END $$;
    CREATE OPERATOR app.= (LEFTARG = text, RIGHTARG = text, FUNCTION = app.eq);
    CREATE FUNCTION app.cat(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('text ||'); RETURN 'x'; END $$;
    CREATE OPERATOR app.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = app.cat);
    CREATE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('trigger'); RETURN NEW; END $$;
    CREATE FUNCTION app.checked(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('check'); RETURN true; END $$;
    CREATE DOMAIN app.small AS int CHECK (app.checked(VALUE))";

fn with_evil() -> Postgres {
    let postgres = migrated();
    drop(owner(&postgres));
    postgres.psql(EVIL);
    postgres.psql("GRANT CREATE ON DATABASE audit TO app; GRANT ALL ON ALL FUNCTIONS IN SCHEMA app TO PUBLIC; GRANT USAGE ON SCHEMA app TO PUBLIC");
    postgres
}

#[test]
fn nothing_of_the_host_runs_with_the_rights_of_the_trail() {
    let postgres = with_evil();
    let mut app = postgres.session("app");
    app.psql("SET search_path = app, public, pg_catalog");
    app.psql(
        "CREATE TEMPORARY TABLE pg_class (oid oid); CREATE TEMPORARY TABLE new_rows (id int); CREATE TEMPORARY TABLE old_rows (id int); CREATE TEMPORARY TABLE events (id int);
         CREATE TEMPORARY TABLE pg_attribute (attrelid oid); CREATE TEMPORARY TABLE pg_trigger (tgrelid oid);",
    );
    app.psql(
        "CREATE TABLE app.t (id int PRIMARY KEY, p app.pair, m app.mood, s app.span, d app.small, ps app.pair[], ms app.mood[], long text);
         CREATE TABLE app.moods (id app.mood PRIMARY KEY, tenant app.mood); CREATE TABLE app.pairs (id app.pair, p app.pair);
         CREATE TRIGGER noted BEFORE INSERT OR UPDATE ON app.t FOR EACH ROW EXECUTE FUNCTION app.noted();
         SELECT audit.track('app.t', max_value_bytes => 64), audit.track('app.moods', tenant_column => 'tenant'), audit.track('app.pairs')",
    );
    app.psql("INSERT INTO app.t VALUES (1, '(1,x)', 'good', '[1,2)', 1, ARRAY['(1,x)'::app.pair], '{good}', 'x')");
    app.psql("UPDATE app.t SET p = '(2,y)', m = 'bad', s = '[1,3)', d = 2, ps = ps || ps, ms = '{bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad,bad}', long = repeat('y', 100)");
    app.psql("UPDATE app.t SET id = 2; DELETE FROM app.t; INSERT INTO app.moods VALUES ('good', 'bad'); UPDATE app.moods SET id = 'bad'; UPDATE app.moods SET tenant = 'good'");
    app.psql("INSERT INTO app.pairs VALUES ('(1,x)', '(1,y)'); UPDATE app.pairs SET p = '(2,z)'; TRUNCATE app.pairs, app.moods");
    app.psql("ALTER TABLE app.t ADD z app.pair DEFAULT '(1,x)'; INSERT INTO app.t (id, m) VALUES (5, 'good'); SELECT audit.track('app.t'); SELECT audit.set_context('{\"user_id\": \"x\"}'); SELECT audit.untrack('app.t')");
    // The attack works where it is not the trail's.
    app.psql("SELECT to_json(1), 'a'::text = 'b'::text, (p)::json, (p)::text FROM (SELECT '(1,x)'::app.pair AS p) AS p");
    assert_eq!(postgres.psql("SELECT DISTINCT who FROM public.ran"), "app");
    assert_eq!(
        postgres.psql("SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM public.ran"),
        "check, pair json, pair text, text =, to_json, trigger"
    );
    assert_eq!(
        postgres.psql("SELECT metadata -> 'changes' -> 'm', metadata -> 'changes' -> 'p', metadata -> 'changes' -> 'ms' -> 'new' -> 'bytes' FROM audit.events WHERE metadata ->> 'operation' = 'update' AND target_type = 'app.t'"),
        "{\"new\": \"bad\", \"old\": \"good\"}|{\"new\": \"(2,y)\", \"old\": \"(1,x)\"}|77"
    );
    // A superuser's changes run nothing either.
    postgres.psql("DELETE FROM public.ran; SELECT audit.track('app.t'); SET search_path = app, public, pg_catalog; INSERT INTO app.moods VALUES ('good', 'bad'); DELETE FROM app.moods");
    assert_eq!(
        postgres.psql(
            "SELECT string_agg(DISTINCT who || what, ', ') FROM public.ran WHERE who <> 'postgres'"
        ),
        ""
    );
}

#[test]
fn change_of_somebody_without_any_right_on_the_trail_is_recorded() {
    let postgres = migrated();
    let mut app = owner(&postgres);
    app.psql("CREATE TABLE t (id int PRIMARY KEY); SELECT audit.track('t'); GRANT INSERT ON t TO PUBLIC; GRANT USAGE ON SCHEMA app TO PUBLIC");
    let mut nobody = login(&postgres, "nobody", None);
    assert_eq!(
        changes_by(&postgres, &mut nobody, "INSERT INTO app.t VALUES (1)"),
        "insert app.t 1 {\"id\": {\"new\": 1}}"
    );
    refused(&mut nobody, "42501", "SELECT * FROM audit.events");
    // In a transaction that is serializable.
    assert_eq!(
        changes(
            &postgres,
            "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO app.t VALUES (2); COMMIT"
        ),
        "insert app.t 2 {\"id\": {\"new\": 2}}"
    );
}
