//! `tracing-audit tail`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;

use super::{
    PATIENCE, Tail, WRITER_A, WRITER_B, as_login, command, end_of, migrated, stderr, url_as,
};
use serde_json::Value;
use testkit::{Postgres, wait_until};

#[test]
fn tail_prints_each_row_once_even_if_its_batch_commits_late() {
    let postgres = migrated();
    let url = postgres.url();
    tail_prints_each_row_once(postgres, &url);
}

#[test]
fn tail_shows_a_reader_only_rows_of_its_tenant_each_once() {
    let postgres = migrated();
    let url = url_as(&postgres, "reader");
    let unnamed = as_login(&postgres, "reader", &["tail"]);
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(
        stderr(&unnamed).contains("--tenant"),
        "{}",
        stderr(&unnamed)
    );
    postgres.psql(&format!(
        "SELECT test_batch('{WRITER_A}', 1, 2, 'mine'), test_batch('{WRITER_B}', 1, 2, 'theirs', 'globex')"
    ));
    // Not even the number of other tenants' records is visible.
    let told = |tenant: &str| {
        postgres.psql(&format!(
            "SET SESSION AUTHORIZATION reader; SET app.current_tenant = '{tenant}';
            SELECT writer_id, first_seq, last_seq, first_id = last_id, tables FROM audit.tenant_batches('-infinity', '{{}}', '{{}}')"
        ))
    };
    let (acme, nobody) = (
        postgres.psql("SELECT audit.tenant_uuid('acme')"),
        postgres.psql("SELECT audit.tenant_uuid('nobody')"),
    );
    assert_eq!(told(&acme), format!("{WRITER_A}|1|2|f|{{query_runs}}"));
    assert_eq!(told(&nobody), "");
    assert_eq!(told(""), "");
    let newest = Tail::start_at(&url, &["--tenant", "acme", "--last", "1"]);
    newest.wait_for("mine-1");
    let (_, text) = newest.interrupt();
    assert!(
        !text.contains("mine-0") && !text.contains("theirs"),
        "{text}"
    );
    drop(postgres);

    let postgres = migrated();
    let url = url_as(&postgres, "reader");
    tail_prints_each_row_once(postgres, &url);
}

/// Follows one tenant as the URL's login, while another tenant's rows are added as well.
fn tail_prints_each_row_once(mut postgres: Postgres, url: &str) {
    const WRITER_C: &str = "00000000-0000-7000-8000-00000000000c";
    let other = |postgres: &Postgres, first: u32| {
        postgres.psql(&format!(
            "SELECT test_batch('{WRITER_C}', {first}, 1, 'other', 'globex')"
        ))
    };
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 1, 'before')"));
    other(&postgres, 1);
    let tail = Tail::start_at(url, &["--last", "1", "--json", "--tenant", "acme"]);
    // By the time it prints the existing rows, it has its position in the trail.
    tail.wait_for("before-0");

    // A batch that is written first and committed last, by a new writer.
    postgres.psql("CREATE TABLE released ()");
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            postgres.psql(&format!(
                "BEGIN; SELECT test_batch('{WRITER_B}', 1, 2, 'held'); CREATE TABLE written ();
                DO $$ BEGIN
                    WHILE NOT EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = 'released'::regclass AND attname = 'now') LOOP
                        PERFORM pg_sleep(0.01);
                    END LOOP;
                END $$;
                COMMIT"
            ))
        });
        wait_until("the held batch is written", PATIENCE, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            postgres.psql(waiting) == "1"
        });
        other(&postgres, 2);
        postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 2, 3, 'early')"));
        tail.wait_for("early-2");
        assert!(!tail.text().contains("held"));
        postgres.psql("ALTER TABLE released ADD COLUMN now int");
        held.join().unwrap();
    });
    tail.wait_for("held-1");

    // Rows committed while the connection was down.
    postgres.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracing-audit'",
    );
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 5, 2, 'cut')"));
    tail.wait_for("cut-1");
    other(&postgres, 3);
    postgres.restart();
    postgres.psql(&format!(
        "SELECT test_batch('{WRITER_B}', 3, 1, 'restarted')"
    ));
    tail.wait_for("restarted-0");

    let (status, text) = tail.interrupt();
    assert_eq!(status.code(), Some(0), "Ctrl-C ends it cleanly");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let requests: Vec<&str> = rows
        .iter()
        .map(|row| row["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        requests,
        [
            "before-0",
            "early-0",
            "early-1",
            "early-2",
            "held-0",
            "held-1",
            "cut-0",
            "cut-1",
            "restarted-0"
        ]
    );
}

#[test]
fn tail_starts_with_the_newest_rows_one_per_line() {
    let postgres = migrated();
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 3, 'older')"));
    postgres.psql(&format!("SELECT test_batch('{WRITER_B}', 1, 2, 'newer')"));
    let tail = Tail::start(&postgres, &["--last", "3"]);
    tail.wait_for("newer-1");
    let (_, text) = tail.interrupt();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    assert_eq!(
        lines,
        [
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "older-2",
                "SELECT",
                "2"
            ],
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "newer-0",
                "SELECT",
                "0"
            ],
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "newer-1",
                "SELECT",
                "1"
            ],
        ]
    );
}

#[test]
fn tail_goes_on_after_a_batch_that_takes_too_long_to_read() {
    let postgres = migrated();
    postgres.psql(&format!(
        "SELECT audit.ensure_partition('query_runs', '2020-01-15Z'); SELECT test_batch('{WRITER_A}', 1, 1, 'before')"
    ));
    let tail = Tail::start_at(&postgres.url(), &["--last", "1"]);
    tail.wait_for("before-0");
    // Whoever writes may say of a batch that its rows are anywhere.
    let mut slow = postgres.session("postgres");
    slow.run("BEGIN; LOCK TABLE audit_parts.query_runs_2020_01 IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
         VALUES ('{WRITER_B}', 1, 1, '{{\"query_runs\": 1}}', 0, audit.id_at('2020-01-02Z'), audit.id_at('2020-01-03Z'), 'test')"
    ));
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 2, 1, 'after')"));
    tail.wait_for("after-0");
    // And so does the beginning.
    let again = Tail::start_at(&postgres.url(), &["--last", "3"]);
    again.wait_for("after-0");
    assert!(again.text().contains("before-0"), "{}", again.text());
}

#[test]
fn tail_exits_when_its_output_pipe_is_closed() {
    let postgres = migrated();
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 2, 'row')"));
    let mut child = command(&postgres, &["tail"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Like `head -1`: reads a line and closes the pipe, and no row comes after that.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("row-0"), "{line}");
    assert_eq!(end_of(&mut child).code(), Some(0));
}
