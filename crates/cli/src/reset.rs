//! `migrate --reset`: removes the trail of a development database, so that it is made anew.
//!
//! A trail that may be evidence is not removed: one with a legal hold in force, or with a batch older
//! than a day. Everything is dropped by name and without CASCADE, so that Postgres refuses if an
//! object of the host's depends on the trail, and names it.

use std::io::{self, BufRead as _, Write as _};

use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::database::{Database, Standing, begin_change, standing};
use crate::error::Error;
use crate::text::escape_line;

/// Whether the login is a superuser, and the name of the database.
const LOGIN: &str = "
    SELECT rolsuper, current_database()::text FROM pg_roles WHERE rolname = current_user";

/// The holds in force; whether a batch was committed more than a day ago, by the server's clock; and
/// the number of records.
const CONTENTS: &str = "
    SELECT (SELECT count(*) FROM audit.legal_holds h WHERE NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id)),
        EXISTS (SELECT FROM audit.batches WHERE committed_at < clock_timestamp() - interval '1 day'),
        (SELECT coalesce(sum(last_seq - first_seq + 1), 0)::text FROM audit.batches)";

/// Keeps others from adding a batch or a hold.
const LOCK: &str = "
    SET LOCAL lock_timeout = '10s';
    LOCK TABLE audit.batches, audit.legal_holds, audit.legal_hold_lifts IN ACCESS EXCLUSIVE MODE";

/// The statements that drop everything of the trail but its roles, in order. A partition goes with
/// its table, an index or a sequence with what it belongs to.
const DROPS: &str = "
    WITH schemas AS (SELECT n.oid, nspname FROM pg_namespace n JOIN pg_roles o ON o.oid = nspowner
        WHERE nspname IN ('audit', 'audit_parts') OR nspname = 'audit_guard' AND o.rolsuper),
    relation AS (
        SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'r', 'p') AND NOT c.relispartition)
    SELECT statement FROM (
        SELECT 1, format('DROP EVENT TRIGGER %I', evtname) FROM pg_event_trigger WHERE evtname IN ('audit_refuse_ddl', 'audit_refuse_drop')
        UNION ALL
        SELECT 2, 'DROP VIEW ' || string_agg(name, ', ') FROM relation WHERE relkind = 'v' HAVING count(*) > 0
        UNION ALL
        SELECT 3, 'DROP TABLE ' || string_agg(name, ', ') FROM relation WHERE relkind <> 'v' HAVING count(*) > 0
        UNION ALL
        SELECT 4, 'DROP ROUTINE ' || string_agg(format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), ', ')
        FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace HAVING count(*) > 0
        UNION ALL
        SELECT 5, 'DROP TYPE ' || string_agg(format('%I.%I', n.nspname, t.typname), ', ')
        FROM pg_type t JOIN schemas n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE t.typtype = 'e' OR c.relkind = 'c' HAVING count(*) > 0
        UNION ALL
        -- Those of a column go with their table.
        SELECT 6, 'DROP SEQUENCE ' || string_agg(format('%I.%I', n.nspname, c.relname), ', ')
        FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
        HAVING count(*) > 0
        UNION ALL
        SELECT 7, 'DROP SCHEMA ' || string_agg(format('%I', nspname), ', ') FROM schemas HAVING count(*) > 0
    ) AS drops (place, statement) ORDER BY place";

/// Removes the trail, after asking. Does nothing if there is none.
pub(crate) async fn run(database: &Database) -> Result<(), Error> {
    let failed = |source| remove_error(database, source);
    let mut connection = database.connect().await?;
    let mut transaction = begin_change(&mut connection).await.map_err(failed)?;
    let is_there = look(database, &mut transaction).await?;
    let Some((name, records)) = is_there else {
        return Ok(());
    };
    transaction.rollback().await.map_err(failed)?;
    ask(database, &name, &records)?;

    // Nothing was locked while the answer was waited for: it may have changed.
    let mut transaction = begin_change(&mut connection).await.map_err(failed)?;
    if look(database, &mut transaction).await?.is_none() {
        return Ok(());
    }
    transaction.execute(LOCK).await.map_err(failed)?;
    check(database, &mut transaction).await?;
    let drops: Vec<(String,)> = sqlx::query_as(DROPS)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
    for (statement,) in drops {
        transaction
            .execute(AssertSqlSafe(statement))
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Returns the name of the database and the number of records, unless there is no trail. Fails if it
/// must not be removed.
async fn look(
    database: &Database,
    connection: &mut PgConnection,
) -> Result<Option<(String, String)>, Error> {
    let failed = |source| remove_error(database, source);
    match standing(connection).await.map_err(failed)? {
        Standing::Absent => return Ok(None),
        Standing::Ours => {}
        Standing::NotOurs(what) => {
            return Err(Error::NotOurs {
                database: database.name(),
                what,
            });
        }
    }
    let (is_superuser, name): (bool, String) = sqlx::query_as(LOGIN)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !is_superuser {
        return Err(kept(database, "only a superuser can remove one"));
    }
    let records = check(database, connection).await?;
    Ok(Some((name, records)))
}

/// Returns the number of records. Fails if somebody may answer for the trail.
async fn check(database: &Database, connection: &mut PgConnection) -> Result<String, Error> {
    let (holds, is_old, records): (i64, bool, String) = sqlx::query_as(CONTENTS)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(|source| remove_error(database, source))?;
    if holds > 0 {
        let holds = if holds == 1 {
            "a legal hold is".to_owned()
        } else {
            format!("{holds} legal holds are")
        };
        return Err(kept(database, &format!("{holds} in force")));
    }
    if is_old {
        return Err(kept(
            database,
            "it has records older than a day, so it may be one that somebody relies on",
        ));
    }
    Ok(records)
}

/// Asks for the name of the database.
fn ask(database: &Database, name: &str, records: &str) -> Result<(), Error> {
    let place = database.name();
    let mut out = io::stderr().lock();
    write!(
        out,
        "This removes the audit trail in {place} for good, with its {records} records, its settings and its history of removals.\n\
         Type the name of the database ({}) to go on: ",
        escape_line(name)
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim_end_matches(['\r', '\n']) == name {
        return Ok(());
    }
    Err(kept(
        database,
        "the answer was not the name of the database",
    ))
}

fn kept(database: &Database, why: &str) -> Error {
    Error::Kept {
        database: database.name(),
        why: why.to_owned(),
    }
}

/// Converts an error; what depends on the trail is named.
fn remove_error(database: &Database, source: sqlx::Error) -> Error {
    let dependents = source
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .filter(|error| error.code() == "2BP01")
        .and_then(PgDatabaseError::detail);
    match dependents {
        Some(dependents) => kept(database, &dependents.replace('\n', "; ")),
        None => database.change_error("remove the audit trail", source),
    }
}
