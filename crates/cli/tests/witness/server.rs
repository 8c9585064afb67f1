//! The server: what it cosigns, what it refuses, and what it survives.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::trail::PATIENCE;
use testkit::{Chance, let_run, wait_until};
use tracing_audit::__program::ledger::checkpoint;
use tracing_audit::__program::ledger::key::{MemoryKey, Signer as _, Vkey};

use super::{Log, Place, connect, cosignatures, exchange, post, program, terminate};

#[test]
fn statuses_are_those_of_the_specification() {
    let place = Place::new();
    let witness = place.witness("witness.example/w1");
    let key = &place.log;
    let (first, second) = (Log::new(5, 5, 0), Log::new(9, 9, 0));
    let asked = |log: &Log, old| witness.post(log.request(old, key));

    let stranger = MemoryKey::generate("example.com/other").unwrap();
    assert_eq!(witness.post(first.request(0, &stranger)).status, 404);
    let forger = MemoryKey::generate(super::ORIGIN).unwrap();
    assert_eq!(witness.post(first.request(0, &forger)).status, 403);
    // Whoever has not signed learns no size.
    assert_eq!(witness.post(first.request(3, &forger)).status, 403);

    let found = cosignatures(&asked(&first, 0), &first, key, &witness.vkey);
    assert_eq!(found.len(), 1);
    let again = cosignatures(&asked(&first, 5), &first, key, &witness.vkey);
    assert!(again[0].time >= found[0].time);
    for old in [0, 3, 6, 9] {
        let answer = asked(&second, old);
        assert_eq!((answer.status, &*answer.body), (409, "5\n"), "{old}");
        assert!(
            answer.head.contains("\r\ncontent-type: text/x.tlog.size"),
            "{answer:?}"
        );
    }
    assert_eq!(asked(&first, 0).status, 409);
    let body = second.request(5, key);
    assert_eq!(
        witness.post(body.replacen("old 5", "old 10", 1)).status,
        400
    );
    let fork = Log::new(9, 3, 1);
    assert_eq!(asked(&fork, 5).status, 422);
    let answer = asked(&Log::new(5, 3, 1), 5);
    assert_eq!((answer.status, &*answer.body), (409, "5\n"));
    assert!(
        answer.head.contains("\r\ncontent-type: text/x.tlog.size"),
        "{answer:?}"
    );
    wait_until("the fork is told", PATIENCE, || {
        witness.told().contains("THE LOG WAS FORKED")
    });
    let mut without_path = second.note(key).to_string();
    without_path.insert_str(0, "old 5\n\n");
    assert_eq!(witness.post(without_path).status, 422);
    // Refused requests have changed nothing.
    cosignatures(&asked(&second, 5), &second, key, &witness.vkey);
    assert_eq!(asked(&first, 5).status, 409);

    let of = |line: &str| {
        let sent =
            format!("{line} HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        exchange(&mut witness.connect(), sent.as_bytes()).unwrap()
    };
    assert_eq!(of("POST /").status, 404);
    assert_eq!(of("POST /add-checkpoint/").status, 404);
    assert_eq!(of("GET /add-checkpoint").status, 405);
    assert_eq!(of("POST /add-checkpoint").status, 400);
}

#[test]
fn several_keys_of_a_log_and_several_logs_are_witnessed() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    let (next, other) = (
        MemoryKey::generate(super::ORIGIN).unwrap(),
        MemoryKey::generate("example.com/other").unwrap(),
    );
    let log = Log::new(5, 5, 0);
    cosignatures(
        &witness.post(log.request(0, &place.log)),
        &log,
        &place.log,
        &witness.vkey,
    );
    witness.kill();
    witness.logs.push(next.vkey().to_string());
    witness.logs.push(other.vkey().to_string());
    witness.start();
    // The next key goes on where the last one was.
    let grown = Log::new(9, 9, 0);
    assert_eq!(witness.post(grown.request(0, &next)).status, 409);
    cosignatures(
        &witness.post(grown.request(5, &next)),
        &grown,
        &next,
        &witness.vkey,
    );
    cosignatures(
        &witness.post(log.request(0, &other)),
        &log,
        &other,
        &witness.vkey,
    );
    assert_eq!(
        witness.post(grown.request(5, &other)).status,
        200,
        "each log is known by itself"
    );
}

#[test]
fn malformed_requests_are_refused_and_change_nothing() {
    let place = Place::new();
    let witness = place.witness("witness.example/w1");
    let log = Log::new(5, 5, 0);
    let good = log.request(0, &place.log);
    let mut chance = Chance::new();
    for _ in 0..300 {
        let mut body = good.clone().into_bytes();
        // Before the end of the log's signature: what follows may be by keys that are not known.
        let at = usize::try_from(chance.below(good.len() as u64 / 2)).unwrap();
        match chance.below(3) {
            0 => body.truncate(at),
            1 => {
                body[at] ^= 1 << chance.below(8);
            }
            _ => body.extend(b"\n\nold 0\n\n"),
        }
        let answer = witness.post(&body);
        assert!([400, 403, 404, 409].contains(&answer.status), "{answer:?}");
    }
    let large = vec![b'a'; 1 << 20];
    // It may be closed before all of it is read.
    if let Ok(answer) = witness.try_post(&large) {
        assert_eq!(answer.status, 413);
    }
    let sent =
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let refused = exchange(&mut witness.connect(), sent.as_bytes());
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 400));
    cosignatures(&witness.post(&good), &log, &place.log, &witness.vkey);
}

#[test]
fn requests_at_once_never_get_two_roots_of_one_size_cosigned() {
    let place = Place::new();
    let witness = place.witness("witness.example/w1");
    let mut size = 4;
    let mut log = Log::new(size, size, 0);
    cosignatures(
        &witness.post(log.request(0, &place.log)),
        &log,
        &place.log,
        &witness.vkey,
    );
    for round in 1..=25 {
        // Each fork is consistent with what was cosigned last, and with no other.
        let forks: Vec<_> = (0..6)
            .map(|fork| {
                let mut grown = log.clone();
                let more = Log::new(size + 3, 0, round * 10 + fork).leaves;
                grown.leaves.extend_from_slice(&more[log.leaves.len()..]);
                grown
            })
            .collect();
        let port = witness.port;
        let posted: Vec<_> = forks
            .iter()
            .map(|fork| {
                let body = fork.request(size, &place.log);
                thread::spawn(move || post(port, body.as_bytes()).unwrap().status)
            })
            .collect();
        let statuses: Vec<_> = posted
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let cosigned: Vec<_> = (0..6).filter(|at| statuses[*at] == 200).collect();
        assert_eq!(cosigned.len(), 1, "{statuses:?}");
        assert!(
            statuses.iter().all(|status| [200, 409].contains(status)),
            "{statuses:?}"
        );
        log = forks[cosigned[0]].clone();
        size += 3;
    }
}

#[test]
fn slow_clients_are_cut_off_and_keep_nobody_away() {
    let place = Place::new();
    let witness = place.witness("witness.example/w1");
    // More than are served at once: silent, within a line, and within a body.
    let begun = Instant::now();
    let beginnings = [
        "",
        "POST /add-check",
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 0\n",
    ];
    let mut slow: Vec<_> = (0..400)
        .map(|at| {
            let mut stream = witness.connect();
            let _ = stream.write_all(beginnings[at % 3].as_bytes());
            stream
        })
        .collect();
    let log = Log::new(5, 5, 0);
    let answer = witness.post(log.request(0, &place.log));
    cosignatures(&answer, &log, &place.log, &witness.vkey);
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    for stream in &mut slow {
        let mut rest = Vec::new();
        // An end or an error, and not the deadline of this test.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.is_empty() || rest.contains(" 408 "), "{rest}");
    }
}

#[test]
fn state_that_is_broken_or_in_use_is_refused() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    let log = Log::new(5, 5, 0);
    cosignatures(
        &witness.post(log.request(0, &place.log)),
        &log,
        &place.log,
        &witness.vkey,
    );
    let refused = |witness: &super::Witness| {
        let output = witness.command().output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let port = std::mem::replace(&mut witness.port, 0);
    assert!(refused(&witness).contains("another witness is using it"));
    witness.port = port;
    witness.kill();
    let mut files: Vec<_> = fs::read_dir(&witness.state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(".lock"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files.pop().unwrap();
    let kept = fs::read(&file).unwrap();
    let text = String::from_utf8(kept.clone()).unwrap();
    assert_eq!(text.lines().nth(2), Some("5"));
    let larger = text.replacen("\n5\n", "\n4\n", 1).into_bytes();
    for broken in [&[], &kept[..kept.len() - 1], &larger, &vec![0; 1 << 20]] {
        fs::write(&file, broken).unwrap();
        let told = refused(&witness);
        assert!(
            told.contains("is damaged") && told.contains(super::ORIGIN),
            "{told}"
        );
    }
    fs::write(&file, &kept).unwrap();
    witness.start();
    assert!(witness.told().contains("5 entries were cosigned last"));
    assert_eq!(witness.post(log.request(0, &place.log)).status, 409);
    cosignatures(
        &witness.post(log.request(5, &place.log)),
        &log,
        &place.log,
        &witness.vkey,
    );
}

#[test]
fn keys_that_cannot_be_right_are_refused() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    witness.kill();
    let refused = |witness: &super::Witness, why: &str| {
        let output = witness.command().output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(why), "{told}");
    };
    let log = std::mem::replace(&mut witness.logs, vec![witness.vkey.to_string()]);
    refused(&witness, "is a witness's, not a log's");
    witness.logs = vec![
        witness
            .vkey
            .with_algorithm(place.log.vkey().algorithm())
            .to_string(),
    ];
    refused(&witness, "is this witness's own");
    witness.logs = log;
    fs::set_permissions(&witness.key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&witness, "chmod 600");
}

#[test]
fn nothing_is_cosigned_that_cannot_be_kept() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    let (first, second) = (Log::new(5, 5, 0), Log::new(9, 9, 0));
    cosignatures(
        &witness.post(first.request(0, &place.log)),
        &first,
        &place.log,
        &witness.vkey,
    );
    witness.kill();
    // A file size limit stands in for a full disk, where none can be mounted.
    let mut limited = Command::new("bash");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -S -f 0; exec \"$@\"",
        "bash",
        env!("CARGO_BIN_EXE_tracing-audit"),
    ]);
    witness.arguments(&mut limited);
    witness.start_as(limited);
    let body = second.request(5, &place.log);
    for _ in 0..3 {
        let answer = witness.post(&body);
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(!answer.body.contains('\u{2014}'), "{answer:?}");
    }
    wait_until("it is told", PATIENCE, || {
        witness.told().contains("the state cannot be written")
    });
    // What needs no writing is cosigned, and nothing else was believed meanwhile.
    cosignatures(
        &witness.post(first.request(5, &place.log)),
        &first,
        &place.log,
        &witness.vkey,
    );
    let pid = witness.child.as_ref().unwrap().id().to_string();
    let lifted = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited:"])
        .status();
    assert!(lifted.unwrap().success());
    cosignatures(&witness.post(&body), &second, &place.log, &witness.vkey);
}

#[test]
fn full_disk_costs_cosignatures_and_nothing_else() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    witness.kill();
    fs::create_dir_all(&witness.state).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&witness.state)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        let _ = writeln!(
            std::io::stderr(),
            "nothing can be mounted here: see nothing_is_cosigned_that_cannot_be_kept"
        );
        return;
    }
    let unmount = Unmount(witness.state.clone());
    witness.start();
    let first = Log::new(5, 5, 0);
    cosignatures(
        &witness.post(first.request(0, &place.log)),
        &first,
        &place.log,
        &witness.vkey,
    );
    let large = witness.state.join("large");
    let filled = fs::write(&large, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    let second = Log::new(9, 9, 0);
    assert_eq!(witness.post(second.request(5, &place.log)).status, 500);
    wait_until("it is told", PATIENCE, || {
        witness.told().contains("the state cannot be written")
    });
    // A fork is not cosigned either, now or later.
    assert_eq!(
        witness
            .post(Log::new(9, 5, 1).request(5, &place.log))
            .status,
        500
    );
    fs::remove_file(&large).unwrap();
    cosignatures(
        &witness.post(second.request(5, &place.log)),
        &second,
        &place.log,
        &witness.vkey,
    );
    assert_eq!(
        witness
            .post(Log::new(9, 5, 1).request(5, &place.log))
            .status,
        409
    );
    witness.kill();
    witness.start();
    assert_eq!(witness.post(first.request(0, &place.log)).body, "9\n");
    witness.kill();
    drop(unmount);
}

/// Unmounts a folder on drop.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn request_that_has_begun_is_answered_before_the_end() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    let log = Log::new(5, 5, 0);
    let body = log.request(0, &place.log);
    let mut stream = witness.connect();
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), &body.as_bytes()[..20]].concat())
        .unwrap();
    // What comes on other connections shows that the first one is being read.
    assert_eq!(witness.post("").status, 400);
    let mut child = witness.child.take().unwrap();
    terminate(&child);
    let port = witness.port;
    wait_until("it accepts nobody any more", PATIENCE, || {
        connect(port).is_err()
    });
    let answer = exchange(&mut stream, &body.as_bytes()[20..]).unwrap();
    cosignatures(&answer, &log, &place.log, &witness.vkey);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn key_of_a_witness_is_printed_as_one() {
    let place = Place::new();
    let path = place.path("w.key");
    let made = program()
        .args(["key", "new", "--witness", "--name", "w"])
        .arg(&path)
        .output()
        .unwrap();
    let printed = String::from_utf8(made.stdout).unwrap();
    let key = tracing_audit::__program::seal::key_file::read(&path).unwrap();
    let mut note = Log::new(1, 1, 0).note(&place.log);
    checkpoint::cosign(&mut note, &key, 5).unwrap();
    let vkey = Vkey::parse(printed.trim()).unwrap();
    let verified =
        checkpoint::verify_note(&note, std::slice::from_ref(place.log.vkey()), &[vkey]).unwrap();
    assert_eq!(verified.cosignatures.len(), 1);
}

#[test]
fn witness_that_is_killed_at_random_never_cosigns_two_logs() {
    let place = Place::new();
    let mut witness = place.witness("witness.example/w1");
    let mut chance = Chance::new();
    // What was cosigned last, as far as it was answered, and every head that was cosigned.
    let mut log = Log::new(1, 1, 0);
    let mut cosigned = std::collections::BTreeMap::new();
    cosignatures(
        &witness.post(log.request(0, &place.log)),
        &log,
        &place.log,
        &witness.vkey,
    );
    cosigned.insert(1, log.head().root);
    for round in 0..30 {
        let port = witness.port;
        let (start, key) = (log.clone(), place.path("log.key"));
        let answered = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&answered);
        let asking = thread::spawn(move || {
            let key = tracing_audit::__program::seal::key_file::read(&key).unwrap();
            let mut answers = Vec::new();
            let mut last = start;
            for step in 1.. {
                // Two that contradict each other, one after the other: one answer may be lost.
                for fork in [1, 2] {
                    let size = last.head().size;
                    let mut grown = last.clone();
                    let more = Log::new(size + 2, 0, round * 1000 + step * 10 + fork).leaves;
                    grown.leaves.extend_from_slice(&more[last.leaves.len()..]);
                    match post(port, grown.request(size, &key).as_bytes()) {
                        Ok(answer) if answer.status == 200 => {
                            answers.push(grown.clone());
                            counted.fetch_add(1, Ordering::Relaxed);
                            last = grown;
                            break;
                        }
                        Ok(answer) => assert_eq!(answer.status, 409, "{answer:?}"),
                        // It was killed: nobody knows which of both it has kept.
                        Err(_) => return (answers, vec![grown]),
                    }
                }
            }
            unreachable!()
        });
        let at_least = chance.below(3);
        wait_until("some are cosigned", PATIENCE, || {
            answered.load(Ordering::Relaxed) >= at_least
        });
        let_run(chance.below(80));
        witness.kill();
        let (answers, unknown) = asking.join().unwrap();
        for answered in answers {
            let head = answered.head();
            let before = cosigned.insert(head.size, head.root);
            assert!(
                before.is_none_or(|root| root == head.root),
                "two roots at {}",
                head.size
            );
            assert!(answered.leaves.starts_with(&log.leaves));
            log = answered;
        }
        witness.start();
        // It has kept what it answered last, or what it was about to answer.
        let known: u64 = witness
            .post(Log::new(1000, 0, 9).request(0, &place.log))
            .body
            .trim()
            .parse()
            .unwrap();
        if known != log.head().size {
            let kept = unknown
                .into_iter()
                .find(|log| log.head().size == known)
                .unwrap();
            cosignatures(
                &witness.post(kept.request(known, &place.log)),
                &kept,
                &place.log,
                &witness.vkey,
            );
            assert!(cosigned.insert(known, kept.head().root).is_none());
            log = kept;
        }
    }
    assert!(cosigned.len() > 10, "{}", cosigned.len());
}
