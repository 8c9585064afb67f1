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
struct Tenant<T> {
    id: T,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct TenantKey<T, Of>(T, PhantomData<Of>);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Two<T> {
    id: T,
    region: &'static str,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct ID(&'static str);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
enum Owner {
    Internal(&'static str),
    External(Option<&'static str>),
    Shared { name: &'static str },
    Numbered(Uuid),
}

const KEY: Wrappers = Wrappers::Key(Field::TenantId);

/// Checks the key that is found in both forms of `Debug` output.
#[track_caller]
fn finds(value: &dyn Debug, key: &str) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        for wrappers in [KEY, Wrappers::Any] {
            let found = find(&text, wrappers);
            assert_eq!(found, Found::Key(key.to_owned().into()), "{text}");
        }
    }
}

#[test]
fn key_is_found_in_single_field_structs() {
    let uuid = Uuid::from_u128(7);
    finds(&"acme", "acme");
    finds(&Some("acme"), "acme");
    finds(&TenantId("acme"), "acme");
    finds(&Some(TenantId(Arc::new("acme".to_owned()))), "acme");
    finds(&TenantId(Some(TenantId("acme"))), "acme");
    finds(&Tenant { id: "acme" }, "acme");
    finds(&Tenant { id: TenantId(uuid) }, &uuid.to_string());
    finds(&TenantId(uuid), &uuid.to_string());
    finds(&TenantId(42), "42");
    finds(&TenantId(NonZeroU64::MIN), "1");
    finds(&TenantId(-1), "-1");
    finds(&TenantKey("acme", PhantomData::<Uuid>), "acme");
    finds(&TenantKey(5_u8, PhantomData::<(u8, Uuid)>), "5");
    finds(
        &TenantKey("acme", PhantomData::<BTreeMap<u8, Vec<u16>>>),
        "acme",
    );
    finds(&TenantId(std::cell::RefCell::new("acme")), "acme");
    finds(&ID("acme"), "acme");
    finds(&("acme",), "acme");
    finds(&TenantId("a, b) { c: \"d\" }"), "a, b) { c: \"d\" }");
    finds(&TenantId(""), "");
}

#[test]
fn value_without_exactly_one_key_is_classified_as_other() {
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
        assert_eq!(find(&text, KEY), Found::Other, "{text}");
    }
    // From the crate `secrecy`; and a key that does not look like a type's name.
    for text in [
        "Secret([REDACTED])",
        "SecretBox<str>([REDACTED])",
        "SecretBox<alloc::string::String>([REDACTED])",
        "ACME(42)",
        "Team(a b)",
    ] {
        assert_eq!(find(text, KEY), Found::Other, "{text}");
    }
}

#[test]
fn enum_variant_is_part_of_the_key_unless_its_value_is_a_number_or_uuid() {
    let uuid = Uuid::from_u128(7);
    for owner in [
        Owner::Internal("acme"),
        Owner::External(Some("acme")),
        Owner::External(None),
        Owner::Shared { name: "acme" },
    ] {
        for text in [format!("{owner:?}"), format!("Some({owner:?})")] {
            assert_eq!(find(&text, KEY), Found::Other, "{text}");
            assert_ne!(find(&text, Wrappers::Any), Found::Other, "{text}");
        }
    }
    finds(&Owner::Numbered(uuid), &uuid.to_string());
    // A struct's name is removed only for its own field, unless the name marks a key.
    let user = find("Tenant(\"acme\")", Wrappers::Key(Field::UserId));
    assert_eq!(user, Found::Other);
    for name in ["OrgId", "CustomerKey", "AccountID", "ids::OrgId<u32>"] {
        assert_eq!(
            find(&format!("{name}(\"acme\")"), KEY),
            Found::Key("acme".into())
        );
    }
    for name in ["Paid", "Hockey", "Void"] {
        assert_eq!(find(&format!("{name}(\"acme\")"), KEY), Found::Other);
    }
}

#[test]
fn err_value_is_not_a_key() {
    for result in [Err("missing"), Err("acme")] {
        let result: Result<&str, &str> = result;
        for text in [format!("{result:?}"), format!("{:?}", Some(result))] {
            assert_eq!(find(&text, KEY), Found::Error, "{text}");
        }
    }
    finds(&Ok::<_, &str>("acme"), "acme");
}

#[test]
fn doubt_reports_only_text_that_would_be_stripped() {
    let made = |structs, quote_at| Doubt::Made { structs, quote_at };
    for (text, expected) in [
        ("acme", Doubt::None),
        ("Acme (Norway)", Doubt::None),
        ("Secret([REDACTED])", Doubt::None),
        ("[1, 2]", Doubt::None),
        ("None", Doubt::IsNone),
        ("\"acme\"", made(0, Some(0))),
        ("Acme(Norway)", made(1, None)),
        ("(acme)", made(1, None)),
        ("Some(\"a\")", made(1, Some(5))),
        ("Some([1])", made(1, None)),
        ("A(B { c: \"d\" })", made(2, Some(9))),
        ("A(None)", made(1, None)),
    ] {
        assert_eq!(doubt(text), expected, "{text}");
    }
}

#[test]
fn none_is_found_at_any_depth() {
    for text in [
        "None",
        "Some(None)",
        "TenantId(None)",
        "Tenant { id: None }",
    ] {
        assert_eq!(find(text, KEY), Found::Nothing, "{text}");
        assert_eq!(find(text, Wrappers::Any), Found::Nothing, "{text}");
    }
    assert_eq!(find("Some(None)", Wrappers::Option), Found::Nothing);
}

#[test]
fn text_that_is_not_debug_output_is_kept_unchanged() {
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
        let found = find(text, KEY);
        assert_eq!(found, Found::Key(Cow::Borrowed(text)), "{text}");
        assert!(!is_wrapped_key(text), "{text}");
    }
    assert!(is_wrapped_key("TenantId(\"acme\")"));
}

#[test]
fn only_the_option_wrapper_is_stripped_where_type_names_carry_meaning() {
    let key = |text| find(text, Wrappers::Option);
    assert_eq!(key("Timeout(30)"), Found::Key("Timeout(30)".into()));
    assert_eq!(key("Some(\"57014\")"), Found::Key("57014".into()));
    assert_eq!(key("Some(Timeout(30))"), Found::Key("Timeout(30)".into()));
}

proptest! {
    #[test]
    fn any_key_round_trips_through_its_debug_output(key in any::<String>()) {
        finds(&key, &key);
        finds(&TenantId(&key), &key);
        finds(&Tenant { id: Some(&key) }, &key);
    }

    #[test]
    fn debug_text_parser_never_panics(text in "[A-Za-z0-9\\\\\"(){}\\[\\], :u.]{0,40}") {
        let _ = find(&text, KEY);
        let _ = doubt(&text);
        let _ = find(&text, Wrappers::Option);
        let _ = is_wrapped_key(&text);
    }
}
