//! Text in the exposition format of Prometheus, version 0.0.4.
//!
//! Written here, without a crate: a host's registry of metrics is none of ours, and the format is a
//! few lines. The program writes what it reads in the database with it too, so that all names begin
//! alike.

use std::fmt::{Display, Write as _};

/// What every name begins with.
const PREFIX: &str = "tracing_audit_";

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Counts up from the start of the process; its name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Metrics as text.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a counter without labels. The prefix is added to the name.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(MetricType::Counter, name, help, [([], value)]);
    }

    /// Adds a gauge without labels. The prefix is added to the name.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(MetricType::Gauge, name, help, [([], value)]);
    }

    /// Adds a metric with a sample for each set of labels, or nothing if there is no sample.
    pub fn family<'a, V: Display, const LABELS: usize>(
        &mut self,
        metric_type: MetricType,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'a str, &'a str); LABELS], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let type_name = match metric_type {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let _ = writeln!(self.text, "# HELP {PREFIX}{name} {help}");
        let _ = writeln!(self.text, "# TYPE {PREFIX}{name} {type_name}");
        for (labels, value) in samples {
            let labels = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
            let labels = match labels.join(",") {
                labels if labels.is_empty() => labels,
                labels => format!("{{{labels}}}"),
            };
            let _ = writeln!(self.text, "{PREFIX}{name}{labels} {value}");
        }
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::{Exposition, MetricType};

    #[test]
    fn label_values_and_help_are_escaped_and_lines_stay_whole() {
        let mut text = Exposition::default();
        let labels = [("rule", "a \"b\" \\ c\nd 1"), ("where", "é")];
        text.family(
            MetricType::Counter,
            "found_total",
            "Two\nlines, one \\.",
            [(labels, 3)],
        );
        text.gauge("age_seconds", "An age.", 1.5);
        assert_eq!(
            text.into_text(),
            "# HELP tracing_audit_found_total Two\\nlines, one \\\\.\n\
             # TYPE tracing_audit_found_total counter\n\
             tracing_audit_found_total{rule=\"a \\\"b\\\" \\\\ c\\nd 1\",where=\"é\"} 3\n\
             # HELP tracing_audit_age_seconds An age.\n\
             # TYPE tracing_audit_age_seconds gauge\n\
             tracing_audit_age_seconds 1.5\n"
        );
    }

    #[test]
    fn metric_without_samples_is_left_out() {
        let mut text = Exposition::default();
        let none: [([(&str, &str); 1], u64); 0] = [];
        text.family(MetricType::Gauge, "nothing", "Nothing.", none);
        assert_eq!(text.into_text(), "");
    }
}
