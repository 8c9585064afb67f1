//! Events of which there are many are kept in a table of their own, for a time of their own.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use testkit::trail::{PATIENCE, Trail, balanced, count};
use tracing_audit::{Event, QueryRun, Status};

const TENANT: &str = "11111111-0000-4000-8000-000000000000";

/// Returns the types of event in a table, with how many there are of each.
fn types(trail: &Trail, table: &str) -> BTreeMap<String, u64> {
    let counts = trail.postgres.psql(&format!(
        "SELECT json_object_agg(coalesce(action_type, '-'), n) FROM (SELECT action_type, count(*) AS n FROM audit.{table} GROUP BY 1) t"
    ));
    serde_json::from_str(&counts).unwrap_or_default()
}

fn counted<const N: usize>(types: [(&str, u64); N]) -> BTreeMap<String, u64> {
    types
        .map(|(action_type, n)| (action_type.to_owned(), n))
        .into()
}

#[test]
fn event_is_kept_in_the_table_of_its_type() {
    let trail = Trail::start_with(|builder| builder.activities(["page_view", "audit.own"]));
    for action_type in ["log", "http_request", "system_metric", "page_view", "login"] {
        trail.audit.record(Event::new(action_type)).unwrap();
    }
    trail.audit.record(Event::new("audit.own")).unwrap();
    trail.audit.record(QueryRun::new("SELECT 1")).unwrap();
    trail.scoped(|| {
        // Known when the span begins, only later, and as an event.
        let _known = tracing::info_span!("audit.event", action_type = "log").entered();
        let later = tracing::info_span!("audit.event", action_type = tracing::field::Empty);
        later.record("action_type", "http_request");
        tracing::info!(name: "audit.event", action_type = "page_view", path = "/");
        tracing::info!(name: "audit.event", action_type = "login");
        let _without = tracing::info_span!("audit.event").entered();
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        types(&trail, "activities"),
        counted([
            ("log", 2),
            ("http_request", 2),
            ("system_metric", 1),
            ("page_view", 2)
        ])
    );
    assert_eq!(
        types(&trail, "events"),
        counted([("login", 2), ("audit.own", 1), ("-", 1)])
    );
    assert_eq!(count(&trail.postgres, "query_runs"), 1);
    balanced(&trail.audit, &trail.postgres);
    // Each batch says how many records it has in each table that it has any in.
    let said = trail.postgres.psql(
        "SELECT json_object_agg(key, n) FROM (SELECT key, sum(value::int) AS n FROM audit.batches, jsonb_each(records) GROUP BY 1) t",
    );
    let said: BTreeMap<String, u64> = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said,
        counted([("activities", 7), ("events", 4), ("query_runs", 1)])
    );
}

#[test]
fn story_of_a_request_has_its_activities_errors_targets_and_metadata() {
    let trail = Trail::start();
    let begun = SystemTime::now() - Duration::from_secs(10);
    trail
        .audit
        .record(
            Event::new("http_request")
                .tenant_id(TENANT)
                .request_id("r")
                .target("route", "/ask")
                .metadata("method", "POST")
                .started_at(begun),
        )
        .unwrap();
    trail
        .audit
        .record(
            QueryRun::new("SELECT 1")
                .tenant_id(TENANT)
                .request_id("r")
                .status(Status::Failed)
                .error_code("42P01")
                .error_message("no such table"),
        )
        .unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let story = trail.postgres.psql(
        "SELECT kind, what, target_type, target_id, status, error_code, error_message, metadata->>'method' FROM audit.request_trail('r')",
    );
    assert_eq!(
        story.lines().collect::<Vec<_>>(),
        [
            "audit.event|http_request|route|/ask|unknown|||POST",
            "audit.query_run|SELECT 1|||failed|42P01|no such table|"
        ]
    );
    // A tenant's reader sees its own, in the table and in the story.
    trail
        .postgres
        .psql("CREATE ROLE reader LOGIN; GRANT audit_reader TO reader");
    for (tenant, expected) in [
        (TENANT, "1|2"),
        ("22222222-0000-4000-8000-000000000000", "0|0"),
    ] {
        let seen = trail.postgres.psql(&format!(
            "SET ROLE reader; SET app.current_tenant = '{tenant}';
             SELECT (SELECT count(*) FROM audit.activities), (SELECT count(*) FROM audit.request_trail('r'))"
        ));
        assert_eq!(seen.lines().last(), Some(expected));
    }
}

#[test]
fn removing_activities_keeps_the_events_of_the_same_month() {
    let trail = Trail::start();
    trail.audit.record(Event::new("log")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // A month must be made by an operator if it is long ago.
    trail.postgres.psql(
        "SELECT audit.ensure_partition(t, now() - interval '100 days') FROM unnest(audit.record_tables()) t",
    );
    let old = SystemTime::now() - Duration::from_hours(100 * 24);
    for action_type in ["log", "login"] {
        trail
            .audit
            .record(Event::new(action_type).started_at(old))
            .unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "activities"), 2);
    let removed = trail.postgres.psql(
        "SELECT count(audit.remove_partition(partition, '45 days')) FROM audit.plan_retention('45 days', ARRAY['activities'])",
    );
    assert_eq!(removed.trim(), "1");
    assert_eq!(types(&trail, "activities"), counted([("log", 1)]));
    assert_eq!(
        types(&trail, "events"),
        counted([("login", 1), ("audit.partition_removed", 1)])
    );
    assert_eq!(
        trail
            .postgres
            .psql("SELECT parent, rows FROM audit.removals"),
        "activities|1"
    );
}
