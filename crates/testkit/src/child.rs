//! Runs part of a test in a process of its own: one that is killed, or that has a global
//! subscriber.

use super::Postgres;
use crate::trail::Folder;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Set only in the child.
const CHILD: &str = "TRACING_AUDIT_TEST_CHILD";

/// Whether this process is the child.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Returns the command that runs only this test, as a child.
pub fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    command
}

/// Like [`alone`]; the child's `from_env()` finds this server and folder.
pub fn command(test: &str, postgres: &Postgres, spool: &Folder) -> Command {
    let mut command = alone(test);
    told(&mut command, postgres, spool);
    command
}

/// Sets the server and the folder in a command's environment.
pub fn told(command: &mut Command, postgres: &Postgres, spool: &Folder) {
    command
        .env(CHILD, "1")
        .env("AUDIT_DATABASE_URL", postgres.url())
        .env("AUDIT_SPOOL_DIR", &spool.0)
        .env("AUDIT_SERVICE_NAME", "child")
        .stdout(Stdio::piped());
}

/// Waits until the child prints a line that ends with this word; returns that line.
pub fn wait_for_word(child: &mut Child, word: &str) -> String {
    // Reads a line and no byte more: the child goes on writing, and the pipe is read again.
    let stdout = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    stdout
        .lines()
        .map(Result::unwrap)
        .find(|line| line.ends_with(word))
        .unwrap_or_else(|| panic!("the child did not say {word}"))
}

/// Starts a child and waits until it prints that it is ready.
pub fn start_until_ready(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_for_word(&mut child, "ready");
    child
}

/// Kills the child with SIGKILL.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Prints a word for the parent.
#[allow(clippy::print_stdout, reason = "what a parent reads")]
pub fn say(word: &str) {
    println!("{word}");
}

/// Prints that the child is ready, and returns when the parent closes its stdin.
pub fn wait_for_parent() {
    say("ready");
    std::io::read_to_string(std::io::stdin()).unwrap();
}

/// Prints that the child is ready, and never returns.
pub fn say_ready_and_wait_to_be_killed() -> ! {
    say("ready");
    wait_to_be_killed()
}

/// Never returns.
pub fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}
