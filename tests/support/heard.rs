//! What is said in the host's log, as it is said.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A writer for a log layer; who has the other end hears each line.
pub(crate) struct Heard(Sender<String>);

/// Makes a writer for each line, and the other end.
pub(crate) fn hear() -> (impl Fn() -> Heard, Receiver<String>) {
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
