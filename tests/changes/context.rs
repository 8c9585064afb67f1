//! For whom a change was made.

use super::{login, migrated, refused, tracked};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use testkit::{Postgres, Session};

const ID: &str = "0198f1d3-0000-7000-8000-000000000017";

/// Inserts a row and returns columns of its event.
#[track_caller]
fn told(postgres: &Postgres, session: &mut Session, columns: &str) -> String {
    session.psql("INSERT INTO items SELECT coalesce(max(id), 0) + 1 FROM items");
    postgres.psql(&format!(
        "SELECT {columns} FROM audit.events WHERE metadata ? 'changes' ORDER BY (metadata ->> 'number')::bigint DESC LIMIT 1"
    ))
}

#[test]
fn change_says_what_the_settings_of_the_session_say() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    for (name, value) in [
        ("user_id", "alice"),
        ("user_role", "clerk"),
        ("request_id", "req-1"),
        ("conversation_id", "talk-1"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("span_id", "b7ad6b7169203331"),
        ("agent_id", ID),
        ("llm_session_id", ID),
        ("parent_id", ID),
        ("current_tenant", ID),
    ] {
        session.psql(&format!("SET app.{name} = '{value}'"));
    }
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "user_id, user_role, request_id, conversation_id, trace_id, span_id, agent_id, llm_session_id, parent_id, tenant_id,
             metadata ->> 'login', metadata ->> 'tenant_key', problems"
        ),
        format!(
            "alice|clerk|req-1|talk-1|0af7651916cd43dd8448eb211c80319c|b7ad6b7169203331|{ID}|{ID}|{ID}|{ID}|postgres||{{}}"
        )
    );
    session.psql(&format!(
        "SET application_name = 'billing \"x\"'; SET app.current_tenant = '{}'",
        ID.to_uppercase()
    ));
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "tenant_id, metadata ->> 'application_name', metadata ->> 'client_address'"
        ),
        format!("{ID}|billing \"x\"|127.0.0.1")
    );
}

#[test]
fn change_without_settings_is_the_logins() {
    let postgres = tracked();
    postgres.psql("CREATE ROLE \"o'brien \"\"x\"\"\" LOGIN; GRANT ALL ON items TO PUBLIC");
    let mut session = postgres.session("o'brien \"x\"");
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "user_id, metadata ->> 'login', tenant_id, request_id, problems"
        ),
        "o'brien \"x\"|o'brien \"x\"|||{}"
    );
    // A role that is taken on is not who logged in; an empty setting says nothing.
    postgres.psql(
        "CREATE ROLE clerks; GRANT ALL ON items TO clerks; GRANT clerks TO \"o'brien \"\"x\"\"\"",
    );
    session.psql("SET ROLE clerks; SET app.user_id = ''");
    assert_eq!(
        told(&postgres, &mut session, "user_id, metadata ->> 'login'"),
        "o'brien \"x\"|o'brien \"x\""
    );
}

#[test]
fn values_that_are_no_uuid_are_kept_beside_and_reported() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    session.psql("SET app.agent_id = 'agent \"7\"'; SET app.parent_id = '0198f1d3'; SET app.current_tenant = 'acme'");
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "agent_id, parent_id, tenant_id = audit.tenant_uuid('acme'), metadata ->> 'agent_id', metadata ->> 'parent_id',
             metadata ->> 'tenant_key', problems"
        ),
        "||t|agent \"7\"|0198f1d3|acme|{\"agent_id: not a UUID\",\"parent_id: not a UUID\"}"
    );
    // One of three that is one stays in its place.
    session.psql(&format!("SET app.llm_session_id = '{ID}'"));
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "agent_id, llm_session_id, parent_id"
        ),
        format!("|{ID}|")
    );
    // The forms of UUID that Postgres reads and the trail's others.
    let dashless = ID.replace('-', "");
    session.psql(&format!(
        "SET app.current_tenant = '{dashless}'; SET app.agent_id = '{dashless}'"
    ));
    assert_eq!(told(&postgres, &mut session, "tenant_id"), ID);
    // Long and odd values do not fail the statement.
    session.psql("SELECT set_config('app.' || n, repeat('é\\\"%', 5000), false) FROM unnest('{user_id,user_role,request_id,conversation_id,trace_id,span_id,agent_id,parent_id,current_tenant}'::text[]) n");
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "length(user_id), length(metadata ->> 'agent_id'), length(metadata ->> 'tenant_key')"
        ),
        "1024|1024|1024"
    );
}

#[test]
fn set_context_holds_for_the_transaction() {
    let postgres = tracked();
    postgres.psql("GRANT ALL ON items TO PUBLIC");
    let mut session = login(&postgres, "writes", Some("audit_writer"));
    session.psql("BEGIN");
    session.psql("SELECT audit.set_context('{\"user_id\": \"bob\", \"tenant_id\": \"acme\", \"request_id\": \"req-2\"}')");
    session.psql("SELECT audit.set_context('{\"user_role\": \"clerk\", \"request_id\": null}')");
    session.psql("INSERT INTO items VALUES (100)");
    session.psql("COMMIT");
    assert_eq!(
        postgres.psql("SELECT user_id, user_role, request_id, metadata ->> 'tenant_key' FROM audit.events WHERE target_id = '100'"),
        "bob|clerk||acme"
    );
    assert_eq!(
        told(
            &postgres,
            &mut session,
            "user_id, user_role, metadata ->> 'tenant_key'"
        ),
        "writes||"
    );
    // Rolled back with a savepoint.
    session.psql("BEGIN; SELECT audit.set_context('{\"user_id\": \"bob\"}'); SAVEPOINT s; SELECT audit.set_context('{\"user_id\": \"eve\"}'); ROLLBACK TO s");
    assert_eq!(session.psql("SELECT current_setting('app.user_id')"), "bob");
    session.psql("ROLLBACK");
    let error = refused(
        &mut session,
        "22023",
        "SELECT audit.set_context('{\"user\": \"bob\"}')",
    );
    assert!(
        error.contains("\"user\" is nothing that a context has") && error.contains("user_id"),
        "{error}"
    );
    for context in ["'[]'", "'1'", "'null'", "NULL"] {
        refused(
            &mut session,
            "22023",
            &format!("SELECT audit.set_context({context})"),
        );
    }
    // It says no more than settings that anybody may set.
    let mut none = login(&postgres, "nobody", None);
    refused(&mut none, "42501", "SELECT audit.set_context('{}')");
}

#[test]
fn change_by_a_trigger_of_the_host_says_at_which_depth() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE items (id int PRIMARY KEY, size int); CREATE TABLE sums (id int PRIMARY KEY, total int); INSERT INTO sums VALUES (1, 0);
         CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE sums SET total = total + NEW.size; RETURN NULL; END';
         CREATE TRIGGER add AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION add();
         SELECT audit.track('items'), audit.track('sums')",
    );
    postgres.psql("INSERT INTO items VALUES (1, 5), (2, 7)");
    assert_eq!(
        postgres.psql("SELECT target_type, target_id, metadata ->> 'depth', count(*) FROM audit.events WHERE metadata ? 'changes' GROUP BY 1, 2, 3 ORDER BY 1, 2"),
        "public.items|1||1\npublic.items|2||1\npublic.sums|1|2|2"
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.sums', '1', now())"),
        "{\"total\": 12}"
    );
}

#[test]
fn row_that_a_trigger_of_the_host_changes_once_more_has_its_history_in_order() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE items (id int PRIMARY KEY, n int);
         CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE items SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END';
         CREATE TRIGGER more AFTER INSERT OR UPDATE ON items FOR EACH ROW WHEN (NEW.n % 10 < 3) EXECUTE FUNCTION more();
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n >= 100) EXECUTE FUNCTION more();
         SELECT audit.track('items')",
    );
    postgres.psql("BEGIN; INSERT INTO items VALUES (1, 0), (2, 11); UPDATE items SET n = 20 WHERE id = 1; INSERT INTO items VALUES (3, 104); COMMIT");
    for (id, values) in [(1, "0 1 2 3 20 21 22 23"), (2, "11 12 13"), (3, "104 105")] {
        assert_eq!(
            postgres.psql(&format!(
                "SELECT string_agg(changes -> 'n' ->> 'new', ' ') FROM audit.row_history('public.items', '{id}')"
            )),
            values
        );
    }
    assert_eq!(
        postgres.psql("SELECT count(*) FROM items t WHERE to_jsonb(t) <> audit.row_at('public.items', id::text, now())"),
        "0"
    );
}

#[test]
fn row_that_several_triggers_change_has_its_history_in_order() {
    let postgres = migrated();
    postgres.psql(
        "CREATE TABLE items (id int PRIMARY KEY, n int); CREATE TABLE orders (id int); CREATE TABLE kept (id int PRIMARY KEY, v text); CREATE TABLE deep (id int PRIMARY KEY, n int);
         CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE items SET n = n + 1 WHERE id = 1; RETURN NULL; END $$;
         CREATE TRIGGER t AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION count_it();
         CREATE FUNCTION replace_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM kept WHERE id = NEW.id; RETURN NEW; END $$;
         CREATE TRIGGER t BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION replace_it();
         CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n < 4 THEN UPDATE deep SET n = n + 1 WHERE id = NEW.id; END IF; RETURN NULL; END $$;
         CREATE TRIGGER t AFTER INSERT OR UPDATE ON deep FOR EACH ROW EXECUTE FUNCTION go_on();
         SELECT audit.track('items'), audit.track('kept'), audit.track('deep'); INSERT INTO items VALUES (1, 0)",
    );
    // A trigger of another table, and then the program; one that makes room first; one that fires itself.
    postgres.psql("BEGIN; INSERT INTO orders VALUES (1), (2); UPDATE items SET n = 100; INSERT INTO orders VALUES (3); COMMIT");
    postgres.psql("INSERT INTO kept VALUES (1, 'a'); INSERT INTO kept VALUES (1, 'a'); BEGIN; INSERT INTO kept VALUES (1, 'b'); UPDATE kept SET v = 'c'; COMMIT");
    postgres.psql("INSERT INTO deep VALUES (1, 1)");
    // One that changes it more often than others are asked.
    postgres.psql(
        "CREATE TABLE often (id int PRIMARY KEY, n int, v text); INSERT INTO often VALUES (1, 0, repeat('x', 7000)); SELECT audit.track('often');
         CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN FOR i IN 1 .. 30 LOOP UPDATE often SET n = n + 1; END LOOP; END IF; RETURN NULL; END $$;
         CREATE TRIGGER t AFTER UPDATE ON often FOR EACH ROW EXECUTE FUNCTION again();
         UPDATE often SET n = 1000, v = 'y'; UPDATE often SET n = 2000",
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.often', '1', clock_timestamp())"),
        "{\"n\": 2030, \"v\": \"y\"}"
    );
    for (table, row, history) in [
        (
            "items",
            "{\"n\": 101, \"id\": 1}",
            "insert update update update update",
        ),
        (
            "kept",
            "{\"v\": \"c\", \"id\": 1}",
            "insert delete insert delete insert update",
        ),
        (
            "deep",
            "{\"n\": 4, \"id\": 1}",
            "insert update update update",
        ),
    ] {
        assert_eq!(
            postgres.psql(&format!(
                "SELECT audit.row_at('public.{table}', '1', clock_timestamp())"
            )),
            row,
            "{table}"
        );
        assert_eq!(
            postgres.psql(&format!("SELECT string_agg(operation, ' ' ORDER BY place) FROM audit.row_history('public.{table}', '1') WITH ORDINALITY
                AS h (number, changed_at, operation, changes, user_id, request_id, login, event_id, place)")),
            history,
            "{table}"
        );
    }
}

#[test]
fn setting_that_is_no_text_is_refused() {
    let postgres = tracked();
    // In the packet that begins a session, which Postgres does not check.
    let mut server = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
    let packet = b"\0\x03\0\0user\0postgres\0database\0audit\0options\0-c app.user_id=\xff\xfe\0\0";
    let query = b"INSERT INTO items VALUES (1, 'a', 1)\0";
    for (kind, body) in [(&b""[..], &packet[..]), (b"Q", query), (b"X", b"")] {
        server.write_all(kind).unwrap();
        server
            .write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes())
            .unwrap();
        server.write_all(body).unwrap();
    }
    let mut told = Vec::new();
    server.read_to_end(&mut told).unwrap();
    assert!(String::from_utf8_lossy(&told).contains("C22021"));
    assert_eq!(postgres.psql("SELECT count(*) FROM items"), "0");
}

#[test]
fn settings_of_a_session_do_not_change_how_a_change_is_written() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    session.psql("SET quote_all_identifiers = on; SET standard_conforming_strings = off; SET array_nulls = off; SET bytea_output = 'escape'; SET xmloption = 'document'; SET transform_null_equals = on; SET enable_seqscan = off; SET plan_cache_mode = 'force_custom_plan'; SET default_transaction_isolation = 'serializable'; SET backslash_quote = off; SET escape_string_warning = on");
    session.psql("INSERT INTO items VALUES (1, E'a\\\\b', NULL); ALTER TABLE items ADD more text DEFAULT 'x'; UPDATE items SET more = E'c\\\\d'; SELECT audit.track('items'); TRUNCATE items");
    assert_eq!(
        super::changes_after(&postgres, 0),
        "insert public.items 1 {\"id\": {\"new\": 1}, \"name\": {\"new\": \"a\\\\b\"}, \"size\": {\"new\": null}}\n\
         update public.items 1 {\"more\": {\"new\": \"c\\\\d\", \"old\": \"x\"}}\n\
         truncate public.items {} rows=1"
    );
    assert_eq!(
        postgres.psql("SELECT table_name FROM audit.tracked"),
        "public.items"
    );
}
