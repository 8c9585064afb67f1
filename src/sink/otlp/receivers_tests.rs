//! What each receiver gets beside the conventions' names, and what hosts name themselves.

use super::*;
use crate::config::otlp::Otlp;
use crate::config::receivers::{OpenInference, Receiver};

/// The content settings of an export to these receivers.
fn content_for(receivers: &[Receiver], messages: bool) -> Content {
    let otlp = Otlp::new("http://localhost:1").capture_messages(messages);
    let otlp = receivers
        .iter()
        .fold(otlp, |otlp, receiver| otlp.for_receiver(*receiver));
    otlp.content
}

const ALL: [Receiver; 4] = [
    Receiver::Phoenix,
    Receiver::MlFlow,
    Receiver::Langfuse,
    Receiver::Tempo,
];

fn prompt() -> Vec<(&'static str, Said)> {
    vec![
        ("model_name", Text("m-1")),
        ("provider", Text("Bedrock")),
        ("prompt_template_name", Text("t")),
        ("prompt_template_version", Int(3)),
        ("rendered_prompt", Text("the secret question")),
        ("response_text", Text("the secret answer")),
        ("input_token_count", Int(7)),
        ("output_token_count", Int(1)),
        ("conversation_id", Text("c-1")),
    ]
}

/// Returns what an export to these receivers has beside the conventions' attributes.
fn added(kind: Kind, said: &[(&str, Said)], receivers: &[Receiver]) -> BTreeMap<String, String> {
    let plain = export(kind, Evidence::Ok, said, &content_for(&[], true));
    let span = export(kind, Evidence::Ok, said, &content_for(receivers, true));
    let plain = attributes(&plain);
    attributes(&span)
        .into_iter()
        .filter(|(name, value)| plain.get(name) != Some(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[track_caller]
fn assert_added(kind: Kind, said: &[(&str, Said)], to: Receiver, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(added(kind, said, &[to]), expected);
}

#[test]
fn answer_has_a_finish_reason_as_the_conventions_require() {
    let reason = |evidence, said: &[(&str, Said)]| {
        let said = [&[("response_text", Text("hello"))], said].concat();
        let span = export(Kind::PromptRun, evidence, &said, &everything());
        let messages = attributes(&span)["gen_ai.output.messages"].clone();
        let message = messages.parse::<Json>().unwrap()[0].clone();
        assert_eq!(message["role"], "assistant");
        message["finish_reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(Evidence::Ok, &[]), "stop");
    assert_eq!(reason(Evidence::Err, &[]), "error");
    assert_eq!(
        reason(Evidence::None, &[("status", Text("cancelled"))]),
        "cancelled"
    );
    let said = [("gen_ai.response.finish_reasons", Text("length"))];
    assert_eq!(reason(Evidence::Ok, &said), "length");
}

#[test]
fn agent_run_has_its_summaries_as_messages_only_if_enabled() {
    let said = [
        ("action_type", Text("agent_run")),
        ("target_type", Text("agent")),
        ("target_id", Text("planner")),
        ("input_summary", Text("secret task")),
        ("output_summary", Text("secret result")),
    ];
    let span = export(Kind::Event, Evidence::Ok, &said, &everything());
    let found = attributes(&span);
    let message = |name: &str| found[name].parse::<Json>().unwrap()[0].clone();
    let input = message("gen_ai.input.messages");
    assert_eq!(input["role"], "user");
    assert_eq!(input["parts"][0]["content"], "secret task");
    let output = message("gen_ai.output.messages");
    assert_eq!(output["parts"][0]["content"], "secret result");
    assert_eq!(output["finish_reason"], "stop");
    assert!(!found.contains_key("audit.input.summary"));
    let span = export(Kind::Event, Evidence::Ok, &said, &content_for(&ALL, false));
    assert!(!format!("{span:?}").contains("secret"));
}

#[test]
fn phoenix_gets_the_names_of_openinference() {
    assert_added(
        Kind::PromptRun,
        &prompt(),
        Receiver::Phoenix,
        &[
            ("openinference.span.kind", "LLM"),
            ("input.value", "the secret question"),
            ("input.mime_type", "text/plain"),
            ("output.value", "the secret answer"),
            ("output.mime_type", "text/plain"),
            ("llm.model_name", "m-1"),
            ("llm.provider", "aws"),
            ("llm.token_count.prompt", "int 7"),
            ("llm.token_count.completion", "int 1"),
            ("llm.token_count.total", "int 8"),
            ("session.id", "c-1"),
        ],
    );
    let said = [
        ("sql_text", Text("SELECT * FROM songs WHERE owner = 'Ann'")),
        ("row_count", Int(2)),
    ];
    assert_added(
        Kind::QueryRun,
        &said,
        Receiver::Phoenix,
        &[
            ("openinference.span.kind", "RETRIEVER"),
            ("input.value", "SELECT * FROM songs WHERE owner = ?"),
            ("input.mime_type", "text/plain"),
            ("output.value", "{\"returned_rows\":2}"),
            ("output.mime_type", "application/json"),
        ],
    );
    let said = [
        ("action_type", Text("tool.call")),
        ("target_id", Text("search")),
        ("input_summary", Text("{\"q\":1}")),
        ("output_summary", Text("{cut off")),
    ];
    assert_added(
        Kind::Event,
        &said,
        Receiver::Phoenix,
        &[
            ("openinference.span.kind", "TOOL"),
            ("tool.name", "search"),
            ("input.value", "{\"q\":1}"),
            ("input.mime_type", "application/json"),
            ("output.value", "{cut off"),
            ("output.mime_type", "text/plain"),
        ],
    );
}

#[test]
fn mlflow_gets_types_sessions_inputs_and_outputs() {
    assert_added(
        Kind::PromptRun,
        &prompt(),
        Receiver::MlFlow,
        &[("mlflow.spanType", "CHAT_MODEL"), ("session.id", "c-1")],
    );
    let said = [
        ("action_type", Text("question.answered")),
        ("input_summary", Text("in")),
        (
            "llm_session_id",
            Text("33333333-3333-3333-3333-333333333333"),
        ),
    ];
    assert_added(
        Kind::Event,
        &said,
        Receiver::MlFlow,
        &[
            ("mlflow.spanType", "CHAIN"),
            ("input.value", "in"),
            ("input.mime_type", "text/plain"),
            // Without a conversation, the session is the model's.
            ("session.id", "33333333-3333-3333-3333-333333333333"),
        ],
    );
    let said = [
        ("action_type", Text("agent.run")),
        ("input_summary", Text("in")),
    ];
    assert_added(
        Kind::Event,
        &said,
        Receiver::MlFlow,
        &[
            ("mlflow.spanType", "AGENT"),
            ("input.value", "in"),
            ("input.mime_type", "text/plain"),
        ],
    );
    let said = [
        ("sql_text", Text("DELETE FROM songs")),
        ("rows_affected", Int(3)),
    ];
    let found = added(Kind::QueryRun, &said, &[Receiver::MlFlow]);
    assert_eq!(found["mlflow.spanType"], "TOOL", "it retrieves nothing");
    assert_eq!(found["output.value"], "{\"affected_rows\":3}");
}

#[test]
fn langfuse_gets_no_name_that_it_takes_for_the_text_of_a_prompt() {
    let said: Vec<_> = prompt()
        .into_iter()
        .chain([("gen_ai.prompt.variable.x", Text("v"))])
        .collect();
    let content = content_for(&[Receiver::Langfuse], true);
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &content);
    let found = attributes(&span);
    let misread: Vec<_> = found
        .keys()
        .filter(|name| name.starts_with("gen_ai.prompt") || name.starts_with("gen_ai.completion"))
        .collect();
    assert_eq!(misread, [&""; 0]);
    assert_eq!(found["langfuse.observation.prompt.name"], "t");
    assert_eq!(found["langfuse.observation.prompt.version"], "int 3");
    assert_eq!(found["langfuse.observation.type"], "generation");
    assert_eq!(found["audit.prompt.name"], "t");
    assert_eq!(found["audit.prompt.version"], "3");
    assert_eq!(found["audit.metadata.gen_ai.prompt.variable.x"], "v");
    assert!(found["gen_ai.input.messages"].contains("the secret question"));
    assert!(!found.contains_key("input.value"), "the messages are read");
    // It refuses a span whose prompt has a name without a version, or one below 1.
    for version in [None, Some(0)] {
        let said: Vec<_> = [("prompt_template_name", Text("t"))]
            .into_iter()
            .chain(version.map(|version| ("prompt_template_version", Int(version))))
            .collect();
        let span = export(Kind::PromptRun, Evidence::Ok, &said, &content);
        let found = attributes(&span);
        assert!(!found.contains_key("langfuse.observation.prompt.name"));
        assert_eq!(found["audit.prompt.name"], "t");
    }
}

#[test]
fn langfuse_shows_a_refusal_as_a_warning() {
    let content = content_for(&[Receiver::Langfuse], false);
    let said = [
        ("action_type", Text("export.denied")),
        ("status", Text("rejected")),
        ("error_code", Text("not_allowed")),
    ];
    let span = export(Kind::Event, Evidence::None, &said, &content);
    let found = attributes(&span);
    assert_eq!(found["langfuse.observation.level"], "WARNING");
    assert_eq!(found["langfuse.observation.status_message"], "not_allowed");
    assert_eq!(span.status, None);
}

#[test]
fn tempo_gets_names_for_the_nodes_of_its_service_graph() {
    let datasource = "44444444-4444-4444-4444-444444444444";
    let query = [("datasource_id", Text(datasource))];
    assert_added(
        Kind::QueryRun,
        &query,
        Receiver::Tempo,
        &[("db.namespace", datasource)],
    );
    let named = [
        ("datasource_id", Text(datasource)),
        ("db.namespace", Text("music")),
    ];
    let content = content_for(&[Receiver::Tempo], false);
    let span = export(Kind::QueryRun, Evidence::Ok, &named, &content);
    assert_eq!(attributes(&span)["db.namespace"], "music");
    assert_eq!(span.name, "music");
    assert_added(
        Kind::PromptRun,
        &prompt(),
        Receiver::Tempo,
        &[("peer.service", "aws.bedrock")],
    );
    assert_added(Kind::PromptRun, &[], Receiver::Tempo, &[]);
}

#[test]
fn openinference_instead_of_the_genai_conventions_leaves_no_content_out() {
    let content = Otlp::new("http://localhost:1")
        .openinference(OpenInference::Instead)
        .for_receiver(Receiver::Phoenix)
        .capture_messages(true)
        .content;
    let span = export(Kind::PromptRun, Evidence::Ok, &prompt(), &content);
    let found = attributes(&span);
    assert_eq!(found["llm.input_messages.0.message.role"], "user");
    assert_eq!(
        found["llm.input_messages.0.message.content"],
        "the secret question"
    );
    assert_eq!(found["llm.output_messages.0.message.role"], "assistant");
    assert_eq!(
        found["llm.output_messages.0.message.content"],
        "the secret answer"
    );
    let kept: Vec<_> = found
        .keys()
        .filter(|name| name.starts_with("gen_ai."))
        .collect();
    // OpenInference has no name for these.
    assert_eq!(kept, [&"gen_ai.prompt.name", &"gen_ai.prompt.version"]);
}

#[test]
fn long_prompt_and_its_answer_are_both_exported_under_the_names_of_openinference() {
    const LONGEST: usize = 256 * 1024;
    let long: &'static str = "q".repeat(LONGEST).leak();
    // Long enough to fill what is left, and exported before what receivers read.
    let filler = "otel.attr.filler";
    for names in [OpenInference::Beside, OpenInference::Instead] {
        let content = Otlp::new("http://localhost:1")
            .openinference(names)
            .for_receiver(Receiver::Phoenix)
            .capture_messages(true)
            .text_bytes(LONGEST)
            .content;
        for (answer, others) in [(long, 0), ("[42]", 0), (long, 1), ("[42]", 1)] {
            let mut said = vec![
                ("rendered_prompt", Text(long)),
                ("response_text", Text(answer)),
            ];
            said.extend((0..others).map(|_| (filler, Text(long))));
            let span = export(Kind::PromptRun, Evidence::Ok, &said, &content);
            let found = attributes(&span);
            let bytes: usize = found.values().map(String::len).sum();
            assert!(bytes <= 1024 * 1024, "{bytes}");
            let mut texts = vec![("input.value", long), ("output.value", answer)];
            if names == OpenInference::Instead {
                texts.push(("llm.input_messages.0.message.content", long));
                texts.push(("llm.output_messages.0.message.content", answer));
            }
            for (name, whole) in texts {
                let kept = found.get(name).map_or("", String::as_str);
                assert!(whole.starts_with(kept), "{name}");
                assert!(
                    kept.len() >= whole.len().min(100 * 1024),
                    "{name} {}",
                    kept.len()
                );
            }
            let mime = &found["output.mime_type"];
            assert_eq!(mime == "application/json", answer == "[42]");
            assert_eq!(span.dropped_attributes_count, 0);
        }
    }
}

#[test]
fn json_answer_that_is_cut_to_fit_is_plain_text() {
    let answer: &'static str = format!("[\"{}\"]", "a".repeat(256 * 1024 - 4)).leak();
    let content = Otlp::new("http://localhost:1")
        .openinference(OpenInference::Instead)
        .capture_messages(true)
        .text_bytes(256 * 1024)
        .content;
    let said = [
        ("rendered_prompt", Text(answer)),
        ("response_text", Text(answer)),
    ];
    let span = export(Kind::PromptRun, Evidence::Ok, &said, &content);
    let found = attributes(&span);
    assert!(found["output.value"].len() < answer.len());
    assert_eq!(found["output.mime_type"], "text/plain");
}

#[test]
fn content_is_exported_to_receivers_only_if_enabled() {
    let mut content = content_for(&ALL, false);
    content.query_text = QueryText::Omitted;
    for instead in [OpenInference::Beside, OpenInference::Instead] {
        content.names.openinference = instead;
        for kind in Kind::ALL {
            for operation in ["", "chat", "execute_tool", "invoke_agent"] {
                let said = [
                    ("gen_ai.operation.name", Text(operation)),
                    ("rendered_prompt", Text("secret")),
                    ("response_text", Text("secret")),
                    ("question_text", Text("secret")),
                    ("sql_text", Text("SELECT secret")),
                    ("input_summary", Text("secret")),
                    ("output_summary", Text("secret")),
                    ("error_message", Text("secret")),
                    ("input.value", Text("secret")),
                    ("otel.attr.output.value", Text("secret")),
                    ("otel.attr.langfuse.trace.input", Text("secret")),
                    ("otel.attr.sql_text", Text("secret")),
                ];
                for evidence in [Evidence::Ok, Evidence::Err] {
                    let span = export(kind, evidence, &said, &content);
                    let told = format!("{span:?}").replace("SELECT secret", "");
                    assert!(!told.contains("secret"), "{kind} {operation}");
                }
            }
        }
    }
}

#[test]
fn success_is_status_ok_only_for_named_receivers() {
    let status = |evidence, receivers: &[Receiver]| {
        let content = content_for(receivers, false);
        let span = export(Kind::PromptRun, evidence, &prompt()[..2], &content);
        span.status.map(|status| status.code())
    };
    assert_eq!(status(Evidence::Ok, &[]), None);
    for receiver in ALL {
        assert_eq!(status(Evidence::Ok, &[receiver]), Some(StatusCode::Ok));
        assert_eq!(status(Evidence::Err, &[receiver]), Some(StatusCode::Error));
        assert_eq!(status(Evidence::None, &[receiver]), None, "unknown");
    }
}

#[test]
fn error_code_is_the_status_message_where_the_message_stays_home() {
    let message = |code, content: &Content| {
        let said = [
            ("error_code", Text(code)),
            ("error_message", Text("the secret table is not there")),
        ];
        let span = export(Kind::QueryRun, Evidence::Err, &said, content);
        span.status.unwrap().message
    };
    assert_eq!(message("42P01", &Content::default()), "42P01");
    // What is no code may hold anything.
    assert_eq!(message("it went wrong: secret", &Content::default()), "");
    assert_eq!(
        message("42P01", &everything()),
        "the secret table is not there"
    );
}

#[test]
fn field_is_exported_under_its_own_name_if_the_host_asks_for_it() {
    let said = [
        ("otel.attr.feature_flag.key", Text("new-planner")),
        ("otel.attr.retries", Int(2)),
        ("otel.attr.audit.record.id", Text("forged")),
        ("otel.attr.", Text("nothing")),
        ("langfuse.trace.tags", Text("beta")),
        ("tier", Text("gold")),
        ("tiers", Text("silver")),
    ];
    let plain = export(Kind::Event, Evidence::Ok, &said, &Content::default());
    let found = attributes(&plain);
    assert_eq!(found["feature_flag.key"], "new-planner");
    assert_eq!(found["retries"], "int 2");
    assert_eq!(found["audit.record.id"], RECORD.to_string());
    assert!(!found.keys().any(|name| name.contains("otel.attr.")));
    assert!(!found.contains_key("tier") && !found.contains_key("langfuse.trace.tags"));
    let content = Otlp::new("http://localhost:1")
        .own_names(["langfuse.", "tier", ""])
        .content;
    let span = export(Kind::Event, Evidence::Ok, &said, &content);
    let found = attributes(&span);
    assert_eq!(found["langfuse.trace.tags"], "beta");
    assert_eq!(found["tier"], "gold");
    assert!(!found.contains_key("tiers") && !found.contains_key("audit.metadata.tier"));
}

#[test]
fn opentelemetry_page_lists_every_name_that_a_receiver_reads() {
    let page = include_str!("../../../docs/opentelemetry.md");
    let source = include_str!("receivers.rs");
    let names: Vec<_> = source
        .lines()
        .filter(|line| line.starts_with("const ") && line.contains(": &str = "))
        .map(|line| line.split('"').nth(1).unwrap())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
