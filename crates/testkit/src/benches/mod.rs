//! Rounds, medians and tables: what the benches share.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[cfg(feature = "peers")]
pub mod peers;
pub mod traffic;
pub mod watch;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tracing_audit::{Audit, Stats};

/// Whether this run is only to show that the bench works.
pub fn is_short() -> bool {
    std::env::var_os("BENCH_SHORT").is_some_and(|short| !short.is_empty() && short != "0")
}

/// How often each case is measured: 13 times, or as `BENCH_ROUNDS` says.
fn rounds() -> u32 {
    match std::env::var("BENCH_ROUNDS") {
        Ok(rounds) => rounds
            .parse::<u32>()
            .expect("BENCH_ROUNDS is a number")
            .max(1),
        Err(_) if is_short() => 1,
        Err(_) => 13,
    }
}

/// Measures every case once a round, every other round in reverse order, so that what the machine does besides comes
/// to all of them. Returns each case's figures, by round.
pub fn alternate<T>(cases: &[T], mut measure: impl FnMut(&T) -> f64) -> Vec<Vec<f64>> {
    let rounds = rounds();
    let mut figures = vec![Vec::new(); cases.len()];
    for round in 1..=rounds {
        let begun = Instant::now();
        let mut order: Vec<_> = (0..cases.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for index in order {
            figures[index].push(measure(&cases[index]));
        }
        println!(
            "round {round} of {rounds}: {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
    figures
}

/// Returns the median of the figures.
pub fn median(figures: &[f64]) -> f64 {
    quantile(figures, 2)
}

/// The quantile of so many quarters.
fn quantile(figures: &[f64], quarters: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * quarters / 4]
}

/// The quarter of the figures below which and above which a quarter of them is.
pub fn quartiles(figures: &[f64]) -> String {
    format!("{:.0}-{:.0}", quantile(figures, 1), quantile(figures, 3))
}

/// The same of small figures.
pub fn fine_quartiles(figures: &[f64]) -> String {
    format!("{:.2}-{:.2}", quantile(figures, 1), quantile(figures, 3))
}

/// The median of what is made of two cases' figures of the same round.
pub fn paired(left: &[f64], right: &[f64], with: impl Fn(f64, f64) -> f64) -> f64 {
    let paired: Vec<_> = left
        .iter()
        .zip(right)
        .map(|(left, right)| with(*left, *right))
        .collect();
    median(&paired)
}

/// Prints a line of a table.
pub fn row(label: &str, cells: &[String]) {
    print!("{label:<42}");
    for cell in cells {
        print!("{cell:>14}");
    }
    println!();
}

/// Writes the figures of a bench, by their names, to `figures/<bench>.csv` in the build folder, where the bench `plot`
/// reads them. A run that only shows that the bench works writes none.
pub fn write_figures(bench: &str, figures: &[(&str, f64)]) {
    if is_short() {
        return;
    }
    let lines = figures
        .iter()
        .flat_map(|(name, figure)| [(*name).to_owned(), format!(",{figure:.2}\n")]);
    fs::create_dir_all(figures_folder())
        .and_then(|()| {
            let path = figures_folder().join(bench).with_extension("csv");
            fs::write(path, lines.collect::<String>())
        })
        .expect("the build folder can be written");
}

/// Returns the folder of the files that [`write_figures`] writes.
pub fn figures_folder() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    // target/release/deps/bench
    let build_folder = program
        .ancestors()
        .nth(3)
        .expect("cargo has built this program");
    build_folder.join("figures")
}

/// Fails when a record was dropped or is not in Postgres.
#[allow(clippy::must_use_candidate, reason = "most ask for nothing else")]
pub fn assert_all_committed(audit: &Audit) -> Stats {
    let stats = audit.stats();
    assert_eq!(
        (stats.dropped(), stats.accepted()),
        (0, stats.committed()),
        "{stats:?}"
    );
    stats
}

/// A folder that is removed with what is in it.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Creates a folder of this process.
    pub fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("tracing-audit-bench-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder for temporary files can be written");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
