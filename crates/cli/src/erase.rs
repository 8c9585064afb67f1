//! `erase`: empties the content of a user's, a request's or a tenant's records.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::fmt::Write as _;

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::retain::{print, refusal};

/// Erases the content of records, so that the rest of each stays proven; without --yes says of how many.
///
/// Texts, the user, metadata and the salt go; when it was, of which tenant and request,
/// outcome, times and counts stay. With a user or a tenant go the keys of what archives have
/// encrypted. Refused where a legal hold covers one of the records. Recorded in
/// the trail. For a login of an operator.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Erase {
    /// The records of this user.
    #[arg(long, value_name = "ID", required_unless_present_any = ["request", "tenant", "record"])]
    user: Option<String>,
    /// The records of this request.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// The records of this tenant; a UUID, or the key the application uses.
    #[arg(long, value_name = "KEY")]
    tenant: Option<String>,
    /// This record.
    #[arg(long, value_name = "ID")]
    record: Option<sqlx::types::Uuid>,
    /// Erases this column alone, or `metadata.NAME`; may be repeated.
    #[arg(long, value_name = "FIELD")]
    field: Vec<String>,
    /// Why, for the trail: without what is erased.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who asked for it, for the trail.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    requested_by: String,
    /// Erases; otherwise it only says of how many records.
    #[arg(long)]
    yes: bool,
    /// Prints an object of {rows, `dead_letters`, keys, event}.
    #[arg(long)]
    json: bool,
}

const ERASE: &str = "
    SELECT event, rows, dead_letters, keys FROM audit.erase($1, $2, of_user => $3, of_request => $4,
        of_tenant => CASE WHEN $5::text IS NOT NULL THEN audit.tenant_uuid($5) END, of_record => $6, fields => $7)";

/// How many manifests of archives there are: what an erasure may not reach.
const ARCHIVED: &str = "SELECT count(*) FROM audit.archives";

/// What was erased, or would be.
struct Erased {
    event: Option<Uuid>,
    rows: i64,
    dead_letters: i64,
    /// Of content that archives have encrypted.
    keys: i64,
    /// How many manifests of archives the trail knows of.
    archived: i64,
}

/// Erases, or says what would be erased.
pub(crate) async fn run(database: &Database, arguments: &Erase) -> Result<(), Error> {
    let mut connection = database.connect_to_trail().await?;
    let erased = match erase(&mut connection, arguments).await {
        Ok(erased) => erased,
        Err(error) => {
            return Err(match refusal(&error) {
                Some(reason) => Error::NothingFound(reason),
                None => database.change_error("erase", error),
            });
        }
    };
    if arguments.json {
        let event = erased.event.filter(|_| arguments.yes);
        return print(&format!(
            "{}\n",
            json!({
                "rows": erased.rows,
                "dead_letters": erased.dead_letters,
                "keys": erased.keys,
                "event": event.map(|id| id.to_string()),
            })
        ));
    }
    let rows = match erased.rows {
        1 => String::from("1 record"),
        rows => format!("{rows} records"),
    };
    let mut said = if arguments.yes {
        format!("Erased the content of {rows}.\n")
    } else {
        format!("Would erase the content of {rows}; with --yes it does, for good.\n")
    };
    if erased.dead_letters > 0 {
        let _ = writeln!(
            said,
            "{} dead letters mention it, and stay as they are: audit.dead_letters.",
            erased.dead_letters
        );
    }
    said.push_str(&erased.of_archives(arguments));
    if arguments.yes {
        said.push_str(
            "Records that are still in a local log come later: erase again when they are written. \
             Postgres keeps the old rows until VACUUM, and backups have them.\n",
        );
    }
    print(&said)
}

async fn erase(connection: &mut PgConnection, arguments: &Erase) -> Result<Erased, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let (event, rows, dead_letters, keys) = sqlx::query_as(ERASE)
        .bind(&arguments.reason)
        .bind(&arguments.requested_by)
        .bind(&arguments.user)
        .bind(&arguments.request)
        .bind(&arguments.tenant)
        .bind(arguments.record)
        .bind((!arguments.field.is_empty()).then_some(&arguments.field))
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let archived = sqlx::query_scalar(ARCHIVED)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    if arguments.yes {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(Erased {
        event,
        rows,
        dead_letters,
        keys,
        archived,
    })
}

impl Erased {
    /// Says what becomes of the content that archives have.
    fn of_archives(&self, arguments: &Erase) -> String {
        if self.archived == 0 {
            return String::new();
        }
        let is_narrow = arguments.request.is_some()
            || arguments.record.is_some()
            || !arguments.field.is_empty();
        let mut said = match (self.keys, arguments.yes) {
            (0, _) => String::new(),
            (1, true) => String::from("1 key of archived content is destroyed. "),
            (1, false) => String::from("1 key of archived content would be destroyed. "),
            (keys, true) => format!("{keys} keys of archived content are destroyed. "),
            (keys, false) => format!("{keys} keys of archived content would be destroyed. "),
        };
        said.push_str(if is_narrow {
            "Archives keep this content: there it is erased by user or tenant alone, and whole, and only where it is encrypted.\n"
        } else {
            "What archives have in the clear stays there.\n"
        });
        said
    }
}
