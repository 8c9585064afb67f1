//! Whether the trail is as quick with millions of rows in it: how fast it takes new ones, and how soon a request's story is
//! found. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use testkit::Postgres;
use testkit::benches;
use testkit::benches::traffic::{self, QUESTIONS};
use tokio::runtime::Runtime;
use tracing_audit::{Audit, Event};
use tracing_subscriber::prelude::*;

/// No span is opened while more records than this are on their way.
const MAX_PENDING: u64 = 30_000;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(10);

/// Rows of a request.
const OF_REQUEST: u64 = 5;

/// How long the partitions are over which the rows are spread, and how many there are: half a year, up to now.
#[derive(Clone, Copy)]
struct Parts {
    interval: &'static str,
    number: u64,
}

const PARTS: [Parts; 3] = [
    Parts {
        interval: "month",
        number: 6,
    },
    Parts {
        interval: "week",
        number: 26,
    },
    Parts {
        interval: "day",
        number: 182,
    },
];

/// Disk space for a row with its part of the indexes, rounded up, and what is needed besides.
const ROW_BYTES: u64 = 800;
const BESIDES_BYTES: u64 = 2_000_000_000;

/// The database without rows, beside `audit`, which is full.
const EMPTY: &str = "audit_empty";

/// Into which database, and whether each request id is greater than the one before rather than random.
type Case = (&'static str, bool, bool);

const CASES: [Case; 4] = [
    ("empty, random request ids", false, false),
    ("full, random request ids", true, false),
    ("empty, ascending request ids", false, true),
    ("full, ascending request ids", true, true),
];

/// Who looks for a request, and where.
const READERS: [(&str, &str, &str); 4] = [
    ("audit_auditor, by the function", "audit_auditor", FUNCTION),
    ("audit_reader, by the function", "audit_reader", FUNCTION),
    ("audit_auditor, by the view", "audit_auditor", VIEW),
    ("audit_reader, by the view", "audit_reader", VIEW),
];

const FUNCTION: &str = "audit.request_trail($1)";
const VIEW: &str = "audit.trail WHERE request_id = $1";

/// No reader is measured for longer.
const LOOKUPS_TAKE: Duration = Duration::from_secs(30);

/// The statement that reads a request there. The status as a text, since the driver would have to ask for the type.
fn story(there: &str) -> String {
    format!(
        "SELECT kind, id, parent_id, service_name, began_at, duration_ms, what, status::text, error_code
         FROM {there} ORDER BY began_at, seq"
    )
}

fn main() {
    let rows = match std::env::var("SCALE_ROWS").map(|rows| rows.replace('_', "").parse()) {
        Ok(rows) => rows.expect("SCALE_ROWS is a number"),
        Err(_) if benches::is_short() => 200_000_u64,
        Err(_) => 20_000_000,
    };
    let interval = std::env::var("SCALE_INTERVAL").unwrap_or_else(|_| PARTS[0].interval.to_owned());
    let parts = PARTS.iter().find(|parts| parts.interval == interval);
    let parts = *parts.expect("SCALE_INTERVAL is month, week or day");
    // Without autovacuum, so that none comes to some of the runs only.
    let mut postgres = Postgres::start_with(&[
        "shared_buffers=128MB",
        "autovacuum=off",
        "maintenance_work_mem=512MB",
    ]);
    assert_eq!(postgres.psql("SHOW fsync"), "on");
    if let Err(lacking) = has_room(&postgres, rows) {
        println!("{lacking}");
        std::process::exit(1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    fill(&mut postgres, &runtime, parts, rows);
    lookups(&postgres, &runtime, parts, rows);
    rates(&postgres, &runtime, parts, rows);
}

/// Whether the server's disk has room for so many rows.
fn has_room(postgres: &Postgres, rows: u64) -> Result<(), String> {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(postgres.data_dir())
        .output()
        .map_err(|error| format!("df says nothing of the disk: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let free: u64 = said
        .split_whitespace()
        .last()
        .and_then(|free| free.parse().ok())
        .ok_or_else(|| format!("df says nothing of the disk: {said:?}"))?;
    let needed = rows * ROW_BYTES + BESIDES_BYTES;
    if free < needed {
        return Err(format!(
            "{rows} rows need {:.1} GB below {}, where {:.1} GB are free; SCALE_ROWS sets another number",
            needed as f64 / 1e9,
            postgres.data_dir().display(),
            free as f64 / 1e9
        ));
    }
    Ok(())
}

/// Makes the tables of `audit`, and fills them: each partition is filled before it is attached, so that its indexes are
/// built at once, and in the transaction that makes it, so that it need not be logged.
fn fill(postgres: &mut Postgres, runtime: &Runtime, parts: Parts, rows: u64) {
    migrate(&postgres.socket_url(), runtime, parts);
    let begun = Instant::now();
    for setting in ["wal_level = minimal", "max_wal_senders = 0"] {
        postgres.psql(&format!("ALTER SYSTEM SET {setting}"));
    }
    postgres.restart();
    let filling = async {
        for part in 0..parts.number {
            fill_part(&postgres.socket_url(), parts, part, rows / parts.number).await?;
        }
        let mut connection = PgConnection::connect(&postgres.socket_url()).await?;
        connection.execute("ANALYZE").await?;
        connection.close().await
    };
    runtime.block_on(filling).expect("the tables can be filled");
    postgres.psql("ALTER SYSTEM RESET ALL");
    postgres.restart();
    let megabytes = |what: &str| {
        let bytes = postgres.psql(&format!(
            "SELECT sum({what}(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit.query_runs'::regclass"
        ));
        bytes.parse::<f64>().unwrap_or(0.0) / 1e6
    };
    println!(
        "filled with {rows} rows in {:.0} s: {:.0} MB of rows, {:.0} bytes each, and {:.0} MB of indexes, over {} partitions of a {}",
        begun.elapsed().as_secs_f64(),
        megabytes("pg_table_size"),
        megabytes("pg_table_size") * 1e6 / rows as f64,
        megabytes("pg_indexes_size"),
        parts.number,
        parts.interval,
    );
}

/// Makes the tables with partitions of that length.
fn migrate(url: &str, runtime: &Runtime, parts: Parts) {
    tracing_audit::migrate(url).expect("the tables can be made");
    let set = async {
        let mut connection = PgConnection::connect(url).await?;
        for table in ["query_runs", "prompt_runs", "events", "activities"] {
            sqlx::query("SELECT audit.set_partition_interval($1, $2, 'bench')")
                .bind(table)
                .bind(parts.interval)
                .execute(&mut connection)
                .await?;
        }
        connection.close().await
    };
    runtime.block_on(set).expect("the interval can be set");
}

/// Makes a partition with so many rows in it; number 0 is the earliest.
async fn fill_part(url: &str, parts: Parts, part: u64, rows: u64) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let mut transaction = connection.begin().await?;
    let back = parts.number - 1 - part;
    let interval = parts.interval;
    transaction.execute("SET LOCAL timezone = 'UTC'").await?;
    let (name, from, to): (String, String, String) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT audit.leaf_name('query_runs', at, at + interval '1 {interval}'), at::text, (at + interval '1 {interval}')::text
         FROM (SELECT date_trunc('{interval}', now()) - interval '{back} {interval}' AS at) AS part"
    )))
    .fetch_one(&mut *transaction)
    .await?;
    let leaf = format!("audit_parts.{name}");
    transaction
        .execute(AssertSqlSafe(format!(
            "CREATE TABLE {leaf} (LIKE audit.query_runs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)"
        )))
        .await?;
    let texts = |text: fn(&traffic::Asked) -> &'static str| QUESTIONS.iter().map(text).collect();
    let (questions, statements, summaries): (Vec<_>, Vec<_>, Vec<_>) = (
        texts(|asked| asked.question),
        texts(|asked| asked.sql),
        texts(|asked| asked.summary),
    );
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO {leaf} (id, tenant_id, user_id, user_role, request_id, trace_id, span_id, service_name,
             datasource_id, question_text, sql_text, sql_summary, row_count, status, started_at, finished_at,
             duration_ms, metadata, writer_id, seq, salt)
         SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid,
             {TENANT_OF_REQUEST}, 'ana.petrova@example.com', 'analyst', md5(request::text), md5(request::text),
             substr(hash, 1, 16), 'bench', $6::uuid, ($3::text[])[1 + n % 8], left(($4::text[])[1 + n % 8], 120),
             ($5::text[])[1 + n % 8], n % 1000, 'succeeded', at, at + interval '30 ms', 30,
             jsonb_build_object('dialect', 'postgresql', 'bytes_read', n), md5('writer')::uuid, n, decode(hash, 'hex')
         FROM (SELECT n, n / {OF_REQUEST} AS request, md5((-n)::text) AS hash,
                 '{from}'::timestamptz + (least(now(), '{to}') - '{from}'::timestamptz) * ((n - $1)::float8 / ($2 - $1)) AS at
             FROM generate_series($1::bigint, $2::bigint - 1) AS n) AS row"
    )))
    .bind(i64::try_from(part * rows).expect("few"))
    .bind(i64::try_from((part + 1) * rows).expect("few"))
    .bind::<Vec<&str>>(questions)
    .bind::<Vec<&str>>(statements)
    .bind::<Vec<&str>>(summaries)
    .bind(traffic::DATASOURCE)
    .execute(&mut *transaction)
    .await?;
    for statement in [
        format!(
            "ALTER TABLE {leaf} ADD CONSTRAINT {name}_time CHECK (started_at >= '{from}' AND started_at < '{to}')"
        ),
        format!("SELECT audit.make_leaf_safe('{leaf}')"),
        format!(
            "ALTER TABLE audit.query_runs ATTACH PARTITION {leaf} FOR VALUES FROM ('{}') TO ('{}')",
            id_at(&mut transaction, &from).await?,
            id_at(&mut transaction, &to).await?
        ),
        format!(
            "SELECT audit.ensure_partition('prompt_runs', '{from}'), audit.ensure_partition('events', '{from}')"
        ),
    ] {
        transaction.execute(AssertSqlSafe(statement)).await?;
    }
    transaction.commit().await?;
    connection.close().await
}

/// One of a hundred tenants.
const TENANT_OF_REQUEST: &str =
    "('0b9e6c1d-38f4-4a57-8d2c-' || lpad(to_hex(request % 100), 12, '0'))::uuid";

async fn id_at(connection: &mut PgConnection, moment: &str) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT audit.id_at($1::timestamptz)::text")
        .bind(moment)
        .fetch_one(connection)
        .await
}

/// Looks for requests chosen at random, and prints how long that took.
fn lookups(postgres: &Postgres, runtime: &Runtime, parts: Parts, rows: u64) {
    let times = if benches::is_short() { 100 } else { 1_000 };
    // The first request of a partition may have begun in the one before.
    let requests = rows / parts.number * parts.number / OF_REQUEST - 1;
    println!();
    benches::row(
        "milliseconds to a request's story",
        &["median", "99 %", "slowest", "the first", "requests"].map(str::to_owned),
    );
    for (name, role, there) in READERS {
        let mut took = runtime
            .block_on(stories(
                &postgres.socket_url(),
                role,
                there,
                requests,
                times,
            ))
            .expect("the trail can be read");
        // A new connection reads first what there is, of all partitions.
        let first = took.remove(0);
        took.sort_by(f64::total_cmp);
        let cells = [took.len() / 2, took.len() * 99 / 100, took.len() - 1]
            .map(|index| took[index])
            .into_iter()
            .chain([first])
            .map(|took| format!("{took:.2}"))
            .chain([took.len().to_string()])
            .collect::<Vec<_>>();
        benches::row(name, &cells);
        if name == READERS[0].0 {
            benches::write_figures("scale_lookup", &[("median ms", took[took.len() / 2])]);
        }
    }
    for (name, role, there) in READERS.iter().filter(|(.., there)| *there == VIEW) {
        let plan = postgres.psql(&format!(
            "SET ROLE {role}; SET app.current_tenant = '{}'; EXPLAIN (COSTS OFF) {}",
            traffic::TENANT,
            story(there).replace("$1", "md5('1')")
        ));
        let yes_or_no = |what: &str| if plan.contains(what) { "yes" } else { "no" };
        let count = |what: &str| plan.lines().filter(|line| line.contains(what)).count();
        println!(
            "plan of {name}: {} scans of indexes by request_id, {} by tenant_id, {} of whole tables; parallel workers: {}, JIT: {}",
            count("_request_id_tenant_id_idx"),
            count("_tenant_id_id_idx"),
            count("Seq Scan"),
            yes_or_no("Workers Planned"),
            yes_or_no("JIT:"),
        );
    }
}

/// The milliseconds that it took to read each of so many requests, each by a statement that is planned anew.
async fn stories(
    url: &str,
    role: &str,
    there: &str,
    requests: u64,
    times: u64,
) -> sqlx::Result<Vec<f64>> {
    let mut connection = PgConnection::connect(url).await?;
    let mut took = Vec::new();
    connection
        .execute(AssertSqlSafe(format!("SET ROLE {role}")))
        .await?;
    let story = story(there);
    let until = Instant::now() + LOOKUPS_TAKE;
    for time in 0..=times {
        if Instant::now() > until && took.len() > 2 {
            break;
        }
        let request = random(time) % requests;
        let (request_id, _): (String, String) = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT md5(request::text), set_config('app.current_tenant', {TENANT_OF_REQUEST}::text, false)
             FROM (SELECT {request} AS request) AS r"
        )))
        .persistent(false)
        .fetch_one(&mut connection)
        .await?;
        let begun = Instant::now();
        let found = sqlx::query(AssertSqlSafe(&*story))
            .bind(request_id)
            .persistent(false)
            .fetch_all(&mut connection)
            .await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(
            found.len() as u64,
            OF_REQUEST,
            "request {request} has its rows"
        );
    }
    connection.close().await?;
    Ok(took)
}

/// A number that looks random (`splitmix64`).
fn random(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Runs the pipeline into both databases in turn, and prints how many records a second came in.
fn rates(postgres: &Postgres, runtime: &Runtime, parts: Parts, rows: u64) {
    let spans = if benches::is_short() { 20_000 } else { 200_000 };
    let spool = benches::Folder::new();
    let urls = [
        postgres
            .socket_url()
            .replace("/audit?", &format!("/{EMPTY}?")),
        postgres.socket_url(),
    ];
    let mut run = 0;
    let rates = benches::alternate(&CASES, |(_, is_full, is_ascending)| {
        runtime
            .block_on(empty(&postgres.url_of("postgres")))
            .expect("the database can be made anew");
        migrate(&urls[0], runtime, parts);
        postgres.psql("CHECKPOINT");
        run += 1;
        let request_id = |request: u64| match is_ascending {
            true => format!("{run:016x}{request:016x}"),
            false => format!("{:016x}{:016x}", random(request), random(run)),
        };
        let url = &urls[usize::from(*is_full)];
        let audit = Audit::builder()
            .postgres(url)
            .spool(&spool.0)
            .start()
            .expect("the pipeline starts");
        spans as f64 / trail(&audit, spans, request_id).as_secs_f64()
    });
    println!();
    benches::row(
        &format!("records a second, full is {rows} rows"),
        &["median", "quartiles", "full / empty"].map(str::to_owned),
    );
    for (index, (name, is_full, _)) in CASES.iter().enumerate() {
        let mut cells = vec![
            format!("{:.0}", benches::median(&rates[index])),
            benches::quartiles(&rates[index]),
        ];
        if *is_full {
            let ratio =
                benches::paired(&rates[index], &rates[index - 1], |full, empty| full / empty);
            cells.push(format!("{ratio:.2}"));
        }
        benches::row(name, &cells);
    }
    println!(
        "random / ascending request ids, which is what the index by request_id costs: empty {:.2}, full {:.2}",
        benches::paired(&rates[0], &rates[2], |random, ascending| random / ascending),
        benches::paired(&rates[1], &rates[3], |random, ascending| random / ascending),
    );
    let figures: Vec<_> = CASES
        .iter()
        .zip(&rates)
        .map(|((name, ..), rates)| (*name, benches::median(rates)))
        .collect();
    benches::write_figures("scale", &figures);
}

/// Makes the database without rows anew.
async fn empty(url: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {EMPTY} WITH (FORCE)"),
        format!("CREATE DATABASE {EMPTY}"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    connection.close().await
}

/// How long it takes from the first span to the last row's commit.
fn trail(audit: &Audit, spans: u64, request_id: impl Fn(u64) -> String) -> Duration {
    audit
        .record(Event::new("bench.started"))
        .expect("the queue has room");
    audit.flush_blocking(PATIENCE).expect("it is committed");
    let begun = Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(audit.layer()), || {
        for request in 0..spans / OF_REQUEST {
            let _request = traffic::request(&request_id(request)).entered();
            (0..5).for_each(traffic::query_run);
            while request % 64 == 0 && audit.stats().pending() > MAX_PENDING {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    audit.flush_blocking(PATIENCE).expect("all is committed");
    let took = begun.elapsed();
    benches::assert_all_committed(audit);
    took
}
