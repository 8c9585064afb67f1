//! The libraries whose spans and events are adopted: see `tests/`.
