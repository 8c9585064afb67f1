//! How long each query of `docs/queries.md` takes among ten million rows, for an auditor and for the reader of one tenant.
//! See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use testkit::Postgres;
use testkit::benches;
use testkit::page::sql_blocks;

/// The page with the queries, each in a block of SQL below its heading.
const PAGE: &str = include_str!("../docs/queries.md");

/// The figures of a day, which are made of its records when they are asked for.
const FIGURES: [(&str, &str); 2] = [
    (
        "audit.agent_metrics_daily, a day",
        "SELECT * FROM audit.agent_metrics_daily WHERE day = date_trunc('day', now() - interval '40 days', 'UTC')",
    ),
    (
        "audit.model_usage, a day",
        "SELECT * FROM audit.model_usage WHERE day = date_trunc('day', now() - interval '40 days', 'UTC')",
    ),
];

/// Of ten rows, seven are events, two query runs, and one is a prompt run; spread evenly over this many days up to now.
const DAYS: u64 = 180;

/// The rows are those of so many tenants, and of 1,024 users and 32 agents.
const TENANTS: u64 = 100;

/// How often each query is run; the first run reads from the disk.
const RUNS: usize = 9;

fn main() {
    let rows = match std::env::var("QUERIES_ROWS").map(|rows| rows.replace('_', "").parse()) {
        Ok(rows) => rows.expect("QUERIES_ROWS is a number"),
        Err(_) if benches::is_short() => 20_000_u64,
        Err(_) => 10_000_000,
    };
    let postgres = Postgres::start_with(&[
        "shared_buffers=512MB",
        "autovacuum=off",
        "synchronous_commit=off",
        "max_wal_size=8GB",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    tracing_audit::migrate(&postgres.url()).expect("the tables can be made");
    runtime.block_on(async {
        fill(&postgres.socket_url(), rows)
            .await
            .expect("the tables can be filled");
        postgres.psql(&prices());
        println!();
        benches::row(
            &format!("milliseconds among {rows} rows"),
            &["auditor", "slowest", "reader", "slowest", "rows"].map(str::to_owned),
        );
        let queries = sql_blocks(PAGE).into_iter();
        let queries = queries.filter(|(_, sql)| sql.starts_with("SELECT"));
        for (name, sql) in queries.chain(FIGURES) {
            let auditor = run(&postgres.socket_url(), "audit_auditor", sql)
                .await
                .expect("an auditor may run it");
            let reader = run(&postgres.socket_url(), "audit_reader", sql)
                .await
                .expect("a reader may run it");
            let cells = [auditor.0, auditor.1, reader.0, reader.1].map(|took| format!("{took:.1}"));
            let cells: Vec<String> = cells.into_iter().chain([auditor.2.to_string()]).collect();
            benches::row(name, &cells);
        }
    });
    indexes(&postgres, &runtime, rows / 40);
}

/// The indexes of `audit.events`, and one that it does not have; each is measured beside those before it.
const INDEXES: [(&str, &str); 5] = [
    ("none", ""),
    ("the key, by id", "ALTER TABLE {table} ADD PRIMARY KEY (id)"),
    (
        "and by tenant and id",
        "CREATE INDEX ON {table} (tenant_id, id)",
    ),
    (
        "and by request and tenant",
        "CREATE INDEX ON {table} (request_id, tenant_id)",
    ),
    (
        "and by tenant, type and id, which it does not have",
        "CREATE INDEX ON {table} (tenant_id, action_type, id)",
    ),
];

/// Adds events to a table with more and more indexes, and prints what each costs.
fn indexes(postgres: &Postgres, runtime: &tokio::runtime::Runtime, rows: u64) {
    postgres.psql(&format!(
        "CREATE SCHEMA plain; CREATE TABLE plain.rows AS SELECT * FROM audit.events LIMIT {rows}"
    ));
    let cases: Vec<usize> = (1..=INDEXES.len()).collect();
    let rounds = benches::alternate(&cases, |&count| {
        postgres.psql("DROP TABLE IF EXISTS plain.events; CREATE TABLE plain.events (LIKE audit.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)");
        for (_, statement) in &INDEXES[..count] {
            postgres.psql(&statement.replace("{table}", "plain.events"));
        }
        runtime
            .block_on(insert(&postgres.socket_url()))
            .expect("rows can be added")
            * 1e6
            / u32::try_from(rows).map_or(f64::MAX, f64::from)
    });
    println!();
    benches::row(
        "microseconds to add an event, by its indexes",
        &["median", "more than without it"].map(str::to_owned),
    );
    let mut before = 0.0;
    for ((name, _), mut round) in INDEXES.iter().zip(rounds) {
        round.sort_by(f64::total_cmp);
        let median = round[round.len() / 2];
        let more = if before > 0.0 { median - before } else { 0.0 };
        benches::row(name, &[format!("{median:.2}"), format!("{more:.2}")]);
        before = median;
    }
}

/// Returns the seconds that it takes to add the rows.
async fn insert(url: &str) -> sqlx::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let begun = Instant::now();
    connection
        .execute("INSERT INTO plain.events SELECT * FROM plain.rows")
        .await?;
    let took = begun.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(took)
}

/// Returns the statements that make the page's table of prices.
fn prices() -> String {
    let mut blocks = sql_blocks(PAGE).into_iter().map(|(_, sql)| sql);
    let table = blocks.find(|sql| sql.starts_with("CREATE TABLE"));
    let statement = table.and_then(|sql| sql.split_inclusive(';').next());
    let statement = statement.expect("the page has a table");
    format!("{statement} GRANT SELECT ON public.model_prices TO PUBLIC")
}

/// Adds so many rows, as a superuser, through the tables of the trail.
async fn fill(url: &str, rows: u64) -> sqlx::Result<()> {
    let begun = Instant::now();
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(format!(
            "SELECT audit.ensure_partition(parent, month) FROM unnest(audit.record_tables()) AS parent,
                 generate_series(date_trunc('month', now() - interval '{DAYS} days', 'UTC'), now(), interval '1 month') AS month"
        )))
        .await?;
    // Twenty statements, so that none holds all.
    for part in 0..20 {
        let (first, last) = (rows * part / 20, rows * (part + 1) / 20);
        let source = format!(
            "SELECT n, md5(n::text) AS hash, ('0b9e6c1d-38f4-4a57-8d2c-' || lpad(to_hex((hashint8(n) & 1023) % {TENANTS}), 12, '0'))::uuid AS tenant,
                 'user' || (hashint8(n + 1) & 1023) AS person, md5(((hashint8(n + 2) & 31))::text)::uuid AS agent,
                 CASE WHEN hashint8(n + 3) & 15 = 0 THEN 'failed' ELSE 'succeeded' END::audit.run_status AS status,
                 CASE WHEN hashint8(n + 3) & 15 = 0 THEN '4250' || (n & 3) END AS code,
                 now() - interval '{DAYS} days' * (1 - n::float8 / {rows}) AS at
             FROM generate_series({first}::bigint, {last}::bigint - 1) AS n"
        );
        let id = "overlay(overlay(audit.id_at(at)::text PLACING '7' FROM 15) PLACING '8' || substr(hash, 1, 3) || '-' || substr(hash, 4, 12) FROM 20)::uuid";
        for statement in [
            format!(
                "INSERT INTO audit.events (id, tenant_id, user_id, agent_id, request_id, action_type, target_type, target_id, input_summary, status, error_code,
                     created_at, latency_ms, metadata, writer_id, seq, salt)
                 SELECT {id}, tenant, person, agent, md5((n / 5)::text),
                     (ARRAY['agent_execution', 'agent_execution', 'agent_execution', 'llm_call', 'tool_invocation', 'approval', 'security', 'transaction',
                         'system_error', 'feedback'])[1 + n / 10 % 10],
                     'thing', n::text, 'what was asked', status, code, at, hashint8(n + 4) & 4095,
                     jsonb_build_object('decision', 'approved', 'approved_by', person, 'rows_affected', n % 100, 'event', 'data_exported', 'source', '10.0.0.' || n % 250,
                         'model', 'model-' || n % 5, 'input_token_count', n % 900, 'output_token_count', n % 300, 'credits_consumed', n % 7,
                         'amount_cents', n % 10000, 'state', 'captured', 'fingerprint', md5((n % 50)::text), 'rating', n % 5),
                     md5('writer')::uuid, n, decode(hash, 'hex')
                 FROM ({source}) AS r WHERE n % 10 < 7"
            ),
            format!(
                "INSERT INTO audit.query_runs (id, tenant_id, user_id, agent_id, request_id, question_text, sql_text, rows_affected, row_count, status, error_code,
                     started_at, finished_at, duration_ms, metadata, writer_id, seq, salt)
                 SELECT {id}, tenant, person, agent, md5((n / 5)::text), 'How many orders are there?',
                     CASE WHEN n & 7 = 0 THEN 'UPDATE orders SET state = $1 WHERE id = ' || n ELSE 'SELECT count(*) FROM orders WHERE id > ' || n END,
                     n % 20, n % 1000, status, code, at, at + interval '30 ms', hashint8(n + 4) & 4095, '{{}}', md5('writer')::uuid, n, decode(hash, 'hex')
                 FROM ({source}) AS r WHERE n % 10 IN (7, 8)"
            ),
            format!(
                "INSERT INTO audit.prompt_runs (id, tenant_id, user_id, agent_id, request_id, model_name, provider, prompt_template_name, prompt_template_version,
                     rendered_prompt, response_text, input_token_count, output_token_count, status, error_code, created_at, finished_at, duration_ms, metadata, writer_id, seq, salt)
                 SELECT {id}, tenant, person, agent, md5((n / 5)::text), 'model-' || n % 5, 'replay', 'nl2sql', 3, 'Translate: How many orders are there?',
                     'SELECT count(*) FROM orders', n % 900, n % 300, status, code, at, at + interval '300 ms', hashint8(n + 4) & 4095, '{{}}',
                     md5('writer')::uuid, n, decode(hash, 'hex')
                 FROM ({source}) AS r WHERE n % 10 = 9"
            ),
        ] {
            connection.execute(AssertSqlSafe(statement)).await?;
        }
    }
    connection.execute("ANALYZE").await?;
    connection.close().await?;
    println!(
        "filled with {rows} rows over {DAYS} days in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs a query as a member of the role, and returns the median and the most that it took in milliseconds, and its rows.
async fn run(url: &str, role: &str, sql: &str) -> sqlx::Result<(f64, f64, usize)> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(format!(
            "SET ROLE {role}; SET app.current_tenant = '0b9e6c1d-38f4-4a57-8d2c-000000000007'; SET jit = off"
        )))
        .await?;
    let mut took = Vec::new();
    let mut rows = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        // As psql sends it; prepared, the driver would ask for the types of the columns in between.
        rows = sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_all(&mut connection)
            .await?
            .len();
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    connection.close().await?;
    took.sort_by(f64::total_cmp);
    Ok((took[RUNS / 2], took[RUNS - 1], rows))
}
