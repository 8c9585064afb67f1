//! What errors of TLS mean, and what to do about them.

/// Whether sqlx does TLS with the system's library, which is OpenSSL on Linux.
pub(super) const IS_NATIVE: bool = cfg!(feature = "tls-native");

/// The longest message of a server, in characters.
const WORDS_CHARS: usize = 300;

/// Returns another program's message, in one line and of limited length.
pub(crate) fn words(said: &str) -> String {
    let mut words: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS_CHARS)
        .collect();
    words.truncate(words.trim_end().len());
    words
}

/// Returns the message of a TLS error; `None` if it may hold lines of a file, such as a key.
pub(super) fn words_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let text = error.to_string();
    if let Some(said) = of_openssl(&text) {
        return Some(said);
    }
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    if error.is::<rustls::Error>() {
        return Some(words(&text));
    }
    let is_of_the_system = IS_NATIVE && !text.starts_with("Invalid certificate");
    is_of_the_system.then(|| words(&text))
}

/// Returns what OpenSSL means by
/// `error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:…`, if the text is
/// OpenSSL's: the reasons, and what stands in parentheses behind them.
pub(super) fn of_openssl(text: &str) -> Option<String> {
    let mut reasons = Vec::new();
    for part in text.split(", ") {
        let Some((_, error)) = part.split_once("error:") else {
            continue;
        };
        // The number, the library, the function, and then the reason.
        let reason = error.split(':').nth(3)?.trim();
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() {
        return None;
    }
    let mut said = reasons.join(", ");
    if let Some((_, detail)) = text.rsplit_once(" (")
        && let Some(detail) = detail.strip_suffix(')')
        && !detail.starts_with("os error")
    {
        said = format!("{said}: {detail}");
    }
    Some(words(&said))
}

/// Returns what to do about a TLS error.
pub(super) fn advice(said: &str, tls_files: &str) -> String {
    let said = said.to_lowercase();
    let is = |word: &str| said.contains(word);
    // The server's alert, about the client.
    if is("alert") {
        let advice = if is("unknown ca") || is("unknownca") {
            "; the server does not know the authority that signed the certificate of sslcert: it has to be in its ssl_ca_file"
        } else if is("required") {
            "; the server wants a client certificate: set sslcert and sslkey"
        } else if is("certificate") {
            "; the server does not take the certificate of sslcert: is it valid now, and for clients?"
        } else {
            ""
        };
        return String::from(advice);
    }
    if is("keymismatch") || is("key values mismatch") {
        return String::from("; the key of sslkey is not that of the certificate in sslcert");
    }
    let of_a_file = [
        "asn1",
        "badencoding",
        "bad base64",
        "header too long",
        "no start line",
        "not enough data",
        "wrong tag",
    ];
    let is_of_a_file = said == "unsupported" || of_a_file.iter().any(|word| is(word));
    let is_of_name = is("name") && (is("valid") || is("mismatch")) || is("address mismatch");
    let is_of_time = ["expired", "not yet valid", "not valid yet", "notvalidyet"]
        .iter()
        .any(|word| is(word));
    // OpenSSL says of all of them that the certificate's verification failed.
    let advice = if is_of_name {
        "; the server's certificate is for another name: use the host name that is in it"
    } else if is_of_time {
        "; renew the server's certificate, or set this machine's clock"
    } else if is("unknownissuer")
        || is("unable to get")
        || is("self-signed")
        || is("self signed")
        || is("verify failed")
    {
        "; set sslrootcert to the certificate of the authority that signed the server's"
    } else if is_of_a_file && !tls_files.is_empty() {
        return format!("; one of these is damaged: {tls_files}");
    } else {
        ""
    };
    String::from(advice)
}
