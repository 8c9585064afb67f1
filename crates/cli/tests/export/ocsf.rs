//! Events of OCSF: what its schema, version 1.8.0, requires of each class that is used. `scripts/export-formats` holds
//! them against the whole schema.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Setting, lines};

/// What every event has.
const ALWAYS: [&str; 8] = [
    "activity_id",
    "category_uid",
    "class_uid",
    "metadata",
    "severity_id",
    "time",
    "type_uid",
    "unmapped",
];

/// Each class with what it requires besides, and of what at least one is there.
const CLASSES: [(u64, &[&str], &[&str]); 7] = [
    (0, &[], &[]),
    (2004, &["finding_info"], &[]),
    (3002, &["user"], &["service", "dst_endpoint"]),
    (4002, &[], &["http_request", "http_response"]),
    (6003, &["actor", "api", "src_endpoint"], &[]),
    (
        6005,
        &["actor", "src_endpoint"],
        &["database", "databucket", "table"],
    ),
    (6008, &[], &[]),
];

#[test]
fn events_have_what_their_classes_require() {
    let setting = Setting::start();
    let exported = setting.export("ocsf", "all.ocsf", &["--where", "reads=yes"]);
    // What JSON has and a double has not is left out here.
    let text = String::from_utf8(exported)
        .unwrap()
        .replace("1e400", "1")
        .replace(&format!("1{}", "0".repeat(400)), "1");
    let events = lines(text.as_bytes());
    assert_eq!(
        events.len() as u64,
        setting.manifest("all.ocsf")["records"].as_u64().unwrap()
    );
    let mut seen = BTreeSet::new();
    for event in &events {
        let class = event["class_uid"].as_u64().unwrap();
        seen.insert(class);
        let (_, required, one_of) = CLASSES.iter().find(|(uid, ..)| *uid == class).unwrap();
        for name in ALWAYS.iter().chain(*required) {
            assert!(!event[*name].is_null(), "{name}: {event:.500}");
        }
        assert!(
            one_of.is_empty() || one_of.iter().any(|name| event[*name].is_object()),
            "{event:.500}"
        );
        assert_eq!(event["category_uid"], class / 1000);
        let activity = event["activity_id"].as_u64().unwrap();
        assert_eq!(event["type_uid"], class * 100 + activity);
        assert_eq!(event["metadata"]["version"], "1.8.0");
        assert_eq!(event["metadata"]["uid"], event["unmapped"]["id"]);
        if let Some(name) = event["actor"].as_object() {
            assert!(!name.is_empty());
        }
    }
    assert_eq!(seen, CLASSES.iter().map(|(uid, ..)| *uid).collect());
    let of = |text: &str| {
        events
            .iter()
            .find(|event| event["unmapped"]["action_type"] == text)
            .unwrap()
    };
    assert_eq!(of("change")["table"]["name"], "thing");
    assert_eq!(of("change")["activity_id"], 2);
    assert_eq!(of("http_request")["http_response"]["code"], 200);
    assert_eq!(of("llm_call")["message_context"]["prompt_tokens"], 3);
    assert_eq!(of("audit.read")["activity_name"], "Read");
    let login = of("security");
    assert_eq!(
        (&login["class_uid"], &login["user"]["name"]),
        (&Value::from(3002), &Value::from("bo"))
    );
    let prompt = events
        .iter()
        .find(|event| event["ai_model"]["name"] == "claude")
        .unwrap();
    assert_eq!(prompt["metadata"]["profiles"][0], "ai_operation");
    let query = events
        .iter()
        .find(|event| event["query_info"]["query_string"] == "@SUM(A1)")
        .unwrap();
    assert_eq!(query["message"], "-2+3");
}
