//! The servers' folders: creates and claims them, and sweeps those whose tests were killed.
//!
//! ```text
//! TMPDIR/tracing-audit-tests-UID/
//!     lock                    held while the folders below are made or swept
//!     template-DAY-HASH/      a data folder as initdb leaves it, with the database `audit`
//!     PORT/                   one server: the port is reserved by the folder's name
//!         owner               locked by the process whose server it is, for as long as it lives
//!         data/  log  .s.PGSQL.PORT
//! ```
//!
//! The system releases a lock however the process that holds it ends.

use super::programs::{Programs, output, signal};
use super::{DATABASE, PATIENCE, wait_until};
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

const TEMPLATE: &str = "template-";
const OWNER: &str = "owner";

const INITDB: &[&str] = &[
    "-U",
    "postgres",
    "-E",
    "UTF8",
    "--locale=C",
    "-A",
    "trust",
    "--no-sync",
];

/// Below the ports that systems use for outgoing connections: one of those could take the port
/// while the server is stopped, and a client that keeps trying a stopped server could even connect
/// to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port and a folder for a new server, reserved by this process for as long as `owner` is open.
pub(super) struct Claim {
    pub(super) port: u16,
    pub(super) folder: PathBuf,
    pub(super) owner: File,
    /// The folder to copy the data folder from.
    pub(super) template: PathBuf,
}

pub(super) fn claim(programs: &Programs) -> Claim {
    let base = base_folder(programs);
    let lock = File::create(base.join("lock")).unwrap();
    lock.lock().unwrap();
    sweep(&base);
    let template = template(programs, &base);
    let (port, folder, owner) = reserve_port(&base);
    Claim {
        port,
        folder,
        owner,
        template,
    }
}

/// Returns a folder of this user that the account running the servers may enter.
fn base_folder(programs: &Programs) -> PathBuf {
    let base = std::env::temp_dir().join(format!("tracing-audit-tests-{}", programs.user));
    if let Err(error) = fs::create_dir(&base) {
        assert_eq!(
            error.kind(),
            io::ErrorKind::AlreadyExists,
            "{}: {error}",
            base.display()
        );
    }
    let found = fs::symlink_metadata(&base).unwrap();
    assert!(
        found.is_dir() && found.uid() == programs.user,
        "{} belongs to somebody else",
        base.display()
    );
    fs::set_permissions(&base, Permissions::from_mode(0o711)).unwrap();
    base
}

/// Returns the template, creating it if it does not exist.
fn template(programs: &Programs, base: &Path) -> PathBuf {
    // A new one each day: programs that clean a temporary folder by age remove single files from an
    // old one.
    let day = UNIX_EPOCH.elapsed().unwrap().as_secs() / (24 * 60 * 60);
    let mut hasher = DefaultHasher::new();
    (
        output(programs.command("postgres", base).arg("--version")),
        programs.folder(),
        INITDB,
    )
        .hash(&mut hasher);
    let template = base.join(format!("{TEMPLATE}{day}-{:016x}", hasher.finish()));
    if template.exists() {
        return template;
    }

    // Yesterday's may still be in use by a test that began before midnight.
    for (name, folder) in entries(base) {
        let made = name
            .strip_prefix(TEMPLATE)
            .and_then(|rest| rest.split('-').next()?.parse().ok());
        if made.is_some_and(|made: u64| made + 1 < day) {
            let _ = fs::remove_dir_all(folder);
        }
    }
    // Created under another name, so that a half-finished one is never taken for complete.
    let partial = base.join("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir(&partial).unwrap();
    programs.give(&partial);
    output(
        programs
            .command("initdb", &partial)
            .args(INITDB)
            .args(["-D", "."]),
    );
    output(&mut create_database(programs, &partial));
    fs::rename(&partial, &template).unwrap();
    template
}

/// Uses the server's single-user mode, because not every distribution of Postgres has `createdb` or
/// `psql`.
fn create_database(programs: &Programs, data: &Path) -> Command {
    let statement = data.join("create-database.sql");
    fs::write(&statement, format!("CREATE DATABASE {DATABASE}\n")).unwrap();
    let mut command = programs.command("postgres", data);
    command
        .args(["--single", "-F", "-D", ".", "postgres"])
        .stdin(File::open(statement).unwrap());
    command
}

/// Creates the folder of a new server, named for its port, and locks it for this process.
fn reserve_port(base: &Path) -> (u16, PathBuf, File) {
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port =
            PORTS.start + u16::try_from(random % u64::from(PORTS.end - PORTS.start)).unwrap();
        let folder = base.join(port.to_string());
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            continue;
        }
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.unwrap(),
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
        let owner = File::create(folder.join(OWNER)).unwrap();
        owner.lock().unwrap();
        return (port, folder, owner);
    }
}

/// Stops the servers whose tests were killed: their `Drop` did not run.
fn sweep(base: &Path) {
    for (name, folder) in entries(base) {
        // Without the file, the process was killed while it created or removed the folder.
        let left_behind = name.parse::<u16>().is_ok()
            && File::open(folder.join(OWNER)).map_or(true, |owner| owner.try_lock().is_ok());
        if left_behind {
            stop_left_behind(&folder.join("data"));
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

fn stop_left_behind(data: &Path) {
    let Some(pid) = fs::read_to_string(data.join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.parse().ok())
    else {
        return;
    };
    if runs_on(pid, data) {
        signal(pid, "QUIT");
        wait_until("a server left by a killed test stops", PATIENCE, || {
            !runs_on(pid, data)
        });
    }
}

/// Whether the process is the server on this data folder. The id alone may belong to another
/// program by now.
fn runs_on(pid: u32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if Path::new("/proc/self").exists() {
        return fs::read_link(process.join("cwd"))
            .is_ok_and(|folder| Some(folder) == data.canonicalize().ok());
    }
    let arguments = Command::new("ps")
        .args(["-o", "args=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&arguments.stdout).contains(&*data.to_string_lossy())
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect()
}
