//! Asks servers over HTTP, one question after the other over one connection, as a browser does.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::{Builder, Runtime};

/// A browser without a window.
pub(crate) struct Client {
    runtime: Runtime,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

/// An answer, and how long it took until it was whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            runtime: Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made"),
            connections: Connections::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Gets a page, with headers.
    pub(crate) fn get(&self, url: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = Request::get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::default()).expect("a request"))
    }

    /// Sends JSON.
    pub(crate) fn post(&self, url: &str, json: &serde_json::Value) -> Option<Answer> {
        let request = Request::post(url).header("Content-Type", "application/json");
        self.send(
            request
                .body(Full::from(json.to_string()))
                .expect("a request"),
        )
    }

    /// Returns nothing where nobody answers.
    fn send(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let begun = Instant::now();
        let answer = async {
            let (head, body) = self.connections.request(request).await.ok()?.into_parts();
            Some((head.status, body.collect().await.ok()?.to_bytes()))
        };
        let (status, body) = self.runtime.block_on(answer)?;
        Some(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
            took: begun.elapsed(),
        })
    }
}
