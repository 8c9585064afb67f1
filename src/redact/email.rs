//! Finds e-mail addresses around an @.

use std::ops::Range;

/// Endings of a file, or of code, that no address has.
const NO_DOMAIN: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "ts", "tsx", "jsx", "mjs",
    "json", "html", "htm", "xml", "yaml", "yml", "toml", "txt", "csv", "pdf", "zip", "gz", "tar",
    "sql", "log", "lock", "rc", "self", "weight", "shape", "t",
];

/// The longest parts of an address, from RFC 5321.
const LOCAL_BYTES: usize = 64;
const DOMAIN_BYTES: usize = 253;

/// Returns the address around the @ at a place.
pub(super) fn around(text: &[u8], at: usize) -> Option<Range<usize>> {
    let start = local_part(text, at)?;
    let longest = text.len().min(at + 1 + DOMAIN_BYTES);
    let is_of_domain = |place: &usize| {
        text[*place].is_ascii_alphanumeric()
            || matches!(text[*place], b'.' | b'-')
            || is_latin(text, *place)
    };
    let len = (at + 1..longest).take_while(is_of_domain).count();
    // What ends a sentence is not the domain's.
    let domain = trimmed(&text[at + 1..at + 1 + len]);
    let dot = domain.iter().rposition(|byte| *byte == b'.')?;
    let (name, ending) = (&domain[..dot], &domain[dot + 1..]);
    let ending = std::str::from_utf8(ending).ok()?;
    let is_ending = ending.chars().count() >= 2 && ending.chars().all(char::is_alphabetic)
        || ending.starts_with("xn--");
    let is_file = NO_DOMAIN
        .iter()
        .any(|other| ending.eq_ignore_ascii_case(other));
    let has_parts = name
        .split(|byte| *byte == b'.')
        .all(|part| !part.is_empty());
    // A version: package@4.17.21-beta.rc.
    let is_version = name
        .split(|byte| *byte == b'.')
        .take(2)
        .filter(|part| part.iter().all(u8::is_ascii_digit))
        .count()
        == 2;
    let local = &text[start..at];
    // The user that a repository is cloned as is nobody's address.
    let is_clone = local == b"git" && text.get(at + 1 + domain.len()) == Some(&b':');
    (is_ending && !is_file && has_parts && !is_version && !is_clone)
        .then_some(start..at + 1 + domain.len())
}

fn trimmed(mut domain: &[u8]) -> &[u8] {
    while let [rest @ .., b'.' | b'-'] = domain {
        domain = rest;
    }
    domain
}

/// Returns where the part before the @ begins.
fn local_part(text: &[u8], at: usize) -> Option<usize> {
    let mut start = at;
    while start > 0 && at - start < LOCAL_BYTES {
        let byte = text[start - 1];
        let is_of_local = byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
            || is_latin(text, start - 1);
        if !is_of_local {
            break;
        }
        start -= 1;
    }
    while start < at && matches!(text[start], b'.' | b'-' | b'\'' | b'%') {
        start += 1;
    }
    (start < at && text[at - 1] != b'.').then_some(start)
}

/// Returns whether a byte belongs to a Latin letter outside ASCII. A text without spaces, as in
/// Chinese, does not belong to the address within it.
fn is_latin(text: &[u8], at: usize) -> bool {
    match text[at] {
        0xc3..=0xc9 => true,
        0x80..=0xbf => at > 0 && matches!(text[at - 1], 0xc3..=0xc9),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let at = text.find('@').unwrap();
        around(text.as_bytes(), at).map(|range| &text[range])
    }

    #[test]
    fn addresses_are_found_whole() {
        for address in [
            "ada@example.com",
            "o'neil+tag@mail.example.co.uk",
            "jürgen.müller@exämple.de",
            "a_b-c@163.com",
        ] {
            assert_eq!(found(&format!("write to <{address}>.")), Some(address));
        }
        assert_eq!(found("请联系ada@example.com谢谢"), Some("ada@example.com"));
    }

    #[test]
    fn look_alikes_are_left_alone() {
        for text in [
            "logo@2x.png",
            "react@18.2.0",
            "lodash@4.17.21-beta.rc",
            "git@github.com:org/repo.git",
            "@app.route",
            "user@host",
            "x@self.weight",
            "a@ b.com",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
