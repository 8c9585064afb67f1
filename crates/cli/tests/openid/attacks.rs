//! What must let nobody in.

use super::*;
use provider::Mistake;

/// What the provider, or somebody in its place, does wrong; the status and the reason that is recorded.
const MISTAKES: [(Mistake, u16, &str); 26] = [
    (Mistake::Denies, 403, "provider"),
    (Mistake::OtherState, 403, "state"),
    (Mistake::NoState, 403, "state"),
    (Mistake::TwoStates, 403, "state"),
    (Mistake::OtherAnswers, 403, "issuer"),
    (Mistake::NoCode, 403, "code"),
    (Mistake::NoToken, 403, "token"),
    (Mistake::Nonsense, 403, "token"),
    (Mistake::OtherNonce, 403, "nonce"),
    (Mistake::NoNonce, 403, "nonce"),
    (Mistake::OtherAudience, 403, "audience"),
    (Mistake::TwoAudiences, 403, "audience"),
    (Mistake::OtherParty, 403, "audience"),
    (Mistake::OtherIssuer, 403, "issuer"),
    (Mistake::Expired, 403, "expired"),
    (Mistake::Forged, 403, "signature"),
    (Mistake::OtherKey, 403, "signature"),
    (Mistake::OtherKeySameName, 403, "signature"),
    (Mistake::AlgNone, 403, "signature"),
    (Mistake::PublicAsSecret, 403, "signature"),
    (Mistake::ClientSecret, 403, "signature"),
    (Mistake::OtherAccess, 403, "token"),
    // The provider's own failures are no refused logins.
    (Mistake::NoClient, 503, ""),
    (Mistake::Away, 503, ""),
    (Mistake::Broken, 503, ""),
    (Mistake::Page, 503, ""),
];

/// What no answer to a stranger says.
const SECRETS: [&str; 8] = [
    SECRET,
    CLIENT,
    "gotcha",
    "at_hash",
    "the-access-token",
    "thing-of",
    "corp.example",
    "invalid_",
];

#[track_caller]
fn assert_nobody(page: &Page, browser: &mut Browser, answer: &Answer) {
    assert!(
        !answer
            .all("set-cookie")
            .any(|cookie| cookie.starts_with("audit=")),
        "{answer:?}"
    );
    for secret in SECRETS {
        assert!(
            !answer.body.contains(secret),
            "says {secret}: {}",
            answer.body
        );
    }
    assert_eq!(browser.open(&page.at("/")).status, 303, "is let in");
}

#[test]
fn wrong_answers_of_the_provider_let_nobody_in_and_are_recorded() {
    let postgres = database();
    let provider = Provider::start(Some(SECRET));
    let secret = ["--oidc-client-secret-env=CLIENT_SECRET"];
    let page = Page::start(&postgres, &provider.issuer, &[&RULES[..], &secret].concat());
    provider.says(&auditor());
    let mut expected = Vec::new();
    for (mistake, status, why) in MISTAKES {
        // Who comes in ends the slowing, and proves that nothing is broken for the others.
        provider.makes(Mistake::None);
        page.log_in(&mut Browser::default());

        let mut browser = Browser::default();
        // Before the provider's answers are fetched, and after.
        let is_early = matches!(
            mistake,
            Mistake::Denies
                | Mistake::OtherState
                | Mistake::NoState
                | Mistake::TwoStates
                | Mistake::OtherAnswers
        );
        if is_early {
            provider.makes(mistake);
        }
        let back = page.begin(&mut browser, "/");
        provider.makes(mistake);
        let answer = browser.open(&back);
        assert_eq!(answer.status, status, "{mistake:?}: {answer:?}");
        assert_nobody(&page, &mut browser, &answer);
        if !why.is_empty() {
            expected.push(format!("(none) {why} openid"));
        }
        assert_eq!(refused(&postgres), expected, "{mistake:?}");
        // The same again is no way in either: the state is gone.
        provider.makes(Mistake::None);
        page.log_in(&mut Browser::default());
        let again = browser.open(&back);
        assert_eq!(again.status, 403, "{mistake:?}: {again:?}");
        assert_nobody(&page, &mut browser, &again);
        expected.push(String::from("(none) state openid"));
    }
    let told = page.told.lock().unwrap().clone();
    assert!(
        told.contains("it does not accept --oidc-client-id, or the secret"),
        "{told}"
    );
    assert!(
        !told.contains(SECRET) && !told.contains("the-access-token"),
        "{told}"
    );
}

#[test]
fn people_whom_no_rule_names_or_whose_address_is_not_theirs_read_nothing() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    let email = "auditor@corp.example";
    let people = [
        (
            json!({ "sub": "4", "email": "eve@evil.example", "email_verified": true }),
            "eve@evil.example no_rule",
        ),
        (
            json!({ "sub": "4", "email": "AUDITOR@corp.example", "email_verified": true }),
            "AUDITOR@corp.example no_rule",
        ),
        // A name that looks like a rule for a group.
        (
            json!({ "sub": "4", "email": "group:auditors", "email_verified": true }),
            "group:auditors no_rule",
        ),
        (
            json!({ "sub": "4", "email": email, "email_verified": false }),
            "(none) not_verified",
        ),
        (json!({ "sub": "4", "email": email }), "(none) not_verified"),
        (
            json!({ "sub": "4", "name": email, "preferred_username": email }),
            "(none) no_name",
        ),
        (
            json!({ "sub": email, "email": "", "email_verified": true }),
            "(none) no_name",
        ),
        (
            json!({ "sub": "4", "email": format!("{email}\u{200b}"), "email_verified": true }),
            "(none) no_name",
        ),
        (
            json!({ "sub": "4", "email": "a".repeat(2_000), "email_verified": true }),
            "(none) no_name",
        ),
        (
            json!({ "sub": "4", "email": "e@e.example", "email_verified": true, "groups": { "auditors": true } }),
            "e@e.example no_rule",
        ),
    ];
    let mut expected = Vec::new();
    for (claims, why) in people {
        provider.says(&auditor());
        page.log_in(&mut Browser::default());
        provider.says(&claims);
        let mut browser = Browser::default();
        let answer = page.try_login(&mut browser);
        assert_eq!(answer.status, 403, "{claims}: {answer:?}");
        if why.ends_with("no_rule") {
            assert!(
                answer
                    .body
                    .contains("You are known, and may not read this trail."),
                "{answer:?}"
            );
        }
        assert_nobody(&page, &mut browser, &answer);
        expected.push(format!("{why} openid"));
        assert_eq!(refused(&postgres), expected, "{claims}");
    }

    // Told by the provider of somebody else.
    provider.says(&auditor());
    page.log_in(&mut Browser::default());
    let mut script = provider.script.lock().unwrap();
    (script.claims, script.besides) = (json!({ "sub": "4" }), auditor());
    script.mistake = Mistake::OtherSubject;
    drop(script);
    let mut browser = Browser::default();
    let answer = page.try_login(&mut browser);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_nobody(&page, &mut browser, &answer);
    expected.push(String::from("(none) token openid"));
    assert_eq!(refused(&postgres), expected);
}

#[test]
fn login_belongs_to_the_browser_that_began_it() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    provider.says(&auditor());
    let good = || page.log_in(&mut Browser::default());

    // A stranger makes somebody else's browser end a login that the stranger began.
    let mut stranger = Browser::default();
    let back = page.begin(&mut stranger, "/");
    let mut browser = Browser::default();
    let answer = browser.open(&back);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_nobody(&page, &mut browser, &answer);
    // Also if that browser has a login of its own under way.
    good();
    let own = page.begin(&mut browser, "/");
    let answer = browser.open(&back);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_nobody(&page, &mut browser, &answer);
    // And a code of the stranger's with the browser's own state: the proof of PKCE is another's.
    good();
    let part = |url: &str, name: &str| {
        let query = url.split_once('?').unwrap().1.to_owned();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        pairs.collect::<std::collections::BTreeMap<_, _>>()[name].clone()
    };
    let mixed = page.at(&format!(
        "/login/callback?code={}&state={}",
        part(&back, "code"),
        part(&own, "state")
    ));
    let answer = browser.open(&mixed);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_nobody(&page, &mut browser, &answer);
    // The stranger's own way is not hindered by that, but for the code, which was used.
    assert_eq!(
        refused(&postgres),
        [
            "(none) state openid",
            "(none) state openid",
            "(none) code openid"
        ]
    );

    // Nothing at all.
    for query in [
        "",
        "?",
        "?code=x",
        "?state=",
        "?state=%00&code=x",
        "?state=x&code=x&error=x",
        "?error=access_denied",
    ] {
        good();
        let answer = browser.open(&page.at(&format!("/login/callback{query}")));
        assert_eq!(answer.status, 403, "{query}: {answer:?}");
        assert_nobody(&page, &mut browser, &answer);
    }
    assert_eq!(refused(&postgres).len(), 10);

    // Two tabs of one browser, each to where it was going.
    let mut browser = Browser::default();
    let one = page.begin(&mut browser, "/changes");
    let two = page.begin(&mut browser, "/?kind=event");
    assert_eq!(browser.open(&one).location(), "/changes");
    // The first has ended what the second needs.
    assert_eq!(browser.open(&two).status, 403);
    assert_eq!(browser.open(&page.at("/")).status, 200);
}

#[test]
fn nobody_is_led_to_another_page_after_the_login() {
    let postgres = database();
    let provider = Provider::start(None);
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    provider.says(&auditor());
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "/%5Cevil.example",
        "javascript:alert(1)",
        "/%0d%0aSet-Cookie:%20a=b",
    ] {
        let mut browser = Browser::default();
        let back = page.begin(&mut browser, next);
        assert_eq!(browser.open(&back).location(), "/", "{next}");
        let begun = browser.open(&page.at(&format!("/login/start?next={next}")));
        let sent = browser.open(begun.location());
        assert_eq!(browser.open(sent.location()).location(), "/", "{next}");
    }
}

#[test]
fn cookies_are_kept_from_scripts_and_other_sites() {
    let postgres = database();
    let provider = Provider::start(None);
    provider.says(&auditor());
    let look = |page: &Page, at: &str| {
        let mut browser = Browser::default();
        let begun = browser.open(&page.at("/login/start"));
        let sent = browser.open(begun.location());
        assert!(
            sent.location()
                .starts_with(&format!("{at}/login/callback?")),
            "{sent:?}"
        );
        let back = sent.location().replace(at, &page.url);
        // By TLS, a browser sends these to this host alone; here they go over loopback.
        let came = browser.open(&back);
        let all = [&begun, &came].map(|answer| {
            answer
                .all("set-cookie")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        all.concat().join("\n")
    };
    let hidden = |cookies: &str| {
        let mut hidden = String::new();
        for word in cookies.split_inclusive([';', '\n', '=']) {
            let is_token = word.len() == 65 && word.bytes().take(64).all(|b| b.is_ascii_hexdigit());
            hidden.push_str(if is_token { "TOKEN;" } else { word });
        }
        hidden
    };
    let page = Page::start(&postgres, &provider.issuer, &RULES);
    let plain = look(&page, &page.url);
    assert_eq!(
        hidden(&plain),
        "audit-login=TOKEN; Path=/; HttpOnly; SameSite=Lax; Max-Age=600\n\
         audit=TOKEN; Path=/; HttpOnly; SameSite=Lax\n\
         audit-login=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
    );
    drop(page);
    let more = ["--public-url=https://audit.example.com/"];
    let mut page = Page::start(&postgres, &provider.issuer, &[&RULES[..], &more].concat());
    page.url = local(&page);
    let secure = look(&page, "https://audit.example.com");
    assert_eq!(
        hidden(&secure),
        "__Host-audit-login=TOKEN; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600\n\
         __Host-audit=TOKEN; Path=/; HttpOnly; SameSite=Lax; Secure\n\
         __Host-audit-login=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"
    );
}

/// Returns where the page listens, whatever address browsers use.
fn local(page: &Page) -> String {
    let pid = page.child.id();
    let sockets = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<_> = sockets
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let listens = table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_ours = words[3] == "0A" && sockets.iter().any(|socket| socket == words[9]);
        is_ours.then(|| u16::from_str_radix(words[1].split_once(':').unwrap().1, 16).unwrap())
    });
    format!("http://127.0.0.1:{}", listens.unwrap())
}
