//! The shapes of passwords, keys and addresses that are this library's own.

use std::borrow::Cow;

use super::Shape;

/// What stands for a secret and is none: a placeholder, a variable, a mask.
const PLACEHOLDER: &str = r"(?i)^(?:\$\{?\w+\}?|\$\d+|\?|:\w+|@\w+|%s|%\(\w+\)s|\{+[^{}]*\}+|<[^<>]*>|'?\[[^\[\]]*\]?'?|\*+|x{3,}|\.{2,}|\\?[nN]ull|none|undefined|redacted|your[_-].*|example.*|changeme)$";

/// The words that a password goes by in a URL's query.
const QUERY: &str = r"(?i)[?&;](?:password|passwd|pwd|token|access_token|refresh_token|id_token|auth_token|api_?key|apikey|secret|client_secret|x-amz-signature|x-amz-security-token|sig|signature)=([^&#\s\x22'<>]{6,})";

/// A password between quotes, after its name.
const ASSIGNED: &str = r#"(?i)(?:password|passwd|pass_?phrase|secret|secret_?key|api_?-?key|access_?key|access_?token|auth_?token|client_?secret|private_?key)(?:\\?["'])?\s{0,3}(?:=>|:=|==?|:)\s{0,3}(?:Some\()?\\?["']([^"'\s\\]{6,200})\\?["']"#;

/// A password in a connection string, with what says that it is one before or after it.
const CONNECTION: &str = r#"(?i)(?:\b(?:server|data source|host|addr(?:ess)?|endpoint|driver|user ?id|uid|username|user|database|initial catalog)\s?=\s?[^;\n"]{1,200};(?:[^\n"]{0,300};)?\s*(?:password|pwd)\s?=\s?('[^']*'|[^;\s"']+)|\b(?:password|pwd)\s?=\s?([^;\s"']+);\s*(?:[^\n"]{0,200};)?\s*(?:server|data source|host|user ?id|uid|user|database|initial catalog)\s?=|\b(?:host|hostaddr|user|dbname|port)=[^\s"]+\s(?:[^\n"]{0,200}\s)?password=('[^']*'|[^\s"']+)|\bpassword=('[^']*'|[^\s"']+)\s(?:[^\n"]{0,200}\s)?(?:host|hostaddr|user|dbname)=)"#;

/// The tokens of services that the rules of gitleaks lack: a name, a shape, a literal.
const TOKENS: &[(&str, &str, &str)] = &[
    ("groq-api-key", r"\bgsk_[A-Za-z0-9]{40,60}", "gsk_"),
    (
        "openrouter-api-key",
        r"\bsk-or-v1-[0-9a-f]{64}",
        "sk-or-v1-",
    ),
    (
        "openai-project-key",
        r"\bsk-(?:proj|svcacct|admin)-[\w-]{40,200}",
        "sk-",
    ),
    ("langfuse-secret-key", r"\bsk-lf-[0-9a-f-]{36}", "sk-lf-"),
    ("google-oauth-secret", r"\bGOCSPX-[\w-]{28}", "gocspx-"),
    ("google-oauth-token", r"\bya29\.[\w-]{40,}", "ya29."),
    ("xai-api-key", r"\bxai-[A-Za-z0-9]{70,90}", "xai-"),
    ("replicate-api-token", r"\br8_[A-Za-z0-9]{37}", "r8_"),
    (
        "tailscale-key",
        r"\btskey-[a-z]+-[A-Za-z0-9]{8,}(?:-[A-Za-z0-9]{16,})?",
        "tskey-",
    ),
    ("supabase-token", r"\bsbp_[0-9a-f]{40}", "sbp_"),
    ("typeform-token", r"\btfp_[A-Za-z0-9_-]{40,60}", "tfp_"),
    ("new-relic-key", r"\bNRAK-[A-Z0-9]{27}", "nrak-"),
    (
        "stripe-webhook-secret",
        r"\bwhsec_[A-Za-z0-9+/]{24,}",
        "whsec_",
    ),
];

/// Returns the shapes of the preset of secrets, without those of the services.
pub(in crate::redact) fn secrets() -> impl Iterator<Item = Shape> {
    let tokens = TOKENS.iter().map(|(name, source, literal)| Shape {
        word: 16,
        ..marked(name, source, &[literal])
    });
    passwords()
        .into_iter()
        .chain(headers_and_keys())
        .chain(tokens)
}

/// Passwords where they are set or used.
fn passwords() -> impl IntoIterator<Item = Shape> {
    [
        marked(
            "private-key",
            r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END[ A-Z0-9_-]{0,100}KEY(?: BLOCK)?-----|\z)",
            &["private key"],
        ),
        Shape {
            near: Some(has_user),
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked(
                "url-password",
                r#"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s/?#:@"'<>]*:([^\s/?#@"'<>]{1,512})@"#,
                &["://"],
            )
        },
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked(
                "url-query-secret",
                QUERY,
                &[
                    "password=",
                    "passwd=",
                    "pwd=",
                    "token=",
                    "key=",
                    "secret=",
                    "sig=",
                    "signature=",
                ],
            )
        },
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked("connection-string", CONNECTION, &["password", "pwd"])
        },
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            is_value: Some(is_no_word),
            group: 1,
            ..marked(
                "assigned-secret",
                ASSIGNED,
                &[
                    "password",
                    "passwd",
                    "passphrase",
                    "pass_phrase",
                    "secret",
                    "apikey",
                    "api_key",
                    "api-key",
                    "access",
                    "auth_token",
                    "authtoken",
                    "private",
                ],
            )
        },
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked(
                "sql-password",
                r"(?i)\b(?:password|identified\s+by)\s+'((?:[^']|'')+)'",
                &["password", "identified"],
            )
        },
    ]
}

/// What clients send to be let in, and keys of clouds.
fn headers_and_keys() -> impl IntoIterator<Item = Shape> {
    [
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked(
                "authorization",
                r#"(?i)\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:basic|bearer|token|digest|apikey|negotiate)\s+)?([a-z0-9._~+/=:-]{8,})"#,
                &["authorization"],
            )
        },
        Shape {
            group: 1,
            ..marked(
                "bearer",
                r"(?i)\bbearer\s+([a-z0-9._~+/-]{20,}=*)",
                &["bearer "],
            )
        },
        Shape {
            is_value: Some(is_user_and_password),
            group: 1,
            ..marked(
                "basic",
                r"(?i)\bbasic\s+([a-z0-9+/]{8,}={0,2})",
                &["basic "],
            )
        },
        Shape {
            group: 1,
            ..marked(
                "cookie",
                r#"(?i)\b(?:set-)?cookie:\s*((?:[\w.-]+=[^;\s"']+(?:;\s?)?)+)"#,
                &["cookie:"],
            )
        },
        Shape {
            except: Some(Cow::Borrowed(PLACEHOLDER)),
            group: 1,
            ..marked(
                "curl-user",
                r#"\bcurl\b[^\n]{0,300}?\s(?:-u|--user)[\s=]*["']?[^\s:"']+:([^\s"']{3,})"#,
                &["curl"],
            )
        },
        Shape {
            group: 1,
            ..marked(
                "azure-account-key",
                r"(?i)(?:account|shared ?access)key\s?=\s?([a-z0-9+/]{40,}={0,2})",
                &["key="],
            )
        },
        Shape {
            entropy: 3.5,
            group: 1,
            ..marked(
                "aws-secret-key",
                r#"(?i)aws.{0,30}(?:secret|sk).{0,30}?[\s:='"]([a-z0-9/+]{40})(?:[^a-z0-9/+=]|$)"#,
                &["aws"],
            )
        },
    ]
}

/// Returns the shapes of IP addresses.
pub(in crate::redact) fn ip_addresses() -> impl Iterator<Item = Shape> {
    const BYTE: &str = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
    let v4 = format!(r"(?:^|[^\w.-])({BYTE}\.{BYTE}\.{BYTE}\.{BYTE})(?:$|[^\w.-]|\.(?:\W|$))");
    // With at least two colons and one group that is there; what parses as an address is one.
    let v6 =
        r"(?i)(?:^|[^\w:.])((?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|[0-9.]{7,15})?)(?:$|[^\w:])";
    [
        Shape {
            group: 1,
            ..Shape::new(
                Cow::Borrowed("ip"),
                Cow::Owned(v4),
                vec![Cow::Borrowed(".")],
            )
        },
        Shape {
            group: 1,
            is_value: Some(is_ipv6),
            ..marked("ip", v6, &[":"])
        },
    ]
    .into_iter()
}

fn marked(name: &'static str, source: &'static str, literals: &[&'static str]) -> Shape {
    let literals = literals
        .iter()
        .map(|literal| Cow::Borrowed(*literal))
        .collect();
    Shape::new(Cow::Borrowed(name), Cow::Borrowed(source), literals)
}

/// Returns whether an @ follows before the host of a URL ends.
fn has_user(text: &[u8], after: usize) -> bool {
    let mut host = text[after..].iter().take(1024);
    host.find(|byte| byte.is_ascii_whitespace() || matches!(byte, b'@' | b'/' | b'"' | b'?' | b'#'))
        == Some(&b'@')
}

/// Returns whether a value between quotes is no word of a schema or a sentence: it has a digit, or a
/// sign that no name has.
fn is_no_word(value: &[u8]) -> bool {
    let is_sign = |byte: &u8| {
        byte.is_ascii_digit()
            || byte.is_ascii_punctuation() && !matches!(byte, b'_' | b'-' | b'.' | b'/')
    };
    value.iter().any(is_sign)
}

/// Returns whether this is the base64 of a user and a password.
fn is_user_and_password(value: &[u8]) -> bool {
    let mut bits = 0_u32;
    let mut has_colon = false;
    for (at, byte) in value.iter().filter(|byte| **byte != b'=').enumerate() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(six);
        let held = (at + 1) * 6 % 8;
        if held < 6 {
            let byte = (bits >> held & 0xff) as u8;
            if !(b' '..0x7f).contains(&byte) && byte < 0x80 {
                return false;
            }
            has_colon |= byte == b':';
        }
    }
    has_colon
}

fn is_ipv6(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse::<std::net::Ipv6Addr>()
        .is_ok_and(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_a_user_and_a_password_is_told_from_a_word() {
        assert!(
            is_user_and_password(b"YWxhZGRpbjpvcGVuc2VzYW1l") && is_user_and_password(b"YTpiYw==")
        );
        assert!(!is_user_and_password(b"understanding"));
    }
}
