//! Runs SQL over Postgres' simple query protocol.
//!
//! Not by the program `psql`, which not every source of Postgres programs has, and not by sqlx, which is part of what
//! the tests test.

use super::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// Protocol 3.0.
const PROTOCOL: i32 = 3 << 16;

/// Runs `sql` on a connection of its own and returns what `psql -Atq -c` prints, or its first error as
/// `ERROR: SQLSTATE: message`.
pub(super) fn run(port: u16, database: &str, sql: &str) -> Result<String, String> {
    Session::open(port, database)?.try_run(sql)
}

/// A connection that stays open, with its transaction and its locks.
pub(crate) struct Session {
    server: TcpStream,
}

impl Session {
    pub(crate) fn open(port: u16, database: &str) -> Result<Self, String> {
        let opening = || {
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            server.set_read_timeout(Some(PATIENCE))?;
            server.set_nodelay(true)?;

            let mut startup = PROTOCOL.to_be_bytes().to_vec();
            for word in ["user", "postgres", "database", database, ""] {
                startup.extend_from_slice(word.as_bytes());
                startup.push(0);
            }
            server.write_all(&with_length(&startup))?;
            Ok(answer(&mut server)?.map(|_| Self { server }))
        };
        opening().unwrap_or_else(|error: io::Error| Err(format!("port {port}: {error}")))
    }

    /// Runs `sql` and returns what `psql -Atq -c` prints.
    #[track_caller]
    pub(crate) fn run(&mut self, sql: &str) -> String {
        self.try_run(sql)
            .unwrap_or_else(|error| panic!("{error}\nin {sql}"))
    }

    /// The same; an error is returned as `ERROR: SQLSTATE: message`.
    pub(crate) fn try_run(&mut self, sql: &str) -> Result<String, String> {
        let mut query = sql.as_bytes().to_vec();
        query.push(0);
        let mut running = || {
            self.server.write_all(b"Q")?;
            self.server.write_all(&with_length(&query))?;
            answer(&mut self.server)
        };
        running().unwrap_or_else(|error: io::Error| Err(error.to_string()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.server.write_all(b"X\0\0\0\x04");
    }
}

/// Reads messages up to `ReadyForQuery`, or to the error after which the server closes the connection.
fn answer(server: &mut TcpStream) -> io::Result<Result<String, String>> {
    let mut rows = Vec::new();
    let mut error = None;
    loop {
        let (kind, body) = match message(server) {
            Ok(message) => message,
            Err(end) => return error.map_or(Err(end), |error| Ok(Err(error))),
        };
        match kind {
            b'D' => rows.push(row(&body)),
            b'E' => {
                error.get_or_insert_with(|| describe(&body));
            }
            b'R' if body != [0, 0, 0, 0] => {
                return Ok(Err("the server asks for a password".to_owned()));
            }
            b'G' | b'H' | b'W' => {
                return Ok(Err(
                    "COPY from or to the client is not understood here".to_owned()
                ));
            }
            b'Z' => return Ok(error.map_or_else(|| Ok(rows.join("\n")), Err)),
            _ => {}
        }
    }
}

fn message(server: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    server.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
    server.read_exact(&mut body)?;
    Ok((kind, body))
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("statements of a test are short");
    [length.to_be_bytes().as_slice(), body].concat()
}

/// A count of columns, then for each its length, -1 for NULL, and its text.
fn row(mut body: &[u8]) -> String {
    let columns = u16::from_be_bytes(take(&mut body));
    let mut texts = Vec::new();
    for _ in 0..columns {
        let text =
            usize::try_from(i32::from_be_bytes(take(&mut body))).map_or(&b""[..], |length| {
                let (text, rest) = body.split_at(length);
                body = rest;
                text
            });
        texts.push(String::from_utf8_lossy(text).into_owned());
    }
    texts.join("|")
}

fn take<const N: usize>(body: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = body
        .split_first_chunk()
        .expect("the server sends whole messages");
    *body = rest;
    *taken
}

/// A letter and a text for each property of the error.
fn describe(body: &[u8]) -> String {
    let text = |letter: u8| {
        body.split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(&[letter]))
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
    };
    format!("{}: {}: {}", text(b'S'), text(b'C'), text(b'M'))
}
