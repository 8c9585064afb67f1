//! What verification says of an archive that somebody changed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::*;

impl Setting {
    /// Returns a setting with an archive of two days.
    fn archived() -> Self {
        let setting = Self::start();
        setting.fill(&format!("{DAY} 12:00"), 120);
        setting.fill(&format!("{NEXT_DAY} 12:00"), 60);
        setting.seal();
        assert!(!setting.archive().is_empty());
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Returns the names of all objects with this ending.
    fn objects(&self, ending: &str) -> Vec<String> {
        let mut names = files(&self.folder());
        names.retain(|name| name.ends_with(ending));
        assert!(!names.is_empty());
        names
    }

    /// Fails unless exactly these objects are named, and each for this reason.
    #[track_caller]
    fn assert_found(&self, kind: &str, objects: &[String]) {
        let found: BTreeSet<(String, String)> = self.verify(&[]).found().into_iter().collect();
        let expected = objects.iter().map(|name| (kind.to_owned(), name.clone()));
        assert_eq!(found, expected.collect());
    }
}

#[test]
fn every_object_of_which_a_byte_was_changed_is_named() {
    let setting = Setting::archived();
    for (ending, kind) in [
        (".parquet", "object_changed"),
        (".batches", "object_changed"),
        (".manifest", "manifest_invalid"),
    ] {
        let names = setting.objects(ending);
        let whole: Vec<Vec<u8>> = names
            .iter()
            .map(|name| fs::read(setting.path(name)).unwrap())
            .collect();
        // The head, the foot, and places between them.
        for place in 0..24 {
            for (name, bytes) in names.iter().zip(&whole) {
                let at = match place {
                    0..4 => place,
                    4..12 => bytes.len() - (place - 3),
                    _ => bytes.len() * (place - 12) / 12,
                };
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (place % 8);
                fs::write(setting.path(name), changed).unwrap();
            }
            setting.assert_found(kind, &names);
        }
        for (name, bytes) in names.iter().zip(&whole) {
            let longer = [&bytes[..], b"\n"].concat();
            fs::write(setting.path(name), longer).unwrap();
        }
        setting.assert_found(kind, &names);
        for (name, bytes) in names.iter().zip(&whole) {
            fs::write(setting.path(name), &bytes[..bytes.len() - 1]).unwrap();
        }
        setting.assert_found(kind, &names);
        for (name, bytes) in names.iter().zip(&whole) {
            fs::write(setting.path(name), bytes).unwrap();
        }
        setting.verify(&[]).assert_clean();
    }
}

#[test]
fn objects_that_changed_places_are_named() {
    let setting = Setting::archived();
    for (ending, kind) in [
        (".parquet", "object_changed"),
        (".batches", "object_changed"),
        (".manifest", "manifest_invalid"),
    ] {
        let names = &setting.objects(ending)[..2];
        let [one, other] = [0, 1].map(|at| fs::read(setting.path(&names[at])).unwrap());
        fs::write(setting.path(&names[0]), &other).unwrap();
        fs::write(setting.path(&names[1]), &one).unwrap();
        setting.assert_found(kind, names);
        fs::write(setting.path(&names[0]), &one).unwrap();
        fs::write(setting.path(&names[1]), &other).unwrap();
    }
    setting.verify(&[]).assert_clean();
}

#[test]
fn objects_that_are_missing_and_that_are_more_are_named() {
    let setting = Setting::archived();
    for (ending, kind) in [
        (".parquet", "object_missing"),
        (".batches", "object_missing"),
        (".manifest", "set_unfinished"),
    ] {
        let name = setting.objects(ending).remove(0);
        let bytes = fs::read(setting.path(&name)).unwrap();
        fs::remove_file(setting.path(&name)).unwrap();
        setting.assert_found(kind, std::slice::from_ref(&name));
        fs::write(setting.path(&name), bytes).unwrap();
    }
    let folder = day_folder("events", DAY);
    for (name, kind) in [
        ("0001-00009.parquet", "object_unknown"),
        ("0001-1.parquet", "object_unknown"),
        ("notes.txt", "object_unknown"),
        ("_0002.batches", "set_unfinished"),
    ] {
        let name = format!("{folder}/{name}");
        fs::write(setting.path(&name), b"").unwrap();
        let named = match kind {
            "set_unfinished" => format!("{folder}/_0002.manifest"),
            _ => name.clone(),
        };
        setting.assert_found(kind, &[named]);
        fs::remove_file(setting.path(&name)).unwrap();
    }
    setting.verify(&[]).assert_clean();
}

#[test]
fn set_that_is_missing_before_another_is_named() {
    let setting = Setting::archived();
    setting.fill(&format!("{DAY} 10:00"), 30);
    setting.seal();
    setting.archive();
    let folder = day_folder("events", DAY);
    for name in files(&setting.path(&folder)) {
        if name.contains("0001") {
            fs::remove_file(setting.path(&folder).join(name)).unwrap();
        }
    }
    let found: BTreeSet<(String, String)> = setting.verify(&[]).found().into_iter().collect();
    let of = |kind: &str, set: u32| (kind.to_owned(), format!("{folder}/_000{set}.manifest"));
    let expected = [of("set_missing", 1), of("sets_out_of_order", 2)];
    assert_eq!(found, expected.into_iter().collect());
    // Nor is anything more written there, also where the trail does not know what there was.
    setting.forget_archives();
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains(&folder), "{}", stderr(&output));
}

#[test]
fn manifest_that_another_key_has_signed_is_refused() {
    let setting = Setting::archived();
    let key = setting.scratch.0.join("forger");
    let made = program(&setting.postgres.url())
        .args(["key", "new", "--name", ORIGIN])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    // What has a key of the same name writes all of it anew, with a checkpoint that is not its own.
    let names = setting.objects(".manifest");
    let whole: Vec<Vec<u8>> = names
        .iter()
        .map(|name| fs::read(setting.path(name)).unwrap())
        .collect();
    for name in &names {
        fs::remove_file(setting.path(name)).unwrap();
    }
    setting.forget_archives();
    let mut forging = program(&setting.login("auditor"));
    let forged = forging
        .args(["archive", "--copy", "--key"])
        .arg(&key)
        .args(["--old-key", &setting.vkey, "--to"])
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(forged.status.code(), Some(0), "{}", stderr(&forged));
    setting.assert_found("manifest_invalid", &names);
    for (name, bytes) in names.iter().zip(&whole) {
        fs::write(setting.path(name), bytes).unwrap();
    }
    setting.verify(&[]).assert_clean();
    let other = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["archive", "verify", "--key"])
        .arg(String::from_utf8(made.stdout).unwrap().trim())
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
}

#[test]
fn month_on_another_disk_is_read_by_its_link_and_what_has_an_odd_name_is_named() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 40);
    setting.seal();
    setting.archive();
    let rows = setting.verify(&[]).assert_clean();
    let month = setting.folder().join("kind=events/month=2026-03");
    let disk = setting.scratch.0.join("disk");
    fs::rename(&month, &disk).unwrap();
    symlink(&disk, &month).unwrap();
    // One that leads back to where it is.
    symlink(setting.folder(), setting.folder().join("again")).unwrap();
    let found = setting.verify(&[]).found();
    assert!(
        !found.is_empty() && found.iter().all(|(_, object)| object.starts_with("again/")),
        "{found:?}"
    );
    fs::remove_file(setting.folder().join("again")).unwrap();
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
    assert_eq!(setting.archive(), Vec::<Value>::new());
    fs::write(disk.join(OsStr::from_bytes(b"\xff.parquet")), b"").unwrap();
    // One that another run is writing, and may be gone at any moment.
    symlink("nothing", disk.join(".new-0123456789abcdef")).unwrap();
    let found = setting.verify(&[]).found();
    let object = String::from("kind=events/month=2026-03/\u{fffd}.parquet");
    assert_eq!(found, [(String::from("object_unknown"), object)]);
}

#[test]
fn disk_of_a_month_that_is_away_is_no_empty_month() {
    let setting = Setting::archived();
    let month = setting.folder().join("kind=events/month=2026-03");
    let disk = setting.scratch.0.join("disk");
    fs::rename(&month, &disk).unwrap();
    symlink(setting.scratch.0.join("away"), &month).unwrap();
    let verified = setting.verify(&[]).0;
    let copied = setting.command(&[]).output().unwrap();
    for output in [verified, copied] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("kind=events/month=2026-03"), "{said}");
    }
    fs::remove_file(&month).unwrap();
    symlink(&disk, &month).unwrap();
    setting.verify(&[]).assert_clean();
}

#[test]
fn what_the_file_system_has_in_its_root_is_left_alone() {
    let setting = Setting::archived();
    let own = setting.folder().join("lost+found");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("#12"), b"").unwrap();
    setting.verify(&[]).assert_clean();
    assert_eq!(setting.archive(), Vec::<Value>::new());
}
