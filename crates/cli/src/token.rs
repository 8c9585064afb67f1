//! A signing key in a PKCS#11 token, which never leaves it.
//!
//! **A PIN is tried once.** A token locks after some wrong ones, so after the first that is refused this process never logs in
//! again, and it does not even begin if the token says that one try is left.
//!
//! **After any other error all is begun anew**, the library's initialization as well: many libraries know of a token that went
//! away and came back only then. The sealer signs again after its pause.

mod uri;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as CallError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use tracing_audit::__program::ledger::key::{Algorithm, KeyError, SignError, Signer, Vkey};
use tracing_audit::__program::seal::key_file;

use self::uri::TokenUri;

/// The object identifier of Ed25519, 1.3.101.112, in DER.
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// What stands before a public key of 32 bytes that is an octet string in DER.
const OCTET_STRING: [u8; 2] = [0x04, 0x20];

/// Which token, and how to log in there.
#[derive(Args, Debug)]
pub(crate) struct TokenArguments {
    /// The signing key in a PKCS#11 token, as a URI by RFC 7512.
    ///
    /// As pkcs11:token=audit;object=trail?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/audit/pin
    /// with the file that has the PIN, which nobody else may be able to read. Ends with 3
    /// if the token refuses the PIN at the start: another try may lock it.
    #[arg(long, value_name = "URI", group = "signer", verbatim_doc_comment)]
    key_pkcs11: Option<String>,
    /// The environment variable with the token's PIN, instead of pin-source.
    #[arg(long, value_name = "NAME", requires = "key_pkcs11")]
    pin_env: Option<String>,
}

impl TokenArguments {
    /// Opens the key, which signs under this name; `None` if none was named.
    pub(crate) fn open(&self, name: Option<&str>) -> Result<Option<Token>, TokenError> {
        let opened = self.access()?.map(|access| {
            let name = name.ok_or(TokenError::NoName)?;
            Token::open(access, name)
        });
        opened.transpose()
    }

    /// Makes a new key in the token, and returns its verifier key; `None` if no token was named.
    pub(crate) fn generate(&self, name: &str) -> Result<Option<Vkey>, TokenError> {
        let made = self.access()?.map(|access| generate(access, name));
        made.transpose()
    }

    /// Returns the verifier key; `None` if no token was named. Logs in only if it is told a PIN.
    pub(crate) fn vkey(&self, name: &str) -> Result<Option<Vkey>, TokenError> {
        let vkey = self.access()?.map(|access| {
            let mut library = Library::load(access)?;
            let session = library.connect(Login::IfPossible)?;
            library.vkey(&session, name)
        });
        vkey.transpose()
    }

    fn access(&self) -> Result<Option<Access>, TokenError> {
        let Some(uri) = &self.key_pkcs11 else {
            return Ok(None);
        };
        let uri = TokenUri::parse(uri).map_err(TokenError::Uri)?;
        let pin = match (&self.pin_env, &uri.pin_source) {
            (Some(name), _) => match std::env::var(name) {
                Ok(pin) => Some(AuthPin::from(pin)),
                Err(_) => return Err(TokenError::PinVariable { name: name.clone() }),
            },
            (None, Some(path)) => Some(read_pin(path)?),
            (None, None) => None,
        };
        Ok(Some(Access { uri, pin }))
    }
}

/// Reads a PIN: the first line of a file.
fn read_pin(path: &Path) -> Result<AuthPin, TokenError> {
    let text = key_file::read_secret(path).map_err(|source| TokenError::PinFile {
        path: path.to_owned(),
        source,
    })?;
    Ok(AuthPin::from(text.lines().next().unwrap_or_default()))
}

/// Which key, and how to log in where it is.
struct Access {
    uri: TokenUri,
    pin: Option<AuthPin>,
}

/// Why a token does not do what it should. Nothing of this holds a PIN.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The URI is none.
    #[error("--key-pkcs11: {0}")]
    Uri(&'static str),
    /// The name of the log is missing.
    #[error(
        "--key-pkcs11 needs --key-name as well, the name of the log, as example.com/trail: a token does not have it"
    )]
    NoName,
    /// The PIN's file cannot be used.
    #[error("the PIN in {}: {source}", .path.display())]
    PinFile {
        /// The file.
        path: PathBuf,
        /// The cause, and what to do.
        source: io::Error,
    },
    /// There is no PIN in the environment.
    #[error("the environment variable {name} with the token's PIN is not set, or is not UTF-8")]
    PinVariable {
        /// The variable.
        name: String,
    },
    /// The library cannot be loaded.
    #[error("the PKCS#11 library {} cannot be loaded: {source}", .path.display())]
    Library {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: CallError,
    },
    /// There is no such token.
    #[error("there is no token {place} now")]
    NoToken {
        /// Which one.
        place: String,
    },
    /// Several tokens are called so, or several keys.
    #[error("{place} is more than one {what}: add serial= or id= to the URI")]
    Several {
        /// Which ones.
        place: String,
        /// A token, or a key.
        what: &'static str,
    },
    /// There is no such key.
    #[error(
        "the token has no {what} Ed25519 key {place}: `tracing-audit key new --key-pkcs11` makes one"
    )]
    NoKey {
        /// Which one.
        place: String,
        /// Private or public.
        what: &'static str,
    },
    /// There is one already.
    #[error("the token has a key {place} already: name another object")]
    KeyThere {
        /// Which one.
        place: String,
    },
    /// No PIN was given.
    #[error(
        "the token {place} asks for a PIN: add pin-source=file:/path to the URI, or name a variable with --pin-env"
    )]
    NoPin {
        /// Which token.
        place: String,
    },
    /// The PIN was refused.
    #[error(
        "the token {place} refused the PIN ({code:?}). It is not tried again, so that the token is not locked: correct the PIN, and \
         start this program again"
    )]
    PinRefused {
        /// Which token.
        place: String,
        /// The answer.
        code: RvError,
    },
    /// The next wrong PIN locks the token.
    #[error(
        "the token {place} locks with the next wrong PIN, so none is tried: log in once by other means, as with `pkcs11-tool --login`, \
         and start this program again"
    )]
    LastTry {
        /// Which token.
        place: String,
    },
    /// A function failed.
    #[error("the token {place}: C_{function:?} failed: {code:?}")]
    Call {
        /// Which token.
        place: String,
        /// The function of PKCS#11.
        function: Function,
        /// The answer.
        code: RvError,
    },
    /// The library answered with something else than PKCS#11 says.
    #[error("the token {place}: {source}")]
    Answer {
        /// Which token.
        place: String,
        /// What is wrong.
        source: CallError,
    },
    /// The public key is none, or its name cannot be one.
    #[error("the key {place}: {source}")]
    Key {
        /// Which key.
        place: String,
        /// What is wrong.
        source: KeyError,
    },
}

impl TokenError {
    /// Whether to begin again would try a PIN that was refused.
    pub(crate) fn is_about_pin(&self) -> bool {
        matches!(self, Self::PinRefused { .. } | Self::LastTry { .. })
    }
}

/// When to log in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    /// The token is of no use otherwise.
    Always,
    /// If there is a PIN: what is public is seen without one by most tokens.
    IfPossible,
    /// Always, for a session that may write.
    ToWrite,
}

/// A library, and how to reach the key by it.
struct Library {
    access: Access,
    /// Loaded once: a library that is unloaded may leave threads behind.
    pkcs11: Pkcs11,
    /// With which answer the PIN was refused.
    refused: Option<RvError>,
}

impl Library {
    fn load(access: Access) -> Result<Self, TokenError> {
        let path = &access.uri.module_path;
        let pkcs11 = Pkcs11::new(path).map_err(|source| TokenError::Library {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            access,
            pkcs11,
            refused: None,
        })
    }

    fn place(&self) -> String {
        self.access.uri.to_string()
    }

    fn failed(&self, error: CallError) -> TokenError {
        let place = self.place();
        match error {
            CallError::Pkcs11(code, function) => TokenError::Call {
                place,
                function,
                code,
            },
            source => TokenError::Answer { place, source },
        }
    }

    /// Begins a session with the token.
    fn connect(&mut self, login: Login) -> Result<Session, TokenError> {
        if let Some(code) = self.refused {
            let place = self.place();
            return Err(TokenError::PinRefused { place, code });
        }
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match self.pkcs11.initialize(arguments) {
            Ok(()) | Err(CallError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let (slot, info) = self.slot()?;
        let session = if login == Login::ToWrite {
            self.pkcs11.open_rw_session(slot)
        } else {
            self.pkcs11.open_ro_session(slot)
        };
        let session = session.map_err(|error| self.failed(error))?;
        let has_pin = self.access.pin.is_some();
        if info.login_required() && (has_pin || login != Login::IfPossible) {
            self.login(&session, &info)?;
        }
        Ok(session)
    }

    /// Finds the only token that is meant.
    fn slot(&self) -> Result<(Slot, TokenInfo), TokenError> {
        let slots = self.pkcs11.get_slots_with_initialized_token();
        let mut found = None;
        for slot in slots.map_err(|error| self.failed(error))? {
            // One that is just being taken out is not there.
            let Ok(info) = self.pkcs11.get_token_info(slot) else {
                continue;
            };
            if !self.access.uri.is_token(slot, &info) {
                continue;
            }
            if found.is_some() {
                let (place, what) = (self.place(), "token");
                return Err(TokenError::Several { place, what });
            }
            found = Some((slot, info));
        }
        let place = self.place();
        found.ok_or(TokenError::NoToken { place })
    }

    /// Logs in, once.
    fn login(&mut self, session: &Session, info: &TokenInfo) -> Result<(), TokenError> {
        let place = self.place();
        let pin = self.access.pin.as_ref();
        if pin.is_none() && !info.protected_authentication_path() {
            return Err(TokenError::NoPin { place });
        }
        if info.user_pin_final_try() {
            return Err(TokenError::LastTry { place });
        }
        match session.login(UserType::User, pin) {
            Ok(()) | Err(CallError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(CallError::Pkcs11(
                code @ (RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked),
                _,
            )) => {
                self.refused = Some(code);
                Err(TokenError::PinRefused { place, code })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Finds the only key of a class.
    fn find(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, TokenError> {
        let place = self.place();
        match self.find_all(session, class)?.as_slice() {
            [key] => Ok(*key),
            [] if class == ObjectClass::PRIVATE_KEY => Err(TokenError::NoKey {
                place,
                what: "private",
            }),
            [] => Err(TokenError::NoKey {
                place,
                what: "public",
            }),
            _ => Err(TokenError::Several { place, what: "key" }),
        }
    }

    fn find_all(
        &self,
        session: &Session,
        class: ObjectClass,
    ) -> Result<Vec<ObjectHandle>, TokenError> {
        let mut template = vec![
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
        ];
        template.extend(self.access.uri.attributes());
        let found = session.find_objects(&template);
        found.map_err(|error| self.failed(error))
    }

    /// Reads the public key.
    fn vkey(&self, session: &Session, name: &str) -> Result<Vkey, TokenError> {
        let key = self.find(session, ObjectClass::PUBLIC_KEY)?;
        let attributes = session.get_attributes(key, &[AttributeType::EcPoint]);
        let attributes = attributes.map_err(|error| self.failed(error))?;
        let Some(Attribute::EcPoint(point)) = attributes.first() else {
            let (place, what) = (self.place(), "public");
            return Err(TokenError::NoKey { place, what });
        };
        // Tokens differ in whether it is in DER.
        let point = point.strip_prefix(&OCTET_STRING).unwrap_or(point);
        let vkey = point.try_into().map_err(|_| KeyError::PublicKey);
        vkey.and_then(|public_key| Vkey::new(name, Algorithm::Ed25519, public_key))
            .map_err(|source| TokenError::Key {
                place: self.place(),
                source,
            })
    }
}

/// Makes a key that never leaves the token.
fn generate(access: Access, name: &str) -> Result<Vkey, TokenError> {
    let mut library = Library::load(access)?;
    let session = library.connect(Login::ToWrite)?;
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        if !library.find_all(&session, class)?.is_empty() {
            let place = library.place();
            return Err(TokenError::KeyThere { place });
        }
    }
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(ED25519.to_vec()),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    public.extend(library.access.uri.new_attributes());
    private.extend(library.access.uri.new_attributes());
    session
        .generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
        .map_err(|error| library.failed(error))?;
    library.vkey(&session, name)
}

/// A key in a token.
pub(crate) struct Token {
    vkey: Vkey,
    state: Mutex<State>,
}

struct State {
    library: Library,
    /// Logged in, with the private key; `None` after an error.
    session: Option<(Session, ObjectHandle)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("vkey", &self.vkey)
            .finish_non_exhaustive()
    }
}

impl Token {
    fn open(access: Access, name: &str) -> Result<Self, TokenError> {
        let mut library = Library::load(access)?;
        let session = library.connect(Login::Always)?;
        let vkey = library.vkey(&session, name)?;
        let key = library.find(&session, ObjectClass::PRIVATE_KEY)?;
        let state = State {
            library,
            session: Some((session, key)),
        };
        Ok(Self {
            vkey,
            state: Mutex::new(state),
        })
    }
}

impl State {
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], TokenError> {
        let (session, key) = if let Some(session) = self.session.take() {
            session
        } else {
            let session = self.library.connect(Login::Always)?;
            let key = self.library.find(&session, ObjectClass::PRIVATE_KEY)?;
            (session, key)
        };
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = session
            .sign(&mechanism, key, message)
            .and_then(|signature| {
                let signature = signature.as_slice().try_into();
                signature.map_err(CallError::TryFromSlice)
            });
        let signature = signature.map_err(|error| self.library.failed(error))?;
        self.session = Some((session, key));
        Ok(signature)
    }
}

impl Signer for Token {
    fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = state.sign(message);
        if signed.is_err() {
            state.session = None;
            // It may not be initialized, or not able to.
            let _ = state.library.pkcs11.clone().finalize();
        }
        signed.map_err(|error| SignError::Token(Box::new(error)))
    }
}
