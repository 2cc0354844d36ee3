//! The plaintext of a native δ: tag, mailbox, length, user payload, zero padding.

use subtle::ConstantTimeEq;

use crate::error::{BuildError, PacketError};
use crate::geometry::Geometry;
use crate::ids::MailboxId;

/// Writes the plaintext of δ. A SURB reply carries zeros in place of the mailbox.
///
/// # Errors
/// [`BuildError::PayloadTooLong`].
pub(crate) fn write(
    geometry: &Geometry,
    mailbox: Option<MailboxId>,
    payload: &[u8],
    delta: &mut [u8],
) -> Result<(), BuildError> {
    let too_long = BuildError::PayloadTooLong { len: payload.len(), max: geometry.user_payload_len };
    let len = u16::try_from(payload.len()).map_err(|_| too_long)?;
    let (front, room) = delta.split_at_mut_checked(geometry.user_payload_start()).ok_or(too_long)?;
    let (used, padding) = room.split_at_mut_checked(payload.len()).ok_or(too_long)?;
    let zeros = [0; MailboxId::LEN];
    let mailbox = mailbox.as_ref().map_or(&zeros, MailboxId::as_bytes);
    let tag = std::iter::repeat_n(0, geometry.tag_len);
    let fields = tag.chain(*mailbox).chain(len.to_be_bytes());
    front.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    used.copy_from_slice(payload);
    padding.fill(0);
    Ok(())
}

/// Reads the plaintext of δ: the mailbox field, and the user payload's length.
///
/// # Errors
/// [`PacketError::BadPayload`] unless the tag is whole, the length possible and the padding zero.
pub(crate) fn read(geometry: &Geometry, delta: &[u8]) -> Result<(MailboxId, usize), PacketError> {
    let (tag, rest) = delta.split_at_checked(geometry.tag_len).ok_or(PacketError::BadPayload)?;
    if !is_zero(tag) {
        return Err(PacketError::BadPayload);
    }
    let (mailbox, rest) = rest.split_first_chunk::<{ MailboxId::LEN }>().ok_or(PacketError::BadPayload)?;
    let (len, room) = rest.split_first_chunk::<2>().ok_or(PacketError::BadPayload)?;
    let len = usize::from(u16::from_be_bytes(*len));
    let padding = room.get(len..).ok_or(PacketError::BadPayload)?;
    if !is_zero(padding) {
        return Err(PacketError::BadPayload);
    }
    Ok(((*mailbox).into(), len))
}

/// Whether all bytes are zero, found in a time that depends on their number alone.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte).ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry::NATIVE;

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut delta = vec![0xff; GEOMETRY.delta_len];
        write(&GEOMETRY, Some([7; 16].into()), payload, &mut delta).unwrap();
        delta
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 2047, 2048] {
            assert_eq!(Ok(([7; 16].into(), len)), read(&GEOMETRY, &written(&vec![0xff; len])));
        }
    }

    #[test]
    fn a_tag_that_is_not_zero_is_refused_at_every_byte() {
        for at in 0..16 {
            let mut delta = written(b"hello");
            delta[at] = 1;
            assert_eq!(Err(PacketError::BadPayload), read(&GEOMETRY, &delta));
        }
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        for at in [34 + 5, 1000, GEOMETRY.delta_len - 1] {
            let mut delta = written(b"hello");
            delta[at] = 1;
            assert_eq!(Err(PacketError::BadPayload), read(&GEOMETRY, &delta));
        }
    }

    #[test]
    fn a_length_beyond_the_payload_is_refused() {
        for len in [2049_u16, u16::MAX] {
            let mut delta = written(b"");
            delta[32..34].copy_from_slice(&len.to_be_bytes());
            assert_eq!(Err(PacketError::BadPayload), read(&GEOMETRY, &delta));
        }
    }
}
