//! Values of every kind of type.

use super::{changes, migrated};
use serde_json::{Value, json};
use testkit::Postgres;

/// Returns the changes of the last event.
fn last(postgres: &Postgres) -> Value {
    let changes = postgres.psql(
        "SELECT metadata -> 'changes' FROM audit.events WHERE metadata ? 'changes' ORDER BY (metadata ->> 'number')::bigint DESC LIMIT 1",
    );
    serde_json::from_str(&changes).unwrap()
}

#[test]
fn values_of_the_hosts_types_are_recorded() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TYPE mood AS ENUM ('sad', 'so \"so\"'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN moods AS mood[];
         CREATE TYPE pair AS (a int, b text); CREATE TYPE span AS RANGE (subtype = float8);",
    );
    for (kind, value, expected) in [
        ("mood", "'so \"so\"'", json!("so \"so\"")),
        ("positive", "5", json!("5")),
        ("positive[]", "'{5,6}'", json!("{5,6}")),
        ("mood[]", "'{sad,NULL}'", json!("{sad,NULL}")),
        ("moods", "'{sad}'", json!("{sad}")),
        ("pair", "'(1,\"x, y\")'", json!("(1,\"x, y\")")),
        ("pair[]", "ARRAY[(1, NULL)::pair]", json!("{\"(1,)\"}")),
        ("pair", "(NULL, NULL)", json!("(,)")),
        ("span", "'[1.5,2)'", json!("[1.5,2)")),
        ("span_multirange", "'{[1.5,2)}'", json!("{[1.5,2)}")),
        ("int[]", "'{1,2,NULL}'", json!([1, 2, null])),
        ("int[]", "'[0:1]={1,2}'", json!([1, 2])),
        (
            "text[][]",
            "'{{a,b},{c,d}}'",
            json!([["a", "b"], ["c", "d"]]),
        ),
        ("text[]", "'{}'", json!([])),
        ("jsonb", "'{\"a\": [1, null]}'", json!({"a": [1, null]})),
        ("jsonb", "'null'", json!(null)),
        ("jsonb[]", "ARRAY['{\"a\": 1}'::jsonb]", json!([{"a": 1}])),
        (
            "json",
            r#"'{"a":"\u0000","a":2}'"#,
            json!(r#"{"a":"\u0000","a":2}"#),
        ),
        (
            "json[]",
            r#"ARRAY['{"a":"\u0000"}'::json]"#,
            json!(r#"{"{\"a\":\"\\u0000\"}"}"#),
        ),
        ("point", "'(1,2.5)'", json!("(1,2.5)")),
        ("polygon", "'((0,0),(1,1))'", json!("((0,0),(1,1))")),
        ("int4range", "'[1,5)'", json!("[1,5)")),
        ("numeric", "'NaN'", json!("NaN")),
        (
            "numeric",
            "12345678901234567890.123456789",
            json!(12_345_678_901_234_567_890.123_456_789_f64),
        ),
        ("float8", "'-Infinity'", json!("-Infinity")),
        ("float4", "0.1", json!(0.1)),
        (
            "timestamptz",
            "'2026-01-02 03:04:05.6+09'",
            json!("2026-01-01T18:04:05.6+00:00"),
        ),
        ("timestamptz", "'infinity'", json!("infinity")),
        ("date", "'2026-01-02'", json!("2026-01-02")),
        ("interval", "'1 day 2 hours'", json!("1 day 02:00:00")),
        ("bytea", "'\\x00ff'", json!("\\x00ff")),
        ("xml", "'<a>1</a>'", json!("<a>1</a>")),
        ("inet", "'10.0.0.1/8'", json!("10.0.0.1/8")),
        ("tsvector", "'a b'", json!("'a' 'b'")),
        ("money", "12.5", json!("$12.50")),
        ("\"char\"", "'x'", json!("x")),
        ("bit(3)", "'101'", json!("101")),
        ("regclass", "'pg_class'", json!("pg_class")),
        ("void_is_no_column", "", json!(null)),
    ] {
        if value.is_empty() {
            continue;
        }
        postgres.psql(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {kind}); SELECT audit.track('t'); SET lc_monetary = 'C'"
        ));
        let quoted = if value.starts_with(['\'', 'A', '('])
            || value.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            value.to_owned()
        } else {
            format!("'{value}'")
        };
        postgres.psql(&format!("SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = 0; SET timezone = 'Asia/Tokyo';
            INSERT INTO t VALUES (1, {quoted})"));
        assert_eq!(
            last(&postgres)["v"],
            json!({"new": expected}),
            "{kind} {value}"
        );
        assert_eq!(
            changes(&postgres, &format!("UPDATE t SET v = {quoted}")),
            "",
            "{kind} {value}"
        );
        postgres.psql("UPDATE t SET v = NULL");
        assert_eq!(
            last(&postgres)["v"],
            json!({"old": expected, "new": null}),
            "{kind} {value}"
        );
    }
}

#[test]
fn each_type_of_postgres_is_compared_by_its_bytes() {
    let postgres = migrated();
    postgres.psql("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)");
    for (column, old, new) in [
        ("smallint", "1", "2"),
        ("bigint", "1", "-1"),
        ("boolean", "true", "false"),
        (
            "uuid",
            "'0198f1d3-0000-7000-8000-000000000017'",
            "'0198f1d3-0000-7000-8000-000000000018'",
        ),
        ("date", "'infinity'", "'-infinity'"),
        (
            "timestamptz",
            "'2026-01-01 00:00+00'",
            "'2026-01-01 00:00:00.000001+00'",
        ),
        ("timestamp", "'2026-01-01'", "'2026-01-02'"),
        ("bytea", "'\\x00'", "'\\x0000'"),
        ("text", "'a'", "'a '"),
        ("text COLLATE loose", "'a'", "'Ä'"),
        ("varchar(9)", "'a'", "'a '"),
        ("varchar(9) COLLATE loose", "'e'", "'é'"),
        ("char(3)", "'a'", "'b'"),
        ("numeric", "1.0", "1.00"),
        ("double precision", "0", "'-0'"),
        ("jsonb", "'[1.0]'", "'[1.00]'"),
        ("interval", "'1 day'", "'24 hours'"),
        ("text[]", "'{a}'", "'[0:0]={a}'"),
    ] {
        postgres.psql(&format!("DROP TABLE IF EXISTS one; CREATE TABLE one (id int PRIMARY KEY, v {column}); SELECT audit.track('one'); INSERT INTO one VALUES (1, {old})"));
        for (statement, count) in [
            (format!("UPDATE one SET v = {old}"), 0),
            (format!("UPDATE one SET v = {new}"), 1),
            ("UPDATE one SET v = NULL".to_owned(), 1),
            ("UPDATE one SET v = NULL".to_owned(), 0),
            (format!("UPDATE one SET v = {new}"), 1),
        ] {
            let told = changes(&postgres, &statement);
            assert_eq!(told.lines().count(), count, "{column}: {statement}: {told}");
        }
    }
}

#[test]
fn values_that_are_equal_but_not_the_same_are_changes() {
    let postgres = migrated();
    postgres.psql(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (id int PRIMARY KEY, n numeric, f float8, s text COLLATE nocase, c char(5)); SELECT audit.track('t');
         INSERT INTO t VALUES (1, 1.0, 0, 'a', 'x')",
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE t SET n = 1.00, f = '-0', s = 'A', c = 'x '"
        ),
        // JSON in Postgres knows one zero.
        "update public.t 1 {\"f\": {\"new\": 0, \"old\": 0}, \"n\": {\"new\": 1.00, \"old\": 1.0}, \"s\": {\"new\": \"A\", \"old\": \"a\"}}"
    );
}

#[test]
fn large_values_are_compared_whole() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b bytea, doc jsonb); SELECT audit.track('t')",
    );
    postgres.psql("INSERT INTO t VALUES (1, repeat('a', 1000000), convert_to(repeat('b', 1000000), 'UTF8'), jsonb_build_object('k', repeat('c', 1000000)))");
    let inserted = last(&postgres);
    assert_eq!(inserted["a"]["new"]["bytes"], 1_000_000);
    assert_eq!(inserted["b"]["new"]["bytes"], 2_000_002);
    assert_eq!(inserted["a"]["new"]["cut"].as_str().unwrap().len(), 8192);
    // Out of line, and in line; stored the other way.
    assert_eq!(
        changes(&postgres, "UPDATE t SET a = a || '', doc = doc || '{}'"),
        ""
    );
    assert_eq!(
        changes(
            &postgres,
            "ALTER TABLE t ALTER a SET STORAGE EXTERNAL; UPDATE t SET a = a || ''"
        ),
        ""
    );
    postgres.psql("UPDATE t SET a = overlay(a PLACING 'x' FROM 500000)");
    let updated = last(&postgres);
    assert_eq!(updated.as_object().unwrap().len(), 1, "{updated}");
    assert_ne!(updated["a"]["new"]["sha256"], updated["a"]["old"]["sha256"]);
    // Whole ones, as large as can be asked for.
    postgres.psql("SELECT audit.track('t', max_value_bytes => 1048576); UPDATE t SET a = repeat('z', 1000000)");
    assert_eq!(
        last(&postgres)["a"]["new"].as_str().unwrap().len(),
        1_000_000
    );
}

#[test]
fn knowledge_base_is_tracked_without_its_embeddings() {
    let postgres = migrated();
    postgres.psql(
        "CREATE SCHEMA kb; CREATE TABLE kb.documents (id uuid PRIMARY KEY, tenant text NOT NULL, title text, body text, meta jsonb);
         CREATE TABLE kb.chunks (document uuid REFERENCES kb.documents ON DELETE CASCADE, n int, content text, embedding float4[], PRIMARY KEY (document, n));
         CREATE INDEX ON kb.chunks USING gin (embedding);
         SELECT audit.track('kb.documents', tenant_column => 'tenant'), audit.track('kb.chunks', columns_out => '{embedding}')",
    );
    let id = "0198f1d3-0000-7000-8000-000000000017";
    postgres.psql(&format!(
        "BEGIN; SET LOCAL app.agent_id = '{id}'; SET LOCAL app.request_id = 'ingest-1';
         INSERT INTO kb.documents VALUES ('{id}', 'acme', 'Handbook', 'text', '{{\"source\": \"wiki\"}}');
         INSERT INTO kb.chunks SELECT '{id}', n, 'part ' || n, array_fill(n::float4, '{{768}}') FROM generate_series(1, 3) n; COMMIT"
    ));
    assert_eq!(
        postgres.psql("SELECT target_type, count(*), min(request_id), min(agent_id::text), count(*) FILTER (WHERE metadata -> 'changes' ? 'embedding') FROM audit.events WHERE metadata ? 'changes' GROUP BY 1 ORDER BY 1"),
        format!("kb.chunks|3|ingest-1|{id}|0\nkb.documents|1|ingest-1|{id}|0")
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE kb.chunks SET embedding = array_fill(0.5::float4, '{768}')"
        ),
        ""
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE kb.chunks SET content = 'new', embedding = NULL WHERE n = 2"
        ),
        format!(
            "update kb.chunks {{\"n\": 2, \"document\": \"{id}\"}} {{\"content\": {{\"new\": \"new\", \"old\": \"part 2\"}}}}"
        )
    );
    postgres.psql("DELETE FROM kb.documents");
    assert_eq!(
        postgres.psql("SELECT target_type, count(*) FROM audit.events WHERE metadata ->> 'operation' = 'delete' GROUP BY 1 ORDER BY 1"),
        "kb.chunks|3\nkb.documents|1"
    );
}
