//! Where a client is reached: its mailboxes and the key that messages to it are sealed under.
//!
//! | binary form | |
//! |---|---|
//! | version | 1 B = 0x01 |
//! | count | 1 B, 1 to 8 |
//! | mailboxes | count × (edge 32 B ‖ mailbox 16 B) |
//! | sealing key | 32 B, X25519 |
//! | checksum | 4 B, the start of SHA-256(`"betanet address v1"` ‖ 0x00 ‖ all before) |
//!
//! The text form is `fog1` and the binary form in lower-case base32 (RFC 4648 alphabet, no padding).

use std::fmt;
use std::str::FromStr;

use betanet_sphinx::{MailboxId, NodeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Mailboxes that one address may list.
pub const MAX_MAILBOXES: usize = 8;

const PREFIX: &str = "fog1";
const VERSION: u8 = 1;
const MAILBOX_LEN: usize = 32 + 16;
const CHECKSUM_LEN: usize = 4;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const MAX_TEXT: usize = 1024;

/// A mailbox at an edge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mailbox {
    /// The edge that keeps it.
    pub edge: NodeId,
    /// Which of the edge's mailboxes.
    pub mailbox: MailboxId,
}

/// Everything a sender needs to know about a recipient.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    mailboxes: Vec<Mailbox>,
    sealing_key: [u8; 32],
}

/// Why a text or a list is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not start with `fog1`, or has characters that no address has.
    #[error("an address starts with fog1 and goes on with the letters a to z and the digits 2 to 7")]
    NotAnAddress,
    /// Some character is wrong or missing.
    #[error("the address is damaged: its checksum does not match; copy it again as a whole")]
    Checksum,
    /// It comes from a release with another form of address.
    #[error("the address has a version that this release does not read")]
    UnknownVersion,
    /// It lists no mailbox, too many, or one edge twice.
    #[error("an address lists 1 to 8 mailboxes at different edges")]
    Mailboxes,
}

impl Address {
    /// An address with the given mailboxes, each at another edge, and the recipient's sealing key.
    ///
    /// # Errors
    /// [`AddressError::Mailboxes`] when there is none, more than [`MAX_MAILBOXES`], or an edge stands twice.
    pub fn new(mailboxes: Vec<Mailbox>, sealing_key: [u8; 32]) -> Result<Self, AddressError> {
        let repeats = mailboxes
            .iter()
            .enumerate()
            .any(|(index, one)| mailboxes.iter().take(index).any(|other| other.edge == one.edge));
        if mailboxes.is_empty() || mailboxes.len() > MAX_MAILBOXES || repeats {
            return Err(AddressError::Mailboxes);
        }
        Ok(Self { mailboxes, sealing_key })
    }

    /// The mailboxes, at least one.
    #[must_use]
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    /// The X25519 key that messages are sealed under.
    #[must_use]
    pub fn sealing_key(&self) -> &[u8; 32] {
        &self.sealing_key
    }

    /// The binary form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.mailboxes.len() * MAILBOX_LEN + 32 + CHECKSUM_LEN);
        bytes.push(VERSION);
        bytes.push(u8::try_from(self.mailboxes.len()).unwrap_or(u8::MAX));
        for mailbox in &self.mailboxes {
            bytes.extend_from_slice(mailbox.edge.as_bytes());
            bytes.extend_from_slice(mailbox.mailbox.as_bytes());
        }
        bytes.extend_from_slice(&self.sealing_key);
        bytes.extend_from_slice(&checksum(&bytes));
        bytes
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`AddressError`] when the bytes are not exactly one address.
    pub fn parse(bytes: &[u8]) -> Result<Self, AddressError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(AddressError::NotAnAddress)?;
        if checksum(body) != *sum {
            return Err(AddressError::Checksum);
        }
        let (version, body) = body.split_first().ok_or(AddressError::NotAnAddress)?;
        if *version != VERSION {
            return Err(AddressError::UnknownVersion);
        }
        let (count, body) = body.split_first().ok_or(AddressError::NotAnAddress)?;
        let (list, sealing_key) = body.split_last_chunk::<32>().ok_or(AddressError::NotAnAddress)?;
        let (entries, rest) = list.as_chunks::<MAILBOX_LEN>();
        if entries.len() != usize::from(*count) || !rest.is_empty() {
            return Err(AddressError::Mailboxes);
        }
        let mailboxes = entries.iter().filter_map(|entry| {
            let (edge, mailbox) = entry.split_first_chunk::<32>()?;
            Some(Mailbox { edge: NodeId::from(*edge), mailbox: MailboxId::from(<[u8; 16]>::try_from(mailbox).ok()?) })
        });
        Self::new(mailboxes.collect(), *sealing_key)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        f.write_str(&base32_encode(&self.to_bytes()))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(AddressError::NotAnAddress)?;
        if body.len() > MAX_TEXT {
            return Err(AddressError::NotAnAddress);
        }
        Self::parse(&base32_decode(body).ok_or(AddressError::NotAnAddress)?)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::new().chain_update(b"betanet address v1\0").chain_update(body).finalize().into();
    let (head, _) = digest.split_first_chunk().unwrap_or((&[0; CHECKSUM_LEN], &[]));
    *head
}

fn base32_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0_u32);
    let mut put = |value: u32| {
        let letter = usize::try_from(value & 31).ok().and_then(|index| ALPHABET.get(index)).copied().unwrap_or(b'a');
        text.push(char::from(letter));
    };
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            put(held >> bits);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        put(held << (5 - bits));
    }
    text
}

fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        held = (held << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    // Left-over bits are fewer than one letter and zero, so that each address has one text.
    (bits < 5 && held == 0).then_some(bytes)
}
