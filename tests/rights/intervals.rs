//! Partitions of a month, a week or a day, and the change from one to another.

use super::{RECORDS, allowed, login, migrated, refused};
use testkit::trail::{Folder, PATIENCE, balanced, pipeline};
use testkit::{Postgres, Session};
use tracing_audit::Event;

fn set(session: &mut Session, table: &str, every: &str) {
    allowed(
        session,
        &format!("SELECT audit.set_partition_interval('{table}', '{every}', 'more rows')"),
    );
}

fn ensured(session: &mut Session, table: &str, at: &str) -> String {
    allowed(
        session,
        &format!("SELECT audit.ensure_partition('{table}', '{at}')"),
    )
}

/// Adds a row of a moment to a partition.
fn add(postgres: &Postgres, leaf: &str, time: &str, at: &str) {
    postgres.psql(&format!(
        "INSERT INTO audit_parts.{leaf} (id, status, {time}, writer_id, seq, salt)
         SELECT overlay(gen_random_uuid()::text PLACING left(audit.id_at(at)::text, 13) FROM 1)::uuid, 'succeeded', at, gen_random_uuid(), 1, ''
         FROM (SELECT '{at}'::timestamptz) AS t (at)"
    ));
}

/// Returns the partitions of a table but for the default one, in the order of their names, each with
/// its first moment and the one after it by its bounds.
fn bounds(postgres: &Postgres, table: &str) -> Vec<(String, String, String)> {
    let moment = |id: &str| {
        format!(
            "to_timestamp(('x' || translate({id}, '-', ''))::bit(48)::bigint / 1000) AT TIME ZONE 'UTC'"
        )
    };
    let found = postgres.psql(&format!(
        "SELECT name, {}, {} FROM (
            SELECT c.relname AS name, regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(.{{13}}).*TO \\(''(.{{13}})') AS ids
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.{table}'::regclass) b
         WHERE ids IS NOT NULL ORDER BY name COLLATE \"C\"",
        moment("ids[1]"),
        moment("ids[2]")
    ));
    let bounds = found.lines().map(|line| {
        let mut cells = line.split('|').map(String::from);
        let mut cell = || cells.next().unwrap();
        (cell(), cell(), cell())
    });
    bounds.collect()
}

/// Fails unless the partitions with this in their names follow each other by name as by time, without a gap.
#[track_caller]
fn assert_follow_each_other(postgres: &Postgres, table: &str, of_name: &str) {
    let mut bounds = bounds(postgres, table);
    bounds.retain(|(name, ..)| name.contains(of_name));
    for pair in bounds.windows(2) {
        assert_eq!(pair[0].2, pair[1].1, "{pair:?}");
    }
}

/// The interval, the moment for which a partition is needed, and which one it is, in this order.
const MADE: [(&str, &str, &str); 20] = [
    ("month", "2020-01-15 12:00Z", "2020_01"),
    // A week from Monday, 27 January, on, but for the days of January.
    ("week", "2020-02-02 23:59Z", "2020_02_01_to_2020_02_02"),
    ("week", "2020-01-31 23:59Z", "2020_01"),
    ("week", "2020-02-05Z", "2020_02_03_to_2020_02_09"),
    (
        "day",
        "2020-02-09 23:59:59.999Z",
        "2020_02_03_to_2020_02_09",
    ),
    ("day", "2020-02-10Z", "2020_02_10"),
    ("month", "2020-02-10 23:59Z", "2020_02_10"),
    ("month", "2020-02-20Z", "2020_02_11_to_2020_02_29"),
    ("month", "2020-03-31 23:00Z", "2020_03"),
    // Something is there on both sides.
    ("day", "2020-04-10Z", "2020_04_10"),
    ("day", "2020-04-20Z", "2020_04_20"),
    ("month", "2020-04-15Z", "2020_04_11_to_2020_04_19"),
    ("week", "2020-04-09Z", "2020_04_06_to_2020_04_09"),
    ("week", "2020-04-21Z", "2020_04_21_to_2020_04_26"),
    ("month", "2020-04-30Z", "2020_04_27_to_2020_04_30"),
    ("month", "2020-04-01Z", "2020_04_01_to_2020_04_05"),
    // A week of two years, and the months that it has days of.
    ("week", "2020-12-31Z", "2020_12_28_to_2021_01_03"),
    ("month", "2021-01-10Z", "2021_01_04_to_2021_01_31"),
    ("month", "2020-12-10Z", "2020_12_01_to_2020_12_27"),
    // The first of all days.
    ("week", "1970-01-01Z", "1970_01_01_to_1970_01_04"),
];

#[test]
fn partition_that_is_made_after_a_change_begins_where_another_ends() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    for (table, time) in RECORDS {
        for (every, at, name) in MADE {
            set(&mut operator, table, every);
            let made = ensured(&mut operator, table, at);
            assert_eq!(made, format!("{table}_{name}"), "{every} {at}");
            add(&postgres, &made, time, at);
        }
        let of_names = bounds(&postgres, table);
        let mut of_time = of_names.clone();
        of_time.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(of_names, of_time, "names are in the order of time");
        assert_eq!(
            postgres.psql(&format!(
                "SELECT count(*), count(DISTINCT tableoid) FROM audit.{table} WHERE {time} < '2022-01-01Z'"
            )),
            "20|17"
        );
    }
}

#[test]
fn partitions_are_made_until_the_end_of_next_month_whatever_the_interval() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    let mut writer = login(&postgres, "w", Some("audit_writer"));
    for (table, every) in [
        ("events", "day"),
        ("query_runs", "week"),
        ("activities", "day"),
    ] {
        set(&mut operator, table, every);
    }
    let lacking = "SELECT count(*) FROM audit.lacking_partitions()";
    assert_ne!(allowed(&mut writer, lacking), "0");
    // The program makes them, without being told of intervals.
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("w"))
    });
    audit.record(Event::new("now")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    testkit::wait_until("partitions are made ahead", PATIENCE, || {
        postgres.psql(lacking) == "0"
    });
    // The setting's event made the partition of this month, before the interval was another.
    let this_month = "date_trunc('month', now(), 'UTC')";
    for (table, _) in RECORDS {
        assert_follow_each_other(&postgres, table, table);
        let bounds = bounds(&postgres, table);
        assert_eq!(
            postgres.psql(&format!(
                "SELECT '{}Z'::timestamptz <= now(), '{}Z'::timestamptz >= {this_month} + interval '2 months'",
                bounds[0].1,
                bounds.last().unwrap().2
            )),
            "t|t",
            "{bounds:?}"
        );
        let longest = postgres.psql(&format!(
            "SELECT max(s.to_time - s.from_time) FROM audit.leaves('{table}') l, audit.leaf_span('{table}', l) s WHERE s.from_time > {this_month}"
        ));
        let expected = match table {
            "events" | "activities" => "1 day",
            "query_runs" => "7 days",
            _ => "31 days",
        };
        if table != "prompt_runs" {
            assert_eq!(longest, expected, "{table}");
        }
    }
    // What is there stays when it is months again.
    set(&mut operator, "events", "month");
    assert_eq!(allowed(&mut writer, lacking), "0");
    balanced(&audit, &postgres);
}

#[test]
fn interval_is_changed_while_others_write_and_are_killed() {
    let postgres = migrated();
    postgres.psql("CREATE ROLE w LOGIN IN ROLE audit_writer, audit_operator");
    let mut operator = postgres.session("w");
    let mut sessions: Vec<_> = (0..6).map(|_| postgres.session("w")).collect();
    // Each goes through the days of a quarter in an order of its own.
    let walk = |step: usize| {
        format!(
            "DO $$ DECLARE leaf text; at timestamptz; BEGIN
                FOR n IN 0 .. 90 LOOP
                    at := '2020-01-01Z'::timestamptz + (n * {step} % 91) * interval '1 day' + interval '13 hours';
                    leaf := audit.ensure_partition('events', at);
                    EXECUTE format('INSERT INTO audit_parts.%I (id, status, created_at, writer_id, seq, salt)
                        SELECT overlay(gen_random_uuid()::text PLACING left(audit.id_at($1)::text, 13) FROM 1)::uuid, $2, $1, gen_random_uuid(), 1, $3', leaf)
                        USING at, 'succeeded'::audit.run_status, ''::bytea;
                    COMMIT;
                END LOOP;
            END $$"
        )
    };
    for (session, step) in sessions.iter_mut().zip([1, 2, 5, 9, 17, 90]) {
        session.send(&walk(step));
    }
    let active = "FROM pg_stat_activity WHERE usename = 'w' AND state = 'active'";
    let mut killed = 0;
    for turn in 0.. {
        set(&mut operator, "events", ["day", "week", "month"][turn % 3]);
        // Wherever it is.
        if turn % 4 == 1 && killed < 3 {
            let one = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid {active} ORDER BY random() LIMIT 1) p"
            );
            killed += postgres.psql(&one).parse::<u32>().unwrap();
        }
        if postgres.psql(&format!("SELECT count(*) {active}")) == "0" {
            break;
        }
    }
    assert!(killed > 0);
    let refused = sessions
        .iter_mut()
        .filter_map(|session| session.receive().err());
    for error in refused {
        assert!(
            error.contains("57P01") || error.contains("closed"),
            "{error}"
        );
    }
    // One more goes through what they have left.
    allowed(&mut operator, &walk(1));
    assert_follow_each_other(&postgres, "events", "events_2020_");
    let in_quarter = "created_at < '2020-04-01Z'";
    assert_eq!(
        postgres.psql(&format!(
            "SELECT min(created_at) AT TIME ZONE 'UTC', count(DISTINCT created_at), count(*) FILTER (WHERE tableoid = 'audit_parts.events_default'::regclass) FROM audit.events WHERE {in_quarter}"
        )),
        "2020-01-01 13:00:00|91|0"
    );
    // Each has the name of its bounds.
    assert_eq!(
        postgres.psql(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, audit.leaf_span('events', c.relname) s
             WHERE i.inhparent = 'audit.events'::regclass AND c.relname <> 'events_default'
                AND pg_get_expr(c.relpartbound, c.oid) IS DISTINCT FROM format('FOR VALUES FROM (%L) TO (%L)', audit.id_at(s.from_time), audit.id_at(s.to_time))"
        ),
        "0"
    );
}

#[test]
fn only_an_operator_sets_an_interval_and_it_is_recorded() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    for (name, role) in [
        ("w", "audit_writer"),
        ("aud", "audit_auditor"),
        ("r", "audit_reader"),
    ] {
        let mut session = login(&postgres, name, Some(role));
        let call = "SELECT audit.set_partition_interval('events', 'day', 'x')";
        refused(&mut session, "42501", call);
    }
    for (arguments, code) in [
        ("'events', 'year', 'x'", "22023"),
        ("'events', 'hour', 'x'", "22023"),
        ("'events', NULL, 'x'", "22023"),
        ("'events', 'day', ' '", "22023"),
        ("'events', 'day', NULL", "22023"),
        ("'batches', 'day', 'x'", "42P01"),
        ("NULL, 'day', 'x'", "42P01"),
    ] {
        let call = format!("SELECT audit.set_partition_interval({arguments})");
        refused(&mut operator, code, &call);
    }
    let interval = |table: &str| format!("SELECT audit.partition_interval('{table}')");
    assert_eq!(allowed(&mut operator, &interval("events")), "month");
    let id = allowed(
        &mut operator,
        "SELECT audit.set_partition_interval('events', 'day', 'twenty million a day')",
    );
    assert_eq!(allowed(&mut operator, &interval("events")), "day");
    assert_eq!(allowed(&mut operator, &interval("query_runs")), "month");
    // It is another setting than the least age, which stays.
    assert_eq!(
        allowed(&mut operator, "SELECT audit.least_age()"),
        "30 days"
    );
    assert_eq!(
        postgres.psql(&format!(
            "SELECT action_type, target_type, target_id, user_id, input_summary, metadata ->> 'table', metadata ->> 'before', metadata ->> 'after',
                metadata ->> 'sha256' = encode((SELECT audit.row_sha256(s) FROM audit.settings s), 'hex') FROM audit.events WHERE id = '{id}'"
        )),
        "audit.setting_changed|setting|partition_interval|ops|twenty million a day|events|month|day|t"
    );
    refused(
        &mut operator,
        "42501",
        "INSERT INTO audit.settings (partition_interval, of_table, reason, changed_by) VALUES ('day', 'events', 'x', 'x')",
    );
    // No row says two things at once, or one of no table.
    for row in [
        "'day', NULL, NULL",
        "NULL, 'events', NULL",
        "'day', 'events', interval '9 days'",
        "NULL, NULL, NULL",
        "'year', 'events', NULL",
    ] {
        let said = postgres.try_psql(&format!(
            "INSERT INTO audit.settings (partition_interval, of_table, least_age, reason, changed_by) SELECT {row}, 'x', 'x'"
        ));
        assert!(said.unwrap_err().contains("check constraint"), "{row}");
    }
}

#[test]
fn day_is_held_and_removed_by_itself() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    set(&mut operator, "events", "day");
    set(&mut operator, "activities", "week");
    for day in 1..=9 {
        let at = format!("2020-01-0{day} 12:00Z");
        for table in ["events", "activities"] {
            let leaf = ensured(&mut operator, table, &at);
            add(&postgres, &leaf, "created_at", &at);
        }
    }
    let plan = |kind: &str| {
        format!(
            "SELECT string_agg(concat(replace(partition, '{kind}_2020_01_', ''), ' ', rows, ' ', cardinality(obstacles)), ', ' ORDER BY from_time)
             FROM audit.plan_retention('100 days', '{{{kind}}}')"
        )
    };
    assert_eq!(
        allowed(&mut operator, &plan("activities")),
        "activities_2019_12_30_to_2020_01_05 5 0, 06_to_2020_01_12 4 0"
    );
    let hold = allowed(
        &mut operator,
        "SELECT audit.place_hold('case', from_time => '2020-01-04 23:00Z', to_time => '2020-01-05 01:00Z')",
    );
    let coverage = format!("SELECT partitions, records FROM audit.hold_coverage('{hold}')");
    assert_eq!(allowed(&mut operator, &coverage), "3|0");
    assert_eq!(
        allowed(&mut operator, &plan("events")),
        "01 1 0, 02 1 0, 03 1 0, 04 1 1, 05 1 1, 06 1 0, 07 1 0, 08 1 0, 09 1 0"
    );
    let remove = |leaf: &str| format!("SELECT audit.remove_partition('{leaf}', '100 days')");
    for leaf in [
        "events_2020_01_04",
        "events_2020_01_05",
        "activities_2019_12_30_to_2020_01_05",
    ] {
        refused(&mut operator, "55006", &remove(leaf));
    }
    for leaf in [
        "events_2020_01_03",
        "events_2020_01_06",
        "activities_2020_01_06_to_2020_01_12",
    ] {
        allowed(&mut operator, &remove(leaf));
    }
    for leaf in [
        "events_2020_01_03",
        "events_2020_01",
        "events_2020_01_40",
        "events_2020_01_02_to_2020_01_02",
        "events_default",
        "events_2020_13_01",
    ] {
        refused(&mut operator, "42P01", &remove(leaf));
    }
    assert_eq!(
        postgres.psql(
            "SELECT string_agg(DISTINCT partition, ', ' ORDER BY partition) FROM audit.removals"
        ),
        "activities_2020_01_06_to_2020_01_12, events_2020_01_03, events_2020_01_06"
    );
    // Today stays, as long as records are kept.
    let today = ensured(&mut operator, "activities", "now");
    let call = remove(&today).replace("100", "30");
    refused(&mut operator, "55000", &call);
    // What was removed is made anew, for the interval that is set by then.
    set(&mut operator, "events", "month");
    for (at, leaf) in [
        ("2020-01-03Z", "events_2020_01_03"),
        ("2020-01-20Z", "events_2020_01_10_to_2020_01_31"),
    ] {
        assert_eq!(ensured(&mut operator, "events", at), leaf);
    }
}

#[test]
fn rows_of_a_default_partition_are_settled_by_the_interval_of_then() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    for at in [
        "2019-01-03Z",
        "2019-01-15 23:00Z",
        "2019-01-16Z",
        "2019-02-01Z",
    ] {
        add(&postgres, "events_default", "created_at", at);
    }
    let plan = "SELECT string_agg(concat(replace(partition, 'events_', ''), ' ', rows, ' ', cardinality(obstacles)), ', ' ORDER BY from_time) FROM audit.plan_settling('{events}')";
    assert_eq!(allowed(&mut operator, plan), "2019_01 3 0, 2019_02 1 0");
    set(&mut operator, "events", "week");
    assert_eq!(
        allowed(&mut operator, plan),
        "2018_12_31_to_2019_01_06 1 0, 2019_01_14_to_2019_01_20 2 0, 2019_01_28_to_2019_02_03 1 0"
    );
    // Rows of a week keep that week there, and no other.
    for (at, leaf) in [
        ("2019-01-17Z", "events_default"),
        ("2019-01-08Z", "events_2019_01_07_to_2019_01_13"),
    ] {
        assert_eq!(ensured(&mut operator, "events", at), leaf);
    }
    set(&mut operator, "events", "day");
    assert_eq!(
        allowed(&mut operator, plan),
        "2019_01_03 1 0, 2019_01_15 1 0, 2019_01_16 1 0, 2019_02_01 1 0"
    );
    let settle = |at: &str| format!("SELECT audit.settle_partition('events', '{at}')");
    allowed(&mut operator, &settle("2019-01-15 01:00Z"));
    set(&mut operator, "events", "month");
    assert_eq!(
        allowed(&mut operator, plan),
        "2019_01_01_to_2019_01_06 1 0, 2019_01_16_to_2019_01_31 1 0, 2019_02 1 0"
    );
    for at in ["2019-01-31Z", "2019-01-06 23:00Z", "2019-02-28Z"] {
        allowed(&mut operator, &settle(at));
    }
    assert_eq!(
        postgres.psql(
            "SELECT count(*), count(DISTINCT tableoid), bool_or(tableoid = 'audit_parts.events_default'::regclass) FROM audit.events WHERE created_at < '2020-01-01Z'"
        ),
        "4|4|f"
    );
    // A row whose time is of another day than its id could not be settled.
    let said = postgres.try_psql(
        "INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt) SELECT audit.id_at('2019-03-01Z'), 'succeeded', '2019-03-02Z', gen_random_uuid(), 1, ''",
    );
    assert!(said.unwrap_err().contains("events_default_time"));
}

#[test]
fn no_partition_is_named_for_more_than_a_month() {
    let postgres = migrated();
    for (leaf, span) in [
        ("events_2026_04_01_to_2026_04_29", "29 days"),
        ("events_2026_04_15_to_2026_05_15", "31 days"),
        ("events_2026_04_15_to_2026_05_16", ""),
        ("events_2026_04_01_to_2026_06_30", ""),
    ] {
        let named =
            format!("SELECT s.to_time - s.from_time FROM audit.leaf_span('events', '{leaf}') s");
        assert_eq!(postgres.psql(&named), span, "{leaf}");
    }
}

#[test]
fn partition_that_another_session_has_made_since_is_taken_in_an_old_snapshot() {
    let postgres = migrated();
    let mut operator = login(&postgres, "operator", Some("audit_operator"));
    let mut old = login(&postgres, "another", Some("audit_operator"));
    for every in ["month", "week", "day"] {
        set(&mut operator, "events", every);
        let at = match every {
            "month" => "2021-01-06Z",
            "week" => "2022-01-06Z",
            _ => "2023-01-06Z",
        };
        allowed(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
        let made = ensured(&mut operator, "events", at);
        assert_eq!(ensured(&mut old, "events", at), made, "{every}");
        // What was so before a change is what others have committed by then.
        refused(
            &mut old,
            "25000",
            "SELECT audit.set_partition_interval('events', 'month', 'fewer rows')",
        );
        allowed(&mut old, "ROLLBACK");
    }
}

#[test]
fn detached_partition_is_not_replaced_by_one_of_another_interval() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    let at = "2020-01-15Z";
    assert_eq!(ensured(&mut operator, "events", at), "events_2020_01");
    postgres.psql("ALTER TABLE audit.events DETACH PARTITION audit_parts.events_2020_01");
    for every in ["day", "month", "week"] {
        set(&mut operator, "events", every);
        let call = format!("SELECT audit.ensure_partition('events', '{at}')");
        refused(&mut operator, "55000", &call);
    }
    // Nor is one made that it would overlap with.
    assert_eq!(
        ensured(&mut operator, "events", "2020-02-01Z"),
        "events_2020_02_01_to_2020_02_02"
    );
    postgres.psql(
        "DO $$ BEGIN EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit_parts.events_2020_01 FOR VALUES FROM (%L) TO (%L)', audit.id_at('2020-01-01Z'), audit.id_at('2020-02-01Z')); END $$",
    );
    assert_eq!(ensured(&mut operator, "events", at), "events_2020_01");
}

#[test]
fn story_of_a_time_is_read_from_the_partitions_of_that_time_alone() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    let mut auditor = login(&postgres, "aud", Some("audit_auditor"));
    for (table, time) in RECORDS {
        set(&mut operator, table, "day");
        for day in 10..=20 {
            // An id has milliseconds, and a time microseconds.
            let at = match day {
                15 => String::from("2020-01-15 12:00:00.0002Z"),
                _ => format!("2020-01-{day} 12:00Z"),
            };
            let leaf = ensured(&mut operator, table, &at);
            add(&postgres, &leaf, time, &at);
        }
    }
    postgres.psql(
        "DO $$ DECLARE leaf text; BEGIN
            FOR leaf IN SELECT l FROM unnest(audit.record_tables()) t, audit.leaves(t) l WHERE l LIKE '%2020%' LOOP
                EXECUTE format('ALTER TABLE audit_parts.%I DISABLE TRIGGER USER; UPDATE audit_parts.%I SET request_id = ''req-1''', leaf, leaf);
            END LOOP;
        END $$",
    );
    let days = |call: &str| {
        format!(
            "SELECT count(*), min(began_at) AT TIME ZONE 'UTC', max(began_at) AT TIME ZONE 'UTC' FROM audit.{call}"
        )
    };
    let locked = "SELECT string_agg(DISTINCT right(relation::regclass::text, 10), ' ' ORDER BY right(relation::regclass::text, 10)) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'audit_parts'::regnamespace AND c.relkind = 'r'";
    for (call, found, read) in [
        (
            "request_trail('req-1', '2020-01-12Z', '2020-01-14Z')",
            "8|2020-01-12 12:00:00|2020-01-13 12:00:00",
            "2020_01_12 2020_01_13",
        ),
        (
            "request_story('req-1', to_time => '2020-01-12 12:00Z', from_time => '2020-01-11 12:00Z')",
            "4|2020-01-11 12:00:00|2020-01-11 12:00:00",
            "2020_01_11 2020_01_12",
        ),
        (
            "request_trail('req-1', '2020-01-19Z', '2020-01-20Z')",
            "4|2020-01-19 12:00:00|2020-01-19 12:00:00",
            "2020_01_19",
        ),
        (
            "request_trail('req-2', '2020-01-19Z', '2020-01-20Z')",
            "0||",
            "2020_01_19",
        ),
    ] {
        allowed(&mut auditor, "BEGIN");
        assert_eq!(allowed(&mut auditor, &days(call)), found, "{call}");
        assert_eq!(allowed(&mut auditor, locked), read, "{call}");
        allowed(&mut auditor, "COMMIT");
    }
    // On one side, and on none.
    for (call, count) in [
        ("request_trail('req-1', from_time => '2020-01-18Z')", "12"),
        ("request_trail('req-1', to_time => '2020-01-12Z')", "8"),
        ("request_trail('req-1')", "44"),
        ("request_story('req-1')", "44"),
        ("request_trail('req-1', '-infinity', 'infinity')", "44"),
        ("request_trail(NULL)", "0"),
        (
            "request_trail('req-1', '2020-01-15 12:00:00.0002Z', '2020-01-15 12:00:00.0003Z')",
            "4",
        ),
        (
            "request_trail('req-1', '2020-01-15 12:00:00.0003Z', '2020-01-16Z')",
            "0",
        ),
        (
            "request_trail('req-1', '2020-01-15Z', '2020-01-15 12:00:00.0002Z')",
            "0",
        ),
    ] {
        let count_of = format!("SELECT count(*) FROM audit.{call}");
        assert_eq!(allowed(&mut auditor, &count_of), count, "{call}");
    }
}
