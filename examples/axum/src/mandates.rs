//! Spending mandates. Postgres records who changed which limit, from what to what, in the transaction
//! of the change: there is no change without its record, whatever happens to the service.

use std::error::Error;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use sqlx::PgPool;
use tracing::warn;

use crate::{App, User};

/// In a database in which the example ran before, all of it is there.
const SET_UP: &str = "
    CREATE SCHEMA IF NOT EXISTS example;
    CREATE TABLE IF NOT EXISTS example.mandates (
        id bigint PRIMARY KEY, tenant_id text NOT NULL, user_id text NOT NULL, limit_cents bigint NOT NULL);
    INSERT INTO example.mandates VALUES (7, 'acme', 'bob', 50000), (9, 'globex', 'grace', 80000)
        ON CONFLICT DO NOTHING;
    SELECT audit.track('example.mandates', tenant_column => 'tenant_id')";

/// Makes the table and tracks it, which needs the trail's tables. A real service does both in its
/// migrations.
pub(crate) async fn set_up(url: &str, pool: &PgPool) -> Result<(), Box<dyn Error>> {
    tracing_audit::migrate(url)?;
    sqlx::raw_sql(SET_UP).execute(pool).await?;
    Ok(())
}

/// Sets the limit of a mandate of the user's tenant. Others are refused.
pub(crate) async fn set_limit(
    user: User,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(limit_cents): Json<i64>,
) -> Result<(), StatusCode> {
    match change(&app.pool, user.tenant, id, limit_cents).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(StatusCode::FORBIDDEN),
        Err(error) => {
            warn!(%error, "a limit was not set");
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Returns whether the tenant has this mandate.
async fn change(pool: &PgPool, tenant: &str, id: i64, limit_cents: i64) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    tracing_audit::context().apply(&mut *transaction).await?;
    let update = "UPDATE example.mandates SET limit_cents = $1 WHERE id = $2 AND tenant_id = $3";
    let update = sqlx::query(update).bind(limit_cents).bind(id).bind(tenant);
    let updated = update.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(updated.rows_affected() == 1)
}
