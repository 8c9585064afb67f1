//! The migrations, compiled into the library.
//!
//! **Leaves have no row-level security**, because Postgres refuses `COPY` under it. They are in a
//! schema of their own that only a writer may use, and a writer may only insert.
//!
//! **The trail's functions run as `audit_maintainer`**, a role without members, so the event
//! triggers can tell them from the owner, who may alter nothing either. The triggers are in a
//! schema that belongs to a superuser, and are not dropped together with what they guard.
//!
//! **No statistics are kept on values in the record tables**: row-level security does not hide them
//! from `EXPLAIN`, whose estimates reveal which values other tenants have. Postgres therefore
//! expects thousands of records for each request. `audit.request_trail` forbids it to start workers
//! and to compile the query for them, and the index on `request_id` has the tenant as its second
//! column, by which a reader's query is always narrowed; that makes it 3 % larger, because equal
//! keys are stored once.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha384};

/// A migration, embedded.
pub(crate) struct Migration {
    pub(crate) version: i64,
    description: &'static str,
    pub(super) sql: &'static str,
}

impl Migration {
    /// Returns the checksum that is recorded with the migration: SHA-384 of its text, as sqlx has it.
    pub(crate) fn checksum(&self) -> [u8; 48] {
        Sha384::digest(self.sql).into()
    }

    /// Returns the statement that records that the migration was applied.
    pub(super) fn note(&self) -> String {
        let mut checksum = String::new();
        for byte in self.checksum() {
            let _ = write!(checksum, "{byte:02x}");
        }
        format!(
            "INSERT INTO audit.schema_migrations (version, description, success, checksum, execution_time) \
             VALUES ({}, '{}', true, decode('{checksum}', 'hex'), 0)",
            self.version, self.description
        )
    }
}

/// The migrations, in order.
pub(crate) const MIGRATIONS: [Migration; 6] = [
    Migration {
        version: 1,
        description: "audit trail",
        sql: include_str!("../../../migrations/0001_audit_trail.sql"),
    },
    Migration {
        version: 2,
        description: "rights",
        sql: include_str!("../../../migrations/0002_rights.sql"),
    },
    Migration {
        version: 3,
        description: "families",
        sql: include_str!("../../../migrations/0003_families.sql"),
    },
    Migration {
        version: 4,
        description: "changes",
        sql: include_str!("../../../migrations/0004_changes.sql"),
    },
    Migration {
        version: 5,
        description: "ledger",
        sql: include_str!("../../../migrations/0005_ledger.sql"),
    },
    Migration {
        version: 6,
        description: "archive",
        sql: include_str!("../../../migrations/0006_archive.sql"),
    },
];
