//! Signed JSON documents.
//!
//! | signed bytes | |
//! |---|---|
//! | domain | ASCII name of the document type, without length |
//! | 0x00 | ends the domain |
//! | content | the JSON text, byte for byte as it travels |

use betanet_sphinx::NodeId;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hexes;
use crate::text::one_line;

/// More signatures than authorities exist are never worth checking.
const MAX_SIGNATURES: usize = 32;

/// A kind of document: what it signs under, how large it may be, what its contents must obey.
pub trait Document: Serialize + DeserializeOwned {
    /// Separates signatures over this kind from those over every other kind.
    const DOMAIN: &'static str;
    /// The longest JSON text that is parsed, in bytes.
    const MAX_BYTES: usize;

    /// Checks what the types alone do not say.
    ///
    /// # Errors
    /// A line that names the rule which does not hold.
    fn check(&self) -> Result<(), &'static str>;
}

/// One Ed25519 signature and the key it is claimed to be from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The signer's public key.
    #[serde(with = "hexes::array")]
    pub key: [u8; 32],
    /// The signature.
    #[serde(with = "hexes::array")]
    pub sig: [u8; 64],
}

/// A document as it travels. **Unverified**: the content is text and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The JSON text that was signed.
    pub content: String,
    /// Who signed it.
    pub signatures: Vec<Signature>,
}

/// A document as the JSON text that travels, made once for all who ask for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded(Box<[u8]>);

impl Encoded {
    /// The text of a document.
    #[must_use]
    pub fn of(document: &Signed) -> Self {
        // Strings and hexadecimal digits: there is nothing in it that JSON cannot say.
        Self(serde_json::to_vec(document).unwrap_or_default().into())
    }
}

impl From<Vec<u8>> for Encoded {
    fn from(text: Vec<u8>) -> Self {
        Self(text.into())
    }
}

impl std::ops::Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

/// A document whose signatures and rules were checked. There is no other way to obtain one than to sign or to verify.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<T> {
    value: T,
    signed: Signed,
}

/// Why a document is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The text is longer than this kind of document may be.
    #[error("the {domain} has {len} bytes, at most {max} are accepted")]
    TooLarge {
        /// The kind of document.
        domain: &'static str,
        /// Bytes of text.
        len: usize,
        /// Bytes accepted.
        max: usize,
    },
    /// The text is not JSON of the expected shape.
    #[error("the {domain} does not parse: {detail}")]
    Malformed {
        /// The kind of document.
        domain: &'static str,
        /// Where and why.
        detail: String,
    },
    /// The fields parse but break a rule of the kind.
    #[error("the {domain} breaks a rule: {rule}")]
    Rule {
        /// The kind of document.
        domain: &'static str,
        /// The broken rule.
        rule: &'static str,
    },
    /// Too few of the accepted keys signed it.
    #[error("the {domain} carries {valid} valid signatures of the accepted keys, {needed} are needed")]
    BadSignature {
        /// The kind of document.
        domain: &'static str,
        /// Valid signatures by distinct accepted keys.
        valid: usize,
        /// Signatures needed.
        needed: usize,
    },
}

impl DocumentError {
    /// A short name of the reason, for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "document_too_large",
            Self::Malformed { .. } => "document_malformed",
            Self::Rule { .. } => "document_rule",
            Self::BadSignature { .. } => "document_signature",
        }
    }
}

impl Signed {
    /// Verifies a document that at least `needed` distinct keys of `accepted` must have signed.
    ///
    /// # Errors
    /// [`DocumentError`] with the first thing that does not hold. Signatures are checked before the text is parsed.
    pub fn verify<T: Document>(&self, accepted: &[NodeId], needed: usize) -> Result<Verified<T>, DocumentError> {
        self.check_size::<T>()?;
        let message = signed_bytes::<T>(&self.content);
        let mut signers: Vec<&[u8; 32]> = Vec::new();
        for signature in self.signatures.iter().take(MAX_SIGNATURES) {
            let known = accepted.iter().any(|key| key.as_bytes() == &signature.key);
            if known && !signers.contains(&&signature.key) && is_valid(&message, signature) {
                signers.push(&signature.key);
            }
        }
        // A quorum of nothing would accept anything.
        let needed = needed.max(1);
        if signers.len() < needed {
            return Err(DocumentError::BadSignature { domain: T::DOMAIN, valid: signers.len(), needed });
        }
        self.parse_checked()
    }

    /// Verifies a document that names its own signer: `issuer` picks the key out of the parsed contents.
    ///
    /// # Errors
    /// [`DocumentError`] with the first thing that does not hold.
    pub fn verify_issuer<T: Document>(&self, issuer: impl Fn(&T) -> NodeId) -> Result<Verified<T>, DocumentError> {
        self.check_size::<T>()?;
        if self.signatures.len() > 1 {
            // Nothing would bound what strangers make others keep and pass on.
            return Err(DocumentError::Rule { domain: T::DOMAIN, rule: "its issuer alone signs it" });
        }
        // The signature is by whom the text says, so the text is parsed first; the value stays inside until it is verified.
        let claimed = parse_content::<T>(&self.content)?;
        self.verify(&[issuer(&claimed)], 1)
    }

    fn check_size<T: Document>(&self) -> Result<(), DocumentError> {
        if self.content.len() > T::MAX_BYTES {
            return Err(DocumentError::TooLarge { domain: T::DOMAIN, len: self.content.len(), max: T::MAX_BYTES });
        }
        Ok(())
    }

    fn parse_checked<T: Document>(&self) -> Result<Verified<T>, DocumentError> {
        let value = parse_content::<T>(&self.content)?;
        Ok(Verified { value, signed: self.clone() })
    }
}

impl<T: Document> Verified<T> {
    /// Writes `value` as JSON and signs it.
    ///
    /// # Errors
    /// [`DocumentError`] when the value breaks a rule of its own kind; such a document is never signed.
    pub fn sign(value: T, key: &SigningKey) -> Result<Self, DocumentError> {
        value.check().map_err(|rule| DocumentError::Rule { domain: T::DOMAIN, rule })?;
        let content = serde_json::to_string(&value)
            .map_err(|error| DocumentError::Malformed { domain: T::DOMAIN, detail: error.to_string() })?;
        if content.len() > T::MAX_BYTES {
            return Err(DocumentError::TooLarge { domain: T::DOMAIN, len: content.len(), max: T::MAX_BYTES });
        }
        let mut verified = Self { value, signed: Signed { content, signatures: Vec::new() } };
        verified.add_signature(key);
        Ok(verified)
    }

    /// Adds one more signature, for documents that several authorities sign.
    pub fn add_signature(&mut self, key: &SigningKey) {
        let message = signed_bytes::<T>(&self.signed.content);
        let signature = Signature { key: key.verifying_key().to_bytes(), sig: key.sign(&message).to_bytes() };
        self.signed.signatures.retain(|held| held.key != signature.key);
        self.signed.signatures.push(signature);
    }
}

impl<T> Verified<T> {
    /// The form that travels.
    #[must_use]
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The contents.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The contents, without the signatures.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The node id that belongs to an identity key: its public key.
#[must_use]
pub fn node_id_of(key: &SigningKey) -> NodeId {
    NodeId::from(key.verifying_key().to_bytes())
}

fn parse_content<T: Document>(content: &str) -> Result<T, DocumentError> {
    // The parser's words repeat the text, which may be a stranger's.
    let value: T = serde_json::from_str(content)
        .map_err(|error| DocumentError::Malformed { domain: T::DOMAIN, detail: one_line(&error.to_string()) })?;
    value.check().map_err(|rule| DocumentError::Rule { domain: T::DOMAIN, rule })?;
    Ok(value)
}

fn signed_bytes<T: Document>(content: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(T::DOMAIN.len() + 1 + content.len());
    message.extend_from_slice(T::DOMAIN.as_bytes());
    message.push(0);
    message.extend_from_slice(content.as_bytes());
    message
}

fn is_valid(message: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&signature.key)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.sig)).is_ok())
}
