//! Captures lines of the host's log as they are written.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A writer for a log layer that sends each line to the receiver.
#[derive(Debug)]
pub struct Heard(Sender<String>);

/// Returns a function that makes a writer for each line, and the receiver.
pub fn hear() -> (impl Fn() -> Heard, Receiver<String>) {
    let (said, heard) = channel();
    (move || Heard(said.clone()), heard)
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
