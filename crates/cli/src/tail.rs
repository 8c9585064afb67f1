//! `tail`: prints new rows as they are committed, a line each.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::task::Poll;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::Tail;
use crate::complain;
use crate::database::{Database, record_reading};
use crate::error::Error;
use crate::feed::Feed;
use crate::pages::{Extent, Pages};
use crate::row::{Row, word};
use crate::text::{Layout, Terminal, clip, columns, escape_line, pad};

/// The interval between polls for new batches.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The pause before the first attempt to reconnect; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The width of what a record is about if no terminal width is known, in columns.
const MAX_SUMMARY: usize = 200;

/// The width of a tenant's or a user's name or a request id, in columns.
const MAX_NAME: usize = 64;

/// A line: time, kind, outcome, duration, tenant, user, request id, and what it is about.
const LINE: Layout<8> = Layout {
    least: [16, 10, 9, 11, 8, 8, 11, 16],
    shrink: &[7, 4, 5, 6, 0, 1, 2, 3],
    drop: &[3, 4, 1, 5, 6, 0, 2],
};

/// Prints the newest rows, then new ones until the reader closes the pipe.
pub(crate) async fn run(database: &Database, arguments: &Tail) -> Result<(), Error> {
    let tenant = arguments.reading.tenant.as_deref();
    let print = Printer {
        terminal: Terminal::of_stdout(),
        json: arguments.json,
        full: arguments.full,
    };
    let mut connection = database.connect_to_trail().await?;
    if let Some(purpose) = &arguments.reading.purpose {
        record_reading(database, &mut connection, purpose, None, tenant, None).await?;
    }
    let (mut feed, newest) = Feed::begin(database, &mut connection, tenant, arguments.last).await?;
    let mut pages = Pages::new(newest, print.extent());
    while let Some(rows) = feed.page(&mut connection, &mut pages).await? {
        print.rows(&rows)?;
    }
    let reader = Reader::of_stdout();
    let mut pause = MIN_PAUSE;
    loop {
        match follow(&mut feed, &mut connection, print).await {
            Ok(()) => {
                pause = MIN_PAUSE;
                reader.pause(POLL_EVERY).await?;
            }
            Err(error) if error.is_lost_connection() => {
                complain(&format!("{error}; connecting again"));
                connection = connect_again(database, &reader, &mut pause).await?;
                feed.look_far();
                complain("connected again, going on where it stopped");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Prints new rows.
async fn follow(
    feed: &mut Feed<'_>,
    connection: &mut PgConnection,
    print: Printer,
) -> Result<(), Error> {
    for batch in feed.poll(connection).await? {
        let mut pages = Pages::new(feed.records(connection, &batch).await?, print.extent());
        while let Some(rows) = feed.page(connection, &mut pages).await? {
            print.rows(&rows)?;
            // Only after printing: had that failed, the rows would still be new.
            if let Some(last) = rows.last() {
                feed.advance_to(&batch, last);
            }
        }
        feed.advance(&batch);
        if batch.dead_letters > 0 {
            complain(&format!(
                "Postgres refused {} of a batch's records; they are in audit.dead_letters",
                batch.dead_letters
            ));
        }
    }
    Ok(())
}

/// Reconnects, retrying for as long as it takes. `pause` grows until a connection proves usable,
/// not only until one is accepted: a server in trouble may accept it and do nothing else.
async fn connect_again(
    database: &Database,
    reader: &Reader,
    pause: &mut Duration,
) -> Result<PgConnection, Error> {
    loop {
        reader.pause(*pause).await?;
        *pause = MAX_PAUSE.min(*pause * 2);
        match database.connect_to_trail().await {
            Ok(connection) => return Ok(connection),
            Err(error) if error.is_lost_connection() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Ends the process on Ctrl-C or SIGTERM.
///
/// Runs on its own thread, because the main one may be blocked on a reader that has stopped
/// reading. Without a handler, the first process of a container would ignore these signals.
pub(crate) fn end_on_signal() -> Result<(), Error> {
    let runtime = crate::runtime()?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if runtime.block_on(signal()).is_ok() {
                // Each line is written whole, so nothing needs cleaning up.
                std::process::exit(0);
            }
        })
        .map_err(Error::Runtime)?;
    Ok(())
}

/// Waits for a termination signal.
#[cfg(unix)]
pub(crate) async fn signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    std::future::poll_fn(|context| {
        let interrupted = interrupt.poll_recv(context).is_ready();
        if interrupted || terminate.poll_recv(context).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    Ok(())
}

/// Waits for a termination signal.
#[cfg(not(unix))]
pub(crate) async fn signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// The reader of our output.
struct Reader {
    #[cfg(unix)]
    pipe: Option<tokio::net::unix::pipe::Sender>,
}

impl Reader {
    /// Watches stdout if it is a pipe. Never makes it non-blocking: other processes may write to
    /// the same pipe.
    fn of_stdout() -> Self {
        #[cfg(unix)]
        {
            use std::fs::File;
            use std::os::fd::AsFd as _;
            use std::os::unix::fs::FileTypeExt as _;
            use tokio::net::unix::pipe::Sender;

            let stdout = io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .map(File::from)
                .ok();
            let pipe = stdout
                .filter(|file| file.metadata().is_ok_and(|data| data.file_type().is_fifo()))
                .and_then(|pipe| Sender::from_file_unchecked(pipe).ok());
            Self { pipe }
        }
        #[cfg(not(unix))]
        Self {}
    }

    /// Waits. Ends early, with the error for a closed pipe, if the reader is gone: `tail | head -1`
    /// then ends at once, not only at the next row.
    async fn pause(&self, pause: Duration) -> Result<(), Error> {
        #[cfg(unix)]
        if let Some(pipe) = &self.pipe {
            let gone = pipe.ready(tokio::io::Interest::ERROR);
            if let Ok(Ok(_)) = tokio::time::timeout(pause, gone).await {
                return Err(Error::Output(io::ErrorKind::BrokenPipe.into()));
            }
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Prints rows.
#[derive(Clone, Copy, Debug)]
struct Printer {
    terminal: Terminal,
    json: bool,
    /// Whether lines may be wider than the terminal.
    full: bool,
}

impl Printer {
    /// Returns how much of the rows is printed.
    fn extent(self) -> Extent {
        if self.json {
            Extent::Json
        } else {
            Extent::Line
        }
    }

    /// Prints rows, a line each.
    fn rows(self, rows: &[Row]) -> Result<(), Error> {
        let mut lines = String::new();
        for row in rows {
            lines.push_str(&if self.json {
                row.json()
            } else {
                self.line(row)
            });
            lines.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Formats one row as one line. Which columns it has depends on the terminal alone, so that all
    /// lines have the same; the summary and the names are cut to fit each line.
    fn line(self, row: &Row) -> String {
        let name = |text: &str| {
            let text = escape_line(text);
            match text.as_str() {
                "" => "-".to_owned(),
                _ if self.full => text,
                _ => clip(&text, MAX_NAME),
            }
        };
        let tenant = match row.tenant_key() {
            Some(key) => key.to_owned(),
            None => row.text("tenant_id").map(short).unwrap_or_default(),
        };
        let took = row.took().unwrap_or_else(|| "-".to_owned());
        let summary = escape_line(&summary(row));
        let cells = [
            format!("{}Z", escape_line(&row.began)),
            format!("{:<10}", word(row.table.kind())),
            format!("{:<9}", escape_line(row.status())),
            format!("{took:>11}"),
            name(&tenant),
            name(row.text("user_id").unwrap_or_default()),
            name(row.text("request_id").unwrap_or_default()),
            match self.terminal.width {
                None if !self.full => clip(&summary, MAX_SUMMARY),
                _ => summary,
            },
        ];
        let width = self.terminal.width.filter(|_| !self.full);
        let kept = width.map_or([true; 8], |width| LINE.kept(LINE.least, width));
        let widths = LINE.narrow(cells.each_ref().map(|cell| columns(cell)), kept, width);
        let mut line = Vec::new();
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let Some(width) = width else { continue };
            // A time is cut at its end without an ellipsis.
            let cell = match at {
                0 => cell.get(..width).unwrap_or(cell),
                _ => cell,
            };
            let cell = pad(cell, width);
            line.push(match at {
                2 => self.terminal.outcome(row.status(), &cell),
                _ => cell,
            });
        }
        line.join("  ").trim_end().to_owned()
    }
}

/// Returns what the record is about: its error's code, and the question, the SQL, the prompt or the
/// action.
pub(crate) fn summary(row: &Row) -> String {
    let mut summary = String::new();
    if let Some(why) = &row.unread {
        let _ = write!(summary, "({why}) ");
    }
    if let Some(code) = row.text("error_code") {
        let _ = write!(summary, "[{code}] ");
    }
    let first_of = |columns: &[&str]| columns.iter().find_map(|column| row.text(column));
    match (row.subject(), row.text("model_name")) {
        (Some(subject), Some(model)) => {
            let _ = write!(summary, "{subject} ({model})");
        }
        (subject, model) => summary.push_str(subject.as_deref().or(model).unwrap_or_default()),
    }
    summary.push(' ');
    let text = first_of(&["question_text", "sql_summary", "sql_text", "input_summary"]);
    summary.push_str(text.unwrap_or_default());
    summary
}

/// Shortens a UUID to its two ends, which tell it from others.
fn short(id: &str) -> String {
    match (id.get(..8), id.get(id.len().saturating_sub(4)..)) {
        (Some(start), Some(end)) if id.len() > 12 => format!("{start}…{end}"),
        _ => id.to_owned(),
    }
}
