use super::*;

fn servers(url: &str) -> Servers {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refusal(url: &str) -> String {
    let error: UrlError = url.parse::<Servers>().expect_err(url);
    error.to_string()
}

#[test]
fn places_are_read_as_libpq_reads_them() {
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
fn a_refusal_names_the_parameter_and_no_value() {
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
fn a_passfile_has_a_host_by_its_name_wherever_its_address_is() {
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
fn several_servers_are_wanted_writable_unless_said_otherwise() {
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
fn a_socket_has_no_tls_and_want_of_tls_is_known() {
    assert!(!servers("postgres://u@/app?host=/run/pg&sslmode=require").lacks_tls());
    let lacks = servers("postgres://u@db/app?sslmode=require").lacks_tls();
    assert_eq!(lacks, !sqlx_core::net::tls::available());
}

#[test]
fn errors_of_the_system_are_said_in_words_with_what_to_do() {
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
