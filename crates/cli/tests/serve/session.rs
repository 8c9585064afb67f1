//! A conversation is read in its order, whole, by those who may.

use serde_json::json;

use super::desk::Desk;
use super::setting::{Made, add, link_after, words};

const SESSION: &str = "01a22a22-a9b9-7000-8000-00000000abcd";

/// A conversation of 130 records in 26 requests, each with another's record in between.
fn conversation(desk: &Desk) -> Vec<String> {
    let mut records = Vec::new();
    for number in 0..130_u64 {
        let table = [
            "query_runs",
            "prompt_runs",
            "events",
            "activities",
            "query_runs",
        ][usize::try_from(number % 5).unwrap()];
        let mut columns =
            json!({"request_id": format!("turn-{:03}", number / 5), "user_id": "ana"});
        let said = format!("said-{number:03}");
        match table {
            "query_runs" => {
                columns["question_text"] = json!(said);
                columns["sql_text"] = json!(format!("SELECT '{said}' -- <b>"));
            }
            "prompt_runs" => columns["rendered_prompt"] = json!(said),
            _ => columns["input_summary"] = json!(said),
        }
        // Some name it one way, some the other.
        if number % 2 == 0 {
            columns["conversation_id"] = json!(SESSION);
        } else {
            columns["llm_session_id"] = json!(SESSION);
        }
        let ago = 10_000_000 - number * 10_000;
        records.push(Made {
            ago,
            ..Made::of(table, "one", columns)
        });
        let other = json!({"conversation_id": "another", "question_text": "not-said", "request_id": "other"});
        records.push(Made {
            ago: ago - 5_000,
            ..Made::of("query_runs", "one", other)
        });
    }
    add(&desk.postgres, &records)
}

/// Returns the numbers of what is said on a page, each once, in the order of the page.
fn said(body: &str) -> Vec<usize> {
    let mut numbers: Vec<usize> = body
        .split("said-")
        .skip(1)
        .filter_map(|part| part[..3].parse().ok())
        .collect();
    numbers.dedup();
    numbers
}

#[test]
fn conversation_is_read_in_order_page_by_page() {
    let desk = Desk::new();
    let ids = conversation(&desk);
    let server = desk.serve(&[
        "--trust-header",
        "X-Person",
        "--trust-secret-env",
        "PROXY_SECRET",
        "--auditor",
        "ana",
        "--reader",
        "one=one",
        "--reader",
        "two=two",
    ]);
    for (person, tenant) in [("ana", ""), ("ana", "&tenant=one"), ("one", "")] {
        let person = server.as_person(person);
        let before = desk.readings();
        let newest = person.get(&format!("/session?id={SESSION}{tenant}"));
        assert_eq!((newest.status, desk.readings()), (200, before + 1));
        assert_eq!(said(&newest.body), (30..130).collect::<Vec<_>>());
        assert!(!newest.body.contains("not-said"));
        assert!(!newest.body.contains("Later"));
        assert_eq!(newest.body.matches("<h2>Request ").count(), 20);
        let earlier = person.get(&link_before(&newest.body, "← Earlier"));
        assert_eq!(said(&earlier.body), (0..30).collect::<Vec<_>>());
        assert!(!earlier.body.contains("← Earlier"), "{earlier:?}");
        let later = person.get(&link_before(&earlier.body, "Later →"));
        assert_eq!(said(&later.body), (30..130).collect::<Vec<_>>());
    }
    // The reading says what was read.
    let told = desk.postgres.psql("SELECT count(*) FROM audit.events WHERE action_type = 'audit.read' AND metadata::text LIKE '%session%'");
    assert_eq!(told, "9");
    // Another tenant has none, and is not told whether there is one.
    let other = server.as_person("two");
    for address in [
        format!("/session?id={SESSION}"),
        format!("/session?id={SESSION}&tenant=one"),
        format!("/session?id={SESSION}&upto={}", ids[10]),
    ] {
        let answer = other.get(&address);
        assert!(
            words(&answer.body).contains("No record of this session is found."),
            "{answer:?}"
        );
        assert_eq!(said(&answer.body), [0_usize; 0]);
    }
    for wrong in ["/session", "/session?id=", "/session?id=x&before=1"] {
        assert_eq!(other.get(wrong).status, 404, "{wrong}");
    }
}

/// Returns the address of the link with this text.
fn link_before(body: &str, text: &str) -> String {
    let (before, _) = body
        .split_once(text)
        .unwrap_or_else(|| panic!("no {text}: {body}"));
    let (_, link) = before.rsplit_once("href=\"").unwrap();
    link.split_once('"').unwrap().0.replace("&amp;", "&")
}

#[test]
fn pages_lead_to_the_conversation_and_sql_has_colours() {
    let desk = Desk::new();
    let ids = conversation(&desk);
    let server = desk.serve_proxy();
    let person = server.as_person("ana");
    // Up to the last record of the request.
    let request = person.get("/request?id=turn-003&tenant=one");
    assert!(request.body.contains("<span class=\"k\">SELECT</span> <span class=\"s\">'said-015'</span> <span class=\"c\">-- &lt;b&gt;</span>"), "{request:?}");
    let address = link_after(&request.body, "<dt>conversation</dt>");
    let session = person.get(&address);
    assert_eq!(
        said(&session.body),
        (0..20).collect::<Vec<_>>(),
        "{address}"
    );
    assert!(session.body.contains("Later →"));
    // Up to the record.
    let record = person.get(&format!("/record?kind=query_runs&id={}", ids[20]));
    let session = person.get(&link_after(&record.body, "<dt>Conversation</dt>"));
    assert_eq!(said(&session.body), (0..11).collect::<Vec<_>>());
    let trail = person.get("/?request=turn-002&tenant=one");
    let session = person.get(&link_before(&trail.body, ">session</a>"));
    assert_eq!(said(&session.body), (0..15).collect::<Vec<_>>());
}

#[test]
fn hostile_names_of_conversations_stay_text() {
    let desk = Desk::new();
    let hostile = "\"><script>alert(1)</script>&tenant=two";
    let columns = json!({"conversation_id": hostile, "question_text": "said-000 <script>alert(2)</script>", "request_id": hostile});
    add(&desk.postgres, &[Made::of("query_runs", "one", columns)]);
    let server = desk.serve_proxy();
    let person = server.as_person("ana");
    let trail = person.get("/?user=&kind=query_runs&tenant=one");
    let session = person.get(&link_before(&trail.body, ">session</a>"));
    assert_eq!(said(&session.body), [0]);
    assert!(!session.body.contains("<script>alert"), "{session:?}");
    assert!(words(&session.body).contains(hostile), "{session:?}");
}
