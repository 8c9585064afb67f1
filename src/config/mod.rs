//! The settings: their units, defaults and ranges.

pub(crate) mod adopt;
mod batching;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
#[cfg(feature = "otlp")]
mod otlp_environment;
#[cfg(feature = "otlp")]
pub(crate) mod otlp_exporter;
#[cfg(feature = "otlp")]
pub(crate) mod receivers;
#[cfg(feature = "seal")]
pub(crate) mod seal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::adopt::Adopt;
pub(crate) use self::batching::Batching;
#[cfg(feature = "otlp")]
use self::otlp::Otlp;
#[cfg(feature = "seal")]
use self::seal::{Seal, SealConfig};
use crate::database::Servers;
use crate::error::BuildError;
use crate::limits::Limits;
use crate::redact;
#[cfg(feature = "redact")]
use crate::redact::Redaction;
use crate::vocabulary::{Activities, Kind};

/// How long a thread waits for room in the queue, unless [`WhenFull`] says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// The longest time that a thread waits for room in the queue.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

const DEFAULT_QUEUE_RECORDS: usize = 65_536;
const DEFAULT_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// At 500 bytes a record, 8 million records.
const DEFAULT_SPOOL_QUOTA_BYTES: u64 = 4 << 30;

const DEFAULT_DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a thread that closes an audit span does while the queue is full.
///
/// The queue fills up when the local log cannot be written as fast as records arrive, not when
/// Postgres is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait for room for at most this long, then drop the record and count it. The default, with 1
    /// s.
    ///
    /// After a wait that ran out, no thread waits again until the worker has taken records: a disk
    /// that hangs holds the application up once. More than 10 s counts as 10 s.
    Wait(Duration),
    /// Drop the record and count it, without waiting.
    Drop,
}

impl WhenFull {
    pub(crate) fn wait(self) -> Duration {
        match self {
            // No thread of the host is held up for longer than this, whatever was asked for.
            Self::Wait(limit) => limit.min(LONGEST_WAIT),
            Self::Drop => Duration::ZERO,
        }
    }
}

/// How much is done for a record before its span's thread continues, set for each kind by
/// [`Builder::durability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Never waits: while the queue is full, records of this kind are dropped and counted.
    BestEffort,
    /// Waits for room in the queue as [`WhenFull`] says. A few milliseconds later the record is
    /// in the local log. The default.
    #[default]
    Spooled,
    /// Like `Spooled`; in addition, [`Audit::committed`](crate::Audit::committed) reports when the
    /// record is committed in Postgres, or that it cannot be, so that a program can answer its user
    /// only after the trail has the record.
    Required,
}

/// Configures an [`Audit`](crate::Audit); created by [`Audit::builder`](crate::Audit::builder).
///
/// ```no_run
/// use tracing_audit::{Audit, Limits};
///
/// let audit = Audit::builder()
///     .postgres("postgres://app@localhost/app")
///     .spool("/var/lib/app/audit")
///     .service_name("answers")
///     .limits(Limits::default().with_field_bytes(256 * 1024))
///     .start()?;
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    postgres: Option<String>,
    spool: Option<PathBuf>,
    service_name: Option<String>,
    limits: Limits,
    record_parameters: bool,
    when_full: Option<WhenFull>,
    queue: Option<(usize, usize)>,
    durability: [Durability; Kind::ALL.len()],
    runs_in_flight: [Option<bool>; Kind::ALL.len()],
    adopt: Vec<Adopt>,
    spool_quota_bytes: Option<u64>,
    activities: Activities,
    batch: Batching,
    migrate: Option<bool>,
    drop_timeout: Option<Duration>,
    #[cfg(feature = "redact")]
    redaction: Option<Redaction>,
    #[cfg(feature = "otlp")]
    otlp: Option<Otlp>,
    #[cfg(feature = "seal")]
    pub(crate) seal: Option<Seal>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Builder")
            .field("spool", &self.spool)
            .field("service_name", &self.service_name)
            .finish_non_exhaustive()
    }
}

/// The settings that matter on the application's threads.
#[derive(Clone, Debug)]
pub(crate) struct IntakeConfig {
    pub(crate) limits: Limits,
    pub(crate) when_full: WhenFull,
    pub(crate) queue_records: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) durability: [Durability; Kind::ALL.len()],
    /// `None`: as is usual for the kind.
    pub(crate) runs_in_flight: [Option<bool>; Kind::ALL.len()],
    pub(crate) adopt: Arc<[Adopt]>,
}

/// The settings that the pipeline is started with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) postgres: Servers,
    /// The folder of the local logs; `None`: the default one.
    pub(crate) spool_folder: Option<PathBuf>,
    pub(crate) service_name: String,
    pub(crate) intake: IntakeConfig,
    pub(crate) spool_quota_bytes: u64,
    pub(crate) activities: Activities,
    pub(crate) batch: Batching,
    pub(crate) migrate: bool,
    pub(crate) drop_timeout: Duration,
    /// What each record passes before it is stored.
    pub(crate) redactor: redact::Rules,
    /// How many bytes the local log may hold for the export alone; `None`: nothing is exported.
    pub(crate) export_quota_bytes: Option<u64>,
    #[cfg(feature = "otlp")]
    pub(crate) otlp: Option<Otlp>,
    #[cfg(feature = "seal")]
    pub(crate) seal: Option<SealConfig>,
}

impl Builder {
    /// Sets the database that the trail is written to, as a URL
    /// (`postgres://user:password@host:port/database?sslmode=require`). Required.
    ///
    /// The URL is read as libpq reads it: several hosts (`a:5432,b:5433`), of which the first that
    /// can be written is used, IPv6 addresses in brackets, sockets
    /// (`user@/database?host=/run/postgresql`), `options`, `passfile`, `target_session_attrs`,
    /// `connect_timeout`, and the `PG…` variables for what the URL leaves out. A parameter or
    /// variable that is unknown, or not supported here, is an error that says which one.
    /// `PGAPPNAME`, `PGCLIENTENCODING`, `PGDATESTYLE`, `PGTZ` and `PGGEQO` have no effect.
    ///
    /// # TLS
    ///
    /// Over TCP without TLS, a password and the trail can be read on the network; `sslmode` works
    /// as in libpq, with the default `prefer`. So `require` verifies like `verify-ca` if there is a
    /// root certificate (`sslrootcert`, `PGSSLROOTCERT` or `~/.postgresql/root.crt`), and with
    /// `prefer` and `allow` a server whose rules refuse TLS, or a connection without it, is tried
    /// the other way. A key (`sslkey`) must not be encrypted; with `tls-native` it must be PKCS #8.
    /// TLS needs one of these features. None is on by default, since Cargo builds rustls once for a
    /// whole program, and a second provider in it makes `rustls::ClientConfig::builder()` panic:
    ///
    /// | feature | for a program that | `sslmode=verify-ca` |
    /// |---|---|---|
    /// | `tls-aws-lc-rs` | has rustls with its default provider, or none | needs a default provider that the program has installed |
    /// | `tls-ring` | has rustls with `ring`, or none | the same |
    /// | `tls-native` | has OpenSSL (or the system's library on macOS and Windows) | works as it is |
    ///
    /// The process's default provider is never installed, and is relied on only for `verify-ca`
    /// (and `require` with a root certificate). Certificates are verified with the system's roots
    /// and `sslrootcert`.
    pub fn postgres(mut self, url: impl Into<String>) -> Self {
        self.postgres = Some(url.into());
        self
    }

    /// Sets the folder of the local log. Each process has its own folder in it, and takes over
    /// those that dead processes left.
    ///
    /// Everything in it goes to the one database that is configured: programs with different
    /// databases need different folders. It should be on a disk that outlives the process; in a
    /// container, on a volume.
    ///
    /// Default: `tracing-audit/<service name>-<fingerprint of the database>` in `$STATE_DIRECTORY`
    /// (set by systemd), `$XDG_STATE_HOME` or `~/.local/state`, whichever is found first; a path
    /// that is not absolute is ignored. If there is none, or the home cannot be written or is open
    /// to others, the folder is in `tracing-audit-<uid>` in the folder for temporary files, for the
    /// program's user alone, and a warning says so.
    ///
    /// A folder that is set here is used whoever owns it, because a Kubernetes volume does not
    /// belong to the program; a warning says if others could move or remove what is in it. Each
    /// process's own folder is for its user alone, and only folders of the same user are taken
    /// over.
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool = Some(folder.into());
        self
    }

    /// Sets the name in the column `service_name`; its first 255 bytes are kept. Default: the
    /// program's name.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Sets how much of a value and of a record is kept.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets whether the bind values of queries are recorded: the field `parameters` of a span
    /// `audit.query_run`, in `metadata`. Default: no, and the field is left out, since bind values
    /// are where the personal data is.
    ///
    /// The text of a JSON array or object is stored as such, so that SQL finds what is in it. What
    /// else a span records is not affected, nor what
    /// [`QueryRun::metadata`](crate::QueryRun::metadata) says.
    ///
    /// ```no_run
    /// # fn run(sql: &str) {}
    /// fn count(city: &str, age: u8) {
    ///     let sql = "SELECT count(*) FROM customers WHERE city = $1 AND age > $2";
    ///     let parameters = serde_json::json!([city, age]).to_string();
    ///     let span = tracing::info_span!("audit.query_run", sql_text = sql, parameters);
    ///     span.in_scope(|| run(sql));
    /// }
    ///
    /// let audit = tracing_audit::Audit::builder()
    ///     .postgres("postgres://app@localhost/app")
    ///     .record_parameters(true)
    ///     .start()?;
    /// # Ok::<(), tracing_audit::BuildError>(())
    /// ```
    pub fn record_parameters(mut self, record: bool) -> Self {
        self.record_parameters = record;
        self
    }

    /// Sets what a thread does while the queue is full. Default: wait for at most 1 s.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }

    /// Sets how much the queue between the application's threads and the worker holds: records
    /// (default 65,536) and bytes (default 16 MiB), both at least 1. Memory grows to this only
    /// while the local log is slower than the application; what the worker is currently writing to
    /// the log comes on top, at most as much again. One record larger than its part of the queue
    /// (an eighth or less) is accepted over the limit, beside others of the usual size.
    pub fn queue_limits(mut self, max_records: usize, max_bytes: usize) -> Self {
        self.queue = Some((max_records.max(1), max_bytes.max(1)));
        self
    }

    /// Sets how much is done for records of a kind before their span's thread continues. Default:
    /// [`Durability::Spooled`].
    pub fn durability(mut self, kind: Kind, durability: Durability) -> Self {
        self.durability[kind.index()] = durability;
        self
    }

    /// Sets whether a run of this kind that begins and never ends, because the process died, gets a
    /// row all the same: after the next start, with what was known when it began,
    /// `status = 'unknown'` and `error_code = 'process_lost'`. Default: yes for query runs and
    /// prompt runs, no for events, except those that are [adopted](Self::adopt) spans. Each run of
    /// the kind that takes longer than a few milliseconds costs a write to the local log.
    pub fn runs_in_flight(mut self, kind: Kind, tracked: bool) -> Self {
        self.runs_in_flight[kind.index()] = Some(tracked);
        self
    }

    /// Sets what becomes a record although it is not tagged: model calls, SQL statements, HTTP
    /// requests, spans of the program's own. May be called for each. Default: nothing.
    ///
    /// ```
    /// use tracing_audit::{Adopt, Audit};
    ///
    /// let builder = Audit::builder().adopt(Adopt::gen_ai()).adopt(Adopt::sqlx());
    /// ```
    pub fn adopt(mut self, what: impl Into<Adopt>) -> Self {
        self.adopt.push(what.into());
        self
    }

    /// Sets which events are activities, by their `action_type`: beside `log`, `http_request` and
    /// `system_metric`, which always are. They go to `audit.activities` instead of `audit.events`,
    /// so that events of which there are many can be removed after a shorter time
    /// (`tracing-audit retain --kind activities`). Default: none.
    ///
    /// Types are compared as they are written; white space around one is ignored. A type that
    /// begins with `audit.` is one of the trail's own, and stays an event.
    ///
    /// ```
    /// let builder = tracing_audit::Audit::builder().activities(["page_view", "heartbeat"]);
    /// ```
    pub fn activities(mut self, action_types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.activities = Activities::new(action_types);
        self
    }

    /// Sets how many bytes of records the local log holds before it accepts no more. Default 4 GiB:
    /// at 500 bytes a record, 8 million records.
    pub fn spool_quota_bytes(mut self, bytes: u64) -> Self {
        self.spool_quota_bytes = Some(bytes);
        self
    }

    /// Sets whether the tables are created or brought up to date at start. Default: yes, if the
    /// database role may.
    ///
    /// Without the right, or with `false`, all records are kept in the local log until the tables
    /// exist.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = Some(migrate);
        self
    }

    /// Sets how long dropping the last handle waits for pending records. Default 5 s.
    pub fn drop_timeout(mut self, timeout: Duration) -> Self {
        self.drop_timeout = Some(timeout);
        self
    }

    /// Sets what becomes of secrets and personal values, before a record is written to the local log,
    /// to Postgres or anywhere else. Replaces what was set before. Default: nothing changes; with
    /// [`from_env`](Self::from_env), what `AUDIT_REDACT` says. Needs feature `redact`.
    ///
    /// ```no_run
    /// use tracing_audit::redact::{Action, Redaction};
    ///
    /// let audit = tracing_audit::Audit::builder()
    ///     .postgres("postgres://app@localhost/app")
    ///     .redact(Redaction::default().secrets().personal().place("*.date_of_birth", Action::Drop))
    ///     .start()?;
    /// # Ok::<(), tracing_audit::BuildError>(())
    /// ```
    #[cfg(feature = "redact")]
    pub fn redact(mut self, redaction: Redaction) -> Self {
        self.redaction = Some(redaction);
        self
    }

    /// Sets where and how the trail is also exported to OpenTelemetry. Default: no export;
    /// [`Otlp::from_env`](crate::Otlp::from_env) reads the settings in the environment. Needs
    /// feature `otlp`.
    #[cfg(feature = "otlp")]
    pub fn otlp(mut self, otlp: impl Into<Option<Otlp>>) -> Self {
        self.otlp = otlp.into();
        self
    }

    fn intake_config(&self) -> IntakeConfig {
        let (queue_records, queue_bytes) = self
            .queue
            .unwrap_or((DEFAULT_QUEUE_RECORDS, DEFAULT_QUEUE_BYTES));
        IntakeConfig {
            limits: Limits {
                parameters: self.record_parameters,
                ..self.limits
            },
            when_full: self.when_full.unwrap_or(WhenFull::Wait(DEFAULT_WAIT)),
            queue_records,
            queue_bytes,
            durability: self.durability,
            runs_in_flight: self.runs_in_flight,
            adopt: self.adopt.clone().into(),
        }
    }

    /// Returns the settings that matter without a pipeline: nobody takes records out of the queue
    /// while a thread waits, and no run outlives the process. The queue holds `queue` (records,
    /// bytes) unless the builder says otherwise.
    #[cfg(feature = "testing")]
    pub(crate) fn without_pipeline(
        self,
        queue: (usize, usize),
    ) -> Result<(IntakeConfig, Activities, redact::Rules), BuildError> {
        let this = Self {
            queue: self.queue.or(Some(queue)),
            when_full: Some(WhenFull::Drop),
            durability: [Durability::BestEffort; Kind::ALL.len()],
            runs_in_flight: [Some(false); Kind::ALL.len()],
            ..self
        };
        let redactor = this.redactor()?;
        Ok((this.intake_config(), this.activities, redactor))
    }

    /// Returns what each record passes before it is stored.
    #[cfg_attr(
        not(feature = "redact"),
        allow(clippy::unused_self, clippy::unnecessary_wraps)
    )]
    fn redactor(&self) -> Result<redact::Rules, BuildError> {
        #[cfg(feature = "redact")]
        if let Some(redaction) = &self.redaction {
            return Ok(redaction.ready()?);
        }
        Ok(redact::Rules::default())
    }

    pub(crate) fn config(self) -> Result<Config, BuildError> {
        let intake = self.intake_config();
        let redactor = self.redactor()?;
        let url = self.postgres.ok_or(BuildError::NoDatabase)?;
        let postgres: Servers = url.parse().map_err(BuildError::from)?;
        if !postgres.can_be_written() {
            return Err(BuildError::DatabaseParameter {
                parameter: String::from(postgres.wanted_by()),
                why: String::from("the trail is written: read-write, primary or any will do"),
            });
        }
        let postgres = postgres.for_writing();
        if postgres.lacks_tls() {
            return Err(BuildError::NoTls);
        }
        let service_name = service_name(self.service_name.filter(|name| !name.is_empty()));
        let spool_quota_bytes = self.spool_quota_bytes.unwrap_or(DEFAULT_SPOOL_QUOTA_BYTES);
        Ok(Config {
            postgres,
            spool_folder: self.spool,
            service_name,
            intake,
            spool_quota_bytes,
            activities: self.activities,
            batch: self.batch,
            migrate: self.migrate.unwrap_or(true),
            drop_timeout: self.drop_timeout.unwrap_or(DEFAULT_DROP_TIMEOUT),
            redactor,
            #[cfg(not(feature = "otlp"))]
            export_quota_bytes: None,
            #[cfg(feature = "otlp")]
            export_quota_bytes: self
                .otlp
                .as_ref()
                // The other half is for the trail itself.
                .map(|otlp| otlp.quota_bytes.min(spool_quota_bytes / 2)),
            #[cfg(feature = "otlp")]
            otlp: self.otlp,
            #[cfg(feature = "seal")]
            seal: self.seal.map(Seal::config).transpose()?,
        })
    }

    /// Reads the settings in the environment, which [`from_env`](crate::from_env) lists, so that code
    /// can add the rest. What is set in code afterwards replaces what the environment says;
    /// [`adopt`](Self::adopt) adds to it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a variable has a value that cannot be used. A missing database is an
    /// error of [`start`](Self::start).
    ///
    /// ```no_run
    /// use tracing_audit::{Adopt, Builder, Durability, Kind};
    ///
    /// let audit = Builder::from_env()?
    ///     .adopt(Adopt::sqlx())
    ///     .durability(Kind::Event, Durability::Required)
    ///     .start()?;
    /// # Ok::<(), tracing_audit::BuildError>(())
    /// ```
    pub fn from_env() -> Result<Self, BuildError> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // Whoever asks for redaction must not get a trail without it.
        #[cfg(not(feature = "redact"))]
        if std::env::var_os("AUDIT_REDACT").is_some_and(|rules| !rules.is_empty()) {
            return Err(BuildError::NoRedaction);
        }
        let service_name = var("AUDIT_SERVICE_NAME").or_else(|| var("OTEL_SERVICE_NAME"));
        #[cfg(feature = "otlp")]
        let otlp = Otlp::from_env()?;
        #[cfg(feature = "otlp")]
        let service_name =
            service_name.or_else(|| otlp.as_ref()?.resource.get("service.name").cloned());
        Ok(Self {
            postgres: var("AUDIT_DATABASE_URL").or_else(|| var("DATABASE_URL")),
            spool: std::env::var_os("AUDIT_SPOOL_DIR")
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
            service_name,
            record_parameters: var("AUDIT_RECORD_PARAMETERS")
                .is_some_and(|said| said == "1" || said.eq_ignore_ascii_case("true")),
            activities: activities_of_environment(),
            adopt: adopt::of_environment()?,
            #[cfg(feature = "redact")]
            redaction: Redaction::from_env()?,
            #[cfg(feature = "otlp")]
            otlp,
            ..Self::default()
        })
    }
}

/// Returns what `AUDIT_ACTIVITIES` lists, separated by commas.
pub(crate) fn activities_of_environment() -> Activities {
    Activities::new(
        std::env::var("AUDIT_ACTIVITIES")
            .unwrap_or_default()
            .split(','),
    )
}

/// The longest service name, in bytes; every row holds it.
const SERVICE_NAME_BYTES: usize = 255;

fn service_name(said: Option<String>) -> String {
    let mut name = said.unwrap_or_else(program_name).replace('\0', "");
    name.truncate(name.floor_char_boundary(SERVICE_NAME_BYTES));
    name
}

fn program_name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| {
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| String::from("unknown"))
}
