//! The columns of an export: the union of those of the record tables, in an order in which each
//! table's own come in that of the table.

use tracing_audit::__program::Table;
use tracing_audit::Kind;

/// The version of the columns: it changes when one is removed or means something else.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// How Postgres sends the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Uuid,
    Text,
    Int4,
    Int8,
    /// Microseconds since 2000, UTC.
    Time,
    Json,
    /// An array of texts.
    Texts,
    Bytes,
}

impl Type {
    /// Returns its name in Postgres.
    fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Time => "timestamptz",
            Self::Json => "jsonb",
            Self::Texts => "text[]",
            Self::Bytes => "bytea",
        }
    }
}

/// Which kinds of record have a column.
const QUERY: u8 = 1;
const PROMPT: u8 = 2;
const EVENT: u8 = 4;
const RUN: u8 = QUERY | PROMPT;
const ALL: u8 = RUN | EVENT;

/// A column of the record tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) ty: Type,
    kinds: u8,
}

impl Column {
    /// Whether this table has it.
    pub(crate) fn is_of(&self, table: Table) -> bool {
        let kind = match table.kind() {
            Kind::QueryRun => QUERY,
            Kind::PromptRun => PROMPT,
            _ => EVENT,
        };
        self.kinds & kind != 0
    }

    /// Returns the expression that reads it from a table.
    pub(crate) fn sql(&self, table: Table) -> String {
        if !self.is_of(table) {
            return format!("NULL::{}", self.ty.sql());
        }
        match self.name {
            // Its own type would have to be looked up on each connection.
            "status" => String::from("status::text"),
            name => name.to_owned(),
        }
    }
}

/// How many columns there are. A number: a type whose length were that of [`COLUMNS`] could not be compiled with optimization,
/// where rustc looks at all functions for how the one that makes a column is called, and at their types.
pub(crate) const COLUMN_COUNT: usize = 46;

/// The columns.
pub(crate) const COLUMNS: [Column; COLUMN_COUNT] = [
    column("id", Type::Uuid, ALL),
    column("tenant_id", Type::Uuid, ALL),
    column("agent_id", Type::Uuid, ALL),
    column("llm_session_id", Type::Uuid, ALL),
    column("parent_id", Type::Uuid, ALL),
    column("datasource_id", Type::Uuid, QUERY),
    column("writer_id", Type::Uuid, ALL),
    column("seq", Type::Int8, ALL),
    column("started_at", Type::Time, QUERY),
    column("created_at", Type::Time, PROMPT | EVENT),
    column("finished_at", Type::Time, RUN),
    column("duration_ms", Type::Int8, RUN),
    column("latency_ms", Type::Int8, EVENT),
    column("row_count", Type::Int4, QUERY),
    column("rows_affected", Type::Int4, QUERY),
    column("prompt_template_version", Type::Int4, PROMPT),
    column("input_token_count", Type::Int4, PROMPT),
    column("output_token_count", Type::Int4, PROMPT),
    column("status", Type::Text, ALL),
    column("user_id", Type::Text, ALL),
    column("user_role", Type::Text, ALL),
    column("request_id", Type::Text, ALL),
    column("conversation_id", Type::Text, ALL),
    column("trace_id", Type::Text, ALL),
    column("span_id", Type::Text, ALL),
    column("service_name", Type::Text, ALL),
    column("question_text", Type::Text, QUERY),
    column("sql_text", Type::Text, QUERY),
    column("sql_summary", Type::Text, QUERY),
    column("model_name", Type::Text, PROMPT),
    column("provider", Type::Text, PROMPT),
    column("prompt_template_name", Type::Text, PROMPT),
    column("rendered_prompt", Type::Text, PROMPT),
    column("response_text", Type::Text, PROMPT),
    column("role", Type::Text, PROMPT),
    column("action_type", Type::Text, EVENT),
    column("target_type", Type::Text, EVENT),
    column("target_id", Type::Text, EVENT),
    column("input_summary", Type::Text, EVENT),
    column("output_summary", Type::Text, EVENT),
    column("error_code", Type::Text, ALL),
    column("error_message", Type::Text, ALL),
    column("metadata", Type::Json, ALL),
    column("problems", Type::Texts, ALL),
    column("redactions", Type::Texts, ALL),
    column("salt", Type::Bytes, ALL),
];

pub(crate) const ID: usize = at("id");
pub(crate) const TENANT_ID: usize = at("tenant_id");
pub(crate) const AGENT_ID: usize = at("agent_id");
#[cfg(feature = "archive")]
pub(crate) const LLM_SESSION_ID: usize = at("llm_session_id");
pub(crate) const PARENT_ID: usize = at("parent_id");
pub(crate) const DATASOURCE_ID: usize = at("datasource_id");
pub(crate) const WRITER_ID: usize = at("writer_id");
pub(crate) const SEQ: usize = at("seq");
pub(crate) const STARTED_AT: usize = at("started_at");
pub(crate) const CREATED_AT: usize = at("created_at");
pub(crate) const FINISHED_AT: usize = at("finished_at");
pub(crate) const DURATION_MS: usize = at("duration_ms");
pub(crate) const LATENCY_MS: usize = at("latency_ms");
pub(crate) const INPUT_TOKEN_COUNT: usize = at("input_token_count");
pub(crate) const OUTPUT_TOKEN_COUNT: usize = at("output_token_count");
pub(crate) const STATUS: usize = at("status");
pub(crate) const USER_ID: usize = at("user_id");
pub(crate) const USER_ROLE: usize = at("user_role");
pub(crate) const REQUEST_ID: usize = at("request_id");
pub(crate) const CONVERSATION_ID: usize = at("conversation_id");
pub(crate) const SERVICE_NAME: usize = at("service_name");
pub(crate) const QUESTION_TEXT: usize = at("question_text");
pub(crate) const SQL_TEXT: usize = at("sql_text");
pub(crate) const SQL_SUMMARY: usize = at("sql_summary");
pub(crate) const MODEL_NAME: usize = at("model_name");
pub(crate) const PROVIDER: usize = at("provider");
pub(crate) const PROMPT_TEMPLATE_NAME: usize = at("prompt_template_name");
pub(crate) const RENDERED_PROMPT: usize = at("rendered_prompt");
pub(crate) const ROLE: usize = at("role");
pub(crate) const ACTION_TYPE: usize = at("action_type");
pub(crate) const TARGET_TYPE: usize = at("target_type");
pub(crate) const TARGET_ID: usize = at("target_id");
pub(crate) const INPUT_SUMMARY: usize = at("input_summary");
pub(crate) const ERROR_CODE: usize = at("error_code");
pub(crate) const ERROR_MESSAGE: usize = at("error_message");
pub(crate) const METADATA: usize = at("metadata");

const fn column(name: &'static str, ty: Type, kinds: u8) -> Column {
    Column { name, ty, kinds }
}

/// Returns the number of a column.
const fn at(name: &str) -> usize {
    let mut at = 0;
    while !is_same(COLUMNS[at].name.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
