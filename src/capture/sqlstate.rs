//! The SQLSTATE of a database library's error.

use std::error::Error;
use std::io;
use std::sync::Arc;

/// The most errors of a chain that are looked at, which may be cyclic.
const MAX_ERRORS: usize = 64;

/// Returns the SQLSTATE of an error, or of the first of its causes that has one: five digits and
/// capitals, such as `23505` for a unique key that is there already.
///
/// It knows the errors of sqlx 0.9, with feature `tokio-postgres` those of tokio-postgres 0.7, and
/// with feature `diesel` those of diesel 2, which keeps the SQLSTATE of the violations that its
/// `DatabaseErrorKind` distinguishes and of no other. It finds them through
/// [`source`](Error::source), in an [`io::Error`], a `Box` or an [`Arc`]. A library whose errors do
/// not tell their cause hides it: for `RuntimeErr::SqlxError` of `SeaORM` 2, pass the error inside.
///
/// `None`: there is none, as of a connection that broke.
///
/// [`audited`](crate::AuditFutureExt::audited) records it as `error_code` by itself where it can.
///
/// ```
/// use std::fmt;
///
/// #[derive(Debug)]
/// struct NoAnswer(sqlx::Error);
///
/// impl fmt::Display for NoAnswer {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("there is no answer")
///     }
/// }
///
/// impl std::error::Error for NoAnswer {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// fn is_duplicate(error: &NoAnswer) -> bool {
///     tracing_audit::sqlstate(error).as_deref() == Some("23505")
/// }
/// assert!(!is_duplicate(&NoAnswer(sqlx::Error::RowNotFound)));
///
/// // Of an error in a box, or of anyhow's, what is inside:
/// let error: Box<dyn std::error::Error + Send + Sync> = "no database".into();
/// assert_eq!(tracing_audit::sqlstate(&*error), None);
/// ```
pub fn sqlstate(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    for _ in 0..MAX_ERRORS {
        let error = next?;
        let code = own(error);
        if code.is_some() {
            return code;
        }
        next = inside(error).or_else(|| error.source());
    }
    None
}

/// Returns what an error is a wrapper of, whose own `source` is that of the error inside.
fn inside<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inside| inside as _);
    }
    if let Some(error) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return Some(&**error);
    }
    None
}

/// Returns an error of this type, also one in a box or an `Arc`.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let boxed = || error.downcast_ref::<Box<E>>().map(|error| &**error);
    let shared = || error.downcast_ref::<Arc<E>>().map(|error| &**error);
    error.downcast_ref::<E>().or_else(boxed).or_else(shared)
}

/// Returns the SQLSTATE that the error itself has, without its causes.
fn own(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = find::<sqlx::Error>(error) {
        return error.as_database_error()?.code().and_then(checked);
    }
    #[cfg(feature = "tokio-postgres")]
    {
        if let Some(error) = find::<tokio_postgres::Error>(error) {
            return error.code().and_then(|code| checked(code.code()));
        }
        if let Some(error) = find::<tokio_postgres::error::DbError>(error) {
            return checked(error.code().code());
        }
    }
    #[cfg(feature = "diesel")]
    if let Some(diesel::result::Error::DatabaseError(kind, _)) = find(error) {
        return of_kind(*kind).map(String::from);
    }
    None
}

/// Returns the code if it is a SQLSTATE: `SQLite` has numbers of its own.
fn checked(code: impl AsRef<str>) -> Option<String> {
    let code = code.as_ref();
    let is_sqlstate = code.len() == 5
        && code
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    is_sqlstate.then(|| String::from(code))
}

/// Returns the SQLSTATE that diesel makes this kind of, the same for its own connection and for
/// diesel-async's.
#[cfg(feature = "diesel")]
fn of_kind(kind: diesel::result::DatabaseErrorKind) -> Option<&'static str> {
    use diesel::result::DatabaseErrorKind as Diesels;
    Some(match kind {
        Diesels::RestrictViolation => "23001",
        Diesels::NotNullViolation => "23502",
        Diesels::ForeignKeyViolation => "23503",
        Diesels::UniqueViolation => "23505",
        Diesels::CheckViolation => "23514",
        Diesels::ExclusionViolation => "23P01",
        Diesels::ReadOnlyTransaction => "25006",
        Diesels::SerializationFailure => "40001",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_is_no_sqlstate_is_left_out() {
        assert_eq!(checked("23505").as_deref(), Some("23505"));
        assert_eq!(checked("57P01").as_deref(), Some("57P01"));
        for other in ["", "2067", "1", "23505 ", "57p01", "äöü"] {
            assert_eq!(checked(other), None, "{other}");
        }
    }

    #[test]
    fn endless_chain_ends() {
        #[derive(Debug)]
        struct Cyclic;
        impl std::fmt::Display for Cyclic {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("cyclic")
            }
        }
        impl Error for Cyclic {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert_eq!(sqlstate(&Cyclic), None);
    }
}
