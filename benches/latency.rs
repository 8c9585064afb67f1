//! How long it takes from a closed span to a row that others see. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use testkit::Postgres;
use testkit::benches::{self, traffic};
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() {
    let postgres = Postgres::start_with(&["shared_buffers=128MB"]);
    let urls = [
        ("Unix socket", postgres.socket_url()),
        ("TCP", postgres.url()),
    ];
    let rates = [10, 100, 1_000, 5_000];
    let cases: Vec<_> = urls
        .iter()
        .flat_map(|(name, url)| rates.map(|rate| (*name, url, rate)))
        .collect();
    let mut slowest = vec![Vec::new(); cases.len()];
    let medians = benches::alternate(&(0..cases.len()).collect::<Vec<_>>(), |&index| {
        let (_, url, rate) = cases[index];
        let took = visible_after(url, rate);
        slowest[index].push(took[took.len() * 99 / 100]);
        benches::median(&took)
    });
    println!("\nmilliseconds from a closed span to a visible row, default settings");
    benches::row(
        "spans a second",
        &["p50", "quartiles", "p99"].map(str::to_owned),
    );
    for ((name, _, rate), (medians, slowest)) in cases.iter().zip(medians.iter().zip(&slowest)) {
        let cells = [
            format!("{:.0}", benches::median(medians)),
            benches::quartiles(medians),
            format!("{:.0}", benches::median(slowest)),
        ];
        benches::row(&format!("{rate}, {name}"), &cells);
    }
}

/// Closes spans at a rate for some seconds; returns after how many milliseconds each was seen by another connection.
fn visible_after(url: &str, rate: u32) -> Vec<f64> {
    let seconds = if benches::is_short() { 1 } else { 4 };
    let spans = (rate * seconds).max(20) as usize;
    let spool = benches::Folder::new();
    let audit = Audit::builder()
        .postgres(url)
        .spool(&spool.0)
        .start()
        .expect("the pipeline starts");
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        let _request = traffic::request("r-1").entered();
        traffic::query_run(0);
        audit.flush_blocking(PATIENCE).expect("it is committed");
    });
    let (send, closed) = std::sync::mpsc::channel();
    let mut seen = Vec::with_capacity(spans);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let subscriber = tracing_subscriber::registry().with(audit.layer());
            tracing::subscriber::with_default(subscriber, || {
                let _request = traffic::request("r-1").entered();
                let begun = Instant::now();
                for n in 0..spans {
                    let due =
                        begun + Duration::from_secs(1) * u32::try_from(n).expect("few") / rate;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    traffic::query_run(n);
                    send.send(Instant::now()).expect("they are looked for");
                }
            });
            drop(send);
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime can be made").block_on(async {
            let mut reader = PgConnection::connect(url).await.expect("Postgres answers");
            let writer: sqlx::types::Uuid = sqlx::query_scalar(
                "SELECT writer_id FROM audit.batches ORDER BY committed_at DESC LIMIT 1",
            )
            .fetch_one(&mut reader)
            .await
            .expect("there is a batch");
            while seen.len() < spans {
                let last: i64 = sqlx::query_scalar(
                    "SELECT max(last_seq) FROM audit.batches WHERE writer_id = $1",
                )
                .bind(writer)
                .fetch_one(&mut reader)
                .await
                .expect("the batches can be read");
                let now = Instant::now();
                // The first record was there before.
                while i64::try_from(seen.len()).is_ok_and(|seen| seen < last - 1) {
                    let closed = closed.recv().expect("it was closed before it was seen");
                    seen.push(now.saturating_duration_since(closed).as_secs_f64() * 1e3);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    seen.sort_by(f64::total_cmp);
    seen
}
