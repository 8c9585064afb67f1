//! `SeaORM` with an audit trail: a wrapper of connections that records every statement, and a
//! transaction whose row keeps the id of its record.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-sea-orm`
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    ExecResult, QueryFilter, QueryOrder, QueryResult, RuntimeErr, Set, Statement, TransactionTrait,
    Value, prelude::async_trait::async_trait,
};
use tracing::{Instrument, Span, field::Empty, info_span, instrument};
use tracing_audit::{AuditFutureExt, AuditSpanExt};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
use uuid::Uuid;

mod document {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "example_document")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) title: String,
        pub(crate) words: i32,
        /// The record of its publication: who, when and in which request.
        pub(crate) audit_id: Option<Uuid>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A connection or a transaction; records every statement that `SeaORM` sends through it.
struct AuditedConnection<'a, C>(&'a C);

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for AuditedConnection<'_, C> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let sql = statement.to_string();
        run(&sql, self.0.query_all_raw(statement), |rows| {
            ("row_count", rows.len() as u64)
        })
        .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let sql = statement.to_string();
        run(&sql, self.0.query_one_raw(statement), |row| {
            ("row_count", row.is_some().into())
        })
        .await
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let sql = statement.to_string();
        run(&sql, self.0.execute_raw(statement), |done| {
            ("rows_affected", done.rows_affected())
        })
        .await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        run(sql, self.0.execute_unprepared(sql), |done| {
            ("rows_affected", done.rows_affected())
        })
        .await
    }
}

/// Runs a statement. `sql` has the values in it; `statement.sql` would have placeholders.
#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(sql_text = sql, row_count = Empty, rows_affected = Empty),
    err
)]
async fn run<T>(
    sql: &str,
    outcome: impl Future<Output = Result<T, DbErr>>,
    count: fn(&T) -> (&'static str, u64),
) -> Result<T, DbErr> {
    let outcome = outcome.audited(Span::current()).error_code(sqlstate);
    let result = outcome.await?;
    let (field, rows) = count(&result);
    Span::current().record(field, rows);
    Ok(result)
}

/// Returns the SQLSTATE. `SeaORM`'s error does not tell its cause.
fn sqlstate(error: &DbErr) -> Option<String> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            tracing_audit::sqlstate(&**error)
        }
        _ => None,
    }
}

/// Publishes a document in a transaction. The record of the statement is a child of this one.
///
/// The row keeps the id without a foreign key: the record is written after its span has closed, so
/// it is not in Postgres yet when this transaction commits.
#[instrument(
    name = "audit.event",
    skip_all,
    fields(action_type = "document.published", target_type = "document", target_id = title, status = Empty),
    err
)]
async fn publish(db: &DatabaseConnection, title: &str, words: i32) -> Result<(), DbErr> {
    let transaction = db.begin().await?;
    let document = document::ActiveModel {
        title: Set(title.to_owned()),
        words: Set(words),
        audit_id: Set(Span::current().audit_id()),
    };
    document::Entity::insert(document)
        .exec_without_returning(&AuditedConnection(&transaction))
        .await?;
    transaction.commit().await?;
    // Not before the commit: until then it is no success.
    Span::current().record("status", "succeeded");
    Ok(())
}

async fn serve(db: &DatabaseConnection) -> Result<Vec<document::Model>, DbErr> {
    publish(db, "Sketch of the Engine", 20_000).await?;
    if let Err(error) = publish(db, "Sketch of the Engine", 1).await {
        println!("the second is refused: {error}");
    }
    let long = document::Entity::find().filter(document::Column::Words.gt(1_000));
    long.order_by_asc(document::Column::Title)
        .all(&AuditedConnection(db))
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    let terminal = fmt::layer().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let db = Database::connect(std::env::var("DATABASE_URL")?).await?;
    db.execute_unprepared(
        "DROP TABLE IF EXISTS example_document;
        CREATE TABLE example_document (title text PRIMARY KEY, words int NOT NULL, audit_id uuid)",
    )
    .await?;

    let request_id = Uuid::new_v4().to_string();
    let request = info_span!("request", request_id, tenant_id = "acme", user_id = "ada");
    let documents = serve(&db).instrument(request).await?;
    audit.flush(Duration::from_secs(10)).await?;

    // The story of the request, as a superuser or a member of `audit_auditor` reads it.
    let sql = "SELECT concat_ws(' ', kind, status, error_code, user_id, split_part(what, ' ', 1))
        FROM audit.request_trail($1)";
    let story = texts(&db, sql, request_id.as_str()).await?;
    println!("request {request_id}:\n  {}", story.join("\n  "));
    assert_eq!(
        story,
        [
            "audit.event succeeded ada document.published",
            "audit.query_run succeeded ada INSERT",
            "audit.event failed ada document.published",
            "audit.query_run failed 23505 ada INSERT",
            "audit.query_run succeeded ada SELECT",
        ]
    );

    // Who published it: the document leads to the record.
    let sql = "SELECT user_id FROM audit.events WHERE id = $1";
    let publisher = texts(&db, sql, documents[0].audit_id).await?;
    println!("{} was published by {}", documents[0].title, publisher[0]);
    assert_eq!(publisher, ["ada"]);
    Ok(())
}

async fn texts(
    db: &DatabaseConnection,
    sql: &str,
    value: impl Into<Value>,
) -> Result<Vec<String>, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [value.into()]);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
