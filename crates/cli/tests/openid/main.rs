//! `tracing-audit serve` with a provider of OpenID Connect: who comes in, what they read, and that nothing which the
//! provider or a stranger sends lets anybody else in.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod attacks;
mod browser;
mod certified;
mod provider;
mod reading;
mod starting;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Postgres;

use browser::{Answer, Browser};
use provider::{CLIENT, Provider};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two tenants, each with a request of two records, which say `thing-of-acme` and `thing-of-beta`.
const ROWS: &str = r#"
    SELECT audit.ensure_partition(t, now()) FROM unnest(ARRAY['events', 'query_runs']) t;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        SELECT '00000000-0000-7000-8000-00000000000a', 1, 4, '{"events": 2, "query_runs": 2}', 0,
            audit.id_at(now()), overlay(audit.id_at(now())::text PLACING 'ffff' FROM 33)::uuid, 'test';
    INSERT INTO audit.events (id, tenant_id, user_id, request_id, action_type, target_id, output_summary, status, created_at,
            metadata, writer_id, seq, salt)
        SELECT overlay(audit.id_at(now())::text PLACING '7000-8000-00000000000' || n FROM 15)::uuid, audit.tenant_uuid(tenant),
            'user-' || tenant, 'req-' || tenant, 'answer', 'thing-of-' || tenant, 'thing-of-' || tenant, 'succeeded', now(),
            jsonb_build_object('tenant_key', tenant), '00000000-0000-7000-8000-00000000000a', n, ''
        FROM (VALUES (1, 'acme'), (2, 'beta')) v (n, tenant);
    INSERT INTO audit.query_runs (id, tenant_id, user_id, request_id, sql_text, status, started_at, metadata, writer_id, seq, salt)
        SELECT overlay(audit.id_at(now())::text PLACING '7000-8000-00000000000' || n FROM 15)::uuid, audit.tenant_uuid(tenant),
            'user-' || tenant, 'req-' || tenant, 'SELECT "thing-of-' || tenant || '"', 'succeeded', now(),
            jsonb_build_object('tenant_key', tenant), '00000000-0000-7000-8000-00000000000a', n, ''
        FROM (VALUES (3, 'acme'), (4, 'beta')) v (n, tenant);"#;

/// The rules of most tests.
const RULES: [&str; 4] = [
    "--auditor=auditor@corp.example",
    "--auditor=group:auditors",
    "--reader=reader@corp.example=acme",
    "--reader=group:support=beta",
];

fn auditor() -> Value {
    json!({ "sub": "1", "email": "auditor@corp.example", "email_verified": true })
}

fn reader() -> Value {
    json!({ "sub": "2", "email": "reader@corp.example", "email_verified": true })
}

/// A database with rows, and the login of the page.
fn database() -> Postgres {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE page LOGIN");
    let migrated = program()
        .args(["migrate", "--auditor-login=page", "--reader-login=page"])
        .env("DATABASE_URL", postgres.url())
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    postgres.psql(ROWS);
    postgres
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
}

/// The page, which ends with the test.
struct Page {
    child: Child,
    url: String,
    told: Arc<Mutex<String>>,
}

impl Page {
    /// Serves the trail to people of this provider.
    fn start(postgres: &Postgres, issuer: &str, more: &[&str]) -> Self {
        let mut command = program();
        command.args(["serve", "--listen=127.0.0.1:0", "--oidc-issuer", issuer]);
        if !more.iter().any(|word| word.starts_with("--oidc-client-id")) {
            command.args(["--oidc-client-id", CLIENT]);
        }
        let mut child = command
            .args(more)
            .env("DATABASE_URL", postgres.url_as("page"))
            .env("CLIENT_SECRET", SECRET)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let told = Arc::new(Mutex::new(first.clone()));
        let more = Arc::clone(&told);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                more.lock().unwrap().push_str(&line);
            }
        });
        let at = first.split_once("http").map(|(_, at)| format!("http{at}"));
        Self {
            child,
            url: at.unwrap_or_else(|| panic!("does not start: {first}")),
            told,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Goes to the provider and back; returns the address that the provider sends to.
    #[track_caller]
    fn begin(&self, browser: &mut Browser, next: &str) -> String {
        let page = browser.open(&self.at(&format!("/login?next={next}")));
        assert_eq!(page.status, 200, "{page:?}");
        let (_, from) = page.body.split_once("a class=\"main\" href=\"").unwrap();
        let link = from.split_once('"').unwrap().0.replace("&amp;", "&");
        let begun = browser.open(&link);
        assert_eq!(begun.status, 303, "{begun:?}");
        let sent = browser.open(begun.location());
        assert_eq!(sent.status, 302, "{sent:?}");
        sent.location().to_owned()
    }

    /// Goes the whole way.
    #[track_caller]
    fn try_login(&self, browser: &mut Browser) -> Answer {
        let back = self.begin(browser, "/state");
        browser.open(&back)
    }

    /// Logs in.
    #[track_caller]
    fn log_in(&self, browser: &mut Browser) -> Answer {
        let answer = self.try_login(browser);
        let told = self.told.lock().unwrap().clone();
        assert_eq!(answer.status, 303, "{answer:?}\n{told}");
        assert_eq!(answer.location(), "/state");
        answer
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The secret of the client, where it has one.
const SECRET: &str = "a secret of the client: 17";

/// Returns the refused logins so far: whose, why, and by which way.
fn refused(postgres: &Postgres) -> Vec<String> {
    let rows = postgres.psql(
        "SELECT concat_ws(' ', target_id, metadata ->> 'why', metadata ->> 'way') FROM audit.events
            WHERE action_type = 'security' AND status = 'rejected' ORDER BY id",
    );
    rows.lines().map(str::to_owned).collect()
}
