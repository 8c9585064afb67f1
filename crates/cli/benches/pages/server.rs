//! `tracing-audit serve`, and what it takes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Postgres;

use super::client::{Answer, Client};

/// What the proxy says of who looks: 100 people, who are all auditors.
pub(crate) const SECRET: &str = "a secret of the proxy";

/// The server of the pages; killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// From its start until it answered.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts it on a trail that [`make_tables`] has made.
    pub(crate) fn start(postgres: &Postgres, client: &Client) -> Self {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
            .args(["--url", &postgres.url_as("serve")])
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--trust-header", "X-Person", "--trust-secret-env"])
            .args(["PROXY_SECRET", "--trust-groups-header", "X-Groups"])
            .args(["--auditor", "group:auditors"])
            .env("PROXY_SECRET", SECRET)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let told = child.stderr.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(told)
            .read_line(&mut line)
            .expect("it says where it listens");
        let (_, address) = line.trim().split_once("http://").expect("an address");
        let address = address.to_owned();
        let answer = client.get(&format!("http://{address}/healthz"), &[]);
        assert!(answer.is_some_and(|answer| answer.status.is_success()));
        Self {
            child,
            address,
            start: begun.elapsed(),
        }
    }

    /// Asks for a page as one of the auditors.
    pub(crate) fn get(&self, client: &Client, path: &str) -> Answer {
        let answer = client.get(
            &format!("http://{}{path}", self.address),
            &[
                ("X-Person", "person-1"),
                ("X-Groups", "auditors"),
                ("X-Audit-Proxy-Secret", SECRET),
            ],
        );
        let answer = answer.expect("it answers");
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        answer
    }

    /// Returns its memory in megabytes: now, and at the most.
    pub(crate) fn memory(&self) -> [f64; 2] {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).unwrap_or_default();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            kilobytes.unwrap_or(0.0) / 1e3
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the tables, and the login of the server.
pub(crate) fn make_tables(postgres: &Postgres) {
    postgres.psql("CREATE ROLE serve LOGIN");
    let made = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["--url", &postgres.url(), "migrate"])
        .args(["--auditor-login", "serve", "--reader-login", "serve"])
        .output();
    let made = made.expect("the program can be started");
    assert!(made.status.success(), "{made:?}");
}
