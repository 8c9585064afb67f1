//! A tenant can read its own rows and no other's, by any path.

use super::{allowed, login, migrated, refused};
use testkit::{Postgres, Session};

const ANN: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000000";

/// Tables and views to read records from.
const READ: [&str; 4] = [
    "audit.query_runs",
    "audit.prompt_runs",
    "audit.events",
    "audit.trail",
];

/// In each table two rows of Ann's tenant, many of Bob's, whose values all contain SECRET, and one
/// without a tenant.
const ROWS: &str = "
    CREATE SCHEMA theirs;
    GRANT ALL ON SCHEMA theirs TO PUBLIC;
    CREATE FUNCTION theirs.id(n bigint) RETURNS uuid LANGUAGE sql AS $$
        SELECT overlay(audit.id_at(now())::text PLACING lpad(n::text, 12, '0') FROM 25)::uuid $$;
    SELECT audit.ensure_partition(parent, now()) FROM unnest(audit.record_tables()) AS parent;
    CREATE TABLE theirs.rows AS
        SELECT n, CASE WHEN n < 2 THEN 'aaaaaaaa-0000-4000-8000-000000000000' WHEN n > 2 THEN 'bbbbbbbb-0000-4000-8000-000000000000' END::uuid AS tenant,
            CASE WHEN n < 2 THEN 'ann' WHEN n > 2 THEN 'SECRET' || n % 3 ELSE 'SECRET of none' END AS who
        FROM generate_series(0, 2000) AS n;
    INSERT INTO audit.query_runs (id, tenant_id, user_id, request_id, question_text, status, started_at, writer_id, seq, salt)
        SELECT theirs.id(n), tenant, who, who, who, 'succeeded', now(), gen_random_uuid(), n, convert_to(who, 'UTF8') FROM theirs.rows;
    INSERT INTO audit.prompt_runs (id, tenant_id, user_id, request_id, rendered_prompt, status, created_at, writer_id, seq, salt)
        SELECT theirs.id(n), tenant, who, who, who, 'succeeded', now(), gen_random_uuid(), n, convert_to(who, 'UTF8') FROM theirs.rows;
    INSERT INTO audit.events (id, tenant_id, user_id, request_id, input_summary, status, created_at, writer_id, seq, salt)
        SELECT theirs.id(n), tenant, who, who, who, 'succeeded', now(), gen_random_uuid(), n, convert_to(who, 'UTF8') FROM theirs.rows;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
        VALUES (gen_random_uuid(), 1, 1, '{\"query_runs\": 1}', 0, 'SECRET');
    INSERT INTO audit.dead_letters (writer_id, seq, kind, reason, frame, salt) VALUES (gen_random_uuid(), 1, '', 'SECRET', '', '');
    INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
        VALUES ('SECRET', 'events', gen_random_uuid(), 1, 1, 1, '', '');
    INSERT INTO audit.legal_holds (reason, from_time, to_time, placed_by) VALUES ('SECRET', '-infinity', 'infinity', '');
    INSERT INTO audit.legal_hold_lifts (hold_id, reason, lifted_by) SELECT id, 'SECRET', '' FROM audit.legal_holds;
    DROP TABLE theirs.rows;
    ANALYZE;";

fn with_rows() -> Postgres {
    let postgres = migrated();
    postgres.psql(ROWS);
    postgres
}

/// A reader, and one that was also granted everything in the schema, as is customary.
fn readers(postgres: &Postgres) -> [Session; 2] {
    let reader = login(postgres, "as_reader", Some("audit_reader"));
    let granted = login(postgres, "as_granted", Some("audit_reader"));
    postgres.psql(
        "GRANT USAGE ON SCHEMA audit TO as_granted; GRANT SELECT ON ALL TABLES IN SCHEMA audit TO as_granted",
    );
    [reader, granted]
}

/// Returns whose rows are visible, and how many in each table.
fn seen(session: &mut Session) -> String {
    let mut seen: Vec<String> = READ
        .iter()
        .map(|table| {
            let sql = format!(
                "SELECT coalesce(string_agg(who || n, ' ' ORDER BY who), 'none') FROM (
                     SELECT substr(user_id, 1, 6) AS who, count(*) / CASE '{table}' WHEN 'audit.trail' THEN 3 ELSE 1 END AS n
                     FROM {table} GROUP BY 1) AS seen"
            );
            allowed(session, &sql)
        })
        .collect();
    seen.dedup();
    seen.join(", and ")
}

#[test]
fn reader_sees_only_the_tenant_that_is_currently_set() {
    let postgres = with_rows();
    for mut session in readers(&postgres) {
        let session = &mut session;
        assert_eq!(seen(session), "none", "unset");
        for (tenant, whose) in [
            (ANN, "ann2"),
            (BOB, "SECRET1998"),
            ("{AAAAAAAA-0000-4000-8000-000000000000}", "ann2"),
            ("00000000-0000-0000-0000-000000000000", "none"),
            ("", "none"),
        ] {
            allowed(session, &format!("SET app.current_tenant = '{tenant}'"));
            assert_eq!(seen(session), whose, "{tenant}");
        }
        for garbage in [
            "garbage",
            "acme",
            " ",
            "NULL",
            "aaaaaaaa-0000-4000-8000-00000000000",
            "' OR true --",
        ] {
            let garbage = garbage.replace('\'', "''");
            allowed(session, &format!("SET app.current_tenant = '{garbage}'"));
            for table in READ {
                refused(session, "22P02", &format!("SELECT count(*) FROM {table}"));
            }
        }
        // For a transaction: before, in, and after it.
        allowed(session, &format!("SET app.current_tenant = '{BOB}'"));
        allowed(
            session,
            &format!("BEGIN; SET LOCAL app.current_tenant = '{ANN}'"),
        );
        assert_eq!(seen(session), "ann2");
        allowed(session, "COMMIT");
        assert_eq!(seen(session), "SECRET1998");
        allowed(session, "RESET app.current_tenant");
        assert_eq!(seen(session), "none");
    }
}

#[test]
fn reused_connection_does_not_keep_the_tenant() {
    let postgres = with_rows();
    for mut session in readers(&postgres) {
        let session = &mut session;
        let begin = format!("BEGIN; SET LOCAL app.current_tenant = '{ANN}'");
        let by_function = format!("BEGIN; SELECT set_config('app.current_tenant', '{ANN}', true)");
        for begin in [begin, by_function] {
            for end in [
                "COMMIT",
                "ROLLBACK",
                "COMMIT AND CHAIN",
                "ROLLBACK AND CHAIN",
                "ABORT",
            ] {
                allowed(session, &begin);
                assert_eq!(seen(session), "ann2");
                allowed(session, end);
                // No longer NULL, but treated as unset.
                assert_eq!(seen(session), "none", "after {end}");
                allowed(session, "ROLLBACK");
            }
            // After an error, with and without a savepoint.
            allowed(session, &begin);
            refused(session, "22012", "SELECT 1/0");
            refused(session, "25P02", "SELECT count(*) FROM audit.trail");
            allowed(session, "ROLLBACK");
            assert_eq!(seen(session), "none");
            allowed(
                session,
                &format!("BEGIN; SAVEPOINT before; {}", &begin[7..]),
            );
            allowed(session, "ROLLBACK TO before");
            assert_eq!(seen(session), "none");
            allowed(session, "COMMIT");
        }
        // A prepared statement that was planned for one tenant.
        allowed(
            session,
            "PREPARE read AS SELECT coalesce(max(user_id), 'none') FROM audit.events",
        );
        for _ in 0..10 {
            allowed(session, &format!("SET app.current_tenant = '{ANN}'"));
            assert_eq!(allowed(session, "EXECUTE read"), "ann");
            allowed(session, "DISCARD TEMP; RESET ALL");
            assert_eq!(allowed(session, "EXECUTE read"), "none");
        }
    }
}

#[test]
fn only_auditors_see_rows_without_a_tenant() {
    let postgres = with_rows();
    let mut auditor = login(&postgres, "as_auditor", Some("audit_auditor"));
    for tenant in ["", ANN, BOB] {
        allowed(
            &mut auditor,
            &format!("SET app.current_tenant = '{tenant}'"),
        );
        assert_eq!(seen(&mut auditor), "SECRET1999 ann2");
        for table in [
            "batches",
            "dead_letters",
            "removals",
            "legal_holds",
            "legal_hold_lifts",
        ] {
            assert_eq!(
                allowed(&mut auditor, &format!("SELECT count(*) FROM audit.{table}")),
                "1"
            );
        }
    }
    let [mut reader, mut granted] = readers(&postgres);
    for tenant in ["", ANN, BOB] {
        allowed(
            &mut granted,
            &format!("SET app.current_tenant = '{tenant}'"),
        );
        for table in [
            "batches",
            "dead_letters",
            "removals",
            "legal_holds",
            "legal_hold_lifts",
        ] {
            let sql = format!("SELECT count(*) FROM audit.{table}");
            assert_eq!(allowed(&mut granted, &sql), "0", "{table}");
            refused(&mut reader, "42501", &sql);
        }
    }
}

#[test]
fn function_of_a_reader_never_receives_values_of_another_tenant() {
    let postgres = with_rows();
    for mut session in readers(&postgres) {
        let session = &mut session;
        allowed(session, "DROP SCHEMA IF EXISTS mine CASCADE");
        let name = allowed(session, "SELECT current_user");
        postgres.psql(&format!("CREATE SCHEMA of_{name} AUTHORIZATION {name}"));
        let leaks = format!(
            "SET search_path = of_{name};
             CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
                 BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$;
             CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
                 BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$;
             CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = same, RESTRICT = eqsel, JOIN = eqjoinsel);
             CREATE AGGREGATE gather(text) (SFUNC = textcat, STYPE = text);
             CREATE TABLE probes AS SELECT 'SECRET' || n AS probe FROM generate_series(0, 3) AS n"
        );
        allowed(session, &leaks);
        // Only a superuser could declare that a function leaks nothing.
        refused(session, "42501", "ALTER FUNCTION leak(text) LEAKPROOF");
        allowed(session, &format!("SET app.current_tenant = '{ANN}'"));
        for settings in [
            "SET enable_seqscan = on; SET enable_indexscan = on",
            "SET enable_seqscan = off",
            "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_seqscan = on",
            "SET enable_hashjoin = off; SET enable_nestloop = off",
        ] {
            allowed(session, settings);
            for table in READ {
                for query in [
                    format!("SELECT count(*) FROM {table} WHERE leak(user_id)"),
                    format!("SELECT count(*) FROM {table} WHERE user_id === 'x'"),
                    format!(
                        "SELECT count(*) FROM {table} WHERE leak(user_id) AND request_id >= 'S'"
                    ),
                    format!(
                        "EXPLAIN ANALYZE SELECT * FROM {table} WHERE leak(user_id || request_id)"
                    ),
                    format!("SELECT gather(user_id) FROM {table} WHERE user_id === request_id"),
                    format!("SELECT count(*) FROM {table} t JOIN probes ON t.user_id === probe"),
                    format!(
                        "SELECT count(*) FROM {table} t JOIN probes ON t.user_id = probe AND leak(t.user_id)"
                    ),
                    format!(
                        "SELECT count(*) FROM probes LEFT JOIN {table} t ON leak(t.user_id) AND t.user_id = probe"
                    ),
                    format!("COPY (SELECT * FROM {table} WHERE leak(user_id)) TO STDOUT"),
                    // An error message contains the value it is about.
                    format!("SELECT count(*) FROM {table} WHERE user_id::int = 1"),
                    format!(
                        "SELECT count(*) FROM {table} WHERE user_id > 'b' AND user_id::uuid IS NULL"
                    ),
                    format!("SELECT count(*) FROM {table} WHERE 1 / (length(user_id) - 7) = 1"),
                    format!("SELECT user_id::json FROM {table}"),
                ] {
                    let answer = session.run(&query);
                    let told = format!("{answer:?} {}", session.told());
                    // The plan repeats the query.
                    assert!(
                        !told.contains("leaked SECRET") && !told.contains("\"SECRET"),
                        "{told}\nin {query}"
                    );
                    assert!(
                        !told.contains("22012"),
                        "a hidden row was divided by\nin {query}"
                    );
                    if query.contains("WHERE leak(user_id)") {
                        assert!(told.contains("leaked ann"), "{told}\nin {query}");
                    }
                }
            }
        }
    }
}

#[test]
fn request_story_contains_only_rows_that_the_reader_may_see() {
    let postgres = with_rows();
    let story = |session: &mut Session, request_id: &str| {
        let sql = format!(
            "SELECT count(*) || ' of ' || coalesce(string_agg(DISTINCT request_id, ' '), 'none') FROM audit.request_trail('{request_id}')"
        );
        allowed(session, &sql)
    };
    // A right to the tables is none to the functions.
    let [mut reader, _] = readers(&postgres);
    let mut only_granted = login(&postgres, "only_granted", None);
    postgres.psql("GRANT USAGE ON SCHEMA audit TO only_granted; GRANT SELECT ON ALL TABLES IN SCHEMA audit TO only_granted");
    refused(
        &mut only_granted,
        "42501",
        "SELECT * FROM audit.request_trail('ann')",
    );
    assert_eq!(story(&mut reader, "ann"), "0 of none", "unset");
    for (tenant, request_id, told) in [
        (ANN, "ann", "6 of ann"),
        (ANN, "SECRET1", "0 of none"),
        (BOB, "SECRET1", "1998 of SECRET1"),
        (BOB, "ann", "0 of none"),
    ] {
        allowed(&mut reader, &format!("SET app.current_tenant = '{tenant}'"));
        assert_eq!(story(&mut reader, request_id), told);
    }
    let mut auditor = login(&postgres, "as_auditor", Some("audit_auditor"));
    assert_eq!(story(&mut auditor, "SECRET of none"), "3 of SECRET of none");
    assert_eq!(story(&mut auditor, "SECRET1"), "1998 of SECRET1");
    assert_eq!(story(&mut auditor, ""), "0 of none");
    // The later one is written first.
    for (number, later) in [(1, 2), (2, 1)] {
        postgres.psql(&format!(
            "INSERT INTO audit.events (id, request_id, input_summary, status, created_at, writer_id, seq, salt)
             SELECT theirs.id(1000000 + {number}), 'ordered', '', 'succeeded', date_trunc('month', now()) + {later} * interval '1 second',
                 gen_random_uuid(), {number}, ''"
        ));
    }
    let order = "SELECT string_agg(seq::text, ' ') FROM audit.request_trail('ordered')";
    assert_eq!(allowed(&mut auditor, order), "2 1");
    let nothing = "SELECT count(*) FROM audit.request_trail(NULL)";
    assert_eq!(allowed(&mut auditor, nothing), "0");
}

#[test]
fn query_of_a_reader_by_request_uses_an_index_that_includes_the_tenant() {
    let postgres = with_rows();
    for mut session in readers(&postgres) {
        allowed(
            &mut session,
            &format!("SET app.current_tenant = '{ANN}'; SET enable_seqscan = off"),
        );
        let plan = allowed(
            &mut session,
            "EXPLAIN (COSTS OFF) SELECT * FROM audit.trail WHERE request_id = 'ann'",
        );
        let by_both = plan
            .lines()
            .filter(|line| {
                line.contains("Index Cond: ((request_id = 'ann'::text) AND (tenant_id =")
            })
            .count();
        assert!(by_both >= 3 && !plan.contains("BitmapAnd"), "{plan}");
    }
}

#[test]
fn statistics_reveal_no_hidden_values_to_a_reader() {
    let postgres = with_rows();
    let estimate = |session: &mut Session, query: &str| {
        let plan = allowed(session, &format!("EXPLAIN (FORMAT json) {query}"));
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        plan[0]["Plan"]["Plan Rows"].as_u64().unwrap()
    };
    for mut session in readers(&postgres) {
        let session = &mut session;
        allowed(session, &format!("SET app.current_tenant = '{ANN}'"));
        for table in READ {
            // A frequent value, and one that does not occur.
            for (column, hidden, nowhere) in [
                ("user_id", "SECRET1", "nobody"),
                ("request_id", "SECRET1", "nobody"),
                ("tenant_id", BOB, "cccccccc-0000-4000-8000-000000000000"),
            ] {
                for operator in ["=", "<>", ">", "<="] {
                    let [hidden, nowhere] = [hidden, nowhere].map(|value| {
                        let query =
                            format!("SELECT * FROM {table} WHERE {column} {operator} '{value}'");
                        estimate(session, &query)
                    });
                    assert_eq!(hidden, nowhere, "{table}.{column} {operator}");
                }
            }
        }
        let salt = "SELECT * FROM audit.events WHERE salt";
        assert_eq!(
            estimate(session, &format!("{salt} = 'SECRET1'")),
            estimate(session, &format!("{salt} = 'nobody'"))
        );
        let stats = "SELECT count(*) FROM pg_stats WHERE schemaname IN ('audit', 'audit_parts') AND attname NOT IN ('version', 'description', 'success', 'installed_on', 'checksum', 'execution_time')";
        assert_eq!(allowed(session, stats), "0");
        refused(session, "42501", "SELECT count(*) FROM pg_statistic");
    }
    // What remains is what plans by time need.
    let columns = postgres.psql(
        "SELECT string_agg(DISTINCT attname, ' ') FROM pg_stats WHERE schemaname = 'audit_parts'",
    );
    assert_eq!(columns, "created_at id started_at");
}

#[test]
fn error_reveals_nothing_of_an_existing_row_to_the_writer() {
    let postgres = with_rows();
    let mut writer = login(&postgres, "as_writer", Some("audit_writer"));
    let leaf = postgres.psql("SELECT audit.ensure_partition('events', now())");
    let id = postgres.psql("SELECT id FROM audit.events WHERE user_id LIKE 'SECRET%' LIMIT 1");
    let insert = format!(
        "INSERT INTO audit_parts.{leaf} (id, status, created_at, writer_id, seq, salt) \
         SELECT '{id}', 'succeeded', now(), gen_random_uuid(), 1, ''"
    );
    let error = refused(&mut writer, "23505", &insert);
    let told = writer.told();
    assert!(
        !told.contains("Key (") && !error.contains(&id),
        "{error} {told}"
    );
    // It can only find out whether the id exists.
    assert_eq!(
        allowed(&mut writer, &format!("{insert} ON CONFLICT DO NOTHING")),
        ""
    );
    refused(
        &mut writer,
        "42501",
        &format!("{insert} ON CONFLICT (id) DO UPDATE SET status = 'failed'"),
    );
    assert!(!writer.told().contains("Key ("), "{}", writer.told());
}
