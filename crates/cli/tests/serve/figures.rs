//! The figures of users, agents and models are those of the records, whoever looks and whatever names they have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::trail::PATIENCE;
use testkit::{Chance, wait_until};

use super::desk::Desk;
use super::setting::{Made, add, rows};

/// What a page says of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Figures {
    records: usize,
    failed: usize,
    p95: String,
    p99: String,
    tokens: Option<(u64, u64)>,
}

/// Counts by hand.
fn expected(
    records: &[&Made],
    name: impl Fn(&Made) -> Option<String>,
) -> BTreeMap<String, Figures> {
    let mut by_name: BTreeMap<String, Vec<&Made>> = BTreeMap::new();
    for record in records {
        if let Some(name) = name(record) {
            by_name.entry(name).or_default().push(record);
        }
    }
    let figures = |records: Vec<&Made>| {
        // The least of which enough are no greater.
        let percentile = |percent: usize| {
            let took = records.iter().map(|record| record.took);
            let is_enough = |most: &u64| {
                let no_greater = records.iter().filter(|record| record.took <= *most);
                no_greater.count() * 100 >= percent * records.len()
            };
            match took.filter(is_enough).min().unwrap() {
                0 => String::from("<1 ms"),
                took @ 1..1_000 => format!("{took} ms"),
                took => format!("{:.2} s", Duration::from_millis(took).as_secs_f64()),
            }
        };
        let sum = |column: &str| {
            let tokens = records.iter().filter_map(|record| {
                let columns = &record.columns;
                let told = columns
                    .get(column)
                    .or(columns.get("metadata").and_then(|m| m.get(column)));
                told.and_then(Value::as_u64)
            });
            tokens.fold(None, |sum: Option<u64>, more| Some(sum.unwrap_or(0) + more))
        };
        let tokens = sum("input_token_count");
        Figures {
            records: records.len(),
            failed: records.iter().filter(|record| record.is_failed()).count(),
            p95: percentile(95),
            p99: percentile(99),
            tokens: tokens.map(|tokens| (tokens, sum("output_token_count").unwrap_or(0))),
        }
    };
    by_name
        .into_iter()
        .map(|(name, records)| (name, figures(records)))
        .collect()
}

/// Reads the rows of a page.
fn told(body: &str) -> Vec<(String, Figures)> {
    let number = |cell: &str| cell.replace(',', "").parse::<u64>().unwrap();
    let rows = rows(body, 1).into_iter().map(|cells| {
        let count = |at: usize| usize::try_from(number(&cells[at])).unwrap();
        let has_tokens = cells.len() == 10 && !cells[7].is_empty();
        let figures = Figures {
            records: count(2),
            failed: count(3),
            p95: cells[5].clone(),
            p99: cells[6].clone(),
            tokens: has_tokens.then(|| (number(&cells[7]), number(&cells[8]))),
        };
        (cells[0].clone(), figures)
    });
    rows.collect()
}

/// Records of any table, user, agent, model, outcome, time of the last 20 hours and duration.
fn made_up(chance: &mut Chance, tenant: &'static str, many: usize) -> Vec<Made> {
    let mut one = |_| {
        let mut pick = |limit: usize| usize::try_from(chance.below(limit as u64)).unwrap();
        let table = ["query_runs", "prompt_runs", "events", "activities"][pick(4)];
        let user = [Some("ana"), Some("bo"), Some("eve & co"), None][pick(4)];
        let agent = [
            Some("00000000-0000-4000-8000-000000000001"),
            Some("00000000-0000-4000-8000-000000000002"),
            None,
        ][pick(3)];
        let mut columns = json!({"user_id": user, "agent_id": agent});
        let (tokens_in, tokens_out) = (pick(5_000), pick(900));
        let longest = [10, 1_000, 40_000][pick(3)];
        let took = pick(longest);
        match (table, pick(3)) {
            ("prompt_runs", _) => {
                columns["model_name"] = json!(["small", "large"][pick(2)]);
                columns["input_token_count"] = json!(tokens_in);
                columns["output_token_count"] = json!(tokens_out);
            }
            ("events" | "activities", 0) => {
                columns["action_type"] = json!("llm_call");
                let model = ["small", "other"][pick(2)];
                columns["metadata"] = json!({"model": model, "input_token_count": tokens_in, "output_token_count": tokens_out});
            }
            ("events" | "activities", 1) => {
                columns["action_type"] = json!("agent_execution");
                columns["target_id"] = json!(["clerk", "courier"][pick(2)]);
            }
            _ => {}
        }
        Made {
            status: [
                "succeeded",
                "succeeded",
                "succeeded",
                "failed",
                "rejected",
                "cancelled",
                "unknown",
            ][pick(7)],
            ago: u64::try_from(pick(20 * 3_600_000)).unwrap(),
            took: u64::try_from(took).unwrap(),
            ..Made::of(table, tenant, columns)
        }
    };
    (0..many).map(&mut one).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "one of three that are alike")]
fn user(record: &Made) -> Option<String> {
    Some(record.text("user_id").unwrap_or("no user").to_owned())
}

fn agent(record: &Made) -> Option<String> {
    let is_run = record.text("action_type") == Some("agent_execution");
    let name = record.text("target_id").filter(|_| is_run);
    let id = record.text("agent_id");
    id.or(name).map(str::to_owned)
}

fn model(record: &Made) -> Option<String> {
    let metadata = record.columns.get("metadata");
    let of_event = metadata.and_then(|metadata| metadata["model"].as_str());
    record.text("model_name").or(of_event).map(str::to_owned)
}

#[test]
fn figures_are_those_of_the_records() {
    let desk = Desk::new();
    let mut chance = Chance::new();
    let records = [
        made_up(&mut chance, "one", 300),
        made_up(&mut chance, "two", 200),
    ]
    .concat();
    add(&desk.postgres, &records);
    let server = desk.serve(&[
        "--trust-header",
        "X-Person",
        "--trust-secret-env",
        "PROXY_SECRET",
        "--auditor",
        "ana",
        "--reader",
        "rita=one",
    ]);
    let (auditor, reader) = (server.as_person("ana"), server.as_person("rita"));
    let of = |tenant: &str| -> Vec<&Made> {
        records
            .iter()
            .filter(|record| record.tenant == tenant)
            .collect()
    };
    for (page, name) in [
        ("/users", user as fn(&Made) -> _),
        ("/agents", agent),
        ("/models", model),
    ] {
        for (person, query, tenant) in [
            (&auditor, "?tenant=one", "one"),
            (&auditor, "?tenant=two&range=7d", "two"),
            (&reader, "?", "one"),
            (&reader, "?tenant=one&since=30d", "one"),
        ] {
            let before = desk.readings();
            let answer = person.get(&format!("{page}{query}&long=yes"));
            assert_eq!(answer.status, 200);
            assert_eq!(desk.readings(), before + 1, "{page}{query}");
            let told = told(&answer.body);
            // The name of an agent stands beside its id.
            let short = |name: String| match name.split_once(' ') {
                Some((id, _)) if page == "/agents" || page == "/models" => id.to_owned(),
                _ => name,
            };
            let by_name: BTreeMap<_, _> = told
                .iter()
                .cloned()
                .map(|(name, figures)| (short(name), figures))
                .collect();
            let mut expected = expected(&of(tenant), name);
            if page != "/models" {
                for figures in expected.values_mut() {
                    figures.tokens = None;
                }
            }
            assert!(expected.len() > 2, "{expected:?}");
            assert_eq!(by_name, expected, "{page}{query}");
            // The most records first.
            assert!(
                told.is_sorted_by(|a, b| a.1.records >= b.1.records),
                "{told:?}"
            );
            // The bars are of the same records.
            let bars = rows(&answer.body, 0);
            let sum = |cell: usize| -> usize {
                bars.iter()
                    .map(|bar| bar[cell].replace(',', "").parse::<usize>().unwrap())
                    .sum()
            };
            let all = |part: fn(&Figures) -> usize| expected.values().map(part).sum::<usize>();
            assert_eq!(sum(1), all(|figures| figures.records), "{page}{query}");
            assert_eq!(sum(2), all(|figures| figures.failed), "{page}{query}");
        }
        // A reader who names another tenant finds nothing, as where there is none.
        let answer = reader.get(&format!("{page}?tenant=two"));
        assert!(
            answer.body.contains("There is no such record"),
            "{answer:?}"
        );
    }
    // An auditor who names none counts all, but for the readings of the trail themselves.
    let answer = auditor.get("/users?long=yes&sort=name");
    let told = told(&answer.body);
    assert!(
        told.is_sorted_by(|a, b| a.0 <= b.0 || b.0 == "no user" || a.0 == "no user"),
        "{told:?}"
    );
    let all: usize = told.iter().map(|(_, figures)| figures.records).sum();
    let of_desk = 2 * 5;
    assert_eq!(all, records.len() + of_desk);
}

#[test]
fn records_are_counted_where_their_time_is() {
    let desk = Desk::new();
    let minutes = [5, 40, 70, 300, 1_500, 15_000];
    let records = minutes.map(|minutes| Made {
        ago: minutes * 60_000,
        ..Made::of("query_runs", "one", json!({"user_id": "ana"}))
    });
    add(&desk.postgres, &records);
    let server = desk.serve_proxy();
    let auditor = server.as_person("ana");
    let count = |query: &str| {
        let answer = auditor.get(&format!("/users?tenant=one&long=yes&{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        told(&answer.body)
            .first()
            .map_or(0, |(_, figures)| figures.records)
    };
    assert_eq!(count("range=1h"), 2);
    assert_eq!(count("range=6h"), 4);
    assert_eq!(count(""), 4);
    assert_eq!(count("range=7d"), 5);
    assert_eq!(count("range=30d"), 6);
    assert_eq!(count("since=30d&until=2h"), 3);
    assert_eq!(count("since=1h&until=2h"), 0);
    assert_eq!(count("since=1970-01-01"), 6);
    assert_eq!(count("since=30d&user=bo"), 0);
    for wrong in [
        "range=some",
        "since=24h&range=1h",
        "sort=size",
        "colour=red",
        "until=x",
    ] {
        let answer = auditor.get(&format!("/users?{wrong}"));
        assert!((400..500).contains(&answer.status), "{wrong}: {answer:?}");
    }
}

#[test]
fn names_that_are_hostile_or_many_do_no_harm() {
    let desk = Desk::new();
    let hostile = "</td><script>alert(1)</script>\"'&\u{202e}gnp";
    let mut records = vec![
        Made::of("query_runs", "one", json!({"user_id": hostile})),
        Made::of(
            "query_runs",
            "one",
            json!({"user_id": "x".repeat(1_000_000)}),
        ),
        Made::of("query_runs", "one", json!({"user_id": "  "})),
        Made::of("query_runs", "one", json!({"user_id": ""})),
    ];
    records.extend((0..150).map(|number| {
        Made::of(
            "query_runs",
            "one",
            json!({"user_id": format!("of many {number}")}),
        )
    }));
    add(&desk.postgres, &records);
    let server = desk.serve_proxy();
    let auditor = server.as_person("ana");
    let answer = auditor.get("/users?tenant=one&long=yes&sort=name");
    assert!(answer.body.len() < 120_000, "{}", answer.body.len());
    assert!(!answer.body.contains("<script>alert"), "{answer:?}");
    assert!(
        answer
            .body
            .contains("&lt;script&gt;alert(1)&lt;/script&gt;")
    );
    assert!(
        answer
            .body
            .contains("<span class=\"unseen\">U+202E</span>gnp")
    );
    assert!(answer.body.contains("And 54 more."));
    assert_eq!(rows(&answer.body, 1).len(), 100);
    // The link finds what it names.
    let link = super::setting::link_after(&answer.body, "aria-sort");
    assert!(link.contains("sort=name"), "{link}");
    let (before, _) = answer.body.split_once("&lt;/td&gt;").unwrap();
    let (_, link) = before.rsplit_once("href=\"").unwrap();
    let link = link.split_once('"').unwrap().0.replace("&amp;", "&");
    let found = auditor.get(&link);
    assert_eq!(rows(&found.body, 0).len(), 1, "{link}: {found:?}");
    // What nobody can name is no link.
    assert!(answer.body.contains("(blank)"));
    let last = auditor.get("/users?tenant=one&long=yes&user=of+many+7");
    assert_eq!(rows(&last.body, 1).len(), 1);
}

#[test]
fn page_that_is_cut_short_says_so_and_offers_less() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let auditor = server.as_person("ana");
    // Whoever counts the rows of this table waits.
    let mut other = desk.postgres.session(testkit::ADMINISTRATOR);
    other.psql("BEGIN");
    other.psql("LOCK TABLE audit.prompt_runs IN ACCESS EXCLUSIVE MODE");
    for page in ["/users", "/agents", "/models", "/failures"] {
        let answer = auditor.get(page);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains("Counting was cut short"), "{answer:?}");
        assert!(
            answer.body.contains("range=") || answer.body.contains("since=6h"),
            "{answer:?}"
        );
        assert!(answer.body.contains("long=yes"), "{answer:?}");
    }
    other.psql("COMMIT");
    let answer = auditor.get("/users");
    assert!(!answer.body.contains("cut short"), "{answer:?}");
}

/// Adds 40,000 records of the last day, the durations of which are 0 to 999 ms, each as often as the others.
fn add_many(desk: &Desk) {
    // Postgres has no statistics of them, as of any partition that is new.
    let fill = "INSERT INTO audit.query_runs (id, tenant_id, user_id, status, started_at, duration_ms, writer_id, seq, salt)
        SELECT (left(audit.id_at(at)::text, 14) || '7000-8000-' || lpad(n::text, 12, '0'))::uuid, audit.tenant_uuid('one'), 'ana', 'succeeded', at, n % 1000,
            '00000000-0000-7000-8000-00000000000a', n, ''
        FROM (SELECT n, now() - n * interval '2 seconds' AS at FROM generate_series(1, 40000) AS n) AS made";
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica; {fill}; RESET session_replication_role"
    ));
}

#[test]
fn what_is_counted_in_many_slices_is_counted_once() {
    let desk = Desk::new();
    add_many(&desk);
    let server = desk.serve_proxy();
    let answer = server
        .as_person("ana")
        .get("/users?range=24h&tenant=one&long=yes");
    assert!(!answer.body.contains("cut short"), "{answer:?}");
    let figures = Figures {
        records: 40_000,
        failed: 0,
        p95: String::from("949 ms"),
        p99: String::from("989 ms"),
        tokens: None,
    };
    assert_eq!(told(&answer.body), [(String::from("ana"), figures)]);
    let bars = rows(&answer.body, 0);
    let sum: u64 = bars
        .iter()
        .map(|bar| bar[1].replace(',', "").parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 40_000);
    // One in two seconds: each whole hour has 1,800, perhaps with one more or less at its ends.
    let whole = bars
        .iter()
        .filter(|bar| ["1,799", "1,800", "1,801"].contains(&&*bar[1]));
    assert!(whole.count() >= 20, "{bars:?}");
}

#[test]
fn pages_do_not_read_a_trail_whole_for_what_is_new() {
    let desk = Desk::new();
    add_many(&desk);
    let read = || -> u64 {
        let counted = desk.postgres.psql(
            "SELECT coalesce(sum(seq_tup_read) + sum(idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'audit_parts' AND relname ~ '^query_runs'",
        );
        counted.parse().unwrap()
    };
    for (person, page, most) in [
        ("ana", "/", 3_000),
        ("ana", "/?tenant=one", 3_000),
        ("bo", "/", 3_000),
        ("ana", "/users?range=1h", 8_000),
        ("ana", "/users?range=1h&tenant=one", 8_000),
    ] {
        let before = read();
        let server = desk.serve_proxy();
        let answer = server.as_person(person).get(page);
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        assert!(!answer.body.contains("cut short"), "{page}");
        // What a connection has read is told when it ends.
        drop(server);
        wait_until("the connections are closed", PATIENCE, || {
            let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'serve'";
            desk.postgres.psql(open) == "0"
        });
        let read = read() - before;
        assert!((1..most).contains(&read), "{person} at {page}: {read}");
    }
}

#[test]
fn moment_with_very_many_names_hides_no_other() {
    let desk = Desk::new();
    let insert = |ids: &str, user: &str, numbers: &str| {
        format!(
            "INSERT INTO audit.query_runs (id, tenant_id, user_id, status, started_at, duration_ms, writer_id, seq, salt)
            SELECT (left(audit.id_at({ids})::text, 14) || '7000-8000-' || lpad(n::text, 12, '0'))::uuid, audit.tenant_uuid('one'), {user}, 'succeeded', {ids}, 7,
                '00000000-0000-7000-8000-00000000000a', n, '' FROM generate_series({numbers}) AS n;"
        )
    };
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica; BEGIN; {} {} COMMIT",
        insert("now() - interval '10 minutes'", "'name-' || n", "1, 100500"),
        insert(
            "now() - interval '5 minutes' + n * interval '1 ms'",
            "'another'",
            "200001, 200300"
        ),
    ));
    let server = desk.serve_proxy();
    let answer = server
        .as_person("ana")
        .get("/users?range=1h&tenant=one&long=yes&sort=name");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains("one and the same moment"),
        "{answer:?}"
    );
    assert!(!answer.body.contains("cut short"), "{answer:?}");
    let all = told(&answer.body);
    let another = all.iter().find(|(name, _)| name == "another");
    assert_eq!(another.map(|(_, figures)| figures.records), Some(300));
}
