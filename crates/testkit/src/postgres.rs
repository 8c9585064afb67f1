//! A throwaway Postgres server.
//!
//! Under nextest every test is a process, so tests cannot share a server and it has to start fast:
//! `initdb` runs once, into a template that each server copies.

use super::folders::{Claim, claim};
use super::programs::{Programs, output, signal};
use super::query::{self, Session};
use super::{DATABASE, PATIENCE, wait_until};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// The superuser that every server starts with.
pub const ADMINISTRATOR: &str = "postgres";

/// A running server, which is stopped and removed on drop.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    postmaster: Option<Child>,
    /// Locked for as long as this process lives.
    _owner: File,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Rolls back open transactions, closes the connections, writes a checkpoint.
    Fast,
    /// Like a crash: no checkpoint, and recovery at the next start.
    Immediate,
}

impl Postgres {
    /// Starts a server with an empty database `audit`. `fsync` is on.
    ///
    /// # Panics
    /// If no Postgres programs are found, or the server does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`Self::start`], with settings, each as `name=value`. They stay in force over restarts.
    pub fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        Self::start_on(|template| (template.to_owned(), settings.clone()))
    }

    /// Starts a server on a copy of a data folder: `origin`, given the template, returns the folder
    /// and the settings.
    fn start_on(origin: impl Fn(&Path) -> (PathBuf, Vec<String>)) -> Self {
        let programs = Programs::find();
        loop {
            let Claim {
                port,
                folder,
                owner,
                template,
            } = claim(&programs);
            programs.give(&folder);
            let (origin, settings) = origin(&template);
            output(
                Command::new("cp")
                    .arg("-a")
                    .arg(origin)
                    .arg(folder.join("data")),
            );
            let mut server = Self {
                programs: programs.clone(),
                folder,
                port,
                settings,
                postmaster: None,
                _owner: owner,
            };
            if server.launch() {
                return server;
            }
            assert!(
                server.log().contains("could not create any TCP/IP sockets"),
                "Postgres did not start:\n{}",
                server.log()
            );
        }
    }

    /// Returns the URL of the database `audit`, over TCP.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// Returns the URL of another database of the server, over TCP.
    pub fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://{ADMINISTRATOR}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Returns the URL of the database `audit` for a login, over TCP.
    pub fn url_as(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Returns the URL of the database `audit`, over the server's Unix socket.
    pub fn socket_url(&self) -> String {
        format!(
            "postgres://postgres@localhost/{DATABASE}?host={}&port={}",
            self.folder.display(),
            self.port
        )
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns what the server has logged since `start`.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap()).into_owned()
    }

    /// Returns the process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.postmaster
            .as_ref()
            .expect("the server is not stopped")
            .id()
    }

    /// Returns the command for a program, to run as the server's account.
    pub fn of_account(&self, program: &str) -> Command {
        self.programs.of_account(program)
    }

    /// Limits the size of files for the server's processes started from now on, in bytes or
    /// `unlimited`.
    pub fn limit_file_size(&self, limit: &str) {
        // Run as the server's account, since even root may not do this without the capability.
        output(self.of_account("prlimit").args([
            "--pid",
            &self.pid().to_string(),
            &format!("--fsize={limit}:"),
        ]));
    }

    /// Runs `sql` in the database `audit` and returns what `psql -Atq -c` would print: a line for
    /// each row, `|` between columns, nothing for NULL.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql)
            .unwrap_or_else(|error| panic!("{error}\nin {sql}"))
    }

    /// Like [`Self::psql`], but returns an error as `ERROR: SQLSTATE: message`.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        query::run(self.port, ADMINISTRATOR, DATABASE, sql)
    }

    /// Opens a connection to the database `audit` as a login.
    #[track_caller]
    pub fn session(&self, login: &str) -> Session {
        self.session_in(DATABASE, login)
    }

    /// Opens a connection to another database of the server as a login.
    #[track_caller]
    pub fn session_in(&self, database: &str, login: &str) -> Session {
        Session::open(self.port, login, database)
            .unwrap_or_else(|error| panic!("{login} in {database}: {error}"))
    }

    /// Like [`Self::session`], but returns an error if the server refuses.
    pub fn try_session(&self, login: &str) -> Result<Session, String> {
        Session::open(self.port, login, DATABASE)
    }

    /// Starts a standby that follows this server, restarting the server for it: copying the data of
    /// a stopped server needs no Postgres program that some distributions lack.
    #[must_use = "it is stopped on drop"]
    pub fn start_standby(&mut self) -> Self {
        self.stop(Stop::Fast);
        let marker = self.data_dir().join("standby.signal");
        File::create(&marker).unwrap();
        let mut settings = self.settings.clone();
        settings.push(format!(
            "primary_conninfo=host=127.0.0.1 port={} user=postgres",
            self.port
        ));
        // The server is not up yet when the standby first tries to connect.
        settings.push("wal_retrieve_retry_interval=100ms".to_owned());
        let standby = Self::start_on(|_| (self.data_dir(), settings.clone()));
        fs::remove_file(marker).unwrap();
        self.start_again();
        standby
    }

    /// Stops the server, and returns when it has stopped.
    pub fn stop(&mut self, how: Stop) {
        let mut postmaster = self.postmaster.take().expect("the server is not stopped");
        signal(postmaster.id(), how.signal());
        wait_until("Postgres stops", PATIENCE, || {
            postmaster.try_wait().unwrap().is_some()
        });
    }

    /// Restarts a server that was stopped, or killed by its process id, on the same port and data.
    pub fn start_again(&mut self) {
        if let Some(mut killed) = self.postmaster.take() {
            wait_until("Postgres ends after it was killed", PATIENCE, || {
                killed.try_wait().unwrap().is_some()
            });
        }
        assert!(
            self.launch(),
            "Postgres did not start again:\n{}",
            self.log()
        );
    }

    /// Stops the server and starts it again.
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.start_again();
    }

    /// Starts the server; returns whether it came up.
    fn launch(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        let folder = self.folder.display();
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={folder}"),
            // Small, because many of these run side by side.
            "shared_buffers=32MB".to_owned(),
        ];
        let mut command = self.programs.command("postgres", &self.folder);
        command.arg("-D").arg(self.data_dir());
        for setting in settings.iter().chain(&self.settings) {
            command.arg("-c").arg(setting);
        }
        let started = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));

        let file = self.data_dir().join("postmaster.pid");
        let postmaster = self.postmaster.insert(started);
        let mut ended = false;
        wait_until("Postgres is ready", PATIENCE, || {
            ended = postmaster.try_wait().unwrap().is_some();
            ended || is_ready(&file, postmaster.id())
        });
        if ended {
            self.postmaster = None;
        }
        !ended
    }
}

impl Drop for Postgres {
    // Must not panic: the test may already be failing.
    fn drop(&mut self) {
        if let Some(postmaster) = &mut self.postmaster {
            signal(postmaster.id(), Stop::Immediate.signal());
            let _ = postmaster.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Stop {
    fn signal(self) -> &'static str {
        match self {
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// Line 1 of `postmaster.pid` is the process id, line 8 the state. After a crash the file is the
/// previous server's.
fn is_ready(file: &Path, postmaster: u32) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        let mut lines = text.lines();
        lines.next().and_then(|pid| pid.parse().ok()) == Some(postmaster)
            && lines
                .nth(6)
                .is_some_and(|state| state.trim_end() == "ready")
    })
}
