#![no_main]

use libfuzzer_sys::fuzz_target;
use tracing_audit::fuzzing;

fuzz_target!(
    init: tracing_audit_fuzz::seeds("begun", &fuzzing::begun_frames()),
    |bytes: &[u8]| fuzzing::begun(bytes)
);
