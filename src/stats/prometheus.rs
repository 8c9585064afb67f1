//! The counters and the health as text for Prometheus.

use super::exposition::{Exposition, MetricType};
use super::health::{DropCause, Health};
use super::snapshot::Stats;

impl Stats {
    /// Returns all of it as text in the exposition format of Prometheus, version 0.0.4.
    ///
    /// Serve it as `text/plain; version=0.0.4; charset=utf-8` where your program serves its metrics,
    /// or after the text of another library: each name begins with `tracing_audit_`. It has no value
    /// of a record. If the database is restored to an earlier state, the counts of committed records
    /// and of dead letters go down, which Prometheus takes for a restart of the program. What to
    /// watch, and rules for alerts, are in `docs/monitoring.md`.
    ///
    /// ```
    /// use std::io::{self, Write};
    ///
    /// /// Answers a request for /metrics.
    /// fn answer(audit: &tracing_audit::Audit, connection: &mut impl Write) -> io::Result<()> {
    ///     let body = audit.stats().prometheus();
    ///     let length = body.len();
    ///     write!(
    ///         connection,
    ///         "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
    ///          Content-Length: {length}\r\n\r\n{body}"
    ///     )
    /// }
    /// ```
    pub fn prometheus(&self) -> String {
        let mut text = Exposition::default();
        self.write_records(&mut text);
        self.write_ways(&mut text);
        self.write_state(&mut text);
        #[cfg(feature = "redact")]
        self.write_redaction(&mut text);
        #[cfg(feature = "otlp")]
        self.write_export(&mut text);
        text.into_text()
    }

    /// Writes what became of the records.
    fn write_records(&self, text: &mut Exposition) {
        text.counter(
            "records_accepted_total",
            "Records that were made by this program.",
            self.accepted(),
        );
        text.counter(
            "records_committed_total",
            "Records that are committed in Postgres as rows.",
            self.committed(),
        );
        text.counter(
            "records_dead_lettered_total",
            "Records that Postgres refused; audit.dead_letters has them with the reason.",
            self.dead_lettered(),
        );
        text.family(
            MetricType::Counter,
            "records_dropped_total",
            "Records that were given up, by cause.",
            DropCause::ALL.map(|cause| ([("cause", cause.as_str())], self.dropped_by(cause))),
        );
        text.counter(
            "records_adopted_total",
            "Records from orphaned logs of earlier processes that were committed by this one.",
            self.adopted(),
        );
        text.counter(
            "records_in_default_partition_total",
            "Rows that went to a default partition, because of a clock that is wrong.",
            self.in_default_partition(),
        );
    }

    /// Writes what is on its way to Postgres, and how it gets there.
    fn write_ways(&self, text: &mut Exposition) {
        text.gauge(
            "records_pending",
            "Records in the queue, in the local log, or in a batch in flight.",
            self.pending(),
        );
        text.gauge(
            "pending_age_seconds",
            "How long the oldest pending record has been waiting; 0 if none is pending.",
            self.oldest_pending().unwrap_or_default().as_secs_f64(),
        );
        let (queue_records, queue_bytes) = self.queue_size();
        text.gauge(
            "queue_records",
            "Records in the queue, in memory.",
            queue_records,
        );
        text.gauge("queue_bytes", "Bytes in the queue, in memory.", queue_bytes);
        text.gauge("spool_bytes", "Bytes in the local log.", self.spool_bytes());
        text.gauge(
            "spool_quota_bytes",
            "Bytes that the local log may hold.",
            self.spool_quota_bytes(),
        );
        text.counter(
            "batches_committed_total",
            "Batches that were committed.",
            self.batches(),
        );
        text.counter(
            "batch_duration_seconds_total",
            "Time that the committed batches took, from the first byte sent.",
            self.batch_time().as_secs_f64(),
        );
        text.gauge(
            "last_batch_records",
            "Records in the last committed batch.",
            self.last_batch(),
        );
    }

    /// Writes the health, and what an operator should look into.
    fn write_state(&self, text: &mut Exposition) {
        text.family(
            MetricType::Gauge,
            "health",
            "1 for the state that the pipeline is in, 0 for the others.",
            Health::ALL.map(|health| {
                (
                    [("state", health.as_str())],
                    u8::from(health == self.health()),
                )
            }),
        );
        text.counter(
            "inconsistencies_total",
            "How often the database disagreed with what was committed.",
            self.inconsistencies(),
        );
        text.counter(
            "worker_restarts_total",
            "How often a thread of the library panicked and was restarted.",
            self.restarts(),
        );
        text.gauge(
            "processor_clock_left",
            "1 if the processor's counter was wrong, so that times are read from the system's clock.",
            u8::from(self.is_counter_left()),
        );
        text.gauge(
            "spans_hidden",
            "1 if a filter of the whole subscriber hides audit spans, so that they make no records.",
            u8::from(self.is_hidden()),
        );
    }

    #[cfg(feature = "redact")]
    fn write_redaction(&self, text: &mut Exposition) {
        let Some(redaction) = self.redaction() else {
            return;
        };
        text.family(
            MetricType::Counter,
            "redactions_total",
            "Values that were redacted, by rule.",
            redaction
                .rules()
                .map(|(rule, count)| ([("rule", rule)], count)),
        );
        text.counter(
            "redaction_records_passed_total",
            "Records that have passed the redactor.",
            redaction.passed(),
        );
        text.counter(
            "redaction_records_stored_total",
            "Records that the local log has taken; never more than have passed.",
            redaction.stored(),
        );
        text.counter(
            "redaction_failures_total",
            "How often a redactor panicked, so that [redaction failed] stands in place of the value.",
            redaction.failed(),
        );
    }

    #[cfg(feature = "otlp")]
    fn write_export(&self, text: &mut Exposition) {
        let Some(export) = self.export() else {
            return;
        };
        let outcomes = [
            ("exported", export.exported()),
            ("by_host", export.by_host()),
            ("refused", export.refused()),
            ("given_up", export.given_up()),
        ];
        text.family(
            MetricType::Counter,
            "export_records_total",
            "Records on their way to OpenTelemetry that are done with, by outcome.",
            outcomes.map(|(outcome, records)| ([("outcome", outcome)], records)),
        );
        text.gauge(
            "export_records_pending",
            "Records in the local log that are still to be exported.",
            export.pending(),
        );
        text.gauge(
            "export_failing",
            "1 if the last request to the collector failed, so that the export waits to retry.",
            u8::from(export.is_failing()),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::{Counters, DropCause, Health, Stats};
    use crate::queue::Queue;

    fn text(counters: &Counters) -> String {
        Stats::take(counters, &Queue::new(1, 1)).prometheus()
    }

    #[test]
    fn counters_are_written_with_base_units_and_labels() {
        let counters = Counters::new(Duration::from_secs(1), 4096);
        counters.count_drops(DropCause::QueueFull, 3);
        counters.count_batch(7, Duration::from_millis(1_500));
        counters.set_spool_bytes(1024);
        counters.set_health(Health::Holding);
        let text = text(&counters);
        for line in [
            "tracing_audit_records_accepted_total 3",
            "tracing_audit_records_dropped_total{cause=\"queue_full\"} 3",
            "tracing_audit_records_dropped_total{cause=\"database_lost\"} 0",
            "tracing_audit_batch_duration_seconds_total 1.5",
            "tracing_audit_last_batch_records 7",
            "tracing_audit_spool_bytes 1024",
            "tracing_audit_spool_quota_bytes 4096",
            "tracing_audit_pending_age_seconds 0",
            "tracing_audit_health{state=\"holding\"} 1",
            "tracing_audit_health{state=\"healthy\"} 0",
            "# TYPE tracing_audit_records_dropped_total counter",
            "# TYPE tracing_audit_spool_bytes gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn each_metric_has_one_help_one_type_and_a_name_that_fits_it() {
        let text = text(&Counters::default());
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let mut words = line.split(' ').skip(2);
            let (name, of_type) = (words.next().unwrap(), words.next().unwrap());
            assert!(seen.insert(name), "{name}");
            assert!(name.starts_with("tracing_audit_"), "{name}");
            assert_eq!(of_type == "counter", name.ends_with("_total"), "{name}");
            let help = format!("# HELP {name} ");
            assert_eq!(text.matches(&help).count(), 1, "{name}");
        }
        assert!(seen.len() >= 19, "{seen:?}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(seen.contains(name), "{line}");
        }
    }
}
