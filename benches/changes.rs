//! What it costs a table to be tracked: a bulk update and single-row updates, beside a table that is not tracked and one with
//! the customary row trigger, which stores the whole old and new row. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use testkit::Postgres;
use testkit::benches;

/// The tables, by what records their changes.
const CASES: [&str; 3] = ["nothing", "audit.track", "row trigger"];

/// A table as an application has it; `{table}` is its name.
const TABLE: &str = "
    CREATE TABLE {table} (id bigint PRIMARY KEY, tenant_id uuid, name text, price numeric(12, 2), email text, is_active boolean, created_at timestamptz,
        runs integer, note text, tags text[]);
    CREATE INDEX ON {table} (tenant_id, price);
    CREATE INDEX ON {table} (email);
    INSERT INTO {table} SELECT n, '0198f1d3-0000-7000-8000-000000000042', 'agent ' || n, n * 1.5, 'a' || n || '@example.com', true, now(), 1, 'some note ' || n,
        '{a,b}' FROM generate_series(1, {rows}) AS n";

/// The design of `supa_audit`, written anew: one table for all changes with four indexes, and a row trigger that stores the old
/// and the new row as jsonb, with an id made of the key.
const ROW_TRIGGER: &str = "
    CREATE SCHEMA versions;
    CREATE TABLE versions.record_version (id bigint GENERATED ALWAYS AS IDENTITY, record_id uuid, old_record_id uuid, op text NOT NULL,
        ts timestamptz NOT NULL DEFAULT now(), table_oid oid NOT NULL, table_schema name NOT NULL, table_name name NOT NULL, record jsonb, old_record jsonb);
    CREATE INDEX ON versions.record_version (record_id) WHERE record_id IS NOT NULL;
    CREATE INDEX ON versions.record_version (old_record_id) WHERE old_record_id IS NOT NULL;
    CREATE INDEX ON versions.record_version USING brin (ts);
    CREATE INDEX ON versions.record_version (table_oid);
    CREATE FUNCTION versions.keys_of(target oid) RETURNS text[] LANGUAGE sql STABLE AS $$
        SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = target AND i.indisprimary $$;
    CREATE FUNCTION versions.id_of(target oid, keys text[], row_of jsonb) RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT md5((jsonb_build_array(target) || jsonb_agg(row_of ->> key))::text)::uuid FROM unnest(keys) AS key $$;
    CREATE FUNCTION versions.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    DECLARE
        keys text[] := versions.keys_of(TG_RELID);
        new_row jsonb := to_jsonb(new);
        old_row jsonb := to_jsonb(old);
    BEGIN
        INSERT INTO versions.record_version (record_id, old_record_id, op, table_oid, table_schema, table_name, record, old_record)
            VALUES (versions.id_of(TG_RELID, keys, new_row), versions.id_of(TG_RELID, keys, old_row), TG_OP, TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME, new_row, old_row);
        RETURN coalesce(new, old);
    END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON public.of_row_trigger FOR EACH ROW EXECUTE FUNCTION versions.note()";

fn main() {
    let (rows, singles) = if benches::is_short() {
        (1_000, 100)
    } else {
        (100_000, 2_000)
    };
    let postgres = Postgres::start_with(&["autovacuum=off", "max_wal_size=8GB"]);
    tracing_audit::migrate(&postgres.url()).expect("the tables can be made");
    for case in CASES {
        let table = TABLE.replace("{table}", &table(case));
        postgres.psql(&table.replace("{rows}", &rows.to_string()));
    }
    postgres.psql(ROW_TRIGGER);
    postgres.psql("SELECT audit.track('public.of_audit_track'); SELECT audit.ensure_partition('events', now())");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let url = postgres.socket_url();
    print(
        &format!("seconds to update {rows} rows at once"),
        1.0,
        &benches::alternate(&CASES, |case| {
            let update = format!("UPDATE {} SET price = price + 1", table(case));
            let took = runtime
                .block_on(run(&url, &[update], 1))
                .expect("it can be updated");
            postgres.psql(&format!("VACUUM {}", table(case)));
            took
        }),
    );
    print(
        "microseconds for the transaction of an update of one row",
        1e6,
        &benches::alternate(&CASES, |case| {
            let updates: Vec<String> = (1..=singles)
                .map(|id| {
                    format!(
                        "UPDATE {} SET price = price + 1 WHERE id = {id}",
                        table(case)
                    )
                })
                .collect();
            runtime
                .block_on(run(&url, &updates, singles))
                .expect("it can be updated")
        }),
    );
}

/// The name of a case's table.
fn table(case: &str) -> String {
    format!("public.of_{}", case.replace([' ', '.'], "_"))
}

/// Returns the seconds that one of so many statements takes.
async fn run(url: &str, statements: &[String], count: u32) -> sqlx::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let begun = Instant::now();
    for statement in statements {
        connection.execute(AssertSqlSafe(statement.clone())).await?;
    }
    let took = begun.elapsed().as_secs_f64() / f64::from(count);
    connection.close().await?;
    Ok(took)
}

/// Prints the medians, and how many times the table takes of which nothing is recorded.
fn print(title: &str, unit: f64, rounds: &[Vec<f64>]) {
    println!();
    benches::row(title, &["median", "times untracked"].map(str::to_owned));
    let untracked = benches::median(&rounds[0]);
    for (case, round) in CASES.iter().zip(rounds) {
        let median = benches::median(round);
        let cells = [
            format!("{:.2}", median * unit),
            format!("{:.2}", median / untracked),
        ];
        benches::row(case, &cells);
    }
    println!();
}
