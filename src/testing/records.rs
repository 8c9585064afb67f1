//! Some of a trail's records, by filters that chain.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::columns::Record;
use super::story;
use crate::record::coerce::tenant_uuid;
use crate::record::id::parse_uuid;
use crate::vocabulary::{Kind, Status};

/// A trail at one moment.
pub(super) struct Snapshot {
    pub(super) records: Vec<Record>,
    /// How many records the queue had no room for.
    pub(super) dropped: u64,
    /// How many spans are open whose records come when they close.
    pub(super) open: usize,
}

impl Snapshot {
    /// Returns what to say about records that were dropped.
    pub(super) fn loss(&self) -> Option<String> {
        (self.dropped > 0).then(|| {
            format!(
                "{} records were dropped: the trail's queue was full. Look at the trail in between, or raise \
                 Builder::queue_limits.",
                self.dropped
            )
        })
    }
}

/// Sorts records by their beginning; of those that began in the same microsecond, an enclosing one
/// first. Others keep their order.
pub(super) fn sort(records: &mut [Record]) {
    let parents: HashMap<Uuid, Option<Uuid>> = records
        .iter()
        .map(|record| (record.id(), record.parent_id()))
        .collect();
    let depth = |record: &Record| {
        let parent = |id: &Uuid| parents.get(id).copied().flatten();
        // A parent is always made before its child, so there is no circle.
        std::iter::successors(record.parent_id(), parent).count()
    };
    records.sort_by_cached_key(|record| (record.started_us(), depth(record)));
}

/// Some records of a [`Trail`](super::Trail), in the order in which they began; made by
/// [`Trail::records`](super::Trail::records).
///
/// Filters chain, and each returns fewer records. `Debug` and `Display` write the story of these
/// records, and of the whole trail below it, so that an assertion can show it:
///
/// ```
/// use tracing_audit::{Event, Status, testing};
///
/// let trail = testing::capture();
/// trail.record(Event::new("report.exported").user_id("alice").tenant_id("acme").status(Status::Failed));
/// trail.record(Event::new("report.exported").user_id("bob").tenant_id("acme").status(Status::Succeeded));
///
/// let of_acme = trail.events().by_tenant("acme");
/// assert_eq!(of_acme.len(), 2, "{of_acme}");
/// let failed = of_acme.with_status(Status::Failed).one();
/// assert_eq!(failed.user_id(), Some("alice"));
/// ```
#[derive(Clone)]
#[must_use = "records say nothing until something is asserted of them"]
pub struct Records {
    found: Vec<Record>,
    filters: Vec<String>,
    trail: Arc<Snapshot>,
}

impl Records {
    pub(super) fn all(trail: Arc<Snapshot>) -> Self {
        Self {
            found: trail.records.clone(),
            filters: Vec::new(),
            trail,
        }
    }

    fn filter(mut self, name: String, keep: impl Fn(&Record) -> bool) -> Self {
        self.found.retain(keep);
        self.filters.push(name);
        self
    }

    /// Keeps the records of a kind.
    pub fn of_kind(self, kind: Kind) -> Self {
        self.filter(kind.to_string(), |record| record.kind() == kind)
    }

    /// Keeps the records of a user, by `user_id`.
    pub fn by_user(self, user_id: &str) -> Self {
        let name = format!("user_id = {user_id:?}");
        self.filter(name, |record| record.user_id() == Some(user_id))
    }

    /// Keeps the records of a tenant, by its UUID or its key.
    pub fn by_tenant(self, tenant: &str) -> Self {
        let id = parse_uuid(tenant).unwrap_or_else(|| tenant_uuid(tenant));
        let name = format!("tenant_id = {tenant:?}");
        self.filter(name, |record| record.tenant_id() == Some(id))
    }

    /// Keeps the records of a request, by `request_id`.
    pub fn of_request(self, request_id: &str) -> Self {
        let name = format!("request_id = {request_id:?}");
        self.filter(name, |record| record.request_id() == Some(request_id))
    }

    /// Keeps the records with this outcome.
    pub fn with_status(self, status: Status) -> Self {
        self.filter(format!("status = {status}"), |record| {
            record.status() == status
        })
    }

    /// Keeps the events of this type.
    pub fn with_action_type(self, action_type: &str) -> Self {
        let name = format!("action_type = {action_type:?}");
        self.filter(name, |record| record.action_type() == Some(action_type))
    }

    /// Keeps the records directly inside another one.
    pub fn inside(self, parent: &Record) -> Self {
        let id = Some(parent.id());
        self.filter(format!("parent_id = {}", parent.id()), |record| {
            record.parent_id() == id
        })
    }

    /// Keeps the records for which `keep` returns true.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// let slow = trail.query_runs().matching(|query| query.duration().is_some_and(|took| took.as_secs() > 1));
    /// assert!(slow.is_empty(), "{slow}");
    /// ```
    pub fn matching(self, keep: impl Fn(&Record) -> bool) -> Self {
        self.filter(String::from("a condition of the test's"), keep)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the records in the order in which they began.
    pub fn iter(&self) -> std::slice::Iter<'_, Record> {
        self.found.iter()
    }

    /// Returns the only record.
    ///
    /// # Panics
    ///
    /// With the story, unless there is exactly one.
    #[track_caller]
    pub fn one(self) -> Record {
        match &*self.found {
            [record] => record.clone(),
            _ => panic!("expected one record\n{self}"),
        }
    }

    /// Returns the records if there are `count` of them.
    ///
    /// # Panics
    ///
    /// With the story, if there are more or fewer.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// let _ = trail.prompt_runs().exactly(0);
    /// ```
    #[track_caller]
    pub fn exactly(self, count: usize) -> Self {
        assert!(self.len() == count, "expected {count} records\n{self}");
        self
    }
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = std::vec::IntoIter<Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.filters.is_empty() {
            let (found, filters) = (self.found.len(), self.filters.join(", "));
            writeln!(f, "found {found} with {filters}")?;
            story::write(f, &self.found)?;
            writeln!(f, "of {} in the trail", self.trail.records.len())?;
        } else if self.trail.records.is_empty() {
            writeln!(f, "no records")?;
        }
        story::write(f, &self.trail.records)?;
        match self.trail.open {
            0 => {}
            1 => writeln!(f, "1 span is still open: its record comes when it closes.")?,
            open => writeln!(
                f,
                "{open} spans are still open: their records come when they close."
            )?,
        }
        match self.trail.loss() {
            Some(loss) => writeln!(f, "{loss}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Records {
    /// Writes the same as [`Display`](fmt::Display).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
