//! Rows that are gone, dated ahead or not counted.

use super::{command, count_events, doctor, found, stdout, with_partitions};

#[test]
fn rows_that_are_gone_are_found_whatever_else_is_gone_by_the_rules() {
    let postgres = with_partitions();
    // A batch of dead letters alone, and one of which retention has removed one table's rows.
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
         VALUES ('00000000-0000-7000-8000-00000000000a', 1, 3, '{}', 3, NULL, NULL, 'test'),
             ('00000000-0000-7000-8000-00000000000b', 1, 5, '{\"events\": 2, \"query_runs\": 3}', 0, audit.id_at(now()), audit.id_at(now() + interval '1 minute'), 'test');
         INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
         VALUES ('events_2012_05', 'events', '00000000-0000-7000-8000-00000000000b', 1, 5, 2, '', 'x')",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("6 rows that 2 batches of 2 writers wrote are not there"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_that_are_dated_ahead_hide_none_that_no_batch_counts() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
         SELECT overlay(audit.id_at(at)::text PLACING lpad(n::text, 12, '0') FROM 25)::uuid, at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
         FROM generate_series(1, 10000) n, (VALUES ('2099-01-01Z'::timestamptz)) v (at);
         INSERT INTO audit.events (id, created_at, status, service_name, action_type, writer_id, seq, salt)
         VALUES (audit.id_at(now()), now(), 'succeeded', 'postgres', 'audit.partition_removed', '00000000-0000-7000-8000-00000000000b', 1, '');
         INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ('00000000-0000-7000-8000-00000000000b', 'app', sha256('secret'))",
    );
    count_events(&postgres, 10000);
    let looked = doctor(&postgres.url());
    let words = stdout(&looked);
    assert!(
        words.contains("1 of the newest rows are counted by no batch")
            && words.contains("1 of the newest events say that the database made them"),
        "{words}"
    );
    // Those that are ahead are looked at as well.
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
         VALUES (audit.id_at('2098-01-01Z'), '2098-01-01Z', 'succeeded', '00000000-0000-7000-8000-00000000000c', 1, '')",
    );
    assert!(
        stdout(&doctor(&postgres.url())).contains("2 of the newest rows are counted by no batch")
    );
}

#[test]
fn doctor_completes_when_values_are_at_the_limits_of_their_range() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version, committed_at)
        SELECT '00000000-0000-7000-8000-00000000000a', first, 9223372036854775807, '{}', 9223372036854775807 - first + 1, 'test', at::timestamptz
        FROM (VALUES (9223372036854775806, 'infinity'), (9223372036854775807, '-infinity')) v(first, at)",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        [
            "problem batch_rows audit.batches",
            "warning batches audit.batches",
            "warning newest_batch newest batch",
        ],
        "{}",
        stdout(&looked)
    );
    assert!(stdout(&looked).contains("2 of the newest 2 do not begin"));
    assert_eq!(looked.status.code(), Some(1));
    let strict = command(&postgres.url(), &["doctor", "--json", "--strict"]);
    assert_eq!({ strict }.output().unwrap().status.code(), Some(1));

    // The default partition takes rows of any month without a partition, unless a constraint
    // refuses them.
    postgres.psql(
        "DO $$DECLARE c record; BEGIN
            FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'audit.events'::regclass AND contype = 'c' LOOP
                EXECUTE format('ALTER TABLE audit.events DROP CONSTRAINT %I', c.conname);
            END LOOP; END$$;
        ALTER TABLE audit_parts.events_default DROP CONSTRAINT events_default_time;
        INSERT INTO audit_parts.events_default (id, created_at, status, service_name, writer_id, seq, salt)
        VALUES (gen_random_uuid(), 'infinity', 'succeeded', 'billing', gen_random_uuid(), 1, '')",
    );
    let looked = doctor(&postgres.url());
    assert!(
        stdout(&looked).contains("1 row of no month, of service billing"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_deleted_without_a_recorded_removal_are_found() {
    let postgres = with_partitions();
    // Two writers, each with a batch of two events.
    for writer in ["a", "b"] {
        postgres.psql(&format!(
            "WITH ids AS (SELECT audit.id_at(now()) AS one, audit.id_at(now() + interval '1 second') AS two),
            written AS (
                INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
                SELECT one, now(), 'succeeded'::audit.run_status, '00000000-0000-7000-8000-00000000000{writer}'::uuid, 1, ''::bytea FROM ids
                UNION ALL
                SELECT two, now(), 'succeeded', '00000000-0000-7000-8000-00000000000{writer}', 2, '' FROM ids)
            INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            SELECT '00000000-0000-7000-8000-00000000000{writer}', 1, 2, '{{\"events\": 2}}', 0, one, two, 'test' FROM ids"
        ));
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    // Deleted by somebody who may disable the triggers and enables them again afterwards.
    postgres.psql(
        "CREATE TEMP TABLE stopped AS
            SELECT format('%s', tgrelid::regclass) AS relation, tgname FROM pg_trigger
            WHERE tgenabled = 'A' AND tgrelid IN (SELECT relid FROM pg_partition_tree('audit.events'));
        DO $$DECLARE t record; BEGIN
            FOR t IN SELECT * FROM stopped LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname); END LOOP;
            DELETE FROM audit.events WHERE seq = 2 AND writer_id = '00000000-0000-7000-8000-00000000000b';
            FOR t IN SELECT * FROM stopped LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname); END LOOP;
        END$$",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("1 rows that 1 batches of 1 writers"),
        "{}",
        stdout(&looked)
    );
    // A removal by retention accounts for them.
    postgres.psql(
        "INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
        VALUES ('events_2000_01', 'events', '00000000-0000-7000-8000-00000000000b', 1, 2, 1, '', 'operator')",
    );
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn deleted_month_and_deleted_dead_letters_are_found_after_a_thousand_later_batches() {
    let postgres = with_partitions();
    // A thousand intact batches since, and as many that claim the ids of all time.
    postgres.psql(
        "WITH n AS (SELECT n, audit.id_at(now() + n * interval '1 ms') AS id FROM generate_series(1, 1100) n),
        written AS (
            INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
            SELECT id, now(), 'succeeded'::audit.run_status, '00000000-0000-7000-8000-00000000000e'::uuid, n, ''::bytea FROM n)
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        SELECT '00000000-0000-7000-8000-00000000000e', n, n, '{\"events\": 1}', 0, id, id, 'test' FROM n",
    );
    let older = |writer: &str, counts: &str| {
        postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, committed_at)
            SELECT '00000000-0000-7000-8000-00000000000{writer}', 1, 2, {counts}, audit.id_at(at), audit.id_at(at), 'test', at FROM (SELECT now() - interval '90 days' AS at) a"
        ));
    };
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    older("a", r#"'{"prompt_runs": 2}', 0"#);
    older("b", r#"'{"query_runs": 1}', 1"#);
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("4 rows that 2 batches of 2 writers"),
        "{}",
        stdout(&looked)
    );
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        SELECT '00000000-0000-7000-8000-00000000000f', n, n, '{\"events\": 1}', 0, audit.id_at('1970-01-01Z'), 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'test'
        FROM generate_series(1, 1100) n",
    );
    let looked = doctor(&postgres.url());
    assert!(
        stdout(&looked).contains("14 rows that 12 batches of 3 writers"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_not_counted_by_any_batch_are_found() {
    let postgres = with_partitions();
    // As the trail itself adds one.
    postgres.psql("SELECT audit.record_reading('ticket 4711')");
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    // By a login that may write, under a random writer id.
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    postgres.psql(
        "SET SESSION AUTHORIZATION app;
        INSERT INTO audit_parts.events_default (id, created_at, status, writer_id, seq, salt)
            SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', gen_random_uuid(), 7, ''",
    );
    let looked = doctor(&postgres.url());
    assert!(
        found(&looked).contains(&"problem uncounted_rows audit.events".to_owned()),
        "{}",
        stdout(&looked)
    );
    assert!(stdout(&looked).contains("1 of the newest rows"));

    // As if the database had made it, but by a program that is registered and counts it.
    postgres.psql(
        "INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ('00000000-0000-7000-8000-00000000000a', 'app', sha256('secret'));
        INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt, service_name, action_type)
            SELECT audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '', 'postgres', 'audit.hold_lifted'",
    );
    count_events(&postgres, 1);
    assert!(
        stdout(&doctor(&postgres.url()))
            .contains("1 of the newest events say that the database made them")
    );
    // Nor among the activities, where the database writes none.
    postgres.psql(
        "INSERT INTO audit.activities (id, created_at, status, writer_id, seq, salt, service_name, action_type)
            SELECT audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '', 'postgres', 'audit.hold_lifted'",
    );
    assert!(
        stdout(&doctor(&postgres.url()))
            .contains("2 of the newest events say that the database made them")
    );
}
