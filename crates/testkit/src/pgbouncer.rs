//! A pooler in front of a server.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command};

use super::trail::Folder;
use super::{ADMINISTRATOR, PATIENCE, Postgres, Session, wait_until};

/// A running pgbouncer, in transaction mode.
#[derive(Debug)]
pub struct Pgbouncer {
    // Dropped first: it must end before its folder is removed.
    running: Option<Child>,
    port: u16,
    folder: Folder,
}

impl Pgbouncer {
    /// Returns whether there is a program `pgbouncer`.
    pub fn is_installed() -> bool {
        let asked = Command::new("pgbouncer").arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    }

    /// Starts one that opens at most so many connections for each login and database.
    ///
    /// # Panics
    /// If there is no pgbouncer, or it does not start.
    pub fn start(postgres: &Postgres, pool_size: u32) -> Self {
        let folder = Folder::new();
        fs::create_dir(&folder.0).unwrap();
        // Below the ports that systems use for outgoing connections, and below those of the
        // servers, one of which is this test's own.
        let of_server = (postgres.port() - 15_000) % 5_000;
        let port = (10_000 + of_server..15_000)
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .unwrap();
        let settings = format!(
            "[databases]
             audit = host=127.0.0.1 port={port_of_server} dbname=audit user=postgres
             readers = host=127.0.0.1 port={port_of_server} dbname=audit user=dashboard
             [pgbouncer]
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir =
             auth_type = any
             pool_mode = transaction
             max_client_conn = 10000
             default_pool_size = {pool_size}
             server_login_retry = 0.1
            ",
            port_of_server = postgres.port()
        );
        fs::write(
            folder.0.join("pgbouncer.ini"),
            settings.replace("             ", ""),
        )
        .unwrap();
        let mut pooler = Self {
            running: None,
            port,
            folder,
        };
        pooler.start_again(postgres);
        pooler
    }

    /// Starts it again after it was killed.
    pub fn start_again(&mut self, postgres: &Postgres) {
        let log = fs::File::create(self.folder.0.join("log")).unwrap();
        let child = postgres
            .of_account("pgbouncer")
            .arg(self.folder.0.join("pgbouncer.ini"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("pgbouncer: {error}"));
        self.running = Some(child);
        wait_until("pgbouncer is ready", PATIENCE, || {
            self.try_session().is_ok()
        });
    }

    /// Kills it, which cuts every connection on either side.
    pub fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Returns the URL of the database `audit` through the pooler.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/audit", self.port)
    }

    /// Opens a connection; returns an error if the pooler refuses.
    pub fn try_session(&self) -> Result<Session, String> {
        Session::open(self.port, ADMINISTRATOR, "audit")
    }

    /// Opens a connection for a client besides the pipeline.
    #[track_caller]
    pub fn session(&self) -> Session {
        self.try_session().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens a connection to one of its databases, `audit` and `readers`, as a login.
    #[track_caller]
    pub fn session_in(&self, database: &str, login: &str) -> Session {
        Session::open(self.port, login, database).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns its process id.
    ///
    /// # Panics
    /// If it was killed.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it was not killed").id()
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
