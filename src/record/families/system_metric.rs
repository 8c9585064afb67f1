//! Measurements of the system.

use super::definition::family;

family! {
    /// A measurement, with `action_type` `system_metric`; goes to `audit.activities`.
    ///
    /// ```
    /// use tracing_audit::SystemMetric;
    ///
    /// let metric = SystemMetric::new("queue_depth", 17.0).unit("records").component("worker");
    /// ```
    SystemMetric, "system_metric";
    /// Sets what was measured.
    metric = text("metric");
    /// Sets the measured value.
    value = number("value");
    /// Sets the unit, such as `ms` or `bytes`.
    pub unit = text("unit");
    /// Sets the part of the system that was measured.
    pub component = text("component");
}

impl SystemMetric {
    /// Makes a record of this value of a metric. A value that is not finite is kept as text.
    pub fn new(metric: impl Into<String>, value: f64) -> Self {
        Self::event().metric(metric).value(value)
    }
}
