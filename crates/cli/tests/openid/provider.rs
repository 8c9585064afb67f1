//! A provider of OpenID Connect over HTTP, with real signatures, that does wrong when it is told to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::{self, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const CLIENT: &str = "the-trail";

/// What the provider does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Does not answer at all.
    Away,
    /// Answers 503.
    Broken,
    /// Never ends its metadata.
    TooLong,
    /// Answers with a page.
    Page,
    /// Says another issuer in its metadata.
    OtherMetadata,
    /// Lets nobody in.
    Denies,
    /// Sends another state back.
    OtherState,
    /// Sends no state back.
    NoState,
    /// Sends the state twice.
    TwoStates,
    /// Says that another has answered (RFC 9207).
    OtherAnswers,
    /// Knows no code.
    NoCode,
    /// Does not know the client.
    NoClient,
    NoToken,
    Nonsense,
    OtherNonce,
    NoNonce,
    OtherAudience,
    /// Its token is for another as well.
    TwoAudiences,
    /// Its token was made for another.
    OtherParty,
    OtherIssuer,
    Expired,
    /// Changes the token after signing it.
    Forged,
    /// Signs with a key that it does not publish.
    OtherKey,
    /// The same, and says that it is the one which it publishes.
    OtherKeySameName,
    AlgNone,
    /// Signs with its public key as a secret.
    PublicAsSecret,
    /// Signs with the client's secret.
    ClientSecret,
    /// Its token belongs to another access token.
    OtherAccess,
    /// Tells about somebody else when asked for more.
    OtherSubject,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
}

/// What the provider says.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) mistake: Mistake,
    pub(crate) algorithm: Algorithm,
    /// What a token says of the person.
    pub(crate) claims: Value,
    /// What is said of the person when asked.
    pub(crate) besides: Value,
    /// Which key is the provider's: another number is another key.
    pub(crate) key: usize,
    /// What it was asked for.
    pub(crate) asked: Vec<String>,
}

/// The provider, which runs until the test ends.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

/// A login under way.
struct Code {
    nonce: Option<String>,
    challenge: String,
    redirect: String,
}

/// What a connection needs.
struct Server {
    issuer: String,
    secret: Option<&'static str>,
    script: Arc<Mutex<Script>>,
    keys: Vec<Keys>,
    codes: Mutex<BTreeMap<String, Code>>,
}

struct Keys {
    rsa: rsa::KeyPair,
    ecdsa: EcdsaKeyPair,
}

impl Provider {
    /// Starts a provider that knows one client, with this secret.
    pub(crate) fn start(secret: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let issuer = format!("http://{address}");
        let script = Arc::new(Mutex::new(Script {
            mistake: Mistake::None,
            algorithm: Algorithm::Rs256,
            claims: json!({}),
            besides: json!({}),
            key: 0,
            asked: Vec::new(),
        }));
        let server = Arc::new(Server {
            issuer: issuer.clone(),
            secret,
            script: Arc::clone(&script),
            keys: vec![Keys::new(), Keys::new()],
            codes: Mutex::default(),
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        Self { issuer, script }
    }

    /// Says from now on that this is the person.
    pub(crate) fn says(&self, claims: &Value) {
        self.script.lock().unwrap().claims = claims.clone();
    }

    pub(crate) fn makes(&self, mistake: Mistake) {
        self.script.lock().unwrap().mistake = mistake;
    }

    /// Returns how often an address was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| *asked == path).count()
    }
}

impl Keys {
    fn new() -> Self {
        // ring makes no RSA keys.
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        let pem = String::from_utf8(made.stdout).unwrap();
        let lines = pem.lines().filter(|line| !line.starts_with("--"));
        let der = BASE64.decode(lines.collect::<String>().as_bytes()).unwrap();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ecdsa = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            rsa: rsa::KeyPair::from_pkcs8(&der).unwrap(),
            ecdsa: EcdsaKeyPair::from_pkcs8(algorithm, ecdsa.as_ref(), &random).unwrap(),
        }
    }

    fn public(&self, number: usize) -> Value {
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = self.ecdsa.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "use": "sig", "kid": format!("rsa-{number}"), "n": text(&rsa.n), "e": text(&rsa.e) },
            { "kty": "EC", "use": "sig", "kid": format!("ec-{number}"), "crv": "P-256",
                "x": text(&point[1..33]), "y": text(&point[33..]) },
            // As providers with new algorithms have.
            { "kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA" },
        ] })
    }
}

impl Server {
    fn serve(&self, mut stream: TcpStream) {
        let Some((method, target, head, body)) = read(&mut stream) else {
            return;
        };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let script = {
            let mut script = self.script.lock().unwrap();
            script.asked.push(path.to_owned());
            script.clone()
        };
        let (status, headers, body) = match script.mistake {
            Mistake::Away => return,
            Mistake::Broken => ("503 Service Unavailable", String::new(), String::from("{}")),
            Mistake::Page => (
                "200 OK",
                String::from("Content-Type: text/html\r\n"),
                String::from("<p>Welcome"),
            ),
            _ => match (&*method, path) {
                ("GET", "/.well-known/openid-configuration") => ok(&self.metadata(&script)),
                ("GET", "/keys") => ok(&self.keys[script.key].public(script.key)),
                ("GET", "/authorize") => self.authorize(&script, query),
                ("POST", "/token") => self.token(&script, &head, &body),
                ("GET", "/userinfo") => besides(&script, &head),
                _ => ("404 Not Found", String::new(), String::new()),
            },
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes());
    }

    fn metadata(&self, script: &Script) -> Value {
        let of = |path: &str| format!("{}{path}", self.issuer);
        let mut metadata = json!({
            "issuer": self.issuer,
            "authorization_endpoint": of("/authorize"),
            "token_endpoint": of("/token"),
            "jwks_uri": of("/keys"),
            "userinfo_endpoint": of("/userinfo"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none", "ML-DSA-44"],
            "scopes_supported": ["openid", "email", "groups", "other"],
        });
        match script.mistake {
            Mistake::OtherMetadata => metadata["issuer"] = "http://127.0.0.1:1".into(),
            Mistake::TooLong => metadata["padding"] = "x".repeat(2_000_000).into(),
            _ => {}
        }
        metadata
    }

    fn authorize(&self, script: &Script, query: &str) -> (&'static str, String, String) {
        let asked = pairs(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["scope"], "openid email groups");
        let code = BASE64URL_NOPAD.encode(&random());
        let state = match script.mistake {
            Mistake::OtherState => "0".repeat(64),
            _ => asked["state"].clone(),
        };
        let mut answer = form_urlencoded::Serializer::new(String::new());
        match script.mistake {
            Mistake::Denies => {
                answer.append_pair("error", "access_denied");
                answer.append_pair("error_description", "<b>gotcha</b>");
            }
            _ => {
                answer.append_pair("code", &code);
            }
        }
        if script.mistake != Mistake::NoState {
            answer.append_pair("state", &state);
        }
        if script.mistake == Mistake::TwoStates {
            answer.append_pair("state", &state);
        }
        let issuer = match script.mistake {
            Mistake::OtherAnswers => "http://127.0.0.1:1",
            _ => &self.issuer,
        };
        answer.append_pair("iss", issuer);
        let redirect = asked["redirect_uri"].clone();
        let location = format!("Location: {redirect}?{}\r\n", answer.finish());
        let begun = Code {
            nonce: asked.get("nonce").cloned(),
            challenge: asked["code_challenge"].clone(),
            redirect,
        };
        self.codes.lock().unwrap().insert(code, begun);
        ("302 Found", location, String::new())
    }

    fn token(&self, script: &Script, head: &str, body: &str) -> (&'static str, String, String) {
        let refuse = |error: &str| {
            let (_, headers, body) = ok(&json!({ "error": error }));
            ("400 Bad Request", headers, body)
        };
        let asked = pairs(body);
        assert_eq!(asked["grant_type"], "authorization_code");
        let is_client = match self.secret {
            Some(secret) => {
                // RFC 6749, 2.3.1.
                let secret: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
                let basic = BASE64.encode(format!("{CLIENT}:{secret}").as_bytes());
                head.contains(&format!("Basic {basic}\r\n"))
            }
            None => asked["client_id"] == CLIENT && !asked.contains_key("client_secret"),
        };
        if !is_client || script.mistake == Mistake::NoClient {
            return refuse("invalid_client");
        }
        let begun = self.codes.lock().unwrap().remove(&asked["code"]);
        let Some(begun) = begun.filter(|_| script.mistake != Mistake::NoCode) else {
            return refuse("invalid_grant");
        };
        let challenge = text(&Sha256::digest(asked["code_verifier"].as_bytes()));
        if challenge != begun.challenge || asked["redirect_uri"] != begun.redirect {
            return refuse("invalid_grant");
        }
        let mut answer =
            json!({ "access_token": "the-access-token", "token_type": "Bearer", "expires_in": 60 });
        match script.mistake {
            Mistake::NoToken => {}
            Mistake::Nonsense => answer["id_token"] = "a.b.c".into(),
            _ => answer["id_token"] = self.signed(script, begun.nonce).into(),
        }
        ok(&answer)
    }

    fn signed(&self, script: &Script, nonce: Option<String>) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seconds = |from_now: Duration| (now + from_now).as_secs();
        let access = Sha256::digest("the-access-token");
        let mut claims = script.claims.clone();
        let mut set = |name: &str, value: Value| {
            claims[name] = value;
        };
        set("iss", self.issuer.clone().into());
        set("aud", CLIENT.into());
        set("iat", now.as_secs().into());
        set("exp", seconds(Duration::from_mins(5)).into());
        set("nonce", nonce.into());
        set("at_hash", text(&access[..16]).into());
        match script.mistake {
            Mistake::OtherNonce => set("nonce", "another".into()),
            Mistake::NoNonce => set("nonce", Value::Null),
            Mistake::OtherAudience => set("aud", "another".into()),
            Mistake::TwoAudiences => set("aud", json!([CLIENT, "another"])),
            Mistake::OtherParty => set("azp", "another".into()),
            Mistake::OtherIssuer => set("iss", "http://127.0.0.1:1".into()),
            Mistake::Expired => set("exp", (now.as_secs() - 1).into()),
            Mistake::OtherAccess => set("at_hash", text(&Sha256::digest("x")[..16]).into()),
            _ => {}
        }
        self.sign(script, &claims)
    }

    fn sign(&self, script: &Script, claims: &Value) -> String {
        let (name, key) = match script.mistake {
            Mistake::OtherKey => (1 - script.key, 1 - script.key),
            Mistake::OtherKeySameName => (script.key, 1 - script.key),
            _ => (script.key, script.key),
        };
        let keys = &self.keys[key];
        let (algorithm, kind) = match (script.mistake, script.algorithm) {
            (Mistake::AlgNone, _) => ("none", "rsa"),
            (Mistake::PublicAsSecret | Mistake::ClientSecret, _) => ("HS256", "rsa"),
            (_, Algorithm::Rs256) => ("RS256", "rsa"),
            (_, Algorithm::Es256) => ("ES256", "ec"),
        };
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": format!("{kind}-{name}") });
        let of = |claims: &Value| {
            let parts = [&header, claims].map(|part| text(part.to_string().as_bytes()));
            parts.join(".")
        };
        let message = of(claims);
        let random = SystemRandom::new();
        let signature = match algorithm {
            "none" => Vec::new(),
            "HS256" => {
                let secret = match script.mistake {
                    Mistake::ClientSecret => self.secret.unwrap().as_bytes(),
                    _ => keys.rsa.public().as_ref(),
                };
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            "RS256" => {
                let mut signature = vec![0; keys.rsa.public().modulus_len()];
                keys.rsa
                    .sign(
                        &RSA_PKCS1_SHA256,
                        &random,
                        message.as_bytes(),
                        &mut signature,
                    )
                    .unwrap();
                signature
            }
            _ => {
                let signed = keys.ecdsa.sign(&random, message.as_bytes());
                signed.unwrap().as_ref().to_vec()
            }
        };
        let message = match script.mistake {
            Mistake::Forged => {
                let mut claims = claims.clone();
                claims["email"] = "auditor@corp.example".into();
                claims["sub"] = "another".into();
                of(&claims)
            }
            _ => message,
        };
        format!("{message}.{}", text(&signature))
    }
}

fn besides(script: &Script, head: &str) -> (&'static str, String, String) {
    if !head.contains("Bearer the-access-token\r\n") {
        return ("401 Unauthorized", String::new(), String::new());
    }
    let mut claims = script.besides.clone();
    claims["sub"] = match script.mistake {
        Mistake::OtherSubject => "somebody else".into(),
        _ => script.claims["sub"].clone(),
    };
    ok(&claims)
}

fn ok(value: &Value) -> (&'static str, String, String) {
    let headers = String::from("Content-Type: application/json\r\n");
    ("200 OK", headers, value.to_string())
}

fn text(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

fn random() -> [u8; 16] {
    ring::rand::generate(&SystemRandom::new()).unwrap().expose()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

/// Reads a request: its method, its target, its head and its body.
fn read(stream: &mut TcpStream) -> Option<(String, String, String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = format!("{head}\r\n");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                let mut words = head.split(' ');
                let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
                return Some((method, target, head, body.to_owned()));
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}
