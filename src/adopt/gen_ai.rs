//! Calls of models, tools and agents, by OpenTelemetry's conventions for generative AI.

use std::sync::Arc;

use tracing::Metadata;

use super::messages::{self, Said};
use super::{Becomes, plan_by};
use crate::capture::callsite::{Adopted, Plan};
use crate::capture::translate::{Given, Translation};
use crate::config::adopt::AdoptGenAi;
use crate::vocabulary::{Field, Kind};

/// The attribute that makes a span one of these, and says which.
pub(super) const OPERATION: &str = "gen_ai.operation.name";

/// The plans of one callsite's spans, by the operation that a span names.
#[derive(Debug)]
pub(super) struct Plans {
    model: Arc<Plan>,
    tool: Arc<Plan>,
    agent: Arc<Plan>,
}

impl Plans {
    pub(super) fn new(metadata: &Metadata<'_>, settings: AdoptGenAi) -> Self {
        let (content, agent_content) = if settings.whole_messages {
            (WHOLE, AGENT_WHOLE)
        } else {
            (TEXT, &[][..])
        };
        let plan = |tables: &[&[_]], kind, said: &[_]| {
            Arc::new(plan_by(tables, metadata, Adopted::GenAi, kind, said))
        };
        let tool = [
            (Field::ActionType, "tool_invocation"),
            (Field::TargetType, "tool"),
        ];
        let agent = [
            (Field::ActionType, "agent_execution"),
            (Field::TargetType, "agent"),
        ];
        Self {
            model: plan(&[MODEL, content, EVERY], Kind::PromptRun, &[]),
            tool: plan(&[TOOL, EVERY], Kind::Event, &tool),
            agent: plan(&[agent_content, AGENT, content, EVERY], Kind::Event, &agent),
        }
    }

    /// Returns the plan for an operation; `None`: it is not adopted. A span that does not name it
    /// when it begins is a model call: libraries make such spans around a call that is yet to come.
    pub(super) fn of(&self, operation: Option<&str>) -> Option<&Arc<Plan>> {
        match operation {
            None | Some("chat" | "text_completion" | "generate_content" | "embeddings") => {
                Some(&self.model)
            }
            Some("execute_tool") => Some(&self.tool),
            Some("invoke_agent") => Some(&self.agent),
            Some(_) => None,
        }
    }
}

/// The attributes of a model call.
const MODEL: &[(&str, Becomes)] = &[
    ("gen_ai.request.model", Becomes::Field(Field::ModelName)),
    ("gen_ai.provider.name", Becomes::Field(Field::Provider)),
    // Its name until version 1.36 of the conventions.
    ("gen_ai.system", Becomes::Field(Field::Provider)),
    ("gen_ai.response.id", Becomes::Made(response_id)),
    (
        "gen_ai.response.finish_reasons",
        Becomes::Made(finish_reasons),
    ),
    ("gen_ai.usage.input_tokens", Becomes::Made(input_tokens)),
    (
        "gen_ai.usage.output_tokens",
        Becomes::Field(Field::OutputTokenCount),
    ),
    // Their names until version 1.27.
    ("gen_ai.usage.prompt_tokens", Becomes::Made(input_tokens)),
    (
        "gen_ai.usage.completion_tokens",
        Becomes::Field(Field::OutputTokenCount),
    ),
];

/// What was said to a model and by it: the text alone.
const TEXT: &[(&str, Becomes)] = &[
    ("gen_ai.input.messages", Becomes::Made(prompt)),
    ("gen_ai.output.messages", Becomes::Made(answer)),
    ("gen_ai.prompt", Becomes::Made(prompt)),
    ("gen_ai.completion", Becomes::Made(answer)),
    ("gen_ai.system_instructions", Becomes::Nothing),
    ("gen_ai.tool.definitions", Becomes::Nothing),
];

/// The same, with all messages.
const WHOLE: &[(&str, Becomes)] = &[
    ("gen_ai.input.messages", Becomes::Made(whole_prompt)),
    ("gen_ai.output.messages", Becomes::Made(whole_answer)),
    ("gen_ai.prompt", Becomes::Made(prompt)),
    ("gen_ai.completion", Becomes::Made(answer)),
    ("gen_ai.system_instructions", Becomes::Made(instructions)),
    ("gen_ai.tool.definitions", Becomes::Made(definitions)),
];

/// The attributes of a call of a tool.
const TOOL: &[(&str, Becomes)] = &[
    ("gen_ai.tool.name", Becomes::Field(Field::TargetId)),
    (
        "gen_ai.tool.call.arguments",
        Becomes::Field(Field::InputSummary),
    ),
    (
        "gen_ai.tool.call.result",
        Becomes::Field(Field::OutputSummary),
    ),
    // rig's.
    ("gen_ai.tool.call.outcome", Becomes::Made(outcome)),
    ("gen_ai.tool.error.type", Becomes::Made(super::error_type)),
];

/// The attributes of an agent's run.
const AGENT: &[(&str, Becomes)] = &[
    ("gen_ai.agent.name", Becomes::Field(Field::TargetId)),
    ("gen_ai.input.messages", Becomes::Made(input)),
    ("gen_ai.output.messages", Becomes::Made(output)),
    ("gen_ai.prompt", Becomes::Made(input)),
    ("gen_ai.completion", Becomes::Made(output)),
    // Known once the run has ended.
    ("gen_ai.usage.output_tokens", Becomes::Made(usage)),
];

/// The same, with all messages.
const AGENT_WHOLE: &[(&str, Becomes)] = &[
    ("gen_ai.input.messages", Becomes::Made(whole_input)),
    ("gen_ai.output.messages", Becomes::Made(whole_output)),
];

/// What each of them may have.
const EVERY: &[(&str, Becomes)] = &[
    (
        "gen_ai.conversation.id",
        Becomes::Field(Field::ConversationId),
    ),
    ("error.type", Becomes::Made(super::error_type)),
    ("exception.message", Becomes::Field(Field::SeenError)),
    ("otel.status_code", Becomes::Made(super::otel_status)),
    ("otel.status_description", Becomes::Field(Field::SeenError)),
    ("otel.kind", Becomes::Nothing),
    ("otel.name", Becomes::Nothing),
];

#[cfg(test)]
pub(super) const TABLES: &[&[(&str, Becomes)]] =
    &[MODEL, TEXT, WHOLE, TOOL, AGENT, AGENT_WHOLE, EVERY];

/// An id shows that the provider has answered.
fn response_id(value: Given<'_>, out: &mut Translation<'_>) {
    out.extra("gen_ai.response.id", value);
    out.is_result();
}

fn finish_reasons(value: Given<'_>, out: &mut Translation<'_>) {
    whole("gen_ai.response.finish_reasons", value, out);
    if !matches!(value, Given::Text(reasons) if reasons.contains("error")) {
        out.is_result();
    }
}

/// Providers count the tokens when they answer; of an embedding there is nothing else.
fn input_tokens(value: Given<'_>, out: &mut Translation<'_>) {
    out.given(Field::InputTokenCount, value);
    out.is_result();
}

fn prompt(value: Given<'_>, out: &mut Translation<'_>) {
    asked(Field::RenderedPrompt, value, out);
}

fn answer(value: Given<'_>, out: &mut Translation<'_>) {
    answered(Field::ResponseText, value, out);
}

fn input(value: Given<'_>, out: &mut Translation<'_>) {
    asked(Field::InputSummary, value, out);
}

/// What an agent said last. It says something between the calls of tools as well, and may fail then.
fn output(value: Given<'_>, out: &mut Translation<'_>) {
    answered(Field::OutputSummary, value, out);
    out.is_no_result();
}

fn usage(value: Given<'_>, out: &mut Translation<'_>) {
    out.extra("gen_ai.usage.output_tokens", value);
    out.is_result();
}

/// Writes the text of the user's last message.
fn asked(field: Field, value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(said) = value else { return };
    match Said::of(said) {
        Said::Messages(messages) => {
            // There may be no text, only an image.
            if let Some(text) = messages::prompt(&messages) {
                out.text(field, &text);
            }
        }
        Said::Unread => {}
        Said::Text => out.text(field, said),
    }
}

/// Writes the text of the answer.
fn answered(field: Field, value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(said) = value else { return };
    match Said::of(said) {
        Said::Messages(messages) => {
            if let Some(text) = messages::answer(&messages) {
                out.text(field, &text);
            }
            if let Some(calls) = messages::calls(&messages) {
                out.json("gen_ai.output.tool_calls", &calls);
                out.is_result();
            }
        }
        Said::Text if !said.is_empty() => out.text(field, said),
        Said::Unread | Said::Text => {}
    }
}

fn whole_prompt(value: Given<'_>, out: &mut Translation<'_>) {
    prompt(value, out);
    whole("gen_ai.input.messages", value, out);
}

fn whole_answer(value: Given<'_>, out: &mut Translation<'_>) {
    answer(value, out);
    whole("gen_ai.output.messages", value, out);
}

fn whole_input(value: Given<'_>, out: &mut Translation<'_>) {
    input(value, out);
    whole("gen_ai.input.messages", value, out);
}

fn whole_output(value: Given<'_>, out: &mut Translation<'_>) {
    output(value, out);
    whole("gen_ai.output.messages", value, out);
}

fn instructions(value: Given<'_>, out: &mut Translation<'_>) {
    whole("gen_ai.system_instructions", value, out);
}

fn definitions(value: Given<'_>, out: &mut Translation<'_>) {
    whole("gen_ai.tool.definitions", value, out);
}

fn whole(name: &str, value: Given<'_>, out: &mut Translation<'_>) {
    match value {
        Given::Text(text) if messages::is_json(text) => out.json(name, text),
        value => out.extra(name, value),
    }
}

fn outcome(value: Given<'_>, out: &mut Translation<'_>) {
    out.extra("gen_ai.tool.call.outcome", value);
    let Given::Text(word) = value else { return };
    let status = match word {
        "success" => "succeeded",
        "error" => "failed",
        // Denied by the tool itself, or skipped by a hook before it ran.
        "denied" | "skipped" => "rejected",
        _ => "unknown",
    };
    out.text(Field::Status, status);
}
