//! Records over the quota of the export.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{arrived, assert_on_time, dealt_with, export, record, rows, shut_down, start};
use testkit::collector::{Behaviour, Collector, Exported, Protocol};
use testkit::trail::{PATIENCE, pipeline};
use testkit::{otlp_to, wait_until};
use tracing_audit::{Audit, Event};

/// Records events of about 1 KiB each in the local log.
fn record_large(audit: &Audit, count: usize) {
    for _ in 0..count {
        let event = Event::new("asked").metadata("text", "x".repeat(1_000));
        audit.record(event).unwrap();
    }
}

/// Returns the number in an attribute.
fn number(span: &Exported, attribute: &str) -> usize {
    span.attribute(attribute).parse().unwrap()
}

/// Waits until the collector was told of exactly this many discarded records; returns the spans
/// that say so.
fn wait_until_told(collector: &Collector, given_up: u64) -> Vec<Exported> {
    let gaps = || {
        let mut spans = collector.spans();
        spans.retain(|span| span.span.name == "audit.gap");
        spans
    };
    let told = |gap: &Exported| number(gap, "audit.gap.records") as u64;
    wait_until("the collector is told", PATIENCE, || {
        gaps().iter().map(told).sum::<u64>() >= given_up
    });
    let gaps = gaps();
    assert_eq!(gaps.iter().map(told).sum::<u64>(), given_up);
    gaps
}

#[test]
fn records_over_the_export_quota_are_discarded_counted_and_reported_as_gaps() {
    const PORTION: usize = 500;
    const RECORDS: usize = 8 * PORTION;
    const QUOTA: u64 = 256 * 1024;
    let mut collector = Collector::absent(Protocol::Grpc);
    // The minimum, so that there are many requests and much to count.
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let trail = start(otlp.quota_bytes(QUOTA));
    for portion in 1..=8 {
        record_large(&trail.audit, PORTION);
        assert_on_time(&trail.audit, &trail.postgres, portion * PORTION);
        export(&trail.audit, portion * PORTION);
    }
    wait_until("the oldest are given up", PATIENCE, || {
        let is_within_quota = trail.audit.stats().spool_bytes() <= QUOTA;
        is_within_quota && export(&trail.audit, RECORDS).given_up() > 0
    });
    collector.start_again();
    // Without a pause: at any moment each record is counted once.
    let deadline = Instant::now() + PATIENCE;
    while export(&trail.audit, RECORDS).pending() > 0 {
        assert!(Instant::now() < deadline, "the export has dealt with all");
    }
    let export = export(&trail.audit, RECORDS);
    let given_up = usize::try_from(export.given_up()).unwrap();
    assert_eq!((export.refused(), export.by_host()), (0, 0));
    assert!(export.exported() > 0, "{export:?}");

    let gaps = wait_until_told(&collector, export.given_up());
    let first = gaps.iter().map(|gap| number(gap, "audit.gap.first_seq"));
    let last = gaps.iter().map(|gap| number(gap, "audit.gap.last_seq"));
    assert_eq!((first.min(), last.max()), (Some(1), Some(given_up)));
    // The oldest were discarded, and no later ones.
    let seqs: BTreeSet<_> = collector
        .spans()
        .iter()
        .filter(|span| span.span.name != "audit.gap")
        .map(|span| number(span, "audit.record.seq"))
        .collect();
    assert!(seqs.into_iter().eq(given_up + 1..=RECORDS));
    assert_eq!(
        rows(&trail.postgres).len(),
        RECORDS,
        "Postgres has them all"
    );
    shut_down(&trail.audit, RECORDS);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn records_discarded_for_a_slow_collector_are_counted_once() {
    const PORTION: usize = 100;
    let collector = Collector::start(Protocol::Grpc);
    collector.behave(Behaviour::Slow(Duration::from_millis(10)));
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let trail = start(otlp.quota_bytes(64 * 1024));
    let mut records = 0;
    // For a while, records arrive, are exported and are discarded all at once.
    let deadline = Instant::now() + PATIENCE;
    while collector.different() < 100 || export(&trail.audit, records).given_up() < 1_000 {
        assert!(Instant::now() < deadline, "records are given up");
        record_large(&trail.audit, PORTION);
        records += PORTION;
        assert_on_time(&trail.audit, &trail.postgres, records);
    }
    collector.behave(Behaviour::Take);
    let export = dealt_with(&trail.audit, records);
    assert_eq!(arrived(&collector).len() as u64, export.exported());
    wait_until_told(&collector, export.given_up());
    shut_down(&trail.audit, records);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn records_discarded_beside_an_orphaned_log_are_reported_for_the_live_process() {
    let mut collector = Collector::absent(Protocol::Grpc);
    let trail = start(otlp_to!(collector));
    record(&trail.audit, 300);
    shut_down(&trail.audit, 300);
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let next = pipeline(&trail.postgres, &trail.spool, |builder| {
        builder
            .otlp(otlp.quota_bytes(256 * 1024))
            .service_name("next")
    });
    // It has no records of its own yet: it is exporting the orphaned ones.
    wait_until("the export has noticed", PATIENCE, || {
        export(&next, 0).is_failing()
    });
    record_large(&next, 2_000);
    assert_on_time(&next, &trail.postgres, 2_300);
    // Discarded or still waiting, depending on how fast the machine is.
    assert_eq!(export(&next, 2_000).exported(), 0);
    collector.start_again();
    wait_until("the folder that was left is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    let export = dealt_with(&next, 2_300);
    assert!(export.given_up() > 0, "{export:?}");
    assert_eq!(arrived(&collector).len() as u64, export.exported());
    for gap in wait_until_told(&collector, export.given_up()) {
        assert_eq!(gap.resource["service.name"], "next");
    }
}
