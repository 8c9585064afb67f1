//! A TCP proxy in front of a server, which cuts connections at a chosen byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a client to the server.
    ToServer,
    /// From the server to a client.
    ToClient,
}

/// When a connection is cut, in a round of question and answer of Postgres' protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the question reaches the server.
    Asked,
    /// When the server has done what it was asked, and the client has not heard of it.
    Answered,
}

/// A proxy that listens on its own port.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    server_port: u16,
    is_closed: bool,
    /// Accepts all data and new connections, but forwards nothing.
    is_black_hole: bool,
    /// Both ends of each connection.
    open: Vec<TcpStream>,
    /// The bytes in each direction since `watch`, up to the cut.
    seen: Option<[Vec<u8>; 2]>,
    cut: Option<(Way, usize)>,
    /// How many rounds pass whole before the one in which everything is cut.
    round: Option<(usize, Moment)>,
}

/// Counts the rounds of question and answer in what a server of Postgres sends over a connection without TLS.
#[derive(Debug, Default)]
struct Rounds {
    /// Of the next message, up to its length.
    head: Vec<u8>,
    /// How many bytes of the last message are still to come.
    rest: usize,
}

impl Rounds {
    /// Returns how many rounds end in these bytes.
    fn ends(&mut self, bytes: &[u8]) -> usize {
        let mut ends = 0;
        for byte in bytes {
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.head.push(*byte);
            if let [kind, length @ ..] = &*self.head
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                ends += usize::from(*kind == b'Z');
                self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.head.clear();
            }
        }
        ends
    }
}

impl Proxy {
    /// Starts a proxy in front of the server on this port.
    pub fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        proxy.point_to(server_port);
        let state = Arc::clone(&proxy.state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if lock(&state).is_closed {
                    return;
                }
                connect(client.unwrap(), &state);
            }
        });
        proxy
    }

    /// Returns the URL of the database `audit` behind the proxy.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/audit", self.port)
    }

    /// Sends new connections to this server.
    pub fn point_to(&self, server_port: u16) {
        lock(&self.state).server_port = server_port;
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        lock(&self.state).cut();
    }

    /// Makes it accept all data and forward nothing, like a firewall that drops packets.
    pub fn swallow(&self, swallows: bool) {
        lock(&self.state).is_black_hole = swallows;
    }

    /// Starts to record the bytes in both directions.
    pub fn watch(&self) {
        let mut state = lock(&self.state);
        state.seen = Some(Default::default());
        state.cut = None;
    }

    /// Cuts every connection after this many more bytes in this direction; all bytes before that
    /// arrive.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.watch();
        lock(&self.state).cut = Some((way, bytes));
    }

    /// Cuts every connection in a round of question and answer, counted from 0 over all connections that begin from now on,
    /// which have no TLS. That a server accepts a connection is a round too.
    pub fn cut_in_round(&self, round: usize, moment: Moment) {
        lock(&self.state).round = Some((round, moment));
    }

    /// Whether what [`Self::cut_in_round`] asked for has not happened yet.
    pub fn is_to_cut_in_round(&self) -> bool {
        lock(&self.state).round.is_some()
    }

    /// Takes back what [`Self::cut_in_round`] asked for; returns whether it did not happen.
    pub fn take_back(&self) -> bool {
        lock(&self.state).round.take().is_some()
    }

    /// Returns the bytes sent to the server and to the client since `watch`.
    pub fn seen(&self) -> [Vec<u8>; 2] {
        lock(&self.state).seen.take().unwrap()
    }

    /// Whether a requested cut has not happened yet.
    pub fn is_to_cut(&self) -> bool {
        lock(&self.state).cut.is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.state).is_closed = true;
        self.cut();
        // Wakes the thread that accepts clients.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn cut(&mut self) {
        for end in self.open.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Records bytes that are about to be forwarded; returns how many of them may be, and whether
    /// to cut then.
    fn pass(&mut self, way: Way, bytes: &[u8]) -> (usize, bool) {
        let Some(seen) = &mut self.seen else {
            return (bytes.len(), false);
        };
        let seen = &mut seen[way as usize];
        let limit = self.cut.filter(|(cut, _)| *cut == way);
        let room = limit.map_or(usize::MAX, |(_, limit)| limit - seen.len());
        let passing = bytes.len().min(room);
        seen.extend_from_slice(&bytes[..passing]);
        (passing, room <= bytes.len())
    }

    /// Whether everything is to be cut before these bytes are forwarded.
    fn is_cut_before(&mut self, way: Way, bytes: &[u8], rounds: &mut Rounds) -> bool {
        let ends = if way == Way::ToClient {
            rounds.ends(bytes)
        } else {
            0
        };
        match &mut self.round {
            Some((0, moment)) => {
                let is_now = (way == Way::ToServer) == (*moment == Moment::Asked);
                if is_now {
                    self.round = None;
                }
                is_now
            }
            Some((left, _)) => {
                *left = left.saturating_sub(ends);
                false
            }
            None => false,
        }
    }
}

fn connect(client: TcpStream, state: &Arc<Mutex<State>>) {
    // Locked throughout, so that cutting all connections misses none.
    let mut held = lock(state);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, held.server_port)) else {
        return;
    };
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
        held.open.push(end.try_clone().unwrap());
    }
    drop(held);
    let ends = [&client, &server].map(|end| end.try_clone().unwrap());
    forward(Way::ToServer, client, server, Arc::clone(state));
    let [client, server] = ends;
    forward(Way::ToClient, server, client, Arc::clone(state));
}

/// Acknowledges received bytes at once: a sender that combines small packets waits for the
/// acknowledgement before it sends the next, and the system delays it by 40 ms.
fn acknowledge(from: &TcpStream) {
    #[cfg(target_os = "linux")]
    std::os::linux::net::TcpStreamExt::set_quickack(from, true).unwrap();
    #[cfg(not(target_os = "linux"))]
    let _ = from;
}

fn forward(way: Way, mut from: TcpStream, mut to: TcpStream, state: Arc<Mutex<State>>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut rounds = Rounds::default();
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            acknowledge(&from);
            if lock(&state).is_black_hole {
                continue;
            }
            {
                let mut state = lock(&state);
                if state.is_cut_before(way, &buffer[..read], &mut rounds) {
                    state.cut();
                    break;
                }
            }
            let (passing, is_end) = lock(&state).pass(way, &buffer[..read]);
            let written = to.write_all(&buffer[..passing]);
            if is_end {
                let mut state = lock(&state);
                (state.cut, state.seen) = (None, None);
                state.cut();
            }
            if is_end || written.is_err() {
                break;
            }
        }
        for end in [from, to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    });
}
