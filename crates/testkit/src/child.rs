//! Child processes: functions of a test program that run in a process of their own, because the test
//! kills it or needs a global subscriber.
//!
//! A module lists these functions with [`child_processes!`], and a test starts one of them with
//! [`child!`]:
//!
//! ```ignore
//! child_processes!(records_until_killed);
//!
//! fn records_until_killed() {
//!     // ...
//! }
//!
//! #[test]
//! fn a_killed_process_has_lost_nothing() {
//!     let child = command(child!(records_until_killed), &postgres, &spool).spawn();
//!     // ...
//! }
//! ```

use crate::Postgres;
use crate::trail::Folder;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The variable that is set only in a child, to the name of what it runs.
const CHILD: &str = "TRACING_AUDIT_TEST_CHILD";

/// Lists the functions of this module that run as child processes, each with its attributes.
///
/// Declares the one test that a child runs, which calls the function that the parent named. Without
/// a parent, in a run of the ignored tests, it does nothing.
#[macro_export]
macro_rules! child_processes {
    ($($(#[$attribute:meta])* $function:ident),+ $(,)?) => {
        const CHILD_PROCESS: &str = concat!(module_path!(), "::child_process");

        #[test]
        #[ignore = "a child process, which other tests start"]
        fn child_process() {
            let Some(name) = $crate::child::name() else {
                return;
            };
            match &*name {
                $($(#[$attribute])* stringify!($function) => $function(),)+
                _ => panic!("child_processes! does not list {name}"),
            }
        }
    };
}

/// Names a function that [`child_processes!`] lists, for [`alone`] and [`command`].
#[macro_export]
macro_rules! child {
    ($function:ident) => {{
        // The compiler checks that there is such a function.
        let _ = $function;
        $crate::child::ChildProcess::new(CHILD_PROCESS, stringify!($function))
    }};
}

pub use crate::{child, child_processes};

/// A function that runs as a child process. [`child!`] makes it.
#[derive(Debug, Clone, Copy)]
pub struct ChildProcess {
    /// The path of the test that calls the function, from the crate's name on.
    test: &'static str,
    function: &'static str,
}

impl ChildProcess {
    /// Names a function by its own name and that of the test which calls it.
    pub const fn new(test: &'static str, function: &'static str) -> Self {
        Self { test, function }
    }
}

/// Returns the name of what this process runs as a child, or `None` if it is no child.
pub fn name() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Returns the command that runs this function alone in a process.
pub fn alone(process: ChildProcess) -> Command {
    // The harness knows its tests without the crate's name.
    let (_, test) = process.test.split_once("::").unwrap();
    let mut command = this_program(process.function);
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command
}

/// Like [`alone`]; the child's `from_env()` finds this server and folder.
pub fn command(process: ChildProcess, postgres: &Postgres, spool: &Folder) -> Command {
    with_trail(alone(process), postgres, spool)
}

/// Like [`command`], for a test program without a harness: its `main` asks for the [`name`].
pub fn main_command(name: &str, postgres: &Postgres, spool: &Folder) -> Command {
    with_trail(this_program(name), postgres, spool)
}

fn this_program(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, name);
    command
}

fn with_trail(mut command: Command, postgres: &Postgres, spool: &Folder) -> Command {
    command
        .env("AUDIT_DATABASE_URL", postgres.url())
        .env("AUDIT_SPOOL_DIR", &spool.0)
        .env("AUDIT_SERVICE_NAME", "child")
        .stdout(Stdio::piped());
    command
}

/// Appends the child's command to that of a program that runs it, such as a shell or a tracer.
pub fn wrapped(mut wrapper: Command, command: &Command) -> Command {
    let variables = command.get_envs();
    wrapper
        .arg(command.get_program())
        .args(command.get_args())
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    wrapper
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
