//! Who receives the spans, and which names it reads beside those of the conventions.

/// A program that shows traces and reads names of its own, passed to
/// [`Otlp::for_receiver`](crate::Otlp::for_receiver). Needs feature `otlp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receiver {
    /// Arize Phoenix: OpenInference names, as with [`OpenInference::Beside`].
    Phoenix,
    /// MLflow: `mlflow.spanType`, the session, inputs and outputs of every kind.
    MlFlow,
    /// Langfuse: the type and level of an observation, the session, inputs and outputs of every
    /// kind, and prompts by its own names. It would take `gen_ai.prompt.…` for the prompt's text.
    Langfuse,
    /// Grafana Tempo: `db.namespace` and `peer.service`, by which its service graph names nodes.
    Tempo,
}

/// Whether attributes have the names of OpenInference, passed to
/// [`Otlp::openinference`](crate::Otlp::openinference). Needs feature `otlp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenInference {
    /// No. The default.
    #[default]
    Off,
    /// Beside the names of the OpenTelemetry conventions. Messages keep those names alone; their
    /// text is in `input.value` and `output.value`.
    Beside,
    /// In place of the names of the GenAI conventions, where OpenInference has one.
    Instead,
}

/// The names that are exported beside those of the conventions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    pub(crate) openinference: OpenInference,
    pub(crate) mlflow: bool,
    pub(crate) langfuse: bool,
    pub(crate) tempo: bool,
}

impl Names {
    /// Adds what a receiver reads.
    pub(super) fn add(&mut self, receiver: Receiver) {
        match receiver {
            Receiver::Phoenix if self.openinference == OpenInference::Off => {
                self.openinference = OpenInference::Beside;
            }
            Receiver::Phoenix => {}
            Receiver::MlFlow => self.mlflow = true,
            Receiver::Langfuse => self.langfuse = true,
            Receiver::Tempo => self.tempo = true,
        }
    }

    /// Returns whether anybody reads more than the conventions' names.
    pub(crate) fn is_any(self) -> bool {
        self.reads_content() || self.tempo
    }

    /// Returns whether a receiver shows the input and the output of each step.
    pub(crate) fn reads_content(self) -> bool {
        self.openinference != OpenInference::Off || self.mlflow || self.langfuse
    }
}

impl Receiver {
    /// Every receiver, with the word for it in `AUDIT_OTLP_FOR`.
    const ALL: [(&'static str, Self); 4] = [
        ("phoenix", Self::Phoenix),
        ("mlflow", Self::MlFlow),
        ("langfuse", Self::Langfuse),
        ("tempo", Self::Tempo),
    ];

    /// Returns the receiver that a word of `AUDIT_OTLP_FOR` means.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| word.eq_ignore_ascii_case(known))
            .map(|(_, receiver)| receiver)
    }
}
