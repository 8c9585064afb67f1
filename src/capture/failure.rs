//! What is recorded of an error: its text with its causes, and its code.
//!
//! `audited()` asks of an error only that it shows itself, since a `String` or the error of anyhow
//! is no [`Error`]; and stable Rust has no way to ask a type for a trait that is not among the
//! bounds. So the types that are worth it are tried one by one, once a run has failed; an error
//! type of the host's is looked into if the host says so ([`Inspection`]).

use std::any::Any;
use std::error::Error;
use std::fmt::{self, Display, Write};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::sqlstate::sqlstate;

/// How the errors of a run are looked into.
#[derive(Default)]
pub(super) struct Inspection {
    /// Returns the error as one that may have causes.
    as_error: Option<AsError>,
    /// Returns the error's code.
    code: Option<Box<Code>>,
}

type AsError = fn(&dyn Any) -> Option<&(dyn Error + 'static)>;

type Code = dyn Fn(&dyn Any) -> Option<String> + Send + Sync;

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection").finish_non_exhaustive()
    }
}

impl Inspection {
    /// Has the causes of errors of this type looked at.
    pub(super) fn with_causes<E: Error + 'static>(&mut self) {
        self.as_error = Some(|error| Some(error.downcast_ref::<E>()?));
    }

    /// Has the code of errors of this type determined by a function of the host's.
    pub(super) fn error_code<E: 'static, C: Display>(
        &mut self,
        code: impl Fn(&E) -> Option<C> + Send + Sync + 'static,
    ) {
        self.code = Some(Box::new(move |error| {
            let code = code(error.downcast_ref::<E>()?)?;
            Some(code.to_string())
        }));
    }

    /// Looks into an error. Runs the host's code.
    pub(super) fn of<'e, E: Display + 'static>(&self, error: &'e E) -> Failure<'e> {
        let as_error = self.as_error.unwrap_or(known);
        let chain = as_error(error);
        // The host's code may panic.
        let ask = || self.code.as_ref().and_then(|code| code(error));
        let said = catch_unwind(AssertUnwindSafe(ask)).ok().flatten();
        let look = || chain.and_then(sqlstate);
        let code = said.or_else(|| catch_unwind(AssertUnwindSafe(look)).ok().flatten());
        Failure {
            shown: error,
            causes: chain,
            code,
        }
    }
}

/// Returns the error as one that may have causes if its type is known.
fn known(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
    /// Of these, what is inside.
    macro_rules! behind {
        ($( $ty:ty ),*) => {
            $( if let Some(error) = error.downcast_ref::<$ty>() { return Some(&**error); } )*
        };
    }
    macro_rules! plain {
        ($( $ty:ty ),*) => {
            $( if let Some(error) = error.downcast_ref::<$ty>() { return Some(error); } )*
        };
    }
    behind!(
        Box<dyn Error + Send + Sync>,
        Box<dyn Error + Send>,
        Box<dyn Error>,
        Arc<dyn Error + Send + Sync>,
        Arc<sqlx::Error>,
        Box<sqlx::Error>
    );
    plain!(sqlx::Error, io::Error);
    #[cfg(feature = "anyhow")]
    behind!(anyhow::Error);
    #[cfg(feature = "tokio-postgres")]
    plain!(tokio_postgres::Error);
    #[cfg(feature = "diesel")]
    plain!(diesel::result::Error, diesel::ConnectionError);
    None
}

/// An error of a run.
pub(super) struct Failure<'e> {
    shown: &'e dyn Display,
    /// The same error, or the one inside, if its causes can be asked for.
    causes: Option<&'e (dyn Error + 'static)>,
    pub(super) code: Option<String>,
}

#[cfg(feature = "http-body")]
impl<'e> Failure<'e> {
    /// Makes a failure of a text of this library's.
    pub(super) fn of_text(shown: &'e dyn Display) -> Self {
        Self {
            shown,
            causes: None,
            code: None,
        }
    }
}

impl Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.causes {
            Some(error) if error.source().is_some() => {
                write(f, format_args!("{}", self.shown), error)
            }
            // Many errors show their causes only in `{:#}`; that of anyhow shows some twice.
            _ => write!(f, "{:#}", self.shown),
        }
    }
}

/// An error and its causes.
pub(super) struct Chain<'e>(pub(super) &'e (dyn Error + 'static));

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, format_args!("{}", self.0), self.0)
    }
}

/// The most causes that are written; a chain may be cyclic.
const MAX_CAUSES: usize = 16;

/// Writes an error's text, and each of its causes that is not part of the text yet.
fn write(
    f: &mut fmt::Formatter<'_>,
    shown: fmt::Arguments<'_>,
    error: &(dyn Error + 'static),
) -> fmt::Result {
    let mut out = Tee {
        f,
        copy: String::new(),
    };
    out.write_fmt(shown)?;
    let mut next = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(cause) = next else { break };
        let mut text = Beginning(String::new());
        // An error: the text is longer than what is compared, and new.
        let is_whole = write!(text, "{cause}").is_ok();
        if !is_whole {
            write!(out, ": {cause}")?;
        } else if !text.0.is_empty() && !out.copy.contains(&text.0) {
            write!(out, ": {}", text.0)?;
        }
        next = cause.source();
    }
    Ok(())
}

/// How many bytes of an error's text are compared with its causes'.
const COMPARED_BYTES: usize = 16 * 1024;

/// Writes to a formatter, and keeps the beginning.
struct Tee<'f, 'b> {
    f: &'f mut fmt::Formatter<'b>,
    copy: String,
}

impl Write for Tee<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.copy.len() < COMPARED_BYTES {
            let room = COMPARED_BYTES - self.copy.len();
            self.copy.push_str(&text[..text.floor_char_boundary(room)]);
        }
        self.f.write_str(text)
    }
}

/// Keeps the beginning of a text, and fails if there is more.
struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > COMPARED_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error with a cause.
    #[derive(Debug)]
    struct Outer(&'static str, Option<Box<dyn Error + Send + Sync>>);

    impl Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&**self.1.as_ref()?)
        }
    }

    fn chain(texts: &[&'static str]) -> Outer {
        let (last, others) = texts.split_last().unwrap();
        others.iter().rev().fold(Outer(last, None), |cause, text| {
            Outer(text, Some(Box::new(cause)))
        })
    }

    #[test]
    fn causes_are_written_once() {
        let written = |texts: &[&'static str]| Chain(&chain(texts)).to_string();
        assert_eq!(written(&["a"]), "a");
        assert_eq!(written(&["db error", "no table t"]), "db error: no table t");
        assert_eq!(
            written(&["no: broken", "broken", "pipe"]),
            "no: broken: pipe"
        );
        assert_eq!(written(&["a", "", "b", "b"]), "a: b");
        assert_eq!(written(&["x"; 40]), "x");
    }

    #[test]
    fn causes_of_a_type_that_is_not_known_are_written_if_the_host_says_so() {
        let error = chain(&["no answer", "connection refused"]);
        let mut inspection = Inspection::default();
        assert_eq!(inspection.of(&error).to_string(), "no answer");
        inspection.with_causes::<Outer>();
        let failure = inspection.of(&error);
        assert_eq!(failure.to_string(), "no answer: connection refused");
        let boxed: Box<dyn Error + Send + Sync> = Box::new(error);
        let failure = Inspection::default().of(&boxed).to_string();
        assert_eq!(failure, "no answer: connection refused");
    }

    #[test]
    fn host_code_that_panics_gives_no_code() {
        let mut inspection = Inspection::default();
        inspection.error_code(|text: &String| -> Option<String> { panic!("{text}") });
        assert_eq!(inspection.of(&String::from("x")).code, None);
        inspection.error_code(|text: &String| Some(text.len()));
        assert_eq!(inspection.of(&String::from("x")).code.as_deref(), Some("1"));
    }

    #[test]
    fn long_cause_is_written_whole() {
        let cause = "c".repeat(COMPARED_BYTES + 1);
        let error = Outer("a", Some(cause.clone().into()));
        assert_eq!(Chain(&error).to_string(), format!("a: {cause}"));
    }
}
