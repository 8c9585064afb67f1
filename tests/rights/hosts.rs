//! No function of the trail runs code that belongs to a host's table.

use super::{allowed, login, migrated, refused};

/// Tables with a foreign key to the trail, each with a different way to run code when it is
/// planned, read or detached.
const TRAPS: [(&str, &str); 9] = [
    ("index predicate", "CREATE TABLE m.t (event uuid REFERENCES audit.events (id)); CREATE INDEX ON m.t (event) WHERE m.fold(1)"),
    ("expression index", "CREATE TABLE m.t (event uuid REFERENCES audit.events (id)); CREATE INDEX ON m.t (event, m.fold(2))"),
    ("check", "CREATE TABLE m.t (event uuid REFERENCES audit.events (id), CHECK (event IS NULL OR m.fold(3)))"),
    (
        "policy",
        "CREATE TABLE m.t (event uuid REFERENCES audit.events (id)); CREATE POLICY p ON m.t USING (m.fold(4));
         ALTER TABLE m.t ENABLE ROW LEVEL SECURITY; ALTER TABLE m.t FORCE ROW LEVEL SECURITY",
    ),
    ("generated column", "CREATE TABLE m.t (event uuid REFERENCES audit.events (id), g boolean GENERATED ALWAYS AS (m.fold(5)) STORED)"),
    ("statistics", "CREATE TABLE m.t (event uuid REFERENCES audit.events (id)); CREATE STATISTICS m.s ON event, (m.fold(6)) FROM m.t"),
    (
        "domain",
        "CREATE DOMAIN m.d AS uuid CHECK (m.fold(7)); CREATE TABLE m.t (event m.d REFERENCES audit.events (id))",
    ),
    (
        "partitions",
        "CREATE TABLE m.t (event uuid REFERENCES audit.events (id)) PARTITION BY LIST (event);
         CREATE TABLE m.t1 PARTITION OF m.t DEFAULT; CREATE INDEX ON m.t1 (event) WHERE m.fold(8)",
    ),
    (
        "triggers",
        "CREATE FUNCTION m.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM m.fold(9); RETURN NULL; END $$;
         CREATE TABLE m.t (event uuid REFERENCES audit.events (id) ON DELETE CASCADE);
         CREATE TRIGGER a AFTER DELETE OR UPDATE OR TRUNCATE ON m.t EXECUTE FUNCTION m.fire()",
    ),
];

/// Every call that creates, plans, removes or settles partitions.
const CALLS: [&str; 6] = [
    "SELECT audit.plan_retention('1 year')",
    "SELECT audit.remove_partition('events_2020_01', '1 year')",
    "SELECT audit.plan_settling()",
    "SELECT audit.settle_partition('events', '2019-01-15Z')",
    "SELECT audit.ensure_partition('events', '2018-01-15Z')",
    "SELECT audit.place_hold('case')",
];

#[test]
fn code_of_a_host_table_never_runs_with_the_rights_of_the_trail() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition('events', '2020-01-15Z');
         INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             VALUES (audit.id_at('2019-01-15Z'), 'succeeded', '2019-01-15Z', gen_random_uuid(), 1, '')",
    );
    let mut mallory = login(&postgres, "mallory", None);
    postgres.psql(
        "CREATE SCHEMA m AUTHORIZATION mallory; GRANT USAGE ON SCHEMA audit TO mallory; GRANT REFERENCES ON audit.events TO mallory",
    );
    login(&postgres, "ops", Some("audit_operator"));
    allowed(
        &mut mallory,
        "CREATE FUNCTION m.fold(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN RAISE WARNING 'EVIL % as %', $1, current_user; RETURN true; END $$;
         GRANT USAGE ON SCHEMA m TO PUBLIC",
    );
    for (name, trap) in TRAPS {
        allowed(&mut mallory, trap);
        // As open as possible: the trail does not rely on being unable to read it.
        allowed(
            &mut mallory,
            "GRANT ALL ON ALL TABLES IN SCHEMA m TO PUBLIC",
        );
        assert!(
            allowed(&mut mallory, "SELECT m.fold(0)") == "t" && mallory.told().contains("EVIL"),
            "the trap works"
        );
        for call in CALLS {
            // A new session, with no cached plans.
            let mut operator = postgres.session("ops");
            operator.run("BEGIN").unwrap();
            let answer = operator.run(call);
            assert!(
                !operator.told().contains("EVIL"),
                "{name}: {call}\n{}",
                operator.told()
            );
            if call.contains("remove") || call.contains("settle_partition") {
                let error = answer.unwrap_err();
                assert!(
                    error.contains("may refer to it by the foreign key t_event_fkey"),
                    "{name}: {error}"
                );
            } else {
                answer.unwrap();
            }
        }
        allowed(
            &mut mallory,
            "DROP TABLE m.t CASCADE; DROP DOMAIN IF EXISTS m.d; DROP FUNCTION IF EXISTS m.fire",
        );
    }
}

#[test]
fn host_drops_and_restores_its_foreign_key_for_a_removal_by_the_advice() {
    let postgres = migrated();
    postgres.psql("SELECT audit.ensure_partition('events', at) FROM unnest(ARRAY['2020-01-15Z', '2020-02-15Z']::timestamptz[]) at");
    let mut host = login(&postgres, "host", None);
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    postgres.psql(
        "CREATE SCHEMA \"Host\" AUTHORIZATION host; GRANT USAGE ON SCHEMA audit TO host; GRANT REFERENCES ON audit.events TO host",
    );
    for (partitioning, not_valid) in [("", " NOT VALID"), ("PARTITION BY HASH (event)", "")] {
        allowed(
            &mut host,
            &format!(
                "CREATE TABLE \"Host\".\"feed back\" (event uuid CONSTRAINT \"a key\" REFERENCES audit.events (id) ON DELETE SET NULL) {partitioning}"
            ),
        );
        let plan = allowed(
            &mut operator,
            "SELECT unnest(obstacles) FROM audit.plan_retention('1 year', '{events}') LIMIT 1",
        );
        let drop = "SET lock_timeout = '400ms'; ALTER TABLE \"Host\".\"feed back\" DROP CONSTRAINT \"a key\"";
        let add = format!(
            "SET lock_timeout = '400ms'; ALTER TABLE \"Host\".\"feed back\" ADD CONSTRAINT \"a key\" FOREIGN KEY (event) REFERENCES audit.events(id) ON DELETE SET NULL{not_valid}"
        );
        assert!(plan.contains(&format!("({drop})")), "{plan}");
        assert!(plan.contains(&format!("({add})")), "{plan}");
        let leaf = allowed(
            &mut operator,
            "SELECT partition FROM audit.plan_retention('1 year', '{events}') LIMIT 1",
        );
        let removing = format!("SELECT audit.remove_partition('{leaf}', '1 year')");
        refused(&mut operator, "55006", &removing);
        allowed(&mut host, drop);
        allowed(&mut operator, &removing);
        allowed(&mut host, &add);
        refused(
            &mut operator,
            "55006",
            "SELECT audit.remove_partition('events_2020_02', '1 year')",
        );
        allowed(&mut host, drop);
        allowed(&mut host, "DROP TABLE \"Host\".\"feed back\"");
        postgres.psql("SELECT audit.ensure_partition('events', '2020-01-15Z')");
    }
}

#[test]
fn partition_of_another_owner_is_not_read() {
    let postgres = migrated();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    // A superuser's mistake: mallory's table among the partitions.
    postgres.psql(
        "CREATE ROLE mallory LOGIN; SELECT audit.ensure_partition('events', '2020-01-15Z');
         CREATE FUNCTION public.fold(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN RAISE WARNING 'EVIL as %', current_user; RETURN true; END $$;
         CREATE INDEX ON audit_parts.events_2020_01 (user_id) WHERE public.fold(1);
         ALTER TABLE audit_parts.events_2020_01 OWNER TO mallory",
    );
    assert_eq!(
        allowed(
            &mut operator,
            "SELECT audit.plan_retention('1 year', '{events}')"
        ),
        ""
    );
    for call in [
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
        "SELECT audit.ensure_partition('events', '2020-01-15Z')",
    ] {
        refused(&mut operator, "55000", call);
        assert!(!operator.told().contains("EVIL"), "{}", operator.told());
    }
    allowed(&mut operator, "SELECT audit.place_hold('case')");
    assert!(!operator.told().contains("EVIL"), "{}", operator.told());
}
