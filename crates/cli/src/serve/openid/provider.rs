//! The provider: its metadata and keys, fetched when somebody logs in, and kept for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::IssuerUrl;
use openidconnect::core::CoreProviderMetadata;
use tokio::sync::Mutex;

use super::http::Http;
use crate::complain;
use crate::error::causes;

/// How long metadata and keys are kept.
const KEPT: Duration = Duration::from_mins(10);

/// How long after a failure the provider is not asked again, so that logins do not queue up.
const PAUSE: Duration = Duration::from_secs(2);

/// After how long the same failure is told again.
const TELL_EVERY: Duration = Duration::from_mins(10);

/// The most of a failure that is told, in characters.
const MOST_TOLD: usize = 500;

/// The provider.
#[derive(Debug)]
pub(super) struct Provider {
    issuer: IssuerUrl,
    pub(super) http: Http,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    metadata: Option<(Arc<CoreProviderMetadata>, Instant)>,
    failed: Option<Instant>,
    told: Option<(String, Instant)>,
}

/// The provider does not answer, or not as one does. Why is told to the operator, not to the person.
#[derive(Debug)]
pub(super) struct Away;

impl Provider {
    pub(super) fn new(issuer: IssuerUrl, http: Http) -> Self {
        Self {
            issuer,
            http,
            known: Mutex::default(),
        }
    }

    /// Returns the name of its host, for people.
    pub(super) fn host(&self) -> &str {
        self.issuer.url().host_str().unwrap_or_default()
    }

    /// Returns its identifier, exactly as it is written in tokens.
    pub(super) fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// Returns its metadata, with its keys.
    pub(super) async fn metadata(&self) -> Result<Arc<CoreProviderMetadata>, Away> {
        self.metadata_but(None).await
    }

    /// Like [`Self::metadata`], but not these, which lack a key.
    pub(super) async fn metadata_after(
        &self,
        old: &Arc<CoreProviderMetadata>,
    ) -> Result<Arc<CoreProviderMetadata>, Away> {
        self.metadata_but(Some(old)).await
    }

    async fn metadata_but(
        &self,
        old: Option<&Arc<CoreProviderMetadata>>,
    ) -> Result<Arc<CoreProviderMetadata>, Away> {
        // Held while it is fetched: others wait for what is under way.
        let mut known = self.known.lock().await;
        if let Some((metadata, since)) = &known.metadata
            && since.elapsed() < KEPT
            && !old.is_some_and(|old| Arc::ptr_eq(old, metadata))
        {
            return Ok(Arc::clone(metadata));
        }
        if known.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Away);
        }
        match self.fetch().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known {
                    metadata: Some((Arc::clone(&metadata), Instant::now())),
                    ..Known::default()
                };
                Ok(metadata)
            }
            Err(why) => {
                known.failed = Some(Instant::now());
                self.tell(&mut known, &why);
                Err(Away)
            }
        }
    }

    /// Tells that it failed at something else than its metadata.
    pub(super) async fn tell_failure(&self, why: &str) -> Away {
        self.tell(&mut *self.known.lock().await, why);
        Away
    }

    fn tell(&self, known: &mut Known, why: &str) {
        let why: String = why.chars().take(MOST_TOLD).collect();
        let told = known.told.as_ref();
        if !told.is_some_and(|(last, at)| *last == why && at.elapsed() < TELL_EVERY) {
            complain(&format!(
                "nobody can log in: the provider {} does not answer as it should: {why}",
                self.issuer.as_str()
            ));
            known.told = Some((why, Instant::now()));
        }
    }

    async fn fetch(&self) -> Result<CoreProviderMetadata, String> {
        let fetching = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http);
        let metadata = fetching.await.map_err(|error| causes(&error))?;
        let login = metadata.authorization_endpoint().url();
        if !self.http.is_allowed(login) {
            return Err(format!("{login} is an address without TLS"));
        }
        if metadata.token_endpoint().is_none() {
            return Err(String::from("it names no token endpoint"));
        }
        Ok(metadata)
    }
}
