//! `audit.row_at`, held against a model under random histories of many connections.

use super::migrated;
use std::thread;
use std::time::SystemTime;
use testkit::{Postgres, Session};

const CONNECTIONS: u64 = 8;
const TRANSACTIONS: u64 = 30;

/// A plain row trigger writes what the table was, in the order of the locks: the model.
const MODEL: &str = "
    CREATE TABLE items (id int PRIMARY KEY, a int, b text);
    CREATE TABLE model (n bigserial, id int, operation text, changes jsonb); CREATE TABLE checks (n bigserial, id int, at timestamptz, row jsonb);
    CREATE FUNCTION model() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
            IF OLD <> NEW OR to_jsonb(OLD) <> to_jsonb(NEW) THEN
                INSERT INTO model (id, operation, changes) SELECT NEW.id, 'update', jsonb_object_agg(o.key, jsonb_build_object('old', o.value, 'new', n.value))
                    FROM jsonb_each(to_jsonb(OLD)) o JOIN jsonb_each(to_jsonb(NEW)) n USING (key) WHERE o.value <> n.value;
            END IF;
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO model (id, operation, changes) SELECT OLD.id, 'delete', jsonb_object_agg(key, jsonb_build_object('old', value)) FROM jsonb_each(to_jsonb(OLD));
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO model (id, operation, changes) SELECT NEW.id, 'insert', jsonb_object_agg(key, jsonb_build_object('new', value)) FROM jsonb_each(to_jsonb(NEW));
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION model_truncate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO model (id, operation, changes) SELECT i, 'truncate', '{}' FROM generate_series(1, 6) i; RETURN NULL; END $$;
    CREATE TRIGGER model AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION model();
    CREATE TRIGGER model_truncate AFTER TRUNCATE ON items FOR EACH STATEMENT EXECUTE FUNCTION model_truncate();
    SELECT audit.track('items')";

/// A generator of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A statement on one of six keys.
    fn statement(&mut self) -> String {
        let (id, other, value) = (self.below(6) + 1, self.below(6) + 1, self.below(5));
        match self.below(20) {
            0..=4 => format!(
                "INSERT INTO items VALUES ({id}, {value}, 'w{value}') ON CONFLICT DO NOTHING"
            ),
            5..=6 => format!(
                "INSERT INTO items VALUES ({id}, {value}, NULL) ON CONFLICT (id) DO UPDATE SET a = excluded.a + 1"
            ),
            7..=11 => format!("UPDATE items SET a = {value} WHERE id = {id}"),
            12 => format!("UPDATE items SET b = 'x{value}', a = a + 1 WHERE id IN ({id}, {other})"),
            13..=14 => format!(
                "UPDATE items SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM items WHERE id = {other})"
            ),
            15..=17 => format!("DELETE FROM items WHERE id = {id}"),
            18 if value == 0 => "TRUNCATE items".to_owned(),
            _ => format!("DELETE FROM items WHERE a = {value}"),
        }
    }
}

/// Runs a transaction of random statements, with savepoints; some end in a rollback, some in a connection that is killed.
/// Errors are part of it: a deadlock, a key that is there already.
fn transaction(postgres: &Postgres, session: &mut Session, random: &mut Random) {
    let run = |session: &mut Session, sql: &str| session.run(sql).is_ok();
    if !run(session, "BEGIN; SET LOCAL deadlock_timeout = '20ms'") {
        return;
    }
    let pid = session.run("SELECT pg_backend_pid()").unwrap_or_default();
    let mut is_fine = true;
    for _ in 0..=random.below(5) {
        let statement = random.statement();
        is_fine = match random.below(4) {
            0 => {
                run(session, "SAVEPOINT s");
                let end = if run(session, &statement) && random.below(2) == 0 {
                    "RELEASE s"
                } else {
                    "ROLLBACK TO s"
                };
                run(session, end)
            }
            _ => run(session, &statement),
        };
        if !is_fine {
            break;
        }
    }
    match random.below(10) {
        0 => {
            // Whether it is committed before it dies is left to chance.
            session.send(&format!("{}; COMMIT", random.statement()));
            postgres.psql(&format!(
                "SELECT pg_terminate_backend({pid}) FROM pg_sleep(0.00{})",
                random.below(10)
            ));
            let _ = session.receive();
            *session = postgres.session("postgres");
        }
        1..=2 => {
            run(session, "ROLLBACK");
        }
        _ if is_fine => {
            run(session, "COMMIT");
        }
        _ => {
            run(session, "ROLLBACK");
        }
    }
}

/// Under a lock that keeps writers out, writes down the rows of this moment.
fn check(session: &mut Session) {
    let written = session.run("BEGIN; LOCK TABLE items IN SHARE MODE; INSERT INTO checks (id, at, row) SELECT i, clock_timestamp(), (SELECT to_jsonb(t) FROM items t WHERE t.id = i) FROM generate_series(1, 6) i; COMMIT");
    if written.is_err() {
        // A truncation that waits for another's rows is in the way.
        session.psql("ROLLBACK");
    }
}

/// Returns what differs from the model, a line for each.
fn differences(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT 'at ' || c.at, c.id, c.row, audit.row_at('public.items', c.id::text, c.at) FROM checks c
            WHERE c.row IS DISTINCT FROM audit.row_at('public.items', c.id::text, c.at)
         UNION ALL SELECT 'now', i::text::int, to_jsonb(t), audit.row_at('public.items', i::text, clock_timestamp())
            FROM generate_series(1, 6) i LEFT JOIN items t ON t.id = i WHERE to_jsonb(t) IS DISTINCT FROM audit.row_at('public.items', i::text, clock_timestamp())
         LIMIT 10",
    )
}

/// Returns the histories that are not the model's: each change that was committed is in it once, in its place, and nothing else.
fn unlike_histories(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT i, model.told, history.told FROM generate_series(1, 6) i,
            LATERAL (SELECT string_agg(concat(operation, changes), ';' ORDER BY n) AS told FROM model WHERE id = i) AS model,
            LATERAL (SELECT string_agg(concat(operation, changes), ';' ORDER BY place) AS told FROM audit.row_history('public.items', i::text)
                WITH ORDINALITY AS h (number, changed_at, operation, changes, user_id, request_id, login, event_id, place)) AS history
         WHERE model.told IS DISTINCT FROM history.told",
    )
}

#[test]
fn row_at_agrees_with_a_model_under_random_changes_from_eight_connections() {
    let postgres = migrated();
    postgres.psql(MODEL);
    // Another one each day and the same one on each machine; a failure says which.
    let today = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let seed = std::env::var("CHANGES_SEED").map_or(today, |seed| seed.parse().unwrap());
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let postgres = &postgres;
            scope.spawn(move || {
                let mut random = Random(seed + connection);
                let mut session = postgres.session("postgres");
                let mut checker = postgres.session("postgres");
                for turn in 0..TRANSACTIONS {
                    transaction(postgres, &mut session, &mut random);
                    if (turn + connection) % 5 == 0 {
                        check(&mut checker);
                    }
                }
            });
        }
    });
    let differences = differences(&postgres);
    assert!(
        differences.is_empty(),
        "CHANGES_SEED={seed}:\n{differences}"
    );
    assert_ne!(
        postgres.psql("SELECT count(*) FROM checks WHERE row IS NOT NULL"),
        "0"
    );
    let operations = postgres.psql("SELECT string_agg(DISTINCT metadata ->> 'operation', ' ' ORDER BY metadata ->> 'operation') FROM audit.events WHERE metadata ? 'changes'");
    assert_eq!(
        operations, "delete insert truncate update",
        "CHANGES_SEED={seed}"
    );
    let unlike = unlike_histories(&postgres);
    assert!(unlike.is_empty(), "CHANGES_SEED={seed}: {unlike}");
    assert_eq!(
        postgres.psql("SELECT count(*) = (SELECT sum((records ->> 'events')::bigint) FROM audit.batches) FROM audit.events"),
        "t"
    );
}
