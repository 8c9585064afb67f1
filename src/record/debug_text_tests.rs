use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct TenantId<T>(T);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Named<T> {
    id: T,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Typed<T, Of>(T, PhantomData<Of>);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Two<T> {
    id: T,
    region: &'static str,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct ID(&'static str);

/// What is found in the two forms in which a `Debug` implementation writes.
#[track_caller]
fn finds(value: &dyn Debug, key: &str) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        let found = find(&text, Wrappers::Any);
        assert_eq!(found, Found::Key(key.to_owned().into()), "{text}");
    }
}

#[test]
fn the_key_is_found_in_structs_of_one_field() {
    let uuid = Uuid::from_u128(7);
    finds(&"acme", "acme");
    finds(&Some("acme"), "acme");
    finds(&TenantId("acme"), "acme");
    finds(&Some(TenantId(Arc::new("acme".to_owned()))), "acme");
    finds(&TenantId(Some(TenantId("acme"))), "acme");
    finds(&Named { id: "acme" }, "acme");
    finds(&Named { id: TenantId(uuid) }, &uuid.to_string());
    finds(&TenantId(uuid), &uuid.to_string());
    finds(&TenantId(42), "42");
    finds(&TenantId(NonZeroU64::MIN), "1");
    finds(&TenantId(-1), "-1");
    finds(&Typed("acme", PhantomData::<Uuid>), "acme");
    finds(&Typed(5_u8, PhantomData::<(u8, Uuid)>), "5");
    finds(&ID("acme"), "acme");
    finds(&("acme",), "acme");
    finds(&TenantId("a, b) { c: \"d\" }"), "a, b) { c: \"d\" }");
    finds(&TenantId(""), "");
}

#[test]
fn what_has_no_key_or_several_is_said_to_be_a_structure() {
    let several: &[&dyn Debug] = &[
        &Two {
            id: "acme",
            region: "eu",
        },
        &TenantId(Two {
            id: 1,
            region: "eu",
        }),
        &("acme", "eu"),
        &["acme"],
        &TenantId([1, 2]),
        &BTreeMap::from([("id", "acme")]),
        &std::sync::Mutex::new("acme"),
    ];
    for value in several {
        let text = format!("{value:?}");
        assert_eq!(find(&text, Wrappers::Any), Found::Other, "{text}");
    }
    // Of the crate secrecy; and a key that is no type's name, as far as can be told.
    for text in [
        "Secret([REDACTED])",
        "SecretBox<str>([REDACTED])",
        "SecretBox<alloc::string::String>([REDACTED])",
        "ACME(42)",
        "Team(a b)",
    ] {
        assert_eq!(find(text, Wrappers::Any), Found::Other, "{text}");
    }
}

#[test]
fn an_option_without_a_value_has_none_at_any_depth() {
    for text in ["None", "Some(None)", "TenantId(None)", "Named { id: None }"] {
        assert_eq!(find(text, Wrappers::Any), Found::Nothing, "{text}");
    }
    assert_eq!(find("Some(None)", Wrappers::Option), Found::Nothing);
}

#[test]
fn what_people_write_is_left_as_it_is() {
    for text in [
        "acme",
        "Acme (Norway)",
        "Acme {Norway}",
        "acme(",
        "a \"quoted\" word",
        "\"half",
        "3(4)",
        "(c) 2026 Acme",
        "",
    ] {
        let found = find(text, Wrappers::Any);
        assert_eq!(found, Found::Key(Cow::Borrowed(text)), "{text}");
        assert!(!is_wrapped_key(text), "{text}");
    }
    assert!(is_wrapped_key("TenantId(\"acme\")"));
}

#[test]
fn only_an_option_is_taken_away_where_a_name_says_something_itself() {
    let key = |text| find(text, Wrappers::Option);
    assert_eq!(key("Timeout(30)"), Found::Key("Timeout(30)".into()));
    assert_eq!(key("Some(\"57014\")"), Found::Key("57014".into()));
    assert_eq!(key("Some(Timeout(30))"), Found::Key("Timeout(30)".into()));
}

proptest! {
    #[test]
    fn whatever_the_key_is_it_is_found_as_it_was(key in any::<String>()) {
        finds(&key, &key);
        finds(&TenantId(&key), &key);
        finds(&Named { id: Some(&key) }, &key);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9\\\\\"(){}\\[\\], :u.]{0,40}") {
        let _ = find(&text, Wrappers::Any);
        let _ = find(&text, Wrappers::Option);
        let _ = is_wrapped_key(&text);
    }
}
