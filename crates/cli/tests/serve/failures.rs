//! Failures of one cause are one row, with whom they hit and the way to them.

use serde_json::json;

use super::desk::Desk;
use super::setting::{Made, add, link_after, rows, words};

fn failed(
    table: &'static str,
    user: &str,
    request: &str,
    code: Option<&str>,
    message: Option<&str>,
) -> Made {
    let columns = json!({"user_id": user, "request_id": request, "error_code": code, "error_message": message});
    Made {
        status: "failed",
        ..Made::of(table, "one", columns)
    }
}

/// Returns failures of eight causes, and records that did not fail.
fn of_some_causes() -> Vec<Made> {
    let missing =
        |table: &str, at: u64| format!("relation \"{table}\" does not exist at character {at}");
    let mut records = Vec::new();
    // Twelve of one cause, of four users in six requests.
    for number in 0..12 {
        let message = missing(&format!("t{number}"), number * 7);
        let (user, request) = (
            format!("user {}", number % 4),
            format!("missing-{}", number % 6),
        );
        records.push(Made {
            ago: (number + 1) * 60_000,
            ..failed("query_runs", &user, &request, Some("42P01"), Some(&message))
        });
    }
    // Another code is another cause, and so is another text, another outcome.
    records.push(failed(
        "query_runs",
        "ana",
        "r1",
        Some("42P02"),
        Some(&missing("a", 1)),
    ));
    records.push(failed(
        "query_runs",
        "ana",
        "r2",
        Some("42P01"),
        Some("column 'a' does not exist"),
    ));
    records.push(Made {
        status: "rejected",
        ..failed(
            "query_runs",
            "ana",
            "r3",
            Some("42P01"),
            Some("column 'b' does not exist"),
        )
    });
    // Of one fingerprint, whatever is said; an apostrophe quotes nothing; an id is none of a cause.
    for said in ["one thing", "another"] {
        let mut record = failed("events", "ana", "r4", None, Some(said));
        record
            .columns
            .insert(String::from("action_type"), json!("system_error"));
        record.columns.insert(
            String::from("metadata"),
            json!({"fingerprint": "f00d", "error_type": "Overflow"}),
        );
        records.push(record);
    }
    for number in 0..3 {
        let said = format!(
            "can't find it, don't ask: 01a22a22-a9b9-7000-8000-00000000000{number} took 1.{number} s"
        );
        records.push(failed(
            "prompt_runs",
            "bo",
            "r5",
            Some("no_answer"),
            Some(&said),
        ));
    }
    // What says no error is known by what it is.
    for _ in 0..2 {
        records.push(Made {
            status: "unknown",
            ..Made::of("query_runs", "one", json!({}))
        });
        let mut record = failed("activities", "bo", "r6", None, None);
        record
            .columns
            .insert(String::from("action_type"), json!("log"));
        records.push(record);
    }
    // What did not fail is not here.
    records.push(Made::of(
        "query_runs",
        "one",
        json!({"error_code": "a note"}),
    ));
    records.push(Made {
        status: "cancelled",
        ..failed("query_runs", "ana", "r7", Some("cancelled"), None)
    });
    records
}

#[test]
fn failures_of_one_cause_are_one_row() {
    let desk = Desk::new();
    let records = of_some_causes();
    add(&desk.postgres, &records);
    let server = desk.serve_proxy();
    let auditor = server.as_person("ana");
    let before = desk.readings();
    let answer = auditor.get("/failures?tenant=one&long=yes");
    assert_eq!((answer.status, desk.readings()), (200, before + 1));
    let mut told: Vec<(String, String, String, String)> = rows(&answer.body, 1)
        .into_iter()
        .map(|cells| {
            let what = cells[0].strip_suffix(" in the trail").unwrap().to_owned();
            (what, cells[2].clone(), cells[3].clone(), cells[4].clone())
        })
        .collect();
    assert_eq!(told[0].1, "12", "the most first");
    told.sort();
    let row = |what: &str, records: &str, users: &str, requests: &str| {
        (
            what.to_owned(),
            records.to_owned(),
            users.to_owned(),
            requests.to_owned(),
        )
    };
    let mut expected = vec![
        row(
            "✗ failed 42P01 relation … does not exist at character …",
            "12",
            "4",
            "6",
        ),
        row(
            "✗ failed 42P02 relation … does not exist at character …",
            "1",
            "1",
            "1",
        ),
        row("✗ failed 42P01 column … does not exist", "1", "1", "1"),
        row("⊘ rejected 42P01 column … does not exist", "1", "1", "1"),
        row("✗ failed Overflow: another fingerprint f00d", "2", "1", "1"),
        row(
            "✗ failed no_answer can't find it, don't ask: … took … s",
            "3",
            "1",
            "1",
        ),
        row("? unknown query_run says no error", "2", "0", "0"),
        row("✗ failed log says no error", "2", "1", "1"),
    ];
    expected.sort();
    assert_eq!(told, expected);
    // The newest three of the twelve, and a way to all of them.
    let cells = &rows(&answer.body, 1)[0];
    assert_eq!(cells[6], "missing-0, missing-1, missing-2");
    assert!(
        auditor
            .get(&link_after(&answer.body, ">missing-0<").replace("missing-1", "missing-0"))
            .body
            .contains("missing-0")
    );
    let (_, first) = answer
        .body
        .split_once("<tbody")
        .unwrap()
        .1
        .split_once("<tbody")
        .unwrap();
    let trail = link_after(first, "character");
    assert!(trail.starts_with("/?"), "{trail}");
    let found = auditor.get(&trail);
    let found = rows(&found.body, 0);
    // The filter has the longest part of the message, which the other code shares.
    assert_eq!(found.len(), 13, "{trail}");
    // By time.
    let answer = auditor.get("/failures?tenant=one&long=yes&sort=newest");
    let by_time = rows(&answer.body, 1);
    assert!(by_time.is_sorted_by(|a, b| a[5] >= b[5]), "{by_time:?}");
    assert!(by_time[0][0].contains("relation"), "{by_time:?}");
    // By one outcome.
    let answer = auditor.get("/failures?tenant=one&long=yes&status=cancelled");
    assert_eq!(rows(&answer.body, 1).len(), 1);
}

#[test]
fn hostile_errors_do_no_harm_and_other_tenants_have_none() {
    let desk = Desk::new();
    let hostile = "<img src=x onerror=alert(1)> $x$ \\1 'unclosed \u{202e}";
    let long = "é".repeat(1_000_000);
    let mut records = vec![
        failed("query_runs", "ana", hostile, Some(hostile), Some(hostile)),
        failed(
            "query_runs",
            "ana",
            &"r".repeat(100_000),
            Some(&long),
            Some(&long),
        ),
    ];
    records.extend((0..130_u32).map(|number| {
        // Letters are no number.
        let letters: String = number
            .to_string()
            .bytes()
            .map(|digit| char::from(digit - b'0' + b'a'))
            .collect();
        failed(
            "events",
            "ana",
            "r",
            None,
            Some(&format!("cause {letters}")),
        )
    }));
    add(&desk.postgres, &records);
    let server = desk.serve(&[
        "--trust-header",
        "X-Person",
        "--trust-secret-env",
        "PROXY_SECRET",
        "--reader",
        "one=one",
        "--reader",
        "two=two",
    ]);
    let answer = server.as_person("one").get("/failures?long=yes");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.len() < 150_000, "{}", answer.body.len());
    assert!(!answer.body.contains("<img"));
    assert!(
        answer.body.contains("&lt;img src=x onerror=alert(…)&gt;"),
        "{answer:?}"
    );
    assert!(answer.body.contains("And 32 more."));
    let other = server.as_person("two").get("/failures?long=yes&tenant=one");
    assert!(
        words(&other.body).contains("There is no such record"),
        "{other:?}"
    );
    assert!(!other.body.contains("cause"));
}
