#![no_main]

use libfuzzer_sys::fuzz_target;
use tracing_audit::fuzzing;

fuzz_target!(
    init: tracing_audit_fuzz::seeds("chunk", &fuzzing::chunks()),
    |bytes: &[u8]| fuzzing::chunk(bytes)
);
