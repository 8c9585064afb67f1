//! How many records a second come from a closed span to a committed row, compared with other ways to write the same rows.
//! See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, Postgres as Server};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Encode, Executor as _, PgConnection, Row as _,
    Type,
};
use testkit::Postgres;
use testkit::benches::{self, traffic};
use tokio::runtime::Runtime;
use tracing_audit::{Audit, Event};
use tracing_subscriber::prelude::*;

/// Rows in a batch, as the pipeline's default.
const BATCH_ROWS: usize = 5_000;

/// What the binary data of a COPY begins with.
const HEADER_BYTES: usize = 19;

/// No span is opened while more records than this are on their way.
const MAX_PENDING: u64 = 30_000;

/// How many rows are inserted one by one, which is slow.
const SINGLE_ROWS: usize = 3_000;

/// How the rows come into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Audit,
    /// Without hashing the rows for the ledger.
    Unhashed,
    /// A batch is one message of the protocol.
    Copy,
    /// A batch is messages of 64 KiB, as the pipeline sends it.
    CopyPieces,
    Unnest,
    Single,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Audit => "tracing-audit",
            Self::Unhashed => "without hashes",
            Self::Copy => "raw COPY",
            Self::CopyPieces => "raw COPY by 64 KiB",
            Self::Unnest => "INSERT from UNNEST",
            Self::Single => "INSERT of one row",
        }
    }
}

/// The rows of a leaf partition, as the data of some COPYs.
struct Leaf {
    name: String,
    /// A moment in the partition's month.
    month: String,
    batches: Vec<Vec<u8>>,
}

fn main() {
    let spans = if benches::is_short() { 30_000 } else { 300_000 };
    // As a server is by default; the tests have less.
    let postgres = Postgres::start_with(&["shared_buffers=128MB"]);
    assert_eq!(postgres.psql("SHOW fsync"), "on");
    let spool = benches::Folder::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");

    let urls = [
        ("Unix socket", postgres.socket_url()),
        ("TCP", postgres.url()),
    ];
    empty(&runtime, &postgres);
    let warm_up = trail(&urls[0].1, &spool.0, spans, true);
    println!(
        "{spans} records, {} bytes of values each, in batches of {:.0} rows",
        traffic::value_bytes(),
        warm_up.batch_rows
    );
    let leaves = runtime
        .block_on(export(&urls[0].1))
        .expect("the rows can be read");

    let mut cases: Vec<_> = urls
        .iter()
        .flat_map(|(name, url)| {
            [Way::Audit, Way::Unhashed, Way::Copy, Way::CopyPieces].map(|way| (*name, url, way))
        })
        .collect();
    // What they cost is not a matter of the socket.
    cases.extend([Way::Unnest, Way::Single].map(|way| (urls[0].0, &urls[0].1, way)));
    let mut cpu = Vec::new();
    let rates = benches::alternate(&cases, |(_, url, way)| {
        empty(&runtime, &postgres);
        let mut rows = spans;
        let took = match way {
            Way::Audit => {
                let trail = trail(url, &spool.0, spans, true);
                cpu.extend(trail.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / spans as f64));
                Ok(trail.took)
            }
            Way::Unhashed => Ok(trail(url, &spool.0, spans, false).took),
            Way::Copy => runtime.block_on(copy(url, &leaves, usize::MAX)),
            Way::CopyPieces => runtime.block_on(copy(url, &leaves, 64 * 1024)),
            Way::Unnest => runtime.block_on(unnest(url, &leaves)),
            Way::Single => {
                rows = SINGLE_ROWS;
                runtime.block_on(single(url, &leaves))
            }
        };
        let took = took.expect("the rows can be written");
        assert_eq!(
            postgres.psql("SELECT count(*) FROM audit.query_runs"),
            rows.to_string()
        );
        rows as f64 / took.as_secs_f64()
    });

    println!();
    benches::row(
        "records a second",
        &["median", "quartiles", "ours / this", "quartiles"].map(str::to_owned),
    );
    for (number, (name, url, way)) in cases.iter().enumerate() {
        let ours = cases
            .iter()
            .position(|(_, other, way)| other == url && *way == Way::Audit)
            .expect("the pipeline is measured over each socket");
        let mut cells = vec![
            format!("{:.0}", benches::median(&rates[number])),
            benches::quartiles(&rates[number]),
        ];
        if *way != Way::Audit {
            let ratios: Vec<_> = rates[ours]
                .iter()
                .zip(&rates[number])
                .map(|(ours, this)| ours / this)
                .collect();
            cells.push(format!("{:.2}", benches::median(&ratios)));
            cells.push(benches::fine_quartiles(&ratios));
        }
        benches::row(&format!("{}, {name}", way.name()), &cells);
    }
    let of_socket: Vec<_> = cases
        .iter()
        .zip(&rates)
        .filter(|((name, ..), _)| *name == urls[0].0)
        .map(|((_, _, way), rates)| (way.name(), benches::median(rates)))
        .collect();
    benches::write_figures("sustained", &of_socket);
    if !cpu.is_empty() {
        println!(
            "\nCPU of the pipeline's threads: {:.1} µs per record ({})",
            benches::median(&cpu),
            benches::fine_quartiles(&cpu)
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
fn trail(url: &str, spool: &Path, spans: usize, hash: bool) -> Trail {
    let patience = Duration::from_mins(5);
    let audit = Audit::builder()
        .postgres(url)
        .spool(spool)
        .hash_batches(hash)
        .start()
        .expect("the pipeline starts");
    // The tables are there when this is committed.
    audit
        .record(Event::new("bench.started"))
        .expect("the queue has room");
    audit
        .flush_blocking(patience)
        .expect("the record is committed");
    let (before, cpu_before) = (audit.stats(), benches::watch::pipeline_time());
    let begun = Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(audit.layer()), || {
        for request in 0..spans / 5 {
            let _request = traffic::request(&format!("{request:032x}")).entered();
            (0..5).for_each(|n| traffic::query_run(request * 5 + n));
            while request % 64 == 0 && audit.stats().pending() > MAX_PENDING {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    audit
        .flush_blocking(patience)
        .expect("the records are committed");
    let took = begun.elapsed();
    let cpu = benches::watch::pipeline_time()
        .zip(cpu_before)
        .map(|(after, before)| after.saturating_sub(before));
    let stats = benches::assert_all_committed(&audit);
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

/// What ends the binary data of a COPY.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Splits the binary data of a COPY into batches: a header, rows that are a count of columns and each column behind
/// its length, and a trailer.
fn batches(data: &[u8]) -> Vec<Vec<u8>> {
    let (header, mut rest) = data.split_at(HEADER_BYTES);
    let mut batches = Vec::new();
    while rest != TRAILER {
        let mut batch = header.to_vec();
        for _ in 0..BATCH_ROWS {
            if rest == TRAILER {
                break;
            }
            let (_, after) = row(rest);
            batch.extend_from_slice(&rest[..rest.len() - after.len()]);
            rest = after;
        }
        batch.extend_from_slice(&TRAILER);
        batches.push(batch);
    }
    batches
}

/// The values of the first row, and what is after it.
fn row(data: &[u8]) -> (Vec<Option<&[u8]>>, &[u8]) {
    let (columns, mut rest) = data.split_first_chunk().expect("a row has a count");
    let values = (0..i16::from_be_bytes(*columns)).map(|_| {
        let (length, after) = rest.split_first_chunk().expect("a column has a length");
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            return None;
        };
        let (value, after) = after.split_at(length);
        rest = after;
        Some(value)
    });
    (values.collect(), rest)
}

/// The values of a batch, by row.
fn values(batch: &[u8]) -> Vec<Vec<Option<&[u8]>>> {
    let mut rest = &batch[HEADER_BYTES..];
    let mut values = Vec::new();
    while rest != TRAILER {
        let (row, after) = row(rest);
        values.push(row);
        rest = after;
    }
    values
}

/// The statements of those that insert, and the types of their values.
struct Insert {
    unnest: String,
    single: String,
    columns: Vec<Column>,
}

/// A column that is inserted.
struct Column {
    /// Where it is in a row of COPY.
    at: usize,
    value: u32,
    array: u32,
}

impl Insert {
    /// For this database: each has a number of its own for a type that it has made.
    async fn of(connection: &mut PgConnection, leaves: &[Leaf]) -> sqlx::Result<Self> {
        // An array of arrays cannot be unnested: `problems` is left to its default.
        let columns = sqlx::query(
            "SELECT attname::text, attnum, t.oid, typarray, typname::text, nspname::text FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid
             JOIN pg_namespace n ON n.oid = typnamespace WHERE attrelid = ('audit_parts.' || $1)::regclass AND attnum > 0 AND typarray <> 0 ORDER BY attnum",
        )
        .bind(&leaves[0].name)
        .fetch_all(connection)
        .await?;
        let mut insert = Self {
            unnest: String::new(),
            single: String::new(),
            columns: Vec::new(),
        };
        let (mut names, mut arrays, mut single) = (Vec::new(), Vec::new(), Vec::new());
        for (number, column) in (1..).zip(columns) {
            let (Oid(value), Oid(array)) = (column.try_get(2)?, column.try_get(3)?);
            let at: i16 = column.try_get(1)?;
            let at = usize::try_from(at - 1).expect("columns are numbered from 1");
            insert.columns.push(Column { at, value, array });
            let (name, of, schema): (String, String, String) =
                (column.try_get(0)?, column.try_get(4)?, column.try_get(5)?);
            arrays.push(format!("${number}::{schema}.{of}[]"));
            single.push(format!("${number}"));
            names.push(name);
        }
        let into = format!("INSERT INTO audit.query_runs ({})", names.join(", "));
        insert.unnest = format!(
            "{into} SELECT * FROM UNNEST({}) ON CONFLICT DO NOTHING",
            arrays.join(", ")
        );
        insert.single = format!("{into} VALUES ({})", single.join(", "));
        Ok(insert)
    }
}

/// A value as it goes over the wire.
struct Raw<'a> {
    of: u32,
    bytes: Option<&'a [u8]>,
}

impl Type<Server> for Raw<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("text")
    }
}

impl Encode<'_, Server> for Raw<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = self.bytes else {
            return Ok(IsNull::Yes);
        };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.of)))
    }
}

/// Values as Postgres reads an array of them.
fn array<'a>(of: u32, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let length = |len: usize| i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes();
    let mut array = Vec::new();
    // One dimension, which may have NULLs.
    array.extend_from_slice(&1_i32.to_be_bytes());
    array.extend_from_slice(&1_i32.to_be_bytes());
    array.extend_from_slice(&of.to_be_bytes());
    array.extend_from_slice(&length(values.len()));
    array.extend_from_slice(&1_i32.to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                array.extend_from_slice(&length(value.len()));
                array.extend_from_slice(value);
            }
            None => array.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    array
}

/// Inserts the rows by one connection, each batch by one statement, and says how long that took.
async fn unnest(url: &str, leaves: &[Leaf]) -> sqlx::Result<Duration> {
    let mut connection = ready(url, leaves).await?;
    let insert = Insert::of(&mut connection, leaves).await?;
    let batches: Vec<_> = leaves.iter().flat_map(|leaf| &leaf.batches).collect();
    let batches: Vec<_> = batches.into_iter().map(|batch| values(batch)).collect();
    let begun = Instant::now();
    for rows in &batches {
        let mut arguments = PgArguments::default();
        for column in &insert.columns {
            let bytes = array(column.value, rows.iter().map(|row| row[column.at]));
            let array = Raw {
                of: column.array,
                bytes: Some(&bytes),
            };
            arguments.add(array).map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(&*insert.unnest), arguments)
            .execute(&mut connection)
            .await?;
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(took)
}

/// Inserts some of the rows by one connection, each by a statement and a transaction of its own, and says how long that
/// took.
async fn single(url: &str, leaves: &[Leaf]) -> sqlx::Result<Duration> {
    let mut connection = ready(url, leaves).await?;
    let insert = Insert::of(&mut connection, leaves).await?;
    let batches = leaves.iter().flat_map(|leaf| &leaf.batches);
    let rows: Vec<_> = batches
        .flat_map(|batch| values(batch))
        .take(SINGLE_ROWS)
        .collect();
    let begun = Instant::now();
    for row in &rows {
        let mut arguments = PgArguments::default();
        for column in &insert.columns {
            let value = Raw {
                of: column.value,
                bytes: row[column.at],
            };
            arguments.add(value).map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(&*insert.single), arguments)
            .execute(&mut connection)
            .await?;
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(took)
}

/// A connection to tables that have the partitions for the rows.
async fn ready(url: &str, leaves: &[Leaf]) -> sqlx::Result<PgConnection> {
    tracing_audit::migrate(url).expect("the tables can be made");
    let mut connection = PgConnection::connect(url).await?;
    for leaf in leaves {
        sqlx::query("SELECT audit.ensure_partition('query_runs', $1::timestamptz)")
            .bind(&leaf.month)
            .execute(&mut connection)
            .await?;
    }
    Ok(connection)
}

/// Writes the rows by one connection, each batch in a transaction of its own, and says how long that took.
async fn copy(url: &str, leaves: &[Leaf], message_bytes: usize) -> sqlx::Result<Duration> {
    let mut connection = ready(url, leaves).await?;
    let begun = Instant::now();
    for leaf in leaves {
        let statement = format!("COPY audit_parts.{} FROM STDIN (FORMAT binary)", leaf.name);
        for batch in &leaf.batches {
            let mut rows = connection.copy_in_raw(&statement).await?;
            for message in batch.chunks(message_bytes) {
                rows.send(message).await?;
            }
            rows.finish().await?;
        }
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(took)
}
