//! What is fuzzed: each takes bytes as a stranger sends them, and says what became of them.

use betanet_mix::message::{Envelope, FRAGMENT_LEN, Fragment, ReplyAssembler, ReplyPart, is_stored_ack, parse_stream};
use betanet_mix::view::{
    Address, Consensus, Document, NetworkView, NodeDescriptor, Signed, Verified, WorkerDescriptor, WorkerList,
};
use betanet_node::control::{Answer, Request};
use betanet_node::link::frame::{self, FRAME_LEN, FrameKind, Item};
use betanet_node::net::NetFile;
use betanet_noise::{NoiseError, NoiseSecret, Session};
use betanet_sphinx::{PACKET_LEN, PacketError, ReplayFilter, ReplayTag, SecretKey, Surb, unwrap};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::from_slice;

/// One parser or a few that belong together.
#[derive(Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Takes an input and says what became of it. Two inputs that come to one end are alike.
    pub run: fn(&[u8]) -> String,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "packets", run: packets },
    Target { name: "frames", run: frames },
    Target { name: "controls", run: controls },
    Target { name: "descriptors", run: descriptors },
    Target { name: "consensuses", run: consensuses },
    Target { name: "bootstraps", run: bootstraps },
    Target { name: "items", run: items },
    Target { name: "envelopes", run: envelopes },
    Target { name: "noise", run: noise },
];

/// The key of the hop that the seeds were made for, and of whoever signs.
const HOP: [u8; 32] = [3; 32];

/// A memory that has seen nothing.
struct Forgetful;

impl ReplayFilter for Forgetful {
    fn check_and_insert(&mut self, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

fn packets(input: &[u8]) -> String {
    let mut packet = [0; PACKET_LEN];
    packet.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    match unwrap(&SecretKey::from_bytes(HOP), &mut packet, &mut Forgetful) {
        Ok(unwrapped) => format!("{:?}", std::mem::discriminant(&unwrapped.action)),
        Err(error) => error.reason().to_owned(),
    }
}

fn frames(input: &[u8]) -> String {
    let mut bytes = [0; FRAME_LEN];
    bytes.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    match frame::parse(&bytes) {
        Ok((FrameKind::Control, body)) => format!("{:?}", frame::parse_chunk(body).map(|(last, _)| last)),
        Ok((FrameKind::Item, body)) => items(body),
        Ok((FrameKind::ItemAck, body)) => {
            let acks = frame::parse_acks(body).count();
            assert!(acks * 8 <= body.len());
            format!("{} acks", acks.min(2))
        }
        Ok((kind, body)) => format!("{kind:?} {}", body.is_empty()),
        Err(error) => error.to_string(),
    }
}

fn items(input: &[u8]) -> String {
    match Item::parse(input) {
        Ok(item) => format!("{:?}", std::mem::discriminant(&item.body)),
        Err(error) => error.to_string(),
    }
}

fn controls(input: &[u8]) -> String {
    let request = from_slice::<Request>(input).map(|request| {
        let text = serde_json::to_string(&request).unwrap_or_default();
        assert!(from_slice::<Request>(text.as_bytes()).is_ok(), "{text}");
        std::mem::discriminant(&request.op)
    });
    let answer = from_slice::<Answer>(input).map(|_| ());
    format!("{} {}", ended(request), ended(answer))
}

fn descriptors(input: &[u8]) -> String {
    let signed = from_slice::<Signed>(input);
    let worker = signed.as_ref().map(|signed| signed.verify_worker().map(|_| ()));
    let node = signed.as_ref().map(|signed| signed.verify_node().map(|_| ()));
    let list = from_slice::<WorkerList>(input).map(|list| list.verified(1_000).len());
    let contents = [signed_by_us::<NodeDescriptor>(input).err(), signed_by_us::<WorkerDescriptor>(input).err()];
    shape(&format!("{worker:?} {node:?} {} {contents:?}", ended(list)))
}

fn consensuses(input: &[u8]) -> String {
    match signed_by_us::<Consensus>(input) {
        Ok(consensus) => NetworkView::new(consensus).map_or_else(
            || "no view".to_owned(),
            |view| {
                let at = view.consensus().valid_until_ms / 2;
                let keys = view.nodes().filter(|node| node.key(view.sending_epoch(at)).is_some()).count();
                format!("{} {} {}", view.edges().count(), view.middles().count(), keys)
            },
        ),
        Err(error) => error,
    }
}

/// What a text says, as if those had signed it whose signature counts.
fn signed_by_us<T: Document>(text: &[u8]) -> Result<Verified<T>, String> {
    let value = from_slice(text).map_err(|error| shape(&error.to_string()))?;
    Verified::sign(value, &SigningKey::from_bytes(&HOP)).map_err(|error| shape(&error.to_string()))
}

/// What a message says beside numbers and what it quotes: those differ with every input.
fn shape(text: &str) -> String {
    let outside: String = text.split(['`', '"']).step_by(2).collect();
    outside.chars().filter(|char| !char.is_ascii_digit()).take(200).collect()
}

fn bootstraps(input: &[u8]) -> String {
    let net = from_slice::<NetFile>(input).map(|net| {
        let text = serde_json::to_vec(&net).unwrap_or_default();
        assert_eq!(Some(&net), from_slice(&text).ok().as_ref());
        net.edges.len()
    });
    ended(net)
}

fn envelopes(input: &[u8]) -> String {
    let envelope = match Envelope::parse(input) {
        Ok(envelope) => format!("{:?} {}", envelope.kind, envelope.ack_surb().is_some()),
        Err(error) => error.to_string(),
    };
    let fragment = input.first_chunk::<FRAGMENT_LEN>().map(|bytes| Fragment::parse(bytes).is_some());
    let stream = match parse_stream(input.to_vec()) {
        Ok(stream) => format!("{} surbs", stream.head.surbs.len().min(3)),
        Err(error) => error.to_string(),
    };
    let reply = ReplyPart::parse(input).map(|part| {
        let pushed = ReplyAssembler::default().push(&part, 4);
        format!("{:?}", std::mem::discriminant(&pushed))
    });
    let address = Address::parse(input).map(|address| assert_eq!(address.to_bytes(), input)).is_ok();
    let surb = Surb::parse(input).map(|surb| assert_eq!(surb.to_bytes().as_slice(), input)).is_ok();
    format!("{envelope} {fragment:?} {stream} {reply:?} {address} {surb} {}", is_stored_ack(input))
}

/// The first byte says at which point of a session the others come: its three messages, a frame, or a seal.
fn noise(input: &[u8]) -> String {
    let (step, bytes) = input.split_first().unwrap_or((&0, &[]));
    let ended = match step % 5 {
        4 => betanet_noise::open(&NoiseSecret::from_bytes(HOP), b"fuzz", bytes).map(|(_, text)| text.is_empty()),
        step => into_session(step, bytes),
    };
    match ended {
        Ok(end) => format!("{step} {end}"),
        Err(error) => format!("{step} {}", error.reason()),
    }
}

fn into_session(step: u8, bytes: &[u8]) -> Result<bool, NoiseError> {
    let (mut first, mut second) = (ChaCha20Rng::seed_from_u64(1), ChaCha20Rng::seed_from_u64(2));
    let secret = NoiseSecret::from_bytes(HOP);
    let mut here = Session::initiator(&secret, b"", &mut first)?;
    let mut there = Session::responder(&secret, b"", &mut second)?;
    if step == 0 {
        return there.read_handshake(bytes).map(|payload| payload.is_empty());
    }
    there.read_handshake(&here.write_handshake(b"")?)?;
    if step == 1 {
        return here.read_handshake(bytes).map(|payload| payload.is_empty());
    }
    here.read_handshake(&there.write_handshake(b"")?)?;
    if step == 2 {
        return there.read_handshake(bytes).map(|payload| payload.is_empty());
    }
    there.read_handshake(&here.write_handshake(b"")?)?;
    let text = there.decrypt(bytes)?;
    assert!(there.decrypt(bytes) == Err(NoiseError::Replayed), "a frame counts once");
    Ok(text.is_empty())
}

/// How parsing ended; of an error, what it says beside numbers and places.
fn ended<T: std::fmt::Debug>(outcome: Result<T, serde_json::Error>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => shape(&error.to_string()),
    }
}
