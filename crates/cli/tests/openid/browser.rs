//! What a browser does: keeps cookies by host, and follows a redirection when it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Returns the values of a header.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Returns where it leads.
    #[track_caller]
    pub(crate) fn location(&self) -> &str {
        let found = self.all("location").next();
        found.unwrap_or_else(|| panic!("leads nowhere: {self:?}"))
    }
}

/// A browser, with its cookies.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    /// By host and port, and name.
    pub(crate) cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    /// Opens an address, as a link does.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) -> Answer {
        self.send("GET", url, "")
    }

    /// Sends a form.
    #[track_caller]
    pub(crate) fn post(&mut self, url: &str, body: &str) -> Answer {
        self.send("POST", url, body)
    }

    #[track_caller]
    fn send(&mut self, method: &str, url: &str, body: &str) -> Answer {
        let (host, stream) = self.begin(method, url, body);
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        for cookie in answer.all("set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let key = (host.clone(), name.to_owned());
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        answer
    }

    fn begin(&self, method: &str, url: &str, body: &str) -> (String, TcpStream) {
        let (host, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .filter(|((of, _), _)| of == host)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        )
        .unwrap();
        (host.to_owned(), stream)
    }

    /// Opens a stream of events; returns what came until it says a word.
    pub(crate) fn stream(&self, url: &str, opened: impl FnOnce(), word: &str) -> String {
        let (_, stream) = self.begin("GET", url, "");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        let mut came = lines.next().unwrap();
        assert!(came.contains("200"), "{came}");
        opened();
        for line in lines {
            came.push_str(&line);
            if line.contains(word) {
                break;
            }
        }
        came
    }
}
