//! The URL parameters that need no action: those that have no effect, and those that are refused
//! because they are not supported here.

use super::error::{UrlError, refused};

/// Parameters of libpq that have no effect here: they concern what sqlx does not do, or sockets
/// that are not ours to configure.
const WITHOUT_EFFECT: [&str; 13] = [
    "application_name",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "max_protocol_version",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

/// Parameters that other libraries read from a URL that the whole program shares.
const OF_OTHERS: [&str; 13] = [
    "acquire_timeout",
    "connection_limit",
    "idle_timeout",
    "max_connections",
    "max_lifetime",
    "min_connections",
    "pgbouncer",
    "pool_max_conns",
    "pool_min_conns",
    "pool_size",
    "pool_timeout",
    "schema",
    "socket_timeout",
];

/// Parameters that are obeyed or refused, to recognize a misspelt one.
const KNOWN: [&str; 26] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "min_protocol_version",
    "options",
    "passfile",
    "password",
    "port",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

pub(super) const UNKNOWN: &str = "is no parameter of a connection that is known here; is it spelt right? For settings of the session there is options";

/// Accepts or refuses a parameter that libpq knows and that is handled differently here, or not at
/// all. `number` counts the URL's parameters from 1: an unknown name may be a part of a password.
pub(super) fn other(name: &str, value: &str, number: usize) -> Result<(), UrlError> {
    let is_harmless = match name {
        "client_encoding" => {
            value.eq_ignore_ascii_case("utf8")
                || value.eq_ignore_ascii_case("utf-8")
                || value == "auto"
        }
        "gssencmode" | "channel_binding" => matches!(value, "disable" | "prefer"),
        "sslnegotiation" => value == "postgres",
        "sslcertmode" => matches!(value, "" | "allow"),
        // The versions that sqlx speaks.
        "min_protocol_version" => matches!(value, "" | "3.0"),
        "ssl_min_protocol_version" => matches!(value, "" | "TLSv1" | "TLSv1.1" | "TLSv1.2"),
        "ssl_max_protocol_version" => matches!(value, "" | "TLSv1.3"),
        "require_auth"
        | "requirepeer"
        | "requiressl"
        | "sslcrl"
        | "sslcrldir"
        | "sslpassword"
        | "sslkeylogfile"
        | "scram_client_key"
        | "scram_server_key"
        | "oauth_issuer"
        | "oauth_client_id"
        | "oauth_client_secret"
        | "oauth_scope"
        | "service"
        | "servicefile"
        | "replication"
        | "ssl" => value.is_empty() || value == "false" || (name == "requiressl" && value == "0"),
        _ if WITHOUT_EFFECT.contains(&name) || OF_OTHERS.contains(&name) => true,
        _ => return Err(unknown(name, number)),
    };
    if is_harmless {
        return Ok(());
    }
    Err(refused(name, "cannot be had with this value here"))
}

fn unknown(name: &str, number: usize) -> UrlError {
    let near = KNOWN
        .into_iter()
        .chain(WITHOUT_EFFECT)
        .find(|known| known.len() > 4 && name.len() < 40 && is_near(name, known));
    match near {
        Some(known) => refused(
            known,
            "a parameter in it has nearly this name, and is not known; is it spelt right?",
        ),
        None => refused(&format!("parameter {number}"), UNKNOWN),
    }
}

/// Returns whether at most two letters were added, left out or replaced.
fn is_near(name: &str, known: &str) -> bool {
    let known: Vec<char> = known.chars().collect();
    // The costs of turning what was read of `name` into each prefix of `known`.
    let mut costs: Vec<usize> = (0..=known.len()).collect();
    for (read, c) in name.chars().enumerate() {
        let mut before = costs[0];
        costs[0] = read + 1;
        for (place, wanted) in known.iter().enumerate() {
            let exchanged = before + usize::from(!c.eq_ignore_ascii_case(wanted));
            before = costs[place + 1];
            costs[place + 1] = exchanged.min(before + 1).min(costs[place] + 1);
        }
    }
    costs[known.len()] <= 2
}
