//! What `audit.track` is told, and what it refuses.

use super::{changes, changes_by, login, migrated, owner, refused, tracked};
use serde_json::Value;

#[test]
fn tenant_is_read_from_its_column() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE by_uuid (id int PRIMARY KEY, org uuid); SELECT audit.track('by_uuid', tenant_column => 'org');
         CREATE TABLE by_text (id int PRIMARY KEY, org text); SELECT audit.track('by_text', tenant_column => 'org')",
    );
    postgres.psql(
        "SET app.current_tenant = 'other';
         INSERT INTO by_uuid VALUES (1, '0198f1d3-0000-7000-8000-000000000017'), (2, NULL);
         INSERT INTO by_text VALUES (3, 'acme'), (4, '0198f1d3-0000-7000-8000-000000000017'), (5, ''), (6, NULL)",
    );
    assert_eq!(
        postgres.psql(
            "SELECT target_id, metadata ->> 'tenant_key', CASE tenant_id WHEN audit.tenant_uuid('acme') THEN 'acme' WHEN audit.tenant_uuid('other') THEN 'other' ELSE tenant_id::text END
             FROM audit.events WHERE metadata ? 'changes' ORDER BY target_id"
        ),
        "1||0198f1d3-0000-7000-8000-000000000017\n2||\n3|acme|acme\n4||0198f1d3-0000-7000-8000-000000000017\n5||\n6||"
    );
    // A row that goes to another tenant is another row to both.
    assert_eq!(
        changes(&postgres, "UPDATE by_text SET org = 'evil' WHERE id = 3"),
        "delete public.by_text 3 {\"id\": {\"old\": 3}, \"org\": {\"old\": \"acme\"}} -> 3\n\
         insert public.by_text 3 {\"id\": {\"new\": 3}, \"org\": {\"new\": \"evil\"}} <- 3"
    );
    assert_eq!(
        postgres.psql("SELECT metadata ->> 'operation', metadata ->> 'tenant_key', tenant_id = audit.tenant_uuid('acme'), tenant_id = audit.tenant_uuid('evil')
            FROM audit.events WHERE target_id = '3' AND metadata ?| '{moved_to,moved_from}' ORDER BY seq"),
        "delete|acme|t|f\ninsert|evil|f|t"
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.by_text', '3', now())"),
        "{\"id\": 3, \"org\": \"evil\"}"
    );
}

#[test]
fn row_that_another_tenant_gets_is_told_to_both_where_the_column_is_left_out() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE keyed (id int PRIMARY KEY, of text, n int); CREATE TABLE bare (of text, n int);
         SELECT audit.track('keyed', tenant_column => 'of', columns_out => '{of}'), audit.track('bare', tenant_column => 'of', columns_out => '{of}');
         INSERT INTO keyed VALUES (1, 'acme', 5); INSERT INTO bare VALUES ('acme', 5)",
    );
    assert_eq!(
        changes(&postgres, "UPDATE keyed SET of = 'globex'"),
        "delete public.keyed 1 {\"n\": {\"old\": 5}, \"id\": {\"old\": 1}} -> 1\n\
         insert public.keyed 1 {\"n\": {\"new\": 5}, \"id\": {\"new\": 1}} <- 1"
    );
    assert_eq!(
        changes(&postgres, "UPDATE bare SET of = 'globex'"),
        "delete public.bare {\"n\": {\"old\": 5}}\ninsert public.bare {\"n\": {\"new\": 5}}"
    );
    assert_eq!(
        postgres.psql("SELECT DISTINCT metadata ->> 'operation', metadata ->> 'tenant_key' FROM audit.events WHERE metadata ? 'changes' ORDER BY 1, 2"),
        "delete|acme\ninsert|acme\ninsert|globex"
    );
}

#[test]
fn columns_are_left_out_or_masked() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, secret text, noise int);
         SELECT audit.track('people', columns_out => '{noise}', columns_masked => '{secret}')",
    );
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO people VALUES (1, 'a', 'hunter2', 1)"
        ),
        "insert public.people 1 {\"id\": {\"new\": 1}, \"name\": {\"new\": \"a\"}, \"secret\": {\"masked\": true}}"
    );
    assert_eq!(changes(&postgres, "UPDATE people SET noise = 2"), "");
    assert_eq!(
        changes(&postgres, "UPDATE people SET noise = 3, secret = 'hunter3'"),
        "update public.people 1 {\"secret\": {\"masked\": true}}"
    );
    assert_eq!(
        changes(&postgres, "UPDATE people SET name = 'b'"),
        "update public.people 1 {\"name\": {\"new\": \"b\", \"old\": \"a\"}}"
    );
    assert_eq!(
        changes(&postgres, "UPDATE people SET id = 2; DELETE FROM people"),
        "delete public.people 1 {\"id\": {\"old\": 1}, \"name\": {\"old\": \"b\"}, \"secret\": {\"masked\": true}} -> 2\n\
         insert public.people 2 {\"id\": {\"new\": 2}, \"name\": {\"new\": \"b\"}, \"secret\": {\"masked\": true}} <- 1\n\
         delete public.people 2 {\"id\": {\"old\": 2}, \"name\": {\"old\": \"b\"}, \"secret\": {\"masked\": true}}"
    );
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events e WHERE e::text LIKE '%hunter%'"),
        "0"
    );
}

#[test]
fn renamed_column_stays_masked_and_its_tenant_hidden() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE people (id int PRIMARY KEY, secret text, noise int, org text, n int);
         SELECT audit.track('people', columns_out => '{noise}', columns_masked => '{secret}', tenant_column => 'org'); INSERT INTO people VALUES (1, 'a', 1, 'acme', 0)",
    );
    assert_eq!(
        changes(
            &postgres,
            "ALTER TABLE people RENAME secret TO password; UPDATE people SET password = 'hunter2', noise = 5, n = 1"
        ),
        "update public.people 1 {\"n\": {\"new\": 1, \"old\": 0}, \"password\": {\"masked\": true}}"
    );
    assert_eq!(
        changes(
            &postgres,
            "ALTER TABLE people RENAME noise TO sound; UPDATE people SET sound = 6"
        ),
        ""
    );
    postgres.psql("SET app.current_tenant = 'other'; ALTER TABLE people RENAME org TO firm; UPDATE people SET n = 2; DELETE FROM people");
    assert_eq!(
        postgres.psql("SELECT metadata ->> 'operation', tenant_id, metadata ->> 'tenant_key' FROM audit.events WHERE metadata ? 'changes' ORDER BY (metadata ->> 'number')::int DESC LIMIT 2"),
        "delete||\nupdate||"
    );
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events e WHERE e::text LIKE '%hunter%'"),
        "0"
    );
    // Told of the new name, it is as before; a column that is added is shown.
    postgres.psql(
        "SELECT audit.track('people', columns_masked => '{password}', tenant_column => 'firm')",
    );
    assert_eq!(
        changes(
            &postgres,
            "ALTER TABLE people ADD more int; INSERT INTO people VALUES (2, 'hunter3', 1, 'acme', 0, 7)"
        ),
        "insert public.people 2 {\"n\": {\"new\": 0}, \"id\": {\"new\": 2}, \"firm\": {\"new\": \"acme\"}, \"more\": {\"new\": 7}, \"sound\": {\"new\": 1}, \"password\": {\"masked\": true}}"
    );
}

#[test]
fn hidden_column_stays_hidden_under_another_name() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE t (id int PRIMARY KEY, token text, pin text, n int); SELECT audit.track('t', columns_out => '{token}', columns_masked => '{pin}');
         INSERT INTO t VALUES (1, 'SECRET', 'SECRET', 1);
         ALTER TABLE t RENAME token TO token_old; ALTER TABLE t RENAME pin TO pin_old; ALTER TABLE t ADD token bytea, ADD pin text",
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE t SET token_old = token_old || 'x', token = 'SECRET', pin_old = 'SECRETx', pin = 'SECRET', n = 2; DELETE FROM t"
        ),
        "update public.t 1 {\"n\": {\"new\": 2, \"old\": 1}, \"pin\": {\"masked\": true}, \"pin_old\": {\"masked\": true}}\n\
         delete public.t 1 {\"n\": {\"old\": 2}, \"id\": {\"old\": 1}, \"pin\": {\"masked\": true}, \"pin_old\": {\"masked\": true}}"
    );
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events e WHERE e::text LIKE '%SECRET%'"),
        "0"
    );
}

#[test]
fn what_is_hidden_or_whose_a_row_is_does_not_change_with_names_and_keys() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE keyed (id int PRIMARY KEY, secret text NOT NULL); SELECT audit.track('keyed', columns_out => '{secret}');
         ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (id, secret), ADD w int;
         CREATE TABLE owned (id int PRIMARY KEY, tenant text); SELECT audit.track('owned', tenant_column => 'tenant');
         ALTER TABLE owned RENAME tenant TO customer; ALTER TABLE owned ADD tenant text",
    );
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO keyed VALUES (1, 'SECRET', 2); INSERT INTO owned VALUES (1, 'A', 'B')"
        ),
        "insert public.keyed {\"w\": {\"new\": 2}, \"id\": {\"new\": 1}}\n\
         insert public.owned 1 {\"id\": {\"new\": 1}, \"tenant\": {\"new\": \"B\"}, \"customer\": {\"new\": \"A\"}}"
    );
    assert_eq!(
        postgres.psql("SELECT count(tenant_id), count(metadata -> 'tenant_key') FROM audit.events WHERE target_type = 'public.owned'"),
        "0|0"
    );
}

#[test]
fn long_values_are_cut_with_their_length_and_hash() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, raw bytea, doc jsonb, list text[]);
         SELECT audit.track('notes', max_value_bytes => 64)",
    );
    let row = |sql: &str| -> Value {
        postgres.psql(sql);
        let changes = postgres.psql(
            "SELECT metadata -> 'changes' FROM audit.events WHERE target_type = 'public.notes' ORDER BY (metadata ->> 'number')::bigint DESC LIMIT 1",
        );
        serde_json::from_str(&changes).unwrap()
    };
    let at_limit = row("INSERT INTO notes VALUES (1, repeat('x', 62))");
    assert_eq!(at_limit["body"]["new"].as_str().unwrap().len(), 62);
    for (value, cut, bytes) in [
        ("repeat('x', 63)", "x".repeat(63), 63),
        ("repeat('x', 1000)", "x".repeat(64), 1000),
        ("repeat('é', 1000)", "é".repeat(16), 2000),
        ("repeat('😀', 1000)", "😀".repeat(16), 4000),
        ("repeat(E'\\n', 40)", "\n".repeat(40), 40),
    ] {
        let changes = row(&format!("UPDATE notes SET body = {value}"));
        let new = &changes["body"]["new"];
        assert_eq!(new["cut"], cut.as_str(), "{value}");
        assert_eq!(new["bytes"], bytes, "{value}");
        assert_eq!(
            new["sha256"].as_str().unwrap(),
            postgres.psql("SELECT encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM notes"),
            "{value}"
        );
    }
    // Long values that differ at their end differ.
    let changes = row("UPDATE notes SET body = repeat('x', 1000) || 'y'");
    row("UPDATE notes SET body = repeat('x', 1000) || 'z'");
    assert_ne!(
        changes["body"]["new"]["sha256"],
        row("UPDATE notes SET body = repeat('x', 1000) || 'a'")["body"]["new"]["sha256"]
    );
    let others = row(
        "UPDATE notes SET raw = decode(repeat('ab', 500), 'hex'), doc = jsonb_build_object('a', repeat('b', 100)), list = array_fill('c'::text, '{100}')",
    );
    assert_eq!(others["raw"]["new"]["bytes"], 1002);
    assert!(
        others["doc"]["new"]["cut"]
            .as_str()
            .unwrap()
            .starts_with("{\"a\": \"bbb"),
        "{others}"
    );
    assert!(
        others["list"]["new"]["cut"]
            .as_str()
            .unwrap()
            .starts_with("{c,c,c"),
        "{others}"
    );
    assert!(
        others["list"]["old"].is_null() && others["raw"]["old"].is_null(),
        "{others}"
    );
}

#[test]
fn only_the_wanted_operations_are_recorded_by_the_wanted_type() {
    let postgres = tracked();
    postgres.psql("SELECT audit.track('items', operations => '{DELETE,update}', action_type => 'stock.%s \"o''brien\"')");
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO items VALUES (1, 'a', 1); UPDATE items SET size = 2; DELETE FROM items; TRUNCATE items"
        ),
        "update public.items 1 {\"size\": {\"new\": 2, \"old\": 1}}\n\
         delete public.items 1 {\"id\": {\"old\": 1}, \"name\": {\"old\": \"a\"}, \"size\": {\"old\": 2}}"
    );
    assert_eq!(
        postgres.psql("SELECT DISTINCT action_type FROM audit.events WHERE metadata ? 'changes'"),
        "stock.%s \"o'brien\""
    );
    assert_eq!(
        postgres.psql("SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'items'::regclass"),
        "audit_change_delete audit_change_update"
    );
}

#[test]
fn table_is_tracked_anew_and_no_more() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    session.psql("INSERT INTO items VALUES (1, 'a', 1)");
    // In a session whose plans are made.
    postgres.psql("SELECT audit.track('items', columns_out => '{size}')");
    assert_eq!(
        changes_by(
            &postgres,
            &mut session,
            "UPDATE items SET size = 2; UPDATE items SET name = 'b'"
        ),
        "update public.items 1 {\"name\": {\"new\": \"b\", \"old\": \"a\"}}"
    );
    postgres.psql("SELECT audit.track('items')");
    assert_eq!(
        changes_by(&postgres, &mut session, "UPDATE items SET size = 3"),
        "update public.items 1 {\"size\": {\"new\": 3, \"old\": 2}}"
    );
    postgres.psql("SELECT audit.untrack('items')");
    assert_eq!(
        changes_by(
            &postgres,
            &mut session,
            "UPDATE items SET size = 4; TRUNCATE items; DROP TABLE items"
        ),
        ""
    );
    assert_eq!(
        postgres.psql(
            "SELECT (SELECT count(*) FROM audit.tracked), (SELECT count(*) FROM pg_proc WHERE proname ~ '^record_change_'),
                (SELECT string_agg(action_type, ' ' ORDER BY created_at) FROM audit.events WHERE target_type = 'table' AND target_id = 'public.items')"
        ),
        "0|0|audit.table_tracked audit.table_tracked audit.table_tracked audit.table_untracked"
    );
    let error = refused(
        &mut session,
        "42704",
        "CREATE TABLE items (); SELECT audit.untrack('items')",
    );
    assert!(error.contains("this table is not tracked"), "{error}");
}

#[test]
fn dropped_table_is_forgotten_at_the_next_tracking() {
    let postgres = tracked();
    postgres.psql(
        "DROP TABLE items; CREATE TABLE items (id text PRIMARY KEY); SELECT audit.track('items')",
    );
    assert_eq!(
        changes(&postgres, "INSERT INTO items VALUES ('a')"),
        "insert public.items a {\"id\": {\"new\": \"a\"}}"
    );
    assert_eq!(
        postgres.psql("SELECT count(*), (SELECT count(*) FROM pg_proc WHERE proname ~ '^record_change_') FROM audit.tracked"),
        "1|1"
    );
    assert_eq!(
        postgres.psql(
            "SELECT input_summary FROM audit.events WHERE action_type = 'audit.table_untracked'"
        ),
        "the table was dropped"
    );
}

#[test]
fn bad_options_are_refused_and_change_nothing() {
    let postgres = migrated();
    let mut session = owner(&postgres);
    session.psql("CREATE TABLE t (id int PRIMARY KEY, name text); SELECT audit.track('t', columns_out => '{name}')");
    let state = "SELECT to_jsonb(t) || jsonb_build_object('src', (SELECT md5(string_agg(prosrc || proacl::text, '')) FROM pg_proc WHERE proname ~ '^record_change_'),
        'events', (SELECT count(*) FROM audit.events)) FROM audit.tracked_tables t";
    let before = postgres.psql(state);
    for (options, sqlstate, words) in [
        (
            "tenant_column => 'nope'",
            "42703",
            "app.t has no column nope",
        ),
        (
            "columns_out => '{name,nope}'",
            "42703",
            "app.t has no column nope",
        ),
        (
            "columns_masked => '{ctid}'",
            "42703",
            "app.t has no column ctid",
        ),
        (
            "columns_out => '{id}'",
            "22023",
            "column id of app.t is in its primary key",
        ),
        (
            "columns_masked => '{id}'",
            "22023",
            "column id of app.t is in its primary key",
        ),
        (
            "max_value_bytes => 63",
            "22023",
            "max_value_bytes is from 64 to 1048576",
        ),
        (
            "max_value_bytes => 1048577",
            "22023",
            "max_value_bytes is from 64 to 1048576",
        ),
        ("max_value_bytes => NULL", "22023", "max_value_bytes"),
        ("action_type => ''", "22023", "action_type"),
        ("action_type => NULL", "22023", "action_type"),
        ("action_type => repeat('x', 257)", "22023", "action_type"),
        ("operations => '{}'", "22023", "operations are some of"),
        ("operations => NULL", "22023", "operations are some of"),
        (
            "operations => '{select}'",
            "22023",
            "operations are some of",
        ),
        (
            "operations => '{insert,INSERT}'",
            "22023",
            "operations are some of",
        ),
        (
            "operations => '{insert,NULL}'",
            "22023",
            "operations are some of",
        ),
        (
            "on_failure => 'ignore'",
            "22023",
            "on_failure is 'fail' or 'warn'",
        ),
        ("on_failure => NULL", "22023", "on_failure"),
    ] {
        let error = refused(
            &mut session,
            sqlstate,
            &format!("SELECT audit.track('t', {options})"),
        );
        assert!(
            error.contains(words) && error.contains("audit trail: "),
            "{options}: {error}"
        );
        assert_eq!(postgres.psql(state), before, "{options}");
    }
    session.psql("SELECT audit.track('t', columns_out => NULL, columns_masked => NULL)");
}

#[test]
fn what_is_no_table_of_the_caller_is_refused() {
    let postgres = migrated();
    let mut session = owner(&postgres);
    session.psql(
        "CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF parted DEFAULT; CREATE VIEW v AS SELECT 1 AS id;
         CREATE MATERIALIZED VIEW m AS SELECT 1 AS id; CREATE TEMPORARY TABLE temp (id int); CREATE SEQUENCE s; CREATE TABLE own (id int);
         CREATE TYPE composite AS (id int)",
    );
    postgres.psql("CREATE TABLE app.theirs (id int PRIMARY KEY); GRANT ALL ON app.theirs TO app");
    for (table, state, words) in [
        ("theirs", "42501", "app.theirs is not yours to track"),
        ("part", "42809", "app.part is a partition"),
        (
            "v",
            "42809",
            "app.v is no table of which changes can be recorded",
        ),
        ("m", "42809", "app.m is no table"),
        ("temp", "42809", "temp is no table"),
        ("s", "42809", "app.s is no table"),
        ("composite", "42809", "app.composite is no table"),
        ("pg_catalog.pg_class", "42809", "is no table"),
        ("audit.events", "42501", "permission denied"),
        ("none", "42P01", "none"),
    ] {
        let error = refused(
            &mut session,
            state,
            &format!("SELECT audit.track('{table}')"),
        );
        assert!(error.contains(words), "{table}: {error}");
    }
    let mut superuser = postgres.session("postgres");
    for table in [
        "audit.events",
        "audit.tracked_tables",
        "audit.batches",
        "audit_parts.events_default",
        "pg_catalog.pg_class",
        "audit.schema_migrations",
    ] {
        let error = refused(
            &mut superuser,
            "42809",
            &format!("SELECT audit.track('{table}')"),
        );
        assert!(
            error.contains("is no table of which changes can be recorded"),
            "{table}: {error}"
        );
    }
    refused(&mut superuser, "42P01", "SELECT audit.track(0::regclass)");
    refused(&mut superuser, "42P01", "SELECT audit.track(NULL)");
    postgres.psql("SELECT audit.track('app.theirs')");
    for statement in [
        "SELECT audit.untrack('theirs')",
        "SELECT audit.finish_tracking('theirs')",
        "SELECT audit.forget_tracking('theirs')",
    ] {
        refused(&mut session, "42501", statement);
    }
    refused(&mut session, "42704", "SELECT audit.untrack('own')");
    assert_eq!(
        postgres.psql("SELECT table_name FROM audit.tracked"),
        "app.theirs"
    );
    // Who owns a table but has no role of the trail may not track it.
    let mut none = login(&postgres, "nobody", None);
    postgres.psql("GRANT CREATE ON SCHEMA public TO nobody");
    refused(
        &mut none,
        "42501",
        "CREATE TABLE mine (id int); SELECT audit.track('mine')",
    );
}
