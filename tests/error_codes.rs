//! The code and the causes of a database's error, as `audited()` records them: errors that a real Postgres makes, of each
//! library that is known.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::convert::Infallible;
use std::error::Error;
use std::fmt::{self, Display};
use std::future::ready;
use std::io;
use std::sync::Arc;

use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use sqlx::{Connection as _, Executor as _};
use testkit::Postgres;
use tracing::{Span, field::Empty, info_span, instrument};
use tracing_audit::testing::{self, Record, Trail};
use tracing_audit::{
    AuditBodyExt as _, AuditFutureExt as _, AuditStreamExt as _, Status, sqlstate,
};

const TABLE: &str = "CREATE TEMP TABLE once (id int PRIMARY KEY); INSERT INTO once VALUES (1)";
const TWICE: &str = "INSERT INTO once VALUES (1)";
const DUPLICATE: &str = "duplicate key value violates unique constraint \"once_pkey\"";

fn run() -> Span {
    info_span!("audit.query_run", error_code = Empty, status = Empty)
}

fn code_and_message(record: &Record) -> (Option<&str>, &str) {
    assert_eq!(record.problems(), [""; 0], "{record}");
    (record.error_code(), record.error_message().unwrap())
}

/// Returns the record of a run that fails with this error.
async fn record_of<E: Display + 'static>(error: E) -> Record {
    let trail = testing::capture();
    let _guard = trail.set_default();
    let failed = ready(Err::<(), _>(error)).audited(run()).await;
    assert!(failed.is_err());
    let record = trail.query_runs().one();
    assert_eq!(record.status(), Status::Failed, "{record}");
    record
}

async fn of_sqlx(url: &str) -> sqlx::Error {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection.execute(TABLE).await.unwrap();
    connection.execute(TWICE).await.unwrap_err()
}

async fn of_tokio_postgres(url: &str) -> tokio_postgres::Error {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client.batch_execute(TABLE).await.unwrap();
    client.execute(TWICE, &[]).await.unwrap_err()
}

async fn of_diesel(url: &str) -> diesel::result::Error {
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    connection.batch_execute(TABLE).await.unwrap();
    connection.batch_execute(TWICE).await.unwrap_err()
}

/// An error of a program's own, which does not show its cause.
#[derive(Debug)]
struct NoAnswer(sqlx::Error);

impl Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no answer")
    }
}

impl Error for NoAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn sqlstate_and_causes_of_known_errors_are_recorded() {
    let postgres = Postgres::start();
    let url = &*postgres.url();

    // It shows its cause itself.
    let message = of_sqlx(url).await.to_string();
    assert!(message.contains(DUPLICATE), "{message}");
    let expected = (Some("23505"), &*message);
    assert_eq!(
        code_and_message(&record_of(of_sqlx(url).await).await),
        expected
    );
    let shared = Arc::new(of_sqlx(url).await);
    assert_eq!(code_and_message(&record_of(shared).await), expected);
    let boxed: Box<dyn Error> = of_sqlx(url).await.into();
    assert_eq!(code_and_message(&record_of(boxed).await), expected);
    let io = io::Error::other(of_sqlx(url).await);
    assert_eq!(code_and_message(&record_of(io).await), expected);

    let record = record_of(of_tokio_postgres(url).await).await;
    let (code, text) = code_and_message(&record);
    assert_eq!(code, Some("23505"));
    assert!(
        text.starts_with(&format!("db error: ERROR: {DUPLICATE}")),
        "{text}"
    );

    let record = record_of(of_diesel(url).await).await;
    assert_eq!(code_and_message(&record), (Some("23505"), DUPLICATE));

    let inside: Box<dyn Error + Send + Sync> = NoAnswer(of_sqlx(url).await).into();
    let message = format!("there is no answer: {message}");
    let expected = (Some("23505"), &*message);
    assert_eq!(code_and_message(&record_of(inside).await), expected);
    let inside = anyhow::Error::new(NoAnswer(of_sqlx(url).await));
    assert_eq!(code_and_message(&record_of(inside).await), expected);
}

#[tokio::test]
async fn error_without_a_sqlstate_has_no_code() {
    let nowhere = "postgres://nobody@127.0.0.1:1/nowhere";
    let refused = tokio_postgres::connect(nowhere, tokio_postgres::NoTls).await;
    let record = record_of(refused.err().unwrap()).await;
    let (code, text) = code_and_message(&record);
    assert_eq!(code, None);
    assert!(
        text.starts_with("error connecting to server: Connection refused"),
        "{text}"
    );
    let record = record_of(sqlx::Error::RowNotFound).await;
    assert_eq!(record.error_code(), None);
    assert_eq!(code_and_message(&record_of("no").await), (None, "no"));
}

#[tokio::test]
async fn error_of_the_programs_own_is_looked_into_where_it_says_so() {
    let postgres = Postgres::start();
    let url = &*postgres.url();
    let trail = testing::capture();
    let _guard = trail.set_default();
    let fails = async || Err::<(), _>(NoAnswer(of_sqlx(url).await));

    let _ = fails().audited(run()).await;
    let _ = fails().audited(run()).with_causes().await;
    let _ = fails()
        .audited(run())
        .error_code(|error| sqlstate(error))
        .await;
    let _ = fails()
        .audited(run())
        .error_code(|_| Some("no_answer"))
        .await;
    let none = |_: &_| None::<String>;
    let _ = fails().audited(run()).with_causes().error_code(none).await;
    let hidden = "there is no answer";
    let whole = format!("{hidden}: {}", of_sqlx(url).await);
    let seen: Vec<_> = trail.query_runs().into_iter().collect();
    assert_eq!(
        seen.iter().map(code_and_message).collect::<Vec<_>>(),
        [
            (None, hidden),
            (Some("23505"), &*whole),
            (Some("23505"), hidden),
            (Some("no_answer"), hidden),
            (Some("23505"), &*whole),
        ]
    );
}

#[instrument(name = "audit.query_run", skip_all, err)]
async fn twice(client: &tokio_postgres::Client) -> Result<u64, tokio_postgres::Error> {
    client.execute(TWICE, &[]).audited(Span::current()).await
}

#[instrument(name = "audit.query_run", skip_all, err)]
async fn other(client: &tokio_postgres::Client) -> Result<(), fmt::Error> {
    let handled = client.execute(TWICE, &[]).audited(Span::current()).await;
    handled.map(|_| ()).map_err(|_| fmt::Error)
}

#[tokio::test]
async fn err_event_of_the_same_error_does_not_hide_its_causes() {
    let postgres = Postgres::start();
    let connected = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client.batch_execute(TABLE).await.unwrap();
    let trail = testing::capture();
    let _guard = trail.set_default();
    twice(&client).await.unwrap_err();
    other(&client).await.unwrap_err();

    let seen: Vec<_> = trail.query_runs().into_iter().collect();
    let (code, text) = code_and_message(&seen[0]);
    assert_eq!(code, Some("23505"));
    assert!(
        text.starts_with(&format!("db error: ERROR: {DUPLICATE}")),
        "{text}"
    );
    // Another error takes its place.
    let (code, text) = code_and_message(&seen[1]);
    assert_eq!((code, text), (Some("23505"), &*fmt::Error.to_string()));
}

#[tokio::test]
async fn code_that_the_span_records_takes_precedence() {
    let postgres = Postgres::start();
    let trail = testing::capture();
    let _guard = trail.set_default();
    for (code, status) in [
        (Some("own"), None),
        (None, Some("timeout")),
        (None, Some("rejected")),
    ] {
        let span = run();
        span.record("error_code", code).record("status", status);
        let failed = ready(Err::<(), _>(of_sqlx(&postgres.url()).await));
        failed.audited(span).await.unwrap_err();
    }
    let seen = trail.query_runs();
    let codes: Vec<_> = seen.iter().map(Record::error_code).collect();
    assert_eq!(
        codes,
        [Some("own"), Some("timeout"), Some("23505")],
        "{seen}"
    );
}

#[tokio::test]
async fn streams_and_bodies_record_the_code_of_their_error() {
    let postgres = Postgres::start();
    let url = &*postgres.url();
    let trail: Trail = testing::capture();
    let _guard = trail.set_default();

    let items = [Ok(1), Err(of_sqlx(url).await)];
    let read: Vec<_> = stream::iter(items).audited(run()).collect().await;
    assert_eq!(read.len(), 2);
    let items = [Ok(1), Err(NoAnswer(of_sqlx(url).await))];
    let read: Vec<_> = stream::iter(items)
        .audited(run())
        .with_causes()
        .collect()
        .await;
    assert_eq!(read.len(), 2);
    let items = [Ok(1), Err("broken")];
    let stream = stream::iter(items).audited(run());
    let _read: Vec<_> = stream.error_code(|error| Some(error.len())).collect().await;

    let fails = |error: NoAnswer| {
        http_body_util::Empty::<bytes::Bytes>::new()
            .map_err(|never: Infallible| match never {})
            .with_trailers(ready(Some(Err(error))))
    };
    let body = fails(NoAnswer(of_sqlx(url).await)).audited(run());
    assert!(body.with_causes().collect().await.is_err());
    let body = fails(NoAnswer(of_sqlx(url).await)).audited(run());
    let body = body.error_code(|error| sqlstate(error));
    assert!(body.collect().await.is_err());

    let seen = trail.query_runs().with_status(Status::Failed).exactly(5);
    let codes: Vec<_> = seen.iter().map(Record::error_code).collect();
    let duplicate = Some("23505");
    assert_eq!(
        codes,
        [duplicate, duplicate, Some("6"), duplicate, duplicate]
    );
}
