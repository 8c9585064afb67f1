//! Reads the password for a host from a passfile, as libpq does: lines of
//! `host:port:database:user:password`, `*` for any, a backslash before `:` and `\`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

/// How much of the file is read.
const FILE_BYTES: u64 = 1 << 20;

/// What a passfile holds for a host.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) password: Option<String>,
    /// Why the file was not read, to explain a password that is refused.
    pub(super) note: Option<String>,
}

/// Returns the password for this host, if the file has one. `None` for `path`: the user's own file.
///
/// A `hostaddr` says where a host is; the file still lists it by its `name`, if there is one.
pub(super) fn password(path: Option<&Path>, host: &PgConnectOptions, name: &str) -> Found {
    let Some(path) = path.map(PathBuf::from).or_else(default_path) else {
        return Found::default();
    };
    let not_read = |why: &str| Found {
        password: None,
        note: Some(format!("the passfile {} {why}", path.display())),
    };
    // Opening a FIFO would wait for a writer.
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::default(),
        Ok(data) if !data.is_file() => return not_read("is no regular file"),
        _ => {}
    }
    let Ok(file) = File::open(&path) else {
        return not_read("cannot be read by this program's user");
    };
    if !is_private(&file) {
        return not_read("is not read, since others may read it: chmod 600");
    }
    let mut text = Vec::new();
    if file.take(FILE_BYTES).read_to_end(&mut text).is_err() {
        return not_read("cannot be read");
    }
    let user = host.get_username();
    let place = match host.get_socket() {
        // A socket in a default folder goes by this name.
        Some(socket) if is_default_socket(socket) => String::from("localhost"),
        Some(socket) => socket.display().to_string(),
        None if !name.is_empty() => String::from(name),
        None => String::from(host.get_host()),
    };
    let port = host.get_port().to_string();
    let wanted = [
        place.as_str(),
        port.as_str(),
        host.get_database().unwrap_or(user),
        user,
    ];
    // A line may be in another encoding than the rest, and be for another server.
    let found = text
        .split(|byte| *byte == b'\n')
        .map(String::from_utf8_lossy)
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| matching(&line, wanted));
    match found {
        Some(password) if password.contains(char::REPLACEMENT_CHARACTER) => {
            not_read("has a password for this server that is no UTF-8")
        }
        password => Found {
            password,
            note: None,
        },
    }
}

fn default_path() -> Option<PathBuf> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?;
    Some(if cfg!(windows) {
        home.join("AppData/Roaming/postgresql/pgpass.conf")
    } else {
        home.join(".pgpass")
    })
}

fn is_default_socket(folder: &Path) -> bool {
    ["/tmp", "/var/run/postgresql", "/run/postgresql"]
        .iter()
        .any(|default| folder == Path::new(default))
}

/// Returns whether this is a regular file that nobody else may read.
#[cfg(unix)]
#[allow(clippy::verbose_bit_mask, reason = "as permissions are written")]
fn is_private(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &File) -> bool {
    true
}

/// Returns the password of a line, if its four other fields match.
fn matching(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.trim_end_matches('\r').chars();
    while let Some(c) = chars.next() {
        // A colon in the password need not be escaped.
        match c {
            '\\' => fields.last_mut()?.extend(chars.next()),
            ':' if fields.len() <= wanted.len() => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    let password = (fields.len() > wanted.len()).then(|| fields.pop())??;
    let is_match = fields
        .iter()
        .zip(wanted)
        .all(|(field, wanted)| field == "*" || field == wanted);
    is_match.then_some(password)
}
