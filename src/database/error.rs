//! Why a URL cannot be used.

/// Why a URL is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlError {
    /// It is no URL of Postgres at all.
    Scheme,
    /// It cannot be taken apart.
    Malformed(&'static str),
    /// A parameter that is not known, or a value of it.
    Parameter { name: String, why: &'static str },
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

/// The error of a parameter; only names that are known to be no secret come here.
pub(super) fn refused(name: &str, why: &'static str) -> UrlError {
    UrlError::Parameter {
        name: String::from(name),
        why,
    }
}
