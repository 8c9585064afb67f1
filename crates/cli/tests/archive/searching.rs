//! The records of a filter, out of the archive: the same as out of the database, and of both each once.

use testkit::trail::TRIGGERS_OFF;

use super::*;

/// Makes of what was filled what filters ask for, before it is sealed.
const VARIED: &str = r#"
    UPDATE audit.query_runs SET question_text = repeat('x', 100005) || 'FAR', sql_text = repeat('é', 99990) || 'Near' WHERE seq IN (40, 80);
    UPDATE audit.query_runs SET agent_id = '00000000-0000-7000-8000-0000000000a1' WHERE seq % 3 = 0;
    UPDATE audit.query_runs SET conversation_id = 'talk ' || seq % 2, llm_session_id = '00000000-0000-7000-8000-0000000000b1' WHERE seq % 4 = 0;
    UPDATE audit.prompt_runs SET model_name = hostile(seq), user_id = hostile(seq + 1), status = 'failed' WHERE seq % 2 = 1;
    UPDATE audit.prompt_runs SET model_name = 'claude', user_id = 'ana' WHERE seq % 8 = 5;
    UPDATE audit.events SET action_type = 'llm_call', metadata = jsonb_build_object('model', CASE seq % 3 WHEN 0 THEN to_jsonb('claude'::text) WHEN 1 THEN '7.50' ELSE 'null' END) WHERE seq % 5 = 0;
    UPDATE audit.events SET action_type = 'agent_execution', target_id = 'planner' WHERE seq % 5 = 1;
    UPDATE audit.events SET action_type = 'change', target_type = 'accounts', metadata = (ARRAY['{"changes": null}', '["changes"]', '"changes"', '{"other": "changes"}', '{"a": {"changes": 1}}'])[1 + seq % 5]::jsonb WHERE seq % 3 = 2;
    UPDATE audit.events SET service_name = 'postgres', action_type = CASE WHEN seq % 2 = 0 THEN 'audit.read' ELSE 'other' END WHERE seq % 7 = 0;
    UPDATE audit.events SET service_name = 'shop', action_type = 'audit.read' WHERE seq % 7 = 1;
    UPDATE audit.activities SET metadata = jsonb_build_object('message', hostile(seq), 'reason', jsonb_build_object('Deep', hostile(seq)), 'comment', 1.50, 'sql_text', hostile(seq + 3)), action_type = 'log' WHERE seq % 3 = 0"#;

/// Texts that are found in upper or lower case, or must not be, besides the others.
const CASED: &str = r#"
    ALTER FUNCTION hostile(bigint) RENAME TO plain;
    CREATE FUNCTION hostile(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN n % 2 = 0 THEN plain(n / 2) ELSE (ARRAY[
            'STRASSE ẞ', 'ÄÖÜ', 'İSTANBUL', 'ΟΔΟΣ ΣΊΣΥΦΟΣ', 'ǅ', 'ПРИВЕТ', 'Ａｂｃ', U&'e\0301 E\0301 \00E9 \00C9',
            U&'\+010400', 'ᲐᲑᲒ აბგ', 'ꓐ Ɐ ⱯⅣ ⓐ', 'it''s \ % _ ""', 'null', '100%', 'a_b', 'aXb'
        ])[1 + n / 2 % 16] END
    $$;"#;

/// The filters, and whether something is to be found.
const FILTERS: [(&str, bool); 62] = [
    ("", true),
    ("kind=query_runs", true),
    ("kind=events&kind=activities", true),
    ("status=failed", true),
    ("status=failed&status=unknown", true),
    ("status=rejected", false),
    ("tenant=tenant+1", true),
    ("tenant=tenant+9", false),
    ("user=ana", true),
    ("user=ANA", false),
    ("user=NaN", true),
    ("user=%C3%84%C3%96%C3%9C", true),
    ("user=%27", true),
    ("user=%22", true),
    ("user=%5CN", true),
    ("user=NULL", true),
    ("user=100%25", true),
    ("user=e%CC%81+E%CC%81+%C3%A9+%C3%89", true),
    ("request=request+2", true),
    ("request=a_b", true),
    ("request=request", false),
    ("family=llm_call", true),
    ("family=agent_execution", true),
    ("family=LLM_CALL", false),
    ("family=log&kind=events", false),
    ("agent=planner", true),
    ("agent=00000000-0000-7000-8000-0000000000a1", true),
    ("agent=000000000000700080000000000000A1", true),
    ("agent=nobody", false),
    ("model=claude", true),
    ("model=7.50", true),
    ("model=null", true),
    ("model=%C7%85", true),
    ("session=talk+0", true),
    ("session=00000000-0000-7000-8000-0000000000b1", true),
    ("session=talk", false),
    ("target_type=accounts", true),
    ("target=planner", true),
    ("target=1e400", true),
    ("changes=yes", true),
    ("changes=yes&target_type=accounts", true),
    ("reads=yes&kind=events", true),
    ("reads=yes&family=audit.read", true),
    ("family=audit.read", true),
    ("text=nan", true),
    ("text=STRASSE", true),
    ("text=stra%C3%9Fe", false),
    ("text=%E1%BA%9E", true),
    ("text=%C3%A4%C3%B6%C3%BC", true),
    ("text=istanbul", true),
    ("text=%C4%B0STANBUL", true),
    ("text=%CE%BF%CE%B4%CE%BF%CF%82", false),
    ("text=%CE%9F%CE%94%CE%9F%CE%A3", true),
    ("text=%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82", true),
    ("text=%C7%84", true),
    ("text=%25", true),
    ("text=a_b", true),
    ("text=far", false),
    ("text=near", true),
    ("text=1.50", true),
    ("text=%22deep%22%3A", true),
    ("text=%F0%90%90%A8&status=failed&tenant=tenant+2", true),
];

impl Setting {
    /// Starts with a database that knows the cases of all letters, as most do.
    fn cased() -> Self {
        let postgres = Postgres::start();
        let mut session = postgres.session_in("postgres", "postgres");
        session.psql("DROP DATABASE audit");
        session.psql("CREATE DATABASE audit TEMPLATE template0 LOCALE 'C.UTF-8'");
        drop(session);
        let setting = Self::on(postgres);
        setting
            .postgres
            .psql("CREATE ROLE keeper LOGIN; GRANT audit_auditor, audit_operator TO keeper");
        setting.postgres.psql(CASED);
        setting
    }

    /// Adds what filters ask for, on three days of two months, and seals it.
    fn vary(&self) {
        // The one goes on after midnight.
        for at in ["2026-02-27 23:59:55", "2026-03-14 12:00"] {
            self.fill(at, 132);
        }
        self.postgres.psql(&format!("{TRIGGERS_OFF}; {VARIED}"));
        self.seal();
    }

    /// Exports, and returns what was written and the manifest.
    #[track_caller]
    fn export(&self, mut command: Command, words: &[&str]) -> (String, Value) {
        let path = self.scratch.0.join("exported");
        let output = command
            .args(["export", "--force", "--output"])
            .arg(&path)
            .args(words)
            .output()
            .unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {told}");
        let manifest = fs::read(path.with_file_name("exported.manifest.json")).unwrap();
        let manifest = serde_json::from_slice(&manifest).unwrap();
        (fs::read_to_string(path).unwrap(), manifest)
    }

    fn auditor(&self) -> Command {
        program(&self.login("auditor"))
    }

    /// Returns the words that name the archive.
    fn archive_words(&self) -> [String; 4] {
        let folder = self.folder().to_str().unwrap().to_owned();
        let words = ["--archive", &folder, "--key", &self.vkey];
        words.map(str::to_owned)
    }
}

/// Returns the story of a file, without where its records are in the archive.
fn unmarked(html: &str) -> String {
    let mut story = html.split_once("<h2>").unwrap().1.to_owned();
    for (from, to) in [
        (
            r#"<div class="entry"><div class="label">archive</div>"#,
            "</div>",
        ),
        ("&quot;archived_in&quot;:", ","),
    ] {
        while let Some(at) = story.find(from) {
            let end = story[at + from.len()..].find(to).unwrap();
            story.replace_range(at..at + from.len() + end + to.len(), "");
        }
    }
    story
}

fn words<'a>(some: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    let more = more.iter().map(String::as_str);
    some.iter().copied().chain(more).collect()
}

fn no_database() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command
        .env_remove("AUDIT_DATABASE_URL")
        .env_remove("DATABASE_URL");
    command
}

/// Compares what each filter finds in the database with what it finds in the archive alone.
#[track_caller]
fn assert_same(setting: &Setting, filters: &[(&str, bool)]) {
    let archive = setting.archive_words();
    // What the trail tells of this test is of today.
    let until = ["--until", "2026-03-16"];
    let mut unexpected = Vec::new();
    for (filter, is_found) in filters {
        let asked = ["--format", "jsonl", "--where", filter];
        let asked = [&asked[..], &until, &["--purpose", "test"]].concat();
        let (of_database, _) = setting.export(setting.auditor(), &asked);
        let (alone, manifest) = setting.export(no_database(), &words(&asked, &archive));
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (expected, found) = (lines(&of_database), lines(&alone));
        let first = expected
            .iter()
            .zip(&found)
            .find(|(one, other)| one != other);
        assert!(
            expected == found,
            "{filter}: {} and {}, {first:.2000?}",
            expected.len(),
            found.len()
        );
        if found.is_empty() == *is_found {
            unexpected.push(*filter);
        }
        assert_eq!(manifest["archive"]["records"], found.len(), "{filter}");
    }
    // Else nothing would be compared.
    assert_eq!(unexpected, [""; 0]);
}

#[test]
fn each_filter_finds_in_the_archive_what_it_finds_in_the_database() {
    let setting = Setting::cased();
    setting.vary();
    setting.archive();
    assert_same(&setting, &FILTERS);
    // Times.
    let archive = setting.archive_words();
    for (since, until) in [
        ("2026-02-28", "2026-03-15"),
        ("2026-03-14T12:00:03.25Z", "2026-03-14 12:00:07+00:00"),
        ("2026-02-28T01:00:00.5+01", "2026-03-14T12:00:01.5"),
        ("2026-03-14T12:00:03.2999", "2026-03-14T12:00:03.3"),
        ("9h", "1h"),
    ] {
        let asked = ["--format", "csv", "--since", since, "--until", until];
        let asked = [&asked[..], &["--purpose", "test"]].concat();
        let (of_database, told) = setting.export(setting.auditor(), &asked);
        let (alone, _) = setting.export(no_database(), &words(&asked, &archive));
        assert_eq!(of_database, alone, "{since}");
        assert_eq!(
            told["records"] == 0,
            since.len() < 4 || since.contains("2999"),
            "{since}"
        );
    }
}

#[test]
fn export_of_both_has_each_record_once_in_the_order_of_one() {
    let setting = Setting::with_keeper();
    // Of a database that knows the case of the letters from A to Z alone.
    setting.postgres.psql(CASED);
    setting.vary();
    // More than is read at once, by tenants that take turns.
    setting.fill("2026-03-20 09:00", 240);
    setting.postgres.psql("UPDATE audit.query_runs SET sql_text = repeat(md5(seq::text), 20000) WHERE started_at > '2026-03-20'");
    setting.seal();
    let archive = setting.archive_words();
    let asked = ["--until", "2026-03-20", "--purpose", "test", "--format"];
    let story = ["--purpose", "test", "--format", "html"];
    let story = [&story[..], &["--request", "request 2"]].concat();
    let large = [
        "--since",
        "2026-03-20",
        "--until",
        "2026-03-21",
        "--purpose",
        "test",
    ];
    let large = [&large[..], &["--kind", "query_runs", "--format", "jsonl"]].concat();
    let ways: Vec<Vec<&str>> = [
        &["jsonl"][..],
        &["csv"],
        &["jsonl", "--text", "strasse"],
        &["jsonl", "--text", "ÄÖÜ"],
        &["jsonl", "--tenant", "tenant 1"],
        &["jsonl", "--since", "2026-03-14T12:00:02", "--user", "ana"],
    ]
    .into_iter()
    .map(|way| [&asked[..], way].concat())
    .chain([large, story])
    .collect();
    let of_database = |way: &Vec<&str>| setting.export(setting.auditor(), way).0;
    let before: Vec<String> = ways.iter().map(of_database).collect();
    let of_both = |archived: &dyn Fn(u64, u64) -> bool| {
        for (way, before) in ways.iter().zip(&before) {
            let (both, manifest) = setting.export(setting.auditor(), &words(way, &archive));
            if way.contains(&"html") {
                // It says itself when it was exported.
                let stories = [before, &both].map(|html| unmarked(html));
                let mut lines = stories[0].lines().zip(stories[1].lines());
                let first = lines.find(|(one, other)| one != other);
                assert!(stories[0] == stories[1], "{first:?}");
            } else {
                assert!(both == *before, "{way:?}");
            }
            let of_archive = &manifest["archive"];
            let place = setting.folder();
            assert_eq!(of_archive["place"], place.to_str().unwrap());
            assert_eq!(of_archive["verified"], false);
            let number = |value: &Value| value.as_u64().unwrap();
            let (records, all) = (number(&of_archive["records"]), number(&manifest["records"]));
            assert!(archived(records, all), "{way:?}: {records} of {all}");
            assert!(all > 0, "{way:?}");
        }
    };
    setting.archive();
    of_both(&|archived, _| archived == 0);
    // Of one table alone: records of the archive stand between those of the database.
    let removed = setting
        .removal(&["--yes", "--kind", "query_runs"])
        .output()
        .unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    of_both(&|archived, all| archived <= all);
    setting.remove(0);
    of_both(&|archived, all| archived == all);
}

#[test]
fn database_speaks_for_what_it_has_whatever_the_archive_says() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 40);
    setting.seal();
    setting.archive();
    let asked = [
        "--format",
        "jsonl",
        "--purpose",
        "test",
        "--kind",
        "query_runs",
        "--text",
        "<script>",
    ];
    let archive = setting.archive_words();
    let asked = words(&asked, &archive);
    let (found, _) = setting.export(setting.auditor(), &asked);
    assert!(!found.is_empty());
    // As an erasure does.
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.query_runs SET question_text = NULL, sql_text = NULL, error_message = NULL"
    ));
    let (found, _) = setting.export(setting.auditor(), &asked);
    assert_eq!(found, "");
}

#[test]
fn export_is_proven_whole_or_there_is_no_file() {
    let setting = Setting::with_keeper();
    for day in [DAY, NEXT_DAY] {
        setting.fill(&format!("{day} 12:00"), 40);
    }
    setting.seal();
    setting.archive();
    let archive = setting.archive_words();
    let asked = ["--format", "jsonl", "--kind", "events", "--verify"];
    let asked = words(&asked, &archive);
    let (found, manifest) = setting.export(no_database(), &asked);
    assert_eq!(
        found.lines().count() as u64,
        setting.count("events", DAY) + setting.count("events", NEXT_DAY)
    );
    assert_eq!(manifest["archive"]["verified"], true);
    // A file of the same length that has other rows where nothing is looked at but what it says.
    let file = setting
        .folder()
        .join(day_folder("events", NEXT_DAY))
        .join("0001-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 4;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let path = setting.scratch.0.join("refused");
    let refuse = |more: &[&str], why: &str| {
        let refused = no_database()
            .args(["export", "--output"])
            .arg(&path)
            .args(more)
            .output()
            .unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
        let left = fs::read_dir(&setting.scratch.0).unwrap();
        let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.all(|name| !name.starts_with("refused")));
    };
    refuse(&asked, "kind=events");
    // Of the day before, all is proven.
    let before = words(&["--until", NEXT_DAY], &[]);
    setting.export(no_database(), &[&asked[..], &before].concat());
    // A time that only Postgres reads, and the key of another log.
    let yesterday = words(&["--since", "yesterday"], &[]);
    refuse(
        &[&asked[..], &yesterday].concat(),
        "the filter since is no time",
    );
    let other = setting.vkey.replace(ORIGIN, "example.com/other");
    let folder = setting.folder();
    let archive = ["--archive", folder.to_str().unwrap(), "--key", &other];
    refuse(&[&["--format", "jsonl"], &archive[..]].concat(), "");
    refuse(
        &[
            "--format",
            "jsonl",
            "--proofs",
            "--archive",
            "a",
            "--key",
            "b",
        ],
        "cannot be used with",
    );
}

/// Returns the words that ask for a filter, of the days of this test.
fn asked(filter: &str) -> Vec<&str> {
    let asked = [
        "--format",
        "jsonl",
        "--until",
        "2026-03-16",
        "--purpose",
        "test",
    ];
    [&asked[..], &["--where", filter]].concat()
}

#[test]
fn encrypted_content_is_searched_with_the_keys_of_the_database_alone() {
    let setting = Setting::cased();
    setting.vary();
    let filters = [
        "status=failed",
        "kind=query_runs&tenant=tenant+1",
        "user=ana",
        "user=100%25&status=succeeded",
        "text=STRASSE",
        "text=istanbul&kind=query_runs",
        "text=near",
        "model=claude",
        "changes=yes",
        "session=talk+0",
        "session=00000000-0000-7000-8000-0000000000b1",
        "target=planner",
        "agent=planner",
        "agent=00000000-0000-7000-8000-0000000000a1",
        "family=llm_call",
    ];
    let of_database = |filter: &&str| setting.export(setting.auditor(), &asked(filter)).0;
    let before: Vec<String> = filters.iter().map(of_database).collect();
    let requests = [
        "--since",
        "2026-02-01",
        "--until",
        "2026-04-01",
        "--user",
        "ana",
    ];
    let (requests_before, _) = finding::find(setting.auditor(), &requests);
    let encrypted = ["--content", "encrypted", "--yes"];
    let removed = setting.removal(&encrypted).output().unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    let archive = setting.archive_words();
    for (filter, before) in filters.iter().zip(&before) {
        let words = words(&asked(filter), &archive);
        let (after, manifest) = setting.export(setting.auditor(), &words);
        assert!(
            after == *before,
            "{filter}: {after:.1000} and {before:.1000}"
        );
        assert!(!before.is_empty(), "{filter}");
        assert_eq!(manifest["archive"]["records"], before.lines().count());
    }
    let (found, archived) = finding::find(setting.auditor(), &words(&requests, &archive));
    assert_eq!(found, requests_before);
    assert!(archived > 0);
    // A reader has the keys of its own tenant.
    setting
        .postgres
        .psql("CREATE ROLE reader LOGIN; GRANT audit_reader TO reader");
    let words_of = words(&asked("text=istanbul"), &archive);
    let reader = |tenant: &str| {
        let words = [&words_of[..], &["--tenant", tenant]].concat();
        setting.export(program(&setting.login("reader")), &words).0
    };
    assert!(!reader("tenant 1").is_empty());
    assert_eq!(reader("tenant 9"), "");
    // Without the keys nothing is found by what is encrypted, and of the rest it is told that it is not whole.
    let (found, _) = setting.export(no_database(), &words(&asked("user=ana"), &archive));
    assert_eq!(found, "");
    let path = setting.scratch.0.join("in-part");
    let output = no_database()
        .args(["export", "--output"])
        .arg(&path)
        .args(words(&asked("kind=query_runs&tenant=tenant+1"), &archive))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let found = fs::read_to_string(path).unwrap();
    assert_eq!(found.lines().count(), before[1].lines().count());
    for line in found.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let why = record["unread"].as_str().unwrap();
        assert!(why.contains("the key is in the database alone"), "{record}");
    }
}
