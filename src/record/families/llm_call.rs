//! Calls of models, with summaries of prompt and answer.

use super::definition::family;

family! {
    /// A call of a model, with `action_type` `llm_call`; goes to `audit.events`.
    ///
    /// It keeps summaries of the prompt and the answer. A [`PromptRun`](crate::PromptRun) keeps them
    /// whole.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_audit::{LlmCall, Status};
    ///
    /// let call = LlmCall::new("claude-sonnet")
    ///     .provider("anthropic")
    ///     .input_summary("How many orders are there?")
    ///     .output_summary("There are 42.")
    ///     .input_token_count(180)
    ///     .output_token_count(12)
    ///     .latency(Duration::from_millis(812))
    ///     .status(Status::Succeeded);
    /// ```
    LlmCall, "llm_call";
    /// Sets the model.
    model = text("model");
    /// Sets the provider that runs the model.
    pub provider = text("provider");
    /// Sets a summary of what was asked.
    pub input_summary = summary(InputSummary);
    /// Sets a summary of the answer.
    pub output_summary = summary(OutputSummary);
    /// Sets the number of tokens in the prompt.
    pub input_token_count = integer("input_token_count");
    /// Sets the number of tokens in the answer.
    pub output_token_count = integer("output_token_count");
    /// Sets the template that the prompt was rendered from.
    pub prompt_template_name = text("prompt_template_name");
    /// Sets the version of that template.
    pub prompt_template_version = integer("prompt_template_version");
}

impl LlmCall {
    /// Makes a record of a call of this model.
    pub fn new(model: impl Into<String>) -> Self {
        Self::event().model(model)
    }
}
