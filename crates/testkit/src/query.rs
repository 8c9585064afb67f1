//! Runs SQL over Postgres' simple query protocol.
//!
//! It uses neither `psql`, which some distributions of Postgres lack, nor sqlx, which is part of
//! what is tested.

use super::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// Protocol 3.0.
const PROTOCOL: i32 = 3 << 16;

/// Runs `sql` on its own connection and returns what `psql -Atq -c` prints, or the first error as
/// `ERROR: SQLSTATE: message`.
pub(super) fn run(port: u16, user: &str, database: &str, sql: &str) -> Result<String, String> {
    Session::open(port, user, database)?.run(sql)
}

/// A connection of a login.
#[derive(Debug)]
pub struct Session {
    server: TcpStream,
    /// What the server sent for the last statements besides rows: notices as
    /// `NOTICE: SQLSTATE: message`, and the details, hints and contexts of errors and notices.
    told: Vec<String>,
}

impl Session {
    /// Opens a connection. The error is what the server answers.
    pub fn open(port: u16, user: &str, database: &str) -> Result<Self, String> {
        Self::connect(port, user, database).unwrap_or_else(|error| Err(lost(&error)))
    }

    fn connect(port: u16, user: &str, database: &str) -> io::Result<Result<Self, String>> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_nodelay(true)?;
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for word in ["user", user, "database", database, ""] {
            startup.extend_from_slice(word.as_bytes());
            startup.push(0);
        }
        let mut session = Self {
            server,
            told: Vec::new(),
        };
        session.server.write_all(&with_length(&startup))?;
        Ok(session.answer()?.map(|_| session))
    }

    /// Runs statements in one exchange; they form one transaction unless they say otherwise.
    pub fn run(&mut self, sql: &str) -> Result<String, String> {
        self.send(sql);
        self.receive()
    }

    /// Like [`Self::run`], but fails the test on an error.
    #[track_caller]
    pub fn psql(&mut self, sql: &str) -> String {
        self.run(sql)
            .unwrap_or_else(|error| panic!("{error}\nin {sql}"))
    }

    /// Sends statements without waiting for the answer.
    pub fn send(&mut self, sql: &str) {
        let mut query = sql.as_bytes().to_vec();
        query.push(0);
        // A lost connection is noticed when the answer is read.
        let _ = self.server.write_all(&message(b'Q', &query));
    }

    /// Waits for the answer to what was sent.
    pub fn receive(&mut self) -> Result<String, String> {
        self.told.clear();
        self.answer().unwrap_or_else(|error| Err(lost(&error)))
    }

    /// Returns what the server sent for the last statements besides rows.
    pub fn told(&self) -> String {
        self.told.join("\n")
    }

    /// Reads messages up to `ReadyForQuery`, or up to the error after which the server closes the
    /// connection.
    fn answer(&mut self) -> io::Result<Result<String, String>> {
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let (kind, body) = match read_message(&mut self.server) {
                Ok(message) => message,
                Err(end) => return error.map_or(Err(end), |error| Ok(Err(error))),
            };
            match kind {
                b'D' => rows.push(row(&body)),
                b'd' => rows.push(String::from_utf8_lossy(body.trim_ascii_end()).into_owned()),
                b'E' => {
                    self.told.extend(details(&body));
                    error.get_or_insert_with(|| describe(&body));
                }
                b'N' => {
                    self.told.push(describe(&body));
                    self.told.extend(details(&body));
                }
                b'R' if body != [0, 0, 0, 0] => {
                    return Ok(Err("the server asks for a password".to_owned()));
                }
                // COPY from the client: sends no rows.
                b'G' => self.server.write_all(&message(b'c', b""))?,
                b'Z' => return Ok(error.map_or_else(|| Ok(rows.join("\n")), Err)),
                _ => {}
            }
        }
    }
}

fn lost(error: &io::Error) -> String {
    format!("the connection is lost: {error}")
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &*with_length(body)].concat()
}

fn read_message(server: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
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

/// Parses a row: a count of columns, then the length (-1 for NULL) and the text of each.
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

/// Returns a field of an error or a notice, each of which is a letter and a text.
fn property(body: &[u8], letter: u8) -> Option<String> {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(&[letter]))
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

fn describe(body: &[u8]) -> String {
    let [severity, state, message] =
        [b'S', b'C', b'M'].map(|letter| property(body, letter).unwrap_or_default());
    format!("{severity}: {state}: {message}")
}

fn details(body: &[u8]) -> impl Iterator<Item = String> {
    [("DETAIL", b'D'), ("HINT", b'H'), ("CONTEXT", b'W')]
        .into_iter()
        .filter_map(|(name, letter)| Some(format!("{name}: {}", property(body, letter)?)))
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.server.write_all(&message(b'X', b""));
    }
}
