//! How many records a second come from a closed span to a committed row, compared with a raw binary COPY of the same
//! rows. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

#[path = "../tests/support/mod.rs"]
mod server;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use server::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::traffic;
use tokio::runtime::Runtime;
use tracing_audit::{Audit, Event};
use tracing_subscriber::prelude::*;

/// Rows in a batch, as the pipeline's default.
const BATCH_ROWS: usize = 5_000;

/// No span is opened while more records than this are on their way.
const MAX_PENDING: u64 = 30_000;

/// How the rows come into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Audit,
    Copy,
}

/// The rows of a leaf partition, as the data of some COPYs.
struct Leaf {
    name: String,
    /// A moment in the partition's month.
    month: String,
    batches: Vec<Vec<u8>>,
}

fn main() {
    let spans = if support::is_short() { 30_000 } else { 300_000 };
    // As a server is by default; the tests have less.
    let postgres = Postgres::start_with(&["shared_buffers=128MB"]);
    assert_eq!(postgres.psql("SHOW fsync"), "on");
    let spool = support::Folder::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");

    let urls = [
        ("Unix socket", postgres.socket_url()),
        ("TCP", postgres.url()),
    ];
    empty(&runtime, &postgres);
    let warm_up = trail(&urls[0].1, &spool.0, spans);
    println!(
        "{spans} records, {} bytes of values each, in batches of {:.0} rows",
        traffic::value_bytes(),
        warm_up.batch_rows
    );
    let leaves = runtime
        .block_on(export(&urls[0].1))
        .expect("the rows can be read");

    let cases: Vec<_> = urls
        .iter()
        .flat_map(|(name, url)| [(*name, url, Way::Audit), (*name, url, Way::Copy)])
        .collect();
    let mut cpu = Vec::new();
    let rates = support::alternate(&cases, |(_, url, way)| {
        empty(&runtime, &postgres);
        let took = match way {
            Way::Audit => {
                let trail = trail(url, &spool.0, spans);
                cpu.extend(trail.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / spans as f64));
                trail.took
            }
            Way::Copy => runtime
                .block_on(copy(url, &leaves))
                .expect("the rows can be written"),
        };
        assert_eq!(
            postgres.psql("SELECT count(*) FROM audit.query_runs"),
            spans.to_string()
        );
        spans as f64 / took.as_secs_f64()
    });

    println!();
    support::row(
        "records a second",
        &[
            "tracing-audit",
            "quartiles",
            "raw COPY",
            "quartiles",
            "ratio",
        ]
        .map(str::to_owned),
    );
    for ((name, _), rates) in urls.iter().zip(rates.chunks(2)) {
        let ratio = support::paired(&rates[0], &rates[1], |audit, copy| audit / copy);
        let cells = rates.iter().flat_map(|rates| {
            [
                format!("{:.0}", support::median(rates)),
                support::quartiles(rates),
            ]
        });
        support::row(
            name,
            &cells.chain([format!("{ratio:.2}")]).collect::<Vec<_>>(),
        );
    }
    if !cpu.is_empty() {
        println!(
            "\nCPU of the pipeline's threads: {:.1} µs per record",
            support::median(&cpu)
        );
    }
}

/// Makes the database anew, and lets the server write what it has left to write.
fn empty(runtime: &Runtime, postgres: &Postgres) {
    let making = async {
        let mut connection = PgConnection::connect(&postgres.url_of("postgres")).await?;
        for statement in [
            "DROP DATABASE audit WITH (FORCE)",
            "CREATE DATABASE audit",
            "CHECKPOINT",
        ] {
            connection.execute(statement).await?;
        }
        connection.close().await
    };
    runtime
        .block_on(making)
        .expect("the database can be made anew");
}

/// What came of a run of the pipeline.
struct Trail {
    took: Duration,
    batch_rows: f64,
    /// Of the pipeline's threads; `None`: this system does not say.
    cpu: Option<Duration>,
}

/// Opens and closes audited spans as fast as the pipeline takes them, until all their rows are committed.
fn trail(url: &str, spool: &Path, spans: usize) -> Trail {
    let patience = Duration::from_mins(5);
    let audit = Audit::builder()
        .postgres(url)
        .spool(spool)
        .start()
        .expect("the pipeline starts");
    // The tables are there when this is committed.
    audit
        .record(Event::new("bench.started"))
        .expect("the queue has room");
    audit
        .flush_blocking(patience)
        .expect("the record is committed");
    let (before, cpu_before) = (audit.stats(), support::watch::pipeline_time());
    let begun = Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(audit.layer()), || {
        for request in 0..spans / 5 {
            let _request = traffic::request(&format!("{request:032x}")).entered();
            (0..5).for_each(|n| traffic::query_run(request * 5 + n));
            while request % 64 == 0 && audit.stats().pending() > MAX_PENDING {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    audit
        .flush_blocking(patience)
        .expect("the records are committed");
    let took = begun.elapsed();
    let cpu = support::watch::pipeline_time()
        .zip(cpu_before)
        .map(|(after, before)| after.saturating_sub(before));
    let stats = audit.stats();
    assert_eq!(
        (stats.dropped(), stats.accepted()),
        (0, stats.committed()),
        "{stats:?}"
    );
    let batches = u32::try_from(stats.batches() - before.batches()).unwrap_or(u32::MAX);
    Trail {
        took,
        batch_rows: spans as f64 / f64::from(batches),
        cpu,
    }
}

/// Reads the rows as binary data of COPY.
async fn export(url: &str) -> sqlx::Result<Vec<Leaf>> {
    let mut connection = PgConnection::connect(url).await?;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relkind = 'r' AND relname LIKE 'query\\_runs\\_%'",
    )
    .fetch_all(&mut connection)
    .await?;
    let mut leaves = Vec::new();
    for name in names {
        let month = format!("SELECT min(started_at)::text FROM audit_parts.{name}");
        let Some(month) = sqlx::query_scalar(AssertSqlSafe(month))
            .fetch_one(&mut connection)
            .await?
        else {
            continue;
        };
        let statement = format!("COPY audit_parts.{name} TO STDOUT (FORMAT binary)");
        let mut data = Vec::new();
        let mut rows = connection.copy_out_raw(&statement).await?;
        while let Some(bytes) = rows.try_next().await? {
            data.extend_from_slice(&bytes);
        }
        drop(rows);
        leaves.push(Leaf {
            name,
            month,
            batches: batches(&data),
        });
    }
    Ok(leaves)
}

/// Splits the binary data of a COPY into batches: a header, rows that are a count of columns and each column behind
/// its length, and a trailer.
fn batches(data: &[u8]) -> Vec<Vec<u8>> {
    const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
    let (header, mut rest) = data.split_at(19);
    let mut batches = Vec::new();
    while rest != TRAILER {
        let mut batch = header.to_vec();
        for _ in 0..BATCH_ROWS {
            let mut at = 2;
            let columns = i16::from_be_bytes([rest[0], rest[1]]);
            for _ in 0..columns {
                let (length, _) = rest[at..]
                    .split_first_chunk()
                    .expect("a column has a length");
                at += 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            }
            if columns < 0 {
                break;
            }
            batch.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
        }
        batch.extend_from_slice(&TRAILER);
        batches.push(batch);
    }
    batches
}

/// Writes the rows by one connection, each batch in a transaction of its own, and says how long that took.
async fn copy(url: &str, leaves: &[Leaf]) -> sqlx::Result<Duration> {
    let url = url.to_owned();
    tracing_audit::migrate(&url).expect("the tables can be made");
    let mut connection = PgConnection::connect(&url).await?;
    for leaf in leaves {
        sqlx::query("SELECT audit.ensure_partition('query_runs', $1::timestamptz)")
            .bind(&leaf.month)
            .execute(&mut connection)
            .await?;
    }
    let begun = Instant::now();
    for leaf in leaves {
        let statement = format!("COPY audit_parts.{} FROM STDIN (FORMAT binary)", leaf.name);
        for batch in &leaf.batches {
            let mut rows = connection.copy_in_raw(&statement).await?;
            rows.send(&batch[..]).await?;
            rows.finish().await?;
        }
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(took)
}
