//! The migrations, as they are compiled in.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha384};

/// A migration, embedded.
pub(crate) struct Migration {
    pub(crate) version: i64,
    description: &'static str,
    pub(super) sql: &'static str,
}

impl Migration {
    /// The statement that notes that it was applied.
    pub(super) fn note(&self) -> String {
        let mut checksum = String::new();
        for byte in Sha384::digest(self.sql) {
            let _ = write!(checksum, "{byte:02x}");
        }
        format!(
            "INSERT INTO audit.schema_migrations (version, description, success, checksum, execution_time) \
             VALUES ({}, '{}', true, decode('{checksum}', 'hex'), 0)",
            self.version, self.description
        )
    }
}

/// In their order.
pub(crate) const MIGRATIONS: [Migration; 2] = [
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
];
