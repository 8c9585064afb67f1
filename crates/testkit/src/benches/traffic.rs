//! Spans as a service has them that answers questions by SQL.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

/// A question and the statement that answers it. Together with the other fields of a span about 450 bytes.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub question: &'static str,
    /// The statement.
    pub sql: &'static str,
    /// What a span says of it in short.
    pub summary: &'static str,
}

/// The database that is asked.
pub const DATASOURCE: &str = "5f0c8a52-7d1e-4a3b-9c60-2b7e41d0a9f3";
/// The tenant of each request.
pub const TENANT: &str = "0b9e6c1d-38f4-4a57-8d2c-91c5e7a3f604";
/// Who asks.
pub const USER: &str = "ana.petrova@example.com";

/// The ids of four requests.
pub const REQUESTS: [&str; 4] = [
    "7a1f0c9e-52b3-4d68-a0e7-c4d91b38f256",
    "c83e5d20-9f47-41ab-b6c8-0e72a5f91d34",
    "19d4b7f6-e0a8-4c35-92f1-6b8c03e7da58",
    "e62a90b1-4c7d-4f8e-8315-d9f06a2b7c43",
];

/// What is asked, one after the other.
pub const QUESTIONS: [Asked; 8] = [
    Asked {
        question: "Which customers in Norway ordered more than ten times last year?",
        sql: "SELECT c.customer_id, c.company_name, count(*) AS orders FROM customers c JOIN orders o ON o.customer_id = c.customer_id WHERE c.country = 'Norway' AND o.ordered_at >= DATE '2025-01-01' AND o.ordered_at < DATE '2026-01-01' GROUP BY 1, 2 HAVING count(*) > 10",
        summary: "SELECT customers orders",
    },
    Asked {
        question: "What was our revenue per month and product category this year?",
        sql: "SELECT date_trunc('month', o.ordered_at) AS month, p.category, sum(i.quantity * i.unit_price) AS revenue FROM orders o JOIN order_items i USING (order_id) JOIN products p USING (product_id) WHERE o.ordered_at >= DATE '2026-01-01' GROUP BY 1, 2 ORDER BY 1, 3 DESC",
        summary: "SELECT orders order_items products",
    },
    Asked {
        question: "Show the five sales people with the most open invoices, and how much is due.",
        sql: "SELECT e.first_name, e.last_name, count(*) AS open_invoices, sum(v.amount_due) AS due FROM employees e JOIN orders o ON o.employee_id = e.employee_id JOIN invoices v USING (order_id) WHERE v.paid_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5",
        summary: "SELECT employees orders invoices",
    },
    Asked {
        question: "How many support tickets were reopened within a week?",
        sql: "SELECT count(DISTINCT t.ticket_id) FROM tickets t JOIN ticket_events closed ON closed.ticket_id = t.ticket_id AND closed.kind = 'closed' JOIN ticket_events again ON again.ticket_id = t.ticket_id AND again.kind = 'reopened' WHERE again.at - closed.at BETWEEN INTERVAL '0' AND INTERVAL '7 days'",
        summary: "SELECT tickets ticket_events",
    },
    Asked {
        question: "Which products are below their reorder level and not on order?",
        sql: "SELECT p.product_id, p.product_name, p.units_in_stock, p.reorder_level, s.company_name AS supplier FROM products p JOIN suppliers s USING (supplier_id) WHERE p.units_in_stock < p.reorder_level AND p.units_on_order = 0 AND NOT p.discontinued ORDER BY p.units_in_stock",
        summary: "SELECT products suppliers",
    },
    Asked {
        question: "What share of first-time buyers came back within 90 days?",
        sql: "WITH firsts AS (SELECT customer_id, min(ordered_at) AS at FROM orders GROUP BY 1) SELECT avg(EXISTS (SELECT FROM orders o WHERE o.customer_id = f.customer_id AND o.ordered_at > f.at AND o.ordered_at <= f.at + INTERVAL '90 days')::int) AS share FROM firsts f",
        summary: "SELECT orders",
    },
    Asked {
        question: "Average delivery time in days by carrier, slowest first, for the last quarter",
        sql: "SELECT s.carrier, round(avg(extract(epoch FROM s.delivered_at - s.shipped_at) / 86400)::numeric, 1) AS days, count(*) AS shipments FROM shipments s WHERE s.shipped_at >= DATE '2026-07-01' AND s.shipped_at < DATE '2026-10-01' AND s.delivered_at IS NOT NULL GROUP BY 1 ORDER BY 2 DESC",
        summary: "SELECT shipments",
    },
    Asked {
        question: "List all meetings with the customer Blauer See since March",
        sql: "SELECT m.meeting_id, m.subject, m.held_on, string_agg(e.last_name, ', ' ORDER BY e.last_name) AS participants FROM meetings m JOIN meeting_participants USING (meeting_id) JOIN employees e USING (employee_id) JOIN customers c USING (customer_id) WHERE c.company_name = 'Blauer See' AND m.held_on >= DATE '2026-03-01' GROUP BY 1, 2, 3",
        summary: "SELECT meetings meeting_participants",
    },
];

/// What a model answers, 2 kB.
static ANSWER: LazyLock<String> = LazyLock::new(|| {
    let sentence = "Eleven customers in Norway ordered more than ten times last year. ";
    sentence.repeat(2_000 / sentence.len() + 1)
});

/// The span that is around what a request does.
pub fn request(request_id: &str) -> Span {
    info_span!("request", request_id, tenant_id = TENANT)
}

/// Opens an audited span of ten fields, and of `$more`, with `sql_text` as `$sql`, records `$later` of it, and then three
/// of its fields.
macro_rules! query_run {
    ($n:ident, ($($sql:tt)+) $(, later $later:expr)? $(, with $($more:tt)+)?) => {{
        let asked = &QUESTIONS[$n % QUESTIONS.len()];
        let span = info_span!(
            "audit.query_run",
            question_text = asked.question,
            sql_text = $($sql)+,
            sql_summary = asked.summary,
            datasource_id = DATASOURCE,
            user_id = USER,
            user_role = "analyst",
            dialect = "postgresql",
            row_count = Empty,
            bytes_read = Empty,
            status = Empty,
            $($($more)+)?
        );
        let _entered = span.enter();
        $(span.record("sql_text", $later);)?
        span.record("row_count", $n);
        span.record("bytes_read", $n * 64);
        span.record("status", "succeeded");
    }};
}

/// Returns the statement that answers a question.
fn sql(n: usize) -> &'static str {
    QUESTIONS[n % QUESTIONS.len()].sql
}

/// An audited span of ten fields, three of which are recorded later.
pub fn query_run(n: usize) {
    query_run!(n, (sql(n)));
}

/// The same outside of any request, with its tenant on itself.
pub fn query_run_alone(n: usize) {
    query_run!(n, (sql(n)), with tenant_id = TENANT);
}

/// An audited span whose SQL is also recorded later.
pub fn query_run_sql_later(n: usize) {
    query_run!(n, (Empty), later sql(n));
}

/// The same span, whose SQL is a value that is shown (`%sql`).
pub fn query_run_sql_shown(n: usize) {
    query_run!(n, (%sql(n)));
}

/// The same, whose SQL is also recorded later.
pub fn query_run_sql_shown_later(n: usize) {
    query_run!(n, (Empty), later display(sql(n)));
}

/// Asks a model, whose answer is `$answer` when the span begins and recorded as `$later`.
macro_rules! prompt_run {
    ($n:ident, $answer:expr $(, later $later:expr)?) => {{
        let span = info_span!(
            "audit.prompt_run",
            rendered_prompt = QUESTIONS[$n % QUESTIONS.len()].question,
            response_text = $answer,
            model_name = "replay",
            provider = "openai",
            user_id = USER,
            input_token_count = Empty,
            output_token_count = Empty,
        );
        let _entered = span.enter();
        $(span.record("response_text", $later);)?
        span.record("input_token_count", 11);
        span.record("output_token_count", $n);
    }};
}

/// A question to a model, whose answer of 2 kB is known when the span begins.
pub fn prompt_run(n: usize) {
    prompt_run!(n, ANSWER.as_str());
}

/// The same, whose answer is recorded when it is there.
pub fn prompt_run_answer_later(n: usize) {
    prompt_run!(n, Empty, later ANSWER.as_str());
}

/// A call of a model, with the fields that rig 0.44 declares and records.
pub fn model_call(n: usize) {
    let asked = &QUESTIONS[n % QUESTIONS.len()];
    let span = info_span!(
        target: "rig::completions",
        "chat",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "openai",
        gen_ai.request.model = "replay",
        gen_ai.system_instructions = Empty,
        gen_ai.request.stream = Empty,
        gen_ai.response.id = Empty,
        gen_ai.response.model = Empty,
        rig.provider_request_id = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.reasoning_tokens = Empty,
        gen_ai.input.messages = Empty,
        gen_ai.output.messages = Empty,
    );
    let _entered = span.enter();
    let message = |role, text: &str| {
        serde_json::json!([{"role": role, "parts": [{"type": "text", "content": text}]}])
            .to_string()
    };
    span.record("gen_ai.input.messages", message("user", asked.question));
    span.record("gen_ai.response.id", "chatcmpl-1");
    span.record("gen_ai.response.model", "replay-2026");
    span.record("gen_ai.usage.input_tokens", 11);
    span.record("gen_ai.usage.output_tokens", 5);
    span.record("gen_ai.output.messages", message("assistant", asked.sql));
}

/// A request, with the fields and the event of tower-http 0.7.
pub fn http_request(n: usize) {
    let span = info_span!(
        target: "tower_http::trace::make_span",
        "request",
        method = %"GET",
        uri = %"/orders/7?token=t",
        version = ?"HTTP/1.1",
    );
    let _entered = span.enter();
    tracing::info!(
        target: "tower_http::trace::on_response",
        parent: &span,
        latency = %n,
        status = 200,
        "finished processing request"
    );
}

/// Does something so often in a second for so many times, in bursts with pauses between them.
pub fn at_rate(a_second: u32, times: u32, mut act: impl FnMut(usize)) {
    const BURSTS_A_SECOND: u32 = 200;
    let begun = Instant::now();
    for n in 0..times {
        act(n as usize);
        if (n + 1) % (a_second / BURSTS_A_SECOND).max(1) == 0 {
            let due = begun + Duration::from_secs(1) / 1_000 * ((n + 1) / (a_second / 1_000));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// A span that is neither audited nor has a field that records inherit.
pub fn render(n: usize) {
    let _entered = info_span!("render", template = "answer", rows = n).entered();
}

/// The bytes of the values of an audited span, on average.
pub fn value_bytes() -> usize {
    let texts: usize = QUESTIONS
        .iter()
        .map(|asked| asked.question.len() + asked.sql.len() + asked.summary.len())
        .sum();
    texts / QUESTIONS.len()
        + [DATASOURCE, USER, "analyst", "postgresql", "succeeded"]
            .map(str::len)
            .iter()
            .sum::<usize>()
        + 2 * size_of::<u64>()
}
