//! Serde helpers: fixed byte strings as lower-case hex.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use betanet_sphinx::{NodeId, PublicKey};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serializer};

use crate::epoch::Epoch;

/// A descriptor never lists more epochs than these.
const MAX_KEYS: usize = 8;

struct HexVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for HexVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lower-case hex digits", 2 * N)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let mut bytes = [0; N];
        // One text per value: upper case would make two encodings of the same document.
        if text.bytes().any(|c| c.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(E::invalid_value(serde::de::Unexpected::Str("other text"), &self));
        }
        Ok(bytes)
    }
}

pub(super) fn deserialize_bytes<'de, D: Deserializer<'de>, const N: usize>(input: D) -> Result<[u8; N], D::Error> {
    input.deserialize_str(HexVisitor::<N>)
}

pub(super) mod array {
    use super::{Deserializer, Serializer, deserialize_bytes};

    pub(in crate::view) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(bytes))
    }

    pub(in crate::view) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        input: D,
    ) -> Result<[u8; N], D::Error> {
        deserialize_bytes(input)
    }
}

/// Node ids.
pub mod node_id {
    use super::{Deserializer, NodeId, Serializer, deserialize_bytes};

    /// Writes one.
    ///
    /// # Errors
    /// Whatever the serializer says.
    pub fn serialize<S: Serializer>(id: &NodeId, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(id.as_bytes()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<NodeId, D::Error> {
        deserialize_bytes::<D, 32>(input).map(NodeId::from)
    }
}

/// VRF keys.
pub mod vrf_key {
    use serde::de::Error;

    use super::{Deserializer, Serializer, deserialize_bytes};
    use crate::vrf::VrfPublicKey;

    /// Writes one.
    ///
    /// # Errors
    /// Whatever the serializer says.
    pub fn serialize<S: Serializer>(key: &VrfPublicKey, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(key.as_bytes()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<VrfPublicKey, D::Error> {
        VrfPublicKey::parse(&deserialize_bytes::<D, 32>(input)?).map_err(D::Error::custom)
    }
}

/// Packet keys by epoch: `{"12": "<hex>", …}`, at most [`MAX_KEYS`], each a valid key, no epoch twice.
pub(super) mod packet_keys {
    use super::{BTreeMap, Deserializer, Epoch, KeysVisitor, PhantomData, PublicKey, SerializeMap, Serializer};

    pub(in crate::view) fn serialize<S: Serializer>(
        keys: &BTreeMap<Epoch, PublicKey>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(keys.len()))?;
        for (epoch, key) in keys {
            map.serialize_entry(&epoch.0.to_string(), &hex::encode(key.as_bytes()))?;
        }
        map.end()
    }

    pub(in crate::view) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<BTreeMap<Epoch, PublicKey>, D::Error> {
        input.deserialize_map(KeysVisitor(PhantomData))
    }
}

struct KeysVisitor(PhantomData<()>);

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = BTreeMap<Epoch, PublicKey>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_KEYS} epochs with their packet keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some(epoch) = map.next_key::<String>()? {
            let number: u64 = epoch.parse().map_err(|_| A::Error::custom("an epoch is not a number"))?;
            if number.to_string() != epoch {
                return Err(A::Error::custom("an epoch is not written in its shortest form"));
            }
            let HexKey(bytes) = map.next_value()?;
            let key =
                PublicKey::parse(&bytes).map_err(|_| A::Error::custom("a packet key is not a valid X25519 key"))?;
            if keys.insert(Epoch(number), key).is_some() || keys.len() > MAX_KEYS {
                return Err(A::Error::custom("an epoch stands twice or too many are listed"));
            }
        }
        Ok(keys)
    }
}

struct HexKey([u8; 32]);

impl<'de> Deserialize<'de> for HexKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        deserialize_bytes(input).map(Self)
    }
}
