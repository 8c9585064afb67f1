//! A background worker with an audit trail. Each job has a span of its own, which the tasks that it
//! spawns share. On SIGTERM the worker takes no more jobs, finishes those that are running, and
//! exits once the trail has their records.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-worker`
//!
//! It queues three jobs, and sends itself SIGTERM while the last one is running.
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::{process::Command, time::Duration};

use sqlx::PgPool;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};
use tracing_audit::AuditFutureExt;
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
use uuid::Uuid;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A report that a user has ordered.
#[derive(Clone)]
struct Job {
    id: String,
    tenant: &'static str,
    user: &'static str,
    lines: Vec<Line>,
}

/// A line of a report: its title, and the statement that counts.
type Line = (&'static str, &'static str);

/// Runs jobs until SIGTERM, each as a task, and then waits for those that are running.
async fn work(pool: &PgPool, mut queue: mpsc::Receiver<Job>) -> Result {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = JoinSet::new();
    loop {
        let job = tokio::select! {
            _ = terminate.recv() => break,
            // Removes a job that has ended.
            Some(_) = running.join_next() => continue,
            Some(job) = queue.recv() => job,
        };
        // A root: a job inherits nothing from whatever span is current here.
        let (id, tenant, user) = (&job.id, job.tenant, job.user);
        let span =
            info_span!(parent: None, "job", request_id = id, tenant_id = tenant, user_id = user);
        let report = report(pool.clone(), job.lines).instrument(span);
        running.spawn(async {
            // The trail has the error; the worker goes on.
            report.await.ok();
        });
    }
    println!("SIGTERM, while {} jobs are running", running.len());
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Makes a report, whose lines are queried side by side.
#[instrument(name = "audit.event", skip_all, fields(action_type = "report.made", status = Empty), err)]
async fn report(pool: PgPool, lines: Vec<Line>) -> Result {
    let mut tasks = JoinSet::new();
    for (title, sql) in lines {
        // A task starts outside every span. Without the current one, its record would have no
        // request, no tenant, no user and no parent.
        tasks.spawn(query(pool.clone(), title, sql).instrument(Span::current()));
    }
    let mut report = Vec::new();
    while let Some(line) = tasks.join_next().await {
        report.push(line??);
    }
    // So does a thread.
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(|| print(&report))).await?;
    Span::current().record("status", "succeeded");
    Ok(())
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = title, sql_text = sql, row_count = Empty),
    err
)]
async fn query(pool: PgPool, title: &str, sql: &'static str) -> sqlx::Result<String> {
    let query = sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool);
    let number = query.audited(Span::current()).await?;
    Span::current().record("row_count", 1);
    Ok(format!("{number} {title}"))
}

fn print(report: &[String]) {
    println!("a report: {}", report.join(", "));
    info!(name: "audit.event", action_type = "report.printed", status = "succeeded");
}

/// Sends the jobs, and SIGTERM when the last one is taken.
async fn send(queue: mpsc::Sender<Job>, jobs: Vec<Job>) -> Result {
    for job in jobs {
        queue.send(job).await?;
    }
    // The queue has room for one job: when this returns, the last one is taken.
    let _nobody_waits = queue.reserve().await?;
    Command::new("sh")
        .args(["-c", "kill -TERM $PPID"])
        .status()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let audit = tracing_audit::from_env()?;
    let terminal = fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;

    let job = |tenant, user, lines: &[Line]| Job {
        id: format!("report-{}", Uuid::new_v4()),
        tenant,
        user,
        lines: lines.to_vec(),
    };
    let tables = (
        "tables",
        "SELECT count(*) FROM pg_class WHERE relkind = 'r'",
    );
    let types = ("types", "SELECT count(*) FROM pg_type");
    let nonsense = ("nonsense", "SELECT 1 / (count(*) - count(*)) FROM pg_type");
    let slow = ("slow", "SELECT count(*) FROM pg_sleep(0.5)");
    let jobs = vec![
        job("acme", "ada", &[tables, types]),
        job("acme", "alan", &[nonsense]),
        job("globex", "grace", &[slow]),
    ];
    let (sender, queue) = mpsc::channel(1);
    let sending = tokio::spawn(send(sender, jobs.clone()));
    work(&pool, queue).await?;
    // Only now: the last records are in. What Postgres does not have in time stays in the local log
    // for the next start. Stay below the time after which SIGKILL comes.
    let report = audit.shutdown(Duration::from_secs(10)).await;
    println!(
        "{} records committed, {} left in the local log",
        report.committed, report.spooled
    );
    sending.await??;

    let made = [
        "audit.event succeeded ada report.made",
        "  audit.event succeeded ada report.printed",
        "  audit.query_run succeeded ada tables",
        "  audit.query_run succeeded ada types",
    ];
    let failed = [
        "audit.event failed alan report.made",
        "  audit.query_run failed 22012 alan nonsense",
    ];
    let finished = [
        "audit.event succeeded grace report.made",
        "  audit.event succeeded grace report.printed",
        "  audit.query_run succeeded grace slow",
    ];
    assert_eq!(story(&pool, &jobs[0]).await?, made);
    assert_eq!(story(&pool, &jobs[1]).await?, failed);
    assert_eq!(story(&pool, &jobs[2]).await?, finished);
    Ok(())
}

/// Reads the story of a job, as a superuser or a member of `audit_auditor` may: first the report,
/// then its children.
async fn story(pool: &PgPool, job: &Job) -> sqlx::Result<Vec<String>> {
    let story: Vec<String> = sqlx::query_scalar(
        "SELECT CASE WHEN parent_id IS NOT NULL THEN '  ' ELSE '' END || concat_ws(' ', kind, status, error_code, user_id, what)
        FROM audit.request_trail($1) WHERE tenant_id = audit.tenant_uuid($2) ORDER BY parent_id NULLS FIRST, kind, what",
    )
    .bind(&job.id)
    .bind(job.tenant)
    .fetch_all(pool)
    .await?;
    println!("job {}:\n{}", job.id, story.join("\n"));
    Ok(story)
}
