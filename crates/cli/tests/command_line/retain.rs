//! What retention removes, holds and settles.

use super::{WRITER_A, as_login, migrated, run, stderr, stdout, with_old_partitions};
use serde_json::Value;

#[test]
fn retain_without_yes_prints_its_plan_and_changes_nothing() {
    let postgres = with_old_partitions();
    let before = postgres.psql(EVERYTHING);
    let planned = run(&postgres, &["retain", "--keep", "7 years"]);
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    let lines: Vec<Vec<String>> = words_of_lines(&stdout(&planned));
    assert_eq!(
        lines[0][..6],
        [
            "events_2012_05",
            "2012-05-01",
            "to",
            "2012-06-01",
            "3",
            "rows"
        ]
    );
    assert_eq!(lines[0][8..], ["would", "be", "removed"]);
    assert_eq!(lines[1][0], "query_runs_2012_05");
    assert_eq!(lines[2][0], "events_2013_01");
    assert!(
        stdout(&planned).ends_with("3 would be removed, 0 would stay. Nothing was removed: run this again with --yes to remove what can be.\n"),
        "{}",
        stdout(&planned)
    );
    assert_eq!(postgres.psql(EVERYTHING), before);

    let of_kind = run(
        &postgres,
        &[
            "retain",
            "--keep",
            "7 years",
            "--kind",
            "query_runs",
            "--json",
        ],
    );
    let planned: Vec<Value> = serde_json::from_str(&stdout(&of_kind)).unwrap();
    assert_eq!(planned.len(), 1, "{planned:?}");
    assert_eq!(planned[0]["partition"], "query_runs_2012_05");
    assert_eq!(planned[0]["kind"], "query_runs");
    assert_eq!(planned[0]["from"], "2012-05-01T00:00:00Z");
    assert_eq!(planned[0]["rows"], 0);
    assert_eq!(planned[0]["removed"], false);
    assert_eq!(planned[0]["event"], Value::Null);
    assert_eq!(planned[0]["obstacles"], serde_json::json!([]));
    assert_eq!(postgres.psql(EVERYTHING), before);

    let nothing = run(&postgres, &["retain", "--keep", "80 years", "--yes"]);
    assert_eq!(nothing.status.code(), Some(0));
    assert!(
        stdout(&nothing).contains("Nothing was removed"),
        "{}",
        stdout(&nothing)
    );
}

#[test]
fn retain_removes_eligible_partitions_and_names_the_obstacles_of_the_others() {
    let postgres = with_old_partitions();
    let answer = run(
        &postgres,
        &[
            "hold",
            "--reason",
            "case 17",
            "--from",
            "2013-01-15",
            "--to",
            "2013-01-16",
            "--kind",
            "events",
            "--json",
        ],
    );
    assert_eq!(answer.status.code(), Some(0), "{}", stderr(&answer));
    let hold: Value = serde_json::from_str(&stdout(&answer)).unwrap();
    let hold = hold["id"].as_str().unwrap();

    let planned = run(&postgres, &["retain", "--keep", "7 years"]);
    assert_eq!(planned.status.code(), Some(0), "a plan is no failure");
    assert!(
        stdout(&planned).contains("2 would be removed, 1 would stay"),
        "{}",
        stdout(&planned)
    );
    assert!(stdout(&planned).contains(&format!("held by the legal hold {hold}")));

    let operator = as_login(
        &postgres,
        "operator",
        &["retain", "--keep", "7 years", "--yes", "--json"],
    );
    assert_eq!(operator.status.code(), Some(1), "{}", stderr(&operator));
    let removed: Vec<Value> = serde_json::from_str(&stdout(&operator)).unwrap();
    let summary: Vec<(&str, bool)> = removed
        .iter()
        .map(|partition| {
            (
                partition["partition"].as_str().unwrap(),
                partition["removed"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("events_2012_05", true),
            ("query_runs_2012_05", true),
            ("events_2013_01", false)
        ]
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2013_01");
    // The removal is in the trail, with who did it.
    let told = postgres.psql(&format!(
        "SELECT user_id, action_type, target_id FROM audit.events WHERE id = '{}'",
        removed[0]["event"].as_str().unwrap()
    ));
    assert_eq!(told, "operator|audit.partition_removed|events_2012_05");
    assert_eq!(postgres.psql("SELECT sum(rows) FROM audit.removals"), "3");

    // Once the hold is lifted, it is removed too.
    let not_operator = as_login(
        &postgres,
        "operator",
        &["release", hold, "--reason", "closed"],
    );
    assert_eq!(
        not_operator.status.code(),
        Some(2),
        "who removes lifts no hold"
    );
    assert!(
        stderr(&not_operator).contains("audit_auditor"),
        "{}",
        stderr(&not_operator)
    );
    let released = as_login(
        &postgres,
        "auditor",
        &["release", hold, "--reason", "closed"],
    );
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    let removed = run(&postgres, &["retain", "--keep", "7 years", "--yes"]);
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert!(
        stdout(&removed).ends_with("\n1 removed, 0 not removed.\n"),
        "{}",
        stdout(&removed)
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "");
}

#[test]
fn retain_continues_after_the_removal_of_one_partition_is_refused() {
    let postgres = with_old_partitions();
    // The plan cannot see this: a host's event trigger refuses the removal.
    postgres.psql(
        "CREATE FUNCTION public.keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_name = 'events_2012_05') THEN
                RAISE EXCEPTION 'this one stays' USING ERRCODE = 'dependent_objects_still_exist';
            END IF; END $$;
         CREATE EVENT TRIGGER keep ON sql_drop EXECUTE FUNCTION public.keep()",
    );
    let removed = run(&postgres, &["retain", "--keep", "7 years", "--yes"]);
    assert_eq!(removed.status.code(), Some(1), "{}", stderr(&removed));
    let said = stdout(&removed);
    assert!(said.contains("this one stays"), "{said}");
    assert!(said.ends_with("2 removed, 1 not removed.\n"), "{said}");
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2012_05");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.removals WHERE partition = 'events_2012_05'"),
        "0"
    );
}

#[test]
fn whatever_postgres_says_of_one_month_concerns_that_month_alone() {
    let postgres = with_old_partitions();
    postgres.psql(
        "SELECT audit.ensure_partition('events', now());
         INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             SELECT audit.id_at(at), 'succeeded', at, gen_random_uuid(), 1, '' FROM unnest(ARRAY['1990-01-15Z', '1991-01-15Z']::timestamptz[]) at",
    );
    let month = postgres.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')");
    for code in ["54000", "42P01", "22P02", "XX000", "53200", "55P03"] {
        // The event that tells of the change is what fails.
        postgres.psql(&format!(
            "CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.target_id IN ('events_1990_01', 'events_2012_05') THEN
                     RAISE EXCEPTION 'that one fails' USING ERRCODE = '{code}';
                 END IF;
                 IF NEW.action_type IN ('audit.partition_removed', 'audit.partition_settled') THEN
                     RAISE EXCEPTION 'the others would not' USING ERRCODE = '55006';
                 END IF;
                 RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS fail ON audit_parts.events_{month};
             CREATE TRIGGER fail BEFORE INSERT ON audit_parts.events_{month} FOR EACH ROW EXECUTE FUNCTION public.fail()"
        ));
        for (words, others) in [
            (&["retain", "--keep", "7 years", "--yes"][..], 2),
            (&["settle", "--yes"], 1),
        ] {
            let done = run(&postgres, words);
            assert_eq!(done.status.code(), Some(1), "{code}: {}", stderr(&done));
            let said = stdout(&done);
            // What a value may stand in is not repeated.
            let (named, repeated) = (said.contains(code), said.contains("that one fails"));
            assert_eq!(
                (named, repeated),
                (code != "55P03", code != "22P02"),
                "{code}: {said}"
            );
            assert_eq!(
                said.matches("the others would not").count(),
                others,
                "{said}"
            );
        }
    }
    // What concerns all of them ends the run.
    postgres.psql(
        "REVOKE EXECUTE ON FUNCTION audit.remove_partition(text, interval) FROM audit_operator",
    );
    let done = as_login(
        &postgres,
        "operator",
        &["retain", "--keep", "7 years", "--yes"],
    );
    assert_eq!(done.status.code(), Some(2), "{}", stdout(&done));
}

#[test]
fn retain_refuses_an_invalid_or_too_short_retention_period() {
    let postgres = migrated();
    for (keep, said) in [
        ("7 yeers", "invalid input syntax"),
        ("1 hour", "kept for 30 days at least"),
    ] {
        let refused = run(&postgres, &["retain", "--keep", keep, "--yes"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    let without = run(&postgres, &["retain", "--yes"]);
    assert_eq!(without.status.code(), Some(2));
    let reader = as_login(&postgres, "auditor", &["retain", "--keep", "7 years"]);
    assert_eq!(reader.status.code(), Some(2));
    assert!(
        stderr(&reader).contains("audit_operator"),
        "{}",
        stderr(&reader)
    );
}

#[test]
fn only_permitted_logins_place_list_and_lift_holds() {
    let postgres = migrated();
    let none = as_login(&postgres, "auditor", &["hold", "--list"]);
    assert_eq!(stdout(&none), "There is no legal hold.\n");
    let unknown = as_login(
        &postgres,
        "operator",
        &["hold", "--reason", "case 17", "--tenant", "acme"],
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("no record is of this tenant"),
        "{}",
        stderr(&unknown)
    );
    let answer = as_login(
        &postgres,
        "operator",
        &[
            "hold",
            "--reason",
            "case 17",
            "--tenant",
            "acme",
            "--even-if-unknown",
            "--from",
            "2026-01-01",
            "--kind",
            "events",
            "--kind",
            "query_runs",
        ],
    );
    assert_eq!(answer.status.code(), Some(0), "{}", stderr(&answer));
    let listed = as_login(&postgres, "auditor", &["hold", "--list", "--json"]);
    let found: Vec<Value> = serde_json::from_str(&stdout(&listed)).unwrap();
    let hold = &found[0];
    let id = hold["id"].as_str().unwrap();
    assert!(
        stdout(&answer).contains(&format!("tracing-audit release {id}")),
        "{}",
        stdout(&answer)
    );
    assert!(
        stdout(&answer).contains("It covers 0 records in 0 partitions now."),
        "{}",
        stdout(&answer)
    );
    assert_eq!(hold["records"], 0);
    assert_eq!(hold["tenant_key"], Value::Null);
    assert_eq!(hold["in_force"], true);
    assert_eq!(hold["reason"], "case 17");
    assert_eq!(hold["tenant_id"], "cef41eed-96b2-8b03-b04f-8adef1c9def6");
    assert_eq!(hold["kinds"], serde_json::json!(["events", "query_runs"]));
    assert_eq!(hold["from"], "2026-01-01T00:00:00Z");
    assert_eq!(hold["to"], Value::Null);
    assert_eq!(hold["placed_by"], "operator");

    let released = as_login(
        &postgres,
        "auditor",
        &["release", id, "--reason", "settled"],
    );
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    let again = as_login(
        &postgres,
        "auditor",
        &["release", id, "--reason", "settled"],
    );
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("lifted before"),
        "{}",
        stderr(&again)
    );
    let unknown = as_login(
        &postgres,
        "auditor",
        &["release", WRITER_A, "--reason", "settled"],
    );
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no legal hold"),
        "{}",
        stderr(&unknown)
    );

    let listed = stdout(&as_login(&postgres, "auditor", &["hold", "--list"]));
    assert!(
        listed.contains(&format!("{id}  lifted\n  reason   case 17\n")),
        "{listed}"
    );
    assert!(
        listed.contains("records  events, query_runs, from 2026-01-01T00:00:00Z on\n"),
        "{listed}"
    );
    assert!(listed.contains("by auditor: settled"), "{listed}");
    // Each step is in the trail.
    assert_eq!(
        postgres.psql("SELECT user_id, action_type FROM audit.events ORDER BY created_at"),
        "operator|audit.hold_placed\nauditor|audit.hold_lifted"
    );

    let without_reason = run(&postgres, &["hold"]);
    assert_eq!(without_reason.status.code(), Some(2));
}

#[test]
fn settle_moves_rows_out_of_the_default_partition_only_when_confirmed() {
    let postgres = migrated();
    postgres.psql(
        "INSERT INTO audit_parts.events_default (id, tenant_id, status, created_at, metadata, writer_id, seq, salt)
         SELECT audit.id_at(at), audit.tenant_uuid('acme'), 'succeeded', at, '{\"tenant_key\": \"acme\"}', gen_random_uuid(), 1, ''
         FROM unnest(ARRAY['2012-05-04Z', '2013-01-15Z', now() + interval '9 years']::timestamptz[]) at",
    );
    let in_default = "SELECT count(*) FROM audit_parts.events_default";
    let planned = as_login(&postgres, "operator", &["settle"]);
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    let said = stdout(&planned);
    assert!(said.starts_with("events_2012_05 "), "{said}");
    assert!(said.contains("more than two months ahead"), "{said}");
    assert!(
        said.contains("2 would be settled, 1 would stay. Nothing was changed"),
        "{said}"
    );
    assert_eq!(postgres.psql(in_default), "3");

    let later = as_login(
        &postgres,
        "operator",
        &[
            "settle",
            "--from",
            "2013-01-01",
            "--kind",
            "events",
            "--yes",
        ],
    );
    assert_eq!(later.status.code(), Some(1), "one stays");
    assert!(
        stdout(&later).ends_with("1 settled, 1 not settled.\n"),
        "{}",
        stdout(&later)
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2013_01");
    let rest = as_login(&postgres, "operator", &["settle", "--yes", "--json"]);
    let settled: Vec<Value> = serde_json::from_str(&stdout(&rest)).unwrap();
    assert_eq!(settled[0]["partition"], "events_2012_05");
    assert_eq!(settled[0]["settled"], true);
    assert_eq!(settled[1]["settled"], false);
    assert_eq!(postgres.psql(in_default), "1");
    let no_operator = as_login(&postgres, "auditor", &["settle"]);
    assert_eq!(no_operator.status.code(), Some(2));
    assert!(
        stderr(&no_operator).contains("audit_operator"),
        "{}",
        stderr(&no_operator)
    );

    // The output says what a hold covers, and its tenant's key.
    let placed = as_login(
        &postgres,
        "operator",
        &[
            "hold",
            "--reason",
            "x",
            "--tenant",
            "acme",
            "--to",
            "2020-01-01",
        ],
    );
    let said = stdout(&placed);
    // The default partition also has a row of the tenant, from another time.
    assert!(
        said.contains("It covers 2 records in 3 partitions now."),
        "{said}"
    );
    let listed = stdout(&as_login(&postgres, "auditor", &["hold", "--list"]));
    assert!(
        listed.contains("tenant   acme (cef41eed-96b2-8b03-b04f-8adef1c9def6)\n"),
        "{listed}"
    );
    assert!(
        listed.contains("covers   2 records in 3 partitions\n"),
        "{listed}"
    );
}

#[test]
fn hold_list_shows_exact_time_bounds() {
    let postgres = migrated();
    for times in [
        &["--from", "4713-01-01 BC"][..],
        &[
            "--from",
            "2026-01-01 00:00:00.25Z",
            "--to",
            "2026-01-01 00:00:00.750001Z",
        ],
    ] {
        let held = run(&postgres, &[&["hold", "--reason", "case"], times].concat());
        assert_eq!(held.status.code(), Some(0), "{}", stderr(&held));
    }
    let listed = stdout(&run(&postgres, &["hold", "--list"]));
    for span in [
        "from 4713-01-01T00:00:00Z BC on",
        "from 2026-01-01T00:00:00.25Z to 2026-01-01T00:00:00.750001Z",
    ] {
        assert!(listed.contains(span), "{span}: {listed}");
    }
}

/// Everything that retention could change.
const EVERYTHING: &str = "SELECT (SELECT string_agg(c.oid::text, ',' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace = 'audit_parts'::regnamespace),
    (SELECT count(*) FROM audit.events), (SELECT count(*) FROM audit.removals), (SELECT count(*) FROM audit.batches)";

/// The old partitions.
const OLD_PARTITIONS: &str =
    "SELECT relname FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace
    AND relkind = 'r' AND relname ~ '_201[0-9]_' ORDER BY 1";

fn words_of_lines(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn what_is_no_hold_and_what_is_no_span_are_said_to_be_none() {
    let postgres = migrated();
    let released = run(&postgres, &["release", "nonsense", "--reason", "over"]);
    assert_eq!(released.status.code(), Some(1), "{}", stderr(&released));
    assert!(
        stderr(&released).contains("there is no legal hold nonsense"),
        "{}",
        stderr(&released)
    );
    let kept = run(&postgres, &["retain", "--keep", "178000000 years"]);
    assert_eq!(kept.status.code(), Some(2), "{}", stdout(&kept));
    assert!(
        stderr(&kept).contains("records are kept for") && !stderr(&kept).contains("22008"),
        "{}",
        stderr(&kept)
    );
}
