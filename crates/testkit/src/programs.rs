//! Finds the programs of Postgres, and the account that runs them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    /// The account that root runs them as: `postgres` and `initdb` refuse to run as root.
    account: Option<Account>,
    /// User id of this process.
    pub(super) user: u32,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Programs {
    /// # Panics
    /// If Postgres is missing: a test then fails, and is never skipped.
    pub(super) fn find() -> Self {
        let user = output(Command::new("id").arg("-u"))
            .parse()
            .expect("`id -u` prints a number");
        Self {
            folder: find_folder(),
            account: (user == 0).then(account_for_root),
            user,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the command for a program in `folder`, which the account that runs it may enter.
    pub(super) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = self.of_account(self.folder.join(program));
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("LC_ALL", "C");
        command
    }

    /// Returns the command for any program, as the account that runs the servers.
    pub(super) fn of_account(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        command
    }

    /// Gives `folder` to the account that runs the servers.
    pub(super) fn give(&self, folder: &Path) {
        if let Some(account) = self.account {
            std::os::unix::fs::chown(folder, Some(account.user), Some(account.group)).unwrap();
        }
    }
}

fn find_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN").map(PathBuf::from) {
        assert!(
            folder.join("postgres").is_file() && folder.join("initdb").is_file(),
            "PG_BIN={} does not hold the programs postgres and initdb",
            folder.display()
        );
        return folder;
    }
    // The scripts look in the same places, so the list exists only once.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres.sh");
    let found = Command::new("bash")
        .arg(script)
        .arg("find")
        .output()
        .expect("bash runs");
    assert!(
        found.status.success(),
        "these tests need a real Postgres, and none was found. Run scripts/test, which fetches one, \
         or set PG_BIN to the folder that holds its programs postgres and initdb"
    );
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end())
}

fn account_for_root() -> Account {
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| accounts.lines().find_map(|line| parse_account(line, name)))
        .expect("root needs an account `postgres` or `nobody` to run Postgres as")
}

/// `name:password:user id:group id:…`
fn parse_account(line: &str, name: &str) -> Option<Account> {
    let mut fields = line.split(':');
    if fields.next()? != name {
        return None;
    }
    Some(Account {
        user: fields.nth(1)?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

/// Runs a command that must succeed, and returns its output without the final newline.
pub(super) fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        printed(&output.stdout),
        printed(&output.stderr)
    );
    printed(&output.stdout)
}

/// Uses the shell's built-in `kill`: small systems have no such program.
pub(super) fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}
