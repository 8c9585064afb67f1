//! A database that is away, slow or refuses: the page says so, and goes on when it is back.

use std::time::{Duration, Instant};

use testkit::Stop;

use super::desk::{ACME, Desk};

#[test]
fn database_that_is_away_is_told_and_the_session_goes_on_after_it() {
    let mut desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    assert_eq!(auditor.get("/").status, 200);
    desk.postgres.stop(Stop::Immediate);
    for address in ["/", "/request?id=AcmeWord+request_id", "/changes", "/state"] {
        let answer = auditor.get(address);
        assert_eq!(answer.status, 503, "{address}: {answer:?}");
        assert!(
            answer.body.contains("The database does not answer"),
            "{answer:?}"
        );
        assert!(!answer.body.contains(ACME));
    }
    let answer = server.try_login("aud", "aud", "");
    assert_eq!(answer.status, 503, "{answer:?}");
    desk.postgres.start_again();
    assert!(auditor.get("/").body.contains(ACME));
}

#[test]
fn rights_that_are_taken_away_end_what_is_shown() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    assert_eq!(auditor.get("/").status, 200);
    desk.postgres.psql("REVOKE audit_auditor FROM aud");
    let answer = auditor.get("/");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(
        answer.body.contains("Not allowed") && !answer.body.contains(ACME),
        "{answer:?}"
    );
}

#[test]
fn search_that_takes_too_long_says_how_far_it_came() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let mut other = desk.postgres.session("postgres");
    // A partition that every search looks into, and no event of a reading is written to.
    let leaf = desk
        .postgres
        .psql("SELECT audit.ensure_partition('events', now() - interval '40 days')");
    for page in ["/", "/?user=nobody", "/changes", "/session?id=none"] {
        other
            .run(&format!(
                "BEGIN; LOCK TABLE audit_parts.{leaf} IN ACCESS EXCLUSIVE MODE"
            ))
            .unwrap();
        let begun = Instant::now();
        let answer = auditor.get(page);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{page}: {:?}",
            begun.elapsed()
        );
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        assert!(
            answer.body.contains("The search was cut short")
                && !answer.body.contains("No record")
                && !answer.body.contains("No change"),
            "{page}: {answer:?}"
        );
        other.run("ROLLBACK").unwrap();
        // Nothing was reached: the same search again, with more time.
        let (before, _) = answer.body.split_once("\">Search for 10 seconds").unwrap();
        let (_, longer) = before.rsplit_once("href=\"").unwrap();
        let answer = auditor.get(&longer.replace("&amp;", "&"));
        assert!(
            answer.status == 200 && !answer.body.contains("cut short"),
            "{page}: {answer:?}"
        );
        if !page.contains('=') {
            assert!(answer.body.contains(ACME), "{page}: {answer:?}");
        }
    }
}

#[test]
fn reader_who_goes_away_costs_no_connection() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let ana = server.as_person("ana");
    for _ in 0..60 {
        drop(server.open("GET", "/?text=word", &ana.pairs(), ""));
    }
    assert_eq!(ana.get("/").status, 200);
    let open = || {
        desk.postgres
            .psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'serve'")
    };
    assert!(open().parse::<u32>().unwrap() <= 16, "{}", open());
    // None is left in a transaction.
    testkit::wait_until("no statement is under way", Duration::from_secs(10), || {
        desk.postgres.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'serve' AND state <> 'idle'",
        ) == "0"
    });
    assert!(server.pid() > 0);
}
