//! What an archive costs: rows a second written and verified, bytes a row, the search for a request in a large one, and what
//! copying takes from those who write to the trail meanwhile. See docs/archive.md.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod cost;
mod shape;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Postgres;
use testkit::benches::{self, traffic};
use tracing_audit::__program::ledger::key::MemoryKey;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

use self::cost::Cost;
use self::shape::Set;

/// Fills a day.
const FILL: &str = include_str!("fill.sql");

/// Fills a day with a few rows.
const FEW: &str = include_str!("few.sql");

/// The day of few rows, and that of rows whose requests have random ids, and ids of version 7.
const DAYS: [&str; 3] = ["2023-03-14", "2026-03-14", "2026-03-15"];

/// Ids of requests, as SQL: random, and of version 7.
const REQUESTS: [&str; 2] = [
    "'req-' || md5(n / 2 || 'request')",
    "overlay(md5((n / 2)::text)::uuid::text PLACING left(audit.id_at(began)::text, 15) FROM 1)",
];

/// A request of which nothing is there, between the least and the greatest.
const ABSENT: &str = "req-88888888888888888888888888888888";

/// The kinds of records.
const KINDS: [&str; 4] = ["query_runs", "prompt_runs", "events", "activities"];

/// With how many files of 64 MiB a day is one of a terabyte in three years.
const FILES: usize = 16;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// How many records may be on their way to Postgres.
const MAX_PENDING: u64 = 30_000;

fn main() {
    let rows = match std::env::var("ARCHIVE_ROWS").map(|rows| rows.replace('_', "").parse()) {
        Ok(rows) => rows.expect("ARCHIVE_ROWS is a number"),
        Err(_) if benches::is_short() => 5_000,
        Err(_) => 1_200_000,
    };
    let trail = Trail::start(rows);
    let archive = trail.copy_and_verify(2 * rows);
    trail.find(&archive);
    trail.disturb();
}

/// A trail with days that are over, its key, and the folder of its archives.
struct Trail {
    postgres: Postgres,
    folder: benches::Folder,
    vkey: String,
}

impl Trail {
    fn start(rows: u64) -> Self {
        let postgres = Postgres::start_with(&["max_wal_size=8GB"]);
        let folder = benches::Folder::new();
        tracing_audit::migrate(&postgres.url()).expect("the tables can be made");
        let mut trail = Self {
            postgres,
            folder,
            vkey: String::new(),
        };
        let made = trail
            .program(&[
                "key",
                "new",
                "--name",
                "example.com/bench",
                &trail.path("key"),
            ])
            .output();
        trail.vkey = String::from_utf8(made.expect("the key is made").stdout).expect("it is text");
        let asked = traffic::QUESTIONS
            .iter()
            .enumerate()
            .map(|(number, asked)| {
                let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
                let texts = [asked.question, asked.sql, asked.summary].map(quoted);
                format!("({number}, {})", texts.join(", "))
            });
        trail.postgres.psql(&format!(
            "CREATE TABLE asked AS SELECT * FROM (VALUES {}) AS v (number, question, sql, summary)",
            asked.collect::<Vec<_>>().join(", ")
        ));
        trail.fill(FEW);
        for (day, request) in DAYS[1..].iter().zip(REQUESTS) {
            let fill = FILL.replace("$day", day).replace("$request", request);
            trail.fill(&fill.replace("$rows", &rows.to_string()));
        }
        trail.fill("ANALYZE");
        Cost::of(&mut trail.program(&["seal", "--once", "--key", &trail.path("key")]));
        trail
    }

    /// Runs statements, which may take longer than a test's.
    fn fill(&self, statements: &str) {
        let mut psql = self.postgres.of_account("psql");
        let url = self.postgres.url();
        psql.args([
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            "-o",
            "/dev/null",
            "-c",
            statements,
            &url,
        ]);
        Cost::of(&mut psql);
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.0.join(name);
        path.to_str().expect("the path is UTF-8").to_owned()
    }

    /// The program, which may reach the trail.
    fn program(&self, words: &[&str]) -> Command {
        let mut command = Self::without_database(words);
        command.env("AUDIT_DATABASE_URL", self.postgres.url());
        command
    }

    fn without_database(words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
        for name in ["AUDIT_DATABASE_URL", "DATABASE_URL"] {
            command.env_remove(name);
        }
        command.args(words).stderr(Stdio::null());
        command
    }

    /// Copies all days to places of their own, and verifies what is there. Returns the last place.
    fn copy_and_verify(&self, rows: u64) -> PathBuf {
        let rounds = if benches::is_short() { 1 } else { 3 };
        let (mut written, mut verified, mut archive) = (Vec::new(), Vec::new(), PathBuf::new());
        for round in 0..rounds {
            let place = self.path(&format!("archive-{round}"));
            let key = self.path("key");
            written.push(Cost::of(
                &mut self.program(&["archive", "--copy", "--key", &key, "--to", &place]),
            ));
            verified.push(Cost::of(&mut Self::without_database(&[
                "archive",
                "verify",
                "--key",
                self.vkey.trim(),
                &place,
            ])));
            if archive.exists() {
                std::fs::remove_dir_all(&archive).expect("the archive before is removed");
            }
            archive = PathBuf::from(place);
        }
        println!("\n{rows} rows of two days, median of {rounds} rounds");
        benches::row("", &["rows/s", "CPU: rows/s"].map(str::to_owned));
        for (name, costs) in [("written", &written), ("verified, 2 jobs", &verified)] {
            let a_second = |of: fn(&Cost) -> Duration| {
                let rates: Vec<f64> = costs
                    .iter()
                    .map(|cost| rows as f64 / of(cost).as_secs_f64())
                    .collect();
                format!("{:.0}", benches::median(&rates))
            };
            benches::row(
                name,
                &[a_second(|cost| cost.wall), a_second(|cost| cost.cpu)],
            );
        }
        let in_postgres = self.postgres.psql("SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'audit_parts' AND c.relkind = 'r'");
        let in_postgres: f64 = in_postgres.trim().parse().expect("it is a number");
        println!();
        let of_a_row = |bytes: f64| [format!("{:.1}", bytes / rows as f64)];
        benches::row(
            "bytes a row, in Postgres with indexes",
            &of_a_row(in_postgres),
        );
        for ending in ["parquet", "batches", "manifest"] {
            benches::row(
                &format!("in .{ending}"),
                &of_a_row(size(&archive, ending) as f64),
            );
        }
        benches::row(
            "Postgres / archive",
            &[format!("{:.1}", in_postgres / size(&archive, "") as f64)],
        );
        self.encrypt(rows, in_postgres);
        archive
    }

    /// Copies all days once more, with their content encrypted.
    fn encrypt(&self, rows: u64, in_postgres: f64) {
        let (place, key) = (self.path("encrypted"), self.path("key"));
        let cost = Cost::of(&mut self.program(&[
            "archive",
            "--copy",
            "--content",
            "encrypted",
            "--key",
            &key,
            "--to",
            &place,
        ]));
        let bytes = size(Path::new(&place), "") as f64;
        println!("\nwith encrypted content, one round");
        let a_second = rows as f64 / cost.cpu.as_secs_f64();
        benches::row("written, CPU: rows/s", &[format!("{a_second:.0}")]);
        benches::row("bytes a row", &[format!("{:.1}", bytes / rows as f64)]);
        benches::row(
            "Postgres / archive",
            &[format!("{:.1}", in_postgres / bytes)],
        );
        std::fs::remove_dir_all(place).expect("the archive is removed");
    }

    /// Looks for requests in an archive whose days are as large as those of a terabyte, and in one of many small days.
    fn find(&self, archive: &Path) {
        let key = std::fs::read_to_string(self.path("key")).expect("the key is there");
        let key = MemoryKey::parse(&key).expect("it is a key");
        let large = self.folder.0.join("large");
        println!("\none request, without a database");
        benches::row("", &["seconds", "CPU", "MB read"].map(str::to_owned));
        let mut wanted = Vec::new();
        for day in &DAYS[1..] {
            let set = |number| Set {
                kind: "query_runs",
                day,
                number,
            };
            let sets = (1..=2 * FILES)
                .take_while(|number| set(*number).is_there(archive))
                .count();
            let of_day = large.join(format!("kind=query_runs/month={}/day={day}", &day[..7]));
            // The first set is the largest; the request is of the last.
            set(sets).copy(archive, &large, set(1), &key);
            for number in 2.. {
                if size(&of_day, "parquet") >= (FILES as u64) << 26 && number > 2
                    || number > 2 * FILES
                    || benches::is_short()
                {
                    break;
                }
                set(1).copy(archive, &large, set(number), &key);
            }
            let request = self.postgres.psql(&format!("SELECT request_id FROM audit.query_runs WHERE id < audit.id_at('{day} 24:00+00') ORDER BY id DESC LIMIT 1"));
            wanted.push(request.trim().to_owned());
        }
        self.show(
            "of a large day, --since and --until",
            &large,
            &wanted[0],
            &["--since", DAYS[1], "--until", DAYS[1]],
        );
        self.show("of a large day, UUIDv7", &large, &wanted[1], &[]);
        self.show("that is in none of two such days", &large, ABSENT, &[]);
        let small = self.folder.0.join("small");
        let years = if benches::is_short() {
            2023..2024
        } else {
            2021..2024
        };
        for day in days(years) {
            for kind in KINDS {
                let set = |day| Set {
                    kind,
                    day,
                    number: 1,
                };
                set(DAYS[0]).copy(archive, &small, set(&day), &key);
            }
        }
        let request = self.postgres.psql(
            "SELECT request_id FROM audit.events WHERE request_id IS NOT NULL ORDER BY id LIMIT 1",
        );
        self.show(
            "of one of the small days of three years",
            &small,
            request.trim(),
            &["--since", "2023-03-14", "--until", "2023-03-14"],
        );
        self.show("of any of them", &small, ABSENT, &[]);
    }

    /// Shows a request, and prints what it took.
    fn show(&self, what: &str, archive: &Path, request: &str, days: &[&str]) {
        let archive = archive.to_str().expect("the path is UTF-8");
        let words = [
            &[
                "show",
                request,
                "--archive",
                archive,
                "--key",
                self.vkey.trim(),
            ],
            days,
        ]
        .concat();
        let mut command = Self::without_database(&words);
        let (mut seconds, mut cost) = (Vec::new(), None);
        for _ in 0..if benches::is_short() { 1 } else { 5 } {
            // A request that is not there ends it with 1.
            let (took, output) = Cost::of_any(&mut command);
            let is_there = String::from_utf8_lossy(&output.stdout).contains("manifest is signed");
            assert_eq!(is_there, request != ABSENT, "{command:?}: {output:?}");
            seconds.push(took.wall.as_secs_f64());
            cost = Some(took);
        }
        let cost = cost.expect("it was shown");
        benches::row(
            what,
            &[
                format!("{:.2}", benches::median(&seconds)),
                format!("{:.2}", cost.cpu.as_secs_f64()),
                format!("{:.1}", cost.read as f64 / 1e6),
            ],
        );
    }

    /// Writes to the trail as fast as the pipeline can, alone and beside those who read other days.
    fn disturb(&self) {
        let (rounds, records) = if benches::is_short() {
            (1, 2_000)
        } else {
            (5, 300_000)
        };
        let key = self.path("key");
        let copy = "COPY (SELECT * FROM audit.query_runs WHERE id < audit.id_at('2026-03-16 00:00+00')) TO STDOUT (FORMAT binary)";
        let beside = |way: usize, round: usize| {
            let place = self.path(&format!("beside-{way}-{round}"));
            let archive = ["archive", "--copy", "--key", &key, "--to", &place];
            match way {
                1 => Some(self.program(&archive)),
                2 => {
                    let program = self.program(&archive);
                    let mut nice = Command::new("nice");
                    nice.args(["-n", "19"])
                        .arg(program.get_program())
                        .args(program.get_args());
                    nice.env("AUDIT_DATABASE_URL", self.postgres.url())
                        .stderr(Stdio::null());
                    Some(nice)
                }
                3 => {
                    let mut psql = self.postgres.of_account("psql");
                    psql.args([
                        "-qX",
                        "-o",
                        "/dev/null",
                        "-c",
                        copy,
                        "-c",
                        copy,
                        "-c",
                        copy,
                        &self.postgres.url(),
                    ]);
                    Some(psql)
                }
                _ => None,
            }
        };
        let names = [
            "alone",
            "beside archive --copy",
            "the same with nice -n 19",
            "beside COPY to /dev/null",
        ];
        let mut rates = vec![Vec::new(); names.len()];
        let mut ended = vec![0; names.len()];
        for round in 0..rounds {
            for at in 0..names.len() {
                let way = if round % 2 == 0 {
                    at
                } else {
                    names.len() - 1 - at
                };
                let mut child = beside(way, round)
                    .map(|mut command| command.stdout(Stdio::null()).spawn().expect("it starts"));
                rates[way].push(records as f64 / self.write(records).as_secs_f64());
                if let Some(child) = &mut child {
                    // Otherwise it was alone for a while.
                    ended[way] += usize::from(child.try_wait().expect("it is asked").is_some());
                    let _ = child.kill();
                    child.wait().expect("it ends");
                }
            }
        }
        println!(
            "\nrecords a second that the pipeline writes, median of {rounds} rounds of {records}"
        );
        benches::row(
            "",
            &["records/s", "/ alone", "ended before"].map(str::to_owned),
        );
        for (way, name) in names.iter().enumerate() {
            let ratio = benches::paired(&rates[way], &rates[0], |ours, alone| ours / alone);
            benches::row(
                name,
                &[
                    format!("{:.0}", benches::median(&rates[way])),
                    format!("{ratio:.2}"),
                    ended[way].to_string(),
                ],
            );
        }
    }

    /// Writes records as fast as the pipeline takes them; returns how long it took.
    fn write(&self, records: usize) -> Duration {
        let audit = Audit::builder()
            .postgres(self.postgres.url())
            .spool(self.folder.0.join("spool"))
            .start()
            .expect("the pipeline starts");
        let begun = Instant::now();
        let subscriber = tracing_subscriber::registry().with(audit.layer());
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..records {
                let _request = traffic::request(&format!("{:032x}", n / 5)).entered();
                traffic::query_run(n);
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
}

/// Returns the days of years, without the 29th of February.
fn days(years: std::ops::Range<u32>) -> Vec<String> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years
        .flat_map(|year| {
            (1..=12_u32).zip(LENGTHS).flat_map(move |(month, length)| {
                (1..=length).map(move |day| format!("{year}-{month:02}-{day:02}"))
            })
        })
        .collect()
}

/// Returns the bytes of all files below a folder whose names end so.
fn size(folder: &Path, ending: &str) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| {
            let path = entry.expect("the folder is read").path();
            if path.is_dir() {
                return size(&path, ending);
            }
            let is_meant = path.to_str().is_some_and(|path| path.ends_with(ending));
            if is_meant {
                path.metadata().expect("the file is there").len()
            } else {
                0
            }
        })
        .sum()
}
