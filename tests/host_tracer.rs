//! Beside a host's own tracing-opentelemetry layer.

fn main() {}
