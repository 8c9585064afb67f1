//! What the library does with a bucket for an archive, at the server of S3 that `scripts/archive-bucket` starts: run by that.
//!
//! `BUCKET` names a bucket with a default retention of a day in mode COMPLIANCE.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "in a test, a panic is a failure"
)]

use std::time::{Duration, SystemTime};

use tracing_audit::__program::seal::lock::{DefaultRetention, Mode, Retention};
use tracing_audit::__program::seal::{Bucket, BucketUrl};

const DAY: Duration = Duration::from_hours(24);

const LOCKED: DefaultRetention = DefaultRetention::Lasts {
    mode: Mode::Compliance,
    days: 1,
};

fn bucket(prefix: &str) -> Bucket {
    let name = std::env::var("BUCKET").expect("scripts/archive-bucket runs this");
    Bucket::new(BucketUrl::parse(&format!("s3://{name}/{prefix}")).unwrap())
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn objects_are_created_once_and_read() {
    let bucket = bucket("objects/here");
    let content: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let name = "kind=events/month=2026-09/0001-00000.parquet";
    assert!(
        bucket
            .create_if_absent(name, content.clone())
            .await
            .unwrap()
    );
    assert!(
        !bucket
            .create_if_absent(name, b"other".to_vec())
            .await
            .unwrap()
    );
    assert_eq!(
        bucket.get_up_to(name, 20_000_000).await.unwrap().unwrap(),
        content
    );
    let error = bucket.get_up_to(name, 19_999_999).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it has more than the 19999999 bytes"),
        "{error}"
    );
    assert_eq!(
        bucket.get_range(name, 251..1000).await.unwrap(),
        content[251..1000]
    );
    assert_eq!(bucket.get_range(name, 7..7).await.unwrap(), b"");
    assert!(
        bucket
            .get_range(name, 19_999_999..20_000_001)
            .await
            .is_err()
    );
    assert_eq!(bucket.size(name).await.unwrap(), Some(20_000_000));
    assert_eq!(bucket.size("kind=events/none").await.unwrap(), None);
    assert_eq!(bucket.get_up_to("kind=events/none", 1).await.unwrap(), None);
    assert!(
        bucket
            .create_if_absent("kind=events/empty", Vec::new())
            .await
            .unwrap()
    );
    assert_eq!(
        bucket
            .get_up_to("kind=events/empty", 0)
            .await
            .unwrap()
            .unwrap(),
        b""
    );
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn more_objects_than_a_page_has_are_listed() {
    let bucket = bucket("list");
    let beside = self::bucket("list-beside");
    assert!(
        beside
            .create_if_absent("kind=a/0", b"x".to_vec())
            .await
            .unwrap()
    );
    let mut expected = Vec::new();
    for number in 0..1100 {
        let name = format!("kind=a/day={}/{number:05}", number % 7);
        assert!(
            bucket
                .create_if_absent(&name, vec![0; number % 3])
                .await
                .unwrap()
        );
        expected.push((name, (number % 3) as u64));
    }
    expected.sort_unstable();
    assert!(
        bucket
            .create_if_absent("kind=ab/0", b"x".to_vec())
            .await
            .unwrap()
    );
    assert_eq!(bucket.list("kind=a/").await.unwrap(), expected);
    assert_eq!(bucket.list("kind=none/").await.unwrap(), []);
    expected.push((String::from("kind=ab/0"), 1));
    expected.sort_unstable();
    assert_eq!(bucket.list("").await.unwrap(), expected);
    let versions = bucket.versions("").await.unwrap();
    let mut names: Vec<_> = versions.into_iter().map(|version| version.name).collect();
    names.sort_unstable();
    assert!(
        names.iter().eq(expected.iter().map(|(name, _)| name)),
        "{}",
        names.len()
    );
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn what_is_created_is_locked_from_the_first_moment() {
    let bucket = bucket("lock");
    assert_eq!(bucket.default_retention().await.unwrap(), LOCKED);
    assert_eq!(bucket.is_versioned().await.unwrap(), Some(true));
    assert!(
        bucket
            .create_if_absent("default", b"x".to_vec())
            .await
            .unwrap()
    );
    let until = SystemTime::now() + 30 * DAY;
    let mode = Mode::Compliance;
    bucket.retain(Retention { mode, until }, LOCKED);
    assert!(
        bucket
            .create_if_absent("longer", b"x".to_vec())
            .await
            .unwrap()
    );
    let shorter = self::bucket("lock");
    let soon = SystemTime::now() + DAY / 2;
    shorter.retain(Retention { mode, until: soon }, LOCKED);
    assert!(
        shorter
            .create_if_absent("shorter", b"x".to_vec())
            .await
            .unwrap()
    );
    for version in bucket.versions("").await.unwrap() {
        assert!(version.is_latest);
        let retention = bucket.retention(&version).await.unwrap().unwrap();
        assert_eq!(retention.mode, mode);
        let lasts = retention.until.duration_since(SystemTime::now()).unwrap();
        let days = (lasts.as_secs() + 60) / 86_400;
        let expected = if version.name == "longer" { 30 } else { 1 };
        assert_eq!(days, expected, "{version:?}");
    }
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn retention_is_extended_and_never_shortened() {
    let bucket = bucket("extended");
    assert!(bucket.create_if_absent("a", b"x".to_vec()).await.unwrap());
    let version = bucket.versions("").await.unwrap().remove(0);
    let mode = Mode::Compliance;
    let until = SystemTime::now() + 90 * DAY;
    bucket
        .set_retention(&version, &Retention { mode, until })
        .await
        .unwrap();
    let extended = bucket.retention(&version).await.unwrap().unwrap();
    assert!(extended.until >= until, "{extended:?}");
    let until = until - DAY;
    let error = bucket
        .set_retention(&version, &Retention { mode, until })
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("403"), "{error}");
    let mode = Mode::Governance;
    let until = until + 30 * DAY;
    assert!(
        bucket
            .set_retention(&version, &Retention { mode, until })
            .await
            .is_err()
    );
    assert_eq!(bucket.retention(&version).await.unwrap().unwrap(), extended);
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn legal_hold_is_set_and_lifted() {
    let bucket = bucket("held");
    assert!(
        bucket
            .create_if_absent("a=b/c", b"x".to_vec())
            .await
            .unwrap()
    );
    let version = bucket.versions("a=b/").await.unwrap().remove(0);
    assert!(!bucket.has_legal_hold(&version).await.unwrap());
    bucket.set_legal_hold(&version, true).await.unwrap();
    assert!(bucket.has_legal_hold(&version).await.unwrap());
    bucket.set_legal_hold(&version, false).await.unwrap();
    assert!(!bucket.has_legal_hold(&version).await.unwrap());
}

#[tokio::test]
#[ignore = "needs the server that scripts/archive-bucket starts"]
async fn bucket_without_a_lock_is_told_from_one_with_it() {
    for (name, expected, is_versioned) in [
        ("unlocked", DefaultRetention::NoLock, false),
        ("no-default", DefaultRetention::NoDefault, true),
    ] {
        let bucket = Bucket::new(BucketUrl::parse(&format!("s3://{name}")).unwrap());
        assert_eq!(bucket.default_retention().await.unwrap(), expected);
        assert_eq!(bucket.is_versioned().await.unwrap(), Some(is_versioned));
        assert!(bucket.create_if_absent("a", b"x".to_vec()).await.unwrap());
        for version in bucket.versions("").await.unwrap() {
            assert_eq!(bucket.retention(&version).await.unwrap(), None);
            assert!(!bucket.has_legal_hold(&version).await.unwrap());
        }
    }
}
