//! What the program `tracing-audit` (the package `tracing-audit-cli`) has in common with the library.
//!
//! **No public API**: it may change with any version, so the program depends on exactly the library
//! of its own version.

pub use crate::database::{Servers, Unreachable, UrlError};
pub use crate::stats::{Exposition, MetricType};
pub use crate::vocabulary::Table;
use crate::vocabulary::{Field, FieldType};

/// Computes the tenant id of a key that is not a UUID, as `audit.tenant_uuid` does.
pub fn tenant_uuid(key: &str) -> uuid::Uuid {
    crate::record::coerce::tenant_uuid(key)
}

impl Table {
    /// Returns the table of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Returns the columns with texts of any length: what people, models and programs say.
    pub fn content_columns(self) -> impl Iterator<Item = &'static str> {
        self.columns_of(&[FieldType::Text])
    }

    /// Returns all columns that are text.
    pub fn text_columns(self) -> impl Iterator<Item = &'static str> {
        self.columns_of(&[FieldType::Key, FieldType::Text]).chain([
            "trace_id",
            "span_id",
            "service_name",
        ])
    }

    /// Returns the other columns that are small, whatever is in them.
    pub fn small_columns(self) -> impl Iterator<Item = &'static str> {
        self.columns_of(&[FieldType::Int, FieldType::Uuid]).chain([
            "id",
            "parent_id",
            "status",
            "writer_id",
            "seq",
            self.began_column(),
        ])
    }

    fn columns_of(self, types: &'static [FieldType]) -> impl Iterator<Item = &'static str> {
        Field::ALL
            .iter()
            .filter(move |field| {
                field.belongs_to(self.kind()) && types.contains(&field.field_type())
            })
            .map(|field| field.name())
    }
}

/// The migrations that the library applies.
pub mod migrations {
    use crate::sink::postgres::embedded::MIGRATIONS;
    use crate::sink::postgres::migrations;

    /// The version of the schema that the last migration makes.
    pub const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

    /// The statements with which a superuser creates the event triggers.
    pub const GUARD: &str = migrations::GUARD;

    /// Returns the version of each migration, and the checksum that is recorded when it is applied.
    pub fn checksums() -> impl Iterator<Item = (i64, Vec<u8>)> {
        MIGRATIONS
            .iter()
            .map(|migration| (migration.version, migration.checksum().to_vec()))
    }
}

/// The formats of the ledger (docs/ledger-format.md).
#[cfg(feature = "ledger")]
pub mod ledger {
    pub use crate::ledger::{
        checkpoint, cosigner, entry, evidence, images, key, layout, leaf, note, paths, proof,
        tiles, tree, witness,
    };
    use crate::sink::postgres::partitions::Day;

    /// Returns the day of the time in an id, in UTC, counted from 1970-01-01.
    pub fn day_of(id: u128) -> u32 {
        // The first 48 bits are milliseconds since 1970.
        let milliseconds = i64::try_from(id >> 80).unwrap_or(i64::MAX);
        Day::of_us(milliseconds.saturating_mul(1000)).number()
    }
}

/// The sealer.
#[cfg(feature = "seal")]
pub mod seal {
    #[cfg(feature = "seal-bucket")]
    pub use crate::config::seal::bucket::BucketUrl;
    #[cfg(feature = "seal-witness")]
    pub use crate::config::seal::witness::Witness;
    pub use crate::config::seal::{Place, SealConfig};
    #[cfg(feature = "seal-witness")]
    pub use crate::seal::WitnessError;
    #[cfg(feature = "__azure")]
    pub use crate::seal::azure;
    pub use crate::seal::{AnchorError, Notice, Notify, Outcome, SealError, Sealer, key_file};
    #[cfg(feature = "seal-bucket")]
    pub use crate::seal::{Bucket, S3, Service, lock};
}

/// Connections for HTTP and HTTPS.
#[cfg(feature = "__https")]
pub mod https {
    /// Connects to `http` and `https` URLs.
    pub type Connector = crate::https::Connector;

    /// Returns a connector that trusts the system's certificates; for `http` alone, it loads none.
    ///
    /// # Errors
    ///
    /// If the system has no certificates, or the library no TLS.
    pub fn connector(is_tls: bool) -> Result<Connector, String> {
        crate::https::connector(is_tls)
    }
}
