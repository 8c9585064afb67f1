//! Turns a row into a span, by the semantic conventions. Pure: the same row gives the same span.

use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status as SpanStatus, status::StatusCode};
use serde_json::{Map, Value as Json, json};

use super::attributes::{Attributes, cut};
use super::conventions as names;
use super::sql;
use crate::config::otlp::{Content, QueryText};
use crate::record::row::{Cell, Row};
use crate::vocabulary::{Field, Kind, Status};

/// The longest text that is parsed as SQL; a longer one is exported only with `QueryText::Full`.
const MAX_SQL_BYTES: usize = 32 * 1024;

/// W3C trace flag: sampled.
const SAMPLED: u32 = 1;

/// What a span and the metrics of its record share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `gen_ai.operation.name`; empty: no model is involved.
    pub(super) operation: String,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) response_model: String,
    /// `db.system.name`; empty: not a query.
    pub(super) system: String,
    pub(super) summary: String,
    pub(super) namespace: String,
    pub(super) status_code: String,
    /// Empty if the run did not fail.
    pub(super) error_type: String,
}

impl Facts {
    /// Returns whether the span follows the GenAI conventions.
    pub(super) fn is_gen_ai(&self) -> bool {
        !self.operation.is_empty()
    }
}

/// Turns a row into a span.
pub(super) fn span(row: &Row<'_>, seq: u64, content: &Content) -> (Span, Facts) {
    let mut writing = Writing {
        row,
        content,
        metadata: match serde_json::from_str(&row.metadata) {
            Ok(Json::Object(object)) => object,
            _ => Map::new(),
        },
        attributes: Attributes::new(content.text_bytes),
        facts: Facts::default(),
    };
    writing.error();
    let (name, kind) = match row.kind {
        Kind::QueryRun => writing.query(),
        Kind::PromptRun => writing.prompt(),
        Kind::Event => writing.event(),
    };
    writing.every_kind(seq);
    writing.fields();
    if content.old_database_names {
        writing.old_names();
    }
    let status = writing.status();
    let Writing {
        attributes, facts, ..
    } = writing;
    let (attributes, dropped_attributes_count) = attributes.finish();
    let place = &row.place;
    let span = Span {
        trace_id: place.trace_id.to_vec(),
        span_id: place.span_id.to_vec(),
        parent_span_id: place.parent_span_id.map_or_else(Vec::new, |id| id.to_vec()),
        flags: SAMPLED,
        name,
        kind: kind.into(),
        start_time_unix_nano: nanos(row.started_us),
        // Every OTLP span has an end.
        end_time_unix_nano: nanos(row.finished_us().unwrap_or(row.started_us)),
        attributes,
        dropped_attributes_count,
        links: place
            .enclosing
            .map(|(trace_id, span_id)| Link {
                trace_id: trace_id.to_vec(),
                span_id: span_id.to_vec(),
                flags: SAMPLED,
                ..Link::default()
            })
            .into_iter()
            .collect(),
        status,
        ..Span::default()
    };
    (span, facts)
}

/// Converts microseconds since 1970; OTLP has no time before that.
fn nanos(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(0).saturating_mul(1_000)
}

/// A span while it is put together.
struct Writing<'a> {
    row: &'a Row<'a>,
    content: &'a Content,
    metadata: Map<String, Json>,
    attributes: Attributes,
    facts: Facts,
}

impl<'a> Writing<'a> {
    fn text(&self, field: Field) -> &'a str {
        match self.row.cell(field) {
            Cell::Text(text) => text,
            _ => "",
        }
    }

    fn word(&mut self, name: &str, field: Field) {
        match self.row.cell(field) {
            Cell::Null => {}
            Cell::Text(text) => self.attributes.word(name, text),
            Cell::Int(int) => self.attributes.int(name, i64::from(*int)),
            Cell::Uuid(id) => self.attributes.word(name, &id.to_string()),
        }
    }

    /// Adds text that is exported only if the host asked for it.
    fn message(&mut self, name: &str, field: Field) {
        let text = self.text(field);
        if self.content.messages && !text.is_empty() {
            self.attributes.text(name, text, text);
        }
    }

    /// Returns the value that the host gave to a name of the conventions.
    fn said(&self, name: &str) -> Option<&str> {
        self.metadata
            .get(name)
            .and_then(Json::as_str)
            .filter(|said| !said.is_empty())
    }

    fn said_or(&self, name: &str, otherwise: &str) -> String {
        self.said(name).unwrap_or(otherwise).to_owned()
    }

    fn error(&mut self) {
        let code = code(self.text(Field::ErrorCode));
        if self.row.status != Status::Failed {
            // Not a failure by the conventions, but with a code: of a refusal, a cancellation.
            self.attributes.word(names::ERROR_CODE, code);
            return;
        }
        self.facts.error_type = if code.is_empty() { names::OTHER } else { code }.to_owned();
        self.attributes
            .word(names::ERROR_TYPE, &self.facts.error_type);
    }

    fn query(&mut self) -> (String, SpanKind) {
        let system = self.said_or(names::DB_SYSTEM, names::OTHER_SQL);
        self.attributes.word(names::DB_SYSTEM, &system);
        let whole = self.text(Field::SqlText);
        let read = if whole.len() <= MAX_SQL_BYTES {
            sql::read(whole, &system)
        } else {
            sql::Query::default()
        };
        match (self.content.query_text, &read.text) {
            (QueryText::Full, _) => {
                if !whole.is_empty() {
                    self.attributes.text(names::DB_QUERY_TEXT, whole, whole);
                }
            }
            (QueryText::Sanitized, Some(text)) if !text.is_empty() => {
                self.attributes.text(names::DB_QUERY_TEXT, text, whole);
            }
            (QueryText::Sanitized | QueryText::Omitted, _) => {}
        }
        let summary = match self.text(Field::SqlSummary) {
            "" => read.summary,
            said => cut(said, 255).to_owned(),
        };
        self.attributes.word(names::DB_QUERY_SUMMARY, &summary);
        // Our own words are not codes of a database.
        if !self.facts.error_type.is_empty() {
            let code = code(self.text(Field::ErrorCode));
            if !matches!(
                code,
                "" | names::OTHER | "panic" | "timeout" | "process_lost"
            ) {
                self.attributes.word(names::DB_STATUS_CODE, code);
                code.clone_into(&mut self.facts.status_code);
            }
        }
        self.word(names::DB_RETURNED_ROWS, Field::RowCount);
        self.word(names::ROWS_AFFECTED, Field::RowsAffected);
        self.word(names::DATASOURCE, Field::DatasourceId);
        self.message(names::QUESTION, Field::QuestionText);
        let namespace = self.said_or(names::DB_NAMESPACE, "");
        let name = [
            &*summary,
            self.said(names::DB_OPERATION).unwrap_or_default(),
            &*namespace,
        ]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or(&system)
        .to_owned();
        self.facts.namespace = namespace;
        self.facts.system = system;
        self.facts.summary = summary;
        (name, SpanKind::Client)
    }

    fn prompt(&mut self) -> (String, SpanKind) {
        let operation = self.said_or(names::OPERATION, names::CHAT);
        self.attributes.word(names::OPERATION, &operation);
        let provider = provider(self.text(Field::Provider));
        self.attributes.word(names::PROVIDER, &provider);
        let model = self.text(Field::ModelName).to_owned();
        self.attributes.word(names::REQUEST_MODEL, &model);
        self.word(names::INPUT_TOKENS, Field::InputTokenCount);
        self.word(names::OUTPUT_TOKENS, Field::OutputTokenCount);
        self.word(names::PROMPT_NAME, Field::PromptTemplateName);
        if let Cell::Int(version) = self.row.cell(Field::PromptTemplateVersion) {
            // A string, by the conventions.
            self.attributes
                .word(names::PROMPT_VERSION, &version.to_string());
        }
        self.word(names::PROMPT_ROLE, Field::Role);
        let role = match self.text(Field::Role) {
            "" => "user",
            role => role,
        };
        self.messages(names::INPUT_MESSAGES, role, Field::RenderedPrompt);
        self.messages(names::OUTPUT_MESSAGES, "assistant", Field::ResponseText);
        let name = [&*operation, &*model].join(" ").trim_end().to_owned();
        self.facts.response_model = self.said_or(names::RESPONSE_MODEL, "");
        self.facts.operation = operation;
        self.facts.provider = provider;
        self.facts.model = model;
        (name, SpanKind::Client)
    }

    /// Adds one message in the format of the GenAI conventions: valid JSON, whatever was cut.
    fn messages(&mut self, name: &str, role: &str, field: Field) {
        let whole = self.text(field);
        if !self.content.messages || whole.is_empty() {
            return;
        }
        let limit = self.attributes.text_bytes();
        let form = |text: &str| {
            json!([{ "role": role, "parts": [{ "type": "text", "content": text }] }]).to_string()
        };
        let room = limit.saturating_sub(form("").len());
        let mut kept = cut(whole, limit);
        let mut message = form(kept);
        while message.len() > limit && !kept.is_empty() {
            // Escaping makes a text up to six times as long.
            let escaped = (message.len() + room).saturating_sub(limit).max(1);
            let fitting = kept.len() * room / escaped;
            kept = cut(kept, fitting.min(kept.len() - 1));
            message = form(kept);
        }
        self.attributes.text(name, &message, whole);
        if kept.len() < whole.len() {
            self.attributes.was_cut(name, whole);
        }
    }

    fn event(&mut self) -> (String, SpanKind) {
        let action = self.text(Field::ActionType);
        self.word(names::ACTION, Field::ActionType);
        self.word(names::TARGET_TYPE, Field::TargetType);
        self.word(names::TARGET_ID, Field::TargetId);
        let operation = names::ACTIONS
            .iter()
            .find(|(word, _)| action.eq_ignore_ascii_case(word))
            .map_or("", |(_, operation)| operation);
        let operation = self.said_or(names::OPERATION, operation);
        let is_target = |kind: &str| self.text(Field::TargetType).eq_ignore_ascii_case(kind);
        let (target, input, output) = match operation.as_str() {
            names::EXECUTE_TOOL => {
                let tool = self.said(names::TOOL_NAME);
                let tool = tool
                    .unwrap_or_else(|| self.text(Field::TargetId))
                    .to_owned();
                self.attributes.word(names::TOOL_NAME, &tool);
                (tool, names::TOOL_ARGUMENTS, names::TOOL_RESULT)
            }
            names::INVOKE_AGENT => {
                let agent = self.said(names::AGENT_NAME);
                let agent = agent.unwrap_or_else(|| {
                    if is_target("agent") {
                        self.text(Field::TargetId)
                    } else {
                        ""
                    }
                });
                let agent = agent.to_owned();
                self.attributes.word(names::AGENT_NAME, &agent);
                (agent, names::INPUT, names::OUTPUT)
            }
            _ => (String::new(), names::INPUT, names::OUTPUT),
        };
        self.message(input, Field::InputSummary);
        self.message(output, Field::OutputSummary);
        let name = if operation.is_empty() {
            match action {
                "" => Kind::Event.span_name().to_owned(),
                action => cut(action, 255).to_owned(),
            }
        } else {
            self.attributes.word(names::OPERATION, &operation);
            [&*operation, &*target].join(" ").trim_end().to_owned()
        };
        self.facts.operation = operation;
        (name, SpanKind::Internal)
    }

    fn every_kind(&mut self, seq: u64) {
        let row = self.row;
        self.attributes.word(names::RECORD_ID, &row.id.to_string());
        if let Some(parent) = row.parent_id {
            self.attributes
                .word(names::RECORD_PARENT, &parent.to_string());
        }
        let kind = row.kind.span_name();
        let kind = kind.strip_prefix("audit.").unwrap_or(kind);
        self.attributes.word(names::RECORD_KIND, kind);
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.attributes.int(names::RECORD_SEQ, seq);
        self.attributes.word(names::STATUS, row.status.as_str());
        self.word(names::TENANT, Field::TenantId);
        self.word(names::REQUEST, Field::RequestId);
        self.word(names::USER_ID, Field::UserId);
        let role = self.text(Field::UserRole);
        if !role.is_empty() {
            self.attributes.words(names::USER_ROLES, &[role.to_owned()]);
        }
        self.word(names::AGENT_ID, Field::AgentId);
        self.word(names::LLM_SESSION, Field::LlmSessionId);
        self.word(names::CONVERSATION, Field::ConversationId);
        if !row.problems.is_empty() {
            self.attributes.words(names::PROBLEMS, &row.problems);
        }
    }

    /// Adds the fields without a column, under the conventions' name if they have one.
    fn fields(&mut self) {
        let begins = |name: &str, with: &[&str]| with.iter().any(|with| name.starts_with(with));
        let content = *self.content;
        for (name, value) in std::mem::take(&mut self.metadata) {
            let goes_out = if begins(&name, names::MESSAGE_CONTENT) {
                content.messages
            } else if begins(&name, names::QUERY_CONTENT) {
                content.query_text == QueryText::Full
            } else {
                // A number reveals little; what a text reveals, only the host can know.
                matches!(value, Json::Bool(_) | Json::Number(_))
                    || content.metadata
                    || begins(&name, names::PLAIN_TEXT)
            };
            if !goes_out {
                continue;
            }
            if begins(&name, names::CONVENTIONAL) {
                self.attributes.json(&name, &value);
            } else {
                self.attributes
                    .json(&format!("{}{name}", names::METADATA), &value);
            }
        }
    }

    /// Adds what has a name in the older conventions under that name too.
    fn old_names(&mut self) {
        self.attributes.also(names::OLD_DB_NAMES);
    }

    fn status(&self) -> Option<SpanStatus> {
        // A success stays unset, by the conventions.
        if self.row.status != Status::Failed {
            return None;
        }
        let may_say = self.content.messages
            || (self.row.kind == Kind::QueryRun && self.content.query_text == QueryText::Full);
        let message = if may_say {
            cut(self.text(Field::ErrorMessage), self.content.text_bytes)
        } else {
            ""
        };
        Some(SpanStatus {
            message: message.to_owned(),
            code: StatusCode::Error.into(),
        })
    }
}

/// Returns a code, or a placeholder: a message that was given as a code may hold anything.
fn code(said: &str) -> &str {
    let is_code = said.len() <= 64
        && said
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte));
    if is_code { said } else { names::OTHER }
}

/// Returns the conventions' word for a provider.
fn provider(said: &str) -> String {
    let said = said.trim().to_ascii_lowercase();
    if said.is_empty() {
        return names::OTHER.to_owned();
    }
    names::PROVIDERS
        .iter()
        .find(|(word, _)| *word == said)
        .map_or(said, |(_, name)| (*name).to_owned())
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
