//! How soon the pages of `serve` are there, beside Arize Phoenix with the same spans, and among many rows. See
//! `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod client;
mod phoenix;
mod server;
#[path = "../trail/mod.rs"]
mod trail;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::Postgres;
use testkit::benches::traffic::QUESTIONS;
use testkit::benches::{self, Folder};
use tracing::info_span;
use tracing_audit::{Audit, Otlp, Receiver};
use tracing_subscriber::prelude::*;

use self::client::Client;
use self::phoenix::Phoenix;
use self::server::{SECRET, Server, make_tables};

/// The request with many records, for both.
const LONG: &str = "a-long-story";

/// How many records it has: as many as a page of ours shows.
const OF_LONG: u64 = 200;

/// How many users and requests the questions are about, in turn, so that no answer is the last one again.
const DIFFERENT: u64 = 20;

fn main() {
    let client = Client::new();
    let number = |name: &str, otherwise: u64, short: u64| {
        let said = std::env::var(name).map(|said| said.replace('_', ""));
        match said {
            Ok(said) => said.parse().expect("a number"),
            Err(_) if benches::is_short() => short,
            Err(_) => otherwise,
        }
    };
    beside_phoenix(&client, number("PAGES_SPANS", 20_000, 1_000));
    among(&client, number("PAGES_ROWS", 1_000_000, 20_000));
}

/// A question that both are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Newest,
    OfUser,
    Failed,
    WithText,
    Story,
    LongStory,
    Models,
}

impl Question {
    const ALL: [Self; 7] = [
        Self::Newest,
        Self::OfUser,
        Self::Failed,
        Self::WithText,
        Self::Story,
        Self::LongStory,
        Self::Models,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Newest => "the newest 50 records",
            Self::OfUser => "those of a user",
            Self::Failed => "those that failed",
            Self::WithText => "those whose SQL has a word",
            Self::Story => "the story of a request, 5 records",
            Self::LongStory => "another, 200 records",
            Self::Models => "the models: calls, tokens, p95, p99",
        }
    }
}

/// Opens the spans of a request: three queries, a call of a model, and the tool that it asks for.
fn request(n: u64, request_id: &str, records: u64) {
    let user_id = format!("user-{}", n % DIFFERENT);
    let request = info_span!("request", request_id, tenant_id = "acme", user_id);
    let _entered = request.enter();
    for at in 0..records {
        let asked = &QUESTIONS[usize::try_from(n + at).expect("few") % QUESTIONS.len()];
        let has_failed = (n + at).is_multiple_of(20);
        let status = if has_failed { "failed" } else { "succeeded" };
        match at % 5 {
            0 => info_span!(
                "audit.prompt_run",
                model_name = format!("model-{}", n % 5),
                provider = "provider",
                rendered_prompt = asked.question,
                response_text = asked.sql,
                input_token_count = 200 + n % 900,
                output_token_count = 20 + n % 90,
                status,
            ),
            1 => info_span!(
                "audit.event",
                action_type = "tool.call",
                target_type = "tool",
                target_id = "sql",
                input_summary = asked.question,
                status,
            ),
            _ => info_span!(
                "audit.query_run",
                question_text = asked.question,
                sql_text = format!(
                    "SELECT word_{}_ FROM ({}) AS answer",
                    n % DIFFERENT,
                    asked.sql
                ),
                sql_summary = asked.summary,
                row_count = n,
                status,
            ),
        }
        .in_scope(|| ());
    }
}

/// Writes the trail by the pipeline, which sends it to Phoenix as well.
fn send(postgres: &Postgres, phoenix: &Phoenix, folder: &Folder, requests: u64) {
    let otlp = Otlp::new(phoenix.url()).for_receiver(Receiver::Phoenix);
    let audit = Audit::builder()
        .postgres(postgres.url())
        .spool(folder.0.join("spool"))
        .otlp(otlp.capture_messages(true))
        .start();
    let audit = audit.expect("the pipeline starts");
    let send = || {
        for n in 0..requests {
            request(n, &format!("request-{n}"), 5);
            if n == requests / 2 {
                request(n, LONG, OF_LONG);
            }
            if n % 200 == 199 {
                let flushed = audit.flush_blocking(Duration::from_mins(1));
                flushed.expect("the records are committed");
            }
        }
        let flushed = audit.flush_blocking(Duration::from_mins(10));
        flushed.expect("the records are committed");
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(audit.layer()), send);
}

/// Asks both the same of the same spans, in turn.
fn beside_phoenix(client: &Client, spans: u64) {
    let folder = Folder::new();
    let Some(phoenix) = Phoenix::start(&folder, client) else {
        println!(
            "Phoenix is not here and can't be fetched from PyPI: nothing is compared with it\n"
        );
        return;
    };
    let postgres = Postgres::start();
    make_tables(&postgres);
    let requests = spans / 5;
    send(&postgres, &phoenix, &folder, requests);
    let begun = Instant::now();
    phoenix.wait_for(client, requests * 5 + OF_LONG);
    println!(
        "{} records in Postgres; the same spans in Phoenix {:.0} s later",
        requests * 5 + OF_LONG,
        begun.elapsed().as_secs_f64()
    );
    let trace_of = |request: &str| {
        postgres.psql(&format!(
            "SELECT min(trace_id) FROM audit.query_runs WHERE request_id = '{request}'"
        ))
    };
    let asked_of = |n: u64| format!("request-{}", n * (requests / DIFFERENT).max(1));
    let traces: Vec<_> = (0..DIFFERENT).map(|n| trace_of(&asked_of(n))).collect();
    let long_trace = trace_of(LONG);
    let server = Server::start(&postgres, client);
    let ours = |question: Question, n: u64| {
        let path = match question {
            Question::Newest => String::from("/"),
            Question::OfUser => format!("/?user=user-{n}"),
            Question::Failed => String::from("/?status=failed"),
            Question::WithText => format!("/?text=word_{n}_"),
            Question::Story => format!("/request?id={}", asked_of(n)),
            Question::LongStory => format!("/request?id={LONG}"),
            Question::Models => String::from("/models"),
        };
        let answer = server.get(client, &path);
        (rows(&answer.body), answer.took)
    };
    let theirs = |question: Question, n: u64| match question {
        Question::Newest => phoenix.list(client, ""),
        Question::OfUser => {
            phoenix.list(client, &format!("attributes['user']['id'] == 'user-{n}'"))
        }
        Question::Failed => phoenix.list(client, "status_code == 'ERROR'"),
        Question::WithText => phoenix.list(client, &format!("'word_{n}_' in input.value")),
        Question::Story => phoenix.trace(client, &traces[usize::try_from(n).expect("few")]),
        Question::LongStory => phoenix.trace(client, &long_trace),
        Question::Models => phoenix.models(client),
    };
    for question in Question::ALL {
        let [(our_rows, _), (their_rows, _)] = [ours(question, 1), theirs(question, 1)];
        let is_same = question == Question::Models || our_rows == their_rows;
        assert!(is_same, "{}: {our_rows}, {their_rows}", question.name());
    }
    let cases: Vec<_> = Question::ALL
        .into_iter()
        .flat_map(|question| [(question, true), (question, false)])
        .collect();
    let figures = benches::alternate(&cases, |(question, is_ours)| {
        let took = (0..DIFFERENT).step_by(4).map(|n| {
            let (_, took) = if *is_ours {
                ours(*question, n)
            } else {
                theirs(*question, n)
            };
            took.as_secs_f64() * 1e3
        });
        benches::median(&took.collect::<Vec<_>>())
    });
    print_compared(spans, &figures);
}

/// Prints each question's figures of both.
fn print_compared(spans: u64, figures: &[Vec<f64>]) {
    println!("\nms until an answer is whole, {spans} records in each");
    benches::row(
        "",
        &[
            "serve",
            "quartiles",
            "Phoenix",
            "quartiles",
            "Phoenix / serve",
        ]
        .map(str::to_owned),
    );
    for (question, pair) in Question::ALL.iter().zip(figures.chunks(2)) {
        let cells = [
            format!("{:.1}", benches::median(&pair[0])),
            benches::fine_quartiles(&pair[0]),
            format!("{:.1}", benches::median(&pair[1])),
            benches::fine_quartiles(&pair[1]),
            format!(
                "{:.1}",
                benches::paired(&pair[0], &pair[1], |ours, theirs| theirs / ours)
            ),
        ];
        benches::row(question.name(), &cells);
    }
}

/// Returns how many records a page shows, or else how many lines its table has.
fn rows(page: &str) -> usize {
    match page.matches(" id=\"r01").count() {
        0 => page.matches("<tr").count().saturating_sub(1),
        records => records,
    }
}

/// Asks for pages among so many rows, and for what a browser loads first; looks at start and memory.
fn among(client: &Client, rows: u64) {
    let postgres = Postgres::start_with(&["max_wal_size=8GB"]);
    make_tables(&postgres);
    let begun = Instant::now();
    trail::fill(&postgres, rows);
    println!(
        "\nfilled with {rows} rows in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    let starts: Vec<_> = (0..if benches::is_short() { 1 } else { 13 })
        .map(|_| Server::start(&postgres, client).start.as_secs_f64() * 1e3)
        .collect();
    let server = Server::start(&postgres, client);
    println!(
        "ms until it answers after its start: {:.0}",
        benches::median(&starts)
    );
    let first = server.get(client, "/");
    let assets = assets(&first.body);
    let loaded: usize = assets
        .iter()
        .map(|path| server.get(client, path).body.len())
        .sum();
    println!(
        "kB that a browser loads first, uncompressed: {:.1}",
        (first.body.len() + loaded) as f64 / 1e3
    );
    let request_of =
        |n: u64| postgres.psql(&format!("SELECT md5('{}')", n * (rows / 5 / DIFFERENT)));
    let requests: Vec<_> = (0..DIFFERENT).map(request_of).collect();
    let pages: [(&str, &dyn Fn(u64) -> String); 14] = [
        ("the newest 50", &|_| String::from("/")),
        ("of a user", &|n| format!("/?user=user-{}", n * 7 % 200)),
        ("of a tenant", &|n| format!("/?tenant=tenant{}", n % 10)),
        ("of a user who has none", &|n| format!("/?user=nobody-{n}")),
        ("failed, of a user", &|n| {
            format!("/?status=failed&user=user-{n}")
        }),
        ("of a model", &|n| format!("/?model=model-{}", n % 5)),
        ("of a month", &|n| {
            format!("/?until={}d&kind=query_runs", 30 + n % 30 * 10)
        }),
        ("with a word, recent", &|n| {
            format!("/?text=account+{}", rows - 10 * n - 9)
        }),
        ("with a word that nobody said", &|n| {
            format!("/?text=nowhere-{n}")
        }),
        ("of a request", &|n| {
            format!(
                "/request?id={}",
                requests[usize::try_from(n).expect("few") % requests.len()]
            )
        }),
        ("the story of 10,000", &|_| {
            String::from("/request?id=story-of-10000")
        }),
        ("users", &|_| String::from("/users")),
        ("models", &|_| String::from("/models")),
        ("failures", &|_| String::from("/failures")),
    ];
    println!("\nms until a page is whole, {rows} rows");
    benches::row("", &["median", "p95", "rows", "kB"].map(str::to_owned));
    for (name, path) in pages {
        let times = if benches::is_short() { 3 } else { 100 };
        let mut last = None;
        let mut took: Vec<_> = (0..times)
            .map(|n| {
                let answer = server.get(client, &path(n));
                let took = answer.took.as_secs_f64() * 1e3;
                last = Some(answer.body);
                took
            })
            .collect();
        took.sort_by(f64::total_cmp);
        let page = last.unwrap_or_default();
        let was_cut = page.contains("long=yes");
        let cells = [
            format!("{:.0}", benches::median(&took)),
            format!("{:.0}", took[(took.len() - 1) * 95 / 100]),
            format!(
                "{}{}",
                self::rows(&page),
                if was_cut { ", cut" } else { "" }
            ),
            format!("{:.0}", page.len() as f64 / 1e3),
        ];
        benches::row(name, &cells);
    }
    readers(client, &server);
}

/// Lets a hundred people open the trail, read a page, and listen for new records.
fn readers(client: &Client, server: &Server) {
    const READERS: usize = 100;
    let before = server.memory();
    let open = |n: usize| {
        let mut stream = TcpStream::connect(&server.address).expect("it listens");
        let patience = Some(Duration::from_mins(1));
        stream.set_read_timeout(patience).expect("a time limit");
        let asked = format!(
            "GET /live HTTP/1.1\r\nHost: {}\r\nX-Person: person-{n}\r\nX-Groups: auditors\r\nX-Audit-Proxy-Secret: {SECRET}\r\n\r\n",
            server.address
        );
        stream.write_all(asked.as_bytes()).expect("it reads");
        let mut head = [0; 16];
        stream.read_exact(&mut head).expect("it answers");
        assert!(head.starts_with(b"HTTP/1.1 200"), "{n}");
        stream
    };
    let streams: Vec<_> = (0..READERS).map(open).collect();
    for n in 0..READERS {
        let page = if n % 2 == 0 { "/" } else { "/models" };
        server.get(client, page);
    }
    let [now, most] = server.memory();
    println!(
        "\nMB of memory with {} readers: {now:.0}, at the most {most:.0}; before them {:.0}",
        streams.len(),
        before[0]
    );
}

/// Returns the addresses of what a page loads besides itself.
fn assets(page: &str) -> Vec<String> {
    page.split('"')
        .filter(|text| text.starts_with("/assets/"))
        .map(str::to_owned)
        .collect()
}
