//! Where the layer is: boxed, optional, in a list, or reloaded.

use super::trail;
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use tracing::info_span;
use tracing_audit::AuditSpanExt as _;
use tracing_subscriber::prelude::*;

#[test]
fn boxed_optional_listed_and_reloadable_layers_record_spans() {
    use tracing_subscriber::{Layer as _, Registry, reload};
    let trail = Trail::start();
    let layer = || trail.audit.layer::<Registry>();
    let tell = |action_type: &str| {
        let span = info_span!("audit.event", action_type);
        assert!(
            span.audit_id().is_some() || action_type == "none" || action_type.contains("without")
        );
    };
    let registry = tracing_subscriber::registry;
    let boxed = registry().with(layer().boxed());
    tracing::subscriber::with_default(boxed, || tell("boxed"));
    let optional = registry().with(Some(layer()));
    tracing::subscriber::with_default(optional, || tell("optional"));
    let none = registry().with(None::<tracing_audit::AuditLayer<Registry>>);
    tracing::subscriber::with_default(none, || tell("none"));
    let listed = registry().with(vec![layer().boxed()]);
    tracing::subscriber::with_default(listed, || tell("listed"));
    let (reloadable, handle) = reload::Layer::new(Some(layer()));
    tracing::subscriber::with_default(registry().with(reloadable), || {
        tell("before the reload");
        let open = info_span!("audit.event", action_type = "closed without the layer");
        handle.reload(None).unwrap();
        tell("without the layer");
        drop(open);
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        trail_of(&trail),
        json!({"boxed": 1, "optional": 1, "listed": 1, "before the reload": 1})
    );
}

/// Returns the actions in the trail, with their counts.
fn trail_of(of: &Trail) -> Value {
    trail(&of.postgres).0
}
