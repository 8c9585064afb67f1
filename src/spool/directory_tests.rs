use super::super::Runs;
use super::super::chunk::tests::buffer;
use super::super::log::tests::set_version;
use super::*;

struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("tracing-audit-root-{}", id::new(0).simple())))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn adopt(root: &Root) -> Vec<(Directory, Log)> {
    all(&root.0)
        .iter()
        .filter_map(|path| Directory::take_over(path, &root.0).unwrap())
        .collect()
}

#[test]
fn locked_folder_is_left_alone_and_an_orphaned_one_is_taken_over_once() {
    let root = Root::new();
    let held = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    let dead = Directory::create(&root.0, "b", Positions::BEGINNING).unwrap();
    let writer = dead.1.writer();
    drop(dead);
    let adopted = adopt(&root);
    assert_eq!(
        adopted
            .iter()
            .map(|(_, log)| log.writer())
            .collect::<Vec<_>>(),
        [writer]
    );
    assert_eq!(adopt(&root).len(), 0);
    drop(held);
}

#[test]
fn takeover_waits_for_a_reader_and_not_for_an_owner() {
    let root = Root::new();
    drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap());
    let path = all(&root.0).remove(0);
    let reader = open_lock_to_look(&path).unwrap();
    reader.lock_shared().unwrap();
    let lock = open_plain(&path.join("lock")).unwrap();
    let patience = Duration::from_millis(50);
    let began = Instant::now();
    assert!(!lock_unless_owned(&lock, patience).unwrap(), "it is read");
    assert!(began.elapsed() >= patience, "it was waited for");
    let taken = std::thread::scope(|scope| {
        let taking = scope.spawn(|| Directory::take_over(&path, &root.0).unwrap());
        drop(reader);
        taking.join().unwrap()
    });
    assert!(taken.is_some());
    let (hour, began) = (Duration::from_hours(1), Instant::now());
    assert!(!lock_unless_owned(&lock, hour).unwrap(), "it is owned");
    assert!(began.elapsed() < hour, "its owner is not waited for");
    assert_eq!(orphans(&root.0, Path::new("")).0, 0, "it is owned");
}

#[test]
fn folder_without_a_log_is_removed() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    drop(log);
    fs::remove_file(directory.path.join("spool.redb")).unwrap();
    drop(directory);
    // As after a process that died while it removed its folder.
    fs::create_dir(root.0.join(id::new(0).to_string())).unwrap();
    assert_eq!(adopt(&root).len(), 0);
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
}

#[test]
fn orphaned_log_without_a_lock_file_is_counted_and_taken_over_once() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    let path = directory.path.clone();
    fs::remove_file(path.join("lock")).unwrap();
    assert_eq!(orphans(&root.0, Path::new("")).0, 0, "its process has it");
    assert!(
        Directory::take_over(&path, &root.0).unwrap().is_none(),
        "its process has it, without the file"
    );
    fs::remove_file(path.join("lock")).unwrap();
    drop((directory, log));
    assert_eq!(orphans(&root.0, Path::new("")).0, 1);
    let taken = adopt(&root);
    assert_eq!(taken.len(), 1);
    assert_eq!(adopt(&root).len(), 0, "it is held");
}

#[test]
fn folder_with_unknown_files_and_no_lock_file_is_refused_and_kept() {
    let root = Root::new();
    let path = root.0.join(id::new(0).to_string());
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("spool.v2"), "of a later version").unwrap();
    let refused = Directory::take_over(&path, &root.0).unwrap_err();
    assert!(matches!(refused, DirectoryError::NotKnown), "{refused:?}");
    assert!(path.join("spool.v2").exists());
}

#[test]
fn damaged_log_is_reported_and_left_in_place() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    drop(log);
    let file = directory.path.join("spool.redb");
    fs::write(&file, b"this is no log").unwrap();
    drop(directory);
    let path = &all(&root.0)[0];
    let refused = Directory::take_over(path, &root.0);
    assert!(
        matches!(refused, Err(DirectoryError::Log(_))),
        "{refused:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"this is no log");
}

/// Returns what is in the root long after, when the next process has started.
fn left_for_ever(root: &Root) -> Vec<String> {
    for (directory, log) in adopt(root) {
        assert_eq!(log.next_seq(), 1);
        drop(log);
        directory.remove().unwrap();
    }
    sweep_older_than(&root.0, Duration::ZERO);
    fs::read_dir(&root.0)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Runs `run` as a process that is killed after each operation, in turn; `next` is the next
/// process. Returns after how many operations `run` completes.
fn kill_at_each<T>(mut run: impl FnMut(&Root) -> T, mut next: impl FnMut(&Root)) -> usize {
    (0..1_000)
        .find(|operations| {
            let root = Root::new();
            let done = files::tests::killed_after(*operations, || run(&root)).is_some();
            next(&root);
            done
        })
        .unwrap()
}

#[test]
fn kill_while_a_folder_is_created_leaves_nothing_permanently() {
    let operations = kill_at_each(
        |root| drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap()),
        |root| assert_eq!(left_for_ever(root), [""; 0]),
    );
    assert!(operations >= 6, "{operations}");
}

#[test]
fn kill_while_a_folder_is_removed_or_taken_over_leaves_nothing_permanently() {
    let operations = kill_at_each(
        |root| {
            drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap());
            for (directory, log) in adopt(root) {
                drop(log);
                directory.remove().unwrap();
            }
        },
        |root| assert_eq!(left_for_ever(root), [""; 0]),
    );
    assert!(operations >= 11, "{operations}");
}

#[test]
fn kill_while_a_folder_is_set_aside_keeps_its_contents() {
    let operations = kill_at_each(
        |root| {
            let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
            drop(log);
            let path = directory.path.clone();
            drop(directory);
            fs::write(path.join("spool.redb"), b"this is no log").unwrap();
            Directory::set_aside(&path).unwrap();
        },
        |root| {
            let folders = fs::read_dir(&root.0).into_iter().flatten().flatten();
            for folder in folders {
                let log = folder.path().join("spool.redb");
                let bytes = fs::read(log).unwrap_or_default();
                let is_damaged = bytes.starts_with(b"this");
                let name = folder.file_name().into_string().unwrap();
                assert!(is_damaged || !name.starts_with("damaged"), "{name}");
            }
        },
    );
    assert!(operations >= 7, "{operations}");
}

#[test]
fn sweep_keeps_young_locked_and_unknown_folders() {
    let root = Root::new();
    fs::create_dir(&root.0).unwrap();
    let new = |name: &str| {
        let path = root.0.join(name);
        fs::create_dir(&path).unwrap();
        File::create_new(path.join("lock")).unwrap()
    };
    let young = format!(".{}", id::new(0));
    drop(new(&young));
    File::create_new(root.0.join(format!(".{}", id::new(1)))).unwrap();
    sweep(&root.0);
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 2);
    sweep_older_than(&root.0, Duration::ZERO);
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
    // Its process is alive.
    let held = new(&young);
    held.lock().unwrap();
    // These are not ours to remove.
    drop(new(".config"));
    drop(new(&format!("damaged-{}", id::new(0))));
    let full = root.0.join(format!(".{}", id::new(2)));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), b"x").unwrap();
    sweep_older_than(&root.0, Duration::ZERO);
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 4);
    assert!(root.0.join(&young).join("lock").exists());
    assert!(full.join("precious").exists());
}

/// Returns the files in the folder of a dead process.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut contents: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    contents.sort();
    contents
}

#[test]
fn log_of_a_newer_version_is_refused_and_loses_no_record() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    let frames: [&[u8]; 2] = [b"a", b"b"];
    log.append(&[buffer(&frames)], Positions::BEGINNING, &Runs::default())
        .unwrap();
    drop(log);
    let path = directory.path.clone();
    let file = path.join("spool.redb");
    set_version(&file, 2);
    drop(directory);
    for _ in 0..2 {
        let refused = Directory::take_over(&path, &root.0).unwrap_err();
        assert!(
            matches!(refused, DirectoryError::Log(LogError::Version(2))),
            "{refused:?}"
        );
        assert!(!refused.is_damage());
    }
    // A program that can read it loses nothing.
    set_version(&file, 1);
    let (_, log) = Directory::take_over(&path, &root.0).unwrap().unwrap();
    assert_eq!((log.first_seq(), log.next_seq()), (1, 3));
}

#[test]
fn folder_with_another_log_format_is_refused_and_left_unchanged() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    drop(log);
    let path = directory.path.clone();
    fs::rename(path.join("spool.redb"), path.join("spool.v2")).unwrap();
    drop(directory);
    let before = contents(&path);
    let refused = Directory::take_over(&path, &root.0).unwrap_err();
    assert!(matches!(refused, DirectoryError::NotKnown), "{refused:?}");
    assert!(!refused.is_damage());
    assert_eq!(contents(&path), before);
}

#[test]
#[cfg(unix)]
fn folder_is_private_to_its_owner_and_one_of_another_user_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    drop(log);
    for path in [&root.0, &directory.path] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    let path = directory.path.clone();
    drop(directory);
    // Only root can change a folder's owner; the kernel stops others from doing so.
    if chown(&path, Some(65_534), None).is_ok() {
        let refused = Directory::take_over(&path, &root.0);
        assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
    }
}

#[test]
#[cfg(unix)]
fn link_pipe_or_writable_folder_in_place_of_a_log_is_refused_without_blocking() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    let path = directory.path.clone();
    drop((log, directory));
    for name in ["lock", LOG_FILE] {
        let (file, kept) = (path.join(name), path.join("kept"));
        fs::rename(&file, &kept).unwrap();
        for plant in [&pipe as &dyn Fn(&Path), &|file: &Path| {
            symlink(&kept, file).unwrap();
        }] {
            plant(&file);
            let refused = Directory::take_over(&path, &root.0);
            assert!(matches!(refused, Err(DirectoryError::Io(_))), "{refused:?}");
            fs::remove_file(&file).unwrap();
        }
        fs::hard_link(&kept, &file).unwrap();
        let refused = Directory::take_over(&path, &root.0);
        assert!(matches!(refused, Err(DirectoryError::Io(_))), "{refused:?}");
        fs::remove_file(&file).unwrap();
        fs::rename(&kept, &file).unwrap();
    }
    let link = root.0.join(id::new(0).to_string());
    symlink(&path, &link).unwrap();
    let refused = Directory::take_over(&link, &root.0);
    assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
    fs::remove_file(&link).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Directory::take_over(&path, &root.0);
    assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
    // As Kubernetes leaves a volume that it gives to a group.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2770)).unwrap();
    assert!(Directory::take_over(&path, &root.0).unwrap().is_some());
    // An unfinished folder.
    let making = root.0.join(format!(".{}", id::new(1)));
    fs::create_dir(&making).unwrap();
    pipe(&making.join("lock"));
    sweep_older_than(&root.0, Duration::ZERO);
    assert!(making.exists());
}

#[test]
fn remove_deletes_the_folder_and_its_files() {
    let root = Root::new();
    let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
    drop(log);
    directory.remove().unwrap();
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
}
