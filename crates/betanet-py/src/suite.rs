//! The suites whose packets Python can unwrap, and what their packets bring, in one form.

use std::ops::Range;
use std::time::Duration;

use betanet_mix::delay::{DelaySource as _, Exponential};
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::suite::{KatzenpostAction, KatzenpostLast, NymAction};
use betanet_sphinx::{
    Action, Geometry, Katzenpost, Native, Nym, PacketError, SecretKey, Suite as _, Unwrapped, unwrap_with,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rand_chacha::ChaCha20Rng;

/// A packet format.
#[derive(Clone, Copy)]
pub(crate) enum Suite {
    Native,
    Nym,
    Katzenpost,
}

/// Characters of a name that an error shows.
const SHOWN: usize = 32;

/// A suite by its name.
pub(crate) fn parse(name: &str) -> PyResult<Suite> {
    match name {
        "native" => Ok(Suite::Native),
        "nym" => Ok(Suite::Nym),
        "katzenpost" => Ok(Suite::Katzenpost),
        _ => {
            let shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
            Err(PyValueError::new_err(format!("no suite is called '{shown}': choose native, nym or katzenpost")))
        }
    }
}

impl Suite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Nym => "nym",
            Self::Katzenpost => "katzenpost",
        }
    }

    pub(crate) const fn geometry(self) -> &'static Geometry {
        match self {
            Self::Native => &Native::GEOMETRY,
            Self::Nym => &Nym::GEOMETRY,
            Self::Katzenpost => &Katzenpost::GEOMETRY,
        }
    }
}

/// What to do with an accepted packet, whatever its suite.
pub(crate) struct Found {
    pub(crate) kind: &'static str,
    pub(crate) next_hop: Option<[u8; 32]>,
    pub(crate) mailbox: Option<Box<[u8]>>,
    pub(crate) surb_id: Option<[u8; 16]>,
    /// Where in the packet stands what is passed on.
    pub(crate) payload: Range<usize>,
}

impl Found {
    fn forward(next: [u8; 32], packet_len: usize) -> Self {
        Self { kind: "forward", next_hop: Some(next), mailbox: None, surb_id: None, payload: 0..packet_len }
    }

    pub(crate) fn native(action: Action) -> Self {
        match action {
            Action::Forward { next } => Self::forward(*next.as_bytes(), Native::GEOMETRY.packet_len),
            Action::Deliver { mailbox, payload } => {
                let mailbox = Some(mailbox.as_bytes().as_slice().into());
                Self { kind: "deliver", next_hop: None, mailbox, surb_id: None, payload }
            }
            Action::Reply { mailbox, surb_id, delta } => {
                let mailbox = Some(mailbox.as_bytes().as_slice().into());
                Self { kind: "reply", next_hop: None, mailbox, surb_id: Some(*surb_id.as_bytes()), payload: delta }
            }
        }
    }

    fn nym(action: NymAction) -> Self {
        match action {
            NymAction::Forward { next } => Self::forward(*next.as_bytes(), Nym::GEOMETRY.packet_len),
            NymAction::Deliver { last, payload } => {
                let mailbox = Some(last.destination.as_slice().into());
                Self { kind: "deliver", next_hop: None, mailbox, surb_id: Some(last.identifier), payload }
            }
        }
    }

    fn katzenpost(action: KatzenpostAction) -> Self {
        match action {
            KatzenpostAction::Forward { next } => Self::forward(*next.as_bytes(), Katzenpost::GEOMETRY.packet_len),
            KatzenpostAction::Last(KatzenpostLast { recipient, surb_id }) => {
                let kind = if surb_id.is_some() { "reply" } else { "deliver" };
                let mailbox = recipient.map(|recipient| recipient.as_slice().into());
                Self { kind, next_hop: None, mailbox, surb_id, payload: Katzenpost::GEOMETRY.delta() }
            }
        }
    }
}

/// A key, the packets seen under it, and the delays of packets whose senders choose none.
pub(crate) struct Node {
    pub(crate) secret: SecretKey,
    pub(crate) replay: ReplayCache,
    pub(crate) delays: Exponential<ChaCha20Rng>,
}

impl Node {
    pub(crate) fn unwrap(&mut self, suite: Suite, packet: &mut [u8]) -> Result<(Found, Duration), PacketError> {
        match suite {
            Suite::Native => {
                let Unwrapped { action, delay, .. } = unwrap_with::<Native>(&self.secret, packet, &mut self.replay)?;
                Ok((Found::native(action), self.delays.delay(&delay)))
            }
            Suite::Nym => chosen(unwrap_with::<Nym>(&self.secret, packet, &mut self.replay), Found::nym),
            Suite::Katzenpost => {
                chosen(unwrap_with::<Katzenpost>(&self.secret, packet, &mut self.replay), Found::katzenpost)
            }
        }
    }
}

/// The outcome in suites whose senders choose the delays.
fn chosen<A>(
    outcome: Result<Unwrapped<A, Duration>, PacketError>,
    found: impl FnOnce(A) -> Found,
) -> Result<(Found, Duration), PacketError> {
    outcome.map(|Unwrapped { action, delay, .. }| (found(action), delay))
}
