//! Postgres is away for a while, and spans keep coming: what memory that takes, and how fast the backlog drains
//! afterwards. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::time::{Duration, Instant};

use testkit::benches::{self, traffic};
use testkit::{Postgres, Stop};
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Spans a second while Postgres is away, and while the backlog drains.
const SPANS_A_SECOND: u32 = 5_000;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_hours(1);

fn main() {
    let outage = match std::env::var("OUTAGE_SECONDS").map(|seconds| seconds.parse()) {
        Ok(seconds) => Duration::from_secs(seconds.expect("OUTAGE_SECONDS is a number")),
        Err(_) if benches::is_short() => Duration::from_secs(5),
        Err(_) => Duration::from_mins(1),
    };
    let mut postgres = Postgres::start_with(&["shared_buffers=128MB", "max_wal_size=4GB"]);
    let spool = benches::Folder::new();
    let audit = Audit::builder()
        .postgres(postgres.url())
        .spool(&spool.0)
        .start()
        .expect("the pipeline starts");
    tracing_subscriber::registry().with(audit.layer()).init();
    let _request = traffic::request("r-1").entered();

    // Undisturbed: as fast as they are taken.
    let spans = u32::try_from(outage.as_secs()).unwrap_or(600) * SPANS_A_SECOND / 2;
    let begun = Instant::now();
    for n in 0..spans as usize {
        traffic::query_run(n);
        while n % 1_000 == 0 && audit.stats().pending() > 30_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    audit.flush_blocking(PATIENCE).expect("all is committed");
    let undisturbed = f64::from(spans) / begun.elapsed().as_secs_f64();

    postgres.stop(Stop::Fast);
    let before = resident_bytes();
    let mut most = before;
    at_rate(outage, |_| most = most.max(resident_bytes()));
    let backlog = audit.stats().pending();
    postgres.start_again();
    let committed = audit.stats().committed();
    let begun = Instant::now();
    // New spans keep coming until the backlog is gone.
    while audit.stats().pending() > u64::from(SPANS_A_SECOND) {
        at_rate(Duration::from_millis(100), |_| {
            most = most.max(resident_bytes());
        });
    }
    let drained = (audit.stats().committed() - committed) as f64 / begun.elapsed().as_secs_f64();
    audit.flush_blocking(PATIENCE).expect("all is committed");
    benches::assert_all_committed(&audit);
    println!(
        "Postgres away for {} s at {SPANS_A_SECOND} spans a second: a backlog of {backlog} records, none lost",
        outage.as_secs()
    );
    println!(
        "resident memory grew by {:.1} MB, from {:.1} MB",
        (most - before) as f64 / 1e6,
        before as f64 / 1e6
    );
    println!(
        "drained {drained:.0} records a second while new spans came, {:.2} of the {undisturbed:.0} undisturbed",
        drained / undisturbed
    );
}

/// Closes spans at the rate for so long; `each` is called every tenth of a second.
fn at_rate(time: Duration, mut each: impl FnMut(u32)) {
    let begun = Instant::now();
    let mut closed = 0;
    while begun.elapsed() < time {
        traffic::query_run(closed as usize);
        closed += 1;
        if closed % (SPANS_A_SECOND / 10) == 0 {
            each(closed);
        }
        let due = begun + Duration::from_secs(1) * closed / SPANS_A_SECOND;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// What the process has in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4_096
}
