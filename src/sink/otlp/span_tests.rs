//! Checks each column by its attribute's name, one by one.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::decode;
use crate::record::encode::{self, Evidence, Header, Key, ty};

const RECORD: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0007);
const PARENT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0005);

/// The value of an attribute.
#[derive(Clone, Copy)]
enum Said {
    Text(&'static str),
    Int(i64),
}
use Said::{Int, Text};

fn put(buffers: &mut Buffers, key: Key<'_>, said: &Said) {
    let limits = Limits::default();
    match said {
        Text(text) => buffers.text(key, ty::TEXT, text.as_bytes(), &limits),
        Int(int) => buffers.fixed(key, ty::I64, int.to_le_bytes(), &limits),
    }
}

fn frame(kind: Kind, evidence: Evidence, said: &[(&str, Said)]) -> Vec<u8> {
    let mut buffers = Buffers::default();
    for (name, value) in said {
        let key = Field::of_name(name, Some(kind)).map_or(Key::Extra(name), Key::Field);
        put(&mut buffers, key, value);
    }
    let header = Header {
        kind,
        evidence,
        id: RECORD,
        parent: PARENT,
        root: PARENT,
        started_us: 1_700_000_000_000_000,
        duration_us: 1_500,
    };
    let mut bytes = Vec::new();
    encode::frame(&mut bytes, &header, &[], &buffers.context, &buffers.body);
    bytes
}

fn export(kind: Kind, evidence: Evidence, said: &[(&str, Said)], content: &Content) -> Span {
    let bytes = frame(kind, evidence, said);
    let row = Row::new(&decode::frame(&bytes).unwrap()).unwrap();
    span(&row, 42, content).0
}

/// Returns attributes as text, with their type if that is not text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(int) => format!("int {int}"),
        any_value::Value::BoolValue(bool) => format!("bool {bool}"),
        any_value::Value::ArrayValue(array) => format!(
            "{:?}",
            array
                .values
                .iter()
                .map(|value| match value.value.as_ref().unwrap() {
                    any_value::Value::StringValue(text) => text.clone(),
                    other => format!("{other:?}"),
                })
                .collect::<Vec<_>>()
        ),
        other => format!("{other:?}"),
    };
    span.attributes
        .iter()
        .map(|attribute| {
            let value = attribute.value.as_ref().unwrap().value.as_ref().unwrap();
            (&*attribute.key, text(value))
        })
        .collect()
}

#[track_caller]
fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    let found = attributes(span);
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    assert_eq!(found, expected);
}

fn everything() -> Content {
    Content {
        query_text: QueryText::Full,
        messages: true,
        ..Content::default()
    }
}

/// The fields that every record has.
const EVERY: [(&str, Said); 6] = [
    ("request_id", Text("r-1")),
    ("user_id", Text("u-1")),
    ("user_role", Text("analyst")),
    ("conversation_id", Text("c-1")),
    ("tenant_id", Text("11111111-1111-1111-1111-111111111111")),
    ("agent_id", Text("22222222-2222-2222-2222-222222222222")),
];
const EVERY_ATTRIBUTES: [(&str, &str); 10] = [
    ("audit.record.id", "01900000-0000-7000-8000-000000000007"),
    (
        "audit.record.parent_id",
        "01900000-0000-7000-8000-000000000005",
    ),
    ("audit.record.seq", "int 42"),
    ("audit.request.id", "r-1"),
    ("audit.tenant.id", "11111111-1111-1111-1111-111111111111"),
    ("user.id", "u-1"),
    ("user.roles", "[\"analyst\"]"),
    ("gen_ai.conversation.id", "c-1"),
    ("gen_ai.agent.id", "22222222-2222-2222-2222-222222222222"),
    (
        "audit.llm_session.id",
        "33333333-3333-3333-3333-333333333333",
    ),
];

fn with_every(said: Vec<(&'static str, Said)>) -> Vec<(&'static str, Said)> {
    let session = (
        "llm_session_id",
        Text("33333333-3333-3333-3333-333333333333"),
    );
    EVERY.into_iter().chain([session]).chain(said).collect()
}

fn and_every<'a>(attributes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    EVERY_ATTRIBUTES.iter().chain(attributes).copied().collect()
}

#[test]
fn query_run_is_a_client_span_with_the_database_conventions() {
    let said = with_every(vec![
        (
            "datasource_id",
            Text("44444444-4444-4444-4444-444444444444"),
        ),
        ("question_text", Text("How many does Ann have?")),
        (
            "sql_text",
            Text("SELECT count(*) FROM songs WHERE owner = 'Ann'"),
        ),
        ("row_count", Int(1)),
        ("rows_affected", Int(2)),
    ]);
    let span = export(Kind::QueryRun, Evidence::Ok, &said, &Content::default());
    assert_eq!(span.name, "SELECT songs");
    assert_eq!(span.kind(), SpanKind::Client);
    assert_eq!(span.status, None);
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_700_000_000_001_500_000);
    assert_eq!(span.span_id, RECORD.as_bytes()[8..]);
    assert_eq!(span.parent_span_id, PARENT.as_bytes()[8..]);
    let told = [
        ("db.system.name", "other_sql"),
        (
            "db.query.text",
            "SELECT count(*) FROM songs WHERE owner = ?",
        ),
        ("db.query.summary", "SELECT songs"),
        ("db.response.returned_rows", "int 1"),
        ("audit.rows_affected", "int 2"),
        (
            "audit.datasource.id",
            "44444444-4444-4444-4444-444444444444",
        ),
        ("audit.record.kind", "query_run"),
        ("audit.status", "succeeded"),
    ];
    assert_attributes(&span, &and_every(&told));
    let span = export(Kind::QueryRun, Evidence::Ok, &said, &everything());
    let attributes = attributes(&span);
    assert_eq!(
        attributes["db.query.text"],
        "SELECT count(*) FROM songs WHERE owner = 'Ann'"
    );
    assert_eq!(attributes["audit.question.text"], "How many does Ann have?");
}

#[test]
fn prompt_run_is_a_client_span_with_the_genai_conventions() {
    let said = with_every(vec![
        ("model_name", Text("m-1")),
        ("provider", Text("Bedrock")),
        ("prompt_template_name", Text("t")),
        ("prompt_template_version", Int(3)),
        ("rendered_prompt", Text("Say \"hello\"")),
        ("response_text", Text("hello")),
        ("role", Text("analyst")),
        ("input_token_count", Int(7)),
        ("output_token_count", Int(1)),
    ]);
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &Content::default());
    assert_eq!(span.name, "chat m-1");
    assert_eq!(span.kind(), SpanKind::Client);
    let told = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "aws.bedrock"),
        ("gen_ai.request.model", "m-1"),
        ("gen_ai.usage.input_tokens", "int 7"),
        ("gen_ai.usage.output_tokens", "int 1"),
        ("gen_ai.prompt.name", "t"),
        ("gen_ai.prompt.version", "3"),
        ("audit.prompt.role", "analyst"),
        ("audit.record.kind", "prompt_run"),
        ("audit.status", "succeeded"),
    ];
    assert_attributes(&span, &and_every(&told));
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &everything());
    let attributes = attributes(&span);
    assert_eq!(
        attributes["gen_ai.input.messages"],
        r#"[{"role":"analyst","parts":[{"type":"text","content":"Say \"hello\""}]}]"#
            .parse::<Json>()
            .unwrap()
            .to_string()
    );
    assert_eq!(
        attributes["gen_ai.output.messages"]
            .parse::<Json>()
            .unwrap()[0]["parts"][0]["content"],
        "hello"
    );
}

#[test]
fn event_is_an_internal_span_named_after_its_action() {
    let said = with_every(vec![
        ("action_type", Text("report.exported")),
        ("target_type", Text("report")),
        ("target_id", Text("2026")),
        ("input_summary", Text("in")),
        ("output_summary", Text("out")),
        ("pages", Int(3)),
        ("server.address", Text("db1")),
    ]);
    let span = export(Kind::Event, Evidence::None, &said, &Content::default());
    assert_eq!(span.name, "report.exported");
    assert_eq!(span.kind(), SpanKind::Internal);
    let told = [
        ("audit.action.type", "report.exported"),
        ("audit.target.type", "report"),
        ("audit.target.id", "2026"),
        ("audit.metadata.pages", "int 3"),
        ("server.address", "db1"),
        ("audit.record.kind", "event"),
        ("audit.status", "unknown"),
    ];
    assert_attributes(&span, &and_every(&told));
    let span = export(Kind::Event, Evidence::None, &said, &everything());
    assert_eq!(attributes(&span)["audit.input.summary"], "in");
    assert_eq!(attributes(&span)["audit.output.summary"], "out");
}

#[test]
fn tool_calls_and_agent_runs_are_spans_with_the_genai_conventions() {
    let said = [
        ("action_type", Text("tool.call")),
        ("target_id", Text("search")),
        ("input_summary", Text("{\"q\":1}")),
        ("output_summary", Text("found")),
    ];
    let span = export(Kind::Event, Evidence::Ok, &said, &everything());
    assert_eq!(span.name, "execute_tool search");
    assert_eq!(span.kind(), SpanKind::Internal);
    let found = attributes(&span);
    assert_eq!(found["gen_ai.operation.name"], "execute_tool");
    assert_eq!(found["gen_ai.tool.name"], "search");
    assert_eq!(found["gen_ai.tool.call.arguments"], "{\"q\":1}");
    assert_eq!(found["gen_ai.tool.call.result"], "found");
    let said = [
        ("action_type", Text("agent_run")),
        ("target_type", Text("agent")),
        ("target_id", Text("planner")),
    ];
    let span = export(Kind::Event, Evidence::Ok, &said, &Content::default());
    assert_eq!(span.name, "invoke_agent planner");
    assert_eq!(attributes(&span)["gen_ai.agent.name"], "planner");
    // Given under the conventions' own names.
    let said = [
        ("action_type", Text("lookup")),
        ("gen_ai.operation.name", Text("execute_tool")),
        ("gen_ai.tool.name", Text("find")),
    ];
    let span = export(Kind::Event, Evidence::Ok, &said, &Content::default());
    assert_eq!(span.name, "execute_tool find");
}

#[test]
fn failure_exports_its_type_and_exports_its_message_only_if_enabled() {
    let said = [
        ("sql_text", Text("SELECT 1")),
        ("error_code", Text("42P01")),
        ("error_message", Text("the secret table is not there")),
    ];
    let span = export(Kind::QueryRun, Evidence::Err, &said, &Content::default());
    let status = span.status.as_ref().unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert_eq!(status.message, "42P01");
    let found = attributes(&span);
    assert_eq!(found["error.type"], "42P01");
    assert_eq!(found["db.response.status_code"], "42P01");
    let span = export(Kind::QueryRun, Evidence::Err, &said, &everything());
    assert_eq!(
        span.status.as_ref().unwrap().message,
        "the secret table is not there"
    );
    // Our own words are not codes of a database; a missing code is `_OTHER`.
    let span = export(Kind::QueryRun, Evidence::Panic, &[], &Content::default());
    assert_eq!(attributes(&span)["error.type"], "panic");
    assert!(!attributes(&span).contains_key("db.response.status_code"));
    let span = export(Kind::Event, Evidence::Err, &[], &Content::default());
    assert_eq!(attributes(&span)["error.type"], "_OTHER");
}

#[test]
fn outcome_other_than_failure_leaves_the_span_status_unset() {
    for word in ["succeeded", "cancelled", "rejected", "unknown"] {
        let said = [("status", Text(word)), ("error_code", Text("x"))];
        let span = export(Kind::Event, Evidence::None, &said, &Content::default());
        assert_eq!(span.status, None, "{word}");
        assert_eq!(attributes(&span)["audit.status"], word);
        assert!(!attributes(&span).contains_key("error.type"));
        let code = attributes(&span).remove("audit.error.code");
        assert_eq!(code.as_deref(), Some("x").filter(|_| word != "failed"));
    }
}

#[test]
fn content_under_convention_names_is_exported_only_if_enabled() {
    // On a record of another kind, a column's name is metadata.
    for kind in Kind::ALL {
        let said = [
            ("rendered_prompt", Text("secret")),
            ("response_text", Text("secret")),
            ("question_text", Text("secret")),
            ("sql_text", Text("SELECT 'secret'")),
            ("input_summary", Text("secret")),
            ("output_summary", Text("secret")),
            ("error_message", Text("secret")),
        ];
        let span = export(kind, Evidence::Ok, &said, &Content::default());
        assert!(!format!("{span:?}").contains("secret"), "{kind}");
    }
    let said = [
        ("gen_ai.input.messages", Text("secret")),
        ("gen_ai.prompt.variable.name", Text("secret")),
        ("db.query.parameter.0", Text("secret")),
        ("gen_ai.response.model", Text("m-2")),
    ];
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &Content::default());
    assert!(!format!("{span:?}").contains("secret"));
    assert_eq!(attributes(&span)["gen_ai.response.model"], "m-2");
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &everything());
    assert_eq!(attributes(&span)["gen_ai.prompt.variable.name"], "secret");
    assert_eq!(attributes(&span)["db.query.parameter.0"], "secret");
}

#[test]
fn text_of_metadata_fields_is_exported_only_if_enabled() {
    let said = [
        ("prompt", Text("secret")),
        ("db.connection_string", Text("postgres://u:secret@h")),
        ("gen_ai.prompt.1.content", Text("secret")),
        ("datasource_id", Text("secret")),
        ("rows_seen", Int(7)),
        ("parameters", Int(7)),
        ("db.system.name", Text("sqlite")),
        ("error_code", Text("it went wrong: secret")),
        ("status", Text("failed")),
    ];
    let span = export(Kind::QueryRun, Evidence::None, &said, &Content::default());
    assert!(!format!("{span:?}").contains("secret"));
    let found = attributes(&span);
    assert_eq!(found["audit.metadata.rows_seen"], "int 7");
    assert!(!found.contains_key("audit.metadata.parameters"));
    assert_eq!(found["db.system.name"], "sqlite");
    assert_eq!(found["error.type"], "_OTHER");
    assert!(!found.contains_key("db.response.status_code"));
    let content = Content {
        metadata: true,
        ..Content::default()
    };
    let span = export(Kind::QueryRun, Evidence::None, &said, &content);
    assert_eq!(attributes(&span)["audit.metadata.prompt"], "secret");
}

#[test]
fn text_that_cannot_be_parsed_as_sql_is_not_exported() {
    let said = [("sql_text", Text("SELECT 'secret"))];
    let span = export(Kind::QueryRun, Evidence::Ok, &said, &Content::default());
    assert!(!format!("{span:?}").contains("secret"));
    assert_eq!(span.name, "audit.query_run");
}

#[test]
fn recorded_summary_is_the_span_name() {
    let said = [
        ("sql_text", Text("SELECT 1")),
        ("sql_summary", Text("SELECT one")),
        ("db.system.name", Text("sqlite")),
    ];
    let span = export(Kind::QueryRun, Evidence::Ok, &said, &Content::default());
    assert_eq!(span.name, "SELECT one");
    let found = attributes(&span);
    assert_eq!(found["db.query.summary"], "SELECT one");
    assert_eq!(found["db.system.name"], "sqlite");
}

#[test]
fn old_attribute_names_are_exported_alongside_if_enabled() {
    let content = Content {
        old_database_names: true,
        ..Content::default()
    };
    let said = [("sql_text", Text("SELECT 1 FROM t"))];
    let span = export(Kind::QueryRun, Evidence::Ok, &said, &content);
    let found = attributes(&span);
    assert_eq!(found["db.system"], found["db.system.name"]);
    assert_eq!(found["db.statement"], "SELECT ? FROM t");
}

#[test]
fn truncated_message_is_valid_json_with_length_and_sha256_alongside() {
    let content = Content {
        text_bytes: 200,
        ..everything()
    };
    let whole: &'static str = "\u{1}é\"".repeat(1_000).leak();
    let said = [("rendered_prompt", Text(whole))];
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &content);
    let found = attributes(&span);
    let message = &found["gen_ai.input.messages"];
    assert!(message.len() <= 200, "{}", message.len());
    let kept = message.parse::<Json>().unwrap()[0]["parts"][0]["content"].clone();
    assert!(whole.starts_with(kept.as_str().unwrap()) && !kept.as_str().unwrap().is_empty());
    assert_eq!(
        found["audit.gen_ai.input.messages.bytes"],
        format!("int {}", whole.len())
    );
    assert_eq!(
        found["audit.gen_ai.input.messages.sha256"],
        super::super::attributes::hex(&Sha256::digest(whole))
    );
}

/// Returns the names that a source file writes out, of those that attributes and metrics have.
fn names_in(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2).filter(|text| {
        ["db.", "gen_ai.", "audit.", "user.", "error."]
            .iter()
            .any(|beginning| text.starts_with(beginning) && !text.ends_with('.'))
    })
}

#[test]
fn opentelemetry_page_lists_every_column_attribute_and_metric() {
    let page = include_str!("../../../docs/opentelemetry.md");
    let is_there = |name: &str| page.contains(&format!("`{name}`"));
    for field in Field::ALL.iter().filter(|field| !field.name().is_empty()) {
        let name = field.name();
        assert!(is_there(name), "column or field {name}");
    }
    let conventions = include_str!("conventions.rs");
    // What follows are prefixes, not names.
    let conventions = conventions.split("pub(super) const PLAIN_TEXT").next();
    let metrics = include_str!("metrics.rs");
    for name in names_in(conventions.unwrap()).chain(names_in(metrics)) {
        assert!(
            is_there(name) || page.contains(&format!("`{name} ")),
            "attribute or metric {name}"
        );
    }
}

proptest! {
    /// Any value gives a span, and by default no text of a prompt is exported.
    #[test]
    fn any_value_is_exported_without_panic_and_prompts_stay_private_by_default(text in any::<String>(), name in "[a-z._]{0,20}", bytes in 256_usize..2_000) {
        let text: &'static str = text.leak();
        let name: &'static str = name.leak();
        let content = Content { text_bytes: bytes, ..everything() };
        for kind in Kind::ALL {
            for field in Field::ALL.iter().filter(|field| field.belongs_to(kind)) {
                let said = [(field.name(), Text(text)), (name, Text(text))];
                let span = export(kind, Evidence::Err, &said, &content);
                prop_assert!(!span.name.is_empty());
            }
        }
        let said = [("rendered_prompt", Text("a secret")), ("response_text", Text("a secret")), ("error_message", Text("a secret"))];
        let span = export(Kind::PromptRun, Evidence::Err, &said, &Content::default());
        let told = format!("{span:?}");
        prop_assert!(!told.contains("secret"));
    }
}

#[path = "receivers_tests.rs"]
mod receivers;
