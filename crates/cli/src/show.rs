//! `show`: prints the story of one request.
//!
//! It first reads only each record's place in the story, no texts, so that a request may have any
//! number of records; then the records themselves, a page at a time, printing each page before
//! reading the next.

use std::io::{self, Write as _};

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use crate::Show;
use crate::database::{Database, is_bound_to_none, record_reading};
use crate::error::Error;
use crate::outline::Outline;
use crate::pages::{Extent, Pages};
use crate::record::{LONG, Writer};
use crate::retain::print;
use crate::text::{Terminal, escape_line, paragraph};
use crate::tree;

/// How many records are printed at once.
const AT_ONCE: usize = 50;

/// Prints the story of a request.
pub(crate) async fn run(database: &Database, arguments: &Show) -> Result<(), Error> {
    let mut connection = database.connect_to_trail().await?;
    let (request, tenant) = (&arguments.request_id, arguments.reading.tenant.as_deref());
    if let Some(purpose) = &arguments.reading.purpose {
        record_reading(
            database,
            &mut connection,
            purpose,
            Some(request),
            tenant,
            None,
        )
        .await?;
    }
    let failed = |source| database.read_error(source);
    let mut outline = Outline::of_request(&mut connection, tenant, request)
        .await
        .map_err(failed)?;
    let is_request = !outline.nodes.is_empty();
    if !is_request && request.parse::<Uuid>().is_ok() {
        outline = Outline::of_record(&mut connection, tenant, request)
            .await
            .map_err(failed)?;
    }
    if outline.nodes.is_empty() {
        if arguments.json {
            print("[]\n")?;
        }
        let is_bound_to_none = is_bound_to_none(&mut connection, tenant)
            .await
            .map_err(failed)?;
        return Err(nothing(database, arguments, is_bound_to_none));
    }
    if arguments.json {
        return print_json(database, &mut connection, &outline, tenant).await;
    }
    let terminal = Terminal::of_stdout();
    let heading = if is_request { "Request" } else { "Record" };
    let heading = format!("{heading} {}", escape_line(request));
    for line in paragraph(&heading, terminal.width, "").lines() {
        print(&format!("{}\n", terminal.bold(line)))?;
    }
    let differing = outline.differing();
    let writer = Writer {
        terminal,
        full: arguments.full,
        origin_us: outline.origin_us(),
        differing: &differing,
    };
    let mut out = String::new();
    write_outline(&mut out, &outline, writer);
    print(&out)?;
    let extent = if arguments.full {
        Extent::Whole
    } else {
        Extent::Story
    };
    let places = tree::places(&outline.nodes, terminal.width);
    for places in places.chunks(AT_ONCE) {
        let mut pages = Pages::new(places.iter().map(|place| place.node.record), extent);
        let mut places = places.iter();
        while let Some(rows) = pages.next(&mut connection, tenant).await.map_err(failed)? {
            for mut row in rows {
                outline.tell_learned(&mut row);
                // A record that was removed meanwhile is left out.
                let place = places.by_ref().find(|place| row.is(place.node.record));
                if let Some(place) = place {
                    let mut out = String::new();
                    writer.write(&mut out, place, &row);
                    print(&out)?;
                }
            }
        }
    }
    Ok(())
}

/// Prints the records as an array, by start time.
async fn print_json(
    database: &Database,
    connection: &mut PgConnection,
    outline: &Outline,
    tenant: Option<&str>,
) -> Result<(), Error> {
    let mut pages = Pages::new(outline.nodes.iter().map(|node| node.record), Extent::Json);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut before = "[";
    let mut unread = 0;
    while let Some(rows) = pages
        .next(connection, tenant)
        .await
        .map_err(|source| database.read_error(source))?
    {
        for mut row in rows {
            outline.tell_learned(&mut row);
            write!(out, "{before}{}", row.json())?;
            before = ",\n ";
            unread += usize::from(row.unread.is_some());
        }
        out.flush()?;
    }
    writeln!(out, "{}", if before == "[" { "[]" } else { "]" })?;
    out.flush()?;
    match unread {
        0 => Ok(()),
        records => Err(Error::Unread { records }),
    }
}

/// Returns the error for an empty result, with possible reasons.
fn nothing(database: &Database, arguments: &Show, is_bound_to_none: bool) -> Error {
    let request = &arguments.request_id;
    let place = database.name();
    if is_bound_to_none {
        return Error::NothingFound(Error::NoTenant { database: place }.to_string());
    }
    Error::NothingFound(match &arguments.reading.tenant {
        Some(tenant) => {
            format!("there is no record of request {request:?} of tenant {tenant:?} in {place}")
        }
        None => format!(
            "there is no record of request {request:?} in {place}, or none that this role may read"
        ),
    })
}

/// Appends what all records share.
fn write_outline(out: &mut String, outline: &Outline, writer: Writer<'_>) {
    let mut say = |label: &str, text: &str| writer.entry(out, "  ", label, text, LONG);
    for (label, values) in outline.circumstances() {
        say(label, &values);
    }
    say("began", &format!("{} UTC", outline.began));
    say("took", &outline.took());
    say("records", &outline.counts());
    out.push('\n');
}
