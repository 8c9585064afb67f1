//! The small documents in which S3 answers.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// How deep the elements of an answer are in each other at most.
const DEPTH: usize = 16;

/// An element, by its name without a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document; `None`: it is none, or larger than any that S3 answers.
    pub(super) fn parse(document: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(document);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    if open.len() > DEPTH {
                        return None;
                    }
                    open.push(Self::named(start.local_name().as_ref())?);
                }
                Event::Empty(start) => {
                    let element = Self::named(start.local_name().as_ref())?;
                    open.last_mut()?.children.push(element);
                }
                Event::End(_) => {
                    let element = open.pop()?;
                    let text = element.text.trim().to_owned();
                    let element = Self { text, ..element };
                    open.last_mut()?.children.push(element);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(named) => {
                    let text = &mut open.last_mut()?.text;
                    match named.resolve_char_ref().ok()? {
                        Some(character) => text.push(character),
                        None => text.push_str(resolve_predefined_entity(&named.decode().ok()?)?),
                    }
                }
                Event::Eof if open.len() == 1 => return open.pop()?.children.pop(),
                Event::Eof | Event::DocType(_) => return None,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            }
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?.to_owned();
        Some(Self {
            name,
            ..Self::default()
        })
    }

    /// Whether this is what it is called.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Returns the elements in this one.
    pub(super) fn children(&self) -> &[Self] {
        &self.children
    }

    /// Returns the first element of a name in this one.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name))
    }

    /// Returns the text of the first element of a name in this one.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        Some(&self.child(name)?.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_read_whatever_their_namespace() {
        let document = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<s3:R xmlns:s3=\"http://s3/\"><A>\n a&amp;b&#x21; </A><B/>\
            <C x=\"y\"><D>1</D></C></s3:R>\n";
        let element = Element::parse(document).unwrap();
        assert!(element.is("R"));
        assert_eq!(element.text_of("A"), Some("a&b!"));
        assert_eq!(element.text_of("B"), Some(""));
        assert_eq!(element.child("C").unwrap().text_of("D"), Some("1"));
        assert_eq!(element.text_of("E"), None);
    }

    #[test]
    fn what_is_no_document_is_none() {
        for document in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a>&other;</a>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a/>",
        ] {
            assert_eq!(Element::parse(document.as_bytes()), None, "{document}");
        }
        let deep = format!("{}{}", "<a>".repeat(99), "</a>".repeat(99));
        assert_eq!(Element::parse(deep.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(document in "(<a>|</a>|&|;|#x|[ -~]|é){0,40}") {
            let _ = Element::parse(document.as_bytes());
        }
    }
}
