use super::super::{Place, Redaction, RedactionError, Redactor, Rules};
use super::*;
use crate::limits::Limits;
use crate::record::row::{Cell, Row};
use crate::record::{Event, NewRecord, QueryRun, lost};

fn rules(redaction: &Redaction) -> Rules {
    redaction.ready().unwrap()
}

fn presets() -> Redaction {
    Redaction::default()
        .secrets()
        .personal()
        .key("a key of 16 bytes or more")
}

/// Returns the only frame.
fn one(frames: &Frames) -> Vec<u8> {
    assert_eq!(frames.records, 1);
    frames.iter().next().unwrap().to_vec()
}

/// Passes a record, and returns its frame.
fn passed(redaction: &Redaction, record: impl Into<NewRecord>) -> Vec<u8> {
    one(&rules(redaction).pass(record.into().encode(&Limits::default())))
}

fn row(frame: &[u8]) -> Row<'_> {
    Row::new(&decode::frame(frame).unwrap()).unwrap()
}

fn metadata(frame: &[u8]) -> serde_json::Value {
    serde_json::from_str(&row(frame).metadata).unwrap()
}

#[test]
fn record_without_such_values_is_passed_as_it_is() {
    let record = NewRecord::from(QueryRun::new("SELECT 1").metadata("order", 4711));
    let frames = record.encode(&Limits::default());
    let before = frames.bytes.clone();
    let rules = rules(&presets());
    assert_eq!(rules.pass(frames).bytes, before);
    let stats = rules.counts().unwrap().take();
    assert_eq!((stats.passed(), stats.rules().count()), (1, 0));
}

#[test]
fn row_names_what_was_redacted_by_field_and_rule() {
    let query = QueryRun::new("SELECT 'ada@example.com', 'bob@example.com', '4111 1111 1111 1111'")
        .error_message("token ghp_abcdefghijklmnopqrstuvwxyz0123456789")
        .metadata("password", "hunter2")
        .metadata("amount", 4_111_111_111_111_111_u64);
    let rules = rules(&presets());
    let frame = one(&rules.pass(NewRecord::from(query).encode(&Limits::default())));
    let row = row(&frame);
    assert_eq!(
        row.text(Field::SqlText),
        Some("SELECT '[email]', '[email]', '[card]'")
    );
    assert_eq!(row.text(Field::ErrorMessage), Some("token [github-pat]"));
    let said = [
        "sql_text: email ×2, card ×1",
        "error_message: github-pat ×1",
        "password: password ×1",
        "amount: card ×1",
    ];
    assert!(
        said.iter()
            .all(|said| row.redactions.iter().any(|entry| entry == said)),
        "{:?}",
        row.redactions
    );
    assert_eq!(row.redactions.len(), said.len());
    assert_eq!(
        metadata(&frame),
        serde_json::json!({"password": "[password]", "amount": "[card]"})
    );
    let stats = rules.counts().unwrap().take();
    assert!(stats.rules().eq([
        ("card", 2),
        ("email", 2),
        ("github-pat", 1),
        ("password", 1)
    ]));
}

#[test]
fn json_is_redacted_at_its_places_and_stays_json() {
    let body = serde_json::json!({
        "card": {"number": 4_111_111_111_111_111_u64, "holder": "A"},
        "note": "mail\nada@example.com",
        "nested": "{\"refresh_token\":\"abc\"}",
        "list": [{"apiKey": "x"}, 1.5],
        "headers": {"Authorization": ["Basic x"], "accept": "*/*"},
    });
    let event = Event::new("e").metadata("body", body);
    let frame = passed(
        &presets().place("metadata.body.card.holder", Action::Drop),
        event,
    );
    let expected = serde_json::json!({
        "card": {"number": "[card]", "holder": null},
        "note": "mail\n[email]",
        "nested": "{\"refresh_token\":\"[refresh_token]\"}",
        "list": [{"apiKey": "[api_key]"}, 1.5],
        "headers": {"Authorization": "[authorization]", "accept": "*/*"},
    });
    assert_eq!(metadata(&frame)["body"], expected);
    assert!(row(&frame).problems.is_empty());
}

#[test]
fn names_of_fields_and_members_are_redacted() {
    let event = Event::new("e")
        .metadata("ada@example.com", "x")
        .metadata("seen", serde_json::json!({"bob@example.com": 1}));
    let frame = passed(&presets(), event);
    assert_eq!(
        metadata(&frame),
        serde_json::json!({"[email]": "x", "seen": {"[email]": 1}})
    );
    assert!(!String::from_utf8_lossy(&frame).contains("@example"));
}

#[test]
fn tenant_keeps_its_rows_and_loses_its_key() {
    let event = |tenant: &str| Event::new("e").tenant_id(tenant).user_id("ada@example.com");
    let frame = passed(&presets(), event("acme@example.com"));
    let plain = passed(&Redaction::default(), event("acme@example.com"));
    assert_eq!(
        row(&frame).cell(Field::TenantId),
        row(&plain).cell(Field::TenantId)
    );
    assert!(!row(&frame).metadata.contains("acme"));
    // The user says who acted, and is hashed where that is asked for.
    assert_eq!(row(&frame).text(Field::UserId), Some("ada@example.com"));
    let hashed = |tenant| {
        passed(
            &presets().place(Place::new("user_id").tenant("acme"), Action::Hash),
            event(tenant),
        )
    };
    assert!(
        row(&hashed("acme"))
            .text(Field::UserId)
            .unwrap()
            .starts_with("[user_id #")
    );
    assert_eq!(
        row(&hashed("other")).text(Field::UserId),
        Some("ada@example.com")
    );
}

#[test]
fn dropped_field_leaves_no_trace_but_its_name() {
    let frame = passed(
        &Redaction::default().place("sql_text", Action::Drop),
        QueryRun::new("SELECT 1"),
    );
    assert_eq!(row(&frame).cell(Field::SqlText), &Cell::Null);
    assert_eq!(row(&frame).redactions, ["sql_text: sql_text ×1"]);
}

#[test]
fn value_that_is_cut_off_is_masked_from_its_beginning() {
    let limits = Limits::default().with_field_bytes(300);
    let text = format!(
        "{} ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "x ".repeat(140)
    );
    let frames = NewRecord::from(QueryRun::new(text.as_str())).encode(&limits);
    let frame = one(&rules(&presets()).pass(frames));
    assert!(
        row(&frame)
            .text(Field::SqlText)
            .unwrap()
            .ends_with(" [cut-off]")
    );
    assert!(row(&frame).problems[0].starts_with("sql_text: truncated from"));
}

#[test]
fn run_that_has_begun_is_redacted_and_not_again_when_it_is_lost() {
    let hashing = presets().place("sql_text", Action::Hash);
    let frames =
        NewRecord::from(QueryRun::new("SELECT 'ada@example.com'")).encode(&Limits::default());
    let mut begun = one(&frames);
    // The frame's type: a run that has begun.
    begun[1] = 1;
    let rules = rules(&hashing);
    let run = rules.pass_run(begun.clone());
    assert!(!String::from_utf8_lossy(run.frame()).contains("ada@"));
    let lost = one(&run.into_lost("shut_down").unwrap());
    let once = passed(&hashing, QueryRun::new("SELECT 'ada@example.com'"));
    assert_eq!(
        row(&lost).text(Field::SqlText),
        row(&once).text(Field::SqlText)
    );
    assert_eq!(row(&lost).redactions, ["sql_text: sql_text ×1"]);
    assert!(lost::lost(&begun, "x").is_some());
    assert_eq!(rules.counts().unwrap().take().rules().count(), 0);
}

#[test]
fn redactor_that_panics_costs_the_field_and_lets_nothing_through() {
    struct Panics;
    impl Redactor for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }
        fn redact(&self, _: &str, text: &str) -> Option<String> {
            assert!(!text.contains("SELECT"), "a redactor of the test panics");
            None
        }
    }
    let rules = rules(&Redaction::default().custom(Panics));
    let query = QueryRun::new("SELECT secret").error_message("kept");
    let frame = one(&rules.pass(NewRecord::from(query).encode(&Limits::default())));
    assert_eq!(row(&frame).text(Field::SqlText), Some(FAILED));
    assert_eq!(row(&frame).text(Field::ErrorMessage), Some("kept"));
    assert_eq!(row(&frame).redactions, ["sql_text: panics ×1"]);
    assert_eq!(rules.counts().unwrap().take().failed(), 1);
}

#[test]
fn record_whose_redaction_fails_is_stored_without_its_texts() {
    let query = QueryRun::new("SELECT secret")
        .row_count(7)
        .tenant_id("acme")
        .metadata("a", "secret");
    let frames = NewRecord::from(query).encode(&Limits::default());
    let frame = without_texts(&one(&frames));
    assert!(!String::from_utf8_lossy(&frame).contains("secret"));
    let row = row(&frame);
    assert_eq!(row.cell(Field::RowCount), &Cell::Int(7));
    assert_eq!(row.text(Field::SqlText), Some(FAILED));
    assert_eq!(row.redactions, ["…: redaction failed"]);
}

#[test]
fn rules_that_cannot_be_used_are_refused() {
    use super::super::{RedactionError, Shape};
    let error = |redaction: Redaction| redaction.ready().unwrap_err();
    assert_eq!(
        error(Redaction::default().place("x", Action::Hash)),
        RedactionError::NoKey
    );
    assert_eq!(error(presets().key("short")), RedactionError::ShortKey);
    assert_eq!(
        error(
            Redaction::default()
                .personal()
                .action("emial", Action::Drop)
        ),
        RedactionError::Rule("emial".into())
    );
    assert_eq!(
        error(Redaction::default().shape(Shape::new("s", "("), Action::Mask)),
        RedactionError::Shape("s".into())
    );
    assert_eq!(
        error(
            Redaction::default()
                .place("*", Action::Mask)
                .place("", Action::Mask)
        ),
        RedactionError::Place
    );
    assert!(Redaction::default().with_presets("secrets, all").is_err());
    assert!(
        presets()
            .without("phone")
            .without("jwt")
            .without("password")
            .ready()
            .is_ok()
    );
}

proptest::proptest! {
    #[test]
    fn whatever_is_recorded_its_row_can_be_read(text in "\\PC{0,80}", name in "[a-z.@\"\\\\]{1,12}", json in proptest::bool::ANY) {
        let text = if json { format!("{{\"password\":{{\"a\":\"{text}\"}},\"b\":\"a@b.de\\n{text}\"}}") } else { format!("a@b.de {text}") };
        let event = Event::new("e").metadata(name, text.as_str()).input_summary(text.as_str());
        let frame = passed(&presets(), event);
        proptest::prop_assert!(!row(&frame).redactions.is_empty());
    }
}

#[test]
fn literals_in_sql_are_redacted_before_anything_else_looks_at_them() {
    let redaction = presets().sql_literals(Action::Mask);
    let sql = "SELECT 'Ada', 4711 FROM t WHERE user='ada@example.com' AND password='x7' -- for Ada
        AND \"Note\" = $1";
    let record = QueryRun::new(sql).metadata("db.system.name", "postgresql");
    let frame = passed(&redaction, record.error_message("of ada@example.com"));
    let row = row(&frame);
    assert_eq!(
        row.text(Field::SqlText),
        Some(
            "SELECT '[sql-literal]', '[sql-literal]' FROM t WHERE user='[sql-literal]' AND password='[sql-literal]' -- [sql-comment]
        AND \"Note\" = $1"
        )
    );
    assert_eq!(
        row.redactions,
        [
            "sql_text: sql-literal ×4, sql-comment ×1",
            "error_message: email ×1"
        ]
    );
    let hashing = Redaction::default()
        .sql_literals(Action::Mask)
        .action("sql-literal", Action::Hash);
    assert_eq!(hashing.ready().unwrap_err(), RedactionError::NoKey);
    let hashing = rules(&hashing.key("a key of 16 bytes or more"));
    let of = |sql: &str| {
        let frame =
            one(&hashing.pass(NewRecord::from(QueryRun::new(sql)).encode(&Limits::default())));
        self::row(&frame).text(Field::SqlText).unwrap().to_owned()
    };
    assert_eq!(of("SELECT 'Ada'"), of("SELECT 'Ada'"));
    assert!(of("SELECT 'Ada'").starts_with("SELECT '[sql-literal #"));
    assert_ne!(of("SELECT 'Ada'"), of("SELECT 'Bob'"));
}

#[test]
fn literals_are_redacted_in_every_field_that_holds_sql() {
    let redaction = Redaction::default().sql_literals(Action::Mask);
    let statements = serde_json::json!([
        {"sql_text": "SELECT 'secret'", "rows_returned": 3},
        {"sqlText": ["SELECT 2", {"secret": 1}], "db.statement": 42, "text": "SELECT 'kept'"},
    ]);
    let event = Event::new("approval")
        .metadata("sql_text", "UPDATE t SET a = 'secret\n'")
        .metadata("db.query.text", "no statement, but a secret")
        .metadata("db.statement", 17)
        .metadata("query.text", "SELECT 'kept'")
        .metadata("statements", statements);
    let frame = passed(&redaction, event);
    assert_eq!(
        metadata(&frame),
        serde_json::json!({
            "sql_text": "UPDATE t SET a = '[sql-literal]'",
            "db.query.text": "'[sql-literal]'",
            "db.statement": "'[sql-literal]'",
            "query.text": "SELECT 'kept'",
            "statements": [
                {"sql_text": "SELECT '[sql-literal]'", "rows_returned": 3},
                {
                    "sqlText": ["SELECT '[sql-literal]'", "'[sql-literal]'"],
                    "db.statement": "'[sql-literal]'",
                    "text": "SELECT 'kept'",
                },
            ],
        })
    );
    assert_eq!(
        row(&frame).redactions,
        [
            "sql_text: sql-literal ×1",
            "db.query.text: sql-literal ×1",
            "db.statement: sql-literal ×1",
            "statements: sql-literal ×4",
        ]
    );
}

#[test]
fn literal_that_a_limit_cut_off_is_redacted() {
    let limits = Limits {
        field_bytes: 40,
        ..Limits::default()
    };
    let rules = rules(&presets().sql_literals(Action::Mask));
    let sql = "SELECT a FROM t WHERE b = 'a secret that is long'";
    let frame = one(&rules.pass(NewRecord::from(QueryRun::new(sql)).encode(&limits)));
    let row = row(&frame);
    assert_eq!(
        row.text(Field::SqlText),
        Some("SELECT a FROM t WHERE b = '[sql-literal]'")
    );
    assert_eq!(row.redactions, ["sql_text: sql-literal ×1"]);
}

#[test]
fn secrets_are_found_by_each_way_to_write_their_names() {
    for name in ["passphrase", "pass_phrase", "passPhrase", "Pass-Phrase"] {
        let body = serde_json::json!({ name: "swordfish and more" });
        let frame = passed(&presets(), Event::new("e").metadata("body", body));
        assert_eq!(metadata(&frame)["body"][name], "[pass_phrase]", "{name}");
    }
}

#[test]
fn text_is_checked_for_places_of_any_name() {
    let redaction = Redaction::default().place("card.*", Action::Mask);
    let checked = redaction.check(r#"{"card":{"x":"y"}}"#).unwrap();
    assert_eq!(checked.text(), r#"{"card":{"x":"[card]"}}"#);
}

#[test]
fn numbers_behind_an_escape_are_found() {
    for number in [
        "4111111111111111",
        "+49 30 901820",
        "DE89370400440532013000",
    ] {
        let body = serde_json::json!({ "note": format!("x\n{number}\t{number}") });
        let event = Event::new("e").metadata("body", body);
        let frame = passed(
            &presets(),
            event.metadata("debug", format!("Some(\"x\\n{number}\")")),
        );
        assert!(
            !row(&frame).metadata.contains(number),
            "{}",
            row(&frame).metadata
        );
        assert_eq!(row(&frame).redactions.len(), 2, "{number}");
    }
}
