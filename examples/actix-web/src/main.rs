//! An HTTP service by actix-web with a login and an audit trail. `AuditRequest` opens the request's
//! span and records the request, an extractor records the user once the login is checked, and every
//! record made while the request is served inherits both.
//!
//! ```text
//! export DATABASE_URL=postgres://postgres@localhost/postgres
//! cargo run -p example-actix-web                        # asks itself, and checks what the trail has
//! BIND=127.0.0.1:3000 cargo run -p example-actix-web    # serves until Ctrl-C
//! curl -i localhost:3000/tables/pg_catalog -H 'authorization: Bearer ada-7'
//! ```
//!
//! The response has the request id in the header `x-request-id`.
#![allow(clippy::print_stdout, reason = "an example is a program")]

mod check;

use std::{
    future::{Ready, ready},
    time::Duration,
};

use actix_web::{
    App, Error, FromRequest, HttpRequest, HttpServer,
    dev::Payload,
    error::{ErrorBadGateway, ErrorUnauthorized},
    get,
    http::header::AUTHORIZATION,
    web,
};
use sqlx::PgPool;
use tracing::{Span, field::Empty, info, instrument};
use tracing_audit::{AuditFutureExt, AuditRequest};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};

/// The sessions: token, tenant and user. A real service has them in its database.
const SESSIONS: [(&str, &str, &str); 2] =
    [("ada-7", "acme", "ada"), ("grace-9", "globex", "grace")];

const SQL: &str =
    "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace";

/// A user who is logged in. A handler with this argument is called for nobody else.
struct User;

impl FromRequest for User {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let header = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let session = SESSIONS.iter().find(|(known, ..)| Some(*known) == token);
        let Some((_, tenant, user)) = session else {
            // A record of an instant, as a `tracing` event.
            info!(name: "audit.event", action_type = "login", status = "rejected");
            return ready(Err(ErrorUnauthorized("log in first")));
        };
        tracing_audit::context().tenant(tenant).user(user);
        info!(name: "audit.event", action_type = "login", status = "succeeded");
        ready(Ok(Self))
    }
}

/// Returns the tables of a schema. If it fails, the trail says why, under the request id.
#[get("/tables/{schema}")]
async fn tables(
    _: User,
    pool: web::Data<PgPool>,
    schema: web::Path<String>,
) -> Result<web::Json<Vec<String>>, Error> {
    let tables = names(&pool, &schema).await;
    let tables = tables.map_err(|_| ErrorBadGateway("the database has no answer"))?;
    Ok(web::Json(tables))
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = %format_args!("tables of {schema}"), sql_text = SQL, row_count = Empty),
    err
)]
async fn names(pool: &PgPool, schema: &str) -> sqlx::Result<Vec<String>> {
    let query = sqlx::query_scalar(SQL).bind(schema).fetch_all(pool);
    let rows = query.audited(Span::current()).await?;
    Span::current().record("row_count", rows.len());
    Ok(rows)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    // A filter on the terminal's layer hides nothing from the trail.
    let terminal = fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let data = web::Data::new(pool.clone());
    let app = move || {
        App::new()
            .wrap(AuditRequest::new())
            .app_data(data.clone())
            .service(tables)
    };
    let bind = std::env::var("BIND");
    let server = HttpServer::new(app)
        .workers(2)
        .bind(bind.as_deref().unwrap_or("127.0.0.1:0"))?;
    let url = format!("http://{}/tables", server.addrs()[0]);
    println!("serving {url}");
    // It ends by itself on Ctrl-C and SIGTERM.
    let server = server.run();
    if bind.is_ok() {
        server.await?;
    } else {
        let handle = server.handle();
        actix_web::rt::spawn(server);
        check::check(&audit, &pool, &url).await?;
        handle.stop(true).await;
    }
    // Only now: the last requests are served, so their records are in.
    let report = audit.shutdown(Duration::from_secs(10)).await;
    println!(
        "{} records committed, {} left in the local log",
        report.committed, report.spooled
    );
    Ok(())
}
