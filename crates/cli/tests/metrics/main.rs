//! `tracing-audit metrics` and `Stats::prometheus` on a real Postgres, and what docs/monitoring has for Prometheus and
//! Grafana against what these two say.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod monitoring;
mod promtool;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, Stop};
use tracing_audit::redact::{Redaction, Redactor};
use tracing_audit::{Audit, Event, Otlp, PromptRun, QueryRun, Status};

/// A redactor with a name that a label must escape.
struct Odd;

impl Redactor for Odd {
    fn name(&self) -> &'static str {
        "odd \"one\"\n\\"
    }

    fn redact(&self, _place: &str, text: &str) -> Option<String> {
        text.contains("hunter2")
            .then(|| text.replace("hunter2", "[odd]"))
    }
}

/// A trail with logins of each role, records of each kind, a dead letter and a checkpoint.
struct Setting {
    // Dropped first: the pipeline before the server that it writes to.
    audit: Audit,
    postgres: Postgres,
    _spool: Folder,
    scratch: Folder,
}

impl Setting {
    /// Returns how many days there are after today, until this long after the begin of the month.
    fn days_ahead(&self, until: &str) -> f64 {
        let days = self.postgres.psql(&format!(
            "SELECT extract(day FROM date_trunc('month', now(), 'UTC') + interval '{until}' - date_trunc('day', now(), 'UTC'))"
        ));
        days.parse::<f64>().unwrap() - 1.0
    }

    fn start() -> Self {
        let postgres = Postgres::start();
        for login in [
            "auditor", "reader", "operator", "sealer", "nobody", "granted",
        ] {
            postgres.psql(&format!("CREATE ROLE {login} LOGIN"));
        }
        let migrated = program(&postgres.url())
            .args(["migrate", "--auditor-login", "auditor"])
            .args(["--reader-login", "reader", "--operator-login", "operator"])
            .args(["--sealer-login", "sealer"])
            .output();
        assert!(migrated.unwrap().status.success());
        // SELECT without a role shows no row, and a trigger of the host's refuses a record.
        postgres.psql(
            "GRANT USAGE ON SCHEMA audit TO granted;
             GRANT SELECT ON audit.batches, audit.dead_letters, audit.events, audit.checkpoint, audit.ledger TO granted;
             CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.action_type = 'refused' THEN RAISE SQLSTATE '22000'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.refuse()",
        );
        let spool = Folder::new();
        let audit = pipeline(&postgres, &spool, |builder| {
            builder
                .redact(Redaction::default().custom(Odd))
                // Nobody listens there.
                .otlp(Otlp::new("http://127.0.0.1:9"))
        });
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let setting = Self {
            audit,
            postgres,
            _spool: spool,
            scratch,
        };
        setting.record();
        setting.seal();
        setting
    }

    /// Records what the dashboard shows.
    fn record(&self) {
        let began = SystemTime::now() - Duration::from_secs(2);
        let query = QueryRun::new("SELECT 1").tenant_id("acme").user_id("alice");
        let failed = QueryRun::new("SELECT 'hunter2'").error_code("42P01");
        let prompt = PromptRun::new("How many?").model_name("claude-sonnet");
        for record in [
            query.request_id("r-1").started_at(began).into(),
            failed.status(Status::Failed).request_id("r-2").into(),
            prompt
                .input_token_count(7)
                .output_token_count(3)
                .started_at(began)
                .into(),
            Event::new("refused").into(),
        ] {
            let record: tracing_audit::NewRecord = record;
            self.audit.record(record).unwrap();
        }
        self.audit.flush_blocking(PATIENCE).unwrap();
        let mut auditor = self.postgres.session("auditor");
        auditor.psql("SELECT audit.record_reading('ticket 1', 'r-1')");
        auditor.psql("SELECT audit.place_hold('case 17')");
    }

    fn seal(&self) {
        let key = self.scratch.0.join("key");
        let made = program(&self.postgres.url())
            .args(["key", "new", "--name", "example.com/trail"])
            .arg(&key)
            .output();
        assert!(made.unwrap().status.success());
        let sealed = program(&self.postgres.url_as("sealer"))
            .args(["seal", "--once", "--key"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(sealed.status.success(), "{sealed:?}");
    }

    /// Returns what a login is told.
    fn metrics(&self, login: &str) -> Metrics {
        let output = metrics(&self.postgres.url_as(login));
        assert!(output.status.success(), "{login}: {output:?}");
        Metrics::of(&text(&output))
    }
}

/// The samples of a text.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the samples, without the prefix of their names.
    fn of(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    let name = name.strip_prefix("tracing_audit_").unwrap();
                    (name.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    #[track_caller]
    fn value(&self, name: &str) -> f64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("no {name} in {:?}", self.0))
    }

    /// Returns what is left out for a reason.
    fn left_out(&self, why: &str) -> Vec<&str> {
        let why = format!("\",why=\"{why}\"}}");
        self.0
            .keys()
            .filter_map(|name| name.strip_prefix("unreadable{what=\"")?.strip_suffix(&why))
            .collect()
    }

    /// Returns the names of the metrics.
    fn names(&self) -> BTreeSet<&str> {
        self.0
            .keys()
            .map(|name| name.split('{').next().unwrap())
            .collect()
    }
}

fn program(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("AUDIT_DATABASE_URL", url);
    command
}

fn metrics(url: &str) -> Output {
    program(url).arg("metrics").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn each_login_is_told_what_it_may_read_and_what_is_left_out() {
    let setting = Setting::start();
    let all = setting.metrics("postgres");
    assert_eq!(all.left_out("refused"), [""; 0]);
    for (name, value) in [
        ("up", 1.0),
        ("dead_letters", 1.0),
        ("batch_gaps", 0.0),
        ("gap_events", 0.0),
        ("lost_changes_total", 0.0),
        ("unsealed_batches", 0.0),
        ("unsealed_age_seconds", 0.0),
        ("default_partition_bytes", 0.0),
        ("default_partition_rows", 0.0),
    ] {
        assert!((all.value(name) - value).abs() < 1e-9, "{name}");
    }
    let days = setting.days_ahead("2 months");
    assert!((all.value("partitions_ahead_seconds") - days * 86_400.0).abs() < 1e-9);
    for age in ["newest_batch_age_seconds", "checkpoint_age_seconds"] {
        assert!((0.0..600.0).contains(&all.value(age)), "{age}");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let late = now.unwrap().as_secs_f64() - all.value("read_timestamp_seconds");
    assert!(late.abs() < 600.0, "{late}");

    assert_eq!(setting.metrics("auditor").names(), all.names());
    let of_records = ["batch_gaps", "dead_letters", "gap_events", "newest_batch"];
    for (login, sees_checkpoint, sees_lost) in [
        ("operator", true, true),
        ("sealer", true, false),
        ("reader", false, false),
        ("nobody", false, false),
        // The tables look empty to it.
        ("granted", false, false),
    ] {
        let found = setting.metrics(login);
        let mut expected = of_records.to_vec();
        expected.push("unsealed");
        if !sees_lost {
            expected.push("lost_changes");
        }
        if !sees_checkpoint {
            expected.push("checkpoint");
        }
        expected.sort_unstable();
        assert_eq!(found.left_out("refused"), expected, "{login}");
        let names = found.names();
        assert_eq!(
            names.contains("checkpoint_age_seconds"),
            sees_checkpoint,
            "{login}"
        );
        for hidden in ["dead_letters", "batch_gaps", "unsealed_batches"] {
            assert!(!names.contains(hidden), "{login}: {hidden}");
        }
        assert!((found.value("partitions_ahead_seconds") - days * 86_400.0).abs() < 1e-9);
    }
}

#[test]
fn gaps_missing_partitions_and_rows_far_from_now_are_counted() {
    let setting = Setting::start();
    let postgres = &setting.postgres;
    setting.audit.record(Event::new("audit.gap")).unwrap();
    setting.audit.flush_blocking(PATIENCE).unwrap();
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, committed_at)
         SELECT w.id, 5, 5, '{\"events\": 1}', 0, w.id, w.id, 'test', now() - interval '2 hours' FROM (SELECT gen_random_uuid() AS id OFFSET 0) w;
         INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
         SELECT audit.id_at(at), at, 'succeeded', gen_random_uuid(), 1, '' FROM (SELECT now() + interval '300 days') a (at);
         SELECT nextval('audit.lost_changes'), nextval('audit.lost_changes')",
    );
    let all = setting.metrics("postgres");
    for (name, value) in [
        ("batch_gaps", 1.0),
        ("gap_events", 1.0),
        ("lost_changes_total", 2.0),
        ("default_partition_rows", 1.0),
        ("unsealed_batches", 2.0),
    ] {
        assert!((all.value(name) - value).abs() < 1e-9, "{name}");
    }
    let oldest = all.value("unsealed_age_seconds");
    assert!((7200.0..7800.0).contains(&oldest), "{oldest}");
    // An auditor may not read the default partition itself, and sees that there is something.
    let auditor = setting.metrics("auditor");
    assert_eq!(auditor.left_out("refused"), ["default_partition"]);
    assert!(auditor.value("default_partition_bytes") > 0.0);

    for (months, left) in [("1", setting.days_ahead("1 month")), ("0", -1.0)] {
        let month = format!(
            "to_char(date_trunc('month', now(), 'UTC') + interval '{months} months', 'YYYY_MM')"
        );
        let name = postgres.psql(&format!("SELECT 'prompt_runs_' || {month}"));
        postgres.psql(&format!(
            "ALTER TABLE audit.prompt_runs DETACH PARTITION audit_parts.{}",
            name.trim()
        ));
        let ahead = setting.metrics("nobody").value("partitions_ahead_seconds") / 86_400.0;
        assert!((ahead - left).abs() < 1e-9, "{ahead}");
    }
}

#[test]
fn table_that_somebody_has_locked_costs_its_own_figure_alone() {
    let setting = Setting::start();
    let mut locker = setting.postgres.session("postgres");
    locker.psql("BEGIN; LOCK TABLE audit.dead_letters, audit.ledger");
    let found = setting.metrics("auditor");
    assert_eq!(found.left_out("timeout"), ["dead_letters", "unsealed"]);
    assert!(found.value("newest_batch_age_seconds") >= 0.0);
    assert!(found.value("checkpoint_age_seconds") >= 0.0);
    locker.psql("ROLLBACK");
    assert_eq!(setting.metrics("auditor").left_out("timeout"), [""; 0]);
}

#[test]
fn database_without_a_trail_or_without_an_answer_is_down() {
    let mut postgres = Postgres::start();
    let down = |url: &str, why: &str| {
        let output = metrics(url);
        let found = Metrics::of(&text(&output));
        assert!(found.value("up").abs() < 1e-9);
        assert_eq!(found.left_out(why), ["trail"]);
        assert_eq!(found.0.len(), 2);
        output
    };
    assert!(down(&postgres.url(), "absent").status.success());
    postgres.psql("CREATE ROLE stranger LOGIN; CREATE SCHEMA audit AUTHORIZATION stranger");
    assert!(down(&postgres.url(), "not_ours").status.success());
    postgres.psql("DROP SCHEMA audit");
    tracing_audit::migrate(&postgres.url()).unwrap();
    let fresh = Metrics::of(&text(&metrics(&postgres.url())));
    assert!((fresh.value("partitions_ahead_seconds") + 86_400.0).abs() < 1e-9);
    assert!(!fresh.names().contains("newest_batch_age_seconds"));
    assert!(!fresh.names().contains("checkpoint_age_seconds"));
    assert!(!fresh.names().contains("unreadable"));

    let url = postgres.url();
    postgres.stop(Stop::Fast);
    let output = down(&url, "unreachable");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("database audit"), "{said}");
}

#[test]
fn figures_of_a_program_are_those_of_its_stats() {
    let setting = Setting::start();
    let stats = setting.audit.stats();
    let found = Metrics::of(&stats.prometheus());
    #[expect(clippy::cast_precision_loss, reason = "they are few")]
    for (name, value) in [
        ("records_accepted_total", stats.accepted()),
        ("records_committed_total", stats.committed()),
        ("records_dead_lettered_total", 1),
        ("records_dropped_total{cause=\"queue_full\"}", 0),
        ("batches_committed_total", stats.batches()),
        ("spool_quota_bytes", stats.spool_quota_bytes()),
        ("health{state=\"healthy\"}", 1),
        ("health{state=\"retrying\"}", 0),
        ("redactions_total{rule=\"odd \\\"one\\\"\\n\\\\\"}", 1),
        ("redaction_records_passed_total", stats.accepted()),
    ] {
        assert!((found.value(name) - value as f64).abs() < 1e-9, "{name}");
    }
    assert_eq!(stats.accepted(), 4);
    assert_eq!(stats.spool_quota_bytes(), 4 << 30);
    assert!(found.value("batch_duration_seconds_total") > 0.0);
    assert!(found.names().contains("export_records_total"));
}
