//! What the event of a change says.

use super::{changes, tracked};
use serde_json::{Value, json};

#[test]
fn each_changed_row_is_an_event_with_what_changed() {
    let postgres = tracked();
    assert_eq!(
        changes(
            &postgres,
            "INSERT INTO items VALUES (1, 'a', 10), (2, 'b', NULL)"
        ),
        "insert public.items 1 {\"id\": {\"new\": 1}, \"name\": {\"new\": \"a\"}, \"size\": {\"new\": 10}}\n\
         insert public.items 2 {\"id\": {\"new\": 2}, \"name\": {\"new\": \"b\"}, \"size\": {\"new\": null}}"
    );
    assert_eq!(
        changes(
            &postgres,
            "UPDATE items SET name = 'c', size = 10 WHERE id IN (1, 2)"
        ),
        "update public.items 1 {\"name\": {\"new\": \"c\", \"old\": \"a\"}}\n\
         update public.items 2 {\"name\": {\"new\": \"c\", \"old\": \"b\"}, \"size\": {\"new\": 10, \"old\": null}}"
    );
    assert_eq!(
        changes(&postgres, "DELETE FROM items WHERE id = 2"),
        "delete public.items 2 {\"id\": {\"old\": 2}, \"name\": {\"old\": \"c\"}, \"size\": {\"old\": 10}}"
    );
    let event = postgres.psql(
        "SELECT to_jsonb(e) - '{id,created_at,writer_id,salt,metadata}'::text[] || jsonb_build_object('metadata',
            e.metadata - '{number,transaction}'::text[]) FROM audit.events e WHERE metadata ->> 'operation' = 'delete'",
    );
    let event: Value = serde_json::from_str(&event).unwrap();
    let said: serde_json::Map<_, _> = event
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null() && **value != json!([]))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert_eq!(
        Value::Object(said),
        json!({
            "action_type": "change", "service_name": "postgres", "status": "succeeded", "seq": 1, "user_id": "postgres",
            "target_type": "public.items", "target_id": "2",
            "metadata": {"operation": "delete", "login": "postgres", "client_address": "127.0.0.1",
                "changes": {"id": {"old": 2}, "name": {"old": "c"}, "size": {"old": 10}}}
        })
    );
}

#[test]
fn update_that_changes_nothing_makes_no_event() {
    let postgres = tracked();
    postgres.psql("INSERT INTO items VALUES (1, 'a', 10), (2, 'b', NULL)");
    assert_eq!(
        changes(
            &postgres,
            "UPDATE items SET name = name, size = size; UPDATE items SET id = id; UPDATE items SET size = 1 WHERE id = 99;
             DELETE FROM items WHERE id = 99; INSERT INTO items SELECT * FROM items WHERE false"
        ),
        ""
    );
    // Nor a batch.
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.batches WHERE records = '{\"events\": 0}'"),
        "0"
    );
    // Of two rows, the one that changes.
    assert_eq!(
        changes(&postgres, "UPDATE items SET size = 10"),
        "update public.items 2 {\"size\": {\"new\": 10, \"old\": null}}"
    );
}

#[test]
fn changed_primary_key_is_a_delete_and_an_insert_that_name_each_other() {
    let postgres = tracked();
    postgres.psql("INSERT INTO items VALUES (1, 'a', 10), (2, 'b', NULL)");
    assert_eq!(
        changes(
            &postgres,
            "UPDATE items SET id = id + 10, size = 11 WHERE id = 1"
        ),
        "delete public.items 1 {\"id\": {\"old\": 1}, \"name\": {\"old\": \"a\"}, \"size\": {\"old\": 10}} -> 11\n\
         insert public.items 11 {\"id\": {\"new\": 11}, \"name\": {\"new\": \"a\"}, \"size\": {\"new\": 11}} <- 1"
    );
    // Two rows that change places, through a key that nobody has.
    postgres.psql("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id) DEFERRABLE; SELECT audit.track('items')");
    assert_eq!(
        changes(&postgres, "UPDATE items SET id = 13 - id"),
        "delete public.items 2 {\"id\": {\"old\": 2}, \"name\": {\"old\": \"b\"}, \"size\": {\"old\": null}} -> 11\n\
         delete public.items 11 {\"id\": {\"old\": 11}, \"name\": {\"old\": \"a\"}, \"size\": {\"old\": 11}} -> 2\n\
         insert public.items 11 {\"id\": {\"new\": 11}, \"name\": {\"new\": \"b\"}, \"size\": {\"new\": null}} <- 2\n\
         insert public.items 2 {\"id\": {\"new\": 2}, \"name\": {\"new\": \"a\"}, \"size\": {\"new\": 11}} <- 11"
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.items', '2', now()), audit.row_at('public.items', '11', now())"),
        "{\"id\": 2, \"name\": \"a\", \"size\": 11}|{\"id\": 11, \"name\": \"b\", \"size\": null}"
    );
}

#[test]
fn truncation_is_one_event_with_the_number_of_rows() {
    let postgres = tracked();
    postgres.psql("CREATE TABLE parts (id int PRIMARY KEY, item int REFERENCES items); SELECT audit.track('parts')");
    postgres.psql(
        "INSERT INTO items VALUES (1, 'a', 10), (2, 'b', NULL); INSERT INTO parts VALUES (7, 1)",
    );
    assert_eq!(
        changes(&postgres, "TRUNCATE items CASCADE"),
        "truncate public.items {} rows=2\ntruncate public.parts {} rows=1"
    );
    assert_eq!(
        changes(&postgres, "TRUNCATE parts"),
        "truncate public.parts {} rows=0"
    );
    assert_eq!(
        postgres.psql("SELECT audit.row_at('public.items', '1', now()), (SELECT string_agg(operation, ' ') FROM audit.row_history('public.items', '1'))"),
        "|insert truncate"
    );
}

#[test]
fn views_show_changes_and_histories_as_they_were_made() {
    let postgres = tracked();
    postgres.psql("INSERT INTO items VALUES (1, 'a', 10)");
    postgres.psql("SET app.user_id = 'alice'; UPDATE items SET name = 'b', size = 11");
    postgres.psql("BEGIN; UPDATE items SET size = 12; UPDATE items SET size = 13; COMMIT");
    assert_eq!(
        postgres.psql("SELECT field, old, new, user_id FROM audit.changes WHERE operation = 'update' ORDER BY number, field"),
        "name|\"a\"|\"b\"|alice\nsize|10|11|alice\nsize|11|12|postgres\nsize|12|13|postgres"
    );
    assert_eq!(
        postgres.psql("SELECT string_agg(changes -> 'size' ->> 'new', ' ') FROM audit.row_history('public.items', '1')"),
        "10 11 12 13"
    );
    assert_eq!(
        postgres
            .psql("SELECT count(DISTINCT transaction), count(DISTINCT number) FROM audit.changes"),
        "3|4"
    );
    assert_eq!(
        postgres.psql("SELECT table_name, operations, on_failure, tracked_by FROM audit.tracked"),
        "public.items|{insert,update,delete,truncate}|fail|postgres"
    );
    // A reader sees those of its tenant, an auditor all.
    postgres.psql("SET app.current_tenant = 'acme'; UPDATE items SET size = 14");
    postgres.psql("CREATE ROLE reads LOGIN IN ROLE audit_reader; CREATE ROLE audits LOGIN IN ROLE audit_auditor");
    let mut reader = postgres.session("reads");
    reader.psql("SELECT set_config('app.current_tenant', audit.tenant_uuid('acme')::text, false)");
    assert_eq!(reader.psql("SELECT new FROM audit.changes"), "14");
    assert_eq!(
        reader
            .psql("SELECT changes -> 'size' ->> 'new' FROM audit.row_history('public.items', '1')"),
        "14"
    );
    assert_eq!(
        postgres
            .session("audits")
            .psql("SELECT count(DISTINCT event_id) FROM audit.changes"),
        "5"
    );
}
