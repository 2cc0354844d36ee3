//! The names that travel in packets, each its own type.

use std::fmt;

/// Declares a copyable byte-array type; `$debug` says how `Debug` shows its bytes.
macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $debug:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes as they travel.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; $len] {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&[u8], &mut fmt::Formatter<'_>) -> fmt::Result = $debug;
                f.write_str(concat!(stringify!($name), "("))?;
                show(&self.0, f)?;
                f.write_str(")")
            }
        }
    };
}

/// Declares `Display` as lower-case hexadecimal, for names that may be shown.
macro_rules! display_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }
    };
}

bytes_type!(
    /// Name of a mix node: its Ed25519 identity key.
    NodeId, 32, hex
);
bytes_type!(
    /// Name of a mailbox at an edge.
    MailboxId, 16, hex
);
bytes_type!(
    /// Name of a SURB, chosen by its maker; tells replies apart when they come home.
    SurbId, 16, hex
);
bytes_type!(
    /// What a node remembers of a packet to refuse its copies. Never stored raw: see [`ReplayFilter`](crate::ReplayFilter).
    ReplayTag, 16, redacted
);
bytes_type!(
    /// The value from which a hop's delay follows; known to the packet's maker and that hop alone.
    DelayInput, 16, redacted
);
display_hex!(NodeId);
display_hex!(MailboxId);
display_hex!(SurbId);

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn redacted(_: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("..")
}
