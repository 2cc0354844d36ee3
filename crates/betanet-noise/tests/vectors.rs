//! The two published vectors that the BitChat app is tested with: `bitchatTests/Noise/NoiseTestVectors.json` of
//! permissionlesstech/bitchat (Unlicense), which are from cacophony and from snow.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use betanet_noise::{NoisePublic, NoiseSecret, Session};
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;

const VECTORS: &str = include_str!("vectors/bitchat.json");

/// A source that gives the vector's ephemeral key.
struct Given([u8; 32]);

impl TryRng for Given {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(self.0[..4].try_into().unwrap()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(self.0[..8].try_into().unwrap()))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        dst.copy_from_slice(&self.0);
        Ok(())
    }
}

impl TryCryptoRng for Given {}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    hex::decode(vector[name].as_str().unwrap()).unwrap()
}

fn key(vector: &Value, name: &str) -> [u8; 32] {
    bytes(vector, name).try_into().unwrap()
}

/// INV-BITCHAT-15.
#[test]
fn published_vectors_are_met() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(2, vectors.len());
    for vector in &vectors {
        let secrets = ["init_static", "resp_static"].map(|name| NoiseSecret::from_bytes(key(vector, name)));
        let mut drawn = ["init_ephemeral", "resp_ephemeral"].map(|name| Given(key(vector, name)));
        let mut initiator = Session::initiator(&secrets[0], &bytes(vector, "init_prologue"), &mut drawn[0]).unwrap();
        let mut responder = Session::responder(&secrets[1], &bytes(vector, "resp_prologue"), &mut drawn[1]).unwrap();
        for (index, message) in vector["messages"].as_array().unwrap().iter().enumerate() {
            let (payload, expected) = (bytes(message, "payload"), bytes(message, "ciphertext"));
            let (from, to) =
                if index % 2 == 0 { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
            if index < 3 {
                let written = from.write_handshake(&payload).unwrap();
                assert_eq!(hex::encode(expected), hex::encode(&written), "message {index}");
                assert_eq!(payload, to.read_handshake(&written).unwrap());
                continue;
            }
            // After the three messages the sides go on in turn, each with numbers of its own.
            let number = u32::try_from((index - 3) / 2).unwrap();
            let frame = from.encrypt(&payload).unwrap();
            assert_eq!(number.to_be_bytes(), frame[..4]);
            assert_eq!(hex::encode(expected), hex::encode(&frame[4..]), "message {index}");
            assert_eq!(payload, to.decrypt(&frame).unwrap());
        }
        if vector["handshake_hash"].is_string() {
            assert_eq!(Some(key(vector, "handshake_hash")), initiator.handshake_hash());
        }
        assert_eq!(initiator.handshake_hash(), responder.handshake_hash());
        let public = |index: usize| Some::<NoisePublic>(secrets[index].public());
        assert_eq!((public(1), public(0)), (initiator.remote_static(), responder.remote_static()));
    }
}
