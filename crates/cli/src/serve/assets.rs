//! The style, the script and the icon: embedded, small, and by addresses that change with them.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// A file that the pages use.
#[derive(Debug)]
pub(super) struct Asset {
    /// Where it is: with a hash of it, so that it can be kept for ever.
    pub(super) address: String,
    content_type: &'static str,
    text: &'static str,
}

/// How pages look.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "style.css",
        "text/css; charset=utf-8",
        include_str!("assets/style.css"),
    )
});

/// What only makes pages nicer: own time zones, and new records as they come.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "page.js",
        "text/javascript; charset=utf-8",
        include_str!("assets/page.js"),
    )
});

/// The icon of a tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, content_type: &'static str, text: &'static str) -> Self {
        let hash = Sha256::digest(text);
        let [a, b, c, d, ..] = hash[..] else {
            return Self::at(format!("/assets/{name}"), content_type, text);
        };
        Self::at(
            format!("/assets/{a:02x}{b:02x}{c:02x}{d:02x}/{name}"),
            content_type,
            text,
        )
    }

    fn at(address: String, content_type: &'static str, text: &'static str) -> Self {
        Self {
            address,
            content_type,
            text,
        }
    }
}

/// Returns the file at this address.
pub(super) fn answer(path: &str) -> Option<Response> {
    let files: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    let asset = files.into_iter().find(|asset| asset.address == path)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    Some((StatusCode::OK, headers, asset.text).into_response())
}
