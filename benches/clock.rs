//! What two looks at a clock cost, as a record takes them: at its beginning and at its end. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[allow(dead_code, unused_imports, reason = "the bench uses a part of it")]
#[path = "../src/clock/mod.rs"]
mod clock;

use std::hint::black_box;
use std::time::{Duration, Instant};

use testkit::benches;

/// Pairs of looks that are timed together.
const PAIRS: u32 = 200_000;

/// How long the processor's counter is looked for.
const WARM_UP: Duration = Duration::from_secs(1);

/// Two looks, and what is between them.
type Looks = fn() -> u64;

const CLOCKS: [(&str, Looks); 3] = [
    ("tracing-audit", || {
        let begun = clock::Moment::now();
        clock::Moment::now().since_us(begun)
    }),
    ("std::time::Instant", || {
        let begun = Instant::now();
        nanos(begun.elapsed())
    }),
    ("fastant::Instant, which fastrace uses", || {
        let begun = fastant::Instant::now();
        nanos(begun.elapsed())
    }),
];

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn main() {
    // As a worker does, until the counter is found and its line drawn.
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        let _ = clock::look();
        std::thread::sleep(Duration::from_millis(10));
    }
    let figures = benches::alternate(&CLOCKS, |(_, looks)| {
        let _ = clock::look();
        (0..PAIRS / 10).for_each(|_| {
            black_box(looks());
        });
        let begun = Instant::now();
        (0..PAIRS).for_each(|_| {
            black_box(looks());
        });
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS)
    });
    println!();
    benches::row(
        "ns for two looks",
        &["median", "quartiles", "/ ours"].map(str::to_owned),
    );
    for ((name, _), these) in CLOCKS.iter().zip(&figures) {
        let ratio = benches::paired(these, &figures[0], |this, ours| this / ours);
        let cells = [
            format!("{:.1}", benches::median(these)),
            benches::fine_quartiles(these),
            format!("{ratio:.2}"),
        ];
        benches::row(name, &cells);
    }
}
