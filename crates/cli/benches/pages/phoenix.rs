//! Arize Phoenix, with the same spans, asked as its own page asks it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::benches::Folder;

use super::client::Client;

/// How long it may take to start, or until it shows what it has accepted.
const PATIENCE: Duration = Duration::from_mins(10);

/// The rows of its list of spans.
const LIST: &str = "query ($filter: String) { getProjectByName(name: \"default\") {
    spans(first: 50, sort: {col: startTime, dir: desc}, filterCondition: $filter) {
        edges { node { id spanId name spanKind statusCode startTime latencyMs userId tokenCountTotal trace { traceId }
            input { truncatedValue } output { truncatedValue } } }
        pageInfo { hasNextPage endCursor } } } }";

/// The tree of a trace.
const TRACE: &str = "query ($trace: String!) { getTraceByOtelId(traceId: $trace) { latencyMs numSpans
    spans(first: 1000) { edges { node { id spanId parentId name spanKind statusCode startTime endTime latencyMs tokenCountTotal
        input { truncatedValue } output { truncatedValue } } } } } }";

/// Its figures of models.
const MODELS: &str = "query { getProjectByName(name: \"default\") {
    recordCount(filterCondition: \"span_kind == 'LLM'\") tokenCountPrompt tokenCountCompletion
    p95: spanLatencyMsQuantile(probability: 0.95, filterCondition: \"span_kind == 'LLM'\")
    p99: spanLatencyMsQuantile(probability: 0.99, filterCondition: \"span_kind == 'LLM'\") } }";

/// A server with an empty store; killed on drop.
pub(crate) struct Phoenix {
    child: Child,
    url: String,
}

impl Phoenix {
    /// Starts one; `None` where there is none and it can't be fetched.
    pub(crate) fn start(folder: &Folder, client: &Client) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/phoenix.sh");
        let provided = Command::new(script).arg("provide").output().ok()?;
        if !provided.status.success() {
            return None;
        }
        let packages = String::from_utf8(provided.stdout).ok()?;
        let packages = PathBuf::from(packages.trim());
        // Below the ports that systems hand out for outgoing connections.
        let port = 15_000 + std::process::id() % 8_000 * 2;
        let log = std::fs::File::create(folder.0.join("phoenix.log")).expect("a file can be made");
        let child = Command::new("python3")
            .args(["-m", "phoenix.server.main", "serve"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &folder.0)
            .env("LANG", "C.UTF-8")
            .env("PYTHONPATH", packages)
            .env("PHOENIX_HOST", "127.0.0.1")
            .env("PHOENIX_PORT", port.to_string())
            .env("PHOENIX_GRPC_PORT", (port + 1).to_string())
            .env("PHOENIX_WORKING_DIR", folder.0.join("phoenix"))
            .env("PHOENIX_TELEMETRY_ENABLED", "false")
            .env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false")
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(Stdio::from(log))
            .spawn()
            .ok()?;
        let phoenix = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        let health = format!("{}/healthz", phoenix.url);
        until("Phoenix answers", || client.get(&health, &[]).is_some());
        Some(phoenix)
    }

    /// Where it is sent spans.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it shows so many spans.
    pub(crate) fn wait_for(&self, client: &Client, spans: u64) {
        let count = "query { getProjectByName(name: \"default\") { recordCount } }";
        until("Phoenix shows all spans", || {
            let answer = self.ask(client, count, &Value::Null).0;
            answer["getProjectByName"]["recordCount"].as_f64() == Some(spans as f64)
        });
    }

    /// Asks for the newest spans, or for those of a condition in its language.
    pub(crate) fn list(&self, client: &Client, filter: &str) -> (usize, Duration) {
        let (answer, took) = self.ask(client, LIST, &json!({ "filter": filter }));
        (edges(&answer["getProjectByName"]["spans"]["edges"]), took)
    }

    /// Asks for the spans of a trace.
    pub(crate) fn trace(&self, client: &Client, trace: &str) -> (usize, Duration) {
        let (answer, took) = self.ask(client, TRACE, &json!({ "trace": trace }));
        (edges(&answer["getTraceByOtelId"]["spans"]["edges"]), took)
    }

    /// Asks for the figures of the models' calls.
    pub(crate) fn models(&self, client: &Client) -> (usize, Duration) {
        let (answer, took) = self.ask(client, MODELS, &Value::Null);
        let count = answer["getProjectByName"]["recordCount"].as_f64();
        (usize::from(count > Some(0.0)), took)
    }

    fn ask(&self, client: &Client, query: &str, variables: &Value) -> (Value, Duration) {
        let question = json!({ "query": query, "variables": variables });
        let answer = client.post(&format!("{}/graphql", self.url), &question);
        let answer = answer.expect("Phoenix answers");
        let mut body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        assert!(body["errors"].is_null(), "{}", body["errors"]);
        (body["data"].take(), answer.took)
    }
}

impl Drop for Phoenix {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn edges(edges: &Value) -> usize {
    edges.as_array().map_or(0, Vec::len)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}, within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(200));
    }
}
