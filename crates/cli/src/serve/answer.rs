//! What is sent back: pages with the headers that keep a browser safe, and errors that say what is
//! wrong without saying what is in the trail.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use sqlx::error::DatabaseError;

use super::page::{page, visible};
use super::viewer::Viewer;
use crate::complain;
use crate::error::Error;
use crate::filter::FilterError;

/// No inline script or style, nothing of another host, no frame around it, and no text that becomes
/// HTML but by the script's one rule.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types rows";

/// The headers of every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: by that, a browser does not say either from which origin a form is sent.
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];

/// Adds the headers of every answer. Nothing of the trail is kept by a browser or a proxy, unless the
/// answer says so itself.
pub(super) fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Returns a page.
pub(super) fn html_answer(status: StatusCode, markup: Markup) -> Response {
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    (
        status,
        [(header::CONTENT_TYPE, content_type)],
        markup.into_string(),
    )
        .into_response()
}

/// Sends the browser to another address of this server.
pub(super) fn see_other(address: &str) -> Response {
    let Ok(address) = HeaderValue::from_str(address) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, address)]).into_response()
}

/// Why a page is not shown.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The address asks for what there is not.
    Filter(FilterError),
    /// There is no such record, or none that the reader may read: the two look alike.
    NotFound(&'static str),
    /// The form was not sent from a page of this session.
    Forged,
    /// A download by somebody who reads all rows and does not say why.
    NoPurpose,
    LongPurpose,
    TooManyReaders,
    TooManyDownloads,
    /// The record is too large to be sent whole.
    TooLarge,
    /// The system has no random numbers.
    NoRandom,
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}

impl Refusal {
    /// Returns the page that says so.
    pub(super) fn answer(self, at: &str, viewer: Option<&Viewer>) -> Response {
        let (status, title, said) = match self {
            Self::Filter(error) => (StatusCode::BAD_REQUEST, "No such filter", error.to_string()),
            Self::NotFound(what) => (
                StatusCode::NOT_FOUND,
                "Not found",
                format!("There is no such {what}, or none that you may read."),
            ),
            Self::Forged => (
                StatusCode::FORBIDDEN,
                "Not from this page",
                "The form was not sent from a page of this session. Go back, load the page again, and try once more."
                    .to_owned(),
            ),
            Self::NoPurpose => (
                StatusCode::BAD_REQUEST,
                "What for?",
                "You may read all rows: say why they are downloaded. The page of the trail asks for it beside the formats."
                    .to_owned(),
            ),
            Self::LongPurpose => (
                StatusCode::BAD_REQUEST,
                "Too long",
                "What a download is for may have 4096 bytes.".to_owned(),
            ),
            Self::TooManyReaders => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many readers at once",
                "All connections to the database are in use. Try again in a moment.".to_owned(),
            ),
            Self::TooManyDownloads => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many downloads at once",
                "Other downloads are under way. Try again in a moment.".to_owned(),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too large",
                "This record is too large to be sent from here: use `tracing-audit export --request …` or `tracing-audit show --full`."
                    .to_owned(),
            ),
            Self::NoRandom => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "It did not work",
                "The system gives no random numbers, so that no session can begin.".to_owned(),
            ),
            Self::Failed(error) => {
                // The whole is for whoever runs the server: it names the database and its login.
                complain(&format!("a page was not shown: {error}"));
                failure(&error)
            }
        };
        let body = html! {
            h1 { (title) }
            p.error role="alert" { (visible(&said)) }
            p { a href="/" { "To the trail" } }
        };
        html_answer(status, page(title, at, viewer, &body))
    }
}

/// Returns the status, the title and the text of the page for an error.
fn failure(error: &Error) -> (StatusCode, &'static str, String) {
    let away = || {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer",
            "It is away, starts, or has too many connections. Try again in a moment.".to_owned(),
        )
    };
    let broken = |said: String| (StatusCode::INTERNAL_SERVER_ERROR, "It did not work", said);
    let source = match error {
        Error::Connect { .. } | Error::NoAnswer { .. } => return away(),
        Error::Read { source, .. } | Error::Change { source, .. } => source,
        Error::NoTables { .. } => {
            return broken("There is no audit trail in this database.".to_owned());
        }
        Error::NotOurs { .. } => {
            return broken(
                "Something in the trail's place belongs to somebody else, so nothing was read: see `tracing-audit doctor`."
                    .to_owned(),
            );
        }
        _ => {
            return broken("Whoever runs this server finds the reason in its messages.".to_owned());
        }
    };
    let code = source.as_database_error().and_then(DatabaseError::code);
    match code.as_deref() {
        Some("57014") => (
            StatusCode::SERVICE_UNAVAILABLE,
            "It takes too long",
            "Reading this took longer than a page may take. Ask for less, or for a shorter time."
                .to_owned(),
        ),
        // Shut down, starting up, no connection left.
        Some(code) if code.starts_with("57P") || code.starts_with("53") => away(),
        // A purpose of characters that nobody sees, or that Postgres cannot keep.
        Some("22021" | "22023") => (
            StatusCode::BAD_REQUEST,
            "Not accepted",
            "What was asked for, or what for, says nothing or has characters that Postgres cannot keep."
                .to_owned(),
        ),
        Some("42501") => (
            StatusCode::FORBIDDEN,
            "Not allowed",
            "You may not read this, or that you read it cannot be recorded.".to_owned(),
        ),
        Some(code) => broken(format!(
            "The database refused it with SQLSTATE {code}. Whoever runs this server finds more in its messages."
        )),
        None => away(),
    }
}
