//! Many processes that write to one server: how many connections it has, and how soon a closed span is a visible row.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::{Connection as _, PgConnection, Row as _};
use testkit::benches::{self, traffic, watch};
use testkit::{Pgbouncer, Postgres};
use tokio::runtime::Runtime;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// What each process records in a second.
const RATE: u32 = 10;

/// How often the server is asked what is visible.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Of so many of these looks, one counts the connections.
const COUNT_EVERY: usize = 20;

/// The first and the last seconds do not count: the processes start with what they wrote before, and end with a flush.
const MARGIN: Duration = Duration::from_secs(2);

/// The most connections that the pooler opens.
const POOL: u32 = 20;

/// How old batches become that have a connection each.
const OLDER: Duration = Duration::from_millis(500);

/// How the processes write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// tracing-audit as it comes.
    Audit,
    /// The same with [older batches](OLDER).
    AuditOlder,
    /// The same with older batches, and a connection for each of them.
    AuditBriefly,
    /// A statement for each record, in a transaction of its own.
    Insert,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::AuditOlder => "audit-older",
            Self::AuditBriefly => "audit-briefly",
            Self::Insert => "insert",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Audit => "tracing-audit",
            Self::AuditOlder => "batches of 500 ms",
            Self::AuditBriefly => "the same, a connection each",
            Self::Insert => "INSERT of one row",
        }
    }
}

/// A way to write, and whether a pooler is between.
const CASES: [(Way, bool); 5] = [
    (Way::Audit, false),
    (Way::Audit, true),
    (Way::AuditOlder, true),
    (Way::AuditBriefly, false),
    (Way::Insert, false),
];

/// What the table of the peer has of a record.
const PEER_TABLE: &str = "CREATE TABLE peer (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), request_id text, tenant_id uuid, \
     question_text text, sql_text text, sql_summary text, datasource_id uuid, user_id text, user_role text, row_count int, \
     status text, finished_at timestamptz NOT NULL); CREATE INDEX ON peer (request_id); CREATE INDEX ON peer (tenant_id, id)";

/// What a run of all processes has shown.
#[derive(Debug)]
struct Figures {
    /// The connections at the server, whenever they were counted.
    connections: Vec<f64>,
    /// Milliseconds from a record's close to its visibility.
    visible: Vec<f64>,
    /// Transactions that wrote records, a second.
    batches: f64,
    /// Cores that the server took, the pooler, and the processes.
    cores: [f64; 3],
}

pub(crate) fn run() {
    let processes = match std::env::var("PROCESSES").map(|count| count.replace('_', "").parse()) {
        Ok(count) => count.expect("PROCESSES is a number"),
        Err(_) if benches::is_short() => 8_usize,
        // A process takes half a per cent of a core, and the server three times as much for it.
        Err(_) => (std::thread::available_parallelism().map_or(1, usize::from) * 50).min(1_000),
    };
    let settings = [
        "shared_buffers=128MB".to_owned(),
        "max_wal_size=4GB".to_owned(),
        format!("max_connections={}", processes + 50),
    ];
    let postgres = Postgres::start_with(&settings.each_ref().map(String::as_str));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    println!("\n{processes} processes, {RATE} records a second each");
    let columns = [
        "connections",
        "p50",
        "visible p50",
        "p99, ms",
        "max, ms",
        "batches / s",
        "cores server",
        "pooler",
        "processes",
    ];
    benches::row("", &columns.map(str::to_owned));
    for (way, is_pooled) in CASES {
        if is_pooled && !Pgbouncer::is_installed() {
            println!("{}: left out, there is no pgbouncer", way.name());
            continue;
        }
        let pooler = is_pooled.then(|| Pgbouncer::start(&postgres, POOL));
        let url = pooler
            .as_ref()
            .map_or_else(|| postgres.url(), Pgbouncer::url);
        let pids = [Some(postgres.pid()), pooler.as_ref().map(Pgbouncer::pid)];
        print(
            way,
            is_pooled,
            &measure(&runtime, &postgres, way, &url, processes, pids),
        );
    }
}

fn print(way: Way, is_pooled: bool, figures: &Figures) {
    let Figures {
        connections,
        visible,
        ..
    } = figures;
    let at = |per_mille: usize| visible[(visible.len() - 1) * per_mille / 1_000];
    let most = connections.iter().copied().fold(0.0, f64::max);
    let cells = [
        format!("{most:.0}"),
        format!("{:.0}", benches::median(connections)),
        format!("{:.0}", at(500)),
        format!("{:.0}", at(990)),
        format!("{:.0}", at(1_000)),
        format!("{:.0}", figures.batches),
        format!("{:.2}", figures.cores[0]),
        format!("{:.2}", figures.cores[1]),
        format!("{:.2}", figures.cores[2]),
    ];
    let through = if is_pooled { ", pgbouncer" } else { "" };
    benches::row(&format!("{}{through}", way.name()), &cells);
}

fn seconds() -> u32 {
    if benches::is_short() { 5 } else { 15 }
}

/// Starts the processes, and returns when each has a record in Postgres.
fn start(way: Way, url: &str, spool: &Path, processes: usize) -> Vec<Child> {
    let mut members: Vec<Child> = Vec::new();
    for number in 0..processes {
        let phase = 1_000_000 / u64::from(RATE) * number as u64 / processes as u64;
        let mut member = Command::new(std::env::current_exe().expect("this program has a path"));
        member
            .args(["--member", way.word(), url])
            .arg(spool.join(number.to_string()))
            .arg(phase.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        members.push(member.spawn().expect("this program can be started again"));
        // A few at a time.
        if number >= 20 {
            assert_eq!(line(&mut members[number - 20]), "ready");
        }
    }
    for member in members.iter_mut().skip(processes.saturating_sub(20)) {
        assert_eq!(line(member), "ready");
    }
    members
}

/// Lets all processes record for some time.
fn measure(
    runtime: &Runtime,
    postgres: &Postgres,
    way: Way,
    url: &str,
    processes: usize,
    pids: [Option<u32>; 2],
) -> Figures {
    let spool = benches::Folder::new();
    if way == Way::Insert {
        postgres.psql(&format!("DROP TABLE IF EXISTS peer; {PEER_TABLE}"));
    }
    let mut members = start(way, url, &spool.0, processes);
    let from = now_us() + 1_000_000;
    for member in &mut members {
        let stdin = member.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{from}").expect("the process waits for it");
    }
    let is_over = AtomicBool::new(false);
    let (looks, connections, cores) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let url = postgres.url();
            let looking = look(&url, &is_over);
            runtime
                .expect("a runtime can be made")
                .block_on(looking)
                .expect("Postgres answers")
        });
        let sleep_until = |at_us: u64| {
            std::thread::sleep(Duration::from_micros(at_us.saturating_sub(now_us())));
        };
        let margin = u64::try_from(MARGIN.as_micros()).expect("few");
        sleep_until(from + margin);
        let (since, before) = (Instant::now(), cpu(pids));
        sleep_until(from + u64::from(seconds()) * 1_000_000 - margin);
        // On a busy machine some time after it was due.
        let (span, after) = (since.elapsed().as_secs_f64(), cpu(pids));
        let mut of_processes = 0.0;
        for member in &mut members {
            let said = line(member);
            of_processes += said
                .parse::<f64>()
                .unwrap_or_else(|_| panic!("a process says its CPU, not {said}"));
            assert!(member.wait().expect("it ends").success());
        }
        is_over.store(true, Ordering::Relaxed);
        let (looks, connections) = looking.join().expect("the looks do not fail");
        let cores = [
            (after[0] - before[0]) / span,
            (after[1] - before[1]) / span,
            of_processes / f64::from(seconds()),
        ];
        (looks, connections, cores)
    });
    let connections = connections
        .into_iter()
        .filter(|(at, _)| (from..from + u64::from(seconds()) * 1_000_000).contains(at))
        .map(|(_, count)| count)
        .collect();
    let rows = runtime
        .block_on(rows(&postgres.url(), way, from))
        .expect("the rows can be read");
    let expected = processes * (RATE * seconds()) as usize;
    assert_eq!(rows.len(), expected, "each record is a row");
    let counted = from + 2_000_000..from + (u64::from(seconds()) - 2) * 1_000_000;
    let mut transactions: Vec<_> = rows
        .iter()
        .filter(|(_, closed)| counted.contains(closed))
        .map(|(id, _)| *id)
        .collect();
    transactions.sort_unstable();
    transactions.dedup();
    let mut visible: Vec<_> = rows
        .iter()
        .filter(|(_, closed)| counted.contains(closed))
        .map(|(id, closed)| {
            let seen = looks.partition_point(|look| !look.shows(*id));
            let seen = looks
                .get(seen)
                .expect("it was looked until all was visible");
            seen.at_us.saturating_sub(*closed) as f64 / 1e3
        })
        .collect();
    visible.sort_by(f64::total_cmp);
    Figures {
        connections,
        visible,
        batches: transactions.len() as f64 / (f64::from(seconds()) - 4.0),
        cores,
    }
}

/// Reads a line that a process prints.
fn line(member: &mut Child) -> String {
    let mut line = String::new();
    // It prints little: what the buffer takes beyond a line is not there yet.
    let mut stdout = BufReader::with_capacity(1, member.stdout.as_mut().expect("it is piped"));
    stdout.read_line(&mut line).expect("it prints text");
    line.trim_end().to_owned()
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("it is after 1970").as_micros()).expect("it fits")
}

/// Which transactions were visible at some time.
#[derive(Debug)]
struct Look {
    /// When the answer was there.
    at_us: u64,
    /// Transactions from this one on had not begun.
    next: i64,
    /// Transactions before it that were not committed.
    running: Vec<i64>,
}

impl Look {
    fn shows(&self, transaction: i64) -> bool {
        transaction < self.next && self.running.binary_search(&transaction).is_err()
    }
}

/// Looks which transactions are visible, and how many connections there are besides.
async fn look(url: &str, is_over: &AtomicBool) -> sqlx::Result<(Vec<Look>, Vec<(u64, f64)>)> {
    let mut reader = PgConnection::connect(url).await?;
    let (mut looks, mut connections) = (Vec::new(), Vec::new());
    let mut is_last = false;
    while !is_last {
        is_last = is_over.load(Ordering::Relaxed);
        let snapshot: String = sqlx::query_scalar("SELECT pg_current_snapshot()::text")
            .fetch_one(&mut reader)
            .await?;
        let at_us = now_us();
        let mut parts = snapshot.split(':').skip(1);
        let next = parts
            .next()
            .and_then(|next| next.parse().ok())
            .expect("a snapshot has its end");
        let running = parts.next().unwrap_or_default().split(',');
        let running = running.filter_map(|id| id.parse().ok()).collect();
        looks.push(Look {
            at_us,
            next,
            running,
        });
        if looks.len() % COUNT_EVERY == 1 {
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            .fetch_one(&mut reader)
            .await?;
            connections.push((at_us, count as f64));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok((looks, connections))
}

/// The records that were closed since: the transaction that wrote each, and when it was closed.
async fn rows(url: &str, way: Way, since_us: u64) -> sqlx::Result<Vec<(i64, u64)>> {
    let mut reader = PgConnection::connect(url).await?;
    let table = match way {
        Way::Insert => "peer",
        _ => "audit.query_runs",
    };
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT xmin::text::bigint, (extract(epoch FROM finished_at) * 1000000)::bigint FROM {table} \
         WHERE finished_at >= to_timestamp($1::float8 / 1000000)"
    )))
    .bind(since_us as f64)
    .fetch_all(&mut reader)
    .await?;
    let us = |us: i64| u64::try_from(us).expect("it is after 1970");
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, us(row.try_get(1)?))))
        .collect()
}

/// The seconds of CPU that the server and the pooler have had, each with the processes that they started.
fn cpu(pids: [Option<u32>; 2]) -> [f64; 2] {
    pids.map(|pid| pid.map_or(0.0, cpu_of))
}

fn cpu_of(pid: u32) -> f64 {
    /// As Linux counts it for programs.
    const TICKS_A_SECOND: f64 = 100.0;
    let parent = pid.to_string();
    let ticks: u64 = fs::read_dir("/proc")
        .expect("Linux says what the processes do")
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .map(|stat| {
            let (own, rest) = stat.split_once(" (").unwrap_or_default();
            let (_, rest) = rest.rsplit_once(") ").unwrap_or_default();
            let fields: Vec<_> = rest.split(' ').collect();
            let number = |field: usize| {
                fields
                    .get(field)
                    .and_then(|field| field.parse().ok())
                    .unwrap_or(0)
            };
            // User and system time, its own and that of its children that have ended.
            if own == parent {
                (11..15).map(number).sum()
            } else if fields.get(1) == Some(&parent.as_str()) {
                number(11) + number(12)
            } else {
                0
            }
        })
        .sum();
    ticks as f64 / TICKS_A_SECOND
}

/// The seconds of CPU that the threads of this process have had.
fn own_cpu() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux says what the threads do");
    threads
        .filter_map(|thread| watch::run_time(&thread.ok()?.path().join("schedstat")))
        .map(|ran| ran.as_secs_f64())
        .sum()
}

/// Is one of the processes.
pub(crate) fn member(way: &str, url: &str, spool: &str, phase_us: &str) {
    let phase: u64 = phase_us.parse().expect("a number");
    match way {
        "insert" => insert(url, phase),
        _ => audit(way, url, spool, phase),
    }
}

/// Says that the process is ready, waits for the start, and acts at the rate.
fn at_rate(phase_us: u64, mut act: impl FnMut(usize)) {
    println!("ready");
    let mut from = String::new();
    std::io::stdin()
        .read_line(&mut from)
        .expect("the parent says when to start");
    let from: u64 = from.trim().parse().expect("the parent says when to start");
    for n in 0..(RATE * seconds()) as usize {
        let due = from + phase_us + n as u64 * 1_000_000 / u64::from(RATE);
        std::thread::sleep(Duration::from_micros(due.saturating_sub(now_us())));
        act(n);
    }
}

fn audit(way: &str, url: &str, spool: &str, phase_us: u64) {
    let mut builder = Audit::builder().postgres(url).spool(spool);
    if way != Way::Audit.word() {
        builder = builder.batch(5_000, OLDER);
    }
    if way == Way::AuditBriefly.word() {
        builder = builder.keep_connection(Duration::ZERO);
    }
    let audit = builder.start().expect("the pipeline starts");
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let mut before = 0.0;
    tracing::subscriber::with_default(subscriber, || {
        let _request = traffic::request(traffic::REQUESTS[0]).entered();
        traffic::query_run(0);
        audit
            .flush_blocking(PATIENCE)
            .expect("the first record is committed");
        at_rate(phase_us, |n| {
            if n == 0 {
                before = own_cpu();
            }
            traffic::query_run(n);
        });
    });
    audit
        .flush_blocking(PATIENCE)
        .expect("the records are committed");
    benches::assert_all_committed(&audit);
    println!("{}", own_cpu() - before);
}

fn insert(url: &str, phase_us: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    let (send, closed) = tokio::sync::mpsc::unbounded_channel();
    let (inserted, first) = std::sync::mpsc::channel();
    let url = url.to_owned();
    let writing = std::thread::spawn(move || runtime.block_on(insert_all(&url, closed, inserted)));
    let record = |n| send.send((n, now_us())).expect("the connection is open");
    record(0);
    if first.recv().is_err() {
        let ended = writing.join().expect("the thread ends");
        panic!("the first record is not committed: {ended:?}");
    }
    let mut before = 0.0;
    at_rate(phase_us, |n| {
        if n == 0 {
            before = own_cpu();
        }
        record(n);
    });
    drop(send);
    writing
        .join()
        .expect("the thread ends")
        .expect("the records are inserted");
    println!("{}", own_cpu() - before);
}

/// Inserts each record by itself.
async fn insert_all(
    url: &str,
    mut closed: tokio::sync::mpsc::UnboundedReceiver<(usize, u64)>,
    inserted: std::sync::mpsc::Sender<()>,
) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    while let Some((n, closed_us)) = closed.recv().await {
        let asked = &traffic::QUESTIONS[n % traffic::QUESTIONS.len()];
        sqlx::query(
            "INSERT INTO peer (request_id, tenant_id, question_text, sql_text, sql_summary, datasource_id, user_id, user_role, row_count, \
             status, finished_at) VALUES ($1, $2::text::uuid, $3, $4, $5, $6::text::uuid, $7, 'analyst', $8, 'succeeded', to_timestamp($9::float8 / 1000000))",
        )
        .bind(traffic::REQUESTS[0])
        .bind(traffic::TENANT)
        .bind(asked.question)
        .bind(asked.sql)
        .bind(asked.summary)
        .bind(traffic::DATASOURCE)
        .bind(traffic::USER)
        .bind(i32::try_from(n).unwrap_or(i32::MAX))
        .bind(closed_us as f64)
        .execute(&mut connection)
        .await?;
        // Only the first is waited for.
        let _ = inserted.send(());
    }
    Ok(())
}
