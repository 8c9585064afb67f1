//! Headers and certificates that a collector wants.

use std::process::Stdio;

use super::{
    PROTOCOLS, arrived, assert_held, assert_left_is_exported, assert_on_time, exporting, record,
    rows, shut_down, start,
};
use testkit::child::{child, child_processes, start_until_ready, wait_for_parent};
use testkit::collector::{Behaviour, Collector, Tls};
use testkit::trail::{PATIENCE, pipeline};
use testkit::{otlp_to, wait_until};

child_processes!(exports_until_its_input_ends);

fn exports_until_its_input_ends() {
    let audit = tracing_audit::from_env().unwrap();
    record(&audit, 100);
    audit.flush_blocking(PATIENCE).unwrap();
    wait_for_parent();
    shut_down(&audit, 100);
}

#[test]
fn spans_are_kept_without_the_required_header_and_exported_with_it() {
    for protocol in PROTOCOLS {
        for by_environment in [false, true] {
            let collector = Collector::start(protocol);
            collector.behave(Behaviour::Header("x-api-key", "open, sesame"));
            let trail = start(otlp_to!(collector));
            record(&trail.audit, 300);
            assert_on_time(&trail.audit, &trail.postgres, 300);
            assert_held(&trail.audit, 300);
            shut_down(&trail.audit, 300);
            assert_eq!(collector.spans().len(), 0);
            assert_eq!(trail.spool.names().len(), 1, "it stays for the next");
            if by_environment {
                let mut child = start_until_ready(
                    exporting(
                        child!(exports_until_its_input_ends),
                        &trail.postgres,
                        &trail.spool,
                        &collector,
                    )
                    .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=open%2C%20sesame")
                    .stdin(Stdio::piped()),
                );
                collector.wait_for(400);
                wait_until("the folder that was left is removed", PATIENCE, || {
                    trail.spool.names().len() == 1
                });
                drop(child.stdin.take());
                assert!(child.wait().unwrap().success());
            } else {
                let otlp = otlp_to!(collector).header("X-Api-Key", "open, sesame");
                let next = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
                record(&next, 100);
                assert_on_time(&next, &trail.postgres, 400);
                assert_left_is_exported(&next, &trail.spool, 400);
                shut_down(&next, 100);
            }
            assert_eq!(trail.spool.names(), Vec::<String>::new());
            assert_eq!(arrived(&collector), rows(&trail.postgres));
        }
    }
}

#[test]
fn spans_are_kept_until_the_collectors_certificate_authority_is_trusted() {
    for protocol in PROTOCOLS {
        let tls = Tls::private();
        let authority = tls.authority.clone();
        let collector = Collector::with_tls(protocol, tls);
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 300);
        assert_on_time(&trail.audit, &trail.postgres, 300);
        assert_held(&trail.audit, 300);
        shut_down(&trail.audit, 300);
        assert_eq!(collector.requests(), 0, "not even a header got out");
        assert_eq!(trail.spool.names().len(), 1, "it stays for the next");
        let otlp = otlp_to!(collector).ca_certificate(authority);
        let next = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
        record(&next, 100);
        assert_on_time(&next, &trail.postgres, 400);
        assert_left_is_exported(&next, &trail.spool, 400);
        assert_eq!(arrived(&collector), rows(&trail.postgres));
    }
}
