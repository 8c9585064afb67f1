//! What is left of an archive whose writing was interrupted, and how it goes on.

use std::fs;

use testkit::child::wrapped;
use testkit::{Chance, let_run};

use super::*;

/// Returns the bytes of all objects but the manifests, which say when they were written.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files(folder).into_iter();
    names
        .filter(|name| !name.ends_with(".manifest") && !name.contains(".new-"))
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// Removes all but one day of a table: a place that has nothing any more is not written to.
fn begin_anew(setting: &Setting) {
    setting.forget_archives();
    let kept = day_folder("events", "2026-03-01");
    for name in files(&setting.folder()) {
        if !name.starts_with(&kept) {
            fs::remove_file(setting.folder().join(name)).unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment_an_archive_goes_on_with_the_same_bytes() {
    let setting = Setting::start();
    for day in 1..=6 {
        setting.fill(&format!("2026-03-0{day} 12:00"), 60);
    }
    setting.seal();
    setting.archive();
    let rows = setting.verify(&[]).assert_clean();
    let whole = contents(&setting.folder());
    let manifests = files(&setting.folder()).len() - whole.len();
    let mut chance = Chance::new();
    begin_anew(&setting);
    let mut killed = 0;
    while killed < 30 {
        let mut running = setting.command(&[]).stdout(Stdio::null()).spawn().unwrap();
        let_run(50 + chance.below(400));
        if running.try_wait().unwrap().is_none() {
            running.kill().unwrap();
            killed += 1;
        }
        let ended = running.wait().unwrap();
        if ended.success() {
            assert_eq!(setting.verify(&[]).assert_clean(), rows);
            assert_eq!(contents(&setting.folder()), whole);
            begin_anew(&setting);
        } else {
            assert_eq!(ended.code(), None, "it was killed, or has failed by itself");
        }
    }
    setting.archive();
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
    assert_eq!(contents(&setting.folder()), whole);
    let objects = files(&setting.folder()).into_iter();
    let objects = objects.filter(|name| name.ends_with(".manifest")).count();
    assert_eq!(objects, manifests);
}

#[test]
fn object_of_another_run_is_never_overwritten() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 60);
    setting.seal();
    setting.archive();
    let folder = setting.folder().join(day_folder("events", DAY));
    let file = folder.join("0001-00000.parquet");
    setting.forget_archives();
    fs::remove_file(folder.join("_0001.manifest")).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("0001-00000.parquet"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert!(!folder.join("_0001.manifest").exists());
}

#[test]
fn disk_that_is_full_at_any_object_is_told_and_the_archive_goes_on() {
    let setting = Setting::start();
    for day in 1..=2 {
        setting.fill(&format!("2026-03-0{day} 12:00"), 200);
    }
    setting.seal();
    setting.archive();
    let rows = setting.verify(&[]).assert_clean();
    let whole = contents(&setting.folder());
    begin_anew(&setting);
    let mut failed = 0;
    // In blocks of 1,024 bytes: the first object that is larger cannot be written.
    for limit in [0, 1, 2, 4, 8, 12, 16, 1_000] {
        let mut shell = Command::new("bash");
        // Writes fail instead of ending the program.
        let limited = "trap '' XFSZ; ulimit -S -f \"$0\"; exec \"$@\"";
        shell.args(["-c", limited, &limit.to_string()]);
        let output = wrapped(shell, &setting.command(&[])).output().unwrap();
        if !output.status.success() {
            failed += 1;
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            assert!(
                stderr(&output).contains("File too large"),
                "{}",
                stderr(&output)
            );
            assert!(limit < 1_000);
        }
        // Nothing has its name before it is whole.
        for (name, bytes) in contents(&setting.folder()) {
            assert!(whole.contains(&(name.clone(), bytes)), "{name}");
        }
    }
    assert!(failed > 2, "{failed}");
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
    assert_eq!(contents(&setting.folder()), whole);
}
