//! The trail in memory, for tests of your own program: no Postgres, no folder, no thread, nothing to flush. Needs feature
//! `testing`, which belongs into the `[dev-dependencies]`.
//!
//! [`capture`] gives a [`Trail`]: a layer for the test's subscriber, and the records as typed values. A record is there as
//! soon as its span has closed, and has the values that its row would have: they are coerced by the same code, with the
//! same [`problems`](Record::problems).
//!
//! ```
//! use tracing::{info_span, instrument};
//! use tracing_audit::{Status, testing};
//!
//! #[instrument(name = "audit.query_run", skip_all, fields(sql_text = sql, row_count = 3), ret)]
//! fn run(sql: &str) -> Result<u8, std::fmt::Error> {
//!     Ok(3)
//! }
//!
//! let trail = testing::capture();
//! let _guard = trail.set_default(); // for this thread, until the guard is dropped
//!
//! info_span!("request", request_id = "r-1", user_id = "alice").in_scope(|| run("SELECT 1")).unwrap();
//!
//! let query = trail.query_runs().by_user("alice").of_request("r-1").one();
//! assert_eq!(query.sql_text(), Some("SELECT 1"));
//! assert_eq!(query.status(), Status::Succeeded);
//! assert_eq!(query.row_count(), Some(3));
//! assert!(trail.events().is_empty(), "{}", trail.story());
//! ```
//!
//! An assertion that fails prints the story: [`Records`] shows itself as one, and [`Records::one`] panics with it.
//!
//! # Which subscriber
//!
//! | the test | its subscriber |
//! |---|---|
//! | stays on one thread, `#[tokio::test]` among them | `let _guard = trail.set_default();` |
//! | the same, with layers of its own | `let _guard = registry().with(trail.layer()).with(…).set_default();` |
//! | spawns tasks on several threads | `.with_subscriber(registry().with(trail.layer()))` of `tracing::instrument::WithSubscriber` on the future, and `.with_current_subscriber()` on what it spawns |
//! | starts threads of its own | `dispatcher::with_default` in each of them |
//! | runs code that starts threads or tasks which it cannot reach | one global subscriber, below |
//!
//! Each [`Trail`] has records of its own, so that tests that run at the same time do not see each other's.
//!
//! **Under a global subscriber** all tests of the binary write into one trail. Make it once, and let each test look for a
//! request or a user of its own:
//!
//! ```
//! use std::sync::LazyLock;
//! use tracing_audit::testing::{self, Trail};
//! use tracing_subscriber::prelude::*;
//!
//! static TRAIL: LazyLock<Trail> = LazyLock::new(|| {
//!     let trail = testing::capture();
//!     tracing_subscriber::registry().with(trail.layer()).init();
//!     trail
//! });
//!
//! let trail = &*TRAIL; // first of all in each test
//! std::thread::spawn(|| {
//!     tracing::info_span!("audit.event", action_type = "report.exported", request_id = "r-17");
//! })
//! .join()
//! .unwrap();
//! assert_eq!(trail.events().of_request("r-17").one().action_type(), Some("report.exported"));
//! ```
//!
//! # With your program's settings
//!
//! [`Builder::capture`] takes the settings that change what a record looks like, such as the limits, from a [`Builder`].
//!
//! # Bounds
//!
//! Between two looks at the trail, 1,000,000 records or 1 GiB of them fit into its queue. Those beyond are dropped and
//! counted: the story says so, and whatever asks for records panics.

#![allow(
    clippy::panic,
    reason = "for tests: what a test cannot go on with ends it"
)]

mod columns;
mod records;
mod story;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use uuid::Uuid;

use crate::config::{Builder, IntakeConfig};
use crate::fork::Process;
use crate::intake::Intake;
use crate::layer::{self, AuditLayer};
use crate::record::NewRecord;
use crate::redact::Rules;
use crate::stats::{Counters, Stats};
use crate::vocabulary::{Activities, Kind};

pub use self::columns::Record;
pub use self::records::Records;
use self::records::Snapshot;

/// How much fits between two looks at the trail, in records and bytes.
const QUEUE: (usize, usize) = (1_000_000, 1 << 30);

/// Starts a trail in memory with the default settings. See the [module](self) for how to use it.
///
/// ```
/// let trail = tracing_audit::testing::capture();
/// let _guard = trail.set_default();
/// tracing::info_span!("audit.event", action_type = "report.exported");
/// assert_eq!(trail.events().one().action_type(), Some("report.exported"));
/// ```
pub fn capture() -> Trail {
    Builder::default().capture()
}

impl Builder {
    /// Starts a trail in memory, for tests, with the settings that change what a record looks like
    /// or how many fit: [`limits`](Self::limits),
    /// [`record_parameters`](Self::record_parameters), [`activities`](Self::activities), `redact`,
    /// [`queue_limits`](Self::queue_limits) (default here: 1,000,000 records, 1 GiB). All others are
    /// ignored: no database is needed. Needs feature `testing`; see [`testing`](crate::testing).
    ///
    /// ```
    /// use tracing_audit::{Audit, Limits};
    ///
    /// let limits = Limits::default().with_field_bytes(256);
    /// let trail = Audit::builder().limits(limits).capture();
    /// let _guard = trail.set_default();
    /// tracing::info_span!("audit.event", input_summary = "x".repeat(300));
    /// assert_eq!(trail.events().one().input_summary().map(str::len), Some(256));
    /// ```
    ///
    /// # Panics
    ///
    /// If the rules of `redact` cannot be used.
    pub fn capture(self) -> Trail {
        match self.without_pipeline(QUEUE) {
            Ok((config, activities, redactor)) => Trail::new(&config, activities, redactor),
            Err(error) => panic!("the trail cannot be captured: {error:?}"),
        }
    }
}

/// A trail in memory; made by [`capture`] or [`Builder::capture`].
///
/// A clone is another handle of the same trail. The records stay in memory until the last handle
/// is dropped.
#[derive(Clone)]
pub struct Trail {
    intake: Arc<Intake>,
    activities: Activities,
    redactor: Rules,
    /// The records that are decoded.
    decoded: Arc<Mutex<Vec<Record>>>,
}

impl fmt::Debug for Trail {
    /// Writes the story.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story())
    }
}

impl Trail {
    fn new(config: &IntakeConfig, activities: Activities, redactor: Rules) -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            intake: Arc::new(Intake::new(config, counters, Process::current())),
            activities,
            redactor,
            decoded: Arc::default(),
        }
    }

    /// Returns a layer that turns audit spans into records of this trail, as
    /// [`Audit::layer`](crate::Audit::layer) does into rows.
    ///
    /// ```
    /// use tracing_subscriber::prelude::*;
    ///
    /// let trail = tracing_audit::testing::capture();
    /// let subscriber = tracing_subscriber::registry().with(trail.layer());
    /// tracing::subscriber::with_default(subscriber, || {
    ///     tracing::info_span!("audit.event", action_type = "report.exported");
    /// });
    /// assert_eq!(trail.events().len(), 1);
    /// ```
    pub fn layer<S>(&self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        layer::new(Arc::clone(&self.intake))
    }

    /// Sets a subscriber of this trail's layer alone as the current thread's, until the guard is
    /// dropped. In a `#[tokio::test]` the tasks that are spawned run on the same thread.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// let _guard = trail.set_default();
    /// ```
    #[must_use = "dropping the guard takes the subscriber away again"]
    pub fn set_default(&self) -> DefaultGuard {
        tracing_subscriber::registry()
            .with(self.layer())
            .set_default()
    }

    /// Records an action without a span and returns the record's id, as
    /// [`Audit::record`](crate::Audit::record) does.
    ///
    /// There is no [`Audit`](crate::Audit) of a trail in memory: nothing could be flushed or
    /// committed. Code that calls `Audit::record` can be tested if it takes a closure instead.
    ///
    /// # Panics
    ///
    /// If the trail's queue is full.
    ///
    /// ```
    /// use tracing_audit::{Event, NewRecord, testing};
    ///
    /// fn export(record: impl Fn(NewRecord)) {
    ///     record(Event::new("report.exported").target("report", "7").into());
    /// }
    ///
    /// let trail = testing::capture();
    /// export(|event| _ = trail.record(event));
    /// assert_eq!(trail.events().one().target_id(), Some("7"));
    /// ```
    #[track_caller]
    pub fn record(&self, record: impl Into<NewRecord>) -> Uuid {
        match self.intake.record(&record.into()) {
            Ok(id) => id,
            Err(error) => panic!("the record is not in the trail: {error}"),
        }
    }

    /// Returns the records of all spans that have closed so far, in the order in which they began;
    /// an enclosing span's first.
    ///
    /// # Panics
    ///
    /// If records were dropped because the trail's queue was full.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// trail.record(tracing_audit::Event::new("report.exported"));
    /// for record in trail.records() {
    ///     println!("{record}");
    /// }
    /// ```
    #[track_caller]
    pub fn records(&self) -> Records {
        let snapshot = self.look();
        if let Some(loss) = snapshot.loss() {
            panic!("{loss}");
        }
        Records::all(snapshot)
    }

    /// Returns the query runs, as [`records`](Self::records) does.
    ///
    /// # Panics
    ///
    /// As [`records`](Self::records).
    #[track_caller]
    pub fn query_runs(&self) -> Records {
        self.records().of_kind(Kind::QueryRun)
    }

    /// Returns the prompt runs, as [`records`](Self::records) does.
    ///
    /// # Panics
    ///
    /// As [`records`](Self::records).
    #[track_caller]
    pub fn prompt_runs(&self) -> Records {
        self.records().of_kind(Kind::PromptRun)
    }

    /// Returns the events, also those that go to `audit.activities`, as
    /// [`records`](Self::records) does.
    ///
    /// # Panics
    ///
    /// As [`records`](Self::records).
    #[track_caller]
    pub fn events(&self) -> Records {
        self.records().of_kind(Kind::Event)
    }

    /// Returns all records as text, a tree for each request, to be read when an assertion fails. It
    /// says how many spans are still open, and how many records were dropped.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// trail.record(tracing_audit::Event::new("report.exported").request_id("r-1"));
    /// assert!(trail.story().contains("report.exported"), "{}", trail.story());
    /// ```
    pub fn story(&self) -> String {
        Records::all(self.look()).to_string()
    }

    /// Takes what is in the queue.
    fn look(&self) -> Arc<Snapshot> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffers = Vec::new();
        let _ = self.intake.queue.drain(&mut buffers);
        for buffer in buffers {
            let buffer = self.redactor.pass(buffer);
            for frame in buffer.iter() {
                match Record::decode(frame, &self.activities) {
                    Ok(record) => decoded.push(record),
                    Err(error) => panic!("a record of this library cannot be read: {error}"),
                }
            }
            self.intake.queue.recycle(buffer.into_frames().bytes);
        }
        records::sort(&mut decoded);
        Arc::new(Snapshot {
            records: decoded.clone(),
            dropped: Stats::take(&self.intake.counters, &self.intake.queue).dropped(),
            open: self.intake.open_records(),
        })
    }
}
