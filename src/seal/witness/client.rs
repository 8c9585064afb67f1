//! One witness: a request for a cosignature, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Mutex;

use super::error::WitnessError;
use super::proofs::Proofs;
use crate::config::seal::witness::Witness;
use crate::https::{self, Connector};
use crate::ledger::checkpoint;
use crate::ledger::key::Vkey;
use crate::ledger::note::{MAX_NOTE_BYTES, Note, NoteSignature};
use crate::ledger::paths::Head;
use crate::ledger::witness::{add_checkpoint_body, known_size};

/// How long a witness has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a witness may say that it has cosigned another size, for one checkpoint: other sealers may be asking as well.
const MOST_SIZES: usize = 4;

const USER_AGENT: &str = concat!("tracing-audit/", env!("CARGO_PKG_VERSION"));

/// Asks one witness.
#[derive(Debug)]
pub(super) struct Client {
    witness: Witness,
    log: Vkey,
    http: Option<HttpClient<Connector, Full<Bytes>>>,
    /// The size that it has cosigned last, as far as is known here.
    known: u64,
}

impl Client {
    pub(super) fn new(witness: Witness, log: Vkey) -> Self {
        Self {
            witness,
            log,
            http: None,
            known: 0,
        }
    }

    /// Returns the name of the witness.
    pub(super) fn name(&self) -> &str {
        self.witness.vkey.name()
    }

    /// Asks for a cosignature of a checkpoint that the log has signed. Returns the line with it.
    pub(super) async fn cosign(
        &mut self,
        head: Head,
        note: &str,
        proofs: &Mutex<Proofs>,
    ) -> Result<NoteSignature, WitnessError> {
        let note =
            Note::parse(note.as_bytes()).map_err(|error| WitnessError::Invalid(error.into()))?;
        for _ in 0..MOST_SIZES {
            let known = self.known;
            if known > head.size {
                // Asked anew the next time: it may have been set right.
                self.known = 0;
                return Err(beyond(known, proofs).await?);
            }
            let path = proofs.lock().await.path(known, head.size).await?;
            let body = add_checkpoint_body(known, &path, &note);
            let (status, answer) = self.post(body).await?;
            match status {
                StatusCode::OK => {
                    let cosignature = self.cosignature(note, &answer)?;
                    self.known = head.size;
                    return Ok(cosignature);
                }
                StatusCode::CONFLICT => match known_size(&answer) {
                    None => return Err(WitnessError::Answer(status)),
                    Some(size) if size == known && size == head.size => {
                        return Err(WitnessError::OtherRoot { size });
                    }
                    Some(size) => self.known = size,
                },
                StatusCode::UNPROCESSABLE_ENTITY => {
                    // Asked anew the next time: this may not be what it has cosigned.
                    self.known = 0;
                    let size = head.size;
                    return Err(WitnessError::NotConsistent { known, size });
                }
                StatusCode::NOT_FOUND => return Err(WitnessError::UnknownLog),
                StatusCode::FORBIDDEN => return Err(WitnessError::UnknownKey),
                other => return Err(WitnessError::Status(other)),
            }
        }
        Err(WitnessError::Restless)
    }

    /// Verifies the cosignature of an answer.
    fn cosignature(&self, mut note: Note, answer: &[u8]) -> Result<NoteSignature, WitnessError> {
        let vkey = &self.witness.vkey;
        checkpoint::add_answer(&mut note, answer, &self.log, std::slice::from_ref(vkey))
            .map_err(WitnessError::Invalid)?;
        let lines = note.signatures().iter();
        lines
            .rev()
            .find(|line| line.is_by(vkey))
            .cloned()
            .ok_or(WitnessError::OtherKey)
    }

    async fn post(&mut self, body: String) -> Result<(StatusCode, Bytes), WitnessError> {
        // After an error it is made anew: its connection may be dead without any notice of it.
        let http = if let Some(http) = self.http.take() {
            http
        } else {
            let is_tls = self.witness.url.scheme_str() == Some("https");
            let connector = https::connector(is_tls).map_err(WitnessError::Connection)?;
            HttpClient::builder(TokioExecutor::new()).build(connector)
        };
        let request = Request::post(self.witness.url.clone())
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::USER_AGENT, USER_AGENT)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| WitnessError::Connection(error.to_string()))?;
        let asking = async {
            let answer = http.request(request).await;
            let answer =
                answer.map_err(|error| WitnessError::Connection(crate::error::causes(&error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_NOTE_BYTES)
                .collect()
                .await;
            let body = body.map_err(|_| WitnessError::Answer(status))?;
            Ok::<_, WitnessError>((status, body.to_bytes()))
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| WitnessError::NoAnswer {
                seconds: ANSWER_TIMEOUT.as_secs(),
            })??;
        self.http = Some(http);
        Ok(answered)
    }
}

/// Tells what it means that a witness has cosigned more entries than a checkpoint has.
async fn beyond(known: u64, proofs: &Mutex<Proofs>) -> Result<WitnessError, WitnessError> {
    let size = proofs.lock().await.size().await?;
    Ok(if known > size {
        WitnessError::Ahead { known, size }
    } else {
        WitnessError::Overtaken { known }
    })
}
