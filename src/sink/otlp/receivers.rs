//! What particular receivers read beside the names of the conventions, in one table.
//!
//! Read in their own sources in autumn 2026: Phoenix 20 (`trace/gen_ai/conversion.py`), MLflow 3.17
//! (`tracing/otel/translation/`), Langfuse (`OtelIngestionProcessor.ts`), Tempo (`servicegraphs`).
//! `scripts/receivers` asks Phoenix and MLflow themselves.
//!
//! Phoenix, MLflow and Langfuse all read `input.value` and `output.value`, so that the content goes
//! out under one name for all of them.

use std::borrow::Cow;

use super::attributes::Attributes;
use super::conventions as names;
use crate::config::receivers::{Names, OpenInference};
use crate::vocabulary::Status;

const SPAN_KIND: &str = "openinference.span.kind";
const INPUT_VALUE: &str = "input.value";
const INPUT_MIME: &str = "input.mime_type";
const OUTPUT_VALUE: &str = "output.value";
const OUTPUT_MIME: &str = "output.mime_type";
const LLM_MODEL: &str = "llm.model_name";
const LLM_PROVIDER: &str = "llm.provider";
const LLM_INPUT_TOKENS: &str = "llm.token_count.prompt";
const LLM_OUTPUT_TOKENS: &str = "llm.token_count.completion";
const LLM_TOKENS: &str = "llm.token_count.total";
const LLM_INPUT_ROLE: &str = "llm.input_messages.0.message.role";
const LLM_INPUT_TEXT: &str = "llm.input_messages.0.message.content";
const LLM_OUTPUT_ROLE: &str = "llm.output_messages.0.message.role";
const LLM_OUTPUT_TEXT: &str = "llm.output_messages.0.message.content";
const EMBEDDING_MODEL: &str = "embedding.model_name";
const TOOL_NAME: &str = "tool.name";
const AGENT_NAME: &str = "agent.name";
const SESSION: &str = "session.id";

const MLFLOW_TYPE: &str = "mlflow.spanType";

const LANGFUSE_TYPE: &str = "langfuse.observation.type";
const LANGFUSE_LEVEL: &str = "langfuse.observation.level";
const LANGFUSE_MESSAGE: &str = "langfuse.observation.status_message";
const LANGFUSE_PROMPT_NAME: &str = "langfuse.observation.prompt.name";
const LANGFUSE_PROMPT_VERSION: &str = "langfuse.observation.prompt.version";

const PEER: &str = "peer.service";

/// Names of the GenAI conventions that OpenInference has a name for.
const REPLACED: &[&str] = &[
    names::OPERATION,
    names::PROVIDER,
    names::REQUEST_MODEL,
    names::INPUT_TOKENS,
    names::OUTPUT_TOKENS,
    names::INPUT_MESSAGES,
    names::OUTPUT_MESSAGES,
    names::TOOL_NAME,
    names::TOOL_ARGUMENTS,
    names::TOOL_RESULT,
    names::AGENT_NAME,
    names::CONVERSATION,
];

/// Providers that OpenInference names by one word.
const PROVIDERS: &[(&str, &str)] = &[
    ("aws.bedrock", "aws"),
    ("azure.ai.inference", "azure"),
    ("azure.ai.openai", "azure"),
    ("gcp.gemini", "google"),
    ("gcp.gen_ai", "google"),
    ("gcp.vertex_ai", "google"),
    ("mistral_ai", "mistralai"),
    ("x_ai", "xai"),
];

/// What a span is to a receiver of steps with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    Chat,
    Completion,
    Embedding,
    Agent,
    Tool,
    Retrieval,
    #[default]
    Other,
}

impl Step {
    /// Returns what `gen_ai.operation.name` means; of a word that is unknown, `otherwise`.
    pub(super) fn of_operation(operation: &str, otherwise: Self) -> Self {
        match operation {
            names::CHAT => Self::Chat,
            "text_completion" | "generate_content" => Self::Completion,
            "embeddings" => Self::Embedding,
            names::INVOKE_AGENT | "create_agent" => Self::Agent,
            names::EXECUTE_TOOL => Self::Tool,
            "retrieval" => Self::Retrieval,
            _ => otherwise,
        }
    }

    /// Returns the words of OpenInference, MLflow and Langfuse.
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::Chat => ["LLM", "CHAT_MODEL", "generation"],
            Self::Completion => ["LLM", "LLM", "generation"],
            Self::Embedding => ["EMBEDDING", "EMBEDDING", "embedding"],
            Self::Agent => ["AGENT", "AGENT", "agent"],
            Self::Tool => ["TOOL", "TOOL", "tool"],
            Self::Retrieval => ["RETRIEVER", "RETRIEVER", "retriever"],
            Self::Other => ["CHAIN", "CHAIN", "span"],
        }
    }

    fn is_model(self) -> bool {
        matches!(self, Self::Chat | Self::Completion)
    }
}

/// What receivers show of a span. Content is here only if the host lets it out.
#[derive(Debug, Default)]
pub(super) struct Shown<'a> {
    pub(super) step: Step,
    pub(super) input: Cow<'a, str>,
    /// Who said it; empty: the input is no message.
    pub(super) input_role: Cow<'a, str>,
    pub(super) output: Cow<'a, str>,
    /// Whether input and output are read by names of the GenAI conventions.
    pub(super) is_gen_ai: bool,
    pub(super) model: Cow<'a, str>,
    pub(super) provider: Cow<'a, str>,
    /// Input and output.
    pub(super) tokens: [Option<i32>; 2],
    /// The tool's or the agent's.
    pub(super) name: Cow<'a, str>,
    pub(super) template: Cow<'a, str>,
    pub(super) template_version: Option<i32>,
    pub(super) session: Cow<'a, str>,
    /// The database, if the host has not named it.
    pub(super) datasource: String,
    pub(super) status: Option<Status>,
    pub(super) error_code: Cow<'a, str>,
}

impl Shown<'_> {
    /// Adds what each receiver reads.
    pub(super) fn write(&self, to: Names, attributes: &mut Attributes) {
        let [openinference, mlflow, langfuse] = self.step.words();
        if to.openinference != OpenInference::Off {
            attributes.word(SPAN_KIND, openinference);
            self.write_openinference(to.openinference, attributes);
        }
        if to.mlflow {
            attributes.word(MLFLOW_TYPE, mlflow);
        }
        if to.langfuse {
            attributes.word(LANGFUSE_TYPE, langfuse);
            self.write_langfuse(attributes);
        }
        if to.tempo {
            attributes.word(names::DB_NAMESPACE, &self.datasource);
            if self.provider != names::OTHER {
                attributes.word(PEER, &self.provider);
            }
        }
        if to.reads_content() {
            attributes.word(SESSION, &self.session);
            // The others read the messages of a prompt and a tool's arguments by the conventions'
            // names, and show them as such. An agent run they list by its text.
            if to.openinference != OpenInference::Off || !self.is_gen_ai {
                attributes.excerpt(INPUT_VALUE, &self.input, Some(INPUT_MIME));
                attributes.excerpt(OUTPUT_VALUE, &self.output, Some(OUTPUT_MIME));
            }
        }
    }

    fn write_openinference(&self, to: OpenInference, attributes: &mut Attributes) {
        match self.step {
            Step::Tool => attributes.word(TOOL_NAME, &self.name),
            Step::Agent => attributes.word(AGENT_NAME, &self.name),
            Step::Embedding => attributes.word(EMBEDDING_MODEL, &self.model),
            _ => attributes.word(LLM_MODEL, &self.model),
        }
        if self.provider != names::OTHER {
            let provider = PROVIDERS
                .iter()
                .find(|(word, _)| *word == self.provider)
                .map_or(&*self.provider, |(_, word)| word);
            attributes.word(LLM_PROVIDER, provider);
        }
        let [input, output] = self.tokens.map(|tokens| tokens.map(i64::from));
        for (name, tokens) in [
            (LLM_INPUT_TOKENS, input),
            (LLM_OUTPUT_TOKENS, output),
            (LLM_TOKENS, input.zip(output).map(|(a, b)| a + b)),
        ] {
            if let Some(tokens) = tokens {
                attributes.int(name, tokens);
            }
        }
        // The messages of the conventions are read as well; a third copy is no use.
        if to == OpenInference::Instead && !self.input_role.is_empty() {
            if !self.input.is_empty() {
                attributes.word(LLM_INPUT_ROLE, &self.input_role);
                attributes.excerpt(LLM_INPUT_TEXT, &self.input, None);
            }
            if !self.output.is_empty() {
                attributes.word(LLM_OUTPUT_ROLE, names::ASSISTANT);
                attributes.excerpt(LLM_OUTPUT_TEXT, &self.output, None);
            }
        }
    }

    fn write_langfuse(&self, attributes: &mut Attributes) {
        // It refuses the whole span with one and not the other, or with a version below 1.
        if let (true, false, Some(version @ 1..)) = (
            self.step.is_model(),
            self.template.is_empty(),
            self.template_version,
        ) {
            attributes.word(LANGFUSE_PROMPT_NAME, &self.template);
            attributes.int(LANGFUSE_PROMPT_VERSION, version.into());
        }
        // An error is one by the span's status. That it was refused or broken off is none to OTLP.
        if let Some(status @ (Status::Rejected | Status::Cancelled)) = self.status {
            attributes.word(LANGFUSE_LEVEL, "WARNING");
            let why = match &*self.error_code {
                "" => status.as_str(),
                code => code,
            };
            attributes.word(LANGFUSE_MESSAGE, why);
        }
    }
}

/// Removes the names that OpenInference has replaced.
pub(super) fn remove_replaced(to: Names, attributes: &mut Attributes) {
    if to.openinference == OpenInference::Instead {
        attributes.remove(REPLACED);
    }
}
