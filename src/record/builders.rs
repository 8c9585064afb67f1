//! Records made without a span, for [`Audit::record`](crate::Audit::record).

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::buffers::Buffers;
use super::encode::{self, Evidence, Header, Key, ty};
use super::frames::Frames;
use super::id;
use crate::clock::{self, Moment};
use crate::limits::Limits;
use crate::vocabulary::{Field, Kind, Outcome};

/// A record of any kind, for [`Audit::record`](crate::Audit::record); made from
/// [`QueryRun`], [`PromptRun`], [`Event`], or one of the families of events, such as
/// [`LlmCall`](crate::LlmCall).
#[derive(Clone, Debug)]
pub struct NewRecord {
    kind: Kind,
    fields: Vec<(Field, FieldValue)>,
    metadata: Vec<(String, serde_json::Value)>,
    started_us: Option<i64>,
    finished_us: Option<i64>,
    /// How long it took, for a record that lacks a start or an end.
    latency_us: Option<u64>,
    /// What a status code says of the outcome; a field that is set says more.
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
enum FieldValue {
    Text(String),
    Int(i64),
    Uuid(Uuid),
}

/// The greatest depth of nested lists and objects that is kept. Each level takes stack space when
/// it is written or read, and readers allow about 128.
const MAX_DEPTH: usize = 100;

/// Returns whether lists and objects are nested deeper than `depth`.
fn is_deeper(value: &serde_json::Value, depth: usize) -> bool {
    use serde_json::Value as Json;
    let is_inner_deeper = |value| depth == 0 || is_deeper(value, depth - 1);
    match value {
        Json::Array(values) => depth == 0 || values.iter().any(is_inner_deeper),
        Json::Object(object) => depth == 0 || object.values().any(is_inner_deeper),
        _ => false,
    }
}

/// Returns the value with an ellipsis in place of each list and object that is nested deeper.
fn cut(value: &serde_json::Value, depth: usize) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Json::Array(_) | Json::Object(_) if depth == 0 => "…".into(),
        Json::Array(values) => values.iter().map(|value| cut(value, depth - 1)).collect(),
        Json::Object(object) => object
            .iter()
            .map(|(name, value)| (name.clone(), cut(value, depth - 1)))
            .collect(),
        other => other.clone(),
    }
}

impl NewRecord {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            fields: Vec::new(),
            metadata: Vec::new(),
            started_us: None,
            finished_us: None,
            latency_us: None,
            outcome: None,
        }
    }

    /// Makes a record of an action.
    pub(super) fn event(action_type: impl Into<String>) -> Self {
        let mut record = Self::new(Kind::Event);
        record.text(Field::ActionType, action_type.into());
        record
    }

    pub(super) fn text(&mut self, field: Field, text: String) {
        self.fields.push((field, FieldValue::Text(text)));
    }

    pub(super) fn int(&mut self, field: Field, value: i64) {
        self.fields.push((field, FieldValue::Int(value)));
    }

    pub(super) fn uuid(&mut self, field: Field, value: Uuid) {
        self.fields.push((field, FieldValue::Uuid(value)));
    }

    pub(super) fn target(&mut self, target_type: impl Into<String>, target_id: impl Into<String>) {
        self.text(Field::TargetType, target_type.into());
        self.text(Field::TargetId, target_id.into());
    }

    /// Adds a value to `metadata`.
    pub(super) fn extra(&mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) {
        self.metadata.push((name.into(), value.into()));
    }

    pub(super) fn started_at(&mut self, at: SystemTime) {
        self.started_us = Some(clock::system_us(at));
    }

    pub(super) fn finished_at(&mut self, at: SystemTime) {
        self.finished_us = Some(clock::system_us(at));
    }

    pub(super) fn latency(&mut self, latency: Duration) {
        self.latency_us = Some(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Returns whether a value is set for a field.
    fn has(&self, field: Field) -> bool {
        self.fields.iter().any(|(set, _)| *set == field)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Sets both times, in microseconds since 1970.
    pub(crate) fn between(mut self, started_us: i64, finished_us: i64) -> Self {
        self.started_us = Some(started_us);
        self.finished_us = Some(finished_us);
        self
    }

    /// Returns the start that follows from what the host set, in microseconds since 1970. With a
    /// latency alone, the record ends now.
    pub(crate) fn started_us(&self) -> Option<i64> {
        self.started_us.or_else(|| {
            let latency_us = i64::try_from(self.latency_us?).unwrap_or(i64::MAX);
            let finished_us = self.finished_us;
            let end = finished_us.unwrap_or_else(|| Moment::now().wall_us());
            Some(end.saturating_sub(latency_us))
        })
    }

    /// Returns the duration; 0 without a latency and without a start or an end, or if the end is
    /// before the start.
    pub(crate) fn duration_us(&self) -> u64 {
        match (self.started_us, self.finished_us) {
            (Some(started), Some(finished)) => {
                u64::try_from(finished.saturating_sub(started)).unwrap_or(0)
            }
            _ => self.latency_us.unwrap_or(0),
        }
    }

    /// Encodes the record, without an enclosing span. It starts now unless a start is set.
    pub(crate) fn encode(&self, limits: &Limits) -> Frames {
        let started_us = self.started_us().unwrap_or_else(|| Moment::now().wall_us());
        let id = id::of_record(self.kind, started_us);
        let header = Header {
            kind: self.kind,
            evidence: Evidence::None,
            id,
            parent: Uuid::nil(),
            root: id,
            started_us,
            duration_us: self.duration_us(),
        };
        let mut buffers = Buffers::default();
        self.write(&mut buffers, limits);
        let mut frame = Vec::new();
        let (context, body) = (&buffers.context, &buffers.body);
        encode::frame(&mut frame, &header, &[], context, body);
        let mut frames = Frames::default();
        frames.push(&frame);
        frames
    }

    /// Writes the fields into the buffers of a record.
    pub(crate) fn write(&self, out: &mut Buffers, limits: &Limits) {
        if let Some(outcome) = &self.outcome {
            let code = outcome.error_code.as_deref();
            let said = [
                (Field::Status, Some(outcome.status.as_str())),
                (Field::ErrorCode, code),
            ];
            for (field, text) in said {
                if let Some(text) = text.filter(|_| !self.has(field)) {
                    out.text(Key::Field(field), ty::TEXT, text.as_bytes(), limits);
                }
            }
        }
        for (field, said) in &self.fields {
            let key = Key::Field(*field);
            match said {
                FieldValue::Text(text) => out.text(key, ty::TEXT, text.as_bytes(), limits),
                FieldValue::Int(int) => out.fixed(key, ty::I64, int.to_le_bytes(), limits),
                FieldValue::Uuid(uuid) => out.fixed(key, ty::UUID, uuid.into_bytes(), limits),
            }
        }
        for (name, value) in &self.metadata {
            let key = Key::Extra(name);
            match value {
                // JSON that is cut is not JSON, so text is kept as text.
                serde_json::Value::String(text) => out.text(key, ty::TEXT, text.as_bytes(), limits),
                deep if is_deeper(deep, MAX_DEPTH) => {
                    let text = cut(deep, MAX_DEPTH).to_string();
                    out.text(key, ty::JSON, text.as_bytes(), limits);
                    let seen = text.len() as u64;
                    out.fixed(key, ty::STOPPED, seen.to_le_bytes(), limits);
                }
                other => out.text(key, ty::JSON, other.to_string().as_bytes(), limits),
            }
        }
    }
}

/// Defines a builder, with the fields that all records share and its own.
macro_rules! builder {
    (
        $(#[$doc:meta])* $name:ident;
        $( $(#[$field_doc:meta])* $method:ident = $field:ident: $type:ident; )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a record does nothing until it is given to Audit::record"]
        pub struct $name($crate::record::builders::NewRecord);

        impl From<$name> for $crate::record::builders::NewRecord {
            fn from(record: $name) -> Self {
                record.0
            }
        }

        impl $name {
            $( $crate::record::builders::builder!(@method $(#[$field_doc])* $method, $field, $type); )*

            $crate::record::builders::builder!(@method
                /// Sets the tenant: a UUID, or any other key, which `audit.tenant_uuid` maps to
                /// one.
                tenant_id, TenantId, text);
            $crate::record::builders::builder!(@method
                /// Sets the user who asked.
                user_id, UserId, text);
            $crate::record::builders::builder!(@method
                /// Sets the role in which the user asked.
                user_role, UserRole, text);
            $crate::record::builders::builder!(@method
                /// Sets the agent that acted.
                agent_id, AgentId, uuid);
            $crate::record::builders::builder!(@method
                /// Sets the id that all records of one request share.
                request_id, RequestId, text);
            $crate::record::builders::builder!(@method
                /// Sets the session with the model.
                llm_session_id, LlmSessionId, uuid);
            $crate::record::builders::builder!(@method
                /// Sets the conversation.
                conversation_id, ConversationId, text);
            $crate::record::builders::builder!(@method
                /// Sets an error code, such as a SQLSTATE.
                error_code, ErrorCode, text);
            $crate::record::builders::builder!(@method
                /// Sets the error message.
                error_message, ErrorMessage, text);

            /// Sets the outcome. Default: `unknown`, or `succeeded` when a result field is set.
            pub fn status(mut self, status: $crate::vocabulary::Status) -> Self {
                self.0.text($crate::vocabulary::Field::Status, status.as_str().to_owned());
                self
            }

            /// Sets the start time. Default: the time when it is recorded.
            pub fn started_at(mut self, at: std::time::SystemTime) -> Self {
                self.0.started_at(at);
                self
            }

            /// Sets the end time. Default: the start time.
            pub fn finished_at(mut self, at: std::time::SystemTime) -> Self {
                self.0.finished_at(at);
                self
            }

            /// Adds a named value to the column `metadata`. Lists and objects nested more than 100
            /// deep are cut.
            pub fn metadata(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
                self.0.extra(name, value);
                self
            }
        }
    };
    // What events have, and runs have not.
    (@latency) => {
        /// Sets how long it took; the row has whole milliseconds, without the rest. An event without
        /// a start time began that long before its end time, or else before it is recorded. Without
        /// effect if both times are set. Default: 0.
        pub fn latency(mut self, latency: std::time::Duration) -> Self {
            self.0.latency(latency);
            self
        }
    };
    (@target) => {
        /// Sets the target of the action.
        pub fn target(mut self, target_type: impl Into<String>, target_id: impl Into<String>) -> Self {
            self.0.target(target_type, target_id);
            self
        }
    };
    (@method $(#[$doc:meta])* $method:ident, $field:ident, text) => {
        $(#[$doc])*
        pub fn $method(mut self, value: impl Into<String>) -> Self {
            self.0.text($crate::vocabulary::Field::$field, value.into());
            self
        }
    };
    (@method $(#[$doc:meta])* $method:ident, $field:ident, int) => {
        $(#[$doc])*
        pub fn $method(mut self, value: i64) -> Self {
            self.0.int($crate::vocabulary::Field::$field, value);
            self
        }
    };
    (@method $(#[$doc:meta])* $method:ident, $field:ident, uuid) => {
        $(#[$doc])*
        pub fn $method(mut self, value: uuid::Uuid) -> Self {
            self.0.uuid($crate::vocabulary::Field::$field, value);
            self
        }
    };
}
pub(super) use builder;

builder! {
    /// A SQL statement that ran; goes to `audit.query_runs`.
    ///
    /// ```
    /// use tracing_audit::QueryRun;
    ///
    /// let run = QueryRun::new("SELECT count(*) FROM orders")
    ///     .question_text("How many orders are there?")
    ///     .row_count(1);
    /// ```
    QueryRun;
    /// Sets the database that the statement ran on.
    datasource_id = DatasourceId: uuid;
    /// Sets the question that the statement answers.
    question_text = QuestionText: text;
    /// Sets a short form of the statement.
    sql_summary = SqlSummary: text;
    /// Sets the number of rows that the statement returned.
    row_count = RowCount: int;
    /// Sets the number of rows that the statement changed.
    rows_affected = RowsAffected: int;
}

impl QueryRun {
    /// Makes a record of a statement.
    pub fn new(sql_text: impl Into<String>) -> Self {
        let mut record = NewRecord::new(Kind::QueryRun);
        record.text(Field::SqlText, sql_text.into());
        Self(record)
    }
}

builder! {
    /// A prompt that was sent to a model; goes to `audit.prompt_runs`.
    ///
    /// ```
    /// use tracing_audit::PromptRun;
    ///
    /// let run = PromptRun::new("Translate: How many orders are there?")
    ///     .model_name("replay")
    ///     .response_text("SELECT count(*) FROM orders")
    ///     .input_token_count(7);
    /// ```
    PromptRun;
    /// Sets the model.
    model_name = ModelName: text;
    /// Sets the provider that runs the model.
    provider = Provider: text;
    /// Sets the template that the prompt was rendered from.
    prompt_template_name = PromptTemplateName: text;
    /// Sets the version of that template.
    prompt_template_version = PromptTemplateVersion: int;
    /// Sets the model's answer.
    response_text = ResponseText: text;
    /// Sets the role of the prompt, such as `system` or `user`.
    role = Role: text;
    /// Sets the number of tokens in the prompt.
    input_token_count = InputTokenCount: int;
    /// Sets the number of tokens in the answer.
    output_token_count = OutputTokenCount: int;
}

impl PromptRun {
    /// Makes a record of a prompt.
    pub fn new(rendered_prompt: impl Into<String>) -> Self {
        let mut record = NewRecord::new(Kind::PromptRun);
        record.text(Field::RenderedPrompt, rendered_prompt.into());
        Self(record)
    }
}

builder! {
    /// Any other action; goes to `audit.events`, or to `audit.activities` by its type
    /// ([`Builder::activities`](crate::Builder::activities)).
    ///
    /// ```
    /// use tracing_audit::Event;
    ///
    /// let event = Event::new("report.exported").target("report", "2026-10");
    /// ```
    Event;
    /// Sets a summary of the input.
    input_summary = InputSummary: text;
    /// Sets a summary of the output.
    output_summary = OutputSummary: text;
}

impl Event {
    /// Makes a record of an action.
    pub fn new(action_type: impl Into<String>) -> Self {
        Self(NewRecord::event(action_type))
    }

    builder!(@latency);
    builder!(@target);
}

impl NewRecord {
    /// Returns whether a field is set that is evidence of success.
    pub(crate) fn has_result(&self) -> bool {
        self.fields.iter().any(|(field, _)| field.is_result())
    }
}
