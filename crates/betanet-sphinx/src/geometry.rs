//! The one value from which every length and offset of a packet follows.

use std::ops::Range;

/// Every length of the packets of one suite, in bytes, derived once and never changed.
///
/// Of the native suite:
///
/// ```text
/// packet   version 1 ‖ parity 1 ‖ α 32 ‖ γ 16 ‖ β 343 ‖ δ 2082            = 2475
/// header   version 1 ‖ parity 1 ‖ α 32 ‖ γ 16 ‖ β 343                      =  393
/// block    kind 1 ‖ 32 ‖ 16                                                 =   49
/// δ        tag 16 ‖ mailbox 16 ‖ length 2 ‖ user payload 2048               = 2082
/// SURB     first node 32 ‖ header 393 ‖ payload key 32                      =  457
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// Longest path, in hops.
    pub max_hops: usize,
    /// What stands before α: version and key-epoch parity.
    pub prefix_len: usize,
    /// A group element.
    pub alpha_len: usize,
    /// A header MAC.
    pub gamma_len: usize,
    /// Whether γ stands behind β, not before it.
    pub gamma_last: bool,
    /// One routing block: whatever a hop is told, with node id and MAC of the next hop.
    pub block_len: usize,
    /// The encrypted routing blocks: one for each of `max_hops`.
    pub beta_len: usize,
    /// Prefix, α, γ and β.
    pub header_len: usize,
    /// The zero bytes at the start of an opened payload; their loss shows that δ was altered.
    pub tag_len: usize,
    /// The mailbox id inside δ.
    pub mailbox_len: usize,
    /// The length field inside δ, a big-endian integer; zero where a mark ends the payload instead.
    pub length_len: usize,
    /// The mark behind the user payload inside δ.
    pub end_mark_len: usize,
    /// Bytes of user payload that one packet carries at most.
    pub user_payload_len: usize,
    /// The payload with tag, mailbox and length.
    pub delta_len: usize,
    /// The whole packet.
    pub packet_len: usize,
    /// The id of a node.
    pub node_id_len: usize,
    /// The payload key inside a SURB.
    pub surb_key_len: usize,
    /// A single-use reply block.
    pub surb_len: usize,
}

/// The free choices of a [`Geometry`]; everything else follows.
struct Choices {
    max_hops: usize,
    prefix_len: usize,
    gamma_len: usize,
    gamma_last: bool,
    /// What a routing block holds beside node id and MAC.
    block_extra_len: usize,
    tag_len: usize,
    mailbox_len: usize,
    length_len: usize,
    end_mark_len: usize,
    user_payload_len: usize,
    surb_key_len: usize,
}

impl Geometry {
    /// The native geometry: 7 hops, 2,048 bytes of user payload.
    pub const NATIVE: Self = Self::derive(&Choices {
        max_hops: 7,
        prefix_len: 2,
        gamma_len: 16,
        gamma_last: false,
        block_extra_len: 1,
        tag_len: 16,
        mailbox_len: 16,
        length_len: 2,
        end_mark_len: 0,
        user_payload_len: 2048,
        surb_key_len: 32,
    });

    /// Nym's regular packet: 5 hops, 2,048 bytes of user payload, 2,413 in all.
    pub const NYM: Self = Self::derive(&Choices {
        max_hops: 5,
        prefix_len: 0,
        gamma_len: 16,
        gamma_last: false,
        block_extra_len: 12,
        tag_len: 16,
        mailbox_len: 0,
        length_len: 0,
        end_mark_len: 1,
        user_payload_len: 2048,
        surb_key_len: 5 * 16,
    });

    /// Katzenpost's X25519 packet of its published vectors: 5 hops, 103 bytes of user payload, 611 in all.
    pub const KATZENPOST: Self = Self::derive(&Choices {
        max_hops: 5,
        prefix_len: 2,
        gamma_len: 32,
        gamma_last: true,
        block_extra_len: 18,
        tag_len: 32,
        mailbox_len: 0,
        length_len: 0,
        end_mark_len: 0,
        user_payload_len: 103,
        surb_key_len: 48 + 16,
    });

    const fn derive(choices: &Choices) -> Self {
        let alpha_len = 32;
        let node_id_len = 32;
        let block_len = choices.block_extra_len + node_id_len + choices.gamma_len;
        let beta_len = choices.max_hops * block_len;
        let header_len = choices.prefix_len + alpha_len + choices.gamma_len + beta_len;
        let overhead = choices.tag_len + choices.mailbox_len + choices.length_len + choices.end_mark_len;
        let delta_len = overhead + choices.user_payload_len;
        Self {
            max_hops: choices.max_hops,
            prefix_len: choices.prefix_len,
            alpha_len,
            gamma_len: choices.gamma_len,
            gamma_last: choices.gamma_last,
            block_len,
            beta_len,
            header_len,
            tag_len: choices.tag_len,
            mailbox_len: choices.mailbox_len,
            length_len: choices.length_len,
            end_mark_len: choices.end_mark_len,
            user_payload_len: choices.user_payload_len,
            delta_len,
            packet_len: header_len + delta_len,
            node_id_len,
            surb_key_len: choices.surb_key_len,
            surb_len: node_id_len + header_len + choices.surb_key_len,
        }
    }

    /// The same geometry for another length of user payload.
    #[must_use]
    pub const fn with_user_payload_len(mut self, len: usize) -> Self {
        let overhead = self.delta_len - self.user_payload_len;
        self.user_payload_len = len;
        self.delta_len = overhead + len;
        self.packet_len = self.header_len + self.delta_len;
        self
    }

    /// Where α stands in a packet.
    #[must_use]
    pub const fn alpha(&self) -> Range<usize> {
        self.prefix_len..self.prefix_len + self.alpha_len
    }

    /// Where γ stands in a packet.
    #[must_use]
    pub const fn gamma(&self) -> Range<usize> {
        let start = if self.gamma_last { self.alpha().end + self.beta_len } else { self.alpha().end };
        start..start + self.gamma_len
    }

    /// Where β stands in a packet.
    #[must_use]
    pub const fn beta(&self) -> Range<usize> {
        let start = if self.gamma_last { self.alpha().end } else { self.gamma().end };
        start..start + self.beta_len
    }

    /// Where δ stands in a packet.
    #[must_use]
    pub const fn delta(&self) -> Range<usize> {
        self.header_len..self.packet_len
    }

    /// Where the user payload starts in an opened δ.
    #[must_use]
    pub const fn user_payload_start(&self) -> usize {
        self.tag_len + self.mailbox_len + self.length_len
    }

    /// Cuts a packet of exactly [`Self::packet_len`] bytes into its five pieces.
    pub(crate) fn split<'a>(&self, packet: &'a mut [u8]) -> Option<PacketPieces<'a>> {
        if packet.len() != self.packet_len {
            return None;
        }
        let (header, delta) = packet.split_at_mut_checked(self.header_len)?;
        let header = self.split_header(header)?;
        Some(PacketPieces { header, delta })
    }

    /// Cuts a header of exactly [`Self::header_len`] bytes into its four pieces.
    pub(crate) fn split_header<'a>(&self, header: &'a mut [u8]) -> Option<HeaderPieces<'a>> {
        if header.len() != self.header_len {
            return None;
        }
        let (prefix, rest) = header.split_at_mut_checked(self.prefix_len)?;
        let (alpha, rest) = rest.split_first_chunk_mut::<32>()?;
        let (gamma, beta) = if self.gamma_last {
            let (beta, gamma) = rest.split_at_mut_checked(self.beta_len)?;
            (gamma, beta)
        } else {
            rest.split_at_mut_checked(self.gamma_len)?
        };
        Some(HeaderPieces { prefix, alpha, gamma, beta })
    }
}

/// The pieces of one header, borrowed from it.
pub(crate) struct HeaderPieces<'a> {
    pub(crate) prefix: &'a mut [u8],
    pub(crate) alpha: &'a mut [u8; 32],
    pub(crate) gamma: &'a mut [u8],
    pub(crate) beta: &'a mut [u8],
}

/// The pieces of one packet, borrowed from it.
pub(crate) struct PacketPieces<'a> {
    pub(crate) header: HeaderPieces<'a>,
    pub(crate) delta: &'a mut [u8],
}

/// Length of a packet: 2,475 bytes.
pub const PACKET_LEN: usize = Geometry::NATIVE.packet_len;
/// Length of an encoded SURB: 457 bytes.
pub const SURB_LEN: usize = Geometry::NATIVE.surb_len;
/// Bytes of user payload that a packet or a reply carries at most: 2,048.
pub const USER_PAYLOAD_LEN: usize = Geometry::NATIVE.user_payload_len;
/// Longest path: 7 hops.
pub const MAX_HOPS: usize = Geometry::NATIVE.max_hops;
