//! Why somebody was not let in.

use super::provider::Away;
use crate::serve::answer::Refusal;

/// Why somebody was not let in.
#[derive(Debug)]
pub(super) enum Denied {
    /// What came back is not believed.
    Refused(Why),
    /// The provider knows the person, and no rule does.
    NoRule(String),
    Away,
    Failed(Refusal),
}

/// Why what came back is not believed. The names are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// No login is under way by that state, in that browser.
    State,
    /// The provider let nobody in.
    Provider,
    /// The provider does not know the code.
    Code,
    /// There is no token, or none that can be read.
    Token,
    Signature,
    Issuer,
    Audience,
    Expired,
    Nonce,
    /// The claim with the name is missing, or no name.
    NoName,
    /// The provider does not say that the address is the person's.
    NotVerified,
}

impl Why {
    /// Returns its name, as it is recorded.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Provider => "provider",
            Self::Code => "code",
            Self::Token => "token",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Nonce => "nonce",
            Self::NoName => "no_name",
            Self::NotVerified => "not_verified",
        }
    }

    /// Returns what the person is told.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::State => {
                "This login began too long ago, in another browser, or has ended already. Log in again."
            }
            Self::Provider => "The provider did not let you in.",
            Self::NoName | Self::NotVerified => {
                "The provider does not say who you are, or that your address is yours. Ask whoever runs it."
            }
            _ => {
                "What the provider answered is not valid. Log in again; if it stays so, ask whoever runs this page."
            }
        }
    }
}

impl From<Away> for Denied {
    fn from(Away: Away) -> Self {
        Self::Away
    }
}

impl From<Why> for Denied {
    fn from(why: Why) -> Self {
        Self::Refused(why)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal)
    }
}
