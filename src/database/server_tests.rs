//! Connections to servers that do not answer, refuse, or are no Postgres.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::future::ready;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use super::Servers;
use super::servers::{Wanted, unless_it_panics};

fn servers(url: &str) -> Servers {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Answers each connection with these bytes, after it has read something.
fn answering(listener: TcpListener, answer: Vec<u8>) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(&answer);
        }
    });
}

/// Returns an answer of a server that refuses a connection.
fn refusing(sqlstate: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0C{sqlstate}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap();
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn each_address_of_a_name_is_tried_for_as_long_as_the_limit() {
    // Nobody accepts what waits at the first address.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let answers = TcpListener::bind(("127.0.0.2", port)).unwrap();
    answering(answers, refusing("28P01", "wrong"));
    let addresses = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
    let connect = |mode: &str, addresses: &[_]| {
        let servers = servers(&format!("postgres://u@db:{port}/app?sslmode={mode}"));
        let connecting = servers.connect_to_any(
            addresses,
            Duration::from_secs(2),
            servers.first(),
            Wanted::Any,
        );
        let cause = runtime().block_on(connecting).unwrap_err();
        (cause.sqlstate.clone(), String::from(cause.text()))
    };
    assert_eq!(connect("disable", &addresses).0.as_deref(), Some("28P01"));
    let (_, said) = connect("disable", &addresses[..1]);
    assert!(said.starts_with("no answer within 2 s"), "{said}");
    if sqlx_core::net::tls::available() {
        let (_, said) = connect("verify-full", &addresses);
        assert!(said.contains("a name of its own"), "{said}");
    }
}

#[test]
fn what_a_server_says_or_is_comes_with_what_to_do() {
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let refused = |message: &str| refusing("53300", message);
    for (answer, mode, words) in [
        (http.clone(), "prefer", "does not speak Postgres' protocol"),
        (http, "disable", "is that a Postgres server?"),
        (
            refused("too many connections for role \"u\""),
            "disable",
            "ALTER ROLE",
        ),
        (
            refused("too many connections for database \"app\""),
            "disable",
            "ALTER DATABASE",
        ),
        (
            refused("sorry, too many clients already"),
            "disable",
            "raise max_connections",
        ),
        (
            refusing("28000", "role \"u\" is not permitted to log in"),
            "disable",
            "ALTER ROLE … LOGIN",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        answering(listener, answer);
        let servers = servers(&format!("postgres://u@127.0.0.1:{port}/app?sslmode={mode}"));
        let connecting = servers.connect(Duration::from_secs(10));
        let said = runtime().block_on(connecting).unwrap_err().to_string();
        assert!(said.contains(words), "{mode}: {said}");
    }
}

#[test]
fn a_panic_while_connecting_ends_nothing_else() {
    let outcome = |doing| {
        let mut doing = std::pin::pin!(unless_it_panics(doing));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        doing.as_mut().poll(&mut context)
    };
    let panics = async {
        ready(()).await;
        panic!("no provider")
    };
    let fine: std::pin::Pin<Box<dyn Future<Output = u8>>> = Box::pin(ready(3));
    assert_eq!(outcome(fine), std::task::Poll::Ready(Some(3)));
    assert_eq!(outcome(Box::pin(panics)), std::task::Poll::Ready(None));
}
