//! What a status code says of a request's outcome.

use super::Status;

/// The outcome that a response's code stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// `None`: it succeeded.
    pub(crate) error_code: Option<String>,
}

impl Outcome {
    fn new(status: Status, code: impl FnOnce() -> String) -> Self {
        Self {
            status,
            error_code: (status != Status::Succeeded).then(code),
        }
    }

    /// Returns what an HTTP status code stands for; the table is in the docs of the
    /// request layers.
    pub(crate) fn of_http(code: u16) -> Self {
        let status = match code {
            100..=399 => Status::Succeeded,
            401 | 403 | 407 | 451 => Status::Rejected,
            _ => Status::Failed,
        };
        Self::new(status, || code.to_string())
    }

    /// Returns what a gRPC status code stands for.
    pub(crate) fn of_grpc(code: u32) -> Self {
        let status = match code {
            0 => Status::Succeeded,
            1 => Status::Cancelled,
            7 | 16 => Status::Rejected,
            _ => Status::Failed,
        };
        Self::new(status, || {
            usize::try_from(code)
                .ok()
                .and_then(|code| GRPC_CODES.get(code))
                .map_or_else(|| code.to_string(), |name| String::from(*name))
        })
    }

    /// Returns what the name of a gRPC status code stands for, such as `PermissionDenied`.
    pub(crate) fn of_grpc_name(name: &str) -> Self {
        let is_it = |known: &&str| known.replace('_', "").eq_ignore_ascii_case(name);
        let code = GRPC_CODES.iter().position(is_it);
        code.and_then(|code| u32::try_from(code).ok())
            // UNKNOWN.
            .map_or_else(|| Self::of_grpc(2), Self::of_grpc)
    }

    #[cfg(any(feature = "tower", feature = "actix-web"))]
    pub(crate) fn is_denial(&self) -> bool {
        self.status == Status::Rejected
    }
}

/// The names of the gRPC status codes, by their number.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_code_has_the_outcome_of_the_table() {
        for (code, status) in [
            (101, Status::Succeeded),
            (200, Status::Succeeded),
            (304, Status::Succeeded),
            (400, Status::Failed),
            (401, Status::Rejected),
            (403, Status::Rejected),
            (404, Status::Failed),
            (407, Status::Rejected),
            (429, Status::Failed),
            (451, Status::Rejected),
            (500, Status::Failed),
            (599, Status::Failed),
            // No code of HTTP is evidence of a success.
            (999, Status::Failed),
        ] {
            let outcome = Outcome::of_http(code);
            assert_eq!(outcome.status, status, "{code}");
            let expected = (status != Status::Succeeded).then(|| code.to_string());
            assert_eq!(outcome.error_code, expected, "{code}");
        }
    }

    #[test]
    fn grpc_code_has_the_outcome_of_the_table() {
        for (code, status, name) in [
            (0, Status::Succeeded, None),
            (1, Status::Cancelled, Some("CANCELLED")),
            (5, Status::Failed, Some("NOT_FOUND")),
            (7, Status::Rejected, Some("PERMISSION_DENIED")),
            (16, Status::Rejected, Some("UNAUTHENTICATED")),
            (17, Status::Failed, Some("17")),
        ] {
            let outcome = Outcome::of_grpc(code);
            assert_eq!(outcome.status, status, "{code}");
            assert_eq!(outcome.error_code.as_deref(), name, "{code}");
        }
    }
}
