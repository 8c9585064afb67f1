//! Where a key is: a URI by RFC 7512.

use std::fmt;
use std::path::PathBuf;

use cryptoki::object::Attribute;
use cryptoki::slot::{Slot, TokenInfo};
use percent_encoding::percent_decode_str;

/// Which key in which token, and the library that knows the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenUri {
    /// The URI up to the question mark, for messages: it says nothing of a PIN.
    place: String,
    token: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    slot_id: Option<u64>,
    object: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    pub(super) module_path: PathBuf,
    /// The file that has the PIN.
    pub(super) pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Reads a URI. What is wrong with one is said without repeating what it holds: there may be a PIN in it.
    pub(super) fn parse(uri: &str) -> Result<Self, &'static str> {
        let body = uri
            .strip_prefix("pkcs11:")
            .ok_or("it does not begin with pkcs11:")?;
        let (path, query) = body.split_once('?').unwrap_or((body, ""));
        let mut read = Self::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            read.read_path(attribute)?;
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            read.read_query(attribute)?;
        }
        uri.split_once('?')
            .map_or(uri, |(place, _)| place)
            .clone_into(&mut read.place);
        if read.object.is_none() && read.id.is_none() {
            return Err("it names no key: add object=LABEL");
        }
        if !read.module_path.is_absolute() {
            return Err("it names no library: add ?module-path=/path/of/the/library.so");
        }
        Ok(read)
    }

    fn read_path(&mut self, attribute: &str) -> Result<(), &'static str> {
        let (name, value) = attribute
            .split_once('=')
            .ok_or("it has an attribute without =")?;
        match name {
            "token" => self.token = Some(text(value)?),
            "manufacturer" => self.manufacturer = Some(text(value)?),
            "model" => self.model = Some(text(value)?),
            "serial" => self.serial = Some(text(value)?),
            "slot-id" => {
                let id = value.parse().map_err(|_| "its slot-id is not a number")?;
                self.slot_id = Some(id);
            }
            "object" => self.object = Some(bytes(value)),
            "id" => self.id = Some(bytes(value)),
            "type" if value == "private" => {}
            "type" => return Err("its type is not private: that is the key that signs"),
            "pin-value" => return Err(PIN_SEEN),
            _ => {
                return Err(
                    "it has an attribute other than token, manufacturer, model, serial, slot-id, object, id and type before the ?",
                );
            }
        }
        Ok(())
    }

    fn read_query(&mut self, attribute: &str) -> Result<(), &'static str> {
        match attribute.split_once('=') {
            Some(("module-path", path)) => self.module_path = PathBuf::from(text(path)?),
            Some(("pin-source", source)) => {
                let source = text(source)?;
                let path = source.strip_prefix("file://").unwrap_or(&source);
                let path = path.strip_prefix("file:").unwrap_or(path);
                if !path.starts_with('/') {
                    return Err("its pin-source is not the path of a file, as file:/etc/audit/pin");
                }
                self.pin_source = Some(PathBuf::from(path));
            }
            Some(("pin-value", _)) => return Err(PIN_SEEN),
            _ => {
                return Err(
                    "it has an attribute other than module-path and pin-source after the ?",
                );
            }
        }
        Ok(())
    }

    /// Whether this is the token in a slot.
    pub(super) fn is_token(&self, slot: Slot, info: &TokenInfo) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted == found.trim_end())
        };
        self.slot_id.is_none_or(|id| id == slot.id())
            && is(&self.token, info.label())
            && is(&self.manufacturer, info.manufacturer_id())
            && is(&self.model, info.model())
            && is(&self.serial, info.serial_number())
    }

    /// Returns what the key's objects are found by.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Attribute> {
        let label = self.object.clone().map(Attribute::Label);
        label.into_iter().chain(self.id.clone().map(Attribute::Id))
    }

    /// Returns what a new key's objects are marked with: always an id too, by which some tokens pair them.
    pub(super) fn new_attributes(&self) -> impl Iterator<Item = Attribute> {
        let label = self.object.clone().map(Attribute::Label);
        let id = self.id.clone().or_else(|| self.object.clone());
        label.into_iter().chain(id.map(Attribute::Id))
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

const PIN_SEEN: &str = "a PIN in it can be seen by everybody on this machine: take another PIN, write it to a file, and name that with \
                        pin-source, or a variable with --pin-env";

fn bytes(value: &str) -> Vec<u8> {
    percent_decode_str(value).collect()
}

fn text(value: &str) -> Result<String, &'static str> {
    String::from_utf8(bytes(value)).map_err(|_| "it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_token_library_and_pin_file_are_read() {
        let uri = "pkcs11:token=The%20log;object=trail;id=%01%ff;slot-id=7;type=private?module-path=/usr/lib/t.so&pin-source=file:/etc/pin";
        let read = TokenUri::parse(uri).unwrap();
        let expected = TokenUri {
            place: String::from(
                "pkcs11:token=The%20log;object=trail;id=%01%ff;slot-id=7;type=private",
            ),
            token: Some(String::from("The log")),
            slot_id: Some(7),
            object: Some(b"trail".to_vec()),
            id: Some(vec![1, 255]),
            module_path: PathBuf::from("/usr/lib/t.so"),
            pin_source: Some(PathBuf::from("/etc/pin")),
            ..TokenUri::default()
        };
        assert_eq!(read, expected);
        for source in ["file:///etc/pin", "/etc/pin", "%2Fetc%2Fpin"] {
            let uri = format!("pkcs11:object=a?module-path=/m&pin-source={source}");
            let read = TokenUri::parse(&uri).unwrap();
            assert_eq!(read.pin_source, Some(PathBuf::from("/etc/pin")), "{source}");
        }
    }

    #[test]
    fn uri_without_a_key_or_with_what_is_not_known_is_refused_and_not_repeated() {
        for uri in [
            "object=a?module-path=/m",
            "pkcs11:token=a?module-path=/m",
            "pkcs11:object=a",
            "pkcs11:object=a?module-path=m",
            "pkcs11:object=a;4711?module-path=/m",
            "pkcs11:object=a;pin=4711?module-path=/m",
            "pkcs11:object=a;slot-id=4711x?module-path=/m",
            "pkcs11:object=a;type=public?module-path=/m",
            "pkcs11:object=a;pin-value=4711?module-path=/m",
            "pkcs11:object=a?module-path=/m&pin-value=4711",
            "pkcs11:object=a?module-path=/m&pin-source=4711",
            "pkcs11:object=a?module-path=/m&pin-source=%7Cecho%204711",
            "pkcs11:object=a?module-path=/m&pin=4711",
            "pkcs11:object=a?module-path=/m&pin-source=/%ff",
        ] {
            let error = TokenUri::parse(uri).unwrap_err();
            assert!(!error.contains("4711"), "{error}");
        }
    }
}
