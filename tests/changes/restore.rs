//! What is tracked stays tracked in a copy of the database.

use super::migrated;

#[test]
fn restored_database_goes_on_recording() {
    let postgres = migrated();
    if !postgres.can_be_dumped() {
        return;
    }
    postgres.psql(
        "CREATE ROLE app LOGIN IN ROLE audit_writer; CREATE SCHEMA app AUTHORIZATION app; CREATE TYPE app.mood AS ENUM ('good', 'bad');
         CREATE TABLE app.t (gone int, id int PRIMARY KEY, name text, mood app.mood); ALTER TABLE app.t DROP COLUMN gone; ALTER TABLE app.t OWNER TO app;
         CREATE TABLE app.parted (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE app.low PARTITION OF app.parted FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.dropped (id int); SELECT audit.track('app.dropped'); DROP TABLE app.dropped;
         SELECT audit.track('app.t', columns_masked => '{name}'), audit.track('app.parted');
         INSERT INTO app.t VALUES (1, 'a', 'good'); INSERT INTO app.parted VALUES (1)",
    );
    postgres.psql("CREATE DATABASE copy");
    let file = postgres.data_dir().join("dump.sql");
    let file = file.to_str().unwrap();
    postgres.client("pg_dump", &["-f", file, "audit"]);
    postgres.client("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", file, "copy"]);

    let mut copy = postgres.session_in("copy", "postgres");
    let recorded = "SELECT metadata ->> 'operation', target_type, target_id, metadata -> 'changes', metadata ->> 'partition' FROM audit.events
        WHERE metadata ? 'changes' ORDER BY (metadata ->> 'number')::bigint, seq";
    let before = copy.psql(recorded);
    assert_eq!(before, postgres.psql(recorded));
    copy.psql("UPDATE app.t SET mood = 'bad'; UPDATE app.t SET name = 'b'; INSERT INTO app.low VALUES (2); TRUNCATE app.parted");
    assert_eq!(
        copy.psql(recorded).strip_prefix(&before).unwrap(),
        "\nupdate|app.t|1|{\"mood\": {\"new\": \"bad\", \"old\": \"good\"}}|\n\
         update|app.t|1|{\"name\": {\"masked\": true}}|\n\
         insert|app.parted|2|{\"id\": {\"new\": 2}}|app.low\n\
         truncate|app.parted||{}|\ntruncate|app.parted||{}|app.low"
    );
    assert_eq!(
        copy.psql("SELECT audit.row_at('app.t', '1', now())"),
        "{\"id\": 1, \"mood\": \"bad\", \"name\": {\"masked\": true}}"
    );
    // Its owner goes on with it.
    let mut app = postgres.session_in("copy", "app");
    app.psql("SELECT audit.track('app.t', columns_out => '{mood}'); UPDATE app.t SET mood = 'good', name = 'c'; SELECT audit.untrack('app.t')");
    assert!(
        copy.psql(recorded)
            .ends_with("update|app.t|1|{\"name\": {\"new\": \"c\", \"old\": \"b\"}}|")
    );
}
