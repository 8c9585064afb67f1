//! What it costs to hand over the trail: `export`, beside what psql writes of the same rows. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod trail;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use testkit::Postgres;
use testkit::benches::{self, Folder};

/// What psql writes: all columns of the tables that have rows, each in the order of its ids.
const COPIES: [&str; 3] = ["query_runs", "prompt_runs", "activities"];

fn main() {
    let rows = std::env::var("READING_ROWS").map_or(1_000_000, |rows| {
        let rows = rows.replace('_', "");
        rows.parse::<u64>().expect("READING_ROWS is a number")
    });
    let rows = if benches::is_short() { 20_000 } else { rows };
    let postgres = Postgres::start_with(&["max_wal_size=8GB", "synchronous_commit=off"]);
    tracing_audit::migrate(&postgres.url()).expect("the tables can be made");
    trail::fill(&postgres, rows);
    let folder = Folder::new();
    let ways = ["psql \\copy", "csv", "jsonl", "parquet", "ocsf"];
    let mut sizes = [0; 5];
    let rates = benches::alternate(&ways, |way| {
        let file = folder.0.join("file");
        let begun = Instant::now();
        if *way == ways[0] {
            copy(&postgres, &file);
        } else {
            export(&postgres, way, &file);
        }
        let took = begun.elapsed().as_secs_f64();
        let at = ways.iter().position(|known| known == way).unwrap_or(0);
        sizes[at] = fs::metadata(&file).expect("the file is there").len();
        rows as f64 / took
    });
    println!("\nrows a second, of {rows}");
    benches::row(
        "",
        &["median", "quartiles", "/ \\copy", "MB"].map(str::to_owned),
    );
    for ((name, of_way), size) in ways.iter().zip(&rates).zip(sizes) {
        let cells = [
            format!("{:.0}", benches::median(of_way)),
            benches::quartiles(of_way),
            format!(
                "{:.2}",
                benches::paired(of_way, &rates[0], |ours, peer| ours / peer)
            ),
            format!("{:.0}", size as f64 / 1e6),
        ];
        benches::row(name, &cells);
    }
}

/// Lets psql write the rows of one table after those of another, as CSV.
fn copy(postgres: &Postgres, file: &std::path::Path) {
    let file = file.display();
    for (at, table) in COPIES.iter().enumerate() {
        let copy = format!("COPY (SELECT * FROM audit.{table} ORDER BY id) TO STDOUT (FORMAT csv)");
        let mut psql = postgres.of_account("psql");
        psql.args(["-qX", "-c", &copy, &postgres.url()]);
        let to = fs::OpenOptions::new()
            .create(true)
            .append(at > 0)
            .write(at == 0)
            .truncate(at == 0)
            .open(file.to_string())
            .expect("the file can be written");
        let status = psql.stdout(to).status().expect("psql can be started");
        assert!(status.success());
    }
}

fn export(postgres: &Postgres, format: &str, file: &std::path::Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .env("AUDIT_DATABASE_URL", postgres.url())
        .args([
            "export",
            "--format",
            format,
            "--purpose",
            "a bench",
            "--force",
            "--output",
        ])
        .arg(file)
        .stderr(Stdio::null())
        .status()
        .expect("the program can be started");
    assert!(status.success());
}
