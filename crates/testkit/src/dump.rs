//! Dumps, by the programs that come with Postgres.

use super::postgres::{ADMINISTRATOR, Postgres};
use std::process::{Command, Output};

impl Postgres {
    /// Whether the `pg_dump` of this machine can read this server: it can read older ones alone. Says so where it cannot.
    #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
    pub fn can_be_dumped(&self) -> bool {
        let output = Command::new("pg_dump").arg("--version").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let can = major(&told) >= major(&self.psql("SHOW server_version"));
        if !can {
            eprintln!("not tested: the pg_dump of this machine is older than the server");
        }
        can
    }

    /// Runs a program that comes with Postgres, as the account that runs the server, and returns how it ended.
    pub fn try_client(&self, program: &str, arguments: &[&str]) -> Output {
        let port = self.port().to_string();
        self.of_account(program)
            .args(["-h", "127.0.0.1", "-U", ADMINISTRATOR, "-p", &port])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Runs a program that comes with Postgres, as the account that runs the server.
    #[track_caller]
    pub fn client(&self, program: &str, arguments: &[&str]) {
        let output = self.try_client(program, arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {told}");
    }
}

/// Returns the first number of a version.
fn major(text: &str) -> u32 {
    text.trim_start_matches(|c: char| !c.is_ascii_digit())
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or_else(|| panic!("{text} is no version"))
}
