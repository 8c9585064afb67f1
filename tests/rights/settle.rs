//! Rows of a default partition move to a month of their own, all or none.

use super::{RECORDS, allowed, login, migrated, refused};

#[test]
fn rows_of_a_default_partition_move_to_their_month_and_nothing_is_lost() {
    let postgres = migrated();
    let mut writer = login(&postgres, "wri", Some("audit_writer"));
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    for (parent, time) in RECORDS {
        let insert = |times: &str| {
            format!(
                "INSERT INTO audit_parts.{parent}_default (id, user_id, status, {time}, metadata, writer_id, seq, salt)
                 SELECT overlay(audit.id_at(at)::text PLACING lpad(n::text, 12, '0') FROM 25)::uuid, 'ünï', 'failed', at, '{{\"a\": 1.50}}', gen_random_uuid(), n, '\\x01'
                 FROM (VALUES {times}) AS t (at), generate_series(1, 3) n"
            )
        };
        allowed(
            &mut writer,
            &insert(
                "('2019-01-01Z'::timestamptz), ('2019-01-31 23:59:59.999999Z'), ('2019-02-01Z'), (date_trunc('month', now(), 'UTC') + interval '40 days')",
            ),
        );
        // Far in the future: its month cannot have a partition yet.
        allowed(&mut writer, &insert("(now() + interval '10 years')"));
        let all = format!(
            "SELECT md5(string_agg(r::text, '' ORDER BY id)), count(*) FROM audit.{parent} r WHERE service_name IS NULL"
        );
        let before = postgres.psql(&all);
        let plan = format!(
            "SELECT partition, rows, cardinality(obstacles) FROM audit.plan_settling('{{{parent}}}')"
        );
        let planned = allowed(&mut operator, &plan);
        let planned: Vec<&str> = planned.lines().collect();
        assert_eq!(planned.len(), 4, "{planned:?}");
        assert_eq!(
            planned[..2],
            [
                format!("{parent}_2019_01|6|0"),
                format!("{parent}_2019_02|3|0")
            ]
        );
        assert!(planned[2].ends_with("|3|0"), "{planned:?}");
        assert!(planned[3].ends_with("|3|1"), "{planned:?}");
        // Nothing moves until it commits.
        allowed(
            &mut operator,
            &format!("BEGIN; SELECT audit.settle_partition('{parent}', '2019-01-15Z'); ROLLBACK"),
        );
        assert_eq!(allowed(&mut operator, &plan).lines().count(), 4);
        let event = allowed(
            &mut operator,
            &format!("SELECT audit.settle_partition('{parent}', '2019-01-15Z')"),
        );
        assert_eq!(
            postgres.psql(&format!("SELECT action_type, user_id, target_id, metadata->>'rows' FROM audit.events WHERE id = '{event}'")),
            format!("audit.partition_settled|ops|{parent}_2019_01|6")
        );
        allowed(
            &mut operator,
            &format!(
                "SELECT audit.settle_partition('{parent}', '2019-02-28 23:00Z'), audit.settle_partition('{parent}', date_trunc('month', now(), 'UTC') + interval '40 days')"
            ),
        );
        assert_eq!(postgres.psql(&all), before);
        assert_eq!(
            postgres.psql(&format!("SELECT count(*) FROM audit_parts.{parent}_2019_01 UNION ALL SELECT count(*) FROM audit_parts.{parent}_default")),
            "6\n3"
        );
        for wrong in [
            "now() + interval '10 years'",
            "'2019-01-15Z'",
            "'2018-01-15Z'",
        ] {
            let state = if wrong.starts_with("now") {
                "55006"
            } else {
                "55000"
            };
            refused(
                &mut operator,
                state,
                &format!("SELECT audit.settle_partition('{parent}', {wrong})"),
            );
        }
        // Both are append-only, as before.
        for leaf in ["default", "2019_01"] {
            for change in [
                format!("DELETE FROM audit_parts.{parent}_{leaf}"),
                format!(
                    "SET session_replication_role = replica; DELETE FROM audit_parts.{parent}_{leaf}"
                ),
                format!("TRUNCATE audit_parts.{parent}_{leaf}"),
            ] {
                let error = postgres.try_psql(&change).unwrap_err();
                assert!(error.contains("append-only"), "{error}");
            }
            assert_eq!(
                postgres.psql(&format!("SELECT string_agg(tgname || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'audit_parts.{parent}_{leaf}'::regclass")),
                "append_onlyA append_only_rowsA"
            );
        }
        // Rows that are old enough can be removed from then on.
        allowed(
            &mut operator,
            &format!("SELECT audit.remove_partition('{parent}_2019_01', '1 year')"),
        );
    }
}

#[test]
fn only_an_operator_settles_and_only_rows_of_the_given_month() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    for (name, role) in [
        ("wri", "audit_writer"),
        ("rea", "audit_reader"),
        ("aud", "audit_auditor"),
    ] {
        let mut session = login(&postgres, name, Some(role));
        refused(&mut session, "42501", "SELECT audit.plan_settling()");
        refused(
            &mut session,
            "42501",
            "SELECT audit.settle_partition('events', '2019-01-15Z')",
        );
    }
    for (state, arguments) in [
        ("42P01", "'batches', now()"),
        ("55000", "'events', now()"),
        ("55000", "'events', '1969-01-01Z'"),
    ] {
        refused(
            &mut operator,
            state,
            &format!("SELECT audit.settle_partition({arguments})"),
        );
    }
    let insert = |id: &str, at: &str| {
        postgres.psql(&format!(
            "INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt) VALUES ({id}, 'succeeded', {at}, gen_random_uuid(), 1, '')"
        ));
    };
    // Only a superuser can put them there. The greatest possible id, of the year 10889, does not
    // break the plan.
    postgres.psql("ALTER TABLE audit_parts.events_default DROP CONSTRAINT events_default_time");
    insert("'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'9999-12-31Z'");
    insert("audit.id_at('2019-01-15Z')", "'2019-01-15Z'");
    insert("audit.id_at('2019-01-16Z')", "'2020-01-15Z'");
    let error = refused(
        &mut operator,
        "55006",
        "SELECT audit.settle_partition('events', '2019-01-15Z')",
    );
    assert!(
        error.contains("1 of the rows have a time that is not of the day of their id"),
        "{error}"
    );
    assert_eq!(
        allowed(
            &mut operator,
            "SELECT partition, rows FROM audit.plan_settling() LIMIT 1"
        ),
        "events_2019_01|2"
    );
    assert_eq!(
        postgres.psql("SELECT to_regclass('audit_parts.events_2019_01') IS NULL"),
        "t"
    );
    allowed(
        &mut operator,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    );
    refused(
        &mut operator,
        "25000",
        "SELECT audit.settle_partition('events', '2019-01-15Z')",
    );
}

#[test]
fn foreign_key_to_the_default_partition_blocks_settling() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    postgres.psql(
        "INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             VALUES (audit.id_at('2019-01-15Z'), 'succeeded', '2019-01-15Z', gen_random_uuid(), 1, '');
         GRANT SELECT (id), UPDATE (id) ON audit_parts.events_default TO audit_owner;
         CREATE TABLE public.notes (event uuid REFERENCES audit_parts.events_default (id) ON DELETE CASCADE);
         INSERT INTO public.notes SELECT id FROM audit_parts.events_default;
         CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL as %', current_user; RETURN NULL; END $$;
         CREATE TRIGGER fire AFTER DELETE ON public.notes FOR EACH ROW EXECUTE FUNCTION public.fire()",
    );
    let settling = "SELECT audit.settle_partition('events', '2019-01-15Z')";
    let error = refused(&mut operator, "55006", settling);
    assert!(error.contains("notes_event_fkey"), "{error}");
    assert!(!operator.told().contains("EVIL"), "{}", operator.told());
    assert_eq!(postgres.psql("SELECT count(*) FROM public.notes"), "1");
    postgres.psql("DROP TABLE public.notes");
    allowed(&mut operator, settling);
}

#[test]
fn default_partition_refuses_rows_whose_id_and_time_are_of_different_months() {
    let postgres = migrated();
    let mut writer = login(&postgres, "w", Some("audit_writer"));
    for (table, time) in super::RECORDS {
        for (id, at) in [
            ("2019-01-31T23:59:59.999Z", "2019-02-01Z"),
            ("2019-02-01Z", "2019-01-31T23:59:59.999999Z"),
            ("2019-01-01Z", "1970-01-01Z"),
            ("1970-01-01Z", "9999-12-31Z"),
        ] {
            refused(
                &mut writer,
                "23514",
                &format!(
                    "SET TimeZone = 'Pacific/Kiritimati'; INSERT INTO audit_parts.{table}_default (id, status, {time}, writer_id, seq, salt)
                     VALUES (audit.id_at('{id}'), 'succeeded', '{at}', gen_random_uuid(), 1, '')"
                ),
            );
        }
        for at in [
            "1970-01-01Z",
            "2019-01-31T23:59:59.999999Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            allowed(
                &mut writer,
                &format!(
                    "SET TimeZone = 'Pacific/Kiritimati'; INSERT INTO audit_parts.{table}_default (id, status, {time}, writer_id, seq, salt)
                     VALUES (audit.id_at('{at}'), 'succeeded', '{at}', gen_random_uuid(), 1, '')"
                ),
            );
        }
    }
}

#[test]
fn row_larger_than_the_maximum_value_size_is_refused() {
    let postgres = migrated();
    let mut writer = login(&postgres, "w", Some("audit_writer"));
    postgres.psql("SELECT audit.ensure_partition(t, now()) FROM unnest(audit.record_tables()) t");
    let month = postgres.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')");
    let insert = |column: &str, value: &str| {
        format!(
            "INSERT INTO audit_parts.query_runs_{month} (id, status, started_at, writer_id, seq, salt, {column})
             VALUES (pg_temp.gen_id(now()), 'succeeded', now(), gen_random_uuid(), 1, '', {value})"
        )
    };
    allowed(
        &mut writer,
        "SET search_path = pg_catalog, pg_temp; CREATE FUNCTION pg_temp.gen_id(timestamptz) RETURNS uuid LANGUAGE sql
         AS $$ SELECT overlay(audit.id_at($1)::text PLACING right(gen_random_uuid()::text, 20) FROM 17)::uuid $$; SET search_path = pg_temp, pg_catalog",
    );
    for (column, value) in [
        ("sql_text", "repeat('x', 151 * 1024 * 1024)"),
        (
            "sql_text, question_text",
            "repeat('x', 80 * 1024 * 1024), repeat('y', 80 * 1024 * 1024)",
        ),
        (
            "metadata",
            "(SELECT jsonb_object_agg('k' || n, repeat('\"', 20000000)) FROM generate_series(1, 6) n)",
        ),
        ("problems", "ARRAY[repeat('p', 2000000)]"),
        // No text at all, and yet a row of many megabytes.
        ("problems", "array_fill(NULL::text, ARRAY[20000000])"),
        ("problems", "array_fill(''::text, ARRAY[102])"),
    ] {
        refused(&mut writer, "23514", &insert(column, value));
    }
    refused(
        &mut writer,
        "23514",
        &format!(
            "INSERT INTO audit_parts.query_runs_{month} (id, status, started_at, writer_id, seq, salt)
             VALUES (pg_temp.gen_id(now()), 'succeeded', now(), gen_random_uuid(), 1, decode(repeat('00', 100), 'hex'))"
        ),
    );
    // A value that comes from a table is measured as what it is, not as it was compressed there.
    allowed(
        &mut writer,
        "CREATE TEMPORARY TABLE packed (metadata jsonb, problems text[]);
         INSERT INTO packed SELECT jsonb_build_object('n', jsonb_agg('1e131071'::numeric)), ARRAY[repeat('p', 100000)] FROM generate_series(1, 1500)",
    );
    assert_eq!(
        allowed(
            &mut writer,
            "SELECT pg_column_size(metadata) < 2000, pg_column_compression(metadata) FROM packed"
        ),
        "t|pglz"
    );
    refused(
        &mut writer,
        "23514",
        &insert("metadata", "(SELECT metadata FROM packed)"),
    );
    allowed(
        &mut writer,
        &insert("problems", "(SELECT problems FROM packed)"),
    );
    allowed(
        &mut writer,
        &insert("problems", "array_fill(''::text, ARRAY[101])"),
    );
    // The most that the library may be set to send.
    allowed(
        &mut writer,
        &insert("sql_text", "repeat('x', 128 * 1024 * 1024)"),
    );
}
