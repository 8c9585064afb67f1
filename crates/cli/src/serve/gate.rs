//! The gate before every page: the right host, a viewer, and a page that is not broken off.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::answer::{Refusal, secure, see_other};
use super::viewer::Viewer;
use crate::filter::encode;

/// Who looks at the page; who is not known is sent to the login.
#[derive(Clone, Debug)]
pub(super) struct Known(pub(super) Arc<Viewer>);

impl FromRequestParts<Arc<App>> for Known {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let peer = peer(parts);
        let viewer = match app.trusted.as_ref() {
            Some(trusted) => trusted
                .viewer(app, &parts.headers, peer)
                .map_err(|answer| *answer)?,
            None => app.session_of(&parts.headers),
        };
        if let Some(viewer) = viewer {
            return Ok(Self(viewer));
        }
        let asked = parts
            .uri
            .path_and_query()
            .map_or("/", |asked| asked.as_str());
        Err(match (&parts.method, app.login_address()) {
            (&Method::GET, Some(login)) if parts.uri.path() != "/live" => {
                see_other(&format!("{login}?next={}", encode(asked)))
            }
            _ => StatusCode::UNAUTHORIZED.into_response(),
        })
    }
}

/// Returns the address of the other end.
pub(super) fn peer(parts: &Parts) -> Option<SocketAddr> {
    let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(address)| *address)
}

/// Answers a request whose host is this server's, to its end: a reader who goes away breaks off no
/// statement, which would cost the connection.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // Whoever watches the process knows it by any address.
    let is_health = request.uri().path() == "/healthz";
    let mut answer = if !is_health && !app.is_ours(request.headers()) {
        (
            StatusCode::MISDIRECTED_REQUEST,
            "This server is not known by that name. Set --public-url to the address that browsers use.\n",
        )
            .into_response()
    } else if request.method() == Method::POST && !is_from_here(&app, request.headers()) {
        Refusal::Forged.answer("", None)
    } else {
        let answering = tokio::spawn(next.run(request));
        match answering.await {
            Ok(answer) => answer,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    secure(answer.headers_mut());
    answer
}

/// Whether a form was sent from a page of this server, as far as the browser says.
fn is_from_here(app: &App, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let is_origin = text("origin").is_none_or(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some_and(|host| app.is_host(host))
    });
    is_site && is_origin
}

/// Returns the value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}
