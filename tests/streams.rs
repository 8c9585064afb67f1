//! Streams have the correct outcome, and text that arrives in parts is one value.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use testkit::trail::{Trail, pipeline, rows};
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_audit::{AuditFutureExt as _, AuditSpanExt as _, AuditStreamExt as _, Kind, Limits};
use tracing_subscriber::prelude::*;

type Item = Result<&'static str, &'static str>;

fn prompt(name: &'static str) -> Span {
    info_span!(
        "audit.prompt_run",
        model_name = name,
        response_text = Empty,
        output_token_count = Empty,
        status = Empty
    )
}

/// Returns a stream of these items that then stays pending.
fn and_no_more_yet(items: &'static [Item]) -> impl Stream<Item = Item> {
    stream::iter(items.iter().copied()).chain(stream::pending())
}

/// Polls for all items that are ready; returns their number, and whether the stream has ended.
fn take<S: Stream>(stream: &mut Pin<Box<S>>) -> (usize, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    loop {
        match stream.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(_)) => taken += 1,
            Poll::Ready(None) => return (taken, true),
            Poll::Pending => return (taken, false),
        }
    }
}

/// Returns the runs by name: records made at one moment may reach the log in any order.
fn by_name(rows: Vec<Value>) -> BTreeMap<String, Value> {
    rows.into_iter()
        .map(|row| (row["model_name"].as_str().unwrap().to_owned(), row))
        .collect()
}

fn outcomes(trail: &Trail) -> Vec<Value> {
    by_name(trail.rows(Kind::PromptRun))
        .values()
        .map(|row| json!([row["model_name"], row["status"], row["error_message"]]))
        .collect()
}

#[test]
fn stream_status_reflects_how_the_stream_ended() {
    let trail = Trail::start();
    trail.scoped(|| {
        let finished = |name, items: &'static [Item]| {
            let mut stream = Box::pin(stream::iter(items.iter().copied()).audited(prompt(name)));
            assert_eq!(stream.size_hint(), (items.len(), Some(items.len())));
            assert_eq!(take(&mut stream), (items.len(), true));
            // It keeps returning the end, and its record is complete although the stream still
            // exists.
            assert_eq!(take(&mut stream), (0, true));
            assert_eq!(stream.size_hint(), (0, Some(0)));
            assert!(outcomes(&trail).iter().any(|run| run[0] == name));
        };
        finished("ended", &[Ok("a"), Ok("b")]);
        finished("empty", &[]);
        finished(
            "first error",
            &[Ok("a"), Err("broke"), Err("closed"), Ok("b")],
        );
        let dropped = |name, items: &'static [Item]| {
            let span = prompt(name);
            let mut stream = Box::pin(and_no_more_yet(items).audited(span.clone()));
            assert_eq!(take(&mut stream), (items.len(), false));
            span.record("response_text", "a");
            span.record("output_token_count", 1);
            drop(stream);
        };
        dropped("dropped", &[Ok("a"), Ok("b")]);
        dropped("dropped at once", &[]);
        dropped("dropped after an error", &[Err("broke"), Ok("a")]);
        drop(and_no_more_yet(&[]).audited(prompt("never polled")));
        let said = prompt("said");
        said.record("status", "rejected");
        drop(and_no_more_yet(&[]).audited(said));
    });
    assert_eq!(
        outcomes(&trail),
        [
            json!(["dropped", "cancelled", null]),
            json!(["dropped after an error", "failed", "broke"]),
            json!(["dropped at once", "cancelled", null]),
            json!(["empty", "succeeded", null]),
            json!(["ended", "succeeded", null]),
            json!(["first error", "failed", "broke"]),
            json!(["never polled", "cancelled", null]),
            json!(["said", "rejected", null]),
        ]
    );
}

#[tracing::instrument(name = "audit.prompt_run", fields(model_name = "returned"), ret, err)]
fn returned() -> Result<impl Stream<Item = Item> + std::fmt::Debug, String> {
    Ok(stream::iter([Ok("a"), Ok("b")]).audited(Span::current()))
}

#[test]
fn returning_a_stream_is_not_a_success_of_the_stream() {
    let trail = Trail::start();
    trail.scoped(|| {
        let head = |name, items: &'static [Item]| {
            let span = prompt(name);
            let head = async {
                let stream = and_no_more_yet(items).audited(Span::current());
                Ok::<_, std::convert::Infallible>(Box::pin(stream))
            };
            let head = head.audited(span);
            futures_util::FutureExt::now_or_never(head)
                .unwrap()
                .unwrap()
        };
        let mut cut = head("cut off", &[Ok("a"), Ok("b")]);
        assert_eq!(take(&mut cut), (2, false));
        drop(cut);
        drop(head("never polled", &[]));
        let mut failed = head("failed", &[Err("broke")]);
        assert_eq!(take(&mut failed), (1, false));
        drop(failed);
        let ended = async {
            let items: &'static [Item] = &[Ok("a")];
            let stream = stream::iter(items.iter().copied()).audited(Span::current());
            Ok::<_, std::convert::Infallible>(Box::pin(stream))
        };
        let ended = ended.audited(prompt("ended"));
        let ended = futures_util::FutureExt::now_or_never(ended);
        assert_eq!(take(&mut ended.unwrap().unwrap()), (1, true));
        let inside = async {
            drop(and_no_more_yet(&[]).audited(Span::current()));
            Ok::<_, std::convert::Infallible>(())
        };
        let inside = inside.audited(prompt("given up inside"));
        futures_util::FutureExt::now_or_never(inside)
            .unwrap()
            .unwrap();
        drop(returned().unwrap());
    });
    assert_eq!(
        outcomes(&trail),
        [
            json!(["cut off", "cancelled", null]),
            json!(["ended", "succeeded", null]),
            json!(["failed", "failed", "broke"]),
            json!(["given up inside", "succeeded", null]),
            json!(["never polled", "cancelled", null]),
            json!(["returned", "cancelled", null]),
        ]
    );
}

#[test]
fn stream_is_polled_and_dropped_inside_its_span_and_a_panic_fails_it() {
    struct Says;
    impl Drop for Says {
        fn drop(&mut self) {
            info_span!("audit.event", action_type = "dropped");
        }
    }
    let trail = Trail::start();
    trail.scoped(|| {
        let says = Says;
        let items = stream::poll_fn(move |_| {
            let _ = &says;
            info_span!("audit.event", action_type = "polled");
            Poll::<Option<Item>>::Pending
        });
        let mut stream = Box::pin(items.audited(prompt("inside")));
        take(&mut stream);
        drop(stream);
        let panics = stream::poll_fn(|_| -> Poll<Option<Item>> {
            Span::current().record("response_text", "a");
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        let mut stream = Box::pin(panics.audited(prompt("panics")));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&mut stream)));
        assert!(caught.is_err());
    });
    let prompts = by_name(trail.rows(Kind::PromptRun));
    let events = trail.rows(Kind::Event);
    for action in ["polled", "dropped"] {
        let event = events
            .iter()
            .find(|event| event["action_type"] == action)
            .unwrap();
        assert_eq!(event["parent_id"], prompts["inside"]["id"]);
    }
    assert_eq!(
        [
            &prompts["panics"]["status"],
            &prompts["panics"]["error_code"]
        ],
        ["failed", "panic"]
    );
}

#[test]
fn gathered_text_is_one_value_however_the_stream_ends() {
    let trail = Trail::start();
    trail.scoped(|| {
        let answer = |name, items: &'static [Item]| {
            let span = prompt(name);
            let mut text = span.gather("response_text");
            let mut stream = Box::pin(
                and_no_more_yet(items)
                    .inspect(move |item| text.push(item.unwrap_or_default()))
                    .audited(span),
            );
            take(&mut stream);
        };
        answer("cut off", &[Ok("Forty"), Ok("-"), Ok("tw")]);
        answer("nothing", &[]);
        // Without evidence of how it ended, a partial answer is no success.
        let span = prompt("no evidence");
        span.gather("response_text").push("Forty");
        drop(span);
        // The last value counts, and what is no column goes into the metadata.
        let span = prompt("recorded");
        span.gather("response_text").push("gathered first");
        span.record("response_text", "recorded");
        let mut notes = span.gather("notes");
        let mut again = span.gather("response_text");
        write!(again, "gathered-{name}", name = 1 + 1).unwrap();
        notes.push("a ");
        notes.push("note");
        drop((notes, again));
        span.record("status", "ok");
        drop(span);
        // Not a record of ours.
        info_span!("request", request_id = "r")
            .gather("x")
            .push("y");
        Span::none().gather("response_text").push("y");
    });
    let rows = by_name(trail.rows(Kind::PromptRun));
    let seen: Vec<_> = rows
        .values()
        .map(|row| {
            json!([
                row["status"],
                row["response_text"],
                row["metadata"],
                row["problems"]
            ])
        })
        .collect();
    assert_eq!(
        seen,
        [
            json!(["cancelled", "Forty-tw", {}, []]),
            json!(["unknown", "Forty", {}, []]),
            json!(["cancelled", null, {}, []]),
            json!(["succeeded", "gathered-2", {"notes": "a note"}, []]),
        ]
    );
}

#[test]
fn gathered_text_over_the_limit_is_truncated_with_length_and_sha256_of_all_parts() {
    let limits = |field_bytes, record_bytes| {
        Limits::default()
            .with_field_bytes(field_bytes)
            .with_record_bytes(record_bytes)
    };
    // Not a whole number of characters.
    let trail = Trail::start_with(|builder| builder.limits(limits(1_000, 4_000)));
    let other = testkit::Postgres::start();
    let folder = testkit::trail::Folder::new();
    let smaller = pipeline(&other, &folder, |builder| {
        builder.limits(limits(256, 10_000))
    });
    let subscriber = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(smaller.layer());
    let parts = ["aä€𐍈", "-", "ä€"].repeat(200);
    let whole = parts.concat();
    let nearly = &whole[..whole.floor_char_boundary(900)];
    tracing::subscriber::with_default(subscriber, || {
        for name in ["long", "short"] {
            let span = prompt(name);
            let mut text = span.gather("response_text");
            for part in &parts[..if name == "long" { parts.len() } else { 60 }] {
                text.push(part);
            }
            drop(text);
        }
        // The record has room for only a part of it, or for none.
        let span = prompt("full");
        for n in 0..4 {
            let mut text = span.gather(["a", "b", "c", "d"][n]);
            text.push(&"x".repeat(900));
        }
        span.gather("response_text").push(nearly);
        span.gather("notes").push("none left");
    });
    let proof = |text: &str| {
        let sha256 = other.psql(&format!(
            "SELECT encode(sha256(convert_to('{text}', 'UTF8')), 'hex')"
        ));
        format!(
            "truncated from {} bytes, sha256 {}",
            text.len(),
            sha256.trim()
        )
    };
    let by_larger = by_name(trail.rows(Kind::PromptRun));
    smaller.flush_blocking(testkit::trail::PATIENCE).unwrap();
    let by_smaller = by_name(rows(&other, Kind::PromptRun));
    let short = parts[..60].concat();
    for (row, limit, text) in [
        (&by_larger["long"], 1_000, &whole),
        (&by_smaller["long"], 256, &whole),
        (&by_smaller["short"], 256, &short),
    ] {
        let kept = &text[..text.floor_char_boundary(limit)];
        assert_eq!(row["response_text"], kept);
        let problem = format!("response_text: {}", proof(text));
        assert_eq!(row["problems"], json!([problem]));
    }
    assert_eq!(by_larger["short"]["response_text"], *short);
    assert_eq!(by_larger["short"]["problems"], json!([]));
    let full = &by_larger["full"];
    let kept = full["response_text"].as_str().unwrap();
    assert!(!kept.is_empty() && kept.len() < 900 && whole.starts_with(kept));
    let problems = full["problems"].to_string();
    assert!(problems.contains(&proof(nearly)), "{problems}");
    assert!(problems.contains("notes: dropped"), "{problems}");
}

#[test]
fn gathering_many_small_parts_takes_no_more_memory_than_the_text() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = prompt("many");
        let mut text = span.gather("response_text");
        // As much as ten answers of the greatest length.
        let allocated = allocation_counter::measure(|| {
            for _ in 0..1_310_720 {
                text.push("12345678");
            }
        });
        assert!(allocated.count_total < 40, "{allocated:?}");
        assert!(allocated.bytes_max < 3 << 20, "{allocated:?}");
        drop(text);
        let done = async { Ok::<_, std::convert::Infallible>(()) };
        let mut done = pin!(done.audited(span));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(done.as_mut().poll(&mut cx).is_ready());
    });
    let row = trail.row(Kind::PromptRun);
    assert_eq!(row["response_text"].as_str().unwrap().len(), 1 << 20);
    let problem = row["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("response_text: truncated from 10485760 bytes, sha256 "));
    assert_eq!(row["status"], "succeeded");
}
