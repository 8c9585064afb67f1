//! Servers, logins and owners.

use super::{
    advice, advice_of, command, doctor, findings, follow, found, make_partitions, migrate, stdout,
    url_as, with_partitions,
};
use testkit::Postgres;

#[test]
fn missing_role_is_found() {
    let postgres = with_partitions();
    for role in [
        "audit_owner",
        "audit_maintainer",
        "audit_writer",
        "audit_reader",
        "audit_auditor",
        "audit_operator",
    ] {
        postgres.psql(&format!("ALTER ROLE {role} RENAME TO gone"));
        let looked = doctor(&postgres.url());
        assert_eq!(looked.status.code(), Some(1));
        // A single finding: the role is recognized by what it owns and by its policies.
        assert_eq!(found(&looked), [format!("problem roles {role}")]);
        follow(&postgres, &looked);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn unsafe_server_settings_are_found() {
    let postgres = Postgres::start_with(&[
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "session_replication_role=replica",
        "row_security=off",
        "zero_damaged_pages=on",
        "ignore_checksum_failure=on",
    ]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem server_settings fsync",
            "problem server_settings full_page_writes",
            "problem server_settings ignore_checksum_failure",
            "problem server_settings session_replication_role",
            "problem server_settings zero_damaged_pages",
            "warning server_settings row_security",
            "warning server_settings synchronous_commit",
        ]
    );
}

#[test]
fn too_little_room_for_the_locks_of_all_partitions_is_found() {
    let postgres = Postgres::start_with(&["max_locks_per_transaction=10", "max_connections=40"]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    postgres.psql("SELECT audit.set_partition_interval('query_runs', 'day', 'many rows')");
    // Each in a transaction of its own: that the room is too small shows here as well.
    for day in 100..140 {
        postgres.psql(&format!(
            "SELECT audit.ensure_partition('query_runs', now() - interval '{day} days')"
        ));
    }
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        ["warning server_settings max_locks_per_transaction"]
    );
    for advice in advice(&looked) {
        postgres.psql(&advice);
    }
    let set = "SELECT setting FROM pg_file_settings WHERE name = 'max_locks_per_transaction'";
    let needed = postgres.psql(set);
    assert_eq!(needed, "64");
}

#[test]
fn missing_trail_or_another_schema_version_is_found() {
    let postgres = Postgres::start();
    postgres.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    assert_eq!(
        found(&doctor(&postgres.url_of("ascii"))),
        ["problem encoding encoding", "problem schema_version audit"]
    );

    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLE kept AS SELECT * FROM audit.schema_migrations");
    let restore =
        "TRUNCATE audit.schema_migrations; INSERT INTO audit.schema_migrations SELECT * FROM kept";
    for (done, expected) in [
        (
            "INSERT INTO audit.schema_migrations SELECT 99, description, now(), true, '', 0 FROM kept LIMIT 1",
            &["problem schema_version audit"][..],
        ),
        (
            "DELETE FROM audit.schema_migrations WHERE version = 6",
            &["problem schema_version audit"],
        ),
        (
            "UPDATE audit.schema_migrations SET success = false WHERE version = 6",
            &[
                "problem schema_version audit",
                "problem schema_version audit.schema_migrations",
            ],
        ),
        (
            "UPDATE audit.schema_migrations SET checksum = '' WHERE version = 1",
            &["problem schema_checksum migration 1"],
        ),
    ] {
        postgres.psql(done);
        assert_eq!(found(&doctor(&postgres.url())), expected, "{done}");
        postgres.psql(restore);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    // A row for a newer migration, which could be inserted by hand, hides nothing.
    postgres.psql(
        "INSERT INTO audit.schema_migrations SELECT 99, description, now(), true, '', 0 FROM kept LIMIT 1;
        CREATE POLICY leak ON audit.events USING (true)",
    );
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem policies audit.events",
            "problem schema_version audit"
        ]
    );
}

#[test]
fn doctor_lists_what_a_login_without_rights_cannot_see() {
    let postgres = with_partitions();
    postgres.psql(
        "CREATE ROLE somebody LOGIN; CREATE ROLE reader LOGIN IN ROLE audit_reader;
        CREATE ROLE auditor LOGIN IN ROLE audit_auditor; CREATE ROLE everything LOGIN IN ROLE pg_read_all_data",
    );
    let tracked = "warning tracked_tables audit.tracked_tables";
    let unseen = [
        "warning batches audit.batches",
        "warning dead_letters audit.dead_letters",
        tracked,
    ];
    let without_schema = [
        &unseen[..2],
        &["warning schema_version audit.schema_migrations", tracked],
    ]
    .concat();
    // Reported to each of them: a role exists that can read everything.
    let bypass = "warning bypass pg_read_all_data";
    for (login, expected) in [
        ("auditor", &[][..]),
        ("reader", &unseen),
        ("somebody", &without_schema),
        // It may read the tables, but row-level security hides all rows from it.
        ("everything", &unseen),
    ] {
        let looked = doctor(&url_as(&postgres, login));
        let mut found = found(&looked);
        found.retain(|finding| finding != bypass);
        assert_eq!(found, expected, "{login}");
        // Seeing too little counts as not checked.
        let code = if expected.is_empty() { 0 } else { 2 };
        assert_eq!(looked.status.code(), Some(code), "{login}");
    }
    // Everybody may see the catalog.
    postgres.psql("CREATE PUBLICATION leak FOR TABLE audit.batches");
    let looked = doctor(&url_as(&postgres, "somebody"));
    assert!(found(&looked).contains(&"warning leaks publication leak".to_owned()));
    assert!(!stdout(&looked).contains("this check failed"));
    postgres.psql("CREATE POLICY leak ON audit.events USING (true)");
    let looked = doctor(&url_as(&postgres, "somebody"));
    assert!(found(&looked).contains(&"problem policies audit.events".to_owned()));
    assert_eq!(looked.status.code(), Some(1));
}

#[test]
fn advice_secures_a_trail_migrated_without_a_superuser() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE host LOGIN CREATEROLE; ALTER DATABASE audit OWNER TO host; CREATE ROLE app LOGIN");
    let migrated = command(
        &url_as(&postgres, "host"),
        &["migrate", "--writer-login", "app"],
    )
    .output()
    .unwrap();
    assert!(migrated.status.success());
    make_partitions(&postgres);
    let looked = doctor(&postgres.url());
    assert_eq!(looked.status.code(), Some(0), "{}", stdout(&looked));
    // It can grant itself anything.
    let creates = "warning bypass CREATEROLE";
    let mut expected = vec![creates, "warning event_triggers audit_guard"];
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    if version >= 160_000 {
        // The creator of a role administers it there.
        expected.extend([
            "warning bypass host",
            "warning closed_roles audit_maintainer",
            "warning closed_roles audit_owner",
        ]);
        expected.sort_unstable();
    }
    assert_eq!(found(&looked), expected);
    for finding in findings(&looked) {
        if finding["object"] != "CREATEROLE"
            && let Some(advice) = advice_of(&finding)
        {
            postgres.psql(&advice);
        }
    }
    assert_eq!(found(&doctor(&postgres.url())), [creates]);
    if version >= 160_000 {
        let grant = "SET SESSION AUTHORIZATION host; GRANT audit_auditor TO host";
        assert!(postgres.try_psql(grant).is_err());
    }
    // What it had created is still there: memberships, and functions that run as the owner.
    assert_eq!(
        postgres.psql(
            "SET SESSION AUTHORIZATION app;
            SELECT audit.ensure_partition('events', now() - interval '2 months') = to_char(now() - interval '2 months', '\"events_\"YYYY_MM')"
        ),
        "t"
    );
}

#[test]
fn role_that_migrated_can_still_write_after_the_advice() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE host LOGIN CREATEROLE; ALTER DATABASE audit OWNER TO host");
    migrate(&url_as(&postgres, "host"));
    // One membership granted by the role's administrator, one by a superuser, and both.
    postgres.psql("SET SESSION AUTHORIZATION host; GRANT audit_auditor, audit_reader TO host");
    let words = [
        "migrate",
        "--writer-login",
        "host",
        "--reader-login",
        "host",
    ];
    let granted = command(&postgres.url(), &words).output().unwrap();
    assert!(granted.status.success());
    let of_host = "SET SESSION AUTHORIZATION host; SELECT string_agg(role, ' ' ORDER BY role)
        FROM unnest(ARRAY['audit_auditor', 'audit_operator', 'audit_sealer', 'audit_owner', 'audit_maintainer', 'audit_reader', 'audit_writer']) role
        WHERE pg_has_role(role, 'USAGE')";
    assert_eq!(
        postgres.psql(of_host),
        "audit_auditor audit_reader audit_writer"
    );
    for finding in findings(&doctor(&postgres.url())) {
        if let Some(advice) = advice_of(&finding)
            && (finding["check"] == "closed_roles" || finding["object"] == "host")
            && !finding["found"].as_str().unwrap().contains("writes")
        {
            postgres.psql(&advice);
        }
    }
    assert_eq!(
        postgres.psql(of_host),
        "audit_auditor audit_reader audit_writer"
    );
    let found = found(&doctor(&postgres.url()));
    assert!(
        !found
            .iter()
            .any(|finding| finding == "warning bypass host" || finding.contains("closed_roles")),
        "{found:?}"
    );
}

#[test]
fn schema_or_role_of_another_owner_is_not_mistaken_for_the_trails() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE host; CREATE SCHEMA audit AUTHORIZATION host; CREATE SCHEMA other AUTHORIZATION host;
        CREATE TABLE audit.batches (tenant_id uuid); ALTER TABLE audit.batches OWNER TO host;
        CREATE POLICY tenant ON audit.batches TO host USING (true);
        CREATE TABLE other.batches (); CREATE FUNCTION other.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER append_only BEFORE DELETE ON other.batches EXECUTE FUNCTION other.refuse_change()",
    );
    for looked in [doctor(&postgres.url()), {
        postgres.psql("DROP SCHEMA audit CASCADE");
        doctor(&postgres.url())
    }] {
        assert_eq!(found(&looked), ["problem schema_version audit"]);
        assert!(advice(&looked).is_empty(), "{}", stdout(&looked));
    }
}
