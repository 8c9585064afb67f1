//! How a server is reached, what is reported if it is not, and that none of this panics.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing_audit::{Audit, BuildError, Event, Health};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use testkit::heard::hear;
use testkit::proxy::Proxy;
use testkit::trail::{Folder, PATIENCE, Trail};
use testkit::{Postgres, wait_until};

fn start(url: &str) -> (Audit, Folder) {
    let spool = Folder::new();
    let audit = Audit::builder()
        .postgres(url)
        .spool(&spool.0)
        .start()
        .unwrap();
    (audit, spool)
}

/// Returns what is reported about a server that cannot be reached.
fn fault(url: &str) -> String {
    let (audit, _spool) = start(url);
    audit.record(Event::new("waits")).unwrap();
    wait_until("a fault is known", PATIENCE, || {
        audit.stats().fault().is_some()
    });
    let stats = audit.stats();
    assert_eq!((stats.restarts(), stats.pending()), (0, 1));
    assert!(matches!(stats.health(), Health::Retrying | Health::Holding));
    let fault = String::from(stats.fault().unwrap());
    audit.shutdown_blocking(Duration::ZERO);
    fault
}

#[test]
fn a_database_that_lacks_the_trail_is_named() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE plain LOGIN");
    let said = fault(&postgres.url_as("plain"));
    let place = format!("127.0.0.1:{}/audit: the audit tables", postgres.port());
    assert!(said.contains(&place), "{said}");
    // What is advised can be pasted into a shell.
    postgres.psql("CREATE ROLE \"o'hara 2\" LOGIN");
    let said = fault(&postgres.url_as("o'hara%202"));
    assert!(said.contains(r"--writer-login 'o'\''hara 2'"), "{said}");
}

/// Asserts that a record sent to this URL is committed.
fn assert_commits(url: &str) {
    let (audit, _spool) = start(url);
    audit.record(Event::new("arrives")).unwrap();
    let flushed = audit.flush_blocking(PATIENCE);
    let stats = audit.stats();
    assert!(flushed.is_ok(), "{url}: {:?}", stats.fault());
    assert_eq!((stats.committed(), stats.restarts()), (1, 0), "{url}");
    wait_until("no fault is left", PATIENCE, || {
        audit.stats().fault().is_none()
    });
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Requires passwords for logins.
fn ask_for_passwords(postgres: &Postgres) {
    let hba = postgres.data_dir().join("pg_hba.conf");
    let before = fs::read_to_string(&hba).unwrap();
    let rule = "host all guarded all scram-sha-256\nhostssl all tls_only all trust\n\
                hostnossl all tls_only all reject\n";
    fs::write(&hba, format!("{rule}{before}")).unwrap();
    postgres.psql("SELECT pg_reload_conf()");
}

#[test]
fn connection_fault_names_the_server_the_cause_and_the_remedy() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE guarded LOGIN PASSWORD 'right one'; CREATE ROLE tls_only LOGIN");
    ask_for_passwords(&postgres);
    let port = postgres.port();
    let rejects = || postgres.try_session("tls_only").is_err();
    wait_until("the rules are in force", PATIENCE, rejects);
    for (url, words) in [
        (
            String::from("postgres://app:SECRET@127.0.0.1:1/app"),
            &["127.0.0.1:1/app", "connection refused"][..],
        ),
        (
            String::from("postgres://app:SECRET@no-such-host.invalid:5432/app"),
            &["no-such-host.invalid:5432/app", "cannot be resolved"],
        ),
        (
            String::from("postgres://app:SECRET@/app?host=/no/such/folder"),
            &["/no/such/folder:5432/app", "no such file"],
        ),
        (
            format!("postgres://guarded:SECRET@127.0.0.1:{port}/audit"),
            &[
                "audit",
                "password authentication failed",
                "28P01",
                "check the password",
            ],
        ),
        (
            format!("postgres://postgres:SECRET@127.0.0.1:{port}/nowhere"),
            &["nowhere", "does not exist", "3D000", "make the database"],
        ),
        (
            format!("postgres://tls_only:SECRET@127.0.0.1:{port}/audit?sslmode=disable"),
            &["28000", "TLS"],
        ),
        (
            format!("postgres://postgres:SECRET@127.0.0.1:{port}/audit?options=-c%20jit%3DSECRET"),
            &["22023", "jit"],
        ),
        (
            String::from("postgres://app:SECRET@127.0.0.1:1,[::1]:2/app"),
            &["127.0.0.1:1/app: connection refused", "[::1]:2/app: "],
        ),
    ] {
        let said = fault(&url);
        for word in words {
            assert!(said.contains(word), "{url}: {said}");
        }
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn connection_fault_names_max_connections_when_the_server_is_full() {
    let postgres = Postgres::start_with(&["max_connections=5", "superuser_reserved_connections=1"]);
    postgres.psql("CREATE ROLE app LOGIN");
    let mut sessions = Vec::new();
    while let Ok(session) = postgres.try_session("app") {
        sessions.push(session);
    }
    let said = fault(&postgres.url_as("app"));
    assert!(
        said.contains("53300") && said.contains("max_connections"),
        "{said}"
    );
}

#[test]
fn fault_is_logged_when_it_begins_when_its_cause_changes_and_when_it_ends() {
    let mut postgres = Postgres::start();
    let proxy = Proxy::start(postgres.port());
    let (audit, _spool) = start(&proxy.url());
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(log).init();
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.stop(testkit::Stop::Fast);
    proxy.cut();
    audit.record(Event::new("second")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    let next_of = |words: &str| {
        let line = heard.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|_| panic!("nothing was said of: {words}"));
        assert!(line.contains(words), "{words}: {line}");
        line
    };
    // First the connection's line, then the one that says that there is no other.
    let mut line = next_of("Postgres");
    while !line.contains("cannot reach Postgres at 127.0.0.1:") {
        line = next_of("Postgres");
    }
    assert!(line.contains("retried every 5 s"), "{line}");
    postgres.start_again();
    audit.flush_blocking(PATIENCE).unwrap();
    wait_until("it is over", PATIENCE, || {
        let stats = audit.stats();
        stats.fault().is_none() && stats.health() == Health::Healthy
    });
}

#[test]
fn connection_whose_packets_are_lost_is_closed_within_seconds() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.port());
    let (audit, _spool) = start(&proxy.url());
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    proxy.swallow(true);
    audit.record(Event::new("second")).unwrap();
    let began = Instant::now();
    wait_until("it is noticed", Duration::from_secs(30), || {
        audit.stats().health() == Health::Retrying
    });
    let stats = audit.stats();
    let fault = stats.fault().unwrap();
    assert!(fault.contains("no answer"), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(30));
    proxy.swallow(false);
    proxy.cut();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.events"), "2");
}

#[test]
fn connection_to_a_slow_server_stays_open() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // COMMIT is complete locally, and waits for a standby that does not exist.
    let set = |to: &str| {
        trail.postgres.psql(&format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{to}'"
        ));
        trail.postgres.psql("SELECT pg_reload_conf()");
    };
    set("nobody");
    trail.audit.record(Event::new("second")).unwrap();
    let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event = 'SyncRep'";
    let mut pid = String::new();
    wait_until("COMMIT waits", PATIENCE, || {
        pid = trail.postgres.psql(waiting);
        !pid.is_empty()
    });
    let looks_at =
        format!("SELECT now() - state_change > '12 s' FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("it was looked at twice", PATIENCE, || {
        trail.postgres.psql(&looks_at) == "t"
    });
    assert_eq!(trail.postgres.psql(waiting), pid, "the same connection");
    set("");
    trail.audit.flush_blocking(PATIENCE).unwrap();
}

#[test]
fn pipeline_connects_to_the_writable_server_among_several() {
    let mut primary = Postgres::start_with(&["wal_level=replica"]);
    let standby = primary.start_standby();
    assert_commits(&format!(
        "postgres://postgres@127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}/audit",
        standby.port(),
        primary.port()
    ));
    assert_eq!(primary.psql("SELECT count(*) FROM audit.events"), "1");
    let said = fault(&format!(
        "postgres://postgres@127.0.0.1:1,127.0.0.1:{}/audit?target_session_attrs=primary",
        standby.port()
    ));
    assert!(
        said.contains("connection refused") && said.contains("read-only"),
        "{said}"
    );
}

#[test]
fn sockets_and_addresses_are_parsed_as_libpq_parses_them() {
    let postgres = Postgres::start();
    let (port, socket) = (postgres.port(), postgres.socket_url());
    assert_commits(&socket);
    let (_, folder) = socket.split_once("?host=").unwrap();
    assert_commits(&format!("postgresql://postgres@/audit?host={folder}"));
    assert_commits(&format!(
        "postgres:///audit?host=nowhere.invalid&hostaddr=127.0.0.1&user=postgres&port={port}"
    ));
    assert_commits(&format!(
        "postgres://postgres@127.0.0.1/audit?port={port}&keepalives=1"
    ));
}

#[test]
fn password_is_read_from_the_passfile() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'pass:word'");
    ask_for_passwords(&postgres);
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("pass");
    fs::write(
        &file,
        "# of others\nother:*:*:*:no\n*:*:audit:guarded:pass\\:word\n",
    )
    .unwrap();
    let url = format!(
        "postgres://guarded@127.0.0.1:{}/audit?passfile={}",
        postgres.port(),
        text(&file)
    );
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_commits(&url);
}

#[test]
fn start_refuses_an_invalid_url_without_echoing_its_values() {
    for (url, name) in [
        ("postgres://u:SECRET@h/d?sslmod=SECRET", "sslmode"),
        ("postgres://u@h/d?password=a&SECRET", "parameter 2"),
        (
            "postgres://u:SECRET@h/d?target_session_attrs=standby",
            "target_session_attrs",
        ),
        ("postgres://u:SECRET@h/d?sslmode=SECRET", "sslmode"),
    ] {
        let error = Audit::builder().postgres(url).start().unwrap_err();
        assert!(
            matches!(&error, BuildError::DatabaseParameter { parameter, .. } if parameter == name),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("SECRET"));
        let error = tracing_audit::migrate(url).unwrap_err();
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }
}

#[cfg(not(any(
    feature = "tls-ring",
    feature = "tls-aws-lc-rs",
    feature = "tls-native"
)))]
#[test]
fn start_refuses_a_tls_url_in_a_build_without_tls() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://u:SECRET@h/d?sslmode={mode}");
        let error = Audit::builder().postgres(url).start().unwrap_err();
        assert!(matches!(error, BuildError::NoTls), "{error}");
        assert!(error.to_string().contains("tls-ring"), "{error}");
    }
}

#[cfg(any(
    feature = "tls-ring",
    feature = "tls-aws-lc-rs",
    feature = "tls-native"
))]
mod tls {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;

    /// Writes a file as the server's account, which must own its key.
    fn write_as_server(postgres: &Postgres, name: &str, content: &str) {
        let file = text(&postgres.data_dir().join(name));
        let mut writing = postgres
            .of_account("sh")
            .args(["-c", "umask 077; cat > \"$0\"", &file])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writing
            .stdin
            .take()
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
        assert!(writing.wait().unwrap().success());
    }

    /// Enables TLS, with a certificate for `localhost`; returns its authority's certificate.
    fn switch_on(postgres: &Postgres) -> String {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        // Otherwise it would have the same name as the server's, which would then look self-signed.
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([String::from("localhost")])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        for (name, content) in [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            write_as_server(postgres, name, &content);
        }
        postgres.psql("ALTER SYSTEM SET ssl = on");
        postgres.psql("SELECT pg_reload_conf()");
        wait_until("TLS is on", PATIENCE, || postgres.psql("SHOW ssl") == "on");
        authority.pem()
    }

    #[allow(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn every_sslmode_connects_or_reports_an_error_without_a_panic() {
        let postgres = Postgres::start();
        let folder = Folder::new();
        fs::create_dir_all(&folder.0).unwrap();
        let file = |name: &str, content: &str| {
            let file = folder.0.join(name);
            fs::write(&file, content).unwrap();
            text(&file)
        };
        let at = |host: &str, parameters: &str| {
            format!(
                "postgres://postgres@{host}:{}/audit?{parameters}",
                postgres.port()
            )
        };
        for mode in ["require", "verify-full"] {
            let said = fault(&at("localhost", &format!("sslmode={mode}")));
            assert!(
                said.contains("offers no TLS") && said.contains(mode),
                "{said}"
            );
        }
        let authority = file("authority.pem", &switch_on(&postgres));
        let stranger = {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new([]).unwrap();
            file("stranger.pem", &params.self_signed(&key).unwrap().pem())
        };
        let garbage = file("garbage.pem", "no certificate");
        let broken = file(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let locked = file(
            "locked.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAMCAQE=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let other_key = file(
            "other.pem",
            &rcgen::KeyPair::generate().unwrap().serialize_pem(),
        );
        #[cfg(feature = "tls-native")]
        {
            // An old format, which is rejected without a closer look.
            let old = file(
                "old.pem",
                "-----BEGIN RSA PRIVATE KEY-----\nMAMCAQE=\n-----END RSA PRIVATE KEY-----\n",
            );
            let said = fault(&at(
                "localhost",
                &format!("sslmode=require&sslcert={authority}&sslkey={old}"),
            ));
            assert!(
                said.contains("old.pem") && said.contains("openssl pkcs8"),
                "{said}"
            );
        }
        // rustls requires the program to install a default provider.
        #[cfg(not(feature = "tls-native"))]
        {
            let said = fault(&at(
                "localhost",
                &format!("sslmode=verify-ca&sslrootcert={authority}"),
            ));
            assert!(
                said.contains("verify-ca") && said.contains("install_default"),
                "{said}"
            );
            tokio_rustls::rustls::crypto::ring::default_provider()
                .install_default()
                .unwrap();
        }
        for (host, parameters) in [
            ("127.0.0.1", String::from("sslmode=prefer")),
            ("127.0.0.1", String::from("sslmode=require")),
            (
                "127.0.0.1",
                format!("sslmode=verify-ca&sslrootcert={authority}"),
            ),
            (
                "localhost",
                format!("sslmode=verify-ca&sslrootcert={authority}"),
            ),
            (
                "127.0.0.1",
                format!("sslmode=require&sslrootcert={authority}"),
            ),
            (
                "localhost",
                format!("sslmode=verify-full&sslrootcert={authority}"),
            ),
            (
                "127.0.0.1:1,localhost",
                format!("sslmode=verify-full&sslrootcert={authority}"),
            ),
        ] {
            let (audit, _spool) = start(&at(host, &parameters));
            audit.record(Event::new("arrives")).unwrap();
            let flushed = audit.flush_blocking(PATIENCE);
            let stats = audit.stats();
            assert!(flushed.is_ok(), "{host} {parameters}: {:?}", stats.fault());
            assert_eq!(stats.restarts(), 0);
            let tls = postgres.psql(
                "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                 WHERE a.application_name = 'tracing-audit'",
            );
            assert_eq!(tls, "t", "{host} {parameters}");
        }
        for (host, parameters, words) in [
            ("localhost", String::from("sslmode=verify-full"), "TLS: "),
            ("localhost", String::from("sslmode=verify-ca"), "TLS: "),
            (
                "localhost",
                format!("sslmode=verify-full&sslrootcert={stranger}"),
                "TLS: ",
            ),
            (
                "localhost",
                format!("sslmode=verify-ca&sslrootcert={stranger}"),
                "TLS: ",
            ),
            (
                "127.0.0.1",
                format!("sslmode=verify-full&sslrootcert={authority}"),
                "TLS: ",
            ),
            (
                "localhost",
                format!("sslmode=require&sslrootcert={stranger}"),
                "set sslrootcert",
            ),
            (
                "localhost",
                format!("sslmode=verify-ca&sslrootcert={broken}"),
                "broken.pem, is broken",
            ),
            (
                "localhost",
                format!("sslmode=verify-full&sslrootcert={broken}"),
                "broken.pem, is broken",
            ),
            (
                "localhost",
                format!("sslmode=verify-full&sslrootcert={}", text(&folder.0)),
                "no regular file",
            ),
            (
                "localhost",
                format!("sslmode=require&sslcert={authority}&sslkey={locked}"),
                "locked.pem, is encrypted",
            ),
            (
                "localhost",
                format!("sslmode=require&sslcert={authority}&sslkey={other_key}"),
                "not that of the certificate in sslcert",
            ),
            (
                "localhost",
                format!("sslmode=verify-ca&sslrootcert={garbage}"),
                "garbage.pem",
            ),
            (
                "localhost",
                format!("sslmode=verify-full&sslrootcert={garbage}"),
                "no PEM file",
            ),
            (
                "localhost",
                String::from("sslmode=verify-ca&sslrootcert=/no/such.pem"),
                "/no/such.pem",
            ),
            (
                "localhost",
                String::from("sslmode=verify-full&sslrootcert=/no/such.pem"),
                "no such file",
            ),
            (
                "localhost",
                format!("sslmode=require&sslcert={garbage}&sslkey={garbage}"),
                "sslcert",
            ),
            (
                "localhost",
                format!("sslmode=require&sslcert={authority}&sslkey={garbage}"),
                "sslkey",
            ),
            (
                "localhost",
                format!("sslmode=require&sslcert={authority}&sslkey=/no/key"),
                "/no/key",
            ),
        ] {
            let said = fault(&at(host, &parameters));
            assert!(said.contains(words), "{host} {parameters}: {said}");
            assert!(said.starts_with("cannot reach Postgres at"), "{said}");
        }
    }

    #[test]
    fn sslmode_allow_and_prefer_fall_back_as_in_libpq() {
        let postgres = Postgres::start();
        switch_on(&postgres);
        postgres.psql(
            "CREATE ROLE plain_only SUPERUSER LOGIN; CREATE ROLE tls_only SUPERUSER LOGIN; \
             CREATE ROLE neither SUPERUSER LOGIN",
        );
        let hba = postgres.data_dir().join("pg_hba.conf");
        let before = fs::read_to_string(&hba).unwrap();
        fs::write(
            &hba,
            format!(
                "hostnossl all plain_only all trust\nhostssl all plain_only all reject\n\
                 hostssl all tls_only all trust\nhostnossl all tls_only all reject\n\
                 host all neither all reject\n{before}"
            ),
        )
        .unwrap();
        postgres.psql("SELECT pg_reload_conf()");
        let rejects = || postgres.try_session("neither").is_err();
        wait_until("the rules are in force", PATIENCE, rejects);
        let url = |login: &str, mode: &str| {
            let port = postgres.port();
            format!("postgres://{login}@127.0.0.1:{port}/audit?sslmode={mode}")
        };
        for (login, mode, is_encrypted) in [
            ("plain_only", "prefer", "f"),
            ("plain_only", "allow", "f"),
            ("tls_only", "prefer", "t"),
            ("tls_only", "allow", "t"),
        ] {
            let (audit, _spool) = start(&url(login, mode));
            audit.record(Event::new("arrives")).unwrap();
            let flushed = audit.flush_blocking(PATIENCE);
            assert!(
                flushed.is_ok(),
                "{login} {mode}: {:?}",
                audit.stats().fault()
            );
            let is = postgres.psql(&format!(
                "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                 WHERE a.application_name = 'tracing-audit' AND a.usename = '{login}'"
            ));
            assert_eq!(is, is_encrypted, "{login} {mode}");
        }
        let said = fault(&url("plain_only", "require"));
        assert!(said.contains("sslmode=disable"), "{said}");
        for mode in ["prefer", "allow"] {
            let said = fault(&url("neither", mode));
            assert!(
                said.contains("with TLS: ") && said.contains("without TLS: "),
                "{said}"
            );
        }
    }

    #[test]
    fn refused_client_certificate_is_reported_with_a_remedy() {
        let postgres = Postgres::start();
        let authority = switch_on(&postgres);
        write_as_server(&postgres, "clients.crt", &authority);
        postgres.psql("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'");
        postgres.psql("CREATE ROLE holder SUPERUSER LOGIN");
        let hba = postgres.data_dir().join("pg_hba.conf");
        let before = fs::read_to_string(&hba).unwrap();
        fs::write(
            &hba,
            format!("hostssl all holder all cert\nhost all holder all reject\n{before}"),
        )
        .unwrap();
        postgres.psql("SELECT pg_reload_conf()");
        let rejects = || postgres.try_session("holder").is_err();
        wait_until("the rules are in force", PATIENCE, rejects);
        let folder = Folder::new();
        fs::create_dir_all(&folder.0).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([String::from("holder")]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let file = |name: &str, content: &str| {
            let file = folder.0.join(name);
            fs::write(&file, content).unwrap();
            text(&file)
        };
        let (certificate, key) = (
            file("foreign.pem", &certificate),
            file("key.pem", &key.serialize_pem()),
        );
        let port = postgres.port();
        let url = format!("postgres://holder@localhost:{port}/audit?sslmode=require");
        let said = fault(&url);
        assert!(said.contains("set sslcert and sslkey"), "{said}");
        // The server closes the connection right after its alert, which a slow machine may then
        // fail to read.
        let url = format!("{url}&sslcert={certificate}&sslkey={key}");
        let mut said = String::new();
        for _ in 0..20 {
            said = fault(&url);
            if said.contains("ssl_ca_file") {
                return;
            }
        }
        panic!("{said}");
    }
}
