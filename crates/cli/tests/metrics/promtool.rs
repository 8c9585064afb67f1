//! What Prometheus' own program says of the texts, the alert rules and the dashboard. Debian has it in the package
//! `prometheus`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::monitoring::queries;
use super::{Setting, metrics, text};

/// Runs promtool and returns what it says; fails the test unless it is content.
#[track_caller]
fn promtool(arguments: &[&str], stdin: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert!(status.success(), "{arguments:?}: {said}\n{stdin}");
    said
}

/// Returns the path of a file of the repository.
fn file(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(name).to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_no_fault_with_the_texts() {
    let setting = Setting::start();
    let of_program = setting.audit.stats().prometheus();
    let of_database = text(&metrics(&setting.postgres.url()));
    let of_nobody = text(&metrics(&setting.postgres.url_as("nobody")));
    let of_none = text(&metrics("postgres://nobody@127.0.0.1:9/none"));
    // Also as one, as a program would serve both.
    let both = format!("{of_program}{of_database}");
    for text in [of_program, of_database, of_nobody, of_none, both] {
        assert_eq!(promtool(&["check", "metrics"], &text), "");
    }
}

#[test]
#[ignore = "needs promtool"]
fn each_alert_fires_when_it_should_and_only_then() {
    let rules = file("docs/monitoring/alerts.yml");
    promtool(&["check", "rules", "--lint-fatal", &rules], "");
    let tests = file("crates/cli/tests/metrics/alerts.yml");
    promtool(&["test", "rules", &tests], "");
}

#[test]
#[ignore = "needs promtool"]
fn each_query_of_the_dashboard_is_one_of_prometheus() {
    let queries = queries("expr");
    assert!(queries.len() >= 15, "{}", queries.len());
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            // As Grafana replaces them.
            let expr = query
                .text
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1d")
                .replace("$instance", ".*");
            assert!(!expr.contains('$'), "{expr}");
            json!({"record": format!("dashboard:query_{number}"), "expr": expr})
        })
        .collect();
    // JSON is YAML as well.
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = testkit::trail::Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("rules.yml");
    std::fs::write(&path, groups.to_string()).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], "");
}
