//! `tracing-audit` turns the spans that your program already emits into an audit trail in Postgres: who asked what and
//! when, which SQL ran and what came back, which prompt went to which model.
//!
//! This page is a guide: how it works, how to record a request, and what to do when a row is missing. The pages of
//! [`guide`] have the details: [what survives what](guide::guarantees), [settings](guide::settings),
//! [families of events](guide::families), [rights](guide::rights), [OpenTelemetry](guide::opentelemetry),
//! [monitoring](guide::monitoring) and [operations](guide::operations).
//!
//! ```no_run
//! use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*, registry};
//!
//! let audit = tracing_audit::from_env()?; // reads DATABASE_URL
//! registry()
//!     .with(audit.layer())
//!     .with(fmt::layer().with_filter(LevelFilter::INFO))
//!     .init();
//!
//! tracing::info_span!("audit.event", action_type = "report.exported", user_id = "alice");
//! // Dropping `audit` at the end of `main` flushes.
//! # Ok::<(), tracing_audit::BuildError>(())
//! ```
//!
//! # How it works
//!
//! ```text
//!  your thread                          the library's threads
//!  span closes ──► record ──► queue ──► local log ──┬──► batch, COPY ──► audit.* tables in Postgres
//!                  encoded    in        on disk     │
//!                  once       memory                └──► OTLP spans ───► a collector (feature otlp)
//! ```
//!
//! 1. **Your thread** copies the fields of an audit span as they are recorded. When the span closes, it puts one encoded
//!    record into the queue. It makes no system call and takes no lock that another thread waits for.
//! 2. **The queue** is bounded, by default 65,536 records and 16 MiB. It fills up only if the local log is slower than your
//!    program; [`WhenFull`] says what happens then.
//! 3. **The local log** is a file on disk. A record is there a few milliseconds after its span closed, and stays until
//!    Postgres has it. If the process dies, the next one with the same folder writes what is left.
//! 4. **The Postgres thread** writes batches by `COPY`, by default every 100 ms or 5,000 rows. Each batch and the position in the
//!    log are committed in one transaction, so a retry after a lost connection writes nothing twice.
//!
//! A span is an audit span by its name or its target: `audit.query_run`, `audit.prompt_run` or `audit.event`. The layer has
//! a filter of its own, so other spans cost next to nothing.
//!
//! # Recording a request
//!
//! Open a span around each request. Records inside it inherit `request_id`, `tenant_id`, `user_id`, `user_role`,
//! `agent_id`, `llm_session_id` and `conversation_id` from the nearest enclosing span that has them.
//!
//! ```
//! use tracing::{Instrument, Span, field::Empty, info_span, instrument};
//!
//! #[instrument(name = "audit.query_run", skip_all, fields(sql_text = sql, row_count = Empty), err)]
//! async fn run(sql: &str) -> std::io::Result<Vec<String>> {
//!     let rows = vec![String::from("Ada")]; // your database's answer
//!     Span::current().record("row_count", rows.len());
//!     Ok(rows)
//! }
//!
//! async fn handle(request_id: &str, tenant: &str) -> std::io::Result<Vec<String>> {
//!     let request = info_span!("request", request_id, tenant_id = tenant);
//!     run("SELECT name FROM customers").instrument(request).await
//! }
//! # tokio::runtime::Runtime::new()?.block_on(handle("req-1", "acme"))?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! - `fields(row_count = Empty)` declares a field that gets its value later. `tracing` ignores a value that is recorded
//!   for a field that the span does not declare.
//! - A field that is no column of the table goes into the column `metadata`, with its type.
//! - `#[instrument]` makes a field of every argument: `skip_all` keeps those out that you do not want to store.
//! - A tenant that is not a UUID gets one; `audit.tenant_uuid('acme')` computes the same in SQL.
//! - Of values that are recorded one after the other for a field, the last counts.
//!
//! # Requests of an HTTP service
//!
//! Feature `axum`, `tower` (any tower service, such as tonic's) or `actix-web` has a layer that opens the span around each
//! request and records the request itself:
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tracing_audit::AuditRequestLayer;
//!
//! let app: Router = Router::new()
//!     .route("/orders/{id}", get(async || "…"))
//!     .layer(AuditRequestLayer::axum()); // last, so that it is the outermost
//! # }
//! ```
//!
//! Each request has a row with `action_type = 'http_request'`: method, route, path, status, client and duration. One that is
//! refused, panics or is aborted has its row too, and a denial (401, 403, 407, 451) one more, with `action_type =
//! 'security'`, which is kept for longer. The response has the request's id in `x-request-id`; a stranger's own id is not
//! taken unless you say so. [Settings](guide::settings#requestsettings) lists what is recorded, and what never is.
//!
//! # The fields
//!
//! | tag | table | its own columns |
//! |---|---|---|
//! | `audit.query_run` | `audit.query_runs` | `datasource_id` uuid, `question_text`, `sql_text`, `sql_summary`, `row_count` int, `rows_affected` int |
//! | `audit.prompt_run` | `audit.prompt_runs` | `model_name`, `provider`, `prompt_template_name`, `prompt_template_version` int, `rendered_prompt`, `response_text`, `role`, `input_token_count` int, `output_token_count` int |
//! | `audit.event`: a span, or a `tracing` event | `audit.events` | `action_type`, `target_type`, `target_id`, `input_summary`, `output_summary` |
//! | the same with `action_type` `log`, `http_request`, `system_metric`, or one of [`Builder::activities`] | `audit.activities` | the same |
//! | each of them | | `tenant_id` uuid or any key, `user_id`, `user_role`, `agent_id` uuid, `request_id`, `llm_session_id` uuid, `conversation_id`, `status`, `error_code`, `error_message`, `metadata` |
//!
//! The bind values of a query, as a field `parameters` of `audit.query_run`, are recorded in `metadata` only if
//! [`Builder::record_parameters`] says so.
//!
//! A value from a type of your own is stored as its text: `tenant_id = ?TenantId("acme")` is `acme`. What `%` writes is stored
//! as it is.
//!
//! # Families of events
//!
//! Calls of models and tools, escalations, approvals, agents' runs and logs, requests, transactions, mandates, feedback, errors,
//! metrics and security events each have an `action_type` and fields of their own, as a span or by a typed builder.
//! [The families](guide::families) lists them:
//!
//! ```no_run
//! use tracing_audit::{Approval, Decision};
//!
//! # let audit = tracing_audit::from_env()?;
//! let approval = Approval::new(Decision::Rejected)
//!     .sql_text("DELETE FROM orders")
//!     .approved_by("alice");
//! audit.record(approval)?; // status `rejected`
//!
//! // The same row.
//! tracing::info_span!(
//!     "audit.event",
//!     action_type = "approval",
//!     decision = "rejected",
//!     sql_text = "DELETE FROM orders",
//!     approved_by = "alice",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Without a tag
//!
//! What libraries already emit can be recorded as it is: [`Adopt::gen_ai`] ([`Builder::adopt`]) takes the calls of models and tools
//! that rig makes, [`Adopt::sqlx`] the statements, [`Adopt::http`] the requests, [`Adopt::spans`] spans of your own. What
//! becomes what is in [the guide](guide::adoption).
//!
//! # The user is known later
//!
//! A login is often checked deep inside the request's span. [`context`] finds that span from wherever it is called, whatever
//! spans are in between, and the span need not declare the fields:
//!
//! ```
//! use tracing::{info_span, instrument};
//!
//! #[instrument(skip_all)]
//! fn login(token: &str) {
//!     // … the token is checked …
//!     tracing_audit::context().tenant("acme").user("alice");
//! }
//!
//! let _request = info_span!("request", request_id = "req-1").entered();
//! login("token");
//! info_span!("audit.event", action_type = "report.exported"); // by alice, of acme
//! ```
//!
//! A record that began before the login and ends after it has the user as well. One that ended before has not.
//!
//! `Span::current().record("user_id", …)` works only where the current span is the one that declares the field. That
//! depends on the other layers: a span is current if any layer enables it, and one that no layer wants never is.
//!
//! # The outcome
//!
//! The column `status` is `succeeded`, `failed`, `cancelled`, `rejected` or `unknown`. The strongest evidence decides:
//!
//! 1. a field `status`, with words such as `ok`, `error`, `timeout`, `rejected`; in its absence, the `outcome` of an
//!    `agent_execution` or the `decision` of an `approval`;
//! 2. an `Err` seen by `#[instrument(err)]` or by [`audited`](AuditFutureExt::audited), or a panic: `failed`;
//! 3. an `Ok` seen by `#[instrument(ret)]` or `audited`: `succeeded`;
//! 4. a future, stream or body under `audited` that is dropped before it finished: `cancelled`;
//! 5. a result field recorded after the span began (`row_count`, `rows_affected`, `response_text`, `output_token_count`,
//!    `output_summary`): `succeeded`.
//!
//! Without evidence it is `unknown`: no record claims a success that nobody saw. Only `audited` can tell a future that finished from one
//! that was dropped, as when a client goes away:
//!
//! ```
//! use tracing_audit::AuditFutureExt;
//!
//! # async fn run_sql(sql: &str) -> Result<u64, std::io::Error> { Ok(1) }
//! async fn count(sql: &str) -> Result<u64, std::io::Error> {
//!     let span = tracing::info_span!("audit.query_run", sql_text = sql);
//!     run_sql(sql).audited(span).await
//! }
//! # drop(count("SELECT 1"));
//! ```
//!
//! `audited` also records why a run failed: the error with its causes as `error_message`, and its SQLSTATE as `error_code`
//! unless the span records a code itself. It knows the errors of sqlx, of tokio-postgres, diesel and anyhow by features of
//! these names, and whatever is in a `Box<dyn Error>`. For an error type of your own, say
//! [`.audited(span).with_causes()`](Audited::with_causes) or [`.error_code(…)`](Audited::error_code); [`sqlstate`] gives the
//! code alone.
//!
//! # Background jobs
//!
//! A spawned task starts outside every span. [`Context`] carries what records inherit to a task, a thread or a queue, also when
//! the request is over by then:
//!
//! ```
//! use tracing::Instrument;
//! use tracing_audit::Context;
//!
//! # async fn send_report() {}
//! # async fn nightly_cleanup() {}
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! // Part of the request: its records have the request's id, tenant and user.
//! tokio::spawn(send_report().instrument(Context::capture().span()));
//!
//! // A job of its own, whoever started it, with a request id such as cleanup-0198f1d3-….
//! tokio::spawn(nightly_cleanup().instrument(Context::job("cleanup").span()));
//! # });
//! ```
//!
//! In a thread, `context.in_scope(work)`. For a call to another service, send [`traceparent`](AuditSpanExt::traceparent) along.
//!
//! # Streaming
//!
//! Gather the tokens of an answer as they come, and audit the stream: `succeeded` if it ends, `failed` with its first error,
//! `cancelled` if the client goes away.
//!
//! ```
//! use std::io;
//! use futures_core::Stream;
//! use futures_util::StreamExt;
//! use tracing::info_span;
//! use tracing_audit::{AuditSpanExt, AuditStreamExt};
//!
//! # fn ask(prompt: &str) -> impl Stream<Item = io::Result<String>> { futures_util::stream::empty() }
//! fn answer(prompt: &str) -> impl Stream<Item = io::Result<String>> {
//!     let span = info_span!("audit.prompt_run", rendered_prompt = prompt);
//!     let mut text = span.gather("response_text");
//!     ask(prompt)
//!         .inspect(move |token| {
//!             if let Ok(token) = token {
//!                 text.push(token);
//!             }
//!         })
//!         .audited(span)
//! }
//! # drop(answer("hello"));
//! ```
//!
//! For an HTTP response, feature `http-body` has the same for bodies (`AuditBodyExt`).
//!
//! # Without a span
//!
//! [`Audit::record`] makes the same records from code: of a [`QueryRun`], a [`PromptRun`], an [`Event`] or one of the
//! [families](guide::families). No filter hides them, and you get the record's id:
//!
//! ```no_run
//! use tracing_audit::{Event, Status};
//!
//! # fn export(audit: &tracing_audit::Audit) -> Result<(), tracing_audit::RecordError> {
//! let id = audit.record(
//!     Event::new("report.exported").target("report", "2026-10").status(Status::Succeeded),
//! )?;
//! # Ok(())
//! # }
//! ```
//!
//! The id of a span's record is [`audit_id`](AuditSpanExt::audit_id), for a foreign key of your own tables; see
//! [rows of your own that refer to a record](guide::rights#rows-of-your-own-that-refer-to-a-record).
//!
//! # Reading the trail
//!
//! Every row has `request_id`, `tenant_id`, `parent_id`, `trace_id` and `span_id`. In SQL, `audit.request_trail('REQUEST_ID')`
//! has what all kinds of records have in common, for one request; the view `audit.trail` has it for all. A record that ended
//! before the user was known, such as the login itself, has no `user_id`, for rows never change; `audit.request_trail` has the
//! user as `learned_user_id`, if the record lies within one that knows it and nobody else occurs there. `show` prints it as
//! `alice (learned later)`, for requests of up to 100,000 records. `find --user` looks at `user_id` alone. The program
//! `tracing-audit` (`cargo install tracing-audit-cli`) prints the same as a tree:
//!
//! | command | what |
//! |---|---|
//! | `show REQUEST_ID` | the story of a request (`--json`, `--full`, `--tenant KEY`) |
//! | `find` | which requests there were, by user, tenant, time, outcome or text (`--json`) |
//! | `tail` | new rows as they are committed (`--json`, `--last N`) |
//! | `doctor` | what is wrong with the database, and the statement that mends it (`--json`) |
//! | `migrate` | makes the tables or brings them up to date, and gives logins their rights (`--print`: the SQL for your own migration tool) |
//! | `retain` | removes what is older than it is to be kept; says what, without `--yes` |
//! | `hold`, `release` | legal holds: what they cover is not removed |
//! | `metrics` | the state of the trail as text for Prometheus; [`Stats::prometheus`] has what a program counts |
//! | `settle` | moves rows out of the default partitions into partitions of their own |
//! | `spool` | the local logs of this machine: lists them, and writes them to Postgres |
//!
//! A condition on `started_at` or `created_at` reads only the partitions of that time. Postgres keeps no statistics of
//! the values, since `EXPLAIN` would show one tenant's to another. If a query of yours finds few rows among millions, tell
//! it so: `SET jit = off; SET max_parallel_workers_per_gather = 0`.
//!
//! # Failures, and what is kept
//!
//! Every record that the layer accepts is in one of four counts of [`Audit::stats`]:
//! `accepted = committed + pending + dead_lettered + dropped`.
//!
//! - **Postgres is away**: records wait in the local log, up to [`Builder::spool_quota_bytes`]. [`Stats::health`] is
//!   [`Retrying`](Health::Retrying) and [`Stats::fault`] says why. The log says it too, when it begins, when its cause changes, and every five minutes: let `RUST_LOG` take
//!   `tracing_audit=warn`.
//! - **The process is killed**: the next one writes what is in the local log. A query or prompt run that was in flight
//!   gets a row with `status = 'unknown'` and `error_code = 'process_lost'`.
//! - **A record is dropped**: [`Stats::dropped_by`] counts it by [`DropCause`], and the trail has a row
//!   with `action_type = 'audit.gap'`: how many, when and why.
//! - **Postgres refuses a row**: it is in `audit.dead_letters` with its bytes and the reason.
//! - **A value does not fit** its column, or is longer than a [limit](Limits): it is kept as well as possible, and the
//!   row's column `problems` says what happened.
//!
//! [`flush`](Audit::flush) waits until everything accepted so far is committed, [`committed`](Audit::committed) for one record of a kind
//! that is [`Required`](Durability::Required). [What survives what](guide::guarantees) has every fault and the tests that
//! show it.
//!
//! # Testing your own program
//!
//! With feature `testing`, `testing::capture()` gives a layer, and the records as typed values in memory: no Postgres, no
//! folder, nothing to flush, and tests that run at the same time do not see each other's records. A record has the values
//! that its row would have.
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! use tracing::info_span;
//! use tracing_audit::{Status, testing};
//!
//! fn export(user: &str) {
//!     info_span!("audit.event", action_type = "report.exported", user_id = user, status = "ok");
//! }
//!
//! let trail = testing::capture();
//! let _guard = trail.set_default();
//! export("alice");
//!
//! let event = trail.events().by_user("alice").one(); // panics with the story if it is not one
//! assert_eq!(event.action_type(), Some("report.exported"));
//! assert_eq!(event.status(), Status::Succeeded);
//! ```
//!
//! # Troubleshooting: why is my row not there?
//!
//! | symptom | cause | what to do |
//! |---|---|---|
//! | [`is_hidden`](Stats::is_hidden) is true; the log has an error that a filter hides audit spans, unless the filter hides it too. | A filter for the whole subscriber, such as `.with(EnvFilter::from_default_env())`. | Move it onto the layer that it is meant for: `fmt::layer().with_filter(…)`. |
//! | [`accepted`](Stats::accepted) is 0, and nothing is in the log. | `audit.layer()` is not in the subscriber that is set. | Add it to the `registry()` on which you call `.init()`. |
//! | The same, with the layer in place. | The span has neither the name nor the target `audit.query_run`, `audit.prompt_run` or `audit.event`. | Spell the tag as in the list, with the prefix `audit.`. |
//! | The same, in release builds only. | A feature `release_max_level_…` of `tracing` removes spans of that level. | Raise it, or use [`Audit::record`]. |
//! | [`dropped_by`](Stats::dropped_by) counts [`ShutDown`](DropCause::ShutDown). | `audit` was dropped early: `let _ = from_env()?` drops it at once. | Bind it to a name and keep it until the end of `main`. |
//! | `accepted` does not rise until much later. | The span is still open: a record is complete when its last handle is dropped. | Drop the span, or do not keep it in a struct that lives on. |
//! | Rows come a moment late. | A batch waits for up to 100 ms ([`Builder::batch`]). | Wait with [`Audit::flush`] where you need them. |
//! | Rows come only after the next start. | The program ended by `std::process::exit` or a signal before it flushed. | Call [`Audit::shutdown`] before you exit. |
//! | [`pending`](Stats::pending) grows, and `health` is [`Retrying`](Health::Retrying). | Postgres cannot be reached. | [`Stats::fault`] names the server and the cause. |
//! | `pending` grows, and `health` is [`Holding`](Health::Holding). | Tables or rights are missing. | `tracing-audit migrate --writer-login LOGIN`, then `tracing-audit doctor`. |
//! | `health` is [`SpoolBlocked`](Health::SpoolBlocked). | The disk of the local log is full, or the log has reached its quota. | Make room, or raise [`Builder::spool_quota_bytes`]. |
//! | `dead_lettered` is not 0. | Postgres refused the row, for instance by a constraint of yours. | The reason is in `audit.dead_letters`. |
//! | The counts say `committed`, but `SELECT` finds nothing. | Row-level security: the login reads one tenant, and none is set. | `SET LOCAL app.current_tenant`, or read as an auditor; see [tenants](guide::rights#tenants). |
//! | The row is there, but a column is NULL. | The field was recorded without being declared. | Declare it: `fields(row_count = Empty)`. |
//! | A value is in `metadata`, not in its column. | The name is misspelled, or belongs to another kind. | Compare it with the columns of the table. |
//! | `parameters` of a query is missing. | Bind values are not recorded unless you say so. | [`Builder::record_parameters`], or `AUDIT_RECORD_PARAMETERS=true`. |
//! | `user_id` is missing once a log layer is added. | It is recorded with `Span::current()`, which is another span now. | [`context`], as in [the user is known later](#the-user-is-known-later). |
//! | `request_id` or `user_id` is missing. | The work runs in a spawned task, outside the request span. | `.instrument(Context::capture().span())`, as in [background jobs](#background-jobs). |
//! | `status` is `unknown`. | Nobody saw the outcome. | `#[instrument(err)]`, `audited`, or a field `status`; see [the outcome](#the-outcome). |
//! | `error_code` is `shut_down` or `process_lost`. | The run was still open when the program ended. | Let runs end before [`Audit::shutdown`]. |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "__program")]
#[doc(hidden)]
pub mod __program;
#[cfg(feature = "actix-web")]
mod actix;
mod adopt;
mod audit;
mod capture;
mod clock;
mod config;
#[cfg_attr(
    not(feature = "__program"),
    allow(unreachable_pub, reason = "what `__program` re-exports is public")
)]
mod database;
mod delivery;
mod error;
mod fork;
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
pub mod fuzzing;
pub mod guide;
#[cfg(feature = "__https")]
mod https;
mod intake;
mod layer;
#[cfg_attr(
    not(all(feature = "__program", feature = "ledger")),
    allow(
        dead_code,
        unreachable_pub,
        reason = "what `__program` re-exports is public"
    )
)]
mod ledger;
mod limits;
pub mod local_log;
mod own_threads;
mod pipeline;
mod queue;
mod record;
#[cfg(feature = "redact")]
pub mod redact;
#[cfg(not(feature = "redact"))]
mod redact;
mod report;
#[cfg(any(feature = "tower", feature = "actix-web"))]
mod request;
#[cfg(feature = "seal")]
#[cfg_attr(
    not(feature = "__program"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "what `__program` re-exports is public"
    )
)]
mod seal;
mod sink;
mod spool;
#[cfg(any(feature = "otlp", feature = "redact"))]
mod sql;
mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
mod tower;
mod vocabulary;

#[cfg(feature = "tower")]
pub use self::tower::{
    AuditRequestBody, AuditRequestBodyLayer, AuditRequestBodyService, AuditRequestFuture,
    AuditRequestLayer, AuditRequestService, AuditResponseBody,
};
#[cfg(feature = "actix-web")]
pub use actix::{AuditRequest, AuditRequestMiddleware, AuditedMessageBody, AuditedResponse};
#[cfg(feature = "init")]
pub use audit::init;
pub use audit::{Audit, ShutdownReport, from_env};
#[cfg(feature = "http-body")]
pub use capture::{AuditBodyExt, AuditedBody};
pub use capture::{
    AuditContext, AuditFutureExt, AuditSpanExt, AuditStreamExt, Audited, AuditedStream, Context,
    Gathered, context, sqlstate,
};
pub use config::adopt::{Adopt, AdoptGenAi, AdoptHttp, AdoptSqlx, SpanMapping};
#[cfg(feature = "otlp")]
pub use config::otlp::{Otlp, OtlpProtocol, QueryText};
#[cfg(feature = "otlp")]
pub use config::receivers::{OpenInference, Receiver};
#[cfg(feature = "seal")]
pub use config::seal::Seal;
pub use config::{Builder, Durability, WhenFull};
pub use error::{BuildError, CommitError, FlushError, MigrateError, RecordError};
pub use layer::AuditLayer;
pub use limits::Limits;
pub use record::{
    AgentExecution, AgentLog, AgentOutcome, Approval, Decision, Escalation, Feedback, HttpRequest,
    LlmCall, LogCategory, Mandate, SUMMARY_CHARS, SecurityEvent, SystemError, SystemMetric,
    ToolInvocation, Transaction,
};
pub use record::{Event, NewRecord, PromptRun, QueryRun};
#[cfg(any(feature = "tower", feature = "actix-web"))]
pub use request::{Identity, InvalidNetwork, RequestSettings, TakeIds};
pub use sink::postgres::{make_roles, migrate, migration_script};
#[cfg(feature = "otlp")]
pub use stats::ExportStats;
pub use stats::{DropCause, Health, Stats};
pub use vocabulary::{Kind, Status};

/// The README's programs, compiled as a part of the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
