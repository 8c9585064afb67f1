//! What watches the server: `/healthz` for whoever restarts it, `/metrics` for Prometheus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Mutex;

use super::App;
use super::session::is_same_secret;
use crate::metrics;

/// How long an answer is given again: a scrape costs the database some work, and whoever reaches the
/// server may ask.
const KEPT: Duration = Duration::from_secs(5);

/// Who may have the metrics, and those of a moment ago.
#[derive(Debug)]
pub(super) struct Watch {
    /// The token of `--metrics-token-env`; `None`: whoever reaches the server on this machine.
    token: Option<String>,
    last: Mutex<Option<(Instant, String)>>,
}

impl Watch {
    pub(super) fn new(token: Option<String>) -> Self {
        Self {
            token,
            last: Mutex::default(),
        }
    }
}

/// Says that the server runs; nothing of the database, whose absence no restart mends.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Tells the state of the trail as text for Prometheus: counts and ages, nothing that a record says.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let is_allowed = match &app.watch.token {
        Some(token) => {
            let said = headers
                .get(header::AUTHORIZATION)
                .and_then(|said| said.to_str().ok());
            said.and_then(|said| said.strip_prefix("Bearer "))
                .is_some_and(|said| is_same_secret(said, token))
        }
        // Behind a proxy, everybody seems to be on this machine.
        None => !app.is_public,
    };
    if !is_allowed {
        return (StatusCode::NOT_FOUND, "There is no such page.\n").into_response();
    }
    let mut last = app.watch.last.lock().await;
    let text = match &*last {
        Some((at, text)) if at.elapsed() < KEPT => text.clone(),
        _ => {
            let text = read(&app).await;
            *last = Some((Instant::now(), text.clone()));
            text
        }
    };
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Asks the database, on a connection of its own: that of a page may be long in coming.
async fn read(app: &App) -> String {
    let Ok(mut connection) = app.database.connect().await else {
        return metrics::down("unreachable");
    };
    match metrics::text(&mut connection).await {
        Ok(text) => text,
        Err(_) => metrics::down("unreachable"),
    }
}
