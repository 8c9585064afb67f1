//! The standard environment variables of OpenTelemetry.

use std::time::Duration;

use super::otlp::{Endpoint, Otlp, OtlpProtocol, invalid};
use super::receivers::{OpenInference, Receiver};
use crate::error::BuildError;

/// Reads a variable.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables; an empty one counts as unset.
struct Vars<'a>(Read<'a>);

impl Vars<'_> {
    fn of(&self, name: &str) -> Option<String> {
        (self.0)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// Returns the value for spans, else that for all signals, and the variable's name.
    fn of_traces(&self, name: &str) -> Option<(String, String)> {
        [
            format!("OTEL_EXPORTER_OTLP_TRACES_{name}"),
            format!("OTEL_EXPORTER_OTLP_{name}"),
        ]
        .into_iter()
        .find_map(|name| Some((self.of(&name)?, name)))
    }

    fn is_true(&self, name: &str) -> bool {
        self.of(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl Otlp {
    /// Reads the standard variables of OpenTelemetry. Returns `None` if no endpoint is set, or if
    /// the export is switched off.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | base URL of the collector | no export |
    /// | `OTEL_EXPORTER_OTLP_PROTOCOL` | `grpc` or `http/protobuf` | `grpc` for port 4317, else `http/protobuf` |
    /// | `OTEL_EXPORTER_OTLP_HEADERS` | `name=value,…`, percent-encoded | none |
    /// | `OTEL_EXPORTER_OTLP_TIMEOUT` | milliseconds for a request | 10000 |
    /// | `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` or `none` | `none` |
    /// | `OTEL_EXPORTER_OTLP_INSECURE` | `true`: no TLS for a gRPC endpoint without a scheme | `false` |
    /// | `OTEL_EXPORTER_OTLP_CERTIFICATE` | file with the only CA certificates to trust, PEM | the system's |
    /// | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `…_CLIENT_KEY` | files to authenticate with, PEM | none |
    /// | the same as `OTEL_EXPORTER_OTLP_TRACES_…` | for spans alone; the endpoint is used as it is | |
    /// | `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` | for metrics; used as it is | |
    /// | `OTEL_RESOURCE_ATTRIBUTES` | `name=value,…`, percent-encoded | none |
    /// | `OTEL_TRACES_EXPORTER` | `none`: no spans | `otlp` |
    /// | `OTEL_METRICS_EXPORTER` | `otlp`: metrics too | no metrics |
    /// | `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds between two exports of metrics | 60000 |
    /// | `OTEL_SDK_DISABLED` | `true`: no export | `false` |
    /// | `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` | `true`: see [`capture_messages`](Self::capture_messages) | `false` |
    /// | `OTEL_SEMCONV_STABILITY_OPT_IN` | `database/dup`: the old names of database attributes too; `openinference` or `openinference/dup`: see [`openinference`](Self::openinference) | the conventions' names only |
    /// | `AUDIT_OTLP_FOR` | `phoenix`, `mlflow`, `langfuse`, `tempo`, separated by commas: see [`for_receiver`](Self::for_receiver) | the conventions' names only |
    /// | `AUDIT_OTLP_OWN_NAMES` | names of fields, separated by commas: see [`own_names`](Self::own_names) | none |
    ///
    /// As the specification of OpenTelemetry requires, a word or a number that is invalid is
    /// ignored; a warning says so when the first records are exported.
    ///
    /// # Errors
    ///
    /// [`BuildError::Otlp`] names the variable whose endpoint or headers are invalid, or whose file
    /// cannot be read.
    pub fn from_env() -> Result<Option<Self>, BuildError> {
        read(&|name| std::env::var(name).ok())
    }
}

/// Reads the settings from the variables; returns `None` if nothing is to be exported.
fn read(var: Read<'_>) -> Result<Option<Otlp>, BuildError> {
    let vars = Vars(var);
    if vars.is_true("OTEL_SDK_DISABLED") {
        return Ok(None);
    }
    let endpoint = Endpoint {
        base: vars.of("OTEL_EXPORTER_OTLP_ENDPOINT"),
        traces: vars.of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        metrics: vars.of("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
    };
    let has = |of_signal: &Option<String>| of_signal.is_some() || endpoint.base.is_some();
    let traces = exporter(vars.of("OTEL_TRACES_EXPORTER"), true) && has(&endpoint.traces);
    let metrics = exporter(vars.of("OTEL_METRICS_EXPORTER"), false) && has(&endpoint.metrics);
    if !traces && !metrics {
        return Ok(None);
    }
    let mut otlp = Otlp::at(endpoint).traces(traces).metrics(metrics);
    otlp.read_connection(&vars)?;
    otlp.read_credentials(&vars)?;
    otlp.read_content(&vars);
    otlp.check()?;
    Ok(Some(otlp))
}

impl Otlp {
    fn ignore(&mut self, name: impl Into<String>, why: &'static str) {
        self.ignored.push((name.into(), why));
    }

    fn read_connection(&mut self, vars: &Vars<'_>) -> Result<(), BuildError> {
        if let Some((said, name)) = vars.of_traces("PROTOCOL") {
            match said.to_ascii_lowercase().as_str() {
                "grpc" => self.protocol = Some(OtlpProtocol::Grpc),
                "http/protobuf" => self.protocol = Some(OtlpProtocol::HttpProtobuf),
                _ => self.ignore(name, "should be grpc or http/protobuf"),
            }
        }
        if self.protocol() == OtlpProtocol::Grpc {
            let is_insecure = vars
                .of_traces("INSECURE")
                .is_some_and(|(said, _)| said.eq_ignore_ascii_case("true"));
            let scheme = if is_insecure { "http" } else { "https" };
            self.endpoint.add_scheme(scheme);
        }
        if let Some((said, name)) = vars.of_traces("HEADERS") {
            self.headers = pairs(&said).ok_or_else(|| invalid(name, "should read name=value,…"))?;
        }
        if let Some((said, name)) = vars.of_traces("TIMEOUT") {
            match said.parse() {
                // No limit, by the specification.
                Ok(0) => self.timeout = Duration::from_hours(1),
                Ok(millis) => self.timeout = Duration::from_millis(millis),
                Err(_) => self.ignore(name, "should be milliseconds"),
            }
        }
        if let Some((said, name)) = vars.of_traces("COMPRESSION") {
            match said.to_ascii_lowercase().as_str() {
                "gzip" => self.gzip = true,
                "none" => {}
                _ => self.ignore(name, "should be gzip or none"),
            }
        }
        if let Some(said) = vars.of("OTEL_METRIC_EXPORT_INTERVAL") {
            match said.parse() {
                Ok(millis) => {
                    *self = self.clone().metrics_every(Duration::from_millis(millis));
                }
                Err(_) => self.ignore("OTEL_METRIC_EXPORT_INTERVAL", "should be milliseconds"),
            }
        }
        Ok(())
    }

    fn read_credentials(&mut self, vars: &Vars<'_>) -> Result<(), BuildError> {
        if let Some((file, name)) = vars.of_traces("CERTIFICATE") {
            self.ca_certificate = Some(content(name, &file)?);
        }
        self.client_certificate = match (
            vars.of_traces("CLIENT_CERTIFICATE"),
            vars.of_traces("CLIENT_KEY"),
        ) {
            (Some((certificate, name)), Some((key, key_name))) => {
                Some((content(name, &certificate)?, content(key_name, &key)?))
            }
            (None, None) => None,
            (Some((_, name)), None) | (None, Some((_, name))) => {
                return Err(invalid(name, "needs both a certificate and a key"));
            }
        };
        Ok(())
    }

    fn read_content(&mut self, vars: &Vars<'_>) {
        if let Some(said) = vars.of("OTEL_RESOURCE_ATTRIBUTES") {
            // The specification requires that the whole value is discarded if a part cannot be
            // parsed.
            match pairs(&said) {
                Some(pairs) => self.resource = pairs.into_iter().collect(),
                None => self.ignore("OTEL_RESOURCE_ATTRIBUTES", "should read name=value,…"),
            }
        }
        self.content.messages = vars
            .of("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")
            .is_some_and(|said| {
                ["true", "span_only", "span_and_event"]
                    .iter()
                    .any(|word| said.eq_ignore_ascii_case(word))
            });
        self.read_names(vars);
    }

    fn read_names(&mut self, vars: &Vars<'_>) {
        for word in words(vars.of("OTEL_SEMCONV_STABILITY_OPT_IN").as_deref()) {
            match word {
                "database/dup" => self.content.old_database_names = true,
                "openinference/dup" => self.content.names.openinference = OpenInference::Beside,
                "openinference" => self.content.names.openinference = OpenInference::Instead,
                // The variable is for all instrumentations; most of its words mean others.
                _ => {}
            }
        }
        for word in words(vars.of("AUDIT_OTLP_FOR").as_deref()) {
            match Receiver::of_word(word) {
                Some(receiver) => *self = self.clone().for_receiver(receiver),
                None => self.ignore(
                    "AUDIT_OTLP_FOR",
                    "should be of phoenix, mlflow, langfuse, tempo",
                ),
            }
        }
        let own = vars.of("AUDIT_OTLP_OWN_NAMES");
        *self = self.clone().own_names(words(own.as_deref()));
    }
}

/// Returns the words of a list with commas.
fn words(said: Option<&str>) -> impl Iterator<Item = &str> {
    said.into_iter()
        .flat_map(|said| said.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Returns whether OTLP is among the exporters that a signal's variable names.
fn exporter(said: Option<String>, default: bool) -> bool {
    said.map_or(default, |said| {
        said.split(',').any(|name| name.trim() == "otlp")
    })
}

/// Parses `name=value,…`, percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = name.trim();
            (!name.is_empty())
                .then(|| Some((percent_decode(name)?, percent_decode(value.trim())?)))?
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

fn content(name: String, file: &str) -> Result<Vec<u8>, BuildError> {
    std::fs::read(file)
        .map_err(|error| invalid(name, format!("cannot read the file that it names: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::otlp::DEFAULT_TIMEOUT;
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<Option<Otlp>, BuildError> {
        read(&|name| {
            vars.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn set(vars: &[(&str, &str)]) -> Otlp {
        from(vars).unwrap().unwrap()
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");

    #[test]
    fn export_needs_an_endpoint_and_can_be_disabled() {
        for vars in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "true")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
            &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:4318/m")],
        ] {
            assert!(from(vars).unwrap().is_none(), "{vars:?}");
        }
        assert!(!set(&[ENDPOINT]).metrics);
        assert!(set(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "otlp")]).metrics);
    }

    #[test]
    fn base_endpoint_gets_the_signal_path_and_a_signal_endpoint_is_used_unchanged() {
        let base = set(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318/api/")]);
        assert_eq!(base.traces_url().unwrap(), "https://c:4318/api/v1/traces");
        assert_eq!(base.metrics_url().unwrap(), "https://c:4318/api/v1/metrics");
        let signal = set(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x"),
        ]);
        assert_eq!(signal.traces_url().unwrap(), "http://t:1/x");
        assert_eq!(signal.metrics_url().unwrap(), "http://c:4318/v1/metrics");
    }

    #[test]
    fn protocol_defaults_to_that_of_the_port() {
        assert_eq!(set(&[ENDPOINT]).protocol(), OtlpProtocol::HttpProtobuf);
        let grpc = set(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]);
        assert_eq!(grpc.protocol(), OtlpProtocol::Grpc);
        assert_eq!(grpc.traces_url().unwrap(), "http://c:4317/");
        let said = set(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
        assert_eq!(said.protocol(), OtlpProtocol::Grpc);
    }

    #[test]
    fn grpc_endpoint_without_a_scheme_uses_tls_unless_insecure_is_set() {
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ];
        assert_eq!(set(&vars).traces_url().unwrap(), "https://c:4317/");
        let insecure = [vars[0], vars[1], ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
        assert_eq!(set(&insecure).traces_url().unwrap(), "http://c:4317/");
    }

    #[test]
    fn headers_and_resource_attributes_are_percent_decoded() {
        let otlp = set(&[
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "Api-Key=a%3Db%2Cc, x-team = r d ,",
            ),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b=%C3%A9"),
        ]);
        let headers = otlp.header_map().unwrap();
        assert_eq!(headers["api-key"], "a=b,c");
        assert_eq!(headers["x-team"], "r d");
        assert_eq!(otlp.resource["b"], "é");
        assert!(!format!("{otlp:?}").contains("a=b"));
    }

    #[test]
    fn invalid_otlp_setting_is_an_error_that_does_not_repeat_its_value() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=\n\u{7}secret"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/no/such/file"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "secret"),
        ] {
            let error = from(&[ENDPOINT, (name, value)]).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn unparsable_otlp_option_is_ignored_and_listed() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
        ] {
            let otlp = set(&[ENDPOINT, (name, value)]);
            assert_eq!(otlp.ignored.len(), 1, "{name}");
            assert_eq!(otlp.protocol(), OtlpProtocol::HttpProtobuf);
            assert_eq!(otlp.timeout, DEFAULT_TIMEOUT);
            assert!(!otlp.gzip && otlp.resource.is_empty());
        }
    }

    #[test]
    fn environment_enables_content_and_old_attribute_names() {
        let is_captured = |said| {
            set(&[
                ENDPOINT,
                ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", said),
            ])
            .content
            .messages
        };
        assert!(is_captured("true") && is_captured("SPAN_ONLY"));
        assert!(!is_captured("false") && !is_captured("EVENT_ONLY"));
        let dup = set(&[
            ENDPOINT,
            ("OTEL_SEMCONV_STABILITY_OPT_IN", "http, database/dup"),
        ]);
        assert!(dup.content.old_database_names);
        assert_eq!(dup.content.names.openinference, OpenInference::Off);
    }

    #[test]
    fn environment_names_the_receivers_and_the_fields_with_names_of_their_own() {
        let otlp = set(&[
            ENDPOINT,
            ("AUDIT_OTLP_FOR", "Phoenix, langfuse"),
            ("AUDIT_OTLP_OWN_NAMES", "app., tier"),
        ]);
        let names = otlp.content.names;
        assert_eq!(names.openinference, OpenInference::Beside);
        assert!(names.langfuse && !names.mlflow && !names.tempo);
        assert_eq!(otlp.content.own_names, ["app.", "tier"]);
        let all = set(&[ENDPOINT, ("AUDIT_OTLP_FOR", "mlflow,tempo,grafana")]);
        assert!(all.content.names.mlflow && all.content.names.tempo);
        assert_eq!(all.ignored.len(), 1, "a word that means nobody");
        for (word, names) in [
            ("http,openinference", OpenInference::Instead),
            ("openinference/dup", OpenInference::Beside),
        ] {
            let otlp = set(&[
                ENDPOINT,
                ("AUDIT_OTLP_FOR", "phoenix"),
                ("OTEL_SEMCONV_STABILITY_OPT_IN", word),
            ]);
            assert_eq!(otlp.content.names.openinference, names);
        }
    }
}
