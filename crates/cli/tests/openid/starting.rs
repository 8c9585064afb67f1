//! What the command line takes, and a provider that is away.

use testkit::wait_until;

use super::*;
use provider::Mistake;

#[track_caller]
fn assert_refused(arguments: &[&str], says: &str) {
    let mut command = program();
    command.arg("serve").args(arguments);
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let output = command.env_remove("NO_SECRET").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.contains(says), "{arguments:?}: {told}");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let issuer = "--oidc-issuer=https://login.example.com";
    let client = "--oidc-client-id=trail";
    let rule = "--auditor=ana@corp.example";
    let listen = "--listen=127.0.0.1:0";
    assert_refused(&[listen, issuer, rule], "--oidc-client-id");
    assert_refused(&[listen, client, rule], "--oidc-issuer");
    assert_refused(&[listen, issuer, client], "say who may read");
    assert_refused(&[listen, rule], "--oidc-issuer");
    assert_refused(&[listen, "--oidc-name-claim=sub"], "--oidc-issuer");
    let proxy = ["--trust-header=x-user", "--trust-from=127.0.0.1"];
    assert_refused(
        &[&[listen, issuer, client, rule], &proxy[..]].concat(),
        "cannot be used with",
    );
    assert_refused(
        &["--listen=0.0.0.0:0", issuer, client, rule],
        "--public-url",
    );
    assert_refused(
        &[
            listen,
            issuer,
            client,
            rule,
            "--oidc-client-secret-env=NO_SECRET",
        ],
        "the variable NO_SECRET has no secret",
    );
    for issuer in [
        "http://login.example.com",
        "http://localhost.example.com",
        "http://user@127.0.0.1",
        "https://login.example.com/?a=b",
        "https://login.example.com/#a",
        "ftp://login.example.com",
        "login.example.com",
        "",
    ] {
        let issuer = format!("--oidc-issuer={issuer}");
        assert_refused(&[listen, &issuer, client, rule], "--oidc-issuer: write");
    }
    // What looks like a password is not repeated.
    let issuer = "--oidc-issuer=https://user:word@login.example.com";
    assert_refused(&[listen, issuer, client, rule], "it is not repeated");
}

#[test]
fn provider_that_is_away_is_named_and_logins_work_once_it_is_back() {
    let postgres = database();
    let provider = Provider::start(None);
    provider.says(&auditor());
    for mistake in [
        Mistake::Away,
        Mistake::Broken,
        Mistake::TooLong,
        Mistake::Page,
        Mistake::OtherMetadata,
    ] {
        provider.makes(mistake);
        let page = Page::start(&postgres, &provider.issuer, &RULES);
        let mut browser = Browser::default();
        assert_eq!(browser.open(&page.at("/login")).status, 200);
        let answer = browser.open(&page.at("/login/start"));
        assert_eq!(answer.status, 503, "{mistake:?}: {answer:?}");
        assert!(
            answer
                .body
                .contains("127.0.0.1 does not answer as it should"),
            "{answer:?}"
        );
        let why = match mistake {
            Mistake::Away => "connection",
            Mistake::Broken => "503",
            Mistake::TooLong => "an answer of more than 1048576 bytes",
            Mistake::Page => "text/html",
            _ => "unexpected issuer URI",
        };
        wait_until("the operator is told", PATIENCE, || {
            page.told.lock().unwrap().contains(why)
        });
        if mistake == Mistake::Away {
            provider.makes(Mistake::None);
            wait_until("logins work again", PATIENCE, || {
                browser.open(&page.at("/login/start")).status == 303
            });
            page.log_in(&mut browser);
        }
    }
    assert_eq!(refused(&postgres), [""; 0]);
}
