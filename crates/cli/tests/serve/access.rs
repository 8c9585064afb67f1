//! Nobody sees a row that is not theirs, by any address, header, cookie or stream; and nothing is seen that is not recorded.

use serde_json::json;

use super::desk::{ACME, Answer, BETA, Desk, PERSON, Person};
use super::setting::{Made, add};

/// The addresses of the pages, as the program has them.
fn routes() -> Vec<String> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve.rs"));
    let source = source.unwrap();
    let parts = source.split(".route(\"").skip(1);
    parts
        .map(|part| part.split_once('"').unwrap().0.to_owned())
        .collect()
}

/// Every way to ask for something of a tenant, by page.
fn addresses(desk: &Desk, tenant: &str, word: &str) -> Vec<(&'static str, String)> {
    let mut asked: Vec<(&'static str, String)> = Vec::new();
    let mut of = |page: &'static str, queries: &[String]| {
        asked.extend(queries.iter().map(|query| (page, format!("{page}{query}"))));
    };
    let uuid = desk
        .postgres
        .psql(&format!("SELECT audit.tenant_uuid('{tenant}')"));
    let said = |column: &str| format!("{word}+{column}");
    let filters: Vec<String> = [
        String::new(),
        format!("?tenant={tenant}"),
        format!("?tenant={uuid}"),
        format!("?text={word}"),
        format!("?user={}", said("user_id")),
        format!("?request={}", said("request_id")),
        format!("?session={}", said("conversation_id")),
        format!("?model={}", said("model_name")),
        format!("?family={}", said("action_type")),
        format!("?target={}", said("target_id")),
        format!("?tenant={tenant}&since=24h&long=yes&reads=yes"),
        String::from("?before=ffffffff-ffff-ffff-ffff-ffffffffffff"),
        String::from("?after=00000000-0000-0000-0000-000000000000"),
        format!("?tenant={tenant}&after=00000000-0000-0000-0000-000000000000"),
        String::from("?app.current_tenant=beta"),
    ]
    .into();
    of("/", &filters);
    of(
        "/request",
        &[
            format!("?id={}", said("request_id")),
            format!("?id={}&tenant={tenant}", said("request_id")),
            format!("?id={}&tenant={uuid}&from=0", said("request_id")),
        ],
    );
    for (table, id) in desk.records(tenant) {
        of(
            "/record",
            &[
                format!("?kind={table}&id={id}"),
                format!("?kind={table}&id={id}&tenant={tenant}"),
            ],
        );
        of("/raw", &[format!("?kind={table}&id={id}")]);
    }
    for format in ["csv", "jsonl", "ocsf"] {
        of(
            "/export",
            &[
                format!("?format={format}&text={word}&purpose=because"),
                format!(
                    "?format={format}&request={}&purpose=because",
                    said("request_id")
                ),
            ],
        );
    }
    for format in ["csv", "html"] {
        of(
            "/export",
            &[format!("?format={format}&tenant={tenant}&purpose=because")],
        );
    }
    of(
        "/changes",
        &[
            String::new(),
            format!("?tenant={tenant}"),
            format!("?user={}", said("user_id")),
            format!("?table={}", said("target_type")),
            format!("?table={}&key={}", said("target_type"), said("target_id")),
            format!(
                "?table={}&key={}&tenant={tenant}",
                said("target_type"),
                said("target_id")
            ),
        ],
    );
    of(
        "/session",
        &[
            format!("?id={}", said("conversation_id")),
            format!("?id={}&tenant={tenant}", said("conversation_id")),
        ],
    );
    for page in ["/users", "/agents", "/models", "/failures"] {
        of(page, &filters[..4]);
        of(page, &[format!("?tenant={tenant}&range=30d&long=yes")]);
    }
    of("/state", &[String::new(), String::from("?doctor=yes")]);
    asked
}

/// The pages that show no record, or are asked otherwise.
const OTHERS: [&str; 5] = ["/live", "/login", "/logout", "/healthz", "/metrics"];

fn is_shown(answer: &Answer) -> bool {
    answer.status == 200
}

/// Removes what only says again what was asked for.
fn without_asked(body: &str) -> String {
    let asked = ["=", "=\"", "<strong>"];
    asked.iter().fold(body.to_owned(), |body, before| {
        body.replace(&format!("{before}{BETA}"), before)
    })
}

/// Starts with a run of an agent of each tenant, too.
fn desk_with_agents() -> Desk {
    let desk = Desk::new();
    let runs = [("acme", ACME), ("beta", BETA)].map(|(tenant, word)| {
        let columns =
            json!({"action_type": "agent_execution", "target_id": format!("{word} agent")});
        Made::of("events", tenant, columns)
    });
    add(&desk.postgres, &runs);
    desk
}

/// Asks for everything of the other tenant.
fn sees_nothing_of_beta(desk: &Desk, person: &Person<'_>, who: &str) {
    for (_, address) in addresses(desk, "beta", BETA) {
        let before = desk.readings();
        let answer = person.get(&address);
        let said = without_asked(&answer.body);
        assert!(!said.contains(BETA), "{who} at {address}: {}", answer.body);
        if is_shown(&answer) && !address.starts_with("/state") {
            let recorded = recorded_by(&address);
            assert_eq!(desk.readings(), before + recorded, "{who} at {address}");
        }
    }
}

/// Returns how many readings an answer is: of a download, its beginning and its end.
fn recorded_by(address: &str) -> u64 {
    if address.starts_with("/export") { 2 } else { 1 }
}

/// Asks for everything of one's own; so that the test above can fail.
fn sees_all_of(desk: &Desk, person: &Person<'_>, tenant: &str, word: &str, who: &str) {
    let asked = addresses(desk, tenant, word);
    for page in routes()
        .iter()
        .filter(|page| !OTHERS.contains(&page.as_str()))
    {
        let of_page = asked.iter().filter(|(of, _)| of == page);
        let mut is_seen = false;
        let mut is_asked = false;
        for (_, address) in of_page {
            is_asked = true;
            let before = desk.readings();
            let answer = person.get(address);
            is_seen |= is_shown(&answer) && answer.body.contains(word);
            if is_shown(&answer) && page != "/state" {
                let recorded = recorded_by(address);
                assert_eq!(desk.readings(), before + recorded, "{who} at {address}");
            }
        }
        assert!(is_asked, "{page} is asked for nothing here");
        assert!(is_seen || page == "/state", "{who} sees nothing at {page}");
    }
}

#[test]
fn reader_by_a_login_of_postgres_sees_one_tenant() {
    let desk = desk_with_agents();
    let server = desk.serve(&[]);
    let reader = server.log_in("rdr", "acme");
    sees_all_of(&desk, &reader, "acme", ACME, "rdr");
    sees_nothing_of_beta(&desk, &reader, "rdr");
    // Without a tenant there is nothing.
    let reader = server.log_in("rdr", "");
    sees_nothing_of_beta(&desk, &reader, "rdr of no tenant");
    let answer = reader.get("/");
    assert!(
        answer.body.contains("name the tenant when you log in"),
        "{answer:?}"
    );
}

#[test]
fn reader_whom_a_proxy_names_sees_one_tenant() {
    let desk = desk_with_agents();
    let server = desk.serve_proxy();
    let reader = server.as_person("bo");
    sees_all_of(&desk, &reader, "acme", ACME, "bo");
    sees_nothing_of_beta(&desk, &reader, "bo");
    let with = |name, value: &str| {
        let mut person = server.as_person("bo");
        person.headers.push((name, value.to_owned()));
        person
    };
    for (name, value) in [
        (PERSON, "ana"),
        ("X-Forwarded-User", "ana"),
        ("X-Tenant", "beta"),
        ("Cookie", "audit=ana; app.current_tenant=beta"),
        ("Authorization", "Basic YXVkOmF1ZA=="),
        ("X-Groups", "auditors"),
    ] {
        let person = with(name, value);
        assert!(!person.get("/?text=word").body.contains(BETA), "{name}");
        assert!(!person.get("/").body.contains(BETA), "{name}");
    }
}

#[test]
fn auditor_sees_all_by_either_way() {
    let desk = desk_with_agents();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let proxied = desk.serve_proxy();
    let ana = proxied.as_person("ana");
    for (tenant, word) in [("acme", ACME), ("beta", BETA)] {
        sees_all_of(&desk, &auditor, tenant, word, "aud");
        sees_all_of(&desk, &ana, tenant, word, "ana");
    }
    // And of one tenant, if asked so.
    for person in [&auditor, &ana] {
        let body = person.get("/?tenant=acme").body;
        assert!(body.contains(ACME) && !body.contains(BETA), "{body}");
    }
}

#[test]
fn new_records_come_to_whom_they_belong_and_are_recorded() {
    let desk = Desk::new();
    let proxied = desk.serve_proxy();
    let (bo, ana) = (proxied.as_person("bo"), proxied.as_person("ana"));
    let add = || {
        for (tenant, word) in [("beta", "NewBeta"), ("acme", "NewAcme")] {
            desk.postgres.psql(&format!(
                "SET ROLE audit_maintainer; SELECT audit.append_event('x', NULL, NULL, '{word}', NULL, audit.tenant_uuid('{tenant}'), '{{}}')"
            ));
        }
    };
    let heard = bo.listen("/live?tenant=beta", add, "NewAcme");
    assert!(
        !heard.contains("NewBeta") && !heard.contains("NewAcme"),
        "{heard}"
    );
    let heard = bo.listen("/live", add, "NewAcme");
    assert!(
        heard.contains("NewAcme") && !heard.contains("NewBeta"),
        "{heard}"
    );
    let before = desk.count("action_type = 'audit.read' AND metadata ->> 'page' = 'live' AND metadata ->> 'reader' = 'ana'");
    assert_eq!(before, 0);
    let heard = ana.listen("/live", add, "NewAcme");
    assert!(
        heard.contains("NewAcme") && heard.contains("NewBeta"),
        "{heard}"
    );
    let after = desk.count("action_type = 'audit.read' AND metadata ->> 'page' = 'live' AND metadata ->> 'reader' = 'ana' AND metadata ->> 'records' <> '0'");
    assert!(after >= 1);
}

#[test]
fn reading_says_who_asked_for_what_and_how_many() {
    let desk = Desk::new();
    let proxied = desk.serve_proxy();
    proxied
        .as_person("ana")
        .get("/?user=AcmeWord+user_id&kind=events");
    let told = desk.postgres.psql(
        "SELECT user_id, metadata ->> 'reader', metadata ->> 'way', metadata ->> 'page', metadata ->> 'filter', metadata ->> 'records', input_summary
        FROM audit.events WHERE action_type = 'audit.read'",
    );
    assert_eq!(
        told,
        "serve|ana|proxy|trail|kind=events&user=AcmeWord%20user_id|2|the page trail"
    );
}

#[test]
fn what_cannot_be_recorded_is_not_shown() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    assert!(auditor.get("/").body.contains(ACME));
    desk.postgres.psql(
        "REVOKE EXECUTE ON FUNCTION audit.record_reading(text, text, uuid, jsonb) FROM audit_auditor",
    );
    for (page, address) in addresses(&desk, "acme", ACME) {
        let answer = auditor.get(&address);
        // A page that has nothing to show of it needs no record.
        assert!(answer.status >= 400, "{page} {address}: {}", answer.status);
        assert!(
            !answer.body.contains(&format!("{ACME} ")),
            "{address}: {}",
            answer.body
        );
    }
    let heard = auditor.listen("/live", || desk.add("acme", "NewWord"), "event: end");
    assert!(!heard.contains("NewWord"), "{heard}");
}

#[test]
fn who_reads_all_rows_says_what_a_download_is_for() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let whys = || {
        desk.postgres.psql(
            "SELECT string_agg(DISTINCT input_summary, ',') FROM audit.events WHERE action_type = 'audit.read' AND metadata ? 'format'",
        )
    };
    let (ana, bo) = (server.as_person("ana"), server.as_person("bo"));
    for purpose in [
        "",
        "&purpose=",
        "&purpose=+%20",
        "&purpose=%E2%80%8B",
        "&purpose=a%00b",
    ] {
        let before = desk.readings();
        let answer = ana.get(&format!("/export?format=csv{purpose}"));
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(desk.readings(), before);
    }
    assert!(ana.get("/export?format=csv").body.contains("What for?"));
    let long = "x".repeat(5_000);
    let answer = ana.get(&format!("/export?format=csv&purpose={long}"));
    assert_eq!(answer.status, 400, "{answer:?}");
    for page in ["/", "/request?id=AcmeWord+request_id"] {
        assert!(ana.get(page).body.contains("name=\"purpose\""), "{page}");
        assert!(!bo.get(page).body.contains("name=\"purpose\""), "{page}");
    }
    let answer = ana.get("/export?format=csv&purpose=case+7");
    assert!(answer.status == 200 && answer.body.contains(ACME));
    assert_eq!(whys(), "case 7");
    // A reader of one tenant need not.
    let answer = bo.get("/export?format=csv");
    assert!(answer.status == 200 && answer.body.contains(ACME));
    assert_eq!(whys(), "a download from the page,case 7");
}
