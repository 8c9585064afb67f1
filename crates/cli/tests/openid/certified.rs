//! The page with a provider that others have written: run by scripts/openid.

use super::*;

#[test]
#[ignore = "needs the provider that scripts/openid starts"]
fn person_of_a_certified_provider_reads_the_trail() {
    let issuer = std::env::var("AUDIT_TEST_OIDC_ISSUER").unwrap();
    let postgres = database();
    let _ = issuer;
    drop(postgres);
}
