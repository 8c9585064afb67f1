//! What the pipeline takes of a machine when nothing happens, and of its memory when much does. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::Postgres;
use testkit::benches::peers::Host;
use testkit::benches::{self, traffic, watch};

const SPANS_A_SECOND: u32 = 50_000;

/// Nothing listens there.
const UNREACHABLE: &str = "postgres://nobody@127.0.0.1:1/nothing";

/// No span at all, many spans, and many spans while Postgres cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Idle,
    Busy,
    Unreachable,
}

const CASES: [(Host, Load); 7] = [
    (Host::Registry, Load::Idle),
    (Host::Audit, Load::Idle),
    (Host::OpenTelemetry, Load::Idle),
    (Host::Registry, Load::Busy),
    (Host::Audit, Load::Busy),
    (Host::OpenTelemetry, Load::Busy),
    (Host::Audit, Load::Unreachable),
];

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, child, case, url, spool] = &arguments[..]
        && child == "--child"
    {
        let (host, load) = CASES[case.parse::<usize>().expect("the parent gives an index")];
        let figures = run(host, load, url, spool);
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return;
    }
    let postgres = Postgres::start_with(&["shared_buffers=128MB", "max_wal_size=4GB"]);
    let figures: Vec<[f64; 4]> = (0..CASES.len())
        .map(|case| {
            let spool = benches::Folder::new();
            let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
            child
                .args(["--child", &case.to_string(), &postgres.url()])
                .arg(&spool.0)
                .stderr(Stdio::inherit());
            let output = child.output().expect("this program can be started again");
            assert!(output.status.success(), "{child:?}: {}", output.status);
            let said = String::from_utf8_lossy(&output.stdout);
            let figures: Vec<_> = said
                .split_whitespace()
                .map(|figure| figure.parse().expect("a child prints its figures"))
                .collect();
            figures.try_into().expect("a child prints four figures")
        })
        .collect();
    print(&figures);
}

fn print(figures: &[[f64; 4]]) {
    let seconds = time().as_secs();
    println!();
    benches::row(
        &format!("idle for {seconds} s"),
        &["% of a core", "wake-ups / s", "memory, MB"].map(str::to_owned),
    );
    for ((host, _), [cpu, switches, peak, _]) in CASES.iter().zip(figures).take(3) {
        let cells = [
            format!("{cpu:.3}"),
            format!("{switches:.1}"),
            format!("{peak:.1}"),
        ];
        benches::row(host.name(), &cells);
    }
    println!();
    benches::row(
        &format!("{SPANS_A_SECOND} spans a second for {seconds} s"),
        &["% of a core", "memory, MB", "MB added", "records left"].map(str::to_owned),
    );
    let bare = figures[3][2];
    for ((host, load), [cpu, _, peak, pending]) in CASES.iter().zip(figures).skip(3) {
        let away = match load {
            Load::Unreachable => ", no Postgres",
            _ => "",
        };
        let cells = [
            format!("{cpu:.0}"),
            format!("{peak:.1}"),
            format!("{:+.1}", peak - bare),
            format!("{pending:.0}"),
        ];
        benches::row(&format!("{}{away}", host.name()), &cells);
    }
    let added = |index: usize| figures[index][2] - bare;
    benches::write_figures(
        "footprint",
        &[
            ("idle % of a core", figures[1][0]),
            ("idle wake-ups a second", figures[1][1]),
            ("MB added", added(4)),
            ("MB added without Postgres", added(6)),
        ],
    );
}

fn time() -> Duration {
    Duration::from_secs(if benches::is_short() { 3 } else { 20 })
}

/// Of the other threads than this one: the per cent of a core that they take and how often they wake up in a second; and the
/// most memory that the process had, in MB, and the records that were on their way at the end.
fn run(host: Host, load: Load, url: &str, spool: &str) -> [f64; 4] {
    let url = match load {
        Load::Unreachable => UNREACHABLE,
        _ => url,
    };
    let installed = host.install(url, spool);
    let pending = || {
        let audit = installed.audit.as_ref();
        audit.map_or(0.0, |audit| audit.stats().pending() as f64)
    };
    let seconds = u32::try_from(time().as_secs()).expect("few");
    let request = traffic::request(traffic::REQUESTS[0]).entered();
    traffic::query_run(0);
    // What is done once is done: connecting, migrating, the first batch.
    std::thread::sleep(Duration::from_secs(2));
    let before = others();
    match load {
        Load::Idle => std::thread::sleep(time()),
        Load::Busy | Load::Unreachable => {
            traffic::at_rate(SPANS_A_SECOND, SPANS_A_SECOND * seconds, traffic::query_run);
        }
    }
    let after = others();
    let figures = [
        (after.0 - before.0) / time().as_secs_f64() * 100.0,
        (after.1 - before.1) / time().as_secs_f64(),
        peak_bytes() / 1e6,
        pending(),
    ];
    drop(request);
    if load == Load::Unreachable {
        let stats = installed.audit.as_ref().map(tracing_audit::Audit::stats);
        assert!(stats.is_some_and(|stats| stats.dropped() == 0));
    } else {
        installed.finish(1);
    }
    figures
}

/// The seconds that the other threads of this process have had on a core, and how often they have slept.
fn others() -> (f64, f64) {
    let own = std::process::id().to_string();
    let others = fs::read_dir("/proc/self/task")
        .expect("Linux says what the threads do")
        .filter_map(Result::ok)
        .filter(|thread| thread.file_name().to_string_lossy() != own);
    others
        .map(|thread| {
            let ran = watch::run_time(&thread.path().join("schedstat")).unwrap_or_default();
            let status = thread.path().join("status");
            let slept = number(&status, "voluntary_ctxt_switches:");
            (ran.as_secs_f64(), slept)
        })
        .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// The most that the process has had in memory.
fn peak_bytes() -> f64 {
    number(Path::new("/proc/self/status"), "VmHWM:") * 1024.0
}

/// The number behind a name in such a file.
fn number(status: &Path, name: &str) -> f64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
