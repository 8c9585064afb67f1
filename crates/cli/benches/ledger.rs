//! What tamper evidence costs: sealing, verifying, and how soon a row is under a signed checkpoint. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::Postgres;
use testkit::benches::{self, traffic};
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// How many records may be on their way to Postgres.
const MAX_PENDING: u64 = 30_000;

/// The records of the last hour, as a trail of 20 million rows in a month has them.
const HOUR: usize = 30_000;

fn main() {
    let trail = Trail::start();
    let rounds = if benches::is_short() { 1 } else { 13 };
    let of_round = if benches::is_short() { 10_000 } else { 80_000 };
    let (mut written, mut sealed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        written.push(of_round as f64 / trail.write(of_round, None).as_secs_f64());
        sealed.push(of_round as f64 / trail.seal().as_secs_f64());
    }
    println!("\nrows a second, {rounds} rounds of {of_round}");
    benches::row("", &["median", "quartiles", "/ written"].map(str::to_owned));
    for (name, rates) in [("written by the pipeline", &written), ("sealed", &sealed)] {
        benches::row(name, &rates_and_ratio(rates, &written));
    }
    println!();
    let rows = rounds * of_round;
    let ways = ["COPY to /dev/null", "verify"];
    let rates = benches::alternate(&ways, |way| {
        let took = if *way == "verify" {
            trail.verify(&[])
        } else {
            trail.copy()
        };
        rows as f64 / took.as_secs_f64()
    });
    println!("\nrows a second, of {rows}");
    benches::row("", &["median", "quartiles", "/ COPY"].map(str::to_owned));
    for (name, of_way) in ways.iter().zip(&rates) {
        benches::row(name, &rates_and_ratio(of_way, &rates[0]));
    }
    last_hour(&trail, rows);
    until_signed(&trail);
}

fn rates_and_ratio(rates: &[f64], peer: &[f64]) -> [String; 3] {
    [
        format!("{:.0}", benches::median(rates)),
        benches::quartiles(rates),
        format!(
            "{:.2}",
            benches::paired(rates, peer, |ours, of_peer| ours / of_peer)
        ),
    ]
}

/// Prints how long it takes to verify the last hour, and everything. `LEDGER_ROWS` says how long a trail is before it.
fn last_hour(trail: &Trail, mut rows: usize) {
    let wanted = std::env::var("LEDGER_ROWS").map_or(0, |rows| {
        rows.replace('_', "")
            .parse()
            .expect("LEDGER_ROWS is a number")
    });
    if wanted > rows {
        trail.write(wanted - rows, None);
        rows = wanted;
    }
    let begun = Instant::now();
    trail.write(HOUR, None);
    trail.seal();
    let took = benches::alternate(&["--since"], |since| {
        let seconds = format!("{}ms", begun.elapsed().as_millis());
        trail.verify(&[since, &seconds]).as_secs_f64()
    });
    println!(
        "\nseconds to verify the last {HOUR} rows of {}",
        rows + HOUR
    );
    benches::row("", &["median", "quartiles"].map(str::to_owned));
    let cells = [
        format!("{:.2}", benches::median(&took[0])),
        benches::fine_quartiles(&took[0]),
    ];
    benches::row("verify --since", &cells);
    let all = trail.verify(&[]).as_secs_f64();
    benches::row("verify", &[format!("{all:.2}")]);
}

/// Prints how long it takes from a commit to a checkpoint that is signed and published, at 1,000 records a second.
fn until_signed(trail: &Trail) {
    let seconds = if benches::is_short() { 2 } else { 60 };
    let size_before = trail.published();
    let mut sealer = trail.sealer().spawn().expect("the program can be started");
    let has_ended = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            let mut last = size_before;
            while !has_ended.load(Ordering::Relaxed) {
                let size = trail.published();
                if size > last {
                    seen.push((size, now()));
                    last = size;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        trail.write(seconds * 1_000, Some(1_000));
        let batches = trail.count("SELECT count(*) FROM audit.batches");
        while trail.published() < batches {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Once more, so that the last is seen.
        std::thread::sleep(Duration::from_millis(100));
        has_ended.store(true, Ordering::Relaxed);
        watch.join().expect("the checkpoint is watched")
    });
    sealer.kill().expect("the sealer can be ended");
    sealer.wait().expect("the sealer ends");
    let mut waited = Vec::new();
    let batches = trail.postgres.psql(&format!(
        "SELECT l.index, extract(epoch FROM b.committed_at), b.last_seq - b.first_seq + 1
         FROM audit.ledger l JOIN audit.batches b USING (writer_id, first_seq) WHERE l.index >= {size_before}"
    ));
    for line in batches.lines() {
        let mut cells = line.split('|');
        let mut cell = || cells.next().expect("there are three columns");
        let index: u64 = cell().parse().expect("an index");
        let committed: f64 = cell().parse().expect("a time");
        let rows: usize = cell().parse().expect("a number of rows");
        let (_, at) = published
            .iter()
            .find(|(size, _)| *size > index)
            .expect("each batch is published");
        waited.extend(std::iter::repeat_n((at - committed) * 1e3, rows));
    }
    waited.sort_by(f64::total_cmp);
    println!(
        "\nmilliseconds from a commit to its published checkpoint, 1,000 records a second, `seal` as it comes"
    );
    benches::row("", &["p50", "p99", "slowest"].map(str::to_owned));
    let cells = [waited.len() / 2, waited.len() * 99 / 100, waited.len() - 1];
    benches::row("", &cells.map(|index| format!("{:.0}", waited[index])));
}

/// Returns the seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is right").as_secs_f64()
}

/// A trail, its key and the folder in which its checkpoints are published.
struct Trail {
    postgres: Postgres,
    folder: benches::Folder,
    vkey: String,
}

impl Trail {
    fn start() -> Self {
        let postgres = Postgres::start_with(&["max_wal_size=8GB"]);
        let folder = benches::Folder::new();
        tracing_audit::migrate(&postgres.url()).expect("the tables can be made");
        let key = program(&postgres)
            .args(["key", "new", "--name", "example.com/trail"])
            .arg(folder.0.join("key"))
            .output()
            .expect("the program can be started");
        let vkey = String::from_utf8(key.stdout).expect("a key is text");
        Self {
            postgres,
            folder,
            vkey: vkey.trim().to_owned(),
        }
    }

    fn anchor(&self) -> PathBuf {
        self.folder.0.join("anchor")
    }

    /// Writes records, as fast as the pipeline takes them or so many a second; returns how long it took.
    fn write(&self, records: usize, rate: Option<u32>) -> Duration {
        let spool = self.folder.0.join("spool");
        let audit = Audit::builder()
            .postgres(self.postgres.url())
            .spool(&spool)
            .start()
            .expect("the pipeline starts");
        let begun = Instant::now();
        let subscriber = tracing_subscriber::registry().with(audit.layer());
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..records {
                let _request = traffic::request(&format!("{:032x}", n / 5)).entered();
                traffic::query_run(n);
                if let Some(rate) = rate {
                    let due = begun + Duration::from_secs_f64((n + 1) as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                while n % 256 == 0 && audit.stats().pending() > MAX_PENDING {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        audit
            .flush_blocking(PATIENCE)
            .expect("the records are committed");
        let took = begun.elapsed();
        assert_eq!(audit.stats().dropped(), 0);
        audit.shutdown_blocking(PATIENCE);
        took
    }

    fn sealer(&self) -> Command {
        let mut command = program(&self.postgres);
        command
            .arg("seal")
            .arg("--key")
            .arg(self.folder.0.join("key"))
            .arg("--anchor")
            .arg(self.anchor());
        command
    }

    /// Seals all there is; returns how long it took.
    fn seal(&self) -> Duration {
        run(self.sealer().arg("--once"))
    }

    /// Verifies; returns how long it took.
    fn verify(&self, arguments: &[&str]) -> Duration {
        run(program(&self.postgres)
            .args(["verify", "--key", &self.vkey, "--checkpoint"])
            .arg(self.anchor())
            .args(arguments))
    }

    /// Lets Postgres send all rows to nowhere, over one connection; returns how long it took.
    fn copy(&self) -> Duration {
        let copy = "COPY (SELECT * FROM audit.query_runs) TO STDOUT (FORMAT binary)";
        let mut psql = self.postgres.of_account("psql");
        psql.args(["-qX", "-o", "/dev/null", "-c", copy, &self.postgres.url()]);
        run(&mut psql)
    }

    /// Returns the size of the checkpoint that is published.
    fn published(&self) -> u64 {
        let note = fs::read_to_string(self.anchor().join("checkpoint")).unwrap_or_default();
        note.lines()
            .nth(1)
            .and_then(|size| size.parse().ok())
            .unwrap_or(0)
    }

    fn count(&self, query: &str) -> u64 {
        self.postgres.psql(query).trim().parse().expect("a number")
    }
}

fn program(postgres: &Postgres) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command
        .env("AUDIT_DATABASE_URL", postgres.url())
        .stderr(Stdio::null());
    command
}

/// Runs a command to its end; returns how long it took.
fn run(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{output:?}");
    begun.elapsed()
}
