//! Whose the records are that ended before the user was known.

use super::{allowed, login, migrated};

/// A request: its records as (number, number of the parent or 0, tenant or 0, user or ""), and the
/// user that each record learns, by number.
type Case = (
    &'static str,
    &'static [(i32, i32, i32, &'static str)],
    &'static str,
);

const CASES: [Case; 12] = [
    (
        "login within the request",
        &[(1, 0, 0, "alice"), (2, 1, 0, ""), (3, 1, 0, "alice")],
        "2 alice",
    ),
    (
        "statement within the login",
        &[(1, 0, 7, "alice"), (2, 1, 0, ""), (3, 2, 0, "")],
        "2 alice, 3 alice",
    ),
    (
        "user of an inner record",
        &[
            (1, 0, 0, ""),
            (2, 1, 0, "alice"),
            (3, 2, 0, ""),
            (4, 1, 0, ""),
        ],
        "3 alice",
    ),
    (
        "two users",
        &[(1, 0, 0, "alice"), (2, 1, 0, ""), (3, 1, 0, "bob")],
        "",
    ),
    (
        "two users far apart",
        &[
            (1, 0, 0, ""),
            (2, 1, 0, "alice"),
            (3, 2, 0, ""),
            (4, 1, 0, "bob"),
        ],
        "",
    ),
    ("two tenants", &[(1, 0, 7, "alice"), (2, 1, 8, "")], ""),
    (
        "only the request id",
        &[(1, 0, 0, "alice"), (2, 0, 0, "")],
        "",
    ),
    (
        "parent not among them",
        &[(1, 0, 0, "alice"), (2, 99, 0, "")],
        "",
    ),
    (
        "two outermost records",
        &[
            (1, 0, 0, "alice"),
            (2, 1, 0, ""),
            (3, 0, 0, "bob"),
            (4, 3, 0, ""),
        ],
        "2 alice, 4 bob",
    ),
    ("circle", &[(1, 2, 0, "alice"), (2, 1, 0, "")], ""),
    ("its own parent", &[(1, 1, 0, "alice"), (2, 1, 0, "")], ""),
    ("no user", &[(1, 0, 0, ""), (2, 1, 0, "")], ""),
];

#[test]
fn record_learns_the_user_of_the_record_that_it_lies_within() {
    let postgres = migrated();
    postgres.psql(
        "CREATE FUNCTION test_id(n int, request int) RETURNS uuid LANGUAGE sql AS $$
             SELECT overlay(audit.id_at(date_trunc('month', now()))::text PLACING lpad((request * 1000 + n)::text, 12, '0') FROM 25)::uuid $$;
         SELECT audit.ensure_partition(parent, now()) FROM unnest(audit.record_tables()) AS parent",
    );
    for (request, (_, records, _)) in CASES.iter().enumerate() {
        for (n, parent, tenant, user) in *records {
            // Each record is of another kind than the one before.
            let (table, time) = [("query_runs", "started_at"), ("events", "created_at")]
                [usize::try_from(n % 2).unwrap()];
            postgres.psql(&format!(
                "INSERT INTO audit.{table} (id, parent_id, tenant_id, user_id, request_id, status, {time}, writer_id, seq, salt)
                 SELECT test_id({n}, {request}), CASE WHEN {parent} > 0 THEN test_id({parent}, {request}) END,
                     CASE WHEN {tenant} > 0 THEN audit.tenant_uuid('{tenant}') END, nullif('{user}', ''), '{request}', 'succeeded', date_trunc('month', now()),
                     gen_random_uuid(), {n}, ''"
            ));
        }
    }
    let mut auditor = login(&postgres, "as_auditor", Some("audit_auditor"));
    for (request, (what, records, learned)) in CASES.iter().enumerate() {
        let sql = format!(
            "SELECT coalesce(string_agg(seq || ' ' || learned_user_id, ', ' ORDER BY seq), '')
             FROM audit.request_trail('{request}')"
        );
        assert_eq!(allowed(&mut auditor, &sql), *learned, "{what}");
        // A written user is no learned one, and no record is lost or told twice.
        let sql = format!(
            "SELECT count(*) || ' ' || count(*) FILTER (WHERE user_id IS NOT NULL AND learned_user_id IS NOT NULL)
             FROM audit.request_trail('{request}')"
        );
        let expected = format!("{} 0", records.len());
        assert_eq!(allowed(&mut auditor, &sql), expected, "{what}");
    }
    // A reader learns from the rows of its tenant alone: here the record within, without a tenant, is not among them.
    let mut reader = login(&postgres, "as_reader", Some("audit_reader"));
    let sql = "SET app.current_tenant = '11111111-0000-4000-8000-000000000000';
        SELECT set_config('app.current_tenant', audit.tenant_uuid('7')::text, false);
        SELECT count(*) || ' ' || count(learned_user_id) FROM audit.request_trail('1')";
    assert!(allowed(&mut reader, sql).ends_with("1 0"));
}

#[test]
fn users_are_not_carried_down_a_tree() {
    let postgres = migrated();
    let id = |n: &str| {
        format!(
            "overlay(audit.id_at(now())::text PLACING lpad(({n})::text, 12, '0') FROM 25)::uuid"
        )
    };
    // A hundred chains of two hundred records, each chain with a user's name of a kilobyte.
    postgres.psql(&format!(
        "SET session_replication_role = replica;
         INSERT INTO audit.events (id, parent_id, user_id, request_id, action_type, status, created_at, writer_id, seq, salt)
         SELECT {}, CASE WHEN n >= 100 THEN {} END, repeat(md5((n % 100)::text), 32), 'wide', 'note', 'succeeded', now(),
             '00000000-0000-4000-8000-000000000001', n, '' FROM generate_series(0, 19999) AS n;
         ANALYZE audit.events",
        id("n"),
        id("n - 100")
    ));
    let mut auditor = login(&postgres, "as_auditor", Some("audit_auditor"));
    let said = allowed(
        &mut auditor,
        "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) SELECT count(*) FROM audit.request_trail('wide')",
    );
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap();
    let blocks = ["Temp Read Blocks", "Temp Written Blocks"]
        .map(|name| plan[0]["Plan"][name].as_u64().unwrap());
    // 20 MB of names, sorted a few times. With them at each of two hundred steps, 560,000 are read.
    assert!(blocks.iter().sum::<u64>() < 100_000, "{blocks:?}");
}
