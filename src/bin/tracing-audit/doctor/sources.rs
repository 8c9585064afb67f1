//! The text of the migrations, and the checksums that applied ones must have.

use sha2::{Digest as _, Sha384};

/// The migrations by version, as the library embeds them.
const MIGRATIONS: [(i64, &str); 2] = [
    (
        1,
        include_str!("../../../../migrations/0001_audit_trail.sql"),
    ),
    (2, include_str!("../../../../migrations/0002_rights.sql")),
];

/// The statements with which a superuser creates the event triggers.
pub(crate) const GUARD: &str = include_str!("../../../../migrations/guard.sql");

/// The version of the schema that this program knows.
pub(crate) const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Each version, and the checksum that is noted when it is applied: SHA-384 of the text, as sqlx has it.
pub(crate) fn checksums() -> impl Iterator<Item = (i64, Vec<u8>)> {
    MIGRATIONS
        .into_iter()
        .map(|(version, sql)| (version, Sha384::digest(sql).to_vec()))
}
