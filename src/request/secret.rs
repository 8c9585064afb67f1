//! What is never recorded: the values of headers and of query parameters that hold secrets.

use std::borrow::Cow;

/// What stands in place of a value, as the OpenTelemetry conventions have it.
pub(super) const REDACTED: &str = "REDACTED";

/// Headers whose values are secrets, beside those whose names contain one of [`SECRET_WORDS`].
const SECRET_HEADERS: [&str; 11] = [
    "auth",
    "authorization",
    "cookie",
    "dpop",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "set-cookie",
    "x-amz-security-token",
    "x-functions-key",
];

/// Words in the names of headers and query parameters whose values are secrets.
const SECRET_WORDS: [&str; 20] = [
    "api-key",
    "apikey",
    "api_key",
    "accesskey",
    "access-key",
    "-auth",
    "_auth",
    "auth-",
    "auth_",
    "authentic",
    "authoriz",
    "credential",
    "csrf",
    "jwt",
    "passw",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];

/// Query parameters whose values are secrets, beside those whose names contain one of
/// [`SECRET_WORDS`].
const SECRET_PARAMETERS: [&str; 7] = ["auth", "code", "key", "otp", "pin", "sas", "sig"];

/// Returns whether the value of a header is a secret, given its name in lower case.
pub(super) fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Returns whether the value of a query parameter is a secret.
fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARAMETERS.contains(&&*name) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The longest name of a parameter that is recorded unless it is allowed.
const NAME_BYTES: usize = 64;

/// Returns whether a part of a query looks like a name and its value, rather than like a value on its
/// own that has a `=` in it: a URL, or base64, which is padded with `=`.
fn is_named(name: &str, value: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-[]%".contains(&byte);
    !value.trim_matches('=').is_empty() && name.len() <= NAME_BYTES && name.bytes().all(is_of_name)
}

/// Returns the query with `REDACTED` in place of each value but those of the `allowed` parameters
/// that hold no secret. A part without a name is redacted as a whole, since it may be a value.
pub(super) fn query(query: &str, allowed: &[Box<str>], limit: usize) -> String {
    let mut out = String::new();
    for part in query.split('&') {
        if out.len() >= limit {
            break;
        }
        if !out.is_empty() {
            out.push('&');
        }
        let is_known = |name: &str| allowed.iter().any(|allowed| **allowed == *name);
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if is_known(name) || is_named(name, value) => (name, value),
            _ => ("", part),
        };
        let is_allowed = is_known(name) && !is_secret_parameter(name);
        if !name.is_empty() {
            out.push_str(name);
            out.push('=');
        }
        out.push_str(match value {
            "" => "",
            value if is_allowed => value,
            _ => REDACTED,
        });
    }
    out.truncate(out.floor_char_boundary(limit));
    out
}

/// Returns the values of a header as one text, `REDACTED` if they are secrets.
pub(super) fn header<'a>(name: &str, values: &[&'a [u8]], is_marked: bool) -> Cow<'a, str> {
    if is_marked || is_secret_header(name) {
        return Cow::Borrowed(REDACTED);
    }
    match values {
        [value] => String::from_utf8_lossy(value),
        values => {
            let values: Vec<_> = values
                .iter()
                .map(|value| String::from_utf8_lossy(value))
                .collect();
            Cow::Owned(values.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_keeps_the_values_of_allowed_parameters_alone() {
        let allowed = ["page", "q", "token", "Api_Key"].map(Box::from);
        for (given, expected) in [
            ("page=2&user=alice", "page=2&user=REDACTED"),
            (
                "token=s&api_key=s&Api_Key=s",
                "token=REDACTED&api_key=REDACTED&Api_Key=REDACTED",
            ),
            // A name that only decoding makes an allowed one is not allowed.
            ("p%61ge=2&PAGE=2", "p%61ge=REDACTED&PAGE=REDACTED"),
            ("q=a=b&q=", "q=a=b&q="),
            ("sk-4711", "REDACTED"),
            ("=sk-4711&&page=2", "REDACTED&&page=2"),
            (
                "c2stNDcxMQ==&c2stNDcxMTE=&flag=",
                "REDACTED&REDACTED&REDACTED",
            ),
            ("https://u:sk-4711@host/x?a=b", "REDACTED"),
            ("", ""),
        ] {
            assert_eq!(query(given, &allowed, 100), expected, "{given}");
        }
        assert_eq!(query(&"a=b&".repeat(100), &allowed, 12), "a=REDACTED&a");
    }

    #[test]
    fn header_that_holds_a_secret_is_redacted() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "x-goog-api-key",
            "x-auth-token",
            "x-csrf-token",
            "x-amz-security-token",
        ] {
            assert_eq!(header(name, &[b"sk-4711"], false), REDACTED, "{name}");
        }
        assert_eq!(header("accept", &[b"a", b"b"], false), "a, b");
        assert_eq!(header("accept", &[b"a"], true), REDACTED);
        assert_eq!(header("x", &[b"\xff"], false), "\u{fffd}");
    }
}
