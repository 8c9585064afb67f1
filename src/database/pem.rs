//! Checks a PEM text, enough to say what is wrong with a file before a library refuses it.
//!
//! A library's message is not repeated where a key is read: it may hold lines of the key.

const BEGIN: &str = "-----BEGIN ";

/// What a text must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Certificates,
    Key,
}

/// Why a text cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It holds none of what is wanted.
    None,
    /// A line that begins or ends a part is missing, or is not a line of its own.
    Lines,
    /// What is between them is not DER, or not all of it.
    Content,
    /// The key is encrypted with a password.
    Encrypted,
    /// OpenSSL accepts a key in PKCS #8 alone, from the first byte on.
    NotPkcs8,
}

impl Flaw {
    /// Returns the end of a sentence whose subject is the text.
    pub(super) fn words(self, wanted: Wanted) -> &'static str {
        match (self, wanted) {
            (Self::None, Wanted::Certificates) => {
                "is no PEM file of that kind: it has no -----BEGIN CERTIFICATE-----"
            }
            (Self::None, Wanted::Key) => {
                "is no PEM file of that kind: it has no -----BEGIN PRIVATE KEY-----"
            }
            (Self::Lines, _) => {
                "is broken: a -----BEGIN or -----END line is missing or not a line of its own; \
                 line breaks are lost easily on the way through a variable"
            }
            (Self::Content, _) => {
                "is broken: what is between -----BEGIN and -----END is damaged or cut off"
            }
            (Self::Encrypted, _) => {
                "is encrypted, and a password for it cannot be had here: \
                 write it without one by `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`"
            }
            (Self::NotPkcs8, _) => {
                "does not begin with -----BEGIN PRIVATE KEY-----, as feature tls-native needs it: \
                 write it as PKCS #8 by `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`"
            }
        }
    }
}

/// Checks that a text holds what is wanted, all of it readable.
pub(super) fn look(text: &[u8], wanted: Wanted, is_openssl: bool) -> Result<(), Flaw> {
    let text = String::from_utf8_lossy(text);
    let mut is_found = false;
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix(BEGIN) else {
            // This happens where the line breaks are lost.
            if line.contains(BEGIN) {
                return Err(Flaw::Lines);
            }
            continue;
        };
        let label = rest
            .strip_suffix("-----")
            .filter(|label| !label.contains('-'))
            .ok_or(Flaw::Lines)?;
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        loop {
            match lines.next().map(str::trim_start) {
                None => return Err(Flaw::Lines),
                Some(line) if line == end => break,
                Some(line) if line.contains("-----") => return Err(Flaw::Lines),
                Some(line) => {
                    body.push_str(line);
                    body.push('\n');
                }
            }
        }
        let is_of_kind = match wanted {
            Wanted::Certificates => label == "CERTIFICATE",
            Wanted::Key => label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY"),
        };
        if !is_of_kind {
            continue;
        }
        if label == "ENCRYPTED PRIVATE KEY" || body.contains("ENCRYPTED") {
            return Err(Flaw::Encrypted);
        }
        if !is_der(&body) {
            return Err(Flaw::Content);
        }
        is_found = true;
        if wanted == Wanted::Key {
            // Only the first one is used.
            break;
        }
    }
    if !is_found {
        return Err(Flaw::None);
    }
    let is_pkcs8_alone = || text.starts_with("-----BEGIN PRIVATE KEY-----");
    if wanted == Wanted::Key && is_openssl && !is_pkcs8_alone() {
        return Err(Flaw::NotPkcs8);
    }
    Ok(())
}

/// Returns whether this is the base64 of exactly one DER sequence, as in certificates and keys.
fn is_der(body: &str) -> bool {
    let Some(bytes) = decode(body) else {
        return false;
    };
    let [0x30, length, rest @ ..] = &bytes[..] else {
        return false;
    };
    let of_length = match length {
        0x80 | 0x85.. => return false,
        0x81..=0x84 => usize::from(length & 0x7f),
        short => return rest.len() == usize::from(*short),
    };
    let Some((length, content)) = rest.split_at_checked(of_length) else {
        return false;
    };
    let length = length
        .iter()
        .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    content.len() == length
}

fn decode(body: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    let content = body.trim_end().trim_end_matches('=');
    for byte in content.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of three bytes, and of 130.
    const SHORT: &str = "MAMCAQE=";

    fn key(label: &str, body: &str) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
    }

    #[test]
    fn pem_flaws_are_classified() {
        use Wanted::{Certificates, Key};
        let lost = String::from_utf8(key("EC PRIVATE KEY", SHORT))
            .unwrap()
            .replace('\n', " ");
        let encrypted = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA";
        for (text, wanted, is_openssl, flaw) in [
            (key("PRIVATE KEY", SHORT), Key, true, Ok(())),
            (key("RSA PRIVATE KEY", SHORT), Key, false, Ok(())),
            (key("CERTIFICATE", SHORT), Certificates, true, Ok(())),
            (
                key("RSA PRIVATE KEY", SHORT),
                Key,
                true,
                Err(Flaw::NotPkcs8),
            ),
            (
                [b"Bag Attributes\n", &key("PRIVATE KEY", SHORT)[..]].concat(),
                Key,
                true,
                Err(Flaw::NotPkcs8),
            ),
            (
                key("ENCRYPTED PRIVATE KEY", SHORT),
                Key,
                false,
                Err(Flaw::Encrypted),
            ),
            (
                key("RSA PRIVATE KEY", encrypted),
                Key,
                false,
                Err(Flaw::Encrypted),
            ),
            (
                key("CERTIFICATE", "AAAA"),
                Certificates,
                false,
                Err(Flaw::Content),
            ),
            (
                key("CERTIFICATE", "MAMCAQ"),
                Certificates,
                false,
                Err(Flaw::Content),
            ),
            (
                key("CERTIFICATE", "M*MCAQE="),
                Certificates,
                false,
                Err(Flaw::Content),
            ),
            (key("CERTIFICATE", SHORT), Key, false, Err(Flaw::None)),
            (lost.into_bytes(), Key, false, Err(Flaw::Lines)),
            (
                b"-----BEGIN PRIVATE KEY-----\nMAMCAQE=".to_vec(),
                Key,
                false,
                Err(Flaw::Lines),
            ),
            (
                b"MAMCAQE= -----BEGIN PRIVATE KEY-----".to_vec(),
                Key,
                false,
                Err(Flaw::Lines),
            ),
            (b"no PEM".to_vec(), Certificates, false, Err(Flaw::None)),
        ] {
            assert_eq!(
                look(&text, wanted, is_openssl),
                flaw,
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
    }
}
