//! What many processes at once cost a server, and what the start and the end of one process take. See `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod fleet;
mod life;

use std::time::Instant;

fn main() {
    let begun = Instant::now();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--member", way, url, spool, phase] => fleet::member(way, url, spool, phase),
        ["--life", host, url, spool] => life::live(begun, host, url, spool),
        _ => {
            // Who sets the number wants these figures.
            if std::env::var_os("PROCESSES").is_none() {
                life::run();
            }
            fleet::run();
        }
    }
}
