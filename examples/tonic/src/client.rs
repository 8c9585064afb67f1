//! The client, which calls the service on behalf of a request of its own.

use tonic::{Request, Status, transport::Channel};
use tracing::{Span, field::Empty, instrument};
use tracing_audit::AuditSpanExt;

use crate::{Question, api::answers_client::AnswersClient};

/// Asks the service, and sends the request id along. The record is that of the call.
#[instrument(
    name = "audit.event",
    skip_all,
    fields(action_type = "question.asked", input_summary = question, status = Empty, error_code = Empty),
    err
)]
pub(crate) async fn ask(
    channel: Channel,
    request_id: &str,
    token: &str,
    question: &str,
) -> Result<Vec<String>, Status> {
    let mut request = Request::new(Question {
        text: question.to_owned(),
    });
    let headers = request.metadata_mut();
    let value = |text: &str| {
        text.parse()
            .map_err(|_| Status::invalid_argument("no header's value"))
    };
    headers.insert("authorization", value(&format!("Bearer {token}"))?);
    headers.insert("x-request-id", value(request_id)?);
    // The service's records become children of this one in the trace.
    if let Some(traceparent) = Span::current().traceparent() {
        headers.insert("traceparent", value(&traceparent)?);
    }
    let answer = AnswersClient::new(channel).ask(request).await;
    let answer = answer.inspect_err(|status| {
        Span::current().record("error_code", format!("{:?}", status.code()));
    })?;
    Span::current().record("status", "succeeded");
    Ok(answer.into_inner().rows)
}
