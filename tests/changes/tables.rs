//! Kinds of tables, and tables that are altered.

use super::{changes, changes_by, migrated, refused};

#[test]
fn key_is_the_primary_key_as_a_text() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE by_uuid (id uuid PRIMARY KEY); CREATE TABLE by_text (id text PRIMARY KEY); CREATE TABLE by_time (id timestamptz PRIMARY KEY);
         CREATE TABLE by_two (b text, n int, a int, PRIMARY KEY (a, b));
         SELECT audit.track('by_uuid'), audit.track('by_text'), audit.track('by_time'), audit.track('by_two')",
    );
    postgres.psql("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German';
        INSERT INTO by_uuid VALUES ('0198F1D3-0000-7000-8000-000000000017'); INSERT INTO by_time VALUES ('2026-01-02 03:04:05.678+00');
        INSERT INTO by_text VALUES (''), ('o''brien \"é\" %s \\ '), (repeat('k', 2000)); INSERT INTO by_two VALUES ('x \"y\"', 3, 1)");
    assert_eq!(
        postgres.psql("SELECT target_type, target_id FROM audit.events WHERE metadata ? 'changes' ORDER BY (metadata ->> 'number')::int, seq"),
        format!(
            "public.by_uuid|0198f1d3-0000-7000-8000-000000000017\npublic.by_time|2026-01-02 03:04:05.678+00\n\
             public.by_text|\npublic.by_text|o'brien \"é\" %s \\ \npublic.by_text|sha256:{}\n\
             public.by_two|{{\"a\": 1, \"b\": \"x \\\"y\\\"\"}}",
            postgres.psql("SELECT encode(sha256(repeat('k', 2000)::bytea), 'hex')")
        )
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.by_two', jsonb_build_object('b', 'x \"y\"', 'a', 1)::text, now())"),
        "{\"a\": 1, \"b\": \"x \\\"y\\\"\", \"n\": 3}"
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE by_two SET n = 4; UPDATE by_two SET b = 'z'"
        ),
        "update public.by_two {\"a\": 1, \"b\": \"x \\\"y\\\"\"} {\"n\": {\"new\": 4, \"old\": 3}}\n\
         delete public.by_two {\"a\": 1, \"b\": \"x \\\"y\\\"\"} {\"a\": {\"old\": 1}, \"b\": {\"old\": \"x \\\"y\\\"\"}, \"n\": {\"old\": 4}} -> {\"a\": 1, \"b\": \"z\"}\n\
         insert public.by_two {\"a\": 1, \"b\": \"z\"} {\"a\": {\"new\": 1}, \"b\": {\"new\": \"z\"}, \"n\": {\"new\": 4}} <- {\"a\": 1, \"b\": \"x \\\"y\\\"\"}"
    );
}

#[test]
fn table_without_a_key_is_recorded_by_whole_rows() {
    let postgres = migrated();
    postgres.psql("CREATE TABLE log (a int, b text); SELECT audit.track('log')");
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO log VALUES (1, 'x'), (1, 'x'); UPDATE log SET b = 'y' WHERE ctid = '(0,1)'; DELETE FROM log WHERE b = 'x'"
        ),
        "insert public.log {\"a\": {\"new\": 1}, \"b\": {\"new\": \"x\"}}\n\
         insert public.log {\"a\": {\"new\": 1}, \"b\": {\"new\": \"x\"}}\n\
         update public.log {\"a\": {\"new\": 1, \"old\": 1}, \"b\": {\"new\": \"y\", \"old\": \"x\"}}\n\
         delete public.log {\"a\": {\"old\": 1}, \"b\": {\"old\": \"x\"}}"
    );
    assert_eq!(changes(&postgres, "UPDATE log SET b = b"), "");
    postgres.psql("CREATE TABLE bare (); SELECT audit.track('bare')");
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO bare DEFAULT VALUES; DELETE FROM bare"
        ),
        "insert public.bare {}\ndelete public.bare {}"
    );
}

#[test]
fn partitioned_table_is_recorded_as_one() {
    let postgres = migrated();
    // The second partition has its columns in another order and had one more.
    postgres.psql(
        "CREATE TABLE parted (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE eu PARTITION OF parted FOR VALUES IN ('eu');
         CREATE TABLE us (n int, gone int, region text NOT NULL, id int NOT NULL); ALTER TABLE us DROP COLUMN gone; ALTER TABLE parted ATTACH PARTITION us FOR VALUES IN ('us');
         CREATE TABLE asia PARTITION OF parted FOR VALUES IN ('jp', 'cn') PARTITION BY LIST (region); CREATE TABLE jp PARTITION OF asia FOR VALUES IN ('jp');
         CREATE TABLE cn PARTITION OF asia DEFAULT;
         SELECT audit.track('parted')",
    );
    let key = |id: u32, region: &str| format!("{{\"id\": {id}, \"region\": \"{region}\"}}");
    let row = |side: &str, id: u32, region: &str, n: u32| {
        format!(
            "{{\"n\": {{\"{side}\": {n}}}, \"id\": {{\"{side}\": {id}}}, \"region\": {{\"{side}\": \"{region}\"}}}}"
        )
    };
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO parted VALUES (1, 'eu', 5), (2, 'us', 6), (3, 'jp', 7)"
        ),
        format!(
            "insert public.parted {} {}\ninsert public.parted {} {}\ninsert public.parted {} {}",
            key(1, "eu"),
            row("new", 1, "eu", 5),
            key(2, "us"),
            row("new", 2, "us", 6),
            key(3, "jp"),
            row("new", 3, "jp", 7)
        )
    );
    // On partitions.
    assert_eq!(
        changes(
            &postgres,
            "UPDATE us SET n = 8; INSERT INTO jp VALUES (4, 'jp', 9); DELETE FROM asia WHERE id = 4"
        ),
        format!(
            "update public.parted {} {{\"n\": {{\"new\": 8, \"old\": 6}}}} in public.us\n\
             insert public.parted {} {} in public.jp\ndelete public.parted {} {} in public.asia",
            key(2, "us"),
            key(4, "jp"),
            row("new", 4, "jp", 9),
            key(4, "jp"),
            row("old", 4, "jp", 9)
        )
    );
    // To another partition, and then to one of another level.
    assert_eq!(
        changes(
            &postgres,
            "UPDATE parted SET region = 'us' WHERE id = 1; UPDATE parted SET region = 'cn' WHERE id = 1; UPDATE parted SET n = n + 1 WHERE id = 2"
        ),
        format!(
            "delete public.parted {eu} {} -> {us}\ninsert public.parted {us} {} <- {eu}\n\
             delete public.parted {us} {} -> {cn}\ninsert public.parted {cn} {} <- {us}\n\
             update public.parted {} {{\"n\": {{\"new\": 9, \"old\": 8}}}}",
            row("old", 1, "eu", 5),
            row("new", 1, "us", 5),
            row("old", 1, "us", 5),
            row("new", 1, "cn", 5),
            key(2, "us"),
            eu = key(1, "eu"),
            us = key(1, "us"),
            cn = key(1, "cn")
        )
    );
    assert_eq!(
        changes(&postgres, "TRUNCATE jp; TRUNCATE parted"),
        // Each partition says it too, by itself.
        "truncate public.parted {} rows=1 in public.jp\n\
         truncate public.parted {} rows=2\n\
         truncate public.parted {} rows=0 in public.eu\n\
         truncate public.parted {} rows=1 in public.us\n\
         truncate public.parted {} rows=1 in public.asia\n\
         truncate public.parted {} rows=0 in public.jp\n\
         truncate public.parted {} rows=1 in public.cn"
    );
    // A partition that comes later, and one that goes.
    postgres.psql("CREATE TABLE br PARTITION OF parted FOR VALUES IN ('br')");
    assert_eq!(
        changes(&postgres, "INSERT INTO parted VALUES (5, 'br', 1)"),
        format!(
            "insert public.parted {} {}",
            key(5, "br"),
            row("new", 5, "br", 1)
        )
    );
    postgres.psql("SELECT audit.track('parted'); ALTER TABLE parted DETACH PARTITION br");
    assert_eq!(
        changes(&postgres, "UPDATE br SET n = 2; TRUNCATE br; DROP TABLE br"),
        ""
    );
    postgres.psql("SELECT audit.untrack('parted')");
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'audit%' AND tgrelid IN (SELECT audit.relations_of('parted'::regclass))"), "0");
}

#[test]
fn statements_through_a_partitioned_table_are_recorded() {
    let postgres = migrated();
    // As above, the second partition has another layout.
    postgres.psql(
        "CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
         CREATE TABLE high (gone text, n int, id int NOT NULL); ALTER TABLE high DROP COLUMN gone; ALTER TABLE parted ATTACH PARTITION high FOR VALUES FROM (10) TO (100);
         SELECT audit.track('parted'); INSERT INTO parted VALUES (1, 1), (11, 1)",
    );
    let insert = |id: u32, n: u32| {
        format!("insert public.parted {id} {{\"n\": {{\"new\": {n}}}, \"id\": {{\"new\": {id}}}}}")
    };
    let update = |id: u32, old: u32, new: u32| {
        format!("update public.parted {id} {{\"n\": {{\"new\": {new}, \"old\": {old}}}}}")
    };
    let delete = |id: u32, n: u32| {
        format!("delete public.parted {id} {{\"n\": {{\"old\": {n}}}, \"id\": {{\"old\": {id}}}}}")
    };
    for (statement, recorded) in [
        (
            "INSERT INTO parted VALUES (1, 2), (2, 2), (11, 2), (12, 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            vec![update(1, 1, 2), update(11, 1, 2), insert(2, 2), insert(12, 2)],
        ),
        (
            "INSERT INTO parted VALUES (1, 9), (11, 9) ON CONFLICT DO NOTHING",
            vec![],
        ),
        (
            "MERGE INTO parted p USING (VALUES (1, 0), (2, 3), (11, 0), (12, 3), (3, 3), (13, 3)) AS s (id, n) ON p.id = s.id
             WHEN MATCHED AND s.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n)",
            vec![update(2, 2, 3), update(12, 2, 3), insert(3, 3), insert(13, 3), delete(1, 2), delete(11, 2)],
        ),
        (
            "COPY parted FROM PROGRAM 'printf \"4\\t4\\n14\\t4\\n\"'",
            vec![insert(4, 4), insert(14, 4)],
        ),
        (
            "COPY high (id, n) FROM PROGRAM 'printf \"15\\t5\\n\"'",
            vec![insert(15, 5) + " in public.high"],
        ),
        ("UPDATE parted SET n = n", vec![]),
        ("UPDATE parted SET n = 0 WHERE id = 14", vec![update(14, 4, 0)]),
    ] {
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let told = changes(&postgres, statement);
        assert_eq!(
            sorted(told.lines().map(str::to_owned).collect()),
            sorted(recorded),
            "{statement}"
        );
    }
}

#[test]
fn moved_row_that_a_partition_refuses_is_deleted() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (100);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN NEW.id <> 11 THEN NEW END; END';
         CREATE TRIGGER refuse BEFORE INSERT ON high FOR EACH ROW EXECUTE FUNCTION refuse();
         SELECT audit.track('parted'); INSERT INTO parted VALUES (1), (2)",
    );
    assert_eq!(
        changes(&postgres, "UPDATE parted SET id = id + 10"),
        "delete public.parted 1 {\"id\": {\"old\": 1}}\ndelete public.parted 2 {\"id\": {\"old\": 2}}\ninsert public.parted 12 {\"id\": {\"new\": 12}}"
    );
    assert_eq!(postgres.psql("SELECT * FROM parted"), "12");
}

#[test]
fn detached_partition_is_in_nobodys_way_and_a_foreign_one_is_refused() {
    let postgres = migrated();
    let parted = "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
        SELECT audit.track('parted'); ALTER TABLE parted DETACH PARTITION low";
    postgres.psql(&format!("{parted}; SELECT audit.untrack('parted')"));
    assert_eq!(
        postgres.psql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'low'::regclass AND tgname ~ 'insert|update|delete|truncate'"),
        "0"
    );
    postgres.psql("DROP TABLE parted, low");
    // Dropped without being untracked: its partition is still written to.
    postgres.psql(&format!(
        "{parted}; DROP TABLE parted; CREATE TABLE other (id int PRIMARY KEY)"
    ));
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO low VALUES (1); SELECT audit.track('other'); INSERT INTO low VALUES (2)"
        ),
        ""
    );
    postgres.psql(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; CREATE TABLE wide (id int) PARTITION BY RANGE (id);
         CREATE FOREIGN TABLE far PARTITION OF wide FOR VALUES FROM (0) TO (10) SERVER nowhere",
    );
    refused(
        &mut postgres.session("postgres"),
        "42809",
        "SELECT audit.track('wide')",
    );
}

#[test]
fn inherited_table_is_recorded_with_its_parent() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE parent (id int PRIMARY KEY, n int); CREATE TABLE child (extra text) INHERITS (parent); SELECT audit.track('parent')",
    );
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO child VALUES (1, 2, 'x'); UPDATE parent SET n = 3; UPDATE child SET extra = 'y'; DELETE FROM parent"
        ),
        "insert public.parent 1 {\"n\": {\"new\": 2}, \"id\": {\"new\": 1}, \"extra\": {\"new\": \"x\"}} in public.child\n\
         update public.parent 1 {\"n\": {\"new\": 3, \"old\": 2}}\n\
         update public.parent 1 {\"extra\": {\"new\": \"y\", \"old\": \"x\"}} in public.child\n\
         delete public.parent 1 {\"n\": {\"old\": 3}, \"id\": {\"old\": 1}}"
    );
    // What is tracked for itself as well goes on as a part when that ends.
    postgres.psql("SELECT audit.track('child'); SELECT audit.untrack('child')");
    assert_eq!(
        changes(&postgres, "INSERT INTO child (id) VALUES (2)"),
        "insert public.parent 2 {\"n\": {\"new\": null}, \"id\": {\"new\": 2}, \"extra\": {\"new\": null}} in public.child"
    );
    postgres.psql("SELECT audit.untrack('parent')");
    assert_eq!(changes(&postgres, "DELETE FROM child"), "");
}

#[test]
fn generated_and_identity_columns_are_recorded_if_they_are_stored() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, word text DEFAULT 'w'); SELECT audit.track('made')",
    );
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO made (n) VALUES (4); UPDATE made SET n = 5"
        ),
        "insert public.made 1 {\"n\": {\"new\": 4}, \"id\": {\"new\": 1}, \"word\": {\"new\": \"w\"}, \"twice\": {\"new\": 8}}\n\
         update public.made 1 {\"n\": {\"new\": 5, \"old\": 4}, \"twice\": {\"new\": 10, \"old\": 8}}"
    );
    let version: u32 = postgres
        .psql("SELECT current_setting('server_version_num')")
        .parse()
        .unwrap();
    if version >= 180_000 {
        postgres.psql("CREATE TABLE lazy (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL, z int); SELECT audit.track('lazy')");
        assert_eq!(
            changes(
                &postgres,
                "INSERT INTO lazy (id, n, z) VALUES (1, 4, 0); UPDATE lazy SET n = 5; ALTER TABLE lazy ADD more int GENERATED ALWAYS AS (n); UPDATE lazy SET z = 1; DELETE FROM lazy"
            ),
            "insert public.lazy 1 {\"n\": {\"new\": 4}, \"z\": {\"new\": 0}, \"id\": {\"new\": 1}}\n\
             update public.lazy 1 {\"n\": {\"new\": 5, \"old\": 4}}\n\
             update public.lazy 1 {\"z\": {\"new\": 1, \"old\": 0}}\n\
             delete public.lazy 1 {\"n\": {\"old\": 5}, \"z\": {\"old\": 1}, \"id\": {\"old\": 1}}"
        );
    }
}

#[test]
fn statements_of_every_kind_are_recorded() {
    let postgres = migrated();
    postgres.psql("CREATE TABLE items (id int PRIMARY KEY, n int); SELECT audit.track('items'); INSERT INTO items VALUES (1, 1)");
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO items VALUES (1, 5), (2, 6) ON CONFLICT (id) DO UPDATE SET n = excluded.n"
        ),
        "update public.items 1 {\"n\": {\"new\": 5, \"old\": 1}}\ninsert public.items 2 {\"n\": {\"new\": 6}, \"id\": {\"new\": 2}}"
    );
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO items VALUES (1, 9) ON CONFLICT DO NOTHING"
        ),
        ""
    );
    assert_eq!(
        changes(
            &postgres,
            "MERGE INTO items i USING (VALUES (1, 0), (2, 7), (3, 8)) AS s (id, n) ON i.id = s.id
             WHEN MATCHED AND s.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n)"
        )
        .lines()
        .collect::<std::collections::BTreeSet<_>>(),
        [
            "delete public.items 1 {\"n\": {\"old\": 5}, \"id\": {\"old\": 1}}",
            "insert public.items 3 {\"n\": {\"new\": 8}, \"id\": {\"new\": 3}}",
            "update public.items 2 {\"n\": {\"new\": 7, \"old\": 6}}"
        ]
        .into()
    );
    assert_eq!(
        changes(&postgres, "WITH gone AS (DELETE FROM items WHERE id = 2 RETURNING n) INSERT INTO items SELECT 4, n FROM gone").lines().count(),
        2
    );
    assert_eq!(
        changes(
            &postgres,
            "COPY items FROM PROGRAM 'printf \"8\\t80\\n9\\t90\\n\"'"
        ),
        "insert public.items 8 {\"n\": {\"new\": 80}, \"id\": {\"new\": 8}}\ninsert public.items 9 {\"n\": {\"new\": 90}, \"id\": {\"new\": 9}}"
    );
    // By a cursor, a prepared statement, a view.
    assert_eq!(
        changes(
            &postgres,
            "CREATE VIEW v AS SELECT * FROM items; PREPARE p AS UPDATE v SET n = $1 WHERE id = 8; EXECUTE p(81);
             DO $$ DECLARE c CURSOR FOR SELECT * FROM items WHERE id = 9 FOR UPDATE; BEGIN OPEN c; MOVE c; UPDATE items SET n = 91 WHERE CURRENT OF c; END $$"
        ),
        "update public.items 8 {\"n\": {\"new\": 81, \"old\": 80}}\nupdate public.items 9 {\"n\": {\"new\": 91, \"old\": 90}}"
    );
    // What a subscription applies was recorded where it was made.
    assert_eq!(
        changes(
            &postgres,
            "SET session_replication_role = replica; DELETE FROM items"
        ),
        ""
    );
}

#[test]
fn cascades_of_foreign_keys_are_recorded() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE users (id int PRIMARY KEY);
         CREATE TABLE tasks (id int PRIMARY KEY, author int REFERENCES users ON DELETE SET NULL ON UPDATE CASCADE, reviewer int REFERENCES users ON DELETE SET NULL ON UPDATE CASCADE);
         CREATE TABLE likes (a int REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE, b int REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY (a, b));
         INSERT INTO users VALUES (1), (2), (3); INSERT INTO tasks VALUES (7, 1, 2), (8, 1, 1); INSERT INTO likes VALUES (1, 2);
         SELECT audit.track('tasks'), audit.track('likes')",
    );
    let (one, both, two) = (
        "{\"a\": 1, \"b\": 2}",
        "{\"a\": 11, \"b\": 2}",
        "{\"a\": 11, \"b\": 12}",
    );
    postgres.psql("UPDATE users SET id = id + 10 WHERE id < 3");
    assert_eq!(
        postgres.psql("SELECT * FROM tasks ORDER BY id; SELECT * FROM likes"),
        "7|11|12\n8|11|11\n11|12"
    );
    for (key, there) in [(one, ""), (both, ""), (two, "{\"a\": 11, \"b\": 12}")] {
        assert_eq!(
            postgres.psql(&format!(
                "SELECT audit.row_at('public.likes', '{key}', now())"
            )),
            there,
            "{key}"
        );
    }
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.tasks', '7', now()), audit.row_at('public.tasks', '8', now())"),
        "{\"author\": 11, \"reviewer\": 12}|{\"author\": 11, \"reviewer\": 11}"
    );
    postgres.psql("DELETE FROM users WHERE id > 10");
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.tasks', '7', now()), audit.row_at('public.tasks', '8', now())"),
        "{\"author\": null, \"reviewer\": null}|{\"author\": null, \"reviewer\": null}"
    );
    assert_eq!(
        postgres.psql("SELECT target_id, count(*), count(*) FILTER (WHERE metadata -> 'changes' -> 'author' ->> 'new' IS NULL AND metadata -> 'changes' ? 'author'),
            count(*) FILTER (WHERE metadata -> 'changes' -> 'reviewer' ->> 'new' IS NULL AND metadata -> 'changes' ? 'reviewer') FROM audit.events WHERE target_type = 'public.tasks' GROUP BY 1 ORDER BY 1"),
        "7|4|1|1\n8|4|1|1"
    );
    assert_eq!(
        postgres.psql(&format!(
            "SELECT audit.row_at('public.likes', '{two}', now())"
        )),
        ""
    );
}

#[test]
fn table_is_altered_between_statements_of_a_session() {
    let postgres = migrated();
    postgres.psql("CREATE TABLE items (id int PRIMARY KEY, a text, b int); SELECT audit.track('items', columns_out => '{b}')");
    let mut session = postgres.session("postgres");
    // Plans are made, and kept.
    for id in 1..=8 {
        session.psql(&format!(
            "INSERT INTO items VALUES ({id}, 'x', 1); UPDATE items SET a = 'y' WHERE id = {id}"
        ));
    }
    let mut step = |ddl: &str, sql: &str, expected: &str| {
        postgres.psql(ddl);
        assert_eq!(
            changes_by(&postgres, &mut session, sql),
            expected,
            "after {ddl}"
        );
    };
    step(
        "ALTER TABLE items ADD c int DEFAULT 7",
        "UPDATE items SET c = 8 WHERE id = 1",
        "update public.items 1 {\"c\": {\"new\": 8, \"old\": 7}}",
    );
    step(
        "ALTER TABLE items DROP COLUMN a",
        "UPDATE items SET c = 9 WHERE id = 1",
        "update public.items 1 {\"c\": {\"new\": 9, \"old\": 8}}",
    );
    step(
        "ALTER TABLE items DROP COLUMN c",
        "UPDATE items SET b = 9 WHERE id = 1",
        "",
    );
    step(
        "ALTER TABLE items ADD a int",
        "UPDATE items SET a = 1 WHERE id = 1",
        "update public.items 1 {\"a\": {\"new\": 1, \"old\": null}}",
    );
    step(
        "ALTER TABLE items RENAME a TO e",
        "UPDATE items SET e = 2 WHERE id = 1",
        "update public.items 1 {\"e\": {\"new\": 2, \"old\": 1}}",
    );
    step(
        "ALTER TABLE items RENAME id TO number",
        "UPDATE items SET e = 3 WHERE number = 1",
        "update public.items 1 {\"e\": {\"new\": 3, \"old\": 2}}",
    );
    step(
        "ALTER TABLE items ALTER e TYPE text",
        "UPDATE items SET e = 'x' WHERE number = 1",
        "update public.items 1 {\"e\": {\"new\": \"x\", \"old\": \"3\"}}",
    );
    step(
        "SELECT audit.track('items')",
        "UPDATE items SET b = 5 WHERE number = 1",
        "update public.items 1 {\"b\": {\"new\": 5, \"old\": 9}}",
    );
    step(
        "ALTER TABLE items RENAME TO goods",
        "UPDATE goods SET b = 6 WHERE number = 1",
        "update public.goods 1 {\"b\": {\"new\": 6, \"old\": 5}}",
    );
    step(
        "CREATE SCHEMA shop; ALTER TABLE goods SET SCHEMA shop",
        "UPDATE shop.goods SET b = 7 WHERE number = 1",
        "update shop.goods 1 {\"b\": {\"new\": 7, \"old\": 6}}",
    );
    step(
        "ALTER TABLE shop.goods ADD c text DEFAULT 'd'",
        "DELETE FROM shop.goods WHERE number = 1",
        "delete shop.goods 1 {\"b\": {\"old\": 7}, \"c\": {\"old\": \"d\"}, \"e\": {\"old\": \"x\"}, \"number\": {\"old\": 1}}",
    );
    // In the transaction that alters it.
    step(
        "SELECT 1",
        "BEGIN; ALTER TABLE shop.goods ADD d int; UPDATE shop.goods SET d = 1 WHERE number = 2; ALTER TABLE shop.goods DROP COLUMN d; UPDATE shop.goods SET c = 'e' WHERE number = 2; COMMIT",
        "update shop.goods 2 {\"d\": {\"new\": 1, \"old\": null}}\nupdate shop.goods 2 {\"c\": {\"new\": \"e\", \"old\": \"d\"}}",
    );
    step(
        "ALTER TABLE shop.goods DROP COLUMN number",
        "UPDATE shop.goods SET b = 8 WHERE b = 1 AND c = 'e'",
        "update shop.goods {\"b\": {\"new\": 8, \"old\": 1}, \"c\": {\"new\": \"e\", \"old\": \"e\"}, \"e\": {\"new\": null, \"old\": null}}",
    );
}

#[test]
fn names_and_columns_may_be_anything() {
    let postgres = migrated();
    postgres.psql(
        "CREATE SCHEMA \"a.b\"; CREATE TABLE \"a.b\".\"o'b \"\"q\"\" %s $f$ 名\" (\"k.\"\"1 %s\" int PRIMARY KEY, \"it's {} \\ %I %%\" text, \"$1\" int, \"日本\" int);
         SELECT audit.track('\"a.b\".\"o''b \"\"q\"\" %s $f$ 名\"', columns_masked => '{日本}')",
    );
    let table = "\"a.b\".\"o'b \"\"q\"\" %s $f$ 名\"";
    assert_eq!(
        changes(
            &postgres,
            &format!(
                "INSERT INTO {table} VALUES (1, 'a', 2, 3); UPDATE {table} SET \"it's {{}} \\ %I %%\" = 'b', \"日本\" = 4"
            )
        ),
        format!(
            "insert {table} 1 {{\"$1\": {{\"new\": 2}}, \"日本\": {{\"masked\": true}}, \"k.\\\"1 %s\": {{\"new\": 1}}, \"it's {{}} \\\\ %I %%\": {{\"new\": \"a\"}}}}\n\
             update {table} 1 {{\"日本\": {{\"masked\": true}}, \"it's {{}} \\\\ %I %%\": {{\"new\": \"b\", \"old\": \"a\"}}}}"
        )
    );
    assert_eq!(
        changes(&postgres, &format!("TRUNCATE {table}")),
        format!("truncate {table} {{}} rows=1")
    );
    postgres.psql(&format!("SELECT audit.untrack($n${table}$n$)"));
    // Names of ours.
    let columns = "place seq c key operation changes tenant moved rows kind asked old_rows new_rows o n r e o1 n1 o2 n2 context number at id_head";
    let list = columns.replace(' ', " int, ");
    postgres.psql(&format!("CREATE TABLE new_rows ({list} int, PRIMARY KEY (place, key)); SELECT audit.track('new_rows')"));
    postgres.psql("INSERT INTO new_rows SELECT (jsonb_populate_record(NULL::new_rows, jsonb_build_object('place', 1, 'key', 2))).*");
    assert_eq!(
        changes(
            &postgres,
            "UPDATE new_rows SET seq = 1, c = 2, o1 = 3, n1 = 4, old_rows = 5"
        ),
        "update public.new_rows {\"key\": 2, \"place\": 1} {\"c\": {\"new\": 2, \"old\": null}, \"n1\": {\"new\": 4, \"old\": null}, \"o1\": {\"new\": 3, \"old\": null}, \"seq\": {\"new\": 1, \"old\": null}, \"old_rows\": {\"new\": 5, \"old\": null}}"
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE new_rows SET place = 2; DELETE FROM new_rows"
        )
        .lines()
        .count(),
        3
    );
}

#[test]
fn wide_table_and_many_rows_are_recorded() {
    let postgres = migrated();
    postgres.psql(
        "SELECT format('CREATE TABLE wide (id int PRIMARY KEY, %s)', string_agg(format('c%s text', i), ', ')) AS ddl FROM generate_series(1, 150) i",
    );
    let columns: Vec<_> = (1..=150).map(|i| format!("c{i} text")).collect();
    postgres.psql(&format!(
        "CREATE TABLE wide (id int PRIMARY KEY, {}); SELECT audit.track('wide')",
        columns.join(", ")
    ));
    postgres.psql("INSERT INTO wide (id, c150) SELECT i, 'x' FROM generate_series(1, 300) i");
    let values: Vec<_> = (1..=150).map(|i| format!("c{i} = '{i}'")).collect();
    postgres.psql(&format!("UPDATE wide SET {}", values.join(", ")));
    postgres.psql("UPDATE wide SET id = -id WHERE id = 1; DELETE FROM wide WHERE id > 1");
    assert_eq!(
        postgres.psql("SELECT metadata ->> 'operation', count(*), min(n), max(n) FROM audit.events, LATERAL (SELECT count(*) AS n FROM jsonb_object_keys(metadata -> 'changes')) c
            WHERE target_type = 'public.wide' GROUP BY 1 ORDER BY 1"),
        "delete|300|151|151\ninsert|301|151|151\nupdate|300|150|150"
    );
    assert_eq!(
        postgres.psql(
            "SELECT count(*), count(DISTINCT id) FROM audit.events WHERE metadata ? 'changes'"
        ),
        "901|901"
    );
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.batches b WHERE (records ->> 'events')::bigint <> (SELECT count(*) FROM audit.events e WHERE e.writer_id = b.writer_id AND seq BETWEEN first_seq AND last_seq)
            OR first_id <> (SELECT min(id::text)::uuid FROM audit.events e WHERE e.writer_id = b.writer_id) OR last_id <> (SELECT max(id::text)::uuid FROM audit.events e WHERE e.writer_id = b.writer_id)"),
        "0"
    );
}

#[test]
fn rows_that_a_policy_of_the_host_hides_are_recorded() {
    let postgres = migrated();
    postgres.psql(
        "CREATE ROLE clerk LOGIN; CREATE TABLE items (id int PRIMARY KEY, owner text, n int); GRANT ALL ON items TO clerk;
         ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON items USING (owner = current_user);
         INSERT INTO items VALUES (1, 'clerk', 1), (2, 'other', 1); SELECT audit.track('items')",
    );
    let mut clerk = postgres.session("clerk");
    assert_eq!(
        changes_by(&postgres, &mut clerk, "UPDATE items SET n = 2"),
        "update public.items 1 {\"n\": {\"new\": 2, \"old\": 1}}"
    );
    // Who sees a part of the rows cannot count them.
    assert_eq!(
        changes_by(&postgres, &mut clerk, "TRUNCATE items"),
        "truncate public.items {}"
    );
    postgres.psql("INSERT INTO items VALUES (1, 'clerk', 1)");
    postgres.psql("REVOKE SELECT ON items FROM clerk");
    assert_eq!(
        changes_by(&postgres, &mut clerk, "TRUNCATE items"),
        "truncate public.items {}"
    );
}
