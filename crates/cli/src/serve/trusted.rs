//! A proxy that names the person, in a header.
//!
//! A header is trusted from the proxy alone, known by its address or by a secret that it sends: else
//! anybody who reaches this server could be anybody.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::people::People;
use super::session::{is_same_secret, random_token};
use tokio::sync::Semaphore;

use super::live::MOST_OF_VIEWER;
use super::viewer::{Access, Viewer, Way};

/// The most people whose forms are known at once.
const MOST: usize = 10_000;

/// What is trusted, and from whom.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Names the person.
    pub(super) header: HeaderName,
    /// Names the groups of the person, separated by commas.
    pub(super) groups: Option<HeaderName>,
    /// The addresses of the proxy.
    pub(super) addresses: Vec<IpAddr>,
    /// The header with the secret of the proxy, and the secret.
    pub(super) secret: Option<(HeaderName, String)>,
    pub(super) people: People,
    /// The viewers by name and access, so that a form of a page is known again.
    pub(super) known: Mutex<HashMap<(String, Access), Arc<Viewer>>>,
}

impl Trusted {
    /// Returns whom the proxy names; an error if it is not the proxy, names nobody, or somebody who
    /// may read nothing.
    pub(super) fn viewer(
        &self,
        app: &App,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Arc<Viewer>>, Box<Response>> {
        let refuse = |said: &'static str| Box::new((StatusCode::FORBIDDEN, said).into_response());
        if !self.is_proxy(headers, peer) {
            return Err(refuse(
                "This server is read through its proxy alone, and this is not the proxy.\n",
            ));
        }
        // Twice the same header: one of them may be the client's own.
        let name = single(headers, &self.header)
            .ok_or_else(|| refuse("The proxy names nobody, or more than one person.\n"))?;
        let groups: Vec<&str> = match &self.groups {
            None => Vec::new(),
            Some(header) if !headers.contains_key(header) => Vec::new(),
            Some(header) => single(headers, header)
                .ok_or_else(|| refuse("The proxy names groups twice.\n"))?
                .split(',')
                .map(str::trim)
                .collect(),
        };
        let Some(access) = self.people.access(name, &groups) else {
            return Err(refuse(
                "You are known, and may not read this trail. Ask whoever runs it.\n",
            ));
        };
        let key = (name.to_owned(), access);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(viewer) = known.get(&key) {
            return Ok(Some(Arc::clone(viewer)));
        }
        if known.len() >= MOST {
            known.clear();
        }
        let csrf = random_token().map_err(|error| Box::new(error.answer("", None)))?;
        let viewer = Arc::new(Viewer {
            name: key.0.clone(),
            way: Way::Proxy,
            access: key.1.clone(),
            purpose: None,
            csrf,
            connections: Arc::clone(&app.own),
            streams: Arc::new(Semaphore::new(MOST_OF_VIEWER)),
        });
        known.insert(key, Arc::clone(&viewer));
        Ok(Some(viewer))
    }

    /// Whether the request comes from the proxy.
    fn is_proxy(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> bool {
        let is_address = self.addresses.is_empty()
            || peer.is_some_and(|peer| self.addresses.contains(&peer.ip().to_canonical()));
        let is_secret = self.secret.as_ref().is_none_or(|(header, secret)| {
            single(headers, header).is_some_and(|said| is_same_secret(said, secret))
        });
        is_address && is_secret
    }
}

/// Returns the value of a header that is there once, and is not blank.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}
