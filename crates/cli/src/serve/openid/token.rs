//! From the code that comes back to the claims of a token that is believed.

use std::sync::Arc;

use axum::http::{Request, StatusCode, header};
use data_encoding::BASE64URL_NOPAD;
use openidconnect::core::{
    CoreClient, CoreErrorResponseType, CoreIdToken, CoreIdTokenClaims, CoreJwsSigningAlgorithm,
    CoreProviderMetadata, CoreRequestTokenError,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AuthorizationCode, ClaimsVerificationError, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, Nonce, OAuth2TokenResponse as _, PkceCodeVerifier,
    SignatureVerificationError, TokenResponse as _,
};

use super::OpenId;
use super::denied::{Denied, Why};
use super::person::Claims;
use super::provider::Away;
use crate::error::causes;

/// The client of a provider that has said where it is.
pub(super) type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The signatures that are believed: those that the provider alone can make. With HS256 it would be
/// whoever knows the client's secret.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What a token says that is believed.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) claims: Claims,
    /// What the provider calls the person.
    subject: String,
    access: AccessToken,
}

impl OpenId {
    /// Fetches the token for a code, and verifies it.
    pub(super) async fn redeem(
        &self,
        code: String,
        proof: PkceCodeVerifier,
        nonce: &Nonce,
    ) -> Result<Verified, Denied> {
        let metadata = self.provider.metadata().await?;
        let client = self.client(&metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| Denied::Away)?
            .set_pkce_verifier(proof);
        let answer = match request.request_async(&self.provider.http).await {
            Ok(answer) => answer,
            Err(CoreRequestTokenError::ServerResponse(error)) => match error.error() {
                CoreErrorResponseType::InvalidClient
                | CoreErrorResponseType::UnauthorizedClient => {
                    let why = "it does not accept --oidc-client-id, or the secret";
                    return Err(self.provider.tell_failure(why).await.into());
                }
                _ => return Err(Why::Code.into()),
            },
            Err(CoreRequestTokenError::Parse(..)) => return Err(Why::Token.into()),
            Err(error) => return Err(self.provider.tell_failure(&causes(&error)).await.into()),
        };
        let token = answer.id_token().ok_or(Why::Token)?;
        let access = answer.access_token();
        let claims = match self.verify(&metadata, token, access, nonce) {
            // It may have another key since.
            Err(Doubt::Key) => {
                let metadata = self.provider.metadata_after(&metadata).await?;
                self.verify(&metadata, token, access, nonce)
            }
            verified => verified,
        };
        let claims = claims.map_err(Why::from)?;
        Ok(Verified {
            subject: claims.subject().as_str().to_owned(),
            claims: payload(token).ok_or(Why::Token)?,
            access: access.clone(),
        })
    }

    fn verify<'t>(
        &self,
        metadata: &Arc<CoreProviderMetadata>,
        token: &'t CoreIdToken,
        access: &AccessToken,
        nonce: &Nonce,
    ) -> Result<&'t CoreIdTokenClaims, Doubt> {
        let client = self.client(metadata);
        let verifier = client.id_token_verifier().set_allowed_algs(SIGNATURES);
        let claims = token.claims(&verifier, nonce)?;
        let is_for_us = claims
            .authorized_party()
            .is_none_or(|party| **party == *self.client_id);
        if !is_for_us {
            return Err(Doubt::Other(Why::Audience));
        }
        if let Some(hash) = claims.access_token_hash() {
            let key = token
                .signing_key(&verifier)
                .map_err(ClaimsVerificationError::SignatureVerification)?;
            let algorithm = token
                .signing_alg()
                .map_err(ClaimsVerificationError::SignatureVerification)?;
            let is_of_token = AccessTokenHash::from_token(access, algorithm, key)
                .is_ok_and(|actual| actual == *hash);
            if !is_of_token {
                return Err(Doubt::Other(Why::Token));
            }
        }
        Ok(claims)
    }

    /// Asks for the claims that the token leaves out, which many providers tell only there.
    pub(super) async fn ask_besides(&self, verified: &Verified) -> Result<Claims, Denied> {
        let metadata = self.provider.metadata().await?;
        let Some(url) = metadata.userinfo_endpoint() else {
            return Ok(Claims::new());
        };
        let request = Request::get(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", verified.access.secret()),
            )
            .body(Vec::new())
            .map_err(|_| Why::Token)?;
        let answer = match self.provider.http.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed(&causes(&error)).await.into()),
        };
        if answer.status() != StatusCode::OK {
            let why = format!("it answers {} at {}", answer.status(), url.as_str());
            return Err(self.failed(&why).await.into());
        }
        let claims: Claims = serde_json::from_slice(answer.body()).map_err(|_| Why::Token)?;
        // It may be somebody else's.
        if claims.get("sub").and_then(|sub| sub.as_str()) != Some(&verified.subject) {
            return Err(Why::Token.into());
        }
        Ok(claims)
    }

    async fn failed(&self, why: &str) -> Away {
        self.provider.tell_failure(why).await
    }
}

/// Why a token is not believed.
#[derive(Debug)]
enum Doubt {
    /// Its key is not known, or was replaced.
    Key,
    Other(Why),
}

impl From<ClaimsVerificationError> for Doubt {
    fn from(error: ClaimsVerificationError) -> Self {
        use SignatureVerificationError::{CryptoError, NoMatchingKey};
        Self::Other(match error {
            ClaimsVerificationError::SignatureVerification(CryptoError(_) | NoMatchingKey) => {
                return Self::Key;
            }
            ClaimsVerificationError::SignatureVerification(_) => Why::Signature,
            ClaimsVerificationError::Expired(_) => Why::Expired,
            ClaimsVerificationError::InvalidAudience(_) => Why::Audience,
            ClaimsVerificationError::InvalidIssuer(_) => Why::Issuer,
            ClaimsVerificationError::InvalidNonce(_) => Why::Nonce,
            _ => Why::Token,
        })
    }
}

impl From<Doubt> for Why {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Key => Self::Signature,
            Doubt::Other(why) => why,
        }
    }
}

/// Returns all claims of a token: those that have no place in the library's type are read by name.
fn payload(token: &CoreIdToken) -> Option<Claims> {
    let token = token.to_string();
    let payload = BASE64URL_NOPAD
        .decode(token.split('.').nth(1)?.as_bytes())
        .ok()?;
    serde_json::from_slice(&payload).ok()
}
