//! The settings of what is recorded although it is not tagged.

use std::fmt;
use std::sync::Arc;

use tracing::Metadata;

use crate::error::BuildError;
use crate::vocabulary::Kind;

/// Spans and events of other libraries, or of a program's own, that become records although nobody
/// has tagged them; for [`Builder::adopt`](crate::Builder::adopt).
///
/// An adopted span inherits from the spans around it, is a parent of what happens inside, and has
/// its row if the process is killed. It differs from a tagged one in `metadata.adopted`. A span that
/// is tagged is recorded as it is tagged, and never twice. What each attribute becomes is in the
/// table of [the guide](crate::guide::adoption).
///
/// ```
/// use tracing_audit::{Adopt, Audit};
///
/// let builder = Audit::builder()
///     .adopt(Adopt::gen_ai())
///     .adopt(Adopt::sqlx())
///     .adopt(Adopt::http());
/// ```
#[derive(Clone, Debug)]
pub struct Adopt(pub(crate) Source);

/// What is adopted.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    GenAi(AdoptGenAi),
    Sqlx(AdoptSqlx),
    Http(AdoptHttp),
    Spans(Spans),
}

/// What a program's own spans are.
#[derive(Clone)]
pub(crate) struct Spans(pub(crate) Arc<Mapping>);

/// Says what the spans of a callsite are.
type Mapping = dyn Fn(&Metadata<'_>) -> Option<SpanMapping> + Send + Sync;

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").finish_non_exhaustive()
    }
}

impl Adopt {
    /// Adopts calls of models, tools and agents: each span that declares a field
    /// `gen_ai.operation.name`, as the [conventions of OpenTelemetry] have it. rig is one library
    /// that makes such spans.
    ///
    /// | operation | becomes |
    /// |---|---|
    /// | `chat`, `text_completion`, `generate_content`, `embeddings` | a prompt run |
    /// | `execute_tool` | an event with `action_type` `tool_invocation` |
    /// | `invoke_agent` | an event with `action_type` `agent_execution` |
    ///
    /// Other operations are not adopted. A span that names its operation only later is a prompt run.
    /// A model call that ends without a response id, an answer or counts of tokens is `unknown`:
    /// libraries do not tell whether it failed.
    ///
    /// Prompts and answers are recorded if the library is told to put them into its spans; with rig
    /// by `record_content_telemetry(true)`.
    ///
    /// [conventions of OpenTelemetry]: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit};
    /// let builder = Audit::builder().adopt(Adopt::gen_ai().whole_messages());
    /// ```
    pub fn gen_ai() -> AdoptGenAi {
        AdoptGenAi::default()
    }

    /// Adopts the statements that sqlx reports in events of target `sqlx::query`.
    ///
    /// Inside an open query run they fill `sql_text`, `row_count` and `rows_affected`, where the
    /// span has no value. A run with more than one statement has all of them in
    /// `metadata.statements`. sqlx reports a statement that failed like any other, so that a
    /// statement is no evidence of success.
    ///
    /// The events are of level DEBUG. A filter for the whole subscriber may take them away.
    ///
    /// sqlx formats each statement for its event once somebody listens: some microseconds. Values
    /// that are bound to a statement are not in it.
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit};
    /// let builder = Audit::builder().adopt(Adopt::sqlx());
    /// ```
    pub fn sqlx() -> AdoptSqlx {
        AdoptSqlx::default()
    }

    /// Adopts HTTP requests that a server answers, as events with `action_type` `http_request`: the
    /// spans of tower-http's `TraceLayer`, as it makes them by default, and those that declare a
    /// field `http.request.method` (or `http.method`), as axum-tracing-opentelemetry's do, unless
    /// their `otel.kind` is `client`.
    ///
    /// Headers and the values of query parameters are left out. A request that neither has nor inherits
    /// a `request_id` gets the id of its row as one. tower-http's span does not say whether it is a
    /// server's: do not trace clients by it.
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit};
    /// let builder = Audit::builder().adopt(Adopt::http());
    /// ```
    pub fn http() -> AdoptHttp {
        AdoptHttp::default()
    }

    /// Adopts spans of the program's own. `mapping` is called once or more for each place in the
    /// source that makes spans, and returns what they are; `None`: they are not adopted. It must
    /// return the same each time, and should neither log nor make spans.
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit, Kind, SpanMapping};
    ///
    /// let builder = Audit::builder().adopt(Adopt::spans(|metadata| {
    ///     (metadata.target() == "shop::db" && metadata.name() == "run").then(|| {
    ///         SpanMapping::new(Kind::QueryRun)
    ///             .field("query", "sql_text")
    ///             .without("password")
    ///     })
    /// }));
    /// ```
    pub fn spans(
        mapping: impl Fn(&Metadata<'_>) -> Option<SpanMapping> + Send + Sync + 'static,
    ) -> Self {
        Self(Source::Spans(Spans(Arc::new(mapping))))
    }

    /// Returns what a word of `AUDIT_ADOPT` stands for.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        match word {
            "gen_ai" => Some(Self::gen_ai().into()),
            "gen_ai.whole_messages" => Some(Self::gen_ai().whole_messages().into()),
            "sqlx" => Some(Self::sqlx().into()),
            "sqlx.every_statement" => Some(Self::sqlx().every_statement().into()),
            "http" => Some(Self::http().into()),
            _ => None,
        }
    }
}

/// How model calls are adopted; made by [`Adopt::gen_ai`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AdoptGenAi {
    pub(crate) whole_messages: bool,
}

impl AdoptGenAi {
    /// Also keeps all messages, with their roles and parts, and the system instructions, in
    /// `metadata`: `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`.
    /// By default only the text of the user's last message and of the answer is kept.
    #[must_use]
    pub fn whole_messages(mut self) -> Self {
        self.whole_messages = true;
        self
    }
}

impl From<AdoptGenAi> for Adopt {
    fn from(gen_ai: AdoptGenAi) -> Self {
        Self(Source::GenAi(gen_ai))
    }
}

/// How sqlx's statements are adopted; made by [`Adopt::sqlx`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AdoptSqlx {
    pub(crate) every_statement: bool,
}

impl AdoptSqlx {
    /// Also makes a query run of each statement outside of a query run, except for `BEGIN`, `COMMIT`
    /// and the like. Its `status` is `unknown`, since sqlx does not tell.
    #[must_use]
    pub fn every_statement(mut self) -> Self {
        self.every_statement = true;
        self
    }
}

impl From<AdoptSqlx> for Adopt {
    fn from(sqlx: AdoptSqlx) -> Self {
        Self(Source::Sqlx(sqlx))
    }
}

/// How HTTP requests are adopted; made by [`Adopt::http`].
#[derive(Clone, Debug, Default)]
pub struct AdoptHttp {
    pub(crate) names: Vec<&'static str>,
}

impl AdoptHttp {
    /// Also adopts spans of this name, as a `make_span_with` of the program's own makes them. Of
    /// their fields, `method`, `uri`, `path`, `route`, `matched_path` and `status` are understood as
    /// well.
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit};
    /// let builder = Audit::builder().adopt(Adopt::http().span_named("http_request"));
    /// ```
    #[must_use]
    pub fn span_named(mut self, name: &'static str) -> Self {
        self.names.push(name);
        self
    }
}

impl From<AdoptHttp> for Adopt {
    fn from(http: AdoptHttp) -> Self {
        Self(Source::Http(http))
    }
}

/// What a program's own span is to the trail; for [`Adopt::spans`].
///
/// A field that has the name of a column of the kind becomes that column, and any other goes into
/// `metadata`, as in a tagged span.
///
/// ```
/// use tracing_audit::{Kind, SpanMapping};
///
/// let mapping = SpanMapping::new(Kind::Event)
///     .value("action_type", "order.placed")
///     .field("order", "target_id");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a mapping does nothing unless it is returned to Adopt::spans"]
pub struct SpanMapping {
    pub(crate) kind: Kind,
    pub(crate) fields: Vec<(&'static str, Option<&'static str>)>,
    pub(crate) values: Vec<(&'static str, String)>,
    pub(crate) leaves_out_others: bool,
}

impl SpanMapping {
    /// Maps a span to a record of this kind. An event's `action_type` is the span's name, unless a
    /// field or a value is mapped to it.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            fields: Vec::new(),
            values: Vec::new(),
            leaves_out_others: false,
        }
    }

    /// Maps the span's field `from` to the column `to`, or to that name in `metadata` if there is no
    /// such column.
    pub fn field(mut self, from: &'static str, to: &'static str) -> Self {
        self.fields.push((from, Some(to)));
        self
    }

    /// Leaves out the span's field `name`.
    pub fn without(mut self, name: &'static str) -> Self {
        self.fields.push((name, None));
        self
    }

    /// Leaves out all fields that are not mapped, except those that records
    /// [inherit](crate#the-fields), such as `user_id`.
    pub fn without_others(mut self) -> Self {
        self.leaves_out_others = true;
        self
    }

    /// Sets a column, or a value of `metadata`, that each such span has.
    pub fn value(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }
}

/// Returns what `AUDIT_ADOPT` lists, separated by commas.
pub(super) fn of_environment() -> Result<Vec<Adopt>, BuildError> {
    let listed = std::env::var("AUDIT_ADOPT").unwrap_or_default();
    let words = listed.split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(|word| Adopt::of_word(word).ok_or(BuildError::Adopt))
        .collect()
}
