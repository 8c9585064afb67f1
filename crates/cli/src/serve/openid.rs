//! The way in by a provider of OpenID Connect: the authorization code flow, with PKCE.
//!
//! The provider says who somebody is ([`token`] believes it or not, [`person`] reads it), the rules of
//! [`super::people`] what they may read. A login begins with a link, not with a form: browsers apply
//! the policy's `form-action 'self'` to what a form is redirected to as well.

mod denied;
mod http;
mod pending;
mod person;
mod provider;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::Args;
use maud::{Markup, html};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreProviderMetadata,
};
use openidconnect::url::Url;
use openidconnect::{
    AuthType, ClientId, ClientSecret, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope,
};

use self::denied::{Denied, Why};
use self::http::{Http, is_loopback};
use self::pending::{LASTS, Login, Pending};
use self::person::{Claims, Names};
use self::provider::Provider;
use self::token::Client;
use super::answer::{html_answer, see_other};
use super::gate::cookie;
use super::login::{own_address, record_refusal, set_cookie};
use super::page::{page, visible};
use super::people::People;
use super::session::{hash, random_token};
use tokio::sync::Semaphore;

use super::live::MOST_OF_VIEWER;
use super::viewer::{Viewer, Way};
use super::{App, ServeError};
use crate::filter::encode;

/// Where the provider sends people back to.
const CALLBACK: &str = "/login/callback";

/// What is asked for besides `openid`, as far as the provider has it.
const SCOPES: [&str; 3] = ["email", "profile", "groups"];

/// A provider of OpenID Connect, as the command line names it.
#[derive(Args, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "the options are named for their fields"
)]
pub(super) struct Arguments {
    /// The provider of OpenID Connect at which people log in, as <https://login.example.com>.
    ///
    /// Exactly as the provider writes it in tokens. Needs --auditor or --reader.
    #[arg(
        long,
        value_name = "URL",
        requires = "oidc_client_id",
        conflicts_with = "trust_header"
    )]
    oidc_issuer: Option<String>,
    /// The name of this server at the provider, which has to allow /login/callback as its redirect URI.
    #[arg(long, value_name = "ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// The environment variable with the client's secret; without one, this is a public client.
    #[arg(long, value_name = "NAME", requires = "oidc_issuer")]
    oidc_client_secret_env: Option<String>,
    /// The claim that names the person. An email counts only if the provider has verified it.
    #[arg(
        long,
        value_name = "CLAIM",
        default_value = "email",
        requires = "oidc_issuer"
    )]
    oidc_name_claim: String,
    /// The claim with the person's groups.
    #[arg(
        long,
        value_name = "CLAIM",
        default_value = "groups",
        requires = "oidc_issuer"
    )]
    oidc_groups_claim: String,
}

impl Arguments {
    /// Whether people log in at a provider.
    pub(super) fn are_given(&self) -> bool {
        self.oidc_issuer.is_some()
    }
}

/// The provider, and who may read.
#[derive(Debug)]
pub(super) struct OpenId {
    provider: Provider,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    /// The address that browsers use.
    public: String,
    redirect: RedirectUrl,
    names: Names,
    people: People,
    pending: Pending,
}

impl OpenId {
    /// Reads the arguments; asks the provider nothing. `public` is the address that browsers use.
    pub(super) fn new(
        arguments: Arguments,
        people: People,
        public: &str,
    ) -> Result<Option<Self>, ServeError> {
        let (Some(issuer), Some(client_id)) = (arguments.oidc_issuer, arguments.oidc_client_id)
        else {
            return Ok(None);
        };
        let issuer = IssuerUrl::new(issuer).map_err(|_| ServeError::Issuer)?;
        let url = issuer.url();
        let is_tls = url.scheme() == "https";
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_plain || !(is_tls || is_loopback(url)) {
            return Err(ServeError::Issuer);
        }
        let secret = match arguments.oidc_client_secret_env {
            None => None,
            Some(name) => match std::env::var(&name) {
                Ok(secret) if !secret.is_empty() => Some(ClientSecret::new(secret)),
                _ => return Err(ServeError::ClientSecret(name)),
            },
        };
        let public = public.trim_end_matches('/').to_owned();
        let redirect = RedirectUrl::new(format!("{public}{CALLBACK}"));
        Ok(Some(Self {
            provider: Provider::new(issuer, Http::new(is_tls).map_err(ServeError::Tls)?),
            client_id: ClientId::new(client_id),
            secret,
            redirect: redirect.map_err(|_| ServeError::PublicUrl)?,
            public,
            names: Names {
                name: arguments.oidc_name_claim,
                groups: arguments.oidc_groups_claim,
            },
            people,
            pending: Pending::default(),
        }))
    }

    /// Forgets the logins that took too long.
    pub(super) fn clean(&self) {
        self.pending.clean(Instant::now());
    }

    fn client(&self, metadata: &Arc<CoreProviderMetadata>) -> Client {
        let client = CoreClient::from_provider_metadata(
            CoreProviderMetadata::clone(metadata),
            self.client_id.clone(),
            self.secret.clone(),
        );
        // `client_secret_basic` is what a provider has that says nothing of it.
        let methods = metadata.token_endpoint_auth_methods_supported();
        let is_posted = methods.is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let client = client.set_redirect_uri(self.redirect.clone());
        client.set_auth_type(if is_posted {
            AuthType::RequestBody
        } else {
            AuthType::BasicAuth
        })
    }

    /// Begins a login in this browser; returns where it goes on.
    async fn begin(&self, browser: &str, next: &str) -> Result<Url, Denied> {
        let metadata = self.provider.metadata().await?;
        let (state, nonce) = (random_token()?, random_token()?);
        let verifier = PkceCodeVerifier::new(random_token()?);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let known = metadata.scopes_supported();
        let scopes = SCOPES.iter().filter(|scope| match known {
            Some(known) => known.iter().any(|known| known.as_str() == **scope),
            // A provider may refuse a login for a scope that is not of the standard.
            None => **scope != "groups",
        });
        let client = self.client(&metadata);
        let (url, state, nonce) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scopes(scopes.map(|scope| Scope::new((*scope).to_owned())))
            .set_pkce_challenge(challenge)
            .url();
        let login = Login {
            browser: hash(browser),
            nonce,
            verifier,
            next: next.to_owned(),
            begun: Instant::now(),
        };
        self.pending.add(state.secret(), login);
        Ok(url)
    }

    /// Finds out who has come back, and where they wanted to go.
    async fn come_back(
        &self,
        app: &App,
        browser: &str,
        query: &str,
    ) -> Result<(Viewer, String), Denied> {
        let returned = Returned::read(query).ok_or(Why::State)?;
        let login = self.pending.take(&returned.state, browser, Instant::now());
        let login = login.ok_or(Why::State)?;
        let is_ours = |issuer: &String| *issuer == **self.provider.issuer();
        if !returned.issuer.as_ref().is_none_or(is_ours) {
            return Err(Why::Issuer.into());
        }
        let (Some(code), false) = (returned.code, returned.is_error) else {
            return Err(Why::Provider.into());
        };
        let verified = self.redeem(code, login.verifier, &login.nonce).await?;
        let needs_groups = self.people.name_groups();
        let besides = if self.names.are_missing(&verified.claims, needs_groups) {
            self.ask_besides(&verified).await?
        } else {
            Claims::new()
        };
        let person = self.names.person(&verified.claims, &besides)?;
        let groups: Vec<&str> = person.groups.iter().map(String::as_str).collect();
        let Some(access) = self.people.access(&person.name, &groups) else {
            return Err(Denied::NoRule(person.name));
        };
        let viewer = Viewer {
            name: person.name,
            way: Way::OpenId,
            access,
            purpose: None,
            csrf: random_token()?,
            connections: Arc::clone(&app.own),
            streams: Arc::new(Semaphore::new(MOST_OF_VIEWER)),
        };
        Ok((viewer, login.next))
    }
}

/// What the provider sends back.
struct Returned {
    state: String,
    code: Option<String>,
    /// Who answers (RFC 9207).
    issuer: Option<String>,
    is_error: bool,
}

impl Returned {
    /// Reads it; `None` if there is no state, or something twice.
    fn read(query: &str) -> Option<Self> {
        let (mut state, mut code, mut issuer, mut error) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                "iss" => &mut issuer,
                "error" => &mut error,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(Self {
            state: state?,
            code,
            issuer,
            is_error: error.is_some(),
        })
    }
}

/// Returns the pages of this way in.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/login", get(form))
        .route("/login/start", get(start))
        .route(CALLBACK, get(callback))
}

/// Shows the way to the provider. It does not lead there by itself: who has just logged out would be
/// logged in again.
async fn form(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    match &app.openid {
        Some(openid) => html_answer(StatusCode::OK, form_page(openid, &next(query.as_deref()))),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Sends the browser to the provider.
async fn start(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(openid) = &app.openid else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // The same for the logins of several tabs.
    let known = cookie(&headers, cookie_name(&app)).filter(|known| is_token(known));
    let begun = async {
        let browser = match known {
            Some(known) => known.to_owned(),
            None => random_token()?,
        };
        let url = openid.begin(&browser, &next(query.as_deref())).await?;
        Ok((browser, url))
    };
    match begun.await {
        Ok((browser, url)) => {
            let mut answer = see_other(url.as_str());
            remember(&app, &mut answer, &browser, LASTS.as_secs());
            answer
        }
        Err(denied) => refuse(openid, denied).0,
    }
}

/// Lets in who comes back from the provider.
async fn callback(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(openid) = &app.openid else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let browser = cookie(&headers, cookie_name(&app)).unwrap_or_default();
    let query = query.unwrap_or_default();
    let came = openid.come_back(&app, browser, &query).await;
    let begun = came.and_then(|(viewer, next)| Ok((app.sessions.begin(viewer)?, next)));
    match begun {
        Ok((token, next)) => {
            app.attempts.forget(&app.sources(peer, None));
            let mut answer = see_other(&next);
            set_cookie(&app, &mut answer, &token, "");
            remember(&app, &mut answer, "", 0);
            answer
        }
        Err(denied) => {
            let (answer, refused) = refuse(openid, denied);
            if let Some((name, why)) = refused {
                // What is wrong is known at once; the answer is slow, so that the trail is not flooded.
                let Some(attempt) = app.attempts.begin(app.sources(peer, None)) else {
                    return StatusCode::TOO_MANY_REQUESTS.into_response();
                };
                let Some(_place) = attempt.wait().await else {
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                };
                record_refusal(&app, &name, peer, Way::OpenId, Some(why)).await;
            }
            answer
        }
    }
}

/// Returns the page for somebody who is not let in, and what is recorded of it: their name, and why.
fn refuse(openid: &OpenId, denied: Denied) -> (Response, Option<(String, &'static str)>) {
    let (status, title, said, refused) = match denied {
        Denied::Failed(refusal) => return (refusal.answer("", None), None),
        Denied::Away => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The provider does not answer",
            format!(
                "Nobody can log in at the moment: {} does not answer as it should. Try again in a while; whoever runs \
                 this page finds the reason in its messages.",
                openid.provider.host()
            ),
            None,
        ),
        Denied::NoRule(name) => (
            StatusCode::FORBIDDEN,
            "Not allowed",
            "You are known, and may not read this trail. Ask whoever runs it.".to_owned(),
            Some((name, "no_rule")),
        ),
        Denied::Refused(why) => (
            StatusCode::FORBIDDEN,
            "You are not logged in",
            why.said().to_owned(),
            Some((String::new(), why.name())),
        ),
    };
    let body = html! {
        h1 { (title) }
        p.error role="alert" { (visible(&said)) }
        p { a href="/login" { "Log in" } }
    };
    (html_answer(status, page(title, "", None, &body)), refused)
}

fn form_page(openid: &OpenId, next: &str) -> Markup {
    // By the address that the provider knows: the browser must come back to where it has its cookie.
    let start = format!("{}/login/start?next={}", openid.public, encode(next));
    let body = html! {
        h1 { "Log in to read the audit trail" }
        p { a.main href=(start) { "Log in with " (visible(openid.provider.host())) } }
        p.soft { "What you read is recorded in the trail, with your name." }
    };
    page("Log in", "", None, &body)
}

/// Returns where to go after the login.
fn next(query: Option<&str>) -> String {
    let query = query.unwrap_or_default();
    let next = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
    next.map_or_else(
        || String::from("/"),
        |(_, next)| own_address(&next).to_owned(),
    )
}

/// Returns the name of the cookie of logins under way.
fn cookie_name(app: &App) -> &'static str {
    if app.is_secure {
        "__Host-audit-login"
    } else {
        "audit-login"
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Sets the cookie of logins under way.
fn remember(app: &App, answer: &mut Response, browser: &str, seconds: u64) {
    let secure = if app.is_secure { "; Secure" } else { "" };
    // Lax: it is sent when the provider sends the browser back.
    let cookie = format!(
        "{}={browser}; Path=/; HttpOnly; SameSite=Lax{secure}; Max-Age={seconds}",
        cookie_name(app)
    );
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}
