//! Held against a real Postgres.

use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::Postgres;

/// Returns what differs between [`text`](super::text) and what Postgres makes of the same JSON.
fn differences(postgres: &Postgres, objects: &[Value]) -> Vec<String> {
    let rows: Vec<_> = objects
        .iter()
        .map(|object| format!("({})", literal(&object.to_string())))
        .collect();
    let asked = format!(
        "SELECT encode(convert_to(given::jsonb::text, 'UTF8'), 'hex') FROM (VALUES {}) AS v (given)",
        rows.join(", ")
    );
    let answer = postgres.psql(&asked);
    let read: Vec<_> = answer.lines().collect();
    assert_eq!(read.len(), objects.len());
    let mut differences = Vec::new();
    for (object, read) in objects.iter().zip(read) {
        let written = super::text(object.as_object().unwrap());
        if hex(written.as_bytes()) != read {
            differences.push(format!("{object} as {written}"));
        }
    }
    differences
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Of every shape: subnormal, exact, with and without an exponent.
        any::<u64>().prop_map(|bits| Value::from(f64::from_bits(bits))),
        (any::<i32>(), -30..30_i32)
            .prop_map(|(n, power)| Value::from(f64::from(n) * 10_f64.powi(power))),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            object(inner),
        ]
    })
}

fn object(member: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(text(), member, 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Control characters, quotes, every plane of Unicode; no NUL.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        prop::char::range('\u{1}', '\u{7f}'),
        prop::sample::select(vec![
            '"', '\\', '/', '\u{80}', 'é', '\u{2028}', '\u{fffd}', '\u{ffff}', '😀'
        ]),
        any::<char>().prop_filter("NUL", |character| *character != '\0'),
    ];
    prop::collection::vec(character, 0..8).prop_map(|characters| characters.into_iter().collect())
}

#[test]
fn numbers_are_written_as_postgres_writes_them() {
    let numbers: Vec<Value> = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        1.5e-7,
        -1.5e-7,
        1e15,
        1e16,
        1e17,
        123_456_789_012_345_680.0,
        1e21,
        1e22,
        1.7e308,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        4.35,
        9_007_199_254_740_993.0,
        100.0,
        0.001,
        1e-5,
        1.25e3,
    ]
    .into_iter()
    .map(|number| json!({"n": number}))
    .chain([i64::MIN, i64::MAX, 0, -1].map(|number| json!({"n": number})))
    .chain([json!({"n": u64::MAX})])
    .collect();
    let postgres = Postgres::start();
    assert_eq!(differences(&postgres, &numbers), [""; 0]);
}

#[test]
fn any_object_is_written_as_postgres_writes_it() {
    let postgres = Postgres::start();
    let cases = prop::collection::vec(object(any_json()), 50);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    runner
        .run(&cases, |objects| {
            let differences = differences(&postgres, &objects);
            prop_assert!(differences.is_empty(), "{differences:?}");
            Ok(())
        })
        .unwrap();
}
