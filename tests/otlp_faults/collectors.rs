//! Collectors that are away, slow or refusing.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::{
    FOREVER, PROTOCOLS, arrived, assert_all_exported, assert_held, assert_left_is_exported,
    assert_on_time, dealt_with, export, record, rows, shut_down, start,
};
use testkit::collector::{Behaviour, Collector};
use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{otlp_to, wait_until};
use tonic::Code;
use tracing_audit::{Audit, BuildError, Event, Otlp, OtlpProtocol, QueryRun};

#[test]
fn collector_that_starts_late_receives_earlier_records() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::absent(protocol);
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        assert_held(&trail.audit, 1_000);
        collector.start_again();
        assert_all_exported(&trail, &collector, 1_000);
    }
}

#[test]
fn collector_killed_mid_stream_receives_every_span_after_its_restart() {
    const THREADS: usize = 4;
    const KILLS: usize = 3;
    const PORTION: usize = 300;
    const RECORDS: usize = KILLS * 2 * THREADS * PORTION;
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(protocol);
        // Many small requests, so that some are in flight whenever it is killed.
        let trail = start(otlp_to!(collector).payload_bytes(16 * 1024));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (go_on, portions) = mpsc::channel();
                    let audit = &trail.audit;
                    scope.spawn(move || {
                        for () in portions {
                            record(audit, PORTION);
                        }
                    });
                    go_on
                })
                .collect();
            let record_on = || threads.iter().for_each(|thread| thread.send(()).unwrap());
            for _ in 0..KILLS {
                let before = collector.different();
                record_on();
                wait_until("spans are coming", PATIENCE, || {
                    collector.different() > before
                });
                collector.stop();
                // In case it had accepted everything by then.
                record_on();
                wait_until("the export has noticed", PATIENCE, || {
                    trail.audit.stats().export().unwrap().is_failing()
                });
                trail.audit.flush_blocking(PATIENCE).unwrap();
                collector.start_again();
            }
        });
        assert_on_time(&trail.audit, &trail.postgres, RECORDS);
        assert_all_exported(&trail, &collector, RECORDS);
    }
}

#[test]
fn temporarily_unavailable_collector_receives_every_span() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::Refuse {
            grpc: Code::Unavailable,
            http: 503,
            after: None,
        });
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        wait_until("it is tried again and again", PATIENCE, || {
            collector.requests() >= 3
        });
        assert_held(&trail.audit, 1_000);
        collector.behave(Behaviour::Take);
        assert_all_exported(&trail, &collector, 1_000);
    }
}

#[test]
fn export_waits_for_the_retry_delay_that_the_collector_requests() {
    // Longer than the client's own pauses.
    let after = Duration::from_secs(2);
    for protocol in PROTOCOLS {
        for (grpc, http) in [(Code::Unavailable, 503), (Code::ResourceExhausted, 429)] {
            let collector = Collector::start(protocol);
            collector.behave(Behaviour::Refuse {
                grpc,
                http,
                after: Some(after),
            });
            let trail = start(otlp_to!(collector));
            record(&trail.audit, 100);
            assert_on_time(&trail.audit, &trail.postgres, 100);
            wait_until("it is tried again", PATIENCE, || collector.requests() >= 2);
            assert_held(&trail.audit, 100);
            let refused = collector.requests();
            collector.behave(Behaviour::Take);
            assert_all_exported(&trail, &collector, 100);
            for request in collector.request_times()[..=refused].windows(2) {
                let waited = request[1] - request[0];
                assert!(waited >= after, "{waited:?} after {http}");
            }
        }
    }
}

#[test]
fn every_span_is_exported_after_requests_time_out_for_a_while() {
    for protocol in PROTOCOLS {
        // One that does not accept the requests it leaves unanswered, and one that does.
        for late in [Behaviour::Slow(FOREVER), Behaviour::Late(FOREVER)] {
            let collector = Collector::start(protocol);
            collector.behave(late);
            let trail = start(otlp_to!(collector).timeout(Duration::from_millis(500)));
            record(&trail.audit, 1_000);
            assert_on_time(&trail.audit, &trail.postgres, 1_000);
            // Often enough for the client to retry with smaller requests.
            wait_until("it is tried again and again", PATIENCE, || {
                collector.requests() >= 3
            });
            assert_held(&trail.audit, 1_000);
            collector.behave(Behaviour::Take);
            assert_all_exported(&trail, &collector, 1_000);
        }
    }
}

#[test]
fn every_span_is_exported_in_smaller_requests_when_large_ones_are_refused() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::AtMost(8 * 1024));
        // Long enough for all records to be sent at once.
        let trail = start(otlp_to!(collector).delay(Duration::from_secs(1)));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        assert_all_exported(&trail, &collector, 1_000);
        assert!(collector.largest() > 8 * 1024, "it was not put to the test");
        assert_eq!(collector.spans().len(), 1_000, "nothing comes twice");
    }
}

#[test]
fn span_too_large_for_a_request_is_counted_and_the_others_are_exported() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::AtMost(8 * 1024));
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 50);
        let large = QueryRun::new(format!("SELECT {}", vec!["a_column"; 1_500].join(", ")));
        trail.audit.record(large).unwrap();
        record(&trail.audit, 50);
        assert_on_time(&trail.audit, &trail.postgres, 101);
        let export = dealt_with(&trail.audit, 101);
        assert_eq!((export.exported(), export.refused()), (100, 1));
        assert_eq!(arrived(&collector).len(), 100);
    }
}

#[test]
fn permanently_refused_span_is_counted_and_the_others_are_exported() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::NotNamed("unwanted"));
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 300);
        trail.audit.record(Event::new("unwanted")).unwrap();
        record(&trail.audit, 300);
        assert_on_time(&trail.audit, &trail.postgres, 601);
        let export = dealt_with(&trail.audit, 601);
        assert_eq!((export.exported(), export.refused()), (600, 1));
        assert!(!export.is_failing(), "it takes spans");
        let spans = collector.spans();
        assert_eq!(spans.len(), 600, "nothing comes twice");
        assert!(spans.iter().all(|span| span.span.name == "asked"));
    }
}

#[test]
fn partial_success_counts_the_refused_spans_without_a_retry() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        let trail = start(otlp_to!(collector));
        let mut refused = 0;
        let mut records = 0;
        // One span per request; more than the request has; none, which is only a warning.
        for said in [1, 1_000, 0] {
            collector.behave(Behaviour::Partial(said));
            let requests = collector.requests();
            record(&trail.audit, 100);
            records += 100;
            assert_on_time(&trail.audit, &trail.postgres, records);
            let export = dealt_with(&trail.audit, records);
            refused += match said {
                1 => collector.requests() - requests,
                0 => 0,
                _ => 100,
            };
            assert_eq!(export.refused(), refused as u64);
        }
        // A retry would have arrived before later records.
        assert_eq!(collector.spans().len(), records, "nothing comes twice");
    }
}

#[test]
fn hanging_collector_delays_neither_flush_nor_shutdown() {
    for protocol in PROTOCOLS {
        // One accepts requests and never answers; the other does not even speak the protocol.
        for is_mute in [false, true] {
            let mut collector = Collector::absent(protocol);
            let mute = is_mute.then(|| collector.mute());
            if !is_mute {
                collector.start_again();
                collector.behave(Behaviour::Slow(FOREVER));
            }
            let trail = start(otlp_to!(collector));
            for portion in 1..=3 {
                record(&trail.audit, 200);
                assert_on_time(&trail.audit, &trail.postgres, portion * 200);
                assert_eq!(export(&trail.audit, portion * 200).exported(), 0);
            }
            record(&trail.audit, 200);
            shut_down(&trail.audit, 800);
            assert_eq!(rows(&trail.postgres).len(), 800);
            assert_eq!(export(&trail.audit, 800).pending(), 800);
            assert_eq!(trail.spool.names().len(), 1, "it stays for the next");

            drop(mute);
            collector.stop();
            collector.behave(Behaviour::Take);
            collector.start_again();
            let next = pipeline(&trail.postgres, &trail.spool, |builder| {
                builder.otlp(otlp_to!(collector))
            });
            assert_left_is_exported(&next, &trail.spool, 800);
            assert_eq!(arrived(&collector), rows(&trail.postgres));
        }
    }
}

#[test]
fn an_export_that_cannot_start_is_an_error_and_no_panic_in_a_runtime() {
    let folder = Folder::new();
    std::fs::write(&folder.0, "not a folder").unwrap();
    let start = |otlp: Otlp, spool: &Path| {
        Audit::builder()
            .postgres("postgres://nobody@127.0.0.1:1/nowhere")
            .otlp(otlp)
            .spool(spool)
            .start()
            .unwrap_err()
    };
    let otlp = || Otlp::new("https://127.0.0.1:1");
    let broken = |protocol| {
        otlp()
            .with_protocol(protocol)
            .client_certificate("no certificate", "no key")
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let error = start(otlp(), &folder.0);
        assert!(matches!(error, BuildError::Spool { .. }), "{error:?}");
        for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf] {
            let error = start(broken(protocol), &Folder::new().0);
            assert!(matches!(error, BuildError::Otlp { .. }), "{error:?}");
        }
    });
    std::fs::remove_file(&folder.0).unwrap();
}
