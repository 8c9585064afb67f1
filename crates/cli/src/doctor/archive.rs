//! Checks whether the trail's archive is locked, if one is named. What is in it is for `archive verify` to say.

use tracing_audit::__program::seal::azure::Immutability;
use tracing_audit::__program::seal::lock::{DefaultRetention, Mode};

use super::finding::{Finding, counted};
use crate::archive::{Lock, Place};
use crate::error::Error;

const CHECK: &str = "archive";

/// Where the archive is when nobody says it.
const PLACE: &str = "AUDIT_ARCHIVE";

const TO_LOCK: &str = "Object Lock can only be switched on where versions are kept. Give the bucket a default \
     retention in mode COMPLIANCE, and extend it with `tracing-audit archive extend`; what is there \
     already gets its own by that: docs/archive.md.";

/// Reports what keeps the objects of the archive from being removed.
pub(super) async fn check(named: Option<&str>) -> Result<Vec<Finding>, Error> {
    let set = || std::env::var(PLACE).ok().filter(|place| !place.is_empty());
    let Some(place) = named.map(str::to_owned).or_else(set) else {
        return Ok(Vec::new());
    };
    let place = Place::of(&place)?;
    let name = place.name();
    let lock = match place.lock().await {
        Ok(lock) => lock,
        Err(error) => return Ok(vec![unseen(&name, &error)]),
    };
    let default = match lock {
        Lock::Bucket(default) => default,
        Lock::Container(policy) => return Ok(vec![of_policy(name, lock, policy)]),
        Lock::Folder => {
            let found = "a folder: whoever may write to it can remove what is in it";
            return Ok(vec![Finding::ok(CHECK, name, found)]);
        }
    };
    let mut findings = vec![of_default(&name, lock, default)];
    // A server that does not say it has said of the lock what there is to say.
    match place.is_versioned().await {
        Ok(Some(false)) => findings.push(
            Finding::problem(CHECK, name, "the bucket does not keep what is overwritten")
                .expected("a bucket with versioning")
                .explained(TO_LOCK),
        ),
        Ok(_) => {}
        Err(error) => findings.push(unseen(&name, &error)),
    }
    Ok(findings)
}

fn of_default(name: &str, lock: Lock, default: DefaultRetention) -> Finding {
    let expected = "a default retention of a day or more, in mode COMPLIANCE";
    if let Some(why) = lock.lacks() {
        let found = format!("the bucket {why}");
        return match default {
            DefaultRetention::Unknown => Finding::warning(CHECK, name, found),
            _ => Finding::problem(CHECK, name, found),
        }
        .expected(expected)
        .explained(TO_LOCK);
    }
    let DefaultRetention::Lasts { mode, days } = default else {
        return Finding::warning(CHECK, name, "not seen").expected(expected);
    };
    let days = counted(usize::try_from(days).unwrap_or(usize::MAX), "day", "days");
    let found = format!("locked for {days}, in mode {}", mode.word());
    match mode {
        Mode::Compliance => Finding::ok(CHECK, name, found),
        Mode::Governance => Finding::warning(CHECK, name, found)
            .expected(expected)
            .explained(
                "Whoever has the right s3:BypassGovernanceRetention can remove what is archived. \
                 Nobody can in mode COMPLIANCE.",
            ),
    }
}

fn of_policy(name: String, lock: Lock, policy: Immutability) -> Finding {
    let Some(why) = lock.lacks() else {
        let found = "kept by an immutability policy of the container: only Azure's management API tells whether it is locked, and \
                     for how long it keeps";
        return Finding::ok(CHECK, name, found);
    };
    let found = format!("the container {why}");
    match policy {
        Immutability::None => Finding::problem(CHECK, name, found),
        _ => Finding::warning(CHECK, name, found),
    }
    .expected("a time-based retention policy of the container, locked")
    .explained(
        "`az storage container immutability-policy create` and `lock` set it and lock it: docs/archive.md.",
    )
}

fn unseen(name: &str, error: &Error) -> Finding {
    Finding {
        is_unseen: true,
        ..Finding::warning(CHECK, name, format!("not seen: {error}"))
    }
    .expected("a bucket that says how it is locked")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn only_compliance_is_content() {
        let lasts = |mode, days| DefaultRetention::Lasts { mode, days };
        for (default, expected) in [
            (DefaultRetention::NoLock, Severity::Problem),
            (DefaultRetention::NoDefault, Severity::Problem),
            (lasts(Mode::Compliance, 0), Severity::Problem),
            (DefaultRetention::Unknown, Severity::Warning),
            (lasts(Mode::Governance, 365), Severity::Warning),
            (lasts(Mode::Compliance, 1), Severity::Ok),
        ] {
            let finding = of_default("s3://audit", Lock::Bucket(default), default);
            assert_eq!(finding.severity, expected, "{finding:?}");
        }
    }
}
