//! Runs SQL and prints what comes back: for `scripts/demo`, on machines that have no psql.
//!
//! ```text
//! cargo run -p example-assistant --bin sql -- URL 'SELECT 1' 'SELECT 2'
//! cargo run -p example-assistant --bin sql -- URL <FILE
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example is a program"
)]

use std::process::ExitCode;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

async fn run(url: &str, statements: Vec<String>) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in statements {
        let rows = sqlx::raw_sql(AssertSqlSafe(statement))
            .fetch_all(&mut connection)
            .await?;
        for row in rows {
            // What is not prepared comes back as text, whatever its type is.
            let values: sqlx::Result<Vec<String>> = (0..row.len())
                .map(|column| row.try_get_unchecked::<Option<String>, _>(column))
                .map(|value| value.map(Option::unwrap_or_default))
                .collect();
            println!("{}", values?.join(" | "));
        }
    }
    connection.close().await
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(url) = arguments.next() else {
        eprintln!("usage: sql URL [STATEMENT ...]");
        return ExitCode::from(2);
    };
    let mut statements: Vec<String> = arguments.collect();
    if statements.is_empty() {
        match std::io::read_to_string(std::io::stdin()) {
            Ok(text) => statements.push(text),
            Err(error) => {
                eprintln!("cannot read the statements: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    match run(&url, statements).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.as_database_error() {
                Some(error) => eprintln!("ERROR:  {}", error.message()),
                None => eprintln!("{error}"),
            }
            ExitCode::FAILURE
        }
    }
}
