//! The HTTP server: reads requests within limits of size and time, and writes answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing_audit::__program::ledger::cosigner::MAX_REQUEST_BYTES;
use tracing_audit::__program::ledger::witness::ADD_CHECKPOINT;

use super::cosigner::{Answer, Cosigner};

/// How long a client has for the lines before a body; also how long an idle connection stays open.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client has for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lasts: one whose client does not read what is answered would last for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);

/// How long requests that have begun have, when a connection or the program is to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections there are at once; others wait until one ends.
const CONNECTIONS: u32 = 256;

/// How many bytes the lines before a body may have.
const HEADER_BYTES: usize = 16 * 1024;

/// How long nobody is accepted where the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Serves until `end` is over, and then to the end what has begun.
pub(super) async fn serve(
    cosigner: Cosigner,
    listener: TcpListener,
    end: impl Future<Output = ()>,
) {
    let cosigner = Arc::new(cosigner);
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (ending, _) = watch::channel(());
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(NO_ROOM).await;
                continue;
            };
            let (cosigner, ended) = (Arc::clone(&cosigner), ending.subscribe());
            tokio::spawn(async move {
                connection(cosigner, stream, ended).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = end => {}
    }
    drop(listener);
    ending.send_replace(());
    let _ = timeout(END_TIMEOUT, places.acquire_many(CONNECTIONS)).await;
}

/// Serves one connection.
async fn connection(cosigner: Arc<Cosigner>, stream: TcpStream, mut ended: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let cosigner = Arc::clone(&cosigner);
        async move { Ok::<_, Infallible>(respond(cosigner, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Whatever went wrong, its client knows.
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
        () = sleep(CONNECTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(END_TIMEOUT, connection).await;
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
    let reading = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
    let body = match timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return response(Answer::text(413, "the request is too large"));
        }
        Ok(Err(_)) => return response(Answer::text(400, "the request is cut off")),
        Err(_) => return response(Answer::text(408, "the request was too slow")),
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
