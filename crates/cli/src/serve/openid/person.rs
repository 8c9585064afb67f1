//! Who the provider says that somebody is.

use serde_json::{Map, Value};

use super::denied::Why;
use crate::text::is_harmful;

/// The longest name of a person, in bytes: the database takes no longer one.
const MAX_NAME: usize = 1_024;

/// Claims, by their names.
pub(super) type Claims = Map<String, Value>;

/// A person, as the provider names them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// Which claims say who somebody is.
#[derive(Debug)]
pub(super) struct Names {
    /// The claim with the name.
    pub(super) name: String,
    /// The claim with the groups.
    pub(super) groups: String,
}

impl Names {
    /// Whether the token leaves out what is needed: a provider may tell it when asked for it.
    pub(super) fn are_missing(&self, token: &Claims, needs_groups: bool) -> bool {
        !token.contains_key(&self.name) || (needs_groups && !token.contains_key(&self.groups))
    }

    /// Reads the person from the claims of the token, and from those that were asked for besides.
    pub(super) fn person(&self, token: &Claims, besides: &Claims) -> Result<Person, Why> {
        // The name and whether it is verified come from the same place.
        let said = [token, besides]
            .into_iter()
            .find_map(|claims| Some((claims, claims.get(&self.name)?.as_str()?)));
        let (claims, name) = said.ok_or(Why::NoName)?;
        let is_name =
            !name.trim().is_empty() && name.len() <= MAX_NAME && !name.chars().any(is_harmful);
        if !is_name {
            return Err(Why::NoName);
        }
        // Who may write any address into their profile is not taken for its owner.
        if self.name == "email" && !is_true(claims.get("email_verified")) {
            return Err(Why::NotVerified);
        }
        let groups = token
            .get(&self.groups)
            .or_else(|| besides.get(&self.groups));
        Ok(Person {
            name: name.to_owned(),
            groups: groups.map(texts).unwrap_or_default(),
        })
    }
}

fn is_true(value: Option<&Value>) -> bool {
    // Cognito writes it as a text.
    value.is_some_and(|value| *value == true || *value == "true")
}

/// Returns the texts of an array, or the one text.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(values) => values.iter().filter_map(text).collect(),
        value => text(value).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn read(name: &str, token: &Value, besides: &Value) -> Result<Person, Why> {
        let names = Names {
            name: name.to_owned(),
            groups: String::from("groups"),
        };
        names.person(&claims(token), &claims(besides))
    }

    #[test]
    fn address_counts_only_if_the_same_place_says_that_it_is_verified() {
        let none = json!({});
        let verified = json!({ "email": "a@b.example", "email_verified": true });
        assert_eq!(read("email", &verified, &none).unwrap().name, "a@b.example");
        assert_eq!(read("email", &none, &verified).unwrap().name, "a@b.example");
        let text = json!({ "email": "a@b.example", "email_verified": "true" });
        assert!(read("email", &text, &none).is_ok());
        for said in [json!(false), json!("false"), json!(1), json!(null)] {
            let claims = json!({ "email": "a@b.example", "email_verified": said });
            assert_eq!(read("email", &claims, &none), Err(Why::NotVerified));
        }
        let unsaid = json!({ "email": "a@b.example" });
        assert_eq!(read("email", &unsaid, &none), Err(Why::NotVerified));
        assert_eq!(read("email", &unsaid, &verified), Err(Why::NotVerified));
        // Of another claim than the address, nobody says it.
        let sub = json!({ "sub": "17" });
        assert_eq!(read("sub", &sub, &none).unwrap().name, "17");
    }

    #[test]
    fn name_is_a_visible_text_that_the_trail_can_record() {
        let long = "x".repeat(MAX_NAME + 1);
        for said in [
            json!(""),
            json!("  "),
            json!(7),
            json!(["a"]),
            json!("a\u{0}b"),
            json!("a\u{202e}b"),
            json!(long),
        ] {
            assert_eq!(
                read("sub", &json!({ "sub": said }), &json!({})),
                Err(Why::NoName)
            );
        }
        assert_eq!(read("sub", &json!({}), &json!({})), Err(Why::NoName));
    }

    #[test]
    fn groups_are_an_array_or_one_text() {
        for (said, groups) in [
            (json!(["a", "b"]), vec!["a", "b"]),
            (json!("a,b"), vec!["a,b"]),
            (json!(["a", 1, null]), vec!["a"]),
            (json!({ "a": true }), vec![]),
            (json!(null), vec![]),
        ] {
            let person = read("sub", &json!({ "sub": "1", "groups": said }), &json!({}));
            assert_eq!(person.unwrap().groups, groups);
        }
        let besides = json!({ "groups": ["c"] });
        assert_eq!(
            read("sub", &json!({ "sub": "1" }), &besides)
                .unwrap()
                .groups,
            ["c"]
        );
    }
}
