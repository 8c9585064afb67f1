//! Servers that are reached by TLS.

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
