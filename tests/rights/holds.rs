//! A hold covers something or is refused, and nothing younger than the least age is removed.

use super::{allowed, login, migrated, refused};
use testkit::trail::PATIENCE;
use testkit::{Postgres, Session, wait_until};

/// Acme has records in January and February 2020, one of them a query; no other tenant has any.
fn acme() -> (Postgres, Session, Session) {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition(parent, at) FROM unnest(ARRAY['query_runs', 'events']) parent, unnest(ARRAY['2020-01-15Z', '2020-02-15Z']::timestamptz[]) at;
         INSERT INTO audit.events (id, tenant_id, status, created_at, metadata, writer_id, seq, salt)
             SELECT audit.id_at(at), audit.tenant_uuid('acme'), 'succeeded', at, CASE WHEN n = 2 THEN '{\"tenant_key\": \"acme\"}' WHEN n = 3 THEN '{\"tenant_key\": \"other\"}' ELSE '{}' END::jsonb, gen_random_uuid(), 1, ''
             FROM (VALUES (1, '2020-01-10Z'::timestamptz), (2, '2020-01-20Z'), (3, '2020-02-10Z')) AS t (n, at);
         INSERT INTO audit.query_runs (id, tenant_id, status, started_at, writer_id, seq, salt)
             VALUES (audit.id_at('2020-01-10Z'), audit.tenant_uuid('acme'), 'succeeded', '2020-01-10Z', gen_random_uuid(), 1, '')",
    );
    let operator = login(&postgres, "ops", Some("audit_operator"));
    let auditor = login(&postgres, "aud", Some("audit_auditor"));
    (postgres, operator, auditor)
}

#[test]
fn hold_that_covers_nothing_is_refused() {
    let (postgres, mut operator, mut auditor) = acme();
    for (state, arguments) in [
        ("22023", "'x', kinds => '{}'"),
        ("22023", "'x', kinds => '{events,events}'"),
        (
            "22023",
            "'x', kinds => '{query_runs,prompt_runs,events,activities,events}'",
        ),
        ("42P01", "'x', kinds => '{NULL}'"),
        ("42P01", "'x', kinds => '{events,NULL}'"),
        ("42P01", "'x', kinds => '{\"\"}'"),
        ("42P01", "'x', kinds => '{Events}'"),
        ("42P01", "'x', kinds => '{batches}'"),
        ("22023", "'x', from_time => NULL"),
        ("22023", "'x', to_time => NULL"),
        (
            "22023",
            "'x', from_time => '2020-01-01Z', to_time => '2020-01-01Z'",
        ),
        (
            "22023",
            "'x', from_time => '2020-01-02Z', to_time => '2020-01-01Z'",
        ),
        ("22023", "'x', from_time => 'infinity'"),
        ("22023", "'x', to_time => '-infinity'"),
        ("22023", "'x', to_time => '1970-01-01Z'"),
        (
            "22023",
            "'x', from_time => '0026-01-01Z', to_time => '0027-01-01Z'",
        ),
        ("22023", "'x', from_time => '20260-01-01Z'"),
        ("22023", "'x', audit.tenant_uuid('acne')"),
        ("22023", "'x', audit.tenant_uuid('')"),
        (
            "22023",
            "'x', audit.tenant_uuid('acne'), even_if_unknown => NULL",
        ),
        ("22023", "'x', '00000000-0000-0000-0000-000000000000'"),
    ] {
        for session in [&mut operator, &mut auditor] {
            refused(
                session,
                state,
                &format!("SELECT audit.place_hold({arguments})"),
            );
        }
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.legal_holds"), "0");
    // A tenant that only a reading or a hold names does not count as known.
    allowed(
        &mut auditor,
        "SELECT audit.record_reading('x', NULL, audit.tenant_uuid('acne')), audit.place_hold('x', audit.tenant_uuid('acne'), even_if_unknown => true)",
    );
    refused(
        &mut operator,
        "22023",
        "SELECT audit.place_hold('x', audit.tenant_uuid('acne'))",
    );
    allowed(
        &mut operator,
        "SELECT audit.place_hold('x', audit.tenant_uuid('acme'))",
    );
    // Nor by inserting with a right that was granted by mistake, not even as a superuser.
    for values in [
        "'x', '{}'",
        "'x', '{NULL}'",
        "'', NULL",
        "repeat('x', 5000), NULL",
    ] {
        let error = postgres
            .try_psql(&format!(
                "INSERT INTO audit.legal_holds (reason, kinds, from_time, to_time, placed_by) VALUES ({values}, '-infinity', 'infinity', 'x')"
            ))
            .unwrap_err();
        assert!(error.contains("23514"), "{error}");
    }
}

#[test]
fn hold_coverage_shows_partitions_records_and_tenant_key() {
    let (_postgres, mut operator, mut auditor) = acme();
    let mut covered = |arguments: &str| {
        let hold = allowed(
            &mut operator,
            &format!("SELECT audit.place_hold('x', {arguments})"),
        );
        allowed(
            &mut operator,
            &format!("SELECT partitions, records, tenant_key FROM audit.hold_coverage('{hold}')"),
        )
    };
    let acme = "audit.tenant_uuid('acme')";
    assert_eq!(covered(acme), "3|4|acme");
    assert_eq!(
        covered(&format!("{acme}, kinds => '{{query_runs}}'")),
        "1|1|"
    );
    assert_eq!(
        covered(&format!("{acme}, '2020-01-15Z', '2020-02-01Z'")),
        "2|1|acme"
    );
    assert_eq!(
        covered(&format!("{acme}, '2020-02-01Z', kinds => '{{events}}'")),
        "1|1|"
    );
    assert_eq!(
        covered("audit.tenant_uuid('acne'), even_if_unknown => true"),
        "0|0|"
    );
    assert_eq!(covered("NULL, '2020-01-01Z', '2020-02-01Z'"), "2|3|");
    for session in [&mut operator, &mut auditor] {
        assert_eq!(
            allowed(session, "SELECT audit.hold_coverage(gen_random_uuid())"),
            ""
        );
    }
}

#[test]
fn hold_and_retention_plan_skip_a_partition_that_is_being_removed() {
    let (postgres, mut operator, mut auditor) = acme();
    postgres.psql("SELECT audit.ensure_partition('query_runs', '2019-01-15Z'), audit.ensure_partition('query_runs', '2019-02-15Z')");
    let mut second = login(&postgres, "planner", Some("audit_operator"));
    allowed(&mut operator, "BEGIN");
    allowed(
        &mut operator,
        "SELECT audit.remove_partition('query_runs_2019_01', '60 days')",
    );
    std::thread::scope(|scope| {
        let hold = scope.spawn(|| {
            auditor.run(
                "SELECT audit.hold_coverage(audit.place_hold('case', audit.tenant_uuid('acme')))",
            )
        });
        let plan = scope.spawn(|| {
            second.run("SELECT partition FROM audit.plan_retention('60 days', '{query_runs}')")
        });
        wait_until("both wait for the partition", PATIENCE, || {
            postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                == "2"
        });
        allowed(&mut operator, "COMMIT");
        hold.join().unwrap().unwrap();
        assert!(plan.join().unwrap().unwrap().contains("query_runs_2019_02"));
    });
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.legal_holds"), "1");
}

#[test]
fn partition_younger_than_the_least_age_is_never_removed() {
    let (postgres, mut operator, mut auditor) = acme();
    let remove = |keep: &str| format!("SELECT audit.remove_partition('events_2020_01', {keep})");
    let plan = |keep: &str| format!("SELECT audit.plan_retention({keep})");
    assert_eq!(
        allowed(&mut operator, "SELECT audit.least_age()"),
        "30 days"
    );
    for keep in [
        "'29 days'",
        "'0'",
        "'-1 month'",
        "'-1 month 31 days'",
        "'1 month -2 days'",
        "'719 hours'",
        "'-7 years'",
    ] {
        refused(&mut operator, "22023", &plan(keep));
        refused(&mut operator, "22023", &remove(keep));
    }
    refused(&mut operator, "22023", &plan("NULL"));
    // Only an auditor may change it, and the change is recorded.
    for sql in [
        "SELECT audit.set_least_age('1 day', 'x')",
        "INSERT INTO audit.settings (least_age, reason, changed_by) VALUES ('1 day', 'x', 'x')",
        "UPDATE audit.settings SET least_age = '1 day'",
    ] {
        refused(&mut operator, "42501", sql);
    }
    for age in [
        "NULL",
        "'0'",
        "'23:59:59'",
        "'-1 month'",
        "'-1 month 40 days'",
        "'2 months -1 day'",
        "'40 days -1 hour'",
        "'1001 years'",
    ] {
        refused(
            &mut auditor,
            "22023",
            &format!("SELECT audit.set_least_age({age}, 'x')"),
        );
    }
    let event = allowed(
        &mut auditor,
        "SELECT audit.set_least_age('20 years', 'the law')",
    );
    assert_eq!(
        postgres.psql(&format!("SELECT action_type, user_id, target_id, input_summary, metadata->>'before', metadata->>'after' FROM audit.events WHERE id = '{event}'")),
        "audit.setting_changed|aud|least_age|the law|30 days|20 years"
    );
    for keep in ["'1 year'", "'19 years'", "'20 years -1 day'"] {
        refused(&mut operator, "22023", &plan(keep));
        refused(&mut operator, "22023", &remove(keep));
    }
    assert_eq!(allowed(&mut operator, &plan("'20 years'")), "");
    // No row of it can be changed, not even by a superuser.
    let error = postgres
        .try_psql("UPDATE audit.settings SET least_age = '1 day'")
        .unwrap_err();
    assert!(error.contains("append-only"), "{error}");
    allowed(
        &mut auditor,
        "SELECT audit.set_least_age('1 year', 'amended')",
    );
    allowed(&mut operator, &remove("'1 year'"));
}

#[test]
fn removal_respects_a_hold_committed_after_its_transaction_began() {
    let (postgres, mut operator, mut auditor) = acme();
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        allowed(
            &mut operator,
            &format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM audit.legal_holds"),
        );
        allowed(&mut auditor, "SELECT audit.place_hold('case')");
        refused(
            &mut operator,
            "25000",
            "SELECT audit.remove_partition('events_2020_01', '1 year')",
        );
        allowed(&mut operator, "ROLLBACK");
    }
    // The same in a transaction that has read it.
    allowed(
        &mut operator,
        "BEGIN; SELECT count(*) FROM audit.legal_holds",
    );
    allowed(&mut auditor, "SELECT audit.place_hold('case')");
    refused(
        &mut operator,
        "55006",
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
    );
    assert_eq!(
        postgres.psql("SELECT to_regclass('audit_parts.events_2020_01') IS NOT NULL"),
        "t"
    );
}

#[test]
fn partition_whose_name_contradicts_its_rows_is_not_removed() {
    let (postgres, mut operator, _) = acme();
    postgres.psql(
        "ALTER TABLE audit_parts.events_2020_02 RENAME TO events_2010_02;
         ALTER TABLE audit_parts.events_2010_02 RENAME CONSTRAINT events_2020_02_time TO events_2010_02_time",
    );
    let error = refused(
        &mut operator,
        "55006",
        "SELECT audit.remove_partition('events_2010_02', '8 years')",
    );
    assert!(
        error.contains("1 rows are not of the time that its name says"),
        "{error}"
    );
}

#[test]
fn a_hold_that_two_lift_at_once_is_lifted_once_and_the_other_is_told() {
    let postgres = migrated();
    let mut first = login(&postgres, "first", Some("audit_auditor"));
    let mut second = login(&postgres, "second", Some("audit_auditor"));
    let hold = allowed(&mut first, "SELECT audit.place_hold('case')");
    let lift = format!("SELECT audit.lift_hold('{hold}', 'over')");
    allowed(&mut first, &format!("BEGIN; {lift}"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| refused(&mut second, "55000", &lift));
        testkit::wait_until(
            "the second waits",
            std::time::Duration::from_secs(30),
            || {
                postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'second' AND wait_event_type = 'Lock'") == "1"
            },
        );
        allowed(&mut first, "COMMIT");
        let error = waiting.join().unwrap();
        assert!(error.contains("was lifted before"), "{error}");
    });
}
