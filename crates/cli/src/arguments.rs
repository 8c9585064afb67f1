//! Reads the program's arguments without ever repeating one that may hold a password.
//!
//! An error message ends up in terminals, job logs and tickets. A user who forgets `--url` before a
//! database URL gets an error that does not contain the URL.

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::{Cli, lacking};

/// Options whose value may be a URL: the database's, or free text that is never repeated.
const MAY_BE_URL: [&str; 4] = ["--url", "--text", "--purpose", "--reason"];

/// The error for a database URL where none is expected, in place of the argument.
const NO_PLACE: &str = "an argument looks like a database URL and does not stand where one is expected; it is not repeated, \
     since it may hold a password: name the database with --url, or in AUDIT_DATABASE_URL";

/// The error in place of a clap message that may hold a secret.
const NOT_REPEATED: &str =
    "an argument is not understood; it is not repeated, since it may hold a password: see --help";

/// Reads the arguments of this process. Returns an error message if they are invalid, or if one
/// holds a secret where none may be.
pub(crate) fn read() -> Result<Cli, String> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if is_url_out_of_place(&arguments) {
        return Err(String::from(NO_PLACE));
    }
    Cli::try_parse_from(arguments).map_err(|error| {
        let error = lacking::explain(error);
        let is_help = matches!(
            error.kind(),
            ErrorKind::DisplayHelp
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::DisplayVersion
        );
        if is_help || !may_hold_secret(&error.render().to_string()) {
            error.exit()
        }
        String::from(NOT_REPEATED)
    })
}

/// Whether a database URL stands where a message could repeat it or a command could record it.
fn is_url_out_of_place(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().skip(1).map(|said| said.to_string_lossy());
    while let Some(argument) = arguments.next() {
        if MAY_BE_URL.contains(&&*argument) {
            arguments.next();
            continue;
        }
        let is_of_option = |option: &&str| {
            let value = argument.strip_prefix(*option);
            value.is_some_and(|value| value.starts_with('='))
        };
        if !MAY_BE_URL.iter().any(is_of_option) && is_database_url(&argument) {
            return true;
        }
    }
    false
}

/// Whether the argument contains a Postgres URL, another URL with a password, or a password in
/// libpq's `password=` form.
fn is_database_url(argument: &str) -> bool {
    let argument = argument.to_ascii_lowercase();
    let has_login = || {
        let (_, rest) = argument.split_once("://")?;
        let (login, _) = rest.split_once('@')?;
        Some(login.contains(':'))
    };
    argument.contains("postgres://")
        || argument.contains("postgresql://")
        || argument.contains("password=")
        || has_login().unwrap_or(false)
}

/// Whether a message of clap's may repeat a password: it has a URL in it, or the rest of one.
fn may_hold_secret(said: &str) -> bool {
    let words = || said.split_whitespace();
    let is_login = |word: &str| {
        word.split_once(':')
            .is_some_and(|(_, rest)| rest.contains('@'))
    };
    words().any(|word| is_database_url(word) || is_login(word) || word.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_out_of_place(words: &[&str]) -> bool {
        let arguments: Vec<_> = ["program"]
            .iter()
            .chain(words)
            .map(OsString::from)
            .collect();
        is_url_out_of_place(&arguments)
    }

    #[test]
    fn database_url_is_accepted_only_as_the_value_of_url_or_of_free_text() {
        let url = "postgres://u:geheim@h/d";
        for words in [
            &["--url", url, "doctor"][..],
            &["doctor", "--url=postgres://u:geheim@h/d"],
            &["find", "--text", url],
            &["hold", "--reason=copied by password= of u"],
            &["show", "https://example.org/requests/1"],
            &["show", "order:7@eu"],
        ] {
            assert!(!is_out_of_place(words), "{words:?}");
        }
        for words in [
            &["doctor", url][..],
            &[url],
            &["--url", url, "doctor", url],
            &["show", "POSTGRESQL://u@h/d"],
            &["doctor", "--json=postgres://u:geheim@h/d"],
            &["doctor", "--max-age", url],
            &["spool", "list", url],
            &["--urls=postgres://u:geheim@h/d"],
            &["doctor", "mysql://u:geheim@h/d"],
            &["doctor", "host=h password=geheim"],
        ] {
            assert!(is_out_of_place(words), "{words:?}");
        }
    }

    #[test]
    fn message_with_a_fragment_of_a_url_may_hold_a_secret() {
        assert!(may_hold_secret("unexpected argument 'u:geheim@h/d' found"));
        assert!(may_hold_secret(
            "invalid value 'x://geheim' for '--limit <N>'"
        ));
        assert!(!may_hold_secret(
            "unrecognized subcommand 'doctr'\n\n  tip: a similar subcommand exists: 'doctor'"
        ));
    }
}
