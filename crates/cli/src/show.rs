//! `show`: prints the story of one request.
//!
//! It first reads only each record's place in the story, no texts, so that a request may have any
//! number of records; then the records themselves, a page at a time, printing each page before
//! reading the next.

use std::collections::HashMap;
use std::io::{self, Write as _};

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use crate::Show;
use crate::database::{Database, is_bound_to_none, record_reading};
use crate::error::Error;
use crate::outline::Outline;
use crate::pages::Extent;
use crate::record::{LONG, Writer};
use crate::retain::print;
#[cfg(not(feature = "archive"))]
use crate::row::ArchivedStory;
use crate::row::{RecordId, Row};
use crate::story::Rows;
use crate::text::{Terminal, escape_line, paragraph};
use crate::tree;

/// What is printed: the places of all records, and those of an archive.
struct Story {
    outline: Outline,
    archived: HashMap<RecordId, Row>,
    is_request: bool,
}

/// Prints the story of a request; without a database, that of an archive.
pub(crate) async fn run(database: Option<&Database>, arguments: &Show) -> Result<(), Error> {
    let (request, tenant) = (&arguments.request_id, arguments.reading.tenant.as_deref());
    let mut source = match database {
        Some(database) => Some((database, database.connect_to_trail().await?)),
        None => None,
    };
    let mut outline = Outline::empty();
    let mut is_request = false;
    if let Some((database, connection)) = &mut source {
        if let Some(purpose) = &arguments.reading.purpose {
            record_reading(database, connection, purpose, Some(request), tenant, None).await?;
        }
        let failed = |source| database.read_error(source);
        outline = Outline::of_request(connection, tenant, request)
            .await
            .map_err(failed)?;
        is_request = !outline.nodes.is_empty();
        if !is_request && request.parse::<Uuid>().is_ok() {
            outline = Outline::of_record(connection, tenant, request)
                .await
                .map_err(failed)?;
        }
    }
    #[cfg(feature = "archive")]
    let found = {
        let source = source
            .as_mut()
            .map(|(database, connection)| (*database, connection));
        arguments.archive.story(source, request, tenant).await?
    };
    #[cfg(not(feature = "archive"))]
    let found = ArchivedStory::default();
    is_request |= found.is_request;
    let mut story = Story {
        archived: outline.add_archived(found.rows),
        outline,
        is_request,
    };
    if story.outline.nodes.is_empty() {
        if arguments.json {
            print("[]\n")?;
        }
        return Err(match &mut source {
            Some((database, connection)) => {
                let is_bound_to_none = is_bound_to_none(connection, tenant)
                    .await
                    .map_err(|source| database.read_error(source))?;
                nothing(&database.name(), arguments, is_bound_to_none)
            }
            None => nothing("the archive", arguments, false),
        });
    }
    if arguments.json {
        print_json(source.as_mut(), &mut story, tenant).await
    } else {
        print_story(source.as_mut(), &mut story, arguments).await
    }
}

/// Prints the records as a tree.
async fn print_story(
    source: Option<&mut (&Database, PgConnection)>,
    story: &mut Story,
    arguments: &Show,
) -> Result<(), Error> {
    let terminal = Terminal::of_stdout();
    let heading = if story.is_request {
        "Request"
    } else {
        "Record"
    };
    let heading = format!("{heading} {}", escape_line(&arguments.request_id));
    for line in paragraph(&heading, terminal.width, "").lines() {
        print(&format!("{}\n", terminal.bold(line)))?;
    }
    let outline = &story.outline;
    let differing = outline.differing();
    let writer = Writer {
        terminal,
        full: arguments.full,
        origin_us: outline.origin_us(),
        differing: &differing,
    };
    let mut out = String::new();
    write_outline(&mut out, outline, writer);
    print(&out)?;
    let extent = if arguments.full {
        Extent::Whole
    } else {
        Extent::Story
    };
    let places = tree::places(&outline.nodes, terminal.width);
    let mut places = places.iter();
    let records: Vec<RecordId> = places.clone().map(|place| place.node.record).collect();
    let tenant = arguments.reading.tenant.as_deref();
    let source = source.map(|(database, connection)| (*database, connection));
    let mut rows = Rows::new(source, tenant, &mut story.archived, records, extent);
    while let Some(page) = rows.next().await? {
        for mut row in page {
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
    Ok(())
}

/// Prints the records as an array, by start time.
async fn print_json(
    source: Option<&mut (&Database, PgConnection)>,
    story: &mut Story,
    tenant: Option<&str>,
) -> Result<(), Error> {
    let outline = &story.outline;
    let records: Vec<RecordId> = outline.nodes.iter().map(|node| node.record).collect();
    let source = source.map(|(database, connection)| (*database, connection));
    let mut rows = Rows::new(source, tenant, &mut story.archived, records, Extent::Json);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut before = "[";
    let mut unread = 0;
    while let Some(page) = rows.next().await? {
        for mut row in page {
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
fn nothing(place: &str, arguments: &Show, is_bound_to_none: bool) -> Error {
    let request = &arguments.request_id;
    if is_bound_to_none {
        let database = place.to_owned();
        return Error::NothingFound(Error::NoTenant { database }.to_string());
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
