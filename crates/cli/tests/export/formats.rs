//! What is in the files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::Command;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Setting, lines};

/// Returns the records of a CSV file, by column.
fn records(bytes: &[u8]) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(bytes);
    reader.deserialize().map(Result::unwrap).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn csv_has_every_record_and_no_formula() {
    let setting = Setting::start();
    let bytes = setting.export("csv", "all.csv", &[]);
    let found = records(&bytes);
    let ids: Vec<&str> = found.iter().map(|record| &*record["id"]).collect();
    let expected = setting
        .postgres
        .psql("SELECT id FROM records WHERE action_type IS DISTINCT FROM 'audit.read' ORDER BY id");
    assert_eq!(ids, expected.lines().collect::<Vec<_>>());
    for record in &found {
        for (name, value) in record {
            let is_number = matches!(&**name, "row_count" | "seq");
            let begins = value.chars().next().unwrap_or('x');
            assert!(
                is_number || !"=+-@\t\r\n＝＋－＠".contains(begins),
                "{name}: {value:?}"
            );
        }
    }
    let of = |question: &str| {
        let found = found
            .iter()
            .find(|record| record["question_text"] == question);
        found.unwrap_or_else(|| panic!("{question:?}"))
    };
    let first = of("'=HYPERLINK(\"http://evil.example\")");
    assert_eq!(first["sql_text"], "'+1");
    assert_eq!(first["row_count"], "-1");
    assert_eq!(first["metadata"], r#"{"a": 1.00}"#);
    assert_eq!(first["problems"], r#"["=1",null,"a\"b"]"#);
    assert_eq!(first["salt"], "\\x00ff");
    assert_eq!(first["kind"], "query_run");
    assert_eq!(
        of("line one\nline \"two\", three\r\nfour")["sql_text"],
        "'=1"
    );
    assert!(
        found
            .iter()
            .any(|record| record["question_text"].len() == 1_000_000)
    );
    let fields = of("many fields");
    let fields: BTreeMap<String, i64> = serde_json::from_str(&fields["metadata"]).unwrap();
    assert_eq!(fields.len(), 10_000);

    let raw = setting.export("csv", "raw.csv", &["--raw-values"]);
    let questions: Vec<String> = records(&raw)
        .into_iter()
        .map(|mut record| record.remove("question_text").unwrap())
        .collect();
    assert!(questions.contains(&String::from("－1")));
    assert_eq!(setting.manifest("raw.csv")["raw_values"], true);
}

#[test]
fn csv_is_read_alike_by_python() {
    let setting = Setting::start();
    let bytes = setting.export("csv", "all.csv", &[]);
    let script = "import csv, json, sys; csv.field_size_limit(10**9); \
        print(json.dumps(list(csv.reader(open(sys.argv[1], newline='', encoding='utf-8'), strict=True))))";
    let read = Command::new("python3")
        .args(["-c", script])
        .arg(setting.path("all.csv"))
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", super::stderr(&read));
    let theirs: Vec<Vec<String>> = serde_json::from_slice(&read.stdout).unwrap();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(&*bytes);
    let ours: Vec<Vec<String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn line_of_json_is_what_show_prints() {
    let setting = Setting::start();
    let exported = setting.export("jsonl", "all.jsonl", &[]);
    let exported = String::from_utf8(exported).unwrap();
    let exported: Vec<&str> = exported.lines().collect();
    assert!(exported.len() > 20);
    for line in exported {
        let object: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        // A number that is out of range cannot be read here.
        let id = line
            .split("\"id\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let shown = setting.succeed(&["show", id, "--json"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let shown = shown
            .strip_prefix('[')
            .unwrap()
            .strip_suffix("]\n")
            .unwrap();
        assert_eq!(line.len(), shown.len(), "{}", object["question_text"]);
        assert!(line == shown, "{line:.2000}\n{shown:.2000}");
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
}

#[test]
fn parquet_has_the_types_and_values_of_the_rows() {
    let setting = Setting::start();
    setting.export("parquet", "all.parquet", &[]);
    let file = fs::File::open(setting.path("all.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let metadata = reader.metadata().file_metadata();
    let version = metadata.key_value_metadata().unwrap();
    assert_eq!(version[0].key, "tracing_audit.schema_version");
    assert_eq!(version[0].value.as_deref(), Some("1"));
    let rows: Vec<HashMap<String, Field>> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().into_columns().into_iter().collect())
        .collect();
    assert_eq!(
        rows.len() as u64,
        setting.manifest("all.parquet")["records"].as_u64().unwrap()
    );
    let first = &rows[0];
    assert_eq!(first["kind"], Field::Str(String::from("query_run")));
    assert_eq!(first["row_count"], Field::Int(-1));
    assert_eq!(first["metadata"], Field::Str(String::from("{\"a\": 1.00}")));
    assert_eq!(first["model_name"], Field::Null);
    assert_eq!(first["unread"], Field::Null);
    let began = setting.postgres.psql(
        "SELECT id || ' ' || (extract(epoch FROM started_at) * 1000000)::bigint FROM audit.query_runs ORDER BY id LIMIT 1",
    );
    let (id, us) = began.split_once(' ').unwrap();
    assert_eq!(first["id"], Field::Str(id.to_owned()));
    assert_eq!(
        first["started_at"],
        Field::TimestampMicros(us.parse().unwrap())
    );
}

#[test]
fn html_shows_everything_and_runs_nothing() {
    let setting = Setting::start();
    let list = String::from_utf8(setting.export("html", "all.html", &[])).unwrap();
    let story = ["--request", "req-1"];
    let story = String::from_utf8(setting.export("html", "story.html", &story)).unwrap();
    for html in [&list, &story] {
        let policy = "content=\"default-src 'none'; style-src 'sha256-";
        assert_eq!(html.matches(policy).count(), 1);
        assert!(!html.contains("<script") && !html.contains("<img"));
        assert!(!html.contains('\u{202e}') && !html.contains('\u{200b}'));
        assert_eq!(html.matches("</html>").count(), 1);
        // The policy allows the style that is there.
        let style = html
            .split("<style>")
            .nth(1)
            .unwrap()
            .split("</style>")
            .next()
            .unwrap();
        let hash = html
            .split("sha256-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        assert_eq!(base64_hex(hash), hex(&Sha256::digest(style)));
    }
    assert!(list.contains("<span class=\"unseen\">U+202E</span>evil"));
    assert!(list.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    // Only the row as it is stored has a text of a megabyte whole.
    assert!(list.contains(&"0123456789".repeat(100_000)));
    let count = |html: &str| html.matches("<article").count() as u64;
    assert_eq!(count(&list), setting.manifest("all.html")["records"]);
    assert_eq!(count(&story), setting.manifest("story.html")["records"]);
    // The prompt is below the query that it belongs to.
    assert_eq!(story.matches("depth-1\"").count(), 1);
    assert!(story.contains("<h1>Request req-1</h1>") && story.contains("query runs"));
}

/// Returns the bytes of a base64 text, as hexadecimal digits, by another program.
fn base64_hex(text: &str) -> String {
    let script = "import base64, sys; print(base64.b64decode(sys.argv[1]).hex(), end='')";
    let read = Command::new("python3").args(["-c", script, text]).output();
    String::from_utf8(read.unwrap().stdout).unwrap()
}

#[test]
fn manifest_tells_of_the_file_as_the_trail_does() {
    let setting = Setting::start();
    let bytes = setting.export("jsonl", "all.jsonl", &["--user", "ana", "--since", "1d"]);
    let manifest = setting.manifest("all.jsonl");
    assert_eq!(manifest["sha256"], hex(&Sha256::digest(&bytes)));
    assert_eq!(manifest["bytes"], bytes.len());
    assert_eq!(manifest["records"], 11);
    assert_eq!(manifest["records_by_table"]["query_runs"], 11);
    assert_eq!(manifest["records_by_table"]["events"], 0);
    assert_eq!(
        lines(
            &bytes
                .iter()
                .copied()
                .filter(|byte| *byte != 0)
                .collect::<Vec<_>>()[..0]
        )
        .len(),
        0
    );
    for (name, value) in [
        ("format", "jsonl"),
        ("file", "all.jsonl"),
        ("login", "postgres"),
        ("purpose", "a test"),
        ("query", "user=ana&since=1d"),
        ("database", "audit"),
        ("no_ledger", "the trail has no checkpoint"),
    ] {
        assert_eq!(manifest[name], value, "{name}");
    }
    let told = setting.recorded();
    assert_eq!(told.len(), 2, "{told:?}");
    for event in &told {
        assert_eq!(event["filter"], "user=ana&since=1d");
        assert_eq!(event["format"], "jsonl");
        assert_eq!(event["begun"], manifest["begun"]);
    }
    assert!(told[0].get("sha256").is_none());
    assert_eq!(told[1]["sha256"], manifest["sha256"]);
    assert_eq!(told[1]["records"], 11);
    assert_eq!(told[1]["began_as"], manifest["events"]["begun"]);
    let purpose =
        "SELECT DISTINCT input_summary FROM audit.events WHERE action_type = 'audit.read'";
    assert_eq!(setting.postgres.psql(purpose), "a test");
}

#[test]
fn record_that_cannot_be_read_is_told_and_the_others_are_there() {
    let setting = Setting::start();
    // One that Postgres cannot send, and one that is too large for whoever reads it.
    setting.postgres.psql(
        r"ALTER TABLE audit.query_runs DROP CONSTRAINT query_runs_size;
        INSERT INTO audit.query_runs (id, request_id, question_text, status, started_at, metadata, writer_id, seq, salt)
        SELECT test_id(100 + n, now()), 'large', CASE n WHEN 4 THEN repeat('x', 151000000) ELSE 'text ' || n END, 'succeeded', now(), metadata::jsonb, '00000000-0000-7000-8000-00000000000b', n, ''
        FROM (VALUES (1, '{}'), (2, '[' || repeat('1e131071,', 9000) || '0]'), (3, '{}'), (4, '{}')) AS v (n, metadata);",
    );
    let path = setting.path("csv");
    let path = path.to_str().unwrap();
    let words = [
        "export",
        "--format",
        "csv",
        "--output",
        path,
        "--purpose",
        "test",
    ];
    let exported = setting.command(&words).output().unwrap();
    let told = super::stderr(&exported);
    assert_eq!(exported.status.code(), Some(1), "{told}");
    assert!(
        told.contains("2 of the records could not be read whole"),
        "{told}"
    );
    let manifest = setting.manifest("csv");
    assert_eq!(manifest["records_unread"], 2);
    assert_eq!(manifest["records_by_table"]["query_runs"], 15);
    let found = records(&fs::read(setting.path("csv")).unwrap());
    let unread: Vec<_> = found
        .iter()
        .filter(|record| !record["unread"].is_empty())
        .collect();
    assert_eq!(unread.len(), 2);
    assert!(unread[0]["unread"].contains("SQLSTATE"), "{unread:?}");
    assert!(unread[1]["unread"].contains("too large"), "{unread:?}");
    assert_eq!(unread[0]["seq"], "2");
    assert!(
        found
            .iter()
            .any(|record| record["question_text"] == "text 3")
    );
}

#[test]
#[ignore = "for scripts/export-formats, which reads the files with other programs"]
fn files_are_written_for_other_programs() {
    let folder = std::env::var("EXPORT_DIR").unwrap();
    let setting = Setting::start();
    for format in ["parquet", "csv", "ocsf"] {
        let name = format!("all.{format}");
        let words: &[&str] = if format == "ocsf" {
            &["--where", "reads=yes"]
        } else {
            &[]
        };
        setting.export(format, &name, words);
        for name in [name.clone(), format!("{name}.manifest.json")] {
            fs::copy(
                setting.path(&name),
                std::path::Path::new(&folder).join(&name),
            )
            .unwrap();
        }
    }
}
