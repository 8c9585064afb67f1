//! The names of spans, attributes and metrics, in one table.
//!
//! `db.*`, `error.type`, `user.*`: OpenTelemetry semantic conventions 1.44. `gen_ai.*`: the GenAI
//! conventions, which are in development in a repository of their own and have no version yet; as
//! of autumn 2026. `audit.*` is ours. They are written out here because the published crate of
//! constants lacks or deprecates most of the newer ones.

/// The schema of the conventions that [`DB_SYSTEM`] and its neighbours are from.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

pub(super) const DB_SYSTEM: &str = "db.system.name";
pub(super) const DB_QUERY_TEXT: &str = "db.query.text";
pub(super) const DB_QUERY_SUMMARY: &str = "db.query.summary";
pub(super) const DB_STATUS_CODE: &str = "db.response.status_code";
pub(super) const DB_RETURNED_ROWS: &str = "db.response.returned_rows";
pub(super) const DB_OPERATION: &str = "db.operation.name";
pub(super) const DB_COLLECTION: &str = "db.collection.name";
pub(super) const DB_NAMESPACE: &str = "db.namespace";

/// The names of conventions 1.24, which `OTEL_SEMCONV_STABILITY_OPT_IN=database/dup` adds.
pub(super) const OLD_DB_NAMES: &[(&str, &str)] = &[
    (DB_SYSTEM, "db.system"),
    (DB_QUERY_TEXT, "db.statement"),
    (DB_OPERATION, "db.operation"),
    (DB_COLLECTION, "db.sql.table"),
    (DB_NAMESPACE, "db.name"),
];

/// A database that speaks SQL and of which nothing else is known.
pub(super) const OTHER_SQL: &str = "other_sql";

pub(super) const ERROR_TYPE: &str = "error.type";
/// Replaces a value that the conventions want and that is not known.
pub(super) const OTHER: &str = "_OTHER";

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const PROMPT_NAME: &str = "gen_ai.prompt.name";
pub(super) const PROMPT_VERSION: &str = "gen_ai.prompt.version";
pub(super) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(super) const INPUT_MESSAGES: &str = "gen_ai.input.messages";
pub(super) const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
pub(super) const AGENT_ID: &str = "gen_ai.agent.id";
pub(super) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(super) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(super) const TOOL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
pub(super) const TOOL_RESULT: &str = "gen_ai.tool.call.result";
pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";

pub(super) const CHAT: &str = "chat";
pub(super) const EXECUTE_TOOL: &str = "execute_tool";
pub(super) const INVOKE_AGENT: &str = "invoke_agent";

/// The role of an answer.
pub(super) const ASSISTANT: &str = "assistant";
/// Why an answer ended, where the run says no more than that it succeeded or failed.
pub(super) const STOP: &str = "stop";
pub(super) const ERROR: &str = "error";

/// Usual words for an action, and the operation that they mean.
pub(super) const ACTIONS: &[(&str, &str)] = &[
    ("execute_tool", EXECUTE_TOOL),
    ("tool.call", EXECUTE_TOOL),
    ("tool_call", EXECUTE_TOOL),
    ("tool.called", EXECUTE_TOOL),
    ("tool.run", EXECUTE_TOOL),
    ("tool_run", EXECUTE_TOOL),
    ("invoke_agent", INVOKE_AGENT),
    ("agent.run", INVOKE_AGENT),
    ("agent_run", INVOKE_AGENT),
    ("agent.invoked", INVOKE_AGENT),
];

/// Usual words for a provider, in lower case, where the conventions have another.
pub(super) const PROVIDERS: &[(&str, &str)] = &[
    ("azure", "azure.ai.openai"),
    ("azure openai", "azure.ai.openai"),
    ("azure_openai", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("aws bedrock", "aws.bedrock"),
    ("gemini", "gcp.gemini"),
    ("vertex", "gcp.vertex_ai"),
    ("vertexai", "gcp.vertex_ai"),
    ("vertex_ai", "gcp.vertex_ai"),
    ("mistral", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("watsonx", "ibm.watsonx.ai"),
    ("xai", "x_ai"),
    ("grok", "x_ai"),
];

pub(super) const USER_ID: &str = "user.id";
pub(super) const USER_ROLES: &str = "user.roles";

pub(super) const RECORD_ID: &str = "audit.record.id";
pub(super) const RECORD_PARENT: &str = "audit.record.parent_id";
pub(super) const RECORD_KIND: &str = "audit.record.kind";
pub(super) const RECORD_SEQ: &str = "audit.record.seq";
pub(super) const STATUS: &str = "audit.status";
pub(super) const ERROR_CODE: &str = "audit.error.code";
pub(super) const TENANT: &str = "audit.tenant.id";
pub(super) const REQUEST: &str = "audit.request.id";
pub(super) const LLM_SESSION: &str = "audit.llm_session.id";
pub(super) const DATASOURCE: &str = "audit.datasource.id";
pub(super) const QUESTION: &str = "audit.question.text";
pub(super) const ROWS_AFFECTED: &str = "audit.rows_affected";
pub(super) const PROMPT_ROLE: &str = "audit.prompt.role";
/// In place of [`PROMPT_NAME`] and [`PROMPT_VERSION`] for a receiver that takes those for the text.
pub(super) const TEMPLATE_NAME: &str = "audit.prompt.name";
pub(super) const TEMPLATE_VERSION: &str = "audit.prompt.version";
pub(super) const ACTION: &str = "audit.action.type";
pub(super) const TARGET_TYPE: &str = "audit.target.type";
pub(super) const TARGET_ID: &str = "audit.target.id";
pub(super) const INPUT: &str = "audit.input.summary";
pub(super) const OUTPUT: &str = "audit.output.summary";
pub(super) const PROBLEMS: &str = "audit.problems";
pub(super) const REDACTIONS: &str = "audit.redactions";
/// The prefix of fields that have no column and no name in the conventions.
pub(super) const METADATA: &str = "audit.metadata.";

pub(super) const GAP_RECORDS: &str = "audit.gap.records";
pub(super) const GAP_CAUSE: &str = "audit.gap.cause";
pub(super) const GAP_FIRST_SEQ: &str = "audit.gap.first_seq";
pub(super) const GAP_LAST_SEQ: &str = "audit.gap.last_seq";

/// What begins the name of a field that goes out under the rest of its name.
pub(super) const OWN_NAME: &str = "otel.attr.";

/// Prefixes of fields that the conventions already name.
pub(super) const CONVENTIONAL: &[&str] = &[
    "client.",
    "db.",
    "gen_ai.",
    "http.",
    "network.",
    "rpc.",
    "server.",
    "url.",
    "user_agent.",
];

/// Prefixes of fields whose text is not content: names and settings that the conventions define.
pub(super) const PLAIN_TEXT: &[&str] = &[
    "tenant_key",
    "db.system",
    "db.namespace",
    "db.collection.name",
    "db.operation.name",
    "db.operation.batch.",
    "db.stored_procedure.name",
    "http.request.method",
    "http.route",
    "rpc.grpc.status_code",
    "rpc.method",
    "rpc.service",
    "rpc.system",
    "server.address",
    "server.port",
    "network.",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.output.type",
    "gen_ai.request.",
    "gen_ai.response.",
    "gen_ai.usage.",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.tool.call.id",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.agent.version",
    "gen_ai.workflow.name",
    "gen_ai.data_source.id",
    "gen_ai.conversation.",
    "gen_ai.prompt.name",
    "gen_ai.prompt.version",
];

/// Beginnings of the conventions' names that Langfuse takes for the text of a prompt or an answer.
pub(super) const TAKEN_FOR_TEXT: &[&str] = &["gen_ai.prompt", "gen_ai.completion"];

/// Prefixes of fields that hold the content of a prompt, an answer or a tool call: named by the
/// conventions, or like a column of another kind than the record's.
pub(super) const MESSAGE_CONTENT: &[&str] = &[
    "rendered_prompt",
    "response_text",
    "question_text",
    "input_summary",
    "output_summary",
    "error_message",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.prompt.variable.",
    "gen_ai.tool.definitions",
    // From earlier versions.
    "gen_ai.completion",
    "gen_ai.event.content",
    "embedding.embeddings",
    "embedding.text",
    "llm.prompt_template.variables",
    "llm.prompts",
    "retrieval.documents",
    // Of receivers.
    "input.value",
    "output.value",
    "llm.input_messages",
    "llm.output_messages",
    "tool.parameters",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.trace.input",
    "langfuse.trace.output",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
];

/// Fields that hold content, while others that begin with their names do not.
pub(super) const EXACT_CONTENT: &[&str] = &["http.request.body", "http.response.body"];

/// The prefix of fields that hold a prompt, in earlier versions, and those that do not.
pub(super) const PROMPT: (&str, &[&str]) = (
    "gen_ai.prompt",
    &["gen_ai.prompt.name", "gen_ai.prompt.version"],
);

/// Prefixes of fields that hold a query's text or its values.
pub(super) const QUERY_CONTENT: &[&str] = &[
    "sql_text",
    "db.query.text",
    "db.operation.parameter.",
    "db.query.parameter.",
    "db.statement",
    "parameters",
    // Of a run with more than one.
    "statements",
];

/// Endings for the whole length in bytes and the sha256 of a text that was cut: beside the text,
/// under its name (`audit.` before it if it has another prefix).
pub(super) const CUT_BYTES: &str = ".bytes";
pub(super) const CUT_SHA256: &str = ".sha256";

pub(super) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
pub(super) const MODEL_DURATION: &str = "gen_ai.client.operation.duration";
pub(super) const QUERY_DURATION: &str = "db.client.operation.duration";

/// Bounds of histograms, as the conventions advise.
pub(super) const QUERY_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
pub(super) const MODEL_SECONDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
pub(super) const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Returns a code, or a placeholder: a message that was given as a code may hold anything.
pub(super) fn code(said: &str) -> &str {
    let is_code = said.len() <= 64
        && said
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte));
    if is_code { said } else { OTHER }
}

/// Returns the conventions' word for a provider.
pub(super) fn provider(said: &str) -> String {
    let said = said.trim().to_ascii_lowercase();
    if said.is_empty() {
        return OTHER.to_owned();
    }
    PROVIDERS
        .iter()
        .find(|(word, _)| *word == said)
        .map_or(said, |(_, name)| (*name).to_owned())
}
