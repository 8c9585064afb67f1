//! Classifies the answers of a collector, once.
//!
//! | answer | action |
//! |---|---|
//! | no connection, no answer in time, gRPC `UNAVAILABLE`, `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `DATA_LOSS`, `RESOURCE_EXHAUSTED` with `RetryInfo`, HTTP 408, 429, 502 and above | resend, after a pause that doubles, or after the time that the collector asks for |
//! | gRPC `INTERNAL`, `UNKNOWN`, HTTP 500: gives no reason | resend [`PATIENCE`] times; then with half as many spans; a single span is counted as refused |
//! | gRPC `INVALID_ARGUMENT`, `RESOURCE_EXHAUSTED` without `RetryInfo`, `OUT_OF_RANGE` (tonic: a message over the limit), HTTP 400, 413, 422 | resend in two halves; a span that is refused alone is counted and not sent again |
//! | any other, such as gRPC `UNAUTHENTICATED`, `UNIMPLEMENTED`, HTTP 401, 404 | keep everything, report it once, retry every minute: an operator must fix it |
//!
//! The protocol requires clients to drop at once whatever is not retryable, because it assumes that
//! they hold their data in memory. Here it is on disk, up to a quota.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The longest single wait for a collector, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How often a request is resent if the collector refuses it without a reason.
pub(super) const PATIENCE: u32 = 5;

/// Why a request was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It may be accepted later, but not before the time that the collector asked for.
    Retry {
        after: Option<Duration>,
        cause: String,
    },
    /// The collector gives no reason: the cause may be in the request or in the collector.
    Unexplained { cause: String },
    /// The host's exporter accepted a part; the rest may be accepted later.
    Partly { cause: String },
    /// It was not answered in time.
    TimedOut,
    /// Somebody must fix something first.
    Hold { cause: String },
    /// It is refused for its content or its size.
    Refused { cause: String },
}

impl Fault {
    /// Returns a text for an operator: nothing of what was sent, nor of what the collector says
    /// about it.
    pub(super) fn cause(&self) -> &str {
        match self {
            Self::Retry { cause, .. }
            | Self::Unexplained { cause }
            | Self::Partly { cause }
            | Self::Hold { cause }
            | Self::Refused { cause } => cause,
            Self::TimedOut => "no answer in time",
        }
    }

    pub(super) fn of_grpc(status: &Status) -> Self {
        // This is the error of the connection, and nothing that the collector said.
        let connection = std::error::Error::source(status).map(crate::error::causes);
        let cause = match connection {
            Some(why) => format!("gRPC {:?}: {why}", status.code()),
            None => format!("gRPC {:?}", status.code()),
        };
        let after = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay)
            .map(|after| after.min(LONGEST_WAIT));
        match status.code() {
            Code::ResourceExhausted if after.is_none() => Self::Refused { cause },
            Code::InvalidArgument | Code::OutOfRange => Self::Refused { cause },
            Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::DataLoss
            | Code::ResourceExhausted => Self::Retry { after, cause },
            // The connection broke, which the request did not cause.
            Code::Internal | Code::Unknown if std::error::Error::source(status).is_some() => {
                Self::Retry { after, cause }
            }
            Code::Internal | Code::Unknown => Self::Unexplained { cause },
            _ => Self::Hold { cause },
        }
    }

    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap) -> Self {
        let cause = format!("HTTP {}", status.as_u16());
        match status.as_u16() {
            400 | 413 | 422 => Self::Refused { cause },
            500 => Self::Unexplained { cause },
            408 | 429 | 502.. => Self::Retry {
                after: retry_after(headers, SystemTime::now()),
                cause,
            },
            _ => Self::Hold { cause },
        }
    }
}

/// Returns the pause that a collector asks for: in seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match said.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(said)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(after.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_transient_otlp_failures_are_retried() {
        let is_retry = |code| matches!(Fault::of_grpc(&Status::new(code, "")), Fault::Retry { .. });
        for code in [
            Code::Unavailable,
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::DataLoss,
        ] {
            assert!(is_retry(code), "{code:?}");
        }
        for code in [
            Code::InvalidArgument,
            Code::ResourceExhausted,
            Code::Unauthenticated,
            Code::Unimplemented,
        ] {
            assert!(!is_retry(code), "{code:?}");
        }
        for (status, expected) in [
            (429, "Retry"),
            (500, "Unexplained"),
            (503, "Retry"),
            (400, "Refused"),
            (413, "Refused"),
            (401, "Hold"),
            (404, "Hold"),
            (301, "Hold"),
            (501, "Hold"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let fault = format!("{:?}", Fault::of_http(status, &HeaderMap::new()));
            assert!(fault.starts_with(expected), "{fault}");
        }
    }

    #[test]
    fn retry_after_is_honored_up_to_a_maximum() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::ResourceExhausted, "secret", details);
        let fault = Fault::of_grpc(&status);
        assert!(
            matches!(&fault, Fault::Retry { after: Some(after), .. } if after.as_secs() == 7),
            "{fault:?}"
        );
        assert!(!fault.cause().contains("secret"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (said, expected) in [
            ("7", Some(7)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", Some(0)),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, said.parse().unwrap())]);
            let after = retry_after(&headers, now).map(|after| after.as_secs());
            assert_eq!(after, expected, "{said}");
        }
    }
}
