//! The loop that exports this process's log, and orphaned ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use rand::RngExt as _;

use super::destination::Destination;
use super::fault::{Fault, PATIENCE};
use super::metrics::Metrics;
use super::payload::{self, Gap, MAX_RECORDS, Payload, Scoped};
use crate::clock::Moment;
use crate::config::otlp::Otlp;
use crate::delivery::export::{Export, LEFT_EVERY};
use crate::report;
use crate::sink::backoff::Backoff;
use crate::sink::source::Source;
use crate::spool::{Log, LogError, Sink, Spool};
use crate::stats::Counters;

/// The pause after the first failed request; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two attempts, unless the collector asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pause after an answer whose cause only an operator can fix.
const HOLD_PAUSE: Duration = Duration::from_mins(1);

/// How many spans may be refused in a row before each further refusal is followed by a pause.
const FREE_REFUSALS: u32 = 3;

/// How often in a row a request for [one log](Drain::run_one) may fail; the pauses between them are
/// about 15 s together.
const ATTEMPTS: u32 = 6;

/// The pause after the log could not be read; its writer opens it again.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// A log that is being exported, and how far that has come.
#[derive(Debug)]
struct Exporting {
    source: Source,
    resource: Resource,
    /// The seq of the next record to export.
    position: u64,
    /// The most records in the next request.
    limit: u64,
    /// How often in a row a request with these records was refused without a reason.
    unexplained: u32,
}

impl Exporting {
    fn new(source: Source, settings: &Otlp) -> Self {
        Self {
            resource: payload::resource(source.log(), settings),
            position: source.log().position(Sink::Otlp).max(1),
            source,
            limit: MAX_RECORDS,
            unexplained: 0,
        }
    }

    fn is_adopted(&self) -> bool {
        self.source.is_adopted()
    }

    fn log(&self) -> &Log {
        self.source.log()
    }
}

/// Exports logs until asked to stop. After a panic it can be run again, and continues where it was.
#[derive(Debug)]
pub(crate) struct Drain {
    settings: Otlp,
    export: Arc<Export>,
    counters: Arc<Counters>,
    destination: Destination,
    metrics: Option<Metrics>,
    /// This process's own log first, then the adopted one, if any.
    sources: Vec<Exporting>,
    /// Before this, no folder is tried that another process had.
    adopt_after: Option<Instant>,
    backoff: Backoff,
    /// The records that were given up and not yet reported.
    gap: Option<Gap>,
    has_refused: bool,
    /// The seq of the last record of this process that is in the metrics: the request after a
    /// failed one may contain the same records.
    metered: u64,
    /// When to give up; `None`: never.
    patience: Option<Patience>,
}

/// When to give up, for an export that does not go on forever.
#[derive(Debug, Default)]
struct Patience {
    /// How many requests in a row have failed.
    failures: u32,
    /// Why the export was given up.
    why: Option<String>,
}

/// What happened to spans that were sent.
#[derive(Clone, Copy, Debug, Default)]
struct Delivered {
    taken: u64,
    refused: u64,
    end: End,
}

/// How sending spans ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// Every span was accepted or refused.
    Complete,
    /// The spool has discarded the records.
    GivenUp,
    /// The collector refuses the request again and again, and gives no reason.
    Unexplained,
    /// The collector accepts nothing at the moment, and there is something else to do.
    #[default]
    Pending,
}

impl Drain {
    pub(super) fn new(
        settings: Otlp,
        export: Arc<Export>,
        counters: Arc<Counters>,
        destination: Destination,
        metrics: Option<Metrics>,
        own: Arc<Spool>,
    ) -> Self {
        let own = Exporting::new(Source::own(own), &settings);
        Self {
            settings,
            export,
            counters,
            destination,
            metrics,
            sources: vec![own],
            adopt_after: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            gap: None,
            has_refused: false,
            metered: 0,
            patience: None,
        }
    }

    /// An export of one log, whose process is dead and whose records are in Postgres.
    pub(super) fn of_one(
        settings: Otlp,
        counters: Arc<Counters>,
        destination: Destination,
        log: Arc<Spool>,
    ) -> Self {
        let export = Arc::new(Export::new(Arc::clone(&counters)));
        let mut drain = Self::new(
            settings,
            export,
            counters,
            destination,
            None,
            Arc::clone(&log),
        );
        drain.sources = vec![Exporting::new(Source::adopted(log), &drain.settings)];
        drain.patience = Some(Patience::default());
        drain
    }

    /// Exports that log and removes it; a request that fails is retried for some seconds.
    /// Returns why the export was given up, if it was.
    pub(crate) async fn run_one(mut self) -> Option<String> {
        loop {
            let why = self
                .patience
                .as_mut()
                .and_then(|patience| patience.why.take());
            if why.is_some() || self.sources.is_empty() {
                return why;
            }
            self.export_from(0).await;
        }
    }

    /// Runs until asked to stop. A request in flight is dropped then: the next process exports its
    /// records again.
    pub(crate) async fn run(&mut self) {
        let export = Arc::clone(&self.export);
        tokio::select! {
            biased;
            () = export.wait_for_stop() => {}
            () = self.work() => {}
        }
        if let Some(metrics) = self.metrics.take() {
            metrics.shut_down().await;
        }
        self.destination.shut_down().await;
    }

    /// Must be called before it is run again after a panic, which may have interrupted a request.
    pub(crate) fn renew(&self) {
        self.destination.renew();
    }

    async fn work(&mut self) {
        loop {
            self.note_given_up();
            self.tell_gap().await;
            self.adopt();
            let mut is_idle = self.gap.is_none() || !self.settings.traces;
            // In turn, so that orphaned records and new ones do not hold each other up. A process
            // that ends exports its own first: the pause after a failure would be the last thing it
            // does.
            let has_own = self.export.waiting(self.sources[0].position) > 0;
            let sources = if has_own && self.export.is_ending() {
                1
            } else {
                self.sources.len()
            };
            for index in (0..sources).rev() {
                if index > 0 || self.export.waiting(self.sources[0].position) > 0 {
                    is_idle = false;
                    self.say_ignored();
                    // A request that is full already is sent without a wait.
                    if index == 0 && self.export.waiting(self.sources[0].position) < MAX_RECORDS {
                        self.export.gather(self.settings.delay).await;
                    }
                    self.export_from(index).await;
                }
            }
            if is_idle {
                self.export.changed().await;
            }
        }
    }

    /// Warns about settings that are ignored: now that records arrive, there is a subscriber.
    fn say_ignored(&mut self) {
        for (name, why) in std::mem::take(&mut self.settings.ignored) {
            report::say(move || {
                tracing::warn!(target: "tracing_audit", "audit trail: {name} does not count: it {why}");
            });
        }
    }

    /// Notes the records that the spool has discarded because they exceeded the quota.
    fn note_given_up(&mut self) {
        let (from, floor) = (self.sources[0].position, self.export.floor());
        if floor > from {
            self.give_up(from, floor, floor - from);
        }
    }

    /// Counts records of this process between two positions as given up.
    fn give_up(&mut self, from: u64, end: u64, records: u64) {
        let now = Moment::now().wall_us();
        if self.gap.is_none() {
            report::say(|| {
                tracing::error!(
                    target: "tracing_audit",
                    "audit trail: the export has used up its part of the local log: the oldest records are not exported; Postgres gets them all the same"
                );
            });
        }
        let gap = self.gap.get_or_insert(Gap {
            records: 0,
            first_seq: from,
            last_seq: 0,
            first_us: now,
            last_us: now,
        });
        gap.records += records;
        gap.last_seq = end - 1;
        gap.last_us = now;
        self.counters.export.count_given_up(records);
        self.sources[0].position = end;
        self.export.advance(end);
    }

    /// Reports the records that were given up, in a span of this process.
    async fn tell_gap(&mut self) {
        if let Some(gap) = self.gap
            && self.settings.traces
        {
            let told = vec![gap.span(&self.settings)];
            // Stops early if more is given up, to report both together.
            let more = self.sources[0].position + 1;
            if self.deliver(0, told, more).await.end == End::Complete {
                self.gap = None;
            }
            self.sources[0].unexplained = 0;
        }
    }

    /// Takes over the next log whose records are in Postgres, one at a time.
    fn adopt(&mut self) {
        let mut with_held = self.adopt_after.is_none_or(|at| Instant::now() >= at);
        while self.sources.len() == 1
            && let Some(path) = self.export.take_left(with_held)
        {
            match Source::take_over(&path) {
                Ok(Some(source)) => self.sources.push(Exporting::new(source, &self.settings)),
                // Another process has it, or has removed it.
                Ok(None) if path.exists() => {
                    self.export.put_back(path);
                    self.adopt_after = Some(Instant::now() + LEFT_EVERY);
                    with_held = false;
                }
                Ok(None) => {}
                Err(error) => set_aside(&error),
            }
        }
        self.export.set_adopting(self.sources.len() > 1);
    }

    /// Exports the next records of a log, if it has any.
    async fn export_from(&mut self, index: usize) {
        let source = &self.sources[index];
        let (from, is_adopted) = (source.position, source.is_adopted());
        let metrics = self.metrics.as_ref().filter(|_| !is_adopted);
        let limit = source.limit;
        let metered = &mut self.metered;
        let read = Payload::read(
            source.log(),
            from,
            limit,
            &self.settings,
            |seq, row, facts| {
                if let Some(metrics) = metrics
                    && seq > *metered
                {
                    *metered = seq;
                    metrics.record(row, facts);
                }
            },
        );
        let mut payload = match read {
            Ok(payload) => payload,
            Err(error) if is_adopted => {
                self.abandon(index, &error);
                return;
            }
            Err(_) => {
                self.export.pause(LOG_PAUSE).await;
                return;
            }
        };
        if payload.end == from {
            self.finish(index);
            return;
        }
        let (begin, end) = (payload.begin, payload.end);
        if begin > from && !is_adopted {
            // The spool has discarded them since the last check.
            self.give_up(from, begin, begin - from);
        }
        let spans = std::mem::take(&mut payload.spans);
        let count = spans.len() as u64;
        let mut delivered = self.deliver(index, spans, end).await;
        let source = &mut self.sources[index];
        match delivered.end {
            End::Complete => {
                source.limit = (source.limit * 2).min(MAX_RECORDS);
                source.unexplained = 0;
            }
            End::Unexplained if count == 1 => {
                // It was alone in its request, and refused again and again.
                delivered.refused = 1;
                delivered.end = End::Complete;
                source.unexplained = 0;
                self.refuses(String::from("no reason"));
            }
            End::Unexplained => {
                source.limit = (count / 2).max(1);
                source.unexplained = 0;
                return;
            }
            // The other log is next.
            End::Pending => return,
            End::GivenUp => {}
        }
        let counters = &self.counters.export;
        let refused = payload.unreadable + delivered.refused;
        if is_adopted {
            counters.count_records(delivered.taken + payload.by_host + refused);
        }
        counters.count_exported(delivered.taken);
        counters.count_by_host(payload.by_host);
        counters.count_refused(refused);
        if delivered.end == End::Complete {
            self.advance(index, end);
        } else {
            let records = count - delivered.taken - delivered.refused;
            self.give_up(begin, end, records);
        }
    }

    /// Advances a log's position: the records before `position` are done.
    fn advance(&mut self, index: usize, position: u64) {
        let source = &mut self.sources[index];
        source.position = position;
        if source.is_adopted() {
            let log = source.log();
            let stored = log.set_positions(|| log.positions().with(Sink::Otlp, position));
            if let Err(error) = stored {
                self.abandon(index, &error);
            }
        } else {
            self.export.advance(position);
        }
    }

    /// Sends spans, in as many requests as it takes, until each is accepted or refused, or the
    /// spool has discarded the records before `end`.
    async fn deliver(&mut self, index: usize, spans: Vec<Scoped>, end: u64) -> Delivered {
        let is_adopted = self.sources[index].is_adopted();
        let mut delivered = Delivered::default();
        let mut parts = VecDeque::from([spans]);
        let (mut late, mut refusals) = (0, 0);
        while let Some(mut part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            let resource = &self.sources[index].resource;
            let count = part.len() as u64;
            match self.destination.spans(resource, &part).await {
                Ok(refused) => {
                    delivered.taken += count - refused.min(count);
                    delivered.refused += refused.min(count);
                    (late, refusals) = (0, 0);
                    self.sources[index].unexplained = 0;
                    self.note_success();
                    if refused > 0 && self.destination.reads_again() {
                        self.refuses(String::from("the exporter fails on it alone"));
                    }
                }
                Err(Fault::Refused { cause }) if part.len() == 1 => {
                    delivered.refused += 1;
                    refusals += 1;
                    self.refuses(cause);
                    if refusals > FREE_REFUSALS {
                        // It may be a rate limit rather than something in the request.
                        let pause = self.backoff.next_pause();
                        self.export.pause(pause).await;
                    }
                }
                Err(Fault::Refused { .. }) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.push_front(rest);
                    parts.push_front(part);
                }
                Err(fault) => {
                    late += u32::from(fault == Fault::TimedOut);
                    if late > 1 && part.len() > 1 {
                        // The request may be too large.
                        parts.push_front(part.split_off(part.len() / 2));
                    }
                    parts.push_front(part);
                    if matches!(fault, Fault::Unexplained { .. }) {
                        self.sources[index].unexplained += 1;
                    }
                    self.failed(&fault, is_adopted).await;
                    if !is_adopted && self.export.floor() >= end {
                        delivered.end = End::GivenUp;
                        return delivered;
                    }
                    if self.sources[index].unexplained >= PATIENCE {
                        delivered.end = End::Unexplained;
                        return delivered;
                    }
                    if is_adopted || self.destination.reads_again() {
                        return delivered;
                    }
                }
            }
        }
        delivered.end = End::Complete;
        delivered
    }

    /// Notes that the collector accepts spans.
    fn note_success(&mut self) {
        self.counters.export.set_failing(false);
        self.backoff.reset();
        if let Some(patience) = &mut self.patience {
            patience.failures = 0;
        }
        if self.export.mark_working() {
            report::say(|| {
                tracing::info!(target: "tracing_audit", "audit trail: the collector takes spans again");
            });
        }
    }

    /// Reports a refused span, the first time.
    fn refuses(&mut self, cause: String) {
        if std::mem::replace(&mut self.has_refused, true) {
            return;
        }
        report::say(move || {
            tracing::warn!(
                target: "tracing_audit",
                %cause,
                "audit trail: the collector refused a span; its record is in Postgres. Further refusals are counted only"
            );
        });
    }

    /// Reports a failed request, if that is news, and pauses.
    async fn failed(&mut self, fault: &Fault, is_adopted: bool) {
        self.counters.export.set_failing(true);
        if self.export.mark_failing(is_adopted) {
            let cause = fault.cause().to_owned();
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    %cause,
                    "audit trail: cannot export spans to the collector; they are kept in the local log and sent again. Postgres gets its records all the same"
                );
            });
        }
        let is_partly = matches!(fault, Fault::Partly { .. });
        if is_partly {
            self.backoff.reset();
        }
        if let Some(patience) = &mut self.patience {
            patience.failures = if is_partly { 0 } else { patience.failures + 1 };
            if patience.failures >= ATTEMPTS || matches!(fault, Fault::Hold { .. }) {
                let cause = fault.cause();
                patience.why = Some(format!("the collector does not accept the spans: {cause}"));
                return;
            }
        }
        let jitter = 0.4 * rand::rng().random::<f64>();
        let next = self.backoff.next_pause();
        let pause = match fault {
            Fault::Hold { .. } => HOLD_PAUSE,
            _ => next,
        };
        // The pause that the collector asks for is the minimum.
        let least = match fault {
            Fault::Retry { after, .. } => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let pause = pause.mul_f64(0.8 + jitter).max(least.mul_f64(1.0 + jitter));
        self.export.pause(pause).await;
    }

    /// Stops exporting an adopted log that cannot be read or changed.
    fn abandon(&mut self, index: usize, error: &LogError) {
        self.sources.remove(index);
        match &mut self.patience {
            Some(patience) => {
                let causes = crate::error::causes(error);
                patience.why = Some(format!("the local log cannot be read or changed: {causes}"));
            }
            None => set_aside(error),
        }
    }

    /// Removes an adopted log that is exported.
    fn finish(&mut self, index: usize) {
        if self.sources[index].is_adopted() {
            self.sources.remove(index).source.remove();
        }
    }
}

fn set_aside(error: &dyn std::error::Error) {
    let error = crate::error::causes(error);
    report::say(move || {
        tracing::error!(
            target: "tracing_audit",
            error,
            "audit trail: cannot export a local log that another process left; the log is kept"
        );
    });
}
