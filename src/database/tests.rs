use std::ffi::OsString;
use std::time::Duration;

use sqlx::postgres::PgSslMode;

use super::cause::Cause;
use super::environment::Environment;
use super::servers::Wanted;
use super::tls::TlsFile;
use super::*;

fn servers(url: &str) -> Servers {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refusal(url: &str) -> String {
    let error: UrlError = url.parse::<Servers>().expect_err(url);
    error.to_string()
}

/// Reads a URL with these variables, and no home.
fn read_in(url: &str, variables: &[(&str, &str)]) -> Result<Servers, UrlError> {
    let variable = |name: &str| {
        let set = variables.iter().find(|(variable, _)| *variable == name)?;
        Some(OsString::from(set.1))
    };
    let environment = Environment {
        variable: &variable,
        home: None,
    };
    url::parse(url, &environment)
}

#[test]
fn server_addresses_are_parsed_as_in_libpq() {
    for (url, place) in [
        ("postgres://app@db/app", "db:5432/app"),
        ("postgresql://app:secret@db:6432/trail", "db:6432/trail"),
        ("postgres://app@db", "db:5432/app"),
        ("postgres://app@[::1]:6432/app", "[::1]:6432/app"),
        ("postgres://app@[fe80::1]/app", "[fe80::1]:5432/app"),
        ("postgres://app@a,b/app", "a:5432/app, b:5432/app"),
        ("postgres://app@a:1,b:2/app", "a:1/app, b:2/app"),
        ("postgres://app@a,[::1]:7/app", "a:5432/app, [::1]:7/app"),
        ("postgres://app@/app?host=/run/pg", "/run/pg:5432/app"),
        ("postgres://app@%2Frun%2Fpg/app", "/run/pg:5432/app"),
        (
            "postgres://app@%2Frun%2Fpg:7,b/app",
            "/run/pg:7/app, b:5432/app",
        ),
        ("postgres:///app?host=a&user=me&port=9", "a:9/app"),
        (
            "postgres://me@/?host=a,b&port=1,2&dbname=app",
            "a:1/app, b:2/app",
        ),
        ("postgres://me@/app?host=a,b&port=9", "a:9/app, b:9/app"),
        (
            "postgres://me@name/app?hostaddr=10.0.0.1",
            "10.0.0.1:5432/app",
        ),
        ("postgres://me@h/%C3%A4%20b", "h:5432/ä b"),
    ] {
        assert_eq!(servers(url).place(), place, "{url}");
    }
}

#[test]
fn login_password_and_settings_are_decoded() {
    let servers = servers(
        "postgres://us%40er:p%3Aw%2F%40@db/app?options=-c%20search_path%3Da%5C%20b%20--jit%3Doff",
    );
    let options = servers.first();
    assert_eq!(options.get_username(), "us@er");
    assert_eq!(
        options.get_options(),
        Some("-c search_path=a\\ b -c jit=off")
    );
    assert!(servers.secrets.contains(&String::from("p:w/@")));
    let at_in_password = "postgres://user:p@ss@db/app".parse::<Servers>().unwrap();
    assert_eq!(at_in_password.place(), "db:5432/app");
}

#[test]
fn url_error_names_the_parameter_and_never_its_value() {
    for (url, names) in [
        ("mysql://u:hidden@db/app", "postgres://"),
        ("host=db password=hidden", "postgres://"),
        ("postgres://u:hid/den@db/app", "percent-encoded"),
        ("postgres://u:12?hidden=x@db/app", "percent-encoded"),
        ("postgres://u:12/hidden@db/app", "percent-encoded"),
        ("postgres://u:p@x/hidden@db/app", "percent-encoded"),
        ("postgres://u:p@x?hidden=y@db/app", "percent-encoded"),
        ("postgres://u:p@x?hidden&y@db/app", "percent-encoded"),
        ("postgres://u:hidden@db:99999/app", "percent-encoded"),
        ("postgres://u:hidden@db:0/app", "percent-encoded"),
        ("postgres://u:hidden@[::1/app", "IPv6"),
        ("postgres://u:hidden@d%20b/app", "blank"),
        ("postgres://u:hidden@db/a%00b", "NUL"),
        ("postgres://u:hidden@db/app?sslmod=require", "sslmod"),
        ("postgres://u:hidden@db/app?sslmode=hidden", "sslmode"),
        (
            "postgres://u:hidden@db/app?target_session_attrs=hidden",
            "target_session_attrs",
        ),
        (
            "postgres://u:hidden@db/app?channel_binding=require",
            "channel_binding",
        ),
        ("postgres://u:hidden@db/app?sslcrl=/hidden", "sslcrl"),
        (
            "postgres://u:hidden@db/app?require_auth=hidden",
            "require_auth",
        ),
        ("postgres://u:hidden", "percent-encoded"),
        ("postgres://u:hidden?sslmode", "percent-encoded"),
        ("postgres://u@db/app?password=a&hidden", "parameter 2"),
        ("postgres://u@db/app?password=a&hidden=b", "parameter 2"),
        ("postgres://u@db/app?password=a&hidden%0A", "parameter 2"),
        ("postgres://u:12?hidden", "parameter 1"),
        ("postgres://u@db/app?port=hidden", "port"),
        ("postgres://u@db/app?sslcertmode=require", "sslcertmode"),
        (
            "postgres://u@db/app?min_protocol_version=3.2",
            "min_protocol_version",
        ),
        ("postgres://u@db/app?sslkey=hidden", "sslcert"),
        ("postgres://u:hidden@a,b,c/app?port=1,2", "port"),
        ("postgres://u:hidden@db/app?hostaddr=hidden", "hostaddr"),
        (
            "postgres://u:hidden@db/app?connect_timeout=hidden",
            "connect_timeout",
        ),
        ("postgres://u:hidden@db/app?options=hidden", "options"),
        ("postgres://u:hidden@db/app?sslcert=/hidden", "sslkey"),
        (
            "postgres://u:hidden@db/app?sslrootcert=system&sslmode=require",
            "sslrootcert",
        ),
    ] {
        let said = refusal(url);
        assert!(said.contains(names), "{url}: {said}");
        assert!(!said.contains("hidden"), "{url}: {said}");
    }
}

#[cfg(unix)]
#[test]
fn passfile_is_matched_by_host_name_even_if_hostaddr_is_set() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("passfile-{}", uuid::Uuid::new_v4()));
    let lines = "db:*:*:u:of\\:the name\n10.0.0.1:*:*:u:of the address\n";
    std::fs::write(&path, lines).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let password = |host: &str| {
        let path = path.display();
        let servers = servers(&format!("postgres://u@{host}passfile={path}"));
        servers.secrets.first().cloned().unwrap_or_default()
    };
    assert_eq!(password("db/app?"), "of:the name");
    assert_eq!(password("db/app?hostaddr=10.0.0.1&"), "of:the name");
    assert_eq!(password("/app?hostaddr=10.0.0.1&"), "of the address");
    assert_eq!(password("other/app?"), "");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn parameters_of_other_libraries_change_nothing() {
    let url = "postgres://u@db/app?pgbouncer=true&schema=public&keepalives_idle=5&application_name=x&connect_timeout=3";
    assert_eq!(servers(url).place(), "db:5432/app");
    assert_eq!(servers(url).connect_timeout, Some(Duration::from_secs(3)));
}

#[test]
fn multiple_hosts_default_to_the_writable_server() {
    assert_eq!(servers("postgres://u@a/app").wanted, Wanted::Any);
    assert_eq!(servers("postgres://u@a,b/app").wanted, Wanted::Writable);
    let standby = servers("postgres://u@a,b/app?target_session_attrs=standby");
    assert_eq!(standby.wanted, Wanted::Standby);
    assert!(!standby.can_be_written());
}

#[test]
fn debug_and_messages_hold_no_password() {
    let servers = servers("postgres://u:geheim@a,b/app?options=-c%20a.key%3Dverborgen");
    assert!(!format!("{servers:?}").contains("geheim"));
    let cause = Cause::to_mend("geheim was refused, a.key=verborgen, -c a.key=verborgen");
    let said = Unreachable::new(vec![(String::from("x"), cause.without(&servers.secrets))]);
    assert!(!said.to_string().contains("geheim"), "{said}");
    assert!(!said.to_string().contains("verborgen"), "{said}");
}

#[test]
fn unix_socket_needs_no_tls_and_a_build_without_tls_is_detected() {
    assert!(!servers("postgres://u@/app?host=/run/pg&sslmode=require").lacks_tls());
    let lacks = servers("postgres://u@db/app?sslmode=require").lacks_tls();
    assert_eq!(lacks, !sqlx_core::net::tls::available());
}

#[test]
fn io_errors_are_explained_with_a_remedy() {
    use std::io::{Error, ErrorKind};
    for (error, words) in [
        (Error::from_raw_os_error(24), "too many open files"),
        (Error::from_raw_os_error(23), "too many open files"),
        (
            Error::from(ErrorKind::ConnectionRefused),
            "connection refused",
        ),
        (
            Error::from(ErrorKind::ConnectionReset),
            "closed by the other side",
        ),
        (
            Error::from(ErrorKind::UnexpectedEof),
            "closed by the other side",
        ),
        (Error::from(ErrorKind::NotFound), "no such file"),
        (Error::from(ErrorKind::TimedOut), "firewall"),
        (
            Error::other("failed to lookup address information: Name or service not known"),
            "cannot be resolved: Name or service not known",
        ),
        (
            Error::new(
                ErrorKind::InvalidData,
                "invalid peer certificate: UnknownIssuer",
            ),
            "sslrootcert",
        ),
        (
            Error::new(ErrorKind::InvalidData, "invalid peer certificate: Expired"),
            "clock",
        ),
    ] {
        let said = cause::of_io(&error);
        assert!(said.contains(words), "{error}: {said}");
        assert!(!said.contains("os error"), "{said}");
    }
}

#[test]
fn misspelt_parameter_is_reported_as_the_known_one_it_resembles() {
    for (name, known) in [
        ("sslmod", "sslmode"),
        ("sslMode", "sslmode"),
        ("target_session_attr", "target_session_attrs"),
        ("chanel_binding", "channel_binding"),
        ("passw0rd", "password"),
        ("keepalive", "keepalives"),
    ] {
        let said = refusal(&format!("postgres://u@db/app?{name}=x"));
        assert!(said.starts_with(&format!("{known}: ")), "{name}: {said}");
    }
}

#[test]
fn libpq_variable_applies_if_the_url_does_not_set_the_parameter() {
    let url = "postgres:///";
    let all = read_in(
        url,
        &[
            ("PGHOST", "a,b"),
            ("PGPORT", "1,"),
            ("PGUSER", "me"),
            ("PGDATABASE", "trail"),
            ("PGPASSWORD", "geheim"),
            ("PGCONNECT_TIMEOUT", " 7 "),
            ("PGTARGETSESSIONATTRS", "standby"),
            ("PGOPTIONS", "-c a.key=verborgen"),
        ],
    )
    .unwrap();
    assert_eq!(all.place(), "a:1/trail, b:5432/trail");
    assert_eq!(all.login(), "me");
    assert_eq!(all.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(
        (all.wanted, all.wanted_by()),
        (Wanted::Standby, "PGTARGETSESSIONATTRS")
    );
    assert_eq!(all.secrets, ["verborgen", "geheim"]);
    for (variables, mode) in [
        (&[("PGSSLMODE", "verify-full")][..], "VerifyFull"),
        (&[("PGSSLMODE", "")], "Prefer"),
        (&[("PGREQUIRESSL", "1")], "Require"),
        (
            &[("PGREQUIRESSL", "1"), ("PGSSLMODE", "disable")],
            "Disable",
        ),
        (&[("PGREQUIRESSL", "0")], "Prefer"),
        (
            &[("PGSSLMODE", "require"), ("PGSSLROOTCERT", "/ca.pem")],
            "VerifyCa",
        ),
    ] {
        let servers = read_in("postgres://u@db/app", variables).unwrap();
        assert_eq!(format!("{:?}", servers.ssl_mode), mode, "{variables:?}");
    }
    let at = read_in(
        "postgres://u@db/app",
        &[("PGHOSTADDR", "10.0.0.1"), ("PGPORT", "9")],
    );
    assert_eq!(at.unwrap().place(), "10.0.0.1:9/app");
}

#[test]
fn url_takes_precedence_over_libpq_variables() {
    let variables = [
        ("PGHOST", "other"),
        ("PGPORT", "hidden"),
        ("PGUSER", "other"),
        ("PGDATABASE", "other"),
        ("PGPASSWORD", "other"),
        ("PGSSLMODE", "hidden"),
        ("PGREQUIRESSL", "hidden"),
        ("PGCHANNELBINDING", "require"),
        ("PGCONNECT_TIMEOUT", "hidden"),
        ("PGTARGETSESSIONATTRS", "hidden"),
        ("PGLOADBALANCEHOSTS", "hidden"),
    ];
    let url = "postgres://me:geheim@db:7/app?ssl-mode=disable&channel_binding=prefer&connect_timeout=3\
               &target_session_attrs=any&load_balance_hosts=disable";
    let servers = read_in(url, &variables).unwrap();
    assert_eq!(
        (servers.place().as_str(), servers.login()),
        ("db:7/app", "me")
    );
    assert_eq!(servers.secrets, ["geheim"]);
    assert!(matches!(servers.ssl_mode, PgSslMode::Disable));
}

#[test]
fn invalid_or_unsupported_libpq_variable_is_an_error_that_names_it() {
    for (name, value) in [
        ("PGSSLMODE", "verify-fll"),
        ("PGREQUIRESSL", "yes"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGREQUIREPEER", "postgres"),
        ("PGGSSENCMODE", "require"),
        ("PGSSLCERTMODE", "require"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
        ("PGMINPROTOCOLVERSION", "3.2"),
        ("PGSSLCRL", "/crl.pem"),
        ("PGSSLCRLDIR", "/crl"),
        ("PGSERVICE", "trail"),
        ("PGCONNECT_TIMEOUT", "soon"),
        ("PGTARGETSESSIONATTRS", "read-writ"),
        ("PGLOADBALANCEHOSTS", "yes"),
        ("PGPORT", "none"),
        ("PGHOSTADDR", "db"),
        ("PGUSER", ""),
        ("PGSSLCERT", ""),
        ("PGSSLKEY", ""),
    ] {
        match read_in("postgres://db/app", &[(name, value)]) {
            Err(UrlError::Parameter { name: named, .. }) => assert_eq!(named, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn libpq_variable_that_is_not_utf8_is_an_error_that_names_it() {
    use std::os::unix::ffi::OsStringExt as _;
    for name in ["PGPASSWORD", "PGSSLMODE", "PGOPTIONS"] {
        let variable = |asked: &str| (asked == name).then(|| OsString::from_vec(vec![b'x', 0xff]));
        let environment = Environment {
            variable: &variable,
            home: None,
        };
        let error = url::parse("postgres://u@db/app", &environment).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn root_certificate_raises_sslmode_as_in_libpq() {
    let home = std::env::temp_dir().join(format!("home-{}", uuid::Uuid::new_v4()));
    let file = home.join(if cfg!(windows) {
        "AppData/Roaming/postgresql/root.crt"
    } else {
        ".postgresql/root.crt"
    });
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mode = |parameters: &str| {
        let environment = Environment {
            variable: &|_| None,
            home: Some(home.clone()),
        };
        let url = format!("postgres://u@db/app?{parameters}");
        let servers = url::parse(&url, &environment).unwrap();
        (format!("{:?}", servers.ssl_mode), servers.tls_files.len())
    };
    assert_eq!(mode("sslmode=require"), ("Require".into(), 0));
    assert_eq!(
        mode("sslmode=require&sslrootcert=/ca"),
        ("VerifyCa".into(), 1)
    );
    assert_eq!(mode("ssl=true&ssl-ca=/ca"), ("VerifyCa".into(), 1));
    std::fs::write(&file, "").unwrap();
    assert_eq!(mode("sslmode=require"), ("VerifyCa".into(), 1));
    assert_eq!(mode("sslmode=verify-full"), ("VerifyFull".into(), 1));
    assert_eq!(mode("sslmode=prefer"), ("Prefer".into(), 0));
    assert_eq!(mode("sslrootcert=system"), ("VerifyFull".into(), 0));
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn private_key_never_appears_in_an_error_message() {
    let key = "MC4CAQAwBQYDK2VwBCIEIHWZKPZQtWnFGqHQyGPpmcmXGuXQrpKqIn0jSFoR9gDk";
    let begin = "-----BEGIN PRIVATE KEY-----";
    let end = "-----END PRIVATE KEY-----";
    for (text, words) in [
        (format!("{begin} {key} {end}"), "line breaks"),
        (format!("{begin}{key}{end}"), "line breaks"),
        (format!("{begin}\n{key} {end}"), "line breaks"),
        (format!("{begin}\n{key}"), "missing"),
        (format!("Bag Attributes {begin} {key} {end}"), "line breaks"),
        (format!("{begin}\n{}\n{end}", &key[1..]), "damaged"),
        (String::from(key), "not absolute"),
        (format!("{key}\n"), "no -----BEGIN"),
    ] {
        let file = TlsFile::new("sslkey", &text);
        let said = file.check().unwrap_err();
        let said = said.text();
        assert!(
            said.contains("sslkey") && said.contains(words),
            "{text}: {said}"
        );
        let is_repeated = key.as_bytes().windows(8).any(|part| {
            let decimal: Vec<_> = part.iter().map(u8::to_string).collect();
            let part = std::str::from_utf8(part).unwrap();
            said.contains(part) || said.contains(&decimal.join(", "))
        });
        assert!(!is_repeated, "{said}");
    }
    // As sqlx reports it for rustls.
    let said = [
        sqlx::Error::Configuration(format!("missing section end marker: {key}").into()),
        #[cfg(not(feature = "tls-native"))]
        sqlx::Error::Tls(format!("missing section end marker: {key}").into()),
        sqlx::Error::Tls(format!("Invalid certificate {key}").into()),
    ];
    for error in said {
        let cause = Cause::of(error, PgSslMode::Require, "sslkey (/k)");
        let said = cause.text();
        assert!(
            !said.contains(key) && said.contains("sslkey (/k)"),
            "{said}"
        );
    }
}

#[test]
fn openssl_errors_are_explained_without_openssl_codes() {
    for (error, words) in [
        (
            "error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../ssl/record/rec_layer_s3.c:1605:SSL alert number 48",
            "ssl_ca_file",
        ),
        (
            "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:x.c:1:SSL alert number 116",
            "set sslcert and sslkey",
        ),
        (
            "error:05800074:x509 certificate routines:X509_check_private_key:key values mismatch:x.c:408:",
            "not that of the certificate",
        ),
        (
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:1889: (unable to get local issuer certificate)",
            "certificate verify failed: unable to get local issuer certificate; set sslrootcert",
        ),
        (
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:1889: (Hostname mismatch)",
            "use the host name that is in it",
        ),
        (
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:1889: (IP address mismatch)",
            "use the host name that is in it",
        ),
        (
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:1889: (certificate has expired)",
            "renew the server's certificate",
        ),
        (
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:1889: (certificate is not yet valid)",
            "set this machine's clock",
        ),
        (
            "error:0688010A:asn1 encoding routines:asn1_d2i_ex_primitive:nested asn1 error:x.c:1:Type=X509",
            "one of these is damaged: sslcert (/c)",
        ),
        (
            "error:1E08010C:DECODER routines:OSSL_DECODER_from_bio:unsupported:x.c:102:",
            "one of these is damaged: sslcert (/c)",
        ),
    ] {
        let error = sqlx::Error::Tls(error.into());
        let cause = Cause::of(error, PgSslMode::Require, "sslcert (/c)");
        let said = cause.text();
        assert!(said.contains(words), "{said}");
        assert!(
            !said.contains("error:") && !said.contains("routines"),
            "{said}"
        );
    }
}

#[test]
fn failed_handshake_is_not_blamed_on_a_tls_file() {
    let said = "error:0A000102:SSL routines:tls_process_server_hello:unsupported protocol:x.c:1:";
    let cause = Cause::of(
        sqlx::Error::Tls(said.into()),
        PgSslMode::Require,
        "sslcert (/c)",
    );
    assert_eq!(cause.text(), "TLS: unsupported protocol");
}

#[cfg(unix)]
#[test]
fn unusable_passfile_is_reported_and_a_line_that_is_not_utf8_is_skipped() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("passfile-{}", uuid::Uuid::new_v4()));
    let read = || servers(&format!("postgres://u@db/app?passfile={}", path.display()));
    let write = |content: &[u8], mode: u32| {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write(
        b"# caf\xe9\nother:*:*:*:caf\xe9\ndb:*:*:u:geheim\r\n",
        0o600,
    );
    assert_eq!(read().secrets, ["geheim"]);
    assert_eq!(read().passfile_note, None);
    write(b"db:*:*:u:caf\xe9\n", 0o600);
    assert!(read().passfile_note.unwrap().contains("UTF-8"));
    write(b"db:*:*:u:geheim\n", 0o644);
    let servers = read();
    assert!(servers.secrets.is_empty());
    let note = servers.passfile_note.unwrap();
    assert!(
        note.contains("chmod 600") && note.contains(&path.display().to_string()),
        "{note}"
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read().passfile_note, None);
}
