//! A trail of two tenants, the server of its pages, and the people who look at them.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use testkit::Postgres;
use testkit::trail::PATIENCE;

/// What the records of each tenant say, in every text.
pub(crate) const ACME: &str = "AcmeWord";
pub(crate) const BETA: &str = "BetaWord";

/// The header of a trusted proxy, and its secret.
pub(crate) const PERSON: &str = "X-Person";
const SECRET: &str = "a secret of the proxy";

/// A record in each table, with a word in every text of it, and a change of a tracked table.
const RECORDS: &str = r"
    SET session_replication_role = replica;
    DO $$
    DECLARE
        name text;
        texts jsonb;
        part text;
    BEGIN
        FOREACH name IN ARRAY audit.record_tables() || 'change'::text LOOP
            SELECT jsonb_object_agg(attname, '{word} ' || attname) INTO texts FROM pg_attribute
            WHERE attrelid = format('audit.%I', CASE name WHEN 'change' THEN 'events' ELSE name END)::regclass AND atttypid = 'text'::regtype AND attnum > 0;
            part := CASE name WHEN 'change' THEN 'events' ELSE name END;
            texts := texts || jsonb_build_object(
                'id', (substr(replace(audit.id_at(now())::text, '-', ''), 1, 12) || '7' || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid,
                'tenant_id', audit.tenant_uuid('{tenant}'), 'status', 'failed', audit.time_column(part), now(), 'duration_ms', 12, 'latency_ms', 12,
                'metadata', jsonb_build_object('tenant_key', '{tenant}', '{word} key', '{word} value'), 'problems', ARRAY['{word} problem'],
                'redactions', ARRAY['{word} redaction'], 'writer_id', gen_random_uuid(), 'seq', 1, 'salt', '\x00');
            IF name = 'change' THEN
                texts := texts || jsonb_build_object('action_type', 'change', 'metadata', jsonb_build_object('tenant_key', '{tenant}',
                    'operation', 'update', 'changes', jsonb_build_object('{word} field', jsonb_build_object('old', '{word} old', 'new', '{word} new'))));
            END IF;
            EXECUTE format('INSERT INTO audit.%I SELECT * FROM jsonb_populate_record(NULL::audit.%1$I, $1)', part) USING texts;
        END LOOP;
    END
    $$;
    RESET session_replication_role";

/// A trail with records of two tenants.
pub(crate) struct Desk {
    pub(crate) postgres: Postgres,
}

impl Desk {
    /// Starts Postgres, which asks these logins for passwords: each has its own name.
    pub(crate) fn new() -> Self {
        let postgres = Postgres::start();
        for login in ["serve", "aud", "rdr", "nobody"] {
            postgres.psql(&format!("CREATE ROLE {login} LOGIN PASSWORD '{login}'"));
        }
        let hba = postgres.data_dir().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        let asked = "host all serve,aud,rdr,nobody all scram-sha-256\n";
        std::fs::write(&hba, format!("{asked}{rules}")).unwrap();
        postgres.psql("SELECT pg_reload_conf()");
        let migrated = program()
            .args(["--url", &postgres.url(), "migrate"])
            .args(["--auditor-login", "aud", "--auditor-login", "serve"])
            .args(["--reader-login", "rdr", "--reader-login", "serve"])
            .output()
            .unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let desk = Self { postgres };
        for (tenant, word) in [("acme", ACME), ("beta", BETA)] {
            desk.add(tenant, word);
        }
        desk
    }

    /// Adds a record in each table.
    pub(crate) fn add(&self, tenant: &str, word: &str) {
        let statements = RECORDS.replace("{tenant}", tenant).replace("{word}", word);
        self.postgres.psql(&statements);
    }

    /// Serves the pages, with these arguments.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let url = format!(
            "postgres://serve:serve@127.0.0.1:{}/audit",
            self.postgres.port()
        );
        Server::start(&url, arguments)
    }

    /// Serves the pages to whom a proxy names.
    pub(crate) fn serve_proxy(&self) -> Server {
        self.serve(&[
            "--trust-header",
            PERSON,
            "--trust-secret-env",
            "PROXY_SECRET",
            "--auditor",
            "ana",
            "--auditor",
            "group:auditors",
            "--reader",
            "bo=acme",
        ])
    }

    /// Returns how many readings are recorded.
    pub(crate) fn readings(&self) -> u64 {
        self.count("action_type = 'audit.read'")
    }

    /// Counts the events of a condition.
    pub(crate) fn count(&self, condition: &str) -> u64 {
        let counted = self.postgres.psql(&format!(
            "SELECT count(*) FROM audit.events WHERE {condition}"
        ));
        counted.parse().unwrap()
    }

    /// Returns the table and the id of each record of a tenant.
    pub(crate) fn records(&self, tenant: &str) -> Vec<(String, String)> {
        let listed = self.postgres.psql(&format!(
            "SELECT 'query_runs', id FROM audit.query_runs WHERE tenant_id = audit.tenant_uuid('{tenant}')
            UNION ALL SELECT 'prompt_runs', id FROM audit.prompt_runs WHERE tenant_id = audit.tenant_uuid('{tenant}')
            UNION ALL SELECT 'events', id FROM audit.events WHERE tenant_id = audit.tenant_uuid('{tenant}') AND action_type <> 'audit.read'
            UNION ALL SELECT 'activities', id FROM audit.activities WHERE tenant_id = audit.tenant_uuid('{tenant}')"
        ));
        let pairs = listed.lines().map(|line| line.split_once('|').unwrap());
        pairs
            .map(|(table, id)| (table.to_owned(), id.to_owned()))
            .collect()
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
}

/// The server of the pages; killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// The lines that it says after the first.
    pub(crate) told: Receiver<String>,
}

impl Server {
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        let mut child = program()
            .args(["--url", url, "serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("PROXY_SECRET", SECRET)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let (_, address) = first.split_once("http://").unwrap();
        let address = address.to_owned();
        let (sender, told) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            address,
            told,
        }
    }

    /// Sends a request and returns the answer.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = self.open(method, path, headers, body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::read(&bytes)
    }

    /// Sends a request.
    pub(crate) fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            let _ = write!(request, "Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(
                request,
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .unwrap();
        stream
    }

    /// Logs in with a login of Postgres, whose password is its name.
    pub(crate) fn log_in(&self, login: &str, tenant: &str) -> Person<'_> {
        let answer = self.try_login(login, login, tenant);
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        let (pair, _) = cookie.split_once(';').unwrap();
        Person {
            server: self,
            headers: vec![("Cookie", pair.to_owned())],
        }
    }

    pub(crate) fn try_login(&self, login: &str, password: &str, tenant: &str) -> Answer {
        let form = format!("login={login}&password={password}&tenant={tenant}&next=/");
        self.ask("POST", "/login", &[], &form)
    }

    /// Comes as the proxy, for a person.
    pub(crate) fn as_person(&self, name: &str) -> Person<'_> {
        Person {
            server: self,
            headers: vec![
                (PERSON, name.to_owned()),
                ("X-Audit-Proxy-Secret", SECRET.to_owned()),
            ],
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who looks at the pages.
pub(crate) struct Person<'s> {
    pub(crate) server: &'s Server,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Person<'_> {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.server.ask("GET", path, &self.pairs(), "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.server.ask("POST", path, &self.pairs(), body)
    }

    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.headers.iter();
        pairs.map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Opens the stream of new records, and returns what comes within a while.
    pub(crate) fn listen(&self, path: &str, begin: impl FnOnce(), enough: &str) -> String {
        let mut stream = self.server.open("GET", path, &self.pairs(), "");
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut heard = Vec::new();
        let mut begin = Some(begin);
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let mut bytes = [0; 16_384];
        while std::time::Instant::now() < until {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => heard.extend_from_slice(&bytes[..n]),
                Err(_) => {}
            }
            let text = String::from_utf8_lossy(&heard);
            if text.contains("\r\n\r\n")
                && let Some(begin) = begin.take()
            {
                // The stream is open once it has looked at what is there.
                thread::sleep(Duration::from_millis(500));
                begin();
            }
            if text.contains(enough) {
                break;
            }
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).unwrap_or_default();
        Self {
            status: status.parse().unwrap_or(0),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (said, value) = line.split_once(':')?;
            said.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
