//! Answers real questions by running real SQL on a real Postgres, with an audit trail,
//! and holds the trail against what the program itself saw.
//!
//! ```text
//! DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-nl2sql
//! cargo run -p example-nl2sql -- --questions FILE --schemas DIR --rounds 10 --break-every 7
//! ```
//!
//! The model's part is a replay: the SQL that comes with a question is what "the model"
//! answers. Everything else is real. Each question is one request of one of several
//! tenants: a prompt run, a query run and an event (`answer.rs` is the part to read).
//! The questions' databases, `nl2sql_<db>`, are made from `schemas/<db>.sql` on the server of
//! `DATABASE_URL` and used again by the next run; the trail goes to `AUDIT_DATABASE_URL`, else
//! `DATABASE_URL`.
//!
//! The exit status is 0 if every row of the trail is what the program saw, field by
//! field, and everything that was accepted was committed. The last line names a request:
//! `tracing-audit show` tells its story.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example is a program"
)]

mod answer;
mod broken;
mod databases;
mod questions;
mod replay;
mod seen;
mod trail;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::task::JoinSet;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

use answer::{Answer, Request};
use broken::Statement;
use databases::Database;
use questions::Question;
use seen::Outcome;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sample");

/// Up to so many requests, each answer is shown.
const FEW: usize = 40;

/// Answers questions with SQL and checks the audit trail of it.
#[derive(Debug, Parser)]
struct Options {
    /// CSV file with the header db,question,sql [default: the sample that comes with the example]
    #[arg(long, value_name = "FILE", requires = "schemas")]
    questions: Option<PathBuf>,
    /// Folder with a file <db>.sql for each database
    #[arg(long, value_name = "DIR", requires = "questions")]
    schemas: Option<PathBuf>,
    /// How often every question is asked
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    /// How many questions are answered at the same time
    #[arg(long, value_name = "N", default_value_t = 8)]
    tasks: usize,
    /// The tokio runtime: `multi` has four threads, `current` one
    #[arg(long, value_enum, default_value = "multi")]
    runtime: Flavor,
    /// Breaks every Nth statement on purpose, in one of seven ways; 0 breaks none
    #[arg(long, value_name = "N", default_value_t = 0)]
    break_every: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Flavor {
    Multi,
    Current,
}

fn main() -> ExitCode {
    match start(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            let mut said = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                let why = error.to_string();
                // Some errors repeat their cause.
                if !said.contains(&why) {
                    said = format!("{said}: {why}");
                }
                cause = error.source();
            }
            eprintln!("nl2sql: {said}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<ExitCode> {
    let audit = tracing_audit::from_env()?;
    // The trail alone: the terminal belongs to the answers.
    tracing_subscriber::registry().with(audit.layer()).init();

    let mut runtime = match options.runtime {
        Flavor::Multi => tokio::runtime::Builder::new_multi_thread(),
        Flavor::Current => tokio::runtime::Builder::new_current_thread(),
    };
    runtime
        .worker_threads(4)
        .enable_all()
        .build()?
        .block_on(run(options, &audit))
}

async fn run(options: &Options, audit: &Audit) -> Result<ExitCode> {
    let server = url("DATABASE_URL").ok_or("DATABASE_URL is not set")?;
    let trail = url("AUDIT_DATABASE_URL").unwrap_or_else(|| server.clone());
    let sample = Path::new(SAMPLE);
    let questions = questions::read(
        options
            .questions
            .as_deref()
            .unwrap_or(&sample.join("questions.csv")),
    )?;
    let schemas = options
        .schemas
        .clone()
        .unwrap_or_else(|| sample.join("schemas"));
    let databases = databases::open(&server, &schemas, &questions).await?;

    let work = Arc::new(Work {
        audit: audit.clone(),
        requests: questions.len() * options.rounds,
        break_every: options.break_every,
        questions: questions.into_iter().map(Arc::new).collect(),
        databases: databases
            .into_iter()
            .map(|(name, database)| (name, Arc::new(database)))
            .collect(),
        next: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
    });
    let began = Instant::now();
    let answers = work.clone().answer_all(options.tasks).await?;
    let answering = began.elapsed();

    let began = Instant::now();
    let flushed = audit.flush(Duration::from_mins(2)).await;
    flushed.map_err(|error| format!("{error} (health: {:?})", audit.stats().health()))?;
    let flushing = began.elapsed();

    for database in work.databases.values() {
        database.close().await;
    }
    let summary = Summary::of(&answers);
    let showpiece = showpiece(&answers)?;
    let seen: Vec<_> = answers.into_iter().flat_map(|answer| answer.seen).collect();
    let mut differences = trail::differences(&trail, &seen).await?;
    let stats = audit.stats();
    if stats.accepted() != seen.len() as u64 {
        differences.push(format!(
            "the program made {} records, {} were accepted",
            seen.len(),
            stats.accepted()
        ));
    }
    if stats.committed() != stats.accepted() {
        differences.push(format!(
            "{} were accepted, {} committed",
            stats.accepted(),
            stats.committed()
        ));
    }
    if stats.dropped() + stats.dead_lettered() + stats.pending() != 0 {
        differences.push(format!(
            "{} dropped, {} dead letters, {} pending",
            stats.dropped(),
            stats.dead_lettered(),
            stats.pending()
        ));
    }

    println!();
    println!(
        "questions      {} x {} rounds, {} tasks",
        work.questions.len(),
        options.rounds,
        options.tasks
    );
    println!("succeeded      {}", summary.succeeded);
    println!(
        "not succeeded  {} ({} broken on purpose)",
        summary.unsuccessful, summary.broken
    );
    for (how, count) in &summary.how {
        println!("               {count:>5}  {how}");
    }
    println!("rows fetched   {}", summary.rows);
    println!(
        "trail          {} rows compared, differences {}",
        seen.len(),
        differences.len()
    );
    println!(
        "time           {answering:.1?} answering, {flushing:.1?} until the rest was committed"
    );
    for difference in differences.iter().take(20) {
        println!("DIFFERENCE     {difference}");
    }
    println!("request_id: {showpiece}");
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn url(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|url| !url.is_empty())
}

/// All requests, taken one after the other by whichever task is free.
#[derive(Debug)]
struct Work {
    audit: Audit,
    questions: Vec<Arc<Question>>,
    databases: HashMap<String, Arc<Database>>,
    requests: usize,
    break_every: usize,
    next: AtomicUsize,
    answered: AtomicUsize,
}

impl Work {
    async fn answer_all(self: Arc<Self>, tasks: usize) -> Result<Vec<Answer>> {
        let mut running = JoinSet::new();
        for _ in 0..tasks.max(1) {
            running.spawn(self.clone().answer_some());
        }
        let mut answers = Vec::with_capacity(self.requests);
        while let Some(joined) = running.join_next().await {
            answers.extend(joined??);
        }
        Ok(answers)
    }

    async fn answer_some(self: Arc<Self>) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= self.requests {
                return Ok(answers);
            }
            let request = self.request(number);
            let answer = request.answer(&self.audit).await?;
            self.show(&request, &answer);
            answers.push(answer);
        }
    }

    fn request(&self, number: usize) -> Request {
        let question = self.questions[number % self.questions.len()].clone();
        let statement = match (number + 1).checked_rem(self.break_every) {
            Some(0) => Statement::broken(&question.sql, number / self.break_every),
            _ => Statement::as_given(&question.sql),
        };
        let database = self.databases[&question.db].clone();
        Request::new(
            number,
            number / self.questions.len(),
            question,
            database,
            statement,
        )
    }

    fn show(&self, request: &Request, answer: &Answer) {
        let answered = self.answered.fetch_add(1, Relaxed) + 1;
        if self.requests <= FEW {
            let result = match &answer.outcome {
                Outcome::Rows(1) => "1 row".to_owned(),
                Outcome::Rows(rows) => format!("{rows} rows"),
                Outcome::Failed(error) => format!("{error} ({})", error.code()),
                Outcome::Cancelled | Outcome::Unknown => "nobody waited for the answer".to_owned(),
            };
            // One call, or the lines of two answers would mix.
            println!(
                "{}\n    {}\n    -> {result}",
                request.question.text,
                request.statement.sql.lines().next().unwrap_or_default(),
            );
        } else if answered.is_multiple_of((self.requests / 10).max(1)) {
            println!("{answered} of {} questions", self.requests);
        }
    }
}

#[derive(Debug, Default)]
struct Summary {
    succeeded: usize,
    unsuccessful: usize,
    broken: usize,
    rows: usize,
    how: BTreeMap<String, usize>,
}

impl Summary {
    fn of(answers: &[Answer]) -> Self {
        let mut summary = Self::default();
        for answer in answers {
            let how = match &answer.outcome {
                Outcome::Rows(rows) => {
                    summary.succeeded += 1;
                    summary.rows += rows;
                    continue;
                }
                Outcome::Failed(error) => error.code(),
                Outcome::Cancelled => "cancelled",
                Outcome::Unknown => "dropped, outcome unknown",
            };
            summary.unsuccessful += 1;
            summary.broken += usize::from(answer.broken);
            *summary.how.entry(how.to_owned()).or_default() += 1;
        }
        summary
    }
}

/// A request worth showing: one that got rows, its query run within its prompt run.
fn showpiece(answers: &[Answer]) -> Result<uuid::Uuid> {
    let worth = |answer: &&Answer| {
        let nested = answer.seen.iter().any(|seen| {
            seen.columns
                .get("parent_id")
                .is_some_and(|id| !id.is_null())
        });
        (
            nested,
            matches!(answer.outcome, Outcome::Rows(rows) if rows > 0),
        )
    };
    let answer = answers
        .iter()
        .max_by_key(worth)
        .ok_or("there was nothing to answer")?;
    Ok(answer.seen[0].request)
}
