//! What all pages have in common: the frame, and how a text of the trail is shown.
//!
//! Whatever comes from the trail was typed by somebody who may be hostile. It is always a text, never
//! HTML: maud escapes it, and [`visible`] shows the characters that would reorder or hide text.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::viewer::{Access, Viewer};
use crate::filter::encode;
use crate::text::is_harmful;

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

/// Shows a text; characters that would reorder or hide text are shown by their numbers.
pub(super) fn visible(text: &str) -> Markup {
    let is_shown = |c: char| !is_harmful(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_shown) {
        return html! { (text) };
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut from = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| !is_shown(*c)) {
        out.push_str(&html! { (text[from..at]) }.into_string());
        let number = format!("U+{:04X}", u32::from(c));
        out.push_str(&html! { span.unseen { (number) } }.into_string());
        from = at + c.len_utf8();
    }
    out.push_str(&html! { (text[from..]) }.into_string());
    PreEscaped(out)
}

/// Shows a text on one line: white space as blanks, cut after so many characters.
pub(super) fn line(text: &str, chars: usize) -> Markup {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars) {
        Some((at, _)) => html! { (visible(&words[..at])) "…" },
        None => visible(&words),
    }
}

/// Shows a time in UTC, `YYYY-MM-DD HH:MM:SS.mmm`; the script adds the viewer's own zone.
pub(super) fn time(utc: &str) -> Markup {
    let is_usual = utc.len() == 23 && utc.is_ascii();
    let instant = format!("{}Z", utc.replace(' ', "T"));
    html! {
        @if is_usual {
            time datetime=(instant) { (utc) span.zone { " UTC" } }
        } @else {
            (visible(utc)) span.zone { " UTC" }
        }
    }
}

/// Shows an outcome, by a word and a sign that needs no colour.
pub(super) fn outcome(status: &str) -> Markup {
    let (class, sign) = match status {
        "succeeded" => ("good", "✓"),
        "failed" => ("bad", "✗"),
        "rejected" => ("bad", "⊘"),
        "cancelled" => ("soft", "–"),
        _ => ("soft", "?"),
    };
    html! { span class={ "outcome " (class) } { span.sign aria-hidden="true" { (sign) } " " (visible(status)) } }
}

/// Returns a link to the trail, filtered by one value.
pub(super) fn filtered(name: &str, value: &str) -> Markup {
    html! { a href={ "/?" (name) "=" (encode(value)) } { (line(value, 60)) } }
}

/// Returns a link to a request.
pub(super) fn request_link(request: &str) -> Markup {
    html! { a.request href=(request_address(request)) { (line(request, 40)) } }
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

/// Says something that the reader has to know.
pub(super) fn notice(text: &str) -> Markup {
    html! { p.notice role="status" { (visible(text)) } }
}
