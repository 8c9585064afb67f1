//! The families against the page that lists them, and what the builders write.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::definition::{Listed, summary};
use super::*;
use crate::limits::Limits;
use crate::record::NewRecord;
use crate::record::decode;
use crate::record::row::Row;
use crate::vocabulary::{Field, Status};

const PAGE: &str = include_str!("../../../docs/families.md");

const FAMILIES: [(&str, &str, &[Listed]); 13] = [
    ("LlmCall", LlmCall::ACTION_TYPE, LlmCall::FIELDS),
    (
        "ToolInvocation",
        ToolInvocation::ACTION_TYPE,
        ToolInvocation::FIELDS,
    ),
    ("Escalation", Escalation::ACTION_TYPE, Escalation::FIELDS),
    ("Approval", Approval::ACTION_TYPE, Approval::FIELDS),
    (
        "AgentExecution",
        AgentExecution::ACTION_TYPE,
        AgentExecution::FIELDS,
    ),
    ("AgentLog", AgentLog::ACTION_TYPE, AgentLog::FIELDS),
    ("HttpRequest", HttpRequest::ACTION_TYPE, HttpRequest::FIELDS),
    ("Transaction", Transaction::ACTION_TYPE, Transaction::FIELDS),
    ("Mandate", Mandate::ACTION_TYPE, Mandate::FIELDS),
    ("Feedback", Feedback::ACTION_TYPE, Feedback::FIELDS),
    ("SystemError", SystemError::ACTION_TYPE, SystemError::FIELDS),
    (
        "SystemMetric",
        SystemMetric::ACTION_TYPE,
        SystemMetric::FIELDS,
    ),
    (
        "SecurityEvent",
        SecurityEvent::ACTION_TYPE,
        SecurityEvent::FIELDS,
    ),
];

/// Returns the rows of the page's table of a family, without the meanings.
fn listed(heading: &str) -> BTreeSet<[String; 4]> {
    let start = format!("\n## {heading}\n");
    let (_, rest) = PAGE.split_once(&start).expect(heading);
    let section = rest.split("\n## ").next().unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let &[method, names, field_type, place, meaning] = &*cells else {
                panic!("{row}");
            };
            assert!(!meaning.is_empty(), "{row}");
            [method, names, field_type, place].map(|cell| cell.replace('`', ""))
        })
        .collect()
}

#[test]
fn page_lists_exactly_the_fields_of_each_family() {
    for (name, action_type, fields) in FAMILIES {
        let expected: BTreeSet<_> = fields
            .iter()
            .map(|field| {
                let method = if field.visibility.is_empty() {
                    "new"
                } else {
                    field.method
                };
                let place = if field.is_column {
                    "column"
                } else {
                    "metadata"
                };
                [method, field.name, field.field_type, place].map(String::from)
            })
            .collect();
        assert_eq!(
            listed(&format!("`{name}`, `{action_type}`")),
            expected,
            "{name}"
        );
    }
    assert_eq!(PAGE.matches("\n## `").count(), FAMILIES.len());
}

#[test]
fn key_of_metadata_is_no_column_of_an_event() {
    for (family, _, fields) in FAMILIES {
        for field in fields.iter().filter(|field| !field.is_column) {
            let column = Field::of_name(field.name, Some(crate::vocabulary::Kind::Event));
            assert_eq!(column, None, "{family}: {}", field.name);
        }
    }
}

fn with_row<T>(record: impl Into<NewRecord>, see: impl FnOnce(&Row<'_>) -> T) -> T {
    let frames = record.into().encode(&Limits::default());
    let frame = decode::frame(frames.iter().next().unwrap()).unwrap();
    see(&Row::new(&frame).unwrap())
}

fn metadata(record: impl Into<NewRecord>) -> Value {
    with_row(record, |row| serde_json::from_str(&row.metadata).unwrap())
}

#[test]
fn long_summary_ends_with_an_ellipsis() {
    let fits = "é".repeat(SUMMARY_CHARS);
    assert_eq!(summary(fits.clone()), fits);
    let cut = summary(fits + "é");
    assert_eq!(cut.chars().count(), SUMMARY_CHARS);
    assert!(cut.ends_with("é…"), "{cut}");
    let call = LlmCall::new("m").output_summary("x".repeat(5_000));
    with_row(call, |row| {
        let kept = row.text(Field::OutputSummary).unwrap();
        assert_eq!(kept.chars().count(), SUMMARY_CHARS);
    });
}

#[test]
fn arguments_of_a_tool_are_kept_as_their_hash_alone() {
    let call = ToolInvocation::new("t").arguments("abc");
    assert_eq!(
        metadata(call),
        json!({ "arguments_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" })
    );
}

#[test]
fn status_follows_from_the_outcome_unless_it_is_set() {
    for (outcome, status, code) in [
        (AgentOutcome::Success, Status::Succeeded, None),
        (AgentOutcome::Failed, Status::Failed, None),
        (AgentOutcome::Timeout, Status::Failed, Some("timeout")),
        (AgentOutcome::Error, Status::Failed, None),
    ] {
        let execution = AgentExecution::new("a").outcome(outcome);
        with_row(execution, |row| {
            assert_eq!(
                (row.status, row.text(Field::ErrorCode)),
                (status, code),
                "{outcome}"
            );
        });
    }
    for (decision, status) in [
        (Decision::Approved, Status::Succeeded),
        (Decision::Cancelled, Status::Cancelled),
        (Decision::Rejected, Status::Rejected),
    ] {
        with_row(Approval::new(decision), |row| {
            assert_eq!(row.status, status, "{decision}");
        });
    }
    // As `?Decision::Rejected` on a span says it; a word that is not known stays.
    for (word, kept) in [
        ("Rejected", "rejected"),
        ("APPROVED ", "approved"),
        ("Maybe", "Maybe"),
    ] {
        let said = crate::Event::new("approval").metadata("decision", word);
        assert_eq!(metadata(said)["decision"], kept);
    }
    let failed = Approval::new(Decision::Approved).status(Status::Failed);
    with_row(failed, |row| assert_eq!(row.status, Status::Failed));
    // Another event may well have a field of that name.
    let other = crate::Event::new("election").metadata("outcome", "failed");
    with_row(other, |row| assert_eq!(row.status, Status::Unknown));
}

#[test]
fn same_error_has_the_same_fingerprint_unless_one_is_set() {
    let fingerprint = |error: SystemError| metadata(error)["fingerprint"].clone();
    let error = || {
        SystemError::new("ConnectionReset")
            .component("db")
            .error_code("08006")
    };
    let same = fingerprint(error());
    // printf 'db\037ConnectionReset\03708006' | sha256sum
    assert_eq!(
        same,
        "c35bf9aa63b706bdd88e6b7a17686cf05f432bb54543ea766d1673e2bff1267b"
    );
    assert_eq!(fingerprint(error().error_message("again")), same);
    assert_ne!(fingerprint(error().component("cache")), same);
    assert_ne!(fingerprint(error().error_code("57P01")), same);
    assert_eq!(fingerprint(error().fingerprint("mine")), "mine");
    assert_eq!(fingerprint(SystemError::new("")), Value::Null);
}

#[test]
fn status_of_a_request_follows_from_its_code_unless_it_is_set() {
    let request = || HttpRequest::new("GET", "/");
    for (request, status, code) in [
        (request().status_code(204), Status::Succeeded, None),
        (request().status_code(403), Status::Rejected, Some("403")),
        (
            request().error_code("slow").status_code(504),
            Status::Failed,
            Some("slow"),
        ),
        (
            request().status(Status::Cancelled).status_code(200),
            Status::Cancelled,
            None,
        ),
        (
            request().status_code(200).status(Status::Cancelled),
            Status::Cancelled,
            None,
        ),
        // The last code counts, as the last value of every field.
        (
            request().status_code(200).status_code(500),
            Status::Failed,
            Some("500"),
        ),
        (
            request().status_code(500).status_code(200),
            Status::Succeeded,
            None,
        ),
    ] {
        with_row(request, |row| {
            assert_eq!((row.status, row.text(Field::ErrorCode)), (status, code));
        });
    }
}

#[test]
fn latency_counts_back_from_the_end() {
    let second = Duration::from_secs(1);
    let times = |record: LlmCall| with_row(record, |row| (row.started_us, row.duration_us));
    let at = |seconds| UNIX_EPOCH + second * seconds;
    let us = |seconds: i64| seconds * 1_000_000;
    let call = || LlmCall::new("m").latency(second);
    let (begun, took) = (us(1_800_000_000), Some(1_000_000));
    assert_eq!(times(call().started_at(at(1_800_000_000))), (begun, took));
    assert_eq!(times(call().finished_at(at(1_800_000_001))), (begun, took));
    // Both times say more.
    let both = call()
        .started_at(at(1_800_000_000))
        .finished_at(at(1_800_000_003));
    assert_eq!(times(both), (begun, Some(3_000_000)));
    let now = crate::clock::Moment::now().wall_us();
    let (begun, took) = times(call());
    assert_eq!(took, Some(1_000_000));
    assert!((begun - (now - us(1))).abs() < us(60), "{begun} {now}");
}

#[test]
fn numbers_that_are_not_finite_are_kept_as_text() {
    let metric = |value| metadata(SystemMetric::new("m", value))["value"].clone();
    assert_eq!(metric(1.0), json!(1.0));
    assert_eq!(metric(f64::NAN), json!("NaN"));
}

#[test]
fn every_digit_of_a_number_is_kept() {
    // Such a number is read one off by a parser that takes the quick way.
    let number = 1_147.281_328_446_764_5;
    let text = number.to_string();
    assert_eq!(
        metadata(SystemMetric::new("m", number))["value"].to_string(),
        text
    );
    let error = SystemError::new("e").details(json!({ "took": number }));
    assert_eq!(metadata(error)["details"]["took"].to_string(), text);
    let event = crate::Event::new("e").metadata("price", number);
    assert_eq!(metadata(event)["price"].to_string(), text);
}
