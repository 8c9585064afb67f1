//! sqlx 0.8 of the host's, SQLite included, beside the one that we have.

use sqlx::{Connection as _, PgConnection, SqliteConnection};

fn main() {
    host::records(host::Tls::Rustls);
    let _ = rustls::ClientConfig::builder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let url = std::env::var("DATABASE_URL").expect("scripts/hosts sets it");
        let mut postgres = PgConnection::connect(&url).await.expect("it connects");
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM audit.events")
            .fetch_one(&mut postgres)
            .await
            .expect("it reads");
        assert!(count > 0);
        let mut sqlite = SqliteConnection::connect("sqlite::memory:")
            .await
            .expect("it opens");
        let (one,): (i64,) = sqlx::query_as("SELECT 1")
            .fetch_one(&mut sqlite)
            .await
            .expect("it reads");
        assert_eq!(one, 1);
    });
    host::records(host::Tls::Full);
}
