//! `tracing-audit witness`, and sealers that ask it: what it has cosigned is one log, whatever happens to it and whoever asks.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod sealing;
mod server;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use testkit::trail::{Folder, PATIENCE};
use testkit::wait_until;
use tracing_audit::__program::ledger::checkpoint::{self, Checkpoint, Cosignature};
use tracing_audit::__program::ledger::key::{Algorithm, MemoryKey, Signer as _, Vkey};
use tracing_audit::__program::ledger::note::Note;
use tracing_audit::__program::ledger::paths::{self, Head};
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};
use tracing_audit::__program::ledger::witness::add_checkpoint_body;
use tracing_audit::__program::seal::key_file;

const ORIGIN: &str = "example.com/trail";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
}

/// A folder for keys and states, and the key of a log.
struct Place {
    scratch: Folder,
    log: MemoryKey,
}

impl Place {
    fn new() -> Self {
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let log = key_file::create(&scratch.0.join("log.key"), ORIGIN).unwrap();
        Self { scratch, log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// Makes the key of a witness, and starts it.
    fn witness(&self, name: &str) -> Witness {
        let file = |kind| self.path(&format!("{}.{kind}", name.replace('/', "-")));
        let key = file("key");
        let made = program()
            .args(["key", "new", "--witness", "--name", name])
            .arg(&key)
            .output()
            .unwrap();
        let vkey = Vkey::parse(std::str::from_utf8(&made.stdout).unwrap().trim()).unwrap();
        assert_eq!(vkey.algorithm(), Algorithm::CosignatureV1);
        let mut witness = Witness {
            child: None,
            told: Arc::default(),
            key,
            state: file("state"),
            logs: vec![self.log.vkey().to_string()],
            vkey,
            port: 0,
        };
        witness.start();
        witness
    }
}

/// A witness, which is killed on drop.
struct Witness {
    child: Option<Child>,
    told: Arc<Mutex<String>>,
    key: PathBuf,
    state: PathBuf,
    logs: Vec<String>,
    vkey: Vkey,
    port: u16,
}

impl Witness {
    fn command(&self) -> Command {
        let mut command = program();
        self.arguments(&mut command);
        command
    }

    fn arguments(&self, command: &mut Command) {
        command.arg("witness").arg("--key").arg(&self.key);
        command.arg("--state").arg(&self.state);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        for log in &self.logs {
            command.args(["--log", log]);
        }
    }

    /// Starts it, on the port that it had before.
    fn start(&mut self) {
        self.start_as(self.command());
    }

    fn start_as(&mut self, mut command: Command) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let told: Arc<Mutex<String>> = Arc::default();
        self.told = Arc::clone(&told);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut told = told.lock().unwrap();
                told.push_str(&line);
                told.push('\n');
            }
        });
        self.child = Some(child);
        let listens = |told: String| {
            let (_, rest) = told.split_once("listens on http://127.0.0.1:")?;
            rest.lines().next()?.parse().ok()
        };
        wait_until("the witness listens", PATIENCE, || {
            listens(self.told()).is_some()
        });
        self.port = listens(self.told()).unwrap();
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns what `--witness` of `seal` takes.
    fn named(&self) -> String {
        format!("{}={}", self.url(), self.vkey)
    }

    fn connect(&self) -> TcpStream {
        connect(self.port).unwrap()
    }

    fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.try_post(body).unwrap()
    }

    /// Returns an error if it goes away meanwhile.
    fn try_post(&self, body: impl AsRef<[u8]>) -> std::io::Result<Answer> {
        post(self.port, body.as_ref())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn post(port: u16, body: &[u8]) -> std::io::Result<Answer> {
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    exchange(&mut connect(port)?, &[head.as_bytes(), body].concat())
}

/// Sends bytes, and reads what is answered until the end.
fn exchange(stream: &mut TcpStream, sent: &[u8]) -> std::io::Result<Answer> {
    // Who refuses a request need not read it.
    let written = stream.write_all(sent);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(error);
    }
    let text = String::from_utf8(answer).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        written?;
        return Err(std::io::Error::other(format!("no answer: {text:?}")));
    };
    Ok(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// A log in memory.
#[derive(Clone)]
struct Log {
    leaves: Vec<Hash>,
}

impl Log {
    /// A log whose leaves from a number on are those of a fork.
    fn new(size: u64, from: u64, fork: u64) -> Self {
        let leaf = |at: u64| {
            tree::leaf_hash(format!("{at} {}", if at < from { 0 } else { fork }).as_bytes())
        };
        Self {
            leaves: (0..size).map(leaf).collect(),
        }
    }

    fn head(&self) -> Head {
        Head {
            size: self.leaves.len() as u64,
            root: tree::root(&self.leaves),
        }
    }

    fn path(&self, old: u64) -> Vec<Hash> {
        let node = |node: Subtree| {
            let (from, to) = node.leaves().unwrap();
            let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            Ok::<_, std::convert::Infallible>(tree::root(&self.leaves[range]))
        };
        paths::consistency_path(old, self.head().size, node).unwrap()
    }

    fn note(&self, key: &MemoryKey) -> Note {
        let checkpoint = Checkpoint {
            origin: key.vkey().name().to_owned(),
            head: self.head(),
        };
        checkpoint::sign(&checkpoint, key, 1_796_000_000).unwrap()
    }

    /// Returns the body of a request.
    fn request(&self, old: u64, key: &MemoryKey) -> String {
        add_checkpoint_body(old, &self.path(old), &self.note(key))
    }
}

/// Returns the cosignatures of an answer. Fails unless all of it is valid.
fn cosignatures(answer: &Answer, log: &Log, key: &MemoryKey, witness: &Vkey) -> Vec<Cosignature> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut note = log.note(key);
    let witnesses = [witness.clone()];
    let found =
        checkpoint::add_answer(&mut note, answer.body.as_bytes(), key.vkey(), &witnesses).unwrap();
    assert_eq!(answer.body.lines().count(), found.len(), "{answer:?}");
    found
}

fn terminate(child: &Child) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}
