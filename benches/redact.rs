//! What redaction costs the worker for a text that holds nothing, and what it costs the sustained rate. See
//! `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::Postgres;
use testkit::benches::{self, traffic};
use tracing_audit::redact::Redaction;
use tracing_audit::{Audit, Event};
use tracing_subscriber::prelude::*;

/// A clean record's texts, 600 bytes: what the search before everything else goes over.
const CLEAN: &str = "question_text Which customers in EMEA had the largest orders in the last 30 days, and how much did they spend \
in total? sql_text SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.created_at > now() - \
interval '30 days' AND c.region = 'EMEA' ORDER BY o.total DESC LIMIT 50 request_id 0198f1d3-0000-7000-8000-000000000017 route \
/api/questions/{id} trace 4bf92f3577b34da6a3ce929d0e0e4736 model llama-3 took 12.5 ms rows 50 note the answer was shown as a table with \
fifty rows and a chart beside it; the user asked for a file, which was made in the background at 21:20:06";

/// No span is opened while more records than this are on their way.
const MAX_PENDING: u64 = 30_000;

/// The rules of a case.
type Rules = fn() -> Option<Redaction>;

const CASES: [(&str, Rules); 4] = [
    ("none", || None),
    ("secrets", || Some(Redaction::default().secrets())),
    ("personal", || Some(Redaction::default().personal())),
    ("both", || Some(Redaction::default().secrets().personal())),
];

fn main() {
    println!("a clean text of {} bytes", CLEAN.len());
    benches::row("presets", &["ns, median", "quartiles"].map(str::to_owned));
    for (figures, (name, _)) in benches::alternate(&CASES[1..], |(_, rules)| search(*rules))
        .iter()
        .zip(&CASES[1..])
    {
        let cells = [
            format!("{:.0}", benches::median(figures)),
            benches::quartiles(figures),
        ];
        benches::row(name, &cells);
    }

    let spans = if benches::is_short() { 30_000 } else { 150_000 };
    let postgres = Postgres::start_with(&["shared_buffers=128MB"]);
    let spool = benches::Folder::new();
    let cases = [CASES[0], CASES[3]];
    let rates = benches::alternate(&cases, |(_, rules)| {
        sustained(&postgres, &spool.0, *rules, spans)
    });
    println!();
    benches::row(
        "presets",
        &["records a second", "quartiles"].map(str::to_owned),
    );
    for (figures, (name, _)) in rates.iter().zip(&cases) {
        let cells = [
            format!("{:.0}", benches::median(figures)),
            benches::quartiles(figures),
        ];
        benches::row(name, &cells);
    }
    let ratios: Vec<_> = rates[1]
        .iter()
        .zip(&rates[0])
        .map(|(with, without)| with / without)
        .collect();
    println!(
        "with / without: {:.2} ({})",
        benches::median(&ratios),
        benches::fine_quartiles(&ratios)
    );
}

/// Returns how many nanoseconds a clean text takes.
fn search(rules: Rules) -> f64 {
    const TIMES: u32 = 20_000;
    let checker = rules()
        .expect("there are rules")
        .checker()
        .expect("the rules can be used");
    let begun = Instant::now();
    for _ in 0..TIMES {
        assert_eq!(
            black_box(checker.check(black_box(CLEAN))).rules().count(),
            0
        );
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// Returns how many records a second come from a closed span to a committed row.
fn sustained(postgres: &Postgres, spool: &Path, rules: Rules, spans: usize) -> f64 {
    let patience = Duration::from_mins(5);
    let builder = Audit::builder().postgres(postgres.url()).spool(spool);
    let builder = match rules() {
        Some(rules) => builder.redact(rules),
        None => builder,
    };
    let audit = builder.start().expect("the pipeline starts");
    audit
        .record(Event::new("bench.started"))
        .expect("the queue has room");
    audit
        .flush_blocking(patience)
        .expect("the record is committed");
    postgres.psql("CHECKPOINT");
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
    benches::assert_all_committed(&audit);
    spans as f64 / took.as_secs_f64()
}
