//! What all pages have in common: the frame, and how a text of the trail is shown.
//!
//! Whatever comes from the trail was typed by somebody who may be hostile. It is always a text, never
//! HTML: maud escapes it, and [`visible`] shows the characters that would reorder or hide text.

use maud::{DOCTYPE, Markup, html};
use sqlx::types::Uuid;

use super::viewer::{Access, MOST_REQUEST, Viewer};
use crate::filter::encode;
pub(super) use crate::html::{line, outcome, time, visible};
use crate::row::Row;

/// The pages in the head, with their addresses.
const PAGES: [(&str, &str); 7] = [
    ("Trail", "/"),
    ("Users", "/users"),
    ("Agents", "/agents"),
    ("Models", "/models"),
    ("Failures", "/failures"),
    ("Changes", "/changes"),
    ("State", "/state"),
];

/// Returns a whole page. `at` is the address of the page in the head that it belongs to.
pub(super) fn page(title: &str, at: &str, viewer: Option<&Viewer>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (visible(title)) " · audit trail" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                link rel="stylesheet" href=(super::assets::STYLE.address);
                link rel="icon" href=(super::assets::ICON.address) type="image/svg+xml";
                script src=(super::assets::SCRIPT.address) defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    span.name { "Audit trail" }
                    @if let Some(viewer) = viewer {
                        nav aria-label="Pages" {
                            @for (name, address) in PAGES {
                                a href=(address) aria-current=[(address == at).then_some("page")] { (name) }
                            }
                        }
                        (who(viewer))
                    }
                }
                main #main tabindex="-1" { (body) }
            }
        }
    }
}

/// Who is logged in, with which rights, and the way out.
fn who(viewer: &Viewer) -> Markup {
    let rights = match &viewer.access {
        Access::Auditor | Access::LoginOfAll => "all tenants".to_owned(),
        Access::Tenant(tenant)
        | Access::Login {
            tenant: Some(tenant),
        } => format!("tenant {tenant}"),
        Access::Login { tenant: None } => "no tenant".to_owned(),
    };
    html! {
        form.who method="post" action="/logout" {
            span { (visible(&viewer.name)) " (" (visible(&rights)) ")" }
            input type="hidden" name="csrf" value=(viewer.csrf);
            button type="submit" { "Log out" }
        }
    }
}

/// Returns a link to the trail, filtered by one value.
pub(super) fn filtered(name: &str, value: &str) -> Markup {
    html! { a href={ "/?" (name) "=" (encode(value)) } { (line(value, 60)) } }
}

/// Returns a link to a request.
pub(super) fn request_link(request: &str) -> Markup {
    html! {
        @if request.len() <= MOST_REQUEST {
            a.request href=(request_address(request)) { (line(request, 40)) }
        } @else {
            (line(request, 40))
        }
    }
}

/// Returns the address of a request.
pub(super) fn request_address(request: &str) -> String {
    format!("/request?id={}", encode(request))
}

/// Returns the address of a conversation; of one tenant, if one was chosen, and up to a record, if one
/// is named.
pub(super) fn session_address(session: &str, tenant: Option<&str>, upto: Option<&str>) -> String {
    let mut address = format!("/session?id={}", encode(session));
    for (name, value) in [("tenant", tenant), ("upto", upto)] {
        if let Some(value) = value {
            address.extend(["&", name, "=", &encode(value)]);
        }
    }
    address
}

/// Returns the address of a record.
pub(super) fn record_address(table: &str, id: &str) -> String {
    format!("/record?kind={table}&id={}", encode(id))
}

/// Says that there are records of the future, and where they are. `query` is that of the filter.
pub(super) fn future(after: Option<Uuid>, query: &str) -> Markup {
    html! {
        @if let Some(after) = after {
            @let separator = if query.is_empty() { "" } else { "&" };
            p.notice role="status" {
                "There are records of a time that is still to come. "
                a href={ "/?after=" (after) (separator) (query) } { "They are on a page of their own" }
                "."
            }
        }
    }
}

/// Marks a record that was read in an archive.
pub(super) fn archive_badge(row: &Row) -> Markup {
    html! {
        @if let Some(archived) = &row.archived {
            " " span.badge title={ "Of " (visible(&archived.said)) } { "archive" }
        }
    }
}

/// Says something that the reader has to know.
pub(super) fn notice(text: &str) -> Markup {
    html! { p.notice role="status" { (visible(text)) } }
}
