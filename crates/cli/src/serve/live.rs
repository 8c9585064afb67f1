//! New records as they are committed, for the page of the trail.
//!
//! A stream of server-sent events, each with the rows of the table as HTML. Which records are new is
//! a matter of commits, not of times, so it is the feed of `tail` that finds them; whether they match
//! the filter is asked of the database, as on the page. What is sent is recorded before.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc::{Sender, channel};

use super::App;
use super::answer::Refusal;
use super::connections::Lease;
use super::gate::Known;
use super::seals::Seals;
use super::trail::table_rows;
use super::viewer::{Reading, Viewer};
use crate::feed::Feed;
use crate::filter::Filter;
use crate::pages::{Extent, Pages};
use crate::row::RecordId;
use crate::search::matching;

/// The interval between looks for new records.
const EVERY: Duration = Duration::from_secs(1);

/// How many new records are shown at once; of more, the page has only the newest.
const MOST: usize = 100;

/// Of how many new records it is asked whether they match.
const MOST_MATCHED: usize = 5_000;

/// How long a page may take to read what is sent.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How many streams there are at once; of one viewer, [`MOST_OF_VIEWER`].
pub(super) const MOST_STREAMS: usize = 600;
pub(super) const MOST_OF_VIEWER: usize = 10;

/// How long a stream lasts before the browser asks anew, which looks at the rights again.
const LASTS: Duration = Duration::from_mins(15);

/// Sends new records for as long as the page is open and the session lasts.
pub(super) async fn live(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = match Filter::from_query(&query.unwrap_or_default()) {
        // Not its own recordings: each would be recorded in turn.
        Ok(filter) => Filter {
            reads: false,
            ..filter
        },
        Err(error) => return Refusal::from(error).answer("/", Some(&viewer)),
    };
    let token = app.token(&headers).map(str::to_owned);
    let places = (
        Arc::clone(&viewer.streams).try_acquire_owned(),
        Arc::clone(&app.streams).try_acquire_owned(),
    );
    let (Ok(of_viewer), Ok(of_all)) = places else {
        // No content: the browser does not ask again.
        return StatusCode::NO_CONTENT.into_response();
    };
    let (sender, receiver) = channel(4);
    tokio::spawn(async move {
        let _places = (of_viewer, of_all);
        let stream = Stream {
            app,
            viewer,
            token,
            filter,
            sender,
        };
        let said = stream.run().await;
        let end = Event::default().event("end").data(said);
        let _ = tokio::time::timeout(MAX_WAIT, stream.sender.send(Ok(end))).await;
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (event, receiver))
    });
    Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}

/// A stream of new records.
struct Stream {
    app: Arc<App>,
    viewer: Arc<Viewer>,
    /// Of the session; `None` behind a proxy.
    token: Option<String>,
    filter: Filter,
    sender: Sender<Result<Event, Infallible>>,
}

impl Stream {
    /// Follows the trail; returns why it ends, for the reader.
    async fn run(&self) -> String {
        match self.follow().await {
            Ok(said) => said.to_owned(),
            Err(_) => String::from(
                "New records could not be read: the database is away, or you may not read them. Load the page again.",
            ),
        }
    }

    async fn follow(&self) -> Result<&'static str, Refusal> {
        let database = self.viewer.connections.database();
        let begun = Instant::now();
        let mut lease = self.viewer.lease().await?;
        let (mut feed, _) = Feed::begin(database, &mut lease, self.viewer.scope(), 0).await?;
        lease.done();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.sender.closed() => return Ok(""),
            }
            if !self.is_alive() {
                return Ok("Your session is over. Load the page again to log in.");
            }
            if begun.elapsed() >= LASTS {
                return Ok("Paused after 15 minutes. Load the page again to go on.");
            }
            // Not held between looks: there are fewer connections than readers.
            let mut lease = self.viewer.lease().await?;
            let mut new = Vec::new();
            for batch in feed.poll(&mut lease).await? {
                new.extend(feed.records(&mut lease, &batch).await?);
                feed.advance(&batch);
            }
            // Of more, the page could not show any but the newest.
            new.sort_by_key(|record: &RecordId| std::cmp::Reverse(record.id));
            new.truncate(MOST_MATCHED);
            let rows = if new.is_empty() {
                None
            } else {
                self.rows(&mut lease, &new).await?
            };
            lease.done();
            // A page that does not read, such as that of a computer that sleeps, is given up.
            if let Some(rows) = rows {
                let sending = self.sender.send(Ok(rows));
                match tokio::time::timeout(MAX_WAIT, sending).await {
                    Ok(Ok(())) => {}
                    _ => return Ok(""),
                }
            }
        }
    }

    /// Whether the session goes on.
    fn is_alive(&self) -> bool {
        let token = self.token.as_deref();
        token.is_none_or(|token| self.app.sessions.is_alive(token))
    }

    /// Returns those of the new records that match, as they are sent; recorded.
    async fn rows(&self, lease: &mut Lease, new: &[RecordId]) -> Result<Option<Event>, Refusal> {
        let database = self.viewer.connections.database();
        let failed = |source| Refusal::from(database.read_error(source));
        let scope = self.viewer.scope();
        let mut records = matching(lease, scope, &self.filter, new, EVERY * 5)
            .await
            .map_err(failed)??;
        records.sort_by_key(|record| std::cmp::Reverse(record.id));
        records.truncate(MOST);
        let mut pages = Pages::new(records, Extent::Line);
        let mut rows = Vec::new();
        while let Some(page) = pages.next(lease, scope).await.map_err(failed)? {
            rows.extend(page);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let reading = Reading {
            page: "live",
            filter: &self.filter.query(),
            request: self.filter.request.as_deref(),
            tenant: self.filter.tenant.as_deref(),
            records: rows.len(),
        };
        self.viewer.record(lease, &reading).await?;
        let html = table_rows(&rows, &Seals::default()).into_string();
        Ok(Some(Event::default().event("rows").data(html)))
    }
}
