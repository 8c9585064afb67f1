//! The slowest spans of many: how long the thread that opens and closes one can be held up. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

#[path = "../tests/support/mod.rs"]
mod server;
mod support;

use std::process::{Command, Stdio};
use std::time::Instant;

use hdrhistogram::Histogram;
use server::Postgres;
use support::peers::Host;
use support::traffic;

/// As a process opens and closes them: bursts of 200 with pauses between.
const SPANS_A_SECOND: u32 = 40_000;

const ROUNDS: u32 = 10;

const QUANTILES: [f64; 5] = [0.5, 0.99, 0.999, 0.999_9, 1.0];

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, child, host, spans, url, spool] = &arguments[..]
        && child == "--child"
    {
        let host = Host::ALL[host.parse::<usize>().expect("the parent gives an index")];
        run(host, spans.parse().expect("a number"), url, spool);
        return;
    }
    let spans = match std::env::var("TAIL_SPANS").map(|spans| spans.replace('_', "").parse()) {
        Ok(spans) => spans.expect("TAIL_SPANS is a number"),
        Err(_) if support::is_short() => 100_000_u32,
        Err(_) => 10_000_000,
    };
    let rounds = if support::is_short() { 1 } else { ROUNDS };
    let postgres = Postgres::start_with(&["shared_buffers=128MB", "max_wal_size=4GB"]);
    let spool = support::Folder::new();
    let mut histograms = Host::ALL.map(|_| histogram());
    for round in 1..=rounds {
        let mut order: Vec<_> = (0..Host::ALL.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for index in order {
            let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
            child
                .args(["--child", &index.to_string()])
                .args([&(spans / rounds).to_string(), &postgres.url()])
                .arg(&spool.0)
                .stderr(Stdio::inherit());
            let output = child.output().expect("this program can be started again");
            assert!(output.status.success(), "{child:?}: {}", output.status);
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let (value, count) = line.split_once(' ').expect("two numbers");
                histograms[index]
                    .record_n(
                        value.parse().expect("a number"),
                        count.parse().expect("a number"),
                    )
                    .expect("it is within the bounds");
            }
        }
        println!("round {round} of {rounds}");
    }
    print(&histograms, spans);
}

fn print(histograms: &[Histogram<u64>; 3], spans: u32) {
    println!();
    let head = ["p50", "p99", "p99.9", "p99.99", "slowest"].map(str::to_owned);
    support::row(
        &format!("µs of a span, {spans} at {SPANS_A_SECOND} a second"),
        &head,
    );
    let at = |histogram: &Histogram<u64>| {
        QUANTILES.map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3)
    };
    for (host, histogram) in Host::ALL.iter().zip(histograms) {
        support::row(
            host.name(),
            &at(histogram).map(|micros| format!("{micros:.1}")),
        );
    }
    let bare = at(&histograms[0]);
    for (host, histogram) in Host::ALL.iter().zip(histograms).skip(1) {
        let figures = at(histogram);
        let ratios = [0, 1, 2, 3, 4].map(|index| format!("{:.1}", figures[index] / bare[index]));
        support::row(&format!("{}, ratio", host.name()), &ratios);
    }
    let p9999: Vec<_> = Host::ALL
        .iter()
        .zip(histograms)
        .map(|(host, histogram)| (host.name(), at(histogram)[3]))
        .collect();
    support::write_figures("tail", &p9999);
}

/// Nanoseconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

/// Opens and closes so many spans, and prints how many took how long.
fn run(host: Host, spans: u32, url: &str, spool: &str) {
    let installed = host.install(url, spool);
    let mut histogram = histogram();
    let request = traffic::request(traffic::REQUESTS[0]).entered();
    traffic::at_rate(SPANS_A_SECOND, SPANS_A_SECOND / 5, traffic::query_run);
    traffic::at_rate(SPANS_A_SECOND, spans, |n| {
        let begun = Instant::now();
        traffic::query_run(n);
        let took = begun.elapsed();
        histogram
            .record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
            .expect("it grows");
    });
    drop(request);
    installed.finish(spans as usize);
    for value in histogram.iter_recorded() {
        println!("{} {}", value.value_iterated_to(), value.count_at_value());
    }
}
