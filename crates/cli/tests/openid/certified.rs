//! The page with a provider that others have written and certified: run by scripts/openid, which fetches it.

use super::*;

/// The provider, which ends with the test.
struct Certified {
    child: Child,
    issuer: String,
}

impl Certified {
    fn start() -> Self {
        let mut child = Command::new("node")
            .arg(std::env::var("AUDIT_TEST_OIDC_PROVIDER").unwrap())
            .env("CLIENT_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().starts_with("at "));
        let issuer = line.unwrap().unwrap()["at ".len()..].to_owned();
        // It goes on talking.
        thread::spawn(move || lines.for_each(drop));
        Self { child, issuer }
    }

    /// Does what a person does at the provider: says a name, and agrees.
    fn let_in(&self, page: &Page, browser: &mut Browser, name: &str) -> Answer {
        let mut url = browser
            .open(&page.at("/login/start?next=/state"))
            .location()
            .to_owned();
        loop {
            let shown = browser.open(&url);
            let answer = if shown.status == 200 {
                let prompt = ["login", "consent"].into_iter().find(|prompt| {
                    shown
                        .body
                        .contains(&format!("name=\"prompt\" value=\"{prompt}\""))
                });
                let form = format!("prompt={}&login={name}&password=x", prompt.unwrap());
                browser.post(&url, &form)
            } else {
                shown
            };
            let to = answer.location();
            if to.starts_with(&page.url) {
                return browser.open(to);
            }
            url = if to.starts_with('/') {
                format!("{}{to}", self.issuer)
            } else {
                to.to_owned()
            };
        }
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs the provider that scripts/openid fetches"]
fn people_of_a_certified_provider_read_what_they_may() {
    let provider = Certified::start();
    let postgres = database();
    let rules = [
        "--auditor=ana@corp.example",
        "--reader=group:bo=acme",
        "--auditor=eve@corp.example",
    ];
    let secret = [
        "--oidc-client-id=with-secret",
        "--oidc-client-secret-env=CLIENT_SECRET",
    ];
    for more in [&[][..], &secret[..]] {
        let page = Page::start(&postgres, &provider.issuer, &[&rules[..], more].concat());
        for (name, sees) in [
            ("ana", ["thing-of-acme", "thing-of-beta"]),
            ("bo", ["thing-of-acme"; 2]),
        ] {
            let mut browser = Browser::default();
            let answer = provider.let_in(&page, &mut browser, name);
            assert_eq!((answer.status, answer.location()), (303, "/state"));
            let shown = browser.open(&page.at("/")).body;
            for tenant in ["thing-of-acme", "thing-of-beta"] {
                assert_eq!(
                    shown.contains(tenant),
                    sees.contains(&tenant),
                    "{name}: {shown}"
                );
            }
        }
        let answer = provider.let_in(&page, &mut Browser::default(), "eve");
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    assert_eq!(refused(&postgres), ["(none) not_verified openid"; 2]);
}
