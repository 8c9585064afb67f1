//! A trail of so many rows, for the benches that read it.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use testkit::Postgres;
use tokio::runtime::Builder;

/// What fills the tables, which are there.
const FILL: &str = include_str!("fill.sql");

/// Fills the tables, and leaves nothing for their readers to do. For millions of rows that takes minutes, which is more
/// than a test's connection waits for.
pub(crate) fn fill(postgres: &Postgres, rows: u64) {
    let filling = async {
        let mut connection = PgConnection::connect(&postgres.socket_url()).await?;
        let fill = FILL.replace("$rows", &rows.to_string());
        for statements in [
            "SET session_replication_role = replica; SET synchronous_commit = off",
            &fill,
            "VACUUM (ANALYZE)",
            "CHECKPOINT",
        ] {
            sqlx::raw_sql(AssertSqlSafe(statements))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let filled = runtime.expect("a runtime can be made").block_on(filling);
    filled.expect("the tables can be filled");
}
