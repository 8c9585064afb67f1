//! Records that somebody made to hurt whoever reads them: the page stays small, quick and usable.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::desk::{ACME, Desk, Server};
use testkit::trail::PATIENCE;
use testkit::wait_until;

/// Returns the most memory that the server has had, in kilobytes.
fn peak_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Adds events of one request whose every part is as large as it can be, of characters that are hidden.
fn add_bombs(desk: &Desk, many: u32) {
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, tenant_id, request_id, conversation_id, action_type, input_summary, output_summary, error_message, status, created_at,
            metadata, problems, redactions, writer_id, seq, salt)
        SELECT (left(audit.id_at(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid, audit.tenant_uuid('acme'), 'bomb', 'bomb', 'change', t, t, t, 'failed', now(),
            (SELECT jsonb_object_agg(n || t, t) FROM generate_series(1, 60) AS n) || '{{\"changes\": {{}}}}', array_fill(left(t, 3000), ARRAY[60]), array_fill(left(t, 3000), ARRAY[60]),
            gen_random_uuid(), 1, '\\x00'
        FROM (SELECT repeat(E'\\u202E', 6000) AS t) AS text, generate_series(1, {many})"
    ));
}

/// Adds events of one request, each with about so many characters of text.
fn add_notes(desk: &Desk, request: &str, many: u32, characters: u32) {
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, tenant_id, request_id, action_type, input_summary, status, created_at, writer_id, seq, salt)
        SELECT (left(audit.id_at(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid, audit.tenant_uuid('acme'), '{request}', 'note',
            repeat(md5(n::text), {characters} / 32), 'succeeded', now(), '00000000-0000-4000-8000-000000000001', n, '\\x00' FROM generate_series(1, {many}) AS n"
    ));
}

#[test]
fn records_as_large_as_can_be_make_no_large_page() {
    let desk = Desk::new();
    add_bombs(&desk, 60);
    let server = desk.serve_proxy();
    let bo = server.as_person("bo");
    for address in [
        "/request?id=bomb",
        "/session?id=bomb",
        "/changes",
        "/?request=bomb",
        "/failures",
        "/users",
    ] {
        let begun = Instant::now();
        let answer = bo.get(address);
        assert_eq!(answer.status, 200, "{address}");
        assert!(
            answer.body.len() < 20_000_000,
            "{address}: {}",
            answer.body.len()
        );
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{address}: {:?}",
            begun.elapsed()
        );
    }
    let story = bo.get("/request?id=bomb").body;
    assert!(story.contains("More records"), "the rest is a page further");
    assert!(
        peak_memory(&server) < 400_000,
        "{} kB",
        peak_memory(&server)
    );
}

#[test]
fn record_with_a_request_id_of_any_length_can_be_opened() {
    let desk = Desk::new();
    let id = "01890000-0000-7000-8000-00000000000b";
    desk.postgres.psql(&format!(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, tenant_id, request_id, action_type, status, created_at, writer_id, seq, salt)
        VALUES ('{id}', audit.tenant_uuid('acme'), repeat('R', 5000), 'note', 'failed', '2023-06-28T00:00Z', gen_random_uuid(), 1, '\\x00')"
    ));
    let server = desk.serve_proxy();
    for person in [server.as_person("bo"), server.as_person("ana")] {
        for page in ["record", "raw"] {
            let answer = person.get(&format!("/{page}?kind=events&id={id}"));
            assert_eq!(answer.status, 200, "{page}: {answer:?}");
            assert!(answer.body.contains("RRRR"));
        }
        assert!(person.get("/").body.contains("note"));
    }
}

#[test]
fn streams_that_nobody_reads_keep_no_connection_from_others() {
    let desk = Desk::new();
    let server = desk.serve_proxy();
    let (bo, ana) = (server.as_person("bo"), server.as_person("ana"));
    // More than there are connections, by two people: one has ten streams at most.
    let streams: Vec<TcpStream> = (0..20)
        .map(|n| if n % 2 == 0 { &bo } else { &ana })
        .map(|person| server.open("GET", "/live", &person.pairs(), ""))
        .collect();
    // Far more than the system keeps for a reader who reads nothing: an id is in a link, six bytes for each character.
    for _ in 0..14 {
        desk.postgres.psql(
            "SET session_replication_role = replica;
            WITH rows AS (
                INSERT INTO audit.events (id, tenant_id, request_id, action_type, status, created_at, writer_id, seq, salt)
                SELECT (left(audit.id_at(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid, audit.tenant_uuid('acme'), repeat(E'\\u00e9', 2000), 'note',
                    'succeeded', now(), writer, n, '\\x00' FROM (SELECT gen_random_uuid() AS writer) AS one, generate_series(1, 100) AS n
                RETURNING id, writer_id)
            INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            SELECT writer_id, 1, 100, '{\"events\": 100}', 0, min(id::text)::uuid, max(id::text)::uuid, 'test' FROM rows GROUP BY writer_id",
        );
        thread::sleep(Duration::from_millis(1_050));
    }
    let begun = Instant::now();
    let answer = ana.get("/?text=AcmeWord");
    assert!(
        answer.status == 200 && answer.body.contains(ACME),
        "{answer:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    drop(streams);
}

#[test]
fn guessing_keeps_nobody_from_logging_in() {
    let desk = Desk::new();
    let server = desk.serve(&["--public-url", "https://audit.example.com"]);
    let host = ("Host", "audit.example.com");
    let guess = "login=victim&password=guess&next=/";
    let guesses: Vec<TcpStream> = (0..60)
        .map(|_| server.open("POST", "/login", &[host], guess))
        .collect();
    let begun = Instant::now();
    let answer = server.ask("POST", "/login", &[host], "login=aud&password=aud&next=/");
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    // And most guesses are not even tried.
    let is_refused = |mut stream: &TcpStream| {
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).is_ok() && status.ends_with(b"429")
    };
    let refused = guesses.iter().filter(|stream| is_refused(stream)).count();
    assert!(refused >= 40, "{refused}");
    let large = server.ask(
        "POST",
        "/login",
        &[host],
        &format!("login=aud&password={}", "x".repeat(100_000)),
    );
    assert_eq!(large.status, 413);
}

#[test]
fn logins_take_no_more_connections_than_they_may() {
    let desk = Desk::new();
    let server = desk.serve(&["--max-connections", "6"]);
    let people: Vec<_> = (0..12).map(|_| server.log_in("rdr", "acme")).collect();
    for person in &people {
        assert_eq!(person.get("/").status, 200);
        let open = desk
            .postgres
            .psql("SELECT count(*) FROM pg_stat_activity WHERE usename IN ('rdr', 'serve')");
        // Besides, an attempt to log in has two for a moment.
        assert!(open.parse::<u32>().unwrap() <= 8, "{open}");
    }
}

#[test]
fn records_of_the_future_hide_nothing_that_is_new() {
    let desk = Desk::new();
    desk.postgres.psql(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, tenant_id, action_type, input_summary, status, created_at, writer_id, seq, salt)
        SELECT (left(audit.id_at('9999-12-01Z')::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid, audit.tenant_uuid('acme'), 'note', 'FutureWord',
            'failed', '9999-12-01Z', gen_random_uuid(), 1, '\\x00' FROM generate_series(1, 60)",
    );
    let server = desk.serve_proxy();
    for person in [server.as_person("ana"), server.as_person("bo")] {
        let newest = person.get("/").body;
        assert!(
            newest.contains(ACME) && !newest.contains("FutureWord"),
            "{newest}"
        );
        let (_, link) = newest.split_once("href=\"/?after=").unwrap();
        let (after, _) = link.split_once('"').unwrap();
        let future = person
            .get(&format!("/?after={}", after.replace("&amp;", "&")))
            .body;
        assert_eq!(future.matches("FutureWord").count(), 50);
    }
}

#[test]
fn history_of_a_row_says_that_there_is_more_of_it() {
    let desk = Desk::new();
    desk.postgres.psql(
        "SET session_replication_role = replica;
        INSERT INTO audit.events (id, tenant_id, action_type, target_type, target_id, status, created_at, metadata, writer_id, seq, salt)
        SELECT (left(audit.id_at(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid, audit.tenant_uuid('acme'), 'change', 'public.prices', key,
            'succeeded', now(), jsonb_build_object('operation', 'update', 'number', n, 'changes', jsonb_build_object('note', jsonb_build_object('old', n - 1, 'new', n))),
            '00000000-0000-4000-8000-000000000001', n, '\\x00' FROM (VALUES ('all', 500), ('more', 501)) AS rows (key, many), generate_series(1, many) AS n",
    );
    let server = desk.serve_proxy();
    let ana = server.as_person("ana");
    for (key, is_more) in [("all", false), ("more", true)] {
        let address = format!("/changes?table=public.prices&key={key}");
        let body = ana.get(&address).body;
        assert_eq!(body.matches("<section class=\"change\"").count(), 500);
        assert_eq!(body.contains("the newest 500 changes"), is_more, "{key}");
    }
}

#[test]
fn story_of_very_many_records_is_a_list() {
    let desk = Desk::new();
    add_notes(&desk, "many", 50_001, 0);
    let server = desk.serve_proxy();
    for person in [server.as_person("bo"), server.as_person("ana")] {
        let before = desk.readings();
        let answer = person.get("/request?id=many");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.body.contains("more than 50,000 records"),
            "{answer:?}"
        );
        assert!(answer.body.contains("/?request=many"), "{answer:?}");
        assert_eq!(desk.readings(), before + 1);
        // With time enough, however slow the machine is.
        let list = person.get("/?request=many&long=yes").body;
        assert!(list.contains("Older →"), "{list}");
    }
    // To whom none of them belong, it is as if there were none.
    let cy = desk.serve(&[
        "--trust-header",
        "X-Person",
        "--trust-secret-env",
        "PROXY_SECRET",
        "--reader",
        "cy=beta",
    ]);
    assert_eq!(cy.as_person("cy").get("/request?id=many").status, 404);
}

#[test]
fn clients_that_are_silent_or_slow_keep_nobody_out() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let open = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(40)))
            .unwrap();
        stream
    };
    let body = format!(
        "POST /login HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nlogin=",
        server.address
    );
    let large = format!(
        "POST /login HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n{}",
        server.address,
        "x".repeat(20_000)
    );
    // More than there are places: those that wait for one are served as others end.
    let mut silent: Vec<_> = (0..950).map(|_| open(b"GET / HT")).collect();
    let mut slow = open(body.as_bytes());
    let mut large = open(large.as_bytes());
    let auditor = server.log_in("aud", "");
    assert!(auditor.get("/").body.contains(ACME));
    let told = |stream: &mut TcpStream| {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    assert!(told(&mut slow).starts_with("HTTP/1.1 408"));
    assert!(told(&mut large).starts_with("HTTP/1.1 413"));
    for stream in &mut silent {
        let said = told(stream);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
}

#[test]
fn clients_that_ask_now_and_then_keep_nobody_out() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let asked = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let ask = |stream: &mut TcpStream| {
        let mut bytes = [0; 1_024];
        let _ = stream.write_all(asked.as_bytes());
        let length = stream.read(&mut bytes).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..length]).to_lowercase()
    };
    // As many as there are places; the last of them are told to go.
    let mut streams = Vec::new();
    let mut told = 0;
    for _ in 0..900 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let said = ask(&mut stream);
        assert!(said.starts_with("http/1.1 200"), "{said}");
        told += u32::from(said.contains("connection: close"));
        streams.push(stream);
    }
    assert!((200..300).contains(&told), "{told}");
    for stream in &mut streams {
        ask(stream);
    }
    let auditor = server.log_in("aud", "");
    assert!(auditor.get("/").body.contains(ACME));
}

#[test]
fn clients_that_read_nothing_keep_no_place() {
    let desk = Desk::new();
    let server = desk.serve(&[]);
    let asked = format!("GET /login HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).repeat(100);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    // Until no more of it is taken, since nothing of what is answered is.
    let mut is_full = false;
    wait_until("the connection is ended", 4 * PATIENCE, || {
        match stream.write(asked.as_bytes()) {
            Ok(_) => false,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                is_full = true;
                false
            }
            Err(_) => true,
        }
    });
    assert!(is_full, "it never waited for its client");
}

#[test]
fn one_person_takes_neither_all_downloads_nor_all_connections() {
    let desk = Desk::new();
    add_notes(&desk, "much", 20_000, 2_000);
    let server = desk.serve(&["--max-connections", "6"]);
    let reader = || server.log_in("rdr", "acme");
    // Of two sessions, and nobody reads them.
    let (one, two) = (reader(), reader());
    let begin = |person: &super::desk::Person<'_>| {
        let mut stream = server.open("GET", "/export?format=csv", &person.pairs(), "");
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let (first, second, third) = (begin(&one), begin(&two), begin(&two));
    assert_eq!([&*first.1, &second.1], ["HTTP/1.1 200"; 2]);
    assert_eq!(third.1, "HTTP/1.1 503");
    let auditor = server.log_in("aud", "");
    let answer = auditor.get("/export?format=csv&user=nobody&purpose=because");
    assert_eq!(answer.status, 200, "{answer:?}");
    drop((first, second));
    wait_until("there is a place again", PATIENCE, || {
        begin(&one).1 == "HTTP/1.1 200"
    });
    // Long enough ago that none is kept for the auditor.
    wait_until("its connection is closed", PATIENCE, || {
        let theirs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'aud'";
        desk.postgres.psql(theirs) == "0"
    });
    // Who asks all the time, in more sessions than there are connections, keeps nobody waiting.
    let asking = AtomicBool::new(true);
    let requests: Vec<String> = (0..7)
        .map(|_| {
            let cookie = reader().headers.remove(0).1;
            let page = "/record?kind=events&id=00000000-0000-0000-0000-000000000000";
            format!(
                "GET {page} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n",
                server.address
            )
        })
        .collect();
    let status = thread::scope(|scope| {
        for request in &requests {
            let (asking, address) = (&asking, &*server.address);
            scope.spawn(move || {
                while asking.load(Relaxed) {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
        wait_until("most connections are taken", PATIENCE, || {
            let theirs = "SELECT count(*) >= 4 FROM pg_stat_activity WHERE usename = 'rdr'";
            desk.postgres.psql(theirs) == "t"
        });
        let status = auditor.get("/?user=nobody").status;
        asking.store(false, Relaxed);
        status
    });
    assert_eq!(status, 200);
}
