//! Whatever a value is, its record reaches Postgres: the value as well as it can be kept, and what
//! was lost of it listed in `problems`. Complements `capture.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::child::{ChildProcess, alone, child, child_processes};
use testkit::trail::{PATIENCE, Trail, balanced, count};
use testkit::wait_until;
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{Event, Kind, PromptRun, QueryRun};
use tracing_subscriber::prelude::*;

child_processes!(
    checks_numbers_under_a_global_subscriber,
    checks_odd_text_and_json_under_a_global_subscriber,
    checks_deep_json_under_a_global_subscriber,
    checks_many_fields_under_a_global_subscriber,
    #[cfg(target_os = "linux")]
    closes_spans_with_100_mb_of_text,
    logs_all_while_postgres_refuses_rows,
);

/// Runs the check with a thread-local subscriber, and again in a process of its own with a global
/// one: while a thread-local subscriber handles a span or event, `tracing` hides from it the events
/// that this causes.
fn under_both(check: fn(&Trail), under_global: ChildProcess) {
    let trail = Trail::start();
    trail.scoped(|| check(&trail));
    assert!(alone(under_global).status().unwrap().success());
    assert_all_committed(&trail);
}

/// Runs the check with a global subscriber, which a process can set only once.
fn under_global(check: fn(&Trail)) {
    let trail = Trail::start();
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
        .init();
    check(&trail);
    assert_all_committed(&trail);
}

fn assert_all_committed(trail: &Trail) {
    assert_eq!(
        (
            trail.audit.stats().dropped(),
            trail.audit.stats().dead_lettered()
        ),
        (0, 0)
    );
    balanced(&trail.audit, &trail.postgres);
}

fn problems(row: &Value) -> BTreeSet<&str> {
    let problems = row["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|problem| problem.as_str().unwrap())
        .collect()
}

fn check_numbers(trail: &Trail) {
    info_span!(
        "audit.event",
        i64_min = i64::MIN,
        i64_max = i64::MAX,
        u64_max = u64::MAX,
        i128_small = i128::from(i64::MIN),
        i128_min = i128::MIN,
        i128_max = i128::MAX,
        u128_small = u128::from(u64::MAX),
        u128_max = u128::MAX,
        nan = f64::NAN,
        infinite = f64::INFINITY,
        minus_infinite = f64::NEG_INFINITY,
        minus_zero = -0.0,
    );
    // For integer columns, which have 32 bits.
    for count in [f64::NAN, f64::INFINITY, -0.0, 1e300] {
        info_span!("audit.query_run", row_count = count);
    }
    let row = trail.row(Kind::Event);
    // As Postgres writes them: exact, which a JSON parser may not be.
    let said = trail
        .postgres
        .psql("SELECT m.key, m.value FROM audit.events, jsonb_each_text(metadata) m");
    let said: BTreeMap<_, _> = said
        .lines()
        .map(|line| line.split_once('|').unwrap())
        .collect();
    for (name, expected) in [
        ("i64_min", i64::MIN.to_string()),
        ("i64_max", i64::MAX.to_string()),
        ("u64_max", u64::MAX.to_string()),
        ("i128_small", i64::MIN.to_string()),
        ("i128_min", i128::MIN.to_string()),
        ("i128_max", i128::MAX.to_string()),
        ("u128_small", u64::MAX.to_string()),
        ("u128_max", u128::MAX.to_string()),
        ("nan", String::from("NaN")),
        ("infinite", String::from("inf")),
        ("minus_infinite", String::from("-inf")),
        // The same number: jsonb has one zero.
        ("minus_zero", String::from("0.0")),
    ] {
        assert_eq!(said[name], expected, "{name}");
    }
    assert_eq!(
        problems(&row),
        BTreeSet::from([
            "i128_min: a number of 128 bits, kept as text",
            "i128_max: a number of 128 bits, kept as text",
            "u128_max: a number of 128 bits, kept as text",
            "nan: not a finite number, kept as text",
            "infinite: not a finite number, kept as text",
            "minus_infinite: not a finite number, kept as text",
        ])
    );
    let counts: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| {
            (
                row["row_count"].clone(),
                row["metadata"]["row_count"].clone(),
            )
        })
        .collect();
    assert_eq!(
        counts,
        [
            (json!(null), json!("NaN")),
            (json!(null), json!("inf")),
            (json!(0), json!(null)),
            (json!(null), json!(1e300)),
        ]
    );
    let extremes = [f64::MAX, f64::MIN, f64::from_bits(1)];
    for (extreme, number) in extremes.into_iter().enumerate() {
        info_span!("audit.prompt_run", extreme, number);
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let said = trail.postgres.psql(
        "SELECT metadata->>'number' FROM audit.prompt_runs ORDER BY (metadata->>'extreme')::int",
    );
    let said: Vec<_> = said
        .lines()
        .map(|number| number.parse::<f64>().unwrap())
        .collect();
    assert_eq!(said, extremes);
}

fn checks_numbers_under_a_global_subscriber() {
    under_global(check_numbers);
}

#[test]
fn numbers_are_exact_to_64_bits_and_kept_as_text_if_jsonb_cannot_hold_them() {
    under_both(
        check_numbers,
        child!(checks_numbers_under_a_global_subscriber),
    );
}

#[allow(
    clippy::unnecessary_debug_formatting,
    reason = "it is what the span says"
)]
fn check_odd_text_and_json(trail: &Trail) {
    let no_utf8: &[u8] = b"a\xff\0";
    let os = OsStr::from_bytes(b"a\xffb\0");
    info_span!("audit.query_run", sql_text = no_utf8, request_id = no_utf8, bytes = no_utf8, os = ?os);
    let deep = format!(
        "{{\"deep\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let all = [
        r#"{"a": "\ud800"}"#,
        r#"{"a": 1e400000}"#,
        r#"{"a": "\u0000", "b\u0000": 1, "c": ["\u0000"]}"#,
        r#"{"a": 1, "a": 2}"#,
        r#"["no object"]"#,
        &deep,
    ];
    for metadata in all {
        info_span!("audit.event", metadata);
        trail
            .audit
            .record(Event::new("builder").metadata("text", metadata))
            .unwrap();
    }
    let row = trail.row(Kind::QueryRun);
    assert_eq!(row["sql_text"], "a\u{fffd}\u{fffd}");
    assert_eq!(row["request_id"], "a\u{fffd}\u{fffd}");
    assert_eq!(
        row["metadata"],
        json!({"bytes": "\\x61ff00", "os": format!("{os:?}")})
    );
    assert_eq!(
        problems(&row),
        BTreeSet::from([
            "sql_text: not UTF-8",
            "sql_text: NUL replaced",
            "request_id: not UTF-8",
            "request_id: NUL replaced",
            "bytes: not UTF-8, kept as hexadecimal digits",
        ])
    );
    // A record may pass the one before it on the way to the worker.
    let mut rows: Vec<_> = trail
        .rows(Kind::Event)
        .into_iter()
        .map(|row| (row["metadata"].clone(), row["problems"].clone()))
        .collect();
    let mut take = |metadata: Value, problems: Value, said: &str| {
        let expected = (metadata, problems);
        let found = rows.iter().position(|row| *row == expected);
        rows.remove(found.unwrap_or_else(|| panic!("{said}: {expected:?} is not in {rows:#?}")));
        rows.len()
    };
    for said in all {
        take(json!({"text": said}), json!([]), said);
    }
    let no_object = json!(["metadata: not a JSON object"]);
    for (index, metadata, problems) in [
        (0, json!({"metadata": all[0]}), no_object.clone()),
        (1, json!({"metadata": all[1]}), no_object.clone()),
        (
            2,
            json!({"a": "\u{fffd}", "b\u{fffd}": 1, "c": ["\u{fffd}"]}),
            json!([
                "a: NUL replaced",
                "b\u{fffd}: NUL replaced",
                "c: NUL replaced"
            ]),
        ),
        (3, json!({"a": 2}), json!([])),
        (4, json!({"metadata": all[4]}), no_object.clone()),
        (5, json!({"metadata": deep}), no_object),
    ] {
        let left = take(metadata, problems, all[index]);
        assert_eq!(left, all.len() - 1 - index);
    }
}

fn checks_odd_text_and_json_under_a_global_subscriber() {
    under_global(check_odd_text_and_json);
}

#[test]
fn text_and_json_that_postgres_cannot_hold_are_kept_in_the_closest_valid_form() {
    under_both(
        check_odd_text_and_json,
        child!(checks_odd_text_and_json_under_a_global_subscriber),
    );
}

/// Nests a list in lists.
fn nested(depth: usize, innermost: &str) -> Value {
    (0..depth).fold(json!(innermost), |value, _| Value::Array(vec![value]))
}

fn check_deep_json(trail: &Trail) {
    for depth in [100, 101, 5_000] {
        let deep = nested(depth, "innermost");
        let event = Event::new("deep").metadata("deep", deep);
        trail.audit.record(event.metadata("flat", 1)).unwrap();
    }
    let rows = trail.rows(Kind::Event);
    let whole = nested(100, "innermost");
    assert_eq!(rows[0]["metadata"], json!({"deep": whole, "flat": 1}));
    assert_eq!(rows[0]["problems"], json!([]));
    for row in &rows[1..] {
        let cut = nested(100, "…");
        assert_eq!(row["metadata"], json!({"deep": cut, "flat": 1}));
        assert_eq!(
            row["problems"],
            json!(["deep: truncated, formatting was stopped after 205 bytes"])
        );
    }
}

fn checks_deep_json_under_a_global_subscriber() {
    under_global(check_deep_json);
}

#[test]
fn json_nested_too_deeply_loses_only_its_innermost_part() {
    under_both(
        check_deep_json,
        child!(checks_deep_json_under_a_global_subscriber),
    );
}

fn check_many_fields(trail: &Trail) {
    let object = |value: &dyn Fn(usize) -> Value| {
        let fields = (0..10_000).map(|n| (format!("f{n:04}"), value(n)));
        Value::Object(fields.collect())
    };
    let (numbers, nuls) = (object(&|n| json!(n)), object(&|_| json!("\0")));
    info_span!("audit.event", metadata = %numbers);
    info_span!("audit.event", metadata = %nuls);
    let span = info_span!(
        "audit.query_run",
        sql_text = Empty,
        row_count = Empty,
        extra = Empty
    );
    for n in 0..10_000_u64 {
        span.record("sql_text", format!("SELECT {n}"));
        span.record("row_count", n);
        span.record("extra", n);
    }
    drop(span);
    let rows = trail.rows(Kind::Event);
    assert_eq!(
        (&rows[0]["metadata"], &rows[0]["problems"]),
        (&numbers, &json!([]))
    );
    assert_eq!(rows[1]["metadata"], object(&|_| json!("\u{fffd}")));
    // A list of them all would be longer than the row.
    let problems = rows[1]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100], "…: more problems than are listed");
    let run = trail.row(Kind::QueryRun);
    assert_eq!(
        (
            &run["sql_text"],
            &run["row_count"],
            &run["metadata"],
            &run["problems"]
        ),
        (
            &json!("SELECT 9999"),
            &json!(9_999),
            &json!({"extra": 9_999}),
            &json!([])
        )
    );
}

fn checks_many_fields_under_a_global_subscriber() {
    under_global(check_many_fields);
}

#[test]
fn ten_thousand_fields_and_ten_thousand_values_of_a_field_make_one_row() {
    under_both(
        check_many_fields,
        child!(checks_many_fields_under_a_global_subscriber),
    );
}

#[cfg(target_os = "linux")]
fn closes_spans_with_100_mb_of_text() {
    const BYTES: usize = 100 << 20;
    fn most_memory() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }
    let trail = Trail::start();
    let text = "x".repeat(BYTES);
    trail.scoped(|| {
        info_span!("audit.query_run", sql_text = "warm up");
        trail.audit.flush_blocking(PATIENCE).unwrap();
        let before = most_memory();
        info_span!("audit.query_run", sql_text = text);
        info_span!("audit.query_run", sql_text = %text);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        let grown = most_memory() - before;
        assert!(grown < 40 << 20, "{grown} bytes more");
    });
    let rows = trail.rows(Kind::QueryRun);
    let sha256 = trail.postgres.psql(&format!(
        "SELECT encode(sha256(repeat('x', {BYTES})::bytea), 'hex')"
    ));
    let whole = format!(
        "sql_text: truncated from {BYTES} bytes, sha256 {}",
        sha256.trim()
    );
    for row in &rows[1..] {
        assert_eq!(row["sql_text"].as_str().unwrap().len(), 1 << 20);
    }
    assert_eq!(problems(&rows[1]), BTreeSet::from([&*whole]));
    // The length of a formatted value is unknown in advance.
    let problem = rows[2]["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with("sql_text: truncated, formatting was stopped after "),
        "{problem}"
    );
    balanced(&trail.audit, &trail.postgres);
}

#[cfg(target_os = "linux")]
#[test]
fn text_of_100_mb_is_truncated_with_its_length_and_hash_without_a_copy() {
    // Alone in its process, because it measures the process's memory.
    let child = alone(child!(closes_spans_with_100_mb_of_text)).status();
    assert!(child.unwrap().success());
}

#[test]
fn record_with_any_start_and_end_has_a_row_without_a_negative_duration() {
    let trail = Trail::start();
    let day = Duration::from_hours(24);
    let year_1 = UNIX_EPOCH - 719_162 * day;
    let now = SystemTime::now();
    let most = Duration::from_secs(i64::MAX.cast_unsigned());
    let late = |years: u32| now + 365 * years * day;
    let clamped: &[&str] = &["started_at: the clock was out of range"];
    let times: [(SystemTime, &str, &[&str]); 9] = [
        (UNIX_EPOCH, "1970-01-01", &[]),
        (UNIX_EPOCH - Duration::from_micros(1), "1970-01-01", clamped),
        (UNIX_EPOCH - 365 * day, "1970-01-01", clamped),
        (year_1, "1970-01-01", clamped),
        (UNIX_EPOCH.checked_sub(most).unwrap(), "1970-01-01", clamped),
        (UNIX_EPOCH.checked_add(most).unwrap(), "9999-12-31", clamped),
        (UNIX_EPOCH + 2_932_896 * day, "9999-12-31", &[]),
        (UNIX_EPOCH + 2_932_897 * day, "9999-12-31", clamped),
        (UNIX_EPOCH + 20_000 * day, "2024-10-04", &[]),
    ];
    for (started, ..) in times {
        trail
            .audit
            .record(QueryRun::new("start").started_at(started))
            .unwrap();
    }
    // Ends before the beginning, and at every distance from it.
    for (started, ..) in times {
        for (finished, ..) in times {
            let event = PromptRun::new("both")
                .started_at(started)
                .finished_at(finished);
            trail.audit.record(event).unwrap();
        }
        trail
            .audit
            .record(Event::new("end").finished_at(started))
            .unwrap();
    }
    trail
        .audit
        .record(Event::new("ten years ahead").started_at(late(10)))
        .unwrap();
    let rows = trail.rows(Kind::QueryRun);
    for (row, (started, day, expected)) in rows.iter().zip(times) {
        assert!(
            row["started_at"].as_str().unwrap().starts_with(day),
            "{started:?}: {row}"
        );
        assert_eq!(
            problems(row),
            expected.iter().copied().collect(),
            "{started:?}"
        );
    }
    let both = times
        .into_iter()
        .flat_map(|(started, ..)| times.map(|(finished, ..)| finished <= started));
    let rows = trail.rows(Kind::PromptRun);
    assert_eq!(rows.len(), 81);
    for (row, is_nothing) in rows.iter().zip(both) {
        let duration = row["duration_ms"].as_i64().unwrap();
        assert!(duration == 0 || !is_nothing && duration > 0, "{row}");
    }
    assert_eq!(count(&trail.postgres, "events"), 10);
    let wrong = trail
        .postgres
        .psql("SELECT count(*) FROM audit.prompt_runs WHERE finished_at < created_at");
    assert_eq!(wrong.trim(), "0");
    assert_eq!(trail.audit.stats().dead_lettered(), 0);
    balanced(&trail.audit, &trail.postgres);
}

#[derive(Debug, thiserror::Error)]
#[error("a query failed: SECRET")]
struct Failed(#[source] std::io::Error);

fn logs_all_while_postgres_refuses_rows() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }
    let trail = Trail::start();
    let log = Log::default();
    let (ours, all) = (log.clone(), "tracing_audit=trace");
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || ours.clone())
                .with_filter(tracing_subscriber::EnvFilter::new(all)),
        )
        .init();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.postgres.psql(
        "ALTER TABLE audit.query_runs ADD CONSTRAINT host_rule CHECK (sql_text NOT LIKE 'poison%');
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no %', NEW.action_type USING ERRCODE = 'integrity_constraint_violation', DETAIL = NEW.action_type; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW
             WHEN (NEW.action_type LIKE 'refuse%') EXECUTE FUNCTION refuse();
         CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no %', NEW.rendered_prompt; END $$;
         CREATE TRIGGER hold BEFORE INSERT ON audit.prompt_runs FOR EACH ROW EXECUTE FUNCTION hold()",
    );
    let error = Failed(std::io::Error::other("its cause: SECRET"));
    let error: &(dyn std::error::Error + 'static) = &error;
    info_span!(
        "audit.query_run",
        sql_text = "poison SECRET",
        error_message = error
    );
    info_span!("audit.query_run", sql_text = "fine", error_message = error);
    trail.audit.record(Event::new("refuse SECRET")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    info_span!("audit.prompt_run", rendered_prompt = "SECRET");
    for said in ["Postgres refused records", "does not take records"] {
        wait_until(said, PATIENCE, || log.text().contains(said));
    }
    trail
        .postgres
        .psql("DROP TRIGGER hold ON audit.prompt_runs");
    trail.audit.flush_blocking(PATIENCE).unwrap();
    wait_until("it goes on", PATIENCE, || {
        log.text().contains("takes records again")
    });
    assert!(!log.text().contains("SECRET"), "{}", log.text());
    let stats = trail.audit.stats();
    assert_eq!((stats.dead_lettered(), stats.dropped()), (2, 0));
    // The trail holds the cause as the program reported it.
    assert_eq!(
        trail.row(Kind::QueryRun)["error_message"],
        "a query failed: SECRET: its cause: SECRET"
    );
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn log_lines_contain_no_value_of_a_refused_row() {
    // In a process of its own, where the subscriber is global: the pipeline's own threads write the
    // lines.
    let child = alone(child!(logs_all_while_postgres_refuses_rows)).status();
    assert!(child.unwrap().success());
}
