//! What the pages show of an archive: each record once, to whom it belongs, and nothing that is not recorded.

use std::collections::BTreeSet;
use std::process::Command;

use testkit::trail::{Folder, TRIGGERS_OFF};

use super::desk::{Desk, PERSON, Person, Server, program};

/// Adds batches of past days, as for the tests of the archive.
const FILL: &str = include_str!("../archive/fill.sql");

/// Says of each record whose it is.
const OWNERS: &str = "
    CREATE FUNCTION owner(tenant uuid) RETURNS text LANGUAGE sql AS $$
        SELECT coalesce((SELECT 'OwnerIs' || n || 'End' FROM generate_series(0, 2) AS n WHERE audit.tenant_uuid('tenant ' || n) = tenant), 'OwnerIsNobodyEnd')
    $$;
    UPDATE audit.query_runs SET user_id = owner(tenant_id); UPDATE audit.prompt_runs SET user_id = owner(tenant_id), request_id = 'request ' || seq / 8;
    UPDATE audit.events SET user_id = owner(tenant_id); UPDATE audit.activities SET user_id = owner(tenant_id)";

/// A trail of past days with an archive.
struct Shelved {
    desk: Desk,
    scratch: Folder,
    vkey: String,
}

impl Shelved {
    fn new() -> Self {
        let desk = Desk::new();
        let scratch = Folder::new();
        std::fs::create_dir_all(&scratch.0).unwrap();
        let key = program()
            .args(["key", "new", "--name", "example.com/trail"])
            .arg(scratch.0.join("key"))
            .output()
            .unwrap();
        let vkey = String::from_utf8(key.stdout).unwrap().trim().to_owned();
        desk.postgres.psql(&format!("{FILL}; {TRIGGERS_OFF}"));
        // Only what is of the past.
        desk.postgres
            .psql("TRUNCATE audit.query_runs, audit.prompt_runs, audit.events, audit.activities");
        for day in ["2026-02-27 23:59:58", "2026-03-14 12:00"] {
            desk.postgres.psql(&format!("CALL fill('{day}+00', 90)"));
        }
        desk.postgres.psql(&format!("{TRIGGERS_OFF}; {OWNERS}"));
        let shelved = Self {
            desk,
            scratch,
            vkey,
        };
        shelved.run(&["seal", "--once"], &[]);
        shelved
    }

    #[track_caller]
    fn run(&self, words: &[&str], more: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
        command.args(["--url", &self.desk.postgres.url()]);
        let output = command
            .args(words)
            .arg("--key")
            .arg(self.scratch.0.join("key"))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn folder(&self) -> String {
        let folder = self.scratch.0.join("archive");
        folder.to_str().unwrap().to_owned()
    }

    fn copy(&self, more: &[&str]) {
        let folder = self.folder();
        self.run(&["archive", "--copy"], &[&["--to", &folder], more].concat());
    }

    fn remove(&self, more: &[&str]) {
        let folder = self.folder();
        let words = [&["--yes", "--to", &folder], more].concat();
        self.run(&["archive", "--after", "90 days"], &words);
    }

    fn serve(&self, more: &[&str]) -> Server {
        let folder = self.folder();
        let archive = ["--archive", &folder, "--key", &self.vkey];
        self.desk.serve(&[&archive, more].concat())
    }

    /// Serves to whom a proxy names: ana may read all, bo the rows of one tenant.
    fn serve_proxy(&self) -> Server {
        let people = ["--auditor", "ana", "--reader", "bo=tenant 1"];
        let trust = [
            "--trust-header",
            PERSON,
            "--trust-secret-env",
            "PROXY_SECRET",
        ];
        self.serve(&[trust, people].concat())
    }

    /// Returns the table, the id and the request of each record, of a tenant or of all.
    fn records(&self, tenant: &str) -> BTreeSet<(String, String, String)> {
        let tables = ["query_runs", "prompt_runs", "events", "activities"];
        let tables = tables.map(|table| {
            format!(
                "SELECT '{table}', id, coalesce(request_id, '') FROM audit.{table} WHERE service_name IS DISTINCT FROM 'postgres'
                AND ('{tenant}' = '' OR tenant_id = audit.tenant_uuid('{tenant}'))"
            )
        });
        let listed = self.desk.postgres.psql(&tables.join(" UNION ALL "));
        let parts = listed.lines().map(|line| {
            let mut parts = line.split('|').map(str::to_owned);
            (
                parts.next().unwrap(),
                parts.next().unwrap(),
                parts.next().unwrap(),
            )
        });
        parts.collect()
    }
}

/// Returns what an address of a page, as HTML has it, leads to.
fn plain(address: &str) -> String {
    address.replace("&amp;", "&")
}

/// Reads a list to its end. Returns its records, in their order, and how many are marked.
#[track_caller]
fn all_pages(desk: &Desk, person: &Person<'_>, first: &str) -> (Vec<(String, String)>, usize) {
    let (mut records, mut marked) = (Vec::new(), 0);
    let mut next = Some(first.to_owned());
    while let Some(address) = next {
        let before = desk.readings();
        let answer = person.get(&address);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(desk.readings(), before + 1, "{address}");
        let links = answer.body.split("href=\"/record?kind=").skip(1);
        for link in links {
            let (link, _) = link.split_once('"').unwrap();
            let (table, id) = link.split_once("&amp;id=").unwrap();
            records.push((table.to_owned(), id.to_owned()));
        }
        marked += answer.body.matches(">archive</span>").count();
        let mut links = answer.body.split("<a href=\"").skip(1);
        let link = links.find_map(|link| link.split_once("\" rel=\"next\""));
        next = link.map(|(link, _)| plain(link));
    }
    (records, marked)
}

/// Fails unless a list has each of these records once, the newest first.
#[track_caller]
fn assert_list(listed: &[(String, String)], records: &BTreeSet<(String, String, String)>) {
    let expected: BTreeSet<_> = records
        .iter()
        .map(|(table, id, _)| (table.clone(), id.clone()))
        .collect();
    let found: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(found, expected);
    assert_eq!(listed.len(), expected.len());
    assert!(listed.is_sorted_by(|(_, one), (_, other)| one >= other));
}

/// Fails unless somebody sees the records of one owner and of no other, at every address that leads to something of an archive.
#[track_caller]
fn sees_only(
    shelved: &Shelved,
    person: &Person<'_>,
    own: Option<&str>,
    all: &BTreeSet<(String, String, String)>,
    mine: &BTreeSet<(String, String, String)>,
) {
    let desk = &shelved.desk;
    let mut addresses: Vec<(String, bool)> = [
        "/?archive=yes",
        "/?archive=yes&tenant=tenant+1",
        "/?archive=yes&tenant=tenant+2",
        "/?archive=yes&user=OwnerIs2End",
        "/?archive=yes&text=long",
        "/?archive=yes&after=00000000-0000-0000-0000-000000000000",
        "/?archive=yes&app.current_tenant=x",
        "/request?id=request+2",
        "/request?id=request+2&archive=yes",
        "/request?id=request+2&tenant=tenant+2",
        "/request?id=request+2&tenant=tenant+1",
    ]
    .map(|address| (address.to_owned(), false))
    .into();
    for record in all.iter().step_by(7) {
        let (table, id, _) = record;
        let is_mine = mine.contains(record);
        addresses.push((format!("/record?kind={table}&id={id}"), is_mine));
        addresses.push((
            format!("/raw?kind={table}&id={id}&tenant=tenant+2"),
            is_mine,
        ));
    }
    let mut is_seen = false;
    for (address, is_mine) in addresses {
        let before = desk.readings();
        let answer = person.get(&address);
        // What only says again what was asked for.
        let mut said = answer
            .body
            .replace("value=\"OwnerIs2End\"", "")
            .replace("<strong>OwnerIs2End", "")
            .replace("user=OwnerIs2End", "");
        if let Some(own) = own {
            is_seen |= said.contains(own);
            said = said.replace(own, "");
        }
        assert!(!said.contains("OwnerIs"), "{address}: {}", answer.body);
        if is_mine {
            assert_eq!(answer.status, 200, "{address}: {}", answer.body);
        }
        if answer.status == 200 {
            assert_eq!(desk.readings(), before + 1, "{address}");
        }
    }
    assert_eq!(is_seen, own.is_some());
}

#[test]
fn list_has_each_record_of_both_once_from_page_to_page() {
    let shelved = Shelved::new();
    shelved.copy(&[]);
    let all = shelved.records("");
    assert!(all.len() > 150);
    let server = shelved.serve_proxy();
    let ana = server.as_person("ana");
    // Without being asked, the archive is not searched; what leads there is at the end.
    let desk = &shelved.desk;
    let (listed, marked) = all_pages(desk, &ana, "/?until=2026-04-01");
    assert_list(&listed, &all);
    assert_eq!(marked, 0);
    let both = "/?archive=yes&until=2026-04-01";
    let (listed, marked) = all_pages(desk, &ana, both);
    assert_list(&listed, &all);
    assert_eq!(marked, 0);
    shelved.remove(&["--kind", "events", "--kind", "prompt_runs"]);
    let (listed, marked) = all_pages(desk, &ana, both);
    assert_list(&listed, &all);
    assert!(marked > 0 && marked < all.len(), "{marked}");
    let filtered = all_pages(
        desk,
        &ana,
        "/?archive=yes&tenant=tenant+2&since=2026-03-01&kind=events&kind=query_runs",
    )
    .0;
    let mine = shelved.records("tenant 2");
    assert!(filtered.len() > 8 && filtered.len() < mine.len());
    shelved.remove(&[]);
    let (listed, marked) = all_pages(desk, &ana, both);
    assert_list(&listed, &all);
    assert_eq!(marked, all.len());
    let body = ana.get("/?until=2026-04-01").body;
    assert!(body.contains("Search the archive"), "{body}");
    // Newer again: the page behind a record begins with the one after it.
    let middle = listed.len() / 2;
    let newer = format!("{both}&after={}", listed[middle].1);
    let (newer, _) = all_pages(desk, &ana, &newer);
    assert!(newer.len() >= 50);
    assert_eq!(newer[..50], listed[middle - 50..middle]);
    let told = desk.postgres.psql("SELECT DISTINCT metadata ->> 'filter' FROM audit.events WHERE action_type = 'audit.read' AND metadata ->> 'filter' LIKE '%archive%' AND metadata ->> 'filter' NOT LIKE '%tenant%'");
    assert_eq!(told, "until=2026-04-01&archive=yes");
}

#[test]
fn records_of_an_archive_are_shown_to_whom_they_belong() {
    let shelved = Shelved::new();
    let (all, mine) = (shelved.records(""), shelved.records("tenant 1"));
    // With content that the database has the keys of, for whoever may read it.
    let encrypted = ["--content", "encrypted"];
    shelved.copy(&encrypted);
    shelved.remove(&encrypted);
    let proxied = shelved.serve_proxy();
    let (ana, bo) = (proxied.as_person("ana"), proxied.as_person("bo"));
    // All of it is there for whoever may read it, so that the rest can fail.
    let story = ana.get("/request?id=request+2&archive=yes").body;
    for owner in [
        "OwnerIs0End",
        "OwnerIs1End",
        "OwnerIs2End",
        "OwnerIsNobodyEnd",
    ] {
        assert!(story.contains(owner), "{owner}: {story}");
    }
    assert!(story.contains(">archive</span>"), "{story}");
    for (table, id, _) in all.iter().step_by(5) {
        for page in ["record", "raw"] {
            let answer = ana.get(&format!("/{page}?kind={table}&id={id}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(
                answer.body.contains(id.as_str()) && answer.body.contains("_0001.manifest"),
                "{answer:?}"
            );
        }
    }
    let own = Some("OwnerIs1End");
    sees_only(&shelved, &bo, own, &all, &mine);
    let (listed, _) = all_pages(&shelved.desk, &bo, "/?archive=yes&until=2026-04-01");
    assert_list(&listed, &mine);
    // By a login of Postgres.
    let server = shelved.serve(&[]);
    sees_only(
        &shelved,
        &server.log_in("rdr", "tenant 1"),
        own,
        &all,
        &mine,
    );
    let none = BTreeSet::new();
    sees_only(&shelved, &server.log_in("rdr", ""), None, &all, &none);
    let auditor = server.log_in("aud", "");
    assert!(
        auditor
            .get("/request?id=request+2")
            .body
            .contains("OwnerIs2End")
    );
    // A right that is lost is lost at once, and what cannot be recorded is not shown.
    let psql = |sql: &str| shelved.desk.postgres.psql(sql);
    psql("REVOKE audit_auditor FROM aud");
    sees_only(&shelved, &auditor, None, &all, &none);
    psql("GRANT audit_auditor TO aud");
    assert!(
        auditor
            .get("/request?id=request+2")
            .body
            .contains("OwnerIs2End")
    );
    psql(
        "REVOKE EXECUTE ON FUNCTION audit.record_reading(text, text, uuid, jsonb) FROM audit_auditor",
    );
    sees_only(&shelved, &auditor, None, &all, &none);
    let readings = shelved.desk.readings();
    assert!(auditor.get("/?archive=yes").status >= 400);
    assert_eq!(shelved.desk.readings(), readings);
}

#[test]
fn archive_that_is_away_or_not_signed_is_said_to_be() {
    let shelved = Shelved::new();
    shelved.copy(&[]);
    shelved.remove(&[]);
    let server = shelved.serve_proxy();
    let ana = server.as_person("ana");
    let folder = shelved.scratch.0.join("archive");
    std::fs::rename(&folder, shelved.scratch.0.join("away")).unwrap();
    for address in ["/?archive=yes", "/request?id=request+2"] {
        let body = ana.get(address).body;
        assert!(!body.contains("OwnerIs"), "{body}");
    }
    let body = ana.get("/?archive=yes").body;
    assert!(body.contains("The archive could not be read"), "{body}");
    let told = server.told.recv().unwrap();
    assert!(told.contains("an archive was not shown"), "{told}");
    // Back again, with a manifest that nobody has signed.
    std::fs::rename(shelved.scratch.0.join("away"), &folder).unwrap();
    assert!(ana.get("/request?id=request+2").body.contains("OwnerIs"));
    let manifest = folder.join("kind=events/month=2026-03/day=2026-03-14/_0001.manifest");
    let signed = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, signed.replace("set 1", "set 2")).unwrap();
    let body = ana.get("/request?id=request+2").body;
    assert!(body.contains("The archive could not be read"), "{body}");
    assert!(!body.contains("OwnerIs"), "{body}");
}
