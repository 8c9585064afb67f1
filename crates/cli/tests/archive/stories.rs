//! The story of a request, out of the archive.

use std::io::Write as _;

use super::*;

fn without_database() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command
        .env_remove("AUDIT_DATABASE_URL")
        .env_remove("DATABASE_URL");
    command
}

/// Proves the story of a request, as people read it.
fn proven(setting: &Setting, more: &[&str]) -> Output {
    without_database()
        .args(["show", "request 2", "--verify", "--key", &setting.vkey])
        .args(more)
        .arg("--archive")
        .arg(setting.folder())
        .output()
        .unwrap()
}

#[test]
fn story_is_shown_once_with_what_is_in_both_and_then_from_files_alone() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{NEXT_DAY} 12:00"), 50);
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    let before = setting.of_database("request 2");
    assert!(before.len() > 8, "{before:?}");
    setting.archive();
    // While both have them, each is shown once, from the database.
    let auditor = || program(&setting.login("auditor"));
    let (both, archived) = setting.show(&mut auditor(), "request 2", &[]);
    assert_eq!((&both, archived), (&before, 0));
    setting.remove(0);
    let (after, archived) = setting.show(&mut auditor(), "request 2", &[]);
    assert_eq!((&after, archived), (&before, before.len()));
    // The database is gone.
    let (alone, _) = setting.show(&mut without_database(), "request 2", &[]);
    assert_eq!(alone, before);
    // One record by its id.
    let id = before.keys().next().unwrap();
    let (one, _) = setting.show(&mut without_database(), id, &[]);
    assert_eq!(one.values().collect::<Vec<_>>(), [&before[id]]);
    // Those of a tenant, by its key; and of a day.
    let tenant = setting
        .postgres
        .psql("SELECT audit.tenant_uuid('tenant 1')");
    let of_tenant = before.iter();
    let of_tenant = of_tenant.filter(|(_, record)| record["tenant_id"] == tenant.trim());
    let of_tenant = of_tenant.map(|(id, record)| (id.clone(), record.clone()));
    let tenant = ["--tenant", "tenant 1"];
    let (shown, _) = setting.show(&mut without_database(), "request 2", &tenant);
    assert_eq!(shown, of_tenant.collect());
    assert!(!shown.is_empty() && shown.len() < before.len());
    let day = ["--since", DAY, "--until", DAY];
    let (of_day, _) = setting.show(&mut without_database(), "request 2", &day);
    assert!(!of_day.is_empty() && of_day.len() < before.len());
}

#[test]
fn story_is_proven_from_files_and_key_or_not_shown() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let day = ["--since", DAY, "--until", DAY];
    let output = proven(&setting, &day);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    let proof = "proven by the log's signed checkpoint";
    assert!(said.contains(proof), "{said}");
    // With another key nothing is shown.
    let other = program(&setting.postgres.url())
        .args(["key", "new", "--name", ORIGIN])
        .arg(setting.scratch.0.join("other"))
        .output()
        .unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    let refused = without_database()
        .args(["show", "request 2", "--key", other.trim(), "--archive"])
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(refused.stdout.is_empty());
    assert!(stderr(&refused).contains("_0001.manifest is not signed"));
    // Of a file that was changed nothing is proven.
    let folder = setting.folder().join(day_folder("events", DAY));
    let file = folder.join("0001-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 4;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let refused = proven(&setting, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(refused.stdout.is_empty());
    assert!(stderr(&refused).contains("kind=events"));
    // A request that is nowhere.
    let output = without_database()
        .args(["show", "request none", "--json", "--key", &setting.vkey])
        .arg("--archive")
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(output.stdout, b"[]\n");
}

#[test]
fn story_of_which_a_footer_hides_a_part_is_not_proven() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive();
    let day = ["--since", DAY, "--until", DAY];
    let shown = || {
        setting
            .show(&mut without_database(), "request 2", &day)
            .0
            .len()
    };
    let all = shown();
    // Its least and greatest request are others than it has.
    let folder = setting.folder().join(day_folder("query_runs", DAY));
    let file = folder.join("0001-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len() - 8;
    let footer = u32::from_le_bytes(bytes[end..][..4].try_into().unwrap()) as usize;
    let footer = &mut bytes[end - footer..end];
    for at in 0..footer.len() - 8 {
        if footer[at..].starts_with(b"request ") {
            footer[at..at + 8].copy_from_slice(b"zzzzzzz ");
        }
    }
    fs::write(&file, &bytes).unwrap();
    let fewer = shown();
    assert!(0 < fewer && fewer < all, "{fewer} of {all}");
    let refused = proven(&setting, &day);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(refused.stdout.is_empty());
    let said = stderr(&refused);
    assert!(said.contains("kind=query_runs"), "{said}");
}

/// Returns a file of Parquet with bytes between its pages and its footer, so that it is so long.
fn padded(file: &[u8], length: usize) -> Vec<u8> {
    let footer = u32::from_le_bytes(file[file.len() - 8..][..4].try_into().unwrap());
    let (pages, footer) = file.split_at(file.len() - 8 - footer as usize);
    let between = vec![0; length - file.len()];
    [pages, &between, footer].concat()
}

#[test]
fn story_that_was_something_else_when_it_was_found_is_not_proven() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    // As many rows of the same requests, which say less.
    setting.postgres.psql("CREATE OR REPLACE FUNCTION hostile(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'forged' $$");
    setting.fill(&format!("{NEXT_DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let file = |day: &str| {
        let folder = setting.folder().join(day_folder("activities", day));
        folder.join("0001-00000.parquet")
    };
    let (true_file, other) = (
        fs::read(file(DAY)).unwrap(),
        fs::read(file(NEXT_DAY)).unwrap(),
    );
    fs::write(file(DAY), padded(&other, true_file.len())).unwrap();
    // The manifest is read when the request is looked for, and again when it is proven: then the file is what it was.
    let folder = setting.folder().join(day_folder("activities", DAY));
    let manifest = folder.join("_0001.manifest");
    let signed = fs::read(&manifest).unwrap();
    let pipes = ["first", "second"].map(|name| setting.scratch.0.join(name));
    let made = Command::new("mkfifo").args(&pipes).status().unwrap();
    assert!(made.success());
    fs::rename(&pipes[0], &manifest).unwrap();
    let showing = without_database()
        .args(["show", "request 2", "--json", "--verify", "--since", DAY])
        .args(["--until", DAY, "--key", &setting.vkey, "--archive"])
        .arg(setting.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let wait = || fs::OpenOptions::new().write(true).open(&manifest).unwrap();
    let mut looking = wait();
    fs::rename(&pipes[1], &manifest).unwrap();
    looking.write_all(&signed).unwrap();
    drop(looking);
    let mut proving = wait();
    fs::write(file(DAY), &true_file).unwrap();
    proving.write_all(&signed).unwrap();
    drop(proving);
    let output = showing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}{}", stderr(&output));
    assert!(!said.contains("forged"), "{said}");
    assert!(stderr(&output).contains("were something else a moment before"));
}
