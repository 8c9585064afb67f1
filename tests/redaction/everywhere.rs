//! No value of the corpus is anywhere: not in the local log, Postgres, its files and its log, in dead
//! letters or at a collector.

use std::fs;
use std::path::Path;

use aho_corasick::AhoCorasick;
use testkit::collector::{Collector, Protocol};
use testkit::trail::{Folder, PATIENCE, pipeline, record_and_wait_until_stored, record_tables};
use testkit::{Postgres, Stop, otlp_to, wait_until};
use tracing::{field::Empty, info_span};
use tracing_audit::redact::Redaction;
use tracing_audit::{Audit, Event, PromptRun, QueryRun, QueryText};
use tracing_subscriber::prelude::*;

use super::corpus::{self, Secret};

/// What a value is searched as: itself, and in base64 at each of the three places in a group of three.
fn needles(secret: &Secret) -> Vec<Vec<u8>> {
    let mut needles: Vec<Vec<u8>> = Vec::new();
    for value in secret
        .value
        .split(['\n', '\\'])
        .filter(|part| part.len() >= 6)
    {
        needles.push(value.as_bytes().to_vec());
        for skipped in 0..3 {
            let bytes = &value.as_bytes()[skipped..];
            needles.push(base64(&bytes[..bytes.len() / 3 * 3]));
        }
    }
    needles
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const OF: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).map(|three| {
        three
            .iter()
            .fold(0_usize, |group, byte| group << 8 | usize::from(*byte))
    });
    groups
        .flat_map(|group| [18, 12, 6, 0].map(|shift| OF[group >> shift & 63]))
        .collect()
}

/// Returns the bytes of all files in a folder.
fn bytes_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            bytes.extend(bytes_in(&path));
        } else {
            bytes.extend(fs::read(&path).unwrap_or_default());
        }
    }
    bytes
}

/// All values, to be searched in one pass.
struct Needles {
    search: AhoCorasick,
    /// The value that each needle is of.
    of: Vec<usize>,
}

impl Needles {
    fn new(all: &[Secret]) -> Self {
        let each = all.iter().enumerate();
        let each: Vec<_> = each
            .flat_map(|(at, secret)| needles(secret).into_iter().map(move |needle| (at, needle)))
            .collect();
        Self {
            search: AhoCorasick::new(each.iter().map(|(_, needle)| needle)).unwrap(),
            of: each.iter().map(|(at, _)| *at).collect(),
        }
    }

    /// Fails if a value is in the bytes.
    #[track_caller]
    fn assert_none_in(&self, place: &str, bytes: &[u8], all: &[Secret]) {
        assert!(bytes.len() > 1_000, "{place}: {} bytes", bytes.len());
        let found = self.search.find_iter(bytes);
        let found: Vec<_> = found
            .map(|one| &all[self.of[one.pattern().as_usize()]])
            .collect();
        assert!(found.is_empty(), "{place}: {found:#?}");
    }
}

/// What the runs in flight are known by.
const MARK: &str = "in flight";

/// Writes a file for `scripts/redaction-leaks`, if it runs this: text, so that no program skips it.
fn dump(folder: &str, name: &str, bytes: &[u8]) {
    if let Some(root) = std::env::var_os("REDACTION_DUMP") {
        let folder = Path::new(&root).join(folder);
        fs::create_dir_all(&folder).unwrap();
        let text: String =
            String::from_utf8_lossy(bytes).replace(|c: char| c.is_control() && c != '\n', " ");
        fs::write(folder.join(name).with_extension("txt"), text).unwrap();
    }
}

/// Records each text in each column that takes text.
fn record_all(audit: &Audit, all: &[Secret]) {
    for secret in all {
        let text = secret.text.as_str();
        let json = serde_json::json!({ "note": text, "list": [text] });
        audit
            .record(
                QueryRun::new(text)
                    .question_text(text)
                    .error_message(text)
                    .metadata("parameters", text),
            )
            .unwrap();
        let prompt = PromptRun::new(text)
            .response_text(text)
            .metadata("json", json);
        audit.record(prompt).unwrap();
        let event = Event::new("http_request")
            .input_summary(text)
            .output_summary(text)
            .target("t", text);
        audit.record(event.metadata(text, 1)).unwrap();
    }
    // Each row that is refused costs several statements: some values share one.
    for some in all.chunks(LETTER) {
        let letter = some
            .iter()
            .enumerate()
            .fold(Event::new("poison"), |event, (at, secret)| {
                event.metadata(format!("url{at}"), secret.text.as_str())
            });
        audit.record(letter).unwrap();
    }
}

/// How many values a dead letter has.
const LETTER: usize = 20;

#[test]
fn no_value_is_in_the_log_in_postgres_in_dead_letters_or_at_a_collector() {
    let all: Vec<_> = corpus::secrets()
        .into_iter()
        .chain(corpus::persons())
        .collect();
    let needles = Needles::new(&all);
    let mut postgres = Postgres::start();
    let (spool, collector) = (Folder::new(), Collector::start(Protocol::Http));
    let otlp = otlp_to!(&collector)
        .query_text(QueryText::Full)
        .capture_messages(true)
        .metadata(true);
    let rules = Redaction::default().secrets().personal();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.redact(rules).otlp(otlp)
    });
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    // A host's constraint, which makes dead letters.
    postgres
        .psql("ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type <> 'poison')");
    postgres.stop(Stop::Immediate);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        // Runs in flight are stored as well.
        let open: Vec<_> = all
            .iter()
            .map(|secret| info_span!("audit.query_run", sql_text = secret.text.as_str(), note = ?secret.text, mark = MARK, row_count = Empty))
            .collect();
        record_all(&audit, &all);
        record_and_wait_until_stored(&audit, "large");
        wait_until("a run in flight is stored", PATIENCE, || {
            bytes_in(&spool.0)
                .windows(MARK.len())
                .any(|part| part == MARK.as_bytes())
        });
        let log = bytes_in(&spool.0);
        needles.assert_none_in("local log", &log, &all);
        dump("stored", "local-log", &log);
        drop(open);
    });
    postgres.start_again();
    audit.flush_blocking(PATIENCE).unwrap();
    let stats = audit.stats();
    let redaction = stats.redaction().unwrap();
    assert_eq!(redaction.stored(), redaction.passed());
    assert_eq!(
        (redaction.stored(), redaction.failed()),
        (stats.accepted(), 0)
    );
    assert_eq!(stats.dead_lettered(), all.len().div_ceil(LETTER) as u64);
    needles.assert_none_in("local log", &bytes_in(&spool.0), &all);
    let mut rows = String::new();
    for table in record_tables(&postgres)
        .iter()
        .map(String::as_str)
        .chain(["dead_letters", "batches"])
    {
        rows += &postgres.psql(&format!("SELECT t FROM audit.{table} t"));
    }
    needles.assert_none_in("rows", rows.as_bytes(), &all);
    let frames = postgres.psql("SELECT encode(frame, 'escape') FROM audit.dead_letters");
    needles.assert_none_in("dead letters", frames.as_bytes(), &all);
    dump("stored", "rows", rows.as_bytes());
    dump("stored", "dead-letters", frames.as_bytes());
    for (number, secret) in all.iter().enumerate() {
        dump("corpus", &number.to_string(), secret.text.as_bytes());
    }
    let unnamed = postgres.psql("SELECT count(*) FROM audit.query_runs WHERE redactions = '{}'");
    assert_eq!(unnamed.trim(), "0");
    wait_until("all is exported", PATIENCE, || {
        audit
            .stats()
            .export()
            .is_some_and(|export| export.pending() == 0)
    });
    let exported = format!("{:?}", collector.spans());
    assert!(exported.contains("audit.redactions"));
    needles.assert_none_in("collector", exported.as_bytes(), &all);
    postgres.stop(Stop::Fast);
    needles.assert_none_in("files of Postgres", &bytes_in(&postgres.data_dir()), &all);
    needles.assert_none_in("log of Postgres", postgres.log().as_bytes(), &all);
    postgres.start_again();
}
