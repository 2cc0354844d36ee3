//! The tokens that an authority gave out, and which of them were taken back.
//!
//! Each has a file of its own, which the commands write whose owner may be another user than the authority's. The authority
//! looks at the names alone, and they are enough: a token is revoked by another name of its file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use betanet_mix::directory::Saved;
use betanet_mix::view::{AdmissionToken, Role, Signed, TokenId, Verified, node_id_of};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use rand_core::Rng;
use serde::{Deserialize, Serialize, Serializer};

use super::{AuthorityError, AuthorityRecord, KEY_FILE, RECORD_FILE, STATE_FILE, Shared};
use crate::clock::wall_ms;
use crate::random::os_rng;
use crate::rarely::Rarely;
use crate::state::{make_folder, read_json, read_signing_key, write_public};

/// The folder of these files, in the authority's.
const FOLDER: &str = "tokens";

/// What follows the id in the name of a token's file.
const GIVEN: &str = ".json";

/// The same for a token that was revoked.
const REVOKED: &str = ".revoked.json";

/// How often the authority looks.
const EVERY: Duration = Duration::from_secs(1);

/// What is kept of a token: not the signature, so that nobody comes in with what lies here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Kept {
    operator: String,
    roles: Vec<Role>,
    uses: u32,
    expires_ms: u64,
}

/// A token that was given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GivenToken {
    /// Its id.
    pub id: TokenId,
    /// Who runs the nodes that come with it.
    pub operator: String,
    /// What they may be.
    pub roles: Vec<Role>,
    /// How many may come.
    pub uses: u32,
    /// Until when, Unix milliseconds.
    pub expires_ms: u64,
    /// Whether it was taken back.
    pub revoked: bool,
    /// Who came with it, by the authority's last consensus.
    #[serde(serialize_with = "as_texts")]
    pub nodes: Vec<NodeId>,
}

fn as_texts<S: Serializer>(nodes: &[NodeId], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(nodes.iter().map(ToString::to_string))
}

/// The key of the authority in `dir`, and what it wrote about itself.
fn authority_in(dir: &Path) -> Result<(SigningKey, AuthorityRecord), AuthorityError> {
    let none = || AuthorityError::NotStarted { dir: dir.to_owned() };
    let record = read_json(&dir.join(RECORD_FILE), "authority record")?.ok_or_else(none)?;
    let key = read_signing_key(&dir.join(KEY_FILE))?.ok_or_else(none)?;
    Ok((key, record))
}

fn file_of(dir: &Path, id: TokenId, ending: &str) -> PathBuf {
    dir.join(FOLDER).join(format!("{id}{ending}"))
}

/// Makes a token for the network of the authority in `dir`, which may be running. That it was given out is on disk before it
/// is.
///
/// # Errors
/// No authority was started there, its key cannot be read, or no such token may be; the message is one line.
pub fn issue_token(
    dir: &Path,
    operator: String,
    roles: Vec<Role>,
    uses: u32,
    expires: Duration,
) -> Result<Signed, AuthorityError> {
    let (key, record) = authority_in(dir)?;
    let mut id = [0; 16];
    os_rng().fill_bytes(&mut id);
    let id = TokenId(id);
    let lasts_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
    if lasts_ms == 0 {
        return Err(AuthorityError::Token("it would have expired at once".to_owned()));
    }
    let expires_ms = wall_ms().saturating_add(lasts_ms);
    let kept = Kept { operator: operator.clone(), roles: roles.clone(), uses, expires_ms };
    let authority = node_id_of(&key);
    let token = AdmissionToken { network: record.network, authority, id, operator, roles, uses, expires_ms };
    let signed = Verified::sign(token, &key).map_err(|err| AuthorityError::Token(err.to_string()))?;
    write_public(&file_of(dir, id, GIVEN), &serde_json::to_vec(&kept).map_err(io::Error::from)?)?;
    Ok(signed.signed().clone())
}

/// The tokens that the authority in `dir`, which may be running, gave out; those that run out first come first.
///
/// # Errors
/// No authority was started there, or a file cannot be read; the message is one line.
pub fn given_tokens(dir: &Path) -> Result<Vec<GivenToken>, AuthorityError> {
    authority_in(dir)?;
    let saved: Saved = read_json(&dir.join(STATE_FILE), "directory")?.unwrap_or_default();
    let mut given = Vec::new();
    for (id, revoked) in names_in(&dir.join(FOLDER))? {
        let path = file_of(dir, id, if revoked { REVOKED } else { GIVEN });
        // One that was revoked meanwhile is there once more under its other name.
        let Some(Kept { operator, roles, uses, expires_ms }) = read_json(&path, "token record")? else { continue };
        let nodes = saved.came_with(id).collect();
        given.push(GivenToken { id, operator, roles, uses, expires_ms, revoked, nodes });
    }
    given.sort_by_key(|token| (token.expires_ms, token.id));
    Ok(given)
}

/// Takes a token back. The authority in `dir`, if it runs, puts out whoever came with it within seconds.
///
/// # Errors
/// There is no such token, or its file cannot be renamed; the message is one line.
pub fn revoke_token(dir: &Path, id: TokenId) -> Result<(), AuthorityError> {
    authority_in(dir)?;
    let revoked = file_of(dir, id, REVOKED);
    match std::fs::rename(file_of(dir, id, GIVEN), &revoked) {
        Err(err) if err.kind() == ErrorKind::NotFound && revoked.exists() => {}
        Err(err) if err.kind() == ErrorKind::NotFound => {
            return Err(AuthorityError::NoToken { id, dir: dir.to_owned() });
        }
        renamed => renamed?,
    }
    File::open(dir.join(FOLDER))?.sync_all()?;
    Ok(())
}

/// Makes the folder, so that it is the authority's own, and says which tokens were revoked.
pub(super) fn open(dir: &Path) -> Result<BTreeSet<TokenId>, AuthorityError> {
    let folder = dir.join(FOLDER);
    make_folder(&folder)?;
    Ok(revoked_in(&folder)?)
}

fn revoked_in(folder: &Path) -> io::Result<BTreeSet<TokenId>> {
    let names = names_in(folder)?.into_iter();
    Ok(names.filter_map(|(id, revoked)| revoked.then_some(id)).collect())
}

/// The tokens that have files, and whether they were revoked. What has another name is none of ours.
fn names_in(folder: &Path) -> io::Result<Vec<(TokenId, bool)>> {
    let mut tokens = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let revoked = name.strip_suffix(REVOKED).map(|id| (id, true));
        let named = revoked.or_else(|| name.strip_suffix(GIVEN).map(|id| (id, false)));
        tokens.extend(named.and_then(|(id, revoked)| Some((TokenId::parse(id)?, revoked))));
    }
    Ok(tokens)
}

/// Puts out whoever came with a token that is revoked, until it is dropped. Where the folder cannot be read, what was
/// revoked before stays so.
pub(super) async fn follow(dir: &Path, shared: &Shared, mut known: BTreeSet<TokenId>) {
    let folder = dir.join(FOLDER);
    let mut trouble = Rarely::default();
    let mut rounds = tokio::time::interval(EVERY);
    loop {
        rounds.tick().await;
        let path = folder.clone();
        let read = tokio::task::spawn_blocking(move || revoked_in(&path)).await.map_err(io::Error::other).flatten();
        let error = match read {
            Ok(revoked) if revoked.is_subset(&known) => continue,
            Ok(revoked) => {
                let nodes = shared.ledger.lock().await.revoke(&revoked, shared.time.now_ms());
                tracing::info!(tokens = revoked.difference(&known).count(), nodes, "tokens.revoked");
                known.extend(revoked);
                continue;
            }
            Err(error) => error,
        };
        if trouble.is_due(Instant::now()) {
            tracing::warn!(%error, folder = FOLDER, "tokens.not_read");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::authority::Authority;
    use crate::authority::tests::config;

    /// INV-LINK-80
    #[tokio::test]
    async fn a_token_is_listed_until_and_after_it_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        drop(Authority::open(config(dir.to_owned())).await.unwrap());
        let issue = |operator: &str, hours: u64| {
            let lasts = Duration::from_hours(hours);
            let signed = issue_token(dir, operator.to_owned(), vec![Role::Middle], 3, lasts).unwrap();
            serde_json::from_str::<AdmissionToken>(&signed.content).unwrap().id
        };
        let (later, sooner) = (issue("bert", 3), issue("anna", 2));
        let told = |token: GivenToken| (token.id, token.operator, token.uses, token.revoked, token.nodes.len());
        let listed = || given_tokens(dir).unwrap().into_iter().map(told).collect::<Vec<_>>();
        let (anna, bert) = ("anna".to_owned(), "bert".to_owned());
        assert_eq!(vec![(sooner, anna.clone(), 3, false, 0), (later, bert.clone(), 3, false, 0)], listed());
        assert_eq!(BTreeSet::new(), open(dir).unwrap());

        for _ in 0..2 {
            revoke_token(dir, sooner).unwrap();
            assert_eq!(vec![(sooner, anna.clone(), 3, true, 0), (later, bert.clone(), 3, false, 0)], listed());
            assert_eq!(BTreeSet::from([sooner]), open(dir).unwrap());
        }
        let unknown = revoke_token(dir, TokenId([7; 16])).unwrap_err().to_string();
        assert!(unknown.contains("betanet authority tokens --dir"), "{unknown}");
        // What somebody else puts there says nothing.
        for name in ["x.revoked.json", &format!("{later}.json.new"), &format!("{}.revoked.json", "G".repeat(32))] {
            std::fs::write(dir.join(FOLDER).join(name), "{}").unwrap();
        }
        assert_eq!((BTreeSet::from([sooner]), 2), (open(dir).unwrap(), listed().len()));
        // What lies in the folder lets nobody in.
        let kept = std::fs::read_to_string(file_of(dir, later, GIVEN)).unwrap();
        assert!(!kept.contains("sig"), "{kept}");
    }
}
