//! Turns a row into a span, by the semantic conventions. Pure: the same row gives the same span.

use std::borrow::Cow;

use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status as SpanStatus, status::StatusCode};
use serde_json::{Map, Value as Json};

use super::attributes::{Attributes, cut};
use super::conventions as names;
use super::message;
use super::receivers::{self, Shown, Step};
use crate::config::otlp::{Content, QueryText};
use crate::record::row::{Cell, Row};
use crate::sql;
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
        shown: Shown::default(),
    };
    writing.error();
    let (name, kind) = match row.kind {
        Kind::QueryRun => writing.query(),
        Kind::PromptRun => writing.prompt(),
        Kind::Event => writing.event(),
    };
    writing.every_kind(seq);
    writing.own_names();
    writing.receivers();
    writing.fields();
    if content.old_database_names {
        writing.old_names();
    }
    receivers::remove_replaced(content.names, &mut writing.attributes);
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
    shown: Shown<'a>,
}

impl<'a> Writing<'a> {
    fn text(&self, field: Field) -> &'a str {
        match self.row.cell(field) {
            Cell::Text(text) => text,
            _ => "",
        }
    }

    fn number(&self, field: Field) -> Option<i32> {
        match self.row.cell(field) {
            Cell::Int(int) => Some(*int),
            _ => None,
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

    /// Returns a text that is exported only if the host asked for it.
    fn content(&self, field: Field) -> Cow<'a, str> {
        Cow::Borrowed(if self.content.messages {
            self.text(field)
        } else {
            ""
        })
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
        let code = names::code(self.text(Field::ErrorCode));
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
        let text = match self.content.query_text {
            QueryText::Full => Cow::Borrowed(whole),
            QueryText::Sanitized => read.text.unwrap_or_default().into(),
            QueryText::Omitted => Cow::Borrowed(""),
        };
        if !text.is_empty() {
            self.attributes.text(names::DB_QUERY_TEXT, &text, whole);
        }
        self.shown.input = text;
        let summary = match self.text(Field::SqlSummary) {
            "" => read.summary,
            said => cut(said, 255).to_owned(),
        };
        self.attributes.word(names::DB_QUERY_SUMMARY, &summary);
        // Our own words are not codes of a database.
        if !self.facts.error_type.is_empty() {
            let code = names::code(self.text(Field::ErrorCode));
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
            Some(&*system)
                .filter(|system| *system != names::OTHER_SQL)
                .unwrap_or_default(),
        ]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or(Kind::QueryRun.span_name())
        .to_owned();
        self.shown.step = if is_select(&summary) {
            Step::Retrieval
        } else {
            Step::Tool
        };
        self.shown.output = self.rows().into();
        if namespace.is_empty()
            && let Cell::Uuid(id) = self.row.cell(Field::DatasourceId)
        {
            self.shown.datasource = id.to_string();
        }
        self.facts.namespace = namespace;
        self.facts.system = system;
        self.facts.summary = summary;
        (name, SpanKind::Client)
    }

    /// Returns what came back from a query, as JSON; empty if that is not known.
    fn rows(&self) -> String {
        let counts: Map<_, _> = [
            ("returned_rows", Field::RowCount),
            ("affected_rows", Field::RowsAffected),
        ]
        .into_iter()
        .filter_map(|(name, field)| Some((name.to_owned(), self.number(field)?.into())))
        .collect();
        if counts.is_empty() {
            return String::new();
        }
        Json::Object(counts).to_string()
    }

    fn prompt(&mut self) -> (String, SpanKind) {
        let operation = self.said_or(names::OPERATION, names::CHAT);
        self.attributes.word(names::OPERATION, &operation);
        let provider = names::provider(self.text(Field::Provider));
        self.attributes.word(names::PROVIDER, &provider);
        let model = self.text(Field::ModelName).to_owned();
        self.attributes.word(names::REQUEST_MODEL, &model);
        self.word(names::INPUT_TOKENS, Field::InputTokenCount);
        self.word(names::OUTPUT_TOKENS, Field::OutputTokenCount);
        let [name, version] = if self.content.names.langfuse {
            [names::TEMPLATE_NAME, names::TEMPLATE_VERSION]
        } else {
            [names::PROMPT_NAME, names::PROMPT_VERSION]
        };
        self.word(name, Field::PromptTemplateName);
        let template_version = self.number(Field::PromptTemplateVersion);
        if let Some(number) = template_version {
            // A string, by the conventions.
            self.attributes.word(version, &number.to_string());
        }
        self.word(names::PROMPT_ROLE, Field::Role);
        let role = match self.text(Field::Role) {
            "" => "user",
            role => role,
        };
        self.input_message(role, Field::RenderedPrompt);
        self.output_message(Field::ResponseText);
        self.shown = Shown {
            step: Step::of_operation(&operation, Step::Completion),
            is_gen_ai: true,
            model: model.clone().into(),
            provider: provider.clone().into(),
            tokens: [Field::InputTokenCount, Field::OutputTokenCount]
                .map(|field| self.number(field)),
            template: self.text(Field::PromptTemplateName).into(),
            template_version,
            ..std::mem::take(&mut self.shown)
        };
        let name = [&*operation, &*model].join(" ").trim_end().to_owned();
        self.facts.response_model = self.said_or(names::RESPONSE_MODEL, "");
        self.facts.operation = operation;
        self.facts.provider = provider;
        self.facts.model = model;
        (name, SpanKind::Client)
    }

    fn input_message(&mut self, role: &'a str, field: Field) {
        self.shown.input = self.content(field);
        self.shown.input_role = role.into();
        let attributes = &mut self.attributes;
        message::add(
            attributes,
            names::INPUT_MESSAGES,
            role,
            &self.shown.input,
            None,
        );
    }

    fn output_message(&mut self, field: Field) {
        self.shown.output = self.content(field);
        let reason = self.finish_reason();
        message::add(
            &mut self.attributes,
            names::OUTPUT_MESSAGES,
            names::ASSISTANT,
            &self.shown.output,
            Some(&reason),
        );
    }

    /// Returns why the answer ended: as the host says, else by the outcome.
    fn finish_reason(&self) -> String {
        let said = match self.metadata.get(names::FINISH_REASONS) {
            Some(Json::Array(reasons)) => reasons.first().and_then(Json::as_str),
            Some(Json::String(reason)) => Some(reason.as_str()),
            _ => None,
        };
        match (said, self.row.status) {
            (Some(said), _) if !said.is_empty() => cut(said, 64).to_owned(),
            (_, Status::Succeeded) => names::STOP.to_owned(),
            (_, Status::Failed) => names::ERROR.to_owned(),
            (_, status) => status.as_str().to_owned(),
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
        let target = match operation.as_str() {
            names::EXECUTE_TOOL => {
                let tool = self.said(names::TOOL_NAME);
                let tool = tool
                    .unwrap_or_else(|| self.text(Field::TargetId))
                    .to_owned();
                self.attributes.word(names::TOOL_NAME, &tool);
                tool
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
                agent
            }
            _ => String::new(),
        };
        if operation == names::INVOKE_AGENT {
            self.input_message("user", Field::InputSummary);
            self.output_message(Field::OutputSummary);
        } else {
            let [input, output] = if operation == names::EXECUTE_TOOL {
                [names::TOOL_ARGUMENTS, names::TOOL_RESULT]
            } else {
                [names::INPUT, names::OUTPUT]
            };
            self.message(input, Field::InputSummary);
            self.message(output, Field::OutputSummary);
            self.shown.input = self.content(Field::InputSummary);
            self.shown.output = self.content(Field::OutputSummary);
        }
        self.shown.step = Step::of_operation(&operation, Step::Other);
        self.shown.name = target.clone().into();
        self.shown.is_gen_ai = operation == names::EXECUTE_TOOL;
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
        if !row.redactions.is_empty() {
            self.attributes.words(names::REDACTIONS, &row.redactions);
        }
    }

    /// Returns whether a field of this name may go out; `None` if its name says nothing of that.
    fn may_say(&self, name: &str) -> Option<bool> {
        let (prompt, not_content) = names::PROMPT;
        let is_message = begins(name, names::MESSAGE_CONTENT)
            || names::EXACT_CONTENT.contains(&name)
            || name.starts_with(prompt) && !not_content.contains(&name);
        if is_message {
            Some(self.content.messages)
        } else if begins(name, names::QUERY_CONTENT) {
            Some(self.content.query_text == QueryText::Full)
        } else {
            None
        }
    }

    /// Adds the fields without a column that the host gives a name of its own.
    fn own_names(&mut self) {
        let is_own = |name: &str| {
            self.content
                .own_names
                .iter()
                .any(|own| name == own || (own.ends_with('.') && name.starts_with(own.as_str())))
        };
        let own: Vec<_> = self
            .metadata
            .keys()
            .filter(|name| name.starts_with(names::OWN_NAME) || is_own(name))
            .cloned()
            .collect();
        for field in own {
            let Some(value) = self.metadata.remove(&field) else {
                continue;
            };
            let name = field.strip_prefix(names::OWN_NAME).unwrap_or(&field);
            if !name.is_empty() && self.may_say(name).unwrap_or(true) {
                self.attributes.json(name, &value);
            }
        }
    }

    /// Adds what the receivers read that the host has named.
    fn receivers(&mut self) {
        if !self.content.names.is_any() {
            return;
        }
        let session = [Field::ConversationId, Field::LlmSessionId]
            .map(|field| self.row.cell(field))
            .into_iter()
            .find_map(|cell| match cell {
                Cell::Text(text) if !text.is_empty() => Some(Cow::Borrowed(&**text)),
                Cell::Uuid(id) => Some(id.to_string().into()),
                _ => None,
            });
        self.shown.session = session.unwrap_or_default();
        self.shown.status = Some(self.row.status);
        self.shown.error_code = names::code(self.text(Field::ErrorCode)).into();
        self.shown.write(self.content.names, &mut self.attributes);
    }

    /// Adds the fields without a column, under the conventions' name if they have one.
    fn fields(&mut self) {
        let content = self.content;
        for (name, value) in std::mem::take(&mut self.metadata) {
            let goes_out = self.may_say(&name).unwrap_or_else(|| {
                // A number reveals little; what a text reveals, only the host can know.
                matches!(value, Json::Bool(_) | Json::Number(_))
                    || content.metadata
                    || begins(&name, names::PLAIN_TEXT)
            });
            if !goes_out {
                continue;
            }
            let is_misread = content.names.langfuse && begins(&name, names::TAKEN_FOR_TEXT);
            if begins(&name, names::CONVENTIONAL) && !is_misread {
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
        match self.row.status {
            Status::Failed => Some(SpanStatus {
                message: self.status_message().to_owned(),
                code: StatusCode::Error.into(),
            }),
            // By the conventions a success stays unset. Who is named as a receiver shows it.
            Status::Succeeded if self.content.names.is_any() => Some(SpanStatus {
                code: StatusCode::Ok.into(),
                ..SpanStatus::default()
            }),
            _ => None,
        }
    }

    /// Returns the error's message if it may go out, else its code.
    fn status_message(&self) -> &str {
        let may_say = self.content.messages
            || (self.row.kind == Kind::QueryRun && self.content.query_text == QueryText::Full);
        let message = if may_say {
            cut(self.text(Field::ErrorMessage), self.content.text_bytes)
        } else {
            ""
        };
        match (message, &*self.facts.error_type) {
            ("", names::OTHER) => "",
            ("", code) => code,
            (message, _) => message,
        }
    }
}

/// Returns whether a name begins with one of these.
fn begins(name: &str, with: &[&str]) -> bool {
    with.iter().any(|with| name.starts_with(with))
}

/// Returns whether the first operation of a summary reads.
fn is_select(summary: &str) -> bool {
    let operation = summary.split(' ').next().unwrap_or_default();
    operation.eq_ignore_ascii_case("select")
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
