//! Chooses the folder of the logs, and checks whether other users can get at it.
//!
//! - Set in code or by `AUDIT_SPOOL_DIR`, `STATE_DIRECTORY` or `XDG_STATE_HOME`: used; a warning if
//!   others can move or replace files there.
//! - Below `HOME`: used if it is safe and can be written, else skipped.
//! - In the folder for temporary files: used with a warning; only a folder that is ours alone.
//!
//! A root that was set is not refused for its permissions: a volume of Kubernetes belongs to root,
//! and everybody can write an `emptyDir`. The folder of a process is for its owner alone in every
//! case, and only folders of our user are taken over.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;

use crate::clock::Moment;
use crate::record::id;

use super::files;

/// The folder below the state folder that contains the roots of all programs.
const FOLDER: &str = "tracing-audit";

/// A root, and what an operator must know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) note: Option<String>,
}

impl Root {
    /// Returns the configured root, or the default one for a program and its database.
    pub(crate) fn choose(
        set: Option<PathBuf>,
        service: &str,
        database: &PgConnectOptions,
    ) -> io::Result<Self> {
        match set {
            Some(path) => Ok(Self::of(path)),
            None => Self::default(&default_name(service, database)),
        }
    }

    /// Returns a configured root, with a note if it is unsafe.
    fn of(path: PathBuf) -> Self {
        let note = weakness(&path).map(|why| {
            format!(
                "the local log is in {}, where others can move or remove it: {why}; set AUDIT_SPOOL_DIR to a folder that \
                 only the program's user can write",
                path.display()
            )
        });
        Self { path, note }
    }

    /// Returns the default root called `name`.
    fn default(name: &str) -> io::Result<Self> {
        Self::default_by(name, &|name| std::env::var_os(name), &std::env::temp_dir())
    }

    fn default_by(
        name: &str,
        var: &dyn Fn(&str) -> Option<OsString>,
        temporary: &Path,
    ) -> io::Result<Self> {
        if let Some(state) = named(var) {
            return Ok(Self::of(state.join(FOLDER).join(name)));
        }
        let why = match home(var) {
            None => String::from("none of STATE_DIRECTORY, XDG_STATE_HOME and HOME names a folder"),
            Some(home) => {
                let path = home.join(".local/state").join(FOLDER).join(name);
                match usable(&home, &path) {
                    Ok(()) => return Ok(Self { path, note: None }),
                    Err(why) => format!("HOME ({}) cannot be used: {why}", home.display()),
                }
            }
        };
        let path = private_in(temporary)?.join(name);
        let note = Some(format!(
            "the local log is in {}, which may be emptied at any time and is gone with a container: {why}; set \
             AUDIT_SPOOL_DIR to a folder that outlives the program",
            path.display()
        ));
        Ok(Self { path, note })
    }
}

/// Returns the existing default roots of this user's programs.
pub(crate) fn default_roots() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name);
    let state = named(&var).or_else(|| Some(home(&var)?.join(".local/state")));
    let mut folders: Vec<_> = state.map(|state| state.join(FOLDER)).into_iter().collect();
    let temporary = std::env::temp_dir();
    folders.extend(
        our_uid(&temporary)
            .ok()
            .into_iter()
            .flat_map(|us| ours_in(&temporary, us)),
    );
    let mut roots: Vec<_> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    roots.sort();
    roots
}

/// Returns the state folder that the environment names. A relative path is ignored, as the XDG
/// specification demands; systemd separates several folders with a colon.
fn named(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let systemd = var("STATE_DIRECTORY")
        .and_then(|value| std::env::split_paths(&value).next())
        .filter(|path| path.is_absolute());
    systemd.or_else(|| absolute(var("XDG_STATE_HOME")))
}

fn home(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    absolute(var("HOME"))
}

fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Checks that the root below a home folder can be made and is safe there.
fn usable(home: &Path, root: &Path) -> Result<(), String> {
    // A missing home is not made: it means that the user has none.
    if !home.is_dir() {
        return Err(String::from("there is no such folder"));
    }
    files::create_private_dir(root).map_err(|error| error.to_string())?;
    our_uid(root).map_err(|error| error.to_string())?;
    weakness(root).map_or(Ok(()), Err)
}

/// Returns the user that this process makes files as. A file's owner shows it, without an unsafe
/// call, and as the file system sees it.
#[cfg(unix)]
pub(super) fn our_uid(folder: &Path) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let probe = folder.join(format!(".{}", id::new(Moment::now().wall_us())));
    let us = files::create_new(&probe)?.metadata()?.uid();
    files::remove_file(&probe)?;
    Ok(us)
}

#[cfg(not(unix))]
pub(super) fn our_uid(_: &Path) -> io::Result<u32> {
    Ok(0)
}

/// Returns why others could move or replace the contents of a folder: it, or a folder above it,
/// belongs to another user or can be written by everybody. Groups are trusted: that is how a
/// program gets a volume.
#[cfg(unix)]
fn weakness(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    // Only the existing part: what is made below it is ours.
    let there = folder
        .ancestors()
        .find_map(|path| path.canonicalize().ok())?;
    let us = our_uid(&there).ok();
    there.ancestors().find_map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        let (owner, mode) = (metadata.uid(), metadata.mode());
        if owner != 0 && us.is_some_and(|us| us != owner) {
            return Some(format!(
                "{} belongs to another user (uid {owner})",
                path.display()
            ));
        }
        let is_open = mode & OTHERS_WRITE != 0 && mode & STICKY == 0;
        is_open.then(|| format!("everybody can write in {}", path.display()))
    })
}

#[cfg(not(unix))]
fn weakness(_: &Path) -> Option<String> {
    None
}

/// Returns a folder of ours alone within one in which everybody may make folders. If another user
/// has taken its name, makes one with an unguessable name, which its owner finds again.
#[cfg(unix)]
fn private_in(temporary: &Path) -> io::Result<PathBuf> {
    let us = our_uid(temporary)?;
    let plain = temporary.join(format!("{FOLDER}-{us}"));
    match files::create_one_private_dir(&plain) {
        Ok(()) => return Ok(plain),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = ours_in(temporary, us).into_iter().next() {
        return Ok(folder);
    }
    let unguessed = temporary.join(format!(
        "{FOLDER}-{us}-{}",
        id::new(Moment::now().wall_us())
    ));
    files::create_one_private_dir(&unguessed)?;
    Ok(unguessed)
}

#[cfg(not(unix))]
fn private_in(temporary: &Path) -> io::Result<PathBuf> {
    Ok(temporary.join(FOLDER))
}

/// Returns the folders with this name that are ours alone, the plain one first.
#[cfg(unix)]
fn ours_in(temporary: &Path, us: u32) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let prefix = format!("{FOLDER}-{us}");
    let mut folders: Vec<_> = std::fs::read_dir(temporary)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let is_named = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            // The entry's own metadata: a link is not followed.
            is_named
                && entry.metadata().is_ok_and(|metadata| {
                    metadata.is_dir() && metadata.uid() == us && metadata.mode() & 0o022 == 0
                })
        })
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}

#[cfg(not(unix))]
fn ours_in(temporary: &Path, _: u32) -> Vec<PathBuf> {
    vec![temporary.join(FOLDER)]
}

/// Returns the default name of the folder of a program's logs.
fn default_name(service: &str, database: &PgConnectOptions) -> String {
    let service: String = service
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .take(64)
        .collect();
    format!("{service}-{}", fingerprint(database))
}

/// Returns a fingerprint of a database; without the password, so that it can change.
fn fingerprint(database: &PgConnectOptions) -> String {
    let hash = Sha256::new()
        .chain_update(database.get_host())
        .chain_update([0])
        .chain_update(database.get_port().to_le_bytes())
        .chain_update(database.get_socket().map_or_else(Vec::new, |socket| {
            socket.as_os_str().as_encoded_bytes().to_vec()
        }))
        .chain_update([0])
        .chain_update(database.get_database().unwrap_or_default())
        .finalize();
    hash[..6]
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("tracing-audit-roots-{}", id::new(0).simple()));
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
            Self(path)
        }

        fn root(&self, vars: &[(&str, &str)]) -> Root {
            let var = |name: &str| {
                let found = vars.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            Root::default_by("svc", &var, &self.0).unwrap()
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn without_a_state_folder_the_log_is_in_a_private_temporary_folder_with_a_warning() {
        let temporary = Temporary::new();
        for vars in [
            &[][..],
            &[("HOME", ""), ("XDG_STATE_HOME", "")],
            &[
                ("HOME", "here"),
                ("XDG_STATE_HOME", "state"),
                ("STATE_DIRECTORY", "s"),
            ],
            &[("HOME", "/nonexistent")],
            &[("HOME", "/dev/null")],
            &[("HOME", "/proc")],
        ] {
            let root = temporary.root(vars);
            let folder = root.path.parent().unwrap();
            assert_eq!(folder.parent(), Some(&*temporary.0), "{vars:?}");
            assert_eq!(mode(folder), 0o700);
            let note = root.note.unwrap();
            assert!(note.contains(&*root.path.to_string_lossy()), "{note}");
            assert!(note.contains("AUDIT_SPOOL_DIR"), "{note}");
        }
        assert!(!Path::new("/nonexistent").exists());
        assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 1);
    }

    #[test]
    fn folder_name_taken_by_another_user_is_avoided_and_the_fallback_is_reused() {
        let us = our_uid(&std::env::temp_dir()).unwrap();
        let name = format!("{FOLDER}-{us}");
        let takings: [fn(&Path); 3] = [
            |path| {
                fs::create_dir(path).unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            },
            |path| symlink("/var", path).unwrap(),
            |path| fs::write(path, "x").unwrap(),
        ];
        for take in takings {
            let temporary = Temporary::new();
            let taken = temporary.0.join(&name);
            take(&taken);
            let root = temporary.root(&[]);
            assert!(!root.path.starts_with(&taken), "{root:?}");
            assert_eq!(mode(root.path.parent().unwrap()), 0o700);
            assert_eq!(temporary.root(&[]), root);
        }
    }

    #[test]
    fn world_writable_home_is_skipped_and_a_group_writable_home_is_used() {
        let temporary = Temporary::new();
        let home = temporary.0.join("home");
        fs::create_dir(&home).unwrap();
        let vars = [("HOME", home.to_str().unwrap())];
        for (rights, is_used) in [(0o777, false), (0o775, true), (0o700, true)] {
            fs::set_permissions(&home, Permissions::from_mode(rights)).unwrap();
            let root = temporary.root(&vars);
            assert_eq!(root.path.starts_with(&home), is_used, "{root:?}");
            assert_eq!(root.note.is_none(), is_used, "{root:?}");
        }
    }

    #[test]
    fn configured_root_is_used_with_a_warning_if_it_is_unsafe() {
        let temporary = Temporary::new();
        let volume = temporary.0.join("volume");
        fs::create_dir(&volume).unwrap();
        // A volume that is given to a group, and an emptyDir.
        for (rights, is_said) in [(0o2775, false), (0o1777, false), (0o777, true)] {
            fs::set_permissions(&volume, Permissions::from_mode(rights)).unwrap();
            for path in [volume.clone(), volume.join("audit")] {
                let root = Root::of(path.clone());
                assert_eq!(root.path, path);
                assert_eq!(root.note.is_some(), is_said, "{rights:o} {root:?}");
            }
        }
        let systemd = format!("{}:/elsewhere", volume.display());
        let root = temporary.root(&[("STATE_DIRECTORY", &systemd), ("HOME", "/root")]);
        assert_eq!(root.path, volume.join(FOLDER).join("svc"));
    }

    #[test]
    fn the_default_folder_depends_on_the_database_but_not_on_the_password() {
        let of = |url: &str| default_name("svc/x", &url.parse().unwrap());
        assert_eq!(of("postgres://a:1@h/d"), of("postgres://a:2@h/d"));
        assert_ne!(of("postgres://a:1@h/d"), of("postgres://a:1@h/e"));
        assert!(of("postgres://h/d").starts_with("svc_x-"));
    }
}
