//! Who reads what.

use std::time::Instant;

use serde_json::json;
use testkit::wait_until;

use super::*;
use provider::{Algorithm, Mistake};

/// Each page with what may be asked of it, and whether an auditor finds the other tenant's record there.
const PAGES: [(&str, bool); 24] = [
    ("/", true),
    ("/?tenant=beta", true),
    ("/?tenant=", true),
    ("/?tenant=acme&tenant=beta", false),
    ("/?user=user-beta", true),
    ("/?request=req-beta", true),
    ("/?text=thing", true),
    ("/?kind=query_run", true),
    ("/?reads=yes", true),
    ("/record?kind=events&id={beta}", true),
    ("/record?kind=events&id={beta}&tenant=beta", true),
    ("/record?kind=query_runs&id={beta-query}", true),
    ("/raw?kind=events&id={beta}", true),
    ("/raw?kind=events&id={beta}&tenant=beta", true),
    ("/request?id=req-beta", true),
    ("/request?id=req-beta&tenant=beta", true),
    ("/users?tenant=beta", false),
    ("/agents?tenant=beta", false),
    ("/models?tenant=beta", false),
    ("/failures?tenant=beta", false),
    ("/session?id=beta&tenant=beta", false),
    ("/changes", false),
    ("/changes?tenant=beta", false),
    ("/state", false),
];

#[test]
fn auditor_reads_all_and_reader_one_tenant_on_every_page() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    let id = |table: &str| {
        let sql = format!("SELECT id FROM audit.{table} WHERE request_id = 'req-beta'");
        postgres.psql(&sql)
    };
    let (event, query) = (id("events"), id("query_runs"));

    provider.says(&auditor());
    let mut auditor = Browser::default();
    page.log_in(&mut auditor);
    provider.says(&reader());
    let mut reader = Browser::default();
    page.log_in(&mut reader);

    for (path, is_found) in PAGES {
        let path = path
            .replace("{beta}", &event)
            .replace("{beta-query}", &query);
        let seen = auditor.open(&page.at(&path));
        let says = |answer: &Answer| answer.body.contains("thing-of-beta");
        if is_found {
            assert!(
                says(&seen),
                "the auditor misses it at {path}: {}",
                seen.body
            );
        }
        let seen = reader.open(&page.at(&path));
        assert!(!says(&seen), "the reader finds it at {path}: {}", seen.body);
    }
    // So that the reader's pages are not just empty.
    let own = reader.open(&page.at("/")).body;
    assert!(
        own.contains("thing-of-acme") && !own.contains("thing-of-beta"),
        "{own}"
    );
    assert!(own.contains("reader@corp.example (tenant acme)"), "{own}");
    let all = auditor.open(&page.at("/")).body;
    assert!(all.contains("thing-of-acme") && all.contains("thing-of-beta"));

    // A header or a cookie of the reader's own changes nothing.
    let mut stranger = Browser::default();
    for (key, _) in reader.cookies.clone() {
        stranger.cookies.insert(key, "0".repeat(64));
    }
    assert_eq!(stranger.open(&page.at("/")).status, 303);

    // Each reading names the person and the way.
    let readers = postgres.psql(
        "SELECT DISTINCT concat_ws(' ', metadata ->> 'reader', metadata ->> 'way') FROM audit.events
            WHERE action_type = 'audit.read' ORDER BY 1",
    );
    assert_eq!(
        readers,
        "auditor@corp.example openid\nreader@corp.example openid"
    );
    assert_eq!(refused(&postgres), [""; 0]);
}

#[test]
fn stream_shows_a_reader_no_record_of_another_tenant() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    provider.says(&reader());
    let mut reader = Browser::default();
    page.log_in(&mut reader);
    let add = |first: u8, tenant: &str| {
        postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
                SELECT '00000000-0000-7000-8000-00000000000b', {first}, {first}, '{{\"events\": 1}}', 0, id, id, 'test' FROM (SELECT audit.id_at(now()) AS id) v;
            INSERT INTO audit.events (id, tenant_id, action_type, target_id, status, created_at, metadata, writer_id, seq, salt)
                SELECT audit.id_at(now()), audit.tenant_uuid('{tenant}'), 'answer', 'later{tenant}', 'succeeded', now(),
                    jsonb_build_object('tenant_key', '{tenant}'), '00000000-0000-7000-8000-00000000000b', {first}, ''",
        ));
    };
    let came = reader.stream(
        &page.at("/live"),
        || {
            // The stream shows what comes after its first look.
            let mut n = 0;
            wait_until("the page's connection looks", PATIENCE, || {
                n += 1;
                postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'page' AND state = 'idle'") != "0" && n > 100
            });
            add(1, "beta");
            add(2, "acme");
        },
        "lateracme",
    );
    assert!(came.contains("lateracme"), "{came}");
    assert!(!came.contains("laterbeta"), "{came}");
}

#[test]
fn person_is_known_by_claims_of_the_token_or_of_the_provider() {
    let postgres = database();
    let provider = Provider::start(Some(SECRET));
    let secret = ["--oidc-client-secret-env=CLIENT_SECRET"];
    let page = Page::start(&postgres, &provider.issuer, &[&RULES[..], &secret].concat());
    let set = |claims: Value, besides: Value| {
        let mut script = provider.script.lock().unwrap();
        (script.claims, script.besides) = (claims, besides);
    };
    let whose = || {
        let mut browser = Browser::default();
        page.log_in(&mut browser);
        let body = browser.open(&page.at("/state")).body;
        let (_, from) = body
            .split_once("<span>")
            .filter(|_| body.contains("class=\"who\""))
            .unwrap();
        let who = body
            .split_once("class=\"who\"")
            .map_or(from, |(_, who)| who);
        let who = who.split_once("<span>").unwrap().1;
        who.split_once("</span>").unwrap().0.to_owned()
    };

    // Another algorithm, and all in the token.
    provider.script.lock().unwrap().algorithm = Algorithm::Es256;
    set(auditor(), json!({}));
    assert_eq!(whose(), "auditor@corp.example (all tenants)");
    provider.script.lock().unwrap().algorithm = Algorithm::Rs256;

    // The provider tells the address only when asked for it.
    set(json!({ "sub": "2" }), reader());
    assert_eq!(whose(), "reader@corp.example (tenant acme)");

    // Groups, of the token and of the provider; an auditor before a reader.
    let sue = |groups: Value| json!({ "sub": "3", "email": "sue@corp.example", "email_verified": true, "groups": groups });
    set(sue(json!(["x", "support"])), json!({}));
    assert_eq!(whose(), "sue@corp.example (tenant beta)");
    set(sue(json!("auditors")), json!({}));
    assert_eq!(whose(), "sue@corp.example (all tenants)");
    let bare = json!({ "sub": "3", "email": "sue@corp.example", "email_verified": true });
    set(bare, json!({ "groups": ["support", "auditors"] }));
    assert_eq!(whose(), "sue@corp.example (all tenants)");

    // By another claim than the address.
    let more = [
        "--oidc-name-claim=sub",
        "--oidc-groups-claim=roles",
        "--auditor=17",
        "--reader=group:r=acme",
    ];
    let page = Page::start(&postgres, &provider.issuer, &[&more[..], &secret].concat());
    set(json!({ "sub": "17" }), json!({}));
    let mut browser = Browser::default();
    page.log_in(&mut browser);
    assert!(
        browser
            .open(&page.at("/state"))
            .body
            .contains("17 (all tenants)")
    );
    set(json!({ "sub": "18", "roles": ["r"] }), json!({}));
    page.log_in(&mut browser);
    assert!(
        browser
            .open(&page.at("/state"))
            .body
            .contains("18 (tenant acme)")
    );
    assert_eq!(refused(&postgres), [""; 0]);
}

#[test]
fn keys_are_kept_and_fetched_once_more_when_one_is_unknown() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    provider.says(&auditor());
    let mut browser = Browser::default();
    assert_eq!(provider.count("/keys"), 0, "asked before anybody logs in");
    page.log_in(&mut browser);
    page.log_in(&mut browser);
    assert_eq!(provider.count("/keys"), 1);
    provider.script.lock().unwrap().key = 1;
    page.log_in(&mut browser);
    page.log_in(&mut browser);
    assert_eq!(provider.count("/keys"), 2);
    provider.makes(Mistake::OtherKey);
    assert_eq!(page.try_login(&mut browser).status, 403);
    assert_eq!(provider.count("/keys"), 3);
}

#[test]
fn session_ends_by_its_button_and_after_the_longest_time() {
    let postgres = database();
    let provider = Provider::start(None);
    let more = ["--session-max=3s"];
    let page = Page::start(&postgres, &provider.issuer, &[&RULES[..], &more].concat());
    provider.says(&auditor());
    let mut browser = Browser::default();
    page.log_in(&mut browser);
    let body = browser.open(&page.at("/")).body;
    let (_, from) = body.split_once("name=\"csrf\" value=\"").unwrap();
    let csrf = from.split_once('"').unwrap().0.to_owned();
    assert_eq!(browser.post(&page.at("/logout"), "csrf=0").status, 403);
    let kept = browser.cookies.clone();
    let out = browser.post(&page.at("/logout"), &format!("csrf={csrf}"));
    assert_eq!((out.status, out.location()), (303, "/login"));
    // Neither the browser nor anybody who has its cookie.
    browser.cookies = kept;
    assert_eq!(browser.open(&page.at("/")).location(), "/login?next=%2F");
    // Nobody is sent to the provider by themselves.
    let asked = provider.count("/authorize");
    let shown = browser.open(&page.at("/login"));
    assert_eq!(shown.status, 200);
    assert!(
        shown.body.contains("Log in with 127.0.0.1"),
        "{}",
        shown.body
    );
    assert_eq!(provider.count("/authorize"), asked);
    // There is no form for passwords.
    assert_eq!(
        browser
            .post(&page.at("/login"), "login=page&password=x")
            .status,
        405
    );

    let begun = Instant::now();
    page.log_in(&mut browser);
    wait_until("the session ends, though it is used", PATIENCE, || {
        browser.open(&page.at("/state")).status == 303
    });
    assert!(begun.elapsed() >= Duration::from_secs(3));
}
