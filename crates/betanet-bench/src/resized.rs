//! A suite with another length of user payload, to compare several sizes.

use betanet_sphinx::suite::{Block, MacTag, RoutingCommand};
use betanet_sphinx::{BuildError, Geometry, Maker, PacketError, ReplayTag, Suite};
use std::marker::PhantomData;

/// Suite `S`, its packets with `LEN` bytes of user payload.
#[derive(Clone, Copy, Debug)]
pub struct Resized<S, const LEN: usize>(PhantomData<S>);

impl<S: Suite, const LEN: usize> Suite for Resized<S, LEN> {
    const GEOMETRY: Geometry = S::GEOMETRY.with_user_payload_len(LEN);

    type Keys = S::Keys;
    type Stream = S::Stream;
    type Hold = S::Hold;
    type Last = S::Last;
    type Action = S::Action;
    type Delay = S::Delay;

    fn derive(shared: &[u8; 32]) -> S::Keys {
        S::derive(shared)
    }

    fn read_prefix(prefix: &[u8]) -> Result<u8, PacketError> {
        S::read_prefix(prefix)
    }

    fn mac(keys: &S::Keys, prefix: &[u8], alpha: &[u8; 32], beta: &[u8]) -> MacTag {
        S::mac(keys, prefix, alpha, beta)
    }

    fn replay_tag(keys: &S::Keys, alpha: &[u8; 32]) -> ReplayTag {
        S::replay_tag(keys, alpha)
    }

    fn stream(keys: &S::Keys) -> S::Stream {
        S::stream(keys)
    }

    fn read_block(block: &[u8]) -> Result<Block<'_, S::Hold, S::Last>, PacketError> {
        S::read_block(block)
    }

    fn blinding(keys: &S::Keys) -> &[u8; 32] {
        S::blinding(keys)
    }

    fn decrypt_payload(keys: &S::Keys, delta: &mut [u8]) {
        S::decrypt_payload(keys, delta);
    }

    fn action(command: RoutingCommand<S::Hold, S::Last>, delta: &[u8]) -> Result<S::Action, PacketError> {
        S::action(command, delta)
    }

    fn delay(keys: &S::Keys, hold: S::Hold) -> S::Delay {
        S::delay(keys, hold)
    }
}

impl<S: Maker, const LEN: usize> Maker for Resized<S, LEN> {
    type Recipient = S::Recipient;

    fn write_prefix(parity: u8, prefix: &mut [u8]) {
        S::write_prefix(parity, prefix);
    }

    fn last(to: S::Recipient) -> S::Last {
        S::last(to)
    }

    fn write_block(command: &RoutingCommand<S::Hold, S::Last>, gamma: &[u8], block: &mut [u8]) {
        S::write_block(command, gamma, block);
    }

    fn write_payload(to: S::Recipient, payload: &[u8], delta: &mut [u8]) -> Result<(), BuildError> {
        S::write_payload(to, payload, delta)
    }

    fn encrypt_payload(keys: &S::Keys, delta: &mut [u8]) {
        S::encrypt_payload(keys, delta);
    }
}
