//! Events of the Open Cybersecurity Schema Framework, a line of JSON each, for a SIEM.
//!
//! What the schema has a place for is put there; the columns of the record are in `unmapped` besides,
//! but for the few long ones that have a place as they are, so that nothing is lost. The mapping is a table in docs/export.md.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tracing_audit::Kind;

use super::columns as column;
use super::encoder::Encoder;
use super::jsonl::push_line;
use super::values::{Record, push_json, push_string};

/// The version of the schema.
pub(crate) const VERSION: &str = "1.8.0";

/// The columns that may be long and have a place of their own, as they are.
const PLACED: [&str; 3] = ["question_text", "sql_text", "rendered_prompt"];

/// A class of events.
#[derive(Clone, Copy, Debug)]
struct Class {
    uid: u32,
    name: &'static str,
    category: (u32, &'static str),
}

const APPLICATION: (u32, &str) = (6, "Application Activity");

const BASE: Class = class(0, "Base Event", (0, "Uncategorized"));
const FINDING: Class = class(2004, "Detection Finding", (2, "Findings"));
const AUTHENTICATION: Class = class(3002, "Authentication", (3, "Identity & Access Management"));
const HTTP: Class = class(4002, "HTTP Activity", (4, "Network Activity"));
const API: Class = class(6003, "API Activity", APPLICATION);
const DATASTORE: Class = class(6005, "Datastore Activity", APPLICATION);
const APPLICATION_ERROR: Class = class(6008, "Application Error", APPLICATION);

const fn class(uid: u32, name: &'static str, category: (u32, &'static str)) -> Class {
    Class {
        uid,
        name,
        category,
    }
}

/// Writes OCSF events.
#[derive(Debug, Default)]
pub(crate) struct Ocsf {
    line: Vec<u8>,
}

impl Encoder for Ocsf {
    fn begin(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        self.line.clear();
        let event = Event::of(record);
        serde_json::to_writer(&mut self.line, &event)?;
        // Behind the last attribute.
        self.line.pop();
        self.line.extend_from_slice(b",\"unmapped\":{");
        self.line.extend_from_slice(b"\"table\":\"");
        self.line.extend_from_slice(record.table.name().as_bytes());
        self.line.push(b'"');
        let is_left = |name: &str| record.unread.is_some() || !PLACED.contains(&name);
        for (column, field) in record.own().filter(|(_, field)| field.is_some()) {
            if !is_left(column.name) {
                continue;
            }
            self.line.extend_from_slice(b",\"");
            self.line.extend_from_slice(column.name.as_bytes());
            self.line.extend_from_slice(b"\":");
            push_json(&mut self.line, column.ty, field);
        }
        if let Some(why) = record.unread {
            self.line.extend_from_slice(b",\"unread\":");
            push_string(&mut self.line, why.as_bytes());
        }
        self.line.extend_from_slice(b"}}");
        push_line(out, &self.line);
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

/// A record that becomes an event.
struct Event<'a> {
    record: &'a Record<'a>,
    /// The fields of its metadata, as JSON.
    fields: BTreeMap<String, &'a RawValue>,
    attributes: Map<String, Value>,
}

impl<'a> Event<'a> {
    /// Returns the attributes of a record.
    fn of(record: &'a Record<'a>) -> Map<String, Value> {
        let mut event = Self {
            record,
            fields: serde_json::from_str(record.metadata()).unwrap_or_default(),
            attributes: Map::new(),
        };
        event.common();
        if record.unread.is_some() {
            event.is_of(BASE, 99, "Unread");
            event.set("message", record.unread);
            return event.attributes;
        }
        match record.table.kind() {
            Kind::QueryRun => event.query(),
            Kind::PromptRun => {
                let text = |column| record.text(column);
                let (model, provider) = (text(column::MODEL_NAME), text(column::PROVIDER));
                let template = text(column::PROMPT_TEMPLATE_NAME);
                let tokens = (
                    record.number(column::INPUT_TOKEN_COUNT),
                    record.number(column::OUTPUT_TOKEN_COUNT),
                );
                event.prompt(model, provider, template, tokens);
                event.set("message", text(column::RENDERED_PROMPT));
            }
            _ => event.event(),
        }
        event.attributes
    }

    /// Sets an attribute unless there is no value.
    fn set(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.attributes.insert(name.to_owned(), value.into());
        }
    }

    /// Returns a field of the metadata that is a text.
    fn field(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.fields.get(name)?.get()).ok()
    }

    /// Returns a field of the metadata that is a whole number.
    fn count(&self, name: &str) -> Option<i64> {
        serde_json::from_str(self.fields.get(name)?.get()).ok()
    }

    fn is_of(&mut self, class: Class, activity: u32, name: &str) {
        self.set("class_uid", Some(class.uid));
        self.set("class_name", Some(class.name));
        self.set("category_uid", Some(class.category.0));
        self.set("category_name", Some(class.category.1));
        self.set("activity_id", Some(activity));
        self.set("activity_name", Some(name));
        self.set("type_uid", Some(class.uid * 100 + activity));
        self.set("type_name", Some(format!("{}: {name}", class.name)));
    }

    /// Sets what all events have.
    fn common(&mut self) {
        let record = self.record;
        let mut metadata = json!({
            "version": VERSION,
            "product": {
                "name": "tracing-audit",
                "vendor_name": "tracing-audit",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": record.id().to_string(),
            "log_name": format!("audit.{}", record.table.name()),
        });
        if let Some(id) = record.uuid(column::TENANT_ID) {
            metadata["tenant_uid"] = json!(id.to_string());
        }
        if let Some(request) = record.text(column::REQUEST_ID) {
            metadata["correlation_uid"] = json!(request);
        }
        if let Some(action) = record.text(column::ACTION_TYPE) {
            metadata["event_code"] = json!(action);
        }
        self.set("metadata", Some(metadata));
        let began = record.began_us().map(|us| us.div_euclid(1_000));
        self.set("time", Some(began.unwrap_or_default()));
        self.set("start_time", began);
        let ended = record.time_us(column::FINISHED_AT);
        self.set("end_time", ended.map(|us| us.div_euclid(1_000)));
        let took = record.number(column::DURATION_MS);
        self.set(
            "duration",
            took.or_else(|| record.number(column::LATENCY_MS)),
        );
        let (id, status) = match record.text(column::STATUS) {
            Some("succeeded") => (1, "Success"),
            Some("failed" | "rejected") => (2, "Failure"),
            Some("unknown") | None => (0, "Unknown"),
            Some(other) => (99, other),
        };
        self.set("status_id", Some(id));
        self.set("status", Some(status));
        self.set("status_code", record.text(column::ERROR_CODE));
        self.set("status_detail", record.text(column::ERROR_MESSAGE));
        let (id, severity) = match record.text(column::STATUS) {
            Some("failed" | "rejected") => (2, "Low"),
            _ => (1, "Informational"),
        };
        self.set("severity_id", Some(id));
        self.set("severity", Some(severity));
    }

    /// Sets who did it, and from where: what the classes of applications require.
    fn actor(&mut self) {
        let record = self.record;
        let service = record
            .text(column::SERVICE_NAME)
            .filter(|name| !name.is_empty());
        let mut actor = Map::new();
        let agent = record.uuid(column::AGENT_ID);
        if let Some(user) = self.user() {
            actor.insert(String::from("user"), user);
        }
        if let Some(id) = agent {
            actor.insert(String::from("app_uid"), json!(id.to_string()));
        }
        if let Some(service) = service {
            actor.insert(String::from("app_name"), json!(service));
        }
        if let Some(session) = record.text(column::CONVERSATION_ID) {
            actor.insert(String::from("session"), json!({ "uid": session }));
        }
        if actor.is_empty() {
            actor.insert(String::from("app_name"), json!("unknown"));
        }
        self.set("actor", Some(actor));
        let mut source = json!({ "svc_name": service.unwrap_or("unknown") });
        let addresses = ["client.address", "client_address", "ip_address"];
        let address = addresses.iter().find_map(|name| self.field(name));
        if let Some(ip) = address.filter(|address| address.parse::<IpAddr>().is_ok()) {
            source["ip"] = json!(ip);
        }
        self.set("src_endpoint", Some(source));
    }

    fn user(&self) -> Option<Value> {
        let id = self.record.text(column::USER_ID)?;
        let mut user = json!({ "uid": id, "name": id });
        if let Some(role) = self.record.text(column::USER_ROLE) {
            user["type_id"] = json!(99);
            user["type"] = json!(role);
        }
        Some(user)
    }

    fn query(&mut self) {
        let record = self.record;
        self.is_of(DATASTORE, 4, "Query");
        self.actor();
        let source = record.uuid(column::DATASOURCE_ID);
        self.database(source.map_or_else(
            || json!({ "name": "unknown" }),
            |id| json!({ "uid": id.to_string() }),
        ));
        if let Some(sql) = record.text(column::SQL_TEXT) {
            let mut query = json!({ "uid": record.id().to_string(), "query_string": sql });
            if let Some(summary) = record.text(column::SQL_SUMMARY) {
                query["name"] = json!(summary);
            }
            self.set("query_info", Some(query));
        }
        self.set("message", record.text(column::QUESTION_TEXT));
    }

    fn database(&mut self, mut database: Value) {
        database["type_id"] = json!(0);
        database["type"] = json!("Unknown");
        self.set("database", Some(database));
        self.set("type_id", Some(1));
        self.set("type", Some("Database"));
    }

    /// Sets a call of a model.
    fn prompt(
        &mut self,
        model: Option<&str>,
        provider: Option<&str>,
        template: Option<&str>,
        tokens: (Option<i64>, Option<i64>),
    ) {
        self.api(99, "Prompt", "prompt");
        self.attributes["metadata"]["profiles"] = json!(["ai_operation"]);
        let (model, provider) = (model.unwrap_or("unknown"), provider.unwrap_or("unknown"));
        self.set(
            "ai_model",
            Some(json!({ "name": model, "ai_provider": provider })),
        );
        let service = self.record.text(column::SERVICE_NAME).unwrap_or("unknown");
        let role = self.record.text(column::ROLE).unwrap_or("unknown");
        let role_id = match role {
            "user" => 1,
            "assistant" => 2,
            "tool" => 3,
            "unknown" => 0,
            _ => 99,
        };
        let mut context =
            json!({ "service": { "name": service }, "ai_role": role, "ai_role_id": role_id });
        if let Some(template) = template {
            context["name"] = json!(template);
        }
        for (name, count) in [("prompt_tokens", tokens.0), ("completion_tokens", tokens.1)] {
            if let Some(count) = count.and_then(|count| i32::try_from(count).ok()) {
                context[name] = json!(count);
            }
        }
        self.set("message_context", Some(context));
    }

    /// Sets a call of something by its name.
    fn api(&mut self, activity: u32, name: &str, operation: &str) {
        self.is_of(API, activity, name);
        self.actor();
        let mut api = json!({ "operation": operation });
        if let Some(service) = self
            .record
            .text(column::SERVICE_NAME)
            .filter(|name| !name.is_empty())
        {
            api["service"] = json!({ "name": service });
        }
        if let Some(request) = self.record.text(column::REQUEST_ID) {
            api["request"] = json!({ "uid": request });
        }
        self.set("api", Some(api));
    }

    fn event(&mut self) {
        let record = self.record;
        let action = record.text(column::ACTION_TYPE).unwrap_or_default();
        let target = record.text(column::TARGET_ID);
        let summary = record.text(column::INPUT_SUMMARY);
        let message = summary.map(str::to_owned).or_else(|| self.field("message"));
        match action {
            "llm_call" => {
                let (model, provider) = (self.field("model"), self.field("provider"));
                let template = self.field("prompt_template_name");
                let tokens = (
                    self.count("input_token_count"),
                    self.count("output_token_count"),
                );
                self.prompt(
                    model.as_deref(),
                    provider.as_deref(),
                    template.as_deref(),
                    tokens,
                );
            }
            "tool_invocation" => self.api(99, "Tool call", target.unwrap_or(action)),
            "change" => self.change(),
            "security" => self.security(),
            "http_request" => self.http(),
            "system_error" => {
                self.is_of(APPLICATION_ERROR, 1, "General Error");
                self.set("severity_id", Some(4));
                self.set("severity", Some("High"));
            }
            "audit.read" => {
                self.is_of(DATASTORE, 1, "Read");
                self.actor();
                self.database(json!({ "name": "audit trail" }));
            }
            "log" | "system_metric" | "" => {
                self.is_of(BASE, 99, if action.is_empty() { "Other" } else { action });
            }
            _ => self.api(99, action, action),
        }
        self.set("message", message);
    }

    /// Sets a change of a row that the trail follows.
    fn change(&mut self) {
        let operation = self.field("operation").unwrap_or_default();
        let (activity, name) = match &*operation.to_ascii_lowercase() {
            "insert" => (5, "Write"),
            "update" => (2, "Update"),
            "delete" | "truncate" => (7, "Delete"),
            _ => (99, "Other"),
        };
        self.is_of(DATASTORE, activity, name);
        self.actor();
        let table = self.record.text(column::TARGET_TYPE).unwrap_or("unknown");
        self.set("table", Some(json!({ "name": table })));
        self.set("type_id", Some(3));
        self.set("type", Some("Table"));
    }

    fn security(&mut self) {
        let record = self.record;
        let event = self
            .field("event")
            .unwrap_or_else(|| String::from("security"));
        let target = record.text(column::TARGET_ID);
        if matches!(&*event, "login" | "login_refused") {
            self.is_of(AUTHENTICATION, 1, "Logon");
            let refused = target.filter(|_| event == "login_refused");
            let refused = refused.map(|name| json!({ "name": name }));
            let user = refused.or_else(|| self.user());
            self.set(
                "user",
                Some(user.unwrap_or_else(|| json!({ "name": "unknown" }))),
            );
            let service = record.text(column::SERVICE_NAME).unwrap_or("unknown");
            self.set("service", Some(json!({ "name": service })));
            return;
        }
        self.is_of(FINDING, 1, "Create");
        self.set(
            "finding_info",
            Some(json!({ "uid": record.id().to_string(), "title": event })),
        );
        let (id, severity) = match record.text(column::STATUS) {
            Some("failed" | "rejected") => (3, "Medium"),
            _ => (1, "Informational"),
        };
        self.set("severity_id", Some(id));
        self.set("severity", Some(severity));
    }

    fn http(&mut self) {
        let method = self.field("http.request.method").unwrap_or_default();
        let (activity, name) = match &*method {
            "CONNECT" => (1, "Connect"),
            "DELETE" => (2, "Delete"),
            "GET" => (3, "Get"),
            "HEAD" => (4, "Head"),
            "OPTIONS" => (5, "Options"),
            "POST" => (6, "Post"),
            "PUT" => (7, "Put"),
            "TRACE" => (8, "Trace"),
            "PATCH" => (9, "Patch"),
            _ => (99, "Other"),
        };
        self.is_of(HTTP, activity, name);
        self.actor();
        // The class has it in the profile of a host alone.
        self.attributes.remove("actor");
        let path = self.field("url.path").unwrap_or_else(|| String::from("/"));
        let mut url = json!({ "path": path });
        if let Some(query) = self.field("url.query") {
            url["query_string"] = json!(query);
        }
        let mut request = json!({ "url": url });
        if activity != 99 {
            request["http_method"] = json!(method);
        }
        if let Some(agent) = self.field("user_agent.original") {
            request["user_agent"] = json!(agent);
        }
        self.set("http_request", Some(request));
        if let Some(code) = self.count("http.response.status_code") {
            self.set("http_response", Some(json!({ "code": code })));
        }
    }
}
