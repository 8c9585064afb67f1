//! The way in with a login of Postgres.
//!
//! The password is tried by connecting with it. A server that would let the login in with any
//! password, as with `trust` or `peer`, proves nothing about who typed it: so a wrong one is tried as
//! well, and must be refused.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde_json::json;

use super::App;
use super::answer::{Refusal, html_answer, see_other};
use super::connections::Connections;
use super::gate::Known;
use super::page::{page, visible};
use super::session::{is_same_secret, random_token};
use tokio::sync::Semaphore;

use super::live::MOST_OF_VIEWER;
use super::viewer::{Access, Viewer, Way};
use crate::complain;
use crate::database::{CATALOG_FIRST, Database, Standing, begin_change, standing};
use crate::error::Error;
use crate::text::is_harmful;

/// The most connections of one session.
const MOST_CONNECTIONS: usize = 3;

/// The longest login, password, tenant or purpose, in bytes.
const MAX_FIELD: usize = 1_024;

const RECORD_REFUSED: &str = "SELECT audit.record_refused_login($1, $2::text::jsonb)";

/// Whether the login may read the trail at all, and whether it sees all of it.
// By their numbers: by name, whoever may not use the schema gets an error.
const MAY_READ: &str = "
    SELECT coalesce(bool_or(has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(oid, 'SELECT')) FILTER (WHERE relname = 'events'), false),
        coalesce(bool_or(has_table_privilege(oid, 'SELECT')) FILTER (WHERE relname = 'batches'), false)
    FROM pg_class WHERE relnamespace = to_regnamespace('audit')";

/// What was typed into the form.
#[derive(Default)]
struct Typed {
    login: String,
    password: String,
    tenant: Option<String>,
    purpose: Option<String>,
    next: String,
}

impl Typed {
    fn read(body: &[u8]) -> Self {
        let mut typed = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            if value.len() > MAX_FIELD || value.contains('\0') {
                continue;
            }
            let value = value.into_owned();
            let some =
                |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match &*name {
                "login" => typed.login = value,
                "password" => typed.password = value,
                "tenant" => typed.tenant = some(&value),
                "purpose" => typed.purpose = some(&value),
                "next" => typed.next = value,
                _ => {}
            }
        }
        typed
    }

    /// Returns where to go after the login: an address of this server.
    fn next(&self) -> &str {
        own_address(&self.next)
    }
}

/// Returns the address if it is one of this server, else that of the trail.
pub(super) fn own_address(address: &str) -> &str {
    let is_ours = address.starts_with('/')
        && !address.starts_with("//")
        && address.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours { address } else { "/" }
}

/// Why nobody was let in.
enum Denied {
    /// Login and password do not fit.
    Wrong,
    /// They do, and the login may not read the trail.
    NoRight,
    /// Postgres lets this login in with any password.
    Unchecked,
    Failed(Error),
}

/// Shows the form.
pub(super) async fn form(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    if app.trusted.is_some() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let query = query.unwrap_or_default();
    let next = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "next")
        .map(|(_, value)| value.into_owned());
    let typed = Typed {
        next: next.unwrap_or_default(),
        ..Typed::default()
    };
    html_answer(StatusCode::OK, form_page(&typed, None))
}

fn form_page(typed: &Typed, said: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Log in to read the audit trail" }
        @if let Some(said) = said { p.error role="alert" { (visible(said)) } }
        form.login method="post" action="/login" {
            input type="hidden" name="next" value=(typed.next());
            label { "Login of Postgres"
                input name="login" value=(typed.login) required autocomplete="username" autofocus;
            }
            label { "Password"
                input name="password" type="password" required autocomplete="current-password";
            }
            label { "Tenant, if the login reads one tenant's records"
                input name="tenant" value=[typed.tenant.as_deref()] autocomplete="off";
            }
            label { "Why you read, such as the number of a ticket"
                input name="purpose" value=[typed.purpose.as_deref()] autocomplete="off";
            }
            button.main type="submit" { "Log in" }
        }
        p.soft { "What you read is recorded in the trail, with your login." }
    };
    page("Log in", "", None, &body)
}

/// Tries what was typed.
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Response {
    if app.trusted.is_some() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let typed = Typed::read(&body);
    drop(body);
    let sources = app.sources(peer, Some(&typed.login));
    let Some(attempt) = app.attempts.begin(sources) else {
        let said = "Too many logins wait. Try again in a moment.";
        return html_answer(StatusCode::TOO_MANY_REQUESTS, form_page(&typed, Some(said)));
    };
    let Some(_place) = attempt.wait().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let begun = match try_login(&app, &typed).await {
        Ok(viewer) => app.sessions.begin(viewer),
        Err(denied) => {
            let (status, said) = match denied {
                Denied::Failed(error) => {
                    attempt.is_undecided();
                    return Refusal::from(error).answer("", None);
                }
                Denied::Wrong => (StatusCode::UNAUTHORIZED, "Login and password do not fit."),
                Denied::NoRight => (
                    StatusCode::FORBIDDEN,
                    "This login may not read the trail. An operator makes it a reader or an auditor with \
                     `tracing-audit migrate --reader-login` or `--auditor-login`.",
                ),
                Denied::Unchecked => (
                    StatusCode::FORBIDDEN,
                    "The database lets this login in with any password (trust or peer in pg_hba.conf), so the \
                     password proves nothing. Have it ask for one: scram-sha-256.",
                ),
            };
            record_refusal(&app, &typed.login, peer, Way::Postgres, None).await;
            return html_answer(status, form_page(&typed, Some(said)));
        }
    };
    attempt.succeeded();
    match begun {
        Ok(token) => {
            let mut answer = see_other(typed.next());
            set_cookie(&app, &mut answer, &token, "");
            answer
        }
        Err(refusal) => refusal.answer("", None),
    }
}

/// Ends the session.
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    known: Known,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Known(viewer) = known;
    let said = form_urlencoded::parse(&body).find(|(name, _)| name == "csrf");
    if !said.is_some_and(|(_, csrf)| is_same_secret(&csrf, &viewer.csrf)) {
        return Refusal::Forged.answer("", Some(&viewer));
    }
    if let Some(token) = app.token(&headers) {
        app.sessions.end(token);
    }
    let mut answer = see_other(app.login_address().unwrap_or("/"));
    set_cookie(&app, &mut answer, "", "; Max-Age=0");
    answer
}

/// Sets the session's cookie.
pub(super) fn set_cookie(app: &App, answer: &mut Response, token: &str, more: &str) {
    let secure = if app.is_secure { "; Secure" } else { "" };
    // Lax: a colleague's link opens the page, and no other site's form is sent with it.
    let cookie = format!(
        "{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}{more}",
        app.cookie_name()
    );
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Connects with what was typed.
async fn try_login(app: &App, typed: &Typed) -> Result<Viewer, Denied> {
    if typed.login.trim().is_empty() || typed.password.is_empty() {
        return Err(Denied::Wrong);
    }
    let database = app.database.with_login(&typed.login, &typed.password);
    let mut connection = connect(&database).await?;
    let wrong = random_token().map_err(|_| Denied::Unchecked)?;
    let other = app.database.with_login(&typed.login, &wrong);
    match connect(&other).await {
        Err(Denied::Wrong) => {}
        Ok(_) => return Err(Denied::Unchecked),
        Err(denied) => return Err(denied),
    }
    let failed = |source| Denied::Failed(database.read_error(source));
    let mut transaction = sqlx::Connection::begin_with(&mut connection, "BEGIN READ ONLY")
        .await
        .map_err(failed)?;
    sqlx::Executor::execute(&mut *transaction, CATALOG_FIRST)
        .await
        .map_err(failed)?;
    match standing(&mut transaction).await.map_err(failed)? {
        Standing::Ours => {}
        Standing::Absent => {
            return Err(Denied::Failed(Error::NoTables {
                database: database.name(),
            }));
        }
        Standing::NotOurs(what) => {
            return Err(Denied::Failed(Error::NotOurs {
                database: database.name(),
                what,
            }));
        }
    }
    let (may_read, sees_all): (bool, bool) = sqlx::query_as(MAY_READ)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    if !may_read {
        return Err(Denied::NoRight);
    }
    let access = if sees_all {
        Access::LoginOfAll
    } else {
        Access::Login {
            tenant: typed.tenant.clone(),
        }
    };
    let connections = Connections::new(database, MOST_CONNECTIONS, Arc::clone(&app.places));
    let connections = Arc::new(connections);
    Ok(Viewer {
        name: typed.login.clone(),
        way: Way::Postgres,
        access,
        purpose: typed.purpose.clone(),
        csrf: random_token().map_err(|_| Denied::Wrong)?,
        connections,
        streams: Arc::new(Semaphore::new(MOST_OF_VIEWER)),
    })
}

/// Connects; tells a wrong password from a database that is away.
async fn connect(database: &Database) -> Result<sqlx::PgConnection, Denied> {
    match database.connect().await {
        Ok(connection) => Ok(connection),
        // Of class 28: no such login, another password, or not from here.
        Err(Error::Connect { why, .. })
            if why.sqlstate().is_some_and(|code| code.starts_with("28")) =>
        {
            Err(Denied::Wrong)
        }
        Err(error) => Err(Denied::Failed(error)),
    }
}

/// Records that somebody was not let in. If that fails, it is said where the operator sees it.
pub(super) async fn record_refusal(
    app: &App,
    login: &str,
    peer: SocketAddr,
    way: Way,
    why: Option<&str>,
) {
    let mut details = json!({ "source": peer.ip().to_string(), "way": way.name() });
    if let Some(why) = why {
        details["why"] = why.into();
    }
    let is_blank = |c: char| c.is_whitespace() || is_harmful(c);
    let login = if login.chars().all(is_blank) {
        "(none)"
    } else {
        login
    };
    let recorded = async {
        let mut lease = app.own.lease().await.map_err(|_| ())?;
        let mut transaction = begin_change(&mut lease).await.map_err(|_| ())?;
        sqlx::query(RECORD_REFUSED)
            .bind(login)
            .bind(details.to_string())
            .persistent(false)
            .execute(&mut *transaction)
            .await
            .map_err(|_| ())?;
        transaction.commit().await.map_err(|_| ())?;
        lease.done();
        Ok::<_, ()>(())
    };
    if recorded.await.is_err() {
        complain(&format!(
            "a login from {} was refused, and that could not be recorded: the login of --url is no reader or auditor, or the database is away",
            peer.ip()
        ));
    }
}
