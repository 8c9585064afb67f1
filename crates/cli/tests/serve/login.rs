//! The ways in, and who is not let in.

use std::time::{Duration, Instant};

use super::desk::{ACME, Answer, Desk, Server, program};

fn refusals(desk: &Desk) -> String {
    desk.postgres.psql(
        "SELECT target_id, status, metadata ->> 'event', metadata ->> 'source' FROM audit.events
        WHERE action_type = 'security' AND service_name = 'postgres' ORDER BY id",
    )
}

#[test]
fn wrong_logins_are_refused_slowed_and_recorded() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let try_it = |login, password| server.try_login(login, password, "");
    assert_eq!(try_it("aud", "wrong").status, 401);
    assert_eq!(try_it("no_such_login", "x").status, 401);
    assert_eq!(try_it("aud", "").status, 401);
    // The same word for all: no login is told from another.
    let said = |answer: Answer| answer.body.contains("Login and password do not fit");
    let begun = Instant::now();
    assert!(said(try_it("aud", "wrong again")));
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // Their own right is lacking.
    let answer = try_it("nobody", "nobody");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("may not read the trail"), "{answer:?}");
    let recorded = refusals(&desk);
    let expected: Vec<String> = ["aud", "no_such_login", "aud", "aud", "nobody"]
        .map(|login| format!("{login}|rejected|login_refused|127.0.0.1"))
        .into();
    assert_eq!(recorded.lines().collect::<Vec<_>>(), expected);
    assert!(!recorded.contains("wrong"));
}

#[test]
fn login_whose_password_nobody_checks_is_refused() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    // The tests' own rule is `trust`: postgres comes in with any password.
    let answer = server.try_login("postgres", "anything", "");
    assert_eq!(answer.status, 403);
    assert!(
        answer.body.contains("lets this login in with any password"),
        "{answer:?}"
    );
    assert_eq!(answer.header("set-cookie"), None);
    assert!(refusals(&desk).starts_with("postgres|rejected"));
}

#[test]
fn session_is_a_cookie_that_no_script_and_no_other_site_has() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let answer = server.try_login("aud", "aud", "");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("audit=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let behind_tls = desk.serve(&["--public-url", "https://audit.example.com"]);
    let form = "login=aud&password=aud&next=/";
    let answer = behind_tls.ask("POST", "/login", &[("Host", "audit.example.com")], form);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-audit=") && cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"),
        "{cookie}"
    );
    // A guess is none.
    for guess in ["audit=", "audit=0000", "audit=../../etc", "audit"] {
        assert_eq!(server.ask("GET", "/", &[("Cookie", guess)], "").status, 303);
    }
}

#[test]
fn log_out_ends_the_session_and_needs_a_form_of_its_page() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let auditor = server.log_in("aud", "");
    let page = auditor.get("/").body;
    let (_, csrf) = page.split_once("name=\"csrf\" value=\"").unwrap();
    let (csrf, _) = csrf.split_once('"').unwrap();
    for forged in ["", "csrf=", "csrf=0000", &format!("csrf={csrf}0")] {
        assert_eq!(auditor.post("/logout", forged).status, 403, "{forged}");
    }
    assert_eq!(auditor.get("/").status, 200);
    assert_eq!(auditor.post("/logout", &format!("csrf={csrf}")).status, 303);
    assert_eq!(auditor.get("/").status, 303);
    assert_eq!(auditor.get("/live").status, 401);
}

#[test]
fn sessions_end_by_themselves() {
    let desk = Desk::new();
    let idle = desk.serve(&["--session-idle", "1s"]);
    let auditor = idle.log_in("aud", "");
    assert_eq!(auditor.get("/").status, 200);
    let over = |person: &super::desk::Person<'_>| {
        let answer = person.get("/?user=ana");
        answer.status == 303 && answer.header("location") == Some("/login?next=%2F%3Fuser%3Dana")
    };
    std::thread::sleep(Duration::from_millis(1_100));
    assert!(over(&auditor));
    let whole = desk.serve(&["--session-max", "2s"]);
    let auditor = whole.log_in("aud", "");
    testkit::wait_until("the session is over", Duration::from_secs(5), || {
        over(&auditor)
    });
    // The stream of new records ends with it.
    let auditor = whole.log_in("aud", "");
    let heard = auditor.listen("/live", || {}, "event: end");
    assert!(heard.contains("Your session is over"), "{heard}");
}

#[test]
fn only_this_server_and_its_own_forms_are_answered() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let form = "login=aud&password=aud&next=/";
    for host in [
        "evil.example",
        "localhost",
        "127.0.0.1:1",
        "127.0.0.1.evil.example",
        "",
    ] {
        let answer = server.ask("GET", "/login", &[("Host", host)], "");
        assert_eq!(answer.status, 421, "{host}");
    }
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = server.ask("POST", "/login", &[(name, value)], form);
        assert_eq!(answer.status, 403, "{name}: {value}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    let own = format!("http://{}", server.address);
    let answer = server.ask(
        "POST",
        "/login",
        &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
        form,
    );
    assert_eq!(answer.status, 303);
    // No way leads to another site.
    for next in [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aSet-Cookie:x",
    ] {
        let form = format!("login=aud&password=aud&next={}", next.replace('%', "%25"));
        let answer = server.ask("POST", "/login", &[], &form);
        let location = answer.header("location").unwrap();
        assert!(
            location == "/" || location == "/%0d%0aSet-Cookie:x",
            "{next}: {location}"
        );
    }
}

#[test]
fn header_is_trusted_from_the_proxy_alone() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let ask = |headers: &[(&str, &str)]| server.ask("GET", "/", headers, "");
    let secret = ("X-Audit-Proxy-Secret", "a secret of the proxy");
    for headers in [
        &[("X-Person", "ana")][..],
        &[
            ("X-Person", "ana"),
            ("X-Audit-Proxy-Secret", "another secret, wrong"),
        ],
        &[("X-Person", "ana"), secret, ("X-Audit-Proxy-Secret", "x")],
        &[secret],
        &[("X-Person", ""), secret],
        &[("X-Person", "bo"), ("X-Person", "ana"), secret],
        &[("X-Person", "carl"), secret],
        &[("X-Person", "auditors"), secret],
        &[("X-Person", "group:auditors"), secret],
    ] {
        let answer = ask(headers);
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(!answer.body.contains(ACME));
    }
    assert_eq!(ask(&[("X-Person", "ana"), secret]).status, 200);
    // There is no form beside it.
    assert_eq!(server.ask("GET", "/login", &[], "").status, 404);
    assert_eq!(server.try_login("aud", "aud", "").status, 404);
    let by_address = desk.serve(&[
        "--trust-header",
        "X-Person",
        "--trust-from",
        "192.0.2.1",
        "--auditor",
        "ana",
    ]);
    let answer = by_address.ask(
        "GET",
        "/",
        &[("X-Person", "ana"), ("X-Forwarded-For", "192.0.2.1")],
        "",
    );
    assert_eq!(answer.status, 403);
}

#[test]
fn server_does_not_start_where_passwords_would_be_read_or_anybody_let_in() {
    let run = |arguments: &[&str]| {
        let output = program()
            .args(["--url", "postgres://serve@127.0.0.1:1/audit", "serve"])
            .args(arguments)
            .env_remove("PROXY_SECRET")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for (arguments, said) in [
        (&["--listen", "0.0.0.0:0"][..], "--public-url"),
        (
            &[
                "--listen",
                "0.0.0.0:0",
                "--public-url",
                "http://audit.example.com",
            ],
            "with TLS",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--public-url",
                "audit.example.com",
            ],
            "--public-url",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--public-url",
                "https://a.example/path",
            ],
            "--public-url",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--trust-header",
                "X-Person",
                "--auditor",
                "ana",
            ],
            "--trust-from",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--trust-header",
                "X-Person",
                "--trust-from",
                "127.0.0.1",
            ],
            "who may read",
        ),
        (
            &["--listen", "127.0.0.1:0", "--auditor", "ana"],
            "--trust-header",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--trust-header",
                "X-Person",
                "--trust-secret-env",
                "PROXY_SECRET",
                "--auditor",
                "ana",
            ],
            "PROXY_SECRET",
        ),
    ] {
        let (code, told) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {told}");
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
}

#[test]
fn refusal_that_cannot_be_recorded_is_told_to_the_operator() {
    let desk = Desk::new();
    let url = format!(
        "postgres://nobody:nobody@127.0.0.1:{}/audit",
        desk.postgres.port()
    );
    let server = Server::start(&url, &[]);
    assert_eq!(server.try_login("aud", "wrong", "").status, 401);
    let told = server.told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(told.contains("could not be recorded"), "{told}");
    assert!(!told.contains("wrong"));
    assert_eq!(server.try_login("aud", "aud", "").status, 303);
}

#[test]
fn watchers_are_answered_without_a_login_and_told_no_record() {
    let mut desk = Desk::new();
    let server = desk.serve(&[]);
    assert_eq!(
        server
            .ask("GET", "/healthz", &[("Host", "10.0.0.7:8417")], "")
            .body,
        "ok\n"
    );
    let answer = server.ask("GET", "/metrics", &[], "");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(answer.body.contains("tracing_audit_up 1"), "{answer:?}");
    assert!(!answer.body.contains(ACME));
    // With an address beyond this machine, for whoever has the token alone.
    let host = ("Host", "audit.example.com");
    let public = desk.serve(&["--public-url", "https://audit.example.com"]);
    assert_eq!(public.ask("GET", "/metrics", &[host], "").status, 404);
    let public = desk.serve(&[
        "--public-url",
        "https://audit.example.com",
        "--metrics-token-env",
        "PROXY_SECRET",
    ]);
    for (token, status) in [
        ("Bearer a secret of the proxy", 200),
        ("Bearer x", 404),
        ("a secret of the proxy", 404),
    ] {
        assert_eq!(
            public
                .ask("GET", "/metrics", &[host, ("Authorization", token)], "")
                .status,
            status
        );
    }
    assert_eq!(public.ask("GET", "/metrics", &[host], "").status, 404);
    desk.postgres.stop(testkit::Stop::Immediate);
    let down = desk.serve(&[]);
    assert!(
        down.ask("GET", "/metrics", &[], "")
            .body
            .contains("tracing_audit_up 0")
    );
    assert_eq!(down.ask("GET", "/healthz", &[], "").body, "ok\n");
}
