//! Downloads: what the page of the trail shows, as a file in one of the formats of `export`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use clap::ValueEnum as _;
use futures_util::stream;
use maud::{Markup, html};
use serde_json::{Map, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::answer::Refusal;
use super::connections::Lease;
use super::gate::Known;
use super::viewer::Viewer;
use crate::complain;
use crate::export::job::{Begun, Format, Job, JobError};
use crate::filter::Filter;

/// The longest purpose, in bytes: the limit of `audit.record_reading`.
const MOST_PURPOSE: usize = 4_096;

/// How many chunks wait for the browser.
const WAITING: usize = 4;

/// How many downloads there are at once, and of one person, in however many sessions.
const MOST: usize = 4;
const MOST_OF_PERSON: usize = 2;

/// The places for downloads.
#[derive(Debug)]
pub(super) struct Downloads {
    all: Arc<Semaphore>,
    of_person: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A download's place among all, and among those of the person.
type Place = [OwnedSemaphorePermit; 2];

impl Default for Downloads {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST)),
            of_person: Mutex::default(),
        }
    }
}

impl Downloads {
    /// Takes a place for a person; `None`: there is none now.
    fn place(&self, person: &str) -> Option<Place> {
        let mut of_person = self
            .of_person
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        of_person.retain(|_, places| places.available_permits() < MOST_OF_PERSON);
        let places = of_person
            .entry(person.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_PERSON)));
        let of_person = Arc::clone(places).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some([of_person, of_all])
    }
}

/// An export to a browser.
struct Download {
    viewer: Arc<Viewer>,
    filter: Filter,
    format: Format,
    purpose: String,
}

/// Sends the records of a filter as a file. It is recorded before the first byte, and when it ended.
///
/// A download that fails midway is broken off, which a browser shows as failed: it is never called
/// whole.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match Download::of(Arc::clone(&viewer), &query.unwrap_or_default()) {
        Ok(download) => match download.begin(&app).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer("/", Some(&viewer)),
        },
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

impl Download {
    fn of(viewer: Arc<Viewer>, query: &str) -> Result<Self, Refusal> {
        let mut filter = Filter::default();
        let mut format = None;
        let mut purpose = viewer.purpose.clone();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "purpose" if !value.trim().is_empty() => purpose = Some(value.trim().to_owned()),
                "format" => format = Format::from_str(&value, false).ok(),
                _ if value.trim().is_empty() => {}
                name => filter.add(name, value.trim())?,
            }
        }
        let format = format.ok_or(Refusal::NotFound("format"))?;
        if viewer.reads_all() && purpose.is_none() {
            return Err(Refusal::NoPurpose);
        }
        let purpose = purpose.unwrap_or_else(|| String::from("a download from the page"));
        if purpose.len() > MOST_PURPOSE {
            return Err(Refusal::LongPurpose);
        }
        Ok(Self {
            viewer,
            filter,
            format,
            purpose,
        })
    }

    fn job(&self) -> Job<'_> {
        let mut reader = Map::new();
        reader.insert(String::from("reader"), json!(self.viewer.name));
        reader.insert(String::from("way"), json!(self.viewer.way.name()));
        Job {
            database: self.viewer.connections.database(),
            scope: self.viewer.scope_of(self.filter.tenant.as_deref()),
            filter: &self.filter,
            format: self.format,
            purpose: &self.purpose,
            reader,
            is_raw: false,
            most_proven: None,
            is_shown: false,
            #[cfg(feature = "archive")]
            archive: None,
        }
    }

    /// Records that the download begins, and answers with its bytes as they come.
    async fn begin(self, app: &App) -> Result<Response, Refusal> {
        let place = app.downloads.place(&self.viewer.name);
        let place = place.ok_or(Refusal::TooManyDownloads)?;
        let mut lease = self.viewer.lease().await?;
        let begun = match self.job().begin(&mut lease).await {
            Ok(begun) => begun,
            Err(JobError::Trail(error)) => return Err(error.into()),
            Err(JobError::Filter(error)) => return Err(error.into()),
            Err(JobError::Output(_) | JobError::TooManyProofs(_)) => {
                return Err(Refusal::NotFound("download"));
            }
        };
        let name = format!(
            "attachment; filename=\"trail-{}.{}\"",
            begun.event,
            match self.format {
                Format::Ocsf => "ocsf.jsonl",
                format => format.name(),
            }
        );
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static(self.format.media_type()),
            ),
            (
                header::CONTENT_DISPOSITION,
                HeaderValue::from_str(&name)
                    .unwrap_or_else(|_| HeaderValue::from_static("attachment")),
            ),
        ];
        let (sender, receiver) = channel::<Vec<u8>>(WAITING);
        let sending = tokio::spawn(self.send(lease, begun, sender, place));
        Ok((headers, Body::from_stream(chunks(receiver, sending))).into_response())
    }

    /// Hands over all bytes; returns whether they were all, and that is recorded.
    async fn send(
        self,
        mut lease: Lease,
        begun: Begun,
        mut sender: tokio::sync::mpsc::Sender<Vec<u8>>,
        _place: Place,
    ) -> bool {
        let job = self.job();
        let sent = async {
            let written = job.transfer(&mut lease, &begun, &mut sender).await?;
            job.end(&mut lease, &begun, &written).await?;
            Ok::<_, JobError>(())
        };
        let sent = sent.await;
        match sent {
            Ok(()) => {
                lease.done();
                true
            }
            // The reader went away.
            Err(JobError::Output(_)) => false,
            Err(error) => {
                complain(&format!("a download was broken off: {error}"));
                false
            }
        }
    }
}

/// Returns the chunks; an error in place of the end if not all were sent, so that the connection is
/// broken off.
fn chunks(
    receiver: Receiver<Vec<u8>>,
    sending: tokio::task::JoinHandle<bool>,
) -> impl futures_util::Stream<Item = Result<Vec<u8>, std::io::Error>> {
    stream::unfold(
        (receiver, Some(sending)),
        |(mut receiver, sending)| async move {
            if let Some(chunk) = receiver.recv().await {
                return Some((Ok(chunk), (receiver, sending)));
            }
            let is_whole = sending?.await.unwrap_or(false);
            let broken = || Err(std::io::ErrorKind::BrokenPipe.into());
            (!is_whole).then(|| (broken(), (receiver, None)))
        },
    )
}

/// The ways to download what matches a filter, in all formats or in one. Whoever reads all rows says
/// why, as with `export`.
pub(super) fn links(viewer: &Viewer, filter: &Filter, format: Option<Format>) -> Markup {
    let formats = Format::value_variants().iter();
    let formats = formats.filter(|one| format.is_none_or(|format| **one == format));
    let query = filter.query();
    let separator = if query.is_empty() { "" } else { "&" };
    if !viewer.reads_all() || viewer.purpose.is_some() {
        return html! {
            p.soft { "Download all that match, as "
                @for (at, format) in formats.enumerate() {
                    @if at > 0 { ", " }
                    a href={ "/export?format=" (format.name()) (separator) (query) } download { (format.name()) }
                }
                "."
            }
        };
    }
    html! {
        form.download method="get" action="/export" {
            @for (name, value) in filter.values() { input type="hidden" name=(name) value=(value); }
            label { "Download all that match. What for?"
                input name="purpose" required maxlength=(MOST_PURPOSE / 4) autocomplete="off";
            }
            @for format in formats { button type="submit" name="format" value=(format.name()) { (format.name()) } }
        }
    }
}
