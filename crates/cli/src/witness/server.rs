//! The HTTP server: what it answers to whom.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tracing_audit::__program::ledger::cosigner::MAX_REQUEST_BYTES;
use tracing_audit::__program::ledger::witness::ADD_CHECKPOINT;

use super::cosigner::{Answer, Cosigner};
use crate::listener::{self, Limits, read_body};

/// Of its clients each has one connection, and few are there at once.
const LIMITS: Limits = Limits {
    connections: 256,
    lasts: Duration::from_mins(10),
    end: Duration::from_secs(10),
};

/// Serves until `end` is over, and then to the end what has begun.
pub(super) async fn serve(
    cosigner: Cosigner,
    listener: TcpListener,
    end: impl Future<Output = ()>,
) {
    let cosigner = Arc::new(cosigner);
    let service = |_| {
        let cosigner = Arc::clone(&cosigner);
        service_fn(move |request| {
            let cosigner = Arc::clone(&cosigner);
            async move { Ok::<_, Infallible>(respond(cosigner, request).await) }
        })
    };
    listener::serve(listener, LIMITS, end, service).await;
}

/// Answers one request.
async fn respond(cosigner: Arc<Cosigner>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path().strip_prefix('/') != Some(ADD_CHECKPOINT) {
        return response(Answer::text(404, "there is only /add-checkpoint here"));
    }
    if request.method() != Method::POST {
        let mut refused = response(Answer::text(405, "a checkpoint is sent with POST"));
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    let body = match read_body(request.into_body(), MAX_REQUEST_BYTES).await {
        Ok(body) => body,
        Err((status, why)) => return response(Answer::text(status.as_u16(), why)),
    };
    // On a thread of its own, and to its end: a client that goes away leaves nothing half done.
    let answered = tokio::task::spawn_blocking(move || cosigner.add_checkpoint(&body)).await;
    response(answered.unwrap_or_else(|_| Answer::text(500, "the witness has failed")))
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
