//! What the pages show, by plain HTTP.

use super::desk::{ACME, Desk, Person};

/// Fills the trail with queries of one user, a second apart.
fn fill(desk: &Desk, many: u32) {
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica;
        INSERT INTO audit.query_runs (id, tenant_id, user_id, request_id, question_text, status, started_at, finished_at, duration_ms, metadata, writer_id, seq, salt)
        SELECT (left(audit.id_at(at)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3) || '-' || substr(md5(n::text), 7, 12))::uuid,
            audit.tenant_uuid('acme'), 'filler', 'fill-' || n, 'question number ' || n || ' of many', 'succeeded', at, at, 0, '{{}}', '00000000-0000-4000-8000-000000000001', n, '\\x00'
        FROM (SELECT n, now() - n * interval '1 second' AS at FROM generate_series(1, {many}) AS n) AS times"
    ));
}

/// Returns the numbers of the questions on a page.
fn numbers(body: &str) -> Vec<u32> {
    let parts = body.split("question number ").skip(1);
    parts
        .map(|part| part.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

/// Returns the address of a link by its text.
fn link(body: &str, text: &str) -> Option<String> {
    let (before, _) = body.split_once(&format!("{text}</a>"))?;
    let (_, href) = before.rsplit_once("href=\"")?;
    let (href, _) = href.split_once('"')?;
    Some(href.replace("&amp;", "&"))
}

/// Follows a link from page to page.
fn walk(person: &Person<'_>, from: &str, text: &str) -> Vec<Vec<u32>> {
    let mut pages = Vec::new();
    let mut next = Some(from.to_owned());
    while let Some(address) = next {
        let answer = person.get(&address);
        assert_eq!(answer.status, 200, "{answer:?}");
        pages.push(numbers(&answer.body));
        next = link(&answer.body, text);
        assert!(pages.len() < 100);
    }
    pages
}

#[test]
fn pages_of_the_trail_have_each_record_once_in_both_directions() {
    let desk = Desk::new();
    fill(&desk, 230);
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let pages = walk(&auditor, "/?user=filler", "Older →");
    let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [50, 50, 50, 50, 30]);
    let all: Vec<u32> = pages.concat();
    assert_eq!(all, (1..=230).collect::<Vec<_>>());
    // And back from the last one.
    let oldest = desk
        .postgres
        .psql("SELECT id FROM audit.query_runs WHERE user_id = 'filler' ORDER BY id LIMIT 1");
    let back = walk(
        &auditor,
        &format!("/?user=filler&before={oldest}&after={oldest}"),
        "← Newer",
    );
    let mut all: Vec<u32> = back.into_iter().rev().flatten().collect();
    all.dedup();
    assert_eq!(all, (1..230).collect::<Vec<_>>());
}

#[test]
fn filters_find_what_they_name() {
    let desk = Desk::new();
    fill(&desk, 20);
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let count = |query: &str| {
        let answer = auditor.get(&format!("/?{query}"));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.body.matches("<tr><td>").count()
    };
    assert_eq!(count(""), 30);
    assert_eq!(count("user=filler"), 20);
    assert_eq!(count("text=NUMBER+7+of"), 1);
    assert_eq!(count("text=%25"), 0);
    assert_eq!(count("request=fill-3"), 1);
    assert_eq!(count("status=failed"), 10);
    assert_eq!(count("status=failed&tenant=acme"), 5);
    assert_eq!(count("kind=query_runs&kind=events"), 26);
    assert_eq!(count("kind=query_runs&status=failed&status=succeeded"), 22);
    assert_eq!(count("family=change"), 2);
    assert_eq!(count("target=AcmeWord+target_id"), 3);
    assert_eq!(count("session=AcmeWord+conversation_id"), 5);
    assert_eq!(count("model=AcmeWord+model_name"), 1);
    assert_eq!(count("since=1h"), 30);
    assert_eq!(count("since=2099-01-01"), 0);
    assert_eq!(count("until=1h"), 0);
    assert_eq!(count("reads=yes&family=audit.read&since=1h"), 16);
    for bad in [
        "usr=x",
        "since=whenever",
        "status=fine",
        "kind=tables",
        "before=1",
        "user=%00",
        "user=a&user=b",
    ] {
        let answer = auditor.get(&format!("/?{bad}"));
        assert!(
            answer.status == 400 || answer.status == 404,
            "{bad}: {answer:?}"
        );
    }
}

#[test]
fn every_answer_has_the_headers_that_keep_a_browser_safe() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    for address in [
        "/",
        "/login",
        "/no/such/page",
        "/record",
        "/?usr=1",
        "/request?id=none",
        "/state",
    ] {
        let answer = auditor.get(address);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{address}"
        );
        assert_eq!(
            answer.header("cache-control"),
            Some("no-store"),
            "{address}"
        );
        for inline in [
            " style=",
            "<style",
            "onclick",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!answer.body.contains(inline), "{address}: {inline}");
        }
        assert!(
            !answer
                .body
                .replace("<script src=\"/assets/", "")
                .contains("<script"),
            "{address}"
        );
    }
}

#[test]
fn first_load_is_small() {
    let desk = Desk::new();
    fill(&desk, 100);
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let page = auditor.get("/").body;
    let assets = page.split("/assets/").skip(1);
    let assets = assets.map(|part| format!("/assets/{}", part.split('"').next().unwrap()));
    let sizes: Vec<usize> = assets
        .map(|asset| {
            let answer = auditor.get(&asset);
            assert_eq!(answer.status, 200, "{asset}");
            assert!(
                answer
                    .header("cache-control")
                    .unwrap()
                    .contains("immutable")
            );
            answer.body.len()
        })
        .collect();
    assert_eq!(sizes.len(), 3);
    let whole = page.len() + sizes.iter().sum::<usize>();
    assert!(whole <= 60_000, "{whole}");
}

#[test]
fn hostile_texts_are_shown_as_what_they_are() {
    let desk = Desk::new();
    let id = "01890000-0000-7000-8000-00000000000a";
    let fields: Vec<String> = (0..10_000).map(|n| format!("'field {n}', {n}")).collect();
    // A function takes 100 arguments at most.
    let objects: Vec<String> = fields
        .chunks(40)
        .map(|fields| format!("jsonb_build_object({})", fields.join(", ")))
        .collect();
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica;
        INSERT INTO audit.query_runs (id, request_id, question_text, sql_text, status, started_at, metadata, writer_id, seq, salt)
        VALUES ('{id}', 'hostile', E'<img src=x onerror=alert(1)> \\u202Egnp.exe \\u200b \\u0007 https://evil.example/ &amp;',
            repeat('<b>x</b> ', 120000), 'failed', '2023-06-28T00:00Z', {}, '00000000-0000-4000-8000-000000000001', 1, '\\x00')",
        objects.join(" || ")
    ));
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    for address in [
        "/?request=hostile",
        "/request?id=hostile",
        &format!("/record?kind=query_runs&id={id}"),
    ] {
        let body = auditor.get(address).body;
        assert!(
            body.contains("&lt;img src=x onerror=alert(1)&gt;"),
            "{address}"
        );
        assert!(!body.contains("<img") && !body.contains("<b>"), "{address}");
        assert!(
            body.contains("<span class=\"unseen\">U+202E</span>gnp.exe"),
            "{address}"
        );
        assert!(
            body.contains("<span class=\"unseen\">U+200B</span>"),
            "{address}"
        );
        assert!(
            !body.contains('\u{202e}') && !body.contains('\u{200b}') && !body.contains('\u{7}'),
            "{address}"
        );
        // Links in content are text.
        assert!(!body.contains("href=\"https://"), "{address}");
        assert!(body.len() < 3_000_000, "{address}: {}", body.len());
    }
    let record = auditor
        .get(&format!("/record?kind=query_runs&id={id}"))
        .body;
    assert!(record.contains("more fields"), "the fields are cut");
    let raw = link(&record, "The whole row").expect("a way to the whole");
    let answer = auditor.get(&raw);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer
            .header("content-disposition")
            .unwrap()
            .starts_with("attachment")
    );
    assert!(answer.body.contains("field 9999") && answer.body.len() > 1_000_000);
}

#[test]
fn story_is_a_tree_with_every_text() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let body = auditor
        .get(&format!("/request?id={ACME}+request_id&tenant=acme"))
        .body;
    for text in [
        "question_text",
        "sql_text",
        "rendered_prompt",
        "response_text",
        "error_message",
        "problem",
        "redaction",
        "input_summary",
    ] {
        assert!(body.contains(&format!("{ACME} {text}")), "{text}");
    }
    assert_eq!(body.matches("<svg class=\"fall\"").count(), 5);
}

#[test]
fn state_tells_of_the_last_verification() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let state = || server.as_person("ana").get("/state").body;
    assert!(state().contains("None was recorded"), "{}", state());
    // A program may write such an event, which is no verification.
    desk.postgres.psql(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, action_type, status, service_name, user_id, created_at, writer_id, seq, salt)
        VALUES (audit.id_at(now()), 'audit.verify', 'succeeded', 'postgres', 'forger', now(), '00000000-0000-4000-8000-000000000009', 1, '\\x00');
        INSERT INTO audit.writers (writer_id, login, secret_sha256, service_name) VALUES ('00000000-0000-4000-8000-000000000009', 'app', sha256('x'), 'postgres');
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, service_name, library_version)
        VALUES ('00000000-0000-4000-8000-000000000009', 1, 1, '{\"events\": 1}', 0, audit.id_at(now()), audit.id_at(now()), 'postgres', 'test')",
    );
    // Or have a table of its own whose changes are called so.
    desk.postgres.psql(
        "CREATE SCHEMA app; CREATE TABLE app.v (findings int PRIMARY KEY, rows int);
        SELECT audit.track('app.v', action_type => 'audit.verify');
        BEGIN; SELECT set_config('app.user_id', 'forger', true); INSERT INTO app.v VALUES (0, 1); COMMIT",
    );
    let forged = "action_type = 'audit.verify' AND user_id = 'forger'";
    assert_eq!(desk.count(forged), 2);
    assert!(state().contains("None was recorded"), "{}", state());
    let verify = |login: &str| {
        let url = format!(
            "postgres://{login}:{login}@127.0.0.1:{}/audit",
            desk.postgres.port()
        );
        let mut command = super::desk::program();
        let output = command.args(["--url", &url, "verify", "--record"]).output();
        output.unwrap()
    };
    let verified = verify("aud");
    let code = verified.status.code();
    assert!(matches!(code, Some(0 | 1)), "{verified:?}");
    let page = state();
    assert!(!page.contains("None was recorded"), "{page}");
    let (_, of_it) = page.split_once("Last verification").unwrap();
    let (of_it, _) = of_it.split_once("</table>").unwrap();
    let outcome = if code == Some(0) {
        "succeeded"
    } else {
        "failed"
    };
    assert!(
        of_it.contains(">aud<") && of_it.contains(outcome),
        "{of_it}"
    );
    // A reader of one tenant does not verify.
    let refused = verify("rdr");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
