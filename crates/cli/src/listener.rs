//! Accepts connections of HTTP within limits of number, size and time: what `serve` and `witness` share.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

/// How long a client has for the lines before a body; also how long an idle connection stays open.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client has for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many bytes the lines before a body may have.
const HEADER_BYTES: usize = 64 * 1024;

/// How long nobody is accepted where the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many connections there are at once; others wait until one ends.
    pub(crate) connections: u32,
    /// How long a connection lasts: one whose client takes a byte now and then would last for ever.
    pub(crate) lasts: Duration,
    /// How long requests that have begun have, when a connection or the program is to end.
    pub(crate) end: Duration,
}

/// Serves until `end` is over, and then to the end what has begun. `service` makes what answers the
/// requests of a client.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    limits: Limits,
    end: impl Future<Output = ()>,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let (ending, _) = watch::channel(());
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, client)) = listener.accept().await else {
                sleep(NO_ROOM).await;
                continue;
            };
            let service = closing(service(client), Arc::clone(&places), limits.connections / 4);
            let ended = ending.subscribe();
            tokio::spawn(async move {
                connection(service, stream, limits, ended).await;
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
    let _ = timeout(limits.end, places.acquire_many(limits.connections)).await;
}

/// Ends a connection after an answer where there are fewer places than `least`: else clients that ask for
/// something now and then, 900 of them, would keep everybody else out.
fn closing<S, B>(
    service: S,
    places: Arc<Semaphore>,
    least: u32,
) -> impl Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
+ Send
+ 'static
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body + 'static,
{
    service_fn(move |request| {
        let (answering, places) = (service.call(request), Arc::clone(&places));
        async move {
            let mut response = answering.await?;
            if places.available_permits() < least as usize {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    })
}

/// Serves one connection.
async fn connection<S, B>(
    service: S,
    stream: TcpStream,
    limits: Limits,
    mut ended: watch::Receiver<()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    // What is sent in two parts would wait for the first one's receipt.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Whatever went wrong, its client knows.
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
        () = sleep(limits.lasts) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.end, connection).await;
}

/// Reads a body of at most so many bytes; if it is longer, too slow or cut off, returns the status to
/// answer, and why.
pub(crate) async fn read_body(
    body: Incoming,
    most: usize,
) -> Result<Bytes, (StatusCode, &'static str)> {
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
    if body.size_hint().lower() > most as u64 {
        return Err(too_large);
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the request is cut off")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the request was too slow")),
    }
}
