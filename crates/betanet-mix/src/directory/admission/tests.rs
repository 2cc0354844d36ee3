use super::*;
use crate::fixtures::{NOW_MS, id, signing_key};
use crate::view::Verified;

const NETWORK: &str = "fixture";
const AUTHORITY: u8 = 200;

fn token(number: u8, uses: u32) -> AdmissionToken {
    AdmissionToken {
        network: NETWORK.to_owned(),
        authority: id(AUTHORITY),
        id: TokenId([number; 16]),
        operator: format!("operator {number}"),
        roles: vec![Role::Entry, Role::Middle],
        uses,
        expires_ms: NOW_MS + 1,
    }
}

fn signed(token: AdmissionToken) -> Signed {
    Verified::sign(token, &signing_key(AUTHORITY)).unwrap().signed().clone()
}

fn come(
    admissions: &mut Admissions,
    node: u8,
    role: Role,
    token: Option<&Signed>,
    now_ms: u64,
) -> Result<String, AdmissionError> {
    let admitted = admissions.decide((NETWORK, id(AUTHORITY)), id(node), role, token, now_ms)?;
    let operator = admitted.operator().to_owned();
    admissions.keep(admitted);
    Ok(operator)
}

/// INV-LINK-69: a token lets in as many nodes as it says, each counted once; who was let in stays in.
#[test]
fn a_token_lets_in_as_many_nodes_as_it_says_and_those_stay() {
    let mut admissions = Admissions::default();
    let two = signed(token(1, 2));
    assert_eq!(Err(AdmissionError::NoToken), come(&mut admissions, 1, Role::Middle, None, NOW_MS));
    for _ in 0..3 {
        assert_eq!(Ok("operator 1".to_owned()), come(&mut admissions, 1, Role::Middle, Some(&two), NOW_MS));
    }
    come(&mut admissions, 2, Role::Entry, Some(&two), NOW_MS).unwrap();
    let used_up = come(&mut admissions, 3, Role::Middle, Some(&two), NOW_MS).unwrap_err();
    assert_eq!(AdmissionError::UsedUp { uses: 2 }, used_up);
    // Another token makes no room under the first, whoever shows it.
    let other = signed(token(2, 9));
    assert_eq!(Ok("operator 2".to_owned()), come(&mut admissions, 1, Role::Middle, Some(&other), NOW_MS));
    // It is all the same after a restart.
    let mut again: Admissions = serde_json::from_str(&serde_json::to_string(&admissions).unwrap()).unwrap();
    assert_eq!(admissions, again);
    assert_eq!(Err(used_up), come(&mut again, 3, Role::Middle, Some(&two), NOW_MS));
    let later = NOW_MS + 1_000_000;
    assert_eq!(Ok("operator 2".to_owned()), come(&mut again, 1, Role::Entry, None, later));
    assert_eq!(Ok("operator 1".to_owned()), come(&mut again, 2, Role::Entry, Some(&two), later));
    assert_eq!(Err(AdmissionError::Expired), come(&mut again, 3, Role::Middle, Some(&other), later));
}

/// INV-LINK-69: what does not fit lets nobody in, and one line says what to do.
#[test]
fn a_token_that_does_not_fit_is_refused_with_what_to_do() {
    let mut admissions = Admissions::default();
    let good = token(1, 2);
    let forged = Verified::sign(good.clone(), &signing_key(1)).unwrap().signed().clone();
    let mut altered = signed(good.clone());
    altered.content = altered.content.replace("\"uses\":2", "\"uses\":9");
    for (token, role) in [
        (None, Role::Middle),
        (Some(forged), Role::Middle),
        (Some(altered), Role::Middle),
        (Some(signed(AdmissionToken { network: "other".to_owned(), ..good.clone() })), Role::Middle),
        (Some(signed(AdmissionToken { authority: id(1), ..good.clone() })), Role::Middle),
        (Some(signed(AdmissionToken { expires_ms: NOW_MS, ..good.clone() })), Role::Middle),
        (Some(signed(good.clone())), Role::Exit),
    ] {
        let refused = come(&mut admissions, 1, role, token.as_ref(), NOW_MS).unwrap_err().to_string();
        assert!(refused.contains("ask") && !refused.contains('\n') && refused.len() < 300, "{refused}");
    }
    assert_eq!(Admissions::default(), admissions);
    come(&mut admissions, 1, Role::Middle, Some(&signed(good)), NOW_MS).unwrap();
    // Without a token it may change to a role that its token covered, and to no other.
    come(&mut admissions, 1, Role::Entry, None, NOW_MS).unwrap();
    assert!(come(&mut admissions, 1, Role::Exit, None, NOW_MS).is_err());
}

#[test]
fn a_token_that_lets_in_nobody_or_everybody_is_never_signed() {
    let refuse = |change: &dyn Fn(&mut AdmissionToken)| {
        let mut token = token(1, 1);
        change(&mut token);
        Verified::sign(token, &signing_key(AUTHORITY)).is_err()
    };
    assert!(!refuse(&|_| {}));
    assert!(refuse(&|token| token.uses = 0));
    assert!(refuse(&|token| token.uses = u32::MAX));
    assert!(refuse(&|token| token.roles.clear()));
    assert!(refuse(&|token| token.roles = vec![Role::Middle, Role::Entry]));
    assert!(refuse(&|token| token.roles = vec![Role::Middle, Role::Middle]));
    assert!(refuse(&|token| token.operator = "x\n".to_owned()));
    assert!(refuse(&|token| token.operator.clear()));
    assert!(refuse(&|token| token.network.clear()));
}
