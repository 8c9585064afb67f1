//! The migrations' text: what was applied must be the same.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType};

/// The migrations by their version, as the library embeds them.
const MIGRATIONS: [(i64, &str); 2] = [
    (
        1,
        include_str!("../../../../migrations/0001_audit_trail.sql"),
    ),
    (2, include_str!("../../../../migrations/0002_rights.sql")),
];

/// The statements with which a superuser makes the event triggers.
pub(crate) const GUARD: &str = include_str!("../../../../migrations/guard.sql");

/// The version of the schema that this program knows.
pub(crate) const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Each version, and the checksum that sqlx notes when it is applied.
pub(crate) fn checksums() -> impl Iterator<Item = (i64, Vec<u8>)> {
    MIGRATIONS.into_iter().map(|(version, sql)| {
        let migration = Migration::new(
            version,
            Cow::Borrowed(""),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        );
        (version, migration.checksum.into_owned())
    })
}
