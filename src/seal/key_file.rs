//! The file with the signing key, or with what opens its token.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::ledger::key::MemoryKey;

/// Longer than any key.
const MAX_BYTES: u64 = 4096;

/// Reads a signing key. On Unix the file must be its user's alone; one of root's may be readable by its group.
///
/// # Errors
/// If it cannot be read, if others can read it, or if it holds no key.
pub fn read(path: &Path) -> io::Result<MemoryKey> {
    parse(&read_secret(path)?)
}

/// Reads a file that, as that of a signing key, nobody else can read.
///
/// # Errors
/// If it cannot be read, or if others can read it.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    refuse_if_others_can_read(&file)?;
    let mut text = Zeroizing::new(String::with_capacity(1024));
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a signing key from its text, `PRIVATE+KEY+...`.
///
/// # Errors
/// If it is not one.
pub fn parse(text: &str) -> io::Result<MemoryKey> {
    MemoryKey::parse(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a new signing key to a file that is not there yet, and returns the key.
///
/// # Errors
/// If the file is there, or cannot be written, or if the name cannot be a key's.
pub fn create(path: &Path, name: &str) -> io::Result<MemoryKey> {
    let key = MemoryKey::generate(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let text = Zeroizing::new(format!("{}\n", &*key.secret_text()));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(unix)]
fn refuse_if_others_can_read(file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let about = file.metadata()?;
    // As Postgres does with the key of its certificate.
    let others = if about.uid() == 0 { 0o037 } else { 0o077 };
    let mode = about.mode() & 0o777;
    if mode & others == 0 {
        return Ok(());
    }
    let why = format!(
        "others may read it (mode {mode:03o}): run `chmod 600` on it, and replace what it holds if somebody may have read it"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

#[cfg(not(unix))]
fn refuse_if_others_can_read(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::Signer as _;

    #[test]
    fn key_is_read_as_it_was_written_and_never_overwritten() {
        let path = std::env::temp_dir().join(format!("tracing-audit-key-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let key = create(&path, "example.com/trail").unwrap();
        assert_eq!(read(&path).unwrap().vkey(), key.vkey());
        assert!(create(&path, "example.com/trail").is_err());
        assert_eq!(read(&path).unwrap().vkey(), key.vkey());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |mode| std::fs::Permissions::from_mode(mode);
            for unsafe_mode in [0o604, 0o644, 0o620] {
                std::fs::set_permissions(&path, mode(unsafe_mode)).unwrap();
                assert!(read(&path).is_err(), "{unsafe_mode:o}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
