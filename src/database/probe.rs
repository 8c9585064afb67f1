//! Probes a server whose connection is silent.
//!
//! sqlx gives no access to its socket, so TCP's own keepalive and user timeout cannot be set. A
//! path that swallows packets still shows within seconds: a new connection is not answered either.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpStream;

use super::cause;

/// A request for TLS, which any server with Postgres' protocol answers with one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Where to probe.
#[derive(Clone, Debug)]
pub struct Probe {
    host: String,
    port: u16,
    socket: Option<PathBuf>,
}

impl Probe {
    pub(super) fn of(host: &PgConnectOptions) -> Self {
        let name = host.get_host();
        Self {
            host: String::from(name),
            port: host.get_port(),
            socket: host
                .get_socket()
                .cloned()
                .or_else(|| name.starts_with('/').then(|| PathBuf::from(name))),
        }
    }

    /// Checks that a server answers there. The error says that none does, in words for a log.
    pub(crate) async fn look(&self, limit: Duration) -> Result<(), String> {
        // A socket of this machine loses no packets.
        if self.socket.is_some() {
            return Ok(());
        }
        match tokio::time::timeout(limit, self.ask()).await {
            Ok(Err(error)) if is_of_the_server(&error) => Err(cause::of_io(&error)),
            // Another error says nothing about the server.
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "no answer, nor to a new connection within {} s: does a firewall drop the packets?",
                limit.as_secs()
            )),
        }
    }

    async fn ask(&self) -> io::Result<()> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.writable().await?;
        // Eight bytes fit into the buffer of a new socket.
        stream.try_write(&SSL_REQUEST)?;
        loop {
            stream.readable().await?;
            match stream.try_read(&mut [0]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns whether the error says that nobody is there. An error of this process, such as too many
/// open files, or of the resolver does not.
fn is_of_the_server(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}
