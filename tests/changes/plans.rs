//! What recording costs: the plans that a session keeps.

use testkit::Postgres;

#[test]
fn bulk_change_after_single_rows_reads_its_rows_once() {
    let postgres = Postgres::start_with(&[
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
    ]);
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(
        "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, 0 FROM generate_series(1, 3000) i; SELECT audit.track('items')",
    );
    let mut session = postgres.session("postgres");
    for id in 1..=20 {
        session.psql(&format!("UPDATE items SET n = 1 WHERE id = {id}"));
    }
    let before = postgres.log().len();
    session.psql(
        "UPDATE items SET n = 2; UPDATE items SET n = n + 1, id = id + 5000; DELETE FROM items",
    );
    drop(session);
    let log = postgres.log().split_off(before);
    let scans: Vec<_> = log
        .lines()
        .filter(|line| line.contains("Named Tuplestore Scan"))
        // Whether an update changed one row is asked of its first two.
        .filter(|line| !line.contains("(actual rows=1") && !line.contains("(actual rows=2"))
        .collect();
    assert_eq!(scans.len(), 5, "{log}");
    for scan in scans {
        assert!(
            scan.contains("rows=3000") && scan.contains("loops=1)"),
            "{scan}"
        );
    }
    assert_eq!(
        postgres.psql("SELECT metadata ->> 'operation', count(*) FROM audit.events WHERE metadata ? 'changes' GROUP BY 1 ORDER BY 1"),
        "delete|6000\ninsert|3000\nupdate|3020"
    );
}
