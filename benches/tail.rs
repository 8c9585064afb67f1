//! The slowest spans of many: how long the thread that opens and closes one can be held up. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use testkit::Postgres;
use testkit::benches::peers::Host;
use testkit::benches::{self, traffic, watch};

/// As a process opens and closes them: bursts of 200 with pauses between.
const SPANS_A_SECOND: u32 = 40_000;

const ROUNDS: u32 = 10;

const QUANTILES: [f64; 5] = [0.5, 0.99, 0.999, 0.999_9, 1.0];

/// Of a slower span it is looked up whether its thread lost the core meanwhile.
const SLOW: Duration = Duration::from_micros(5);

/// How many spans are opened before it is looked up anew: a burst.
const BURST: usize = 200;

/// How many nanoseconds spans took.
struct Times {
    /// Those whose thread kept its core.
    kept: Histogram<u64>,
    /// Those whose thread had to wait for one.
    lost: Histogram<u64>,
}

impl Times {
    fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are possible");
        Self {
            kept: histogram(),
            lost: histogram(),
        }
    }

    fn add(&mut self, nanos: u64, count: u64, is_kept: bool) {
        if is_kept {
            &mut self.kept
        } else {
            &mut self.lost
        }
        .record_n(nanos, count)
        .expect("it grows");
    }

    fn all(&self) -> Histogram<u64> {
        let mut all = self.kept.clone();
        all.add(&self.lost).expect("it grows");
        all
    }
}

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
        Err(_) if benches::is_short() => 100_000_u32,
        Err(_) => 10_000_000,
    };
    let rounds = if benches::is_short() { 1 } else { ROUNDS };
    let postgres = Postgres::start_with(&["shared_buffers=128MB", "max_wal_size=4GB"]);
    let spool = benches::Folder::new();
    let mut times = Host::ALL.map(|_| Times::new());
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
                let numbers: Vec<u64> = line
                    .split(' ')
                    .map(|number| number.parse().expect("a number"))
                    .collect();
                times[index].add(numbers[0], numbers[1], numbers[2] != 0);
            }
        }
        println!("round {round} of {rounds}");
    }
    print(&times, spans);
}

fn print(times: &[Times; 3], spans: u32) {
    println!();
    let head = ["p50", "p99", "p99.9", "p99.99", "slowest"].map(str::to_owned);
    benches::row(
        &format!("µs of a span, {spans} at {SPANS_A_SECOND} a second"),
        &head,
    );
    let at = |histogram: &Histogram<u64>| {
        QUANTILES.map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3)
    };
    let line = |label: &str, figures: [f64; 5]| {
        benches::row(label, &figures.map(|figure| format!("{figure:.1}")));
    };
    for (host, times) in Host::ALL.iter().zip(times) {
        line(host.name(), at(&times.all()));
    }
    println!();
    let bare = at(&times[0].all());
    for (host, times) in Host::ALL.iter().zip(times).skip(1) {
        let figures = at(&times.all());
        line(
            &format!("{}, ratio", host.name()),
            [0, 1, 2, 3, 4].map(|index| figures[index] / bare[index]),
        );
    }
    println!("\nOnly those whose thread kept its core");
    for (host, times) in Host::ALL.iter().zip(times) {
        line(host.name(), at(&times.kept));
    }
    let p9999: Vec<_> = Host::ALL
        .iter()
        .zip(times)
        .map(|(host, times)| (host.name(), at(&times.all())[3]))
        .collect();
    benches::write_figures("tail", &p9999);
}

/// Opens and closes so many spans, and prints how many took how long: nanoseconds, their count, and whether the thread kept
/// its core.
fn run(host: Host, spans: u32, url: &str, spool: &str) {
    let installed = host.install(url, spool);
    let mut times = Times::new();
    let request = traffic::request(traffic::REQUESTS[0]).entered();
    traffic::at_rate(SPANS_A_SECOND, SPANS_A_SECOND / 5, traffic::query_run);
    let mut waited = None;
    traffic::at_rate(SPANS_A_SECOND, spans, |n| {
        if n % BURST == 0 {
            waited = watch::time_waited();
        }
        let begun = Instant::now();
        traffic::query_run(n);
        let took = begun.elapsed();
        let before = waited;
        if took > SLOW {
            waited = watch::time_waited();
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        times.add(nanos, 1, waited == before);
    });
    drop(request);
    installed.finish(spans as usize);
    for (histogram, is_kept) in [(&times.kept, 1), (&times.lost, 0)] {
        for value in histogram.iter_recorded() {
            println!(
                "{} {} {is_kept}",
                value.value_iterated_to(),
                value.count_at_value()
            );
        }
    }
}
