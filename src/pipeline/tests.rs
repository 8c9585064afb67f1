use super::*;

#[test]
fn a_worker_that_panics_is_started_again_and_counted_until_it_is_to_stop() {
    let counters = Counters::default();
    let queue = Queue::new(1, 1);
    let mut runs = 0;
    let work = || {
        runs += 1;
        assert!(runs > 2, "as if something had gone wrong");
    };
    supervise(&counters, || false, work);
    assert_eq!(runs, 3);
    assert_eq!(crate::Stats::take(&counters, &queue).restarts(), 2);
    supervise(&counters, || true, || panic!("as if at the end"));
    assert_eq!(crate::Stats::take(&counters, &queue).restarts(), 3);
}

const MINUTE: Duration = Duration::from_mins(1);

/// A pipeline whose Postgres is not there, and its folder.
fn start() -> (Audit, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("tracing-audit-{}", id::new(0).simple()));
    let builder = Audit::builder().postgres("postgres://nobody@127.0.0.1:1/nowhere");
    (builder.spool(&folder).start().unwrap(), folder)
}

/// With nothing to wait for, it is called on the spool's thread.
fn panics() -> FlushReply {
    Box::new(|_| panic!("as if something had gone wrong"))
}

#[test]
fn a_forked_process_makes_layers_while_nobody_lets_go_of_the_list_of_them() {
    let builder = Audit::builder().postgres("postgres://nobody@127.0.0.1:1/nowhere");
    let shared = Shared::new(&builder.config().unwrap(), Arc::default(), Home::left());
    let held = shared.open.lock().unwrap();
    shared.open();
    assert!(held.is_empty());
}

#[test]
fn a_panic_on_the_spools_thread_costs_no_record() {
    let (audit, folder) = start();
    audit.shared().flush(MINUTE, panics());
    let until = Instant::now() + MINUTE;
    while audit.stats().restarts() == 0 {
        assert!(Instant::now() < until, "the panic was noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    audit.record(crate::Event::new("kept")).unwrap();
    let report = audit.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.spooled, report.dropped), (1, 0));
    drop(audit);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_shutdown_that_comes_together_with_a_panic_is_carried_out() {
    let (audit, folder) = start();
    let (reply, replied) = std::sync::mpsc::sync_channel(1);
    let mut commands = audit.shared().commands();
    commands.flushes.push((deadline(MINUTE), MINUTE, panics()));
    let stopped = Box::new(move |()| reply.send(()).unwrap_or_default());
    commands.stops.push((deadline(MINUTE), stopped));
    drop(commands);
    replied.recv_timeout(MINUTE).unwrap();
    assert_eq!(audit.stats().restarts(), 1);
    drop(audit);
    // Empty: its own folder went with the shutdown.
    std::fs::remove_dir(folder).unwrap();
}
