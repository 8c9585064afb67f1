//! Why a URL cannot be used.

/// Why a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It is not a URL of Postgres at all.
    Scheme,
    /// It cannot be split into its parts.
    Malformed(&'static str),
    /// A parameter that is unknown, or whose value is invalid.
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scheme => f.write_str("it does not begin with postgres://"),
            Self::Malformed(why) => f.write_str(why),
            Self::Parameter { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

/// Returns the error of a parameter; only for names that are known not to be secret.
pub(super) fn refused(name: &str, why: &'static str) -> UrlError {
    UrlError::Parameter {
        name: String::from(name),
        why,
    }
}
