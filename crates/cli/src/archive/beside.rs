//! What the database beside an archive has: it speaks for each record that it has, whatever the archive says of it.

use std::collections::HashSet;

use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::content::Keys;
use super::matching::Case;
use super::scan::{Scan, Slice};
use crate::row::RecordId;

/// How many records are asked for at once.
const AT_ONCE: usize = 10_000;

/// Returns how a database compares upper and lower case.
pub(crate) async fn case(connection: &mut PgConnection) -> Result<Case, sqlx::Error> {
    let (umlaut, dotted): (String, String) = sqlx::query_as("SELECT lower('Ä'), lower('İ')")
        .persistent(false)
        .fetch_one(connection)
        .await?;
    Ok(Case::of(&umlaut, &dotted))
}

/// Decrypts what is encrypted in a slice, with the keys that the database has for whoever reads, and leaves what matches then; in a
/// transaction that has begun.
pub(crate) async fn open(
    connection: &mut PgConnection,
    scan: &Scan,
    slice: &mut Slice,
) -> Result<(), sqlx::Error> {
    let ids = slice.keys();
    if !ids.is_empty() {
        let keys = Keys::read_within(connection, &ids).await?;
        scan.open(slice, &keys);
    }
    Ok(())
}

/// Returns which of these records the database has, as far as whoever reads may see them; in a transaction that has begun.
pub(crate) async fn known(
    connection: &mut PgConnection,
    records: &[RecordId],
) -> Result<HashSet<RecordId>, sqlx::Error> {
    let mut known = HashSet::new();
    for some in records.chunks(AT_ONCE) {
        let mut query = QueryBuilder::<Postgres>::new(
            "SELECT NULL AS table_name, NULL::uuid AS id WHERE false",
        );
        for table in Table::ALL {
            let of_table = some.iter().filter(|record| record.table == table);
            let ids: Vec<Uuid> = of_table.map(|record| record.id).collect();
            let (Some(least), Some(greatest)) = (ids.iter().min(), ids.iter().max()) else {
                continue;
            };
            let name = table.name();
            // The partitions by their bounds, the records by their index.
            query
                .push(format!(
                    " UNION ALL SELECT '{name}', id FROM audit.{name} WHERE id BETWEEN "
                ))
                .push_bind(*least)
                .push(" AND ")
                .push_bind(*greatest)
                .push(" AND id = ANY (")
                .push_bind(ids.clone())
                .push(")");
        }
        let found: Vec<RecordId> = query
            .build_query_as()
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        known.extend(found);
    }
    Ok(known)
}
